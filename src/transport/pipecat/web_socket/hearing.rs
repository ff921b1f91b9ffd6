//! The sound of frames, each at its own rate, at the one rate of a leg.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::frames::Audio;
use crate::audio::{Rate, Resampler};
use crate::call::LegEvent;

/// After so long without audio what the resampler holds back is given: a bot sends a frame every 40 ms while it speaks.
const PAUSE: Duration = Duration::from_millis(100);

/// What converts it.
pub(super) struct Hearing {
    rate: Rate,
    /// With the rate that it converts from; none where audio has the leg's.
    resampler: Option<(Rate, Resampler)>,
    /// When the resampler is emptied.
    pause: Pin<Box<Sleep>>,
}

impl Hearing {
    /// For a leg of this rate.
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, resampler: None, pause: Box::pin(tokio::time::sleep(Duration::ZERO)) }
    }

    /// The leg's rate.
    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes a frame's sound; what can be heard of it goes into `out`.
    pub(super) fn take(&mut self, Audio { rate, samples }: Audio, out: &mut VecDeque<LegEvent>) {
        if self.resampler.as_ref().is_some_and(|(from, _)| *from != rate) {
            self.empty(out);
            self.resampler = None;
        }
        let samples = if rate == self.rate {
            samples
        } else {
            let (_, resampler) = self.resampler.get_or_insert_with(|| (rate, Resampler::new(rate, self.rate)));
            let mut converted = Vec::with_capacity(samples.len());
            resampler.push(&samples, &mut converted);
            self.pause.as_mut().reset(Instant::now() + PAUSE);
            converted
        };
        if !samples.is_empty() {
            out.push_back(LegEvent::Audio(samples));
        }
    }

    /// Gives the end of what was said.
    pub(super) fn empty(&mut self, out: &mut VecDeque<LegEvent>) {
        let Some((_, resampler)) = self.resampler.as_mut().filter(|(_, resampler)| resampler.holds_back()) else { return };
        let mut rest = Vec::new();
        resampler.flush(&mut rest);
        out.push_back(LegEvent::Audio(rest));
    }

    /// What is held back is never heard.
    pub(super) fn forget(&mut self) {
        self.resampler = None;
    }

    /// Gives the end of what was said once nothing follows it.
    pub(super) fn poll_pause(&mut self, out: &mut VecDeque<LegEvent>, cx: &mut Context<'_>) {
        let holds_back = self.resampler.as_ref().is_some_and(|(_, resampler)| resampler.holds_back());
        if holds_back && self.pause.as_mut().poll(cx).is_ready() {
            self.empty(out);
        }
    }
}
