//! Servers and clients that are not there, refuse, answer nonsense or ask for it.

use std::io::Write;
use std::net::TcpListener;

use serde_json::{Value, json};
use trunkline::transport::pipecat::IceServers;

use super::common::pipecat::PipecatBot;
use super::common::{path, read_http, run, suite, trunkline};
use super::steered::SteeredBot;

/// What a call of `to` that comes to nothing says.
fn fails(to: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let suite = suite(folder.path(), &["Thank you, goodbye. <endcall/>"]);
    let out = folder.path().join("out");
    let config = folder.path().join("trunkline.toml");
    std::fs::write(&config, "[agent]\ndial_s = 5\n").expect("a file");
    let arguments =
        ["call", "--to", to, "--suite", path(&suite), "--out", path(&out), "--format", "json", "--config", path(&config)];
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(1), "the agent's own side failed");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let run = &report["runs"][0];
    assert_eq!(run["end"]["reason"], "connection_lost", "{run}");
    run["failures"].to_string()
}

#[test]
fn a_bots_server_that_is_no_help_is_named_with_what_it_did() {
    let bot = SteeredBot::start();
    for (way, problem) in [
        (bot.at("/refuses"), "offer: http://127.0.0.1:"),
        (bot.at("/refuses"), "/refuses answered 503: no more bots today"),
        (bot.at("/nonsense"), "session description cannot be used"),
        (bot.at("/nothing"), "/nothing answered 404: Not Found"),
        (bot.at("/openapi.json"), "answered 405"),
        (bot.at("/start"), "session: http://127.0.0.1:"),
    ] {
        let said = fails(&way);
        assert!(said.contains(problem), "{way}: {said}");
    }
}

#[test]
fn a_bot_to_which_no_way_leads_is_named_with_what_was_tried() {
    let bot = SteeredBot::start();
    let said = fails(&bot.at("/nowhere"));
    assert!(said.contains("connection: not within 5 s: ICE found no way: tried from 127.0.0.1:"), "{said}");
    assert!(said.contains("UDP 127.0.0.1:9") || said.contains("udp 127.0.0.1:9"), "{said}");
}

#[test]
fn a_server_that_is_not_there_is_tried_again_and_named() {
    let said = fails("pipecat+http://127.0.0.1:9/api/offer");
    assert!(said.contains("offer: http://127.0.0.1:9/api/offer cannot be reached") && said.contains("refused"), "{said}");
}

#[test]
fn stun_and_turn_servers_are_read_as_pipecats_runner_reads_them() {
    let read = |text: &str| IceServers::parse(text).map(|servers| json!(servers)).map_err(|error| error.to_string());
    assert_eq!(read(""), Ok(json!([])));
    assert_eq!(read("stun:a:1, stun:b"), Ok(json!([{"urls": "stun:a:1"}, {"urls": "stun:b"}])));
    let turn = json!({"urls": ["turn:a", "turns:a"], "username": "me", "credential": "secret"});
    assert_eq!(read(&turn.to_string()), Ok(json!([turn])));
    assert_eq!(read(&json!(["stun:a", turn]).to_string()), Ok(json!([{"urls": "stun:a"}, turn])));
    for (text, problem) in [
        ("turn:a", "TURN needs a user name and a credential"),
        ("[{\"urls\": \"turn:a\", \"password\": \"secret\"}]", "a server has urls, and may have username and credential"),
        ("[{\"credential\": \"secret\"}]", "a server has urls"),
        ("{\"urls\": ", "it is no JSON"),
        ("http://a", "its scheme is none of stun, turn and turns"),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.contains(problem) && !error.contains("secret"), "{error}");
    }
    let refused = trunkline(&["call", "--to", "pipecat+http://127.0.0.1:9/start"]).env("PIPECAT_ICE_SERVERS", "turn:a").output();
    let refused = refused.expect("trunkline starts");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("PIPECAT_ICE_SERVERS: \"turn:a\" is not"), "{said}");
}

/// A runner's answer at Daily: there is no Daily here, so a stand-in gives it.
#[test]
fn rooms_at_daily_are_asked_of_a_runner_one_for_each_entry() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let start = format!("http://{}/start", listener.local_addr().expect("an address"));
    let runner = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for number in 1..=2 {
            let (mut stream, _) = listener.accept().expect("a request");
            let (head, body) = read_http(&mut stream).expect("a whole request");
            assert!(head.contains("authorization: Bearer the-key"), "{head}");
            asked.push(serde_json::from_str::<Value>(&body).expect("JSON"));
            let answer = json!({"dailyRoom": format!("https://x.daily.co/{number}"), "dailyToken": format!("token-{number}"), "sessionId": "s"}).to_string();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).expect("it is sent");
        }
        asked
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("run.json");
    let arguments =
        ["payload", "pipecat", "--scenario-ids", "1,2", "--agent-config", "{\"a\": 1}", "--start", &start, "--output", path(&file)];
    let output = trunkline(&arguments).env("PIPECAT_API_KEY", "the-key").output().expect("trunkline starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let body: Value = serde_json::from_slice(&std::fs::read(&file).expect("a file")).expect("JSON");
    let entry = |number: u32| json!({"scenario": number, "pipecat_room_url": format!("https://x.daily.co/{number}"), "pipecat_token": format!("token-{number}")});
    assert_eq!(body["scenarios"], json!([entry(1), entry(2)]));
    assert_eq!(runner.join().expect("the runner"), vec![json!({"createDailyRoom": true, "body": {"a": 1}}); 2]);
}

#[test]
fn a_runner_without_daily_and_flags_that_do_not_fit_are_named() {
    let bot = PipecatBot::start(&["echo", "--loopback"]);
    let start = format!("http://{}/start", bot.host());
    for (arguments, code, problem) in [
        (vec!["pipecat", "--scenario-ids", "4", "--start", &start], 3, "no room for scenario 4: http://127.0.0.1:"),
        (vec!["pipecat_v2", "--scenario-ids", "4", "--start", &start], 2, "--start belongs to pipecat"),
        (vec!["pipecat", "--start", &start], 2, "give --scenario-ids"),
        (vec!["pipecat", "--scenario-ids", "4", "--room-url", "https://a", "--start", &start], 2, "not both"),
    ] {
        let output = run(&[&["payload"], &arguments[..]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && said.contains(problem), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}
