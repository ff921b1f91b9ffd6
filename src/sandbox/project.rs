//! What a sandbox knows: agents, scenarios and test profiles, from one suite or from a folder.
//!
//! A folder holds `suites/*.json` (test suites; their scenarios are numbered through, in the order of the files' names),
//! and may hold `agents.json` and `test_profiles.json`:
//!
//! ```json
//! [{"id": 1, "name": "Front desk", "chirp_url": "ws://127.0.0.1:8765/", "chat_url": "ws://127.0.0.1:8766/",
//!   "chat_headers": {"X-Tenant": "a"}, "chat_secret_file": "chat.secret", "livekit_agent_name": "front-desk",
//!   "pipecat_url": "pipecat+http://127.0.0.1:7860/start", "pipecat_config": {"language": "en"}}]
//! ```
//! ```json
//! [{"id": 1, "name": "Member", "agent_variables": {"X-Tenant": "a"}, "caller_variables": {"member_id": "4711"}}]
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use url::Url;

use super::carrier::TestProfile;
use crate::audio::Rate;
use crate::caller::personality::Personalities;
use crate::caller::suite::{Scenario, Suite, SuiteError};
use crate::error::FileError;
use crate::transport::livekit::Server;
use crate::transport::{ConnectOptions, Secret, WayOut};

/// The ids of scenarios of suites that are in requests begin here: far above those of a project.
pub(super) const FIRST_SPEC_SCENARIO: u64 = 900_001;
/// The files of a project's folder.
const AGENTS: &str = "agents.json";
const TEST_PROFILES: &str = "test_profiles.json";
const SUITES: &str = "suites";

/// What a sandbox knows.
#[derive(Debug, Clone, Default)]
pub struct Project {
    /// The agents; empty: any agent id is taken, and has the default addresses.
    pub agents: Vec<Agent>,
    /// The scenarios. A scenario's number is its id.
    pub scenarios: Vec<Scenario>,
    /// The test profiles; empty: any id is taken, and changes nothing.
    pub test_profiles: Vec<Profile>,
    /// How callers behave; none: any personality id is taken, and changes nothing.
    pub personalities: Personalities,
    /// The addresses of an agent that is not one of the agents.
    pub default_agent: Agent,
    /// The LiveKit server in whose rooms LiveKit runs take place.
    pub livekit: Option<Server>,
    /// How the bots of Pipecat runs are connected: keys, the rate at which they take audio, STUN and TURN servers.
    pub pipecat: ConnectOptions,
}

/// An agent as the sandbox knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Its id.
    #[serde(default)]
    pub id: u64,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Where CHIRP runs dial it: `ws://` or `wss://`.
    #[serde(default)]
    pub chirp_url: Option<String>,
    /// Where text runs dial it: `ws://` or `wss://`.
    #[serde(default)]
    pub chat_url: Option<String>,
    /// Headers of a text run's upgrade request.
    #[serde(default)]
    pub chat_headers: BTreeMap<String, String>,
    /// The file with the text runs' secret, relative to the project's folder.
    #[serde(default)]
    pub chat_secret_file: Option<PathBuf>,
    /// The name by which LiveKit runs ask for it.
    #[serde(default)]
    pub livekit_agent_name: Option<String>,
    /// Its LiveKit server, where it is another than the sandbox's: `ws://` or `wss://`. The key and the secret are the sandbox's.
    #[serde(default)]
    pub livekit_url: Option<Url>,
    /// What goes into the metadata of the rooms that are made for it.
    #[serde(default)]
    pub livekit_config: Option<Value>,
    /// Where Pipecat runs find it: a runner that starts its sessions, or a bot itself.
    #[serde(default, deserialize_with = "pipecat_url")]
    pub pipecat_url: Option<WayOut>,
    /// What its sessions are told.
    #[serde(default)]
    pub pipecat_config: Option<Value>,
    /// The rate at which it takes audio, where it is another than the sandbox's.
    #[serde(default)]
    pub pipecat_rate: Option<Rate>,
    /// The secret itself; never in the file.
    #[serde(skip)]
    pub chat_secret: Option<Secret>,
}

/// A test profile as the sandbox knows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its id.
    pub id: u64,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// What the agent gets to know; `X-` keys become headers of a WebSocket's upgrade request.
    #[serde(default)]
    pub agent_variables: BTreeMap<String, String>,
    /// What the caller alone knows.
    #[serde(default)]
    pub caller_variables: BTreeMap<String, String>,
}

/// A project that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// A suite of it.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// A file or folder of it.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Project {
    /// The scenarios of one suite, and no more.
    #[must_use]
    pub fn of_suite(suite: &Suite) -> Self {
        Self { scenarios: suite.scenarios.clone(), ..Self::default() }
    }

    /// Reads a project's folder.
    ///
    /// # Errors
    /// A [`ProjectError`] that names the file.
    pub fn read(folder: &Path) -> Result<Self, ProjectError> {
        let mut agents: Vec<Agent> = read_list(&folder.join(AGENTS), |agent: &Agent| agent.id)?;
        for agent in &mut agents {
            agent.chat_secret = agent.chat_secret_file.as_ref().map(|file| read_secret(&folder.join(file))).transpose()?;
        }
        let test_profiles = read_list(&folder.join(TEST_PROFILES), |profile: &Profile| profile.id)?;
        let mut scenarios: Vec<Scenario> = Vec::new();
        for path in suite_files(&folder.join(SUITES))? {
            scenarios.extend(Suite::load(&path)?.scenarios);
        }
        for (number, scenario) in (1..).zip(&mut scenarios) {
            scenario.number = number;
        }
        Ok(Self { agents, scenarios, test_profiles, ..Self::default() })
    }

    /// Gives agents without addresses of their own these ones.
    pub fn set_default_addresses(
        &mut self,
        chirp: Option<&str>,
        chat: Option<&str>,
        livekit_agent: Option<&str>,
        pipecat: Option<&WayOut>,
    ) {
        for agent in self.agents.iter_mut().chain([&mut self.default_agent]) {
            agent.chirp_url = agent.chirp_url.take().or_else(|| chirp.map(str::to_owned));
            agent.chat_url = agent.chat_url.take().or_else(|| chat.map(str::to_owned));
            agent.livekit_agent_name = agent.livekit_agent_name.take().or_else(|| livekit_agent.map(str::to_owned));
            agent.pipecat_url = agent.pipecat_url.take().or_else(|| pipecat.cloned());
        }
    }

    /// The agent of this id; none where there are agents and this is not one of them.
    pub(super) fn agent(&self, id: Option<u64>) -> Option<&Agent> {
        match id {
            Some(id) if !self.agents.is_empty() => self.agents.iter().find(|agent| agent.id == id),
            // A key of one project with one agent needs no id.
            None if self.agents.len() == 1 => self.agents.first(),
            _ => Some(&self.default_agent),
        }
    }

    pub(super) fn scenario(&self, id: u64) -> Option<&Scenario> {
        self.scenarios.iter().find(|scenario| scenario.number == id)
    }

    pub(super) fn knows_personality(&self, id: u64) -> bool {
        self.personalities.all().is_empty() || self.personalities.all().iter().any(|personality| personality.id == id)
    }

    pub(super) fn knows_profile(&self, id: u64) -> bool {
        self.test_profiles.is_empty() || self.test_profiles.iter().any(|profile| profile.id == id)
    }

    /// The scenario with the variables of the profile that the start names in place of its own, and what the run shows of it.
    pub(super) fn with_profile(&self, scenario: &Scenario, id: Option<u64>) -> (Scenario, Option<TestProfile>) {
        let mut scenario = scenario.clone();
        let named = id.and_then(|id| self.test_profiles.iter().find(|profile| profile.id == id));
        if let Some(profile) = named {
            scenario.agent_variables = profile.agent_variables.clone();
            scenario.caller_variables = profile.caller_variables.clone();
        }
        let variables = scenario.caller_variables.iter().chain(&scenario.agent_variables);
        let information: BTreeMap<_, _> = variables.map(|(key, value)| (key.clone(), Value::from(value.clone()))).collect();
        let name = named.and_then(|profile| profile.name.clone());
        let shown = (id.is_some() || !information.is_empty()).then_some(TestProfile { id, name, information });
        (scenario, shown)
    }
}

/// The address of a Pipecat bot or runner.
fn pipecat_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<WayOut>, D::Error> {
    match Option::<WayOut>::deserialize(deserializer)? {
        Some(other) if !other.is_pipecat() => Err(D::Error::custom(format!("{other} is no address of a Pipecat bot"))),
        url => Ok(url),
    }
}

/// A JSON list of things with ids of their own; empty where there is no file.
fn read_list<T: serde::de::DeserializeOwned>(path: &Path, id: impl Fn(&T) -> u64) -> Result<Vec<T>, FileError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(FileError::read(path, source)),
    };
    let malformed = |problem: String| FileError::malformed(path, problem);
    let list: Vec<T> = serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
    for (at, item) in list.iter().enumerate() {
        if id(item) == 0 {
            return Err(malformed(format!("entry {}: its id must be a whole number from 1", at + 1)));
        }
        if list[..at].iter().any(|other| id(other) == id(item)) {
            return Err(malformed(format!("the id {} is used twice", id(item))));
        }
    }
    Ok(list)
}

fn read_secret(path: &Path) -> Result<Secret, FileError> {
    let text = std::fs::read_to_string(path).map_err(|source| FileError::read(path, source))?;
    Secret::new(&text).ok_or_else(|| FileError::malformed(path, "the secret is empty"))
}

fn suite_files(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let failed = |source| FileError::read(folder, source);
    let entries = std::fs::read_dir(folder).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    if files.is_empty() {
        let problem = "there is no suite in it: a .json file in the format of run_scenarios_json".to_owned();
        return Err(FileError::malformed(folder, problem));
    }
    Ok(files)
}
