//! What is done to speech: its pace and its level.

use crate::audio::Rate;

/// WSOLA's window, in ms: two to three periods of a low voice. Windows overlap by half.
const WINDOW_MS: u64 = 30;
/// How far from its due place a window is looked for, in ms: a period of a low voice in either direction.
const SEARCH_MS: u64 = 10;

/// Speech `ratio` times as fast, at the same pitch: waveform-similarity overlap-add (Verhelst and Roelands, ICASSP 1993). The
/// length is the given one divided by `ratio`.
#[must_use]
pub fn at_speed(samples: &[i16], rate: Rate, ratio: f64) -> Vec<i16> {
    if (ratio - 1.0).abs() < 1e-9 {
        return samples.to_vec();
    }
    let length = (samples.len() as f64 / ratio).round() as usize;
    let in_ms = |ms: u64| (u64::from(rate.hz()) * ms / 1000) as usize;
    let (hop, search) = (in_ms(WINDOW_MS) / 2, in_ms(SEARCH_MS) as isize);
    let at = |place: isize| usize::try_from(place).ok().and_then(|place| samples.get(place)).map_or(0.0, |s| f64::from(*s));
    let (mut sum, mut weights) = (vec![0.0; length], vec![0.0; length]);
    let mut natural: isize = 0;
    for start in (0..length + hop).step_by(hop) {
        // The first half of each window lies over the second half of the one before it.
        let out = start as isize - hop as isize;
        let due = (out as f64 * ratio).round() as isize;
        let from = if start <= hop { due } else { best(&at, natural, due, search, hop) };
        natural = from + hop as isize;
        for n in 0..2 * hop {
            let Ok(place) = usize::try_from(out + n as isize) else { continue };
            if place < length {
                let weight = 0.5 - 0.5 * (std::f64::consts::PI * (n as f64 + 0.5) / hop as f64).cos();
                sum[place] += weight * at(from + n as isize);
                weights[place] += weight;
            }
        }
    }
    let sample = |(sum, weight): (&f64, &f64)| (sum / weight.max(1e-9)).round().clamp(-32_768.0, 32_767.0) as i16;
    sum.iter().zip(&weights).map(sample).collect()
}

/// The place around `due` at which the signal is most like that at `natural`, where the last window would go on by itself.
fn best(at: &impl Fn(isize) -> f64, natural: isize, due: isize, search: isize, length: usize) -> isize {
    let likeness = |place: &isize| {
        let (mut cross, mut power) = (0.0, 1.0);
        for n in 0..length as isize {
            let (wanted, found) = (at(natural + n), at(place + n));
            cross += wanted * found;
            power += found * found;
        }
        cross / f64::sqrt(power)
    };
    let mut found = (due, likeness(&due));
    for place in due - search..=due + search {
        let like = likeness(&place);
        if like > found.1 {
            found = (place, like);
        }
    }
    found.0
}

/// Speech with its samples multiplied by `ratio`; what does not fit into 16 bits is cut off at full scale.
#[must_use]
pub fn at_volume(samples: &[i16], ratio: f64) -> Vec<i16> {
    samples.iter().map(|sample| (f64::from(*sample) * ratio).round().clamp(-32_768.0, 32_767.0) as i16).collect()
}
