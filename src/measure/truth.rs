//! How good the onset detector is: synthetic calls whose onsets are known, in noise. Seeded, so that anyone gets the same
//! table: `cargo run --release --example onset_truth`.

use super::decibel::{dbfs_of, power_of};
use super::onset::OnsetDetector;
use crate::audio::Rate;

/// What is known of the detector in one kind of call.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The speech: `syllables` (made here) or `shipped` (the recordings of the demo).
    pub speech: &'static str,
    /// The noise.
    pub noise: &'static str,
    /// Speech power over noise power, dB.
    pub snr_db: f64,
    /// Onsets that were there.
    pub onsets: usize,
    /// Mean error, ms; above zero is late.
    pub bias_ms: f64,
    /// 95th percentile of the error's size, ms.
    pub p95_ms: f64,
    /// Onsets that were not found.
    pub misses: usize,
    /// Onsets that were found and not there.
    pub invented: usize,
}

/// The noises: a flat one, one that falls with frequency, and a machine room's hum and fan.
pub const NOISES: [&str; 3] = ["white", "pink", "hum and fan"];

/// A seeded generator of noise (PCG-XSH-RR, the reference's constants).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = (((self.0 >> 18) ^ self.0) >> 27) as u32;
        f64::from(word.rotate_right((self.0 >> 59) as u32)) / f64::from(u32::MAX)
    }

    /// About normal: mean 0, variance 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() - 6.0
    }
}

/// Measures `calls` calls of one kind, each with a few utterances of `speech`.
#[must_use]
pub fn row(speech: Option<&[Vec<i16>]>, noise: &'static str, snr_db: f64, calls: usize, seed: u64) -> Row {
    let mut random = Random(seed);
    let (mut errors, mut misses, mut invented) = (Vec::new(), 0, 0);
    for _ in 0..calls {
        let (call, truth) = call(speech, noise, snr_db, &mut random);
        let mut detector = OnsetDetector::new(Rate::HZ_16000);
        detector.push(&call);
        let found: Vec<f64> = detector.finish().iter().map(|stretch| stretch.start_ms).collect();
        for (start, end) in &truth {
            let nearest = found.iter().map(|ms| ms - start).min_by(|a, b| a.abs().total_cmp(&b.abs()));
            match nearest.filter(|error| error.abs() < (end - start).min(300.0)) {
                Some(error) => errors.push(error),
                None => misses += 1,
            }
        }
        let inside = |ms: f64| truth.iter().any(|(start, end)| (start - 300.0..end + 100.0).contains(&ms));
        invented += found.iter().filter(|ms| !inside(**ms)).count();
    }
    let mut sizes: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    Row {
        speech: if speech.is_some() { "shipped" } else { "syllables" },
        noise,
        snr_db,
        onsets: errors.len() + misses,
        bias_ms: errors.iter().sum::<f64>() / errors.len().max(1) as f64,
        p95_ms: super::figure::percentile(&sizes, 0.95).unwrap_or(f64::NAN),
        misses,
        invented,
    }
}

/// Onsets that are found on `lines` lines of 30 s that carry nothing but noise, at levels from -65 to -35 dBFS.
#[must_use]
pub fn invented_on_silent_lines(lines: usize, seed: u64) -> usize {
    let mut random = Random(seed);
    let mut invented = 0;
    for line in 0..lines {
        let level_db = -65.0 + 30.0 * line as f64 / lines as f64;
        let mut samples = vec![0.0; 16_000 * 30];
        add_noise(&mut samples, NOISES[line % NOISES.len()], level_db, &mut random);
        let mut detector = OnsetDetector::new(Rate::HZ_16000);
        detector.push(&quantised(&samples));
        invented += detector.finish().len();
    }
    invented
}

/// A call of some 12 s: noise, and utterances at random places. Gives each utterance's start and end in ms.
fn call(speech: Option<&[Vec<i16>]>, noise: &str, snr_db: f64, random: &mut Random) -> (Vec<i16>, Vec<(f64, f64)>) {
    let mut samples = vec![0.0; 16_000];
    let mut truth = Vec::new();
    let mut power = 0.0;
    let mut spoken = 0_usize;
    for _ in 0..3 {
        samples.extend(std::iter::repeat_n(0.0, (random.next() * 8000.0) as usize + 8000));
        let start = samples.len();
        let utterance = match speech {
            Some(recordings) => {
                let chosen = &recordings[(random.next() * recordings.len() as f64) as usize % recordings.len()];
                chosen.iter().map(|sample| f64::from(*sample)).collect()
            }
            None => syllables(random),
        };
        power += utterance.iter().map(|sample| sample * sample).sum::<f64>();
        spoken += utterance.len();
        samples.extend(utterance);
        truth.push((start as f64 / 16.0, samples.len() as f64 / 16.0));
    }
    samples.extend(std::iter::repeat_n(0.0, 16_000));
    let level_db = dbfs_of(power / spoken as f64) - snr_db;
    add_noise(&mut samples, noise, level_db, random);
    (quantised(&samples), truth)
}

/// Speech-like sound: voiced syllables of 90 to 220 ms with a gliding pitch, three formants, an attack of 5 to 15 ms, and
/// closures of 20 to 60 ms between them; some begin with a hiss.
fn syllables(random: &mut Random) -> Vec<f64> {
    let mut out = Vec::new();
    let (mut phase, pitch) = (0.0, 100.0 + 120.0 * random.next());
    for _ in 0..(5 + (random.next() * 10.0) as usize) {
        let length = (16.0 * (90.0 + 130.0 * random.next())) as usize;
        let attack = 16.0 * (5.0 + 10.0 * random.next());
        let formants = [300.0 + 500.0 * random.next(), 900.0 + 1300.0 * random.next(), 2400.0 + 600.0 * random.next()];
        let (loudness, glide) = (2500.0 + 2500.0 * random.next(), 0.9 + 0.2 * random.next());
        let hiss = if random.next() < 0.3 { 16.0 * 30.0 } else { 0.0 };
        for n in 0..length {
            let at = n as f64;
            let rise = (at / attack).min(1.0) * ((length as f64 - at) / (16.0 * 40.0)).min(1.0);
            phase += pitch * (1.0 + (glide - 1.0) * at / length as f64) / 16_000.0;
            let voiced: f64 = (1..25)
                .map(|harmonic| {
                    let hz = f64::from(harmonic) * pitch;
                    let weight: f64 = formants.iter().map(|f| 1.0 / (1.0 + ((hz - f) / 90.0).powi(2))).sum();
                    (weight + 0.02) * (std::f64::consts::TAU * phase * f64::from(harmonic)).sin()
                })
                .sum();
            let value = if at < hiss { random.normal() * 0.35 } else { voiced };
            out.push(value * loudness * rise);
        }
        out.extend(std::iter::repeat_n(0.0, (16.0 * (20.0 + 40.0 * random.next())) as usize));
    }
    out
}

fn add_noise(samples: &mut [f64], noise: &str, level_db: f64, random: &mut Random) {
    let mut made: Vec<f64> = match noise {
        "white" => samples.iter().map(|_| random.normal()).collect(),
        "pink" => pink(samples.len(), random),
        _ => hum_and_fan(samples.len(), random),
    };
    let power = made.iter().map(|sample| sample * sample).sum::<f64>() / made.len() as f64;
    let gain = (f64::from(power_of(level_db)) / power).sqrt();
    made.iter_mut().zip(samples).for_each(|(noise, sample)| *sample += *noise * gain);
}

/// White noise through a sum of first-order low-passes, one an octave: falls by 3 dB an octave.
fn pink(length: usize, random: &mut Random) -> Vec<f64> {
    let mut states = [0.0; 8];
    let shape = |states: &mut [f64; 8], white: f64| {
        for (octave, state) in states.iter_mut().enumerate() {
            let pole = (-std::f64::consts::TAU * 31.0 * 2f64.powi(octave as i32) / 16_000.0).exp();
            *state = pole * *state + (1.0 - pole).sqrt() * white;
        }
        states.iter().enumerate().map(|(octave, state)| state * 2f64.powf(-0.5 * octave as f64)).sum()
    };
    (0..length).map(|_| shape(&mut states, random.normal())).collect()
}

/// 50 Hz with harmonics, and air through a fan: low-passed noise that swells and sinks by 2 dB.
fn hum_and_fan(length: usize, random: &mut Random) -> Vec<f64> {
    let mut air = 0.0;
    (0..length)
        .map(|n| {
            let t = n as f64 / 16_000.0;
            let hum = [(50.0, 1.0), (100.0, 0.6), (150.0, 0.4), (300.0, 0.15)];
            let hum: f64 = hum.iter().map(|(hz, gain)| gain * (std::f64::consts::TAU * hz * t).sin()).sum();
            air = 0.9 * air + 0.1 * random.normal();
            hum * 0.5 + air * 3.0 * (1.0 + 0.25 * (std::f64::consts::TAU * 0.7 * t).sin())
        })
        .collect()
}

fn quantised(samples: &[f64]) -> Vec<i16> {
    samples.iter().map(|sample| sample.round().clamp(-32_768.0, 32_767.0) as i16).collect()
}
