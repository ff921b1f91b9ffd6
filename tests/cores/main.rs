//! What owns no socket or needs no other program than speech: the cores on virtual time, media, recordings and their measures, scripts and suites.

#[path = "../common/caller.rs"]
mod caller;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/writing.rs"]
mod writing;

mod audio;
mod bridge;
mod caller_effects;
mod caller_tags;
mod chat_core;
mod impaired_line;
mod measuring;
mod payloads;
mod personalities;
mod process_agent;
mod recording;
mod scripted_caller;
mod spec_suites;
mod suites;
mod text_caller;
mod turn;
mod webrtc_media;
