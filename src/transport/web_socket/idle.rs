//! A far side that sends nothing for too long.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::call::Alarm;

/// Watches it.
pub(in crate::transport) struct IdleWatch {
    /// How long it may send nothing; none: for ever.
    idle: Option<Duration>,
    heard: Instant,
    /// When it is looked at again.
    look: Instant,
    alarm: Alarm,
}

impl IdleWatch {
    pub(in crate::transport) fn new(idle: Option<Duration>) -> Self {
        let now = Instant::now();
        Self { idle, heard: now, look: now + idle.unwrap_or_default(), alarm: Alarm::new() }
    }

    /// Something came.
    pub(in crate::transport) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// Ready, in words, when nothing has come for too long. Not to be asked of a connection that is closing.
    pub(in crate::transport) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        let Some(idle) = self.idle else { return Poll::Pending };
        while self.alarm.poll_at(Some(self.look), cx).is_ready() {
            if self.heard.elapsed() >= idle {
                return Poll::Ready(format!("nothing came for {} s", idle.as_secs_f64()));
            }
            self.look = self.heard + idle;
        }
        Poll::Pending
    }
}
