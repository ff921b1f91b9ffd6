//! A call's folder: what each side heard, to the sample, and what happened when.

mod error;
mod finish;
mod layout;
mod recorder;
mod repair;
mod track;
mod transcript;

pub use error::RecordError;
pub use finish::write_labels;
pub(crate) use finish::{read_events, write_whole};
pub(crate) use layout::read_log;
pub use layout::{
    AGENT_WAV, AppliedEffect, CALL_JSON, CALLER_WAV, CallInfo, EVENTS_JSONL, LABELS_TXT, NamedTrack, Part, PartyInfo, RoomDispatch,
    RoomInfo, RoomTrack, STEREO_WAV, TRANSCRIPT_JSON, TrackInfo, part_name,
};
pub use recorder::{Recorder, TrackId};
pub use repair::{Mended, repair_file, repair_folder};
pub use track::LONGEST_PART;
pub use transcript::{Role, TranscriptLine, transcript};
