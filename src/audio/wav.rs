//! WAV files of any PCM kind as 16-bit samples of one channel.

use std::io::Read;

use super::{Rate, resample};

/// Audio that is no WAV file, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    /// Not a WAV file, or a broken one.
    #[error("not a WAV file that can be read: {0}")]
    Malformed(#[from] hound::Error),
    /// There is no sample in it.
    #[error("the WAV file is empty")]
    Empty,
}

/// Reads a WAV file (8 to 32 bits integer or 32-bit float, any rate, any number of channels) as one channel at `rate`.
///
/// # Errors
/// [`WavError`].
pub fn read_wav(source: impl Read, rate: Rate) -> Result<Vec<i16>, WavError> {
    let mut reader = hound::WavReader::new(source)?;
    let spec = reader.spec();
    let samples: Vec<f32> = match spec.sample_format {
        hound::SampleFormat::Float => reader.samples::<f32>().collect::<Result<_, _>>()?,
        hound::SampleFormat::Int => {
            let full = 2f32.powi(i32::from(spec.bits_per_sample) - 1);
            reader.samples::<i32>().map(|sample| sample.map(|sample| sample as f32 / full)).collect::<Result<_, _>>()?
        }
    };
    let channels = usize::from(spec.channels.max(1));
    let mono: Vec<i16> = samples
        .chunks(channels)
        .map(|frame| (frame.iter().sum::<f32>() / frame.len() as f32 * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16)
        .collect();
    if mono.is_empty() || spec.sample_rate == 0 {
        return Err(WavError::Empty);
    }
    Ok(resample(&mono, spec.sample_rate, rate))
}

/// The part of `samples` between its first and its last sample of at least `threshold`.
#[must_use]
pub fn trim(samples: &[i16], threshold: u16) -> &[i16] {
    let loud = |sample: &i16| sample.unsigned_abs() >= threshold;
    let Some(first) = samples.iter().position(loud) else { return &[] };
    let last = samples.iter().rposition(loud).unwrap_or(first);
    &samples[first..=last]
}
