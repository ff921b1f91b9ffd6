//! Background sounds: a recipe a name, made from a seed, repeated without a seam.

use super::random::Random;
use super::synth::{Layer, Synth, normalise};
use super::{level_of, quantised};
use crate::audio::Rate;
use crate::call::{Effect, EffectKind};

/// The level of a background at volume 1, RMS in dBFS: that of speech at its nominal level (-26, ITU-T P.56 as its users have
/// it). Volume multiplies the samples: 0.3 is 10.5 dB less.
pub const BED_DBFS: f64 = -26.0;
/// How long one is before it is repeated, and how long the end of its noise goes over into its beginning, in seconds.
const LENGTH_S: f64 = 12.0;
const SEAM_S: f64 = 0.5;

use Layer::{Babble, Bursts, Coughs, Cries, Hum, Noise, Strikes, Swelling, Tune};

/// A name, and its layers with the gain of each.
type Recipe = (&'static str, &'static [(Layer, f64)]);

/// Every background of the format (the names are those of Cekura's page on structured tests), by what it is made of.
pub(super) const RECIPES: [Recipe; 30] = [
    ("office-ambience", &[(Babble(4), 0.5), (Noise(80.0, 500.0), 0.8), (Bursts { rate: 3.0, hz: 2800.0, decay: 0.006 }, 0.15)]),
    ("coffee-shop", &[(Babble(7), 1.0), (Noise(100.0, 1500.0), 0.3), (Strikes { rate: 1.2, hz: 2300.0, decay: 0.06 }, 0.3)]),
    ("kitchen-noise", &[(Noise(150.0, 1200.0), 0.5), (Strikes { rate: 2.5, hz: 1700.0, decay: 0.12 }, 1.0)]),
    ("home-chatter", &[(Babble(3), 1.0), (Noise(60.0, 400.0), 0.2)]),
    ("restaurant", &[(Babble(9), 1.0), (Strikes { rate: 2.0, hz: 2600.0, decay: 0.07 }, 0.35), (Noise(100.0, 900.0), 0.3)]),
    ("shopping-mall", &[(Babble(10), 0.8), (Noise(100.0, 2000.0), 0.6), (Tune, 0.3)]),
    (
        "train-station",
        &[(Babble(6), 0.6), (Swelling(50.0, 600.0, 0.25, 0.6), 1.0), (Strikes { rate: 0.2, hz: 620.0, decay: 0.6 }, 0.5)],
    ),
    ("rain-thunder", &[(Noise(800.0, 7000.0), 1.0), (Bursts { rate: 0.17, hz: 70.0, decay: 0.9 }, 1.2)]),
    ("windy-day", &[(Swelling(40.0, 500.0, 0.25, 0.8), 1.0), (Swelling(300.0, 1200.0, 0.5, 0.7), 0.4)]),
    ("air-conditioner", &[(Noise(60.0, 900.0), 1.0), (Hum(100.0), 0.3)]),
    ("inside-car", &[(Noise(30.0, 250.0), 1.0), (Hum(47.0), 0.4), (Noise(300.0, 1500.0), 0.15)]),
    ("inside-train", &[(Noise(40.0, 400.0), 1.0), (Bursts { rate: 2.0, hz: 180.0, decay: 0.05 }, 0.7)]),
    (
        "busy-street",
        &[
            (Swelling(50.0, 700.0, 0.25, 0.6), 1.0),
            (Noise(200.0, 2500.0), 0.4),
            (Strikes { rate: 0.25, hz: 410.0, decay: 0.3 }, 0.4),
        ],
    ),
    ("airport-boarding", &[(Babble(8), 0.8), (Noise(80.0, 1200.0), 0.6), (Strikes { rate: 0.25, hz: 700.0, decay: 0.5 }, 0.4)]),
    ("dog-barking", &[(Cries { rate: 1.2, pitch: 420.0, length: 0.16 }, 1.0), (Noise(100.0, 800.0), 0.08)]),
    ("baby-crying", &[(Cries { rate: 0.8, pitch: 430.0, length: 0.9 }, 1.0), (Noise(100.0, 800.0), 0.05)]),
    ("coughing", &[(Coughs { rate: 0.7 }, 1.0), (Noise(100.0, 800.0), 0.3)]),
    ("two-people-talking", &[(Babble(2), 1.0), (Noise(80.0, 600.0), 0.05)]),
    ("keyboard-typing", &[(Bursts { rate: 7.0, hz: 3000.0, decay: 0.015 }, 1.0), (Noise(80.0, 500.0), 0.4)]),
    ("background-printer", &[(Hum(120.0), 0.5), (Bursts { rate: 9.0, hz: 1500.0, decay: 0.02 }, 1.0), (Noise(300.0, 3000.0), 0.3)]),
    ("static-radio", &[(Noise(500.0, 4500.0), 1.0), (Bursts { rate: 6.0, hz: 3500.0, decay: 0.004 }, 0.7)]),
    ("fan-buzz", &[(Hum(120.0), 1.0), (Noise(100.0, 1500.0), 0.5)]),
    ("ship-humming", &[(Hum(55.0), 1.0), (Noise(30.0, 300.0), 0.6)]),
    ("vacuum-cleaner", &[(Noise(300.0, 5000.0), 1.0), (Hum(210.0), 0.6)]),
    (
        "construction-site",
        &[
            (Bursts { rate: 8.0, hz: 600.0, decay: 0.03 }, 1.0),
            (Strikes { rate: 1.0, hz: 900.0, decay: 0.15 }, 0.5),
            (Noise(60.0, 700.0), 0.4),
        ],
    ),
    ("quiet-room", &[(Noise(50.0, 300.0), 1.0), (Hum(50.0), 0.1)]),
    ("stadium-crowd", &[(Babble(12), 0.5), (Swelling(250.0, 2500.0, 0.25, 0.5), 1.0)]),
    ("standard-hiss", &[(Noise(20.0, 7000.0), 1.0)]),
    ("public-park", &[(Noise(100.0, 1500.0), 0.5), (Strikes { rate: 2.0, hz: 3200.0, decay: 0.05 }, 0.6), (Babble(2), 0.25)]),
    ("holding-on-song", &[(Tune, 1.0)]),
];

/// One round of a background at `rate`, and what it is; none where no recipe has this name.
#[must_use]
pub fn bed(sound: &str, volume: f64, seed: u64, rate: Rate) -> Option<(Vec<i16>, Effect)> {
    let (_, layers) = RECIPES.iter().find(|(name, _)| *name == sound)?;
    let hz = f64::from(rate.hz());
    let (length, seam) = ((LENGTH_S * hz) as usize, (SEAM_S * hz) as usize);
    let mut synth = Synth { hz, length, seam, random: Random::new(seed) };
    let mut sum = vec![0.0; length];
    for (layer, gain) in *layers {
        sum.iter_mut().zip(synth.layer(*layer)).for_each(|(into, sample)| *into += sample * gain);
    }
    normalise(&mut sum);
    let level_dbfs = level_of(BED_DBFS, volume);
    let kind = EffectKind::BackgroundNoise { sound: sound.to_owned(), volume, level_dbfs };
    Some((quantised(&sum, BED_DBFS, volume), Effect { kind, seed: Some(seed) }))
}
