//! Ways to the far side (ICE, RFC 8445): our sockets, and the STUN and TURN servers that help.

mod fallback;
mod gather;
mod paths;
mod relay;
mod server;
mod stun;
mod tcp;
mod turn;
mod unsent;

pub(super) use fallback::{Fallback, Resort};
pub(super) use gather::{Gather, Gathered};
pub(super) use paths::{Got, Paths, Received};
pub use server::{IceOptions, IceServer, IceServerError};
