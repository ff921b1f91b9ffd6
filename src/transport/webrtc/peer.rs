//! One peer connection, polled by whoever owns it: no task, no channel.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::format::Codec;
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive, TcpType};
use str0m::rtp::{ExtensionValues, RtpWrite, SeqNo, Ssrc};
use str0m::{Candidate, CandidateKind, Event, IceConnectionState, Input, Output, Rtc, RtcConfig, RtcError};
use tokio::time::Sleep;

use super::paths::{Got, Paths};
use super::{NtpTime, RtpAudio, RtpTime, SenderReport};

/// Datagrams that are read before others get their turn.
const BUDGET: usize = 32;
/// How long a way over UDP is looked for before TCP is tried too: with UDP it takes some round trips.
const TCP_AFTER: Duration = Duration::from_millis(500);
/// While there is nothing to wait for, the timer still needs a moment.
const LONG: Duration = Duration::from_secs(3600);

/// A session description as SDP text (RFC 8866).
pub type SessionText = String;

/// A peer connection could not be made or broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The far side's description cannot be used.
    #[error("the far side's session description cannot be used: {0}")]
    Description(String),
    /// No way to the far side.
    #[error("ICE found no way: tried {}", tried(.local, .remote))]
    Ice {
        /// Our own addresses.
        local: Vec<SocketAddr>,
        /// The far side's candidates: protocol and address.
        remote: Vec<String>,
    },
    /// There is a way, and the handshake that makes the keys failed on it.
    #[error("the DTLS handshake failed: {problem}; tried {}", tried(.local, .remote))]
    Dtls {
        /// What went wrong.
        problem: String,
        /// Our own addresses.
        local: Vec<SocketAddr>,
        /// The far side's candidates: protocol and address.
        remote: Vec<String>,
    },
    /// Something else within the connection.
    #[error("the connection broke: {0}")]
    Broken(String),
}

fn tried(local: &[SocketAddr], remote: &[String]) -> String {
    let local: Vec<_> = local.iter().map(ToString::to_string).collect();
    let (local, remote) = (local.join(", "), remote.join(", "));
    let or_none = |list: String| if list.is_empty() { "none".to_owned() } else { list };
    format!("from {} to {}", or_none(local), or_none(remote))
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// Nothing was agreed on yet.
    New,
    /// Looking for a way, or making the keys.
    Connecting,
    /// Media flows.
    Connected,
    /// No answer comes any more; it may come back.
    Disconnected,
    /// Over.
    Closed,
}

/// A data channel that was opened with a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Channel(ChannelId);

/// What comes out of a connection.
#[derive(Debug)]
pub enum PeerEvent {
    /// The state has changed.
    State(PeerState),
    /// A received packet of audio.
    Rtp {
        /// The media section it belongs to.
        mid: String,
        /// When it came.
        arrived: Instant,
        /// The packet.
        packet: RtpAudio,
    },
    /// A sender report (RFC 3550 section 6.4.1).
    SenderReport {
        /// The media section.
        mid: String,
        /// What it says.
        report: SenderReport,
    },
    /// A data channel is open.
    ChannelOpen(Channel, String),
    /// A message on a data channel.
    Message {
        /// The channel.
        channel: Channel,
        /// The message.
        data: Vec<u8>,
    },
    /// A local candidate that the far side has not been told in a description.
    Candidate(String),
}

/// A media section for audio that we send.
#[derive(Debug)]
pub struct SentAudio {
    mid: Mid,
    sequence: u64,
}

/// One peer connection.
pub struct Peer {
    rtc: Rtc,
    paths: Paths,
    timer: Pin<Box<Sleep>>,
    deadline: Instant,
    events: VecDeque<PeerEvent>,
    state: PeerState,
    pending: Option<SdpPendingOffer>,
    sources: HashMap<Ssrc, Mid>,
    remotes: Vec<String>,
    /// Where the far side takes TCP connections.
    tcp: Vec<SocketAddr>,
    /// When TCP is tried.
    fallback: Option<Instant>,
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
    pub fn new(towards: &[SocketAddr]) -> Self {
        crate::transport::tls::install_crypto();
        let now = Instant::now();
        let rtc = RtcConfig::new().set_rtp_mode(true).clear_codecs().enable_opus(true, false).build(now);
        let mut peer = Self {
            rtc,
            paths: Paths::new(),
            timer: Box::pin(tokio::time::sleep(LONG)),
            deadline: now,
            events: VecDeque::new(),
            state: PeerState::New,
            pending: None,
            sources: HashMap::new(),
            remotes: Vec::new(),
            tcp: Vec::new(),
            fallback: None,
            heard: None,
            described: false,
            progress: Progress::Looking,
        };
        towards.iter().for_each(|remote| peer.reach(*remote));
        peer
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

    /// Why there is no connection, in the terms of what was tried. None: there was one.
    #[must_use]
    pub fn no_way(&self) -> Option<PeerError> {
        let (local, remote) = (self.paths.locals().collect(), self.remotes.clone());
        match &self.progress {
            Progress::Looking => Some(PeerError::Ice { local, remote }),
            Progress::Handshake { problem } => Some(PeerError::Dtls { problem: problem.clone(), local, remote }),
            Progress::Done => None,
        }
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

    /// Prepares an offer: audio to be sent as `track` of `stream`, and data channels. The far side's answer goes to
    /// [`Self::accept_answer`].
    pub fn offer(&mut self, audio: Option<(&str, &str)>, channels: &[ChannelPlan]) -> Option<(SessionText, Option<SentAudio>)> {
        let mut change = self.rtc.sdp_api();
        let audio = audio.map(|(stream, track)| {
            let (stream, track) = (Some(stream.to_owned()), Some(track.to_owned()));
            change.add_media(MediaKind::Audio, Direction::SendOnly, stream, track, None)
        });
        for plan in channels {
            change.add_channel_with_config(plan.config());
        }
        let (offer, pending) = change.apply()?;
        self.pending = Some(pending);
        self.described();
        self.now();
        Some((offer.to_sdp_string(), audio.map(|mid| SentAudio { mid, sequence: 0 })))
    }

    /// An offer that looks for a new way on the same sockets (RFC 8445 section 9), all else staying as it is.
    pub fn restart_ice(&mut self) -> Option<SessionText> {
        let mut change = self.rtc.sdp_api();
        change.ice_restart(true);
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
        let params = self.rtc.codec_config().params();
        let opus = params.iter().find(|params| params.spec().codec == Codec::Opus).map(str0m::format::PayloadParams::pt);
        let mut direct = self.rtc.direct_api();
        let (Some(pt), Some(stream)) = (opus, direct.stream_tx_by_mid(audio.mid, None)) else { return false };
        let extensions =
            ExtensionValues { audio_level: Some(level), voice_activity: Some(level > -50), ..ExtensionValues::default() };
        // Sequence numbers may start anywhere below the first wrap; RTP time is sent as its lower 32 bits.
        let sequence: SeqNo = audio.sequence.into();
        audio.sequence += 1;
        let write = RtpWrite::new(pt, sequence, time.ticks() as u32, Instant::now(), payload).ext_vals(extensions);
        stream.write_rtp(write);
        self.now();
        true
    }

    /// Sends a message on a data channel. False: there is no room for it now, or the channel is closed.
    pub fn send_message(&mut self, channel: Channel, data: &[u8]) -> bool {
        let Some(mut open) = self.rtc.channel(channel.0) else { return false };
        let sent = matches!(open.write(true, data), Ok(true));
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
    }

    /// The next event. Dropping the wait loses nothing.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<PeerEvent> {
        for _ in 0..BUDGET {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            if !self.rtc.is_alive() {
                return Poll::Pending;
            }
            if self.receive(cx) {
                continue;
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                self.paths.flush(cx);
                return Poll::Pending;
            }
            self.try_tcp();
            self.now();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes one datagram, if one has come.
    fn receive(&mut self, cx: &mut Context<'_>) -> bool {
        let received = match self.paths.poll(cx) {
            Poll::Ready(Got::Received(received)) => received,
            Poll::Ready(Got::TcpOpen(local)) => {
                self.add_local(local, Protocol::Tcp);
                return true;
            }
            Poll::Pending => return false,
        };
        let now = Instant::now();
        self.heard = Some(now);
        match Receive::new(received.proto, received.source, received.destination, received.contents) {
            Ok(datagram) => {
                if let Err(error) = self.rtc.handle_input(Input::Receive(now, datagram)) {
                    tracing::debug!(from = %received.source, "a datagram that cannot be used: {error}");
                }
            }
            Err(error) => tracing::debug!(from = %received.source, "a datagram that is none of WebRTC's: {error}"),
        }
        self.drain();
        true
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
                Ok(Output::Transmit(transmit)) => self.paths.send(&transmit),
                Ok(Output::Event(event)) => self.take(event),
                Ok(Output::Timeout(at)) => return self.set_timer(at),
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

    /// Tries TCP when UDP has led nowhere so far.
    fn try_tcp(&mut self) {
        if self.fallback.is_some_and(|at| at <= Instant::now()) {
            self.fallback = None;
            if self.state != PeerState::Connected {
                self.tcp.iter().for_each(|remote| self.paths.connect(*remote));
            }
        }
    }

    fn set_timer(&mut self, at: Instant) {
        let at = self.fallback.map_or(at, |fallback| at.min(fallback));
        if at != self.deadline {
            self.deadline = at;
            // str0m says "never" with a moment far away.
            let at = at.min(Instant::now() + LONG);
            self.timer.as_mut().reset(at.into());
        }
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
            Event::RtpPacket(packet) => self.take_rtp(packet),
            Event::SenderFeedback(report) => self.events.push_back(PeerEvent::SenderReport {
                mid: report.mid.to_string(),
                report: SenderReport {
                    ssrc: *report.sender_info.ssrc,
                    ntp: NtpTime::of_system(report.sender_info.ntp_time),
                    rtp: report.sender_info.rtp_time.numer() as u32,
                },
            }),
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
            IceConnectionState::Disconnected => self.set_state(PeerState::Disconnected),
            _ if state.is_connected() && self.rtc.is_connected() => self.set_state(PeerState::Connected),
            _ if self.state == PeerState::New => self.set_state(PeerState::Connecting),
            _ => {}
        }
    }

    fn take_rtp(&mut self, packet: str0m::rtp::RtpPacket) {
        let ssrc = packet.header.ssrc;
        let known = packet.header.ext_vals.mid.or_else(|| self.sources.get(&ssrc).copied());
        let Some(mid) = known.or_else(|| self.rtc.direct_api().stream_rx(&ssrc).map(|stream| stream.mid())) else {
            return;
        };
        self.sources.insert(ssrc, mid);
        let packet_audio = RtpAudio {
            ssrc: *ssrc,
            sequence: *packet.seq_no,
            time: RtpTime::new(packet.time.numer()),
            payload: packet.payload.to_vec(),
        };
        self.events.push_back(PeerEvent::Rtp { mid: mid.to_string(), arrived: packet.timestamp, packet: packet_audio });
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
                self.fallback = Some(Instant::now() + TCP_AFTER);
            }
            _ => {}
        }
    }

    fn reach(&mut self, remote: SocketAddr) {
        match self.paths.reach(remote) {
            Ok(None) => {}
            Ok(Some(local)) => self.add_local(local, Protocol::Udp),
            Err(error) => tracing::debug!(%remote, "no way from here: {error}"),
        }
    }

    fn add_local(&mut self, local: SocketAddr, proto: Protocol) {
        let candidate = match proto {
            Protocol::Tcp => Candidate::builder().tcp().host(local).tcptype(TcpType::Active).build(),
            _ => Candidate::host(local, proto),
        };
        let Ok(candidate) = candidate else { return };
        let told = candidate.to_sdp_string();
        self.rtc.add_local_candidate(candidate);
        self.now();
        if self.described {
            self.events.push_back(PeerEvent::Candidate(told));
        }
    }
}

/// A data channel that is to be opened with an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelPlan {
    /// Its label.
    pub label: &'static str,
    /// Nothing is lost and all comes in order; else each message is sent once, and may come in any order.
    pub reliable: bool,
}

impl ChannelPlan {
    fn config(self) -> ChannelConfig {
        let reliability = if self.reliable { Reliability::Reliable } else { Reliability::MaxRetransmits { retransmits: 0 } };
        ChannelConfig { label: self.label.to_owned(), ordered: self.reliable, reliability, ..ChannelConfig::default() }
    }
}
