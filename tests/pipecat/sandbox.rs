//! Pipecat runs through the sandbox: a real bot behind Pipecat's own runner, and the `cekura` package.

use crate::common;

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use common::pipecat::PipecatBot;
use common::sandbox::{SCENARIO, http, sandbox_with, with_the_package};
use common::{Running, path, read_http, suite, trunkline, wav};
use serde_json::{Value, json};

const KEY: &str = "pipecat-key";

fn sandbox(folder: &Path, more: &[&str]) -> (Running, String) {
    let suite = suite(folder, &SCENARIO);
    let mut arguments = vec!["--suite", path(&suite)];
    arguments.extend(more);
    sandbox_with(folder, &arguments, |command| {
        command.env("CEKURA_API_KEY", KEY);
    })
}

/// The address of the bot's runner, where its sessions are started.
fn start(bot: &PipecatBot) -> String {
    format!("pipecat+http://{}/start", bot.host())
}

/// A suite whose scenario tells the agent who calls.
fn suite_with_variables(folder: &Path) -> PathBuf {
    let file = suite(folder, &SCENARIO);
    let mut suite: Value = serde_json::from_slice(&std::fs::read(&file).expect("a file")).expect("JSON");
    suite["scenarios"][0]["test_profile"] = json!({"agent_variables": {"member": "4711"}, "caller_variables": {"secret": "mine"}});
    std::fs::write(&file, suite.to_string()).expect("a file");
    file
}

/// Both tracks of a call's folder are there and not silent.
fn is_recorded(folder: &Path) {
    for track in ["agent.wav", "caller.wav"] {
        let loud = wav(&folder.join(track)).iter().filter(|sample| sample.unsigned_abs() > 1000).count();
        assert!(loud > 1_000, "{track} of {} is silent", folder.display());
    }
}

/// The calls that a sandbox recorded below `folder` are `count`, with both sides on their tracks.
fn are_recorded(folder: &Path, count: usize) {
    let calls = std::fs::read_dir(folder.join("data/recordings")).expect("a folder");
    let calls: Vec<PathBuf> = calls.map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(calls.len(), count, "{calls:?}");
    calls.iter().for_each(|call| is_recorded(call));
}

#[test]
fn one_command_runs_pipecat_v2_in_a_sandbox_of_its_own_and_its_call_is_recorded_and_tied() {
    let bot = PipecatBot::start(&["scripted", "--greet", "--loopback"]);
    let folder = tempfile::tempdir().expect("a folder");
    let suite = suite_with_variables(folder.path());
    let payload = folder.path().join("payload.json");
    let config = json!({"member": "nobody", "language": "en", "nested": {"a": 1}});
    let body = json!({"agent": 1, "scenarios": [{"scenario": 1, "publish_data_message": {"hello": "bot"}}], "pipecat_data": {"config": config}});
    std::fs::write(&payload, body.to_string()).expect("a file");
    let to = start(&bot);
    let report = passes(&["pipecat_v2", "--from-file", path(&payload), "--to", &to, "--suite", path(&suite)], folder.path());
    let run = &report["runs"][0];
    let call = folder.path().join("out").join(run["recording"].as_str().expect("a recording"));
    let info: Value = serde_json::from_slice(&std::fs::read(call.join("call.json")).expect("a file")).expect("JSON");
    assert_eq!(info["run_id"], run["run_id"].to_string(), "{info:#}");
    let told = bot.told("ready")["body"].clone();
    let expected = json!({"member": "4711", "language": "en", "nested": {"a": 1}});
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&told[name], value, "the profile's variables on top of the request's config: {told}");
    }
    assert!(!told.to_string().contains("mine"), "what the caller alone knows: {told}");
    assert_eq!(bot.told("heard")["client_messages"], json!([{"t": "data", "d": {"hello": "bot"}}]));
}

/// The report of one command with a sandbox of its own: its one run has passed, and its call is recorded and tied.
fn passes(mode: &[&str], folder: &Path) -> Value {
    let out = folder.join("out");
    let more = ["--sandbox", "--out", path(&out), "--format", "json"];
    let ran = trunkline(&[&["run"], mode, &more[..]].concat()).output().expect("trunkline starts");
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&ran.stderr)));
    assert_eq!((ran.status.code(), &report["verdict"]), (Some(0), &json!("passed")), "{report:#}");
    let run = &report["runs"][0];
    assert_eq!(run["tied_by"], "header", "{run:#}");
    is_recorded(&out.join(run["recording"].as_str().unwrap_or_else(|| panic!("it is recorded: {report:#}"))));
    report
}

#[test]
fn one_command_runs_pipecat_at_the_address_of_its_payload() {
    let bot = PipecatBot::start(&["scripted", "--greet", "--loopback"]);
    let folder = tempfile::tempdir().expect("a folder");
    let (suite, payload) = (suite(folder.path(), &SCENARIO), folder.path().join("payload.json"));
    let entry = json!({"scenario": 1, "pipecat_room_url": format!("http://{}/api/offer", bot.host())});
    std::fs::write(&payload, json!({"agent": 1, "scenarios": [entry]}).to_string()).expect("a file");
    passes(&["pipecat", "--from-file", path(&payload), "--suite", path(&suite)], folder.path());
    bot.told("heard");
}

#[test]
fn one_command_runs_a_suite_over_the_channel_of_pipecat_v2() {
    let bot = PipecatBot::start(&["scripted", "--greet", "--loopback"]);
    let folder = tempfile::tempdir().expect("a folder");
    let (suite, to) = (suite_with_variables(folder.path()), start(&bot));
    passes(&["spec", path(&suite), "--agent-id", "1", "--channel", "pipecat_v2", "--to", &to], folder.path());
    assert_eq!(bot.told("heard")["body"]["member"], "4711", "the profile's variables are the session's");
}

/// A runner that answers every request with this.
fn runner_that_says(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // It may be gone before it has read the answer.
            drop(read_http(&mut stream).map(|_| stream.write_all(answer.as_bytes())));
        }
    });
    format!("pipecat+http://{address}/start")
}

#[test]
fn a_runner_that_starts_no_session_fails_the_run_with_its_words() {
    for (answer, expected) in [
        ("HTTP/1.1 503 Busy\r\ncontent-length: 26\r\n\r\n{\"detail\": \"no more bots\"}", "answered 503: no more bots"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "missing field `sessionId`"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "cannot be used"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let (_sandbox, url) = sandbox(folder.path(), &["--agent-pipecat-url", &runner_that_says(answer)]);
        let seen = with_the_package("run_pipecat_v2", &url, KEY, &json!({"agent": 1, "scenarios": [{"scenario": 1}]}));
        let error = seen["run"]["error_message"].as_str().unwrap_or_else(|| panic!("{answer}: {seen:#}"));
        assert!(seen["run"]["status"] == "failed" && error.contains("session") && error.contains(expected), "{error}");
    }
}

#[test]
fn the_package_starts_a_pipecat_v2_run_and_the_requests_config_takes_the_place_of_the_agents() {
    let bot = PipecatBot::start(&["scripted", "--greet", "--loopback"]);
    let folder = tempfile::tempdir().expect("a folder");
    let project = folder.path().join("project");
    std::fs::create_dir_all(project.join("suites")).expect("a folder");
    suite(&project.join("suites"), &SCENARIO);
    let to = format!("{}?transport=websocket", start(&bot));
    let agents = json!([{"id": 7, "name": "Bot", "pipecat_url": to, "pipecat_config": {"of": "the agent"}}]);
    std::fs::write(project.join("agents.json"), agents.to_string()).expect("a file");
    let (_sandbox, url) = sandbox_with(folder.path(), &["--project", path(&project)], |command| {
        command.env("CEKURA_API_KEY", KEY);
    });
    let entries = json!([{"scenario": 1}]);
    let plain = with_the_package("run_pipecat_v2", &url, KEY, &json!({"agent": 7, "scenarios": entries}));
    assert_eq!((&plain["result"]["status"], &plain["run"]["success"]), (&json!("completed"), &json!(true)), "{plain:#}");
    are_recorded(folder.path(), 1);
    let transcript = plain["run"]["transcript_object"].as_array().expect("a transcript");
    let greeting = "Hello, this is the Lakeside clinic. How can I help you today?";
    assert!(transcript.iter().any(|line| line["content"] == greeting), "the bot tells its words: {transcript:#?}");
}

#[test]
fn a_pipecat_run_takes_place_at_the_room_that_the_request_names() {
    let bot = PipecatBot::start(&["scripted", "--greet", "--loopback", "--ws-auth", "token"]);
    let folder = tempfile::tempdir().expect("a folder");
    let (_sandbox, url) = sandbox(folder.path(), &[]);
    let started = http("POST", &format!("http://{}", bot.host()), "/start", None, Some(r#"{"transport": "websocket"}"#));
    let token = started.1["token"].as_str().unwrap_or_else(|| panic!("a token: {started:?}")).to_owned();
    let room = format!("ws://{}/ws-client", bot.host());
    let publish = json!({"hello": "bot"});
    let entry = json!({"scenario": 1, "pipecat_room_url": room, "pipecat_token": token, "publish_data_message": publish});
    let offer =
        json!({"scenario": 1, "pipecat_room_url": format!("http://{}/api/offer", bot.host()), "publish_data_message": publish});
    let seen = with_the_package("run_pipecat", &url, KEY, &json!({"agent": 1, "scenarios": [entry, offer]}));
    assert_eq!((&seen["result"]["status"], &seen["result"]["success_rate"]), (&json!("completed"), &json!(100.0)), "{seen:#}");
    are_recorded(folder.path(), 2);
    assert!(!seen.to_string().contains(&token), "the token is shown nowhere");
    for _ in 0..2 {
        assert_eq!(bot.told("heard")["client_messages"], json!([{"t": "data", "d": publish}]));
    }

    let daily = json!({"scenario": 1, "pipecat_room_url": "https://team.daily.co/room"});
    let refused = with_the_package("run_pipecat", &url, KEY, &json!({"agent": 1, "scenarios": [daily]}));
    assert!(refused["refused"] == 400 && refused["body"].to_string().contains("Daily"), "{refused}");
}

#[test]
fn a_bot_that_is_not_there_or_lets_nobody_in_fails_the_run_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_sandbox, url) = sandbox(folder.path(), &[]);
    let refused = with_the_package("run_pipecat_v2", &url, KEY, &json!({"agent": 1, "scenarios": [{"scenario": 1}]}));
    assert!(refused["refused"] == 400 && refused["body"].to_string().contains("no Pipecat runner"), "{refused}");

    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let bot = PipecatBot::start(&["scripted", "--ws-auth", "token"]);
    let cases = [
        (format!("ws://{nobody}/"), "cannot be reached"),
        (format!("ws://{}/nowhere", bot.host()), "403"),
        (format!("ws://{}/ws-client?token=wrong", bot.host()), "the token in the address"),
        (url.replace("http", "ws"), "it answered"),
    ];
    for (room, expected) in cases {
        let entry = json!({"scenario": 1, "pipecat_room_url": room});
        let seen = with_the_package("run_pipecat", &url, KEY, &json!({"agent": 1, "scenarios": [entry]}));
        let error = seen["run"]["error_message"].as_str().unwrap_or_else(|| panic!("{room}: {seen:#}"));
        assert!(seen["run"]["status"] == "failed" && error.contains(expected), "{room}: {error}");
    }
}
