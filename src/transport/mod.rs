//! One folder a wire, and the one spelling of the ways out.

mod capability;
pub mod chirp;
pub mod process;
pub mod tls;
mod way_out;

pub use capability::{CAPABILITIES, Capability, capability_table};
pub use way_out::{BadWayOut, ConnectError, ConnectOptions, WayOut};
