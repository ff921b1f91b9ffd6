//! `trunkline runs`.

use serde_json::{Value, json};

use super::io::{result, runtime};
use super::listing::{Listed, json_of, print, print_one, rows, shown};
use super::outcome::Format;
use super::settings::{WaitArgs, open_ledger};
use super::wait::ended;
use crate::cekura::{Client, Recovered, RunState, Status, recover, take};
use crate::error::{Exit, Failure};
use crate::ledger::{Ledger, Start, StartState};

/// Lists, follows and ends runs at Cekura, and recovers starts that had no answer
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  CEKURA_API_KEY=… trunkline runs list --result-id 9 --format json")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The runs of a result, an agent or a project; as JSON a bare list
    #[command(after_help = "Example:\n  trunkline runs list --result-id 9 --format json | jq -r '.[].status'")]
    #[command(group = clap::ArgGroup::new("whose").args(["result_id", "agent_id", "project_id"]).required(true).multiple(true))]
    List {
        /// Only those of this result
        #[arg(long, value_name = "ID")]
        result_id: Option<u64>,
        /// Only those of this agent
        #[arg(long, value_name = "ID")]
        agent_id: Option<u64>,
        /// Only those of this project
        #[arg(long, value_name = "ID")]
        project_id: Option<u64>,
        /// Only those of this status
        #[arg(long)]
        status: Option<String>,
        /// What is printed on stdout
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// One run
    #[command(after_help = "Example:\n  trunkline runs get 123 --format json")]
    Get {
        /// The run
        id: u64,
        /// What is printed on stdout
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// These runs in full; as JSON a bare list
    #[command(after_help = "Example:\n  trunkline runs bulk --ids 123,124 --format json")]
    Bulk {
        /// The runs
        #[arg(long, alias = "run-ids", value_name = "ID,…", value_delimiter = ',', required = true)]
        ids: Vec<u64>,
        /// What is printed on stdout
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Waits for a run's end: exit code 0 when it passed, 1 when it did not, 3 when it goes on
    #[command(after_help = "Example:\n  trunkline runs wait 123 --timeout-s 600")]
    Wait {
        /// The run
        id: u64,
        #[command(flatten)]
        times: WaitArgs,
        /// What is printed on stdout
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Ends a run's call
    #[command(after_help = "Example:\n  trunkline runs end-call 123")]
    EndCall {
        /// The run
        id: u64,
    },
    /// A run's trace, as JSON
    #[command(after_help = "Example:\n  trunkline runs trace 123")]
    Trace {
        /// The run
        id: u64,
    },
    /// Where a run's call can be listened to
    #[command(after_help = "Example:\n  trunkline runs listen-url 123")]
    ListenUrl {
        /// The run
        id: u64,
    },
    /// Looks for the results of starts that had no answer, by their unique names, and finishes the ledger's record: exit code 0
    /// when nothing is open any more, else 1. Of modes whose start takes no name it shows the results that may be meant
    #[command(after_help = "Examples:
  CEKURA_API_KEY=… trunkline runs recover
  CEKURA_API_KEY=… trunkline runs recover --name 'trunkline websocket 2026-01-01 12:00:00 #0123456789ab' --result-id 9")]
    Recover {
        /// Takes this result for the answer to the start of --name
        #[arg(long, value_name = "ID", requires = "name")]
        result_id: Option<u64>,
        /// The open start, by its name in the ledger
        #[arg(long, requires = "result_id")]
        name: Option<String>,
        /// What is printed on stdout
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let client = Client::from_env().map_err(Failure::usage)?;
    runtime()?.block_on(async {
        match &args.command {
            Command::List { result_id, agent_id, project_id, status, format } => {
                let query = [("result_id", result_id), ("agent_id", agent_id), ("project_id", project_id)];
                let query = query.map(|(key, id)| (key, id.map(|id| id.to_string())));
                let mut runs = client.runs_of(&query).await.map_err(Failure::infrastructure)?;
                runs.retain(|run| status.as_ref().is_none_or(|status| run.status.as_str() == status));
                print(&runs, *format);
                Ok(Exit::Passed)
            }
            Command::Get { id, format } => {
                let run = client.run(*id).await.map_err(Failure::infrastructure)?;
                print_one(&run, *format);
                Ok(Exit::Passed)
            }
            Command::Bulk { ids, format } => {
                print(&client.runs_by_id(ids).await.map_err(Failure::infrastructure)?, *format);
                Ok(Exit::Passed)
            }
            Command::Wait { id, times, format } => wait(&client, *id, times, *format).await,
            Command::EndCall { id } => {
                client.end_call(*id).await.map_err(Failure::infrastructure)?;
                result(&format!("the call of run {id} is being ended"));
                Ok(Exit::Passed)
            }
            Command::Trace { id } => {
                result(&json_of(&client.trace(*id).await.map_err(Failure::infrastructure)?));
                Ok(Exit::Passed)
            }
            Command::ListenUrl { id } => {
                let answer = client.listen_url(*id).await.map_err(Failure::infrastructure)?;
                // The shape is not published: an address under its likely names, else all of it.
                let known = ["listen_url", "url"].iter().find_map(|key| answer[*key].as_str());
                result(&known.map_or_else(|| json_of(&answer), str::to_owned));
                Ok(Exit::Passed)
            }
            Command::Recover { result_id: Some(id), name: Some(name), format } => take_result(&client, *id, name, *format).await,
            Command::Recover { format, .. } => recover_all(&client, *format).await,
        }
    })
}

impl Listed for RunState {
    const HEADER: &'static [&'static str] = &["run", "scenario", "status", "success", "duration", "why"];

    fn raw(&self) -> &Value {
        &self.raw
    }

    fn cells(&self) -> Vec<String> {
        let why = self.error_message.as_ref().or(self.call_ended_reason.as_ref());
        vec![
            self.id.to_string(),
            shown(self.scenario_name.as_ref()),
            self.status.to_string(),
            shown(self.success.as_ref()),
            shown(self.duration.as_ref()),
            shown(why),
        ]
    }
}

async fn wait(client: &Client, id: u64, times: &WaitArgs, format: Format) -> Result<Exit, Failure> {
    let run: RunState = ended(client, id, times).await?;
    print_one(&run, format);
    let passed = run.status == Status::Completed && run.success == Some(true);
    Ok(if passed { Exit::Passed } else { Exit::Failed })
}

/// The starts at this API of which nobody knows what became of them.
fn open_starts(client: &Client, ledger: &Ledger) -> Result<Vec<Start>, Failure> {
    let mut starts = ledger.list(usize::MAX).map_err(Failure::infrastructure)?;
    let open = |start: &Start| matches!(start.state, StartState::Sent | StartState::Lost) && start.base_url == client.base_url();
    starts.retain(open);
    Ok(starts)
}

async fn take_result(client: &Client, result_id: u64, name: &str, format: Format) -> Result<Exit, Failure> {
    let ledger = open_ledger()?;
    let starts = open_starts(client, &ledger)?;
    let start = starts.iter().find(|start| start.name == name).ok_or_else(|| {
        Failure::usage(format!("no open start has the name {name:?}")).hint("`trunkline runs recover` lists the open ones")
    })?;
    print_one(&take(client, &ledger, start, result_id).await.map_err(Failure::infrastructure)?, format);
    Ok(Exit::Passed)
}

async fn recover_all(client: &Client, format: Format) -> Result<Exit, Failure> {
    let ledger = open_ledger()?;
    let mut told: Vec<Value> = Vec::new();
    let mut left = 0;
    for start in &open_starts(client, &ledger)? {
        let mut candidates = Vec::new();
        let (outcome, state) = match recover(client, &ledger, start).await.map_err(Failure::infrastructure)? {
            Recovered::Found(state) => ("found", Some(state)),
            Recovered::NotFound => ("not_found", None),
            Recovered::Nameless(results) => {
                candidates = results.iter().map(|result| result.id).collect();
                ("cannot_be_looked_for", None)
            }
        };
        left += usize::from(state.is_none());
        let runs: Vec<u64> = state.iter().flat_map(|state| &state.runs).map(|run| run.id).collect();
        let result_id = state.as_ref().map(|state| state.id);
        told.push(json!({
            "name": start.name, "mode": start.mode, "intended_at": start.intended_at, "outcome": outcome,
            "result_id": result_id, "run_ids": runs, "candidates": candidates,
        }));
    }
    match format {
        Format::Json => result(&json_of(&told.into())),
        Format::Table if told.is_empty() => result("no start is open"),
        Format::Table => {
            let cells = |start: &Value| {
                let keys = ["intended_at", "mode", "name", "outcome", "result_id", "run_ids", "candidates"];
                keys.map(|key| shown(Some(&start[key]))).to_vec()
            };
            result(&rows(&["when", "mode", "name", "outcome", "result", "runs", "may be"], told.iter().map(cells)));
        }
    }
    Ok(if left == 0 { Exit::Passed } else { Exit::Failed })
}
