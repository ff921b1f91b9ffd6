//! `trunkline serve`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::call::parse_rate;
use super::io::{runtime, say, until_interrupted};
use super::outcome::{report_call, unmeasured};
use super::settings::{ConfigArgs, agent, chat_door, chirp_door, fits, out_folder};
use crate::audio::Rate;
use crate::call::{CallIds, Limits};
use crate::config::Config;
use crate::conversation::FinishedCall;
use crate::error::{Exit, Failure};
use crate::report::{REPORT_JSON, Report, RunReport, Thresholds};
use crate::serve::{Desk, Happening, serve};
use crate::transport::WayOut;
use crate::transport::chat::ChatDoor;
use crate::transport::chirp::ChirpDoor;
use crate::transport::web_socket::{Door, DoorError};

/// Opens the doors and connects each call to the agent, recorded
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  trunkline serve --to process:./agent.py --listen 127.0.0.1:8765
  trunkline serve --to 'openai:http://127.0.0.1:4000/v1?model=local' --chat-listen 127.0.0.1:8766

trunkline.toml:
  [agent]
  to = \"chirp://127.0.0.1:9000/\"
  [doors.chirp]
  listen = \"127.0.0.1:8765\"

In front of an agent of text only (chat://, chat-process:, openai:) stands a chat door, in front of any other a CHIRP door.

When it is stopped it writes report.json and junit.xml of all its calls into the folder.")]
pub struct Args {
    /// The agent: chirp://HOST:PORT/PATH, process:COMMAND, livekit-console:COMMAND, chat://HOST:PORT/PATH, chat-process:COMMAND or
    /// openai:URL?model=NAME [default: `to` of the configuration]
    #[arg(long, env = "TRUNKLINE_AGENT")]
    to: Option<WayOut>,
    /// Rate of a process, in Hz
    #[arg(long, value_name = "HZ", value_parser = parse_rate)]
    rate: Option<Rate>,
    /// Where the CHIRP door listens; port 0 takes a free one [default: 127.0.0.1:8765]
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Where the chat door listens [default: 127.0.0.1:8766]
    #[arg(long, value_name = "LISTEN")]
    chat_listen: Option<SocketAddr>,
    /// Folder for report.json, junit.xml and one folder a call
    #[arg(long, value_name = "DIR", env = "TRUNKLINE_OUT")]
    out: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs the command until it is interrupted.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let config = args.config.load()?;
    let (to, connect) = agent(args.to.as_ref(), args.rate, &config)?;
    let out = out_folder(args.out.as_ref(), &config)?;
    let (chirp, chat) = doors(args, &config, &to)?;
    runtime()?.block_on(async {
        let mut doors = Vec::new();
        if let Some(chirp) = chirp {
            doors.push(Door::open(chirp).await.map_err(closed_door)?);
        }
        if let Some(chat) = chat {
            doors.push(Door::open(chat).await.map_err(closed_door)?);
        }
        for door in &doors {
            say(&format!("listening {} {} ({}) in front of {to}", door.wire(), door.address(), door.url()));
        }
        let (sender, mut happenings) = mpsc::unbounded_channel();
        let doors = doors.into_iter().map(Into::into).collect();
        let desk = Desk { agent: to, connect, out: Some(out.clone()), limits: Limits::default() };
        let serving = tokio::spawn(serve(doors, desk, sender, until_interrupted()));
        let mut runs = Vec::new();
        while let Some(happening) = happenings.recv().await {
            match happening {
                Happening::Began(ids) => say(&format!("call {} began", ids.call_id)),
                Happening::Event(..) => {}
                Happening::Over(call) => {
                    let (call, kept) = (Arc::new(*call), out.clone());
                    let measured = Arc::clone(&call);
                    let told = tokio::task::spawn_blocking(move || tell(&measured, &kept)).await;
                    runs.push(told.unwrap_or_else(|panic| {
                        let call = Arc::into_inner(call).expect("what measured it is gone");
                        tell(&unmeasured(call, &out, &panic), &out)
                    }));
                }
            }
        }
        serving.await.map_err(|error| Failure::infrastructure(format!("the doors closed: {error}")))?;
        write_report(runs, &out)?;
        Ok(Exit::Passed)
    })
}

/// The doors that are asked for. Where none is, the one that fits the agent.
fn doors(args: &Args, config: &Config, to: &WayOut) -> Result<(Option<ChirpDoor>, Option<ChatDoor>), Failure> {
    let wants_chirp = args.listen.is_some() || config.doors.chirp.listen.is_some();
    let wants_chat = args.chat_listen.is_some() || config.doors.chat.listen.is_some();
    let neither = !wants_chirp && !wants_chat;
    let chirp = if wants_chirp || (neither && !to.is_text_only()) {
        let mut door = chirp_door(config)?;
        door.listen = args.listen.unwrap_or(door.listen);
        fits("a CHIRP door", false, to)?;
        Some(door)
    } else {
        None
    };
    let chat = if wants_chat || (neither && to.is_text_only()) {
        let mut door = chat_door(config)?;
        door.listen = args.chat_listen.unwrap_or(door.listen);
        fits("a chat door", true, to)?;
        Some(door)
    } else {
        None
    };
    Ok((chirp, chat))
}

/// The report of all calls; not in the place of another command's, which knows more of them.
fn write_report(runs: Vec<RunReport>, out: &Path) -> Result<(), Failure> {
    const MODE: &str = "serve";
    if runs.is_empty() {
        return Ok(());
    }
    let there = std::fs::read(out.join(REPORT_JSON)).ok().and_then(|json| serde_json::from_slice::<Report>(&json).ok());
    if there.is_some_and(|report| report.mode != MODE) {
        say(&format!("{} is another command's report and stays", out.join(REPORT_JSON).display()));
        return Ok(());
    }
    Report::new(MODE, None, "completed", 1.0, runs).write(out).map_err(Failure::infrastructure)?;
    say(&format!("report: {}", out.join(REPORT_JSON).display()));
    Ok(())
}

/// A door that does not open: exit code 2 when the configuration asks for it, else 3.
pub(super) fn closed_door(error: DoorError) -> Failure {
    match error {
        DoorError::Unguarded { wire: "chat", .. } => {
            Failure::usage(&error).hint("set secret_file under [doors.chat] or TRUNKLINE_DOOR_SECRET, or listen on 127.0.0.1")
        }
        DoorError::Unguarded { .. } => Failure::usage(&error)
            .hint("set credentials_file under [doors.chirp] or TRUNKLINE_DOOR_CREDENTIALS=user:password, or listen on 127.0.0.1"),
        DoorError::Tls(_) => Failure::usage(&error),
        DoorError::Listen { wire, .. } => {
            Failure::infrastructure(&error).hint(format!("choose another address: `listen` under [doors.{wire}]"))
        }
    }
}

/// Measures a call that is over and says how it went.
fn tell(call: &FinishedCall, out: &Path) -> RunReport {
    told(call, report_call(call, &name_of(&call.ids), out, Thresholds::default()), out)
}

/// What a call is called in the report.
fn name_of(ids: &CallIds) -> String {
    let name = ids.scenario.clone().or_else(|| ids.scenario_id.as_ref().map(|id| format!("scenario {id}")));
    name.unwrap_or_else(|| format!("call {}", ids.call_id))
}

/// Says how a call went, in one line.
fn told(call: &FinishedCall, mut report: RunReport, out: &Path) -> RunReport {
    let ids = &call.ids;
    report.run_id = ids.run_id.clone().map(|id| id.parse::<u64>().map_or_else(|_| id.into(), Into::into));
    let by = call.outcome.end.by.map_or("trunkline", crate::call::Side::name);
    let mut line = format!("call {} ended by {by}: {}", ids.call_id, report.verdict.name());
    for failure in &report.failures {
        line.push_str(&format!("; {}: {}", failure.kind.name(), failure.detail));
    }
    if let Some(folder) = &report.recording {
        line.push_str(&format!("; {}", out.join(folder).display()));
    }
    say(&line);
    report
}
