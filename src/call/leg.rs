//! The contract between a call and the two parties in it.

use std::task::{Context, Poll};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CallEnd, Effect, EndReason, MarkSource};
use crate::audio::Rate;

/// How long a leg may take to close politely where it says nothing else.
const FAREWELL: Duration = Duration::from_secs(3);

/// One party of a call, as the call sees it. Polled inside the call's own task: no task and no channel a frame.
pub trait Leg: Send {
    /// The rate of the audio that the leg gives and takes. That of a leg of text only means nothing.
    fn rate(&self) -> Rate;

    /// What the leg can do.
    fn abilities(&self) -> Abilities;

    /// What the leg's script needs the other side to be able to do.
    fn needs(&self) -> Abilities {
        Abilities::default()
    }

    /// What the party is, for `call.json`: `chirp://127.0.0.1:9000/`, `process:./agent`.
    fn via(&self) -> String;

    /// Gives the next event, and moves along whatever the leg still has to send. Dropping the wait loses nothing.
    ///
    /// After [`LegEvent::Hangup`] the leg is not polled again.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent>;

    /// Sends on what the leg was told, without reading. True: all of it is sent and nothing happened, so that
    /// [`Self::poll_event`], which was pending, need not be asked again. False is always right.
    fn poll_send(&mut self, _cx: &mut Context<'_>) -> bool {
        false
    }

    /// How long the leg may take to close politely, after [`LegCommand::Hangup`]: to send its last words, to tell the far side.
    fn farewell(&self) -> Duration {
        FAREWELL
    }

    /// Tells the leg to do something. Never waits: what the far side does not read is queued to a limit, then dropped and
    /// reported as [`LegEvent::NotRead`].
    fn command(&mut self, command: LegCommand<'_>);
}

/// What a leg can do beyond audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Abilities {
    /// Gives audio without a gap from answer to hang-up: its samples are counted, and late ones are late, not a pause.
    pub continuous_source: bool,
    /// Must be given audio without a gap: pauses are filled with silence.
    pub continuous_sink: bool,
    /// Follows a script: the other side hanging up before [`LegEvent::ScriptDone`] cuts it short.
    pub scripted: bool,
    /// Says and understands when speech starts and stops.
    pub speech_marks: bool,
    /// Neither gives nor takes audio: the call is a chat, and the other side must take text.
    pub text_only: bool,
    /// Takes keypad digits.
    pub dtmf: bool,
    /// Takes text.
    pub text: bool,
    /// Takes function calls and their results.
    pub functions: bool,
    /// Tells the words of what its party says: [`LegEvent::Transcript`] beside audio, or [`LegEvent::Text`] itself.
    pub transcripts: bool,
    /// Takes other data.
    pub data: bool,
}

impl Abilities {
    /// Audio and nothing else.
    pub const NONE: Self = Self {
        continuous_source: false,
        continuous_sink: false,
        scripted: false,
        speech_marks: false,
        text_only: false,
        dtmf: false,
        text: false,
        functions: false,
        transcripts: false,
        data: false,
    };
}

/// What comes from a leg.
#[derive(Debug, Clone, PartialEq)]
pub enum LegEvent {
    /// Audio, at the leg's rate, any length.
    Audio(Vec<i16>),
    /// The party began to speak: whatever is being played to it stops at once.
    SpeechStarted(Mark),
    /// The party stopped speaking.
    SpeechStopped(Mark),
    /// The party takes back what it said and the other side has not heard yet: what waits to be played is thrown away.
    Clear,
    /// The party wants to know when the audio that it gave so far was heard, or thrown away: [`LegCommand::Reached`] with the same
    /// number answers it.
    Checkpoint(u64),
    /// The party has heard the other side's utterance of this name to its end.
    Heard(String),
    /// A keypad digit.
    Dtmf(char),
    /// Text.
    Text(String),
    /// Words of the party's speech, as it or its provider understood them.
    Transcript(String),
    /// The party calls a function.
    FunctionCall(FunctionCall),
    /// A function that the party called has given its result.
    FunctionResult(FunctionResult),
    /// Other data, for the other side.
    Data(serde_json::Value),
    /// What the leg has seen of its party or of its line: for the call's log as data, and not for the other side.
    Note(serde_json::Value),
    /// What the party says of itself or of the call: an object.
    Metadata(serde_json::Value),
    /// The party broke its protocol and the call goes on.
    Fault {
        /// The protocol's code.
        code: String,
        /// What was wrong.
        detail: String,
    },
    /// A line of the party's log.
    Log(String),
    /// The scripted caller reached a line of its script.
    ScriptLine {
        /// The condition's id.
        condition: u32,
        /// What it says.
        text: String,
    },
    /// The scripted caller has played its script to the end.
    ScriptDone,
    /// From here on the leg's own audio carries something beside its speech, or its speech is changed, on purpose.
    EffectStarted {
        /// Tells the leg's effects apart.
        number: u32,
        /// What it is.
        effect: Effect,
        /// Its first sample in the leg's own stream, as [`Mark::position`].
        position: u64,
    },
    /// An effect has ended.
    EffectEnded {
        /// Its number.
        number: u32,
        /// The first sample after it.
        position: u64,
    },
    /// The party says something without taking the turn: nobody is interrupted by it.
    Backchannel {
        /// The words.
        text: String,
        /// Its first sample in the leg's own stream.
        position: u64,
        /// How many samples it lasts.
        samples: u64,
    },
    /// Frames of the party were lost on the way.
    Lost {
        /// How many.
        frames: u64,
        /// Of these, how many were concealed.
        concealed: u64,
    },
    /// What the line has done so far to the party's packets: a later count takes the place of an earlier one.
    Line(LineCounts),
    /// The leg lets this many samples of silence pass without sending them: its stream goes on after them.
    Paused(u64),
    /// The leg's own pacing slipped by this many milliseconds.
    Slipped(f64),
    /// Frames were dropped because the party does not read.
    NotRead(u64),
    /// The party is gone.
    Hangup {
        /// Why.
        reason: EndReason,
        /// In words.
        detail: String,
    },
}

/// What became of the packets of a party whose audio comes over a network that loses and delays them, since the call began.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LineCounts {
    /// Packets that came.
    pub received: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came when their time had been filled with something else.
    pub late: u64,
    /// Packets that came again.
    pub duplicate: u64,
    /// 20 ms frames made from the copy of a lost packet in the one after it (FEC).
    pub recovered: u64,
    /// 20 ms frames that were made up.
    pub concealed: u64,
    /// How often the far side began its stream anew.
    pub resyncs: u64,
    /// The interarrival jitter, in milliseconds (RFC 3550 section 6.4.1).
    pub jitter_ms: f64,
    /// The mean depth of the jitter buffer, in milliseconds: how old what plays is, against the quickest packets.
    pub mean_depth_ms: f64,
    /// The most of it.
    pub max_depth_ms: f64,
    /// Silence that the jitter buffer put in, in milliseconds.
    pub inserted_ms: f64,
    /// What it left out, in milliseconds: silence, and speech only where it was far behind.
    pub left_out_ms: f64,
}

/// A function that a party calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionCall {
    /// Names the call: its result carries the same.
    pub id: String,
    /// The function.
    pub name: String,
    /// What it is called with: an object, or the text that the party sent instead.
    pub arguments: serde_json::Value,
}

/// What came of a [`FunctionCall`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionResult {
    /// The call's.
    pub id: String,
    /// The result.
    pub result: serde_json::Value,
}

/// A speech boundary, as a leg reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Names the utterance: its start and its stop carry the same.
    pub utterance: String,
    /// Where in the leg's own stream, in samples given since the answer; none: here, after the audio given so far.
    pub position: Option<u64>,
    /// How the position is known.
    pub source: MarkSource,
    /// The speech interrupts the other party as a script says: the condition's id.
    pub interruption: Option<u32>,
}

/// What a leg is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LegCommand<'a> {
    /// Audio for the party, at the leg's rate.
    Audio(&'a [i16]),
    /// The other party was interrupted, or takes back what it said: throw away what of its audio is still queued.
    Clear,
    /// The audio before [`LegEvent::Checkpoint`] of this number was heard, or thrown away.
    Reached(u64),
    /// The other party began to speak. The mark's position counts the samples that this leg was given.
    SpeechStarted(&'a Mark),
    /// The other party stopped speaking, or was stopped. Its utterance is the one of the start.
    SpeechStopped(&'a Mark),
    /// A keypad digit.
    Dtmf(char),
    /// Text.
    Text(&'a str),
    /// Words of the other party's speech, as it or its provider understood them.
    Transcript(&'a str),
    /// The other party calls a function.
    FunctionCall(&'a FunctionCall),
    /// A function that the other party called has given its result.
    FunctionResult(&'a FunctionResult),
    /// Other data.
    Data(&'a serde_json::Value),
    /// What the other party says of itself or of the call.
    Metadata(&'a serde_json::Value),
    /// How the call ends. [`Self::Hangup`] follows.
    Ending(&'a CallEnd),
    /// The call is over: close politely. The leg answers with [`LegEvent::Hangup`] when it is closed.
    Hangup(EndReason),
}
