//! One side of a CHIRP connection as a call's leg.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, error::CapacityError};

use super::RATE;
use super::protocol::{ErrorCode, Incoming, MOST_FAULTS, Refusal, Session};
use crate::audio::{Rate, to_s16le};
use crate::call::{Abilities, EndReason, Leg, LegCommand, LegEvent, Mark};
use crate::transport::tls::Wire;

/// What CHIRP carries beside audio.
pub(super) const ABILITIES: Abilities = Abilities { speech_marks: true, ..Abilities::NONE };
/// Audio messages that may wait for a far side that does not read: 5 s of 20 ms.
const MOST_QUEUED: usize = 250;
const BROKE_OFF: &str = "the connection broke off without a close";
/// How long a close may take.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// What a far side may not exceed.
#[derive(Debug, Clone, Copy)]
pub struct ChirpLimits {
    /// The longest message, in bytes; a longer one closes the connection with 1008.
    pub max_message: usize,
    /// How long the far side may send nothing; then the connection is closed with 1008. None: for ever.
    pub idle: Option<Duration>,
}

impl Default for ChirpLimits {
    /// 1 MiB (32 s of audio in one message), and no idle time.
    fn default() -> Self {
        Self { max_message: 1 << 20, idle: None }
    }
}

impl ChirpLimits {
    pub(super) fn web_socket_config(&self) -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(2 * 1024)
            .write_buffer_size(0)
            .max_message_size(Some(self.max_message))
            .max_frame_size(Some(self.max_message))
    }
}

/// A CHIRP connection.
pub struct ChirpLeg {
    socket: WebSocketStream<Box<dyn Wire>>,
    session: Session,
    via: String,
    continuous: bool,
    opened: Instant,
    limits: ChirpLimits,
    outgoing: VecDeque<Message>,
    queued_audio: usize,
    /// Something was given to the socket and not flushed yet.
    unflushed: bool,
    not_read: u64,
    events: VecDeque<LegEvent>,
    faults: u32,
    /// Samples of the far side's stream that came before the call began.
    skipped: u64,
    phase: Phase,
    timer: Pin<Box<Sleep>>,
    heard: Instant,
    _permit: Option<OwnedSemaphorePermit>,
}

/// How far the connection's end has got.
enum Phase {
    Open,
    /// We have said that we close; the reason is what the call is told.
    Closing {
        reason: EndReason,
        detail: String,
        /// The far side's messages can no longer be told apart: what still comes is thrown away.
        deaf: bool,
    },
    /// The far side has closed; the answer to it is being sent.
    FarClosed {
        reason: EndReason,
        detail: String,
    },
}

impl ChirpLeg {
    /// `continuous` says that the far side sends audio without a gap, as Cekura's caller does.
    pub(super) fn new(
        socket: WebSocketStream<Box<dyn Wire>>,
        via: String,
        continuous: bool,
        limits: ChirpLimits,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let now = Instant::now();
        Self {
            socket,
            session: Session::default(),
            via,
            continuous,
            opened: now,
            limits,
            outgoing: VecDeque::new(),
            queued_audio: 0,
            unflushed: false,
            not_read: 0,
            events: VecDeque::new(),
            faults: 0,
            skipped: 0,
            phase: Phase::Open,
            timer: Box::pin(tokio::time::sleep_until(now + limits.idle.unwrap_or(Duration::from_secs(86_400)))),
            heard: now,
            _permit: permit,
        }
    }

    /// Refuses the far side at once: closes with 1008 and `detail`.
    pub(super) async fn refuse(mut self, detail: &str) {
        self.close(EndReason::ProtocolError, detail.to_owned(), CloseCode::Policy, false);
        std::future::poll_fn(|cx| match self.poll_event(cx) {
            Poll::Ready(LegEvent::Hangup { .. }) => Poll::Ready(()),
            Poll::Ready(_) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        })
        .await;
    }

    /// Waits for `work` before the call begins. The far side is heard meanwhile, but nobody listens: its audio is let go.
    ///
    /// # Errors
    /// The far side's [`LegEvent::Hangup`], when it leaves before `work` is done.
    pub async fn wait_for<T>(&mut self, work: impl Future<Output = T>) -> Result<T, LegEvent> {
        let mut work = std::pin::pin!(work);
        let mut kept = VecDeque::new();
        let waited = std::future::poll_fn(|cx| {
            // All that has come before the work is done is let go: none of it waits when the call begins.
            while let Poll::Ready(event) = self.poll_event(cx) {
                match event {
                    LegEvent::Audio(samples) => self.skipped += samples.len() as u64,
                    hangup @ LegEvent::Hangup { .. } => return Poll::Ready(Err(hangup)),
                    other => kept.push_back(other),
                }
            }
            work.as_mut().poll(cx).map(Ok)
        });
        let waited = waited.await;
        kept.append(&mut self.events);
        self.events = kept;
        waited
    }

    /// Something failed on our side: says so with INTERNAL_ERROR and closes with 1011.
    pub fn fail(&mut self, detail: &str) {
        let error = Session::error(ErrorCode::InternalError, detail, self.ts_ms());
        self.outgoing.push_back(Message::text(error));
        self.close(EndReason::ConnectionLost, detail.to_owned(), CloseCode::Error, false);
    }

    fn ts_ms(&self) -> u64 {
        self.opened.elapsed().as_millis() as u64
    }

    fn close(&mut self, reason: EndReason, detail: String, code: CloseCode, deaf: bool) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        // A close frame's reason has room for 123 bytes (RFC 6455 section 5.5).
        let mut said = detail.clone();
        while said.len() > 123 {
            said.pop();
        }
        self.outgoing.push_back(Message::Close(Some(CloseFrame { code, reason: said.into() })));
        self.phase = Phase::Closing { reason, detail, deaf };
        self.timer.as_mut().reset(Instant::now() + CLOSE_TIME);
    }

    fn refused(&mut self, refusal: &Refusal) {
        let error = Session::error(refusal.code, &refusal.message, self.ts_ms());
        self.outgoing.push_back(Message::text(error));
        let code = refusal.code.to_string();
        self.events.push_back(LegEvent::Fault { code, detail: refusal.message.clone() });
        self.faults += 1;
        if self.faults == MOST_FAULTS {
            let detail = format!("{MOST_FAULTS} messages broke the protocol");
            self.close(EndReason::ProtocolError, detail, CloseCode::Policy, false);
        }
    }

    fn take(&mut self, message: Message) {
        let read = match message {
            Message::Binary(bytes) => self.session.binary(&bytes),
            Message::Text(text) => self.session.text(&text),
            Message::Close(frame) => return self.far_close(frame),
            // Answered by the WebSocket itself; neither is a sign of a call that goes on.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return,
        };
        self.heard = Instant::now();
        match read {
            Ok(Incoming::Audio(samples)) => self.events.push_back(LegEvent::Audio(samples)),
            Ok(Incoming::SpeechStarted(mark)) => self.events.push_back(LegEvent::SpeechStarted(self.placed(mark))),
            Ok(Incoming::SpeechCompleted(mark)) => self.events.push_back(LegEvent::SpeechStopped(self.placed(mark))),
            Ok(Incoming::Error { code, message, fatal }) => {
                let detail = format!("the far side reports: {message}");
                self.events.push_back(LegEvent::Fault { code, detail });
                if fatal {
                    tracing::debug!("the far side reports an internal error and will close");
                }
            }
            Err(refusal) => self.refused(&refusal),
        }
    }

    /// The mark's place counts from the call's begin, not from the connection's.
    fn placed(&self, mark: Mark) -> Mark {
        Mark { position: mark.position.map(|position| position.saturating_sub(self.skipped)), ..mark }
    }

    fn far_close(&mut self, frame: Option<CloseFrame>) {
        if !matches!(self.phase, Phase::Open) {
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

    fn broken(&mut self, error: &WsError) {
        match error {
            WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
                let detail = format!("a message of {size} bytes is longer than the {max_size} that are taken");
                self.close(EndReason::ProtocolError, detail, CloseCode::Policy, true);
            }
            WsError::Protocol(tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)
            | WsError::Io(_)
            | WsError::ConnectionClosed
            | WsError::AlreadyClosed => {
                self.phase = match std::mem::replace(&mut self.phase, Phase::Open) {
                    Phase::Closing { reason, detail, .. } | Phase::FarClosed { reason, detail } => {
                        Phase::FarClosed { reason, detail }
                    }
                    Phase::Open => Phase::FarClosed { reason: EndReason::ConnectionLost, detail: BROKE_OFF.to_owned() },
                };
                self.outgoing.clear();
            }
            WsError::Utf8(_) => {
                let refusal = Refusal { code: ErrorCode::InvalidMessage, message: "text that is not UTF-8".to_owned() };
                self.refused(&refusal);
                let detail = "text that is not UTF-8".to_owned();
                self.close(EndReason::ProtocolError, detail, CloseCode::Policy, true);
            }
            other => {
                let detail = format!("not a WebSocket message: {other}");
                self.close(EndReason::ProtocolError, detail, CloseCode::Policy, true);
            }
        }
    }

    /// Sends what waits, as far as the far side reads.
    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        while !self.outgoing.is_empty() {
            ready!(Pin::new(&mut self.socket).poll_ready(cx))?;
            let message = self.outgoing.pop_front().expect("just seen");
            if message.is_binary() {
                self.queued_audio -= 1;
            }
            self.unflushed = true;
            Pin::new(&mut self.socket).start_send(message)?;
        }
        if self.not_read > 0 {
            self.events.push_back(LegEvent::NotRead(std::mem::take(&mut self.not_read)));
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads on, or throws away what can no longer be understood.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        if matches!(self.phase, Phase::Closing { deaf: true, .. }) {
            let mut bytes = [0; 4096];
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(self.socket.get_mut()).poll_read(cx, &mut buffer));
            return Poll::Ready((read.is_ok() && !buffer.filled().is_empty()).then_some(()));
        }
        match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
            Some(Ok(message)) => self.take(message),
            Some(Err(error)) => self.broken(&error),
            None => return Poll::Ready(None),
        }
        Poll::Ready(Some(()))
    }

    fn gone(&mut self) -> LegEvent {
        if self.not_read > 0 {
            tracing::debug!(frames = self.not_read, "audio that the far side never read");
        }
        match std::mem::replace(&mut self.phase, Phase::Open) {
            Phase::Open => LegEvent::Hangup { reason: EndReason::ConnectionLost, detail: BROKE_OFF.to_owned() },
            Phase::Closing { reason, detail, .. } | Phase::FarClosed { reason, detail } => LegEvent::Hangup { reason, detail },
        }
    }

    fn timer_fired(&mut self) -> Option<LegEvent> {
        if !matches!(self.phase, Phase::Open) {
            return Some(self.gone());
        }
        let idle = self.limits.idle?;
        if self.heard.elapsed() >= idle {
            let detail = format!("nothing came for {} s", idle.as_secs_f64());
            self.close(EndReason::IdleTimeout, detail, CloseCode::Policy, false);
        } else {
            self.timer.as_mut().reset(self.heard + idle);
        }
        None
    }
}

impl Leg for ChirpLeg {
    fn rate(&self) -> Rate {
        RATE
    }

    fn abilities(&self) -> Abilities {
        Abilities { continuous_source: self.continuous, ..ABILITIES }
    }

    fn via(&self) -> String {
        self.via.clone()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        loop {
            let sent = self.poll_outgoing(cx);
            if let Poll::Ready(Err(error)) = &sent {
                self.broken(error);
            }
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            if matches!(self.phase, Phase::FarClosed { .. }) && sent.is_ready() {
                return Poll::Ready(self.gone());
            }
            if self.timer.as_mut().poll(cx).is_ready() {
                match self.timer_fired() {
                    Some(event) => return Poll::Ready(event),
                    None if self.limits.idle.is_some() => continue,
                    None => {}
                }
            }
            match self.poll_read(cx) {
                Poll::Ready(Some(())) => {}
                Poll::Ready(None) => return Poll::Ready(self.gone()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> bool {
        let sent = self.poll_outgoing(cx);
        if let Poll::Ready(Err(error)) = &sent {
            self.broken(error);
        }
        matches!(sent, Poll::Ready(Ok(()))) && self.events.is_empty()
    }

    fn command(&mut self, command: LegCommand<'_>) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        match command {
            LegCommand::Audio(samples) if self.queued_audio < MOST_QUEUED => {
                self.queued_audio += 1;
                self.outgoing.push_back(Message::binary(to_s16le(samples)));
            }
            LegCommand::Audio(_) => self.not_read += 1,
            LegCommand::Clear => {
                let before = self.outgoing.len();
                self.outgoing.retain(|message| !message.is_binary());
                self.not_read += (before - self.outgoing.len()) as u64;
                self.queued_audio = 0;
            }
            LegCommand::SpeechStarted(mark) => {
                let event = self.session.start_speech(mark, self.opened.elapsed().as_millis() as u64);
                self.outgoing.push_back(Message::text(event));
            }
            LegCommand::SpeechStopped(mark) => {
                let event = self.session.complete_speech(mark, self.opened.elapsed().as_millis() as u64);
                self.outgoing.extend(event.map(Message::text));
            }
            LegCommand::Hangup(reason) => self.hang_up(reason),
            _ => tracing::debug!("CHIRP carries audio and speech events only"),
        }
    }
}

impl ChirpLeg {
    fn hang_up(&mut self, reason: EndReason) {
        let detail = String::new();
        match reason {
            EndReason::ConnectionLost | EndReason::PacingSlipped => self.fail("the other side of the call is gone"),
            EndReason::ProtocolError | EndReason::IdleTimeout => {
                self.close(reason, "the other side of the call was refused".to_owned(), CloseCode::Policy, false);
            }
            _ => self.close(reason, detail, CloseCode::Normal, false),
        }
    }
}
