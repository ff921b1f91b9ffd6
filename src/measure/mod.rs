//! Offline measuring: from a call's folder to turns, latency and barge-in. It reads the files alone and knows nothing of the
//! runner that made them, so that anyone can recompute every number.

mod analyse;
mod chat;
mod decibel;
mod edge;
mod figure;
mod folder;
pub mod onset;
pub mod truth;

use std::path::Path;

use crate::error::FileError;
pub use analyse::{Answer, BargeIn, BargeIns, ChatMeasures, Known, Latency, Measures, SideMeasures, Turn};
pub use figure::{Figure, nearest_rank, percentile};

use folder::Recorded;

/// Measures a call from its folder: `call.json`, the tracks and `events.jsonl`; a chat from its events alone. The same files give
/// the same numbers.
///
/// # Errors
/// [`FileError`], naming the file that cannot be read.
pub fn measure(folder: &Path) -> Result<Measures, FileError> {
    Ok(match Recorded::read(folder)? {
        Recorded::Call(call) => analyse::analyse(call),
        Recorded::Chat(chat) => chat::analyse(chat),
    })
}
