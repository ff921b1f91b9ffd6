//! A Pipecat client that called us, as a call's leg: we are the bot.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::frames::Frame;
use super::wire::{Next, Wire, transcription};
use crate::audio::Rate;
use crate::call::{Abilities, EndReason, Leg, LegCommand, LegEvent};
use crate::transport::CallerLeg;
use crate::transport::pipecat::bot::{self, Bot};
use crate::transport::web_socket::{IdleWatch, Taken, parting};

/// What a client understands beside audio. Its microphone may be a bot's voice, which pauses.
const ABILITIES: Abilities = Abilities { speech_marks: true, text: true, functions: true, data: true, ..Abilities::NONE };

/// A client in a call.
pub struct PipecatCallerLeg {
    wire: Wire,
    via: String,
    bot: Bot,
    idle: IdleWatch,
}

impl PipecatCallerLeg {
    /// A leg that speaks at `rate`; a client that sends nothing for `idle` is closed.
    pub(super) fn new(taken: Taken, rate: Rate, idle: Option<Duration>) -> Self {
        let wire = Wire::new(taken.socket, Some(taken.permit), rate);
        Self { wire, via: taken.via, bot: Bot::default(), idle: IdleWatch::new(idle) }
    }

    fn take(&mut self, frame: Frame) {
        self.idle.heard();
        match frame {
            Frame::Audio(audio) => self.wire.hearing.take(audio, &mut self.wire.events),
            Frame::Message(text) => self.take_message(&text),
            Frame::Text(text) => self.wire.events.push_back(LegEvent::Text(text)),
            Frame::Transcription { text, user_id, timestamp } => {
                self.wire.events.push_back(transcription(&text, &user_id, &timestamp));
            }
            Frame::Interruption => {
                self.wire.hearing.forget();
                self.wire.events.push_back(LegEvent::Clear);
            }
        }
    }

    fn take_message(&mut self, text: &str) {
        match self.bot.take(text) {
            Ok(taken) => {
                self.wire.events.extend(taken.events);
                taken.answers.into_iter().for_each(|answer| self.wire.say(answer));
                if taken.leaves {
                    self.wire.close(EndReason::HungUp, String::new(), CloseCode::Normal);
                }
            }
            Err(problem) => {
                self.wire.say(bot::complaint(None, &problem.to_string()));
                self.wire.fault(problem.to_string());
            }
        }
    }

    /// Closes a client that has been silent for too long.
    fn mind_idle(&mut self, cx: &mut Context<'_>) {
        if self.wire.is_open()
            && let Poll::Ready(detail) = self.idle.poll(cx)
        {
            self.wire.close(EndReason::IdleTimeout, detail, CloseCode::Policy);
        }
    }
}

impl CallerLeg for PipecatCallerLeg {
    /// Says `error` and closes with 1011.
    fn fail(&mut self, detail: &str) {
        self.wire.say(bot::failure(detail));
        self.wire.close(EndReason::ConnectionLost, detail.to_owned(), CloseCode::Error);
    }

    fn resume(&mut self, mut kept: VecDeque<LegEvent>, _skipped: u64) {
        kept.append(&mut self.wire.events);
        self.wire.events = kept;
        let ready = self.bot.begin();
        ready.into_iter().for_each(|ready| self.wire.say(ready));
    }
}

impl Leg for PipecatCallerLeg {
    fn rate(&self) -> Rate {
        self.wire.hearing.rate()
    }

    fn abilities(&self) -> Abilities {
        ABILITIES
    }

    fn via(&self) -> String {
        self.via.clone()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        loop {
            self.mind_idle(cx);
            match ready!(self.wire.poll(cx)) {
                Next::Event(event) => return Poll::Ready(event),
                Next::Frame(frame) => self.take(frame),
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> bool {
        self.wire.poll_send(cx)
    }

    fn command(&mut self, command: LegCommand<'_>) {
        if !self.wire.is_open() {
            return;
        }
        match command {
            LegCommand::Audio(samples) => self.wire.speak(samples),
            LegCommand::Hangup(reason) => match parting(reason) {
                (detail, CloseCode::Error) => self.fail(detail),
                _ => self.wire.hang_up(reason),
            },
            told => {
                if told == LegCommand::Clear {
                    self.wire.send(&Frame::Interruption);
                }
                self.bot.tell(&told).into_iter().for_each(|message| self.wire.say(message));
            }
        }
    }
}
