//! The LiveKit door: `trunkline serve` as an agent worker of a real livekit-server 1.13.5, called by LiveKit's Python client 1.1.21.

use crate::common;

use std::path::Path;
use std::process::Command;

use common::livekit::{LiveKitServer, Peer};
use common::tone::{gaps, tone_level};
use common::{Running, call_folder, events, path, python, python_agent, trunkline, until, wav};
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
    process_agent(&AGENT_HZ.to_string())
}

/// A process agent in Python that says this.
fn process_agent(says: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    format!("process:{root}/target/pyenv/bin/python {root}/tests/interop/tone_agent.py {says}")
}

/// `serve` with the LiveKit door alone.
fn command(server: &LiveKitServer, to: &str, out: &Path, config: &str) -> Command {
    std::fs::create_dir_all(out).unwrap();
    let file = out.join("trunkline.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = trunkline(&["serve", "--to", to, "--livekit-agent-name", AGENT, "--out", path(out), "--config", path(&file)]);
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

/// The agent that has come into the caller's room, once it listens.
fn agent_of(caller: &Peer) -> String {
    let joined = caller.event("participant_connected", |event| event["kind"] == 4);
    assert_eq!(joined["attributes"]["lk.agent_name"], AGENT, "{joined}");
    let states = ["initializing", "listening", "speaking"].map(Value::from);
    assert!(states.contains(&joined["attributes"]["lk.agent.state"]), "{joined}");
    if joined["attributes"]["lk.agent.state"] == "initializing" {
        caller.event("attributes", |event| event["changed"]["lk.agent.state"] == "listening");
    }
    joined["participant"].as_str().unwrap().to_owned()
}

/// Waits until the caller has heard the agent for so long.
fn hear(caller: &mut Peer, agent: &str, seconds: u32) {
    caller.tell("hear", json!({"identity": agent, "seconds": seconds}));
}

/// The middle of what was heard is one tone without a gap, and not the other.
fn assert_is_tone(heard: &[i16], rate: u32, right: f64, wrong: f64) {
    let middle = &heard[heard.len() / 3..heard.len() * 4 / 5];
    // In pieces: where the jitter buffer has let time pass the tone goes on at another phase.
    let level = |hz: f64| {
        let mut levels: Vec<_> = middle.chunks_exact(rate as usize / 5).map(|piece| tone_level(piece, rate, hz)).collect();
        levels.sort_by(f64::total_cmp);
        levels[levels.len() / 2]
    };
    assert!((level(right) - DBFS).abs() < 1.5, "{right} Hz at {} dBFS", level(right));
    assert!(level(wrong) < DBFS - 40.0, "{wrong} Hz at {} dBFS", level(wrong));
    assert_eq!(gaps(middle, rate, right, DBFS), Vec::<usize>::new());
}

/// Waits for the end of a call: the line that tells of it.
fn ended(worker: &Running) -> String {
    worker.wait_for("the call's end", |line| line.contains(" ended by ").then(|| line.to_owned()))
}

/// An independent chat agent in Python and its port.
fn python_chat_agent() -> (Running, u64) {
    let agent = Running::stdout_of(python("chat_agent.py", &["--mode", "echo"]));
    let port = agent.json("the port")["port"].as_u64().unwrap();
    (agent, port)
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
    let metadata =
        json!({"scenario_id": 17, "run_id": 4711, "test_profile_data": {"name": "Zoë\nB", "member": "12 34"}}).to_string();
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
    assert_eq!((&told["run_id"], &told["scenario_id"]), (&json!("4711"), &json!("17")), "{told}");
    let events = events(&call);
    let log = events.iter().filter_map(|event| event["line"].as_str()).find_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = log.expect("the process told its environment");
    assert_eq!(found["TRUNKLINE_METADATA"], metadata);
    assert_eq!(found["TRUNKLINE_RUN_ID"], "4711");
    let report: Value = serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["runs"][0]["run_id"], 4711, "{report}");
}

/// The id of the worker that has the job of a room.
fn worker_of(asked: &mut Peer, room: &str) -> String {
    let asked = std::cell::RefCell::new(asked);
    until("the job's worker", || {
        let listed = asked.borrow_mut().tell("dispatches", json!({"room": room}));
        listed["dispatches"][0]["state"]["jobs"][0]["state"]["workerId"].as_str().map(str::to_owned)
    })
}

/// Waits until the server has logged the end of `count` jobs: their status, and the error of those that failed.
fn ended_jobs(server: &LiveKitServer, count: usize) -> Vec<(String, String)> {
    until("the jobs' end", || {
        let log = server.log();
        let ended = log.lines().filter(|line| line.contains("\tjob ended\t"));
        let ended = ended.filter_map(|line| serde_json::from_str::<Value>(&line[line.find('{')?..]).ok());
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let ended: Vec<_> = ended.map(|job| (word(&job["status"]), word(&job["error"]))).collect();
        (ended.len() >= count).then_some(ended)
    })
}

fn terminate(process: &Running) {
    let pid = nix::unistd::Pid::from_raw(process.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
}

#[test]
fn a_chirp_agent_gets_the_metadata_as_a_header_and_its_state_is_seen_in_the_room() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let (agent, port) = python_agent("burst", &["--seconds", "30"]);
    let (mut worker, _) = worker(&server, &format!("chirp://127.0.0.1:{port}/"), &folder.path().join("out"), "");
    let metadata = json!({"run_id": "r-1", "test_profile_data": {"name": "Zoë\n😀"}});
    let mut caller = caller(&server, "chirp", folder.path(), &metadata.to_string());
    let name = agent_of(&caller);
    caller.event("attributes", |event| event["changed"]["lk.agent.state"] == "speaking");
    hear(&mut caller, &name, 3);
    let heard = caller.recording_of(&name);
    let buzz = tone_level(&heard[heard.len() / 2..], 48_000, 140.0);
    assert!(buzz > -35.0, "the agent's buzz is at {buzz} dBFS");
    caller.tell("leave", json!({}));
    ended(&worker);
    worker.stop();
    let saw = agent.json("what the agent saw");
    let header = saw["headers"]["x-trunkline-metadata"].as_str().unwrap();
    assert!(header.is_ascii(), "{header}");
    assert_eq!(serde_json::from_str::<Value>(header).unwrap(), metadata);
    assert_eq!(saw["headers"]["x-vocera-run-id"], "r-1");
    assert!(saw["bytes"].as_u64().unwrap() > 16_000 * 2 * 2, "the caller is heard: {saw}");
    assert_eq!(ended_jobs(&server, 1)[0].0, "JS_SUCCESS");
}

#[test]
fn the_state_of_an_agent_that_tells_none_is_heard_and_a_deleted_room_ends_the_call() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let said = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/speech/agent-answer-2.wav");
    let (mut worker, _) = worker(&server, &process_agent(said), &out, "");
    let mut caller = caller(&server, "states", folder.path(), "no JSON");
    let agent = agent_of(&caller);
    for state in ["speaking", "listening"] {
        caller.event("attributes", |event| event["participant"] == agent.as_str() && event["changed"]["lk.agent.state"] == state);
    }
    caller.tell("delete_room", json!({"room": "states"}));
    let line = ended(&worker);
    assert!(line.contains("ended by caller"), "{line}");
    worker.stop();
    let end = &call_json(&call_folder(&out))["end"];
    assert_eq!((&end["reason"], end["detail"].as_str().unwrap().contains("deleted")), (&json!("hung_up"), true), "{end}");
    assert!(events(&call_folder(&out)).iter().any(|event| event["metadata"]["metadata"] == "no JSON"));
}

#[test]
fn what_is_typed_reaches_an_agent_of_text_and_its_answer_comes_as_a_transcription() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let (agent, port) = python_chat_agent();
    let (mut worker, _) = worker(&server, &format!("chat://127.0.0.1:{port}/"), &folder.path().join("out"), "");
    let metadata = json!({"run_id": 5, "text_mode": true}).to_string();
    let mut caller = caller(&server, "chat", folder.path(), &metadata);
    let name = agent_of(&caller);
    caller.tell("text", json!({"text": "Hello there", "topic": "lk.chat"}));
    let answer = caller.event("text", |event| event["participant"] == name.as_str());
    assert_eq!((&answer["topic"], &answer["text"]), (&json!("lk.transcription"), &json!("you said: Hello there")));
    assert_eq!(answer["attributes"]["lk.transcription_final"], "true");
    caller.tell("leave", json!({}));
    ended(&worker);
    worker.stop();
    let saw = agent.json("what the agent saw");
    let told: Vec<_> = saw["frames"].as_array().unwrap().iter().filter(|frame| frame["metadata"].is_object()).collect();
    assert_eq!(told[0]["metadata"]["metadata"], json!({"run_id": 5, "text_mode": true}), "{saw}");
}

#[test]
fn sigterm_drains_the_running_call_ends_by_itself_and_new_jobs_go_to_the_other_worker() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let (mut drained, id) = worker(&server, &tone_agent(), &one, "");
    let mut first = caller(&server, "first", folder.path(), "");
    let agent = agent_of(&first);
    hear(&mut first, &agent, 1);
    terminate(&drained);
    drained.wait_for("that it drains", |line| line.contains("no more calls are taken").then_some(()));
    let (mut stays, other_id) = worker(&server, &tone_agent(), &other, "");
    for room in ["a", "b", "c"] {
        first.tell("dispatch", json!({"room": room, "agent_name": AGENT}));
        assert_eq!(worker_of(&mut first, room), other_id, "not {id}, which drains");
    }
    // The call goes on as if nothing were.
    hear(&mut first, &agent, 2);
    assert!(!drained.has_ended());
    first.tell("leave", json!({}));
    assert!(ended(&drained).contains("ended by caller"));
    assert!(drained.wait().success());
    assert_eq!(ended_jobs(&server, 1)[0], ("JS_SUCCESS".to_owned(), String::new()));
    call_folder(&one);
    // Jobs to which nobody came do not hold a second signal up.
    terminate(&stays);
    stays.wait_for("that it drains", |line| line.contains("no more calls are taken").then_some(()));
    terminate(&stays);
    assert!(stays.wait().success());
}

#[test]
fn a_second_signal_ends_the_call_and_the_job_fails_with_the_reason() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let (mut worker, _) = worker(&server, &tone_agent(), &folder.path().join("out"), "");
    let mut caller = caller(&server, "cut", folder.path(), "no JSON");
    let agent = agent_of(&caller);
    hear(&mut caller, &agent, 1);
    terminate(&worker);
    worker.wait_for("that it drains", |line| line.contains("no more calls are taken").then_some(()));
    terminate(&worker);
    assert!(worker.wait().success());
    caller.event("participant_disconnected", |event| event["participant"] == agent.as_str());
    let (status, error) = ended_jobs(&server, 1).remove(0);
    assert_eq!(status, "JS_FAILED");
    assert!(error.contains("cancelled"), "{error}");
}

#[test]
fn when_a_worker_is_killed_its_agent_leaves_and_the_next_job_goes_to_the_other() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let mut workers = ["one", "other"].map(|name| worker(&server, &tone_agent(), &folder.path().join(name), ""));
    let mut first = caller(&server, "first", folder.path(), "");
    let agent = agent_of(&first);
    hear(&mut first, &agent, 1);
    let has_it = worker_of(&mut first, "first");
    let (killed, stays) = if workers[0].1 == has_it { (0, 1) } else { (1, 0) };
    assert_eq!(workers[killed].1, has_it);
    workers[killed].0.kill_9();
    first.event("participant_disconnected", |event| event["participant"] == agent.as_str());
    let mut second = caller(&server, "second", folder.path(), "");
    let agent = agent_of(&second);
    hear(&mut second, &agent, 1);
    assert_eq!(worker_of(&mut second, "second"), workers[stays].1);
    second.tell("leave", json!({}));
    ended(&workers[stays].0);
    workers[stays].0.stop();
}

#[test]
fn after_a_restart_of_the_server_the_worker_is_registered_again_and_gets_jobs() {
    let mut server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let (mut worker, id) = worker(&server, &tone_agent(), &folder.path().join("out"), "");
    server.restart();
    let again = |line: &str| line.split("registered again, as ").nth(1).map(|id| id.trim().to_owned());
    assert_ne!(worker.wait_for("the new registration", again), id);
    let mut caller = caller(&server, "after", folder.path(), "");
    let agent = agent_of(&caller);
    hear(&mut caller, &agent, 1);
    caller.tell("leave", json!({}));
    ended(&worker);
    worker.stop();
}

#[test]
fn above_max_calls_jobs_are_left_to_others_until_a_place_is_free() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let config = "[doors.livekit]\nmax_calls = 4\n";
    let (_full, id) = worker(&server, &tone_agent(), &folder.path().join("full"), config);
    let mut asks = Peer::new(&server);
    // Nobody comes into these rooms: their jobs wait, and have a place.
    let mut dispatch = |room: &str| {
        asks.tell("dispatch", json!({"room": room, "agent_name": AGENT}));
        worker_of(&mut asks, room)
    };
    for room in ["a", "b", "c", "d"] {
        assert_eq!(dispatch(room), id);
    }
    let (_spare, spare) = worker(&server, &tone_agent(), &folder.path().join("spare"), "[doors.livekit]\nmax_calls = 1\n");
    assert_eq!(dispatch("e"), spare);
    asks.tell("delete_room", json!({"room": "a"}));
    let (status, error) = ended_jobs(&server, 1).remove(0);
    assert_eq!(status, "JS_FAILED", "{error}");
    asks.tell("dispatch", json!({"room": "f", "agent_name": AGENT}));
    assert_eq!(worker_of(&mut asks, "f"), id);
}

#[test]
fn a_worker_that_the_server_does_not_take_says_why_and_no_secret() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let run = |change: &dyn Fn(&mut Command)| {
        let mut command = command(&server, &tone_agent(), folder.path(), "");
        change(&mut command);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let secret = "another-secret-that-is-also-long-enough";
    let (code, said) = run(&|command| {
        command.env("LIVEKIT_API_SECRET", secret);
    });
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("does not take LIVEKIT_API_KEY and LIVEKIT_API_SECRET") && !said.contains(secret), "{said}");
    let (code, said) = run(&|command| {
        command.env_remove("LIVEKIT_API_KEY");
    });
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("LIVEKIT_API_KEY"), "{said}");
    let elsewhere = command(&server, &tone_agent(), folder.path(), "[doors.livekit]\nurl = \"ws://127.0.0.1:9\"\n")
        .env_remove("LIVEKIT_URL")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&elsewhere.stderr);
    assert_eq!(elsewhere.status.code(), Some(3), "{said}");
    assert!(said.contains("ws://127.0.0.1:9/ cannot be reached"), "{said}");
    let itself = command(&server, "livekit://?agent=my-agent", folder.path(), "").output().unwrap();
    let said = String::from_utf8_lossy(&itself.stderr);
    assert!(itself.status.code() == Some(2) && said.contains("the LiveKit door itself"), "{said}");
}
