//! The chat of an `api_chat` run over REST (API reference, `runs/{id}/chat/`): the API plays the caller, we fetch its turns and
//! post the agent's.

use serde_json::{Value, json};

use super::client::CALL_TIMEOUT;
use super::{ApiError, Client};

/// How far a turn of the caller has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnStatus {
    /// It is not there yet.
    Generating,
    /// It is there; turn 0 without a message asks the agent to speak first.
    Ready,
    /// A later message of the agent has overtaken it: there will be none.
    Dropped,
    /// The API could not make it.
    Error,
}

/// The caller's answer to a post.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatTurn {
    /// How far it has got. A word that is not known counts as not there yet.
    pub status: TurnStatus,
    /// What the caller says: a text, or an object like a frame of the chat WebSocket; null where it says nothing.
    pub message: Value,
    /// The conversation is over.
    pub ended: bool,
    /// Why.
    pub ended_reason: Option<String>,
}

impl ChatTurn {
    fn read(answer: &Value) -> Self {
        let status = match answer["status"].as_str().unwrap_or_default() {
            "ready" => TurnStatus::Ready,
            "dropped" => TurnStatus::Dropped,
            "error" => TurnStatus::Error,
            _ => TurnStatus::Generating,
        };
        let ended_reason = answer["ended_reason"].as_str().filter(|reason| !reason.is_empty()).map(str::to_owned);
        Self { status, message: answer["message"].clone(), ended: answer["ended"] == true, ended_reason }
    }
}

impl Client {
    /// A turn of the caller; turn 0 is its opening line.
    ///
    /// # Errors
    /// An [`ApiError`], after the repeats of the [`RetryPolicy`](super::RetryPolicy); 409 while the run is starting, and once
    /// it has ended.
    pub async fn chat_turn(&self, run_id: u64, turn_id: u64) -> Result<ChatTurn, ApiError> {
        let path = format!("/test_framework/v1/runs/{run_id}/chat/{turn_id}/");
        self.again(|| async { self.get(&path, &[]).await?.read(|answer| Ok(ChatTurn::read(&answer))) }).await
    }

    /// Posts what the agent says or does (`content`, `metadata`, `role` with `data`); gives the turn that will answer it.
    /// Nothing tells a repeated post from a new one, so it is repeated only where the API cannot have taken it.
    ///
    /// # Errors
    /// An [`ApiError`]; 409 while the run is starting, and once it has ended.
    pub async fn post_chat(&self, run_id: u64, body: &Value) -> Result<Option<u64>, ApiError> {
        let path = format!("/test_framework/v1/runs/{run_id}/chat/");
        let mut failures = 0;
        loop {
            let answer = self.post_once(&path, Some(body), CALL_TIMEOUT).await;
            match answer.and_then(|answer| answer.read(|answer| Ok(number(&answer["turn_id"])))) {
                Err(error) if was_not_taken(&error) && failures + 1 < self.retry().tries => {
                    failures += 1;
                    tokio::time::sleep(self.retry().wait(failures, &error)).await;
                }
                done => return done,
            }
        }
    }

    /// Ends the chat as the agent's side. Doing it twice does no harm.
    ///
    /// # Errors
    /// An [`ApiError`], after the repeats of the [`RetryPolicy`](super::RetryPolicy).
    pub async fn end_chat(&self, run_id: u64, reason: &str) -> Result<(), ApiError> {
        let path = format!("/test_framework/v1/runs/{run_id}/end-chat/");
        let body = json!({ "reason": reason });
        self.again(|| async { self.post_once(&path, Some(&body), CALL_TIMEOUT).await.map(|_| ()) }).await
    }
}

/// A number, also one in a text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn was_not_taken(error: &ApiError) -> bool {
    matches!(error, ApiError::Unreachable { .. } | ApiError::Refused { status: 429 | 503, .. })
}
