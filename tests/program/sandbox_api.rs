//! The sandbox's API beyond starting and following a CHIRP run: the other modes, specs, scoring, recordings, listening, webhooks,
//! projects, limits.

use crate::common;

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;

use common::sandbox::{SCENARIO, finished, http, sandbox, sandbox_with, start};
use common::{Running, built_in_agent, path, python, read_http, suite, until};
use serde_json::{Value, json};

fn post(url: &str, path: &str, body: &Value) -> (u16, Value) {
    http("POST", url, &format!("/test_framework/{path}"), None, Some(&body.to_string()))
}

fn get(url: &str, path: &str) -> (u16, Value) {
    http("GET", url, &format!("/test_framework/{path}"), None, None)
}

/// The first run of a result, as the detail shows it.
fn first_run(result: &Value) -> Value {
    result["runs"].as_object().expect("runs by id").values().next().expect("a run").clone()
}

/// Bytes behind a link, with the status.
fn fetch(link: &str, range: Option<&str>) -> (u16, Vec<u8>) {
    use std::io::Read;
    let rest = link.strip_prefix("http://").expect("an address");
    let (host, path) = rest.split_once('/').expect("a path");
    let mut stream = std::net::TcpStream::connect(host).expect("the sandbox listens");
    let range = range.map(|range| format!("Range: {range}\r\n")).unwrap_or_default();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{range}\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer with a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), answer[end + 4..].to_vec())
}

#[test]
fn modes_that_cannot_be_here_are_400_those_that_come_later_501_and_a_wrong_shape_is_refused_before() {
    let folder = tempfile::tempdir().unwrap();
    let (_sandbox, url) = sandbox(folder.path(), &[], None);
    let block = json!({"agent_id": 1, "scenarios": [1]});
    for endpoint in ["run_scenarios", "run_scenarios_vapi_webrtc", "run_scenarios_retell_webrtc", "run_scenarios_elevenlabs"] {
        let (status, error) = post(&url, &format!("v1/scenarios/{endpoint}/"), &block);
        assert_eq!(status, 400, "{endpoint}: {error}");
        assert!(error["detail"].as_str().unwrap().contains("cannot be on this machine"), "{error}");
    }
    let rooms = json!({"agent": 1, "scenarios": [{"scenario": 1}]});
    for (endpoint, status) in [("run_scenarios_livekit_v2", 400), ("run_scenarios_pipecat_v2", 400)] {
        for family in ["v1/scenarios", "v1/scenarios-external", "v2/scenarios"] {
            // Without a LiveKit server there is no room to make, without a runner no session to start.
            assert_eq!(post(&url, &format!("{family}/{endpoint}"), &rooms).0, status, "{family}/{endpoint}");
        }
        // What Cekura's own package sends fits no schema of the API.
        let (status, error) = post(&url, &format!("v1/scenarios/{endpoint}/"), &block);
        assert_eq!(status, 400, "{error}");
        assert!(error["scenarios"][0].as_str().unwrap().contains("[0]"), "{error}");
    }
    assert_eq!(post(&url, "v1/scenarios/run_scenarios_sip/", &block).0, 501);
    let (status, error) =
        post(&url, "v1/scenarios/run_scenarios_with_websockets/", &json!({"agent_id": 1, "frequency": 1, "scenarios": [1]}));
    assert!(status == 400 && error.get("scenarios").is_some(), "{error}");
    assert_eq!(post(&url, "v1/scenarios/run_scenarios_of_nobody/", &block).0, 404);
    // With --lenient the meaning counts.
    let (_lenient, url) = sandbox_with(&folder.path().join("lenient"), &["--lenient"], |_| {});
    let (status, error) = post(&url, "v1/scenarios/run_scenarios_pipecat_v2/", &block);
    assert_eq!((status, error.get("pipecat_data").is_some()), (400, true), "{error}");
    assert_eq!(http("GET", &url, "/test_framework/v1/runs/bulk?ids=1", None, None).0, 200);
}

#[test]
fn a_spec_is_validated_priced_and_run_and_its_schema_is_public() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let (_sandbox, url) = sandbox(folder.path(), &[], Some("key"));
    let key = Some("key");
    let (status, schema) = http("GET", &url, "/test_framework/v1/scenarios/json_schema", None, None);
    assert_eq!((status, &schema["properties"]["version"]["const"]), (200, &"1".into()));
    let spec: Value = serde_json::from_str(&std::fs::read_to_string(suite(folder.path(), &SCENARIO)).unwrap()).unwrap();
    let path = "/test_framework/v1/scenarios/run_scenarios_json/";
    let mut body = json!({"spec": spec, "agent_id": 1, "channel": "chirp", "frequency": 2, "chirp_data": {"websocket_url": agent.replace("chirp:", "ws:")}});
    let (status, plan) = http("POST", &url, &format!("{path}?dry_run=true"), key, Some(&body.to_string()));
    assert_eq!((status, &plan["dry_run"], &plan["valid"]), (200, &true.into(), &true.into()));
    assert_eq!((&plan["plan"]["total_runs"], &plan["plan"]["scenario_count"]), (&2.into(), &1.into()));
    let validate = "/test_framework/v1/scenarios/validate_scenarios_json/";
    assert_eq!(http("POST", &url, validate, key, Some(&body.to_string())), (200, plan));
    assert_eq!(http("GET", &url, "/test_framework/v1/results/", key, None).1["count"], 0, "nothing was started");
    let (status, started) = http("POST", &url, path, key, Some(&body.to_string()));
    assert_eq!((status, started["runs"].as_array().unwrap().len()), (200, 2), "{started}");
    assert!(started["runs"][0]["scenario"].as_u64().unwrap() > 900_000, "a spec's scenarios are none of the project's");
    until("the result's end", || {
        let (_, result) = http("GET", &url, &format!("/test_framework/v1/results/{}/", started["id"]), key, None);
        (result["status"] == "completed" && result["success_runs_count"] == 2).then_some(())
    });
    // The API's map of errors, by place.
    body["spec"]["scenarios"][0]["conditional_actions"]["conditions"][1]["type"] = "later".into();
    body["spec"]["agent_id"] = 1.into();
    let (status, error) = http("POST", &url, path, key, Some(&body.to_string()));
    assert_eq!(status, 400);
    let errors = error["errors"].as_object().expect("a map of errors");
    assert!(errors.contains_key("scenarios[0].conditional_actions") && errors.contains_key("spec"), "{error}");
    body["channel"] = "pigeon".into();
    assert!(http("POST", &url, path, key, Some(&body.to_string())).1.get("channel").is_some());
}

#[test]
fn a_run_has_metrics_and_a_recording_and_misses_its_threshold_until_it_is_scored_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let config = folder.path().join("trunkline.toml");
    std::fs::write(&config, "[sandbox.metrics]\nmax_talk_ratio = 0.01\n").unwrap();
    let (mut strict, url) = sandbox(folder.path(), &["--config", path(&config)], None);
    let (_, started) = start(&url, &json!({"agent_id": 1, "scenarios": [1], "websocket_url": agent.replace("chirp:", "ws:")}));
    let result = finished(&url, &started["id"]);
    let run = first_run(&result);
    assert_eq!((&run["status"], &run["success"]), (&"completed".into(), &false.into()), "{run}");
    assert_eq!((&result["failed_runs_count"], &result["success_rate"]), (&1.into(), &0.0.into()));
    assert!(run["error_message"].as_str().unwrap().starts_with("Talk Ratio: "), "{run}");
    let metrics = run["evaluation"]["metrics"].as_array().unwrap();
    let names: Vec<_> = metrics.iter().map(|metric| metric["function_name"].as_str().unwrap()).collect();
    assert_eq!(names, ["latency", "interruptions_ignored", "talk_ratio", "dead_air", "infrastructure_issues"]);
    assert_eq!((&metrics[2]["score_normalized"], &metrics[0]["score_normalized"]), (&0.into(), &Value::Null));
    // The recording is what its address serves, and only with its token.
    let link = run["voice_recording_url"].as_str().expect("an address");
    let (status, bytes) = fetch(link, None);
    assert_eq!(status, 200);
    let reader = hound::WavReader::new(&bytes[..]).expect("a WAV file");
    assert_eq!((reader.spec().channels, reader.spec().sample_rate), (2, 16000));
    let seconds = f64::from(reader.duration()) / 16000.0;
    let told: Vec<f64> = run["duration"].as_str().unwrap().split(':').map(|part| part.parse().unwrap()).collect();
    assert!((seconds - (told[0] * 60.0 + told[1])).abs() < 1.1, "{seconds} s, {run}");
    assert_eq!(fetch(link, Some("bytes=0-3")), (206, b"RIFF".to_vec()));
    assert_eq!(fetch(&format!("{link}x"), None).0, 404);
    assert_eq!(fetch(&link.replace(&run["id"].to_string(), "1"), None).0, 404);
    // Scored anew with another threshold nothing is called, and the run passes.
    strict.interrupt();
    strict.wait();
    let (_mild, url) = sandbox(folder.path(), &[], None);
    let rescore = format!("v1/results/{}/evaluate_metrics/", started["id"]);
    let body = json!({"run_ids": [run["id"].to_string()], "metric_ids": ["3"]});
    let (status, scored) = post(&url, &rescore, &body);
    assert_eq!((status, &scored["success_runs_count"], &scored["success_rate"]), (200, &1.into(), &100.0.into()), "{scored}");
    assert_eq!(get(&url, "v1/results/").1["count"], 1);
    assert_eq!(post(&url, &rescore, &json!({"run_ids": ["1"], "metric_ids": ["3"]})).0, 400);
    assert_eq!(post(&url, &rescore, &json!({"run_ids": [run["id"].to_string()], "metric_ids": ["99"]})).0, 400);
    assert_eq!(post(&url, &rescore, &json!({"run_ids": [], "metric_ids": ["3"]})).0, 400);
    // Executed again it is a new result of the same request, after a restart too.
    let (status, again) = post(&url, &format!("v1/results/{}/rerun/", started["id"]), &json!({}));
    assert_eq!(status, 200, "{again}");
    assert_ne!(again["id"], started["id"]);
    assert_eq!(finished(&url, &again["id"])["success_runs_count"], 1);
}

#[test]
fn a_run_that_goes_on_is_heard_in_a_browser() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("echo");
    // The caller speaks again and again: a browser may take its time to open.
    let again = "Good morning. When can I see a doctor this week? <hold time=\"1s\"/> ".repeat(20);
    let suite = suite(folder.path(), &[&format!("{again}<hold time=\"60s\"/>")]);
    let (_sandbox, url) = sandbox_with(folder.path(), &["--suite", path(&suite)], |_| {});
    let (_, started) = start(&url, &json!({"agent_id": 1, "scenarios": [1], "websocket_url": agent.replace("chirp:", "ws:")}));
    let run = started["runs"][0]["id"].to_string();
    let link = until("the address to listen at", || {
        let (status, answer) = get(&url, &format!("v1/runs-external/{run}/get_listen_url"));
        (status == 200).then(|| answer["listen_url"].as_str().expect("an address").to_owned())
    });
    assert_eq!(fetch(&format!("{link}x"), None).0, 404, "the token counts");
    let listener = python("listen.py", &[&link]).output().expect("python starts");
    let errors = String::from_utf8_lossy(&listener.stderr).into_owned();
    let heard: Value = serde_json::from_slice(&listener.stdout).unwrap_or_else(|_| panic!("{errors}"));
    assert!(heard["played_s"].as_f64().unwrap() > 1.0, "the page plays: {heard}");
    assert!(heard["left"].as_f64().unwrap() > 0.01, "the caller is heard at the left: {heard}");
    assert!(heard["lines"].as_str().unwrap().contains("When can I see a doctor"), "{heard}");
    // It ends at once, and the page says so.
    assert_eq!(post(&url, &format!("v1/runs/{run}/end_call/"), &json!({})), (200, json!({})));
    assert_eq!(first_run(&finished(&url, &started["id"]))["status"], "cancelled");
    assert_eq!(get(&url, &format!("v1/runs/{run}/get_listen_url/")).0, 400);
    let (_, events) = fetch(&link.replace("/?", "/events?"), None);
    assert!(String::from_utf8_lossy(&events).contains("event: over"));
    assert_eq!(get(&url, &format!("v1/runs/{run}/trace/")).0, 404);
}

/// A server that keeps each webhook's head and body, and answers with these statuses in turn, then with 200.
fn hook_server(statuses: &'static [u16]) -> (String, std::sync::mpsc::Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, hooks) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for (at, stream) in listener.incoming().enumerate() {
            let mut stream = stream.expect("a connection");
            let Some((head, body)) = read_http(&mut stream) else { continue };
            let status = statuses.get(at).unwrap_or(&200);
            // The sandbox may have gone.
            drop(write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
            if sender.send((head.to_lowercase(), serde_json::from_str(&body).expect("JSON"))).is_err() {
                return;
            }
        }
    });
    (url, hooks)
}

#[test]
fn webhooks_tell_of_a_result_before_and_after_with_the_secret_and_are_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let (hook, hooks) = hook_server(&[500]);
    let suite = suite(folder.path(), &SCENARIO);
    let (_sandbox, url) = sandbox_with(folder.path(), &["--suite", path(&suite), "--webhook-url", &hook], |command| {
        command.env("TRUNKLINE_WEBHOOK_SECRET", "hook-secret");
    });
    let (_, started) = start(&url, &json!({"agent_id": 1, "scenarios": [1], "websocket_url": agent.replace("chirp:", "ws:")}));
    let next = || hooks.recv_timeout(common::PATIENCE).expect("a webhook");
    let (refused, repeated) = (next(), next());
    assert_eq!(refused, repeated, "the same request again");
    let (head, body) = repeated;
    let id = started["id"].to_string();
    for part in ["x-cekura-secret: hook-secret", &format!("x-cekura-idempotency-key: result_pre_trigger:{id}")] {
        assert!(head.contains(part), "{head}");
    }
    assert_eq!((&body["event_type"], &body["data"]["id"]), (&"result.pre_trigger".into(), &started["id"]));
    let run = started["runs"][0]["id"].to_string();
    let waiting = body["data"]["runs"][&run]["status"].as_str().unwrap();
    assert!(["pending", "in_queue"].contains(&waiting), "no call before the webhook was taken: {waiting}");
    let (head, body) = next();
    assert!(head.contains("x-cekura-secret: hook-secret") && !head.contains("idempotency"), "{head}");
    assert_eq!((&body["event_type"], &body["data"]["status"]), (&"result.completed".into(), &"completed".into()));
    let told = &body["data"]["runs"][&run];
    assert_eq!((&told["success"], &told["scenario"]["name"]), (&true.into(), &"Test".into()), "{told}");
    assert_eq!(body["data"]["success_rate"], 100.0);
}

/// A project's folder with two agents, a suite and a profile.
fn project(folder: &Path, agent: &str) {
    let suites = folder.join("suites");
    std::fs::create_dir_all(&suites).unwrap();
    for (name, first) in [("a.json", "Thank you, goodbye. <endcall/>"), ("b.json", "{{test_profile.parting}}")] {
        let text = std::fs::read_to_string(suite(folder, &["", first])).unwrap();
        let mut json: Value = serde_json::from_str(&text).unwrap();
        json["scenarios"][0]["name"] = name.into();
        std::fs::write(suites.join(name), json.to_string()).unwrap();
    }
    let agents = json!([{"id": 4, "name": "Desk", "chirp_url": agent.replace("chirp:", "ws:")}, {"id": 5, "name": "Mute"}]);
    std::fs::write(folder.join("agents.json"), agents.to_string()).unwrap();
    let profiles = json!([{"id": 9, "name": "Polite", "agent_variables": {"X-Tenant": "a"}, "caller_variables": {"parting": "Thank you, goodbye."}}]);
    std::fs::write(folder.join("test_profiles.json"), profiles.to_string()).unwrap();
}

#[test]
fn a_project_has_agents_scenarios_and_test_profiles_that_multiply_the_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    project(folder.path(), &agent);
    let (_sandbox, url) = sandbox_with(folder.path(), &["--project", path(folder.path())], |_| {});
    let (_, agents) = get(&url, "v2/aiagents/");
    assert_eq!((&agents["count"], &agents["results"][0]["name"]), (&2.into(), &"Desk".into()));
    assert_eq!(get(&url, "v1/scenarios/2/").1["name"], "b.json");
    assert_eq!(get(&url, "v1/test-profiles-external/9").1["testing_agent_variables"]["parting"], "Thank you, goodbye.");
    let (status, error) = start(&url, &json!({"agent_id": 7, "scenarios": [1]}));
    assert!(status == 400 && error.get("agent_id").is_some(), "{error}");
    let (status, error) = start(&url, &json!({"agent_id": 5, "scenarios": [1]}));
    assert!(status == 400 && error.get("websocket_url").is_some(), "{error}");
    let (status, error) = start(&url, &json!({"agent_id": 4, "scenarios": [2], "test_profile_ids": [8]}));
    assert!(status == 400 && error.get("test_profile_ids").is_some(), "{error}");
    let (status, started) = start(
        &url,
        &json!({"agent_id": 4, "scenarios": [2], "test_profile_id": 9, "personality_ids": [1, 2], "concurrency_limit": 1}),
    );
    assert_eq!((status, started["runs"].as_array().unwrap().len()), (200, 2), "{started}");
    assert_eq!(started["runs"][0]["test_profile_data"]["information"]["X-Tenant"], "a");
    let result = finished(&url, &started["id"]);
    assert_eq!(result["success_runs_count"], 2, "{result}");
    let said = first_run(&result)["transcript_object"].to_string();
    assert!(said.contains("Thank you, goodbye."), "the profile's words: {said}");
}

#[test]
fn a_project_that_is_not_right_is_refused_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    project(folder.path(), "chirp://127.0.0.1:1/");
    let refused = |file: &str, text: &str, part: &str| {
        let before = std::fs::read(folder.path().join(file)).unwrap();
        std::fs::write(folder.path().join(file), text).unwrap();
        let data = folder.path().join("data");
        let output = common::run(&["sandbox", "--listen", "127.0.0.1:0", "--data", path(&data), "--project", path(folder.path())]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        let named = if part.ends_with(".secret") { part } else { file };
        assert!(errors.contains(named) && errors.contains(part), "{errors}");
        std::fs::write(folder.path().join(file), before).unwrap();
    };
    refused("agents.json", r#"[{"id": 1, "adress": "ws://x/"}]"#, "unknown field `adress`");
    refused("agents.json", r#"[{"id": 1}, {"id": 1}]"#, "used twice");
    refused("agents.json", r#"[{"id": 1, "chat_secret_file": "none.secret"}]"#, "none.secret");
    refused("test_profiles.json", r#"[{"name": "no id"}]"#, "missing field `id`");
    refused("suites/a.json", r#"{"version": "2", "scenarios": []}"#, "\"version\" must be \"1\"");
}

#[test]
fn test_sets_and_observed_calls_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let (_sandbox, url) = sandbox(folder.path(), &[], None);
    let (_, started) = start(&url, &json!({"agent_id": 1, "scenarios": [1], "websocket_url": agent.replace("chirp:", "ws:")}));
    let run = first_run(&finished(&url, &started["id"]));
    let body = json!({"run_id": run["id"], "name": "kept", "metrics": [{"metric": 1, "feedback": "slow", "expected_value": 300}]});
    let (status, set) = post(&url, "test-sets/create_from_run/", &body);
    assert_eq!((status, &set["source_model"], &set["source_id"]), (200, &"Run".into(), &run["id"].to_string().into()), "{set}");
    assert_eq!(
        (&set["metric_reviews"][0]["metric_name"], &set["transcript_object"]),
        (&"Latency".into(), &run["transcript_object"])
    );
    let (status, error) = post(&url, "test-sets/create_from_run/", &json!({"run_id": run["id"], "name": "none"}));
    assert!(status == 400 && error.get("metrics").is_some(), "{error}");
    assert_eq!(post(&url, "test-sets/create_from_run/", &json!({"run_id": 1, "metrics": []})).0, 400);
    let observe = |body: &str| http("POST", &url, "/observability/v1/observe/", None, Some(body));
    let (status, error) = observe(r#"{"agent": 1}"#);
    assert_eq!((status, error), (400, json!({"call_id": ["This field is required."]})));
    assert!(observe(r#"{"call_id": "c-1"}"#).1.get("agent").is_some());
    let first = observe(
        r#"{"call_id": "c-1", "agent": 1, "transcript_type": "cekura", "transcript_json": "[{\"role\": \"Main Agent\"}]"}"#,
    );
    assert_eq!((first.0, &first.1["transcript_json"][0]["role"]), (201, &"Main Agent".into()), "{first:?}");
    let again = observe(r#"{"call_id": "c-1", "agent": 1}"#);
    assert_eq!(again.1["id"], first.1["id"], "the same call id updates the call");
    assert_eq!(observe(&json!({"call_id": "x".repeat(101), "agent": 1}).to_string()).0, 400);
}

#[test]
fn what_is_too_much_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("echo");
    let config = folder.path().join("trunkline.toml");
    std::fs::write(&config, "[sandbox]\nmax_calls = 1\n").unwrap();
    let (_sandbox, url) = sandbox(folder.path(), &["--config", path(&config)], None);
    let large = json!({"agent_id": 1, "scenarios": [1], "name": "x".repeat(3 << 20)});
    assert_eq!(start(&url, &large).0, 413);
    let agent = agent.replace("chirp:", "ws:");
    let (status, error) = start(&url, &json!({"agent_id": 1, "scenarios": [1], "frequency": 10_001, "websocket_url": agent}));
    assert!(status == 400 && error["scenarios"][0].as_str().unwrap().contains("10000 runs"), "{error}");
    // One call at a time, of all results together.
    let started: Vec<Value> =
        (0..2).map(|_| start(&url, &json!({"agent_id": 1, "scenarios": [1], "websocket_url": agent})).1).collect();
    let statuses = || -> Vec<String> {
        let of = |result: &Value| {
            first_run(&get(&url, &format!("v1/results/{}/", result["id"])).1)["status"].as_str().unwrap().to_owned()
        };
        started.iter().map(of).collect()
    };
    until("one call and one that waits", || {
        let mut now = statuses();
        now.sort();
        (now == ["in_progress", "in_queue"]).then_some(())
    });
    for result in &started {
        post(&url, &format!("v1/results/{}/end_calls/", result["id"]), &json!({}));
    }
    // Full: no run that could not be recorded.
    std::fs::write(&config, "[sandbox]\nmax_recorded_mb = 0\n").unwrap();
    let (_full, url) = sandbox_with(&folder.path().join("full"), &["--config", path(&config)], |_| {});
    let (status, error) = start(&url, &json!({"agent_id": 1, "scenarios": [1], "websocket_url": agent}));
    assert!(status == 507 && error["detail"].as_str().unwrap().contains("are allowed"), "{error}");
}

#[test]
fn bad_bodies_are_the_apis_400_and_end_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sandbox, url): (Running, String) = sandbox(folder.path(), &[], None);
    let bodies = [
        "{",
        "{}",
        "{\"scenarios\": {}}",
        "{\"agent_id\": -1, \"scenarios\": [1]}",
        "{\"agent_id\": 1e99, \"scenarios\": [1]}",
        "{\"agent_id\": 1, \"scenarios\": [1], \"frequency\": 18446744073709551615}",
        "{\"agent_id\": 1, \"scenarios\": [18446744073709551615]}",
        "{\"agent_id\": 1, \"scenarios\": \"all\", \"websocket_url\": \"http://x/\"}",
        "{\"agent_id\": [], \"scenarios\": [[1]]}",
        "{\"spec\": \"{\", \"channel\": \"chirp\"}",
        "{\"spec\": [], \"channel\": \"text\"}",
        "{\"run_id\": {}, \"metrics\": {}}",
    ];
    let starts = [
        "run_scenarios_chirp",
        "run_scenarios_text",
        "run_scenarios_with_websockets",
        "run_scenarios_api_chat",
        "run_scenarios_json",
    ];
    for body in bodies {
        for endpoint in starts {
            let (status, answer) = http("POST", &url, &format!("/test_framework/v1/scenarios/{endpoint}/"), None, Some(body));
            assert_eq!(status, 400, "{endpoint} {body}: {answer}");
        }
        assert_eq!(http("POST", &url, "/test_framework/test-sets/create_from_run/", None, Some(body)).0, 400, "{body}");
    }
    let spec: Value = serde_json::from_str(&std::fs::read_to_string(suite(folder.path(), &SCENARIO)).unwrap()).unwrap();
    let fine = json!({"agent_id": "1", "channel": "chirp", "frequency": "2", "name": 7, "concurrency_limit": null, "spec": spec});
    let validate = |body: &Value| post(&url, "v1/scenarios/validate_scenarios_json/", body);
    let (status, plan) = validate(&fine);
    assert_eq!((status, &plan["plan"]["total_runs"]), (200, &2.into()), "numbers may be texts, and texts numbers: {plan}");
    for (field, value) in [
        ("chirp_data", json!({"websocket_url": 5})),
        ("mode", json!("nonsense")),
        ("mock_tool_names", json!("x")),
        ("name", json!(["a"])),
        ("name", json!("n".repeat(256))),
        ("channel", json!(7)),
        ("channel", json!("pigeon")),
        ("frequency", json!(0)),
        ("agent_id", json!("one")),
        ("concurrency_limit", json!(1.5)),
    ] {
        let mut body = fine.clone();
        body[field] = value;
        let (status, answer) = validate(&body);
        assert!(status == 400 && answer.get(field).is_some(), "{field}: {answer}");
    }
    assert_eq!(get(&url, "v1/results/").1["count"], 0);
    sandbox.interrupt();
    assert!(sandbox.wait().success(), "it has gone on");
}

#[test]
fn a_recording_beside_the_suite_and_a_personality_are_played_wherever_the_sandbox_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let suites = folder.path().join("suites");
    std::fs::create_dir_all(suites.join("audio")).unwrap();
    // One second of 440 Hz.
    let spec = hound::WavSpec { channels: 1, sample_rate: 16_000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut clip = hound::WavWriter::create(suites.join("audio/tone.wav"), spec).unwrap();
    for at in 0..16_000 {
        clip.write_sample(((f64::from(at) * 440.0 * std::f64::consts::TAU / 16_000.0).sin() * 8000.0) as i16).unwrap();
    }
    clip.finalize().unwrap();
    let suite = suite(&suites, &["", "<audio id=\"tone\"/> <endcall/>"]);
    let personalities = folder.path().join("personalities.toml");
    std::fs::write(&personalities, "[[personalities]]\nid = 3\nname = \"Slow\"\npause_ms = 1500\n").unwrap();
    let arguments = ["--suite", path(&suite), "--personalities", path(&personalities)];
    let (_sandbox, url) = sandbox_with(folder.path(), &arguments, |command| {
        command.current_dir("/");
    });
    let agent = agent.replace("chirp:", "ws:");
    let body = json!({"agent_id": 1, "scenarios": [1], "personality_id": 4, "websocket_url": agent});
    let (status, error) = start(&url, &body);
    assert!(status == 400 && error[0].as_str().unwrap().starts_with("Invalid personalities provided"), "{error}");
    let pause_before_answer = |personality: Value| {
        let body = json!({"agent_id": 1, "scenarios": [1], "personality_id": personality, "websocket_url": agent});
        let run = first_run(&finished(&url, &start(&url, &body).1["id"]));
        assert_eq!((&run["status"], &run["success"]), (&"completed".into(), &true.into()), "{run}");
        let (_, bytes) = fetch(run["voice_recording_url"].as_str().unwrap(), None);
        let samples: Vec<i16> = hound::WavReader::new(&bytes[..]).unwrap().into_samples().map(Result::unwrap).collect();
        let loud = |channel: usize, part: &[i16]| part.iter().skip(channel).step_by(2).any(|sample| sample.unsigned_abs() > 2000);
        // In pieces of 20 ms: where the agent was heard last before the caller's tone.
        let pieces: Vec<&[i16]> = samples.chunks(640).collect();
        let tone = pieces.iter().position(|piece| loud(0, piece)).expect("the tone is heard");
        let agent_end = pieces[..tone].iter().rposition(|piece| loud(1, piece)).expect("the agent is heard before");
        let long = pieces[tone..].iter().filter(|piece| loud(0, piece)).count();
        assert!((49..=51).contains(&long), "one second of the tone, not {long} pieces");
        (tone - agent_end) as f64 * 0.02
    };
    let (usual, slow) = (pause_before_answer(Value::Null), pause_before_answer(3.into()));
    assert!((slow - usual - 1.5).abs() < 0.5, "{usual} s, and {slow} s from a slow caller");
}

#[test]
fn a_sandbox_that_others_can_reach_needs_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let suite = suite(folder.path(), &SCENARIO);
    let arguments = ["sandbox", "--suite", common::path(&suite), "--data", common::path(folder.path()), "--listen", "0.0.0.0:0"];
    let output = common::run(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("needs a key (CEKURA_API_KEY)"), "{said}");
    let mut guarded = common::trunkline(&arguments);
    guarded.env("CEKURA_API_KEY", "key");
    let guarded = Running::stderr_of(guarded);
    let url = guarded.wait_for("its address", |line| line.strip_prefix("sandbox ")?.split(' ').next().map(str::to_owned));
    assert_eq!(http("GET", &url, "/test_framework/v1/results/", None, None).0, 401);
    assert_eq!(http("GET", &url, "/test_framework/v1/results/", Some("key"), None).0, 200);
}

#[test]
fn a_page_of_another_origin_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_sandbox, url) = sandbox(folder.path(), &[], None);
    let host = url.strip_prefix("http://").unwrap();
    for (origin, status) in [("http://evil.example".to_owned(), "403"), (url.clone(), "400")] {
        let mut stream = std::net::TcpStream::connect(host).unwrap();
        let head =
            "POST /test_framework/v1/scenarios/run_scenarios_chirp/ HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded";
        write!(stream, "{head}\r\nHost: {host}\r\nOrigin: {origin}\r\nConnection: close\r\nContent-Length: 11\r\n\r\nscenarios=1")
            .unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{origin}: {answer}");
    }
}

#[test]
fn lists_are_filtered_and_a_run_without_its_recording_keeps_its_judgement() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let (_sandbox, url) = sandbox(folder.path(), &[], None);
    let body = json!({"agent_id": 1, "scenarios": [1], "websocket_url": agent.replace("chirp:", "ws:")});
    let ids: Vec<Value> = (0..2).map(|_| start(&url, &body).1["id"].clone()).collect();
    let runs: Vec<Value> = ids.iter().map(|id| first_run(&finished(&url, id))).collect();
    let count = |query: &str| {
        let (status, list) = get(&url, query);
        (status, list["count"].as_u64())
    };
    let call = runs[0]["provider_call_id"].as_str().unwrap();
    let (_, list) = get(&url, &format!("v1/runs/?agent_id=1&provider_call_id={call}"));
    assert_eq!((&list["count"], &list["results"][0]["id"]), (&1.into(), &runs[0]["id"]));
    assert_eq!(count("v1/runs/?agent_id=1&success=1&status__in=completed,failed&search=tes"), (200, Some(2)));
    assert_eq!(count("v1/runs/?agent_id=1&success=false"), (200, Some(0)));
    assert_eq!(count("v1/runs/?agent_id=1&created_at_to=2020-01-01T00:00:00Z"), (200, Some(0)));
    assert_eq!(count("v1/runs/?agent_id=1&created_at_from=2020-01-01T00:00:00Z&scenario__id=1"), (200, Some(2)));
    assert_eq!((count("v1/results/?scenarios=1,7"), count("v1/results/?scenarios=7")), ((200, Some(2)), (200, Some(0))));
    for bad in
        ["v1/runs/?agent_id=1&scenario__id=abc", "v1/runs/?agent_id=1&success=perhaps", "v1/results/?scenarios=x", "v1/runs/"]
    {
        assert_eq!(count(bad).0, 400, "{bad}");
    }
    // What cannot be measured any more is not scored anew.
    std::fs::remove_dir_all(folder.path().join("data/recordings").join(call)).unwrap();
    let again = json!({"run_ids": [runs[0]["id"].to_string()], "metric_ids": ["1"]});
    let (status, error) = post(&url, &format!("v1/results/{}/evaluate_metrics/", ids[0]), &again);
    assert!(status == 400 && error["run_ids"][0].as_str().unwrap().contains("cannot be scored anew"), "{error}");
    assert_eq!(get(&url, &format!("v1/runs/{}/", runs[0]["id"])).1["success"], true);
}
