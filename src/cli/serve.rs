//! `trunkline serve`.

mod doors;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::doors::livekit_door;
use super::io::{Interruption, runtime, say};
use super::outcome::{report_call, unmeasured};
use super::settings::{ConfigArgs, agent, out_folder};
use super::values::parse_rate;
use crate::audio::Rate;
use crate::call::{CallIds, Limits};
use crate::conversation::FinishedCall;
use crate::error::{Exit, Failure};
use crate::report::{REPORT_JSON, Report, RunReport, Thresholds};
use crate::serve::{Desk, Happening, serve};
use crate::transport::WayOut;
use crate::transport::livekit::{Server, Worker, WorkerError, WorkerOptions};

use doors::{DoorFlag, Kind};

/// Opens the doors and connects each call to the agent, recorded
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  trunkline serve --to process:./agent.py --listen 127.0.0.1:8765
  trunkline serve --to 'openai:http://127.0.0.1:4000/v1?model=local' --chat-listen 127.0.0.1:8766
  trunkline serve --to process:./agent.py --livekit-agent-name my-agent
  trunkline serve --to process:./agent.py --door twilio=127.0.0.1:8771

trunkline.toml:
  [agent]
  to = \"chirp://127.0.0.1:9000/\"
  [doors.chirp]
  listen = \"127.0.0.1:8765\"

Doors by name: chirp, chat, twilio, telnyx, plivo, exotel, vonage, genesys. A phone provider's door that is not on loopback needs a
token: token_file under [doors.NAME], or TRUNKLINE_DOOR_TOKEN.

In front of an agent of text only (chat://, chat-process:, openai:) stands a chat door, in front of any other a CHIRP door.
The LiveKit door opens no port: it registers as an agent worker with the LiveKit server of LIVEKIT_URL, LIVEKIT_API_KEY and
LIVEKIT_API_SECRET, and may stand in front of any agent. With it, the first Ctrl-C or SIGTERM lets the calls that go on come to
their end; the second ends them.

When it is stopped it writes report.json and junit.xml of all its calls into the folder.")]
pub struct Args {
    /// The agent: chirp://HOST:PORT/PATH, process:COMMAND, livekit://ROOM?agent=NAME, livekit-console:COMMAND, pipecat+http://HOST:PORT/start,
    /// pipecat-ws://HOST:PORT/PATH, twilio+ws://HOST:PORT/PATH (or another provider's), chat://HOST:PORT/PATH, chat-process:COMMAND or
    /// openai:URL?model=NAME [default: `to` of the configuration]
    #[arg(long, env = "TRUNKLINE_AGENT")]
    to: Option<WayOut>,
    /// Rate of a process, or at which a Pipecat bot takes audio, in Hz
    #[arg(long, value_name = "HZ", value_parser = parse_rate)]
    rate: Option<Rate>,
    /// Where the CHIRP door listens; port 0 takes a free one [default: 127.0.0.1:8765]
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Where the chat door listens [default: 127.0.0.1:8766]
    #[arg(long, value_name = "LISTEN")]
    chat_listen: Option<SocketAddr>,
    /// A door, with its address where it is not to be the configuration's or the usual one; may be given again
    #[arg(long, value_name = "NAME[=LISTEN]")]
    door: Vec<DoorFlag>,
    /// The LiveKit door: an agent worker under this name [default: `agent_name` of the configuration]
    #[arg(long, value_name = "NAME")]
    livekit_agent_name: Option<String>,
    /// Folder for report.json, junit.xml and one folder a call
    #[arg(long, value_name = "DIR", env = "TRUNKLINE_OUT")]
    out: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

impl Args {
    /// The doors that flags ask for.
    fn doors(&self) -> Vec<DoorFlag> {
        let chirp = self.listen.map(|listen| DoorFlag::at(Kind::Chirp, listen));
        let chat = self.chat_listen.map(|listen| DoorFlag::at(Kind::Chat, listen));
        chirp.into_iter().chain(chat).chain(self.door.iter().copied()).collect()
    }
}

/// Runs the command until it is interrupted.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let config = args.config.load()?;
    let (to, connect) = agent(args.to.as_ref(), args.rate, &config)?;
    let out = out_folder(args.out.as_ref(), &config)?;
    let livekit = livekit_door(args.livekit_agent_name.as_deref(), &config)?;
    let openings = doors::set_up(&args.doors(), &config, &to, livekit.is_some())?;
    runtime()?.block_on(async {
        // Before anybody is told that a door is open, and may want to end it again.
        let (stop, cut) = interruptions(livekit.is_some())?;
        let mut open = Vec::new();
        for opening in openings {
            open.push(opening.await?);
        }
        for door in &open {
            say(&format!("listening {} in front of {to}", door.shown));
        }
        let mut doors: Vec<_> = open.into_iter().map(|door| door.arrivals).collect();
        if let Some((server, worker)) = livekit {
            doors.push(registered(server, &worker, &to).await?.into());
        }
        let (sender, mut happenings) = mpsc::unbounded_channel();
        let desk = Desk { agent: to, connect, out: Some(out.clone()), limits: Limits::default() };
        let serving = tokio::spawn(serve(doors, desk, sender, stop, cut));
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

/// Registers the LiveKit door.
async fn registered(server: Server, worker: &WorkerOptions, to: &WayOut) -> Result<Worker, Failure> {
    let name = &worker.agent_name;
    if let WayOut::LiveKit(address) = to
        && address.agent() == Some(name)
    {
        return Err(Failure::usage(format!("{to} asks for the agent {name:?}, which is the LiveKit door itself")));
    }
    let url = server.shown();
    let registered = Worker::register(server, worker).await.map_err(unregistered)?;
    say(&format!("registered livekit {name} at {url} (worker {}) in front of {to}", registered.id()));
    Ok(registered)
}

/// A worker that the server does not take.
pub(super) fn unregistered(error: WorkerError) -> Failure {
    if error.is_unauthorized() {
        return Failure::usage(&error).hint("both must be a pair that the server has under `keys`");
    }
    Failure::infrastructure(&error).hint("is LIVEKIT_URL right, and does the server run?")
}

/// The first Ctrl-C or SIGTERM; and the moment at which calls that go on are ended: the second where the doors drain, else at once.
fn interruptions(drains: bool) -> Result<(impl Future<Output = ()>, impl Future<Output = ()>), Failure> {
    let mut interruption = Interruption::listen()?;
    let ((stop, stopped), (cut, ended)) = (oneshot::channel(), oneshot::channel());
    tokio::spawn(async move {
        interruption.wait().await;
        // Whoever does not wait any more needs not be told.
        let _ = stop.send(());
        if drains {
            say("no more calls are taken; those that go on come to their end, or are ended by a second Ctrl-C or SIGTERM");
            interruption.wait().await;
        }
        let _ = cut.send(());
    });
    Ok((async { drop(stopped.await) }, async { drop(ended.await) }))
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
