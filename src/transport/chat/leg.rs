//! One side of a chat WebSocket as a call's leg.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::protocol::{self, Frame, UNKNOWN_FRAME, fault};
use super::session::{Due, Session, SessionRules};
use super::{ABILITIES, MAX_MESSAGE, NO_RATE};
use crate::audio::Rate;
use crate::call::{Abilities, Alarm, EndReason, Leg, LegCommand, LegEvent, Side};
use crate::transport::CallerLeg;
use crate::transport::faults::Faults;
use crate::transport::web_socket::{Link, Next, Read, Socket};

/// From our `end_call` to our close (Cekura's chat page: 1 s). A far side that closes before is not waited for.
const LINGER: Duration = Duration::from_secs(1);
/// What may wait for a far side that does not read, in bytes.
const MOST_QUEUED: usize = 4 * MAX_MESSAGE;

/// A chat WebSocket.
pub struct ChatLeg {
    link: Link,
    via: String,
    session: Session,
    far: Side,
    /// When the next thing is due.
    alarm: Alarm,
    events: VecDeque<LegEvent>,
    faults: Faults,
    /// The agent's crash, as the far side is to be told of it.
    crash: Option<String>,
    /// We have said `end_call` and close at this time, for this reason.
    leaving: Option<(Instant, EndReason)>,
}

impl ChatLeg {
    pub(super) fn new(socket: Socket, via: String, rules: SessionRules, permit: Option<OwnedSemaphorePermit>) -> Self {
        let now = Instant::now();
        Self {
            link: Link::new(socket, permit),
            via,
            session: Session::new(rules, now),
            far: if rules.far_is_caller { Side::Caller } else { Side::Agent },
            alarm: Alarm::new(),
            events: VecDeque::new(),
            faults: Faults::default(),
            crash: None,
            leaving: None,
        }
    }

    fn take(&mut self, read: Read) {
        let now = Instant::now();
        match read {
            Read::Nothing => {}
            // The session is over.
            Read::Message(_) if !self.link.is_open() => {}
            Read::Message(Message::Text(text)) => self.take_frame(protocol::read(&text), now),
            Read::Message(Message::Pong(_)) => self.session.pong(),
            Read::Message(Message::Binary(bytes)) => {
                self.fault(fault(UNKNOWN_FRAME, format!("a binary message of {} bytes: a chat is text", bytes.len())));
            }
            // A ping is answered by the WebSocket itself.
            Read::Message(_) => {}
            Read::NotUtf8 => {
                let detail = "text that is not UTF-8".to_owned();
                self.link.close_deaf(EndReason::ProtocolError, detail, CloseCode::Invalid);
            }
            Read::TooLong(detail) => self.link.close_deaf(EndReason::ProtocolError, detail, CloseCode::Size),
        }
    }

    fn take_frame(&mut self, frame: Frame, now: Instant) {
        for event in frame.events {
            match event {
                LegEvent::Fault { .. } => self.fault(event),
                LegEvent::Text(_) => {
                    self.session.far_spoke(now);
                    self.events.push_back(event);
                }
                _ => self.events.push_back(event),
            }
        }
        if frame.ends {
            self.link.close(EndReason::HungUp, String::new(), CloseCode::Normal);
        }
    }

    fn fault(&mut self, fault: LegEvent) {
        self.events.push_back(fault);
        if let Some(detail) = self.faults.add() {
            self.link.close(EndReason::ProtocolError, detail, CloseCode::Policy);
        }
    }

    fn send(&mut self, frame: &Value) {
        self.link.push_text(frame.to_string(), MOST_QUEUED);
    }

    /// Ends the session in the ordinary way; the close follows, unless the far side is faster.
    fn say_goodbye(&mut self, reason: EndReason) {
        if self.leaving.is_none() {
            self.send(&protocol::end_call());
            self.leaving = Some((Instant::now() + LINGER, reason));
        }
    }

    /// Does what is due. True: something was done, and may be to be sent.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.link.is_open() {
            return false;
        }
        let now = Instant::now();
        if let Some((at, reason)) = self.leaving {
            if now >= at {
                self.link.close(reason, String::new(), CloseCode::Normal);
                return true;
            }
        } else if let Some(due) = self.session.due(now) {
            self.do_now(due);
            return true;
        }
        let wake = self.leaving.map(|(at, _)| at).or_else(|| self.session.next_wake());
        self.alarm.poll_at(wake, cx).is_ready()
    }

    fn do_now(&mut self, due: Due) {
        match due {
            Due::Ping => self.link.push(Message::Ping(Vec::new().into())),
            Due::End { reason: EndReason::ConnectionLost, detail } => {
                self.link.close(EndReason::ConnectionLost, detail, CloseCode::Error);
            }
            Due::End { reason, detail } => {
                self.send(&protocol::end_call());
                self.link.close(reason, detail, CloseCode::Normal);
            }
        }
    }

    /// The far side closed after our `end_call`: that is our end and not its own.
    fn told(&self, event: LegEvent) -> LegEvent {
        match (self.leaving, event) {
            (Some((_, reason)), LegEvent::Hangup { reason: EndReason::HungUp, detail }) => LegEvent::Hangup { reason, detail },
            (_, event) => event,
        }
    }
}

impl CallerLeg for ChatLeg {
    /// Tells that the agent is not there, and closes with 1011.
    fn fail(&mut self, detail: &str) {
        self.send(&protocol::metadata(&protocol::crashed(detail)));
        self.link.close(EndReason::ConnectionLost, detail.to_owned(), CloseCode::Error);
    }

    fn resume(&mut self, mut kept: VecDeque<LegEvent>, _: u64) {
        kept.append(&mut self.events);
        self.events = kept;
    }
}

impl Leg for ChatLeg {
    fn rate(&self) -> Rate {
        NO_RATE
    }

    fn abilities(&self) -> Abilities {
        ABILITIES
    }

    fn via(&self) -> String {
        self.via.clone()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        loop {
            match self.link.poll_next(&mut self.events, cx) {
                Poll::Ready(Next::Event(event)) => return Poll::Ready(self.told(event)),
                Poll::Ready(Next::Read(read)) => self.take(read),
                // What came in time is read before the clock is looked at, however late we are.
                Poll::Pending if self.poll_due(cx) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn command(&mut self, command: LegCommand<'_>) {
        if !self.link.is_open() || self.leaving.is_some() {
            return;
        }
        match command {
            LegCommand::Ending(end) => self.crash = protocol::crash_of(end).filter(|_| self.far == Side::Caller),
            LegCommand::Hangup(reason) => match self.crash.take() {
                Some(detail) => self.fail(&detail),
                None => self.say_goodbye(reason),
            },
            _ => {
                if matches!(command, LegCommand::Text(_)) {
                    self.session.near_spoke(Instant::now());
                }
                match protocol::frame_of(command) {
                    Some(frame) => self.send(&frame),
                    None => tracing::debug!("a chat carries text, function calls and metadata only"),
                }
            }
        }
    }
}
