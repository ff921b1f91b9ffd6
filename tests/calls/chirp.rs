//! CHIRP against independent peers in Python (`websockets` 17.4): a server that our dial calls, a client that calls our door.

use crate::common;

use common::{call_folder, events, path, python_agent, python_caller, python_caller_that_stays, run, serve, suite, wav};
use serde_json::Value;

/// Calls a Python agent with a one-line script; gives the report, the agent's summary and the call's folder.
fn call(mode: &str, more: &[&str], lines: &[&str], flags: &[&str]) -> (Value, Value, tempfile::TempDir, i32) {
    let folder = tempfile::tempdir().expect("a folder");
    let (agent, port) = python_agent(mode, more);
    let suite = suite(folder.path(), lines);
    let out = folder.path().join("out");
    let to = format!("chirp://127.0.0.1:{port}/agent");
    let mut arguments = vec!["call", "--to", &to, "--suite", path(&suite), "--out", path(&out), "--format", "json"];
    arguments.extend(flags);
    let output = run(&arguments);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {}", String::from_utf8_lossy(&output.stderr)));
    (report, agent.json("the agent's summary"), folder, output.status.code().expect("an exit code"))
}

#[test]
fn a_call_sends_20_ms_frames_without_a_gap_from_answer_to_hang_up() {
    let (report, agent, folder, code) = call("burst", &["--seconds", "1.5"], &["", "Thank you, goodbye. <endcall/>"], &[]);
    assert_eq!((code, report["verdict"].as_str()), (0, Some("passed")));
    let (frames, bytes) = (agent["frames"].as_u64().unwrap(), agent["bytes"].as_u64().unwrap());
    assert_eq!(bytes, frames * 640, "every message is 20 ms");
    let seconds = agent["seconds"].as_f64().unwrap();
    assert!((frames as f64 * 0.02 - seconds).abs() < 0.3, "{frames} frames in {seconds} s");
    assert_eq!(agent["close_code"], 1000);
    let events: Vec<_> = agent["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(events, ["speech.started", "speech.completed"]);
    let caller = wav(&call_folder(&folder.path().join("out")).join("caller.wav"));
    assert!((caller.len() as f64 / 16_000.0 - seconds).abs() < 0.3, "the recording is as long as the call");
}

#[test]
fn a_burst_is_recorded_at_the_speed_at_which_it_is_heard_and_an_interruption_cuts_it() {
    let lines = ["", "<interruption time=\"1.5s\"/>Thank you, goodbye. <endcall/>"];
    let (report, agent, folder, code) = call("burst", &["--seconds", "6"], &lines, &[]);
    assert_eq!(code, 0, "{report}");
    let barge_in = &report["runs"][0]["measures"]["barge_in"]["events"][0];
    assert_eq!((&barge_in["scripted"], &barge_in["yielded"]), (&true.into(), &true.into()));
    let (stopped, discarded) = (barge_in["stopped_after_ms"].as_f64().unwrap(), barge_in["discarded_ms"].as_f64().unwrap());
    assert!((200.0..400.0).contains(&stopped), "heard no more {stopped} ms after the caller's onset");
    let recording = wav(&call_folder(&folder.path().join("out")).join("agent.wav"));
    let heard = recording.iter().rposition(|sample| *sample != 0).unwrap() + 1 - recording.iter().position(|s| *s != 0).unwrap();
    let total = heard as f64 / 16.0 + discarded;
    assert!((total - 6000.0).abs() < 25.0, "heard {} ms and discarded {discarded} ms of 6 s", heard / 16);
    let kinds: Vec<_> = agent["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"speech.started"), "the agent was told: {kinds:?}");
}

#[test]
fn a_goodbye_before_a_hang_up_is_recorded_whole() {
    let (report, _, folder, code) = call("goodbye", &["--seconds", "2"], &["", "Thank you, goodbye."], &[]);
    assert_eq!((code, report["runs"][0]["failures"][0]["kind"].as_str()), (1, Some("agent_hung_up")));
    let recording = wav(&call_folder(&folder.path().join("out")).join("agent.wav"));
    let heard = recording.iter().rposition(|s| *s != 0).unwrap() + 1 - recording.iter().position(|s| *s != 0).unwrap();
    assert!((heard as f64 / 16_000.0 - 2.0).abs() < 0.01, "{heard} samples");
}

#[test]
fn an_agent_that_never_speaks_is_given_up_with_a_named_reason() {
    let (report, agent, ..) = call("never-speaks", &[], &["", "Thank you, goodbye."], &["--patience-s", "1"]);
    assert_eq!(report["runs"][0]["failures"][0]["kind"], "agent_silent");
    assert_eq!(report["runs"][0]["end"]["reason"], "agent_silent");
    assert_eq!(agent["close_code"], 1000);
}

#[test]
fn an_agent_that_does_not_read_blocks_nothing() {
    let lines = ["", "Thank you, goodbye."];
    let (report, ..) = call("slow-reader", &["--seconds", "4"], &lines, &["--patience-s", "2"]);
    assert_eq!(report["runs"][0]["end"]["reason"], "agent_silent", "the caller kept its time: {report}");
    let duration = report["runs"][0]["measures"]["duration"]["value"].as_f64().unwrap();
    assert!(duration < 8000.0, "{duration} ms");
}

#[test]
fn a_connection_that_breaks_off_is_told_from_a_hang_up() {
    let (report, .., code) = call("sudden-close", &[], &["", "Thank you, goodbye."], &[]);
    assert_eq!((code, report["runs"][0]["failures"][0]["kind"].as_str()), (1, Some("connection_lost")));
}

#[test]
fn refusals_and_internal_errors_of_an_agent_are_named() {
    let (report, ..) = call("refuse", &[], &["", "Thank you, goodbye."], &[]);
    assert_eq!(report["runs"][0]["failures"][0]["kind"], "protocol_error");
    assert!(report["runs"][0]["failures"][0]["detail"].as_str().unwrap().contains("not today"));
    let (report, ..) = call("fail", &[], &["", "Thank you, goodbye."], &[]);
    assert_eq!(report["runs"][0]["failures"][0]["kind"], "connection_lost");
    assert!(report["runs"][0]["failures"][0]["detail"].as_str().unwrap().contains("1011"));
}

#[test]
fn hostile_frames_are_answered_by_their_code_and_the_call_goes_on() {
    let (report, agent, folder, code) = call("hostile", &[], &["", "Thank you, goodbye. <endcall/>"], &[]);
    assert_eq!(code, 0, "{report}");
    let codes: Vec<_> = agent["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["type"] == "session.error")
        .map(|event| event["data"]["code"].as_str().unwrap().to_owned())
        .collect();
    let (audio, message, field) = ("INVALID_AUDIO_FRAME", "INVALID_MESSAGE", "MISSING_FIELD");
    assert_eq!(codes, [audio, audio, audio, message, message, field, field, message, field, message]);
    let faults = events(&call_folder(&folder.path().join("out")));
    assert_eq!(faults.iter().filter(|event| event["event"] == "fault").count(), codes.len(), "each is in the log");
}

#[test]
fn wrong_credentials_are_not_tried_again_and_right_ones_pass() {
    let folder = tempfile::tempdir().unwrap();
    let suite = suite(folder.path(), &["", "Thank you, goodbye. <endcall/>"]);
    let (_agent, port) = python_agent("burst", &["--seconds", "1", "--credentials", "me:secret"]);
    let to = format!("chirp://127.0.0.1:{port}/");
    let arguments = ["call", "--to", &to, "--suite", path(&suite), "--out", path(folder.path()), "--format", "json"];
    let output = common::trunkline(&arguments).env("TRUNKLINE_AGENT_CREDENTIALS", "me:wrong").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["runs"][0]["failures"][0]["kind"], "agent_unreachable");
    assert!(report["runs"][0]["failures"][0]["detail"].as_str().unwrap().contains("websocket-authentication-failed"));
    let output = common::trunkline(&arguments).env("TRUNKLINE_AGENT_CREDENTIALS", "me:secret").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("secret"));
}

#[test]
fn a_caller_at_the_door_talks_to_the_agent_behind_it() {
    let out = tempfile::tempdir().unwrap();
    let (_agent, agent) = common::built_in_agent("echo");
    let (_serve, door) = serve(&agent, out.path(), "");
    let headers = ["--header", "X-VOCERA-RUN-ID=77", "--header", "X-VOCERA-RESULT-ID=5", "--header", "X-VOCERA-SCENARIO-ID=3"];
    let mut arguments = vec!["--mode", "talk", "--seconds", "1"];
    arguments.extend(headers);
    let got = python_caller(&format!("ws://{door}/"), &arguments);
    assert_eq!((got["close_code"].as_u64(), got["errors"].as_array().map(Vec::len)), (Some(1000), Some(0)));
    // 0.5 s of silence, 1 s of speech, 1 s of silence came back.
    assert!(got["bytes"].as_u64().unwrap() > 32_000 * 2, "{}", got["bytes"]);
    let folder = common::until("the finished recording", || {
        let folder = call_folder(out.path());
        folder.join("labels.txt").exists().then_some(folder)
    });
    let call: Value = serde_json::from_slice(&std::fs::read(folder.join("call.json")).unwrap()).unwrap();
    assert_eq!((&call["run_id"], &call["result_id"], &call["scenario_id"]), (&"77".into(), &"5".into(), &"3".into()));
}

#[test]
fn an_interruption_at_the_door_stops_the_agents_audio_at_once() {
    let out = tempfile::tempdir().unwrap();
    let (agent, port) = python_agent("burst", &["--seconds", "8"]);
    let (_serve, door) = serve(&format!("chirp://127.0.0.1:{port}/"), out.path(), "");
    let got = python_caller(&format!("ws://{door}/"), &["--mode", "interrupt"]);
    let at = got["interrupted_at"].as_f64().unwrap();
    let arrivals = got["arrivals"].as_array().unwrap();
    let after = arrivals.iter().filter(|arrival| arrival[0].as_f64().unwrap() > at + 0.1).count();
    assert_eq!(after, 0, "nothing is heard 100 ms after the interruption");
    let heard: u64 = arrivals.iter().map(|arrival| arrival[1].as_u64().unwrap()).sum();
    assert!(heard < 32_000 * 2, "a burst of 8 s arrives in real time: {heard} bytes in about 1 s");
    let kinds: Vec<_> = got["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["speech.started", "speech.completed"], "our speech is completed in answer");
    let told: Vec<Value> = agent.json("the agent's summary")["events"].as_array().unwrap().clone();
    assert_eq!(told[0]["type"], "speech.started");
}

#[test]
fn a_hostile_caller_is_answered_and_then_served() {
    let out = tempfile::tempdir().unwrap();
    let (_agent, agent) = common::built_in_agent("echo");
    let (_serve, door) = serve(&agent, out.path(), "");
    let got = python_caller(&format!("ws://{door}/"), &["--mode", "hostile", "--seconds", "0.5"]);
    let errors: Vec<_> = got["errors"].as_array().unwrap().iter().map(|code| code.as_str().unwrap()).collect();
    let (audio, message, field) = ("INVALID_AUDIO_FRAME", "INVALID_MESSAGE", "MISSING_FIELD");
    assert_eq!(errors, [audio, audio, audio, message, message, field, message, field, message]);
    assert!(got["bytes"].as_u64().unwrap() > 32_000, "the session went on");
    assert_eq!(got["close_code"], 1000);
}

#[test]
fn limits_close_with_1008_and_no_other_call_notices() {
    let out = tempfile::tempdir().unwrap();
    let (_agent, agent) = common::built_in_agent("echo");
    let config = "[doors.chirp]\nmax_calls = 2\nidle_s = 2\nmax_message = 100000\n";
    let (_serve, door) = serve(&agent, out.path(), config);
    let url = format!("ws://{door}/");
    let mut other = python_caller_that_stays(&url);
    let huge = python_caller(&url, &["--mode", "huge", "--seconds", "5"]);
    assert_eq!(huge["close_code"], 1008, "{huge}");
    assert!(huge["close_reason"].as_str().unwrap().contains("100000"));
    let idle = python_caller(&url, &["--mode", "idle"]);
    assert_eq!((&idle["close_code"], &idle["close_reason"]), (&1008.into(), &"nothing came for 2 s".into()));
    let mut second = python_caller_that_stays(&url);
    let refused = python_caller(&url, &["--mode", "hold", "--seconds", "5"]);
    assert_eq!((&refused["close_code"], &refused["close_reason"]), (&1008.into(), &"all 2 calls are taken".into()));
    for caller in [&mut other, &mut second] {
        caller.tell();
        let got = caller.json("its summary");
        assert_eq!((&got["close_code"], &got["errors"]), (&1000.into(), &serde_json::json!([])), "it noticed nothing");
    }
}

#[test]
fn a_door_asks_for_its_credentials() {
    let out = tempfile::tempdir().unwrap();
    let secret = out.path().join("secret");
    std::fs::write(&secret, "me:pass\n").unwrap();
    let (_agent, agent) = common::built_in_agent("echo");
    let config = format!("[doors.chirp]\ncredentials_file = {:?}\n", path(&secret));
    let (_serve, door) = serve(&agent, &out.path().join("calls"), &config);
    let url = format!("ws://{door}/");
    assert_eq!(python_caller(&url, &["--mode", "hold"])["refused"], 401);
    assert_eq!(python_caller(&url, &["--mode", "hold", "--credentials", "me:wrong"])["refused"], 401);
    let got = python_caller(&url, &["--mode", "hold", "--seconds", "0.2", "--credentials", "me:pass"]);
    assert_eq!(got["close_code"], 1000);
}

#[test]
fn a_door_beyond_loopback_without_credentials_does_not_open() {
    let output = run(&["serve", "--to", "chirp://127.0.0.1:1/", "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("needs credentials"));
}

#[test]
fn a_caller_whose_agent_cannot_be_reached_is_told_and_closed_with_1011() {
    let out = tempfile::tempdir().unwrap();
    let (_serve, door) = serve("chirp://127.0.0.1:1/", out.path(), "");
    let got = python_caller(&format!("ws://{door}/"), &["--mode", "hold", "--seconds", "10"]);
    assert_eq!((&got["close_code"], &got["errors"]), (&1011.into(), &serde_json::json!(["INTERNAL_ERROR"])));
}

/// A certificate for `localhost` and its key, as PEM files.
fn certificate(folder: &std::path::Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("door.pem"), folder.join("door.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (certificate, key)
}

#[test]
fn a_call_over_tls_is_a_call_and_a_certificate_that_is_not_trusted_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate(folder.path());
    let (_agent, agent) = common::built_in_agent("scripted");
    let config = format!("[doors.chirp]\ncertificate = {:?}\nkey = {:?}\n", path(&certificate), path(&key));
    let (_serve, door) = serve(&agent, &folder.path().join("calls"), &config);
    let to = format!("chirps://localhost:{}/", door.rsplit(':').next().unwrap());
    let (suite, out) = (suite(folder.path(), &["", "Thank you, goodbye. <endcall/>"]), folder.path().join("out"));
    let call = |trust: Option<&std::path::Path>| {
        let arguments = ["call", "--to", &to, "--suite", path(&suite), "--out", path(&out), "--format", "json"];
        let mut command = common::trunkline(&arguments);
        command.env_remove("SSL_CERT_DIR");
        match trust {
            Some(file) => command.env("SSL_CERT_FILE", file),
            None => command.env_remove("SSL_CERT_FILE"),
        };
        let output = command.output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), report)
    };
    let (code, report) = call(Some(&certificate));
    assert_eq!(code, 0, "{report}");
    let strangers = tempfile::tempdir().unwrap();
    let (stranger, _) = self::certificate(strangers.path());
    let (code, report) = call(Some(&stranger));
    let detail = report["runs"][0]["failures"][0]["detail"].as_str().unwrap().to_owned();
    assert_eq!(code, 1);
    assert!(detail.contains("certificate is not trusted"), "{detail}");
    // Whoever speaks no TLS at the TLS door is no call, and harms none.
    assert!(python_caller(&format!("ws://{door}/"), &["--mode", "hold"])["failed"].is_string());
    assert_eq!(call(Some(&certificate)).0, 0);
}

#[test]
fn tls_files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate(folder.path());
    let config = folder.path().join("trunkline.toml");
    let refused = |certificate: &std::path::Path, key: &std::path::Path| {
        let text = format!("[doors.chirp]\ncertificate = {:?}\nkey = {:?}\n", path(certificate), path(key));
        std::fs::write(&config, text).unwrap();
        let output = run(&["serve", "--to", "chirp://127.0.0.1:1/", "--listen", "127.0.0.1:0", "--config", path(&config)]);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let missing = folder.path().join("missing.pem");
    assert!(refused(&missing, &key).contains("missing.pem"));
    assert!(refused(&certificate, &certificate).contains("door.pem"));
    let others = tempfile::tempdir().unwrap();
    let (_, other_key) = self::certificate(others.path());
    assert!(refused(&certificate, &other_key).contains("cannot be used"), "a key of another certificate");
}

#[test]
fn the_built_in_agent_stops_within_200_ms_when_it_is_spoken_over() {
    // By the caller's word, and by its voice alone.
    for mode in ["interrupt", "interrupt-by-voice"] {
        let (_agent, agent) = common::built_in_agent("scripted");
        let got = python_caller(&agent.replace("chirp:", "ws:"), &["--mode", mode]);
        let interrupted = got["interrupted_at"].as_f64().unwrap();
        let arrivals = got["arrivals"].as_array().unwrap();
        let before = arrivals.iter().filter(|at| at[0].as_f64().unwrap() < interrupted).count();
        assert!(before > 20, "{mode}: it was speaking: {before} messages");
        // What it says next is its answer, half a second after the interruption is over.
        let speech_ends = interrupted + 1.0;
        let last = arrivals.iter().map(|at| at[0].as_f64().unwrap()).filter(|at| *at < speech_ends).fold(0.0, f64::max);
        assert!(last - interrupted <= 0.2, "{mode}: the last message came {:.3} s after the caller's onset", last - interrupted);
    }
}

/// An address of this machine at which nobody listens.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn a_dial_tries_three_times_more_with_a_growing_pause() {
    let folder = tempfile::tempdir().unwrap();
    let (suite, out) = (suite(folder.path(), &["", "Thank you, goodbye. <endcall/>"]), folder.path().join("out"));
    let address = free_address();
    let to = format!("chirp://{address}/");
    let arguments = ["-v", "call", "--to", &to, "--suite", path(&suite), "--out", path(&out)];
    let mut call = common::Running::stderr_of(common::trunkline(&arguments));
    let pauses: Vec<u64> = (0..2)
        .map(|_| call.wait_for("a pause", |line| line.split("trying again in ").nth(1)?.split(' ').next()?.parse().ok()))
        .collect();
    assert_eq!(pauses, [500, 1000]);
    // An agent that comes up late is still reached.
    let listening = ["agent", "scripted", "--listen", &address];
    let _agent = common::Running::stderr_of(common::trunkline(&listening));
    assert!(call.wait().success());
    let report: Value = serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["verdict"], "passed");
    let to = format!("chirp://{}/", free_address());
    let output = run(&["call", "--to", &to, "--suite", path(&suite), "--out", path(&out), "--format", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let failure = &report["runs"][0]["failures"][0];
    assert_eq!((output.status.code(), &failure["kind"]), (Some(1), &"agent_unreachable".into()));
    assert!(failure["detail"].as_str().unwrap().contains("tried 4 times"), "{failure}");
}
