//! One side of a CHIRP connection as a call's leg.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::RATE;
use super::protocol::{ErrorCode, Incoming, MOST_FAULTS, Refusal, Session};
use crate::audio::{Rate, to_s16le};
use crate::call::{Abilities, EndReason, Leg, LegCommand, LegEvent, Mark};
use crate::transport::CallerLeg;
use crate::transport::web_socket::{Link, Read, Socket};

/// What CHIRP carries beside audio.
pub(super) const ABILITIES: Abilities = Abilities { speech_marks: true, ..Abilities::NONE };
/// Audio messages that may wait for a far side that does not read: 5 s of 20 ms.
const MOST_QUEUED: usize = 250;
/// Where there is no idle time the timer still needs a moment.
const NEVER: Duration = Duration::from_secs(86_400);

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
    limits: ChirpLimits,
    events: VecDeque<LegEvent>,
    faults: u32,
    /// Samples of the far side's stream that came before the call began.
    skipped: u64,
    idle: Pin<Box<Sleep>>,
    heard: Instant,
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
            limits,
            events: VecDeque::new(),
            faults: 0,
            skipped: 0,
            idle: Box::pin(tokio::time::sleep_until(now + limits.idle.unwrap_or(NEVER))),
            heard: now,
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
        self.faults += 1;
        if self.faults == MOST_FAULTS {
            let detail = format!("{MOST_FAULTS} messages broke the protocol");
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
        self.heard = Instant::now();
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
    fn poll_idle(&mut self, cx: &mut Context<'_>) {
        let Some(idle) = self.limits.idle.filter(|_| self.link.is_open()) else { return };
        while self.idle.as_mut().poll(cx).is_ready() {
            if self.heard.elapsed() >= idle {
                let detail = format!("nothing came for {} s", idle.as_secs_f64());
                self.link.close(EndReason::IdleTimeout, detail, CloseCode::Policy);
                return;
            }
            self.idle.as_mut().reset(self.heard + idle);
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
            self.poll_idle(cx);
            let sent = self.link.send_on(&mut self.events, cx);
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            if let Some(gone) = self.link.poll_gone(sent, cx) {
                return Poll::Ready(gone);
            }
            match self.link.poll_read(cx) {
                Poll::Ready(read) => self.take(read),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> bool {
        self.link.send_on(&mut self.events, cx) && self.events.is_empty() && self.link.is_open()
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
            LegCommand::Hangup(reason) => self.hang_up(reason),
            _ => tracing::debug!("CHIRP carries audio and speech events only"),
        }
    }
}

impl ChirpLeg {
    fn hang_up(&mut self, reason: EndReason) {
        match reason {
            EndReason::ConnectionLost | EndReason::PacingSlipped => self.fail_with("the other side of the call is gone"),
            EndReason::ProtocolError | EndReason::IdleTimeout => {
                self.link.close(reason, "the other side of the call was refused".to_owned(), CloseCode::Policy);
            }
            _ => self.link.close(reason, String::new(), CloseCode::Normal),
        }
    }
}
