//! What a bot's server is asked over HTTP: a session, the answer to an offer, and to take a candidate that came later.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::ice::IceServers;
use crate::http;
use crate::transport::web_socket::shown;
use crate::transport::{Secret, SetUp, Stage};

/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 1 << 20;
/// So much of a refusal is repeated.
const LONGEST_SHOWN: usize = 200;

/// Tries after the first of a server that is not there, and the pause before the first of them; it doubles.
const RETRIES: u32 = 3;
const BACKOFF: Duration = Duration::from_millis(500);

/// The server did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum BotServerError {
    /// It is not there.
    #[error("{url} cannot be reached: {problem}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why not.
        problem: String,
    },
    /// It broke off, or took too long. Whether it has done what it was asked for is not known.
    #[error("{url} gave no answer: {problem}")]
    Broken {
        /// What was asked.
        url: String,
        /// How.
        problem: String,
    },
    /// It says no.
    #[error("{url} answered {status}{}", after_colon(said))]
    Refused {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// In its words.
        said: String,
    },
    /// Its answer makes no sense.
    #[error("the answer of {url} cannot be used: {problem}")]
    Answer {
        /// What was asked.
        url: String,
        /// Why.
        problem: String,
    },
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// The bot's server.
#[derive(Debug, Clone)]
pub(super) struct BotServer {
    http: reqwest::Client,
    /// Takes offers.
    offers: Url,
    key: Option<Secret>,
    patience: Duration,
}

/// A session over WebRTC.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WebRtcSession {
    session_id: String,
    ice_config: Option<IceConfig>,
}

/// As browsers have it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IceConfig {
    ice_servers: IceServers,
}

/// A session over a WebSocket.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WebSocketSession {
    ws_url: Url,
    token: Option<String>,
}

/// A room at Daily that a runner has made, with a bot of its own in it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DailySession {
    daily_room: String,
    daily_token: Option<String>,
}

/// A room at Daily, and the token that opens it.
#[derive(Debug, Clone)]
pub struct DailyRoom {
    /// Its address.
    pub url: String,
    /// None: it needs none.
    pub token: Option<String>,
}

/// Asks a runner, whose `/start` this is, for a bot in a Daily room of its own (`createDailyRoom`). `body` is what the bot is told; `key`
/// goes with the request as `Authorization: Bearer`.
///
/// # Errors
/// [`BotServerError`]. One other than [`BotServerError::Unreachable`] may have left a bot and a room behind.
pub async fn start_in_daily(
    start: &Url,
    key: Option<Secret>,
    body: &Value,
    patience: Duration,
) -> Result<DailyRoom, BotServerError> {
    let asked = json!({"createDailyRoom": true, "body": body});
    let runner = BotServer::new(start, key, patience)?;
    let session: DailySession = runner.ask(reqwest::Method::POST, &runner.offers, &asked).await?;
    Ok(DailyRoom { url: session.daily_room, token: session.daily_token })
}

/// The answer to an offer.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Answer {
    pub(super) sdp: String,
    #[serde(rename = "type")]
    kind: String,
    /// Names the connection.
    pub(super) pc_id: Option<String>,
}

/// A connection that is offered again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Earlier<'a> {
    pub(super) pc_id: &'a str,
    /// It is made anew: the one before is lost.
    pub(super) restart: bool,
}

impl BotServer {
    /// A server that takes offers, or starts sessions, at `url`.
    pub(super) fn new(url: &Url, key: Option<Secret>, patience: Duration) -> Result<Self, BotServerError> {
        let unusable = |error| BotServerError::Unreachable { url: shown(url), problem: http::detail(&error) };
        Ok(Self { http: http::client(url).map_err(unusable)?, offers: url.clone(), key, patience })
    }

    /// Asks for a session over WebRTC: the server that takes its offers, and the STUN and TURN servers that go with it.
    pub(super) async fn start(&self, body: &Value) -> Result<(Self, IceServers), BotServerError> {
        let asked = json!({"transport": "webrtc", "enableDefaultIceServers": false, "body": body});
        let session: WebRtcSession = self.ask(reqwest::Method::POST, &self.offers, &asked).await?;
        let mut offers = self.offers.clone();
        if let Ok(mut path) = offers.path_segments_mut() {
            path.pop_if_empty().pop().extend(["sessions", &session.session_id, "api", "offer"]);
        }
        let servers = session.ice_config.map(|config| config.ice_servers).unwrap_or_default();
        Ok((Self { offers, ..self.clone() }, servers))
    }

    /// Asks for a session over a WebSocket: its address, with a token in it where the server wants one.
    pub(super) async fn start_web_socket(&self, body: &Value) -> Result<Url, BotServerError> {
        let asked = json!({"transport": "websocket", "body": body});
        let session: WebSocketSession = self.ask(reqwest::Method::POST, &self.offers, &asked).await?;
        let mut url = session.ws_url;
        // A runner says wss:// of itself though it speaks plain ws://, and 0.0.0.0 where it listens everywhere.
        let itself =
            url.host_str() == self.offers.host_str() || url.host_str().is_some_and(|host| matches!(host, "0.0.0.0" | "[::]"));
        if itself && url.port_or_known_default() == self.offers.port_or_known_default() {
            let scheme = if self.offers.scheme() == "https" { "wss" } else { "ws" };
            let problem = "its wsUrl cannot be used".to_owned();
            let unusable = || BotServerError::Answer { url: shown(&self.offers), problem };
            url.set_scheme(scheme).and_then(|()| url.set_host(self.offers.host_str()).map_err(drop)).map_err(|()| unusable())?;
        }
        if !matches!(url.scheme(), "ws" | "wss") {
            let problem = format!("its wsUrl is {}", shown(&url));
            return Err(BotServerError::Answer { url: shown(&self.offers), problem });
        }
        if let Some(token) = &session.token {
            url.query_pairs_mut().append_pair("token", token);
        }
        Ok(url)
    }

    /// Sends an offer. `body` is what the bot is told, where no session was started for it.
    pub(super) async fn offer(
        &self,
        sdp: &str,
        earlier: Option<Earlier<'_>>,
        body: Option<&Value>,
    ) -> Result<Answer, BotServerError> {
        let mut offer = json!({"sdp": sdp, "type": "offer"});
        if let Some(earlier) = earlier {
            (offer["pc_id"], offer["restart_pc"]) = (earlier.pc_id.into(), earlier.restart.into());
        }
        if let Some(body) = body {
            offer["request_data"] = body.clone();
        }
        let answer: Answer = self.ask(reqwest::Method::POST, &self.offers, &offer).await?;
        if answer.kind != "answer" {
            let problem = format!("its type is {:?}, not \"answer\"", answer.kind);
            return Err(BotServerError::Answer { url: shown(&self.offers), problem });
        }
        Ok(answer)
    }

    /// Tells of candidates that came after the offer.
    pub(super) async fn trickle(&self, pc_id: &str, candidates: &[String]) -> Result<(), BotServerError> {
        let candidates: Vec<_> = candidates
            .iter()
            .map(|candidate| {
                // All media is in one bundle, which the first section stands for.
                json!({"candidate": candidate, "sdp_mid": "0", "sdp_mline_index": 0})
            })
            .collect();
        let told = json!({"pc_id": pc_id, "candidates": candidates});
        let _: Value = self.ask(reqwest::Method::PATCH, &self.offers, &told).await?;
        Ok(())
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: reqwest::Method,
        url: &Url,
        body: &Value,
    ) -> Result<T, BotServerError> {
        let asked = shown(url);
        let mut request = self.http.request(method, url.clone()).timeout(self.patience).json(body);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.reveal());
        }
        let broken = |error: reqwest::Error| {
            let problem = http::detail(&error);
            match error.is_connect() {
                true => BotServerError::Unreachable { url: asked.clone(), problem },
                false => BotServerError::Broken { url: asked.clone(), problem },
            }
        };
        let mut response = request.send().await.map_err(broken)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if bytes.len() + chunk.len() > LONGEST_ANSWER {
                let problem = format!("it is longer than {LONGEST_ANSWER} bytes");
                return Err(BotServerError::Answer { url: asked, problem });
            }
            bytes.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            return Err(BotServerError::Refused { url: asked, status: status.as_u16(), said: words(&bytes) });
        }
        serde_json::from_slice(&bytes).map_err(|error| BotServerError::Answer { url: asked, problem: error.to_string() })
    }
}

/// Asks a server, again where it is not there: it may be about to start. Another failure may have started something.
pub(super) async fn reached<T, F: Future<Output = Result<T, BotServerError>>>(
    once: bool,
    set_up: &mut SetUp,
    stage: Stage,
    mut ask: impl FnMut() -> F,
) -> Result<T, BotServerError> {
    let (mut pause, mut left) = (BACKOFF, if once { 0 } else { RETRIES });
    loop {
        match ask().await {
            Err(error @ BotServerError::Unreachable { .. }) if left > 0 => {
                tracing::info!("{error}; trying again in {} ms", pause.as_millis());
                tokio::time::sleep(pause).await;
                (pause, left) = (pause * 2, left - 1);
                set_up.again();
                set_up.enter(stage);
            }
            asked => return asked,
        }
    }
}

/// A refusal in the server's words: FastAPI has them under `detail`.
fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let detail = serde_json::from_str::<Value>(&text).ok().and_then(|json| {
        let detail = json.get("detail")?;
        Some(detail.as_str().map_or_else(|| detail.to_string(), str::to_owned))
    });
    let words = detail.unwrap_or_else(|| text.into_owned());
    words.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(LONGEST_SHOWN).collect()
}
