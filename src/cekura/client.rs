//! The API over HTTPS.

use std::fmt;
use std::time::Duration;

use reqwest::header::{HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Url};
use serde_json::Value;

use super::payload::{Mode, hide, secrets};
use super::state::{BadAnswer, ResultState, RunState};
use super::{ApiError, Key, envelope};
use crate::http;

/// The API's address where nothing else is said (US; the API reference's `servers`).
pub const DEFAULT_URL: &str = "https://api.cekura.ai";
/// The environment's name for another address.
pub const ENV_URL: &str = "CEKURA_API_URL";
/// The environment's name for the key.
pub const ENV_KEY: &str = "CEKURA_API_KEY";

/// How long a start may take: Cekura's own CI action waits as long.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How long any other call may take: the Python package's default.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read; a result with transcripts has some hundred kilobytes.
const LARGEST_ANSWER: usize = 64 << 20;
/// The most of an error's body that is read.
const LARGEST_ERROR: usize = 64 << 10;
const PAGE_SIZE: usize = 100;
/// The most pages of a list that are read: 100,000 rows.
const MOST_PAGES: usize = 1000;
/// The longest `Retry-After` that is honoured; a longer one is cut to it.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// How calls other than a start are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, at least 1.
    pub tries: u32,
    /// The wait after the first failed try; it doubles with each further one.
    pub first_wait: Duration,
    /// The longest wait, unless the API asks for a longer one.
    pub longest_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { tries: 7, first_wait: Duration::from_millis(500), longest_wait: Duration::from_secs(15) }
    }
}

impl RetryPolicy {
    /// The wait after failure number `failures` (from 1).
    pub(super) fn wait(&self, failures: u32, error: &ApiError) -> Duration {
        let grown = self.first_wait.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        grown.min(self.longest_wait).max(error.retry_after().unwrap_or_default())
    }
}

/// A client of Cekura's API, or of its [sandbox](crate::sandbox).
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<Key>,
    retry: RetryPolicy,
    start_timeout: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).field("key", &self.key).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the API at `base`, for example [`DEFAULT_URL`].
    ///
    /// # Errors
    /// [`ApiError::Address`] when `base` is no `http` or `https` address; [`ApiError::Setup`] when TLS cannot be set up.
    pub fn new(base: &str, key: Key) -> Result<Self, ApiError> {
        Self::with_key(base, Some(key))
    }

    fn with_key(base: &str, key: Option<Key>) -> Result<Self, ApiError> {
        let base = parse_base(base)?;
        let http = http::client(&base).map_err(|e| ApiError::Setup(http::detail(&e)))?;
        Ok(Self { http, base, key, retry: RetryPolicy::default(), start_timeout: START_TIMEOUT })
    }

    /// A client after the environment: [`ENV_URL`] (or [`DEFAULT_URL`]) and [`ENV_KEY`].
    ///
    /// # Errors
    /// [`ApiError::NoKey`] when there is no key, and those of [`Client::new`].
    pub fn from_env() -> Result<Self, ApiError> {
        let client = Self::from_env_without_key()?;
        if client.key.is_some() { Ok(client) } else { Err(ApiError::NoKey) }
    }

    /// As [`Self::from_env`], for the few calls that the API answers without a key; one that is set is sent all the same.
    ///
    /// # Errors
    /// Those of [`Client::new`], and [`ApiError::Key`] when the key cannot be one.
    pub fn from_env_without_key() -> Result<Self, ApiError> {
        let set = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let key = set(ENV_KEY).map(|key| Key::new(&key)).transpose()?;
        Self::with_key(&set(ENV_URL).unwrap_or_else(|| DEFAULT_URL.to_owned()), key)
    }

    /// The same client with other repeats.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// The same client with another limit for a start request's answer (120 s by default).
    #[must_use]
    pub fn with_start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// The API's address, without credentials.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    pub(super) fn retry(&self) -> &RetryPolicy {
        &self.retry
    }

    /// Starts the runs of `body`: one POST, never repeated, whatever comes back. Most callers want
    /// [`start_once`](super::start_once), which also survives a lost answer.
    ///
    /// # Errors
    /// An [`ApiError`]; [`ApiError::leaves_start_open`] tells whether runs may have been started all the same.
    pub async fn start(&self, mode: Mode, body: &Value) -> Result<ResultState, ApiError> {
        let path = format!("/test_framework/v1/scenarios/{}/", mode.endpoint());
        self.post_once(&path, Some(body), self.start_timeout).await?.read(ResultState::read)
    }

    /// What the start of a suite would do: the plan, as the API gives it. It is the start's own request with `dry_run=true`,
    /// so it is sent once: an API that took it for a start would otherwise start twice.
    ///
    /// # Errors
    /// An [`ApiError`]. The answer is given as it came: see [`ResultState::read`] for one that is a start after all.
    pub async fn dry_run(&self, body: &Value) -> Result<Value, ApiError> {
        let path = format!("/test_framework/v1/scenarios/{}/", Mode::Spec.endpoint());
        let query = &[("dry_run", "true")];
        let call = Call { method: Method::POST, path: &path, query, body: Some(body), timeout: self.start_timeout };
        self.send(&call).await?.read(Ok)
    }

    /// Whether a suite's body is right: the plan, as [`Self::dry_run`] gives it, from a call that starts nothing in any case.
    ///
    /// # Errors
    /// An [`ApiError`], after the repeats of the [`RetryPolicy`].
    pub async fn validate(&self, body: &Value) -> Result<Value, ApiError> {
        let path = "/test_framework/v1/scenarios/validate_scenarios_json/";
        self.again(async || self.post_once(path, Some(body), self.start_timeout).await?.read(Ok)).await
    }

    /// The JSON Schema of a suite, of this version or the API's own. It is asked for without a key, too.
    ///
    /// # Errors
    /// An [`ApiError`], after the repeats of the [`RetryPolicy`].
    pub async fn spec_schema(&self, version: Option<&str>) -> Result<Value, ApiError> {
        let query: Vec<_> = version.map(|version| ("version", version)).into_iter().collect();
        let path = "/test_framework/v1/scenarios/json_schema/";
        self.again(async || self.get(path, &query).await?.read(Ok)).await
    }

    /// A result with its runs.
    ///
    /// # Errors
    /// An [`ApiError`], after the repeats of the [`RetryPolicy`].
    pub async fn result(&self, id: u64) -> Result<ResultState, ApiError> {
        self.again(|| async { self.result_once(id).await }).await
    }

    pub(super) async fn result_once(&self, id: u64) -> Result<ResultState, ApiError> {
        self.get(&format!("/test_framework/v1/results/{id}/"), &[]).await?.read(ResultState::read)
    }

    /// All runs of a result in full, with transcripts, by id.
    ///
    /// # Errors
    /// An [`ApiError`], after the repeats of the [`RetryPolicy`].
    pub async fn runs(&self, result_id: u64) -> Result<Vec<RunState>, ApiError> {
        self.runs_of(&[("result_id", Some(result_id.to_string()))]).await
    }

    /// The runs that fit the query (`result_id`, `agent_id`, `project_id`, of which the API wants one; what is `None` is not asked for), by id.
    ///
    /// # Errors
    /// An [`ApiError`], after the repeats of the [`RetryPolicy`].
    pub async fn runs_of(&self, query: &[(&str, Option<String>)]) -> Result<Vec<RunState>, ApiError> {
        Ok(by_id(self.list("/test_framework/v1/runs/", query, usize::MAX).await?))
    }

    /// These runs in full, by id; one that does not exist is left out.
    ///
    /// # Errors
    /// An [`ApiError`], after the repeats of the [`RetryPolicy`].
    pub async fn runs_by_id(&self, ids: &[u64]) -> Result<Vec<RunState>, ApiError> {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        let query = &[("run_ids", ids.join(","))];
        let query = &query.each_ref().map(|(key, ids)| (*key, ids.as_str()));
        let found = self.again(async || self.get("/test_framework/v1/runs/bulk/", query).await?.read_page()).await?;
        Ok(by_id(found.rows))
    }

    /// The newest `most` results that fit the query (`agent_id`, `project_id`, `search`), as the API lists them.
    ///
    /// # Errors
    /// An [`ApiError`], after the repeats of the [`RetryPolicy`].
    pub async fn results(&self, query: &[(&str, Option<String>)], most: usize) -> Result<Vec<ResultState>, ApiError> {
        let rows = self.list("/test_framework/v1/results/", query, most).await?;
        let mut results: Vec<ResultState> = Vec::new();
        for result in rows.into_iter().filter_map(|row| ResultState::read(row).ok()) {
            // The API repeats rows at times.
            if results.iter().all(|known| known.id != result.id) {
                results.push(result);
            }
        }
        results.truncate(most);
        Ok(results)
    }

    /// The rows of a list, page by page, until there are `most` or none are left.
    async fn list(&self, path: &str, query: &[(&str, Option<String>)], most: usize) -> Result<Vec<Value>, ApiError> {
        let query: Vec<_> = query.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?))).collect();
        let mut rows = Vec::new();
        for page in 1..=MOST_PAGES {
            let found = self.page(path, page, &query).await?;
            rows.extend(found.rows);
            if found.last || rows.len() >= most {
                break;
            }
        }
        Ok(rows)
    }

    /// One run in full.
    ///
    /// # Errors
    /// An [`ApiError`], after the repeats of the [`RetryPolicy`].
    pub async fn run(&self, id: u64) -> Result<RunState, ApiError> {
        self.again(|| async { self.run_once(id).await }).await
    }

    pub(super) async fn run_once(&self, id: u64) -> Result<RunState, ApiError> {
        self.get(&format!("/test_framework/v1/runs/{id}/"), &[]).await?.read(RunState::read)
    }

    /// A run's trace (`trace_id` and `spans`), as the API gives it.
    ///
    /// # Errors
    /// An [`ApiError`], after the repeats of the [`RetryPolicy`].
    pub async fn trace(&self, run_id: u64) -> Result<Value, ApiError> {
        self.document(&format!("/test_framework/v1/runs/{run_id}/trace/")).await
    }

    /// Where a run's call can be listened to, as the API gives it: its shape is not published.
    ///
    /// # Errors
    /// An [`ApiError`], after the repeats of the [`RetryPolicy`].
    pub async fn listen_url(&self, run_id: u64) -> Result<Value, ApiError> {
        self.document(&format!("/test_framework/v1/runs/{run_id}/get_listen_url/")).await
    }

    async fn document(&self, path: &str) -> Result<Value, ApiError> {
        self.again(|| async { self.get(path, &[]).await?.read(Ok) }).await
    }

    /// Scores runs of a result anew by these metrics. Nothing is called; sent once, for it may be charged.
    ///
    /// # Errors
    /// An [`ApiError`].
    pub async fn rescore(&self, result_id: u64, run_ids: &[u64], metric_ids: &[u64]) -> Result<ResultState, ApiError> {
        // The API wants its ids as texts here.
        let texts = |ids: &[u64]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let body = serde_json::json!({"run_ids": texts(run_ids), "metric_ids": texts(metric_ids)});
        let path = format!("/test_framework/v1/results/{result_id}/evaluate_metrics/");
        self.post_once(&path, Some(&body), CALL_TIMEOUT).await?.read(ResultState::read)
    }

    /// Executes every scenario of a result again, as a new result: it calls, and it costs. One POST, never repeated; most
    /// callers want [`rerun_once`](super::rerun_once).
    ///
    /// # Errors
    /// An [`ApiError`]; [`ApiError::leaves_start_open`] tells whether runs may have been started all the same.
    pub async fn rerun(&self, result_id: u64) -> Result<ResultState, ApiError> {
        let path = format!("/test_framework/v1/results/{result_id}/rerun/");
        self.post_once(&path, None, self.start_timeout).await?.read(ResultState::read)
    }

    /// Makes a test set of a run, with these metrics to be reviewed. Sent once.
    ///
    /// # Errors
    /// An [`ApiError`].
    pub async fn test_set_from_run(&self, body: &Value) -> Result<Value, ApiError> {
        self.post_once("/test_framework/test-sets/create_from_run/", Some(body), CALL_TIMEOUT).await?.read(Ok)
    }

    pub(super) async fn post_once(&self, path: &str, body: Option<&Value>, timeout: Duration) -> Result<Answer, ApiError> {
        self.send(&Call { method: Method::POST, path, query: &[], body, timeout }).await
    }

    /// Ends all calls of a result that still go on. Doing it twice does no harm, so it is repeated until it works.
    ///
    /// # Errors
    /// An [`ApiError`], after the repeats of the [`RetryPolicy`].
    pub async fn end_calls(&self, result_id: u64) -> Result<(), ApiError> {
        self.end(&format!("/test_framework/v1/results/{result_id}/end_calls/")).await
    }

    /// Ends one run's call; as [`Self::end_calls`].
    ///
    /// # Errors
    /// An [`ApiError`], after the repeats of the [`RetryPolicy`].
    pub async fn end_call(&self, run_id: u64) -> Result<(), ApiError> {
        self.end(&format!("/test_framework/v1/runs/{run_id}/end_call/")).await
    }

    async fn end(&self, path: &str) -> Result<(), ApiError> {
        let call = Call { method: Method::POST, path, query: &[], body: None, timeout: CALL_TIMEOUT };
        self.again(|| async { self.send(&call).await.map(|_| ()) }).await
    }

    /// The newest result with exactly this name, if there is one.
    ///
    /// # Errors
    /// An [`ApiError`], after the repeats of the [`RetryPolicy`].
    pub async fn find_result_by_name(&self, name: &str) -> Result<Option<ResultState>, ApiError> {
        // How `search` matches is not published: the newest page without it is the second look.
        for query in [&[("search", name)][..], &[]] {
            let rows = self.page("/test_framework/v1/results/", 1, query).await?.rows;
            let found =
                rows.into_iter().filter_map(|row| ResultState::read(row).ok()).filter(|row| row.name.as_deref() == Some(name));
            if let Some(found) = found.max_by_key(|row| row.id) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn page(&self, path: &str, page: usize, query: &[(&str, &str)]) -> Result<Page, ApiError> {
        let (page, size) = (page.to_string(), PAGE_SIZE.to_string());
        let mut query = query.to_vec();
        query.extend([("page", page.as_str()), ("page_size", size.as_str())]);
        self.again(|| async { self.get(path, &query).await?.read_page() }).await
    }

    pub(super) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer, ApiError> {
        self.send(&Call { method: Method::GET, path, query, body: None, timeout: CALL_TIMEOUT }).await
    }

    /// Repeats `call` while its error is a passing one.
    pub(super) async fn again<T, F: Future<Output = Result<T, ApiError>>>(&self, call: impl Fn() -> F) -> Result<T, ApiError> {
        let mut failures = 0;
        loop {
            match call().await {
                Err(error) if error.is_transient() && failures + 1 < self.retry.tries => {
                    failures += 1;
                    let wait = self.retry.wait(failures, &error);
                    tracing::debug!(%error, ?wait, "the API call is repeated");
                    tokio::time::sleep(wait).await;
                }
                done => return done,
            }
        }
    }

    /// The error without the key and the body's secrets, wherever the API has put them.
    fn without_secrets(&self, mut error: ApiError, body: Option<&Value>) -> ApiError {
        let ApiError::Refused { message, details, .. } = &mut error else { return error };
        let mut known: Vec<&str> = body.map(secrets).unwrap_or_default();
        known.extend(self.key.iter().map(Key::reveal));
        for line in details.iter_mut().chain([message]) {
            hide(&known, line);
        }
        error
    }

    async fn send(&self, call: &Call<'_>) -> Result<Answer, ApiError> {
        let mut request = self.request(call)?;
        if let Some(body) = call.body {
            request = request.json(body);
        }
        self.send_request(call, request).await
    }

    pub(super) fn request(&self, call: &Call<'_>) -> Result<RequestBuilder, ApiError> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}", self.base.path().trim_end_matches('/'), call.path));
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
        }
        let mut request = self.http.request(call.method.clone(), url).timeout(call.timeout);
        if let Some(key) = &self.key {
            let mut key = HeaderValue::from_str(key.reveal()).map_err(|_| super::BadKey::Character)?;
            key.set_sensitive(true);
            request = request.header(super::KEY_HEADER, key);
        }
        Ok(request)
    }

    pub(super) async fn send_request(&self, call: &Call<'_>, request: RequestBuilder) -> Result<Answer, ApiError> {
        let response = request.send().await.map_err(|error| call.broken(&error))?;
        // An error's body may repeat the request.
        call.read(response).await.map_err(|error| self.without_secrets(error, call.body))
    }
}

/// One call of the API.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// With its trailing slash: without it the API may redirect, and a redirected POST is lost.
    pub(super) path: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) body: Option<&'a Value>,
    pub(super) timeout: Duration,
}

impl Call<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn broken(&self, error: &reqwest::Error) -> ApiError {
        let call = self.name();
        if error.is_connect() {
            let server = error.url().map_or_else(|| "the API".to_owned(), |url| url.origin().ascii_serialization());
            ApiError::Unreachable { call, server, detail: http::detail(error) }
        } else if error.is_timeout() {
            ApiError::Broken { call, detail: format!("no answer within {} s", self.timeout.as_secs_f64()) }
        } else {
            ApiError::Broken { call, detail: http::detail(error) }
        }
    }

    async fn read(&self, mut response: reqwest::Response) -> Result<Answer, ApiError> {
        let status = response.status();
        let limit = if status.is_success() { LARGEST_ANSWER } else { LARGEST_ERROR };
        let retry_after = response.headers().get(RETRY_AFTER).and_then(retry_after);
        let location = response.headers().get(reqwest::header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= limit => body.extend_from_slice(&chunk),
                Ok(Some(_)) if status.is_success() => {
                    let detail = format!("it is larger than {} MiB", LARGEST_ANSWER >> 20);
                    return Err(ApiError::Garbled { call: self.name(), status: status.as_u16(), detail });
                }
                // Of an error its start is enough.
                Ok(_) => break,
                Err(_) if !status.is_success() => break,
                Err(error) => return Err(self.broken(&error)),
            }
        }
        if status.is_success() {
            return Ok(Answer { call: self.name(), status: status.as_u16(), body });
        }
        let message = match location {
            Some(location) if status.is_redirection() => format!("redirected to {location:?}, which is not followed"),
            _ => envelope::message(&body),
        };
        let details = envelope::details(&body);
        Err(ApiError::Refused { call: self.name(), status: status.as_u16(), message, details, retry_after })
    }
}

/// A 2xx answer.
pub(super) struct Answer {
    call: String,
    status: u16,
    body: Vec<u8>,
}

/// A page of a list.
struct Page {
    rows: Vec<Value>,
    last: bool,
}

impl Answer {
    pub(super) fn read<T>(self, read: impl FnOnce(Value) -> Result<T, BadAnswer>) -> Result<T, ApiError> {
        let value = serde_json::from_slice(&self.body).map_err(|e| self.garbled(e.to_string()))?;
        read(value).map_err(|e| self.garbled(e.to_string()))
    }

    /// Lists come in an envelope with `results` and `next`, or bare.
    fn read_page(self) -> Result<Page, ApiError> {
        let value: Value = serde_json::from_slice(&self.body).map_err(|e| self.garbled(e.to_string()))?;
        match value {
            Value::Array(rows) => Ok(Page { rows, last: true }),
            Value::Object(mut members) => match members.remove("results") {
                Some(Value::Array(rows)) => {
                    let last = rows.is_empty() || members.get("next").is_none_or(Value::is_null);
                    Ok(Page { rows, last })
                }
                _ => Err(self.garbled("there is no list in it".into())),
            },
            _ => Err(self.garbled("it is no list".into())),
        }
    }

    fn garbled(&self, detail: String) -> ApiError {
        ApiError::Garbled { call: self.call.clone(), status: self.status, detail }
    }
}

fn by_id(rows: Vec<Value>) -> Vec<RunState> {
    let mut runs: Vec<RunState> = rows.into_iter().filter_map(|row| RunState::read(row).ok()).collect();
    runs.sort_by_key(|run| run.id);
    runs.dedup_by_key(|run| run.id);
    runs
}

/// `Retry-After`: seconds, or a date (RFC 9110 section 10.2.3).
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = chrono::DateTime::parse_from_rfc2822(text).ok()?;
            (until.to_utc() - chrono::Utc::now()).to_std().unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

fn parse_base(text: &str) -> Result<Url, ApiError> {
    let bad = |shown: &str, problem: String| Err(ApiError::Address { url: shown.to_owned(), problem });
    // What stands before an @ may be a password.
    let url = match Url::parse(text.trim()) {
        Ok(url) => url,
        Err(error) => return bad(text.rsplit('@').next().unwrap_or_default(), error.to_string()),
    };
    let host = url.host_str().unwrap_or_default();
    if !matches!(url.scheme(), "http" | "https") {
        return bad(host, format!("it starts with {}://, not with https://", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return bad(host, "it has more than a host and a path".into());
    }
    Ok(url)
}
