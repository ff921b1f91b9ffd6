//! A WebSocket of Pipecat's frames, as both of its ends have it: frames are read and refused, sound is heard at the leg's rate, faults
//! are counted, and a close is polite.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::frames::{Frame, encode_audio};
use super::hearing::Hearing;
use crate::audio::Rate;
use crate::call::{EndReason, LegEvent};
use crate::transport::faults::Faults;
use crate::transport::web_socket::{Link, Read, Socket};

/// Frames that may wait for a far side that does not read: 5 s of 20 ms.
const MOST_QUEUED: usize = 250;
const BAD_MESSAGE: &str = "BAD_MESSAGE";
const OTHER_SERIALIZER: &str = "a text message: the far side has another serializer than ProtobufFrameSerializer";

/// The WebSocket, and what waits for the call.
pub(super) struct Wire {
    link: Link,
    pub(super) hearing: Hearing,
    pub(super) events: VecDeque<LegEvent>,
    faults: Faults,
}

/// What comes next.
pub(super) enum Next {
    /// For the call.
    Event(LegEvent),
    /// What is still to be understood.
    Frame(Frame),
}

impl Wire {
    /// For a leg of this rate.
    pub(super) fn new(socket: Socket, permit: Option<OwnedSemaphorePermit>, rate: Rate) -> Self {
        Self { link: Link::new(socket, permit), hearing: Hearing::new(rate), events: VecDeque::new(), faults: Faults::default() }
    }

    /// Neither side has closed.
    pub(super) fn is_open(&self) -> bool {
        self.link.is_open()
    }

    /// Sends a frame.
    pub(super) fn send(&mut self, frame: &Frame) {
        self.link.push(Message::binary(frame.encode()));
    }

    /// Sends a message.
    pub(super) fn say(&mut self, message: String) {
        self.send(&Frame::Message(message));
    }

    /// Sends sound at the leg's rate, unless too much of it waits already.
    pub(super) fn speak(&mut self, samples: &[i16]) {
        self.link.push_binary(|| encode_audio(self.hearing.rate(), samples), MOST_QUEUED);
    }

    /// Closes with `code`; `reason` and `detail` are what the call is told.
    pub(super) fn close(&mut self, reason: EndReason, detail: String, code: CloseCode) {
        self.link.close(reason, detail, code);
    }

    /// Closes as the call's end asks for.
    pub(super) fn hang_up(&mut self, reason: EndReason) {
        self.link.hang_up(reason);
    }

    /// A message makes no sense: the call is told, and ends after too many.
    pub(super) fn fault(&mut self, detail: String) {
        self.events.push_back(LegEvent::Fault { code: BAD_MESSAGE.to_owned(), detail });
        if let Some(detail) = self.faults.add() {
            self.refuse(detail);
        }
    }

    /// The next event or frame; sends on what waits.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        self.link.send_on(&mut self.events, cx);
        self.hearing.poll_pause(&mut self.events, cx);
        match self.events.pop_front() {
            Some(event) => Poll::Ready(Next::Event(event)),
            None => self.poll_far(cx),
        }
    }

    /// As [`Self::poll`], while what is there for the call is kept.
    pub(super) fn poll_far(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            let sent = self.link.send_on(&mut self.events, cx);
            if let Some(gone) = self.link.poll_gone(sent, cx) {
                return Poll::Ready(Next::Event(gone));
            }
            let Poll::Ready(read) = self.link.poll_read(cx) else { return Poll::Pending };
            if let Some(frame) = self.take(read) {
                return Poll::Ready(Next::Frame(frame));
            }
        }
    }

    /// Sends on what waits. True: all of it is sent, and nothing happened.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> bool {
        self.link.poll_sent(&mut self.events, cx)
    }

    fn refuse(&mut self, detail: String) {
        self.link.close(EndReason::ProtocolError, detail, CloseCode::Policy);
    }

    fn close_deaf(&mut self, detail: String) {
        self.link.close_deaf(EndReason::ProtocolError, detail, CloseCode::Policy);
    }

    /// A frame that came. What is none ends the call.
    fn take(&mut self, read: Read) -> Option<Frame> {
        match read {
            Read::Message(Message::Binary(bytes)) => match Frame::decode(&bytes) {
                Ok(frame) => return frame,
                Err(problem) => self.refuse(problem.to_string()),
            },
            Read::Message(Message::Text(_)) => self.refuse(OTHER_SERIALIZER.to_owned()),
            // Pings are answered by the WebSocket itself.
            Read::Message(_) | Read::Nothing => {}
            Read::NotUtf8 => self.close_deaf("text that is not UTF-8".to_owned()),
            Read::TooLong(detail) => self.close_deaf(detail),
        }
        None
    }
}

/// A transcription frame's meaning for the call: whose words they are is the far side's to tell.
pub(super) fn transcription(text: &str, user_id: &str, timestamp: &str) -> LegEvent {
    LegEvent::Data(json!({"pipecat": "transcription", "text": text, "user_id": user_id, "timestamp": timestamp}))
}
