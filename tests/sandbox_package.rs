//! Cekura's own package (`cekura` 1.6.7: its command and both SDK clients) against the sandbox.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::sandbox::{SCENARIO, sandbox};
use common::{built_in_agent, path, python, serve, suite, until};
use serde_json::{Value, json};

/// The package's command against one sandbox.
struct Package {
    url: String,
    home: PathBuf,
}

impl Package {
    fn command(&self, arguments: &[&str], key: &str) -> Command {
        let cekura = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pyenv/bin/cekura");
        assert!(cekura.exists(), "the cekura package is missing: run scripts/python-env (scripts/test does)");
        let mut command = Command::new(cekura);
        command.args(arguments).env("CEKURA_API_URL", &self.url).env("CEKURA_API_KEY", key).env("HOME", &self.home);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments, "package-key").output().expect("the cekura command starts")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {}", text(&output)))
    }

    /// Its exit code and all that it says.
    fn said(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        (output.status.code().expect("an exit code"), text(&output))
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn it_starts_and_follows_a_run_that_comes_through_a_door() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let (_serve, door) = serve(&agent, &folder.path().join("calls"), "");
    let (_sandbox, url) = sandbox(folder.path(), &[], Some("package-key"));
    let package = Package { url, home: folder.path().to_owned() };
    let body = json!({"agent_id": 1, "scenarios": [1], "websocket_url": format!("ws://{door}/")}).to_string();
    let refused = package.command(&["scenarios", "run-chirp", "--json", &body], "wrong-key").output().unwrap();
    assert!(!refused.status.success(), "a wrong key is refused");
    let started = package.json(&["scenarios", "run-chirp", "--json", &body]);
    let id = started["id"].to_string();
    let result = until("the result's end", || {
        let result = package.json(&["results", "get", &id, "--format", "json"]);
        (result["status"] == "completed").then_some(result)
    });
    assert_eq!(result["success_runs_count"], 1, "{result}");
    let run_id = started["runs"][0]["id"].to_string();
    let recorded = until("the recording", || {
        let call = common::call_folder(&folder.path().join("calls")).join("call.json");
        let call: Value = serde_json::from_slice(&std::fs::read(call).ok()?).ok()?;
        call["duration_ms"].is_number().then_some(call)
    });
    assert_eq!(recorded["run_id"].as_str(), Some(run_id.as_str()), "the recording knows its run");
    let listed = package.json(&["runs", "list", "--result-id", &id, "--format", "json"]);
    assert_eq!((&listed["count"], listed["results"][0]["id"].to_string()), (&1.into(), run_id.clone()));
    assert_eq!(package.json(&["runs", "get", &run_id, "--format", "json"])["success"], true);
    let (code, watched) = package.said(&["run", "watch", &id]);
    assert!(code == 0 && watched.contains("completed"), "{watched}");
    assert!(package.said(&["run", "status", &id]).1.contains("100.0%"));
    assert_eq!(package.said(&["runs", "trace", &run_id]).0, 2, "there is no trace");
}

#[test]
fn a_call_that_goes_on_is_listened_to_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("echo");
    let (_sandbox, url) = sandbox(folder.path(), &[], Some("package-key"));
    let package = Package { url, home: folder.path().to_owned() };
    let body = json!({"agent_id": 1, "scenarios": [1], "websocket_url": agent.replace("chirp:", "ws:")}).to_string();
    let started = package.json(&["scenarios", "run-chirp", "--json", &body]);
    let run = started["runs"][0]["id"].to_string();
    let listening = until("an address to listen at", || {
        let (code, said) = package.said(&["runs", "listen-url", &run, "--format", "json"]);
        (code == 0).then(|| serde_json::from_str::<Value>(&said).expect("JSON"))
    });
    assert!(listening["listen_url"].as_str().unwrap().contains(&format!("/listen/{run}/?token=")), "{listening}");
    assert_eq!(package.said(&["runs", "end-call", &run]).0, 0);
    until("the run's end", || (package.json(&["runs", "get", &run, "--format", "json"])["status"] == "cancelled").then_some(()));
}

#[test]
fn a_spec_is_planned_run_and_gated_on_its_threshold() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let agent = agent.replace("chirp:", "ws:");
    let (_sandbox, url) = sandbox(folder.path(), &["--agent-websocket-url", &agent], Some("package-key"));
    let package = Package { url, home: folder.path().to_owned() };
    let file = suite(folder.path(), &SCENARIO);
    let spec = ["run", "spec", path(&file), "--agent-id", "1", "--channel", "chirp"];
    let plan = package.json(&[&spec[..], &["--dry-run", "--format", "json"]].concat());
    assert_eq!((&plan["valid"], &plan["plan"]["total_runs"]), (&true.into(), &1.into()));
    assert_eq!(package.json(&["run", "list", "--format", "json"])["count"], 0, "nothing was started");
    assert!(package.said(&["run", "spec-schema"]).1.contains("conditional_actions"));
    let gated = [&spec[..], &["--wait", "--fail-on-threshold", "1.0"]].concat();
    let (code, said) = package.said(&gated);
    assert_eq!(code, 0, "{said}");
    // An agent that does not get to the end of the script: below the threshold.
    let (_echo, echo) = built_in_agent("echo");
    let limit = json!({"version": "1", "scenarios": [{"name": "Waits", "type": "conditional_actions", "language": "en", "max_duration": 2,
        "conditional_actions": {"role": "a caller", "conditions": [
            {"id": 0, "condition": "FIRST_MESSAGE", "action": "", "type": "standard", "fixed_message": true},
            {"id": 1, "condition": "0", "action": "Thank you, goodbye. <endcall/>", "type": "action_followup", "fixed_message": true}]}},
        {"name": "Test", "type": "conditional_actions", "language": "en", "conditional_actions": {"role": "a caller", "conditions": [
            {"id": 0, "condition": "FIRST_MESSAGE", "action": "Thank you, goodbye. <endcall/>", "type": "standard", "fixed_message": true}]}}]});
    std::fs::write(&file, limit.to_string()).unwrap();
    let home = folder.path().join("second");
    std::fs::create_dir_all(&home).unwrap();
    let (_second, url) = sandbox(&home, &["--agent-websocket-url", &echo.replace("chirp:", "ws:")], Some("package-key"));
    let package = Package { url, home };
    let (code, said) = package.said(&gated);
    assert_eq!(code, 1, "one of two runs passed: {said}");
    std::fs::write(&file, "{\"version\": \"1\", \"scenarios\": []}").unwrap();
    let (code, said) = package.said(&spec);
    assert!(code == 2 && said.contains("400"), "{said}");
}

#[test]
fn what_the_package_sends_and_the_api_refuses_is_refused_and_taken_when_lenient() {
    let folder = tempfile::tempdir().unwrap();
    let (_sandbox, url) = sandbox(folder.path(), &[], Some("package-key"));
    let package = Package { url, home: folder.path().to_owned() };
    for mode in ["livekit", "pipecat", "websocket"] {
        let (code, said) = package.said(&["run", "start", "--mode", mode, "--agent-id", "1", "--scenario-ids", "1"]);
        assert!(code == 2 && said.contains("400"), "{mode}: {said}");
    }
    let (code, said) = package.said(&["run", "start", "--agent-id", "1", "--scenario-ids", "1"]);
    assert!(code == 2 && said.contains("400"), "a telephone call cannot be here: {said}");
    assert_eq!(package.said(&["runs", "bulk", "--ids", "1,2"]).0, 2, "the API calls it run_ids");
    let home = folder.path().join("lenient");
    std::fs::create_dir_all(&home).unwrap();
    let (_lenient, url) = sandbox(&home, &["--lenient"], Some("package-key"));
    let package = Package { url, home };
    // There is neither a LiveKit server nor a Pipecat runner.
    for (mode, data) in [("livekit", "livekit_data"), ("pipecat", "pipecat_data")] {
        let (code, said) = package.said(&["run", "start", "--mode", mode, "--agent-id", "1", "--scenario-ids", "1"]);
        assert!(code == 2 && said.contains("400"), "{mode}: {said}");
        assert!(said.contains(data), "{said}");
    }
    assert_eq!(package.said(&["runs", "bulk", "--ids", "1,2"]).0, 0);
}

#[test]
fn both_sdk_clients_start_wait_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let (_sandbox, url) = sandbox(folder.path(), &[], Some("package-key"));
    let output = python("sdk.py", &[&url, "package-key", &agent.replace("chirp:", "ws:")]).output().expect("python starts");
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    for client in ["sync", "async"] {
        let seen = &seen[client];
        assert_eq!(
            (&seen["status"], &seen["success_rate"], &seen["rescored"]),
            (&"completed".into(), &100.0.into(), &1.into()),
            "{seen}"
        );
        assert_eq!(seen["listed"], json!([seen["run_id"]]));
        assert_eq!(seen["metrics"][0], "latency");
    }
    assert_eq!(seen["sync"]["errors"], json!(["authentication", "not found", 400]));
}
