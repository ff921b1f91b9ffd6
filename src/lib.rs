//! Trunkline puts any voice agent in front of Cekura's run modes, and tests the same agent with no account and no network.
//!
//! ```text
//! who calls                         trunkline                                the agent under test
//! Cekura ───────────┐                                            ┌── CHIRP, Pipecat, phone or chat WebSocket, LiveKit
//! sandbox (a local  ├─ door ─ Leg ─►  Call  ─► Leg ─ dial ───────┼── a child process
//!   Cekura stand-in)│            one task, one clock             └── OpenAI-compatible HTTP
//! scripted caller ──┘             │      │
//!                              record  events ──► measure ──► report (JSON, JUnit, table), ledger (SQLite)
//! ```
//!
//! A *door* takes calls in, a *dial* places one; both give a [`call::Leg`], and two legs make a [`call::Call`]. Nothing in
//! [`call`] knows a protocol, so any door can face any dial.
//!
//! | module | what it holds |
//! |---|---|
//! | [`audio`] | pure: rates, resampling, speech detection, G.711, Opus, WAV |
//! | [`call`] | legs, the bridge between two of them, playout, clocks, events |
//! | [`transport`] | one folder a wire: CHIRP, chat, child processes, LiveKit with the WebRTC under it, Pipecat, telephony providers |
//! | [`caller`] | the scripted caller, by voice or in writing: test suites, speech and effects, turn taking, personalities |
//! | [`agent`] | small voice agents for demos and tests |
//! | [`record`] | a call's folder: tracks, stereo, events, crash safety, repair |
//! | [`measure`] | offline: from a call's folder to turns, latency, barge-in |
//! | [`report`] | JSON, JUnit, terminal table |
//! | [`cekura`] | the API client and the modes' payloads |
//! | [`sandbox`] | the local stand-in for Cekura's API |
//! | [`ledger`] | SQLite: what was triggered, which runs, where the recordings are |
//! | [`conversation`] | a call with its recording |
//! | [`serve`] | the doors in front of the agent |
//! | [`config`] | `trunkline.toml` |

pub mod agent;
pub mod audio;
pub mod call;
pub mod caller;
pub mod cekura;
pub mod cli;
pub mod config;
pub mod conversation;
pub mod error;
mod files;
mod host;
mod http;
pub mod ledger;
pub mod measure;
pub mod record;
pub mod report;
pub mod sandbox;
pub mod serve;
mod spelling;
mod sqlite;
pub mod transport;
