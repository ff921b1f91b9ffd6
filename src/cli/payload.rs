//! `trunkline payload`.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::io::{result, say};
use super::outcome::Format;
use crate::cekura::Mode;
use crate::cekura::payload::{Misfit, RunOptions, Selection, check, estimate_runs};
use crate::error::{Exit, Failure};

/// Builds and checks the body of a run's start request
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:
  trunkline payload chirp --agent-id 1 --scenario-ids 1,2 --websocket-url wss://agent.example.com/chirp > run.json
  trunkline payload check chirp run.json")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Builds the body of run_scenarios_chirp and prints it
    #[command(after_help = "Example:\n  trunkline payload chirp --agent-id 1 --scenario-ids 1,2 > run.json")]
    Chirp(Box<Options>),
    /// Checks a body: every misfit with its JSON path and what would be right
    #[command(after_help = "Example:\n  trunkline payload check chirp run.json")]
    Check {
        /// The run mode
        mode: Mode,
        /// The file; - reads stdin
        file: PathBuf,
        /// What is printed on stdout
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
}

#[derive(Debug, clap::Args)]
struct Options {
    /// The agent's id at Cekura
    #[arg(long, value_name = "ID")]
    agent_id: Option<u64>,
    /// Scenarios to run, by id
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    scenario_ids: Vec<u64>,
    /// All scenarios of the agent (Cekura's CHIRP page has it, its OpenAPI file does not)
    #[arg(long, conflicts_with = "scenario_ids")]
    all: bool,
    /// The first so many scenarios of the agent (likewise)
    #[arg(long, value_name = "N", conflicts_with_all = ["scenario_ids", "all"])]
    first: Option<u64>,
    /// Scenarios to run, by tag
    #[arg(long, value_name = "TAG,…", value_delimiter = ',', conflicts_with_all = ["scenario_ids", "all", "first"])]
    tags: Vec<String>,
    /// Scenarios to run, by folder (dotted path); needs --project-id
    #[arg(long, value_name = "PATH", requires = "project_id", conflicts_with_all = ["scenario_ids", "all", "first", "tags"])]
    folder_path: Option<String>,
    /// The project of --folder-path
    #[arg(long, value_name = "ID")]
    project_id: Option<u64>,
    /// Where Cekura dials the agent: ws:// or wss:// [default: the agent's own]
    #[arg(long, value_name = "URL")]
    websocket_url: Option<String>,
    /// Label of the result
    #[arg(long)]
    name: Option<String>,
    /// How often each scenario is run
    #[arg(long, value_name = "N")]
    frequency: Option<u64>,
    /// Personalities; each multiplies the runs
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    personality_ids: Vec<u64>,
    /// Test profiles; each multiplies the runs
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    test_profile_ids: Vec<u64>,
    /// Most runs at the same time
    #[arg(long, value_name = "N")]
    concurrency_limit: Option<u64>,
    /// Tools to mock; an empty text mocks none [default: all]
    #[arg(long, value_name = "NAME,…")]
    mock_tool_names: Option<String>,
    /// The agent's version
    #[arg(long, value_name = "VERSION")]
    agent_version_id: Option<String>,
}

impl Options {
    fn run_options(&self) -> RunOptions {
        let selection = match self {
            Self { all: true, .. } => Some(Selection::All),
            Self { first: Some(count), .. } => Some(Selection::First(*count)),
            Self { folder_path: Some(path), project_id: Some(project_id), .. } => {
                Some(Selection::Folder { path: path.clone(), project_id: *project_id })
            }
            Self { tags, .. } if !tags.is_empty() => Some(Selection::Tags(tags.clone())),
            Self { scenario_ids, .. } if !scenario_ids.is_empty() => Some(Selection::Ids(scenario_ids.clone())),
            _ => None,
        };
        let tools = |names: &String| names.split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned).collect();
        RunOptions {
            agent_id: self.agent_id,
            selection,
            websocket_url: self.websocket_url.clone(),
            name: self.name.clone(),
            frequency: self.frequency,
            personality_ids: self.personality_ids.clone(),
            test_profile_ids: self.test_profile_ids.clone(),
            concurrency_limit: self.concurrency_limit,
            mock_tool_names: self.mock_tool_names.as_ref().map(tools),
            agent_version_id: self.agent_version_id.clone(),
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    match &args.command {
        Command::Chirp(options) => {
            let body = options.run_options().build(Mode::Chirp).map_err(|misfits| misfit_failure("the payload", &misfits))?;
            result(&pretty(&body));
            tell_runs(&body);
            Ok(Exit::Passed)
        }
        Command::Check { mode, file, format } => {
            let body = read_json(file)?;
            let misfits = check(*mode, &body);
            if *format == Format::Json {
                result(&pretty(&json!({"mode": mode.name(), "fits": misfits.is_empty(), "misfits": misfits})));
            }
            if !misfits.is_empty() {
                return Err(misfit_failure(&file.display().to_string(), &misfits));
            }
            if *format == Format::Table {
                result(&format!("{}: fits {mode}", file.display()));
            }
            tell_runs(&body);
            Ok(Exit::Passed)
        }
    }
}

/// Reads a JSON file; `-` is stdin.
pub(super) fn read_json(file: &Path) -> Result<Value, Failure> {
    let shown = file.display();
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| Failure::usage(format!("cannot read {shown}: {error}")))?;
    serde_json::from_str(&text).map_err(|error| Failure::usage(format!("{shown} is not JSON: {error}")))
}

/// Every misfit, a line each.
pub(super) fn misfit_failure(what: &str, misfits: &[Misfit]) -> Failure {
    let lines: Vec<_> = misfits.iter().map(|misfit| format!("\n  {misfit}")).collect();
    Failure::usage(format!("{what} does not fit:{}", lines.concat()))
}

fn tell_runs(body: &Value) {
    match estimate_runs(body) {
        Some(runs) => say(&format!("this starts {runs} run{}", if runs == 1 { "" } else { "s" })),
        None => say("how many runs this starts only Cekura knows"),
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a JSON value can be written")
}
