//! The LiveKit door: `trunkline serve` as an agent worker of a real livekit-server 1.13.5, called by LiveKit's Python client 1.1.21.

mod common;

use std::path::Path;
use std::process::Command;

use common::livekit::{LiveKitServer, Peer, gaps, tone_level};
use common::{Running, call_folder, events, path, trunkline, until, wav};
use serde_json::{Value, json};

const AGENT: &str = "my-agent";
/// Of all tones.
const DBFS: f64 = -15.0;
/// What the process agent says.
const AGENT_HZ: f64 = 700.0;
/// What the caller says.
const CALLER_HZ: f64 = 440.0;

/// A process agent in Python that says a tone.
fn tone_agent() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    format!("process:{}/target/pyenv/bin/python {}/tests/interop/tone_agent.py {AGENT_HZ}", root.display(), root.display())
}

/// `serve` with the LiveKit door alone.
fn command(server: &LiveKitServer, to: &str, out: &Path, config: &str) -> Command {
    std::fs::create_dir_all(out).unwrap();
    let file = out.join("trunkline.toml");
    std::fs::write(&file, config).unwrap();
    let mut command =
        trunkline(&["serve", "--to", to, "--livekit-agent-name", AGENT, "--out", path(out), "--config", path(&file)]);
    command.envs(server.env());
    command
}

/// As [`command`], registered, and its id at the server.
fn worker(server: &LiveKitServer, to: &str, out: &Path, config: &str) -> (Running, String) {
    let running = Running::stderr_of(command(server, to, out, config));
    let registered = |line: &str| {
        let line = line.strip_prefix(&format!("registered livekit {AGENT} at "))?;
        Some(line.split("(worker ").nth(1)?.split(')').next()?.to_owned())
    };
    let id = running.wait_for("the worker's registration", registered);
    (running, id)
}

/// A caller in a room of its own who says a tone and has asked for the agent.
fn caller(server: &LiveKitServer, room: &str, folder: &Path, metadata: &str) -> Peer {
    let more = json!({"record": path(folder), "topics": ["lk.transcription", "lk.chat"]});
    let mut caller = Peer::joined(server, room, "caller", more);
    caller.tell("tone", json!({"hz": CALLER_HZ, "dbfs": -12.0}));
    caller.tell("dispatch", json!({"room": room, "agent_name": AGENT, "metadata": metadata}));
    caller
}

/// The agent that has come into the caller's room.
fn agent_of(caller: &Peer) -> String {
    let joined = caller.event("participant_connected", |event| event["kind"] == 4);
    assert_eq!(joined["attributes"]["lk.agent_name"], AGENT, "{joined}");
    joined["participant"].as_str().unwrap().to_owned()
}

/// Waits until the caller has heard the agent for so long.
fn hear(caller: &mut Peer, agent: &str, seconds: u32) {
    caller.tell("hear", json!({"identity": agent, "seconds": seconds}));
}

/// The middle of what was heard is one tone without a gap, and not the other.
fn assert_is_tone(heard: &[i16], rate: u32, right: f64, wrong: f64) {
    let middle = &heard[heard.len() / 3..heard.len() * 4 / 5];
    let level = tone_level(middle, rate, right);
    assert!((level - DBFS).abs() < 1.5, "{right} Hz at {level} dBFS");
    let level = tone_level(middle, rate, wrong);
    assert!(level < DBFS - 40.0, "{wrong} Hz at {level} dBFS");
    assert_eq!(gaps(middle, rate, right, DBFS), Vec::<usize>::new());
}

/// Waits for the end of a call: the line that tells of it.
fn ended(worker: &Running) -> String {
    worker.wait_for("the call's end", |line| line.contains(" ended by ").then(|| line.to_owned()))
}

/// The state of the one job of a room's dispatch, once it is over.
fn job_state(asked: &mut Peer, room: &str) -> Value {
    let asked = std::cell::RefCell::new(asked);
    until("the job's end", || {
        let listed = asked.borrow_mut().tell("dispatches", json!({"room": room}));
        let state = listed["dispatches"][0]["state"]["jobs"][0]["state"].clone();
        matches!(state["status"].as_str(), Some("JS_SUCCESS" | "JS_FAILED")).then_some(state)
    })
}

fn call_json(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("call.json")).unwrap()).unwrap()
}

#[test]
fn an_agent_behind_the_worker_and_its_caller_hear_each_other_and_the_call_is_tied_to_its_run() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let (mut worker, _) = worker(&server, &tone_agent(), &out, "");
    let metadata = json!({"scenario_id": 17, "run_id": 4711, "test_profile_data": {"name": "Zoë\nB", "member": "12 34"}}).to_string();
    let mut caller = caller(&server, "run", folder.path(), &metadata);
    let agent = agent_of(&caller);
    hear(&mut caller, &agent, 4);
    assert_is_tone(&caller.recording_of(&agent), 48_000, AGENT_HZ, CALLER_HZ);
    caller.tell("leave", json!({}));
    let line = ended(&worker);
    assert!(line.contains("ended by caller"), "{line}");
    worker.stop();
    let call = call_folder(&out);
    assert_is_tone(&wav(&call.join("caller.wav")), 48_000, CALLER_HZ, AGENT_HZ);
    assert_is_tone(&wav(&call.join("agent.wav")), 16_000, AGENT_HZ, CALLER_HZ);
    let told = call_json(&call);
    assert_eq!((&told["ids"]["run_id"], &told["ids"]["scenario_id"]), (&json!("4711"), &json!("17")), "{told}");
    let events = events(&call);
    let log = events.iter().filter_map(|event| event["line"].as_str()).find_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = log.expect("the process told its environment");
    assert_eq!(found["TRUNKLINE_METADATA"], metadata);
    assert_eq!(found["TRUNKLINE_RUN_ID"], "4711");
    let report: Value = serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["runs"][0]["run_id"], 4711, "{report}");
}
