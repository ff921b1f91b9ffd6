//! An agent's transcriptions as messages: each segment becomes one. Owns no clock.
//!
//! A segment is streamed as it is written, and its stream closed as final (Python); or closed as it was begun, as not final
//! (Node.js); or sent whole, again and again, until it is final. So a closed stream that is not final waits a moment for what may
//! take its place.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::call::LegEvent;
use crate::transport::livekit::party::FINAL;

/// The attribute that names a segment.
const SEGMENT: &str = "lk.segment_id";
/// How long a closed stream that is not final waits for one that takes its place.
const SETTLE: Duration = Duration::from_millis(500);
/// So many segments are kept, to tell each once.
const MOST_TOLD: usize = 256;

/// The segments of one agent.
#[derive(Debug, Default)]
pub(super) struct Segments {
    waiting: Option<Waiting>,
    /// By their ids, with what they said.
    told: VecDeque<(String, String)>,
}

#[derive(Debug)]
struct Waiting {
    id: String,
    text: String,
    since: Instant,
}

impl Segments {
    /// Takes a closed stream.
    pub(super) fn take(&mut self, now: Instant, text: String, attributes: &BTreeMap<String, String>, out: &mut VecDeque<LegEvent>) {
        if text.trim().is_empty() {
            return;
        }
        let Some(id) = attributes.get(SEGMENT) else {
            self.settle(out);
            return out.push_back(LegEvent::Text(text));
        };
        if self.told.iter().any(|(told, _)| told == id) {
            // It has been read by then: a message cannot be taken back.
            return out.push_back(LegEvent::Note(json!({"livekit": "segment_again", "segment": id, "text": text})));
        }
        if self.waiting.as_ref().is_some_and(|waiting| waiting.id != *id) {
            self.settle(out);
        }
        self.waiting = Some(Waiting { id: id.clone(), text, since: now });
        if attributes.get(FINAL).is_none_or(|is_final| is_final == "true") {
            self.settle(out);
        }
    }

    /// When [`Self::advance`] is due next.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|waiting| waiting.since + SETTLE)
    }

    /// Gives what has waited long enough. True: there was something.
    pub(super) fn advance(&mut self, now: Instant, out: &mut VecDeque<LegEvent>) -> bool {
        let due = self.next_wake().is_some_and(|at| now >= at);
        if due {
            self.settle(out);
        }
        due
    }

    /// Nothing takes the place of what waits: the agent has done with it.
    pub(super) fn settle(&mut self, out: &mut VecDeque<LegEvent>) {
        let Some(Waiting { id, text, .. }) = self.waiting.take() else { return };
        if self.told.len() == MOST_TOLD {
            self.told.pop_front();
        }
        self.told.push_back((id, text.clone()));
        out.push_back(LegEvent::Text(text));
    }

    /// A segment has said this.
    pub(super) fn have_told(&self, text: &str) -> bool {
        self.told.iter().any(|(_, told)| told.trim() == text.trim())
    }
}
