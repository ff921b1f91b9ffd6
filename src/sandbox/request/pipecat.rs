//! Pipecat runs: where the bot is, and what its session is told.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use url::Url;

use super::super::carrier::Target;
use super::super::project::Agent;
use super::{Aim, Invalid};
use crate::cekura::payload::Mode;
use crate::transport::{Secret, WayOut};

/// The rooms of Daily cannot be joined without its closed library.
const DAILY: &str = "daily.co";

/// How a run reaches its bot.
pub(super) fn pipecat_target(aim: &Aim<'_>) -> Result<Target, Invalid> {
    let mut connect = aim.project.pipecat.clone();
    connect.rate = aim.agent.pipecat_rate.unwrap_or(connect.rate);
    let to = if aim.mode == Mode::PipecatV2 {
        connect.metadata = Some(session(aim.agent, aim.body, aim.variables).to_string());
        runner(aim.agent)?
    } else {
        let (to, token) = room(aim.entry)?;
        connect.pipecat_key = token;
        to
    };
    Ok(Target::Pipecat { to: Box::new(to), connect: Box::new(connect), publish: aim.publish() })
}

fn runner(agent: &Agent) -> Result<WayOut, Invalid> {
    agent.pipecat_url.clone().ok_or_else(|| {
        Invalid::field(
            "pipecat_data",
            "Agent has no Pipecat runner: set its pipecat_url, or --agent-pipecat-url where the sandbox is started.",
        )
    })
}

/// What the session is told: the request's `config` in place of the agent's, whole, and the test profile's variables on top of it.
fn session(agent: &Agent, body: &Map<String, Value>, variables: &BTreeMap<String, String>) -> Value {
    let config = body.get("pipecat_data").and_then(|data| data.get("config")).filter(|config| !config.is_null());
    let mut session = config.or(agent.pipecat_config.as_ref()).and_then(Value::as_object).cloned().unwrap_or_default();
    session.extend(variables.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))));
    session.into()
}

/// The bot of an entry: a WebSocket or an offer's address, and the token with which it is called.
fn room(entry: &Map<String, Value>) -> Result<(WayOut, Option<Secret>), Invalid> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    let wrong = |problem: &str| Invalid::field("scenarios", format!("pipecat_room_url: {problem}"));
    let mut url = Url::parse(text("pipecat_room_url")).map_err(|_| wrong("Enter a valid URL."))?;
    if url.host_str().is_some_and(|host| host == DAILY || host.ends_with(&format!(".{DAILY}"))) {
        return Err(wrong("The sandbox cannot join a room of Daily; give the address of a bot's WebSocket or of its /api/offer."));
    }
    let token = Secret::new(text("pipecat_token"));
    let scheme = match url.scheme() {
        "ws" => "pipecat-ws",
        "wss" => "pipecat-wss",
        "http" => "pipecat+http",
        "https" => "pipecat+https",
        _ => return Err(wrong("Enter a valid URL.")),
    };
    // A WebSocket is opened with its token in the address.
    let in_address = url.scheme().starts_with("ws");
    if let Some(token) = token.as_ref().filter(|_| in_address) {
        url.query_pairs_mut().append_pair("token", token.reveal());
    }
    let spelled = url.as_str().replacen(url.scheme(), scheme, 1);
    let to = spelled.parse().map_err(|_| wrong("Enter a valid URL."))?;
    Ok((to, token.filter(|_| !in_address)))
}
