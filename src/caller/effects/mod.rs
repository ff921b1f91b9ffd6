//! What a caller's line carries beside speech, and what becomes of the speech on it. All of it is made by rules from a seed:
//! nothing is shipped, and a run can be repeated sample by sample.

mod bed;
mod output;
mod random;
mod shot;
mod speech;
mod synth;

pub use bed::{BED_DBFS, bed};
pub(super) use output::Output;
pub(super) use random::seed_of;
pub use shot::{SHOT_DBFS, shot, voicemail_beep};
pub use speech::{at_speed, at_volume};

/// The names of the background sounds (Cekura's page on structured tests).
pub const BEDS: &[&str] = &names(&bed::RECIPES);
/// The names of the sounds that are made once.
pub const SHOTS: &[&str] = &names(&shot::MAKERS);

/// The names in a table of sounds.
const fn names<T, const N: usize>(table: &[(&'static str, T); N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut at = 0;
    while at < N {
        names[at] = table[at].0;
        at += 1;
    }
    names
}

/// The level of nothing: below what 16 bits can hold.
const FLOOR_DBFS: f64 = -100.0;

/// The level of a sound of `full` dBFS at `volume`.
fn level_of(full: f64, volume: f64) -> f64 {
    let level = full + 20.0 * volume.log10();
    (level.max(FLOOR_DBFS) * 100.0).round() / 100.0
}

/// Samples of RMS 1 as 16 bits at `full` dBFS times `volume`; what does not fit is cut off at full scale.
fn quantised(samples: &[f64], full: f64, volume: f64) -> Vec<i16> {
    let gain = 32_768.0 * 10f64.powf(full / 20.0) * volume;
    samples.iter().map(|sample| (sample * gain).round().clamp(-32_768.0, 32_767.0) as i16).collect()
}
