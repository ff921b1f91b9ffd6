//! `trunkline record livekit`.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::super::io::{result, runtime, say, until_interrupted};
use super::super::outcome::{Format, measured};
use super::super::settings::{ConfigArgs, livekit_server, open_ledger, out_folder, seconds};
use crate::call::{CallControl, CallIds};
use crate::error::{Exit, Failure};
use crate::ledger::LedgerError;
use crate::record::CallInfo;
use crate::transport::livekit::ServerError;
use crate::transport::livekit::recorder::{FinishedRoom, Happening, RoomRecorder, Webhooks, Which};

/// Records LiveKit rooms from within, unseen by those in them: every audio track, the stereo of caller and agent, and which run
/// the room belongs to
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  trunkline record livekit --agent my-agent
  trunkline record livekit --all --webhook-listen 127.0.0.1:8780 --until-idle-s 600
  trunkline record livekit --room support-42 --for-s 3600 --format json

The server is that of LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET. A room's run is taken from the metadata with which its agent
was dispatched (`run_id`, `scenario_id`). Each room has a folder as a call has; `trunkline measure` takes it. Ctrl-C leaves the
rooms and finishes every folder; what a kill leaves `trunkline record repair` mends.")]
#[command(group = clap::ArgGroup::new("which").args(["room", "all", "agent"]).required(true))]
pub(super) struct Args {
    /// The room of this name, as often as it is made
    #[arg(long, value_name = "ROOM")]
    room: Option<String>,
    /// Every room of the server
    #[arg(long)]
    all: bool,
    /// The rooms in which the agent of this name was dispatched
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Folder for one folder a room
    #[arg(long, value_name = "DIR", env = "TRUNKLINE_OUT")]
    out: Option<PathBuf>,
    /// Where the server's webhooks are taken, so that a room is found when it begins; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    webhook_listen: Option<SocketAddr>,
    /// Seconds between two listings of the rooms
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    poll_s: f64,
    /// So many rooms at once; others wait until one has ended
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    max_rooms: usize,
    /// Ends after this time
    #[arg(long, value_name = "S")]
    for_s: Option<f64>,
    /// Ends when no room was recorded for this time
    #[arg(long, value_name = "S")]
    until_idle_s: Option<f64>,
    /// What is printed on stdout: a line a room, or a line of JSON
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    #[command(flatten)]
    config: ConfigArgs,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("{text:?} is no number of rooms")),
        Ok(number) => Ok(number),
    }
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let config = args.config.load()?;
    let server = livekit_server()?.ok_or_else(|| {
        Failure::usage("no LiveKit server to record at").hint("set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET")
    })?;
    let time = |flag: &str, value: Option<f64>| value.map(|value| seconds(flag, value)).transpose();
    let poll = seconds("--poll-s", args.poll_s)?;
    if poll.is_zero() {
        return Err(Failure::usage("--poll-s 0: the rooms cannot be listed all the time"));
    }
    let recorder = RoomRecorder {
        server,
        which: match (&args.room, &args.agent) {
            (Some(room), _) => Which::Room(room.clone()),
            (None, Some(agent)) => Which::Agent(agent.clone()),
            (None, None) => Which::All,
        },
        out: out_folder(args.out.as_ref(), &config)?,
        poll,
        most_rooms: args.max_rooms,
        time: time("--for-s", args.for_s)?,
        idle_time: time("--until-idle-s", args.until_idle_s)?,
    };
    runtime()?.block_on(record(recorder, args.webhook_listen, args.format))
}

async fn record(recorder: RoomRecorder, listen: Option<SocketAddr>, format: Format) -> Result<Exit, Failure> {
    let webhooks = match listen {
        None => None,
        Some(address) => Some(Webhooks::open(address, &recorder.server).await.map_err(Failure::infrastructure)?),
    };
    let control = CallControl::default();
    let stop = control.clone();
    tokio::spawn(async move {
        until_interrupted().await;
        stop.cancel();
    });
    say(&format!("looking for rooms at {}", recorder.server.shown()));
    if let Some(webhooks) = &webhooks {
        say(&format!("listening for webhooks on http://{}/", webhooks.address()));
    }
    let (sender, mut happenings) = mpsc::unbounded_channel();
    let recording = tokio::spawn(recorder.run(webhooks, control, sender));
    let mut exit = Exit::Passed;
    while let Some(happening) = happenings.recv().await {
        // A disk or a database that is slow holds up no recording.
        let told = tokio::task::spawn_blocking(move || told(happening));
        let told = told.await.map_err(|error| Failure::infrastructure(format!("a room could not be reported: {error}")))?;
        if told.failed {
            exit = Exit::Infrastructure;
        }
        match (told.json, format) {
            (Some(json), Format::Json) => result(&json.to_string()),
            (Some(_), Format::Table) => result(&told.line),
            (None, _) => say(&told.line),
        }
    }
    let ended = recording.await.map_err(|error| Failure::infrastructure(format!("the recorder broke down: {error}")))?;
    ended.map_err(|error| match error {
        ServerError::Unauthorized | ServerError::Address { .. } => Failure::usage(error),
        other => Failure::infrastructure(other),
    })?;
    Ok(exit)
}

/// How a happening is told.
struct Told {
    line: String,
    /// For stdout; none: it is only for who watches.
    json: Option<Value>,
    /// Something was not recorded.
    failed: bool,
}

fn told(happening: Happening) -> Told {
    match happening {
        Happening::Began { room, sid, folder } => Told {
            line: format!("room {room}: recording into {}", folder.display()),
            json: Some(json!({"event": "began", "room": room, "sid": sid, "folder": folder})),
            failed: false,
        },
        Happening::Over(finished) => over(&finished),
        Happening::Missed { room, problem } => Told {
            line: format!("room {room}: not recorded: {problem}"),
            json: Some(json!({"event": "missed", "room": room, "problem": problem.to_string()})),
            failed: true,
        },
        Happening::Waits { room } => aside(format!("room {room} waits: --max-rooms are being recorded")),
        Happening::Unlisted(error) => aside(format!("the rooms could not be listed: {error}")),
    }
}

fn aside(line: String) -> Told {
    Told { line, json: None, failed: false }
}

/// Measures a room's recording for its labels, ties it to its run, and tells of it.
fn over(finished: &FinishedRoom) -> Told {
    let FinishedRoom { name, sid, ids, folder, end, duration, recording, .. } = finished;
    let (known, mut problem) = match known_run(ids) {
        Ok(Some(known)) => match open_ledger().map(|ledger| ledger.tie_call(&known, folder)) {
            Ok(Ok(())) => (known, None),
            Ok(Err(error)) => (known, Some(error.to_string())),
            Err(failure) => (known, Some(failure.to_string())),
        },
        Ok(None) => (ids.clone(), None),
        Err(error) => (ids.clone(), Some(error)),
    };
    match recording {
        Ok(info) => problem = measured(folder, info).err().map(|error| format!("it cannot be measured: {error}")).or(problem),
        Err(error) => problem = Some(error.to_string()),
    }
    let run = match (&known.run_id, &known.scenario_id) {
        (Some(run), Some(scenario)) => format!("run {run}, scenario {scenario}"),
        (Some(run), None) => format!("run {run}"),
        (None, Some(scenario)) => format!("scenario {scenario}, no run"),
        (None, None) => "no run".to_owned(),
    };
    let mut line = format!("room {name}: {run}, {:.1} s, {}; {}", duration.as_secs_f64(), end.detail, folder.display());
    if let Some(problem) = &problem {
        line.push_str(&format!("; {problem}"));
    }
    let tracks = recording.as_ref().ok().and_then(|info: &CallInfo| info.room.as_ref()).map(|room| &room.tracks);
    let mut json = json!({"event": "over", "room": name, "sid": sid});
    let more = [
        ("ids", json!(known)),
        ("folder", json!(folder)),
        ("duration_ms", json!(duration.as_millis() as u64)),
        ("end", json!(end)),
        ("tracks", json!(tracks)),
        ("problem", json!(problem)),
    ];
    if let Some(json) = json.as_object_mut() {
        for (name, value) in more {
            match (name, value) {
                ("ids", Value::Object(ids)) => json.extend(ids),
                (_, Value::Null) => {}
                (name, value) => drop(json.insert(name.to_owned(), value)),
            }
        }
    }
    Told { line, json: Some(json), failed: recording.is_err() }
}

/// The ids with what the ledger knows of the run; none: it was not started here.
fn known_run(ids: &CallIds) -> Result<Option<CallIds>, String> {
    let Some(run_id) = ids.run_id.as_ref().and_then(|id| id.parse().ok()) else { return Ok(None) };
    let ledger = open_ledger().map_err(|failure| failure.to_string())?;
    let known = ledger.run(run_id).map_err(|error: LedgerError| error.to_string())?;
    Ok(known.map(|(run, result_id)| CallIds {
        result_id: result_id.map(|id| id.to_string()).or_else(|| ids.result_id.clone()),
        scenario_id: run.scenario_id.map(|id| id.to_string()).or_else(|| ids.scenario_id.clone()),
        scenario: run.scenario_name.or_else(|| ids.scenario.clone()),
        ..ids.clone()
    }))
}
