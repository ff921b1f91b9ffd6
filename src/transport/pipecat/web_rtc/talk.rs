//! What the legs on either side of a line have in common: what is heard and said, what is told, and how it ends.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use super::line::Line;
use crate::audio::opus::OpusError;
use crate::call::{EndReason, LegEvent};
use crate::transport::faults::Faults;
use crate::transport::webrtc::Voice;

const BAD_MESSAGE: &str = "BAD_MESSAGE";

/// A call over a line.
pub(super) struct Talk {
    pub(super) line: Line,
    pub(super) voice: Voice,
    /// Events that nobody has asked for yet.
    pub(super) events: VecDeque<LegEvent>,
    faults: Faults,
    end: Option<(EndReason, String)>,
    /// We hang up: what is still to be heard is not part of the call.
    hung_up: bool,
}

impl Talk {
    /// A call that has not begun.
    ///
    /// # Errors
    /// [`OpusError`] when there is no memory for the codec.
    pub(super) fn new(line: Line) -> Result<Self, OpusError> {
        let events = VecDeque::new();
        Ok(Self { line, voice: Voice::new()?, events, faults: Faults::default(), end: None, hung_up: false })
    }

    /// Why it is over; none while it goes on.
    pub(super) const fn ended(&self) -> Option<&(EndReason, String)> {
        self.end.as_ref()
    }

    /// Ends it for this reason, if it has not ended for another. What was heard before is still given.
    pub(super) fn close(&mut self, reason: EndReason, detail: String) {
        self.end.get_or_insert((reason, detail));
    }

    /// Hangs up for this reason, at once.
    pub(super) fn hang_up(&mut self, reason: EndReason, detail: String) {
        self.hung_up = true;
        self.close(reason, detail);
    }

    /// Audio for the far side.
    pub(super) fn play(&mut self, samples: &[i16]) {
        let line = &mut self.line;
        self.voice.send(samples, |time, level, packet| line.send_audio(time, level, packet));
    }

    /// A message for the far side.
    pub(super) fn say(&mut self, message: String) {
        if !self.line.say(message) {
            self.events.push_back(LegEvent::NotRead(1));
        }
    }

    /// The far side said what cannot be read.
    pub(super) fn fault(&mut self, detail: String) {
        self.events.push_back(LegEvent::Fault { code: BAD_MESSAGE.to_owned(), detail });
        if let Some(detail) = self.faults.add() {
            self.close(EndReason::ProtocolError, detail);
        }
    }

    /// What the call is told next, without a look at the line: events, what was heard, the end.
    pub(super) fn next(&mut self, cx: &mut Context<'_>) -> Option<LegEvent> {
        self.events.extend(self.voice.losses());
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if self.end.is_some() && (self.hung_up || self.voice.is_heard_out()) {
            return Some(self.voice.last_line().unwrap_or_else(|| self.over(cx)));
        }
        self.voice.poll_audio(cx).map(LegEvent::Audio)
    }

    /// The connection is closed, and the leg gone.
    fn over(&mut self, cx: &mut Context<'_>) -> LegEvent {
        self.line.close();
        // Goes out at once; a far side that does not get it will notice all the same.
        let _: Poll<_> = self.line.poll(cx);
        let (reason, detail) = self.end.clone().unwrap_or((EndReason::HungUp, String::new()));
        LegEvent::Hangup { reason, detail }
    }
}
