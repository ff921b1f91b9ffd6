//! Pure audio: rates, resampling, speech detection and WAV files. Nothing here owns a clock, a task or a socket.
//!
//! Samples are 16-bit signed PCM, one channel, everywhere.

mod rate;

pub use rate::{FRAME, Rate, UnknownRate};
