//! Tones: made, and looked for in what was heard.

use std::path::Path;

/// The level of a tone in samples, dBFS (RMS of a full-scale sine is -3): Goertzel's algorithm.
pub fn tone_level(samples: &[i16], rate: u32, hz: f64) -> f64 {
    let turn = 2.0 * (std::f64::consts::TAU * hz / f64::from(rate)).cos();
    let (mut one, mut two) = (0.0, 0.0);
    for sample in samples {
        (one, two) = (f64::from(*sample) + turn * one - two, one);
    }
    let power = one * one + two * two - turn * one * two;
    let amplitude = 2.0 * power.max(0.0).sqrt() / samples.len().max(1) as f64;
    20.0 * (amplitude / 32_768.0 / std::f64::consts::SQRT_2).max(1e-9).log10()
}

/// In which pieces of 20 ms a tone is there: at no less than 20 dB below `dbfs`.
fn pieces(samples: &[i16], rate: u32, hz: f64, dbfs: f64) -> Vec<bool> {
    samples.chunks_exact(rate as usize / 50).map(|piece| tone_level(piece, rate, hz) > dbfs - 20.0).collect()
}

/// For how long a tone is there, in seconds.
pub fn tone_seconds(samples: &[i16], rate: u32, hz: f64, dbfs: f64) -> f64 {
    pieces(samples, rate, hz, dbfs).into_iter().filter(|there| *there).count() as f64 / 50.0
}

/// The gaps of a tone between its first and its last 20 ms, each in pieces of 20 ms.
pub fn gaps(samples: &[i16], rate: u32, hz: f64, dbfs: f64) -> Vec<usize> {
    let there = pieces(samples, rate, hz, dbfs);
    let (Some(first), Some(last)) = (there.iter().position(|there| *there), there.iter().rposition(|there| *there)) else {
        return Vec::new();
    };
    there[first..=last].split(|there| *there).map(<[bool]>::len).filter(|length| *length > 0).collect()
}

/// A tone as a WAV file of 24 kHz.
pub fn tone_file(file: &Path, hz: f64, seconds: f64, dbfs: f64) {
    let rate = 24_000;
    let specification =
        hound::WavSpec { channels: 1, sample_rate: rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(file, specification).expect("a file");
    let amplitude = 32_767.0 * std::f64::consts::SQRT_2 * 10f64.powf(dbfs / 20.0);
    for position in 0..(seconds * f64::from(rate)) as u32 {
        let sample = amplitude * (std::f64::consts::TAU * hz * f64::from(position) / f64::from(rate)).sin();
        writer.write_sample(sample as i16).expect("it is written");
    }
    writer.finalize().expect("it is written");
}
