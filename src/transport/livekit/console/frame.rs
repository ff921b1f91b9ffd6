//! The console's frames: a length, u32 big-endian, and one message.

use livekit_protocol::agent::AgentSessionMessage;
use prost::Message as _;

use crate::transport::livekit::session;

/// The longest message (`livekit-agents`, `voice/remote_session.py`, `_TCP_MAX_MESSAGE_SIZE`), in bytes.
pub const MAX_MESSAGE: usize = 1 << 20;
/// Of the length.
const HEADER: usize = 4;

/// Bytes that are no frames. What follows them cannot be told apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// A longer message is announced than there may be.
    #[error("a message of {length} bytes is announced, {MAX_MESSAGE} are the most: its length reads {}", shown(*.length))]
    TooLong {
        /// Its length.
        length: u32,
    },
    /// The message is not what it should be.
    #[error("a message of {length} bytes is no AgentSessionMessage: {problem}")]
    Garbage {
        /// Its length.
        length: usize,
        /// Why not.
        problem: String,
    },
    /// The connection ended within a frame.
    #[error("the connection ended within a frame: {had} bytes of {of} had come")]
    Truncated {
        /// Bytes that came.
        had: usize,
        /// Bytes of the whole frame; of its length alone where that is not known.
        of: usize,
    },
}

/// The bytes of a length, which may be the first letters of another protocol.
fn shown(length: u32) -> String {
    format!("{:?}", String::from_utf8_lossy(&length.to_be_bytes()))
}

/// Takes bytes apart.
#[derive(Debug, Default)]
pub struct FrameReader {
    bytes: Vec<u8>,
    /// Of these, how many belong to frames that were given.
    read: usize,
}

impl FrameReader {
    /// Takes bytes, cut anywhere.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.read));
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message; none until it is whole.
    ///
    /// # Errors
    /// [`BadFrame`]. The reader gives the same again.
    pub fn next_message(&mut self) -> Result<Option<AgentSessionMessage>, BadFrame> {
        let Some((header, rest)) = self.bytes[self.read..].split_first_chunk::<HEADER>() else { return Ok(None) };
        let announced = u32::from_be_bytes(*header);
        let length = announced as usize;
        if length > MAX_MESSAGE {
            return Err(BadFrame::TooLong { length: announced });
        }
        let Some(message) = rest.get(..length) else { return Ok(None) };
        let message = session::decode(message).map_err(|problem| BadFrame::Garbage { length, problem })?;
        self.read += HEADER + length;
        Ok(Some(message))
    }

    /// No more bytes come.
    ///
    /// # Errors
    /// [`BadFrame::Truncated`] when a frame has begun.
    pub fn end(&self) -> Result<(), BadFrame> {
        let left = &self.bytes[self.read..];
        let of = left.first_chunk::<HEADER>().map_or(HEADER, |header| HEADER + u32::from_be_bytes(*header) as usize);
        if left.is_empty() { Ok(()) } else { Err(BadFrame::Truncated { had: left.len(), of }) }
    }
}

/// A message as a frame.
#[must_use]
pub fn frame(message: &AgentSessionMessage) -> Vec<u8> {
    let length = message.encoded_len();
    let mut bytes = Vec::with_capacity(HEADER + length);
    bytes.extend_from_slice(&(length as u32).to_be_bytes());
    message.encode(&mut bytes).expect("a Vec grows as it must");
    bytes
}
