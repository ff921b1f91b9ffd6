//! The leg: an agent's connection, its process, and what plays its audio.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use livekit_protocol::agent::AgentSessionMessage;
use livekit_protocol::agent::agent_session_message::Message;
use livekit_protocol::agent::agent_session_message::console_io::{AudioFrame, AudioPlaybackFinished};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::dial::Beginning;
use super::{ABILITIES, BadFrame, FrameReader, Play, Playback, RATE, frame};
use crate::audio::{Rate, from_s16le, to_s16le};
use crate::call::{Abilities, Alarm, EndReason, Leg, LegCommand, LegEvent};
use crate::transport::livekit::session::{AgentSession, Turn, ask_for_framework, ask_for_state};
use crate::transport::process::{Child, Output};

/// What may wait for an agent that does not read: 5 s of audio, in bytes.
const MOST_QUEUED: usize = 5 * 48_000 * 2;
/// So many messages that make no sense are told of; then the call ends.
const MOST_FAULTS: u32 = 100;
/// The longest that the agent may take to end its process, with what its last moments may wait for.
const FAREWELL: Duration = Duration::from_secs(12);
/// The faults that an agent may make and go on.
const BAD_AUDIO: &str = "BAD_AUDIO";
const BAD_MESSAGE: &str = "BAD_MESSAGE";
const TOO_MUCH_AUDIO: &str = "TOO_MUCH_AUDIO";

/// A LiveKit agent in a call.
pub struct ConsoleLeg {
    via: String,
    child: Child,
    /// None once it has closed, or broke.
    stream: Option<TcpStream>,
    reader: FrameReader,
    outgoing: VecDeque<u8>,
    not_read: u64,
    session: AgentSession,
    playback: Playback,
    began: Instant,
    /// When the playback has something next.
    alarm: Alarm,
    events: VecDeque<LegEvent>,
    faults: u32,
    /// Why the call is to end, where the process does not say it.
    end: Option<(EndReason, String)>,
    /// The call has begun: what the agent sent before it waits no longer.
    playing: bool,
    /// We hang up: what it still says is not part of the call.
    hung_up: bool,
}

/// What came of reading.
enum Got {
    Message(Box<AgentSessionMessage>),
    Bad(BadFrame),
    Closed,
    Broke(std::io::Error),
}

impl ConsoleLeg {
    /// A leg whose session has not begun.
    pub(super) fn new(via: String, stream: TcpStream, child: Child) -> Self {
        let mut leg = Self {
            via,
            child,
            stream: Some(stream),
            reader: FrameReader::default(),
            outgoing: VecDeque::new(),
            not_read: 0,
            session: AgentSession::default(),
            playback: Playback::new(RATE),
            began: Instant::now(),
            alarm: Alarm::new(),
            events: VecDeque::new(),
            faults: 0,
            end: None,
            playing: false,
            hung_up: false,
        };
        leg.send(&ask_for_framework("framework"));
        leg.send(&ask_for_state("state"));
        leg
    }

    /// The next step on the way to a session.
    pub(super) fn poll_beginning(&mut self, cx: &mut Context<'_>) -> Poll<Beginning> {
        loop {
            self.poll_outgoing(cx);
            if self.session.has_begun() || self.playback.waiting() > 0 {
                return Poll::Ready(Beginning::Begun);
            }
            match self.poll_read(cx) {
                Poll::Ready(Got::Message(message)) => self.take(*message),
                Poll::Ready(Got::Bad(problem)) => return Poll::Ready(Beginning::Bad(problem)),
                // The process may be about to end, which says more.
                Poll::Ready(Got::Closed | Got::Broke(_)) => self.closed(),
                Poll::Pending => match self.child.poll_output(cx) {
                    Poll::Ready(Output::Log(line)) => return Poll::Ready(Beginning::Log(line)),
                    Poll::Ready(Output::Bytes(_)) => {}
                    Poll::Ready(Output::Gone(LegEvent::Hangup { reason: EndReason::HungUp, .. })) if self.stream.is_none() => {
                        return Poll::Ready(Beginning::Closed);
                    }
                    Poll::Ready(Output::Gone(gone)) => return Poll::Ready(Beginning::Gone(gone)),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    /// The call begins: the agent's log so far, and what it said, come first.
    pub(super) fn begin(&mut self, log: VecDeque<String>) {
        let mut events: VecDeque<LegEvent> = log.into_iter().map(LegEvent::Log).collect();
        events.append(&mut self.events);
        self.events = events;
        self.playback.hold();
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn send(&mut self, message: &AgentSessionMessage) {
        if self.stream.is_some() {
            self.outgoing.extend(frame(message));
        }
    }

    /// Sends what waits, as far as the agent reads.
    fn poll_outgoing(&mut self, cx: &mut Context<'_>) {
        while let Some(stream) = self.stream.as_mut().filter(|_| !self.outgoing.is_empty()) {
            let (bytes, _) = self.outgoing.as_slices();
            match Pin::new(stream).poll_write(cx, bytes) {
                Poll::Ready(Ok(written)) => drop(self.outgoing.drain(..written)),
                // Reading tells why.
                Poll::Ready(Err(_)) => self.outgoing.clear(),
                Poll::Pending => return,
            }
        }
        if self.outgoing.is_empty() && self.not_read > 0 {
            self.events.push_back(LegEvent::NotRead(std::mem::take(&mut self.not_read)));
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Got> {
        loop {
            let Some(stream) = self.stream.as_mut() else { return Poll::Pending };
            match self.reader.next_message() {
                Ok(Some(message)) => return Poll::Ready(Got::Message(Box::new(message))),
                Ok(None) => {}
                Err(problem) => return Poll::Ready(Got::Bad(problem)),
            }
            let mut bytes = [0; 16 * 1024];
            let mut buffer = ReadBuf::new(&mut bytes);
            match std::task::ready!(Pin::new(stream).poll_read(cx, &mut buffer)) {
                Err(error) => return Poll::Ready(Got::Broke(error)),
                Ok(()) if buffer.filled().is_empty() => {
                    return Poll::Ready(self.reader.end().map_or_else(Got::Bad, |()| Got::Closed));
                }
                Ok(()) => self.reader.push(buffer.filled()),
            }
        }
    }

    /// The agent has hung up, or its process is about to end.
    fn closed(&mut self) {
        (self.stream, self.outgoing) = (None, VecDeque::new());
        self.child.closed_voice();
    }

    /// The call cannot go on.
    fn fail(&mut self, reason: EndReason, detail: String) {
        (self.stream, self.outgoing) = (None, VecDeque::new());
        self.end.get_or_insert((reason, detail));
        self.child.ask(reason);
    }

    fn got(&mut self, got: Got) {
        match got {
            Got::Message(_) | Got::Bad(_) if self.hung_up => {}
            Got::Message(message) => self.take(*message),
            Got::Bad(problem @ BadFrame::Truncated { .. }) => self.fail(EndReason::ConnectionLost, problem.to_string()),
            Got::Bad(problem) => self.fail(EndReason::ProtocolError, problem.to_string()),
            Got::Closed => self.closed(),
            Got::Broke(error) => self.fail(EndReason::ConnectionLost, format!("the agent's connection broke: {error}")),
        }
    }

    fn take(&mut self, message: AgentSessionMessage) {
        let now = self.now();
        match message.message {
            Some(Message::AudioOutput(audio)) => self.take_audio(&audio),
            Some(Message::AudioPlaybackFlush(_)) => self.playback.flush(),
            Some(Message::AudioPlaybackClear(_)) => self.clear(),
            Some(Message::Event(event)) => match self.session.event(&event, &mut self.events) {
                Some(Turn::Stops) => self.playback.hold(),
                Some(Turn::Speaks | Turn::GoesOn) => self.playback.go_on(now),
                None => {}
            },
            Some(Message::Response(response)) => self.session.response(&response, &mut self.events),
            Some(Message::Request(_)) => self.fault(BAD_MESSAGE, "an agent asks its console nothing".to_owned()),
            Some(Message::AudioInput(_) | Message::AudioPlaybackFinished(_)) => {
                self.fault(BAD_MESSAGE, "that message is the console's, not the agent's".to_owned());
            }
            None => self.fault(BAD_MESSAGE, "a message of no known kind".to_owned()),
        }
    }

    fn take_audio(&mut self, audio: &AudioFrame) {
        let AudioFrame { data, sample_rate, num_channels, .. } = audio;
        if *sample_rate != RATE.hz() || *num_channels != 1 || data.len() % 2 == 1 {
            let detail =
                format!("audio is 48000 Hz, 1 channel, 16 bits: got {sample_rate} Hz, {num_channels}, {} bytes", data.len());
            return self.fault(BAD_AUDIO, detail);
        }
        let waited = self.playback.waiting();
        let left_over = self.playback.push(self.now(), &from_s16le(data));
        if waited > 0 && left_over > 0 {
            self.fault(TOO_MUCH_AUDIO, format!("{left_over} samples too many wait to be heard"));
        }
    }

    /// The rest of what the agent sent is never heard.
    fn clear(&mut self) {
        let cleared = self.playback.clear();
        if cleared > 0 {
            let discarded_ms = RATE.millis_of(cleared);
            self.events.push_back(LegEvent::Note(serde_json::json!({"livekit": "audio_cleared", "discarded_ms": discarded_ms})));
        }
    }

    fn fault(&mut self, code: &str, detail: String) {
        self.faults += 1;
        if self.faults > MOST_FAULTS {
            return self.fail(EndReason::ProtocolError, format!("more than {MOST_FAULTS} faults, the last: {detail}"));
        }
        self.events.push_back(LegEvent::Fault { code: code.to_owned(), detail });
    }

    /// Plays what is due.
    fn poll_playback(&mut self, cx: &mut Context<'_>) -> Option<LegEvent> {
        loop {
            match self.playback.next(self.now()) {
                Some(Play::Audio(samples)) => return Some(LegEvent::Audio(samples)),
                Some(Play::Finished) => {
                    self.send(&message(Message::AudioPlaybackFinished(AudioPlaybackFinished {})));
                    self.poll_outgoing(cx);
                }
                None => {
                    let at = self.began + self.playback.due()?;
                    if self.alarm.poll_at(Some(at), cx).is_pending() {
                        return None;
                    }
                }
            }
        }
    }

    fn gone(&mut self, hangup: LegEvent) -> LegEvent {
        match self.end.take() {
            Some((reason, detail)) => LegEvent::Hangup { reason, detail },
            None => hangup,
        }
    }
}

fn message(message: Message) -> AgentSessionMessage {
    AgentSessionMessage { message: Some(message) }
}

impl Leg for ConsoleLeg {
    fn rate(&self) -> Rate {
        RATE
    }

    fn abilities(&self) -> Abilities {
        ABILITIES
    }

    fn via(&self) -> String {
        self.via.clone()
    }

    fn farewell(&self) -> Duration {
        FAREWELL
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        if !std::mem::replace(&mut self.playing, true) {
            self.playback.go_on(self.now());
        }
        loop {
            self.poll_outgoing(cx);
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            if let Some(audio) = self.poll_playback(cx) {
                return Poll::Ready(audio);
            }
            if let Poll::Ready(got) = self.poll_read(cx) {
                self.got(got);
                continue;
            }
            match self.child.poll_output(cx) {
                Poll::Ready(Output::Log(line)) => return Poll::Ready(LegEvent::Log(line)),
                Poll::Ready(Output::Bytes(_)) => {}
                Poll::Ready(Output::Gone(hangup)) => return Poll::Ready(self.gone(hangup)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_outgoing(cx);
        self.outgoing.is_empty() && self.events.is_empty()
    }

    fn command(&mut self, command: LegCommand<'_>) {
        match command {
            LegCommand::Audio(samples) if self.stream.is_some() && !self.hung_up => {
                if self.outgoing.len() + samples.len() * 2 > MOST_QUEUED {
                    self.not_read += 1;
                    return;
                }
                let (data, samples_per_channel) = (to_s16le(samples), samples.len() as u32);
                let audio = AudioFrame { data, sample_rate: RATE.hz(), num_channels: 1, samples_per_channel };
                self.send(&message(Message::AudioInput(audio)));
            }
            LegCommand::Hangup(reason) => {
                self.hung_up = true;
                self.playback.clear();
                self.child.ask(reason);
            }
            // The agent hears, and finds out for itself.
            _ => {}
        }
    }
}
