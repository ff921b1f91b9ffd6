//! Which scenarios a start chooses: by id, count, tag, or entry by entry.

use serde_json::{Map, Value};

use super::super::project::Project;
use super::Invalid;
use crate::caller::suite::Scenario;

/// A chosen scenario, and its entry where the mode has entries; else an empty one.
pub(super) struct Chosen<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) entry: Map<String, Value>,
}

/// The chosen scenarios; never none.
pub(super) fn choose<'a>(
    body: &Map<String, Value>,
    project: &'a Project,
    agent_id: Option<u64>,
) -> Result<Vec<Chosen<'a>>, Invalid> {
    if body.contains_key("folder_path") {
        let beside = body.contains_key("scenarios") || body.contains_key("tags");
        return Err(Invalid::field(
            "folder_path",
            match (beside, body.contains_key("project_id")) {
                (true, _) => "folder_path cannot be combined with scenarios or tags.",
                (false, false) => "project_id is required with folder_path.",
                (false, true) => "The sandbox has no folders: choose by scenarios or tags.",
            },
        ));
    }
    let plain = |scenario: &'a Scenario| Chosen { scenario, entry: Map::new() };
    let chosen: Vec<Chosen<'a>> = match body.get("scenarios") {
        None if body.contains_key("tags") => return tagged(body, project),
        None => return Err(Invalid::field("scenarios", "Choose scenarios by scenarios, tags or folder_path.")),
        // An unknown id is an error of the whole list.
        Some(Value::Array(items)) => items.iter().map(|item| entry(item, project)).collect::<Option<_>>().unwrap_or_default(),
        Some(Value::Number(count)) => {
            let count = count.as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
            project.scenarios.iter().take(count).map(plain).collect()
        }
        Some(_) => project.scenarios.iter().map(plain).collect(),
    };
    if chosen.is_empty() {
        return Err(Invalid::field("scenarios", "Invalid scenario IDs or scenarios not found"));
    }
    if agent_id.is_none() && !body.get("scenarios").is_some_and(Value::is_array) {
        return Err(Invalid::field("agent_id", "This field is required."));
    }
    Ok(chosen)
}

/// An id, or an entry with one.
fn entry<'a>(item: &Value, project: &'a Project) -> Option<Chosen<'a>> {
    let id = item.as_u64().or_else(|| item.get("scenario")?.as_u64())?;
    let entry = item.as_object().cloned().unwrap_or_default();
    Some(Chosen { scenario: project.scenario(id)?, entry })
}

fn tagged<'a>(body: &Map<String, Value>, project: &'a Project) -> Result<Vec<Chosen<'a>>, Invalid> {
    let tags: Vec<&str> = body.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let wanted = |scenario: &&Scenario| scenario.tags.iter().any(|tag| tags.contains(&tag.as_str()));
    let chosen: Vec<Chosen<'a>> =
        project.scenarios.iter().filter(wanted).map(|scenario| Chosen { scenario, entry: Map::new() }).collect();
    if chosen.is_empty() { Err(Invalid::field("tags", "No scenarios found with these tags.")) } else { Ok(chosen) }
}
