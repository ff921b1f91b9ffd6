//! A call's folder: what each side heard, to the sample, and what happened when.

mod layout;

pub use layout::{AGENT_WAV, CALL_JSON, CALLER_WAV, CallInfo, EVENTS_JSONL, LABELS_TXT, Part, STEREO_WAV, TrackInfo, part_name};
