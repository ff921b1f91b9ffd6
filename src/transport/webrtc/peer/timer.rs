//! The timer of a peer connection.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// While there is nothing to wait for, the timer still needs a moment.
const LONG: Duration = Duration::from_secs(3600);

/// Wakes whoever polled it last, also for a moment that is set later. It is only ever put earlier: with every packet the next moment
/// moves on a little, and the timer finds that out when it goes off.
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    deadline: Instant,
}

impl Timer {
    pub(super) fn new(now: Instant) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(LONG)), deadline: now }
    }

    /// Sets the moment.
    pub(super) fn set(&mut self, deadline: Instant) {
        self.deadline = deadline;
        if deadline < self.sleep.deadline().into_std() {
            self.sleep.as_mut().reset(deadline.into());
        }
    }

    /// Waits for the moment.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.sleep.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self.deadline <= now {
                return Poll::Ready(());
            }
            // str0m says "never" with a moment far away.
            self.sleep.as_mut().reset(self.deadline.min(now + LONG).into());
        }
        Poll::Pending
    }
}
