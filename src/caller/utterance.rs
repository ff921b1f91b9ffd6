//! What a caller is saying right now, and when it tells that it speaks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::audio::Rate;
use crate::call::{LegEvent, Mark, MarkSource};

/// The caller says `speech.started` this long after its first sample, and `speech.completed` this long before its last
/// (Cekura's CHIRP page: about 200 ms).
pub const SIGNAL_OFFSET: Duration = Duration::from_millis(200);

/// Speech under way.
#[derive(Debug)]
pub(super) struct Utterance {
    mark: Mark,
    samples: Arc<[i16]>,
    said: usize,
    start_told: bool,
    stop_told: bool,
    ignore_interruptions: bool,
}

impl Utterance {
    /// Speech that begins at `position` of the caller's stream; `interruption` is the condition that interrupts by it.
    pub(super) fn new(samples: Arc<[i16]>, position: u64, ignore_interruptions: bool, interruption: Option<u32>) -> Self {
        let (utterance, source) = (Uuid::new_v4().to_string(), MarkSource::Script);
        let mark = Mark { utterance, position: Some(position), source, interruption };
        Self { mark, samples, said: 0, start_told: false, stop_told: false, ignore_interruptions }
    }

    /// The next frame of it.
    pub(super) fn frame(&mut self, rate: Rate) -> Vec<i16> {
        let from = self.said;
        self.said = (from + rate.frame_len()).min(self.samples.len());
        let mut frame = self.samples[from..self.said].to_vec();
        frame.resize(rate.frame_len(), 0);
        frame
    }

    pub(super) fn is_over(&self) -> bool {
        self.said == self.samples.len()
    }

    /// The place of the first sample after it.
    pub(super) fn end(&self) -> u64 {
        self.mark.position.unwrap_or_default() + self.samples.len() as u64
    }

    /// Once its stop is told it is said to the end, which is near: the stop's place must hold.
    pub(super) fn may_be_cut(&self) -> bool {
        self.said > 0 && !self.stop_told && !self.ignore_interruptions
    }

    /// What is left of it is not said.
    pub(super) fn cut(&mut self, events: &mut VecDeque<LegEvent>) {
        self.samples = self.samples[..self.said].into();
        self.tell(true, true, events);
    }

    /// Tells the start and the stop when their moments have come.
    pub(super) fn tell_marks(&mut self, rate: Rate, events: &mut VecDeque<LegEvent>) {
        let offset = rate.samples_in(SIGNAL_OFFSET) as usize;
        let (said, all) = (self.said, self.samples.len());
        let start = said >= offset.min(all / 2);
        let stop = said + offset.min(all / 2) >= all;
        self.tell(start, stop, events);
    }

    fn tell(&mut self, start: bool, stop: bool, events: &mut VecDeque<LegEvent>) {
        if start && !std::mem::replace(&mut self.start_told, true) {
            events.push_back(LegEvent::SpeechStarted(self.mark.clone()));
        }
        if stop && self.start_told && !std::mem::replace(&mut self.stop_told, true) {
            events.push_back(LegEvent::SpeechStopped(Mark { position: Some(self.end()), ..self.mark.clone() }));
        }
    }
}
