//! Whose turn it is: what a caller makes of the agent that it hears.

use std::collections::VecDeque;
use std::time::Duration;

use crate::audio::{FRAME, Rate, SpeechDetector};

/// An agent without a gap in its audio is not silent between two messages: only after this many frames without any.
const GAP_FRAMES: u32 = 3;
/// A detector says that speech began some 60 ms after it did.
const DETECTOR_FRAMES: u64 = 3;
/// After the agent's own word that it has finished, and this much silence, its turn is over.
const AFTER_WORD: Duration = Duration::from_millis(300);
/// The agent is being heard when something was within this time.
const JUST_NOW: Duration = Duration::from_millis(160);
/// Frames since the agent was last heard, before it ever was: an hour.
const LONG_AGO: u32 = 180_000;

/// Listens to the agent, one 20 ms frame at a time.
#[derive(Debug)]
pub(super) struct AgentEar {
    detector: SpeechDetector,
    rate: Rate,
    inbox: VecDeque<Vec<i16>>,
    starved: u32,
    quiet_frames: u32,
    /// The agent's own word: speaking or not; none as long as it never said.
    word: Option<bool>,
    onsets: u64,
}

impl AgentEar {
    pub(super) fn new(rate: Rate, hangover: Duration) -> Self {
        let detector = SpeechDetector::new(rate, hangover);
        Self { detector, rate, inbox: VecDeque::new(), starved: 0, quiet_frames: LONG_AGO, word: None, onsets: 0 }
    }

    pub(super) fn hear(&mut self, samples: &[i16]) {
        self.inbox.push_back(samples.to_vec());
    }

    pub(super) fn told_start(&mut self) {
        self.word = Some(true);
    }

    pub(super) fn told_stop(&mut self) {
        self.word = Some(false);
    }

    /// 20 ms pass: what came is listened to; what did not come for long is silence.
    pub(super) fn pass_frame(&mut self) {
        self.quiet_frames = self.quiet_frames.saturating_add(1);
        if self.inbox.is_empty() {
            self.starved += 1;
            if self.starved >= GAP_FRAMES {
                let silence = vec![0; self.rate.frame_len()];
                self.listen(&silence);
            }
            return;
        }
        self.starved = 0;
        while let Some(samples) = self.inbox.pop_front() {
            self.listen(&samples);
        }
    }

    fn listen(&mut self, samples: &[i16]) {
        self.detector.hear(samples);
        if self.detector.speaking() && self.detector.voiced() {
            // The detector's hang-over hides an answer that follows an interruption closely; this does not.
            self.onsets += u64::from(FRAME * self.quiet_frames >= JUST_NOW);
            self.quiet_frames = 0;
        }
    }

    /// The agent's turn goes on, pauses within it included.
    pub(super) fn speaking(&self) -> bool {
        let quiet = FRAME * self.quiet_frames;
        let done_by_word = self.word == Some(false) && quiet >= AFTER_WORD;
        self.detector.speaking() && !done_by_word
    }

    /// Something is heard of the agent right now.
    pub(super) fn voiced(&self) -> bool {
        self.detector.speaking() && FRAME * self.quiet_frames < JUST_NOW
    }
}

/// The agent's turn that a caller waits for.
#[derive(Debug)]
pub(super) struct Turn {
    /// The agent was already speaking when the wait began, and by which onset.
    onsets_before: Option<u64>,
    spoke_over: bool,
    began: Option<u64>,
}

impl Turn {
    /// `speaks_already`: the agent has begun to answer before the caller was done.
    pub(super) fn new(speaks_already: bool) -> Self {
        Self { onsets_before: None, spoke_over: speaks_already, began: None }
    }

    /// Follows the agent at the caller's frame `now`.
    pub(super) fn note(&mut self, ear: &AgentEar, now: u64) {
        let before = *self.onsets_before.get_or_insert(ear.onsets);
        let answers = ear.onsets > before || (self.spoke_over && ear.voiced());
        if self.began.is_none() && answers {
            self.began = Some(now.saturating_sub(DETECTOR_FRAMES));
        }
    }

    /// For how many frames the agent has been speaking; none when it has not begun.
    pub(super) fn spoken(&self, now: u64) -> Option<u64> {
        self.began.map(|began| now.saturating_sub(began))
    }

    /// The agent has spoken and finished.
    pub(super) fn over(&self, ear: &AgentEar) -> bool {
        self.began.is_some() && !ear.speaking()
    }
}
