//! The real LiveKit side of the tests, by itself: livekit-server 1.13.5, LiveKit's Python client 1.1.21, livekit-agents 1.8.9.

use crate::common;

use std::path::Path;

use common::livekit::{LiveKitServer, Options, Peer, agent_worker, gone};
use common::tone::{gaps, tone_file, tone_level, tone_seconds};
use common::{api, path, until};
use serde_json::{Value, json};

const RATE: u32 = 48_000;
/// Of the tones.
const DBFS: f64 = -15.0;

/// Two participants of which each sends a tone and records the other, after both have heard 3 s.
fn two_with_tones(server: &LiveKitServer, folder: &Path) -> (Peer, Peer) {
    let record = json!({"record": path(folder)});
    let mut ann = Peer::joined(server, "tones", "ann", record.clone());
    let mut bob = Peer::joined(server, "tones", "bob", record);
    ann.tell("tone", json!({"hz": 440}));
    bob.tell("tone", json!({"hz": 700}));
    bob.tell("hear", json!({"identity": "ann", "seconds": 3}));
    ann.tell("hear", json!({"identity": "bob", "seconds": 3}));
    (ann, bob)
}

fn assert_is_one_tone(heard: &[i16], right: f64, wrong: f64) {
    // The first packets may come late, and the last may not have come.
    let middle = &heard[heard.len() / 4..heard.len() * 3 / 4];
    let level = tone_level(middle, RATE, right);
    assert!((level - DBFS).abs() < 1.5, "{right} Hz at {level} dBFS");
    let level = tone_level(middle, RATE, wrong);
    assert!(level < DBFS - 40.0, "{wrong} Hz at {level} dBFS");
    assert_eq!(gaps(middle, RATE, right, DBFS), Vec::<usize>::new());
}

#[test]
fn two_participants_hear_each_others_tones_without_a_gap() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let (mut ann, mut bob) = two_with_tones(&server, folder.path());
    assert_is_one_tone(&bob.recording_of("ann"), 440.0, 700.0);
    assert_is_one_tone(&ann.recording_of("bob"), 700.0, 440.0);
}

#[test]
fn media_goes_over_tcp_where_the_server_opens_no_udp_port() {
    let server = LiveKitServer::start_with(&Options { tcp_only: true, ..Options::default() });
    let folder = tempfile::tempdir().unwrap();
    let (mut ann, mut bob) = two_with_tones(&server, folder.path());
    assert_is_one_tone(&bob.recording_of("ann"), 440.0, 700.0);
    assert_is_one_tone(&ann.recording_of("bob"), 700.0, 440.0);
}

#[test]
fn participants_exchange_data_texts_attributes_dtmf_and_calls() {
    let server = LiveKitServer::start();
    let mut ann = Peer::joined(&server, "data", "ann", json!({"topics": ["lk.chat"]}));
    let mut bob = Peer::joined(&server, "data", "bob", json!({}));
    ann.event("participant_connected", |event| event["participant"] == "bob");
    bob.tell("data", json!({"text": "a packet", "topic": "any"}));
    let got = ann.event("data", |_| true);
    assert_eq!((&got["participant"], &got["text"], &got["topic"]), (&json!("bob"), &json!("a packet"), &json!("any")));
    bob.tell("text", json!({"text": "a stream", "topic": "lk.chat", "attributes": {"key": "value"}}));
    let got = ann.event("text", |_| true);
    assert_eq!((&got["text"], &got["attributes"]["key"]), (&json!("a stream"), &json!("value")));
    bob.tell("attributes", json!({"value": {"lk.agent.state": "thinking"}}));
    let got = ann.event("attributes", |event| event["participant"] == "bob");
    assert_eq!(got["changed"], json!({"lk.agent.state": "thinking"}));
    bob.tell("dtmf", json!({"code": 5, "digit": "5"}));
    assert_eq!(ann.event("dtmf", |_| true)["digit"], "5");
    ann.tell("serve_rpc", json!({"method": "greet", "reply": "good day"}));
    assert_eq!(bob.tell("rpc", json!({"to": "ann", "method": "greet", "payload": "hello"}))["reply"], "good day");
    assert_eq!(ann.event("rpc", |_| true)["payload"], "hello");
}

#[test]
fn a_server_that_starts_anew_on_its_ports_is_joined_again() {
    let mut server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let (_ann, mut bob) = two_with_tones(&server, folder.path());
    server.restart();
    bob.event("reconnected", |_| true);
    bob.tell("hear", json!({"identity": "ann", "seconds": 1}));
}

#[test]
fn webhooks_and_a_turn_service_are_had_for_the_asking() {
    let hooks = api::Api::new(|_, _| api::ok(&json!({})));
    let server =
        LiveKitServer::start_with(&Options { webhooks: vec![format!("{}/hook", hooks.url)], turn: true, ..Options::default() });
    let mut peer = Peer::new(&server);
    peer.tell("create_room", json!({"room": "hooked", "metadata": "any"}));
    let rooms = peer.tell("rooms", json!({}));
    assert_eq!(rooms["rooms"][0]["metadata"], "any");
    let told =
        |name: &str| hooks.posts().into_iter().any(|(to, body)| (to.as_str(), body["event"].as_str()) == ("/hook", Some(name)));
    until("the webhook", || told("room_started").then_some(()));
    peer.tell("delete_room", json!({"room": "hooked"}));
    until("the webhook", || told("room_finished").then_some(()));
    // Its TURN service has the port.
    assert!(std::net::UdpSocket::bind(("0.0.0.0", server.turn_port())).is_err());
}

#[test]
fn an_agent_is_dispatched_with_metadata_and_echoes_and_its_jobs_end_with_its_worker() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let mut worker = agent_worker(&server, "livekit_echo_agent.py", "an-echo", &[]);
    let mut ann = Peer::joined(&server, "echo", "ann", json!({"record": path(folder.path())}));
    ann.tell("tone", json!({"hz": 440}));
    let metadata = json!({"scenario_id": 3, "run_id": 77}).to_string();
    ann.tell("dispatch", json!({"room": "echo", "agent_name": "an-echo", "metadata": metadata}));
    let job = worker.event("job", |_| true);
    assert_eq!((&job["metadata"], &job["room"]), (&json!(metadata), &json!("echo")));
    let agent = ann.event("participant_connected", |event| event["kind"] == 4)["participant"].as_str().unwrap().to_owned();
    ann.event("first_audio", |event| event["participant"] == agent.as_str());
    ann.tell("hear", json!({"identity": agent, "seconds": 3}));
    assert_is_one_tone(&ann.recording_of(&agent), 440.0, 700.0);
    worker.kill_9();
    gone(job["pid"].as_u64().unwrap() as u32);
}

/// The scripted agent's script, with a tone for each of its texts.
fn script(folder: &Path) -> std::path::PathBuf {
    let line = |text: &str, hz: f64, seconds: f64| {
        let file = folder.join(format!("{hz}.wav"));
        tone_file(&file, hz, seconds, DBFS);
        json!({"text": text, "file": file})
    };
    let mut long = line("Let me tell you everything about it.", 700.0, 8.0);
    long["call"] = json!({"member": "1234"});
    let script = json!({
        "greeting": line("Hello.", 440.0, 1.5),
        "answers": [long, line("Goodbye.", 950.0, 1.5)],
        "heard": ["I am member 1234.", "Stop."],
    });
    let file = folder.join("script.json");
    std::fs::write(&file, script.to_string()).unwrap();
    file
}

#[test]
fn a_scripted_agent_greets_calls_its_tool_answers_and_is_interrupted() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let script = script(folder.path());
    let mut worker = agent_worker(&server, "livekit_scripted_agent.py", "scripted", &[("AGENT_SCRIPT", path(&script))]);
    let mut ann = Peer::joined(&server, "scripted", "ann", json!({"record": path(folder.path()), "topics": ["lk.transcription"]}));
    ann.tell("publish", json!({}));
    ann.tell("dispatch", json!({"room": "scripted", "agent_name": "scripted", "metadata": "any"}));
    let said =
        |text: &str| -> Value { worker.event("said", |event| event["text"].as_str().is_some_and(|said| text.starts_with(said))) };
    assert_eq!(said("Hello.")["interrupted"], false);
    let caller = format!("{}/fixtures/speech/caller-member.wav", env!("CARGO_MANIFEST_DIR"));
    ann.send("play", json!({"file": caller}));
    assert_eq!(worker.event("heard", |_| true)["text"], "I am member 1234.");
    assert_eq!(worker.event("tool", |_| true)["arguments"], json!({"member": "1234"}));
    let agent = ann.event("first_audio", |_| true)["participant"].as_str().unwrap().to_owned();
    let state = |state: &str| ann.event("attributes", |event| event["changed"]["lk.agent.state"] == state);
    state("thinking");
    state("speaking");
    ann.answer("play").unwrap();
    ann.send("play", json!({"file": caller}));
    assert_eq!(said("Let me tell you everything about it.")["interrupted"], true);
    assert_eq!(said("Goodbye.")["interrupted"], false);
    let final_text = |event: &Value| event["participant"] == agent.as_str() && event["text"] == "Goodbye.";
    ann.event("text", final_text);
    let heard = ann.recording_of(&agent);
    let seconds = |hz: f64| tone_seconds(&heard, RATE, hz, DBFS);
    assert!((seconds(440.0) - 1.5).abs() < 0.2, "the greeting was heard for {} s", seconds(440.0));
    assert!((0.3..7.0).contains(&seconds(700.0)), "the interrupted answer was heard for {} s", seconds(700.0));
    assert!((seconds(950.0) - 1.5).abs() < 0.2, "the last answer was heard for {} s", seconds(950.0));
    worker.end();
}
