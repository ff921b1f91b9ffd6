//! Webhooks, as Cekura sends them: before a result's runs are dispatched, and when it is completed.
//!
//! A request carries the secret in `X-CEKURA-SECRET`; the one before the runs also `X-CEKURA-IDEMPOTENCY-KEY`, which stays the same
//! when it is repeated. An answer may take 30 s; without one, or with another status than 2xx, it is repeated up to three times.
//! Cekura does not say what becomes of a run whose webhook fails to the end: here it goes on, and the log tells.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use serde_json::{Value, json};

use super::answers;
use super::links::Links;
use super::store::StoredResult;
use crate::cekura::Key;

/// The header with the secret.
const SECRET_HEADER: &str = "X-CEKURA-SECRET";
/// The header that a repeat shares with the first request.
const IDEMPOTENCY_HEADER: &str = "X-CEKURA-IDEMPOTENCY-KEY";
/// How long an answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// The waits before the three repeats.
const WAITS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// Where a sandbox's webhooks go.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    /// An `http://` or `https://` address.
    pub url: Url,
    /// What `X-CEKURA-SECRET` says.
    pub secret: Option<Key>,
}

/// The address may hold a secret: it is not shown.
impl fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookConfig").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

/// When a webhook is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    BeforeRun,
    Completed,
}

/// Sends the webhooks.
pub(super) struct Webhook {
    http: reqwest::Client,
    config: WebhookConfig,
    links: Arc<Links>,
}

impl Webhook {
    pub(super) fn new(config: WebhookConfig, links: Arc<Links>) -> Result<Self, reqwest::Error> {
        crate::transport::tls::install_crypto();
        let mut http = reqwest::Client::builder().timeout(ANSWER_TIME).redirect(reqwest::redirect::Policy::none());
        if config.url.scheme() == "http" {
            // Without TLS the system's root certificates are not needed, and a bare container may have none.
            http = http.tls_certs_only([]).no_proxy();
        }
        Ok(Self { http: http.build()?, config, links })
    }

    /// Tells it, with repeats.
    pub(super) async fn tell(&self, occasion: Occasion, result: &StoredResult) {
        let (event, body) = (occasion.event_type(), occasion.body(result, &self.links));
        for wait in WAITS.into_iter().map(Some).chain([None]) {
            let problem = match self.send(occasion, result.id, &body).await {
                Ok(status) if status.is_success() => return,
                Ok(status) => format!("HTTP {status}"),
                // The address stays out of the log.
                Err(error) => error.without_url().to_string(),
            };
            match wait {
                Some(wait) => {
                    tracing::warn!(result = result.id, event, "the webhook was not taken ({problem}); it is sent again");
                    tokio::time::sleep(wait).await;
                }
                None => tracing::error!(result = result.id, event, "the webhook was not taken ({problem}), and is given up"),
            }
        }
    }

    async fn send(&self, occasion: Occasion, result: u64, body: &Value) -> Result<reqwest::StatusCode, reqwest::Error> {
        let mut request = self.http.post(self.config.url.clone()).json(body);
        if let Some(secret) = &self.config.secret {
            request = request.header(SECRET_HEADER, secret.reveal());
        }
        if occasion == Occasion::BeforeRun {
            request = request.header(IDEMPOTENCY_HEADER, format!("result_pre_trigger:{result}"));
        }
        Ok(request.send().await?.status())
    }
}

impl Occasion {
    const fn event_type(self) -> &'static str {
        match self {
            Self::BeforeRun => "result.pre_trigger",
            Self::Completed => "result.completed",
        }
    }

    fn body(self, result: &StoredResult, links: &Links) -> Value {
        json!({"event_type": self.event_type(), "data": answers::webhook_data(result, links)})
    }
}
