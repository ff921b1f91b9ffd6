//! `run text`, `run websocket` and `run api_chat` against a stand-in for Cekura's API in Python, which is none of Trunkline's.

use crate::common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use common::{Running, path, python, trunkline};
use serde_json::{Value, json};

/// The stand-in, and its URL.
fn api() -> (Running, String) {
    let api = Running::stdout_of(python("chat_api.py", &[]));
    let port = api.json("the port")["port"].as_u64().unwrap();
    (api, format!("http://127.0.0.1:{port}"))
}

/// What the stand-in was told.
fn seen(url: &str) -> Value {
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET /seen HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// Starts the payload and waits for its end: exit code and report.
fn run(folder: &Path, url: &str, mode: &str, payload: &Value, to: &str, config: &str) -> (i32, Value) {
    let (code, report, _) = run_and_hear(folder, url, mode, payload, to, config);
    (code, report)
}

/// As [`run`], and what it said on the way.
fn run_and_hear(folder: &Path, url: &str, mode: &str, payload: &Value, to: &str, config: &str) -> (i32, Value, String) {
    let (file, out, settings) = (folder.join("payload.json"), folder.join("out"), folder.join("trunkline.toml"));
    std::fs::write(&file, payload.to_string()).unwrap();
    std::fs::write(&settings, config).unwrap();
    let arguments = ["run", mode, "--from-file", path(&file), "--to", to, "--wait", "--every-s", "0.3", "--out", path(&out)];
    let output = trunkline(&[&arguments[..], &["--format", "json", "--config", path(&settings)]].concat())
        .env("CEKURA_API_KEY", "any")
        .env("CEKURA_API_URL", url)
        .env("TRUNKLINE_LEDGER", folder.join("ledger.sqlite"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {errors}"));
    (output.status.code().unwrap(), report, errors.into_owned())
}

/// A process that answers each line, in these words.
fn agent(folder: &Path, body: &str) -> String {
    let file = folder.join("agent.py");
    let head = "import json, sys\ndef say(**frame):\n    print(json.dumps(frame), flush=True)\n";
    std::fs::write(&file, format!("{head}{body}\n")).unwrap();
    format!("chat-process:python3 '{}'", file.display())
}

const ECHO: &str = "for line in sys.stdin:
    frame = json.loads(line)
    if frame.get('content'):
        say(role='Function Call', data={'id': 'f1', 'name': 'note', 'arguments': {'text': frame['content']}})
        say(content='you said: ' + frame['content'], metadata={'seen': True})";

fn transcript(folder: &Path, run: &Value) -> Vec<(String, String)> {
    let file = folder.join("out").join(run["recording"].as_str().unwrap()).join("transcript.json");
    let lines: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    lines.iter().filter(|line| line.get("data").is_none()).map(|line| (text(&line["role"]), text(&line["content"]))).collect()
}

fn lines(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(who, what)| ((*who).to_owned(), (*what).to_owned())).collect()
}

const CALLER: &str = "Testing Agent";
const AGENT: &str = "Main Agent";

#[test]
fn text_and_websocket_runs_come_through_a_chat_door_and_are_tied_by_their_ids() {
    for mode in ["text", "websocket"] {
        // Another process may take the port before the door does.
        assert!((0..5).any(|_| comes_through_a_door(mode)), "the door's port is always taken");
    }
}

/// False: the door's port was taken.
fn comes_through_a_door(mode: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let (_api, url) = api();
    let door = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let secret = folder.path().join("secret");
    let address = format!("ws://{door}/chat");
    let (payload, config) = match mode {
        "text" => {
            std::fs::write(&secret, "of-the-door").unwrap();
            let headers = json!({"X-VOCERA-SECRET": "of-the-door"});
            let payload = json!({"agent_id": 1, "scenarios": [1, 1], "websocket_url": address, "websocket_headers": headers});
            (payload, format!("[doors.chat]\nlisten = \"{door}\"\nsecret_file = {:?}\n", path(&secret)))
        }
        _ => {
            let entries = json!([{"scenario": 1, "websocket_url": address}]);
            (json!({"agent": 1, "scenarios": entries, "frequency": 2}), format!("[doors.chat]\nlisten = \"{door}\"\n"))
        }
    };
    let (code, report, said) = run_and_hear(folder.path(), &url, mode, &payload, &agent(folder.path(), ECHO), &config);
    if said.contains("is open already") {
        return false;
    }
    assert!(said.contains(&format!("door chat {door} in front of")), "{said}");
    assert_eq!((code, &report["mode"], &report["verdict"]), (0, &mode.into(), &"passed".into()), "{report}");
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    for run in runs {
        assert_eq!((&run["tied_by"], &run["scenario"]), (&"header".into(), &"chat 1".into()));
        let info = folder.path().join("out").join(run["recording"].as_str().unwrap()).join("call.json");
        let info: Value = serde_json::from_slice(&std::fs::read(info).unwrap()).unwrap();
        assert_eq!(info["run_id"], run["run_id"].to_string(), "the folder is this run's");
        assert_eq!(transcript(folder.path(), run).len(), 6);
        assert_eq!(run["measures"]["response_latency"]["answers"].as_array().unwrap().len(), 3);
    }
    assert_ne!(runs[0]["recording"], runs[1]["recording"]);
    true
}

#[test]
fn chats_of_an_api_chat_result_are_fetched_answered_and_tied() {
    let folder = tempfile::tempdir().unwrap();
    let (_api, url) = api();
    let payload = json!({"agent_id": 1, "scenarios": [1, 3]});
    let (code, report) = run(folder.path(), &url, "api_chat", &payload, &agent(folder.path(), ECHO), "");
    let runs = report["runs"].as_array().unwrap();
    assert_eq!((&runs[0]["verdict"], &runs[0]["tied_by"]), (&"passed".into(), &"direct".into()), "{report}");
    let said = [
        (CALLER, "Hello, a table please"),
        (AGENT, "you said: Hello, a table please"),
        (CALLER, "For two"),
        (AGENT, "you said: For two"),
        (CALLER, "Thanks, that is all"),
    ];
    let heard = transcript(folder.path(), &runs[0]);
    assert_eq!(heard[..5], lines(&said), "the caller's last line ends the chat");
    assert_eq!(runs[0]["end"]["by"], "caller");
    let posts = seen(&url)["runs"][0]["posts"].clone();
    let call =
        json!({"role": "Function Call", "data": {"id": "f1", "name": "note", "arguments": {"text": "Hello, a table please"}}});
    assert_eq!(
        posts.as_array().unwrap()[..3],
        [call, json!({"content": "you said: Hello, a table please"}), json!({"metadata": {"seen": true}})]
    );
    assert_eq!((code, &runs[1]["verdict"], &report["verdict"]), (1, &"failed".into(), &"failed".into()), "{report}");
    let folder = folder.path().join("out").join(runs[1]["recording"].as_str().unwrap());
    let faults: Vec<_> = common::events(&folder).into_iter().filter(|event| event["event"] == "fault").collect();
    assert_eq!(faults[0]["code"], "TURN_ERROR", "a turn that failed is told");
}

#[test]
fn an_agent_may_open_an_api_chat_and_speak_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (_api, url) = api();
    let body = "say(content='Welcome')
for line in sys.stdin:
    if json.loads(line).get('content'):
        say(content='One moment')
        say(content='Here you are')";
    let payload = json!({"agent_id": 1, "scenarios": [2]});
    let (code, report) = run(folder.path(), &url, "api_chat", &payload, &agent(folder.path(), body), "");
    assert_eq!((code, &report["verdict"]), (0, &"passed".into()), "{report}");
    let said = [(AGENT, "Welcome"), (CALLER, "A table please"), (AGENT, "One moment"), (AGENT, "Here you are"), (CALLER, "Bye")];
    assert_eq!(transcript(folder.path(), &report["runs"][0])[..5], lines(&said), "the overtaken turn is not waited for");
}

#[test]
fn an_answer_is_found_by_a_number_in_a_text_and_missed_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let (_api, url) = api();
    let payload = json!({"agent_id": 1, "scenarios": [5, 6]});
    let (code, report) = run(folder.path(), &url, "api_chat", &payload, &agent(folder.path(), ECHO), "");
    let runs = report["runs"].as_array().unwrap();
    assert_eq!((code, &runs[0]["verdict"], &runs[1]["verdict"]), (3, &"passed".into(), &"void".into()), "{report}");
    let failure = &runs[1]["failures"][0];
    assert_eq!(failure["kind"], "caller_lost");
    assert!(failure["detail"].as_str().unwrap().contains("named no turn that answers it (turn_id)"), "{failure}");
}

#[test]
fn the_last_words_of_an_api_chat_are_heard_though_nothing_is_taken_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let (_api, url) = api();
    let body = "for line in sys.stdin:
    if json.loads(line).get('content'):
        say(content='One moment')
        say(content='Here you are')";
    let payload = json!({"agent_id": 1, "scenarios": [4]});
    let (code, report) = run(folder.path(), &url, "api_chat", &payload, &agent(folder.path(), body), "");
    assert_eq!((code, &report["verdict"]), (0, &"passed".into()), "{report}");
    let said = [(CALLER, "Hello"), (AGENT, "One moment"), (AGENT, "Here you are"), (CALLER, "Bye")];
    let events = common::events(&folder.path().join("out").join(report["runs"][0]["recording"].as_str().unwrap()));
    // An agent that is fast answers the last words before the call is over.
    assert_eq!(transcript(folder.path(), &report["runs"][0])[..4], lines(&said), "{events:#?}");
    assert!(events.iter().any(|event| event["event"] == "not_read"), "the message that was not taken is counted");
}

#[test]
fn the_api_is_told_of_an_agent_that_crashes_in_an_api_chat_and_of_one_that_hangs_up() {
    for (body, verdict, told, reason) in [
        ("sys.stdin.readline()\nsys.exit(3)", "failed", true, "the agent crashed: the process ended: exit status: 3"),
        ("sys.stdin.readline()\nsay(content='Bye', type='end_call')", "failed", false, "the agent ended the chat"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (_api, url) = api();
        let payload = json!({"agent_id": 1, "scenarios": [1]});
        let (code, report) = run(folder.path(), &url, "api_chat", &payload, &agent(folder.path(), body), "");
        assert_eq!((code, &report["verdict"]), (1, &verdict.into()), "{report}");
        let failure = &report["runs"][0]["failures"][0];
        assert_eq!(failure["kind"], if told { "connection_lost" } else { "run_failed" }, "{report}");
        let posts = seen(&url)["runs"][0]["posts"].clone();
        let first = if told {
            json!({"metadata": {"trunkline": {"agent_crashed": "the process ended: exit status: 3"}}})
        } else {
            json!({"content": "Bye"})
        };
        assert_eq!(posts, json!([first, {"end-chat": reason}]));
    }
}

#[test]
fn a_mode_and_an_agent_that_do_not_go_together_are_refused_before_anything_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("payload.json");
    std::fs::write(&file, json!({"agent_id": 1, "scenarios": [1]}).to_string()).unwrap();
    for (mode, to, said) in [
        ("text", "chirp://127.0.0.1:1/", "a chat door cannot stand in front of chirp://127.0.0.1:1/"),
        ("api_chat", "process:cat", "REST chats cannot stand in front of process:cat"),
        ("chirp", "chat://127.0.0.1:1/", "a CHIRP door cannot stand in front of chat://127.0.0.1:1/"),
    ] {
        let out = folder.path().join("out");
        let output = trunkline(&["run", mode, "--from-file", path(&file), "--to", to, "--wait", "--out", path(&out)])
            .env("CEKURA_API_KEY", "any")
            .env("CEKURA_API_URL", "http://127.0.0.1:1")
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(said), "{errors}");
    }
}
