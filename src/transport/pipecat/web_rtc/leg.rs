//! A bot behind WebRTC as a call's leg.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::channel::{self, ChannelMessage, PING_EVERY, Signal};
use super::line::{Happening, Line};
use super::talk::Talk;
use crate::audio::Rate;
use crate::audio::opus::OpusError;
use crate::call::{Abilities, Alarm, EndReason, Leg, LegCommand, LegEvent};
use crate::transport::pipecat::rtvi::{self, Rtvi};
use crate::transport::pipecat::server::{Answer, BotServer, BotServerError, Earlier};
use crate::transport::webrtc::{IceOptions, PeerError, PeerState, Voice};

/// What the wire carries beside audio.
pub(in crate::transport::pipecat) const ABILITIES: Abilities = Abilities {
    continuous_source: true,
    continuous_sink: true,
    speech_marks: true,
    dtmf: true,
    text: true,
    data: true,
    transcripts: true,
    ..Abilities::NONE
};
const RECONNECTING: &str = "PIPECAT_RECONNECTING";
/// A bot sends without a pause, silence too: a connection from which nothing came for so long is lost. It is looked at so often.
const SILENT: Duration = Duration::from_secs(4);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a connection from which nothing comes may take to come back by itself, before another is offered; and from one offer
/// to the next.
const OFFER_EVERY: Duration = Duration::from_secs(5);
/// Above it, a sample is none of silence that went through Opus.
const SILENCE: u16 = 64;
/// How long a lost connection is looked for.
const OUTAGE: Duration = Duration::from_secs(60);

/// A request to the bot's server, under way.
type Errand = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What came of a request.
enum Outcome {
    Trickled(Result<(), BotServerError>),
    /// Of what was agreed on already.
    Renegotiated(Result<Answer, BotServerError>),
    /// Of a connection in the place of a lost one.
    Reconnected(Box<Line>, Result<Answer, BotServerError>),
}

/// A bot in a call.
pub struct SmallWebRtcLeg {
    talk: Talk,
    rtvi: Rtvi,
    server: BotServer,
    towards: Vec<SocketAddr>,
    ice: IceOptions,
    /// What the bot's server calls the connection.
    pc_id: Option<String>,
    /// Candidates that the bot has not been told.
    candidates: Vec<String>,
    errand: Option<Errand>,
    /// Another offer is wanted.
    owes_offer: bool,
    via: String,
    began: Instant,
    /// When the next ping is due; none until the channel is open.
    ping: Option<Instant>,
    /// When the connection is looked at.
    look: Instant,
    outage: Option<Outage>,
    alarm: Alarm,
}

/// A connection from which nothing comes any more.
#[derive(Debug, Clone, Copy)]
struct Outage {
    since: Instant,
    /// When another connection is offered.
    offer: Instant,
}

impl SmallWebRtcLeg {
    /// A leg over a connection that is offered.
    pub(super) fn new(
        line: Line,
        server: BotServer,
        (towards, ice): (Vec<SocketAddr>, IceOptions),
        via: String,
    ) -> Result<Self, OpusError> {
        let mut leg = Self {
            talk: Talk::new(line)?,
            rtvi: Rtvi::default(),
            server,
            towards,
            ice,
            pc_id: None,
            candidates: Vec::new(),
            errand: None,
            owes_offer: false,
            via,
            began: Instant::now(),
            ping: None,
            look: Instant::now() + LOOK_EVERY,
            outage: None,
            alarm: Alarm::new(),
        };
        leg.talk.say(channel::microphone_on());
        leg.talk.say(rtvi::client_ready());
        Ok(leg)
    }

    /// Takes the answer to the offer.
    pub(super) fn answered(&mut self, answer: Answer) -> Result<(), OfferError> {
        self.talk.line.accept(&answer.sdp)?;
        self.pc_id = answer.pc_id.or_else(|| self.pc_id.take());
        Ok(())
    }

    /// The connection.
    pub(super) const fn line(&self) -> &Line {
        &self.talk.line
    }

    /// Why the call is over; none while it goes on.
    pub(super) const fn ended(&self) -> Option<&(EndReason, String)> {
        self.talk.ended()
    }

    /// The bot has said that it is ready.
    pub(super) const fn is_ready(&self) -> bool {
        self.rtvi.is_ready()
    }

    /// The next step before the call begins: pending until something has happened. What the bot tells is kept, what is heard is
    /// let go while it is silence. True: something is heard.
    pub(super) fn poll_beginning(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while let Some(audio) = self.talk.voice.poll_audio(cx) {
            if audio.iter().any(|sample| sample.unsigned_abs() > SILENCE) {
                self.talk.events.push_back(LegEvent::Audio(audio));
                return Poll::Ready(true);
            }
        }
        self.poll_line(cx).map(|()| false)
    }

    /// Waits for whatever happens next on the connection, and takes it.
    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(happening) = self.talk.line.poll(cx) {
            self.take(happening);
            return Poll::Ready(());
        }
        if let Some(errand) = &mut self.errand
            && let Poll::Ready(outcome) = errand.as_mut().poll(cx)
        {
            self.errand = None;
            self.take_outcome(outcome);
            return Poll::Ready(());
        }
        if self.errand.is_none() && self.begin_errand() {
            return Poll::Ready(());
        }
        let due = self.ping.map_or(self.look, |ping| ping.min(self.look));
        if self.alarm.poll_at(Some(due.into()), cx).is_ready() {
            self.tick(Instant::now());
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Audio(arrived, packet) => self.talk.voice.receive(arrived, packet),
            Happening::Open => self.ping = Some(Instant::now()),
            Happening::Message(Ok(ChannelMessage::Application(text))) => {
                // The bot's audio has no gaps: nothing of it waits that could be thrown away.
                if let Err(problem) = self.rtvi.take(&text, &mut self.talk.events) {
                    self.talk.fault(problem.to_string());
                }
            }
            Happening::Message(Ok(ChannelMessage::Signalling(Signal::Renegotiate))) => self.owes_offer = true,
            Happening::Message(Ok(ChannelMessage::Signalling(Signal::PeerLeft))) => {
                self.talk.close(EndReason::HungUp, String::new())
            }
            // What a client says, a bot does not.
            Happening::Message(Ok(ChannelMessage::Ping | ChannelMessage::Signalling(Signal::TrackStatus { .. }))) => {}
            Happening::Message(Err(problem)) => self.talk.fault(problem.to_string()),
            Happening::Candidate(candidate) => self.candidates.push(candidate),
            Happening::State(PeerState::Closed) => self.talk.close(EndReason::HungUp, String::new()),
            // Looked at from time to time, as what comes is.
            Happening::State(_) => {}
        }
    }

    /// Looks whether anything still comes.
    fn look(&mut self, now: Instant) {
        let peer = self.talk.line.peer();
        let silence = peer.heard().map(|heard| now.duration_since(heard));
        let stands = peer.state() == PeerState::Connected && silence.is_some_and(|silence| silence < SILENT);
        match &self.outage {
            // The connection is about to stand.
            None if matches!(peer.state(), PeerState::New | PeerState::Connecting) => {}
            None if stands => {}
            None => {
                self.outage = Some(Outage { since: now, offer: now + OFFER_EVERY });
                let detail = "nothing comes from the bot any more".to_owned();
                self.talk.events.push_back(LegEvent::Fault { code: RECONNECTING.to_owned(), detail });
            }
            Some(_) if stands => {
                self.outage = None;
                self.talk.events.push_back(LegEvent::Note(serde_json::json!({"pipecat": "reconnected"})));
            }
            Some(_) => {}
        }
    }

    fn tick(&mut self, now: Instant) {
        if self.ping.is_some_and(|due| due <= now) {
            self.ping = Some(now + PING_EVERY);
            self.talk.say(channel::ping(now.duration_since(self.began)));
        }
        if self.look > now {
            return;
        }
        self.look = now + LOOK_EVERY;
        self.look(now);
        match &mut self.outage {
            // Nobody is asked any more.
            outage if self.talk.ended().is_some() => *outage = None,
            Some(outage) if now.duration_since(outage.since) >= OUTAGE => {
                let lost = format!("the connection to the bot was lost, and not found again in {} s", OUTAGE.as_secs());
                self.talk.close(EndReason::ConnectionLost, lost);
            }
            Some(outage) if outage.offer <= now => {
                outage.offer = now + OFFER_EVERY;
                self.owes_offer = true;
            }
            _ => {}
        }
    }

    /// Begins what is to be asked of the bot's server. False: nothing is.
    fn begin_errand(&mut self) -> bool {
        let Some(pc_id) = self.pc_id.clone() else { return false };
        let server = self.server.clone();
        if std::mem::take(&mut self.owes_offer) {
            if self.outage.is_some() {
                let Some((line, sdp)) = Line::offer(&self.towards, &self.ice) else { return false };
                self.errand = Some(Box::pin(async move {
                    let earlier = Earlier { pc_id: &pc_id, restart: true };
                    Outcome::Reconnected(Box::new(line), server.offer(&sdp, Some(earlier), None).await)
                }));
            } else if let Some(sdp) = self.talk.line.offer_again() {
                self.errand = Some(Box::pin(async move {
                    let earlier = Earlier { pc_id: &pc_id, restart: false };
                    Outcome::Renegotiated(server.offer(&sdp, Some(earlier), None).await)
                }));
            }
        } else if !self.candidates.is_empty() {
            let candidates = std::mem::take(&mut self.candidates);
            self.errand = Some(Box::pin(async move { Outcome::Trickled(server.trickle(&pc_id, &candidates).await) }));
        }
        self.errand.is_some()
    }

    fn take_outcome(&mut self, outcome: Outcome) {
        let failed = match outcome {
            Outcome::Trickled(told) => told.err().map(|error| format!("a candidate could not be told: {error}")),
            Outcome::Renegotiated(answer) => {
                let answered = answer.map_err(OfferError::from).and_then(|answer| self.answered(answer));
                answered.err().map(|error| format!("what the bot asked to be offered again: {error}"))
            }
            // It came back while the other was offered.
            Outcome::Reconnected(..) if self.outage.is_none() => None,
            Outcome::Reconnected(line, answer) => {
                let before = std::mem::replace(&mut self.talk.line, *line);
                let answered = answer.map_err(OfferError::from).and_then(|answer| self.answered(answer));
                if answered.is_err() {
                    self.talk.line = before;
                } else {
                    (self.ping, self.candidates) = (None, Vec::new());
                    self.talk.say(channel::microphone_on());
                    self.talk.say(rtvi::client_ready());
                }
                answered.err().map(|error| format!("another connection: {error}"))
            }
        };
        if let Some(detail) = failed {
            self.talk.events.push_back(LegEvent::Fault { code: RECONNECTING.to_owned(), detail });
        }
    }
}

/// An offer that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// The bot's server.
    #[error(transparent)]
    Server(#[from] BotServerError),
    /// The connection.
    #[error(transparent)]
    Peer(#[from] PeerError),
}

impl Leg for SmallWebRtcLeg {
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
            LegCommand::Text(text) => self.talk.say(rtvi::send_text(text)),
            LegCommand::Dtmf(digit) => self.talk.say(rtvi::dtmf(digit)),
            LegCommand::Data(data) => self.talk.say(rtvi::data(data)),
            LegCommand::Hangup(reason) => self.talk.hang_up(reason, String::new()),
            // The bot hears the caller, and finds out for itself.
            _ => {}
        }
    }
}
