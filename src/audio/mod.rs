//! Pure audio: rates, resampling, speech detection, G.711, Opus and WAV files. Nothing here owns a clock, a task or a socket.
//!
//! Samples are 16-bit signed PCM, one channel, everywhere.

mod detector;
mod g711;
pub mod opus;
mod rate;
mod resample;
mod wav;

pub use detector::{SpeechChange, SpeechDetector};
pub use g711::Law;
pub use rate::{FRAME, Rate, UnknownRate};
pub use resample::{Resampler, resample};
pub use wav::{WavError, read_wav, trim};

/// The samples of little-endian 16-bit PCM. An odd last byte is left out.
pub fn from_s16le(bytes: &[u8]) -> Vec<i16> {
    bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// Samples as little-endian 16-bit PCM.
#[must_use]
pub fn to_s16le(samples: &[i16]) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_s16le(samples, &mut bytes);
    bytes
}

/// Appends samples to `bytes` as little-endian 16-bit PCM. One pass over a slice of known length: the compiler makes it a copy.
pub fn push_s16le(samples: &[i16], bytes: &mut Vec<u8>) {
    let from = bytes.len();
    bytes.resize(from + samples.len() * 2, 0);
    for (pair, sample) in bytes[from..].chunks_exact_mut(2).zip(samples) {
        pair.copy_from_slice(&sample.to_le_bytes());
    }
}
