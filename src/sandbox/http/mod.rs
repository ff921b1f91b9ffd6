//! The HTTP side: which path does what, keys, bodies and errors.

mod actions;
mod body;
mod lists;

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::chat::{ChatDesk, NotNow};
use super::links::{Links, Purpose};
use super::listen;
use super::request::Invalid;
use super::runner::Runner;
use super::{SandboxError, aside};
use crate::cekura::{KEY_HEADER, Key};
use body::Posted;

/// The families of paths: the API serves the same under each. The second word is the version.
const FAMILIES: [(&str, &str, Family); 15] = [
    ("v1", "scenarios", Family::Scenarios),
    ("v1", "scenarios-external", Family::Scenarios),
    ("v2", "scenarios", Family::Scenarios),
    ("v1", "results", Family::Results),
    ("v1", "results-external", Family::Results),
    ("v2", "results", Family::Results),
    ("v1", "runs", Family::Runs),
    ("v1", "runs-external", Family::Runs),
    ("v2", "runs", Family::Runs),
    ("v1", "aiagents", Family::Agents),
    ("v1", "aiagents-external", Family::Agents),
    ("v2", "aiagents", Family::Agents),
    ("v1", "test-profiles", Family::TestProfiles),
    ("v1", "test-profiles-external", Family::TestProfiles),
    ("v1", "metrics", Family::Metrics),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Scenarios,
    Results,
    Runs,
    Agents,
    TestProfiles,
    Metrics,
}

/// What the handler needs.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) runner: Arc<Runner>,
    pub(super) chats: Arc<ChatDesk>,
    pub(super) links: Arc<Links>,
    pub(super) key: Option<Key>,
    pub(super) lenient: bool,
    pub(super) limits: ApiLimits,
}

/// What a sandbox takes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiLimits {
    /// The largest JSON or form body, in bytes.
    pub largest_body: usize,
    /// The largest multipart body (a suite, a recording), in bytes.
    pub largest_upload: usize,
    /// Calls at the same time, of all results together.
    pub most_calls: usize,
    /// Bytes in the folder of the recordings; above them no run is started.
    pub most_recorded: u64,
}

impl Default for ApiLimits {
    /// 2 MiB, 64 MiB, 64 calls, 10 GiB.
    fn default() -> Self {
        Self { largest_body: 2 << 20, largest_upload: 64 << 20, most_calls: 64, most_recorded: 10 << 30 }
    }
}

/// An answer that is no success.
struct Refusal(StatusCode, Option<Value>);

impl Refusal {
    fn detail(status: StatusCode, detail: impl Into<String>) -> Self {
        Self(status, Some(json!({"detail": detail.into()})))
    }

    fn not_found() -> Self {
        Self::detail(StatusCode::NOT_FOUND, "Not found.")
    }

    fn not_allowed(method: &Method) -> Self {
        Self::detail(StatusCode::METHOD_NOT_ALLOWED, format!("Method \"{method}\" not allowed."))
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
        Self(StatusCode::BAD_REQUEST, Some(errors))
    }
}

impl From<NotNow> for Refusal {
    /// The API's 409 has no body.
    fn from(_: NotNow) -> Self {
        Self(StatusCode::CONFLICT, None)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self.1 {
            Some(body) => (self.0, Json(body)).into_response(),
            None => self.0.into_response(),
        }
    }
}

type Answer = Result<(StatusCode, Value), Refusal>;

/// 200 with a body.
fn ok(body: Value) -> Answer {
    Ok((StatusCode::OK, body))
}

pub(super) fn router(api: Api) -> Router {
    Router::new().fallback(answer).with_state(Arc::new(api))
}

async fn answer(State(api): State<Arc<Api>>, request: Request) -> Response {
    let path = request.uri().path().trim_matches('/').to_owned();
    let segments: Vec<&str> = path.split('/').collect();
    if let Some(purpose) = [Purpose::Listen, Purpose::Recording].into_iter().find(|purpose| purpose.segment() == segments[0]) {
        let range = request.headers().get(header::RANGE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (query, reads) = (query_of(&request), request.method() == Method::GET);
        let found = if reads { api.linked(purpose, &segments[1..], &query, range.as_deref()).await } else { None };
        return found.unwrap_or_else(|| Refusal::not_found().into_response());
    }
    match api.answer(&path, &segments, request).await {
        Ok((status, body)) => (status, Json(body)).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// A request's query.
type Query = HashMap<String, String>;

fn query_of(request: &Request) -> Query {
    let pairs = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
    pairs.into_owned().collect()
}

impl Api {
    /// What is behind a link that needs no key.
    async fn linked(&self, purpose: Purpose, rest: &[&str], query: &Query, range: Option<&str>) -> Option<Response> {
        let token = query.get("token")?;
        match (purpose, rest) {
            (Purpose::Recording, [file]) => {
                let run = file.strip_suffix(".wav")?.parse().ok()?;
                if !self.links.admits(purpose, run, token) {
                    return None;
                }
                listen::recording(&self.runner, run, range).await
            }
            (Purpose::Listen, [run]) => listen::answer(&self.runner, &self.links, &[run, "page"], token).await,
            (Purpose::Listen, rest) => listen::answer(&self.runner, &self.links, rest, token).await,
            _ => None,
        }
    }

    async fn answer(&self, path: &str, segments: &[&str], request: Request) -> Answer {
        let query = query_of(&request);
        let (parts, body) = request.into_parts();
        let method = parts.method.clone();
        if method != Method::GET && is_foreign(&parts.headers) {
            return Err(Refusal::detail(StatusCode::FORBIDDEN, "A page of another origin may not do this."));
        }
        let posted = Posted { headers: &parts.headers, body, limits: self.limits };
        match segments {
            // The schema is public.
            ["test_framework", "v1" | "v2", "scenarios" | "scenarios-external", "json_schema"] if method == Method::GET => {
                ok(actions::suite_schema())
            }
            ["test_framework", "test-sets", "create_from_run"] => {
                self.check(&parts.headers, &method, &Method::POST)?;
                self.create_test_set(&posted.json().await?)
            }
            ["observability", "v1", "observe"] => {
                self.check(&parts.headers, &method, &Method::POST)?;
                self.observe(posted.form_or_json().await?).await
            }
            ["test_framework", version, family, rest @ ..] => {
                let known = FAMILIES.iter().find(|(v, name, _)| v == version && name == family);
                let Some((.., family)) = known else { return Err(Refusal::not_found()) };
                let wanted = if acts(*family, rest) { Method::POST } else { Method::GET };
                self.check(&parts.headers, &method, &wanted)?;
                match family {
                    Family::Scenarios => self.scenarios(path, rest, &query, posted).await,
                    Family::Results => self.of_results(path, rest, &query, posted).await,
                    Family::Runs => self.of_runs(path, rest, &query, posted).await,
                    Family::Agents | Family::TestProfiles | Family::Metrics => self.of_project(*family, path, rest, &query),
                }
            }
            _ => Err(Refusal::not_found()),
        }
    }

    async fn scenarios(&self, path: &str, rest: &[&str], query: &Query, posted: Posted<'_>) -> Answer {
        match rest {
            ["run_scenarios_json"] => {
                let dry_run = query.get("dry_run").is_some_and(|text| text.eq_ignore_ascii_case("true") || text == "1");
                self.start_spec(&posted.form_or_json().await?, dry_run).await
            }
            ["validate_scenarios_json"] => self.start_spec(&posted.form_or_json().await?, true).await,
            [name] if name.starts_with("run_scenarios") => self.start(name, posted.form_or_json().await?.fields).await,
            _ => self.of_project(Family::Scenarios, path, rest, query),
        }
    }

    async fn of_results(&self, path: &str, rest: &[&str], query: &Query, posted: Posted<'_>) -> Answer {
        match rest {
            [] => aside(|| self.results(path, query)),
            [id] => aside(|| self.result(id)),
            [id, "end_calls"] => self.end_calls(id),
            [id, "rerun"] => self.rerun(id).await,
            [id, "evaluate_metrics"] => self.rescore(id, &posted.json().await?).await,
            _ => Err(Refusal::not_found()),
        }
    }

    async fn of_runs(&self, path: &str, rest: &[&str], query: &Query, posted: Posted<'_>) -> Answer {
        match rest {
            [] => aside(|| self.runs(path, query)),
            ["bulk"] => aside(|| self.bulk(query)),
            [id] => self.run(id),
            [id, "end_call"] => self.end_call(id),
            [id, "get_listen_url"] => self.listen_url(id),
            [id, "chat"] => self.post_chat(id, &posted.json().await?),
            [id, "chat", turn] => self.chat_turn(id, turn),
            [id, "end-chat"] => self.end_chat(id, &posted.json_or_nothing().await?),
            // No run here has a trace: an empty trace id is the API's 404.
            _ => Err(Refusal::not_found()),
        }
    }

    fn check(&self, headers: &HeaderMap, method: &Method, wanted: &Method) -> Result<(), Refusal> {
        self.check_key(headers)?;
        if method == wanted { Ok(()) } else { Err(Refusal::not_allowed(method)) }
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(key) = &self.key else { return Ok(()) };
        match headers.get(KEY_HEADER).and_then(|value| value.to_str().ok()) {
            None => Err(Refusal::detail(StatusCode::UNAUTHORIZED, "Authentication credentials were not provided.")),
            Some(given) if key.admits(given) => Ok(()),
            Some(_) => Err(Refusal::detail(StatusCode::UNAUTHORIZED, "Invalid API key.")),
        }
    }
}

/// A browser sends this for a page that is not the sandbox's own.
fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = text(header::ORIGIN) else { return false };
    let own = text(header::HOST);
    origin.split_once("://").map(|(_, host)| host) != own
}

/// Whether a path does something: it wants a POST.
fn acts(family: Family, rest: &[&str]) -> bool {
    match (family, rest) {
        (Family::Scenarios, [name]) => name.starts_with("run_scenarios") || *name == "validate_scenarios_json",
        (Family::Results, [_, name]) => ["end_calls", "rerun", "evaluate_metrics"].contains(name),
        (Family::Runs, [_, name]) => ["end_call", "chat", "end-chat"].contains(name),
        _ => false,
    }
}
