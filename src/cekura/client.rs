//! The HTTP client. The start request is sent once; everything else is tried again.

use std::fmt;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;
use url::Url;

use super::{KEY_HEADER, Mode, ResultState};
use crate::transport::tls::install_crypto;

/// How long a start may take (Cekura's own CI action: 120 s), and anything else.
const START_TIME: Duration = Duration::from_secs(120);
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// Tries of a request that may be repeated, and the pause after the first, which doubles.
const TRIES: u32 = 5;
const BACKOFF: Duration = Duration::from_millis(500);
/// The longest `Retry-After` that is honoured.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// An API key. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// A key; none when it is blank.
    #[must_use]
    pub fn new(key: &str) -> Option<Self> {
        let key = key.trim();
        (!key.is_empty()).then(|| Self(key.to_owned()))
    }

    /// Whether `given` is this key.
    #[must_use]
    pub fn admits(&self, given: Option<&str>) -> bool {
        use sha2::{Digest, Sha256};
        given.is_some_and(|given| Sha256::digest(given) == Sha256::digest(&self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// The API did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It was never reached: nothing happened there.
    #[error("cannot reach {url}: {problem}")]
    Unreachable {
        /// Where.
        url: Url,
        /// Why.
        problem: String,
    },
    /// The request was sent, and no answer came: what happened there is not known.
    #[error("no answer from {url}: {problem}")]
    NoAnswer {
        /// Where.
        url: Url,
        /// Why.
        problem: String,
    },
    /// It answered with an error.
    #[error("{url} answered {status}: {problem}")]
    Refused {
        /// Where.
        url: Url,
        /// The HTTP status.
        status: u16,
        /// The answer's own words.
        problem: String,
    },
    /// It answered something that is not what was asked for.
    #[error("{url} answered what is no {expected}: {answer}")]
    Unexpected {
        /// Where.
        url: Url,
        /// What was expected.
        expected: &'static str,
        /// The beginning of the answer.
        answer: String,
    },
    /// The address or the client itself.
    #[error("{0}")]
    Setup(String),
}

/// A client of the API at one address with one key.
#[derive(Debug, Clone)]
pub struct Client {
    base: Url,
    key: Key,
    http: reqwest::Client,
}

impl Client {
    /// A client.
    ///
    /// # Errors
    /// [`ClientError::Setup`] for an address that is none.
    pub fn new(base: &str, key: Key) -> Result<Self, ClientError> {
        install_crypto();
        let setup = |problem: String| ClientError::Setup(format!("{base:?} is no API address: {problem}"));
        let base_url = Url::parse(base).map_err(|error| setup(error.to_string()))?;
        if !matches!(base_url.scheme(), "http" | "https") {
            return Err(setup("it must begin with http:// or https://".to_owned()));
        }
        // A redirect would turn the POST into a GET.
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .user_agent(concat!("trunkline/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| setup(error.to_string()))?;
        Ok(Self { base: base_url, key, http })
    }

    /// Starts runs: one POST, never repeated.
    ///
    /// # Errors
    /// [`ClientError`]; with [`ClientError::NoAnswer`] the runs may or may not have started.
    pub async fn start(&self, mode: Mode, body: &Value) -> Result<Value, ClientError> {
        // Always with its slash at the end: without it some paths are not found.
        let url = self.url(&format!("/test_framework/v1/scenarios/{}/", mode.endpoint()), &[]);
        let (answer, text) = self.once(Method::POST, &url, Some(body), START_TIME).await?;
        let json = understood(&url, answer.status, &text, "start reply");
        // A 5xx or a page in place of JSON says nothing about whether the runs were started.
        match json {
            Err(ClientError::Refused { url, status, problem }) if status >= 500 => {
                Err(ClientError::NoAnswer { url, problem: format!("it answered {status}: {problem}") })
            }
            Err(ClientError::Unexpected { url, answer, .. }) => {
                Err(ClientError::NoAnswer { url, problem: format!("the answer is not JSON: {answer}") })
            }
            other => other,
        }
    }

    /// A result by its id.
    ///
    /// # Errors
    /// [`ClientError`], after several tries.
    pub async fn result(&self, id: &Value) -> Result<ResultState, ClientError> {
        let url = self.url(&format!("/test_framework/v1/results/{}/", plain(id)), &[]);
        let json = self.again(Method::GET, &url).await?;
        let answer = json.to_string().chars().take(200).collect();
        ResultState::read(&json).ok_or(ClientError::Unexpected { url, expected: "result", answer })
    }

    /// The results whose name contains `name`, newest first as the API gives them.
    ///
    /// # Errors
    /// [`ClientError`], after several tries.
    pub async fn results_named(&self, name: &str) -> Result<Vec<ResultState>, ClientError> {
        let url = self.url("/test_framework/v1/results/", &[("search", name), ("page_size", "50")]);
        let json = self.again(Method::GET, &url).await?;
        let list = json.get("results").and_then(Value::as_array).or_else(|| json.as_array()).cloned().unwrap_or_default();
        Ok(list.iter().filter_map(ResultState::read).filter(|result| result.name.as_deref() == Some(name)).collect())
    }

    /// Ends the calls of a result.
    ///
    /// # Errors
    /// [`ClientError`], after several tries.
    pub async fn end_calls(&self, id: &Value) -> Result<(), ClientError> {
        let url = self.url(&format!("/test_framework/v1/results/{}/end_calls/", plain(id)), &[]);
        self.again(Method::POST, &url).await.map(drop)
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}{path}"));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Sends a request that does no harm when it is repeated, until it is answered.
    async fn again(&self, method: Method, url: &Url) -> Result<Value, ClientError> {
        let mut pause = BACKOFF;
        for attempt in 1.. {
            let (error, wait) = match self.once(method.clone(), url, None, REQUEST_TIME).await {
                Err(error) => (error, None),
                Ok((answer, text)) => match understood(url, answer.status, &text, "JSON answer") {
                    Ok(json) => return Ok(json),
                    Err(error) => (error, answer.retry_after),
                },
            };
            let transient = match &error {
                ClientError::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
                ClientError::Setup(_) => false,
                _ => true,
            };
            if !transient || attempt == TRIES {
                return Err(error);
            }
            tracing::debug!("{error}; trying again");
            tokio::time::sleep(wait.unwrap_or(pause).min(LONGEST_WAIT)).await;
            pause *= 2;
        }
        unreachable!("the loop ends with its last try")
    }

    async fn once(&self, method: Method, url: &Url, body: Option<&Value>, time: Duration) -> Result<(Answer, String), ClientError> {
        let request = self.http.request(method, url.clone()).header(KEY_HEADER, &self.key.0).timeout(time);
        let request = if let Some(body) = body { request.json(body) } else { request };
        let response = request.send().await.map_err(|error| {
            let (url, problem) = (url.clone(), deepest(&error));
            if error.is_connect() || error.is_builder() {
                ClientError::Unreachable { url, problem }
            } else {
                ClientError::NoAnswer { url, problem }
            }
        })?;
        let retry_after = response.headers().get(reqwest::header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
        let answer = Answer { status: response.status(), retry_after };
        let text = response.text().await;
        let text = text.map_err(|error| ClientError::NoAnswer { url: url.clone(), problem: deepest(&error) })?;
        Ok((answer, text))
    }
}

/// What an answer's head says.
#[derive(Debug, Clone, Copy)]
struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
}

fn understood(url: &Url, status: StatusCode, text: &str, expected: &'static str) -> Result<Value, ClientError> {
    let url = url.clone();
    if !status.is_success() {
        return Err(ClientError::Refused { url, status: status.as_u16(), problem: explain_error_body(text) });
    }
    let answer = || text.chars().take(200).collect();
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(text).map_err(|_| ClientError::Unexpected { url, expected, answer: answer() })
}

/// The API's error answers, in all their shapes, as one line: a map of fields to messages, also below `errors`; a bare
/// list; `{"detail": …}`; plain text or a page.
#[must_use]
pub fn explain_error_body(text: &str) -> String {
    fn words(value: &Value) -> String {
        match value {
            Value::String(text) => text.clone(),
            Value::Array(list) => list.iter().map(words).collect::<Vec<_>>().join(" "),
            Value::Object(map) => {
                let one = |(key, value): (&String, &Value)| match key.as_str() {
                    "detail" | "errors" | "non_field_errors" => words(value),
                    key => format!("{key}: {}", words(value)),
                };
                map.iter().map(one).collect::<Vec<_>>().join("; ")
            }
            other => other.to_string(),
        }
    }
    let line = match serde_json::from_str::<Value>(text) {
        Ok(json) => words(&json),
        Err(_) => text.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    let short: String = line.chars().take(500).collect();
    if short.is_empty() { "no reason given".to_owned() } else { short }
}

fn plain(id: &Value) -> String {
    let text = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    // An id is a number; anything else must not become a path of its own.
    text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect()
}

fn deepest(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
