//! The connection between a bot and its client: audio both ways, and a data channel. Either side may be ours.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::channel::{BadChannelMessage, ChannelMessage};
use crate::transport::webrtc::{
    AudioPlan, Channel, ChannelPlan, IceOptions, Peer, PeerError, PeerEvent, PeerState, RtpAudio, RtpTime, SentAudio, SessionText,
};

/// The channel's label is the client's choice: that of Pipecat's own.
const CHANNEL: ChannelPlan = ChannelPlan { label: "chat", reliable: true };
const MICROPHONE: AudioPlan<'_> = AudioPlan { stream: "trunkline", track: "microphone", both_ways: true };
/// Messages that may wait for their channel to open, or for room in it.
const MOST_WAITING: usize = 1024;

/// The connection.
pub(super) struct Line {
    peer: Peer,
    /// Where our audio goes.
    audio: Option<SentAudio>,
    /// The media section of the audio that is heard: the first of which some comes.
    heard: Option<String>,
    channel: Option<Channel>,
    waiting: VecDeque<String>,
}

/// What happens on it.
pub(super) enum Happening {
    /// The state has changed.
    State(PeerState),
    /// The data channel is open.
    Open,
    /// A packet of audio.
    Audio(Instant, RtpAudio),
    /// A message on the data channel.
    Message(Result<ChannelMessage, BadChannelMessage>),
    /// A candidate that the far side does not know.
    Candidate(String),
}

impl Line {
    /// A connection that we offer to somebody who is probably at `towards`.
    pub(super) fn offer(towards: &[SocketAddr], ice: &IceOptions) -> Option<(Self, SessionText)> {
        let mut line = Self::new(towards, ice);
        let (offer, audio) = line.peer.offer(Some(MICROPHONE), &[CHANNEL])?;
        line.audio = audio;
        Some((line, offer))
    }

    /// A connection that the far side offers.
    ///
    /// # Errors
    /// [`PeerError::Description`].
    pub(super) fn answer(offer: &str, towards: &[SocketAddr], ice: &IceOptions) -> Result<(Self, SessionText), PeerError> {
        let mut line = Self::new(towards, ice);
        let answer = line.answer_again(offer)?;
        Ok((line, answer))
    }

    fn new(towards: &[SocketAddr], ice: &IceOptions) -> Self {
        Self { peer: Peer::new(towards, ice), audio: None, heard: None, channel: None, waiting: VecDeque::new() }
    }

    /// The far side's answer to our offer.
    ///
    /// # Errors
    /// [`PeerError::Description`].
    pub(super) fn accept(&mut self, answer: &str) -> Result<(), PeerError> {
        self.peer.accept_answer(answer)
    }

    /// Offers once more what is agreed on.
    pub(super) fn offer_again(&mut self) -> Option<SessionText> {
        self.peer.offer_again(self.audio.as_ref()?)
    }

    /// Answers another offer of the far side.
    ///
    /// # Errors
    /// [`PeerError::Description`].
    pub(super) fn answer_again(&mut self, offer: &str) -> Result<SessionText, PeerError> {
        let answer = self.peer.answer(offer)?;
        if self.audio.is_none() {
            self.audio = self.peer.offered_audio(offer);
        }
        Ok(answer)
    }

    /// A candidate of the far side's that comes later.
    pub(super) fn add_candidate(&mut self, candidate: &str) {
        self.peer.add_candidate(candidate);
    }

    /// The connection itself.
    pub(super) const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Audio can go to the far side.
    pub(super) const fn can_speak(&self) -> bool {
        self.audio.is_some()
    }

    /// Sends a packet of Opus. Until the connection stands, and while it is lost, there is nowhere to send it.
    pub(super) fn send_audio(&mut self, time: RtpTime, level: i8, packet: &[u8]) {
        if let Some(audio) = &mut self.audio {
            self.peer.send_audio(audio, time, level, packet);
        }
    }

    /// Sends a message once the channel is open. False: too many wait, and this one is lost.
    pub(super) fn say(&mut self, message: String) -> bool {
        if self.waiting.len() >= MOST_WAITING {
            return false;
        }
        self.waiting.push_back(message);
        self.send_waiting();
        true
    }

    /// Closes it. What is still to be sent for that goes out by polling once more.
    pub(super) fn close(&mut self) {
        self.peer.close();
    }

    fn send_waiting(&mut self) {
        let Some(channel) = self.channel else { return };
        while let Some(message) = self.waiting.front() {
            if !self.peer.send_text(channel, message) {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// What happens next.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Happening> {
        loop {
            self.send_waiting();
            return Poll::Ready(match ready!(self.peer.poll_event(cx)) {
                PeerEvent::State(state) => Happening::State(state),
                PeerEvent::Rtp { mid, arrived, packet } => {
                    if *self.heard.get_or_insert_with(|| mid.clone()) != mid {
                        continue;
                    }
                    Happening::Audio(arrived, packet)
                }
                PeerEvent::ChannelOpen(channel, _) if self.channel.is_none() => {
                    self.channel = Some(channel);
                    Happening::Open
                }
                PeerEvent::Message { channel, data } if self.channel == Some(channel) => {
                    Happening::Message(ChannelMessage::parse(&data))
                }
                PeerEvent::Candidate(candidate) => Happening::Candidate(candidate),
                // Another channel than the first, and reports that nobody needs here.
                PeerEvent::ChannelOpen(..) | PeerEvent::Message { .. } | PeerEvent::SenderReport { .. } => continue,
            });
        }
    }
}
