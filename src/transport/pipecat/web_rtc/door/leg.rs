//! A client that came through the door, as a call's leg: we are the bot's side.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::super::channel::{self, ChannelMessage, Signal};
use super::super::line::{Happening, Line};
use super::super::talk::Talk;
use crate::audio::Rate;
use crate::audio::opus::OpusError;
use crate::call::{Abilities, Alarm, EndReason, Leg, LegCommand, LegEvent};
use crate::transport::CallerLeg;
use crate::transport::pipecat::bot::{self, Bot};
use crate::transport::webrtc::{IceOptions, PeerError, PeerState, Voice};

/// How long a connection may take to stand, and one that is lost to come back.
const CONNECT_TIME: Duration = Duration::from_secs(30);

/// What a client understands beside audio.
const ABILITIES: Abilities = Abilities {
    continuous_source: true,
    continuous_sink: true,
    speech_marks: true,
    text: true,
    functions: true,
    data: true,
    ..Abilities::NONE
};

/// What a client asks of its call by HTTP.
pub(super) enum Asked {
    /// To answer another offer.
    Offer {
        sdp: String,
        /// It takes the place of a connection that is lost.
        restart: bool,
        reply: oneshot::Sender<Result<String, PeerError>>,
    },
    /// To take candidates that came later.
    Candidates(Vec<String>),
}

/// A client in a call.
pub(super) struct ClientLeg {
    talk: Talk,
    bot: Bot,
    asked: mpsc::Receiver<Asked>,
    towards: SocketAddr,
    ice: IceOptions,
    via: String,
    /// By when the connection must stand; none while it does.
    deadline: Option<Instant>,
    alarm: Alarm,
    _permit: OwnedSemaphorePermit,
}

impl ClientLeg {
    pub(super) fn new(
        line: Line,
        asked: mpsc::Receiver<Asked>,
        (towards, ice): (SocketAddr, IceOptions),
        via: String,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, OpusError> {
        let deadline = Some(Instant::now() + CONNECT_TIME);
        Ok(Self {
            talk: Talk::new(line)?,
            bot: Bot::default(),
            asked,
            towards,
            ice,
            via,
            deadline,
            alarm: Alarm::new(),
            _permit: permit,
        })
    }

    /// Waits until the connection stands.
    ///
    /// # Errors
    /// Why it never does, in words.
    pub(super) async fn connected(&mut self) -> Result<(), String> {
        std::future::poll_fn(|cx| {
            loop {
                if let Some((_, detail)) = self.talk.ended() {
                    return Poll::Ready(Err(detail.clone()));
                }
                if self.talk.line.peer().state() == PeerState::Connected {
                    return Poll::Ready(Ok(()));
                }
                std::task::ready!(self.poll_line(cx));
            }
        })
        .await
    }

    /// Waits for whatever happens next on the connection or is asked by HTTP, and takes it.
    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(happening) = self.talk.line.poll(cx) {
            self.take(happening);
            return Poll::Ready(());
        }
        // The door may be closed: then nobody asks any more.
        if let Poll::Ready(Some(asked)) = self.asked.poll_recv(cx) {
            self.take_asked(asked);
            return Poll::Ready(());
        }
        if self.alarm.poll_at(self.deadline.map(Into::into), cx).is_ready() && self.deadline.take().is_some() {
            let why = self.talk.line.peer().no_way().map_or_else(|| "nothing comes any more".to_owned(), |error| error.to_string());
            self.talk.close(EndReason::ConnectionLost, format!("no connection for {} s: {why}", CONNECT_TIME.as_secs()));
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Audio(arrived, packet) => self.talk.voice.receive(arrived, packet),
            Happening::Message(Ok(ChannelMessage::Application(text))) => self.take_message(&text),
            Happening::Message(Ok(ChannelMessage::Signalling(Signal::TrackStatus { receiver_index: 0, enabled }))) => {
                let told = if enabled { "unmuted" } else { "muted" };
                self.talk.events.push_back(LegEvent::Note(serde_json::json!({"pipecat": told})));
            }
            // About a camera or a screen; what a bot says, a client does not.
            Happening::Message(Ok(ChannelMessage::Ping | ChannelMessage::Signalling(_))) => {}
            Happening::Message(Err(problem)) => self.talk.fault(problem.to_string()),
            Happening::State(PeerState::Connected) => self.deadline = None,
            Happening::State(PeerState::Disconnected) => self.deadline = Some(Instant::now() + CONNECT_TIME),
            Happening::State(PeerState::Closed) => self.talk.close(EndReason::HungUp, String::new()),
            // A client is told all candidates with the answer: there is no way to tell it of others, and it finds them out.
            Happening::Open | Happening::Candidate(_) | Happening::State(PeerState::New | PeerState::Connecting) => {}
        }
    }

    fn take_message(&mut self, text: &str) {
        match self.bot.take(text) {
            Ok(taken) => {
                self.talk.events.extend(taken.events);
                taken.answers.into_iter().for_each(|answer| self.talk.say(answer));
                if taken.leaves {
                    self.leave(EndReason::HungUp, String::new());
                }
            }
            Err(problem) => {
                let detail = problem.to_string();
                self.talk.say(bot::complaint(None, &detail));
                self.talk.fault(detail);
            }
        }
    }

    /// Says that we hang up, and does.
    fn leave(&mut self, reason: EndReason, detail: String) {
        self.talk.say(channel::peer_left());
        self.talk.hang_up(reason, detail);
    }

    fn take_asked(&mut self, asked: Asked) {
        match asked {
            Asked::Candidates(candidates) => candidates.iter().for_each(|candidate| self.talk.line.add_candidate(candidate)),
            Asked::Offer { sdp, restart, reply } => {
                let answer = if restart { self.restart(&sdp) } else { self.talk.line.answer_again(&sdp) };
                // Who asked may have gone.
                drop(reply.send(answer));
            }
        }
    }

    /// Another connection in the place of the one that is.
    fn restart(&mut self, sdp: &str) -> Result<String, PeerError> {
        let (line, answer) = Line::answer(sdp, &[self.towards], &self.ice)?;
        self.talk.line = line;
        self.deadline = Some(Instant::now() + CONNECT_TIME);
        self.talk.events.push_back(LegEvent::Note(serde_json::json!({"pipecat": "reconnecting"})));
        Ok(answer)
    }
}

impl Leg for ClientLeg {
    fn rate(&self) -> Rate {
        Voice::RATE
    }

    fn abilities(&self) -> Abilities {
        ABILITIES
    }

    fn via(&self) -> String {
        self.via.clone()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        loop {
            if let Some(event) = self.talk.next(cx) {
                return Poll::Ready(event);
            }
            if self.poll_line(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn command(&mut self, command: LegCommand<'_>) {
        match command {
            LegCommand::Audio(samples) => self.talk.play(samples),
            LegCommand::Hangup(reason) => self.leave(reason, String::new()),
            told => self.bot.tell(&told).into_iter().for_each(|message| self.talk.say(message)),
        }
    }
}

impl CallerLeg for ClientLeg {
    fn fail(&mut self, detail: &str) {
        self.talk.say(bot::failure(detail));
        self.leave(EndReason::ConnectionLost, detail.to_owned());
    }

    /// What a client tells has no place in its audio: none of it has to be moved.
    fn resume(&mut self, mut kept: VecDeque<LegEvent>, _skipped: u64) {
        kept.append(&mut self.talk.events);
        self.talk.events = kept;
        let ready = self.bot.begin();
        ready.into_iter().for_each(|ready| self.talk.say(ready));
    }
}
