//! The scripted caller as a call's leg: the player and a 20 ms clock.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use super::errands::Errands;
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
    needs: Abilities,
    errands: Option<Errands>,
    /// The call is over; the leg is too.
    hung_up: Option<EndReason>,
}

impl ScriptedCaller {
    /// A caller; `name` is the scenario's.
    #[must_use]
    pub fn new(player: Player, rate: Rate, name: &str) -> Self {
        let (clock, events, needs) = (FrameClock::new(), VecDeque::new(), Abilities::NONE);
        Self { player, rate, name: name.to_owned(), clock, events, needs, errands: None, hung_up: None }
    }

    /// The caller needs the other side to be able to do this.
    pub(super) fn needing(self, needs: Abilities) -> Self {
        Self { needs, ..self }
    }

    /// The caller has errands on the way.
    pub(super) fn with_errands(self, errands: Errands) -> Self {
        Self { errands: Some(errands), ..self }
    }

    fn frame(&mut self, late: bool) {
        let audio = match self.player.frame() {
            // What is heard and late catches up. What is late and silent does not, nor does a background: an agent's detector
            // counts the pause.
            Some(audio) if !late || self.player.was_heard() => LegEvent::Audio(audio),
            _ if late => LegEvent::Paused(self.rate.frame_len() as u64),
            _ => LegEvent::Audio(vec![0; self.rate.frame_len()]),
        };
        self.events.push_back(audio);
        self.events.extend(std::iter::from_fn(|| self.player.take_event()));
    }

    /// Passes on what the player asks for, and what came of it.
    fn run_errands(&mut self, cx: &mut Context<'_>) {
        let Some(errands) = &mut self.errands else { return };
        let player = &mut self.player;
        if let Some(answer) = errands.settle(std::iter::from_fn(|| player.take_request()), &mut self.events, cx) {
            player.answer(answer);
        }
    }
}

impl Leg for ScriptedCaller {
    fn rate(&self) -> Rate {
        self.rate
    }

    fn abilities(&self) -> Abilities {
        Abilities { continuous_source: true, speech_marks: true, scripted: true, dtmf: true, ..Abilities::NONE }
    }

    fn needs(&self) -> Abilities {
        self.needs
    }

    fn via(&self) -> String {
        format!("scripted caller: {}", self.name)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        if let Some(reason) = self.hung_up {
            return Poll::Ready(LegEvent::Hangup { reason, detail: String::new() });
        }
        self.run_errands(cx);
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
            LegCommand::Transcript(words) | LegCommand::Text(words) => self.player.agent_words(words),
            LegCommand::Dtmf(digit) => self.player.agent_pressed(digit),
            LegCommand::Hangup(reason) => self.hung_up = Some(reason),
            // A script has no use for them.
            _ => {}
        }
    }
}
