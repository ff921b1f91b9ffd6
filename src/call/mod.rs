//! A call: two legs, one task, one clock. Nothing here knows a protocol.

mod event;
mod ids;

pub use event::{CallEnd, EndReason, Event, LoggedEvent, MarkSource};
pub use ids::{CallIds, Side};
