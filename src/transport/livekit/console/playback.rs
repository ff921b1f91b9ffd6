//! The agent's audio between its burst and its listener.
//!
//! A console plays what the agent sends in real time, tells it when a flushed utterance was heard, and lets the rest go when the
//! agent stops. The call's own playout passes what comes in real time at once, so that what the listener heard is decided here.

use std::collections::VecDeque;
use std::time::Duration;

use crate::audio::{FRAME, Rate};
use crate::call::{LEAD, LONGEST_QUEUE};

/// How far ahead of its moment audio is given. The call passes that on at once, so that no more than this is ever cut off by it.
const AHEAD: Duration = LEAD;

/// Plays one agent's audio. Moments are times since the leg began.
#[derive(Debug)]
pub struct Playback {
    rate: Rate,
    queue: VecDeque<i16>,
    /// Samples that were taken out of the queue, given or thrown away.
    gone: u64,
    /// Where the audio that was flushed ends, counted as `gone` is.
    flushed: VecDeque<u64>,
    /// When all that was given will have been heard.
    heard: Duration,
    /// The agent has stopped and may yet go on.
    held: bool,
}

/// What is to be done at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Play {
    /// Audio is heard.
    Audio(Vec<i16>),
    /// All audio before a flush has been heard.
    Finished,
}

impl Playback {
    /// Plays audio at `rate`.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let (queue, flushed) = (VecDeque::new(), VecDeque::new());
        Self { rate, queue, gone: 0, flushed, heard: Duration::ZERO, held: false }
    }

    /// Takes audio that came at `now`. Gives the number of samples that there is no room for.
    pub fn push(&mut self, now: Duration, samples: &[i16]) -> usize {
        // An utterance that was stopped and flushed does not go on when another begins.
        if self.held && !self.flushed.is_empty() {
            self.clear();
        }
        if self.queue.is_empty() {
            self.heard = self.heard.max(now);
        }
        let room = (self.rate.samples_in(LONGEST_QUEUE) as usize).saturating_sub(self.queue.len());
        let taken = samples.len().min(room);
        self.queue.extend(&samples[..taken]);
        samples.len() - taken
    }

    /// What was pushed is a whole utterance: [`Play::Finished`] follows it.
    pub fn flush(&mut self) {
        self.flushed.push_back(self.gone + self.queue.len() as u64);
    }

    /// Throws away what was not given, with its flushes: of those the agent hears no more. Gives the number of samples.
    pub fn clear(&mut self) -> u64 {
        let cleared = self.queue.len() as u64;
        self.gone += cleared;
        self.queue = VecDeque::new();
        self.flushed.clear();
        self.held = false;
        cleared
    }

    /// The agent stops. What waits is kept, for it may go on.
    pub fn hold(&mut self) {
        self.held = !self.queue.is_empty();
    }

    /// The agent goes on.
    pub fn go_on(&mut self, now: Duration) {
        if std::mem::take(&mut self.held) {
            self.heard = self.heard.max(now);
        }
    }

    /// Samples that wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.queue.len() as u64
    }

    /// All was heard that will be heard.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.held || (self.queue.is_empty() && self.flushed.is_empty())
    }

    /// When [`Self::next`] has something.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        if self.held {
            return None;
        }
        if self.flushed.front().is_some_and(|end| *end <= self.gone) {
            return Some(self.heard);
        }
        (!self.queue.is_empty()).then(|| self.heard.saturating_sub(AHEAD))
    }

    /// What is due at `now`.
    pub fn next(&mut self, now: Duration) -> Option<Play> {
        self.due().filter(|due| *due <= now)?;
        if self.flushed.pop_front_if(|end| *end <= self.gone).is_some() {
            return Some(Play::Finished);
        }
        let most = self.flushed.front().map_or(usize::MAX, |end| (end - self.gone) as usize);
        let length = self.rate.samples_in(FRAME) as usize;
        let audio: Vec<i16> = self.queue.drain(..length.min(most).min(self.queue.len())).collect();
        self.gone += audio.len() as u64;
        self.heard += self.rate.duration_of(audio.len() as u64);
        Some(Play::Audio(audio))
    }
}
