//! `trunkline observe`.

use std::path::PathBuf;

use super::io::{confirmed, result, runtime, say};
use super::listing::{json_of, shown};
use super::outcome::Format;
use crate::cekura::{Client, ObservedAgent, ObservedCall, Transcript};
use crate::error::{Exit, Failure};

/// Sends a recorded call to Cekura's observability: its recording, its transcript and what ended it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  CEKURA_API_KEY=… trunkline observe trunkline-runs/20260101-120000-abc123 --agent-id 1

It tells what it is going to send, and asks, or takes --yes. No other command sends a recording. The transcript is the call's own where
the agent's words are known here; else Cekura makes one from the recording, for one with the caller's lines alone would say that the agent
was silent. A call that is sent again updates itself, by its id: so a failed upload is tried again.")]
pub struct Args {
    /// The call's folder
    folder: PathBuf,
    /// The agent's id at Cekura
    #[arg(long, value_name = "ID", required_unless_present = "assistant_id")]
    agent_id: Option<u64>,
    /// The provider's id of the agent, in place of --agent-id
    #[arg(long, value_name = "ID", conflicts_with = "agent_id")]
    assistant_id: Option<String>,
    /// Does not ask
    #[arg(long)]
    yes: bool,
    /// What is printed on stdout
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let agent = match (&args.assistant_id, args.agent_id) {
        (Some(id), _) => ObservedAgent::Assistant(id.clone()),
        (None, Some(id)) => ObservedAgent::Id(id),
        (None, None) => return Err(Failure::usage("name the agent: --agent-id or --assistant-id")),
    };
    let call = ObservedCall::from_folder(&args.folder, agent).map_err(|error| {
        let failure = Failure::usage(&error);
        let mend = || format!("trunkline record repair {}", args.folder.display());
        if error.is_mendable() { failure.hint(mend()) } else { failure }
    })?;
    let client = Client::from_env().map_err(Failure::usage)?;
    describe(&call, client.base_url());
    if !args.yes && !confirmed("sends the call to Cekura, which keeps it and charges for scoring it")? {
        return Err(Failure::usage("nothing was sent"));
    }
    let answer = runtime()?.block_on(client.observe(&call)).map_err(Failure::infrastructure)?;
    match args.format {
        Format::Json => result(&json_of(&answer)),
        Format::Table => result(&format!("call {} is call {} at Cekura", call.call_id, shown(Some(&answer["id"])))),
    }
    Ok(Exit::Passed)
}

/// What is going to be sent, and where to.
fn describe(call: &ObservedCall, base_url: &str) {
    say(&format!("call {} to {base_url}/observability/v1/observe/", call.call_id));
    match &call.recording {
        Some((file, bytes)) => say(&format!("recording {}: {bytes} bytes", file.display())),
        None => say("no recording: the call was a chat"),
    }
    match &call.transcript {
        Transcript::Lines(lines) => say(&format!("transcript: {} lines", lines.len())),
        Transcript::FromRecording => {
            say("no transcript: the agent's words are not known here, Cekura makes one from the recording")
        }
    }
    let more =
        call.more.iter().map(|(key, value)| format!("{key} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    say(&more.collect::<Vec<_>>().join("\n"));
}
