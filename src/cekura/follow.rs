//! Polls a result to its end.

use std::time::Duration;

use tokio::time::Instant;

use super::{ApiError, Client, ResultState};

/// So many polls in a row may fail: Cekura's own CI action allows as many.
const FAILURES_IN_A_ROW: u32 = 7;

/// Following a result ended before the result did.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The result goes on, and time is up.
    #[error("result {result_id} is still {} after {} s", last.as_ref().map_or("unknown", |last| last.status.as_str()), deadline.as_secs_f64())]
    Deadline {
        /// Which result.
        result_id: u64,
        /// The time that it was given.
        deadline: Duration,
        /// The last state that was seen.
        last: Option<Box<ResultState>>,
    },
    /// The API does not tell: an error that no waiting mends, or one that stayed for seven polls in a row.
    #[error("result {result_id} cannot be followed: {error}")]
    Api {
        /// Which result.
        result_id: u64,
        /// The last error.
        #[source]
        error: ApiError,
    },
}

/// Polls a result, at once and then each time that `every` has passed, until it has ended; at most for `deadline`.
/// `on_progress` is told each state that was seen. A poll that fails in a passing way is repeated, seven times in a row.
///
/// # Errors
/// A [`FollowError`]; the result itself goes on at the API.
pub async fn follow(
    client: &Client,
    result_id: u64,
    every: Duration,
    deadline: Duration,
    mut on_progress: impl FnMut(&ResultState),
) -> Result<ResultState, FollowError> {
    let end = Instant::now() + deadline;
    let mut last = None;
    let mut failures = 0;
    loop {
        let late = |last| FollowError::Deadline { result_id, deadline, last };
        let Ok(answer) = tokio::time::timeout_at(end, client.result_once(result_id)).await else {
            return Err(late(last));
        };
        let wait = match answer {
            Ok(state) => {
                failures = 0;
                on_progress(&state);
                if state.status.is_terminal() {
                    return Ok(state);
                }
                last = Some(Box::new(state));
                every
            }
            Err(error) if error.is_transient() && failures + 1 < FAILURES_IN_A_ROW => {
                failures += 1;
                tracing::warn!(%error, result_id, failures, "a poll failed");
                client.retry().wait(failures, &error)
            }
            Err(error) => return Err(FollowError::Api { result_id, error }),
        };
        if Instant::now() + wait >= end {
            tokio::time::sleep_until(end).await;
            // A last look: the result may have ended within the last wait.
            return match tokio::time::timeout(Duration::from_secs(5), client.result_once(result_id)).await {
                Ok(Ok(state)) if state.status.is_terminal() => {
                    on_progress(&state);
                    Ok(state)
                }
                _ => Err(late(last)),
            };
        }
        tokio::time::sleep(wait).await;
    }
}
