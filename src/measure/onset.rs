//! Finds where speech begins and ends in a recorded track, by its energy. Offline: it may look ahead.
//!
//! 1. A 120 Hz high-pass (second-order Butterworth) takes hum and rumble out.
//! 2. The power of every millisecond is kept: an hour of a track is 14 MB.
//! 3. The noise floor at any place is the 10th percentile of the 10 ms powers within 1.5 s on either side. Digital silence
//!    is nobody's noise and does not count.
//! 4. Speech is on where 10 ms are 8 dB above the floor for 30 of 40 ms, and off where they stay below 5 dB for the
//!    shortest pause. It is at least 60 ms long and reaches -50 dBFS.
//! 5. Each boundary is then placed to the millisecond, as the change point between speech and the noise close by, on the track
//!    whitened by the noise's own predictor: `edge.rs` says how. So a soft consonant that is no louder than the noise counts.

use super::decibel::{power_of, ratio};
use super::edge::EdgeTrack;
use crate::audio::Rate;

/// Below this nothing is speech, dBFS; and a stretch of speech must reach this.
const ABSOLUTE_DB: f64 = -62.0;
const REACHES_DB: f64 = -50.0;
const ON_DB: f64 = 8.0;
const OFF_DB: f64 = 5.0;
const WINDOW_MS: usize = 10;
const HOP_MS: usize = 5;
const FLOOR_SPAN_MS: usize = 1500;
const FLOOR_STEP_MS: usize = 50;
/// A source that has digital silence between its words is clean: its floor is not above this, dBFS.
const CLEAN_FLOOR_DB: f64 = -56.0;
const SHORTEST_MS: usize = 60;
/// A pause shorter than this lies within speech, in ms.
pub const SHORTEST_PAUSE_MS: usize = 200;
/// A stretch of speech, in milliseconds of the track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// Its first millisecond.
    pub start_ms: f64,
    /// The first millisecond after it.
    pub end_ms: f64,
}

/// Takes a track piece by piece.
#[derive(Debug)]
pub struct OnsetDetector {
    per_ms: usize,
    filter: HighPass,
    last: f64,
    /// Of each whole millisecond: the mean square, and the mean product of neighbouring samples.
    powers: Vec<f32>,
    products: Vec<f32>,
    sums: [f64; 2],
    /// So far the millisecond holds nothing but zeros.
    silent: bool,
    count: usize,
}

impl OnsetDetector {
    /// A detector for a track at `rate`.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let filter = HighPass::new(120.0, f64::from(rate.hz()));
        let per_ms = rate.hz() as usize / 1000;
        Self { per_ms, filter, last: 0.0, powers: Vec::new(), products: Vec::new(), sums: [0.0; 2], silent: true, count: 0 }
    }

    /// Takes the track's next samples.
    pub fn push(&mut self, samples: &[i16]) {
        for sample in samples {
            let value = self.filter.pass(f64::from(*sample));
            self.sums[0] += value * value;
            self.sums[1] += value * std::mem::replace(&mut self.last, value);
            self.silent &= *sample == 0;
            self.count += 1;
            if self.count == self.per_ms {
                let [power, product] = std::mem::take(&mut self.sums).map(|sum| (sum / self.per_ms as f64) as f32);
                // In digital silence the filter rings on; nobody speaks.
                let silent = std::mem::replace(&mut self.silent, true);
                self.powers.push(if silent { 0.0 } else { power });
                self.products.push(if silent { 0.0 } else { product });
                self.count = 0;
            }
        }
    }

    /// The stretches of speech of all that was pushed.
    #[must_use]
    pub fn finish(self) -> Vec<Stretch> {
        let levels = Levels::new(&self.powers);
        let rough = levels.stretches();
        let mut found: Vec<Stretch> = Vec::new();
        for (at, (start, end)) in rough.iter().enumerate() {
            // Between two stretches each may reach half of the way.
            let earliest = at.checked_sub(1).map_or(0, |before| (rough[before].1 + start) / 2);
            let latest = rough.get(at + 1).map_or(self.powers.len(), |(next, _)| (end + next) / 2);
            let track = EdgeTrack { powers: &self.powers, products: &self.products };
            let (start, end) = (track.start(*start, earliest), track.end(*end, latest));
            if end >= start + SHORTEST_MS && levels.reaches(start, end) {
                found.push(Stretch { start_ms: start as f64, end_ms: end as f64 });
            }
        }
        found
    }
}

struct Levels<'a> {
    powers: &'a [f32],
    /// The power of the 10 ms from each hop on.
    hops: Vec<f32>,
    /// The floor at each step.
    floors: Vec<f32>,
}

impl<'a> Levels<'a> {
    fn new(powers: &'a [f32]) -> Self {
        let window = |from: usize| {
            let part = &powers[from..(from + WINDOW_MS).min(powers.len())];
            part.iter().sum::<f32>() / part.len() as f32
        };
        let hops: Vec<f32> = (0..powers.len()).step_by(HOP_MS).map(window).collect();
        let floors = (0..powers.len()).step_by(FLOOR_STEP_MS).map(|at| floor_at(&hops, at / HOP_MS)).collect();
        Self { powers, hops, floors }
    }

    fn floor(&self, ms: usize) -> f32 {
        self.floors[(ms / FLOOR_STEP_MS).min(self.floors.len() - 1)]
    }

    /// Rough stretches, in ms.
    fn stretches(&self) -> Vec<(usize, usize)> {
        let above = |hop: usize, db: f64| self.hops[hop] > self.floor(hop * HOP_MS) * ratio(db);
        let votes = |from: usize| (from..(from + 8).min(self.hops.len())).filter(|hop| above(*hop, ON_DB)).count();
        let mut found = Vec::new();
        let mut open: Option<usize> = None;
        let mut last = 0;
        for hop in 0..self.hops.len() {
            match open {
                None if above(hop, ON_DB) && votes(hop) >= 6 => {
                    (open, last) = (Some(hop), hop);
                }
                Some(_) if above(hop, OFF_DB) => last = hop,
                Some(start) if (hop - last) * HOP_MS >= SHORTEST_PAUSE_MS => {
                    found.push((start * HOP_MS, last * HOP_MS + WINDOW_MS));
                    open = None;
                }
                _ => {}
            }
        }
        found.extend(open.map(|start| (start * HOP_MS, (last * HOP_MS + WINDOW_MS).min(self.powers.len()))));
        found
    }

    fn reaches(&self, start: usize, end: usize) -> bool {
        let (first, last) = (start / HOP_MS, (end / HOP_MS).min(self.hops.len()));
        self.hops[first..last].iter().any(|power| *power > power_of(REACHES_DB))
    }
}

/// The noise floor around a hop.
fn floor_at(hops: &[f32], hop: usize) -> f32 {
    let span = FLOOR_SPAN_MS / HOP_MS;
    let around = &hops[hop.saturating_sub(span)..(hop + span).min(hops.len())];
    let mut heard: Vec<f32> = around.iter().copied().filter(|power| *power > 0.25).collect();
    let absolute = power_of(ABSOLUTE_DB) / ratio(ON_DB);
    if heard.len() < 20 {
        return absolute;
    }
    let clean = around.len() - heard.len() >= 20;
    let rank = heard.len() / 10;
    let floor = *heard.select_nth_unstable_by(rank, f32::total_cmp).1;
    let floor = if clean { floor.min(power_of(CLEAN_FLOOR_DB)) } else { floor };
    floor.max(absolute)
}

/// A second-order Butterworth high-pass.
#[derive(Debug)]
struct HighPass {
    b: [f64; 3],
    a: [f64; 2],
    x: [f64; 2],
    y: [f64; 2],
}

impl HighPass {
    fn new(cutoff: f64, rate: f64) -> Self {
        let k = (std::f64::consts::PI * cutoff / rate).tan();
        let norm = 1.0 / (1.0 + std::f64::consts::SQRT_2 * k + k * k);
        let b = [norm, -2.0 * norm, norm];
        let a = [2.0 * (k * k - 1.0) * norm, (1.0 - std::f64::consts::SQRT_2 * k + k * k) * norm];
        Self { b, a, x: [0.0; 2], y: [0.0; 2] }
    }

    fn pass(&mut self, x: f64) -> f64 {
        let y = self.b[0] * x + self.b[1] * self.x[0] + self.b[2] * self.x[1] - self.a[0] * self.y[0] - self.a[1] * self.y[1];
        self.x = [x, self.x[0]];
        // A tail that no sample could show is silence.
        self.y = [if y.abs() < 1e-3 { 0.0 } else { y }, self.y[0]];
        y
    }
}
