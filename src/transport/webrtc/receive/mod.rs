//! What becomes of a track's packets: played in real time, or placed in a recording.

mod background;
mod delay;
mod jitter;
mod reorder;
mod stream;
mod timeline;

pub use jitter::{FrameKind, JitterBuffer, JitterCounts, JitterLimits, PlayedFrame};
pub use reorder::PacketCounts;
pub use timeline::{PlacedBy, PlacedRun, Timeline, TimelineCounts};
