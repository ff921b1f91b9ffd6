//! One folder a wire, and the one spelling of the ways out.

mod arrival;
mod capability;
pub mod chat;
pub mod chirp;
mod faults;
pub mod livekit;
mod origin;
pub mod pipecat;
pub mod process;
mod secret;
mod set_up;
pub mod telephony_ws;
pub mod tls;
mod way_out;
pub mod web_socket;
pub mod webrtc;

pub use arrival::{Arrival, Arrivals, CallerLeg, wait_for};
pub use capability::{CAPABILITIES, Capability, capability_table};
pub use secret::Secret;
pub use set_up::{SetUp, SetUpTimes, Stage, StageTime};
pub(crate) use way_out::hide_address;
pub use way_out::{BadWayOut, ConnectError, ConnectOptions, METADATA_HEADER, WayOut};
