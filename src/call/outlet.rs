//! Where what comes of a call goes.

use super::{CallTime, Event, LegCommand, LoggedEvent, SampleIndex, Side};

/// Where a bridge's output goes.
pub trait Outlet {
    /// A command for the leg of `to`.
    fn command(&mut self, to: Side, command: LegCommand<'_>);
    /// What the other side hears of `of` from `at` on, at the rate of `of`.
    fn record(&mut self, of: Side, at: SampleIndex, samples: &[i16]);
    /// Something happened.
    fn log(&mut self, event: LoggedEvent);
}

pub(super) fn log(out: &mut impl Outlet, now: CallTime, side: Option<Side>, event: Event) {
    out.log(LoggedEvent { at_ms: now.millis(), side, event });
}
