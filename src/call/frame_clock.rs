//! The 20 ms clock of a leg that makes its own audio.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::audio::FRAME;

/// Tells how many 20 ms frames are due. It never drifts: frame `n` is due at `start + n · 20 ms`, however late it was asked.
#[derive(Debug)]
pub struct FrameClock {
    start: Option<Instant>,
    given: u32,
    sleep: Pin<Box<Sleep>>,
}

/// Frames that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// How many: one when all is well.
    pub frames: u32,
    /// How late the first of them is.
    pub late: Duration,
}

impl FrameClock {
    /// A clock that starts when it is first asked.
    #[must_use]
    pub fn new() -> Self {
        Self { start: None, given: 0, sleep: Box::pin(tokio::time::sleep(Duration::ZERO)) }
    }

    /// Waits for the next frame.
    pub fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<Due> {
        let now = Instant::now();
        let start = *self.start.get_or_insert(now);
        let next = start + FRAME * self.given;
        if next > now {
            self.sleep.as_mut().reset(next);
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        let late = Instant::now().saturating_duration_since(next);
        let frames = (late.as_nanos() / FRAME.as_nanos()) as u32 + 1;
        self.given += frames;
        Poll::Ready(Due { frames, late })
    }
}

impl Default for FrameClock {
    fn default() -> Self {
        Self::new()
    }
}
