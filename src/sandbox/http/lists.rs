//! What is asked for: results, runs, and what the project holds.

use std::collections::HashMap;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::answers;
use super::super::metrics::DEFINITIONS;
use super::super::store::{ResultFilter, RunFilter, StoredRun};
use super::{Answer, Api, Family, Query, Refusal, ok};

/// Rows of a page, and the most that can be asked for.
const PAGE: usize = 20;
const LONGEST_PAGE: usize = 100;

impl Api {
    pub(super) fn results(&self, path: &str, query: &Query) -> Answer {
        let filter = ResultFilter {
            agent_id: number(query, "agent_id")?,
            search: query.get("search").cloned(),
            scenario_ids: numbers(query, &["scenarios"])?,
        };
        let (page, size) = page_of(query)?;
        let slice = self.runner.store.results(&filter, (page - 1) * size, size)?;
        let rows = slice.rows.iter().map(answers::row).collect();
        ok(answers::page(slice.count, page, size, self.link(path, query), rows))
    }

    pub(super) fn result(&self, id: &str) -> Answer {
        let result = self.runner.store.result(id_of(id)?)?.ok_or_else(Refusal::not_found)?;
        ok(answers::detail(&result, &self.links))
    }

    pub(super) fn runs(&self, path: &str, query: &Query) -> Answer {
        let success = match query.get("success").map(|text| text.to_ascii_lowercase()) {
            None => None,
            Some(text) if text == "true" || text == "1" => Some(true),
            Some(text) if text == "false" || text == "0" => Some(false),
            Some(_) => return Err(Refusal(StatusCode::BAD_REQUEST, Some(json!({"success": ["Must be a valid boolean."]})))),
        };
        let filter = RunFilter {
            result_id: number(query, "result_id")?,
            agent_id: number(query, "agent_id")?,
            statuses: texts(query, &["status", "status__in"]),
            scenario_ids: numbers(query, &["scenario__id", "scenario__id__in"])?,
            ids: Vec::new(),
            success,
            call_ids: texts(query, &["call_id", "provider_call_id"]),
            created_from: query.get("created_at_from").cloned(),
            created_to: query.get("created_at_to").cloned(),
            search: query.get("search").cloned(),
        };
        if filter.result_id.is_none() && filter.agent_id.is_none() && !query.contains_key("project_id") {
            let detail = "One of result_id, agent_id or project_id is required.";
            return Err(Refusal::detail(StatusCode::BAD_REQUEST, detail));
        }
        let (page, size) = page_of(query)?;
        let slice = self.runner.store.runs(&filter, (page - 1) * size, size)?;
        let rows = slice.rows.iter().map(|run| answers::run(run, &self.links)).collect();
        ok(answers::page(slice.count, page, size, self.link(path, query), rows))
    }

    pub(super) fn run(&self, id: &str) -> Answer {
        ok(answers::run(&self.known_run(id)?, &self.links))
    }

    pub(super) fn known_run(&self, id: &str) -> Result<StoredRun, Refusal> {
        self.runner.store.run(id_of(id)?)?.ok_or_else(Refusal::not_found)
    }

    /// The package sends `ids` where the API wants `run_ids`.
    pub(super) fn bulk(&self, query: &Query) -> Answer {
        let text = query.get("run_ids").or_else(|| query.get("ids").filter(|_| self.lenient));
        let ids: Option<Vec<u64>> = text.and_then(|text| text.split(',').map(|id| id.trim().parse().ok()).collect());
        let Some(ids) = ids else {
            return Err(Refusal(StatusCode::BAD_REQUEST, Some(json!(["run_ids must be comma-separated integers"]))));
        };
        let filter = RunFilter { ids, ..RunFilter::default() };
        let slice = self.runner.store.runs(&filter, 0, usize::MAX >> 1)?;
        ok(slice.rows.iter().map(|run| answers::run(run, &self.links)).collect())
    }

    /// What the project holds, to be read and not to be changed.
    pub(super) fn of_project(&self, family: Family, path: &str, rest: &[&str], query: &Query) -> Answer {
        let rows = self.project_rows(family);
        match rest {
            [] => {
                let (page, size) = page_of(query)?;
                let shown = rows.iter().skip((page - 1) * size).take(size).cloned().collect();
                ok(answers::page(rows.len(), page, size, self.link(path, query), shown))
            }
            [id] => {
                let id = id_of(id)?;
                rows.into_iter().find(|row| row["id"] == id).map_or_else(|| Err(Refusal::not_found()), ok)
            }
            _ => Err(Refusal::not_found()),
        }
    }

    fn project_rows(&self, family: Family) -> Vec<Value> {
        let project = &self.runner.project;
        match family {
            Family::Agents => {
                let row = |agent: &super::super::project::Agent| json!({"id": agent.id, "name": agent.name, "agent_name": agent.name});
                project.agents.iter().map(row).collect()
            }
            Family::TestProfiles => {
                let row = |profile: &super::super::project::Profile| {
                    json!({
                        "id": profile.id, "name": profile.name,
                        "main_agent_variables": profile.agent_variables, "testing_agent_variables": profile.caller_variables,
                    })
                };
                project.test_profiles.iter().map(row).collect()
            }
            Family::Metrics => DEFINITIONS
                .iter()
                .map(|metric| json!({"id": metric.id, "name": metric.name, "function_name": metric.function_name, "type": "numeric"}))
                .collect(),
            _ => {
                let row = |scenario: &crate::caller::suite::Scenario| {
                    json!({
                        "id": scenario.number, "name": scenario.name, "scenario_type": scenario.kind, "tags": scenario.tags,
                        "expected_outcome_prompt": scenario.expected_outcome, "scenario_language": scenario.language,
                    })
                };
                project.scenarios.iter().map(row).collect()
            }
        }
    }

    fn link<'a>(&'a self, path: &'a str, query: &'a HashMap<String, String>) -> impl Fn(usize) -> String + 'a {
        move |page| {
            let mut pairs: Vec<_> = query.iter().filter(|(key, _)| *key != "page").collect();
            pairs.sort();
            let mut text = url::form_urlencoded::Serializer::new(String::new());
            text.extend_pairs(pairs).append_pair("page", &page.to_string());
            format!("{}/{path}/?{}", self.links.base(), text.finish())
        }
    }
}

pub(super) fn id_of(text: &str) -> Result<u64, Refusal> {
    text.parse().ok().filter(|id| i64::try_from(*id).is_ok()).ok_or_else(Refusal::not_found)
}

fn number(query: &Query, key: &str) -> Result<Option<u64>, Refusal> {
    let Some(text) = query.get(key) else { return Ok(None) };
    let number = text.parse::<i64>().ok().and_then(|number| u64::try_from(number).ok());
    number.map(Some).ok_or_else(|| Refusal(StatusCode::BAD_REQUEST, Some(json!({key: ["Enter a number."]}))))
}

/// The comma-separated texts of these keys.
fn texts(query: &Query, keys: &[&str]) -> Vec<String> {
    let found = keys.iter().filter_map(|key| query.get(*key));
    found.flat_map(|text| text.split(',')).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

/// The comma-separated numbers of these keys.
fn numbers(query: &Query, keys: &[&str]) -> Result<Vec<u64>, Refusal> {
    let parsed = texts(query, keys).iter().map(|text| text.parse().ok()).collect::<Option<Vec<u64>>>();
    parsed.ok_or_else(|| Refusal(StatusCode::BAD_REQUEST, Some(json!({keys[0]: ["Enter a number."]}))))
}

fn page_of(query: &Query) -> Result<(usize, usize), Refusal> {
    let page = number(query, "page")?.unwrap_or(1);
    let size = number(query, "page_size")?.unwrap_or(PAGE as u64).clamp(1, LONGEST_PAGE as u64);
    if page == 0 || page > 1_000_000 {
        return Err(Refusal::detail(StatusCode::NOT_FOUND, "Invalid page."));
    }
    Ok((page as usize, size as usize))
}
