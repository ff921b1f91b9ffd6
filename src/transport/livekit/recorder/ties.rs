//! Which run a room belongs to: what its agents were told when they were asked for.

use livekit_protocol::AgentDispatch;
use serde_json::Value;

use crate::call::CallIds;
use crate::record::RoomDispatch;

/// Fills in what the dispatches' metadata, or their jobs', says of the run. Dispatches of `agent` come first; what is known
/// already stays. Cekura tells `run_id` and `scenario_id`.
pub(super) fn fill_in(ids: &mut CallIds, dispatches: &[AgentDispatch], agent: Option<&str>) {
    let mut sorted: Vec<_> = dispatches.iter().collect();
    sorted.sort_by_key(|dispatch| agent.is_some_and(|agent| agent != dispatch.agent_name));
    for dispatch in sorted {
        let jobs = dispatch.state.iter().flat_map(|state| &state.jobs).map(|job| &job.metadata);
        for metadata in std::iter::once(&dispatch.metadata).chain(jobs) {
            if ids.run_id.is_some() {
                return;
            }
            let Ok(Value::Object(told)) = serde_json::from_str::<Value>(metadata) else { continue };
            let id = |name: &str| match told.get(name)? {
                Value::String(text) if !text.is_empty() => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            };
            ids.run_id = id("run_id");
            // What a dispatch without a run says goes for the room only as long as none with one is there.
            for (known, name) in [(&mut ids.scenario_id, "scenario_id"), (&mut ids.result_id, "result_id")] {
                *known = id(name).or(known.take());
            }
        }
    }
}

/// A dispatch as `call.json` has it. None for the one that the server itself makes in every room, for agents without a name.
pub(super) fn told(dispatch: &AgentDispatch) -> Option<RoomDispatch> {
    let AgentDispatch { id, agent_name, metadata, .. } = dispatch;
    let told = serde_json::from_str(metadata).unwrap_or_else(|_| metadata.clone().into());
    let asked_for = !agent_name.is_empty() || !metadata.is_empty();
    asked_for.then(|| RoomDispatch { id: id.clone(), agent_name: agent_name.clone(), metadata: told })
}
