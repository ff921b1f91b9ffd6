//! Polls a result, or a run, to its end.

use std::time::Duration;

use tokio::time::Instant;

use super::{ApiError, Client, ResultState, RunState, Status};

/// So many polls in a row may fail: Cekura's own CI action allows as many.
const FAILURES_IN_A_ROW: u32 = 7;

/// What can be followed to its end.
pub trait Followed: Sized {
    /// What it is called in an error.
    const WHAT: &'static str;

    /// Where it stands.
    fn status(&self) -> &Status;

    /// Asks the API once.
    fn look(client: &Client, id: u64) -> impl Future<Output = Result<Self, ApiError>> + Send;
}

impl Followed for ResultState {
    const WHAT: &'static str = "result";

    fn status(&self) -> &Status {
        &self.status
    }

    async fn look(client: &Client, id: u64) -> Result<Self, ApiError> {
        client.result_once(id).await
    }
}

impl Followed for RunState {
    const WHAT: &'static str = "run";

    fn status(&self) -> &Status {
        &self.status
    }

    async fn look(client: &Client, id: u64) -> Result<Self, ApiError> {
        client.run_once(id).await
    }
}

/// Following ended before what was followed did.
#[derive(Debug, thiserror::Error)]
pub enum FollowError<T: Followed = ResultState> {
    /// It goes on, and time is up.
    #[error("{} {id} is still {} after {} s", T::WHAT, last.as_ref().map_or("unknown", |last| last.status().as_str()), deadline.as_secs_f64())]
    Deadline {
        /// Which.
        id: u64,
        /// The time that it was given.
        deadline: Duration,
        /// The last state that was seen.
        last: Option<Box<T>>,
    },
    /// The API does not tell: an error that no waiting mends, or one that stayed for seven polls in a row.
    #[error("{} {id} cannot be followed: {error}", T::WHAT)]
    Api {
        /// Which.
        id: u64,
        /// The last error.
        #[source]
        error: ApiError,
    },
}

/// Polls a result or a run, at once and then each time that `every` has passed, until it has ended; at most for `deadline`.
/// `on_progress` is told each state that was seen. A poll that fails in a passing way is repeated, seven times in a row.
///
/// # Errors
/// A [`FollowError`]; what was followed goes on at the API.
pub async fn follow<T: Followed>(
    client: &Client,
    id: u64,
    every: Duration,
    deadline: Duration,
    mut on_progress: impl FnMut(&T),
) -> Result<T, FollowError<T>> {
    let end = Instant::now() + deadline;
    let mut last = None;
    let mut failures = 0;
    loop {
        let late = |last| FollowError::Deadline { id, deadline, last };
        let Ok(answer) = tokio::time::timeout_at(end, T::look(client, id)).await else {
            return Err(late(last));
        };
        let wait = match answer {
            Ok(state) => {
                failures = 0;
                on_progress(&state);
                if state.status().is_terminal() {
                    return Ok(state);
                }
                last = Some(Box::new(state));
                every
            }
            Err(error) if error.is_transient() && failures + 1 < FAILURES_IN_A_ROW => {
                failures += 1;
                tracing::warn!(%error, id, failures, "a poll failed");
                client.retry().wait(failures, &error)
            }
            Err(error) => return Err(FollowError::Api { id, error }),
        };
        if Instant::now() + wait >= end {
            tokio::time::sleep_until(end).await;
            // A last look: the result may have ended within the last wait.
            return match tokio::time::timeout(Duration::from_secs(5), T::look(client, id)).await {
                Ok(Ok(state)) if state.status().is_terminal() => {
                    on_progress(&state);
                    Ok(state)
                }
                _ => Err(late(last)),
            };
        }
        tokio::time::sleep(wait).await;
    }
}
