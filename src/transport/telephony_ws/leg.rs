//! A provider's WebSocket as a call's leg, from either side.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::dialect::{BadMessage, Dialect, Incoming, Outgoing, Received, Role, Start};
use crate::audio::Rate;
use crate::call::{Abilities, Alarm, EndReason, Leg, LegCommand, LegEvent};
use crate::transport::CallerLeg;
use crate::transport::faults::Faults;
use crate::transport::web_socket::{IdleWatch, Link, Next, Read, Socket};

/// What a bot is given: the caller's line, without a gap.
pub(super) const OF_BOT: Abilities = Abilities { continuous_sink: true, dtmf: true, ..Abilities::NONE };
/// What a provider is given, and gives; some press keys, too.
const OF_PROVIDER: Abilities = Abilities { continuous_source: true, ..Abilities::NONE };
/// Messages of audio that may wait for a far side that does not read: 5 s of 20 ms.
const MOST_QUEUED: usize = 250;
/// How much may wait beside audio for a far side that does not read, in bytes: it may ask for answers without an end.
const MOST_WAITING: usize = 1 << 20;
/// Marks that may wait to be heard.
const MOST_MARKS: usize = 1024;
/// How long audio for a provider that wants much of it at once waits for more, where the agent does not tell that it has ended. The last of
/// it may be in a resampler until the agent has been silent for 100 ms, and is to go out in one piece with what is before it.
const REST_TIME: Duration = Duration::from_millis(120);
/// How long a provider's stream, or a bot's answer to it, may take to begin.
pub(super) const START_TIME: Duration = Duration::from_secs(5);

/// One side of a call in a provider's dialect.
pub struct TelephonyLeg {
    link: Link,
    dialect: Box<dyn Dialect>,
    role: Role,
    via: String,
    /// What the far side said of the call.
    start: Option<Start>,
    events: VecDeque<LegEvent>,
    told: Vec<Incoming>,
    messages: Vec<Message>,
    /// Audio for the far side that is less than it takes at once.
    rest: Vec<i16>,
    /// As the bot: the rest goes out then, with silence after it.
    rest_due: Option<Instant>,
    rest_alarm: Alarm,
    faults: Faults,
    /// As the provider: the bot's marks that were not heard yet, by checkpoint.
    marks: VecDeque<(u64, String)>,
    checkpoints: u64,
    /// As the bot: the utterances whose marks were not answered yet.
    utterances: VecDeque<String>,
    idle: IdleWatch,
}

/// What happens before the call.
pub(super) enum Beginning {
    /// The stream has begun.
    Begun,
    /// The far side is gone.
    Gone(EndReason, String),
}

impl TelephonyLeg {
    /// A leg of `role` in `dialect`; a far side that sends nothing for `idle` is closed.
    pub(super) fn new(
        socket: Socket,
        dialect: Box<dyn Dialect>,
        role: Role,
        via: String,
        idle: Option<Duration>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            link: Link::new(socket, permit),
            dialect,
            role,
            via,
            start: None,
            events: VecDeque::new(),
            told: Vec::new(),
            messages: Vec::new(),
            rest: Vec::new(),
            rest_due: None,
            rest_alarm: Alarm::new(),
            faults: Faults::default(),
            marks: VecDeque::new(),
            checkpoints: 0,
            utterances: VecDeque::new(),
            idle: IdleWatch::new(idle),
        }
    }

    /// The next step on the way to a stream that has begun. What it tells is kept.
    pub(super) fn poll_beginning(&mut self, cx: &mut Context<'_>) -> Poll<Beginning> {
        loop {
            let sent = self.link.send_on(&mut self.events, cx);
            if self.start.is_some() {
                return Poll::Ready(Beginning::Begun);
            }
            if let Some(LegEvent::Hangup { reason, detail }) = self.link.poll_gone(sent, cx) {
                return Poll::Ready(Beginning::Gone(reason, detail));
            }
            match self.link.poll_read(cx) {
                Poll::Ready(read) => self.take(read),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// What the far side said of the call when its stream began.
    pub(super) fn start(&self) -> Option<&Start> {
        self.start.as_ref()
    }

    /// Closes a far side that does not begin.
    pub(super) fn give_up(&mut self) {
        let detail = format!("the stream did not begin within {} s", START_TIME.as_secs());
        self.refuse(EndReason::ProtocolError, detail);
    }

    /// Says something beside audio.
    pub(super) fn say(&mut self, said: Outgoing<'_>) {
        self.dialect.write(said, &mut self.messages);
        for message in std::mem::take(&mut self.messages) {
            self.send(message);
        }
    }

    /// Sends a message, unless very much waits for a far side that does not read.
    fn send(&mut self, message: Message) {
        match message {
            Message::Text(text) => self.link.push_text(text.as_str().to_owned(), MOST_WAITING),
            other => self.link.push(other),
        }
    }

    /// Sends audio, as far as the far side reads.
    fn say_audio(&mut self, samples: &[i16]) {
        self.dialect.write(Outgoing::Audio(samples), &mut self.messages);
        for message in self.messages.drain(..) {
            match message {
                Message::Binary(bytes) => self.link.push_binary(|| bytes.into(), MOST_QUEUED),
                Message::Text(text) => {
                    let most = text.len() * MOST_QUEUED;
                    self.link.push_text(text.as_str().to_owned(), most);
                }
                other => self.link.push(other),
            }
        }
    }

    fn take(&mut self, read: Read) {
        match read {
            Read::Message(Message::Text(text)) => self.take_message(Received::Text(text.as_str())),
            Read::Message(Message::Binary(bytes)) => self.take_message(Received::Binary(&bytes)),
            // Pings are answered by the WebSocket itself.
            Read::Message(_) => self.idle.heard(),
            Read::Nothing => {}
            Read::NotUtf8 => {
                let detail = "text that is not UTF-8".to_owned();
                self.link.close_deaf(EndReason::ProtocolError, detail, CloseCode::Policy);
            }
            Read::TooLong(detail) => self.link.close_deaf(EndReason::ProtocolError, detail, CloseCode::Policy),
        }
    }

    fn take_message(&mut self, message: Received<'_>) {
        self.idle.heard();
        if !self.link.is_open() {
            return;
        }
        let mut told = std::mem::take(&mut self.told);
        if let Err(problem) = self.dialect.read(message, &mut told) {
            self.fault(&problem);
        }
        told.drain(..).for_each(|told| self.told(told));
        self.told = told;
    }

    fn told(&mut self, told: Incoming) {
        match told {
            Incoming::Start(start) => self.start = Some(start),
            Incoming::Audio(samples) => self.events.push_back(LegEvent::Audio(samples)),
            Incoming::Missing { messages, samples } => {
                self.events.push_back(LegEvent::Lost { frames: messages, concealed: 0 });
                self.events.push_back(LegEvent::Paused(samples));
            }
            Incoming::Dtmf(digit) => self.events.push_back(LegEvent::Dtmf(digit)),
            Incoming::Clear => self.events.push_back(LegEvent::Clear),
            Incoming::Mark(name) => self.mark(name),
            Incoming::Played(name) => self.played(name),
            Incoming::Data(data) => self.events.push_back(LegEvent::Data(data)),
            Incoming::Answer(message) => self.send(message),
            Incoming::Stop(detail) => self.link.close(EndReason::HungUp, detail, CloseCode::Normal),
        }
    }

    fn mark(&mut self, name: String) {
        if self.marks.len() == MOST_MARKS {
            return self.told_of("TOO_MANY_MARKS", format!("the mark {name:?} is not taken: {MOST_MARKS} wait to be heard"));
        }
        self.checkpoints += 1;
        self.marks.push_back((self.checkpoints, name));
        self.events.push_back(LegEvent::Checkpoint(self.checkpoints));
    }

    /// Marks are answered in order; one that was left out will not come any more.
    fn played(&mut self, name: String) {
        match self.utterances.iter().position(|utterance| *utterance == name) {
            Some(at) => {
                self.utterances.drain(..=at);
                self.events.push_back(LegEvent::Heard(name));
            }
            None => self.told_of("UNKNOWN_MARK", format!("the mark {name:?} was not set")),
        }
    }

    fn fault(&mut self, problem: &BadMessage) {
        if problem.is_fatal() {
            let detail = problem.to_string();
            self.events.push_back(LegEvent::Fault { code: problem.code().to_owned(), detail: detail.clone() });
            return self.refuse(EndReason::ProtocolError, detail);
        }
        self.told_of(problem.code(), problem.to_string());
    }

    fn told_of(&mut self, code: &str, detail: String) {
        self.events.push_back(LegEvent::Fault { code: code.to_owned(), detail });
        if let Some(detail) = self.faults.add() {
            self.refuse(EndReason::ProtocolError, detail);
        }
    }

    fn refuse(&mut self, reason: EndReason, detail: String) {
        if self.link.is_open() {
            self.say(Outgoing::Refuse(&detail));
            self.link.close(reason, detail, CloseCode::Policy);
        }
    }

    /// Closes a far side that has been silent for too long.
    fn mind_idle(&mut self, cx: &mut Context<'_>) {
        if self.link.is_open()
            && let Poll::Ready(detail) = self.idle.poll(cx)
        {
            self.refuse(EndReason::IdleTimeout, detail);
        }
    }

    /// Audio, `length` samples in each message.
    fn carry(&mut self, samples: &[i16], length: usize) {
        if self.rest.is_empty() && samples.len() == length {
            return self.say_audio(samples);
        }
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(samples);
        let frames = all.chunks_exact(length);
        self.rest = frames.remainder().to_vec();
        frames.for_each(|frame| self.say_audio(frame));
    }

    /// An agent's audio, as it comes, or in pieces that the provider plays without a gap.
    fn speak(&mut self, samples: &[i16]) {
        match self.dialect.least() {
            0 => self.say_audio(samples),
            least => {
                self.carry(samples, least);
                self.rest_due = (!self.rest.is_empty()).then(|| Instant::now() + REST_TIME);
            }
        }
    }

    fn mind_rest(&mut self, cx: &mut Context<'_>) {
        while self.rest_alarm.poll_at(self.rest_due, cx).is_ready() {
            self.say_rest();
        }
    }

    /// Nothing follows the rest for now: it goes out, with silence after it.
    fn say_rest(&mut self) {
        self.rest_due = None;
        if !self.rest.is_empty() {
            let mut rest = std::mem::take(&mut self.rest);
            rest.resize(self.dialect.least().max(rest.len()), 0);
            self.say_audio(&rest);
        }
    }

    /// What was said up to the checkpoint was heard: its mark is answered.
    fn reached(&mut self, number: u64) {
        while let Some((_, name)) = self.marks.pop_front_if(|(waiting, _)| *waiting <= number) {
            self.say(Outgoing::Played(&name));
        }
    }

    /// The other side's utterance is said: its mark is set.
    fn spoken(&mut self, utterance: &str) {
        self.say_rest();
        self.dialect.write(Outgoing::Mark(utterance), &mut self.messages);
        for message in std::mem::take(&mut self.messages) {
            self.send(message);
            self.utterances.push_back(utterance.to_owned());
        }
        if self.utterances.len() > MOST_MARKS {
            self.utterances.pop_front();
        }
    }
}

impl CallerLeg for TelephonyLeg {
    /// Closes with 1011.
    fn fail(&mut self, detail: &str) {
        self.say(Outgoing::Refuse(detail));
        self.link.close(EndReason::ConnectionLost, detail.to_owned(), CloseCode::Error);
    }

    fn resume(&mut self, mut kept: VecDeque<LegEvent>, _skipped: u64) {
        kept.append(&mut self.events);
        self.events = kept;
    }
}

impl Leg for TelephonyLeg {
    fn rate(&self) -> Rate {
        self.dialect.format().rate
    }

    fn abilities(&self) -> Abilities {
        match self.role {
            Role::Bot => Abilities { dtmf: self.dialect.presses_keys(), ..OF_PROVIDER },
            Role::Provider => OF_BOT,
        }
    }

    fn via(&self) -> String {
        self.via.clone()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        loop {
            self.mind_idle(cx);
            self.mind_rest(cx);
            match ready!(self.link.poll_next(&mut self.events, cx)) {
                Next::Event(event) => return Poll::Ready(event),
                Next::Read(read) => self.take(read),
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> bool {
        self.mind_rest(cx);
        self.link.poll_sent(&mut self.events, cx)
    }

    fn command(&mut self, command: LegCommand<'_>) {
        if !self.link.is_open() {
            return;
        }
        match (command, self.role) {
            (LegCommand::Audio(samples), Role::Provider) => self.carry(samples, self.rate().frame_len()),
            (LegCommand::Audio(samples), Role::Bot) => self.speak(samples),
            (LegCommand::Dtmf(digit), role) if role == Role::Provider || self.dialect.presses_keys() => {
                self.say(Outgoing::Dtmf(digit));
            }
            (LegCommand::Reached(number), Role::Provider) => self.reached(number),
            (LegCommand::Clear, Role::Bot) => {
                self.rest.clear();
                self.rest_due = None;
                self.say(Outgoing::Clear);
            }
            (LegCommand::SpeechStopped(mark), Role::Bot) => self.spoken(&mark.utterance),
            (LegCommand::Hangup(reason), _) => {
                if self.role == Role::Bot {
                    self.say_rest();
                }
                self.say(Outgoing::Stop);
                self.link.hang_up(reason);
            }
            // What a provider does not carry.
            _ => {}
        }
    }
}
