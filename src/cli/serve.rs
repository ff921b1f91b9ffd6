//! `trunkline serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::sync::mpsc;

use super::call::parse_rate;
use super::io::{runtime, say, until_interrupted};
use super::outcome::measured;
use super::settings::{ConfigArgs, agent, chirp_door, out_folder};
use crate::audio::Rate;
use crate::call::Limits;
use crate::error::{Exit, Failure};
use crate::serve::{Desk, FinishedCall, Happening, serve};
use crate::transport::WayOut;
use crate::transport::chirp::{Door, DoorError};

/// Opens the doors and connects each call to the agent, recorded
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  trunkline serve --to process:./agent.py --listen 127.0.0.1:8765

trunkline.toml:
  [agent]
  to = \"chirp://127.0.0.1:9000/\"
  [doors.chirp]
  listen = \"127.0.0.1:8765\"")]
pub struct Args {
    /// The agent: chirp://HOST:PORT/PATH, chirps://… or process:COMMAND [default: `to` of the configuration]
    #[arg(long, env = "TRUNKLINE_AGENT")]
    to: Option<WayOut>,
    /// Rate of a process, in Hz
    #[arg(long, value_name = "HZ", value_parser = parse_rate)]
    rate: Option<Rate>,
    /// Where the CHIRP door listens; port 0 takes a free one [default: 127.0.0.1:8765]
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Folder for one folder a call
    #[arg(long, value_name = "DIR", env = "TRUNKLINE_OUT")]
    out: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs the command until it is interrupted.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let config = args.config.load()?;
    let (to, connect) = agent(args.to.as_ref(), args.rate, &config)?;
    let out = out_folder(args.out.as_ref(), &config);
    let mut door = chirp_door(&config)?;
    door.listen = args.listen.unwrap_or(door.listen);
    let scheme = if door.tls.is_some() { "wss" } else { "ws" };
    runtime()?.block_on(async {
        let door = Door::open(door).await.map_err(closed_door)?;
        say(&format!("listening chirp {} ({scheme}://{}/) in front of {to}", door.address(), door.address()));
        let (sender, mut happenings) = mpsc::unbounded_channel();
        let desk = Desk { agent: to, connect, out: Some(out), limits: Limits::default() };
        let serving = tokio::spawn(serve(door, desk, sender, until_interrupted()));
        while let Some(happening) = happenings.recv().await {
            match happening {
                Happening::Began(ids) => say(&format!("call {} began", ids.call_id)),
                Happening::Event(..) => {}
                Happening::Over(call) => tell(*call).await,
            }
        }
        serving.await.map_err(|error| Failure::infrastructure(format!("the doors closed: {error}")))?;
        Ok(Exit::Passed)
    })
}

/// A door that does not open: exit code 2 when the configuration asks for it, else 3.
pub(super) fn closed_door(error: DoorError) -> Failure {
    match error {
        DoorError::Unguarded(_) => Failure::usage(&error)
            .hint("set credentials_file under [doors.chirp] or TRUNKLINE_DOOR_CREDENTIALS=user:password, or listen on 127.0.0.1"),
        DoorError::Tls(_) => Failure::usage(&error),
        DoorError::Listen { .. } => Failure::infrastructure(&error).hint("choose another port with --listen"),
    }
}

async fn tell(call: FinishedCall) {
    let end = &call.outcome.end;
    let reason = serde_json::to_value(end.reason).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
    let by = end.by.map_or("trunkline", crate::call::Side::name);
    let mut line = format!("call {} ended by {by}: {reason}", call.ids.call_id);
    if !end.detail.is_empty() {
        line.push_str(&format!(" ({})", end.detail));
    }
    match (&call.outcome.recording, &call.folder) {
        (Some(Ok(info)), Some(folder)) => {
            let (kept, info) = (folder.clone(), info.clone());
            let numbers = tokio::task::spawn_blocking(move || measured(&kept, &info)).await;
            line.push_str(&format!("; {}", folder.display()));
            if let Ok(Err(problem)) = numbers {
                line.push_str(&format!("; cannot be measured: {problem}"));
            }
        }
        (Some(Err(error)), _) => line.push_str(&format!("; not recorded: {error}")),
        _ => {}
    }
    say(&line);
}
