//! The writing caller as a call's leg: the player and an alarm.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::player::TextPlayer;
use crate::audio::Rate;
use crate::call::{Abilities, Alarm, EndReason, Leg, LegCommand, LegEvent};
use crate::caller::errands::Errands;

/// A caller that writes its script's lines, one message a line; a pause within a line divides it.
#[derive(Debug)]
pub struct TextCaller {
    player: TextPlayer,
    errands: Option<Errands>,
    needs: Abilities,
    name: String,
    started: Option<Instant>,
    alarm: Alarm,
    events: VecDeque<LegEvent>,
    hung_up: Option<EndReason>,
}

impl TextCaller {
    pub(super) fn new(player: TextPlayer, errands: Option<Errands>, needs: Abilities, name: &str) -> Self {
        let (alarm, events) = (Alarm::new(), VecDeque::new());
        Self { player, errands, needs, name: name.to_owned(), started: None, alarm, events, hung_up: None }
    }

    fn run_errands(&mut self, cx: &mut Context<'_>) {
        let Some(errands) = &mut self.errands else { return };
        let player = &mut self.player;
        if let Some(answer) = errands.settle(std::iter::from_fn(|| player.take_request()), &mut self.events, cx) {
            player.answer(answer);
        }
    }
}

impl Leg for TextCaller {
    /// Of no meaning: the leg has no audio.
    fn rate(&self) -> Rate {
        Rate::HZ_16000
    }

    fn abilities(&self) -> Abilities {
        let takes = Abilities { text_only: true, text: true, functions: true, data: true, ..Abilities::NONE };
        Abilities { scripted: true, transcripts: true, ..takes }
    }

    fn needs(&self) -> Abilities {
        self.needs
    }

    fn via(&self) -> String {
        format!("scripted text caller: {}", self.name)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        if let Some(reason) = self.hung_up {
            return Poll::Ready(LegEvent::Hangup { reason, detail: String::new() });
        }
        let started = *self.started.get_or_insert_with(Instant::now);
        loop {
            self.player.advance(started.elapsed());
            // What the script has just asked for is asked before the leg waits.
            self.run_errands(cx);
            if let Some(event) = self.events.pop_front().or_else(|| self.player.take_event()) {
                return Poll::Ready(event);
            }
            let Some(wake) = self.player.next_wake() else { return Poll::Pending };
            if wake > started.elapsed() && self.alarm.poll_at(Some(started + wake), cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn command(&mut self, command: LegCommand<'_>) {
        match command {
            LegCommand::Text(text) => self.player.reply(text),
            LegCommand::Hangup(reason) => self.hung_up = Some(reason),
            // Function calls and what the agent says of itself are no turns.
            _ => {}
        }
    }
}
