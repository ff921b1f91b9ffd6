//! `trunkline history`.

use serde_json::{Value, json};

use super::io::result;
use super::listing::{json_of, rows, shown};
use super::outcome::Format;
use super::settings::open_ledger;
use crate::error::{Exit, Failure};
use crate::ledger::{LedgerCall, Start};

/// What was started, with which result and runs, and where the recordings are
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  trunkline history --most 10")]
pub struct Args {
    /// How many starts at the most, newest first
    #[arg(long, value_name = "N", default_value_t = 20)]
    most: usize,
    /// What is printed on stdout
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let ledger = open_ledger()?;
    let starts = ledger.list(args.most).map_err(Failure::infrastructure)?;
    let mut told = Vec::new();
    for start in &starts {
        let calls = match start.result_id {
            Some(result_id) => ledger.calls_of_result(&result_id.to_string()).map_err(Failure::infrastructure)?,
            None => Vec::new(),
        };
        // Ids of different APIs may be the same: a call belongs here when it is of one of this start's runs.
        let ours = |call: &&LedgerCall| start.runs.iter().any(|run| call.ids.run_id.as_deref() == Some(&run.run_id.to_string()));
        told.push(entry(start, &calls.iter().filter(ours).collect::<Vec<_>>()));
    }
    match args.format {
        Format::Json => result(&json_of(&told.into())),
        Format::Table if told.is_empty() => result("nothing was started yet"),
        Format::Table => {
            let cells = |start: &Value| {
                ["intended_at", "mode", "name", "state", "result_id", "run_ids", "api"].map(|key| shown(Some(&start[key]))).to_vec()
            };
            result(&rows(&["when", "mode", "name", "state", "result", "runs", "API"], told.iter().map(cells)));
        }
    }
    Ok(Exit::Passed)
}

fn entry(start: &Start, calls: &[&LedgerCall]) -> Value {
    let recordings: Vec<Value> =
        calls.iter().map(|call| json!({"run_id": call.ids.run_id, "call_id": call.ids.call_id, "folder": call.folder})).collect();
    json!({
        "intended_at": start.intended_at,
        "mode": start.mode,
        "name": start.name,
        "api": start.base_url,
        "state": start.state.as_str(),
        "error": start.error,
        "result_id": start.result_id,
        "run_ids": start.runs.iter().map(|run| run.run_id).collect::<Vec<_>>(),
        "recordings": recordings,
    })
}
