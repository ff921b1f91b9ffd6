//! The client of Cekura's API and the payloads of its run modes (<https://docs.cekura.ai>).

mod client;
pub mod payload;
mod start;
mod state;

pub use client::{Client, ClientError, Key, explain_error_body};
pub use payload::Mode;
pub use start::{StartError, Started, follow, start_once};
pub use state::{ResultState, RunState, Status};

/// The API's public host in the US.
pub const DEFAULT_URL: &str = "https://api.cekura.ai";
/// The header of the key.
pub const KEY_HEADER: &str = "X-CEKURA-API-KEY";
