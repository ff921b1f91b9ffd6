//! The sandbox as its users meet it: through HTTP, through Cekura's own package (`cekura` 1.6.7), through `trunkline run`.

use crate::common;

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;

use common::sandbox::{SCENARIO, finished, http, sandbox, start};
use common::{Running, built_in_agent, path, read_http, serve, suite, trunkline, until};
use serde_json::{Value, json};

#[test]
fn a_start_is_answered_with_its_result_and_its_runs_which_are_carried_out() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let (_sandbox, url) = sandbox(folder.path(), &[], None);
    let agent = agent.replace("chirp:", "ws:");
    let (status, started) =
        start(&url, &json!({"agent_id": 7, "scenarios": [1], "frequency": 2, "websocket_url": agent, "name": "two"}));
    assert_eq!(status, 200, "{started}");
    assert_eq!((&started["agent"], &started["name"], started["runs"].as_array().unwrap().len()), (&7.into(), &"two".into(), 2));
    assert_eq!(started["runs"][0]["scenario_name"], "Test");
    let id = &started["id"];
    assert_ne!(id, &started["runs"][0]["id"], "a result is not a run");
    let result = finished(&url, id);
    assert_eq!(result["status"], "completed");
    assert_eq!(
        (&result["total_runs_count"], &result["success_runs_count"], &result["success_rate"]),
        (&2.into(), &2.into(), &100.0.into())
    );
    let run_id = started["runs"][0]["id"].to_string();
    let run = &result["runs"][&run_id];
    assert_eq!((&run["status"], &run["success"]), (&"completed".into(), &true.into()));
    let roles: Vec<_> = run["transcript_object"].as_array().unwrap().iter().map(|line| line["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["Main Agent", "Testing Agent"]);
    for family in ["v1/runs", "v1/runs-external", "v2/runs"] {
        for slash in ["", "/"] {
            let (status, run) = http("GET", &url, &format!("/test_framework/{family}/{run_id}{slash}"), None, None);
            assert_eq!((status, run["id"].to_string()), (200, run_id.clone()));
        }
    }
    let (_, list) = http("GET", &url, &format!("/test_framework/v1/runs/?result_id={id}&page_size=1"), None, None);
    assert_eq!((&list["count"], list["results"].as_array().unwrap().len()), (&2.into(), 1));
    assert!(list["next"].as_str().unwrap().contains("page=2") && list["previous"].is_null());
    let (_, bulk) = http("GET", &url, &format!("/test_framework/v1/runs/bulk/?run_ids={run_id}"), None, None);
    assert_eq!(bulk.as_array().unwrap().len(), 1);
}

#[test]
fn wrong_requests_get_the_apis_errors() {
    let folder = tempfile::tempdir().unwrap();
    let (_sandbox, url) = sandbox(folder.path(), &[], None);
    let (status, error) = start(&url, &json!({"agent_id": 1, "scenarios": [1]}));
    assert_eq!(status, 400);
    assert!(error["websocket_url"][0].as_str().unwrap().contains("does not have a websocket endpoint"));
    let (status, error) = start(&url, &json!({"agent_id": 1, "scenarios": [9], "websocket_url": "ws://127.0.0.1:1/"}));
    assert_eq!((status, &error["scenarios"][0]), (400, &"Invalid scenario IDs or scenarios not found".into()));
    let (status, _) = start(&url, &json!({"scenarios": [1], "frequency": 0, "websocket_url": "ws://127.0.0.1:1/"}));
    assert_eq!(status, 400);
    let path = "/test_framework/v1/scenarios/run_scenarios_chirp/";
    let (status, error) = http("POST", &url, path, None, Some("{broken"));
    assert!(status == 400 && error["detail"].as_str().unwrap().starts_with("JSON parse error"));
    assert_eq!(http("GET", &url, path, None, None).0, 405);
    assert_eq!(http("GET", &url, "/test_framework/v1/results/99/", None, None), (404, json!({"detail": "Not found."})));
    assert_eq!(http("GET", &url, "/test_framework/v1/runs/bulk/?run_ids=a", None, None).0, 400);
    assert_eq!(http("GET", &url, "/nothing", None, None).0, 404);
}

#[test]
fn a_key_is_asked_for_where_one_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let (_sandbox, url) = sandbox(folder.path(), &[], Some("right"));
    let results = "/test_framework/v1/results/";
    assert_eq!(http("GET", &url, results, None, None).0, 401);
    assert_eq!(http("GET", &url, results, Some("wrong"), None).0, 401);
    assert_eq!(http("GET", &url, results, Some("right"), None).0, 200);
}

#[test]
fn calls_can_be_ended_and_a_form_starts_runs_too() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("echo");
    let (_sandbox, url) = sandbox(folder.path(), &[], None);
    let body = format!("agent_id=1&scenarios=1&concurrency_limit=1&frequency=3&websocket_url={}", agent.replace("chirp:", "ws:"));
    let (status, started) = http("POST", &url, "/test_framework/v1/scenarios/run_scenarios_chirp", None, Some(&body));
    assert_eq!(status, 200, "{started}");
    let id = &started["id"];
    until("the first call", || {
        let (_, result) = http("GET", &url, &format!("/test_framework/v2/results/{id}/"), None, None);
        let statuses: Vec<_> = result["runs"].as_object().unwrap().values().map(|run| run["status"].clone()).collect();
        (statuses.contains(&"in_progress".into()) && statuses.contains(&"in_queue".into())).then_some(())
    });
    assert_eq!(http("POST", &url, &format!("/test_framework/v1/results/{id}/end_calls/"), None, None), (200, json!({})));
    let result = finished(&url, id);
    assert_eq!(result["status"], "cancelled");
    assert_eq!((&result["success_runs_count"], &result["failed_runs_count"]), (&0.into(), &0.into()));
}

#[test]
fn what_happened_is_remembered_and_a_run_under_way_at_a_crash_has_failed() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("echo");
    let (mut first, url) = sandbox(folder.path(), &[], None);
    let (_, started) = start(&url, &json!({"agent_id": 1, "scenarios": [1], "websocket_url": agent.replace("chirp:", "ws:")}));
    let id = started["id"].clone();
    until("the call", || {
        let (_, result) = http("GET", &url, &format!("/test_framework/v1/results/{id}/"), None, None);
        (result["status"] == "in_progress").then_some(())
    });
    first.kill_9();
    let (_second, url) = sandbox(folder.path(), &[], None);
    let (_, result) = http("GET", &url, &format!("/test_framework/v1/results/{id}/"), None, None);
    assert_eq!(result["status"], "failed");
    let run = result["runs"].as_object().unwrap().values().next().unwrap();
    assert!(run["error_message"].as_str().unwrap().contains("stopped"));
}

/// Writes a payload and runs it in a sandbox of its own.
fn run_in_sandbox(folder: &Path, agent: &str, payload: &Value, more: &[&str]) -> (i32, Value, String) {
    let suite = suite(folder, &SCENARIO);
    let file = folder.join("run.json");
    std::fs::write(&file, payload.to_string()).unwrap();
    let out = folder.join("out");
    let mut arguments = vec!["run", "chirp", "--from-file", path(&file), "--sandbox", "--suite", path(&suite), "--to", agent];
    arguments.extend(["--out", path(&out), "--format", "json"]);
    arguments.extend(more);
    let output = trunkline(&arguments).env("TRUNKLINE_LEDGER", folder.join("ledger.sqlite")).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), report, errors)
}

#[test]
fn run_reports_ids_status_recording_and_measures_of_each_run() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let payload = json!({"agent_id": 1, "scenarios": [1], "frequency": 2});
    let (code, report, errors) = run_in_sandbox(folder.path(), &agent, &payload, &[]);
    assert_eq!(code, 0, "{errors}{report}");
    assert_eq!((&report["mode"], &report["status"], &report["verdict"]), (&"chirp".into(), &"completed".into(), &"passed".into()));
    assert!(report["result_id"].is_number() && report["run_ids"].as_array().unwrap().len() == 2);
    let out = folder.path().join("out");
    for run in report["runs"].as_array().unwrap() {
        assert_eq!((&run["status"], &run["success"], &run["tied_by"]), (&"completed".into(), &true.into(), &"header".into()));
        let recording = out.join(run["recording"].as_str().unwrap());
        let call: Value = serde_json::from_slice(&std::fs::read(recording.join("call.json")).unwrap()).unwrap();
        assert_eq!(call["run_id"].as_str().unwrap(), run["run_id"].to_string(), "the recording is this run's");
        // What the report says is what the files say.
        let again = common::run(&["measure", path(&recording), "--format", "json"]);
        let again: Value = serde_json::from_slice(&again.stdout).unwrap();
        assert_eq!(again["response_latency"], run["measures"]["response_latency"]);
    }
    let written: Value = serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(written, report);
    let junit = std::fs::read_to_string(out.join("junit.xml")).unwrap();
    assert_eq!(junit.matches("<testcase").count(), 2);
    assert!(!junit.contains("<failure") && !junit.contains("<error"));
}

#[test]
fn a_run_that_fails_is_told_from_one_that_never_came() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, port) = common::python_agent("refuse", &[]);
    let payload = json!({"agent_id": 1, "scenarios": [1]});
    let (code, report, _) = run_in_sandbox(folder.path(), &format!("chirp://127.0.0.1:{port}/"), &payload, &[]);
    assert_eq!((code, &report["verdict"]), (1, &"failed".into()), "{report}");
    // The payload leads elsewhere: the run ends there, and no call comes here.
    let folder = tempfile::tempdir().unwrap();
    let (_elsewhere, other) = built_in_agent("scripted");
    let payload = json!({"agent_id": 1, "scenarios": [1], "websocket_url": other.replace("chirp:", "ws:")});
    let listen = folder.path().join("trunkline.toml");
    std::fs::write(&listen, "[doors.chirp]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let (code, report, _) = run_in_sandbox(folder.path(), "chirp://127.0.0.1:1/", &payload, &["--config", path(&listen)]);
    assert_eq!((code, &report["runs"][0]["failures"][0]["kind"]), (3, &"call_missing".into()), "{report}");
}

#[test]
fn a_payload_that_does_not_fit_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let payload = json!({"agent": 1, "scenarios": [{"scenario": 1}], "freq": 2});
    let (code, report, errors) = run_in_sandbox(folder.path(), "chirp://127.0.0.1:1/", &payload, &[]);
    assert_eq!((code, report), (2, Value::Null));
    for part in ["$.agent", "agent_id", "$.scenarios[0]", "$.freq", "frequency"] {
        assert!(errors.contains(part), "{errors}");
    }
    assert!(!folder.path().join("ledger.sqlite").exists());
}

#[test]
fn a_start_that_is_not_answered_is_never_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    std::fs::write(&file, json!({"agent_id": 1, "scenarios": [1], "name": "once"}).to_string()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // Takes the POST and hangs up without an answer; later knows the result by its name.
    let api = std::thread::spawn(move || {
        let (mut posts, mut name) = (0, String::new());
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (head, body) = read_http(&mut stream).expect("a whole request");
            if head.starts_with("POST") {
                posts += 1;
                name = serde_json::from_str::<Value>(&body).unwrap()["name"].as_str().unwrap().to_owned();
                continue;
            }
            let row = json!({"id": 77, "name": name, "status": "pending", "runs": [{"id": 5, "status": "pending", "scenario_name": "S"}]});
            let listed = head.contains("search=");
            let body = if listed { json!({"count": 1, "next": null, "previous": null, "results": [row]}) } else { row };
            let body = body.to_string();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            if !listed {
                return (posts, name);
            }
        }
        (posts, name)
    });
    let ledger = folder.path().join("ledger.sqlite");
    let output = trunkline(&["run", "chirp", "--from-file", path(&file), "--out", path(folder.path()), "--format", "json"])
        .env("CEKURA_API_URL", &url)
        .env("CEKURA_API_KEY", "key-that-is-not-shown")
        .env("TRUNKLINE_LEDGER", &ledger)
        .output()
        .unwrap();
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let (posts, name) = api.join().unwrap();
    assert_eq!(posts, 1, "one POST, whatever happened to its answer");
    assert!(name.starts_with("once") && name.len() > "once".len(), "the name is unique: {name}");
    assert_eq!((&report["result_id"], &report["run_ids"]), (&77.into(), &json!([5])));
    let kept = trunkline::ledger::Ledger::open(&ledger).unwrap().list(10).unwrap();
    assert_eq!((kept.len(), kept[0].result_id, kept[0].name.as_str()), (1, Some(77), name.as_str()));
    let all = [output.stdout, output.stderr].concat();
    assert!(!String::from_utf8_lossy(&all).contains("key-that-is-not-shown"));
}

/// A sandbox of its own process, and `trunkline run` against it with what `more` adds.
fn run_against(folder: &Path, url: &str, websocket_url: &str, more: &[&str]) -> (i32, Value, String) {
    let file = folder.join("run.json");
    std::fs::write(&file, json!({"agent_id": 1, "scenarios": [1], "websocket_url": websocket_url}).to_string()).unwrap();
    let mut arguments = vec!["run", "chirp", "--from-file", path(&file), "--format", "json"];
    arguments.extend(more);
    let mut command = trunkline(&arguments);
    command.env("CEKURA_API_URL", url).env("CEKURA_API_KEY", "any").env("TRUNKLINE_LEDGER", folder.join("ledger.sqlite"));
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null), errors)
}

#[test]
fn a_run_that_nobody_waits_for_is_pending_and_not_passed() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let (_sandbox, url) = sandbox(folder.path(), &[], None);
    let out = folder.path().join("out");
    let (code, report, errors) = run_against(folder.path(), &url, &agent.replace("chirp:", "ws:"), &["--out", path(&out)]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!((&report["status"], &report["verdict"]), (&"pending".into(), &"pending".into()));
    assert_eq!((&report["totals"]["passed"], &report["totals"]["pending"]), (&0.into(), &1.into()));
    assert!(report["result_id"].is_number() && report["run_ids"].as_array().unwrap().len() == 1);
    assert!(std::fs::read_to_string(out.join("junit.xml")).unwrap().contains("<skipped"));
}

#[test]
fn a_run_beside_a_serve_finds_its_recordings() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let out = folder.path().join("out");
    let (mut serve, door) = serve(&agent, &out, "");
    let (_sandbox, url) = sandbox(folder.path(), &[], None);
    let config = folder.path().join("run.toml");
    std::fs::write(&config, format!("[doors.chirp]\nlisten = \"{door}\"\n")).unwrap();
    let more = ["--wait", "--every-s", "0.5", "--to", &agent, "--out", path(&out), "--config", path(&config)];
    let (code, report, errors) = run_against(folder.path(), &url, &format!("ws://{door}/"), &more);
    assert_eq!(code, 0, "{errors}{report}");
    assert!(errors.contains("is open already: a serve runs"), "{errors}");
    let run = &report["runs"][0];
    assert_eq!(run["tied_by"], "header");
    assert!(
        run["measures"]["response_latency"].is_object() && out.join(run["recording"].as_str().unwrap()).join("stereo.wav").exists()
    );
    // The serve knows less of the call than the run: it leaves the run's report in its place.
    serve.interrupt();
    assert!(serve.wait().success());
    assert_eq!(serde_json::from_slice::<Value>(&std::fs::read(out.join("report.json")).unwrap()).unwrap(), report);
}

#[test]
fn a_serve_reports_all_its_calls_when_it_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("echo");
    let (mut serve, door) = serve(&agent, folder.path(), "");
    for run in ["41", "42"] {
        let header = format!("X-VOCERA-RUN-ID={run}");
        common::python_caller(&format!("ws://{door}/"), &["--mode", "hold", "--seconds", "0.5", "--header", &header]);
    }
    until("both recordings", || {
        let folders = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        (folders.filter(|path| path.join("stereo.wav").exists()).count() == 2).then_some(())
    });
    serve.interrupt();
    assert!(serve.wait().success());
    let report: Value = serde_json::from_slice(&std::fs::read(folder.path().join("report.json")).unwrap()).unwrap();
    assert_eq!((&report["mode"], &report["run_ids"]), (&"serve".into(), &json!([41, 42])));
    assert_eq!(std::fs::read_to_string(folder.path().join("junit.xml")).unwrap().matches("<testcase").count(), 2);
}

#[test]
fn a_run_that_is_killed_before_the_answer_is_in_the_ledger_as_sent() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let file = folder.path().join("run.json");
    std::fs::write(&file, json!({"agent_id": 1, "scenarios": [1]}).to_string()).unwrap();
    let ledger = folder.path().join("ledger.sqlite");
    let mut command = trunkline(&["run", "chirp", "--from-file", path(&file), "--out", path(folder.path())]);
    command.env("CEKURA_API_URL", &url).env("CEKURA_API_KEY", "any").env("TRUNKLINE_LEDGER", &ledger);
    let mut run = Running::stderr_of(command);
    let (mut stream, _) = listener.accept().unwrap();
    let (head, body) = read_http(&mut stream).expect("a whole request");
    assert!(head.starts_with("POST /test_framework/v1/scenarios/run_scenarios_chirp/"));
    run.kill_9();
    let kept = trunkline::ledger::Ledger::open(&ledger).unwrap().list(10).unwrap();
    assert_eq!((kept.len(), kept[0].state.as_str(), kept[0].result_id), (1, "sent", None));
    let sent: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(sent["name"].as_str(), Some(kept[0].name.as_str()), "the result can be looked for by its name");
}

#[test]
fn a_refused_start_is_one_clear_line_and_is_known_to_have_failed() {
    let folder = tempfile::tempdir().unwrap();
    let (_sandbox, url) = sandbox(folder.path(), &[], Some("right"));
    let out = folder.path().join("out");
    let (code, report, errors) = run_against(folder.path(), &url, "ws://127.0.0.1:1/", &["--out", path(&out)]);
    assert_eq!((code, report), (3, Value::Null));
    assert!(errors.contains("no run was started") && errors.contains("HTTP 401: Invalid API key."), "{errors}");
    let kept = trunkline::ledger::Ledger::open(&folder.path().join("ledger.sqlite")).unwrap().list(10).unwrap();
    assert_eq!((kept.len(), kept[0].state.as_str()), (1, "failed"));
    // Without a key nothing is sent at all; a dead server is told from a refusal.
    let file = folder.path().join("run.json");
    let output = common::run(&["run", "chirp", "--from-file", path(&file), "--out", path(&out)]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("set CEKURA_API_KEY"));
    let (code, _, errors) = run_against(folder.path(), "http://127.0.0.1:1", "ws://127.0.0.1:1/", &["--out", path(&out)]);
    assert!(code == 3 && errors.contains("no connection to http://127.0.0.1:1, nothing was sent"), "{errors}");
}

#[test]
fn an_interrupted_run_ends_its_calls_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("echo");
    let suite = suite(folder.path(), &["Good morning. When can I see a doctor this week?", "Friday at four, please."]);
    let file = folder.path().join("run.json");
    std::fs::write(&file, json!({"agent_id": 1, "scenarios": [1]}).to_string()).unwrap();
    let out = folder.path().join("out");
    let arguments =
        ["run", "chirp", "--from-file", path(&file), "--sandbox", "--suite", path(&suite), "--to", &agent, "--out", path(&out)];
    let mut command = trunkline(&arguments);
    command.env("TRUNKLINE_LEDGER", folder.path().join("ledger.sqlite"));
    let mut run = Running::stderr_of(command);
    run.wait_for("the call", |line| line.contains("began").then_some(()));
    run.interrupt();
    run.wait_for("that it ends the calls", |line| line.contains("interrupted: ending the calls of result").then_some(()));
    let code = run.wait().code();
    let report: Value = serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    // A machine that was too busy to keep the pace makes the run void beside that.
    let kinds: Vec<&str> =
        report["runs"][0]["failures"].as_array().unwrap().iter().map(|failure| failure["kind"].as_str().unwrap()).collect();
    assert_eq!(code, Some(if kinds.contains(&"pacing_slipped") { 3 } else { 1 }), "{report}");
    assert_eq!(
        (&report["status"], &report["runs"][0]["failures"][0]["kind"]),
        (&"cancelled".into(), &"run_cancelled".into()),
        "{report}"
    );
}

/// Trunkline against the API at `url`: exit code and stdout.
fn ask(folder: &Path, url: &str, arguments: &[&str]) -> (i32, String) {
    let mut command = trunkline(arguments);
    command.env("CEKURA_API_URL", url).env("CEKURA_API_KEY", "any").env("TRUNKLINE_LEDGER", folder.join("ledger.sqlite"));
    let output = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap(), if stdout.is_empty() { String::from_utf8_lossy(&output.stderr).into_owned() } else { stdout })
}

#[test]
fn runs_and_results_are_listed_followed_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let (_echo, echo) = built_in_agent("echo");
    let (_sandbox, url) = sandbox(folder.path(), &[], None);
    let started = |agent: &str, name: &str| {
        let body =
            json!({"agent_id": 7, "scenarios": [1], "frequency": 2, "name": name, "websocket_url": agent.replace("chirp:", "ws:")});
        start(&url, &body).1
    };
    let (first, second) = (started(&agent, "first"), started(&echo, "second"));
    let (id, run) = (first["id"].to_string(), first["runs"][0]["id"].to_string());
    let json = |arguments: &[&str]| {
        let (code, text) = ask(folder.path(), &url, arguments);
        (code, serde_json::from_str::<Value>(&text).unwrap_or_else(|_| panic!("{arguments:?}: {text}")))
    };
    let (code, waited) = json(&["runs", "wait", &run, "--every-s", "0.3", "--format", "json"]);
    assert_eq!((code, &waited["status"], &waited["success"]), (0, &"completed".into(), &true.into()));
    let (code, waited) = json(&["results", "wait", &id, "--every-s", "0.3", "--format", "json"]);
    assert_eq!((code, &waited["success_runs_count"]), (0, &2.into()));
    let (_, list) = json(&["runs", "list", "--result-id", &id, "--format", "json"]);
    let statuses: Vec<_> = list.as_array().expect("a bare list").iter().map(|run| run["status"].clone()).collect();
    assert_eq!(statuses, ["completed", "completed"]);
    let (_, got) = json(&["runs", "get", &run, "--format", "json"]);
    assert_eq!(got["id"].to_string(), run);
    let (_, none) = json(&["runs", "list", "--result-id", &id, "--status", "failed", "--format", "json"]);
    assert_eq!(none, json!([]));
    let (_, results) = json(&["results", "list", "--agent-id", "7", "--format", "json"]);
    let names: Vec<_> = results.as_array().unwrap().iter().map(|result| result["name"].clone()).collect();
    assert_eq!(names, ["second", "first"], "newest first");
    let (_, table) = ask(folder.path(), &url, &["runs", "list", "--result-id", &id]);
    assert!(table.contains(&run) && table.contains("completed"), "{table}");
    // The echo's calls go on until they are ended: one by itself, the other with its result.
    let (id, runs) = (second["id"].to_string(), second["runs"].as_array().unwrap());
    let (code, late) = ask(folder.path(), &url, &["results", "wait", &id, "--every-s", "0.2", "--timeout-s", "0.5"]);
    assert!(code == 3 && late.contains("is still"), "{late}");
    // The time is waited out, however long the next look would be away.
    let (begun, run) = (std::time::Instant::now(), runs[0]["id"].to_string());
    let (code, late) = ask(folder.path(), &url, &["runs", "wait", &run, "--every-s", "10", "--timeout-s", "0.5"]);
    assert!(code == 3 && late.contains("is still") && begun.elapsed().as_secs_f64() >= 0.5, "{late}");
    assert_eq!(ask(folder.path(), &url, &["runs", "end-call", &run]).0, 0);
    let (code, ended) = json(&["runs", "wait", &runs[0]["id"].to_string(), "--every-s", "0.2", "--format", "json"]);
    assert_eq!((code, &ended["status"]), (1, &"cancelled".into()));
    assert_eq!(ask(folder.path(), &url, &["results", "end-calls", &id]).0, 0);
    assert_eq!(ask(folder.path(), &url, &["results", "wait", &id, "--every-s", "0.2"]).0, 1);
    let (code, missing) = ask(folder.path(), &url, &["runs", "get", "99"]);
    assert!(code == 3 && missing.contains("HTTP 404: Not found."), "{missing}");
}

#[test]
fn a_start_that_was_killed_before_its_answer_is_recovered_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let url = format!("http://{address}");
    let file = folder.path().join("run.json");
    let payload = json!({"agent_id": 1, "scenarios": [1], "websocket_url": agent.replace("chirp:", "ws:")});
    std::fs::write(&file, payload.to_string()).unwrap();
    let mut command = trunkline(&["run", "chirp", "--from-file", path(&file), "--out", path(folder.path())]);
    command.env("CEKURA_API_URL", &url).env("CEKURA_API_KEY", "any").env("TRUNKLINE_LEDGER", folder.path().join("ledger.sqlite"));
    let mut run = Running::stderr_of(command);
    let (mut stream, _) = listener.accept().unwrap();
    let (_, body) = read_http(&mut stream).expect("a whole request");
    run.kill_9();
    drop((stream, listener));
    // The API took it all the same, after a while: at the same address, where nothing is known of it at first.
    let suite = suite(folder.path(), &SCENARIO);
    let data = folder.path().join("data");
    let arguments = ["sandbox", "--listen", &address, "--data", path(&data), "--suite", path(&suite)];
    let sandbox = Running::stderr_of(trunkline(&arguments));
    sandbox.wait_for("its address", |line| line.strip_prefix("sandbox ").map(str::to_owned));
    let recovered = || {
        let (code, text) = ask(folder.path(), &url, &["runs", "recover", "--format", "json"]);
        (code, serde_json::from_str::<Value>(&text).unwrap_or_else(|_| panic!("{text}")))
    };
    let (code, told) = recovered();
    assert_eq!((code, &told[0]["outcome"]), (1, &"not_found".into()), "{told}");
    let (status, started) = http("POST", &url, "/test_framework/v1/scenarios/run_scenarios_chirp/", None, Some(&body));
    assert_eq!(status, 200);
    let (code, told) = recovered();
    assert_eq!((code, &told[0]["outcome"], &told[0]["result_id"]), (0, &"found".into(), &started["id"]), "{told}");
    assert_eq!(told[0]["run_ids"], json!([started["runs"][0]["id"]]));
    assert_eq!(recovered(), (0, json!([])), "nothing is open any more");
    let (_, history) = ask(folder.path(), &url, &["history", "--format", "json"]);
    let history: Value = serde_json::from_str(&history).unwrap();
    assert_eq!((&history[0]["state"], &history[0]["result_id"]), (&"replied".into(), &started["id"]));
}

#[test]
fn the_history_knows_where_a_runs_recording_is() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let (code, report, errors) =
        run_in_sandbox(folder.path(), &agent, &json!({"agent_id": 1, "scenarios": [1], "name": "kept"}), &[]);
    assert_eq!(code, 0, "{errors}");
    let (_, history) = ask(folder.path(), "http://127.0.0.1:1", &["history", "--format", "json"]);
    let history: Value = serde_json::from_str(&history).unwrap();
    assert!(history[0]["name"].as_str().unwrap().starts_with("kept #"), "{history}");
    assert_eq!((&history[0]["result_id"], &history[0]["run_ids"]), (&report["result_id"], &report["run_ids"]));
    let recording = Path::new(history[0]["recordings"][0]["folder"].as_str().unwrap()).join("stereo.wav");
    assert!(recording.exists(), "{}", recording.display());
    assert!(ask(folder.path(), "http://127.0.0.1:1", &["history"]).1.contains("kept #"));
}
