//! An agent that says back what it hears.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use crate::audio::Rate;
use crate::call::{Abilities, EndReason, Leg, LegCommand, LegEvent};

/// Says every frame back as soon as it has heard it.
#[derive(Debug)]
pub struct EchoAgent {
    rate: Rate,
    events: VecDeque<LegEvent>,
    waker: Option<Waker>,
}

impl EchoAgent {
    /// An echo at `rate`.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, events: VecDeque::new(), waker: None }
    }
}

impl Leg for EchoAgent {
    fn rate(&self) -> Rate {
        self.rate
    }

    fn abilities(&self) -> Abilities {
        Abilities { speech_marks: true, ..Abilities::default() }
    }

    fn via(&self) -> String {
        "echo".to_owned()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        match self.events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn command(&mut self, command: LegCommand<'_>) {
        match command {
            LegCommand::Audio(samples) => self.events.push_back(LegEvent::Audio(samples.to_vec())),
            LegCommand::Hangup(reason) => self.hang_up(reason),
            _ => {}
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl EchoAgent {
    fn hang_up(&mut self, reason: EndReason) {
        self.events.clear();
        self.events.push_back(LegEvent::Hangup { reason, detail: String::new() });
    }
}
