//! Sound and its ways: resampling and codecs, WebRTC, TURN.

#[path = "../common/mod.rs"]
mod common;

mod audio;
mod turn;
mod web_rtc;
