//! The files of a call's folder, and `call.json`.
//!
//! | file | what | written |
//! |---|---|---|
//! | `call.json` | [`CallInfo`]: ids, rates, parts, how the call ended | at the start, and whole at the end |
//! | `caller.wav`, `agent.wav` | what the other side heard of each, at its native rate, s16le mono; sample 0 is the call's start | live |
//! | `events.jsonl` | one [`crate::call::LoggedEvent`] a line | live |
//! | `stereo.wav` | left caller, right agent, at the higher of the two rates, aligned to the sample | at the end |
//! | `labels.txt` | Audacity labels: who spoke when, interruptions, the end | at the end |
//!
//! A chat has no audio: its folder has `call.json`, `events.jsonl` and, made at the end, `transcript.json` ([`super::TranscriptLine`]
//! a line of the talk).
//!
//! Of a room `call.json` has [`RoomInfo`] too, and each track that is neither in `caller.wav` nor in `agent.wav` is in a file of its
//! own, from the same sample 0 on, named by its participant and its id (`ann-TR_AMxyz.wav`).
//!
//! A track that outgrows a part goes on in `caller.2.wav`, `caller.3.wav` and so on.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::audio::Rate;
use crate::call::{CallEnd, CallIds, Effect, LoggedEvent};
use crate::error::FileError;
use crate::transport::SetUpTimes;

/// The caller's track.
pub const CALLER_WAV: &str = "caller.wav";
/// The agent's track.
pub const AGENT_WAV: &str = "agent.wav";
/// Both: left caller, right agent.
pub const STEREO_WAV: &str = "stereo.wav";
/// What happened when.
pub const EVENTS_JSONL: &str = "events.jsonl";
/// What the call is.
pub const CALL_JSON: &str = "call.json";
/// What was said in a chat.
pub const TRANSCRIPT_JSON: &str = "transcript.json";
/// Labels for Audacity.
pub const LABELS_TXT: &str = "labels.txt";

/// The name of a track's part: `caller.wav`, then `caller.2.wav` and on. `number` counts from 1.
#[must_use]
pub fn part_name(track: &str, number: usize) -> String {
    if number <= 1 { format!("{track}.wav") } else { format!("{track}.{number}.wav") }
}

/// `call.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallInfo {
    /// The layout's version: 1.
    pub version: u32,
    /// Which call and which run.
    #[serde(flatten)]
    pub ids: CallIds,
    /// Wall time of sample 0.
    pub started_at: DateTime<Utc>,
    /// How the caller was reached, for example `chirp door 127.0.0.1:8765`.
    pub caller_via: String,
    /// How the agent was reached, for example `chirp://127.0.0.1:9000/`.
    pub agent_via: String,
    /// How long it took to reach the agent, stage by stage; empty where it was not timed.
    #[serde(default, skip_serializing_if = "SetUpTimes::is_empty")]
    pub set_up: SetUpTimes,
    /// The caller's track; none in a chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<TrackInfo>,
    /// The agent's track; none in a chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<TrackInfo>,
    /// What was recorded beside the caller and the agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_tracks: Vec<NamedTrack>,
    /// The room that was recorded; none for a call that Trunkline carried itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomInfo>,
    /// The stereo file; none until the call is finished or repaired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stereo: Option<TrackInfo>,
    /// How long the call lasted, in milliseconds; none while it goes on (or after a crash, before a repair).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
    /// How it ended; none while it goes on and after a crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<CallEnd>,
    /// What the caller did to its own audio on purpose, in order; filled in at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<AppliedEffect>,
    /// The folder was put together again after a crash.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repaired: bool,
}

/// What a recording must know of a party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartyInfo {
    /// The rate of its audio; none for a party of text only, with whom the call is a chat.
    pub rate: Option<Rate>,
    /// How it is reached.
    pub via: String,
}

impl CallInfo {
    /// A call that begins now.
    #[must_use]
    pub fn new(ids: CallIds, caller: PartyInfo, agent: PartyInfo) -> Self {
        let track = |rate| TrackInfo { rate, samples: 0, parts: Vec::new() };
        let tracks = caller.rate.zip(agent.rate);
        Self {
            version: 1,
            ids,
            started_at: Utc::now(),
            caller: tracks.map(|(rate, _)| track(rate)),
            agent: tracks.map(|(_, rate)| track(rate)),
            caller_via: caller.via,
            agent_via: agent.via,
            set_up: SetUpTimes::default(),
            more_tracks: Vec::new(),
            room: None,
            stereo: None,
            duration_ms: None,
            end: None,
            effects: Vec::new(),
            repaired: false,
        }
    }

    /// Reads the `call.json` of a call's folder.
    ///
    /// # Errors
    /// [`FileError`] when it cannot be read, is none, lists one track without the other, or tracks outside of the folder.
    pub fn read(folder: &Path) -> Result<Self, FileError> {
        let path = folder.join(CALL_JSON);
        let json = fs::read(&path).map_err(|source| FileError::read(&path, source))?;
        let info: Self =
            serde_json::from_slice(&json).map_err(|error| FileError::malformed(&path, format!("not a call.json: {error}")))?;
        if info.caller.is_some() != info.agent.is_some() {
            return Err(FileError::malformed(&path, "only one of the two tracks is there"));
        }
        if let Some(NamedTrack { name, .. }) = info.more_tracks.iter().find(|track| track.name.contains('/')) {
            return Err(FileError::malformed(&path, format!("{name:?} is no name of a track's files")));
        }
        Ok(info)
    }

    /// Both tracks, caller first; none in a chat.
    #[must_use]
    pub fn tracks(&self) -> Option<[&TrackInfo; 2]> {
        Some([self.caller.as_ref()?, self.agent.as_ref()?])
    }
}

/// The events of a call's folder, and whether a crash tore the last one off, also within a letter: that one is left out.
pub(crate) fn read_log(folder: &Path) -> Result<(Vec<LoggedEvent>, bool), FileError> {
    let path = folder.join(EVENTS_JSONL);
    let read = |source| FileError::read(&path, source);
    let mut lines = BufReader::new(File::open(&path).map_err(read)?).split(b'\n').enumerate().peekable();
    let mut events = Vec::new();
    while let Some((number, line)) = lines.next() {
        match serde_json::from_slice(&line.map_err(read)?) {
            Ok(event) => events.push(event),
            Err(_) if lines.peek().is_none() => return Ok((events, true)),
            Err(error) => {
                return Err(FileError::malformed(&path, format!("line {} is not an event: {error}", number + 1)));
            }
        }
    }
    Ok((events, false))
}

/// An effect, and where in the caller's track it lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppliedEffect {
    /// What it is.
    #[serde(flatten)]
    pub effect: Effect,
    /// Its first sample.
    pub from_sample: u64,
    /// The first sample after it; none when it lasted to the call's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_sample: Option<u64>,
}

/// One track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackInfo {
    /// Samples a second, a channel.
    pub rate: Rate,
    /// Samples a channel in all parts together; 0 while the call goes on.
    pub samples: u64,
    /// The files in order.
    pub parts: Vec<Part>,
}

/// A track beside the caller's and the agent's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedTrack {
    /// What its files are called by: `NAME.wav`, then `NAME.2.wav` and on.
    pub name: String,
    /// What is on disk.
    #[serde(flatten)]
    pub track: TrackInfo,
}

/// A room that was recorded.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RoomInfo {
    /// Its name.
    pub name: String,
    /// The server's id of it.
    pub sid: String,
    /// The server's address.
    pub server: String,
    /// Its metadata.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// The agents that were asked for, with what they were told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dispatches: Vec<RoomDispatch>,
    /// The published audio tracks, in the order in which they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tracks: Vec<RoomTrack>,
}

/// An agent that was asked for in a room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomDispatch {
    /// The server's id of the dispatch.
    pub id: String,
    /// The name that its worker is registered under.
    pub agent_name: String,
    /// What it is told: JSON, else the text itself.
    pub metadata: serde_json::Value,
}

/// A participant's track, and how it was recorded.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RoomTrack {
    /// The server's id of it.
    pub sid: String,
    /// Its name.
    pub name: String,
    /// Whose.
    pub identity: String,
    /// What its participant is: `standard`, `sip`, `agent` or `other`.
    pub kind: String,
    /// What its files are called by: `caller`, `agent`, or a name in [`CallInfo::more_tracks`].
    pub file: String,
    /// When it was published, in ms from the recording's start.
    pub from_ms: f64,
    /// When it ended; none while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<f64>,
    /// What it was placed by at its end: `arrival` or `sender_report`; none when nothing was heard of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed_by: Option<String>,
    /// Packets that came.
    pub received: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came too late to be placed.
    pub late: u64,
    /// Packets whose payload is not Opus.
    pub malformed: u64,
    /// What was recovered from copies in later packets, in ms.
    pub recovered_ms: f64,
    /// What was made up, in ms.
    pub concealed_ms: f64,
    /// How often it was moved to where its sender's clock says.
    pub moves: u64,
    /// By how much in all, later being positive, in ms.
    pub moved_ms: f64,
    /// How far it still is from there, in ms.
    pub off_ms: f64,
}

/// One file of a track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The file's name within the folder.
    pub file: String,
    /// The track's sample that is the file's first.
    pub first_sample: u64,
    /// Samples a channel in the file.
    pub samples: u64,
}
