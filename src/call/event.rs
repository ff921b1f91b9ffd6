//! What happens in a call, as `events.jsonl` keeps it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{FunctionCall, FunctionResult, LineCounts, Side};

/// How a speech boundary's position is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkSource {
    /// The speaker's script says so, to the sample.
    Script,
    /// The far side said so on the wire, with no position: it may be some 200 ms off (Cekura's CHIRP page).
    Signalled,
    /// A live detector said so; good for taking turns, not for measuring.
    Detected,
}

/// Something that a scripted side does to its own audio on purpose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// What it is.
    #[serde(flatten)]
    pub kind: EffectKind,
    /// What its chance was drawn from: the same seed makes the same samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// The kinds of effects. Levels are RMS in dBFS; a full-scale sine is at -3.01.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EffectKind {
    /// A sound that is made once.
    Noise {
        /// Its name.
        sound: String,
        /// Its level.
        level_dbfs: f64,
    },
    /// The beep after a voicemail's greeting.
    VoicemailBeep {
        /// Its frequency.
        hz: f64,
        /// Its level.
        level_dbfs: f64,
    },
    /// A sound that goes on under the speech and the pauses.
    BackgroundNoise {
        /// Its name.
        sound: String,
        /// The volume that was asked for, 0 to 1.
        volume: f64,
        /// Its level.
        level_dbfs: f64,
    },
    /// Frames are replaced by silence.
    PacketLoss {
        /// Percent of all frames.
        percent: f64,
    },
    /// Speech is made louder or softer.
    Volume {
        /// What the samples are multiplied by.
        ratio: f64,
    },
    /// Speech is made faster or slower, at the same pitch.
    Speed {
        /// Its pace against the voice's own.
        ratio: f64,
    },
}

impl EffectKind {
    /// Its name as in `kind`, with the sound's.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Noise { sound, .. } => format!("noise {sound}"),
            Self::VoicemailBeep { .. } => "voicemail_beep".to_owned(),
            Self::BackgroundNoise { sound, .. } => format!("background_noise {sound}"),
            Self::PacketLoss { percent } => format!("packet_loss {percent} %"),
            Self::Volume { ratio } => format!("volume {ratio}"),
            Self::Speed { ratio } => format!("speed {ratio}"),
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Both legs are up; sample 0 of both tracks.
    Started {
        /// Its wall time.
        wall: DateTime<Utc>,
    },
    /// `side` began to speak.
    SpeechStarted {
        /// How the position is known.
        source: MarkSource,
        /// Where in the side's own track (its native rate) the first sample of speech lies.
        sample: u64,
        /// It interrupts the other side as the script says: the condition's id in the scenario.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interruption: Option<u32>,
    },
    /// `side` stopped speaking.
    SpeechStopped {
        /// How the position is known.
        source: MarkSource,
        /// Where in the side's own track (its native rate) the first sample after the speech lies.
        sample: u64,
        /// The speech was cut short by an interruption.
        #[serde(default)]
        interrupted: bool,
    },
    /// Audio of `side` that waited to be played was thrown away because the other side began to speak, or `side` took it back.
    Discarded {
        /// How much, in milliseconds.
        discarded_ms: f64,
        /// Where in the side's own track the audio would have gone on.
        sample: u64,
    },
    /// `side`'s own line says that it has played the other side's utterance of this name to its end.
    Heard {
        /// The utterance.
        utterance: String,
    },
    /// Silence of `side` was left out, so that what follows does not come later than it must.
    SilenceSkipped {
        /// How much, in milliseconds.
        skipped_ms: f64,
        /// Where in the side's own track, at the latest.
        sample: u64,
    },
    /// Frames of `side` came later than the track's clock allows and were played late.
    Late {
        /// How many frames.
        frames: u64,
        /// The worst lateness, in milliseconds.
        worst_ms: f64,
    },
    /// While `side` spoke its audio came slower than it plays: its host, or the line, is overloaded. Told once in two seconds of
    /// audio at most.
    Starved {
        /// Holes in its speech.
        gaps: u32,
        /// How long they are together, in milliseconds.
        missing_ms: f64,
        /// The audio among which they are, in milliseconds.
        audio_ms: f64,
    },
    /// `side`'s own pacing slipped: Trunkline, not the line or the agent, was late.
    PacingSlipped {
        /// By how much, in milliseconds.
        slipped_ms: f64,
    },
    /// Frames of `side` that were lost on the way, replaced by something made up or by silence.
    Lost {
        /// Frames that never came.
        frames: u64,
        /// Of these, how many were concealed.
        concealed: u64,
    },
    /// What the line has done so far to `side`'s packets: a later count takes the place of an earlier one.
    Line(LineCounts),
    /// `side` does this to its own audio from here on.
    EffectStarted {
        /// Tells the call's effects apart.
        effect: u32,
        /// What it is.
        #[serde(flatten)]
        what: Effect,
        /// Its first sample in the side's own track.
        sample: u64,
    },
    /// An effect has ended.
    EffectEnded {
        /// Its number.
        effect: u32,
        /// The first sample after it in the side's own track.
        sample: u64,
    },
    /// `side` says something without taking the turn: no turn, and no interruption.
    Backchannel {
        /// The words.
        text: String,
        /// Its first sample in the side's own track.
        sample: u64,
        /// The first sample after it.
        end_sample: u64,
    },
    /// Frames for `side` that were dropped because it did not read.
    NotRead {
        /// How many frames.
        frames: u64,
    },
    /// `side` broke its protocol; the call goes on.
    Fault {
        /// The protocol's code, for example `INVALID_AUDIO_FRAME`.
        code: String,
        /// What was wrong.
        detail: String,
    },
    /// Words, typed or transcribed.
    Text {
        /// The words.
        text: String,
    },
    /// `side` calls a function.
    FunctionCall(FunctionCall),
    /// A function that `side` called has given its result.
    FunctionResult(FunctionResult),
    /// What `side` says of itself or of the call.
    Metadata {
        /// As it came.
        metadata: serde_json::Value,
    },
    /// A keypad digit.
    Dtmf {
        /// 0–9, `*`, `#`, A–D.
        digit: char,
    },
    /// Anything else that a side sent beside its audio.
    Data {
        /// As it came.
        data: serde_json::Value,
    },
    /// A line that the side wrote to its log (a child's stderr).
    Log {
        /// The line.
        line: String,
    },
    /// The scripted caller reached a line of its script.
    ScriptLine {
        /// The condition's id in the scenario.
        condition: u32,
        /// What it says or does.
        text: String,
    },
    /// The scripted caller has played its script to the end.
    ScriptDone,
    /// The recording ended before the call did.
    RecordingEnded {
        /// Why.
        error: String,
    },
    /// The call is over.
    Ended(CallEnd),
}

/// An event with its clock: a line of `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoggedEvent {
    /// Milliseconds since the call began, on the call's monotonic clock.
    pub at_ms: f64,
    /// Whose event it is; none for the call's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Why a call ended. The names are stable: reports and scripts may rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The script is played to its end and the caller hung up.
    ScriptFinished,
    /// The side hung up in the ordinary way.
    HungUp,
    /// The agent never spoke, or never answered a line, within the time that the caller waits.
    AgentSilent,
    /// The agent's reply is none that the script has a condition for, and it said no other within the time that the caller
    /// waits.
    UnexpectedReply,
    /// The agent hung up before the script was played to its end.
    AgentHungUp,
    /// The caller itself could not go on: what its script asks for could not be had.
    CallerFailed,
    /// The side's connection broke or its process died.
    ConnectionLost,
    /// The side broke its protocol so that the call could not go on.
    ProtocolError,
    /// The call reached its longest duration.
    MaxDuration,
    /// Nothing came from the side for the idle time.
    IdleTimeout,
    /// The user or the API ended the call.
    Cancelled,
    /// Trunkline's own clock slipped: what was heard cannot be trusted.
    PacingSlipped,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallEnd {
    /// Who ended it; none when Trunkline itself did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Side>,
    /// Why.
    pub reason: EndReason,
    /// In words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}
