//! The HTTP side: which path does what, keys, bodies and errors.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::SandboxError;
use super::answers;
use super::request::{Invalid, StartRequest, object_of_form};
use super::runner::Runner;
use super::store::{ResultFilter, RunFilter};
use crate::cekura::{KEY_HEADER, Key};

/// The largest body that is read.
const LARGEST_BODY: usize = 2 << 20;
/// Rows of a page, and the most that can be asked for.
const PAGE: usize = 20;
const LONGEST_PAGE: usize = 100;
/// The families of paths: the API serves the same under each.
const FAMILIES: [(&str, &str, Kind); 9] = [
    ("v1", "scenarios", Kind::Scenarios),
    ("v1", "scenarios-external", Kind::Scenarios),
    ("v2", "scenarios", Kind::Scenarios),
    ("v1", "results", Kind::Results),
    ("v1", "results-external", Kind::Results),
    ("v2", "results", Kind::Results),
    ("v1", "runs", Kind::Runs),
    ("v1", "runs-external", Kind::Runs),
    ("v2", "runs", Kind::Runs),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scenarios,
    Results,
    Runs,
}

/// What the handler needs.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) runner: Arc<Runner>,
    pub(super) key: Option<Key>,
    pub(super) agent_url: Option<String>,
}

/// An answer that is no success.
struct Refusal(StatusCode, Value);

impl Refusal {
    fn detail(status: StatusCode, detail: impl Into<String>) -> Self {
        Self(status, json!({"detail": detail.into()}))
    }

    fn not_found() -> Self {
        Self::detail(StatusCode::NOT_FOUND, "Not found.")
    }
}

impl From<SandboxError> for Refusal {
    fn from(error: SandboxError) -> Self {
        tracing::error!("{error}");
        Self::detail(StatusCode::INTERNAL_SERVER_ERROR, "the sandbox's database failed")
    }
}

impl From<Invalid> for Refusal {
    fn from(Invalid(errors): Invalid) -> Self {
        Self(StatusCode::BAD_REQUEST, errors)
    }
}

pub(super) fn router(api: Api) -> Router {
    Router::new().fallback(answer).with_state(Arc::new(api))
}

async fn answer(State(api): State<Arc<Api>>, request: Request) -> Response {
    match api.answer(request).await {
        Ok(body) => Json(body).into_response(),
        Err(Refusal(status, body)) => (status, Json(body)).into_response(),
    }
}

impl Api {
    async fn answer(&self, request: Request) -> Result<Value, Refusal> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().trim_matches('/').to_owned();
        let segments: Vec<&str> = path.split('/').collect();
        let ["test_framework", version, family, rest @ ..] = &segments[..] else { return Err(Refusal::not_found()) };
        let known = FAMILIES.iter().find(|(v, name, _)| v == version && name == family);
        let Some((.., kind)) = known else { return Err(Refusal::not_found()) };
        self.check_key(&parts.headers)?;
        let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        let query: HashMap<String, String> = query.into_owned().collect();
        let wanted =
            if matches!(rest, [.., "end_calls" | "end_call"]) || *kind == Kind::Scenarios { Method::POST } else { Method::GET };
        if parts.method != wanted {
            let detail = format!("Method \"{}\" not allowed.", parts.method);
            return Err(Refusal::detail(StatusCode::METHOD_NOT_ALLOWED, detail));
        }
        match (kind, rest) {
            (Kind::Scenarios, ["run_scenarios_chirp"]) => self.start(read_body(&parts.headers, body).await?),
            (Kind::Scenarios, [name]) if name.starts_with("run_scenarios") => Err(Refusal::detail(
                StatusCode::BAD_REQUEST,
                format!("The sandbox does not carry out {name} yet, only run_scenarios_chirp."),
            )),
            (Kind::Results, []) => self.results(&path, &query),
            (Kind::Results, [id]) => self.result(id),
            (Kind::Results, [id, "end_calls"]) => self.end_calls(id),
            (Kind::Runs, []) => self.runs(&path, &query),
            (Kind::Runs, ["bulk"]) => self.bulk(&query),
            (Kind::Runs, [id]) => {
                let run = self.runner.store.run(id_of(id)?)?.ok_or_else(Refusal::not_found)?;
                Ok(answers::run(&run))
            }
            (Kind::Runs, [id, "end_call"]) => {
                let run = self.runner.store.run(id_of(id)?)?.ok_or_else(Refusal::not_found)?;
                self.runner.cancel([run.id]);
                Ok(json!({}))
            }
            _ => Err(Refusal::not_found()),
        }
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(key) = &self.key else { return Ok(()) };
        match headers.get(KEY_HEADER).and_then(|value| value.to_str().ok()) {
            None => Err(Refusal::detail(StatusCode::UNAUTHORIZED, "Authentication credentials were not provided.")),
            Some(given) if key.admits(given) => Ok(()),
            Some(_) => Err(Refusal::detail(StatusCode::UNAUTHORIZED, "Invalid API key.")),
        }
    }

    fn start(&self, body: Value) -> Result<Value, Refusal> {
        let request = StartRequest::read_chirp(&body, &self.runner.scenarios, self.agent_url.as_deref())?;
        let result = self.runner.store.add(&request, &self.runner.scenarios)?;
        let answer = answers::started(&result);
        self.runner.begin(&result);
        Ok(answer)
    }

    fn results(&self, path: &str, query: &HashMap<String, String>) -> Result<Value, Refusal> {
        let filter = ResultFilter { agent_id: number(query, "agent_id")?, search: query.get("search").cloned() };
        let (page, size) = page_of(query)?;
        let slice = self.runner.store.results(&filter, (page - 1) * size, size)?;
        let rows = slice.rows.iter().map(answers::row).collect();
        Ok(answers::page(slice.count, page, size, link(path, query), rows))
    }

    fn result(&self, id: &str) -> Result<Value, Refusal> {
        let result = self.runner.store.result(id_of(id)?)?.ok_or_else(Refusal::not_found)?;
        Ok(answers::detail(&result))
    }

    fn end_calls(&self, id: &str) -> Result<Value, Refusal> {
        let result = self.runner.store.result(id_of(id)?)?.ok_or_else(Refusal::not_found)?;
        self.runner.cancel(result.runs.iter().map(|run| run.id));
        Ok(json!({}))
    }

    fn runs(&self, path: &str, query: &HashMap<String, String>) -> Result<Value, Refusal> {
        let texts = |keys: [&str; 2]| -> Vec<String> {
            let found = keys.into_iter().filter_map(|key| query.get(key));
            found.flat_map(|text| text.split(',')).map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()
        };
        let filter = RunFilter {
            result_id: number(query, "result_id")?,
            agent_id: number(query, "agent_id")?,
            statuses: texts(["status", "status__in"]),
            scenario_ids: texts(["scenario__id", "scenario__id__in"]).iter().filter_map(|id| id.parse().ok()).collect(),
            ids: Vec::new(),
            success: query.get("success").and_then(|text| text.to_ascii_lowercase().parse().ok()),
        };
        if filter.result_id.is_none() && filter.agent_id.is_none() && !query.contains_key("project_id") {
            let detail = "One of result_id, agent_id or project_id is required.";
            return Err(Refusal::detail(StatusCode::BAD_REQUEST, detail));
        }
        let (page, size) = page_of(query)?;
        let slice = self.runner.store.runs(&filter, (page - 1) * size, size)?;
        let rows = slice.rows.iter().map(answers::run).collect();
        Ok(answers::page(slice.count, page, size, link(path, query), rows))
    }

    fn bulk(&self, query: &HashMap<String, String>) -> Result<Value, Refusal> {
        let ids: Option<Vec<u64>> =
            query.get("run_ids").and_then(|text| text.split(',').map(|id| id.trim().parse().ok()).collect());
        let Some(ids) = ids else {
            return Err(Refusal(StatusCode::BAD_REQUEST, json!(["run_ids must be comma-separated integers"])));
        };
        let filter = RunFilter { ids, ..RunFilter::default() };
        let slice = self.runner.store.runs(&filter, 0, usize::MAX >> 1)?;
        Ok(slice.rows.iter().map(answers::run).collect())
    }
}

/// A JSON body or a form.
async fn read_body(headers: &HeaderMap, body: Body) -> Result<Value, Refusal> {
    let bytes = to_bytes(body, LARGEST_BODY)
        .await
        .map_err(|_| Refusal::detail(StatusCode::PAYLOAD_TOO_LARGE, format!("A request has at most {LARGEST_BODY} bytes.")))?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("application/json");
    match kind.split(';').next().unwrap_or_default().trim() {
        "application/json" => serde_json::from_slice(&bytes)
            .map_err(|error| Refusal::detail(StatusCode::BAD_REQUEST, format!("JSON parse error - {error}"))),
        "application/x-www-form-urlencoded" => Ok(object_of_form(url::form_urlencoded::parse(&bytes).into_owned())),
        other => {
            let detail = format!("Unsupported media type \"{other}\" in request.");
            Err(Refusal::detail(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
        }
    }
}

fn id_of(text: &str) -> Result<u64, Refusal> {
    text.parse().ok().filter(|id| i64::try_from(*id).is_ok()).ok_or_else(Refusal::not_found)
}

fn number(query: &HashMap<String, String>, key: &str) -> Result<Option<u64>, Refusal> {
    let Some(text) = query.get(key) else { return Ok(None) };
    let number = text.parse::<i64>().ok().and_then(|number| u64::try_from(number).ok());
    number.map(Some).ok_or_else(|| Refusal(StatusCode::BAD_REQUEST, json!({key: ["Enter a number."]})))
}

fn page_of(query: &HashMap<String, String>) -> Result<(usize, usize), Refusal> {
    let page = number(query, "page")?.unwrap_or(1);
    let size = number(query, "page_size")?.unwrap_or(PAGE as u64).clamp(1, LONGEST_PAGE as u64);
    if page == 0 || page > 1_000_000 {
        return Err(Refusal::detail(StatusCode::NOT_FOUND, "Invalid page."));
    }
    Ok((page as usize, size as usize))
}

fn link<'a>(path: &'a str, query: &'a HashMap<String, String>) -> impl Fn(usize) -> String + 'a {
    move |page| {
        let mut pairs: Vec<_> = query.iter().filter(|(key, _)| *key != "page").collect();
        pairs.sort();
        let mut text = url::form_urlencoded::Serializer::new(String::new());
        text.extend_pairs(pairs).append_pair("page", &page.to_string());
        format!("/{path}/?{}", text.finish())
    }
}
