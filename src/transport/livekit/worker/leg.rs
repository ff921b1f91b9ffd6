//! A job's room as a call's leg: the far side is the caller, and we are the agent, as the agents of LiveKit's own SDKs appear.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::job::JobEnd;
use super::protocol::STATE;
use crate::audio::{Rate, SpeechChange, SpeechDetector};
use crate::call::{Abilities, CallEnd, EndReason, Leg, LegCommand, LegEvent};
use crate::transport::CallerLeg;
use crate::transport::livekit::leg::RoomLeg;
use crate::transport::livekit::party::{FINAL, TRANSCRIPTION};
use crate::transport::webrtc::Voice;

/// Speech has stopped after so much silence, where the agent does not tell it itself.
const HANGOVER: Duration = Duration::from_millis(300);
const LISTENING: &str = "listening";
const SPEAKING: &str = "speaking";

/// A room that we are the agent of.
pub(super) struct AgentLeg {
    leg: RoomLeg,
    stop: Option<oneshot::Receiver<()>>,
    state: &'static str,
    /// Listens for the agent's speech; none: the agent tells it itself.
    detector: Option<SpeechDetector>,
    /// How the call ended, once it has.
    ending: Option<CallEnd>,
}

impl AgentLeg {
    pub(super) fn new(mut leg: RoomLeg, end: JobEnd, stop: oneshot::Receiver<()>) -> Self {
        leg.before_the_end(Box::new(move |reason, detail| Box::pin(end.tell(result(reason, detail)))));
        let detector = Some(SpeechDetector::new(Voice::RATE, HANGOVER));
        Self { leg, stop: Some(stop), state: STATE.1, detector, ending: None }
    }

    /// Others see what the agent is about.
    fn tell_state(&mut self, state: &'static str) {
        if std::mem::replace(&mut self.state, state) != state {
            self.leg.room().set_attributes(&BTreeMap::from([(STATE.0.to_owned(), state.to_owned())]));
        }
    }

    /// What the agent says or writes, as a stream that is whole (<https://docs.livekit.io/agents/build/text/>).
    fn transcribe(&mut self, text: &str) {
        let mut attributes = BTreeMap::from([
            ("lk.segment_id".to_owned(), format!("SG_{}", Uuid::new_v4().simple())),
            (FINAL.to_owned(), "true".to_owned()),
        ]);
        if let Some(track) = self.leg.microphone() {
            attributes.insert("lk.transcribed_track_id".to_owned(), track.to_owned());
        }
        self.leg.room().send_text(&[], TRANSCRIPTION, text, &attributes);
    }

    /// The server may end the job.
    fn poll_stop(&mut self, cx: &mut Context<'_>) {
        let Some(stop) = &mut self.stop else { return };
        if let Poll::Ready(told) = Pin::new(stop).poll(cx) {
            self.stop = None;
            if told.is_ok() {
                self.leg.close(EndReason::HungUp, "the LiveKit server ended the job");
            }
        }
    }
}

/// What the server is told of a job whose call ended so.
fn result(reason: EndReason, detail: &str) -> Result<(), String> {
    match reason {
        EndReason::HungUp | EndReason::ScriptFinished | EndReason::AgentHungUp => Ok(()),
        _ if detail.is_empty() => Err(spelled(reason)),
        _ => Err(format!("{}: {detail}", spelled(reason))),
    }
}

/// The reason as reports have it.
fn spelled(reason: EndReason) -> String {
    let name = serde_json::to_value(reason).ok();
    name.as_ref().and_then(serde_json::Value::as_str).unwrap_or("ended").replace('_', " ")
}

impl CallerLeg for AgentLeg {
    fn fail(&mut self, detail: &str) {
        self.leg.fail(detail);
    }

    fn resume(&mut self, kept: VecDeque<LegEvent>, skipped: u64) {
        self.tell_state(LISTENING);
        self.leg.resume(kept, skipped);
    }
}

impl Leg for AgentLeg {
    fn rate(&self) -> Rate {
        self.leg.rate()
    }

    fn abilities(&self) -> Abilities {
        self.leg.abilities()
    }

    fn via(&self) -> String {
        self.leg.via()
    }

    fn farewell(&self) -> Duration {
        self.leg.farewell()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        self.poll_stop(cx);
        self.leg.poll_event(cx)
    }

    fn command(&mut self, command: LegCommand<'_>) {
        match command {
            LegCommand::Audio(samples) => {
                match self.detector.as_mut().and_then(|detector| detector.hear(samples)) {
                    Some(SpeechChange::Started) => self.tell_state(SPEAKING),
                    Some(SpeechChange::Stopped) => self.tell_state(LISTENING),
                    None => {}
                }
                self.leg.command(command);
            }
            LegCommand::SpeechStarted(_) => {
                self.detector = None;
                self.tell_state(SPEAKING);
            }
            LegCommand::SpeechStopped(_) => self.tell_state(LISTENING),
            LegCommand::Text(text) | LegCommand::Transcript(text) => self.transcribe(text),
            LegCommand::Ending(end) => self.ending = Some(end.clone()),
            LegCommand::Hangup(reason) => {
                let detail = self.ending.take().map(|end| end.detail).unwrap_or_default();
                self.leg.close(reason, &detail);
            }
            _ => self.leg.command(command),
        }
    }
}
