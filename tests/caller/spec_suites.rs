//! `spec` mode: a suite file of the user's is built into a payload, checked, planned by the API without a start, and started once.

use crate::common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::api::{Api, Fault, ok, page, response, searched};
use common::{path, run};
use serde_json::{Value, json};

const START: &str = "/test_framework/v1/scenarios/run_scenarios_json/";

/// Every scenario type of the format, in an order of keys that is nobody's default.
const SUITE: &str = r#"{
  "scenarios": [
    {"type": "instruction", "name": "Books", "instructions": "Book a table für zwei.", "personality": {"name": "hasty", "speed": 1.25},
     "metrics": ["latency", 55], "tags": ["b", "a"], "frequency": 3},
    {"name": "Asks", "key": "asks", "instructions": "Ask. \u00e9 \"quoted\" \\ back", "test_profile": {"caller_variables": {"z": 1, "a": true},
     "agent_variables": {"name": "Ada"}}, "expected_outcome": null},
    {"name": "Fixed", "type": "real_world_fixed", "instructions": "x"},
    {"name": "Structured", "type": "conditional_actions", "language": "de", "conditional_actions": {"role": "caller", "conditions": [
      {"fixed_message": true, "type": "standard", "action": "Hallo", "condition": "FIRST_MESSAGE", "id": 0}]}}
  ],
  "$schema": "https://docs.cekura.ai/schemas/test-suite/v1.json",
  "version": "1",
  "defaults": {"frequency": 2},
  "suite": {"name": "Order matters", "description": ""}
}"#;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn suite(folder: &Path, json: &str) -> PathBuf {
    let file = folder.join("suite.json");
    fs::write(&file, json).unwrap();
    file
}

#[test]
fn a_suite_is_in_the_payload_as_it_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = suite(folder.path(), SUITE);
    let payload = folder.path().join("run.json");
    let arguments = ["payload", "spec", "--suite", path(&file), "--agent-id", "7", "--channel", "chirp", "--frequency", "2"];
    let more = ["--websocket-url", "wss://a.example/x", "--concurrency-limit", "4", "--mock-tool-names", "", "--name", "nightly"];
    let phone = ["--agent-number", "+15550100", "--number-mode", "same_number", "--output", path(&payload)];
    let output = run(&[&arguments[..], &more, &phone].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    // Three of the first, twice (the default) of each of the others, all of it twice.
    assert!(text(&output.stderr).contains("this starts 18 runs"), "{}", text(&output.stderr));
    // Python reads both, with the order of all members.
    const SAME: &str = "import json, sys
read = lambda path: json.load(open(path), object_pairs_hook=lambda members: members)
body = dict(read(sys.argv[1]))
assert body.pop('spec') == read(sys.argv[2]), 'the suite is another one'
print(json.dumps(body))";
    let output = Command::new("python3").args(["-c", SAME, path(&payload), path(&file)]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rest: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = json!({"agent_id": 7, "name": "nightly", "channel": "chirp", "frequency": 2, "concurrency_limit": 4, "mock_tool_names": [],
        "chirp_data": [["websocket_url", "wss://a.example/x"]], "agent_number": "+15550100", "mode": "same_number"});
    assert_eq!(rest, expected);
    let checked = run(&["payload", "check", path(&payload)]);
    assert!(text(&checked.stdout).contains("fits spec"), "the key `spec` tells the mode: {}", text(&checked.stderr));
    for (channel, flags, data) in [
        (
            "livekit_v2",
            ["--livekit-url", "wss://lk.example"],
            json!({"livekit_data": {"agent_name": "a", "url": "wss://lk.example"}}),
        ),
        ("pipecat_v2", ["--agent-config", "{\"a\":1}"], json!({"pipecat_data": {"pipecat_agent_name": "a", "config": {"a": 1}}})),
    ] {
        let arguments = ["payload", "spec", "--suite", path(&file), "--channel", channel, "--agent-name", "a"];
        let body: Value = serde_json::from_slice(&run(&[&arguments[..], &flags].concat()).stdout).unwrap();
        let (key, value) = data.as_object().unwrap().iter().next().unwrap();
        assert_eq!(&body[key], value, "{channel}");
    }
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = r#"{"name": "a", "instructions": "b"}"#;
    let with = |more: &str| format!(r#"{{"version": "1", {more} "scenarios": [{scenario}]}}"#);
    let many = format!(r#"{{"version": "1", "scenarios": [{}]}}"#, [scenario; 201].join(","));
    let large = with(&format!(r#""suite": {{"description": "{}"}},"#, "x".repeat(1_000_000)));
    let cases: [(&str, &[&str], &str); 12] = [
        (&with(r#""agent_id": 7,"#), &[], "$.spec.agent_id: is not allowed in a suite; expected the agent beside the suite"),
        (&with(r#""suites": {},"#), &[], "unknown key \"suites\"; the nearest known one is \"suite\""),
        (&with(r#""version": "1","#), &[], "the key \"version\" is there twice at line 1"),
        (r#"{"version": "2", "scenarios": []}"#, &[], "\"version\" must be \"1\""),
        (&many, &[], "201 scenarios: a suite has 1 to 200"),
        (&large, &[], "a suite has at most 1000000"),
        (r#"{"agent_id": 7, "spec": {}}"#, &[], "a payload, not a suite"),
        ("[]", &[], "$.spec: is a list; expected a test suite"),
        (
            &with(""),
            &["--websocket-url", "wss://a.example"],
            "$.chirp_data: is given for the channel voice; expected channel \"chirp\"",
        ),
        (&with(""), &["--scenario-ids", "1"], "$.scenarios: is not a field of run_scenarios_json"),
        (&with(""), &["--channel", "sip"], "invalid value 'sip'"),
        (&with(""), &["--name", &"n".repeat(256)], "has 256 characters"),
    ];
    let api = Api::new(|_, _| ok(&json!({"id": 9, "status": "pending", "runs": []})));
    for (json, flags, expected) in cases {
        let file = suite(folder.path(), json);
        for command in [&["payload", "spec"][..], &["run", "spec"], &["scenarios", "run-spec"]] {
            let arguments = [command, &["--suite", path(&file)], flags].concat();
            let (code, out, errors) = api.run(folder.path(), &arguments);
            assert!(code == 2 && out.is_empty() && errors.contains(expected), "{command:?} {expected}: {errors}");
        }
    }
    // A suite where a payload belongs, a payload's file where flags say the rest, and a mode without suites.
    let file = suite(folder.path(), SUITE);
    let wrong: [(&[&str], &str); 6] = [
        (&["run", "spec", "--from-file", path(&file)], "this looks like a test suite: give it with --suite"),
        (&["payload", "check", path(&file)], "this looks like a test suite: give it with --suite"),
        (&["run", "spec", "--agent-id", "1"], "there is no suite to run: give --suite FILE"),
        (&["run", "text", path(&file), "--agent-id", "1", "--scenario-ids", "1"], "a suite belongs to spec, or to --sandbox"),
        (&["run", "text", "--agent-id", "1", "--scenario-ids", "1", "--dry-run"], "the API has neither for text"),
        (&["payload", "text", "--scenario-ids", "1", "--suite", path(&file)], "--suite belongs to spec"),
    ];
    for (arguments, expected) in wrong {
        let (code, _, errors) = api.run(folder.path(), arguments);
        assert!(code == 2 && errors.contains(expected), "{arguments:?}: {errors}");
    }
    assert!(api.asked().is_empty());
}

fn plan() -> Value {
    json!({"dry_run": true, "valid": true, "plan": {"agent_id": 7, "project_id": 3, "channel": "chirp", "suite_name": "Order matters",
        "scenario_count": 4, "total_runs": 9, "estimated_cost": 1.75, "scenarios": [{"name": "Books", "total_runs": 3}, {"name": "Asks"}]}})
}

#[test]
fn a_plan_is_asked_for_and_nothing_is_started_or_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let file = suite(folder.path(), SUITE);
    for (flag, called) in [
        ("--dry-run", format!("{START}?dry_run=true")),
        ("--validate", "/test_framework/v1/scenarios/validate_scenarios_json/".to_owned()),
    ] {
        let api = Api::new(|_, _| ok(&plan()));
        let arguments = ["run", "spec", path(&file), "--agent-id", "7", "--channel", "chirp", flag];
        let (code, table, errors) = api.run(folder.path(), &arguments);
        assert_eq!(code, 0, "{errors}");
        assert!(["total runs", "9", "estimated cost", "1.75", "Books"].iter().all(|word| table.contains(word)), "{table}");
        let (code, out, errors) = api.run(folder.path(), &[&arguments[..], &["--format", "json"]].concat());
        assert_eq!((code, serde_json::from_str::<Value>(&out).unwrap()), (0, plan()), "{errors}");
        let posts = api.posts();
        assert_eq!(posts.len(), 2);
        assert!(posts.iter().all(|(path, body)| *path == called && body["spec"]["suite"]["name"] == "Order matters"), "{posts:?}");
        assert!(!folder.path().join("ledger.sqlite").exists(), "no start is written down");
    }
}

#[test]
fn errors_of_the_api_come_one_a_line_in_either_envelope() {
    let folder = tempfile::tempdir().unwrap();
    let file = suite(folder.path(), SUITE);
    let envelopes: [Fault; 2] = [
        || {
            response(
                "400 Bad Request",
                "",
                r#"{"errors": {"scenarios[0].metrics": ["Unknown metric.", "Not enabled."], "agent_id": ["No."]}}"#,
            )
        },
        || response("400 Bad Request", "", r#"{"scenarios[0].metrics": ["Unknown metric.", "Not enabled."], "agent_id": ["No."]}"#),
    ];
    for envelope in envelopes {
        let api = Api::new(move |_, _| envelope());
        for flag in ["--dry-run", "--validate"] {
            let (code, out, errors) = api.run(folder.path(), &["run", "spec", path(&file), flag]);
            let lines: Vec<_> = errors.lines().map(str::trim).collect();
            let expected = ["scenarios[0].metrics: Unknown metric.", "scenarios[0].metrics: Not enabled.", "agent_id: No."];
            assert!(code == 2 && out.is_empty() && lines[1..] == expected, "{flag}: {errors}");
        }
    }
}

#[test]
fn checking_is_tried_again_and_a_dry_run_is_not_for_it_may_be_taken_for_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = suite(folder.path(), SUITE);
    let api = Api::new(|number, _| if number == 1 { response("503 Service Unavailable", "", "") } else { ok(&plan()) });
    assert_eq!(api.run(folder.path(), &["run", "spec", path(&file), "--validate"]).0, 0);
    assert_eq!(api.asked().len(), 2);
    let api = Api::new(|_, _| response("503 Service Unavailable", "", ""));
    assert_eq!(api.run(folder.path(), &["run", "spec", path(&file), "--dry-run"]).0, 3);
    assert_eq!(api.asked().len(), 1);
    // An API that does not know dry runs has started: that is told, with all ids.
    let api = Api::new(|_, _| ok(&json!({"id": 9, "status": "pending", "runs": [{"id": 71, "status": "pending"}]})));
    let (code, _, errors) = api.run(folder.path(), &["run", "spec", path(&file), "--dry-run"]);
    assert!(code == 3 && errors.contains("took the dry run for a start: result 9, runs 71"), "{errors}");
}

#[test]
fn the_schema_is_fetched_with_and_without_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::new(|_, _| ok(&json!({"$schema": "x", "$id": "y", "properties": {}})));
    let (code, out, errors) = api.run(folder.path(), &["payload", "spec-schema", "--version", "1"]);
    assert_eq!((code, serde_json::from_str::<Value>(&out).unwrap()["$id"].as_str()), (0, Some("y")), "{errors}");
    let without = api.command(folder.path(), &["payload", "spec-schema"]).env_remove("CEKURA_API_KEY").output().unwrap();
    assert!(without.status.success(), "{}", text(&without.stderr));
    let paths: Vec<_> = api.asked().into_iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    let schema = "GET /test_framework/v1/scenarios/json_schema/";
    assert_eq!(paths, [format!("{schema}?version=1"), schema.to_owned()]);
}

#[test]
fn a_suite_is_started_once_under_a_unique_name_and_found_again_when_the_answer_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let file = suite(folder.path(), SUITE);
    let result = |name: Value| {
        json!({"id": 9, "name": name, "status": "completed", "total_runs_count": 1, "success_runs_count": 1,
            "runs": {"71": {"id": 71, "status": "completed", "success": true, "scenario": {"id": 5, "name": "Books"}}}})
    };
    let api = Api::new(move |_, (method, path, _)| match (method.as_str(), searched(path)) {
        ("POST", _) => None,
        (_, Some(name)) => ok(&page(&[result(name.into())])),
        _ => ok(&result(Value::Null)),
    });
    let out = folder.path().join("out");
    let arguments = ["run", "spec", path(&file), "--agent-id", "7", "--name", "nightly", "--wait", "--every-s", "0.1"];
    let (code, report, errors) = api.run(folder.path(), &[&arguments[..], &["--out", path(&out), "--format", "json"]].concat());
    assert_eq!(code, 0, "{errors}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(
        (&report["mode"], &report["result_id"], &report["run_ids"], &report["runs"][0]["scenario"]),
        (&"spec".into(), &9.into(), &json!([71]), &"Books".into())
    );
    let posts = api.posts();
    assert_eq!((posts.len(), posts[0].0.as_str()), (1, START));
    assert!(posts[0].1["name"].as_str().unwrap().starts_with("nightly #"));
    assert_eq!(posts[0].1["spec"].to_string(), serde_json::from_str::<Value>(SUITE).unwrap().to_string());
    let kept = trunkline::ledger::Ledger::open(&folder.path().join("ledger.sqlite")).unwrap().list(5).unwrap();
    assert_eq!((kept.len(), kept[0].mode.as_str(), kept[0].state.as_str()), (1, "spec", "replied"));
}

#[test]
fn the_calls_of_a_suite_over_chirp_come_through_the_door_and_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let file = suite(folder.path(), SUITE);
    let (_agent, agent) = common::built_in_agent("echo");
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let ended = std::sync::Arc::clone(&over);
    let api = Api::new(move |_, _| {
        let status = ["in_progress", "completed"][usize::from(ended.load(std::sync::atomic::Ordering::SeqCst))];
        let run = json!({"id": 71, "status": status, "success": true, "scenario_name": "Books"});
        ok(&json!({"id": 9, "status": status, "total_runs_count": 1, "success_runs_count": 1, "runs": [run]}))
    });
    let (out, config) = (folder.path().join("out"), folder.path().join("trunkline.toml"));
    fs::write(&config, "[doors.chirp]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let arguments =
        ["run", "spec", path(&file), "--agent-id", "7", "--channel", "chirp", "--wait", "--every-s", "0.1", "--to", &agent];
    let mut command = api.command(folder.path(), &[&arguments[..], &["--out", path(&out), "--config", path(&config)]].concat());
    command.env("RUST_LOG", "off");
    let mut run = common::Running::stderr_of(command);
    let door = run.wait_for("the door", |line| line.strip_prefix("door chirp ")?.split(' ').next().map(str::to_owned));
    run.wait_for("the start", |line| line.contains("result 9 started: runs 71").then_some(()));
    common::python_caller(&format!("ws://{door}/"), &["--mode", "hold", "--seconds", "0.5", "--header", "X-VOCERA-RUN-ID=71"]);
    over.store(true, std::sync::atomic::Ordering::SeqCst);
    run.wait();
    let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    let run = &report["runs"][0];
    assert_eq!((&run["run_id"], &run["tied_by"]), (&71.into(), &"header".into()), "{report}");
    assert!(out.join(run["recording"].as_str().unwrap()).join("stereo.wav").exists());
}
