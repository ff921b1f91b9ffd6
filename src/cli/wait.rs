//! Waiting for the end of a result or a run, with its state on the terminal.

use super::progress::Progress;
use super::settings::WaitArgs;
use crate::cekura::{Client, Followed, follow};
use crate::error::Failure;

/// The state in which a result or a run has ended.
pub(super) async fn ended<T: Followed>(client: &Client, id: u64, times: &WaitArgs) -> Result<T, Failure> {
    let (every, longest) = times.read()?;
    let progress = Progress::new();
    let tell = |state: &T| progress.now(format!("{} {id} {}", T::WHAT, state.status()));
    let state = follow(client, id, every, longest, tell).await;
    progress.done();
    state.map_err(Failure::infrastructure)
}
