//! A WebSocket that is open, closing or closed: what is sent waits here until the far side reads, and a close is polite.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, error::CapacityError};

use super::Socket;
use crate::call::{EndReason, LegEvent};

const BROKE_OFF: &str = "the connection broke off without a close";
/// How long a close may take.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// A close frame's reason has room for so many bytes (RFC 6455 section 5.5).
const LONGEST_REASON: usize = 123;

/// Buffers for small messages, and the longest message that is taken, in bytes.
pub(in crate::transport) fn web_socket_config(max_message: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(2 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
}

/// What a far side is told when the call ends for `reason`, and the code of the close (RFC 6455 section 7.4.1).
pub(in crate::transport) const fn parting(reason: EndReason) -> (&'static str, CloseCode) {
    match reason {
        EndReason::ConnectionLost | EndReason::PacingSlipped => ("the other side of the call is gone", CloseCode::Error),
        EndReason::ProtocolError | EndReason::IdleTimeout => ("the other side of the call was refused", CloseCode::Policy),
        _ => ("", CloseCode::Normal),
    }
}

/// Refuses the far side at once: closes with 1008 and `detail`, whatever still comes.
pub(super) async fn refuse(socket: Socket, detail: String) {
    let mut link = Link::new(socket, None);
    link.close(EndReason::ProtocolError, detail, CloseCode::Policy);
    std::future::poll_fn(|cx| {
        loop {
            let sent = link.poll_send(cx).is_ready();
            if link.poll_gone(sent, cx).is_some() {
                return Poll::Ready(());
            }
            drop(ready!(link.poll_read(cx)));
        }
    })
    .await;
}

/// A WebSocket and how far its end has got.
pub(in crate::transport) struct Link {
    socket: Socket,
    outgoing: VecDeque<Message>,
    /// Of these, how many are binary.
    queued_binary: usize,
    /// How long they are together.
    queued_bytes: usize,
    /// Messages that the far side never gets, as it does not read, and that nobody was told of.
    not_read: u64,
    /// Something was given to the socket and not flushed yet.
    unflushed: bool,
    phase: Phase,
    timer: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

enum Phase {
    Open,
    /// We have said that we close; the reason is what the call is told.
    Closing {
        reason: EndReason,
        detail: String,
        /// The far side's messages can no longer be told apart: what still comes is thrown away.
        deaf: bool,
    },
    /// The far side has closed, or is gone; the answer to it is being sent.
    FarClosed {
        reason: EndReason,
        detail: String,
    },
}

/// What was read.
pub(in crate::transport) enum Read {
    /// A text or binary message, a ping or a pong.
    Message(Message),
    /// The link's own state may have changed.
    Nothing,
    /// Text that is not UTF-8: what follows cannot be told apart.
    NotUtf8,
    /// A message that is too long, in words: likewise.
    TooLong(String),
}

/// What comes next from a link.
pub(in crate::transport) enum Next {
    /// For the call.
    Event(LegEvent),
    /// What is still to be understood.
    Read(Read),
}

impl Link {
    pub(in crate::transport) fn new(socket: Socket, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            socket,
            outgoing: VecDeque::new(),
            queued_binary: 0,
            queued_bytes: 0,
            not_read: 0,
            unflushed: false,
            phase: Phase::Open,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            _permit: permit,
        }
    }

    /// Neither side has closed.
    pub(in crate::transport) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Sends a binary message, unless `most` of them wait already for a far side that does not read: then it is lost.
    pub(in crate::transport) fn push_binary(&mut self, message: impl FnOnce() -> Vec<u8>, most: usize) {
        if self.queued_binary < most {
            self.push(Message::binary(message()));
        } else {
            self.not_read += 1;
        }
    }

    /// Sends a text message, unless more than `most` bytes would wait for a far side that does not read: then it is lost.
    pub(in crate::transport) fn push_text(&mut self, text: String, most: usize) {
        if self.queued_bytes + text.len() <= most {
            self.push(Message::text(text));
        } else {
            self.not_read += 1;
        }
    }

    pub(in crate::transport) fn push(&mut self, message: Message) {
        self.queued_binary += usize::from(message.is_binary());
        self.queued_bytes += message.len();
        self.outgoing.push_back(message);
    }

    /// Throws away the binary messages that wait.
    pub(in crate::transport) fn drop_binary(&mut self) {
        self.outgoing.retain(|message| !message.is_binary());
        self.queued_bytes = self.outgoing.iter().map(Message::len).sum();
        self.not_read += std::mem::take(&mut self.queued_binary) as u64;
    }

    /// Closes with `code` and `detail`; `reason` and `detail` are what the call is told once it is closed.
    pub(in crate::transport) fn close(&mut self, reason: EndReason, detail: String, code: CloseCode) {
        self.begin_close(reason, detail, code, false);
    }

    /// As [`Self::close`], where the far side's messages can no longer be told apart.
    pub(in crate::transport) fn close_deaf(&mut self, reason: EndReason, detail: String, code: CloseCode) {
        self.begin_close(reason, detail, code, true);
    }

    fn begin_close(&mut self, reason: EndReason, detail: String, code: CloseCode, deaf: bool) {
        if !self.is_open() {
            return;
        }
        let mut said = detail.clone();
        while said.len() > LONGEST_REASON {
            said.pop();
        }
        self.push(Message::Close(Some(CloseFrame { code, reason: said.into() })));
        self.phase = Phase::Closing { reason, detail, deaf };
        self.timer.as_mut().reset(Instant::now() + CLOSE_TIME);
    }

    /// Sends what waits, as far as the far side reads, and tells of what it has not read. True: all is sent.
    pub(in crate::transport) fn send_on(&mut self, told: &mut VecDeque<LegEvent>, cx: &mut Context<'_>) -> bool {
        let sent = self.poll_send(cx).is_ready();
        if sent && self.not_read > 0 {
            told.push_back(LegEvent::NotRead(std::mem::take(&mut self.not_read)));
        }
        sent
    }

    /// What comes next, after the events that wait already; sends on what waits.
    pub(in crate::transport) fn poll_next(&mut self, events: &mut VecDeque<LegEvent>, cx: &mut Context<'_>) -> Poll<Next> {
        let sent = self.send_on(events, cx);
        match events.pop_front().or_else(|| self.poll_gone(sent, cx)) {
            Some(event) => Poll::Ready(Next::Event(event)),
            None => self.poll_read(cx).map(Next::Read),
        }
    }

    /// Sends on what waits. True: all of it is sent, and nothing happened.
    pub(in crate::transport) fn poll_sent(&mut self, events: &mut VecDeque<LegEvent>, cx: &mut Context<'_>) -> bool {
        self.send_on(events, cx) && events.is_empty() && self.is_open()
    }

    /// Closes as the call's end asks for.
    pub(in crate::transport) fn hang_up(&mut self, reason: EndReason) {
        let (detail, code) = parting(reason);
        self.close(reason, detail.to_owned(), code);
    }

    /// Sends what waits, as far as the far side reads. Ready: all of it is sent.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Err(error) = ready!(self.poll_outgoing(cx)) {
            // The link is broken: what waited is thrown away, but for a close.
            drop(self.broken(&error));
            if self.outgoing.is_empty() {
                break;
            }
        }
        Poll::Ready(())
    }

    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        while !self.outgoing.is_empty() {
            ready!(Pin::new(&mut self.socket).poll_ready(cx))?;
            let message = self.outgoing.pop_front().expect("just seen");
            self.queued_binary -= usize::from(message.is_binary());
            self.queued_bytes -= message.len();
            self.unflushed = true;
            Pin::new(&mut self.socket).start_send(message)?;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// The end, once it has come: the far side has closed and `sent` says that it has our answer, or a close took too long.
    pub(in crate::transport) fn poll_gone(&mut self, sent: bool, cx: &mut Context<'_>) -> Option<LegEvent> {
        let over = match self.phase {
            Phase::Open => false,
            Phase::FarClosed { .. } if sent => true,
            Phase::FarClosed { .. } | Phase::Closing { .. } => self.timer.as_mut().poll(cx).is_ready(),
        };
        if over && self.not_read > 0 {
            tracing::debug!(messages = self.not_read, "the far side never read these");
        }
        over.then(|| self.gone())
    }

    /// Reads on, or throws away what can no longer be understood.
    pub(in crate::transport) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        if matches!(self.phase, Phase::Closing { deaf: true, .. }) {
            let mut bytes = [0; 4096];
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(self.socket.get_mut()).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                self.far_gone();
            }
            return Poll::Ready(Read::Nothing);
        }
        Poll::Ready(match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
            Some(Ok(Message::Close(frame))) => {
                self.far_close(frame);
                Read::Nothing
            }
            Some(Ok(message)) => Read::Message(message),
            Some(Err(error)) => self.broken(&error),
            None => {
                self.far_gone();
                Read::Nothing
            }
        })
    }

    fn far_close(&mut self, frame: Option<CloseFrame>) {
        if !self.is_open() {
            return;
        }
        let (reason, detail) = match &frame {
            None => (EndReason::HungUp, String::new()),
            Some(CloseFrame { code: CloseCode::Normal | CloseCode::Away, .. }) => (EndReason::HungUp, String::new()),
            Some(CloseFrame { code: CloseCode::Policy, reason }) => {
                (EndReason::ProtocolError, format!("closed with 1008: {reason}"))
            }
            Some(CloseFrame { code, reason }) => (EndReason::ConnectionLost, format!("closed with {}: {reason}", u16::from(*code))),
        };
        // The socket has an answer to the close ready.
        self.unflushed = true;
        self.phase = Phase::FarClosed { reason, detail };
        self.timer.as_mut().reset(Instant::now() + CLOSE_TIME);
    }

    /// Nothing more will come, and nothing more can be sent.
    fn far_gone(&mut self) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Open) {
            Phase::Closing { reason, detail, .. } | Phase::FarClosed { reason, detail } => Phase::FarClosed { reason, detail },
            Phase::Open => Phase::FarClosed { reason: EndReason::ConnectionLost, detail: BROKE_OFF.to_owned() },
        };
        (self.queued_binary, self.queued_bytes, self.unflushed) = (0, 0, false);
        self.outgoing.clear();
    }

    fn broken(&mut self, error: &WsError) -> Read {
        match error {
            WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
                return Read::TooLong(format!("a message of {size} bytes is longer than the {max_size} that are taken"));
            }
            WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)
            | WsError::Io(_)
            | WsError::ConnectionClosed
            | WsError::AlreadyClosed => self.far_gone(),
            WsError::Utf8(_) => return Read::NotUtf8,
            other => {
                let detail = format!("not a WebSocket message: {other}");
                self.close_deaf(EndReason::ProtocolError, detail, CloseCode::Policy);
            }
        }
        Read::Nothing
    }

    fn gone(&mut self) -> LegEvent {
        match std::mem::replace(&mut self.phase, Phase::Open) {
            Phase::Open => LegEvent::Hangup { reason: EndReason::ConnectionLost, detail: BROKE_OFF.to_owned() },
            Phase::Closing { reason, detail, .. } | Phase::FarClosed { reason, detail } => LegEvent::Hangup { reason, detail },
        }
    }
}
