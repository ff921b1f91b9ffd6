//! From a payload to a report: the sandbox or Cekura, the door, one start, the result followed to its end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::Utc;
use serde_json::Value;

use super::super::io::Interruption;
use super::super::progress::Progress;
use super::super::sandbox::{carrier, closed};
use super::super::settings::open_ledger;
use super::calls::{Calls, WayIn, look_beside};
use super::report::{report, report_started};
use super::rooms::Rooms;
use crate::caller::personality::Personalities;
use crate::caller::speech::SpeechStore;
use crate::caller::suite::Suite;
use crate::cekura::{Client, FollowError, Key, Lookup, Mode, ResultState, StartError, Started, follow, start_once};
use crate::error::Failure;
use crate::report::{Report, Thresholds};
use crate::sandbox::{ApiLimits, MetricThresholds, Project, Sandbox, SandboxConfig};
use crate::serve::Desk;
use crate::transport::livekit::Server;
use crate::transport::livekit::recorder::RoomRecorder;
use crate::transport::{ConnectOptions, WayOut};

/// Who is asked to run.
pub(in super::super) enum Where {
    /// Cekura's API, or a sandbox elsewhere.
    Cekura(Client),
    /// A sandbox inside this process.
    Sandbox(Box<Sandboxed>),
}

/// What a sandbox inside this process plays.
pub(in super::super) struct Sandboxed {
    pub(in super::super) suite: Suite,
    pub(in super::super) speech: SpeechStore,
    /// The folder of the suite.
    pub(in super::super) beside: PathBuf,
    pub(in super::super) personalities: Option<Personalities>,
    /// What a run must keep to, beside what the report is asked for.
    pub(in super::super) metrics: MetricThresholds,
    pub(in super::super) limits: ApiLimits,
    /// The server in whose rooms LiveKit runs take place.
    pub(in super::super) livekit: Option<Server>,
    /// Where Pipecat runs find their bot.
    pub(in super::super) pipecat_url: Option<WayOut>,
    /// How it is connected.
    pub(in super::super) pipecat: ConnectOptions,
    /// Its callers' recordings are the run's: the calls come through no door of ours.
    pub(in super::super) records: bool,
}

/// All that is to be done.
pub(in super::super) struct Plan {
    pub(in super::super) mode: Mode,
    pub(in super::super) body: Value,
    pub(in super::super) place: Where,
    /// The result is followed to its end.
    pub(in super::super) waits: bool,
    /// How the calls come in and whom they are connected to; none where nobody waits and where the mode's calls do not come
    /// through here.
    pub(in super::super) desk: Option<(WayIn, Desk)>,
    /// The door's address is the configuration's, not the default.
    pub(in super::super) door_is_set: bool,
    /// Records the rooms of LiveKit runs.
    pub(in super::super) rooms: Option<RoomRecorder>,
    pub(in super::super) out: PathBuf,
    pub(in super::super) thresholds: Thresholds,
    pub(in super::super) fail_under: f64,
    pub(in super::super) every: Duration,
    pub(in super::super) longest: Duration,
}

/// Carries a plan out.
pub(in super::super) async fn carry_out(mut plan: Plan) -> Result<Report, Failure> {
    let progress = Progress::new();
    // From before the start on: an interruption between it and its answer must end the calls, not only this process.
    let mut interruption = Interruption::listen()?;
    let ledger = open_ledger()?;
    if let (Where::Sandbox(_), Some((way_in, _))) = (&plan.place, &mut plan.desk)
        && let Some(listen) = way_in.listen()
    {
        *listen = sandbox_door(&plan.body, plan.door_is_set.then_some(*listen));
    }
    let since = Utc::now();
    let mut calls = match &plan.desk {
        Some((way_in, desk)) => Calls::open(way_in, desk, &plan.out, &progress).await?,
        None => None,
    };
    let rooms = plan.rooms.clone().map(|recorder| Rooms::record(recorder, &progress));
    let (client, sandbox) = match &plan.place {
        Where::Cekura(client) => (client.clone(), None),
        Where::Sandbox(sandboxed) => {
            let sandbox = open_sandbox(&plan, sandboxed, calls.as_ref().and_then(Calls::address)).await?;
            progress.line(&format!("sandbox {}", sandbox.url()));
            let key = Key::new("sandbox").map_err(Failure::infrastructure)?;
            (Client::new(&sandbox.url(), key).map_err(Failure::infrastructure)?, Some(sandbox))
        }
    };
    let started = start_once(&client, &ledger, plan.mode, plan.body.clone(), Lookup::default()).await.map_err(not_started)?;
    let ids: Vec<_> = started.runs.iter().map(|run| run.id.to_string()).collect();
    progress.line(&format!("result {} started: runs {}", started.result_id, ids.join(", ")));
    if let Some(error) = &started.ledger_error {
        progress.line(&format!("the ledger does not have it: {error}"));
    }
    if !plan.waits {
        progress.done();
        return Ok(report_started(&plan, &started));
    }
    if let Some((WayIn::Polled, desk)) = &plan.desk {
        calls = Some(Calls::poll(&client, started.result_id, desk, &progress));
    }
    let state = follow_to_end(&client, &started, &plan, &mut interruption, &progress).await;
    let finished = match (calls, rooms) {
        (Some(calls), _) => Some(calls.close(&plan.out, since).await),
        (None, Some(rooms)) => Some(rooms.close().await?),
        (None, None) if matches!(&plan.place, Where::Sandbox(sandboxed) if sandboxed.records) => {
            Some(look_beside(&plan.out, since).await)
        }
        (None, None) => None,
    };
    drop(sandbox);
    progress.done();
    let state = state?;
    Ok(report(&plan, &state, finished.as_deref(), &ledger))
}

/// In front of a sandbox the door listens where the payload sends the calls, if that is here; else at any free port.
fn sandbox_door(body: &Value, set: Option<SocketAddr>) -> SocketAddr {
    let places = ["/websocket_url", "/scenarios/0/websocket_url", "/chirp_data/websocket_url"];
    let addresses = places.map(|place| body.pointer(place));
    let payload = addresses.into_iter().flatten().find_map(Value::as_str).and_then(|url| url::Url::parse(url).ok());
    let here = payload.and_then(|url| {
        let port = url.port_or_known_default()?;
        matches!(url.host_str(), Some("127.0.0.1" | "localhost")).then(|| SocketAddr::from(([127, 0, 0, 1], port)))
    });
    here.or(set).unwrap_or_else(|| ([127, 0, 0, 1], 0).into())
}

async fn open_sandbox(plan: &Plan, sandboxed: &Sandboxed, door: Option<SocketAddr>) -> Result<Sandbox, Failure> {
    let scheme = plan.desk.as_ref().map_or("ws", |(way_in, _)| way_in.scheme());
    let mut project = Project::of_suite(&sandboxed.suite);
    let url = door.map(|address| format!("{scheme}://{address}/"));
    match plan.desk.as_ref().map(|(way_in, _)| way_in) {
        Some(WayIn::Chat(chat)) => {
            project.default_agent.chat_secret.clone_from(&chat.secret);
            project.default_agent.chat_url = url;
        }
        _ => project.default_agent.chirp_url = url,
    }
    let personalities = sandboxed.personalities.clone().unwrap_or_default();
    project.personalities = personalities.clone();
    project.livekit.clone_from(&sandboxed.livekit);
    project.default_agent.pipecat_url.clone_from(&sandboxed.pipecat_url);
    project.pipecat.clone_from(&sandboxed.pipecat);
    let config = SandboxConfig {
        thresholds: sandboxed.metrics,
        limits: sandboxed.limits,
        recordings: sandboxed.records.then(|| plan.out.clone()),
        ..SandboxConfig::local(plan.out.join(".sandbox"), project)
    };
    let (carrier, chats) = carrier(sandboxed.speech.clone(), &sandboxed.beside, personalities, true);
    Sandbox::open(config, carrier, chats).await.map_err(closed)
}

pub(in super::super) fn not_started(error: StartError) -> Failure {
    match &error {
        StartError::Body(_) => Failure::usage(&error),
        StartError::NotStarted(cause) if !cause.is_transient() => Failure::infrastructure(&error)
            .hint("`trunkline payload check` tells what fits; CEKURA_API_KEY and CEKURA_API_URL say who is asked"),
        StartError::Lost { .. } => {
            Failure::infrastructure(&error).hint("look for the result before you start again: it may cost twice")
        }
        _ => Failure::infrastructure(&error),
    }
}

/// Follows the result; an interruption by the user ends its calls first.
async fn follow_to_end(
    client: &Client,
    started: &Started,
    plan: &Plan,
    interruption: &mut Interruption,
    progress: &Progress,
) -> Result<ResultState, Failure> {
    let id = started.result_id;
    let mut last = String::new();
    let tell = |state: &ResultState| {
        let ended = state.runs.iter().filter(|run| run.status.is_terminal()).count();
        let line = format!("result {id} {}: {ended} of {} runs ended", state.status.as_str(), state.runs.len());
        if line != last {
            progress.line(&line);
            last = line;
        }
    };
    let result = tokio::select! {
        result = follow(client, id, plan.every, plan.longest, tell) => result,
        () = interruption.wait() => {
            progress.line(&format!("interrupted: ending the calls of result {id}"));
            tokio::select! {
                ended = end_and_follow(client, id, plan.every) => ended?,
                () = interruption.wait() => return Err(goes_on(id, "interrupted again")),
            }
        }
    };
    match result {
        Ok(state) => Ok(state),
        Err(FollowError::Deadline { last: Some(last), .. }) => {
            progress.line(&format!("time is up: ending the calls of result {id}"));
            client.end_calls(id).await.map_err(|error| goes_on(id, error))?;
            Ok(*last)
        }
        Err(error) => Err(goes_on(id, error)),
    }
}

/// Ends a result's calls and follows it to its end, for a minute.
async fn end_and_follow(client: &Client, id: u64, every: Duration) -> Result<Result<ResultState, FollowError>, Failure> {
    client.end_calls(id).await.map_err(|error| goes_on(id, error))?;
    Ok(follow(client, id, every, Duration::from_secs(60), |_| {}).await)
}

/// The command ends, and the calls may not have: they cost.
fn goes_on(id: u64, problem: impl std::fmt::Display) -> Failure {
    let hint = format!("the result may go on, which costs: `trunkline results end-calls {id}` ends its calls");
    Failure::infrastructure(problem).hint(hint)
}
