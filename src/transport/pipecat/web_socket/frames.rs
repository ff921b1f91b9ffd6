//! Pipecat's frames on a WebSocket: one `pipecat.Frame` in each binary message
//! (<https://github.com/pipecat-ai/pipecat/blob/main/src/pipecat/frames/frames.proto>, read by its `ProtobufFrameSerializer`).
//!
//! The messages stand here as they are in that file. What is given out of this module is checked: audio is whole samples of one
//! channel at a rate that is known.

use prost::Message as _;

use crate::audio::{Rate, from_s16le, to_s16le};

/// The header of a WAV file, which a transport with `add_wav_header` puts before each frame's samples.
const WAV_HEADER: usize = 44;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Words that the pipeline passes on.
    Text(String),
    /// Sound.
    Audio(Audio),
    /// Words that were understood.
    Transcription {
        /// The words.
        text: String,
        /// Who said them.
        user_id: String,
        /// When, as the pipeline spells it.
        timestamp: String,
    },
    /// JSON: an RTVI message in most cases.
    Message(String),
    /// What was sent and is not played yet is to be thrown away.
    Interruption,
}

/// The sound of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audio {
    /// Its rate.
    pub rate: Rate,
    /// Samples of one channel; of several, their mean.
    pub samples: Vec<i16>,
}

/// Bytes that are no frame that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// No protobuf of this kind.
    #[error("{length} bytes are no pipecat.Frame: {problem}")]
    Garbage {
        /// How many bytes.
        length: usize,
        /// Why not.
        problem: String,
    },
    /// Sound at a rate that is not carried.
    #[error("an audio frame of {hz} Hz: 8000, 16000, 24000 and 48000 are carried")]
    Rate {
        /// Its rate.
        hz: u32,
    },
    /// Sound with half a sample.
    #[error("an audio frame of {length} bytes, which are no whole number of 16-bit samples of {channels} channels")]
    HalfSample {
        /// Its length.
        length: usize,
        /// Its channels.
        channels: u32,
    },
}

impl Frame {
    /// Reads a binary message. None: a frame of a kind that is not known here, which newer versions may have.
    ///
    /// # Errors
    /// [`BadFrame`].
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, BadFrame> {
        let frame =
            wire::Frame::decode(bytes).map_err(|error| BadFrame::Garbage { length: bytes.len(), problem: error.to_string() })?;
        Ok(match frame.frame {
            None => None,
            Some(wire::Kind::Text(frame)) => Some(Self::Text(frame.text)),
            Some(wire::Kind::Audio(frame)) => Some(Self::Audio(audio(&frame)?)),
            Some(wire::Kind::Transcription(wire::TranscriptionFrame { text, user_id, timestamp, .. })) => {
                Some(Self::Transcription { text, user_id, timestamp })
            }
            Some(wire::Kind::Message(frame)) => Some(Self::Message(frame.data)),
            Some(wire::Kind::Interruption(_)) => Some(Self::Interruption),
        })
    }

    /// The binary message. Ids and names are left out: the far side gives its own.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self {
            Self::Text(text) => wire::Kind::Text(wire::TextFrame { text: text.clone(), ..Default::default() }),
            Self::Audio(Audio { rate, samples }) => return encode_audio(*rate, samples),
            Self::Transcription { text, user_id, timestamp } => {
                let (text, user_id, timestamp) = (text.clone(), user_id.clone(), timestamp.clone());
                wire::Kind::Transcription(wire::TranscriptionFrame { text, user_id, timestamp, ..Default::default() })
            }
            Self::Message(data) => wire::Kind::Message(wire::MessageFrame { data: data.clone() }),
            Self::Interruption => wire::Kind::Interruption(wire::InterruptionFrame::default()),
        };
        wire::Frame { frame: Some(kind) }.encode_to_vec()
    }
}

/// The binary message of sound.
#[must_use]
pub fn encode_audio(rate: Rate, samples: &[i16]) -> Vec<u8> {
    let audio = to_s16le(samples);
    let frame = wire::AudioRawFrame { audio, sample_rate: rate.hz(), num_channels: 1, ..Default::default() };
    wire::Frame { frame: Some(wire::Kind::Audio(frame)) }.encode_to_vec()
}

fn audio(frame: &wire::AudioRawFrame) -> Result<Audio, BadFrame> {
    let hz = frame.sample_rate;
    let rate = Rate::try_from(hz).map_err(|_| BadFrame::Rate { hz })?;
    let has_header = frame.audio.starts_with(b"RIFF") && frame.audio.get(8..12) == Some(b"WAVE");
    let bytes = if has_header { frame.audio.get(WAV_HEADER..).unwrap_or_default() } else { &frame.audio };
    // A field that is not there reads as nought.
    let channels = frame.num_channels.max(1);
    let half = || BadFrame::HalfSample { length: bytes.len(), channels };
    let step = usize::try_from(channels).ok().and_then(|channels| channels.checked_mul(2)).ok_or_else(half)?;
    if bytes.len() % step != 0 {
        return Err(half());
    }
    let samples = from_s16le(bytes);
    let samples = if channels == 1 { samples } else { samples.chunks(step / 2).map(mean).collect() };
    Ok(Audio { rate, samples })
}

fn mean(samples: &[i16]) -> i16 {
    let sum: i64 = samples.iter().map(|sample| i64::from(*sample)).sum();
    // A mean lies between its samples.
    (sum / samples.len().max(1) as i64) as i16
}

/// `frames.proto`.
mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct TextFrame {
        #[prost(uint64, tag = "1")]
        pub id: u64,
        #[prost(string, tag = "2")]
        pub name: String,
        #[prost(string, tag = "3")]
        pub text: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct AudioRawFrame {
        #[prost(uint64, tag = "1")]
        pub id: u64,
        #[prost(string, tag = "2")]
        pub name: String,
        #[prost(bytes = "vec", tag = "3")]
        pub audio: Vec<u8>,
        #[prost(uint32, tag = "4")]
        pub sample_rate: u32,
        #[prost(uint32, tag = "5")]
        pub num_channels: u32,
        #[prost(uint64, optional, tag = "6")]
        pub pts: Option<u64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct TranscriptionFrame {
        #[prost(uint64, tag = "1")]
        pub id: u64,
        #[prost(string, tag = "2")]
        pub name: String,
        #[prost(string, tag = "3")]
        pub text: String,
        #[prost(string, tag = "4")]
        pub user_id: String,
        #[prost(string, tag = "5")]
        pub timestamp: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct MessageFrame {
        #[prost(string, tag = "1")]
        pub data: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct InterruptionFrame {
        #[prost(uint64, tag = "1")]
        pub id: u64,
        #[prost(string, tag = "2")]
        pub name: String,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        #[prost(message, tag = "1")]
        Text(TextFrame),
        #[prost(message, tag = "2")]
        Audio(AudioRawFrame),
        #[prost(message, tag = "3")]
        Transcription(TranscriptionFrame),
        #[prost(message, tag = "4")]
        Message(MessageFrame),
        #[prost(message, tag = "5")]
        Interruption(InterruptionFrame),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Frame {
        #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5")]
        pub frame: Option<Kind>,
    }
}
