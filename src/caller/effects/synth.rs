//! The building blocks of made sounds: noise, tones, voices and events, as floating point around ±1.

use std::f64::consts::{FRAC_PI_2, PI, TAU};

use super::random::Random;

/// A sound under way: its rate in Hz, its length in samples, its chance.
pub(super) struct Synth {
    pub(super) hz: f64,
    pub(super) length: usize,
    /// Over how many samples the end of noise goes over into its beginning; 0 for a sound that is made once.
    pub(super) seam: usize,
    pub(super) random: Random,
}

/// A part of a sound. Frequencies are in Hz, times in seconds, rates in events a second.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layer {
    /// Noise between two frequencies.
    Noise(f64, f64),
    /// Noise between two frequencies that swells and sinks: with this frequency, and this depth from 0 to 1.
    Swelling(f64, f64, f64, f64),
    /// A tone of this frequency with weaker harmonics up to the fourth.
    Hum(f64),
    /// This many people talking at once, none of them to be understood.
    Babble(usize),
    /// Short bursts of noise: how many, where in the spectrum, and how fast each dies away.
    Bursts { rate: f64, hz: f64, decay: f64 },
    /// Short tones that die away: how many, how high, and how fast.
    Strikes { rate: f64, hz: f64, decay: f64 },
    /// Voiced cries: how many, their pitch, their length.
    Cries { rate: f64, pitch: f64, length: f64 },
    /// Coughs: how many.
    Coughs { rate: f64 },
    /// A slow tune.
    Tune,
}

impl Synth {
    /// A layer at unit RMS; all zeros when nothing of it happens.
    pub(super) fn layer(&mut self, layer: Layer) -> Vec<f64> {
        let mut samples = match layer {
            Layer::Noise(low, high) => self.noise(low, high),
            Layer::Swelling(low, high, often, depth) => {
                let noise = self.noise(low, high);
                let phase = self.random.share() * TAU;
                // A whole number of swells: the sound is repeated without a seam.
                let swell = |n: usize| 1.0 + depth * (TAU * often * n as f64 / self.hz + phase).sin();
                noise.into_iter().enumerate().map(|(n, sample)| sample * swell(n)).collect()
            }
            Layer::Hum(hz) => {
                let harmonics = [1.0, 0.5, 0.3, 0.15];
                let tone = |n: usize| {
                    let t = n as f64 / self.hz;
                    (1..).zip(harmonics).map(|(k, gain)| gain * (TAU * hz * f64::from(k) * t).sin()).sum()
                };
                (0..self.length).map(tone).collect()
            }
            Layer::Babble(voices) => self.babble(voices),
            Layer::Bursts { rate, hz, decay } => self.events(rate, |synth| synth.burst(hz, decay)),
            Layer::Strikes { rate, hz, decay } => self.events(rate, |synth| synth.strike(hz, decay)),
            Layer::Cries { rate, pitch, length } => self.events(rate, |synth| synth.cry(pitch, length)),
            Layer::Coughs { rate } => self.events(rate, Self::cough),
            Layer::Tune => self.tune(),
        };
        normalise(&mut samples);
        samples
    }

    /// Noise that goes on at its beginning where it ends: what is made beyond the end is laid over the beginning.
    fn noise(&mut self, low: f64, high: f64) -> Vec<f64> {
        let white = (0..self.length + self.seam).map(|_| self.random.normal()).collect();
        let mut samples = self.band(white, low, high);
        for n in 0..self.seam {
            // Of equal power: the two are not alike.
            let turn = FRAC_PI_2 * n as f64 / self.seam as f64;
            samples[n] = samples[n] * turn.sin() + samples[self.length + n] * turn.cos();
        }
        samples.truncate(self.length);
        samples
    }

    /// Two low-passes and two high-passes of the first order: 12 dB an octave on either side.
    fn band(&self, mut samples: Vec<f64>, low: f64, high: f64) -> Vec<f64> {
        let pole = |hz: f64| (-TAU * hz.min(self.hz * 0.45) / self.hz).exp();
        let (below, above) = (pole(low), pole(high));
        for _ in 0..2 {
            let (mut slow, mut fast) = (0.0, 0.0);
            for sample in &mut samples {
                fast = above * fast + (1.0 - above) * *sample;
                slow = below * slow + (1.0 - below) * fast;
                *sample = fast - slow;
            }
        }
        samples
    }

    /// Sounds at random places, `rate` a second, one at least; what reaches over the end goes on at the beginning.
    fn events(&mut self, rate: f64, mut make: impl FnMut(&mut Self) -> Vec<f64>) -> Vec<f64> {
        let mut out = vec![0.0; self.length];
        let count = (rate * self.length as f64 / self.hz).round().max(1.0) as usize;
        for number in 0..count {
            let event = make(self);
            let place = (number as f64 + self.random.share()) / count as f64;
            let from = (place * self.length as f64) as usize;
            let gain = self.random.between(0.6, 1.0);
            for (n, sample) in event.into_iter().enumerate() {
                out[(from + n) % self.length.max(1)] += sample * gain;
            }
        }
        out
    }

    fn burst(&mut self, hz: f64, decay: f64) -> Vec<f64> {
        let length = (self.hz * decay * 5.0) as usize;
        let white = (0..length).map(|_| self.random.normal()).collect();
        let fades = |(n, sample): (usize, f64)| sample * (-(n as f64) / (self.hz * decay)).exp();
        self.band(white, hz * 0.6, hz * 1.6).into_iter().enumerate().map(fades).collect()
    }

    fn strike(&mut self, hz: f64, decay: f64) -> Vec<f64> {
        let hz = hz * self.random.between(0.85, 1.2);
        let partials = [(1.0, 1.0), (2.76, 0.5), (5.4, 0.25)];
        let tone = |n: usize| {
            let t = n as f64 / self.hz;
            let ring = |(ratio, gain): &(f64, f64)| {
                if hz * ratio < self.hz * 0.45 { gain * (TAU * hz * ratio * t).sin() * (-t * ratio / decay).exp() } else { 0.0 }
            };
            partials.iter().map(ring).sum::<f64>() * (t * 500.0).min(1.0)
        };
        (0..(self.hz * decay * 5.0) as usize).map(tone).collect()
    }

    /// One voiced cry: the pitch rises and falls, with some breath.
    pub(super) fn cry(&mut self, pitch: f64, length: f64) -> Vec<f64> {
        let count = (self.hz * length * self.random.between(0.7, 1.2)) as usize;
        let pitch = pitch * self.random.between(0.9, 1.15);
        let mut phase = 0.0;
        let source: Vec<f64> = (0..count)
            .map(|n| {
                let at = n as f64 / count.max(1) as f64;
                phase += pitch * (0.9 + 0.3 * (PI * at).sin()) * (1.0 + 0.02 * (TAU * 6.0 * n as f64 / self.hz).sin()) / self.hz;
                let voice: f64 = (1..=12)
                    .filter(|k| pitch * f64::from(*k) < self.hz * 0.35)
                    .map(|k| (TAU * phase * f64::from(k)).sin() / f64::from(k))
                    .sum();
                (voice + 0.15 * self.random.normal()) * (PI * at).sin().powf(0.6)
            })
            .collect();
        self.band(source, 250.0, 2800.0)
    }

    /// A cough: a burst of air, then a shorter voiced end.
    pub(super) fn cough(&mut self) -> Vec<f64> {
        let count = (self.hz * self.random.between(0.32, 0.42)) as usize;
        let pitch = self.random.between(140.0, 190.0);
        let source: Vec<f64> = (0..count)
            .map(|n| {
                let t = n as f64 / self.hz;
                let air = self.random.normal() * (-t / 0.06).exp() * (t * 400.0).min(1.0);
                let voice: f64 = (1..=10).map(|k| (TAU * pitch * f64::from(k) * t).sin() / f64::from(k)).sum();
                let late = ((t - 0.1) * 30.0).clamp(0.0, 1.0) * (-(t - 0.1).max(0.0) / 0.07).exp();
                air * 1.5 + voice * 0.5 * late
            })
            .collect();
        self.band(source, 350.0, 2600.0)
    }

    /// Voices with a pitch and vowels of their own, in syllables and breaths; they too go on at the beginning.
    fn babble(&mut self, voices: usize) -> Vec<f64> {
        let mut out = vec![0.0; self.length];
        for _ in 0..voices {
            let pitch = self.random.between(95.0, 230.0);
            let gain = self.random.between(0.5, 1.0);
            let mut at = (self.random.share() * self.hz * 0.5) as usize;
            while at < self.length {
                let syllables = self.random.between(4.0, 11.0) as usize;
                for _ in 0..syllables {
                    let spoken = self.syllable(pitch);
                    for (n, sample) in spoken.iter().enumerate() {
                        out[(at + n) % self.length] += sample * gain;
                    }
                    at += spoken.len() + (self.hz * self.random.between(0.02, 0.06)) as usize;
                }
                at += (self.hz * self.random.between(0.15, 0.9)) as usize;
            }
        }
        out
    }

    fn syllable(&mut self, pitch: f64) -> Vec<f64> {
        let count = (self.hz * self.random.between(0.09, 0.22)) as usize;
        let formants = [self.random.between(300.0, 800.0), self.random.between(900.0, 2200.0), self.random.between(2400.0, 3000.0)];
        let pitch = pitch * self.random.between(0.9, 1.1);
        let gains: Vec<f64> = (1..)
            .map(|k| pitch * f64::from(k))
            .take_while(|hz| *hz < (self.hz * 0.45).min(4000.0))
            .map(|hz| 0.02 + formants.iter().map(|f| 1.0 / (1.0 + ((hz - f) / 90.0).powi(2))).sum::<f64>())
            .collect();
        let voiced = |n: usize| {
            let (t, at) = (n as f64 / self.hz, n as f64 / count as f64);
            let sum: f64 = (1..).zip(&gains).map(|(k, gain)| gain * (TAU * pitch * f64::from(k) * t).sin()).sum();
            sum * (PI * at).sin().sqrt()
        };
        (0..count).map(voiced).collect()
    }

    /// Notes of a pentatonic scale, two a second, soft as a holding line's.
    fn tune(&mut self) -> Vec<f64> {
        let scale = [262.0, 294.0, 330.0, 392.0, 440.0, 523.0];
        let notes = (self.length as f64 / self.hz * 2.0).round().max(1.0) as usize;
        let each = self.length / notes;
        let mut out = vec![0.0; self.length];
        for note in 0..notes {
            let hz = scale[(self.random.share() * scale.len() as f64) as usize % scale.len()];
            for n in 0..(each * 2).min(self.length) {
                let t = n as f64 / self.hz;
                let tone = (TAU * hz * t).sin() + 0.3 * (TAU * hz * 2.0 * t).sin() + 0.1 * (TAU * hz * 3.0 * t).sin();
                out[(note * each + n) % self.length] += tone * (t * 60.0).min(1.0) * (-t / 0.35).exp();
            }
        }
        out
    }
}

/// Brings what sounds of it to an RMS of 1: silence between its parts is not counted.
pub(super) fn normalise(samples: &mut [f64]) {
    let sounding = samples.iter().filter(|sample| **sample != 0.0).count();
    let power = samples.iter().map(|sample| sample * sample).sum::<f64>() / sounding.max(1) as f64;
    if power > 0.0 {
        samples.iter_mut().for_each(|sample| *sample /= power.sqrt());
    }
}
