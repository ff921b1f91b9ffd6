//! Reads `run_scenarios_json`: a suite in the request itself.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::super::project::Project;
use super::super::store::Store;
use super::{Aim, Invalid, MOST_RUNS, PlannedRun, StartRequest, Support, playable, support, target};
use crate::caller::suite::{Problem, Scenario, Suite};
use crate::cekura::payload::{Mode, as_read, refusals};

/// A spec that is valid.
#[derive(Debug)]
pub(in crate::sandbox) struct SpecRequest {
    /// The mode of its channel.
    pub(in crate::sandbox) mode: Mode,
    /// What a dry run answers.
    pub(in crate::sandbox) plan: Value,
    channel_body: Map<String, Value>,
    agent_id: Option<u64>,
    name: Option<String>,
    concurrency_limit: Option<usize>,
    frequency: usize,
    suite: Suite,
}

/// Reads the body of a spec: `spec`, `agent_id`, `name`, `channel` and the overrides.
pub(in crate::sandbox) fn read_spec(body: &Value, project: &Project) -> Result<SpecRequest, Invalid> {
    let Value::Object(body) = body else {
        return Err(Invalid(json!({"non_field_errors": ["Invalid data. Expected a dictionary."]})));
    };
    let mut body = as_read(Mode::Spec, body);
    // What is wrong in a suite is told by its places.
    let spec = body.remove("spec");
    let mut errors = refusals(Mode::Spec, &body);
    errors.remove("spec");
    if !errors.is_empty() {
        return Err(Invalid(errors.into()));
    }
    let number = |field: &str| body.get(field).and_then(Value::as_u64);
    let text = |field: &str| body.get(field).and_then(Value::as_str);
    let agent_id = number("agent_id");
    if project.agent(agent_id).is_none() {
        let id = agent_id.unwrap_or_default();
        return Err(Invalid::field("agent_id", format!("Invalid pk \"{id}\" - object does not exist.")));
    }
    let mode = Mode::of_channel(text("channel")).ok_or_else(|| Invalid::field("channel", "is not a valid choice."))?;
    let spec = match spec {
        // A form sends it as text.
        Some(Value::String(text)) => serde_json::from_str(&text).map_err(|error| Invalid::field("spec", error.to_string()))?,
        Some(spec) => spec,
        None => return Err(Invalid::field("spec", "Provide a spec or a file.")),
    };
    let suite = Suite::parse(&spec).map_err(|problems| refused(&spec, &problems))?;
    let frequency = number("frequency").unwrap_or(1) as usize;
    let concurrency_limit = number("concurrency_limit").map(|limit| limit as usize);
    let runs = |scenario: &Scenario| (scenario.frequency as usize).saturating_mul(frequency);
    let total = suite.scenarios.iter().map(runs).fold(0, usize::saturating_add);
    if total > MOST_RUNS {
        return Err(Invalid::field("frequency", format!("The request asks for more than {MOST_RUNS} runs.")));
    }
    let listed: Vec<Value> = suite
        .scenarios
        .iter()
        .map(|scenario| json!({"name": scenario.name, "key": scenario.key, "type": scenario.kind, "runs": runs(scenario)}))
        .collect();
    // A call here costs nothing.
    let plan = json!({
        "agent_id": agent_id, "project_id": null, "channel": mode.name(), "suite_name": suite.name,
        "scenario_count": suite.scenarios.len(), "total_runs": total, "estimated_cost": 0.0, "scenarios": listed,
    });
    let mut channel_body = Map::new();
    if mode == Mode::Chirp
        && let Some(url) = body.get("chirp_data").and_then(|data| data.get("websocket_url"))
    {
        channel_body.insert("websocket_url".to_owned(), url.clone());
    }
    for name in ["livekit_data", "pipecat_data"] {
        channel_body.extend(body.get(name).map(|data| (name.to_owned(), data.clone())));
    }
    Ok(SpecRequest {
        mode,
        plan,
        channel_body,
        agent_id,
        name: text("name").map(str::to_owned),
        concurrency_limit,
        frequency,
        suite,
    })
}

impl SpecRequest {
    /// The start that the spec asks for; its scenarios get ids of their own.
    pub(in crate::sandbox) fn start(self, project: &Project, store: &Store) -> Result<StartRequest, Invalid> {
        let Self { mode, channel_body, agent_id, name, concurrency_limit, frequency, suite, .. } = self;
        if support(mode) != Support::CarriedOut {
            return Ok(StartRequest { mode, agent_id, name, concurrency_limit, runs: Vec::new() });
        }
        let agent = project.agent(agent_id).cloned().unwrap_or_default();
        let mut once = Vec::new();
        let first_id = store.reserve_spec_scenarios(suite.scenarios.len());
        for (id, mut scenario) in (first_id..).zip(suite.scenarios) {
            scenario.number = id;
            playable(mode, &scenario)?;
            let (body, entry, variables) = (&channel_body, &Map::new(), &scenario.agent_variables);
            let target = target(&Aim { mode, project, agent: &agent, body, entry, variables })?;
            let (scenario, test_profile) = project.with_profile(&scenario, None);
            let times = scenario.frequency as usize;
            let run = PlannedRun { scenario: Arc::new(scenario), personality_id: None, test_profile, target };
            once.extend(std::iter::repeat_n(run, times));
        }
        let runs = std::iter::repeat_n(once, frequency).flatten().collect();
        Ok(StartRequest { mode, agent_id, name, concurrency_limit, runs })
    }
}

/// The API's map of a spec's errors, by their place.
fn refused(spec: &Value, problems: &[Problem]) -> Invalid {
    let scenarios = spec.get("scenarios").and_then(Value::as_array);
    let mut errors = Map::new();
    for problem in problems {
        let named = |name: &String| scenarios?.iter().position(|scenario| scenario["name"].as_str() == Some(name));
        let place = match problem.scenario.as_ref().and_then(named) {
            Some(at) if problem.condition.is_some() => format!("scenarios[{at}].conditional_actions"),
            Some(at) => format!("scenarios[{at}]"),
            None => "spec".to_owned(),
        };
        let messages = errors.entry(place).or_insert_with(|| json!([]));
        if let Value::Array(messages) = messages {
            messages.push(problem.to_string().into());
        }
    }
    Invalid(json!({"errors": errors}))
}
