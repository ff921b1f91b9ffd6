//! `trunkline results`.

use serde_json::Value;

use super::io::{confirmed, result, runtime};
use super::listing::{Listed, print, print_one, shown};
use super::outcome::Format;
use super::settings::{WaitArgs, open_ledger};
use super::wait::ended;
use crate::cekura::{Client, ResultState, rerun_once};
use crate::error::{Exit, Failure};

/// Lists, follows and ends results at Cekura
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  CEKURA_API_KEY=… trunkline results list --agent-id 1")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The newest results
    #[command(after_help = "Example:\n  trunkline results list --agent-id 1 --most 5 --format json")]
    List {
        /// Only those of this agent
        #[arg(long, value_name = "ID")]
        agent_id: Option<u64>,
        /// Only those of this project
        #[arg(long, value_name = "ID")]
        project_id: Option<u64>,
        /// Only those whose name has this in it
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// How many at the most
        #[arg(long, value_name = "N", default_value_t = 20)]
        most: usize,
        /// What is printed on stdout
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// One result
    #[command(after_help = "Example:\n  trunkline results get 9 --format json")]
    Get {
        /// The result
        id: u64,
        /// What is printed on stdout
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Waits for a result's end: exit code 0 when all its runs passed, 1 when not, 3 when it goes on
    #[command(after_help = "Example:\n  trunkline results wait 9 --timeout-s 1800")]
    Wait {
        /// The result
        id: u64,
        #[command(flatten)]
        times: WaitArgs,
        /// What is printed on stdout
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Scores a result's runs anew by these metrics; nothing is called
    #[command(alias = "evaluate-metrics", after_help = "Example:\n  trunkline results rescore 9 --metric-ids 55,56")]
    Rescore(RescoreArgs),
    /// Executes every scenario of a result again, as a new result: calls are made, and they cost
    #[command(after_help = "Example:\n  trunkline results rerun 9 --yes")]
    Rerun {
        /// The result
        id: u64,
        /// Does not ask
        #[arg(long)]
        yes: bool,
        /// What is printed on stdout
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Ends all calls of a result
    #[command(after_help = "Example:\n  trunkline results end-calls 9")]
    EndCalls {
        /// The result
        id: u64,
    },
}

/// What is scored anew, by what.
#[derive(Debug, clap::Args)]
pub(super) struct RescoreArgs {
    /// The result
    pub(super) id: u64,
    /// The metrics
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    pub(super) metric_ids: Vec<u64>,
    /// Only these runs [default: all of the result]
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    run_ids: Vec<u64>,
    /// What is printed on stdout
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let client = Client::from_env().map_err(Failure::usage)?;
    runtime()?.block_on(async {
        match &args.command {
            Command::List { agent_id, project_id, search, most, format } => {
                let (agent, project) = (agent_id.map(|id| id.to_string()), project_id.map(|id| id.to_string()));
                let query = [("agent_id", agent), ("project_id", project), ("search", search.clone())];
                let results = client.results(&query, *most).await.map_err(Failure::infrastructure)?;
                print(&results, *format);
                Ok(Exit::Passed)
            }
            Command::Get { id, format } => {
                print_one(&client.result(*id).await.map_err(Failure::infrastructure)?, *format);
                Ok(Exit::Passed)
            }
            Command::Wait { id, times, format } => {
                let state: ResultState = ended(&client, *id, times).await?;
                print_one(&state, *format);
                Ok(if state.passed() { Exit::Passed } else { Exit::Failed })
            }
            Command::Rescore(args) => rescore(&client, args).await,
            Command::Rerun { id, yes, format } => {
                if !yes && !confirmed(&format!("executes every scenario of result {id} again, which costs"))? {
                    return Err(Failure::usage("nothing was started"));
                }
                let started = rerun_once(&client, &open_ledger()?, *id).await.map_err(Failure::infrastructure)?;
                print_one(&client.result(started.result_id).await.map_err(Failure::infrastructure)?, *format);
                Ok(Exit::Passed)
            }
            Command::EndCalls { id } => {
                client.end_calls(*id).await.map_err(Failure::infrastructure)?;
                result(&format!("the calls of result {id} are being ended"));
                Ok(Exit::Passed)
            }
        }
    })
}

/// Scores runs of a result anew.
pub(super) async fn rescore(client: &Client, args: &RescoreArgs) -> Result<Exit, Failure> {
    let RescoreArgs { id, metric_ids, run_ids, format } = args;
    if metric_ids.is_empty() {
        return Err(Failure::usage("name the metrics: --metric-ids 55,56"));
    }
    let mut run_ids = run_ids.clone();
    if run_ids.is_empty() {
        let result = client.result(*id).await.map_err(Failure::infrastructure)?;
        run_ids = result.runs.iter().map(|run| run.id).collect();
    }
    if run_ids.is_empty() {
        return Err(Failure::usage(format!("result {id} has no runs to score")));
    }
    print_one(&client.rescore(*id, &run_ids, metric_ids).await.map_err(Failure::infrastructure)?, *format);
    Ok(Exit::Passed)
}

impl Listed for ResultState {
    const HEADER: &'static [&'static str] = &["result", "name", "status", "runs", "passed", "success rate"];

    fn raw(&self) -> &Value {
        &self.raw
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            shown(self.name.as_ref()),
            self.status.to_string(),
            shown(self.total_runs_count.as_ref()),
            shown(self.success_runs_count.as_ref()),
            shown(self.success_rate.map(|rate| format!("{rate} %")).as_ref()),
        ]
    }
}
