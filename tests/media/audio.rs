//! Resampling and live speech detection.

use std::time::Duration;

use trunkline::audio::{Rate, Resampler, SpeechChange, SpeechDetector, resample};

const RATES: [Rate; 4] = [Rate::HZ_8000, Rate::HZ_16000, Rate::HZ_24000, Rate::HZ_48000];

fn tone(rate: Rate, hz: f64, seconds: f64) -> Vec<i16> {
    let step = std::f64::consts::TAU * hz / f64::from(rate.hz());
    (0..(seconds * f64::from(rate.hz())) as usize).map(|n| ((n as f64 * step).sin() * 16_000.0).round() as i16).collect()
}

/// The level of `samples`, in dB.
fn level(samples: &[i16]) -> f64 {
    let power: f64 = samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / samples.len() as f64;
    10.0 * power.max(1e-9).log10()
}

/// What is left of `samples` when the best-fitting tone of `hz` is taken out, relative to the tone, in dB.
fn residue(samples: &[i16], rate: Rate, hz: f64) -> f64 {
    let step = std::f64::consts::TAU * hz / f64::from(rate.hz());
    let (mut ss, mut sc, mut cc, mut ys, mut yc) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (n, y) in samples.iter().enumerate() {
        let (s, c) = (n as f64 * step).sin_cos();
        let y = f64::from(*y);
        (ss, sc, cc, ys, yc) = (ss + s * s, sc + s * c, cc + c * c, ys + y * s, yc + y * c);
    }
    let det = ss * cc - sc * sc;
    let (a, b) = ((ys * cc - yc * sc) / det, (yc * ss - ys * sc) / det);
    let (mut error, mut signal) = (0.0, 0.0);
    for (n, y) in samples.iter().enumerate() {
        let (s, c) = (n as f64 * step).sin_cos();
        let fit = a * s + b * c;
        error += (f64::from(*y) - fit).powi(2);
        signal += fit * fit;
    }
    10.0 * (error / signal).log10()
}

#[test]
fn images_and_aliases_lie_below_minus_60_db_up_to_90_percent_of_the_lower_nyquist() {
    for from in RATES {
        for to in RATES.into_iter().filter(|to| *to != from) {
            let lower_nyquist = f64::from(from.hz().min(to.hz())) / 2.0;
            for share in [0.05, 0.3, 0.6, 0.9] {
                let hz = lower_nyquist * share;
                let out = resample(&tone(from, hz, 1.0), from.hz(), to);
                let middle = &out[to.hz() as usize / 5..to.hz() as usize * 4 / 5];
                let rest = residue(middle, to, hz);
                assert!(rest < -60.0, "{from} to {to}, {hz} Hz: {rest:.1} dB beside the tone");
            }
            if from > to {
                // What the lower rate cannot carry must not come back as something else: from 110 % of its Nyquist on.
                for share in [1.1, 1.5, 1.9] {
                    let hz = lower_nyquist * share;
                    if hz < f64::from(from.hz()) / 2.0 * 0.98 {
                        let input = tone(from, hz, 1.0);
                        let out = resample(&input, from.hz(), to);
                        let back = level(&out[to.hz() as usize / 5..to.hz() as usize * 4 / 5]) - level(&input);
                        assert!(back < -60.0, "{from} to {to}: {hz} Hz comes back at {back:.1} dB");
                    }
                }
            }
        }
    }
}

#[test]
fn the_resamplers_delay_is_taken_out_and_no_time_is_lost() {
    for from in RATES {
        for to in RATES.into_iter().filter(|to| *to != from) {
            // A smooth bump whose middle lies at 0.5 s must lie there after resampling.
            let middle = |rate: Rate| rate.hz() as usize / 2;
            let bump = |rate: Rate, n: usize| {
                let t = (n as f64 - middle(rate) as f64) / f64::from(rate.hz()) / 0.002;
                (20_000.0 * (-t * t).exp()).round() as i16
            };
            let input: Vec<i16> = (0..from.hz() as usize).map(|n| bump(from, n)).collect();
            let mut resampler = Resampler::new(from, to);
            let mut out = Vec::new();
            // Odd chunks: where a message ends must not matter.
            for chunk in input.chunks(137) {
                resampler.push(chunk, &mut out);
            }
            resampler.flush(&mut out);
            assert_eq!(out.len(), to.hz() as usize, "{from} to {to}: one second stays one second");
            let (sum, moment) = out
                .iter()
                .enumerate()
                .fold((0.0, 0.0), |(sum, moment), (n, s)| (sum + f64::from(*s), moment + n as f64 * f64::from(*s)));
            let centre = moment / sum;
            assert!((centre - middle(to) as f64).abs() < 0.5, "{from} to {to}: the bump's middle is at {centre}");
        }
    }
}

#[test]
fn a_stream_in_pieces_is_resampled_as_a_whole() {
    let input = tone(Rate::HZ_24000, 700.0, 0.7);
    let whole = resample(&input, 24_000, Rate::HZ_16000);
    let mut resampler = Resampler::new(Rate::HZ_24000, Rate::HZ_16000);
    let mut pieces = Vec::new();
    for chunk in input.chunks(333) {
        resampler.push(chunk, &mut pieces);
    }
    resampler.flush(&mut pieces);
    assert_eq!(whole, pieces);
    assert!(!resampler.holds_back(), "a flush leaves nothing behind");
}

#[test]
fn silence_hum_and_a_steady_tone_are_not_speech() {
    for rate in RATES {
        let mut detector = SpeechDetector::new(rate, Duration::from_millis(500));
        for samples in [vec![0; rate.hz() as usize], tone(rate, 50.0, 1.0), tone(rate, 1000.0, 1.0)] {
            for frame in samples.chunks(rate.frame_len()) {
                assert_ne!(detector.hear(frame), Some(SpeechChange::Started), "at {rate}");
            }
        }
    }
}
