//! What the dialects have in common: what is said in both directions, in which form the audio is, and what is wrong with a message.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};
use tokio_tungstenite::tungstenite::protocol::Message;
use uuid::Uuid;

use crate::audio::{Law, Rate, from_s16le, to_s16le};

/// One provider's dialect in one call, from one of its two sides. It owns no socket and no clock.
pub trait Dialect: Send {
    /// The form of the audio. That of a call which came in is known once its stream has begun.
    fn format(&self) -> Format;

    /// Reads a message of the far side. What it means goes into `told`.
    ///
    /// # Errors
    /// [`BadMessage`]: the message is not taken.
    fn read(&mut self, message: Received<'_>, told: &mut Vec<Incoming>) -> Result<(), BadMessage>;

    /// The fewest samples of a bot's sound that the provider plays without a gap.
    fn least(&self) -> usize {
        0
    }

    /// The provider presses keys for a bot.
    fn presses_keys(&self) -> bool {
        false
    }

    /// Puts what is said into the dialect's messages: none where it has no words for it.
    fn write(&mut self, said: Outgoing<'_>, messages: &mut Vec<Message>);
}

/// Which side of the wire is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The provider calls us: we are the bot.
    Bot,
    /// We call a bot: we are the provider.
    Provider,
}

/// A message that came.
#[derive(Debug, Clone, Copy)]
pub enum Received<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

/// What a message means.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// The stream begins.
    Start(Start),
    /// Sound.
    Audio(Vec<i16>),
    /// Messages of sound that did not come, and how many samples they had.
    Missing {
        /// How many messages.
        messages: u64,
        /// How many samples.
        samples: u64,
    },
    /// A keypad digit.
    Dtmf(char),
    /// From a bot: what it said and was not heard yet is to be thrown away.
    Clear,
    /// From a bot: it wants to know when what it said before this was heard.
    Mark(String),
    /// From a provider: what was said before this mark was heard.
    Played(String),
    /// What else is worth keeping, as it came.
    Data(Value),
    /// To be sent at once.
    Answer(Message),
    /// The stream is over, in words.
    Stop(String),
}

/// What a provider says of a call when its stream begins.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Start {
    /// The run, the result and the scenario, from parameters named `run_id`, `result_id` and `scenario_id`.
    pub ids: [Option<String>; 3],
    /// All that it says, as it came.
    pub told: Value,
}

impl Start {
    /// From what the provider says, and the parameters in it.
    pub(super) fn new(told: Value, parameters: &Map<String, Value>) -> Self {
        let id = |name: &str| match parameters.get(name)? {
            Value::String(id) if !id.is_empty() => Some(id.clone()),
            Value::Number(id) => Some(id.to_string()),
            _ => None,
        };
        Self { ids: ["run_id", "result_id", "scenario_id"].map(id), told }
    }
}

/// What is said to the far side.
#[derive(Debug, Clone, Copy)]
pub enum Outgoing<'a> {
    /// By a provider: the stream begins.
    Begin(&'a CallDetails),
    /// Sound.
    Audio(&'a [i16]),
    /// A keypad digit. A bot has it pressed on the provider's line.
    Dtmf(char),
    /// By a bot: what it said and was not heard yet is to be thrown away.
    Clear,
    /// By a bot: it wants to know when what it said before this was heard.
    Mark(&'a str),
    /// By a provider: what was said before this mark was heard, or thrown away.
    Played(&'a str),
    /// The stream is over.
    Stop,
    /// The far side has broken the protocol so that we cannot go on.
    Refuse(&'a str),
}

/// What we, as the provider, say of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct CallDetails {
    /// The stream's id.
    pub stream: Uuid,
    /// The call's id.
    pub call: Uuid,
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
    /// The parameters of the stream, by name.
    pub parameters: Map<String, Value>,
}

/// How samples are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// G.711 mu-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// 16 bits, little-endian.
    L16,
}

/// The form of a stream's audio. Spelled `PCMU`, `PCMA` (both 8 kHz) or `L16@16000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// How samples are coded.
    pub codec: Codec,
    /// How many there are a second.
    pub rate: Rate,
}

impl Format {
    /// Mu-law at 8 kHz.
    pub const PCMU: Self = Self { codec: Codec::Pcmu, rate: Rate::HZ_8000 };
    /// A-law at 8 kHz.
    pub const PCMA: Self = Self { codec: Codec::Pcma, rate: Rate::HZ_8000 };

    /// 16 bits at this rate.
    #[must_use]
    pub const fn l16(rate: Rate) -> Self {
        Self { codec: Codec::L16, rate }
    }

    /// How many bytes a sample has.
    #[must_use]
    pub const fn bytes_of_sample(self) -> usize {
        match self.codec {
            Codec::Pcmu | Codec::Pcma => 1,
            Codec::L16 => 2,
        }
    }

    /// Samples as bytes.
    #[must_use]
    pub fn encode(self, samples: &[i16]) -> Vec<u8> {
        match self.codec {
            Codec::Pcmu => Law::Mu.encode(samples),
            Codec::Pcma => Law::A.encode(samples),
            Codec::L16 => to_s16le(samples),
        }
    }

    /// The samples of bytes.
    ///
    /// # Errors
    /// [`BadMessage`] when there are none, or half a one.
    pub fn decode(self, bytes: &[u8]) -> Result<Vec<i16>, BadMessage> {
        match self.codec {
            _ if bytes.is_empty() => Err(BadMessage::NoAudio),
            Codec::Pcmu => Ok(Law::Mu.decode(bytes)),
            Codec::Pcma => Ok(Law::A.decode(bytes)),
            Codec::L16 if bytes.len() % 2 == 1 => Err(BadMessage::HalfSample(bytes.len())),
            Codec::L16 => Ok(from_s16le(bytes)),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.codec {
            Codec::Pcmu => f.write_str("PCMU"),
            Codec::Pcma => f.write_str("PCMA"),
            Codec::L16 => write!(f, "L16@{}", self.rate.hz()),
        }
    }
}

impl FromStr for Format {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "PCMU" => Ok(Self::PCMU),
            "PCMA" => Ok(Self::PCMA),
            _ => {
                let hz = text.strip_prefix("L16@").and_then(|hz| hz.parse::<u32>().ok()).ok_or(())?;
                Rate::try_from(hz).map(Self::l16).map_err(drop)
            }
        }
    }
}

/// A message that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// No JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// JSON, but no object.
    #[error("a message must be a JSON object")]
    NoObject,
    /// A field is not there, or is something else than it should be.
    #[error("the field {0:?} is missing or no {1}")]
    Field(&'static str, &'static str),
    /// An event that the far side does not send.
    #[error("unknown event {0:?}")]
    Unknown(String),
    /// The stream has not begun.
    #[error("{0:?} before the stream's start")]
    Early(String),
    /// The stream has begun already.
    #[error("a second start of the stream")]
    Twice,
    /// Another stream's message.
    #[error("a message of the stream {theirs:?}; this one is {ours:?}")]
    Stream {
        /// Whose it is.
        theirs: String,
        /// Which is here.
        ours: String,
    },
    /// Messages are missing, or come again.
    #[error("message {got} where {wanted} was due")]
    Sequence {
        /// Its number.
        got: u64,
        /// The number that was due.
        wanted: u64,
    },
    /// Audio that cannot be read.
    #[error("the audio is not base64: {0}")]
    NotBase64(String),
    /// A message of audio without any.
    #[error("a message of audio without a sample")]
    NoAudio,
    /// Audio with half a sample.
    #[error("{0} bytes are no whole number of 16-bit samples")]
    HalfSample(usize),
    /// A binary message where the dialect has text alone.
    #[error("a binary message of {0} bytes: this dialect is text alone")]
    Binary(usize),
    /// Audio in a form that is not carried. The stream cannot go on.
    #[error("audio is not carried as {0}")]
    Format(String),
    /// Another version of the protocol. The stream cannot go on.
    #[error("version {0:?} of the protocol is not spoken")]
    Version(String),
}

impl BadMessage {
    /// The code of the fault.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotJson(_) | Self::NoObject | Self::Field(..) | Self::Binary(_) => "BAD_MESSAGE",
            Self::Unknown(_) => "UNKNOWN_EVENT",
            Self::Early(_) | Self::Twice | Self::Sequence { .. } => "OUT_OF_ORDER",
            Self::Stream { .. } => "WRONG_STREAM",
            Self::NotBase64(_) | Self::NoAudio | Self::HalfSample(_) => "BAD_AUDIO",
            Self::Format(_) => "WRONG_FORMAT",
            Self::Version(_) => "WRONG_VERSION",
        }
    }

    /// The stream cannot go on.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Self::Format(_) | Self::Version(_))
    }
}
