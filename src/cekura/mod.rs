//! The client of Cekura's API and the payloads of its run modes.
//!
//! | piece | what it does |
//! |---|---|
//! | [`payload`] | a mode's start request: built, checked, its runs counted |
//! | [`Client`] | the API over HTTPS: start once, everything else again until it works |
//! | [`start_once`] | a start that the [ledger](crate::ledger) knows of before Cekura does |
//! | [`ObservedCall`] | a recorded call, sent to the API's observability |
//! | [`follow`] | polls a result to its end |
//! | [`ChatTurn`] | the chat of an `api_chat` run, polled and answered over REST |
//! | [`ResultState`], [`RunState`], [`Status`] | what the API answers, in all the spellings that it uses |

mod chat;
mod client;
mod ended;
mod envelope;
mod error;
mod follow;
mod key;
mod observe;
pub mod payload;
mod start;
mod state;
mod support;

pub use chat::{ChatTurn, TurnStatus};
pub use client::{Client, DEFAULT_URL, ENV_KEY, ENV_URL, RetryPolicy};
pub(crate) use ended::call_ended_reason;
pub use error::ApiError;
pub use follow::{FollowError, Followed, follow};
pub use key::{BadKey, Key};
pub use observe::{LARGEST_RECORDING, ObserveError, ObservedAgent, ObservedCall, Transcript};
pub use payload::Mode;
pub use start::{Lookup, RecoverError, Recovered, StartError, Started, recover, rerun_once, start_once, take};
pub use state::{BadAnswer, ResultState, RunState, Status};
pub use support::{ModeSupport, mode_table};

/// The header that carries the key (API reference, "Authentication").
pub const KEY_HEADER: &str = "X-CEKURA-API-KEY";
