//! Sounds that are made once.

use std::f64::consts::TAU;
use std::time::Duration;

use super::random::Random;
use super::synth::{Layer, Synth, normalise};
use super::{level_of, quantised};
use crate::audio::Rate;
use crate::call::{Effect, EffectKind};

/// The level of a sound at volume 1, RMS of what sounds of it, in dBFS.
pub const SHOT_DBFS: f64 = -20.0;
/// A beep that does not say how long it is; the pitch of one.
const BEEP: Duration = Duration::from_millis(200);
const BEEP_HZ: f64 = 1000.0;
/// The beep after a voicemail's greeting: FreeSWITCH's default, `tone-spec` `%(1000, 0, 640)` of its voicemail.conf.xml.
const VOICEMAIL_BEEP: Duration = Duration::from_secs(1);
const VOICEMAIL_BEEP_HZ: f64 = 640.0;
/// How long an office is heard, in seconds.
const OFFICE_S: f64 = 1.5;
/// The longest sound.
const LONGEST: Duration = Duration::from_secs(60);

/// What makes a sound: of a length of its own, but for a beep.
type Maker = fn(&mut Synth, Option<Duration>, Rate) -> Vec<f64>;

/// Every sound that is made once, and what makes it.
pub(super) const MAKERS: [(&str, Maker); 7] = [
    ("office", |synth, _, _| office(synth)),
    ("beep", |_, time, rate| tone(&[BEEP_HZ], time.unwrap_or(BEEP), rate)),
    ("cough1", |synth, _, _| synth.cough()),
    ("cough2", |synth, _, _| [synth.cough(), vec![0.0; (synth.hz * 0.12) as usize], synth.cough()].concat()),
    ("female-crying", |synth, _, _| sobs(synth, 390.0)),
    ("male-crying", |synth, _, _| sobs(synth, 210.0)),
    ("ringback", |_, _, rate| ringback(rate)),
];

/// A sound at `rate`, cut after `time`, and what it is; none where no sound has this name. A beep lasts as long as `time` says.
#[must_use]
pub fn shot(sound: &str, volume: f64, time: Option<Duration>, seed: u64, rate: Rate) -> Option<(Vec<i16>, Effect)> {
    let (_, make) = MAKERS.iter().find(|(name, _)| *name == sound)?;
    let hz = f64::from(rate.hz());
    let time = time.map(|time| time.min(LONGEST));
    let mut synth = Synth { hz, length: (hz * OFFICE_S) as usize, seam: 0, random: Random::new(seed) };
    let mut samples = make(&mut synth, time, rate);
    samples.truncate(time.map_or(usize::MAX, |time| rate.samples_in(time) as usize));
    normalise(&mut samples);
    let kind = EffectKind::Noise { sound: sound.to_owned(), level_dbfs: level_of(SHOT_DBFS, volume) };
    Some((quantised(&samples, SHOT_DBFS, volume), Effect { kind, seed: Some(seed) }))
}

/// The beep after a voicemail's greeting.
#[must_use]
pub fn voicemail_beep(rate: Rate) -> (Vec<i16>, Effect) {
    let mut samples = tone(&[VOICEMAIL_BEEP_HZ], VOICEMAIL_BEEP, rate);
    normalise(&mut samples);
    let kind = EffectKind::VoicemailBeep { hz: VOICEMAIL_BEEP_HZ, level_dbfs: SHOT_DBFS };
    (quantised(&samples, SHOT_DBFS, 1.0), Effect { kind, seed: None })
}

/// Tones together, with edges of 5 ms: no click.
fn tone(tones: &[f64], time: Duration, rate: Rate) -> Vec<f64> {
    let (hz, length) = (f64::from(rate.hz()), rate.samples_in(time) as usize);
    let edge = hz * 0.005;
    let sample = |n: usize| {
        let fade = ((n as f64 + 0.5) / edge).min((length as f64 - n as f64 - 0.5) / edge).min(1.0);
        tones.iter().map(|tone| (TAU * tone * n as f64 / hz).sin()).sum::<f64>() * fade
    };
    (0..length).map(sample).collect()
}

/// A ring, the gap, and the beginning of the next: 440 and 480 Hz, 2 s on and 4 s off (North America; Telcordia GR-506).
fn ringback(rate: Rate) -> Vec<f64> {
    let ring = |time| tone(&[440.0, 480.0], time, rate);
    let gap = vec![0.0; rate.samples_in(Duration::from_secs(4)) as usize];
    [ring(Duration::from_secs(2)), gap, ring(Duration::from_millis(300))].concat()
}

/// Keys and a murmur.
fn office(synth: &mut Synth) -> Vec<f64> {
    let mut samples = synth.layer(Layer::Babble(2));
    let keys = synth.layer(Layer::Bursts { rate: 6.0, hz: 2800.0, decay: 0.006 });
    samples.iter_mut().zip(keys).for_each(|(into, key)| *into += key);
    samples
}

/// A breath in, then sobs that get weaker; six times.
fn sobs(synth: &mut Synth, pitch: f64) -> Vec<f64> {
    let mut samples = Vec::new();
    for _ in 0..6 {
        for (sob, gain) in [0.45, 0.3, 0.25].into_iter().zip([1.0, 0.7, 0.5]) {
            samples.extend(synth.cry(pitch, sob).into_iter().map(|sample| sample * gain));
            samples.extend(vec![0.0; (synth.hz * 0.06) as usize]);
        }
        let breath = (synth.hz * 0.4) as usize;
        samples.extend((0..breath).map(|n| synth.random.normal() * 0.05 * (n as f64 / breath as f64)));
    }
    samples
}
