//! Whether a party's audio comes as fast as it plays. It owns no clock.
//!
//! An agent on a host that is overloaded sends its speech slower than real time, a little late with every piece, and never catches
//! up: what is heard has holes that are not the agent's. A pause of the speaker is one hole, and a longer one.

use std::time::Duration;

use super::CallTime;
use crate::audio::Rate;

/// Nothing for longer than this is a pause of the speaker. An overloaded Pipecat bot sent 40 ms of audio every 47 to 80 ms.
const PAUSE: Duration = Duration::from_millis(250);
/// So much audio is looked at together.
const WINDOW: Duration = Duration::from_secs(2);
/// Less than this, at the end of the call, says nothing.
const LEAST: Duration = Duration::from_millis(500);
/// Fewer holes than this are pauses between words.
const FEWEST: u32 = 3;
/// Less of the audio than this is missing from any line that jitters.
const LEAST_SHARE: f64 = 0.05;

/// How fast the audio of one source comes.
#[derive(Debug)]
pub(super) struct Supply {
    rate: Rate,
    /// When all that came is played; none before the first.
    played: Option<CallTime>,
    window: Window,
}

/// What came while the source spoke.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Window {
    /// Holes.
    pub(super) gaps: u32,
    /// How long they are together.
    pub(super) missing: Duration,
    /// The audio itself.
    pub(super) audio: Duration,
}

impl Supply {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, played: None, window: Window::default() }
    }

    /// So many samples come at `now`. Gives what is to be told: the last two seconds of audio came too slowly.
    pub(super) fn push(&mut self, now: CallTime, samples: usize) -> Option<Window> {
        let length = self.rate.duration_of(samples as u64);
        let due = self.played.unwrap_or(now);
        let gap = now.since(due);
        if gap > Duration::ZERO && gap <= PAUSE {
            self.window.gaps += 1;
            self.window.missing += gap;
        }
        self.window.audio += length;
        self.played = Some(now.max(due) + length);
        if self.window.audio < WINDOW { None } else { std::mem::take(&mut self.window).starved() }
    }

    /// What waited is thrown away: what comes next begins anew.
    pub(super) fn clear(&mut self) {
        self.played = None;
    }

    /// The end of the call: as [`Self::push`], of what came last.
    pub(super) fn finish(&mut self) -> Option<Window> {
        let rest = std::mem::take(&mut self.window);
        if rest.audio < LEAST { None } else { rest.starved() }
    }
}

impl Window {
    fn starved(self) -> Option<Self> {
        let much = self.missing.as_secs_f64() >= LEAST_SHARE * self.audio.as_secs_f64();
        (self.gaps >= FEWEST && much).then_some(self)
    }
}
