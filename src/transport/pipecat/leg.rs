//! A Pipecat bot's WebSocket as a call's leg.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::json;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::frames::{Audio, Frame, encode_audio};
use super::hearing::Hearing;
use super::rtvi::{self, Rtvi, Turn};
use crate::audio::Rate;
use crate::call::{Abilities, EndReason, Leg, LegCommand, LegEvent};
use crate::transport::web_socket::{Link, Read, Socket};

/// What the wire carries beside audio.
pub(super) const ABILITIES: Abilities = Abilities {
    continuous_sink: true,
    speech_marks: true,
    dtmf: true,
    text: true,
    data: true,
    transcripts: true,
    ..Abilities::NONE
};
/// Frames that may wait for a bot that does not read: 5 s of 20 ms.
pub(super) const MOST_QUEUED: usize = 250;
/// So many messages that make no sense are told of; then the call ends.
pub(super) const MOST_FAULTS: u32 = 100;
pub(super) const BAD_MESSAGE: &str = "BAD_MESSAGE";
pub(super) const OTHER_SERIALIZER: &str = "a text message: the far side has another serializer than ProtobufFrameSerializer";
/// Silence of this length in one frame is what a bot sends before it hangs up (2 s, `audio_out_end_silence_secs`).
const FAREWELL_SILENCE: Duration = Duration::from_secs(1);

/// A bot in a call.
pub struct PipecatLeg {
    link: Link,
    via: String,
    rtvi: Rtvi,
    hearing: Hearing,
    /// Silence that is left out if the bot hangs up after it.
    silence: Option<Audio>,
    events: VecDeque<LegEvent>,
    faults: u32,
}

/// What happens before the call.
pub(super) enum Beginning {
    /// The bot is ready, or speaks.
    Begun,
    /// It is gone.
    Gone(EndReason, String),
}

impl PipecatLeg {
    /// A leg that asks the bot whether it is ready. The bot takes audio at `rate`.
    pub(super) fn new(socket: Socket, via: String, rate: Rate) -> Self {
        let mut leg = Self {
            link: Link::new(socket, None),
            via,
            rtvi: Rtvi::default(),
            hearing: Hearing::new(rate),
            silence: None,
            events: VecDeque::new(),
            faults: 0,
        };
        leg.say(rtvi::client_ready());
        leg
    }

    /// The next step on the way to a bot that is ready. What it tells is kept.
    pub(super) fn poll_beginning(&mut self, cx: &mut Context<'_>) -> Poll<Beginning> {
        loop {
            let sent = self.link.send_on(&mut self.events, cx);
            if self.rtvi.is_ready() || self.events.iter().any(|event| matches!(event, LegEvent::Audio(_))) {
                return Poll::Ready(Beginning::Begun);
            }
            if let Some(LegEvent::Hangup { reason, detail }) = self.link.poll_gone(sent, cx) {
                return Poll::Ready(Beginning::Gone(reason, detail));
            }
            match self.link.poll_read(cx) {
                Poll::Ready(read) => self.take(read),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn say(&mut self, message: String) {
        self.link.push(Message::binary(Frame::Message(message).encode()));
    }

    fn refuse(&mut self, detail: String) {
        self.link.close(EndReason::ProtocolError, detail, CloseCode::Policy);
    }

    fn take(&mut self, read: Read) {
        match read {
            Read::Message(Message::Binary(bytes)) => match Frame::decode(&bytes) {
                Ok(frame) => frame.into_iter().for_each(|frame| self.take_frame(frame)),
                Err(problem) => self.refuse(problem.to_string()),
            },
            Read::Message(Message::Text(_)) => self.refuse(OTHER_SERIALIZER.to_owned()),
            // Pings are answered by the WebSocket itself.
            Read::Message(_) | Read::Nothing => {}
            Read::NotUtf8 => self.close_deaf("text that is not UTF-8".to_owned()),
            Read::TooLong(detail) => self.close_deaf(detail),
        }
    }

    fn close_deaf(&mut self, detail: String) {
        self.link.close_deaf(EndReason::ProtocolError, detail, CloseCode::Policy);
    }

    fn take_frame(&mut self, frame: Frame) {
        match frame {
            Frame::Audio(audio) => self.take_audio(audio),
            Frame::Message(text) => match self.rtvi.take(&text, &mut self.events) {
                Ok(Some(Turn::Stops)) => {
                    let stop = self.events.pop_back();
                    self.hearing.empty(&mut self.events);
                    self.events.extend(stop);
                }
                Ok(Some(Turn::Interrupted)) => self.interrupted(),
                Ok(None) => {}
                Err(problem) => self.fault(problem.to_string()),
            },
            Frame::Text(text) => self.events.push_back(LegEvent::Text(text)),
            Frame::Transcription { text, user_id, timestamp } => self.events.push_back(transcription(&text, &user_id, &timestamp)),
            Frame::Interruption => self.interrupted(),
        }
    }

    fn fault(&mut self, detail: String) {
        self.events.push_back(LegEvent::Fault { code: BAD_MESSAGE.to_owned(), detail });
        self.faults += 1;
        if self.faults == MOST_FAULTS {
            self.refuse(format!("{MOST_FAULTS} messages broke the protocol"));
        }
    }

    /// A bot says this at the start of each of the caller's turns, whether it speaks or not: it is no sign of a barge-in.
    fn interrupted(&mut self) {
        self.silence = None;
        self.hearing.forget();
        self.events.push_back(LegEvent::Clear);
    }

    fn take_audio(&mut self, audio: Audio) {
        let long = audio.samples.len() as u64 >= audio.rate.samples_in(FAREWELL_SILENCE);
        let held = if long && audio.samples.iter().all(|sample| *sample == 0) {
            self.silence.replace(audio)
        } else {
            let held = self.silence.take();
            held.into_iter().for_each(|silence| self.hearing.take(silence, &mut self.events));
            Some(audio)
        };
        held.into_iter().for_each(|audio| self.hearing.take(audio, &mut self.events));
    }
}

/// A transcription frame's meaning for the call: whose words they are is the far side's to tell.
pub(super) fn transcription(text: &str, user_id: &str, timestamp: &str) -> LegEvent {
    LegEvent::Data(json!({"pipecat": "transcription", "text": text, "user_id": user_id, "timestamp": timestamp}))
}

impl Leg for PipecatLeg {
    fn rate(&self) -> Rate {
        self.hearing.rate()
    }

    fn abilities(&self) -> Abilities {
        ABILITIES
    }

    fn via(&self) -> String {
        self.via.clone()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        loop {
            let sent = self.link.send_on(&mut self.events, cx);
            self.hearing.poll_pause(&mut self.events, cx);
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            if let Some(gone) = self.link.poll_gone(sent, cx) {
                return Poll::Ready(gone);
            }
            match self.link.poll_read(cx) {
                Poll::Ready(read) => self.take(read),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> bool {
        self.link.send_on(&mut self.events, cx) && self.events.is_empty() && self.link.is_open()
    }

    fn command(&mut self, command: LegCommand<'_>) {
        if !self.link.is_open() {
            return;
        }
        match command {
            LegCommand::Audio(samples) => self.link.push_binary(|| encode_audio(self.hearing.rate(), samples), MOST_QUEUED),
            LegCommand::Text(text) => self.say(rtvi::send_text(text)),
            LegCommand::Dtmf(digit) => self.say(rtvi::dtmf(digit)),
            LegCommand::Data(data) => self.say(rtvi::data(data)),
            LegCommand::Hangup(reason @ (EndReason::ConnectionLost | EndReason::PacingSlipped)) => {
                self.link.close(reason, "the other side of the call is gone".to_owned(), CloseCode::Error);
            }
            LegCommand::Hangup(reason @ (EndReason::ProtocolError | EndReason::IdleTimeout)) => {
                self.link.close(reason, "the other side of the call was refused".to_owned(), CloseCode::Policy);
            }
            // This is how Pipecat's own clients leave. `disconnect-bot` would let the bot say to its end what it has queued, and keep
            // the call open until then.
            LegCommand::Hangup(reason) => self.link.close(reason, String::new(), CloseCode::Normal),
            // The bot hears the caller, and finds out for itself.
            _ => {}
        }
    }
}
