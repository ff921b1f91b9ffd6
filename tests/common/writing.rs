//! An agent in writing, and the caller's chat with it.

#![allow(dead_code)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use trunkline::audio::Rate;
use trunkline::call::{Abilities, Call, CallEnd, EndReason, Event, Leg, LegCommand, LegEvent, Limits, LoggedEvent, Side};
use trunkline::caller::suite::Script;
use trunkline::caller::{TEXT_PATIENCE, TextScript};

/// What the agent does about a message; the second is the number of messages before it.
pub type Reply = fn(&str, usize) -> Vec<LegEvent>;

/// An agent in writing.
pub struct Agent {
    reply: Reply,
    pub takes: Abilities,
    got: usize,
    pub events: VecDeque<LegEvent>,
    hung_up: Option<EndReason>,
}

impl Agent {
    pub fn new(reply: Reply) -> Self {
        let takes = Abilities { text_only: true, text: true, functions: true, transcripts: true, ..Abilities::NONE };
        Self { reply, takes, got: 0, events: VecDeque::new(), hung_up: None }
    }
}

impl Leg for Agent {
    fn rate(&self) -> Rate {
        Rate::HZ_8000
    }

    fn abilities(&self) -> Abilities {
        self.takes
    }

    fn via(&self) -> String {
        "the test's agent".to_owned()
    }

    fn poll_event(&mut self, _: &mut Context<'_>) -> Poll<LegEvent> {
        match (self.events.pop_front(), self.hung_up) {
            (Some(event), _) => Poll::Ready(event),
            (None, Some(reason)) => Poll::Ready(LegEvent::Hangup { reason, detail: String::new() }),
            (None, None) => Poll::Pending,
        }
    }

    fn command(&mut self, command: LegCommand<'_>) {
        match command {
            LegCommand::Text(text) => {
                self.events.extend((self.reply)(text, self.got));
                self.got += 1;
            }
            LegCommand::Hangup(reason) => self.hung_up = Some(reason),
            _ => {}
        }
    }
}

pub fn says(text: &str) -> LegEvent {
    LegEvent::Text(text.to_owned())
}

/// The call: who wrote what when (in ms), all events, and the end.
pub struct Chat {
    pub lines: Vec<(u64, Side, String)>,
    pub events: Vec<LoggedEvent>,
    pub end: CallEnd,
}

impl Chat {
    /// What the caller wrote.
    pub fn caller(&self) -> Vec<&str> {
        self.lines.iter().filter(|(_, side, _)| *side == Side::Caller).map(|(.., text)| text.as_str()).collect()
    }
}

pub async fn chat(script: &Script, agent: Agent) -> Chat {
    let caller = TextScript::new(script, "Chat", "chat").unwrap().caller(TEXT_PATIENCE);
    let log = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&log);
    let observer = move |event: &LoggedEvent| kept.lock().unwrap().push(event.clone());
    let call = Call::new(Box::new(caller), Box::new(agent), Limits::default()).unwrap();
    let (outcome, ()) = call.observe(Box::new(observer)).run().await;
    let events = std::mem::take(&mut *log.lock().unwrap());
    let line = |logged: &LoggedEvent| match &logged.event {
        Event::Text { text } => Some((logged.at_ms.round() as u64, logged.side.unwrap(), text.clone())),
        _ => None,
    };
    Chat { lines: events.iter().filter_map(line).collect(), events, end: outcome.end }
}
