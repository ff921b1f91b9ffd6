//! A start that is sent once: the [ledger](crate::ledger) knows of it before the API does.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use serde_json::Value;

use super::payload::{Mode, redacted};
use super::{ApiError, Client, ResultState, RunState};
use crate::ledger::{Intent, Ledger, LedgerError, LedgerRun, Start, StartId};

/// The ledger's word for a result that was executed again.
const RERUN: &str = "rerun";
/// The longest name that the API takes, in characters.
const LONGEST_NAME: usize = 255;
/// How many of the newest results are looked at for a start without a name.
const MOST_CANDIDATES: usize = 100;
/// How far the API's clock may be behind ours.
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(5);
/// How long after its intent a start may have made its result: the longest wait for an answer, and the clocks' difference.
const START_WINDOW: TimeDelta = TimeDelta::minutes(10);

/// How a result is looked for after the answer to its start was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookup {
    /// How often, at least 1.
    pub polls: u32,
    /// The wait before each.
    pub every: Duration,
}

impl Default for Lookup {
    fn default() -> Self {
        Self { polls: 6, every: Duration::from_secs(5) }
    }
}

/// A start that the API has taken.
#[derive(Debug, Clone)]
pub struct Started {
    /// The start in the ledger.
    pub start: StartId,
    /// The result's id.
    pub result_id: u64,
    /// The result's name, unique to this start.
    pub name: String,
    /// The runs; they may be missing where the answer was lost and the result was found by its name.
    pub runs: Vec<RunState>,
    /// The answer was lost, and the result was found by its name.
    pub found_by_name: bool,
    /// The API's answer as it came.
    pub answer: Value,
    /// The ledger could not take the reply; the runs go on nevertheless.
    pub ledger_error: Option<String>,
}

/// A start that did not come about, or of which nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The body is not an object, or its `name` is not a text. Nothing was sent.
    #[error("the start request is not usable: {0}")]
    Body(&'static str),
    /// The intent could not be written down. Nothing was sent.
    #[error("nothing was sent, because the intent could not be written down: {0}")]
    Ledger(#[from] LedgerError),
    /// The API refused, or could not be reached. No run was started.
    #[error("no run was started: {0}")]
    NotStarted(#[source] ApiError),
    /// The answer was lost, and no result with the start's name turned up: runs may have been started.
    #[error(
        "it is not known whether runs were started ({error}); no result named {name:?} turned up. The request is not sent again by itself"
    )]
    Lost {
        /// The name to look for.
        name: String,
        /// What came instead of an answer.
        #[source]
        error: ApiError,
    },
}

/// Starts the runs of `body`, once.
///
/// The name in the body is made unique (or given), where the mode takes one. The intent goes into the ledger, without the
/// body's secrets, then the POST is sent, one time, then the reply goes into the ledger. When the answer is lost on its way
/// the result is looked for by its name, as `lookup` says; a second POST is never sent. Check the body first
/// ([`super::payload::check`]): what it costs is not asked here.
///
/// # Errors
/// A [`StartError`], which says whether runs may have been started.
pub async fn start_once(
    client: &Client,
    ledger: &Ledger,
    mode: Mode,
    mut body: Value,
    lookup: Lookup,
) -> Result<Started, StartError> {
    let name = make_name_unique(mode, &mut body)?;
    let start = ledger.intend(&Intent { mode: mode.name(), name: &name, base_url: client.base_url(), body: &redacted(&body) })?;
    ledger.sent(start)?;
    match client.start(mode, &body).await {
        Ok(result) => Ok(finish(ledger, start, name, result, false)),
        Err(error) if error.leaves_start_open() => {
            tracing::warn!(%error, name, "the answer to the start is lost; looking for the result by its name");
            let found = if mode.takes_name() { look_for(client, &name, lookup).await } else { None };
            match found {
                Some(result) => Ok(finish(ledger, start, name, result, true)),
                None => {
                    note(ledger.lost(start, &error.to_string()));
                    Err(StartError::Lost { name, error })
                }
            }
        }
        Err(error) => {
            note(ledger.failed(start, &error.to_string()));
            Err(StartError::NotStarted(error))
        }
    }
}

/// Executes a result again, once: the intent goes into the ledger before the POST, the reply after it. The new result's name
/// is Cekura's, so a lost answer cannot be looked for.
///
/// # Errors
/// A [`StartError`], which says whether runs may have been started.
pub async fn rerun_once(client: &Client, ledger: &Ledger, result_id: u64) -> Result<Started, StartError> {
    let name = format!("rerun of result {result_id}{}", unique_suffix());
    let body = serde_json::json!({ "result_id": result_id });
    let start = ledger.intend(&Intent { mode: RERUN, name: &name, base_url: client.base_url(), body: &body })?;
    ledger.sent(start)?;
    match client.rerun(result_id).await {
        Ok(result) => Ok(finish(ledger, start, name, result, false)),
        Err(error) if error.leaves_start_open() => {
            note(ledger.lost(start, &error.to_string()));
            Err(StartError::Lost { name, error })
        }
        Err(error) => {
            note(ledger.failed(start, &error.to_string()));
            Err(StartError::NotStarted(error))
        }
    }
}

/// What became of a start that had no answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Recovered {
    /// Its result was found; the ledger has it now.
    Found(Box<ResultState>),
    /// The API knows no result of its name: as far as it tells, nothing was started.
    NotFound,
    /// Its mode's start takes no name to look for. These results were made at about that time, of the same agent and scenarios
    /// as far as both tell, and belong to no other start; whether one of them is this start's only the user can say
    /// ([`take`]).
    Nameless(Vec<ResultState>),
}

/// Looks for the result of a start that was sent and not answered, by its unique name, and writes it into the ledger.
///
/// # Errors
/// A [`RecoverError`].
pub async fn recover(client: &Client, ledger: &Ledger, start: &Start) -> Result<Recovered, RecoverError> {
    let mode: Result<Mode, _> = start.mode.parse();
    if !mode.is_ok_and(Mode::takes_name) {
        return Ok(Recovered::Nameless(candidates(client, ledger, start).await?));
    }
    let Some(row) = client.find_result_by_name(&start.name).await? else { return Ok(Recovered::NotFound) };
    // A row of the list may have its runs in short or not at all.
    Ok(Recovered::Found(Box::new(take(client, ledger, start, row.id).await?)))
}

/// Writes a result into the ledger as that of a start that had no answer.
///
/// # Errors
/// A [`RecoverError`].
pub async fn take(client: &Client, ledger: &Ledger, start: &Start, result_id: u64) -> Result<ResultState, RecoverError> {
    let result = client.result(result_id).await?;
    let runs: Vec<LedgerRun> = result.runs.iter().map(ledger_run).collect();
    ledger.replied(start.id, result.id, &runs)?;
    Ok(result)
}

/// The results that a start without a name may have made.
async fn candidates(client: &Client, ledger: &Ledger, start: &Start) -> Result<Vec<ResultState>, RecoverError> {
    let Ok(intended) = DateTime::parse_from_rfc3339(&start.intended_at) else { return Ok(Vec::new()) };
    let known = ledger.list(usize::MAX)?;
    let taken: Vec<u64> =
        known.iter().filter(|other| other.base_url == start.base_url).filter_map(|other| other.result_id).collect();
    let agent = start.body["agent"].as_u64().or_else(|| start.body["agent_id"].as_u64());
    let query = [("agent_id", agent.map(|agent| agent.to_string()))];
    let mut found = client.results(&query, MOST_CANDIDATES).await?;
    found.retain(|result| {
        let near = |created: &str| {
            let after = DateTime::parse_from_rfc3339(created).ok().map(|created| created - intended);
            after.is_none_or(|after| (-CLOCKS_APART..START_WINDOW).contains(&after))
        };
        let created = result.raw["created_at"].as_str();
        !taken.contains(&result.id) && created.is_none_or(near) && may_be_of(start, result)
    });
    Ok(found)
}

/// Whether agent and scenarios are the start's, as far as both tell them.
fn may_be_of(start: &Start, result: &ResultState) -> bool {
    let known = |value: &Value| value.as_u64().or_else(|| value["id"].as_u64());
    let same_agent = match (known(&start.body["agent"]), known(&result.raw["agent"])) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => true,
    };
    let entries = start.body["scenarios"].as_array().into_iter().flatten();
    let ours: BTreeSet<u64> = entries.filter_map(|entry| entry["scenario"].as_u64()).collect();
    let theirs: BTreeSet<u64> = result.runs.iter().filter_map(|run| run.scenario_id).collect();
    same_agent && (ours.is_empty() || theirs.is_empty() || ours == theirs)
}

/// A start that could not be recovered now.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The API does not tell.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The ledger does not take it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

fn finish(ledger: &Ledger, start: StartId, name: String, result: ResultState, found_by_name: bool) -> Started {
    let runs: Vec<LedgerRun> = result.runs.iter().map(ledger_run).collect();
    let ledger_error = ledger.replied(start, result.id, &runs).err().map(|e| e.to_string());
    let ResultState { id, runs, raw, .. } = result;
    Started { start, result_id: id, name, runs, found_by_name, answer: raw, ledger_error }
}

fn ledger_run(run: &RunState) -> LedgerRun {
    LedgerRun { run_id: run.id, scenario_id: run.scenario_id, scenario_name: run.scenario_name.clone() }
}

async fn look_for(client: &Client, name: &str, lookup: Lookup) -> Option<ResultState> {
    for _ in 0..lookup.polls.max(1) {
        tokio::time::sleep(lookup.every).await;
        match client.find_result_by_name(name).await {
            // A row of the list may have its runs in short or not at all.
            Ok(Some(row)) => return Some(client.result(row.id).await.unwrap_or(row)),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "looking for the result failed"),
        }
    }
    None
}

/// An error of the ledger where a worse one is on its way to the user already.
fn note(outcome: Result<(), LedgerError>) {
    if let Err(error) = outcome {
        tracing::error!(%error, "the ledger could not take the end of a start");
    }
}

fn unique_suffix() -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!(" #{}", &id[..12])
}

/// Puts a name into the body that no other start has; of a mode whose start takes none, the name is the ledger's alone.
fn make_name_unique(mode: Mode, body: &mut Value) -> Result<String, StartError> {
    let body = body.as_object_mut().ok_or(StartError::Body("it is not an object"))?;
    let suffix = unique_suffix();
    let label = match body.get("name") {
        None | Some(Value::Null) => format!("trunkline {mode} {}", chrono::Utc::now().format("%Y-%m-%d %H:%M:%S")),
        Some(Value::String(name)) => name.trim().to_owned(),
        Some(_) => return Err(StartError::Body("its name is not a text")),
    };
    let kept: String = label.chars().take(LONGEST_NAME - suffix.len()).collect();
    let name = format!("{}{suffix}", kept.trim_end());
    let name = name.trim_start().to_owned();
    if mode.takes_name() {
        body.insert("name".into(), name.clone().into());
    }
    Ok(name)
}
