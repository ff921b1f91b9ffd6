//! A call: two legs, one task, one clock. Nothing here knows a protocol.

mod alarm;
mod bridge;
mod clock;
mod direction;
mod event;
mod frame_clock;
mod ids;
mod leg;
mod outlet;
mod playout;
mod supply;
mod task;

pub(crate) use alarm::Alarm;
pub use bridge::Bridge;
pub use clock::{CallTime, SampleIndex};
pub use direction::Party;
pub use event::{CallEnd, Effect, EffectKind, EndReason, Event, LoggedEvent, MarkSource};
pub use frame_clock::{Due, FrameClock};
pub use ids::{CallIds, Side};
pub use leg::{Abilities, FunctionCall, FunctionResult, Leg, LegCommand, LegEvent, LineCounts, Mark};
pub use outlet::Outlet;
pub use playout::{Arrival, Cleared, JITTER, LEAD, LONGEST_QUEUE, OUTAGE, Playout, Released};
pub use task::{Call, CallControl, CallOutcome, Limits, Observer, Tape, Unable};
