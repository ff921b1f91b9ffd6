//! LiveKit runs: which room, whose agent, and what is told to whom.

use std::time::Duration;

use serde_json::{Map, Value};
use url::Url;

use super::super::carrier::Target;
use super::super::project::{Agent, Project};
use super::{Aim, Invalid};
use crate::cekura::payload::Mode;
use crate::transport::Secret;
use crate::transport::livekit::{Entrance, RoomCall};

/// The caller's identity in the rooms that the sandbox makes.
const CALLER: &str = "testing-agent";
/// How long each step may take until the agent is heard: a worker may start a process for it.
const STEP_TIME: Duration = Duration::from_secs(30);

/// How a run reaches its agent in a room.
pub(super) fn room_target(aim: &Aim<'_>) -> Result<Target, Invalid> {
    let entrance = if aim.mode == Mode::LivekitV2 { made(aim.project, aim.agent, aim.body)? } else { given(aim.entry)? };
    let call = RoomCall { entrance, identity: CALLER.to_owned(), publish: aim.publish(), relay_only: false, step_time: STEP_TIME };
    let call = Box::new(call);
    Ok(match aim.mode {
        Mode::LivekitChat => Target::RoomChat { call },
        _ => Target::Room { call, profile: aim.variables.clone() },
    })
}

/// A room of the sandbox's own, on the server that the request, the agent or the sandbox names, in this order. The request's
/// `config` takes the place of the agent's, whole.
fn made(project: &Project, agent: &Agent, body: &Map<String, Value>) -> Result<Entrance, Invalid> {
    let Some(server) = &project.livekit else {
        return Err(Invalid::field(
            "livekit_data",
            "The sandbox knows no LiveKit server: set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET where it is started.",
        ));
    };
    let data = body.get("livekit_data").and_then(Value::as_object);
    let text = |name: &str| data.and_then(|data| data.get(name)).and_then(Value::as_str).filter(|text| !text.is_empty());
    let url = match text("url") {
        Some(url) => Some(parsed("livekit_data", url)?),
        None => agent.livekit_url.clone(),
    };
    let agent_name = text("agent_name").map(str::to_owned).or_else(|| agent.livekit_agent_name.clone());
    let Some(agent_name) = agent_name else {
        return Err(Invalid::field("livekit_data", "Agent has no LiveKit agent name, and the request has no agent_name."));
    };
    let config = data.and_then(|data| data.get("config")).or(agent.livekit_config.as_ref());
    Ok(Entrance::Made {
        server: url.map_or_else(|| server.clone(), |url| server.at(url)),
        room: None,
        room_metadata: config.map(Value::to_string).unwrap_or_default(),
        agent_name: Some(agent_name),
        metadata: String::new(),
    })
}

/// The room of an entry: its address and the token with which the caller joins.
fn given(entry: &Map<String, Value>) -> Result<Entrance, Invalid> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    let token = Secret::new(text("access_token"));
    let token = token.ok_or_else(|| Invalid::field("scenarios", "access_token: This field is required."))?;
    Ok(Entrance::Given { url: parsed("scenarios", text("livekit_room_url"))?, token })
}

fn parsed(field: &str, url: &str) -> Result<Url, Invalid> {
    let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "ws" | "wss" | "http" | "https"));
    parsed.ok_or_else(|| Invalid::field(field, "Enter a valid URL."))
}
