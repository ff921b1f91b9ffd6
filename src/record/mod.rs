//! A call's folder: what each side heard, to the sample, and what happened when.

mod error;
mod finish;
mod layout;
mod recorder;
mod repair;
mod track;

pub use error::RecordError;
pub use finish::write_labels;
pub(crate) use finish::write_whole;
pub use layout::{
    AGENT_WAV, AppliedEffect, CALL_JSON, CALLER_WAV, CallInfo, EVENTS_JSONL, LABELS_TXT, Part, PartyInfo, STEREO_WAV, TrackInfo,
    part_name,
};
pub use recorder::Recorder;
pub use repair::{Mended, repair_file, repair_folder};
pub use track::LONGEST_PART;
