//! LiveKit agents.
//!
//! [`session`] is the wire on which an agent built with LiveKit Agents tells of itself: what it heard and said, the tools that it
//! called, its states and its latencies. [`console`] calls such an agent over TCP, with no LiveKit server between.

pub mod console;
pub mod session;
