//! `trunkline payload`.

use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::io::{result, say};
use super::outcome::Format;
use crate::cekura::Mode;
use crate::cekura::payload::{Misfit, RunOptions, Selection, check, detect, estimate_runs, fix, holds_secret, room_token};
use crate::error::{Exit, Failure};

/// Builds and checks the body of a run's start request
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:
  trunkline payload chirp --agent-id 1 --scenario-ids 1,2 --websocket-url wss://agent.example.com/chirp > run.json
  trunkline payload livekit_v2 --agent-id 1 --scenario-ids 1,2 --agent-name my-agent > run.json
  trunkline payload check run.json")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

/// What is to be done.
enum Work<'a> {
    Build(Mode, &'a Options),
    Check(&'a CheckArgs),
}

macro_rules! commands {
    ($($variant:ident $name:literal $alias:literal $doc:literal $example:literal;)*) => {
        #[derive(Debug, clap::Subcommand)]
        enum Command {
            $(
                #[doc = $doc]
                #[command(name = $name, alias = $alias)]
                #[command(after_help = concat!("Example:\n  trunkline payload ", $name, " ", $example, " > run.json"))]
                $variant(Box<Options>),
            )*
            /// Checks a body: every misfit with its JSON path and what would be right
            #[command(after_help = "Examples:\n  trunkline payload check run.json\n  trunkline payload check --fix livekit_v2 run.json")]
            Check(CheckArgs),
        }

        impl Command {
            fn work(&self) -> Work<'_> {
                match self {
                    $(Self::$variant(options) => Work::Build(Mode::$variant, options),)*
                    Self::Check(args) => Work::Check(args),
                }
            }
        }
    };
}

commands! {
    Voice "voice" "call" "Builds the body of run_scenarios: telephone calls" "--agent-id 1 --scenario-ids 1,2";
    Text "text" "chat" "Builds the body of run_scenarios_text: text, over a WebSocket of yours" "--agent-id 1 --scenario-ids 1,2 --websocket-url wss://agent.example.com/";
    Chirp "chirp" "raw" "Builds the body of run_scenarios_chirp: raw audio over a WebSocket of yours" "--agent-id 1 --scenario-ids 1,2";
    Websocket "websocket" "websockets" "Builds the body of run_scenarios_with_websockets: text, with an address for each entry" "--agent-id 1 --scenario-ids 1,2 --websocket-url wss://agent.example.com/";
    Livekit "livekit" "livekit-v1" "Builds the body of run_scenarios_livekit: LiveKit rooms of yours; makes their tokens from LIVEKIT_API_KEY and LIVEKIT_API_SECRET" "--scenario-ids 1,2 --room-url wss://livekit.example.com --room test";
    LivekitV2 "livekit_v2" "livekit-v2" "Builds the body of run_scenarios_livekit_v2: Cekura makes the rooms and dispatches your agent by name" "--agent-id 1 --scenario-ids 1,2 --agent-name my-agent";
    LivekitChat "livekit_chat" "livekit-chat" "Builds the body of run_scenarios_livekit_chat: text in LiveKit rooms of yours" "--scenario-ids 1,2 --room-url wss://livekit.example.com --room test";
    Pipecat "pipecat" "pipecat-v1" "Builds the body of run_scenarios_pipecat: Pipecat rooms of yours" "--scenario-ids 1,2 --room-url https://rooms.example.com/a";
    PipecatV2 "pipecat_v2" "pipecat-v2" "Builds the body of run_scenarios_pipecat_v2: Cekura starts your Pipecat agent" "--agent-id 1 --scenario-ids 1,2 --agent-name my-agent";
    Sip "sip" "siptrunk" "Builds the body of run_scenarios_sip" "--agent-id 1 --scenario-ids 1,2 --sip-endpoint sip:agent@sip.example.com";
    VapiWebrtc "vapi_webrtc" "vapi-webrtc" "Builds the body of run_scenarios_vapi_webrtc" "--agent-id 1 --scenario-ids 1,2 --provider-agent-id abc";
    RetellWebrtc "retell_webrtc" "retell-webrtc" "Builds the body of run_scenarios_retell_webrtc" "--agent-id 1 --scenario-ids 1,2 --provider-agent-id abc";
    Elevenlabs "elevenlabs" "eleven-labs" "Builds the body of run_scenarios_elevenlabs" "--agent-id 1 --scenario-ids 1,2 --provider-agent-id abc";
    ApiChat "api_chat" "api-chat" "Builds the body of run_scenarios_api_chat: text that you fetch and answer over REST" "--agent-id 1 --scenario-ids 1,2 --timeout-s 300";
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// The run mode, where the file does not tell it, and the file; - reads stdin
    #[arg(num_args = 1..=2, value_names = ["MODE", "FILE"], required = true)]
    words: Vec<String>,
    /// Rewrites the file where what is meant is clear: another mode's or another tool's spelling
    #[arg(long)]
    fix: bool,
    /// What is printed on stdout
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct Options {
    /// The agent's id at Cekura
    #[arg(long, value_name = "ID")]
    agent_id: Option<u64>,
    /// Scenarios to run, by id
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    scenario_ids: Vec<u64>,
    /// All scenarios of the agent (the guide pages of CHIRP, SIP and ElevenLabs have it, the OpenAPI file does not)
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
    /// Where Cekura calls the agent over SIP
    #[arg(long, value_name = "URI")]
    sip_endpoint: Option<String>,
    /// The name under which a LiveKit or Pipecat agent is dispatched
    #[arg(long, value_name = "NAME")]
    agent_name: Option<String>,
    /// The LiveKit server, where it is not the agent's own
    #[arg(long, value_name = "URL")]
    livekit_url: Option<String>,
    /// Configuration for a LiveKit or Pipecat agent: a JSON object that replaces the agent's own whole
    #[arg(long, value_name = "JSON", value_parser = parse_object)]
    agent_config: Option<Value>,
    /// The agent's id at Vapi, Retell or ElevenLabs
    #[arg(long, value_name = "ID")]
    provider_agent_id: Option<String>,
    /// Server (LiveKit) or room (Pipecat) of the entries; may be given once for all, or once for each
    #[arg(long, value_name = "URL")]
    room_url: Vec<String>,
    /// Room that each entry's token is for; may be given once for all, or once for each
    #[arg(long, value_name = "ROOM")]
    room: Vec<String>,
    /// Identity in the tokens
    #[arg(long, value_name = "NAME", default_value = "cekura-testing-agent")]
    identity: String,
    /// How long the tokens are valid, in seconds
    #[arg(long, value_name = "S", default_value_t = 3600)]
    valid_s: u64,
    /// Data message that Cekura publishes in each entry's room: a JSON object
    #[arg(long, value_name = "JSON", value_parser = parse_object)]
    data_message: Option<Value>,
    /// Header of the WebSocket's upgrade request, NAME=VALUE; may be given more than once
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Longest conversation of an API chat, in seconds
    #[arg(long, value_name = "S")]
    timeout_s: Option<u64>,
    /// Writes to this file instead of stdout; one with secrets is readable by its owner alone
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn parse_object(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    if value.is_object() { Ok(value) } else { Err("not a JSON object".into()) }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a header is written NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Options {
    fn run_options(&self, mode: Mode) -> Result<RunOptions, Failure> {
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
        Ok(RunOptions {
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
            more: self.more(mode),
            entries: self.entries(mode)?,
        })
    }

    /// The fields that only some modes have, under the names that this one gives them.
    fn more(&self, mode: Mode) -> Map<String, Value> {
        let mut more = Map::new();
        let mut put = |key: &str, value: Option<Value>| drop(value.map(|value| more.insert(key.to_owned(), value)));
        put("sip_endpoint", self.sip_endpoint.clone().map(Value::from));
        put("timeout", self.timeout_s.map(Value::from));
        let provider = match mode {
            Mode::RetellWebrtc => "retell_agent_id",
            Mode::Elevenlabs => "elevenlabs_agent_id",
            _ => "vapi_assistant_id",
        };
        put(provider, self.provider_agent_id.clone().map(Value::from));
        let headers: Map<String, Value> = self.headers.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        put("websocket_headers", (!headers.is_empty()).then_some(Value::Object(headers)));
        let (data, name) = match mode {
            Mode::PipecatV2 => ("pipecat_data", "pipecat_agent_name"),
            _ => ("livekit_data", "agent_name"),
        };
        let known = [
            (name, self.agent_name.clone().map(Value::from)),
            ("url", self.livekit_url.clone().map(Value::from)),
            ("config", self.agent_config.clone()),
        ];
        let members: Map<String, Value> = known.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        put(data, (!members.is_empty()).then_some(Value::Object(members)));
        more
    }

    /// What each entry has beside its scenario.
    fn entries(&self, mode: Mode) -> Result<Vec<Map<String, Value>>, Failure> {
        let count = self.scenario_ids.len().max(1);
        let of = |values: &[String], flag: &str, at: usize| match values.len() {
            0 => Ok(None),
            1 => Ok(values.first().cloned()),
            given if given == count => Ok(values.get(at).cloned()),
            given => {
                Err(Failure::usage(format!("{flag} is given {given} times for {count} scenarios: give it once, or once for each")))
            }
        };
        let signer = match mode {
            Mode::Livekit | Mode::LivekitChat => Some(signer()?),
            _ => None,
        };
        let url_key = if mode == Mode::Pipecat { "pipecat_room_url" } else { "livekit_room_url" };
        (0..count)
            .map(|at| {
                let mut entry = Map::new();
                let mut put = |key: &str, value: Option<Value>| drop(value.map(|value| entry.insert(key.to_owned(), value)));
                put(url_key, of(&self.room_url, "--room-url", at)?.map(Value::from));
                if let Some((key, secret)) = &signer {
                    let room = of(&self.room, "--room", at)?.ok_or_else(|| Failure::usage("the tokens need --room"))?;
                    let token = room_token(key, secret, &room, &self.identity, Duration::from_secs(self.valid_s));
                    put("access_token", Some(token.into()));
                }
                put("publish_data_message", self.data_message.clone());
                Ok(entry)
            })
            .collect()
    }
}

/// The key and the secret that LiveKit tokens are made with: from the environment, never from a flag.
fn signer() -> Result<(String, String), Failure> {
    let set = |name: &str| {
        let value = std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        value.ok_or_else(|| {
            Failure::usage(format!("no {name}: the rooms' access tokens are made with LIVEKIT_API_KEY and LIVEKIT_API_SECRET"))
        })
    };
    Ok((set("LIVEKIT_API_KEY")?, set("LIVEKIT_API_SECRET")?))
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    match args.command.work() {
        Work::Build(mode, options) => run_build(mode, options),
        Work::Check(args) => run_check(args),
    }
}

fn run_build(mode: Mode, options: &Options) -> Result<Exit, Failure> {
    let body = options.run_options(mode)?.build(mode).map_err(|misfits| misfit_failure("the payload", &misfits))?;
    match &options.output {
        Some(file) => write(file, &body)?,
        None => {
            result(&pretty(&body));
            if holds_secret(&body) {
                say("it holds secrets: with --output FILE the file is readable by its owner alone");
            }
        }
    }
    tell_runs(&body);
    Ok(Exit::Passed)
}

fn run_check(args: &CheckArgs) -> Result<Exit, Failure> {
    let (mode, file) = match &args.words[..] {
        [mode, file] => (Some(mode.parse::<Mode>().map_err(Failure::usage)?), PathBuf::from(file)),
        [file] => (None, PathBuf::from(file)),
        _ => return Err(Failure::usage("give the file, or the mode and the file")),
    };
    if args.fix && file == Path::new("-") {
        return Err(Failure::usage("--fix rewrites a file: stdin is none"));
    }
    let mut body = read_json(&file)?;
    let mode = match mode {
        Some(mode) => mode,
        None => detect(&body).map_err(|modes| {
            let modes: Vec<_> = modes.into_iter().map(Mode::name).collect();
            Failure::usage(format!("{}: its keys fit several modes: {}", file.display(), modes.join(", ")))
                .hint(format!("name the mode: trunkline payload check MODE {}", file.display()))
        })?,
    };
    if args.fix {
        let fixed = fix(mode, &body);
        if fixed != body {
            write(&file, &fixed)?;
            say(&format!("{}: rewritten for {mode}", file.display()));
            body = fixed;
        }
    }
    let misfits = check(mode, &body);
    if args.format == Format::Json {
        result(&pretty(&json!({"mode": mode.name(), "fits": misfits.is_empty(), "misfits": misfits})));
    }
    if !misfits.is_empty() {
        return Err(misfit_failure(&file.display().to_string(), &misfits));
    }
    if args.format == Format::Table {
        result(&format!("{}: fits {mode}", file.display()));
    }
    tell_runs(&body);
    Ok(Exit::Passed)
}

/// Writes a body whole or not at all; one with secrets is readable by its owner alone, and who may read a file that is there
/// already stays so.
fn write(file: &Path, body: &Value) -> Result<(), Failure> {
    let beside = file.with_extension("partial");
    let before = std::fs::metadata(file).map_or(0o644, |there| there.permissions().mode() & 0o777);
    let mode = if holds_secret(body) { 0o600 } else { before };
    let written = (|| {
        // What an earlier try has left may be readable by others.
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        writeln!(file, "{}", pretty(body))?;
        file.sync_data()
    })();
    written.and_then(|()| std::fs::rename(&beside, file)).map_err(|error| {
        // Best effort: the error that counts is the one that is reported.
        drop(std::fs::remove_file(&beside));
        Failure::usage(format!("cannot write {}: {error}", file.display()))
    })
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
