//! LiveKit runs through the sandbox: a real livekit-server, LiveKit's own agents and client, and the `cekura` package.

use crate::common;

use std::path::Path;
use std::time::Duration;

use common::livekit::{LiveKitServer, Peer, agent_worker};
use common::sandbox::{SCENARIO, http, sandbox_with};
use common::{Running, path, suite, trunkline, until};
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
    common::sandbox::with_the_package("run_livekit_v2", url, KEY, request)
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

/// Trunkline at this server, as its user runs it.
fn at(server: &LiveKitServer, arguments: &[&str]) -> std::process::Output {
    trunkline(arguments).envs(server.env()).output().unwrap()
}

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The rooms that are at the server, as LiveKit's own client of its API lists them.
fn rooms(tester: &mut Peer) -> Vec<Value> {
    tester.tell("rooms", json!({}))["rooms"].as_array().unwrap().clone()
}

#[test]
fn a_prepared_payload_has_its_rooms_with_the_agent_in_them_and_is_run_as_it_is() {
    let server = LiveKitServer::start();
    let worker = agent_worker(&server, "livekit_scripted_agent.py", "front-desk", &[]);
    let folder = tempfile::tempdir().unwrap();
    let (suite, out, file) = (suite(folder.path(), &SCENARIO), folder.path().join("out"), folder.path().join("run.json"));
    let mut arguments = vec!["payload", "livekit", "--prepare", "--scenario-ids", "1,1", "--agent-name", "front-desk"];
    arguments.extend(["--agent-metadata", r#"{"tenant": "lakeside"}"#, "--agent-config", r#"{"voice": "b"}"#, "--valid-s", "900"]);
    arguments.extend(["--output", path(&file)]);
    let prepared = at(&server, &arguments);
    assert!(prepared.status.success() && stderr(&prepared).contains("each waits 900 s"), "{}", stderr(&prepared));
    let body: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let entries = body["scenarios"].as_array().unwrap();
    assert_eq!((body.as_object().unwrap().len(), entries.len()), (1, 2), "the agent is nobody else's affair: {body:#}");
    assert!(entries.iter().all(|entry| entry["livekit_room_url"].as_str().unwrap().trim_end_matches('/') == server.url()));
    let mut tester = Peer::new(&server);
    let there = rooms(&mut tester);
    assert_eq!(there.len(), 2, "{there:#?}");
    for room in &there {
        assert_eq!((&room["emptyTimeout"], &room["metadata"]), (&900.into(), &r#"{"voice":"b"}"#.into()), "{room:#}");
        let dispatched = tester.tell("dispatches", json!({"room": room["name"]}));
        // The server has one of its own, for agents without a name.
        let named = |dispatch: &&Value| dispatch["agentName"].is_string();
        let dispatches: Vec<_> = dispatched["dispatches"].as_array().unwrap().iter().filter(named).collect();
        assert_eq!((dispatches.len(), &dispatches[0]["agentName"]), (1, &"front-desk".into()), "{dispatched:#}");
        let told: Value = serde_json::from_str(dispatches[0]["metadata"].as_str().unwrap()).unwrap();
        assert_eq!(told, json!({"scenario_id": 1, "tenant": "lakeside"}));
    }
    let mut arguments = vec!["run", "livekit", "--from-file", path(&file), "--sandbox", "--suite", path(&suite)];
    arguments.extend(["--out", path(&out), "--format", "json"]);
    let ran = at(&server, &arguments);
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", stderr(&ran)));
    assert_eq!((ran.status.code(), &report["totals"]["passed"]), (Some(0), &2.into()), "{report:#}");
    let in_rooms = [worker.event("job", |_| true), worker.event("job", |_| true)].map(|job| job["room"].clone());
    assert!(there.iter().all(|room| in_rooms.contains(&room["name"])), "{in_rooms:?}");
}

#[test]
fn one_command_prepares_a_chats_room_runs_it_and_leaves_nothing_behind() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let script = json!({"greeting": {"text": "Hello."}, "answers": [{"text": "Goodbye."}]});
    let (script_file, out) = (folder.path().join("script.json"), folder.path().join("out"));
    std::fs::write(&script_file, script.to_string()).unwrap();
    let worker = agent_worker(&server, "livekit_scripted_agent.py", "writer", &[("AGENT_SCRIPT", path(&script_file))]);
    let suite = suite(folder.path(), &SCENARIO);
    let mut arguments = vec!["run", "livekit_chat", "--prepare", "--agent-name", "writer", "--scenario-ids", "1", "--room", "desk"];
    arguments.extend(["--agent-id", "1", "--sandbox", "--suite", path(&suite), "--out", path(&out), "--format", "json"]);
    let ran = at(&server, &arguments);
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", stderr(&ran)));
    assert_eq!(
        (ran.status.code(), &report["mode"], &report["totals"]["passed"]),
        (Some(0), &"livekit_chat".into(), &1.into()),
        "{report:#}"
    );
    let job = worker.event("job", |_| true);
    let told: Value = serde_json::from_str(job["metadata"].as_str().unwrap()).unwrap();
    assert_eq!((&job["room"], told), (&"desk".into(), json!({"scenario_id": 1, "text_mode": true})));
    assert_eq!(rooms(&mut Peer::new(&server)), Vec::<Value>::new());
}

#[test]
fn what_cannot_be_prepared_as_a_whole_leaves_no_room_and_no_payload_and_names_the_entry() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let mut tester = Peer::new(&server);
    // The server takes no room's name of more than 256 characters.
    let long = "x".repeat(300);
    let mut arguments = vec!["payload", "livekit", "--prepare", "--scenario-ids", "4,5,6", "--agent-name", "somebody"];
    let to_file = ["--output", path(&file)];
    arguments.extend(["--room", "one", "--room", "two", "--room"]);
    let failed = at(&server, &[&arguments[..], &[long.as_str()], &to_file].concat());
    let told = stderr(&failed);
    assert_eq!((failed.status.code(), failed.stdout.len(), file.exists()), (Some(3), 0, false), "{told}");
    assert!(told.contains("entry 3 (scenario 6)") && told.contains("2 rooms"), "{told}");
    assert_eq!(rooms(&mut tester), Vec::<Value>::new());
    // A room that is there is somebody else's, and stays.
    tester.tell("create_room", json!({"room": "theirs", "empty_timeout": 600}));
    let failed = at(&server, &[&arguments[..], &["theirs"], &to_file].concat());
    assert!(failed.status.code() == Some(2) && stderr(&failed).contains("\"theirs\" is at"), "{}", stderr(&failed));
    let there: Vec<_> = rooms(&mut tester).iter().map(|room| room["name"].clone()).collect();
    assert_eq!(there, ["theirs"]);
    // A payload that cannot be written.
    let nowhere = folder.path().join("no/such/folder/run.json");
    let failed = at(&server, &[&arguments[..], &["three", "--output", path(&nowhere)]].concat());
    assert!(failed.status.code() == Some(2) && stderr(&failed).contains("cannot write"), "{}", stderr(&failed));
    let there: Vec<_> = rooms(&mut tester).iter().map(|room| room["name"].clone()).collect();
    assert_eq!(there, ["theirs"]);
    let refused = |arguments: &[&str], expected: &str| {
        let output = at(&server, arguments);
        let told = stderr(&output);
        assert!(output.status.code() == Some(2) && told.contains(expected), "{arguments:?}: {told}");
    };
    let base = ["payload", "livekit", "--prepare", "--scenario-ids", "1,2"];
    refused(&[&base[..], &["--room", "shared"]].concat(), "a room for each of the 2 entries");
    refused(&[&base[..], &["--room-url", "wss://a.example", "--room-url", "wss://b.example"]].concat(), "one server");
    refused(&[&base[..], &["--agent-metadata", "{}"]].concat(), "needs --agent-name");
    refused(&["payload", "livekit_chat", "--prepare", "--scenario-ids", "1"], "must be told to write");
    refused(&["payload", "livekit_v2", "--prepare", "--agent-id", "1", "--scenario-ids", "1"], "--prepare belongs to livekit and");
    refused(&["payload", "livekit", "--scenario-ids", "1", "--agent-metadata", "{}"], "--prepare");
    let without = trunkline(&base).env("LIVEKIT_API_KEY", "k").env("LIVEKIT_API_SECRET", "s").output().unwrap();
    assert!(without.status.code() == Some(2) && stderr(&without).contains("needs a LiveKit server"), "{}", stderr(&without));
}

#[test]
fn a_test_profile_reaches_the_agent_as_its_jobs_test_profile_data() {
    let server = LiveKitServer::start();
    let worker = agent_worker(&server, "livekit_scripted_agent.py", "front-desk", &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = suite(folder.path(), &SCENARIO);
    let mut suite: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let profile = json!({"agent_variables": {"member": "1234", "tier": "gold"}, "caller_variables": {"name": "Robin"}});
    suite["scenarios"][0]["test_profile"] = profile;
    std::fs::write(&file, suite.to_string()).unwrap();
    let (_sandbox, url) = sandbox_with(folder.path(), &["--suite", path(&file)], |command| {
        command.envs(server.env()).env("CEKURA_API_KEY", KEY);
    });
    let request = json!({"agent": 1, "scenarios": [{"scenario": 1}], "livekit_data": {"agent_name": "front-desk"}});
    let seen = with_the_package(&url, &request);
    assert_eq!(seen["run"]["success"], true, "{seen:#}");
    let job = worker.event("job", |_| true);
    let told: Value = serde_json::from_str(job["metadata"].as_str().unwrap()).unwrap();
    assert_eq!(
        told["test_profile_data"],
        json!({"member": "1234", "tier": "gold"}),
        "the caller's variables are not the agent's: {told}"
    );
}
