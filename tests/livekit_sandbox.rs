//! LiveKit runs through the sandbox: a real livekit-server, LiveKit's own agents and client, and the `cekura` package.

mod common;

use std::path::Path;
use std::time::Duration;

use common::livekit::{LiveKitServer, Peer, agent_worker};
use common::sandbox::{SCENARIO, http, sandbox_with};
use common::{Running, path, python, suite, trunkline, until};
use serde_json::{Value, json};
use trunkline::transport::Secret;
use trunkline::transport::livekit::{Grants, Server};

const KEY: &str = "livekit-key";

fn api(server: &LiveKitServer) -> Server {
    Server::new(&server.url(), server.key(), Secret::new(server.secret()).unwrap()).unwrap()
}

fn sandbox(server: &LiveKitServer, folder: &Path, more: &[&str]) -> (Running, String) {
    let suite = suite(folder, &SCENARIO);
    let mut arguments = vec!["--suite", path(&suite)];
    arguments.extend(more);
    sandbox_with(folder, &arguments, |command| {
        command.envs(server.env()).env("CEKURA_API_KEY", KEY);
    })
}

/// What the package's client says of a livekit_v2 run.
fn with_the_package(url: &str, request: &Value) -> Value {
    let output = python("sdk_livekit.py", &[url, KEY, &request.to_string()]).output().expect("python starts");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn a_livekit_v2_run_asks_for_the_agent_with_its_ids_and_is_recorded_and_its_room_is_gone() {
    let server = LiveKitServer::start();
    let worker = agent_worker(&server, "livekit_scripted_agent.py", "front-desk", &[]);
    let folder = tempfile::tempdir().unwrap();
    let (_sandbox, url) = sandbox(&server, folder.path(), &["--agent-livekit-name", "nobody"]);
    let request = json!({"agent": 1, "scenarios": [{"scenario": 1}],
        "livekit_data": {"agent_name": "front-desk", "config": {"voice": "b"}}});
    let seen = with_the_package(&url, &request);
    assert_eq!((&seen["result"]["status"], &seen["run"]["success"]), (&"completed".into(), &true.into()), "{seen:#}");
    let job = worker.event("job", |_| true);
    let told: Value = serde_json::from_str(job["metadata"].as_str().unwrap()).unwrap();
    assert_eq!(told, json!({"run_id": seen["run"]["id"], "scenario_id": 1, "test_profile_data": {}}), "{job}");
    let transcript = seen["run"]["transcript_object"].as_array().unwrap();
    let of = |role: &str| transcript.iter().filter(|line| line["role"] == role).count();
    assert!(of("Main Agent") >= 1 && of("Testing Agent") == 1, "{transcript:#?}");
    let recordings = walk(&folder.path().join("data"));
    for track in ["agent.wav", "caller.wav", "stereo.wav"] {
        let file = recordings.iter().find(|file| file.ends_with(track)).unwrap_or_else(|| panic!("{track}: {recordings:?}"));
        let loud = common::wav(file).iter().filter(|sample| sample.unsigned_abs() > 1000).count();
        assert!(loud > 1_000, "{track} is silent");
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    until("the room's end", || runtime.block_on(api(&server).list_rooms(Vec::new())).unwrap().is_empty().then_some(()));
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn one_command_runs_livekit_v2_in_a_sandbox_of_its_own_and_records_its_room() {
    let server = LiveKitServer::start();
    let _worker = agent_worker(&server, "livekit_scripted_agent.py", "front-desk", &[]);
    let folder = tempfile::tempdir().unwrap();
    let (suite, out) = (suite(folder.path(), &SCENARIO), folder.path().join("out"));
    let mut arguments = vec!["run", "livekit_v2", "--agent-id", "1", "--scenario-ids", "1", "--agent-name", "front-desk"];
    arguments.extend(["--sandbox", "--record", "--suite", path(&suite), "--out", path(&out), "--format", "json"]);
    let ran = trunkline(&arguments).envs(server.env()).output().unwrap();
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&ran.stderr)));
    assert_eq!((&report["mode"], &report["status"]), (&"livekit_v2".into(), &"completed".into()), "{report:#}");
    assert_eq!(report["run_ids"].as_array().unwrap().len(), 1);
    assert_eq!((ran.status.code(), &report["verdict"]), (Some(0), &"passed".into()), "{report:#}");
    let run = &report["runs"][0];
    let room = out.join(run["recording"].as_str().unwrap_or_else(|| panic!("the room is recorded: {report:#}")));
    let call: Value = serde_json::from_slice(&std::fs::read(room.join("call.json")).unwrap()).unwrap();
    assert_eq!(call["run_id"], run["run_id"].to_string(), "{call:#}");
    for track in ["agent.wav", "caller.wav"] {
        let loud = common::wav(&room.join(track)).iter().filter(|sample| sample.unsigned_abs() > 1000).count();
        assert!(loud > 1_000, "{track} is silent");
    }
}

#[test]
fn an_agent_without_a_name_is_refused_and_one_that_never_comes_fails_its_run_with_the_reason() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let (_sandbox, url) = sandbox(&server, folder.path(), &[]);
    let refused = with_the_package(&url, &json!({"agent": 1, "scenarios": [{"scenario": 1}]}));
    assert_eq!(refused["refused"], 400);
    assert!(refused["body"].as_str().unwrap().contains("no LiveKit agent name"), "{refused}");
    let request = json!({"agent": 1, "scenarios": [{"scenario": 1}], "livekit_data": {"agent_name": "nobody-there"}});
    let seen = with_the_package(&url, &request);
    assert_eq!(seen["run"]["status"], "failed", "{seen:#}");
    let error = seen["run"]["error_message"].as_str().unwrap();
    assert!(error.contains("agent joined") && error.contains("nobody-there"), "{error}");
}

#[test]
fn a_livekit_run_takes_place_in_the_room_that_the_request_names() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let (_sandbox, url) = sandbox(&server, folder.path(), &[]);
    let record = folder.path().join("heard");
    std::fs::create_dir_all(&record).unwrap();
    let mut agent = Peer::joined(&server, "theirs", "our-agent", json!({"record": path(&record)}));
    agent.tell("publish", json!({}));
    let token = api(&server).room_token("theirs", "caller", Duration::from_secs(300), &Grants::default()).unwrap();
    let body = json!({"scenarios": [{"scenario": 1, "livekit_room_url": server.url(), "access_token": token}]});
    let path = "/test_framework/v1/scenarios/run_scenarios_livekit/";
    let (status, started) = http("POST", &url, path, Some(KEY), Some(&body.to_string()));
    assert!(status < 300, "{status} {started}");
    agent.event("participant_connected", |event| event["participant"] == "caller");
    agent.tell("play", json!({"file": concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/speech/agent-greeting.wav")}));
    agent.event("participant_disconnected", |event| event["participant"] == "caller");
    let result = until("the result's end", || {
        let path = format!("/test_framework/v1/results/{}/", started["id"]);
        let (_, result) = http("GET", &url, &path, Some(KEY), None);
        ["completed", "failed"].contains(&result["status"].as_str()?).then_some(result)
    });
    assert_eq!((&result["status"], &result["success_rate"]), (&"completed".into(), &json!(100.0)), "{result:#}");
    let loud = agent.recording_of("caller").iter().filter(|sample| sample.unsigned_abs() > 1000).count();
    assert!(loud > 5_000, "the agent has heard the caller's goodbye");
    let whole = result.to_string();
    assert!(!whole.contains(&token), "the token is shown nowhere");
}
