//! Offline measuring: from a call's folder to turns, latency and barge-in. It reads the files alone and knows nothing of the
//! runner that made them, so that anyone can recompute every number.

mod analyse;
mod decibel;
mod edge;
mod figure;
mod folder;
pub mod onset;
pub mod truth;

use std::path::Path;

pub use analyse::{Answer, BargeIn, BargeIns, Known, Latency, Measures, SideMeasures, Turn};
pub use figure::{Figure, percentile};
pub use folder::MeasureError;

/// Measures a call from its folder: `call.json`, the tracks and `events.jsonl`. The same files give the same numbers.
///
/// # Errors
/// [`MeasureError`], naming the file that cannot be read.
pub fn measure(folder: &Path) -> Result<Measures, MeasureError> {
    folder::Folder::read(folder).map(analyse::analyse)
}
