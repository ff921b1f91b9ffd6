//! What a start request is built from on the command line: the same flags for `payload MODE`, `run MODE` and
//! `scenarios run-MODE`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args as _, FromArgMatches as _};
use serde_json::{Map, Value, json};
use url::Url;
use uuid::Uuid;

use super::super::settings::{livekit_server, pipecat_key};
use super::prepare::{Preparation, Wanted};
use super::{checked, misfit_failure, read_json};
use crate::caller::suite::LARGEST_FILE;
use crate::cekura::Mode;
use crate::cekura::payload::{CHANNELS, RunOptions, Selection, room_token};
use crate::error::Failure;
use crate::transport::pipecat::start_in_daily;

/// Who joins with a token, where nobody is named.
const IDENTITY: &str = "cekura-testing-agent";
/// How long a token is valid, where nothing is said.
const VALID: Duration = Duration::from_secs(3600);

/// Where a start request's body comes from: a file, or flags.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Source {
    /// The payload; - reads stdin. It is the whole body: no flag of the payload goes with it
    #[arg(long, value_name = "FILE")]
    pub(in super::super) from_file: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Payload (instead of --from-file)")]
    pub(in super::super) options: Options,
}

impl Source {
    /// The body of `mode`'s start request, checked; `suite` is the file that `spec` mode runs.
    pub(in super::super) fn body(&self, mode: Mode, suite: Option<&Path>) -> Result<Value, Failure> {
        let Some(file) = &self.from_file else { return self.options.build(mode, suite) };
        if self.options.given() {
            let hint = "change the file, or leave --from-file out and give all of the payload by flags";
            return Err(Failure::usage("the payload comes from --from-file or from flags, not both").hint(hint));
        }
        if mode == Mode::Spec && suite.is_some() {
            return Err(Failure::usage("the suite comes with --suite or in the payload of --from-file, not both"));
        }
        let body = read_json(file)?;
        checked(mode, &body, &file.display().to_string())?;
        Ok(body)
    }

    /// What is to be prepared before `body` is sent.
    pub(in super::super) fn preparation(&self, mode: Mode, body: &Value) -> Result<Option<Preparation>, Failure> {
        self.options.preparation(mode, body)
    }
}

/// The fields of a start request. What a mode does not have is refused, not left out.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub(in super::super) struct Options {
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
    /// Identity in the tokens [default: cekura-testing-agent]
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// How long the tokens are valid, in seconds [default: 3600]
    #[arg(long, value_name = "S")]
    valid_s: Option<u64>,
    /// Makes each entry's room at the server of LIVEKIT_URL and sends --agent-name into it, before the payload is given or sent
    /// (livekit, livekit_chat). The rooms wait for their calls as long as the tokens are valid (--valid-s). Without --room each
    /// entry gets a room of its own, without --room-url it names LIVEKIT_URL; --agent-config becomes the rooms' metadata
    #[arg(long)]
    prepare: bool,
    /// What an agent that is sent into a prepared room is told, a JSON object; beside it stands scenario_id, and text_mode: true for
    /// livekit_chat
    #[arg(long, value_name = "JSON", value_parser = parse_object, requires = "prepare")]
    agent_metadata: Option<Value>,
    /// Data message that Cekura publishes in each entry's room: a JSON object
    #[arg(long, value_name = "JSON", value_parser = parse_object)]
    data_message: Option<Value>,
    /// Header of the WebSocket's upgrade request, NAME=VALUE, or NAME=@FILE for a secret; may be given more than once
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Longest conversation of an API chat, in seconds
    #[arg(long, value_name = "S")]
    chat_timeout_s: Option<u64>,
    /// Which way the scenarios of a suite reach the agent [default: voice]
    #[arg(long, value_name = "CHANNEL", value_parser = clap::builder::PossibleValuesParser::new(CHANNELS))]
    channel: Option<String>,
    /// Number that the agent is called at, in E.164
    #[arg(long, value_name = "NUMBER")]
    agent_number: Option<String>,
    /// Number that is dialled, in E.164
    #[arg(long, value_name = "NUMBER")]
    outbound_phone_number: Option<String>,
    /// Whether all calls come from one number: the body's `mode`
    #[arg(long, value_name = "MODE", value_parser = ["same_number", "different_numbers"])]
    number_mode: Option<String>,
    /// The tokens of the rooms, where a runner has given them.
    #[arg(skip)]
    room_tokens: Vec<String>,
}

/// How long a runner may take to start a bot: one in the cloud is woken first.
const START_TIME: Duration = Duration::from_secs(60);

fn parse_object(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    if value.is_object() { Ok(value) } else { Err("not a JSON object".into()) }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a header is written NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Options {
    /// Whether any of the flags is there.
    pub(in super::super) fn given(&self) -> bool {
        let none = Self::augment_args(clap::Command::new("")).no_binary_name(true).get_matches_from([""; 0]);
        Self::from_arg_matches(&none).map_or(true, |none| *self != none)
    }

    /// The body of `mode`'s start request, checked; `suite` is the file that `spec` mode runs.
    pub(super) fn build(&self, mode: Mode, suite: Option<&Path>) -> Result<Value, Failure> {
        let spec = match (mode, suite) {
            (Mode::Spec, Some(suite)) => Some(read_suite(suite)?),
            (Mode::Spec, None) => return Err(Failure::usage("there is no suite to run: give --suite FILE")),
            _ => None,
        };
        let mut options = self.run_options(mode)?;
        options.more.extend(spec.map(|spec| ("spec".to_owned(), spec)));
        options.build(mode).map_err(|misfits| misfit_failure("the payload", &misfits))
    }

    fn run_options(&self, mode: Mode) -> Result<RunOptions, Failure> {
        self.check_unused(mode)?;
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
            more: self.more(mode)?,
            entries: self.entries(mode)?,
        })
    }

    /// The same options with rooms that the runner at `start` makes at Daily, and its bots in them: one for each entry. What the bots are
    /// told is the agent's configuration.
    pub(super) async fn started_in_daily(&self, mode: Mode, start: &Url) -> Result<Self, Failure> {
        if mode != Mode::Pipecat {
            return Err(Failure::usage(format!("--start belongs to pipecat: the rooms of {mode} are no Daily rooms")));
        }
        if !self.room_url.is_empty() {
            return Err(Failure::usage("the rooms come from --start or from --room-url, not both"));
        }
        if self.scenario_ids.is_empty() {
            return Err(Failure::usage("--start makes a room for each scenario: give --scenario-ids"));
        }
        let mut options = Self { agent_config: None, ..self.clone() };
        let (body, key) = (self.agent_config.clone().unwrap_or_else(|| json!({})), pipecat_key());
        for (started, scenario) in self.scenario_ids.iter().enumerate() {
            let room = start_in_daily(start, key.clone(), &body, START_TIME).await.map_err(|error| {
                let hint = "the runner must have Daily: pipecat-ai[daily] and DAILY_API_KEY, or Pipecat Cloud with PIPECAT_API_KEY set here";
                let before = if started == 0 { String::new() } else { format!("; bots of {started} others wait in their rooms") };
                Failure::infrastructure(format!("no room for scenario {scenario}: {error}{before}")).hint(hint)
            })?;
            options.room_url.push(room.url);
            options.room_tokens.extend(room.token);
        }
        Ok(options)
    }

    /// The fields that only some modes have, under the names that this one gives them.
    fn more(&self, mode: Mode) -> Result<Map<String, Value>, Failure> {
        let mut more = Map::new();
        let mut put = |key: &str, value: Option<Value>| drop(value.map(|value| more.insert(key.to_owned(), value)));
        put("sip_endpoint", self.sip_endpoint.clone().map(Value::from));
        put("timeout", self.chat_timeout_s.map(Value::from));
        put("channel", self.channel.clone().map(Value::from));
        put("agent_number", self.agent_number.clone().map(Value::from));
        put("outbound_phone_number", self.outbound_phone_number.clone().map(Value::from));
        put("mode", self.number_mode.clone().map(Value::from));
        let provider = match mode {
            Mode::RetellWebrtc => "retell_agent_id",
            Mode::Elevenlabs => "elevenlabs_agent_id",
            _ => "vapi_assistant_id",
        };
        put(provider, self.provider_agent_id.clone().map(Value::from));
        let headers: Map<String, Value> = self
            .headers
            .iter()
            .map(|(name, value)| Ok((name.clone(), header_value(value)?.into())))
            .collect::<Result<_, Failure>>()?;
        put("websocket_headers", (!headers.is_empty()).then_some(Value::Object(headers)));
        let (data, name) = match (mode, self.channel.as_deref()) {
            (Mode::PipecatV2, _) | (Mode::Spec, Some("pipecat_v2")) => ("pipecat_data", "pipecat_agent_name"),
            _ => ("livekit_data", "agent_name"),
        };
        // Whom a prepared room's agent is, and what the room tells it, Cekura need not know.
        let known = [
            (name, self.agent_name.clone().filter(|_| !self.prepare).map(Value::from)),
            ("url", self.livekit_url.clone().map(Value::from)),
            ("config", self.agent_config.clone().filter(|_| !self.prepare)),
        ];
        let members: Map<String, Value> = known.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        put(data, (!members.is_empty()).then_some(Value::Object(members)));
        Ok(more)
    }

    /// Refuses what would be left out: a folder's project without a folder, flags of entries where there are none, flags of tokens
    /// where none are made.
    fn check_unused(&self, mode: Mode) -> Result<(), Failure> {
        let of_entries = [("--room-url", !self.room_url.is_empty()), ("--data-message", self.data_message.is_some())];
        let of_tokens =
            [("--room", !self.room.is_empty()), ("--identity", self.identity.is_some()), ("--valid-s", self.valid_s.is_some())];
        let given = |flags: &[(&'static str, bool)]| flags.iter().find(|(_, given)| *given).map(|(flag, _)| *flag);
        if self.project_id.is_some() && self.folder_path.is_none() {
            return Err(Failure::usage("--project-id belongs to --folder-path"));
        }
        if let Some(flag) = given(&of_entries).filter(|_| !mode.has_entries()) {
            return Err(Failure::usage(format!("{flag} belongs to the entries of a room mode: {mode} has none")));
        }
        if let Some(flag) = given(&of_tokens).filter(|_| !makes_tokens(mode)) {
            return Err(Failure::usage(format!("{flag} belongs to the tokens of livekit and livekit_chat: {mode} has none")));
        }
        if self.prepare && !makes_tokens(mode) {
            return Err(Failure::usage(format!(
                "--prepare belongs to livekit and livekit_chat: the rooms of {mode} are not yours"
            )));
        }
        self.check_preparation(mode)
    }

    fn check_preparation(&self, mode: Mode) -> Result<(), Failure> {
        if !self.prepare {
            return Ok(());
        }
        let entries = self.scenario_ids.len();
        let rooms: BTreeSet<_> = self.room.iter().collect();
        if !rooms.is_empty() && rooms.len() < entries {
            let hint = "give --room once for each, or leave it out";
            return Err(Failure::usage(format!("--prepare makes a room for each of the {entries} entries")).hint(hint));
        }
        if self.room_url.iter().collect::<BTreeSet<_>>().len() > 1 {
            return Err(Failure::usage("--prepare makes all rooms at one server: give one --room-url, or none"));
        }
        if self.agent_name.is_none() && (mode == Mode::LivekitChat || self.agent_metadata.is_some()) {
            let why =
                if mode == Mode::LivekitChat { "an agent of livekit_chat must be told to write" } else { "nobody else is told" };
            return Err(Failure::usage(format!("--prepare needs --agent-name: {why}")));
        }
        Ok(())
    }

    /// What is to be prepared before the `body` made of these options is given or sent.
    pub(super) fn preparation(&self, mode: Mode, body: &Value) -> Result<Option<Preparation>, Failure> {
        if !self.prepare {
            return Ok(None);
        }
        let server = livekit_server()?.ok_or_else(no_server)?;
        let wanted = Wanted {
            agent_name: self.agent_name.as_deref(),
            agent_metadata: self.agent_metadata.as_ref(),
            room_metadata: self.agent_config.as_ref(),
            waits: self.valid(),
        };
        Ok(Some(Preparation::of(server, &wanted, mode, body)))
    }

    /// How long the tokens are valid.
    fn valid(&self) -> Duration {
        self.valid_s.map_or(VALID, Duration::from_secs)
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
        let signer = makes_tokens(mode).then(signer).transpose()?;
        let identity = self.identity.as_deref().unwrap_or(IDENTITY);
        let valid = self.valid();
        let server = if self.prepare { Some(livekit_server()?.ok_or_else(no_server)?) } else { None };
        let url_key = if mode == Mode::Pipecat { "pipecat_room_url" } else { "livekit_room_url" };
        (0..count)
            .map(|at| {
                let mut entry = Map::new();
                let mut put = |key: &str, value: Option<Value>| drop(value.map(|value| entry.insert(key.to_owned(), value)));
                let url = of(&self.room_url, "--room-url", at)?.or_else(|| Some(server.as_ref()?.url().to_string()));
                put(url_key, url.map(Value::from));
                if let Some((key, secret)) = &signer {
                    let own = || self.prepare.then(|| format!("trunkline-{}", Uuid::new_v4().simple()));
                    let room =
                        of(&self.room, "--room", at)?.or_else(own).ok_or_else(|| Failure::usage("the tokens need --room"))?;
                    let token = room_token(key, secret, &room, identity, valid);
                    put("access_token", Some(token.into()));
                }
                put("pipecat_token", self.room_tokens.get(at).cloned().map(Value::from));
                put("publish_data_message", self.data_message.clone());
                Ok(entry)
            })
            .collect()
    }
}

/// Whether the entries have access tokens that are made here.
fn makes_tokens(mode: Mode) -> bool {
    matches!(mode, Mode::Livekit | Mode::LivekitChat)
}

/// A header's value, or what is in the file after an @: a secret does not belong on the command line, which `ps` shows.
fn header_value(value: &str) -> Result<String, Failure> {
    let Some(file) = value.strip_prefix('@') else { return Ok(value.to_owned()) };
    let text = std::fs::read_to_string(file).map_err(|error| Failure::usage(format!("cannot read {file}: {error}")))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
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

fn no_server() -> Failure {
    Failure::usage("--prepare needs a LiveKit server").hint("set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET")
}

/// A suite file as it is: nothing of it is left out or put in another order.
fn read_suite(file: &Path) -> Result<Value, Failure> {
    let suite = read_json(file)?;
    // stdin has no size beforehand; what is sent is no larger than what was read.
    let size =
        if file == Path::new("-") { Ok(suite.to_string().len() as u64) } else { std::fs::metadata(file).map(|file| file.len()) };
    let size = size.map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
    if size > LARGEST_FILE {
        return Err(Failure::usage(format!("{}: {size} bytes: a suite has at most {LARGEST_FILE}", file.display())));
    }
    if suite.get("spec").is_some() {
        return Err(Failure::usage(format!("{}: a payload, not a suite", file.display())).hint("give it with --from-file"));
    }
    Ok(suite)
}
