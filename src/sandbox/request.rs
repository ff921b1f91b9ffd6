//! Reads a start request, with the API's leniency (numbers may be texts, unknown keys are ignored) and its errors.

use serde_json::{Map, Value, json};

use super::SandboxScenario;
use crate::cekura::payload::parse_websocket_url;

/// The most runs of one start: a slip in `frequency` is not to fill the disk.
const MOST_RUNS: usize = 10_000;

/// A start request that can be carried out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StartRequest {
    pub(super) agent_id: Option<u64>,
    pub(super) name: Option<String>,
    pub(super) websocket_url: String,
    pub(super) concurrency_limit: Option<usize>,
    /// One entry a run, in the order in which they start.
    pub(super) runs: Vec<PlannedRun>,
}

/// One run of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedRun {
    pub(super) scenario_id: u64,
    pub(super) personality_id: Option<u64>,
    pub(super) test_profile_id: Option<u64>,
}

/// The errors of a request: field by field, or for the whole of it. Always HTTP 400.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Invalid(pub(super) Value);

/// The fields that hold lists: a form may repeat them.
const LISTS: [&str; 5] = ["scenarios", "tags", "personality_ids", "test_profile_ids", "mock_tool_names"];

/// A form's pairs as the JSON object that they stand for: a repeated or comma-separated list field is a list.
pub(super) fn object_of_form(pairs: impl Iterator<Item = (String, String)>) -> Value {
    let mut object = Map::new();
    for (key, text) in pairs {
        if !LISTS.contains(&key.as_str()) {
            object.insert(key, text.into());
            continue;
        }
        if key == "scenarios" && text == "all" {
            object.insert(key, text.into());
            continue;
        }
        let items: Vec<Value> = match serde_json::from_str(&text) {
            Ok(Value::Array(items)) => items,
            _ => text.split(',').map(|item| Value::from(item.trim())).collect(),
        };
        match object.get_mut(&key) {
            Some(Value::Array(list)) => list.extend(items),
            _ => drop(object.insert(key, Value::Array(items))),
        }
    }
    Value::Object(object)
}

impl StartRequest {
    /// Reads the body of a CHIRP start against the scenarios of the suite; `agent_url` is the agent's own address, for a
    /// request that has none.
    pub(super) fn read_chirp(body: &Value, scenarios: &[SandboxScenario], agent_url: Option<&str>) -> Result<Self, Invalid> {
        let Value::Object(body) = body else {
            return Err(Invalid(json!({"non_field_errors": ["Invalid data. Expected a dictionary."]})));
        };
        let mut fields = Fields { body, errors: Map::new() };
        let agent_id = fields.whole("agent_id");
        let project_id = fields.whole("project_id");
        let name = fields.text("name");
        if name.as_ref().is_some_and(|name| name.chars().count() > 255) {
            fields.error("name", "Ensure this field has no more than 255 characters.");
        }
        let websocket_url = fields.text("websocket_url");
        let frequency = fields.whole("frequency").unwrap_or(1);
        let concurrency_limit = fields.whole("concurrency_limit").map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let personalities = fields.merged("personality_ids", "personality_id");
        let profiles = fields.merged("test_profile_ids", "test_profile_id");
        if let Some(problem) = websocket_url.as_deref().and_then(|url| parse_websocket_url(url).err()) {
            fields.error("websocket_url", &format!("Enter a valid ws:// or wss:// URL: it {problem}."));
        }
        let selected = fields.selected(scenarios, agent_id, project_id);
        let planned = plan(&selected, frequency, &personalities, &profiles);
        if planned.is_none() {
            fields.error("scenarios", &format!("The request asks for more than {MOST_RUNS} runs."));
        }
        let websocket_url = websocket_url.or_else(|| agent_url.map(str::to_owned));
        if websocket_url.is_none() && fields.errors.is_empty() {
            fields.error(
                "websocket_url",
                "Agent does not have a websocket endpoint configured, and the request has no websocket_url.",
            );
        }
        match (fields.errors.is_empty(), websocket_url, planned) {
            (true, Some(websocket_url), Some(runs)) => Ok(Self { agent_id, name, websocket_url, concurrency_limit, runs }),
            _ => Err(Invalid(Value::Object(fields.errors))),
        }
    }
}

/// Scenarios × frequency × personalities × test profiles; none when that is too many.
fn plan(scenarios: &[u64], frequency: u64, personalities: &[u64], profiles: &[u64]) -> Option<Vec<PlannedRun>> {
    let or_one = |ids: &[u64]| if ids.is_empty() { vec![None] } else { ids.iter().copied().map(Some).collect() };
    let (personalities, profiles) = (or_one(personalities), or_one(profiles));
    let frequency = usize::try_from(frequency).ok()?;
    let total = scenarios.len().checked_mul(frequency)?.checked_mul(personalities.len())?.checked_mul(profiles.len())?;
    if total > MOST_RUNS {
        return None;
    }
    let mut runs = Vec::with_capacity(total);
    for _ in 0..frequency {
        for &scenario_id in scenarios {
            for &personality_id in &personalities {
                for &test_profile_id in &profiles {
                    runs.push(PlannedRun { scenario_id, personality_id, test_profile_id });
                }
            }
        }
    }
    Some(runs)
}

/// A body's fields and what is wrong with them.
struct Fields<'a> {
    body: &'a Map<String, Value>,
    errors: Map<String, Value>,
}

impl Fields<'_> {
    fn error(&mut self, field: &str, message: &str) {
        match self.errors.get_mut(field) {
            Some(Value::Array(messages)) => messages.push(message.into()),
            _ => drop(self.errors.insert(field.to_owned(), json!([message]))),
        }
    }

    /// A field's value; null is as good as none.
    fn value(&self, field: &str) -> Option<&Value> {
        self.body.get(field).filter(|value| !value.is_null())
    }

    fn whole(&mut self, field: &str) -> Option<u64> {
        match whole(self.value(field)?) {
            Some(number) if number >= 1 => u64::try_from(number).ok(),
            Some(_) => {
                self.error(field, "Ensure this value is greater than or equal to 1.");
                None
            }
            None => {
                self.error(field, "A valid integer is required.");
                None
            }
        }
    }

    fn text(&mut self, field: &str) -> Option<String> {
        match self.value(field)? {
            Value::String(text) if text.trim().is_empty() => {
                self.error(field, "This field may not be blank.");
                None
            }
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => {
                self.error(field, "Not a valid string.");
                None
            }
        }
    }

    fn ids(&mut self, field: &str) -> Vec<u64> {
        let items = match self.value(field) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items.clone(),
            Some(_) => {
                self.error(field, "Expected a list of items.");
                return Vec::new();
            }
        };
        let ids: Option<Vec<u64>> = items.iter().map(|item| whole(item).and_then(|id| u64::try_from(id).ok())).collect();
        ids.unwrap_or_else(|| {
            self.error(field, "A valid integer is required.");
            Vec::new()
        })
    }

    /// A list and its single form together, each id once.
    fn merged(&mut self, list: &str, single: &str) -> Vec<u64> {
        let mut ids = self.ids(list);
        ids.extend(self.whole(single));
        let mut seen = std::collections::BTreeSet::new();
        ids.retain(|id| seen.insert(*id));
        ids
    }

    /// The chosen scenarios' ids; empty only where there is an error.
    fn selected(&mut self, scenarios: &[SandboxScenario], agent_id: Option<u64>, project_id: Option<u64>) -> Vec<u64> {
        let all = || scenarios.iter().map(|scenario| scenario.id).collect::<Vec<_>>();
        if self.value("folder_path").is_some() {
            let beside = self.value("scenarios").or_else(|| self.value("tags")).is_some();
            let message = match (beside, project_id) {
                (true, _) => "folder_path cannot be combined with scenarios or tags.",
                (false, None) => "project_id is required with folder_path.",
                (false, Some(_)) => "The sandbox has no folders: choose by scenarios or tags.",
            };
            self.error("folder_path", message);
            return Vec::new();
        }
        let chosen = match self.value("scenarios").cloned() {
            None if self.value("tags").is_some() => return self.tagged(scenarios),
            None => {
                self.error("scenarios", "Choose scenarios by scenarios, tags or folder_path.");
                return Vec::new();
            }
            Some(Value::String(text)) if text == "all" => all(),
            Some(Value::Array(items)) => {
                // Only here an unknown id is an error of its own.
                let known = |item: &Value| whole(item).and_then(|id| u64::try_from(id).ok()).filter(|id| all().contains(id));
                items.iter().map(known).collect::<Option<Vec<_>>>().unwrap_or_default()
            }
            Some(other) => match whole(&other).and_then(|count| usize::try_from(count).ok()) {
                Some(count) => all().into_iter().take(count).collect(),
                None => Vec::new(),
            },
        };
        if chosen.is_empty() {
            self.error("scenarios", "Invalid scenario IDs or scenarios not found");
        } else if agent_id.is_none() && !self.value("scenarios").is_some_and(Value::is_array) {
            self.error("agent_id", "This field is required.");
        }
        chosen
    }

    fn tagged(&mut self, scenarios: &[SandboxScenario]) -> Vec<u64> {
        let tags: Vec<&str> =
            self.value("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let wanted = |scenario: &&SandboxScenario| scenario.tags.iter().any(|tag| tags.contains(&tag.as_str()));
        let ids: Vec<u64> = scenarios.iter().filter(wanted).map(|scenario| scenario.id).collect();
        if ids.is_empty() {
            self.error("tags", "No scenarios found with these tags.");
        }
        ids
    }
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}
