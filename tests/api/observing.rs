//! `observe`: a recorded call is sent to the API's observability, when its user says so and not otherwise. The receiver is Python's own
//! MIME parser.

use crate::common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::{Running, built_in_agent, call_folder, path, python, suite, trunkline};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn receiver(answers: &str) -> (Running, String) {
    let server = Running::stdout_of(python("observe_server.py", &["--answers", answers]));
    let port = server.json("the port")["port"].as_u64().unwrap();
    (server, format!("http://127.0.0.1:{port}"))
}

fn observe(url: &str, folder: &Path, more: &[&str]) -> Output {
    let arguments = [&["observe", path(folder), "--agent-id", "7"], more].concat();
    let mut command = trunkline(&arguments);
    command.env("CEKURA_API_URL", url).env("CEKURA_API_KEY", "the-key").stdin(std::process::Stdio::null());
    command.output().unwrap()
}

/// A recorded call with the scripted agent, and its folder.
fn recorded(folder: &Path) -> PathBuf {
    let (_agent, agent) = built_in_agent("scripted");
    let (suite, out) = (suite(folder, &["", "Thank you, goodbye. <endcall/>"]), folder.join("out"));
    let output = common::run(&["call", "--to", &agent, "--suite", path(&suite), "--out", path(&out)]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    call_folder(&out)
}

fn edit(file: &Path, change: impl Fn(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    change(&mut json);
    fs::write(file, json.to_string()).unwrap();
}

#[test]
fn a_recording_arrives_whole_with_what_is_known_of_the_call() {
    let folder = tempfile::tempdir().unwrap();
    let call = recorded(folder.path());
    edit(&call.join("call.json"), |info| {
        info["run_id"] = "71".into();
        info["result_id"] = "9".into();
    });
    let info: Value = serde_json::from_slice(&fs::read(call.join("call.json")).unwrap()).unwrap();
    let (server, url) = receiver("201");
    let output = observe(&url, &call, &["--yes", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["id"], 1);
    let got = server.json("the call");
    assert_eq!((&got["path"], &got["kind"]), (&"/observability/v1/observe/".into(), &"multipart/form-data".into()));
    assert_eq!(got["key"], "the-key");
    let fields = &got["fields"];
    let expected =
        [("call_id", info["call_id"].as_str().unwrap()), ("agent", "7"), ("call_ended_reason", "Testing agent-ended-call")];
    for (key, value) in expected.into_iter().chain([("main_agent_channel_index", "1"), ("transcript_type", "none-mono")]) {
        assert_eq!(fields[key], value, "{key}");
    }
    assert!(fields.get("transcript_json").is_none(), "the agent's words are not known, so nobody's are told");
    let at = |time: &Value| chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap().timestamp_millis();
    assert_eq!(at(&fields["timestamp"]), at(&info["started_at"]));
    let metadata: Value = serde_json::from_str(fields["metadata"].as_str().unwrap()).unwrap();
    assert_eq!((&metadata["run_id"], &metadata["result_id"], &metadata["scenario"]), (&"71".into(), &"9".into(), &"Test".into()));
    let bytes = fs::read(call.join("stereo.wav")).unwrap();
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let file = &got["files"]["voice_recording"];
    assert_eq!((&file["sha256"], &file["bytes"], &file["type"]), (&digest.into(), &bytes.len().into(), &"audio/wav".into()));
    assert_eq!(file["wav"], json!([2, 16000, info["stereo"]["samples"]]));
    // What was sent was told before: the files, their size, the place.
    let said = text(&output.stderr);
    for part in [&url, "stereo.wav", &format!("{} bytes", bytes.len()), "no transcript"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn nothing_is_sent_unless_its_user_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let call = recorded(folder.path());
    let api = common::api::Api::new(|_, _| common::api::ok(&json!({"id": 1})));
    let output = observe(&api.url, &call, &[]);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("say --yes") && said.contains("stereo.wav"), "{said}");
    assert!(api.asked().is_empty());
}

#[test]
fn an_upload_that_fails_in_passing_is_tried_again_as_the_same_call_and_a_refusal_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let call = recorded(folder.path());
    let (server, url) = receiver("503,close,201");
    let output = observe(&url, &call, &["--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("is call 1 at Cekura"));
    let all: Vec<_> = (0..3).map(|_| server.json("the call")).collect();
    assert!(all.windows(2).all(|two| two[0] == two[1]), "the same each time, with all of the recording");
    let api = common::api::Api::new(|_, _| common::api::response("400 Bad Request", "", r#"{"agent": ["Unknown."]}"#));
    let output = observe(&api.url, &call, &["--yes"]);
    assert!(
        output.status.code() == Some(3) && text(&output.stderr).contains("HTTP 400: agent: Unknown."),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(api.asked().len(), 1);
}

#[test]
fn the_transcript_is_the_calls_own_where_the_agents_words_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let call = recorded(folder.path());
    let events = [
        json!({"at_ms": 0.0, "event": "started", "wall": "2026-01-01T00:00:00Z"}),
        json!({"at_ms": 500.0, "side": "agent", "event": "text", "text": "Lakeside clinic."}),
        json!({"at_ms": 1500.0, "side": "agent", "event": "speech_stopped", "source": "signalled", "sample": 1, "interrupted": false}),
        json!({"at_ms": 2000.0, "side": "caller", "event": "script_line", "condition": 1, "text": "Book [the big] one. [silence 2 s] Bye. [hangs up]"}),
        json!({"at_ms": 2500.0, "side": "agent", "event": "function_call", "id": "f", "name": "book", "arguments": {"day": 1}}),
        json!({"at_ms": 2600.0, "side": "agent", "event": "function_result", "id": "f", "result": "done"}),
        json!({"at_ms": 3000.0, "side": "caller", "event": "speech_stopped", "source": "script", "sample": 1, "interrupted": false}),
    ];
    fs::write(call.join("events.jsonl"), events.map(|event| event.to_string() + "\n").concat()).unwrap();
    let (server, url) = receiver("201");
    assert_eq!(observe(&url, &call, &["--yes"]).status.code(), Some(0));
    let fields = server.json("the call")["fields"].clone();
    assert_eq!(fields["transcript_type"], "cekura");
    let lines: Value = serde_json::from_str(fields["transcript_json"].as_str().unwrap()).unwrap();
    let line = |role: &str, content: &str, start: f64, end: f64| json!({"role": role, "content": content, "start_time": start, "end_time": end});
    assert_eq!(lines[0], line("Main Agent", "Lakeside clinic.", 0.5, 1.5));
    assert_eq!(lines[1], line("Testing Agent", "Book [the big] one. Bye.", 2.0, 3.0));
    assert_eq!((&lines[2]["role"], &lines[2]["data"]["name"]), (&"Function Call".into(), &"book".into()));
    assert_eq!((&lines[3]["role"], &lines[3]["data"]["result"]), (&"Function Call Result".into(), &"done".into()));
    // A chat's folder has no audio; what was said is written there, and goes as it is.
    let chat = folder.path().join("chat");
    fs::create_dir(&chat).unwrap();
    fs::copy(call.join("call.json"), chat.join("call.json")).unwrap();
    fs::copy(call.join("events.jsonl"), chat.join("events.jsonl")).unwrap();
    edit(&chat.join("call.json"), |info| drop(info.as_object_mut().unwrap().remove("stereo")));
    let said = json!([{"role": "Main Agent", "content": "Hi.", "start_time": 0.1, "end_time": 0.1}]);
    fs::write(chat.join("transcript.json"), said.to_string()).unwrap();
    assert_eq!(observe(&url, &chat, &["--yes"]).status.code(), Some(0));
    let got = server.json("the chat");
    assert_eq!(
        (&got["files"], serde_json::from_str::<Value>(got["fields"]["transcript_json"].as_str().unwrap()).unwrap()),
        (&json!({}), said)
    );
}

#[test]
fn a_folder_that_cannot_be_sent_is_told_of_with_what_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let call = recorded(folder.path());
    let api = common::api::Api::new(|_, _| common::api::ok(&json!({"id": 1})));
    let case = |change: &dyn Fn(&Path), expected: &str, mendable: bool| {
        let copy = tempfile::tempdir().unwrap();
        for file in fs::read_dir(&call).unwrap().map(|entry| entry.unwrap().path()) {
            fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
        }
        change(copy.path());
        let output = observe(&api.url, copy.path(), &["--yes"]);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(expected), "{expected}: {said}");
        assert_eq!(said.contains("hint: trunkline record repair"), mendable, "{said}");
        if mendable {
            let mended = common::run(&["record", "repair", path(copy.path())]);
            assert!(mended.status.success(), "{}", text(&mended.stderr));
            assert_eq!(observe(&api.url, copy.path(), &["--yes"]).status.code(), Some(0), "the hint helps: {expected}");
        }
    };
    let before = api.asked().len();
    case(&|call| fs::remove_file(call.join("call.json")).unwrap(), "not a call's folder: it has no call.json", false);
    case(&|call| fs::write(call.join("call.json"), "{").unwrap(), "not a call.json", false);
    let cut = |call: &Path| {
        let stereo = fs::OpenOptions::new().write(true).open(call.join("stereo.wav")).unwrap();
        stereo.set_len(stereo.metadata().unwrap().len() / 2).unwrap();
    };
    case(&cut, "where call.json tells of 2 and", true);
    case(&|call| fs::remove_file(call.join("stereo.wav")).unwrap(), "call.json tells of it, and it is gone", true);
    let large = |call: &Path| {
        let stereo = fs::OpenOptions::new().write(true).open(call.join("stereo.wav")).unwrap();
        stereo.set_len((1 << 30) + 1).unwrap();
    };
    case(&large, "1073741825 bytes, more than the 1073741824 that are sent", false);
    // As a killed process leaves it.
    let killed = |call: &Path| {
        fs::remove_file(call.join("stereo.wav")).unwrap();
        edit(&call.join("call.json"), |info| {
            ["stereo", "duration_ms", "end"].iter().for_each(|key| drop(info.as_object_mut().unwrap().remove(*key)));
        });
    };
    case(&killed, "the call is not finished: call.json tells no duration", true);
    assert_eq!(api.asked().len(), before + 3, "only what was mended was sent");
    let said = text(&observe(&api.url, &folder.path().join("nothing"), &["--yes"]).stderr);
    assert!(said.contains("not a call's folder"), "{said}");
}
