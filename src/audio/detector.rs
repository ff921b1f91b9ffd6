//! Live speech detection, for taking turns. It is not used for measuring: see [`crate::measure`].

use std::collections::VecDeque;
use std::time::Duration;

use super::{Rate, Resampler};

/// Samples that the model takes at once: 16 ms at 16 kHz.
const WINDOW: usize = 256;
/// The model's score at which a window counts as speech, and the score below which it no longer does.
const ON: f32 = 0.5;
const OFF: f32 = 0.3;
/// Speech begins when this many of the last [`VOTERS`] windows are speech: one click is not speech.
const VOTES: usize = 3;
const VOTERS: usize = 5;
/// A window whose loudest sample is below this (-54 dBFS) is silence without asking the model.
const QUIET: u16 = 64;

/// What the detector says of the audio that it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpeechChange {
    /// Speech began, some 50 ms ago.
    Started,
    /// Speech stopped: the hang-over has passed without any.
    Stopped,
}

/// Tells speech from silence and noise, 16 ms at a time, with hysteresis and a hang-over.
pub struct SpeechDetector {
    model: Box<earshot::Detector>,
    resampler: Option<Resampler>,
    window: Vec<i16>,
    recent: VecDeque<bool>,
    voiced: bool,
    speaking: bool,
    quiet_windows: u32,
    hangover_windows: u32,
}

impl SpeechDetector {
    /// A detector for a stream at `rate`; speech has stopped when none was heard for `hangover`.
    #[must_use]
    pub fn new(rate: Rate, hangover: Duration) -> Self {
        let resampler = (rate != Rate::HZ_16000).then(|| Resampler::new(rate, Rate::HZ_16000));
        Self {
            model: earshot::Detector::default_boxed(),
            resampler,
            window: Vec::with_capacity(WINDOW * 4),
            recent: VecDeque::with_capacity(VOTERS),
            voiced: false,
            speaking: false,
            quiet_windows: 0,
            hangover_windows: (hangover.as_millis() / 16).max(1) as u32,
        }
    }

    /// Whether someone is speaking, the hang-over included.
    #[must_use]
    pub fn speaking(&self) -> bool {
        self.speaking
    }

    /// Whether the last 16 ms were speech.
    #[must_use]
    pub fn voiced(&self) -> bool {
        self.voiced
    }

    /// Takes audio and gives the last change within it.
    pub fn hear(&mut self, samples: &[i16]) -> Option<SpeechChange> {
        match &mut self.resampler {
            Some(resampler) => resampler.push(samples, &mut self.window),
            None => self.window.extend_from_slice(samples),
        }
        let mut change = None;
        let mut heard = 0;
        while self.window.len() - heard >= WINDOW {
            let speech = self.is_speech(heard);
            heard += WINDOW;
            change = self.vote(speech).or(change);
        }
        self.window.drain(..heard);
        change
    }

    fn is_speech(&mut self, from: usize) -> bool {
        let window = &self.window[from..from + WINDOW];
        let loudest = window.iter().map(|s| s.unsigned_abs()).max().unwrap_or(0);
        let score = if loudest < QUIET || is_tone(window) { 0.0 } else { self.model.predict_i16(window) };
        self.voiced = score >= if self.voiced { OFF } else { ON };
        self.voiced
    }

    fn vote(&mut self, speech: bool) -> Option<SpeechChange> {
        if self.recent.len() == VOTERS {
            self.recent.pop_front();
        }
        self.recent.push_back(speech);
        if speech {
            self.quiet_windows = 0;
        } else {
            self.quiet_windows += 1;
        }
        if !self.speaking && self.recent.iter().filter(|s| **s).count() >= VOTES {
            self.speaking = true;
            Some(SpeechChange::Started)
        } else if self.speaking && self.quiet_windows >= self.hangover_windows {
            self.speaking = false;
            Some(SpeechChange::Stopped)
        } else {
            None
        }
    }
}

/// A window that two samples predict the next one of, for all but a thousandth of its power, is one steady tone: `x[n] =
/// 2 cos w x[n-1] - x[n-2]`. The model takes a hum or a beep that sets in suddenly for speech at times.
fn is_tone(window: &[i16]) -> bool {
    let (mut cross, mut middle) = (0.0, 0.0);
    for x in window.windows(3) {
        let [before, now, after] = [f64::from(x[0]), f64::from(x[1]), f64::from(x[2])];
        cross += now * (before + after);
        middle += now * now;
    }
    let factor = if middle > 0.0 { cross / middle } else { 0.0 };
    let residue: f64 = window.windows(3).map(|x| (f64::from(x[2]) + f64::from(x[0]) - factor * f64::from(x[1])).powi(2)).sum();
    // The residue of a slow oscillation is small against its samples whatever it is: weigh it by how fast it moves.
    let movement: f64 = window.windows(2).map(|x| (f64::from(x[1]) - f64::from(x[0])).powi(2)).sum();
    residue < middle * 1e-3 && residue < movement * 1e-2
}

impl std::fmt::Debug for SpeechDetector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpeechDetector").field("speaking", &self.speaking).finish_non_exhaustive()
    }
}
