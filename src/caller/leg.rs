//! The scripted caller as a call's leg: the player and a 20 ms clock.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use super::player::Player;
use crate::audio::Rate;
use crate::call::{Abilities, EndReason, FrameClock, Leg, LegCommand, LegEvent};

/// A frame later than this is a slip of our own pacing, and is reported.
const SLIP: Duration = Duration::from_millis(100);

/// A caller that plays a script.
#[derive(Debug)]
pub struct ScriptedCaller {
    player: Player,
    rate: Rate,
    name: String,
    clock: FrameClock,
    events: VecDeque<LegEvent>,
    /// The call is over; the leg is too.
    hung_up: Option<EndReason>,
}

impl ScriptedCaller {
    /// A caller; `name` is the scenario's.
    #[must_use]
    pub fn new(player: Player, rate: Rate, name: &str) -> Self {
        let clock = FrameClock::new();
        Self { player, rate, name: name.to_owned(), clock, events: VecDeque::new(), hung_up: None }
    }

    fn frame(&mut self, late: bool) {
        let audio = match self.player.frame() {
            Some(speech) => LegEvent::Audio(speech),
            // Speech that is late catches up. Silence that is late does not: an agent's detector counts it.
            None if late => LegEvent::Paused(self.rate.frame_len() as u64),
            None => LegEvent::Audio(vec![0; self.rate.frame_len()]),
        };
        self.events.push_back(audio);
        self.events.extend(std::iter::from_fn(|| self.player.take_event()));
    }
}

impl Leg for ScriptedCaller {
    fn rate(&self) -> Rate {
        self.rate
    }

    fn abilities(&self) -> Abilities {
        Abilities { continuous_source: true, speech_marks: true, scripted: true, ..Abilities::default() }
    }

    fn via(&self) -> String {
        format!("scripted caller: {}", self.name)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        if let Some(reason) = self.hung_up {
            return Poll::Ready(LegEvent::Hangup { reason, detail: String::new() });
        }
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            let Poll::Ready(due) = self.clock.poll_due(cx) else { return Poll::Pending };
            if due.late > SLIP {
                self.events.push_back(LegEvent::Slipped(due.late.as_secs_f64() * 1000.0));
            }
            for frame in 1..=due.frames {
                self.frame(frame < due.frames);
            }
        }
    }

    fn command(&mut self, command: LegCommand<'_>) {
        match command {
            LegCommand::Audio(samples) => self.player.hear(samples),
            LegCommand::SpeechStarted(_) => self.player.agent_started(),
            LegCommand::SpeechStopped(_) => self.player.agent_stopped(),
            LegCommand::Hangup(reason) => self.hung_up = Some(reason),
            // A script has no use for them.
            _ => {}
        }
    }
}
