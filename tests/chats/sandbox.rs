//! Chats in the sandbox: text, websocket and api_chat runs, carried out against agents that write.

use crate::common;

use std::path::Path;

use common::sandbox::{finished, http, sandbox_with};
use common::{Running, path, python, trunkline, until};
use serde_json::{Value, json};

/// A suite of one chat: the caller opens, asks once more, and hangs up; `expected` is its expected outcome.
fn chat_suite(folder: &Path, opening: &str, expected: &str) -> std::path::PathBuf {
    let condition = |id: u32, condition: &str, action: &str, kind: &str| json!({"id": id, "condition": condition, "action": action, "type": kind, "fixed_message": true});
    let suite = json!({"version": "1", "scenarios": [{
        "name": "Books", "type": "conditional_actions", "language": "en", "expected_outcome": expected,
        "conditional_actions": {"role": "a caller", "conditions": [
            condition(0, "FIRST_MESSAGE", opening, "standard"),
            condition(1, "0", "For Tuesday, {{test_profile.name}}.", "action_followup"),
            condition(2, "1", "Thank you, goodbye. <endcall/>", "action_followup"),
        ]},
        "test_profile": {"agent_variables": {"X-Tenant": "lakeside"}, "caller_variables": {"name": "Robin"}},
    }]});
    let file = folder.join("chat.json");
    std::fs::write(&file, suite.to_string()).unwrap();
    file
}

/// An independent chat agent and its address.
fn chat_agent(more: &[&str]) -> (Running, String) {
    let agent = Running::stdout_of(python("chat_agent.py", more));
    let port = agent.json("the port")["port"].as_u64().expect("a port");
    (agent, format!("ws://127.0.0.1:{port}/chat"))
}

fn start(url: &str, endpoint: &str, body: &Value) -> (u16, Value) {
    http("POST", url, &format!("/test_framework/v1/scenarios/{endpoint}/"), None, Some(&body.to_string()))
}

fn first_run(result: &Value) -> Value {
    result["runs"].as_object().expect("runs by id").values().next().expect("a run").clone()
}

/// All that lies in the files below a folder.
fn kept_below(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: std::path::PathBuf| match path.is_dir() {
        true => kept_below(&path),
        false => String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned(),
    };
    entries.map(text).collect()
}

fn roles(run: &Value) -> Vec<&str> {
    run["transcript_object"].as_array().expect("lines").iter().map(|line| line["role"].as_str().expect("a role")).collect()
}

#[test]
fn a_text_run_dials_the_agent_with_ids_secret_and_headers_and_a_rule_judges_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let (agent, address) = chat_agent(&["--mode", "echo", "--secret", "chat-secret"]);
    let suites = folder.path().join("suites");
    std::fs::create_dir_all(&suites).unwrap();
    std::fs::rename(chat_suite(folder.path(), "A table, please.", "contains: for tuesday, ROBIN"), suites.join("chat.json"))
        .unwrap();
    std::fs::write(folder.path().join("chat.secret"), "chat-secret\n").unwrap();
    let agents = json!([{"id": 1, "name": "Desk", "chat_url": address, "chat_headers": {"X-Own": "agent", "X-VOCERA-RUN-ID": "0"}, "chat_secret_file": "chat.secret"}]);
    std::fs::write(folder.path().join("agents.json"), agents.to_string()).unwrap();
    let (mut sandbox, url) = sandbox_with(folder.path(), &["--project", path(folder.path())], |_| {});
    let body = json!({"agent_id": 1, "scenarios": [1], "websocket_headers": {"X-Own": "run-secret"}});
    let (status, started) = start(&url, "run_scenarios_text", &body);
    assert_eq!((status, &started["run_as_text"]), (201, &true.into()), "{started}");
    let result = finished(&url, &started["id"]);
    let run = first_run(&result);
    assert_eq!((&run["status"], &run["success"]), (&"completed".into(), &true.into()), "{run}");
    assert_eq!((&run["expected_outcome"]["score"], &result["met_expected_outcome_count"]), (&100.into(), &1.into()), "{run}");
    assert_eq!(roles(&run), ["Testing Agent", "Main Agent", "Testing Agent", "Main Agent", "Testing Agent"]);
    assert!(run["transcript"].as_str().unwrap().contains("Main Agent: you said: For Tuesday, Robin."), "{run}");
    assert_eq!(run["voice_recording_url"], Value::Null, "nothing was spoken");
    assert!(run["evaluation"]["metrics"][0]["score"].is_number(), "the answers' latency: {run}");
    let seen = agent.json("what the agent saw");
    let headers: Vec<(String, String)> =
        serde_json::from_value::<Vec<(String, String)>>(json!(seen["headers"].as_object().unwrap().iter().collect::<Vec<_>>()))
            .unwrap();
    let header = |name: &str| headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
    assert_eq!(header("X-VOCERA-RUN-ID"), Some(run["id"].to_string().as_str()), "Cekura's own headers are not overridden");
    assert_eq!(
        (header("X-VOCERA-SECRET"), header("X-Own"), header("X-Tenant")),
        (Some("chat-secret"), Some("run-secret"), Some("lakeside"))
    );
    assert_eq!(seen["frames"].as_array().unwrap().last().unwrap()["type"], "end_call");
    // What was written is kept, and its secrets are not.
    sandbox.interrupt();
    assert!(sandbox.wait().success());
    let kept = kept_below(&folder.path().join("data"));
    assert!(kept.contains("For Tuesday, Robin."));
    assert!(!kept.contains("chat-secret") && !kept.contains("run-secret"));
}

#[test]
fn a_rule_that_is_not_kept_to_fails_the_run_and_a_sentence_is_left_open() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, address) = chat_agent(&["--mode", "tools"]);
    for (expected, score, success) in [("regex: (?i)friday", json!(0), false), ("The agent books a table", Value::Null, true)] {
        let suite = chat_suite(folder.path(), "A table, please.", expected);
        let place = folder.path().join(if success { "open" } else { "ruled" });
        let (_sandbox, url) = sandbox_with(&place, &["--suite", path(&suite)], |_| {});
        let entries = json!({"agent": 1, "frequency": 1, "scenarios": [{"scenario": 1, "websocket_url": address}]});
        let (status, started) = start(&url, "run_scenarios_with_websockets", &entries);
        assert_eq!(status, 201, "{started}");
        let result = finished(&url, &started["id"]);
        let run = first_run(&result);
        assert_eq!(
            (&run["success"], run["expected_outcome"].get("score").unwrap_or(&Value::Null)),
            (&success.into(), &score),
            "{run}"
        );
        assert_eq!(result["total_expected_outcome_count"], if success { 0 } else { 1 });
        assert!(success || run["error_message"].as_str().unwrap().contains("regex: (?i)friday"), "{run}");
        // Functions and metadata of the agent are the run's.
        assert_eq!((&run["metadata"]["stage"], &run["metadata"]["nested"]["a"]), (&"done".into(), &json!([1])));
        let lines = run["transcript_object"].as_array().unwrap();
        let call = lines.iter().find(|line| line["role"] == "Function Call").expect("a function call");
        assert_eq!((&call["data"]["name"], &call["data"]["id"]), (&"look_up".into(), &"call-1".into()), "{call}");
        assert!(roles(&run).contains(&"Function Call Result"));
    }
}

#[test]
fn an_agent_that_crashes_or_hangs_up_in_a_chat_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let suite = chat_suite(folder.path(), "A table, please.", "");
    let (_sandbox, url) = sandbox_with(folder.path(), &["--suite", path(&suite)], |_| {});
    for (mode, reason, issues) in [("hang_up", "Main agent-ended-call", 0.0), ("crash", "call-failed-unknown-error", 1.0)] {
        let (_agent, address) = chat_agent(&["--mode", mode]);
        let (_, started) = start(&url, "run_scenarios_text", &json!({"agent_id": 1, "scenarios": [1], "websocket_url": address}));
        let run = first_run(&finished(&url, &started["id"]));
        assert_eq!((&run["status"], &run["success"]), (&"completed".into(), &false.into()), "{mode}: {run}");
        assert_eq!(run["metadata"]["call_ended_reason"], reason);
        let metrics = run["evaluation"]["metrics"].as_array().unwrap();
        let found = metrics.iter().find(|metric| metric["function_name"] == "infrastructure_issues").unwrap();
        assert_eq!(found["score"].as_f64(), Some(issues), "{mode}: {run}");
    }
    let (status, error) = start(&url, "run_scenarios_text", &json!({"agent_id": 1, "scenarios": [1]}));
    assert_eq!((status, error), (400, json!(["Agent does not have a websocket URL"])));
}

#[test]
fn an_independent_agent_carries_an_api_chat_out_over_rest() {
    let folder = tempfile::tempdir().unwrap();
    for (opening, turns) in [("A table, please.", 4), ("", 3)] {
        let suite = chat_suite(folder.path(), opening, "contains: Tuesday at eleven");
        let place = folder.path().join(turns.to_string());
        let (_sandbox, url) = sandbox_with(&place, &["--suite", path(&suite)], |_| {});
        let (status, started) = start(&url, "run_scenarios_api_chat", &json!({"agent_id": 1, "scenarios": [1], "timeout": 60}));
        assert_eq!(status, 200, "{started}");
        let run = started["runs"][0]["id"].to_string();
        let output = python("rest_agent.py", &[&url, &run]).output().expect("python starts");
        let seen: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let told = seen["turns"].as_array().unwrap();
        let first = if opening.is_empty() { Value::Null } else { opening.into() };
        assert_eq!((&told[0]["message"], &told[0]["status"]), (&first, &"ready".into()), "{seen}");
        assert_eq!(told.last().unwrap()["ended"], true);
        assert!(told.iter().any(|turn| turn["message"] == "For Tuesday, Robin."), "{seen}");
        assert_eq!((&seen["accepted"][0], &seen["late"]), (&json!([202, 1, "generating"]), &409.into()), "{seen}");
        let run = first_run(&finished(&url, &started["id"]));
        assert_eq!((&run["success"], &run["expected_outcome"]["score"]), (&true.into(), &100.into()), "{run}");
        assert_eq!(run["metadata"]["stage"], "greeting");
        assert!(roles(&run).contains(&"Function Call"));
    }
}

#[test]
fn an_agent_may_end_an_api_chat_and_time_ends_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let suite = chat_suite(folder.path(), "A table, please.", "");
    let config = folder.path().join("trunkline.toml");
    std::fs::write(&config, "[sandbox]\nmax_calls = 1\n").unwrap();
    let (_sandbox, url) = sandbox_with(folder.path(), &["--suite", path(&suite), "--config", path(&config)], |_| {});
    let two = json!({"agent_id": 1, "scenarios": [1], "frequency": 2});
    let (_, started) = start(&url, "run_scenarios_api_chat", &two);
    let [run, waiting] = until("one chat and one that waits", || {
        let (_, result) = http("GET", &url, &format!("/test_framework/v1/results/{}/", started["id"]), None, None);
        let of = |status: &str| {
            let mut runs = result["runs"].as_object()?.values().filter(|run| run["status"] == status);
            Some(runs.next()?["id"].to_string())
        };
        Some([of("in_progress")?, of("in_queue")?])
    });
    let early = format!("/test_framework/v1/runs/{waiting}/chat/");
    assert_eq!(http("POST", &url, &early, None, Some("{\"content\": \"too early\"}")).0, 409, "one chat at a time");
    let output = python("rest_agent.py", &[&url, &run, "--hang-up"]).output().expect("python starts");
    let seen: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(seen["hung_up"], 200);
    http("POST", &url, &format!("/test_framework/v1/runs/{waiting}/end_call/"), None, Some("{}"));
    let run = finished(&url, &started["id"])["runs"][&run].clone();
    assert_eq!((&run["success"], &run["metadata"]["call_ended_reason"]), (&false.into(), &"Main agent-ended-call".into()), "{run}");
    let (_, started) = start(&url, "run_scenarios_api_chat", &json!({"agent_id": 1, "scenarios": [1], "timeout": 1}));
    let run = first_run(&finished(&url, &started["id"]));
    assert_eq!((&run["status"], &run["metadata"]["call_ended_reason"]), (&"timeout".into(), &"exceeded-max-duration".into()));
}

/// A chat agent that is a process: it answers each message, and calls the caller by what it knows of the run.
fn process(folder: &Path) -> String {
    let script = folder.join("agent.py");
    let text = "import json, os, sys\nfor line in sys.stdin:\n    text = json.loads(line).get('content')\n    if text:\n        print(json.dumps({'content': f\"run {os.environ['TRUNKLINE_RUN_ID']}: {text}\"}), flush=True)\n";
    std::fs::write(&script, text).unwrap();
    format!("chat-process:python3 {}", script.display())
}

#[test]
fn the_whole_way_of_a_chat_run_is_one_command() {
    let folder = tempfile::tempdir().unwrap();
    let suite = chat_suite(folder.path(), "A table, please.", "contains: tuesday");
    let to = process(folder.path());
    for (mode, tied) in [("text", "header"), ("websocket", "header"), ("api_chat", "direct")] {
        let out = folder.path().join(mode);
        let arguments = [
            "run",
            mode,
            "--agent-id",
            "1",
            "--scenario-ids",
            "1",
            "--sandbox",
            "--suite",
            path(&suite),
            "--to",
            &to,
            "--out",
            path(&out),
            "--format",
            "json",
        ];
        let mut command = trunkline(&arguments);
        command.env("TRUNKLINE_LEDGER", folder.path().join("ledger.sqlite")).env("TRUNKLINE_DOOR_SECRET", "door-secret");
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{mode}: {errors}"));
        assert_eq!((output.status.code(), &report["verdict"]), (Some(0), &"passed".into()), "{mode}: {report}{errors}");
        let run = &report["runs"][0];
        assert_eq!((&run["tied_by"], &report["mode"]), (&tied.into(), &mode.into()), "{mode}: {run}");
        let recording = out.join(run["recording"].as_str().expect("a recording"));
        let transcript: Value = serde_json::from_slice(&std::fs::read(recording.join("transcript.json")).unwrap()).unwrap();
        let said = transcript.to_string();
        assert!(said.contains(&format!("run {}: For Tuesday, Robin.", run["run_id"])), "{mode}: {said}");
        assert!(!recording.join("stereo.wav").exists() && !errors.contains("door-secret"));
        assert!(run["measures"]["response_latency"]["p50"]["value"].is_number(), "{mode}: {run}");
    }
}

#[test]
fn cekuras_own_package_runs_text_and_is_gated_by_its_threshold() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, address) = chat_agent(&["--mode", "echo"]);
    let cekura = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pyenv/bin/cekura");
    for (expected, code) in [("contains: for tuesday", 0), ("contains: Friday", 1)] {
        let suite = chat_suite(folder.path(), "A table, please.", expected);
        let place = folder.path().join(code.to_string());
        let (_sandbox, url) = sandbox_with(&place, &["--suite", path(&suite), "--agent-chat-url", &address], |_| {});
        let arguments =
            ["run", "start", "--mode", "text", "--agent-id", "1", "--scenario-ids", "1", "--wait", "--fail-on-threshold", "1.0"];
        let mut command = std::process::Command::new(&cekura);
        command.args(arguments).env("CEKURA_API_URL", &url).env("CEKURA_API_KEY", "any").env("HOME", folder.path());
        let output = command.output().expect("the cekura command starts");
        assert_eq!(output.status.code(), Some(code), "{expected}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn a_chat_that_goes_on_is_read_on_its_page() {
    let folder = tempfile::tempdir().unwrap();
    let suite = chat_suite(folder.path(), "A table, please.", "");
    let (_sandbox, url) = sandbox_with(folder.path(), &["--suite", path(&suite)], |_| {});
    let (_, started) = start(&url, "run_scenarios_api_chat", &json!({"agent_id": 1, "scenarios": [1]}));
    let run = started["runs"][0]["id"].to_string();
    let link = until("the address to listen at", || {
        let (status, answer) = http("GET", &url, &format!("/test_framework/v1/runs/{run}/get_listen_url/"), None, None);
        (status == 200).then(|| answer["listen_url"].as_str().expect("an address").to_owned())
    });
    assert_eq!(http("POST", &url, &format!("/test_framework/v1/runs/{run}/end_call/"), None, Some("{}")).0, 200);
    let run = first_run(&finished(&url, &started["id"]));
    assert_eq!(run["status"], "cancelled");
    let events = link.strip_prefix(&url).unwrap().replace("/?", "/events?");
    let host = url.strip_prefix("http://").unwrap();
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(stream, "GET {events} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("A table, please.") && text.contains("event: over") && text.contains("\"recording\":null"), "{text}");
}
