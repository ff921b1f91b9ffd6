//! Media over RTP as WebRTC carries it.

mod delay;
mod jitter;
mod quiet;
mod report;
mod rtp;
mod stream;
mod timeline;

pub use jitter::{FrameKind, JitterBuffer, JitterCounts, JitterLimits, PlayedFrame};
pub use report::{NtpTime, RoomClock, SenderReport};
pub use rtp::{Extender, RtpAudio, RtpTime};
pub use timeline::{PlacedBy, PlacedRun, Timeline, TimelineCounts};
