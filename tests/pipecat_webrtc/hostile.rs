//! Servers and clients that are not there, refuse, answer nonsense or ask for it.

use serde_json::{Value, json};
use trunkline::transport::pipecat::web_rtc::IceServers;

use super::common::{path, run, suite, trunkline};
use super::steered::SteeredBot;

/// What a call of `to` that comes to nothing says.
fn fails(to: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let suite = suite(folder.path(), &["Thank you, goodbye. <endcall/>"]);
    let out = folder.path().join("out");
    let output = run(&["call", "--to", to, "--suite", path(&suite), "--out", path(&out), "--format", "json"]);
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
    assert!(said.contains("connection: not within 20 s: ICE found no way: tried from 127.0.0.1:"), "{said}");
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
