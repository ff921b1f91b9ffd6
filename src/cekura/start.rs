//! Starting runs once, and following their result to its end.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{Client, ClientError, Mode, ResultState};
use crate::ledger::{Ledger, LedgerError};

/// Looks for a result whose start was not answered: how often, and how long between.
const SEARCHES: u32 = 5;
const BETWEEN_SEARCHES: Duration = Duration::from_secs(2);
/// Failures of the API in a row that following it survives (each is several tries already).
const MOST_FAILURES: u32 = 7;

/// A start that failed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The runs were not started.
    #[error("the runs were not started: {0}")]
    Refused(ClientError),
    /// Nobody knows.
    #[error(
        "the start was sent once and not answered ({error}), and no result named {name:?} was found: \
         look for it before you start again, for it may cost twice"
    )]
    Lost {
        /// What happened.
        error: ClientError,
        /// The result's unique name.
        name: String,
    },
    /// The ledger could not be written: nothing was sent.
    #[error("nothing was started: {0}")]
    Ledger(#[from] LedgerError),
    /// The answer has no result id.
    #[error("the start was answered without a result id: {answer}")]
    NoResult {
        /// The beginning of the answer.
        answer: String,
    },
}

/// Runs that were started.
#[derive(Debug, Clone)]
pub struct Started {
    /// The result and its runs.
    pub result: ResultState,
    /// The result's unique name.
    pub name: String,
    /// The ledger's number of this start.
    pub entry: i64,
}

/// Starts runs with one POST. The intent is in the ledger before it is sent, the reply after; a POST that is not answered
/// is followed by a search for its result by name, never by a second POST.
///
/// # Errors
/// [`StartError`].
pub async fn start_once(client: &Client, ledger: &Ledger, mode: Mode, body: &Value) -> Result<Started, StartError> {
    let mut body = body.clone();
    let name = unique_name(&body);
    body["name"] = name.clone().into();
    let entry = ledger.intend(mode.name(), &name, &body)?;
    let answer = match client.start(mode, &body).await {
        Ok(answer) => answer,
        Err(ClientError::NoAnswer { url, problem }) => {
            let error = ClientError::NoAnswer { url, problem };
            tracing::warn!("{error}; looking for the result by its name");
            match search(client, &name).await {
                Some(result) => {
                    ledger.replied(entry, &result)?;
                    return Ok(Started { result, name, entry });
                }
                None => {
                    ledger.lost(entry, &error.to_string())?;
                    return Err(StartError::Lost { error, name });
                }
            }
        }
        Err(error) => {
            ledger.failed(entry, &error.to_string())?;
            return Err(StartError::Refused(error));
        }
    };
    let Some(result) = ResultState::read(&answer) else {
        let answer: String = answer.to_string().chars().take(200).collect();
        ledger.lost(entry, &format!("answered without a result id: {answer}"))?;
        return Err(StartError::NoResult { answer });
    };
    ledger.replied(entry, &result)?;
    Ok(Started { result, name, entry })
}

/// The user's name for the result, or one of ours, with a few random digits so that it is found again.
fn unique_name(body: &Value) -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    let given = body.get("name").and_then(Value::as_str).filter(|name| !name.trim().is_empty());
    // 255 characters is all that a name has room for.
    let label: String = given.unwrap_or("trunkline").chars().take(240).collect();
    format!("{label} [{}]", &random[..8])
}

async fn search(client: &Client, name: &str) -> Option<ResultState> {
    for _ in 0..SEARCHES {
        match client.results_named(name).await {
            Ok(found) if !found.is_empty() => return found.into_iter().next(),
            Ok(_) => {}
            Err(error) => tracing::warn!("cannot look for the result: {error}"),
        }
        tokio::time::sleep(BETWEEN_SEARCHES).await;
    }
    None
}

/// Polls a result every `every` until it has ended, or until `longest` has passed; gives the last state seen.
///
/// # Errors
/// The API's last error, when it failed seven times in a row or does not know the result.
pub async fn follow(
    client: &Client,
    id: &Value,
    every: Duration,
    longest: Duration,
    mut progress: impl FnMut(&ResultState),
) -> Result<ResultState, ClientError> {
    let until = Instant::now() + longest;
    let mut failures = 0;
    loop {
        match client.result(id).await {
            Ok(state) => {
                failures = 0;
                progress(&state);
                if state.status.is_terminal() || Instant::now() >= until {
                    return Ok(state);
                }
            }
            Err(error @ ClientError::Refused { status: 400..=407 | 409..=428, .. }) => return Err(error),
            Err(error) => {
                failures += 1;
                if failures == MOST_FAILURES {
                    return Err(error);
                }
                tracing::warn!("{error}; following on");
            }
        }
        tokio::time::sleep(every).await;
    }
}
