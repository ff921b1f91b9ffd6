//! Media over RTP as WebRTC carries it.

mod delay;
mod jitter;
mod rtp;

pub use jitter::{FrameKind, JitterBuffer, JitterCounts, JitterLimits, PlayedFrame};
pub use rtp::{Extender, RtpAudio, RtpTime};
