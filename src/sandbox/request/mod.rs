//! Reads a start request, with the API's leniency (numbers may be texts, unknown keys are ignored) and its errors.

mod form;
mod pipecat;
mod room;
mod selection;
mod spec;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

pub(super) use form::object_of_form;
pub(super) use spec::read_spec;

use super::carrier::{Target, TestProfile};
use super::project::{Agent, Project};
use crate::caller::suite::Scenario;
use crate::cekura::payload::{Mode, as_read, fix, parse_websocket_url, refusals};
use crate::transport::{chat, chirp, livekit, pipecat as bots};
use pipecat::pipecat_target;
use room::room_target;
use selection::{Chosen, choose};

/// The most runs of one start: a slip in `frequency` is not to fill the disk.
pub(super) const MOST_RUNS: usize = 10_000;
/// The longest API chat where the request says nothing: the API's default is the project's.
const CHAT_TIME: Duration = Duration::from_secs(300);

/// A start request that can be carried out.
#[derive(Debug, Clone)]
pub(super) struct StartRequest {
    pub(super) mode: Mode,
    pub(super) agent_id: Option<u64>,
    pub(super) name: Option<String>,
    pub(super) concurrency_limit: Option<usize>,
    /// One entry a run, in the order in which they start.
    pub(super) runs: Vec<PlannedRun>,
}

/// One run of a start.
#[derive(Debug, Clone)]
pub(super) struct PlannedRun {
    pub(super) scenario: Arc<Scenario>,
    pub(super) personality_id: Option<u64>,
    pub(super) test_profile: Option<TestProfile>,
    pub(super) target: Target,
}

/// The errors of a request: field by field, or for the whole of it. Always HTTP 400.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Invalid(pub(super) Value);

impl Invalid {
    /// One field's error.
    pub(super) fn field(name: &str, message: impl Into<String>) -> Self {
        Self(Value::Object(Map::from_iter([(name.to_owned(), json!([message.into()]))])))
    }
}

/// How a mode stands to this sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// It is carried out.
    CarriedOut,
    /// It could be on one machine, and is not yet: HTTP 501.
    NotYet(&'static str),
    /// It cannot be on one machine: HTTP 400.
    Never(&'static str),
}

/// How `mode` stands to this sandbox.
pub(super) const fn support(mode: Mode) -> Support {
    match mode {
        // A suite's channel decides.
        Mode::Chirp | Mode::Text | Mode::Websocket | Mode::ApiChat | Mode::Spec => Support::CarriedOut,
        Mode::Livekit | Mode::LivekitV2 | Mode::LivekitChat => Support::CarriedOut,
        Mode::Pipecat | Mode::PipecatV2 => Support::CarriedOut,
        Mode::Sip => Support::NotYet("SIP"),
        Mode::Voice => Support::Never("a telephone carrier"),
        Mode::VapiWebrtc => Support::Never("Vapi's cloud"),
        Mode::RetellWebrtc => Support::Never("Retell's cloud"),
        Mode::Elevenlabs => Support::Never("ElevenLabs' cloud"),
    }
}

/// Reads the body of a start. `lenient`: a shape that the API would refuse, but whose meaning is clear, is taken.
pub(super) fn read_start(mode: Mode, body: &Value, project: &Project, lenient: bool) -> Result<StartRequest, Invalid> {
    let fixed = if lenient { fix(mode, body) } else { body.clone() };
    let Value::Object(body) = &fixed else {
        return Err(Invalid(json!({"non_field_errors": ["Invalid data. Expected a dictionary."]})));
    };
    let mut body = as_read(mode, body);
    if lenient && mode == Mode::Websocket {
        body.entry("frequency").or_insert(1.into());
    }
    let errors = refusals(mode, &body);
    if !errors.is_empty() {
        return Err(Invalid(errors.into()));
    }
    if support(mode) != Support::CarriedOut {
        return Ok(StartRequest { mode, agent_id: None, name: None, concurrency_limit: None, runs: Vec::new() });
    }
    Reader { mode, body: &body, project }.start()
}

/// A body whose fields are of the right kinds.
struct Reader<'a> {
    mode: Mode,
    body: &'a Map<String, Value>,
    project: &'a Project,
}

impl Reader<'_> {
    fn start(&self) -> Result<StartRequest, Invalid> {
        let agent_field = if self.mode.has_entries() { "agent" } else { "agent_id" };
        let agent_id = self.whole(agent_field);
        let agent = self.project.agent(agent_id).ok_or_else(|| {
            let id = agent_id.unwrap_or_default();
            Invalid::field(agent_field, format!("Invalid pk \"{id}\" - object does not exist."))
        })?;
        let chosen = choose(self.body, self.project, agent_id)?;
        let frequency = self.whole("frequency").unwrap_or(1);
        let personalities = self.merged("personality_ids", "personality_id");
        let profiles = self.merged("test_profile_ids", "test_profile_id");
        if let Some(unknown) = personalities.iter().find(|id| !self.project.knows_personality(**id)) {
            // The API's answer is a bare list here.
            return Err(Invalid(json!([format!("Invalid personalities provided: {unknown}.")])));
        }
        if let Some(unknown) = profiles.iter().find(|id| !self.project.knows_profile(**id)) {
            return Err(Invalid::field("test_profile_ids", format!("Invalid pk \"{unknown}\" - object does not exist.")));
        }
        let runs = self.plan(agent, &chosen, frequency, &personalities, &profiles)?;
        let concurrency_limit = self.whole("concurrency_limit").map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(StartRequest { mode: self.mode, agent_id, name: self.text("name"), concurrency_limit, runs })
    }

    /// Scenarios × frequency × personalities × test profiles.
    fn plan(
        &self,
        agent: &Agent,
        chosen: &[Chosen],
        frequency: u64,
        personalities: &[u64],
        profiles: &[u64],
    ) -> Result<Vec<PlannedRun>, Invalid> {
        let or_one = |ids: &[u64]| if ids.is_empty() { vec![None] } else { ids.iter().copied().map(Some).collect() };
        let (personalities, profiles) = (or_one(personalities), or_one(profiles));
        let frequency = usize::try_from(frequency).unwrap_or(usize::MAX);
        let total =
            [frequency, personalities.len(), profiles.len()].iter().try_fold(chosen.len(), |total, n| total.checked_mul(*n));
        if total.is_none_or(|total| total > MOST_RUNS) {
            return Err(Invalid::field("scenarios", format!("The request asks for more than {MOST_RUNS} runs.")));
        }
        let mut once = Vec::new();
        for Chosen { scenario, entry } in chosen {
            for &personality_id in &personalities {
                for &profile in &profiles {
                    let (scenario, test_profile) = self.project.with_profile(scenario, profile);
                    playable(self.mode, &scenario)?;
                    let target = self.target(agent, entry, &scenario.agent_variables)?;
                    once.push(PlannedRun { scenario: Arc::new(scenario), personality_id, test_profile, target });
                }
            }
        }
        Ok(std::iter::repeat_n(once, frequency).flatten().collect())
    }

    fn target(&self, agent: &Agent, entry: &Map<String, Value>, variables: &BTreeMap<String, String>) -> Result<Target, Invalid> {
        target(&Aim { mode: self.mode, project: self.project, agent, body: self.body, entry, variables })
    }

    fn whole(&self, field: &str) -> Option<u64> {
        self.body.get(field).and_then(Value::as_u64)
    }

    fn text(&self, field: &str) -> Option<String> {
        self.body.get(field).and_then(Value::as_str).map(str::to_owned)
    }

    /// A list and its single form together, each id once.
    fn merged(&self, list: &str, single: &str) -> Vec<u64> {
        let listed = self.body.get(list).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_u64);
        let mut seen = std::collections::BTreeSet::new();
        listed.chain(self.whole(single)).filter(|id| seen.insert(*id)).collect()
    }
}

/// What says how a run reaches its agent.
struct Aim<'a> {
    mode: Mode,
    project: &'a Project,
    agent: &'a Agent,
    body: &'a Map<String, Value>,
    /// The scenario's entry of the request; a suite has none.
    entry: &'a Map<String, Value>,
    /// What the test profile tells the agent.
    variables: &'a BTreeMap<String, String>,
}

impl Aim<'_> {
    /// What is said to the agent once it is reached.
    fn publish(&self) -> Option<Value> {
        self.entry.get("publish_data_message").filter(|message| !message.is_null()).cloned()
    }
}

/// How a run reaches the agent: at the address of the scenario's entry or of the request, else at its own.
fn target(aim: &Aim<'_>) -> Result<Target, Invalid> {
    let &Aim { mode, agent, body, entry, variables, .. } = aim;
    if matches!(mode, Mode::Livekit | Mode::LivekitV2 | Mode::LivekitChat) {
        return room_target(aim);
    }
    if matches!(mode, Mode::Pipecat | Mode::PipecatV2) {
        return pipecat_target(aim);
    }
    let url = entry.get("websocket_url").or_else(|| body.get("websocket_url")).and_then(Value::as_str).map(str::to_owned);
    let own = if mode == Mode::Chirp { &agent.chirp_url } else { &agent.chat_url };
    let address = url.or_else(|| own.clone()).ok_or_else(|| match mode {
        Mode::Chirp => Invalid::field(
            "websocket_url",
            "Agent does not have a websocket endpoint configured, and the request has no websocket_url.",
        ),
        // The API's answer is a bare list here.
        _ => Invalid(json!(["Agent does not have a websocket URL"])),
    });
    // A test profile's X- variables are headers of the upgrade request.
    let own_headers = variables.iter().filter(|(name, _)| is_custom_header(name));
    match mode {
        Mode::ApiChat => {
            let timeout = body.get("timeout").and_then(Value::as_u64).map_or(CHAT_TIME, Duration::from_secs);
            Ok(Target::ApiChat { timeout })
        }
        Mode::Chirp => {
            let headers = own_headers.map(|(name, value)| (name.clone(), value.clone())).collect();
            Ok(Target::Chirp { url: checked(address?)?, headers })
        }
        _ => {
            let mut headers: BTreeMap<String, String> = agent.chat_headers.clone();
            let sent = body.get("websocket_headers").and_then(Value::as_object);
            headers.extend(sent.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))));
            headers.extend(own_headers.map(|(name, value)| (name.clone(), value.clone())));
            // Cekura's own headers cannot be overridden.
            headers.retain(|name, _| !name.to_ascii_lowercase().starts_with("x-vocera-"));
            let secret = agent.chat_secret.clone();
            let url = checked(address?)?;
            Ok(Target::Chat { url, headers: headers.into_iter().collect(), secret })
        }
    }
}

/// A scenario that the scripted caller cannot play in this mode is refused: the API would play it with a language model.
fn playable(mode: Mode, scenario: &Scenario) -> Result<(), Invalid> {
    let (wire, can) = match mode {
        Mode::Chirp => (chirp::CAPABILITY.wire, chirp::CAPABILITY.abilities),
        Mode::Livekit | Mode::LivekitV2 => (livekit::CAPABILITY.wire, livekit::CAPABILITY.abilities),
        Mode::LivekitChat => (livekit::chat::CAPABILITY.wire, livekit::chat::CAPABILITY.abilities),
        Mode::Pipecat | Mode::PipecatV2 => (bots::web_socket::CAPABILITY.wire, bots::web_socket::CAPABILITY.abilities),
        _ => ("a chat", chat::ABILITIES),
    };
    let problems = match scenario.script() {
        Ok(script) => script.misfits(&scenario.name, wire, can),
        Err(problems) => problems,
    };
    if problems.is_empty() {
        return Ok(());
    }
    let messages: Vec<String> = problems.iter().map(|problem| format!("The sandbox cannot play it: {problem}")).collect();
    Err(Invalid(json!({"scenarios": messages})))
}

fn is_custom_header(name: &str) -> bool {
    name.len() > 2 && name.is_ascii() && name.to_ascii_lowercase().starts_with("x-")
}

fn checked(url: String) -> Result<String, Invalid> {
    match parse_websocket_url(&url) {
        Ok(()) => Ok(url),
        Err(problem) => Err(Invalid::field("websocket_url", format!("Enter a valid ws:// or wss:// URL: it {problem}."))),
    }
}
