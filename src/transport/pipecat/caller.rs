//! A Pipecat client that called us, as a call's leg: we are the bot.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::bot::{self, Bot};
use super::frames::{Frame, encode_audio};
use super::hearing::Hearing;
use super::leg::{BAD_MESSAGE, MOST_FAULTS, MOST_QUEUED, OTHER_SERIALIZER, transcription};
use crate::audio::Rate;
use crate::call::{Abilities, Alarm, EndReason, Leg, LegCommand, LegEvent};
use crate::transport::CallerLeg;
use crate::transport::web_socket::{Link, Read, Taken};

/// What a client understands beside audio. Its microphone may be a bot's voice, which pauses.
const ABILITIES: Abilities = Abilities { speech_marks: true, text: true, functions: true, data: true, ..Abilities::NONE };

/// A client in a call.
pub struct PipecatCallerLeg {
    link: Link,
    via: String,
    bot: Bot,
    hearing: Hearing,
    events: VecDeque<LegEvent>,
    faults: u32,
    idle: Option<Duration>,
    heard: Instant,
    /// When the idle time is looked at.
    look: Instant,
    alarm: Alarm,
}

impl PipecatCallerLeg {
    /// A leg that speaks at `rate`; a client that sends nothing for `idle` is closed.
    pub(super) fn new(taken: Taken, rate: Rate, idle: Option<Duration>) -> Self {
        let now = Instant::now();
        Self {
            link: Link::new(taken.socket, Some(taken.permit)),
            via: taken.via,
            bot: Bot::default(),
            hearing: Hearing::new(rate),
            events: VecDeque::new(),
            faults: 0,
            idle,
            heard: now,
            look: now + idle.unwrap_or_default(),
            alarm: Alarm::new(),
        }
    }

    fn say(&mut self, message: String) {
        self.link.push(Message::binary(Frame::Message(message).encode()));
    }

    fn refuse(&mut self, detail: String) {
        self.link.close(EndReason::ProtocolError, detail, CloseCode::Policy);
    }

    fn take(&mut self, read: Read) {
        match read {
            Read::Message(Message::Binary(bytes)) => {
                self.heard = Instant::now();
                match Frame::decode(&bytes) {
                    Ok(frame) => frame.into_iter().for_each(|frame| self.take_frame(frame)),
                    Err(problem) => self.refuse(problem.to_string()),
                }
            }
            Read::Message(Message::Text(_)) => self.refuse(OTHER_SERIALIZER.to_owned()),
            // Pings are answered by the WebSocket itself.
            Read::Message(_) | Read::Nothing => {}
            Read::NotUtf8 => self.close_deaf("text that is not UTF-8".to_owned()),
            Read::TooLong(detail) => self.close_deaf(detail),
        }
    }

    fn close_deaf(&mut self, detail: String) {
        self.link.close_deaf(EndReason::ProtocolError, detail, CloseCode::Policy);
    }

    fn take_frame(&mut self, frame: Frame) {
        match frame {
            Frame::Audio(audio) => self.hearing.take(audio, &mut self.events),
            Frame::Message(text) => self.take_message(&text),
            Frame::Text(text) => self.events.push_back(LegEvent::Text(text)),
            Frame::Transcription { text, user_id, timestamp } => self.events.push_back(transcription(&text, &user_id, &timestamp)),
            Frame::Interruption => {
                self.hearing.forget();
                self.events.push_back(LegEvent::Clear);
            }
        }
    }

    fn take_message(&mut self, text: &str) {
        match self.bot.take(text) {
            Ok(taken) => {
                self.events.extend(taken.events);
                taken.answers.into_iter().for_each(|answer| self.say(answer));
                if taken.leaves {
                    self.link.close(EndReason::HungUp, String::new(), CloseCode::Normal);
                }
            }
            Err(problem) => {
                let detail = problem.to_string();
                self.say(bot::complaint(None, &detail));
                self.events.push_back(LegEvent::Fault { code: BAD_MESSAGE.to_owned(), detail });
                self.faults += 1;
                if self.faults == MOST_FAULTS {
                    self.refuse(format!("{MOST_FAULTS} messages broke the protocol"));
                }
            }
        }
    }

    /// Closes a client that has been silent for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) {
        let Some(idle) = self.idle.filter(|_| self.link.is_open()) else { return };
        while self.alarm.poll_at(Some(self.look), cx).is_ready() {
            if self.heard.elapsed() >= idle {
                let detail = format!("nothing came for {} s", idle.as_secs_f64());
                return self.link.close(EndReason::IdleTimeout, detail, CloseCode::Policy);
            }
            self.look = self.heard + idle;
        }
    }
}

impl CallerLeg for PipecatCallerLeg {
    /// Says `error` and closes with 1011.
    fn fail(&mut self, detail: &str) {
        self.say(bot::failure(detail));
        self.link.close(EndReason::ConnectionLost, detail.to_owned(), CloseCode::Error);
    }

    fn resume(&mut self, mut kept: VecDeque<LegEvent>, _skipped: u64) {
        kept.append(&mut self.events);
        self.events = kept;
        let ready = self.bot.begin();
        ready.into_iter().for_each(|ready| self.say(ready));
    }
}

impl Leg for PipecatCallerLeg {
    fn rate(&self) -> Rate {
        self.hearing.rate()
    }

    fn abilities(&self) -> Abilities {
        ABILITIES
    }

    fn via(&self) -> String {
        self.via.clone()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        loop {
            self.poll_idle(cx);
            let sent = self.link.send_on(&mut self.events, cx);
            self.hearing.poll_pause(&mut self.events, cx);
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
            LegCommand::Audio(samples) => self.link.push_binary(|| encode_audio(self.hearing.rate(), samples), MOST_QUEUED),
            LegCommand::Hangup(EndReason::ConnectionLost | EndReason::PacingSlipped) => {
                self.fail("the other side of the call is gone");
            }
            LegCommand::Hangup(reason @ (EndReason::ProtocolError | EndReason::IdleTimeout)) => {
                self.link.close(reason, "the other side of the call was refused".to_owned(), CloseCode::Policy);
            }
            LegCommand::Hangup(reason) => self.link.close(reason, String::new(), CloseCode::Normal),
            told => {
                if told == LegCommand::Clear {
                    self.link.push(Message::binary(Frame::Interruption.encode()));
                }
                self.bot.tell(&told).into_iter().for_each(|message| self.say(message));
            }
        }
    }
}
