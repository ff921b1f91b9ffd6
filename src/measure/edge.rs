//! Places a boundary of speech to the millisecond.
//!
//! A soft consonant before a vowel may be no louder than the noise: then its onset is a rise of 3 dB that lasts for 80 ms, and
//! no threshold on a few milliseconds finds it. So the track around the boundary is whitened by the noise's own first-order
//! predictor and cut into stretches of even power by maximum likelihood (exponential family, a penalty for each cut, found
//! exactly by dynamic programming). The boundary is the outermost cut at which the power rises above what lies outside of it
//! and does not sink back for longer than a stop consonant's closure. What lies outside is looked at close by, so that a fan
//! that swells and sinks does not matter.

use super::decibel::power_of;

/// How far a boundary may be moved outwards, in ms: the longest soft consonants.
const REACH_MS: usize = 180;
/// Where within the speech the search begins, in ms.
const INSIDE_MS: usize = 15;
/// The noise close by: this much of it beyond a cut, in ms, and no less than this.
const OUTSIDE_MS: usize = 100;
const LEAST_OUTSIDE_MS: usize = 10;
/// The noise's predictor is taken from this much of it beyond the reach, in ms, where there is at least so much.
const PREDICTOR_MS: usize = 400;
const LEAST_PREDICTOR_MS: usize = 50;
/// The shortest stretch of even power, in ms.
const SHORTEST_MS: usize = 6;
/// How many independent values a millisecond's power stands for, halved.
const SHAPE: f64 = 3.0;
/// What a further cut costs, in nats.
const PENALTY: f64 = 10.0;
/// Speech is this much louder than what lies outside (1.8 dB).
const RISE: f64 = 1.5;
/// Below this nothing is heard, dBFS.
const SILENCE_DB: f64 = -70.0;
/// The longest closure within speech, in ms.
const CLOSURE_MS: usize = 80;

/// A track by the millisecond: mean square, and mean product of neighbouring samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct EdgeTrack<'a> {
    pub(super) powers: &'a [f32],
    pub(super) products: &'a [f32],
}

impl EdgeTrack<'_> {
    /// Where the speech that begins near `rough` begins, no earlier than `earliest`.
    pub(super) fn start(self, rough: usize, earliest: usize) -> usize {
        let inside = (rough + INSIDE_MS).min(self.powers.len());
        let outermost = inside.saturating_sub(INSIDE_MS + REACH_MS + OUTSIDE_MS).max(earliest);
        let coefficient = self.predictor(outermost.saturating_sub(PREDICTOR_MS).max(earliest), outermost);
        let way: Vec<f64> = (outermost..inside).rev().map(|ms| self.whitened(ms, coefficient)).collect();
        inside - edge(&way)
    }

    /// Where the speech that ends near `rough` ends, no later than `latest`.
    pub(super) fn end(self, rough: usize, latest: usize) -> usize {
        let inside = rough.saturating_sub(INSIDE_MS).min(self.powers.len());
        let outermost = (inside + INSIDE_MS + REACH_MS + OUTSIDE_MS).min(latest);
        let coefficient = self.predictor(outermost, (outermost + PREDICTOR_MS).min(latest));
        let way: Vec<f64> = (inside..outermost).map(|ms| self.whitened(ms, coefficient)).collect();
        inside + edge(&way)
    }

    /// The first-order predictor's coefficient, of noise: r(1) / r(0).
    fn predictor(self, from: usize, to: usize) -> f64 {
        if to < from + LEAST_PREDICTOR_MS {
            return 0.0;
        }
        let sum = |track: &[f32]| track[from..to].iter().map(|value| f64::from(*value)).sum::<f64>();
        let power = sum(self.powers);
        if power > 0.0 { (sum(self.products) / power).clamp(-0.98, 0.98) } else { 0.0 }
    }

    /// The power of the prediction's error; what is as quiet as silence is silence.
    fn whitened(self, ms: usize, coefficient: f64) -> f64 {
        let (power, product) = (f64::from(self.powers[ms]), f64::from(self.products[ms]));
        let error = power * (1.0 + coefficient * coefficient) - 2.0 * coefficient * product;
        error.max(f64::from(power_of(SILENCE_DB)))
    }
}

/// How many milliseconds of `way`, which leads from within speech outwards, are speech.
fn edge(way: &[f64]) -> usize {
    let sums: Vec<f64> = std::iter::once(0.0)
        .chain(way.iter().scan(0.0, |sum, power| {
            *sum += power;
            Some(*sum)
        }))
        .collect();
    let mean = |from: usize, to: usize| (sums[to] - sums[from]) / (to - from) as f64;
    let cuts = cuts(way.len(), &mean);
    let mut edge = INSIDE_MS.min(way.len());
    for (at, cut) in cuts.iter().enumerate() {
        let outside = (cut + OUTSIDE_MS).min(way.len());
        if *cut > INSIDE_MS + REACH_MS || outside < cut + LEAST_OUTSIDE_MS {
            break;
        }
        let noise = mean(*cut, outside);
        // From within the speech to the cut: the last stretch is louder than the noise, and none that is not lasts for long.
        let ends = &cuts[..=at];
        let begins = std::iter::once(&0).chain(ends);
        let quiet = |from: usize, to: usize| mean(from, to) < noise * RISE;
        let stretches = begins.zip(ends).map(|(from, to)| (*from, *to));
        let too_quiet = |(from, to): (usize, usize)| quiet(from, to) && (to == *cut || to - from > CLOSURE_MS);
        if !stretches.clone().any(too_quiet) {
            edge = *cut;
        }
    }
    edge
}

/// The best cuts of `length` milliseconds into stretches of even power, in order.
fn cuts(length: usize, mean: &impl Fn(usize, usize) -> f64) -> Vec<usize> {
    let mut cost = vec![f64::INFINITY; length + 1];
    let mut from = vec![0; length + 1];
    cost[0] = -PENALTY;
    for to in SHORTEST_MS..=length {
        for begin in 0..=to - SHORTEST_MS {
            if cost[begin].is_finite() {
                let all = cost[begin] + PENALTY + SHAPE * (to - begin) as f64 * mean(begin, to).ln();
                if all < cost[to] {
                    (cost[to], from[to]) = (all, begin);
                }
            }
        }
    }
    let mut found = Vec::new();
    let mut at = length;
    while at > 0 {
        at = from[at];
        if at > 0 {
            found.push(at);
        }
    }
    found.reverse();
    found
}
