//! A Pipecat bot's WebSocket as a call's leg.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::frames::{Audio, Frame};
use super::wire::{Next, Wire, transcription};
use crate::audio::Rate;
use crate::call::{Abilities, EndReason, Leg, LegCommand, LegEvent};
use crate::transport::pipecat::rtvi::{self, Rtvi, Turn};
use crate::transport::web_socket::Socket;

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
/// Silence of this length in one frame is what a bot sends before it hangs up (2 s, `audio_out_end_silence_secs`).
const FAREWELL_SILENCE: Duration = Duration::from_secs(1);

/// A bot in a call.
pub struct PipecatLeg {
    wire: Wire,
    via: String,
    rtvi: Rtvi,
    /// Silence that is left out if the bot hangs up after it.
    silence: Option<Audio>,
    /// A frame has said that the bot was interrupted; the message that says it again is still to come.
    interrupted: bool,
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
        let mut wire = Wire::new(socket, None, rate);
        wire.say(rtvi::client_ready());
        Self { wire, via, rtvi: Rtvi::default(), silence: None, interrupted: false }
    }

    /// The next step on the way to a bot that is ready. What it tells is kept.
    pub(super) fn poll_beginning(&mut self, cx: &mut Context<'_>) -> Poll<Beginning> {
        loop {
            if self.rtvi.is_ready() || self.wire.events.iter().any(|event| matches!(event, LegEvent::Audio(_))) {
                return Poll::Ready(Beginning::Begun);
            }
            match ready!(self.wire.poll_far(cx)) {
                Next::Frame(frame) => self.take(frame),
                Next::Event(LegEvent::Hangup { reason, detail }) => return Poll::Ready(Beginning::Gone(reason, detail)),
                Next::Event(other) => self.wire.events.push_back(other),
            }
        }
    }

    fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Audio(audio) => self.take_audio(audio),
            Frame::Message(text) => self.take_message(&text),
            Frame::Text(text) => self.wire.events.push_back(LegEvent::Text(text)),
            Frame::Transcription { text, user_id, timestamp } => {
                self.wire.events.push_back(transcription(&text, &user_id, &timestamp));
            }
            Frame::Interruption => {
                self.interrupted = true;
                self.clear();
            }
        }
    }

    fn take_message(&mut self, text: &str) {
        match self.rtvi.take(text, &mut self.wire.events) {
            Ok(Some(Turn::Stops)) => {
                let stop = self.wire.events.pop_back();
                self.wire.hearing.empty(&mut self.wire.events);
                self.wire.events.extend(stop);
            }
            // Older bots have no frame for it.
            Ok(Some(Turn::Interrupted)) if !std::mem::take(&mut self.interrupted) => self.clear(),
            Ok(_) => {}
            Err(problem) => self.wire.fault(problem.to_string()),
        }
    }

    /// A bot says that it was interrupted at the start of each of the caller's turns, whether it speaks or not: it is no sign of a
    /// barge-in.
    fn clear(&mut self) {
        self.silence = None;
        self.wire.hearing.forget();
        self.wire.events.push_back(LegEvent::Clear);
    }

    fn take_audio(&mut self, audio: Audio) {
        let long = audio.samples.len() as u64 >= audio.rate.samples_in(FAREWELL_SILENCE);
        let Wire { hearing, events, .. } = &mut self.wire;
        if long && audio.samples.iter().all(|sample| *sample == 0) {
            let before = self.silence.replace(audio);
            before.into_iter().for_each(|silence| hearing.take(silence, events));
        } else {
            self.silence.take().into_iter().chain([audio]).for_each(|audio| hearing.take(audio, events));
        }
    }
}

impl Leg for PipecatLeg {
    fn rate(&self) -> Rate {
        self.wire.hearing.rate()
    }

    fn abilities(&self) -> Abilities {
        ABILITIES
    }

    fn via(&self) -> String {
        self.via.clone()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        loop {
            match ready!(self.wire.poll(cx)) {
                Next::Event(event) => return Poll::Ready(event),
                Next::Frame(frame) => self.take(frame),
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> bool {
        self.wire.poll_send(cx)
    }

    fn command(&mut self, command: LegCommand<'_>) {
        if !self.wire.is_open() {
            return;
        }
        match command {
            LegCommand::Audio(samples) => self.wire.speak(samples),
            LegCommand::Text(text) => self.wire.say(rtvi::send_text(text)),
            LegCommand::Dtmf(digit) => self.wire.say(rtvi::dtmf(digit)),
            LegCommand::Data(data) => self.wire.say(rtvi::data(data)),
            // To close is how Pipecat's own clients leave. `disconnect-bot` would let the bot say to its end what it has queued, and
            // keep the call open until then.
            LegCommand::Hangup(reason) => self.wire.hang_up(reason),
            // The bot hears the caller, and finds out for itself.
            _ => {}
        }
    }
}
