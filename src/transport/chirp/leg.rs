//! One side of a CHIRP connection as a call's leg.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::RATE;
use super::protocol::{ErrorCode, Incoming, Refusal, Session};
use crate::audio::{Rate, to_s16le};
use crate::call::{Abilities, EndReason, Leg, LegCommand, LegEvent, Mark};
use crate::transport::CallerLeg;
use crate::transport::faults::Faults;
use crate::transport::web_socket::{IdleWatch, Link, Next, Read, Socket, parting};

/// What CHIRP carries beside audio.
pub(super) const ABILITIES: Abilities = Abilities { speech_marks: true, ..Abilities::NONE };
/// Audio messages that may wait for a far side that does not read: 5 s of 20 ms.
const MOST_QUEUED: usize = 250;

/// What a far side may not exceed.
#[derive(Debug, Clone, Copy)]
pub struct ChirpLimits {
    /// The longest message, in bytes; a longer one closes the connection with 1008.
    pub max_message: usize,
    /// How long the far side may send nothing; then the connection is closed with 1008. None: for ever.
    pub idle: Option<Duration>,
}

impl Default for ChirpLimits {
    /// 1 MiB (32 s of audio in one message), and no idle time.
    fn default() -> Self {
        Self { max_message: 1 << 20, idle: None }
    }
}

/// A CHIRP connection.
pub struct ChirpLeg {
    link: Link,
    session: Session,
    via: String,
    continuous: bool,
    opened: Instant,
    events: VecDeque<LegEvent>,
    faults: Faults,
    /// Samples of the far side's stream that came before the call began.
    skipped: u64,
    idle: IdleWatch,
}

impl ChirpLeg {
    /// `continuous` says that the far side sends audio without a gap, as Cekura's caller does.
    pub(super) fn new(
        socket: Socket,
        via: String,
        continuous: bool,
        limits: ChirpLimits,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let now = Instant::now();
        Self {
            link: Link::new(socket, permit),
            session: Session::default(),
            via,
            continuous,
            opened: now,
            events: VecDeque::new(),
            faults: Faults::default(),
            skipped: 0,
            idle: IdleWatch::new(limits.idle),
        }
    }

    fn ts_ms(&self) -> u64 {
        self.opened.elapsed().as_millis() as u64
    }

    fn refused(&mut self, refusal: &Refusal) {
        let error = Session::error(refusal.code, &refusal.message, self.ts_ms());
        self.link.push(Message::text(error));
        let code = refusal.code.to_string();
        self.events.push_back(LegEvent::Fault { code, detail: refusal.message.clone() });
        if let Some(detail) = self.faults.add() {
            self.link.close(EndReason::ProtocolError, detail, CloseCode::Policy);
        }
    }

    fn take(&mut self, read: Read) {
        match read {
            Read::Message(message) => self.take_message(message),
            Read::Nothing => {}
            Read::NotUtf8 => {
                let message = "text that is not UTF-8".to_owned();
                self.refused(&Refusal { code: ErrorCode::InvalidMessage, message: message.clone() });
                self.link.close_deaf(EndReason::ProtocolError, message, CloseCode::Policy);
            }
            Read::TooLong(detail) => self.link.close_deaf(EndReason::ProtocolError, detail, CloseCode::Policy),
        }
    }

    fn take_message(&mut self, message: Message) {
        let read = match message {
            Message::Binary(bytes) => self.session.binary(&bytes),
            Message::Text(text) => self.session.text(&text),
            // Answered by the WebSocket itself; neither is a sign of a call that goes on.
            _ => return,
        };
        self.idle.heard();
        match read {
            Ok(Incoming::Audio(samples)) => self.events.push_back(LegEvent::Audio(samples)),
            Ok(Incoming::SpeechStarted(mark)) => self.events.push_back(LegEvent::SpeechStarted(self.placed(mark))),
            Ok(Incoming::SpeechCompleted(mark)) => self.events.push_back(LegEvent::SpeechStopped(self.placed(mark))),
            Ok(Incoming::Error { code, message, fatal }) => {
                let detail = format!("the far side reports: {message}");
                self.events.push_back(LegEvent::Fault { code, detail });
                if fatal {
                    tracing::debug!("the far side reports an internal error and will close");
                }
            }
            Err(refusal) => self.refused(&refusal),
        }
    }

    /// The mark's place counts from the call's begin, not from the connection's.
    fn placed(&self, mark: Mark) -> Mark {
        Mark { position: mark.position.map(|position| position.saturating_sub(self.skipped)), ..mark }
    }

    /// Closes a far side that has been silent for too long.
    fn mind_idle(&mut self, cx: &mut Context<'_>) {
        if self.link.is_open()
            && let Poll::Ready(detail) = self.idle.poll(cx)
        {
            self.link.close(EndReason::IdleTimeout, detail, CloseCode::Policy);
        }
    }

    fn fail_with(&mut self, detail: &str) {
        let error = Session::error(ErrorCode::InternalError, detail, self.ts_ms());
        self.link.push(Message::text(error));
        self.link.close(EndReason::ConnectionLost, detail.to_owned(), CloseCode::Error);
    }
}

impl CallerLeg for ChirpLeg {
    /// Says INTERNAL_ERROR and closes with 1011.
    fn fail(&mut self, detail: &str) {
        self.fail_with(detail);
    }

    fn resume(&mut self, mut kept: VecDeque<LegEvent>, skipped: u64) {
        self.skipped += skipped;
        for event in &mut kept {
            if let LegEvent::SpeechStarted(mark) | LegEvent::SpeechStopped(mark) = event {
                mark.position = mark.position.map(|position| position.saturating_sub(skipped));
            }
        }
        kept.append(&mut self.events);
        self.events = kept;
    }
}

impl Leg for ChirpLeg {
    fn rate(&self) -> Rate {
        RATE
    }

    fn abilities(&self) -> Abilities {
        Abilities { continuous_source: self.continuous, ..ABILITIES }
    }

    fn via(&self) -> String {
        self.via.clone()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        loop {
            self.mind_idle(cx);
            match ready!(self.link.poll_next(&mut self.events, cx)) {
                Next::Event(event) => return Poll::Ready(event),
                Next::Read(read) => self.take(read),
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> bool {
        self.link.poll_sent(&mut self.events, cx)
    }

    fn command(&mut self, command: LegCommand<'_>) {
        if !self.link.is_open() {
            return;
        }
        match command {
            LegCommand::Audio(samples) => self.link.push_binary(|| to_s16le(samples), MOST_QUEUED),
            LegCommand::Clear => self.link.drop_binary(),
            LegCommand::SpeechStarted(mark) => {
                let event = self.session.start_speech(mark, self.opened.elapsed().as_millis() as u64);
                self.link.push(Message::text(event));
            }
            LegCommand::SpeechStopped(mark) => {
                let event = self.session.complete_speech(mark, self.opened.elapsed().as_millis() as u64);
                event.into_iter().for_each(|event| self.link.push(Message::text(event)));
            }
            LegCommand::Hangup(reason) => match parting(reason) {
                (detail, CloseCode::Error) => self.fail_with(detail),
                _ => self.link.hang_up(reason),
            },
            _ => tracing::debug!("CHIRP carries audio and speech events only"),
        }
    }
}
