//! Pipecat's wires: bots and clients of `pipecat-ai`, over its WebSocket and its WebRTC.

#[path = "../common/mod.rs"]
mod common;

mod bots;
mod door;
mod sandbox;
mod web_rtc;
mod ws;
