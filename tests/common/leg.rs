//! A leg of the test's own that talks and listens.

use std::future::poll_fn;
use std::task::Poll;

use tokio::time::Interval;
use trunkline::call::{Leg, LegEvent};

use super::PATIENCE;

/// What comes next from the leg; none: it is time for the next frame.
pub async fn event_or_tick(leg: &mut dyn Leg, clock: &mut Interval) -> Option<LegEvent> {
    let next = poll_fn(|cx| match leg.poll_event(cx) {
        Poll::Ready(event) => Poll::Ready(Some(event)),
        Poll::Pending => clock.poll_tick(cx).map(|_| None),
    });
    tokio::time::timeout(PATIENCE, next).await.expect("the leg goes on")
}
