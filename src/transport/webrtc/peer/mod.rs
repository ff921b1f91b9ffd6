//! One peer connection, polled by whoever owns it: no task, no channel.

mod media;
mod timer;
mod types;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Instant;

use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::error::IceError;
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive, TcpType};
use str0m::{Candidate, CandidateKind, Event, IceConnectionState, Input, Output, Rtc, RtcConfig, RtcError};

use self::media::Sources;
use self::timer::Timer;
use super::ice::{Fallback, Gather, Gathered, Got, IceOptions, Paths, Received, Resort};
use super::rtp::RtpTime;
pub use media::SentAudio;
pub use types::{AudioPlan, Channel, ChannelPlan, PeerError, PeerEvent, PeerState, SessionText, Tried};

/// Datagrams that are read before others get their turn.
const BUDGET: usize = 32;

/// One peer connection.
pub struct Peer {
    rtc: Rtc,
    paths: Paths,
    gather: Gather,
    relay_only: bool,
    /// Candidates of ours that are no relays.
    own: Vec<Candidate>,
    timer: Timer,
    /// When str0m has something to do.
    due: Instant,
    events: VecDeque<PeerEvent>,
    state: PeerState,
    pending: Option<SdpPendingOffer>,
    sources: Sources,
    remotes: Vec<String>,
    /// Where the far side takes TCP connections.
    tcp: Vec<SocketAddr>,
    fallback: Fallback,
    heard: Option<Instant>,
    described: bool,
    progress: Progress,
}

/// The furthest that a connection has come.
#[derive(Debug)]
enum Progress {
    /// No way was found yet.
    Looking,
    /// There is a way; what is wrong with the handshake on it.
    Handshake { problem: String },
    /// Media has flowed.
    Done,
}

impl Peer {
    /// A connection that carries Opus and data channels. `towards` is an address that the far side probably is at: sockets are
    /// opened where this machine would send to it from.
    pub fn new(towards: &[SocketAddr], ice: &IceOptions) -> Self {
        crate::transport::tls::install_crypto();
        let now = Instant::now();
        let rtc = RtcConfig::new().set_rtp_mode(true).clear_codecs().enable_opus(true, false).build(now);
        let mut peer = Self {
            rtc,
            paths: Paths::new(),
            gather: Gather::new(),
            relay_only: ice.relay_only,
            own: Vec::new(),
            timer: Timer::new(now),
            due: now,
            events: VecDeque::new(),
            state: PeerState::New,
            pending: None,
            sources: Sources::default(),
            remotes: Vec::new(),
            tcp: Vec::new(),
            fallback: Fallback::default(),
            heard: None,
            described: false,
            progress: Progress::Looking,
        };
        peer.set_ice(ice);
        towards.iter().for_each(|remote| peer.reach(*remote));
        peer
    }

    /// Takes other servers from here on: the ways that were found stay, as far as they may still be used.
    pub fn set_ice(&mut self, ice: &IceOptions) {
        let now = Instant::now();
        let before = std::mem::replace(&mut self.relay_only, ice.relay_only);
        self.gather.set_servers(&ice.servers, !ice.relay_only);
        if ice.relay_only {
            for candidate in self.own.drain(..) {
                self.rtc.direct_api().invalidate_candidate(&candidate);
            }
            self.gather.want_relays(true, now);
            self.gather.want_relays(false, now);
        } else if before {
            let locals: Vec<_> = self.paths.udp_locals().collect();
            locals.into_iter().for_each(|local| self.add_host(local, Protocol::Udp));
        }
        self.arm();
    }

    /// How far the connection is.
    #[must_use]
    pub const fn state(&self) -> PeerState {
        self.state
    }

    /// When anything last came from the far side.
    #[must_use]
    pub const fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// There will be no connection: nothing but relays may be used, and no server relays.
    #[must_use]
    pub fn is_hopeless(&self) -> bool {
        self.relay_only && self.gather.has_no_relays()
    }

    /// Why there is no connection, in the terms of what was tried. None: there was one.
    #[must_use]
    pub fn no_way(&self) -> Option<PeerError> {
        let local = if self.relay_only { Vec::new() } else { self.paths.locals().collect() };
        let (remote, mut relays) = (self.remotes.clone(), self.gather.relays());
        if self.relay_only && relays.is_empty() {
            relays.push("none is known, and no other way may be used".to_owned());
        }
        let tried = Tried { local, remote, relays };
        match &self.progress {
            Progress::Looking => Some(PeerError::Ice(tried)),
            Progress::Handshake { problem } => Some(PeerError::Dtls { problem: problem.clone(), tried }),
            Progress::Done => None,
        }
    }

    /// The first media section of an offer that was answered over which audio may go to the far side.
    #[must_use]
    pub fn offered_audio(&self, offer: &str) -> Option<SentAudio> {
        let mids = offer.lines().filter_map(|line| line.trim_end().strip_prefix("a=mid:"));
        let speaks = |mid: &Mid| {
            self.rtc.media(*mid).is_some_and(|media| media.kind() == MediaKind::Audio && media.direction().is_sending())
        };
        mids.map(Mid::from).find(speaks).map(SentAudio::new)
    }

    /// Answers the far side's offer.
    ///
    /// # Errors
    /// [`PeerError::Description`].
    pub fn answer(&mut self, offer: &str) -> Result<SessionText, PeerError> {
        self.note_candidates(offer);
        let offer = SdpOffer::from_sdp_string(offer).map_err(|error| PeerError::Description(error.to_string()))?;
        let answer = self.rtc.sdp_api().accept_offer(offer).map_err(|error| PeerError::Description(error.to_string()))?;
        self.described();
        self.now();
        Ok(answer.to_sdp_string())
    }

    /// Prepares an offer: a media section of audio, and data channels. The far side's answer goes to [`Self::accept_answer`].
    pub fn offer(&mut self, audio: Option<AudioPlan<'_>>, channels: &[ChannelPlan]) -> Option<(SessionText, Option<SentAudio>)> {
        let mut change = self.rtc.sdp_api();
        let audio = audio.map(|AudioPlan { stream, track, both_ways }| {
            let (stream, track) = (Some(stream.to_owned()), Some(track.to_owned()));
            let direction = if both_ways { Direction::SendRecv } else { Direction::SendOnly };
            change.add_media(MediaKind::Audio, direction, stream, track, None)
        });
        for plan in channels {
            change.add_channel_with_config(plan.config());
        }
        let (offer, pending) = change.apply()?;
        self.pending = Some(pending);
        self.described();
        self.now();
        Some((offer.to_sdp_string(), audio.map(SentAudio::new)))
    }

    /// An offer that looks for a new way on the same sockets (RFC 8445 section 9), all else staying as it is.
    pub fn restart_ice(&mut self) -> Option<SessionText> {
        let mut change = self.rtc.sdp_api();
        change.ice_restart(true);
        let (offer, pending) = change.apply()?;
        self.pending = Some(pending);
        self.seek();
        self.now();
        Some(offer.to_sdp_string())
    }

    /// An offer of what is agreed on already, for a far side that asks for one. `audio` is of the connection, and goes both ways.
    pub fn offer_again(&mut self, audio: &SentAudio) -> Option<SessionText> {
        let mut change = self.rtc.sdp_api();
        // There is an offer only where something changes: this does, and back.
        [Direction::Inactive, Direction::SendRecv].into_iter().for_each(|direction| change.set_direction(audio.mid(), direction));
        let (offer, pending) = change.apply()?;
        self.pending = Some(pending);
        self.now();
        Some(offer.to_sdp_string())
    }

    /// The far side's answer to our last offer.
    ///
    /// # Errors
    /// [`PeerError::Description`]; also when there was no offer.
    pub fn accept_answer(&mut self, answer: &str) -> Result<(), PeerError> {
        let Some(pending) = self.pending.take() else {
            return Err(PeerError::Description("an answer to no offer".to_owned()));
        };
        self.note_candidates(answer);
        let answer = SdpAnswer::from_sdp_string(answer).map_err(|error| PeerError::Description(error.to_string()))?;
        let accepted = self.rtc.sdp_api().accept_answer(pending, answer);
        accepted.map_err(|error| PeerError::Description(error.to_string()))?;
        self.now();
        Ok(())
    }

    /// A candidate that the far side tells later (RFC 8838). One that this machine cannot reach is left out.
    pub fn add_candidate(&mut self, text: &str) {
        match Candidate::from_sdp_string(text) {
            Ok(candidate) => {
                self.note_candidate(&candidate);
                self.rtc.add_remote_candidate(candidate);
                self.now();
            }
            Err(error) => tracing::debug!("a candidate that cannot be used: {error}"),
        }
    }

    /// Sends one packet of Opus. `level` is its RMS in dBFS, 0 to -127 (RFC 6464).
    /// False: the connection does not carry it.
    pub fn send_audio(&mut self, audio: &mut SentAudio, time: RtpTime, level: i8, payload: &[u8]) -> bool {
        if self.state != PeerState::Connected {
            return false;
        }
        if !audio.write(&mut self.rtc, time, level, payload) {
            return false;
        }
        self.now();
        true
    }

    /// Sends a binary message on a data channel. False: there is no room for it now, or the channel is closed.
    pub fn send_message(&mut self, channel: Channel, data: &[u8]) -> bool {
        self.send_on(channel, true, data)
    }

    /// As [`Self::send_message`], for text.
    pub fn send_text(&mut self, channel: Channel, text: &str) -> bool {
        self.send_on(channel, false, text.as_bytes())
    }

    fn send_on(&mut self, channel: Channel, binary: bool, data: &[u8]) -> bool {
        let Some(mut open) = self.rtc.channel(channel.0) else { return false };
        let sent = matches!(open.write(binary, data), Ok(true));
        self.drain();
        sent
    }

    /// Closes the connection; what is still to be sent for it is sent by polling on.
    pub fn close(&mut self) {
        if let Err(error) = self.rtc.close() {
            tracing::debug!("closing a peer connection: {error}");
            self.rtc.disconnect();
        }
        self.drain();
        self.gather.close(Instant::now());
    }

    /// The next event. Dropping the wait loses nothing.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<PeerEvent> {
        for _ in 0..BUDGET {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            if !self.rtc.is_alive() {
                // A relay that was given back may have an answer yet.
                if self.gather.poll(cx).is_ready() {
                    continue;
                }
                self.gather.flush(cx);
                return Poll::Pending;
            }
            if self.receive(cx) || self.receive_gathered(cx) {
                continue;
            }
            if self.timer.poll(cx).is_pending() {
                self.paths.flush(cx);
                self.gather.flush(cx);
                return Poll::Pending;
            }
            self.tick();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes one datagram, if one has come.
    fn receive(&mut self, cx: &mut Context<'_>) -> bool {
        let received = match self.paths.poll(cx) {
            Poll::Ready(Got::Received(received)) => received,
            Poll::Ready(Got::TcpOpen(local)) => {
                self.add_host(local, Protocol::Tcp);
                return true;
            }
            Poll::Pending => return false,
        };
        if let Some(mapped) = self.gather.take_stun(&received) {
            let local = received.destination;
            if let Some(mapped) = mapped {
                self.add_own(Candidate::server_reflexive(mapped, local, Protocol::Udp));
            }
            return true;
        }
        self.heard = Some(Instant::now());
        feed(&mut self.rtc, &received);
        self.drain();
        true
    }

    /// Takes what has come of the STUN and TURN servers, if anything.
    fn receive_gathered(&mut self, cx: &mut Context<'_>) -> bool {
        let Poll::Ready(gathered) = self.gather.poll(cx) else { return false };
        match gathered {
            Gathered::Received(received) => {
                self.heard = Some(Instant::now());
                feed(&mut self.rtc, &received);
            }
            Gathered::Stun => {
                let locals: Vec<_> = self.paths.udp_locals().collect();
                locals.into_iter().for_each(|local| self.ask_for(local));
            }
            Gathered::Relayed(relayed) => {
                if let Ok(candidate) = Candidate::relayed(relayed, relayed, Protocol::Udp) {
                    self.add_local(candidate);
                }
            }
            Gathered::Lost(relayed) => {
                if let Ok(candidate) = Candidate::relayed(relayed, relayed, Protocol::Udp) {
                    self.rtc.direct_api().invalidate_candidate(&candidate);
                }
            }
        }
        self.drain();
        true
    }

    /// Asks the STUN servers how a socket looks from outside.
    fn ask_for(&mut self, local: SocketAddr) {
        if !self.relay_only {
            for (server, request) in self.gather.ask_for(local, Instant::now()) {
                self.paths.send_udp(local, server, &request);
            }
        }
    }

    /// Does what has become due.
    fn tick(&mut self) {
        let now = Instant::now();
        self.fall_back(now);
        for (local, server, request) in self.gather.tick(now) {
            self.paths.send_udp(local, server, &request);
        }
        self.now();
    }

    /// Tells str0m the time, and does what has become due. After each change of descriptions or candidates too: only with the time
    /// it begins to look for a way, where the far side does not look for one itself (ICE lite).
    fn now(&mut self) {
        if let Err(error) = self.rtc.handle_input(Input::Timeout(Instant::now())) {
            tracing::debug!("a peer connection's timer: {error}");
        }
        self.drain();
    }

    /// Carries out what str0m asks for, until it waits for a datagram or a moment.
    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Transmit(transmit)) => {
                    if !self.paths.send(&transmit) && !self.gather.send(&transmit, Instant::now()) {
                        tracing::trace!(source = %transmit.source, "no socket at this address");
                    }
                }
                Ok(Output::Event(event)) => self.take(event),
                Ok(Output::Timeout(at)) => {
                    self.due = at;
                    return self.arm();
                }
                Err(error) => {
                    tracing::debug!("a peer connection broke: {error}");
                    if let RtcError::Dtls(error) = error {
                        self.progress = Progress::Handshake { problem: error.to_string() };
                    }
                    self.rtc.disconnect();
                    self.set_state(PeerState::Closed);
                    return;
                }
            }
        }
    }

    /// As [`Self::seek`], where relays are not what is sought from the beginning.
    fn seek_directly(&mut self) {
        if !self.relay_only {
            self.seek();
        }
    }

    /// Relays and TCP are tried if no way is found in a while.
    fn seek(&mut self) {
        self.fallback.begin(Instant::now());
        self.arm();
    }

    /// Tries what else there is, when a direct way over UDP has led nowhere so far.
    fn fall_back(&mut self, now: Instant) {
        match self.fallback.due(now) {
            None => {}
            Some(_) if self.state == PeerState::Connected => self.fallback.stop(),
            Some(Resort::Relays) => self.gather.want_relays(true, now),
            Some(Resort::Tcp) => {
                self.gather.want_relays(false, now);
                if !self.relay_only {
                    self.tcp.iter().for_each(|remote| self.paths.connect(*remote));
                }
            }
        }
    }

    /// Sets the timer to what is due first.
    fn arm(&mut self) {
        let others = [self.fallback.wake(), self.gather.wake()];
        self.timer.set(others.into_iter().flatten().fold(self.due, Instant::min));
    }

    fn set_state(&mut self, state: PeerState) {
        if state == PeerState::Connected {
            self.progress = Progress::Done;
        }
        if self.state != state {
            self.state = state;
            self.events.push_back(PeerEvent::State(state));
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Connected => self.set_state(PeerState::Connected),
            Event::IceConnectionStateChange(state) => self.take_ice_state(state),
            Event::RtpPacket(packet) => self.events.extend(self.sources.packet(&mut self.rtc, &packet)),
            Event::SenderFeedback(feedback) => self.events.push_back(media::report(&feedback)),
            Event::ChannelOpen(id, label) => self.events.push_back(PeerEvent::ChannelOpen(Channel(id), label)),
            Event::ChannelData(message) => {
                self.events.push_back(PeerEvent::Message { channel: Channel(message.id), data: message.data });
            }
            Event::Closed => self.set_state(PeerState::Closed),
            _ => {}
        }
    }

    fn take_ice_state(&mut self, state: IceConnectionState) {
        if state.is_connected() && matches!(self.progress, Progress::Looking) {
            self.progress = Progress::Handshake { problem: "the far side did not answer".to_owned() };
        }
        match state {
            IceConnectionState::Disconnected => {
                self.set_state(PeerState::Disconnected);
                self.seek();
            }
            _ if state.is_connected() && self.rtc.is_connected() => self.set_state(PeerState::Connected),
            _ if self.state == PeerState::New => self.set_state(PeerState::Connecting),
            _ => {}
        }
    }

    /// Candidates that come from here on are told one by one.
    fn described(&mut self) {
        self.described = true;
    }

    /// Opens the sockets that lead to the candidates of a description.
    fn note_candidates(&mut self, sdp: &str) {
        for line in sdp.lines().filter_map(|line| line.strip_prefix("a=")).filter(|line| line.starts_with("candidate:")) {
            if let Ok(candidate) = Candidate::from_sdp_string(line) {
                self.note_candidate(&candidate);
            }
        }
        self.seek_directly();
    }

    fn note_candidate(&mut self, candidate: &Candidate) {
        let told = format!("{} {}", candidate.proto(), candidate.addr());
        if !self.remotes.contains(&told) {
            self.remotes.push(told);
        }
        match candidate.proto() {
            Protocol::Udp if candidate.kind() != CandidateKind::PeerReflexive => self.reach(candidate.addr()),
            Protocol::Tcp if candidate.tcptype() != Some(TcpType::Active) && !self.tcp.contains(&candidate.addr()) => {
                self.tcp.push(candidate.addr());
                self.seek_directly();
            }
            _ => {}
        }
    }

    fn reach(&mut self, remote: SocketAddr) {
        if self.relay_only {
            return;
        }
        match self.paths.reach(remote) {
            Ok(None) => {}
            Ok(Some(local)) => self.add_host(local, Protocol::Udp),
            Err(error) => tracing::debug!(%remote, "no way from here: {error}"),
        }
    }

    fn add_host(&mut self, local: SocketAddr, proto: Protocol) {
        self.add_own(match proto {
            Protocol::Tcp => Candidate::builder().tcp().host(local).tcptype(TcpType::Active).build(),
            _ => Candidate::host(local, proto),
        });
        if proto == Protocol::Udp {
            self.ask_for(local);
        }
    }

    fn add_own(&mut self, candidate: Result<Candidate, IceError>) {
        if let (Ok(candidate), false) = (&candidate, self.relay_only) {
            self.own.push(candidate.clone());
            self.add_local(candidate.clone());
        }
    }

    fn add_local(&mut self, candidate: Candidate) {
        // One that says nothing more is left out.
        let Some(candidate) = self.rtc.add_local_candidate(candidate) else { return };
        let told = candidate.to_sdp_string();
        self.now();
        if self.described {
            self.events.push_back(PeerEvent::Candidate(told));
        }
    }
}

/// Gives str0m what has come.
fn feed(rtc: &mut Rtc, received: &Received<'_>) {
    let now = Instant::now();
    match Receive::new(received.proto, received.source, received.destination, received.contents) {
        Ok(datagram) => {
            if let Err(error) = rtc.handle_input(Input::Receive(now, datagram)) {
                tracing::debug!(from = %received.source, "a datagram that cannot be used: {error}");
            }
        }
        Err(error) => tracing::debug!(from = %received.source, "a datagram that is none of WebRTC's: {error}"),
    }
}
