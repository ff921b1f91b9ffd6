//! `trunkline test-sets`.

use serde_json::{Value, json};

use super::io::{result, runtime};
use super::listing::json_of;
use crate::cekura::Client;
use crate::error::{Exit, Failure};

/// Makes test sets at Cekura
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  trunkline test-sets create-from-run --run-id 5544 --metric-ids 55,56 --name regressions")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Makes a test set of a run; prints it as JSON
    #[command(after_help = "Example:\n  trunkline test-sets create-from-run --run-id 5544 --metric-ids 55,56 --name regressions")]
    CreateFromRun {
        /// The run
        #[arg(long, value_name = "ID")]
        run_id: u64,
        /// The metrics to be reviewed
        #[arg(long, value_name = "ID,…", value_delimiter = ',')]
        metric_ids: Vec<u64>,
        /// The test set's name
        #[arg(long)]
        name: Option<String>,
        /// The project that it is for
        #[arg(long, value_name = "ID")]
        project_id: Option<u64>,
    },
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let Command::CreateFromRun { run_id, metric_ids, name, project_id } = &args.command;
    let client = Client::from_env().map_err(Failure::usage)?;
    // The API wants the list of metrics in any case.
    let metrics: Vec<Value> = metric_ids.iter().map(|id| json!({ "metric": id })).collect();
    let mut body = json!({"run_id": run_id, "metrics": metrics});
    let more = [("name", name.clone().map(Value::from)), ("project", project_id.map(Value::from))];
    for (key, value) in more.into_iter().filter_map(|(key, value)| Some((key, value?))) {
        body[key] = value;
    }
    runtime()?.block_on(async {
        result(&json_of(&client.test_set_from_run(&body).await.map_err(Failure::infrastructure)?));
        Ok(Exit::Passed)
    })
}
