//! A chat agent that is a child process: one frame a line on its stdin and stdout, one process a conversation.
//!
//! Its environment, its log and its end are those of an audio process ([`crate::transport::process`]), but that there is no
//! rate. It ends a conversation with an `end_call` frame or by exiting with 0; another exit is a crash.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use super::protocol::{self, Frame, NOT_JSON, fault};
use super::{ABILITIES, MAX_MESSAGE, NO_RATE};
use crate::audio::Rate;
use crate::call::{Abilities, CallIds, EndReason, Leg, LegCommand, LegEvent};
use crate::transport::process::{Child, Output, ProcessError, spelled};

/// What may wait for a child that does not read its stdin, in bytes.
const MOST_QUEUED: usize = 4 * MAX_MESSAGE;

/// A running child that chats.
pub struct ChatProcess {
    via: String,
    child: Child,
    line: Vec<u8>,
    /// The line is longer than is taken: the rest of it is thrown away.
    overlong: bool,
    events: VecDeque<LegEvent>,
    not_read: u64,
    /// It has said `end_call`.
    done: bool,
}

impl ChatProcess {
    /// Starts `words[0]` with the rest as its arguments.
    ///
    /// # Errors
    /// [`ProcessError`] when it cannot be started.
    pub fn spawn(words: &[String], ids: &CallIds, metadata: Option<&str>) -> Result<Self, ProcessError> {
        Ok(Self {
            via: spelled("chat-process", words),
            child: Child::spawn(words, ids, metadata, &[])?,
            line: Vec::new(),
            overlong: false,
            events: VecDeque::new(),
            not_read: 0,
            done: false,
        })
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut pieces = bytes.split(|byte| *byte == b'\n');
        let last = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            self.gather(piece);
            self.end_line();
        }
        self.gather(last);
    }

    fn gather(&mut self, piece: &[u8]) {
        if self.line.len() + piece.len() > MAX_MESSAGE {
            self.overlong = true;
            self.line = Vec::new();
        }
        if !self.overlong {
            self.line.extend_from_slice(piece);
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let frame = if std::mem::take(&mut self.overlong) {
            fault(NOT_JSON, format!("a line of more than {MAX_MESSAGE} bytes was thrown away")).into()
        } else {
            match std::str::from_utf8(&line) {
                Ok(text) if text.trim().is_empty() => return,
                Ok(text) => protocol::read(text),
                Err(error) => fault(NOT_JSON, format!("a line is not UTF-8: {error}")).into(),
            }
        };
        self.take_frame(frame);
    }

    fn take_frame(&mut self, frame: Frame) {
        if self.done {
            return;
        }
        self.events.extend(frame.events);
        if frame.ends {
            self.done = true;
            self.child.ask(EndReason::HungUp);
        }
    }

    fn send(&mut self, frame: &serde_json::Value) {
        let line = format!("{frame}\n");
        if self.child.waiting() + line.len() <= MOST_QUEUED {
            self.child.send(line.into_bytes());
        } else {
            self.not_read += 1;
        }
    }
}

impl Leg for ChatProcess {
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
            self.child.poll_stdin(cx);
            if self.not_read > 0 && self.child.waiting() == 0 {
                self.events.push_back(LegEvent::NotRead(std::mem::take(&mut self.not_read)));
            }
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            match self.child.poll_output(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Output::Log(line)) => return Poll::Ready(LegEvent::Log(line)),
                Poll::Ready(Output::Bytes(bytes)) => self.take(&bytes),
                Poll::Ready(Output::Gone(hangup)) if self.line.is_empty() && !self.overlong => return Poll::Ready(hangup),
                Poll::Ready(Output::Gone(hangup)) => {
                    // Its last line had no end.
                    self.end_line();
                    self.events.push_back(hangup);
                }
            }
        }
    }

    fn command(&mut self, command: LegCommand<'_>) {
        if let LegCommand::Hangup(reason) = command {
            if self.child.listens() {
                self.send(&protocol::end_call());
            }
            self.child.ask(reason);
            return;
        }
        if !self.child.listens() {
            return;
        }
        if let Some(frame) = protocol::frame_of(command) {
            self.send(&frame);
        }
    }
}
