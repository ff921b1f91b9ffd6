//! Data packets and the streams that are sent in them (LiveKit's `livekit_models.proto`): read and written, without a socket.

use std::collections::{BTreeMap, HashMap};

use livekit_protocol::data_packet::{Kind, Value};
use livekit_protocol::data_stream::{Chunk, Header, TextHeader, Trailer, header};
use livekit_protocol::{DataPacket, RpcAck, RpcError, RpcRequest, RpcResponse, SipDtmf, UserPacket, rpc_response};
use prost::Message;
use uuid::Uuid;

/// The longest stream that is read, in bytes.
const LONGEST_STREAM: usize = 5 << 20;
/// Streams that may be open at once.
const MOST_STREAMS: usize = 256;
/// The longest chunk that is sent, in bytes (the SDKs' own limit).
const LONGEST_CHUNK: usize = 15_000;

/// What came in a data packet.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// A packet of an application.
    Packet {
        /// Its topic.
        topic: Option<String>,
        /// Its bytes.
        payload: Vec<u8>,
    },
    /// A whole text stream.
    Text {
        /// Its topic: `lk.chat`, `lk.transcription`.
        topic: String,
        /// The text.
        text: String,
        /// What the header and the trailer say of it.
        attributes: BTreeMap<String, String>,
    },
    /// A whole byte stream.
    Bytes {
        /// Its topic: `lk.agent.session`.
        topic: String,
        /// The bytes.
        bytes: Vec<u8>,
        /// What the header and the trailer say of it.
        attributes: BTreeMap<String, String>,
    },
    /// A keypad digit.
    Dtmf(char),
    /// A call of one of our methods; it waits for an answer.
    RpcRequest {
        /// Names the call.
        id: String,
        /// The method.
        method: String,
        /// What it is called with.
        payload: String,
    },
    /// The answer to a call of ours.
    RpcResponse {
        /// The call's id.
        id: String,
        /// What came of it, or the code and text of the error.
        result: Result<String, (u32, String)>,
    },
}

/// A packet that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// No data packet.
    #[error("not a LiveKit data packet: {0}")]
    Malformed(String),
    /// A stream that is longer than 5 MiB.
    #[error("the stream {0:?} is longer than {LONGEST_STREAM} bytes")]
    TooLong(String),
    /// Too many streams at once.
    #[error("more than {MOST_STREAMS} streams are open at once")]
    TooMany,
    /// A text stream that is no text.
    #[error("the text stream {0:?} is not UTF-8")]
    NotText(String),
}

/// Streams that have begun and not ended.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: HashMap<(String, String), Stream>,
}

#[derive(Debug)]
struct Stream {
    topic: String,
    text: bool,
    attributes: BTreeMap<String, String>,
    bytes: Vec<u8>,
}

impl Streams {
    /// Reads a packet: who sent it, and what it brings, if it completes anything.
    ///
    /// # Errors
    /// [`DataError`], with the sender where it is known.
    pub(super) fn read(&mut self, packet: &[u8]) -> Result<(String, Option<Data>), (String, DataError)> {
        let packet = DataPacket::decode(packet);
        let packet = packet.map_err(|error| (String::new(), DataError::Malformed(error.to_string())))?;
        let from = packet.participant_identity;
        let Some(value) = packet.value else { return Ok((from, None)) };
        match self.value(&from, value) {
            Ok(data) => Ok((from, data)),
            Err(error) => Err((from, error)),
        }
    }

    /// A participant has left: its streams end with it.
    pub(super) fn forget(&mut self, identity: &str) {
        self.open.retain(|(from, _), _| from != identity);
    }

    fn value(&mut self, from: &str, value: Value) -> Result<Option<Data>, DataError> {
        Ok(match value {
            Value::User(user) => Some(Data::Packet { topic: user.topic, payload: user.payload }),
            Value::SipDtmf(dtmf) => dtmf.digit.chars().next().map(Data::Dtmf),
            Value::RpcRequest(request) => {
                let RpcRequest { id, method, payload, .. } = request;
                Some(Data::RpcRequest { id, method, payload })
            }
            Value::RpcResponse(response) => {
                let id = response.request_id;
                let result = match response.value {
                    Some(rpc_response::Value::Payload(payload)) => Ok(payload),
                    Some(rpc_response::Value::Error(error)) => Err((error.code, error.message)),
                    Some(rpc_response::Value::CompressedPayload(_)) | None => Err((0, "an answer without a value".to_owned())),
                };
                Some(Data::RpcResponse { id, result })
            }
            Value::StreamHeader(header) => return self.begin(from, header),
            Value::StreamChunk(chunk) => {
                self.go_on(from, chunk)?;
                None
            }
            Value::StreamTrailer(trailer) => return self.end(from, trailer),
            _ => None,
        })
    }

    fn begin(&mut self, from: &str, header: Header) -> Result<Option<Data>, DataError> {
        if self.open.len() >= MOST_STREAMS {
            return Err(DataError::TooMany);
        }
        let text = matches!(header.content_header, Some(header::ContentHeader::TextHeader(_)));
        let attributes = header.attributes.into_iter().collect();
        let mut stream = Stream { topic: header.topic, text, attributes, bytes: Vec::new() };
        // A short one is whole in its header: nothing follows. A compressed one goes only to those who say that they read it.
        if let Some(bytes) = header.inline_content.filter(|_| header.compression == 0) {
            stream.bytes = bytes;
            return stream.whole().map(Some);
        }
        self.open.insert((from.to_owned(), header.stream_id), stream);
        Ok(None)
    }

    fn go_on(&mut self, from: &str, chunk: Chunk) -> Result<(), DataError> {
        let key = (from.to_owned(), chunk.stream_id);
        // A stream whose beginning we did not hear.
        let Some(stream) = self.open.get_mut(&key) else { return Ok(()) };
        if stream.bytes.len() + chunk.content.len() > LONGEST_STREAM {
            let topic = std::mem::take(&mut stream.topic);
            self.open.remove(&key);
            return Err(DataError::TooLong(topic));
        }
        stream.bytes.extend_from_slice(&chunk.content);
        Ok(())
    }

    fn end(&mut self, from: &str, trailer: Trailer) -> Result<Option<Data>, DataError> {
        let Some(mut stream) = self.open.remove(&(from.to_owned(), trailer.stream_id)) else { return Ok(None) };
        stream.attributes.extend(trailer.attributes);
        stream.whole().map(Some)
    }
}

impl Stream {
    fn whole(self) -> Result<Data, DataError> {
        let Self { topic, text, attributes, bytes } = self;
        if !text {
            return Ok(Data::Bytes { topic, bytes, attributes });
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Data::Text { topic, text, attributes }),
            Err(_) => Err(DataError::NotText(topic)),
        }
    }
}

/// A packet for everybody, or for `to` alone.
fn packet(to: &[String], value: Value) -> Vec<u8> {
    let packet = DataPacket { destination_identities: to.to_vec(), value: Some(value), ..DataPacket::default() };
    packet.encode_to_vec()
}

/// An application's packet.
#[allow(deprecated, reason = "older servers read the topic's packet kind")]
pub(super) fn user(to: &[String], topic: Option<&str>, payload: &[u8], reliable: bool) -> Vec<u8> {
    let topic = topic.map(str::to_owned);
    let user = UserPacket { payload: payload.to_vec(), topic, ..UserPacket::default() };
    let kind = if reliable { Kind::Reliable } else { Kind::Lossy };
    let destination_identities = to.to_vec();
    DataPacket { kind: kind.into(), destination_identities, value: Some(Value::User(user)), ..DataPacket::default() }
        .encode_to_vec()
}

/// A keypad digit; none for a character that is no key (RFC 4733 section 3.2).
pub(super) fn dtmf(digit: char) -> Option<Vec<u8>> {
    let code = "0123456789*#ABCD".find(digit.to_ascii_uppercase())?;
    Some(packet(&[], Value::SipDtmf(SipDtmf { code: code as u32, digit: digit.to_ascii_uppercase().to_string() })))
}

/// The packets of a text stream.
pub(super) fn text(to: &[String], topic: &str, text: &str, attributes: &BTreeMap<String, String>) -> Vec<Vec<u8>> {
    stream(to, topic, text.as_bytes(), attributes, header::ContentHeader::TextHeader(TextHeader::default()), "text/plain")
}

/// The packets of a byte stream.
pub(super) fn bytes(to: &[String], topic: &str, bytes: &[u8]) -> Vec<Vec<u8>> {
    let content = header::ContentHeader::ByteHeader(livekit_protocol::data_stream::ByteHeader { name: String::new() });
    stream(to, topic, bytes, &BTreeMap::new(), content, "application/octet-stream")
}

fn stream(
    to: &[String],
    topic: &str,
    bytes: &[u8],
    attributes: &BTreeMap<String, String>,
    content: header::ContentHeader,
    mime_type: &str,
) -> Vec<Vec<u8>> {
    let stream_id = Uuid::new_v4().to_string();
    let header = Header {
        stream_id: stream_id.clone(),
        timestamp: chrono::Utc::now().timestamp_millis(),
        topic: topic.to_owned(),
        mime_type: mime_type.to_owned(),
        total_length: Some(bytes.len() as u64),
        attributes: attributes.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        content_header: Some(content),
        ..Header::default()
    };
    let chunks = bytes.chunks(LONGEST_CHUNK).enumerate().map(|(index, content)| {
        let chunk =
            Chunk { stream_id: stream_id.clone(), chunk_index: index as u64, content: content.to_vec(), ..Chunk::default() };
        packet(to, Value::StreamChunk(chunk))
    });
    let trailer = Trailer { stream_id: stream_id.clone(), ..Trailer::default() };
    let first = packet(to, Value::StreamHeader(header));
    std::iter::once(first).chain(chunks).chain([packet(to, Value::StreamTrailer(trailer))]).collect()
}

/// A call of `method` at `to`, with its id.
pub(super) fn rpc_request(to: &str, method: &str, payload: &str, wait: std::time::Duration) -> (String, Vec<u8>) {
    let id = Uuid::new_v4().to_string();
    let request = RpcRequest {
        id: id.clone(),
        method: method.to_owned(),
        payload: payload.to_owned(),
        response_timeout_ms: wait.as_millis().try_into().unwrap_or(u32::MAX),
        version: 1,
        ..RpcRequest::default()
    };
    (id, packet(&[to.to_owned()], Value::RpcRequest(request)))
}

/// The two packets that answer a call: it came, and what came of it.
pub(super) fn rpc_answer(to: &str, id: &str, result: Result<&str, (u32, &str)>) -> [Vec<u8>; 2] {
    let to = [to.to_owned()];
    let value = match result {
        Ok(payload) => rpc_response::Value::Payload(payload.to_owned()),
        Err((code, message)) => rpc_response::Value::Error(RpcError { code, message: message.to_owned(), data: String::new() }),
    };
    let response = RpcResponse { request_id: id.to_owned(), value: Some(value) };
    [packet(&to, Value::RpcAck(RpcAck { request_id: id.to_owned() })), packet(&to, Value::RpcResponse(response))]
}
