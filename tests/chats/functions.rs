//! The REST calls of a script, against a server of the test's own: what is asked, what of the answer is said, what its failure
//! leads to.

use crate::common;
use crate::writing;

use std::io::Write;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use common::{built_in_agent, call_folder, events, path, read_http, trunkline};
use serde_json::{Value, json};
use trunkline::call::{CallEnd, EndReason, Event, Side};
use trunkline::caller::suite::Suite;
use writing::{Agent, says};

/// A server that answers every request with this, or never; what it was asked.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

fn server(answer: Option<(u16, &'static str)>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let Some(request) = read_http(&mut stream) else { continue };
            kept.lock().unwrap().push(request);
            if let Some((status, body)) = answer {
                let head = format!("HTTP/1.1 {status} Any\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                drop(stream.write_all(format!("{head}{body}").as_bytes()));
            } else {
                open.push(stream);
            }
        }
    });
    Server { address, asked }
}

fn function(server: &Server, name: &str, more: Value) -> Value {
    let mut config = json!({
        "method": "GET", "url": format!("http://{}/orders/{{{{test_profile.order}}}}", server.address), "timeout_seconds": 1,
        "response_mapping": {"status": "$.orders[-1].status", "count": {"path": "$[\"no such\"]", "default": 3}},
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"name": name, "type": "rest_api", "auto_run": false, "config": config})
}

fn suite(functions: Vec<Value>, action: &str) -> Value {
    json!({"version": "1", "scenarios": [{
        "name": "Orders", "key": "orders", "type": "conditional_actions", "language": "en",
        "test_profile": {"caller_variables": {"order": "A 7"}},
        "conditional_actions": {"role": "a caller", "functions": functions, "conditions": [
            {"id": 0, "condition": "FIRST_MESSAGE", "action": "Friday at four, please.", "type": "standard", "fixed_message": true},
            {"id": 1, "condition": 0, "action": action, "type": "action_followup", "fixed_message": true},
        ]},
    }]})
}

/// What the caller wrote, what it logged, and the end, where the agent answers everything with one word.
async fn chat(suite: &Value) -> (Vec<String>, Vec<String>, CallEnd) {
    let suite = Suite::parse(suite).unwrap();
    let script = suite.scenarios[0].script().unwrap_or_else(|problems| panic!("{}", problems[0]));
    let chat = writing::chat(&script, Agent::new(|_, _| vec![says("Yes.")])).await;
    let of_caller = chat.events.iter().filter(|logged| logged.side == Some(Side::Caller));
    let noted = of_caller.filter_map(|logged| if let Event::Log { line } = &logged.event { Some(line.clone()) } else { None });
    (chat.caller().into_iter().map(str::to_owned).collect(), noted.collect(), chat.end)
}

const ANSWER: &str = r#"{"orders": [{"status": "lost"}, {"status": "on its way"}]}"#;
const SAYS: &str =
    "Let me look. <function name=\"lookup\"/> It is {{function.lookup.status}}, {{ function.lookup.count }} of them.";

#[tokio::test]
async fn an_answers_values_stand_in_the_line_and_a_default_where_it_has_none() {
    let server = server(Some((200, ANSWER)));
    let post = json!({"method": "POST", "headers": {"X-Key": "hush"}, "query_params": {"page": 2}, "body": {"id": "{{test_profile.order}}"}});
    let (wrote, noted, end) = chat(&suite(vec![function(&server, "lookup", post)], SAYS)).await;
    assert_eq!(wrote, ["Friday at four, please.", "Let me look.", "It is on its way, 3 of them."]);
    assert_eq!((end.reason, noted.len()), (EndReason::ScriptFinished, 0));
    let asked = server.asked.lock().unwrap();
    let (head, body) = &asked[0];
    assert!(head.starts_with("POST /orders/A%207?page=2 HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("x-key: hush") && body == "{\"id\":\"A 7\"}", "{head} {body}");
    assert_eq!(asked.len(), 1);
}

#[tokio::test]
async fn an_answer_that_reads_like_a_placeholder_is_said_as_it_is() {
    let server = server(Some((200, r#"{"orders": [{"status": "{{function.lookup.count}} {{"}]}"#)));
    let post = json!({"method": "POST", "body": {"what": ["{{function.first.status}}"]}});
    let mut first = function(&server, "first", json!({}));
    first["auto_run"] = json!(true);
    let (wrote, noted, end) = chat(&suite(vec![first, function(&server, "lookup", post)], SAYS)).await;
    assert_eq!(wrote.last().unwrap(), "It is {{function.lookup.count}} {{, 3 of them.");
    assert_eq!((end.reason, noted.len()), (EndReason::ScriptFinished, 0));
    assert_eq!(server.asked.lock().unwrap()[1].1, r#"{"what":["{{function.lookup.count}} {{"]}"#);
}

#[tokio::test]
async fn one_that_runs_by_itself_is_made_once_and_a_later_one_may_use_its_values() {
    let server = server(Some((200, ANSWER)));
    let mut first = function(&server, "lookup", json!({}));
    first["auto_run"] = json!(true);
    let url = format!("http://{}/say", server.address);
    let mut second = function(&server, "say", json!({"url": url, "query_params": {"what": "{{function.lookup.status}}"}}));
    second["auto_run"] = json!(true);
    let (wrote, ..) = chat(&suite(vec![first, second], "It is {{function.say.status}}.")).await;
    assert_eq!(wrote[1], "It is on its way.");
    let asked: Vec<_> = server.asked.lock().unwrap().iter().map(|(head, _)| head.lines().next().unwrap().to_owned()).collect();
    assert_eq!(asked, ["GET /orders/A%207 HTTP/1.1", "GET /say?what=on+its+way HTTP/1.1"]);
}

#[tokio::test]
async fn a_call_that_fails_ends_the_callers_side_with_its_reason() {
    for (answer, expected) in [
        (Some((500, "")), "function \"lookup\": the server answered 500 Internal Server Error"),
        (None, "function \"lookup\": no answer within 1 s"),
    ] {
        let server = server(answer);
        let secret = json!({"headers": {"X-Key": "hush"}, "query_params": {"token": "hush"}});
        let (wrote, _, end) = chat(&suite(vec![function(&server, "lookup", secret)], SAYS)).await;
        assert_eq!(wrote.last().unwrap(), "Let me look.");
        assert_eq!((end.by, end.reason), (Some(Side::Caller), EndReason::CallerFailed));
        assert!(end.detail.starts_with(expected) && !end.detail.contains("hush"), "{}", end.detail);
    }
}

#[tokio::test]
async fn an_answer_without_the_value_and_without_a_default_is_said_to_have_none() {
    let server = server(Some((200, "{}")));
    let (_, _, end) = chat(&suite(vec![function(&server, "lookup", json!({}))], SAYS)).await;
    assert_eq!(end.reason, EndReason::CallerFailed);
    assert!(end.detail.contains("{{function.lookup.status}} has no value"), "{}", end.detail);
}

#[tokio::test]
async fn a_message_that_a_value_leaves_empty_is_not_sent() {
    let server = server(Some((200, r#"{"orders": [{"status": ""}]}"#)));
    let action = "<function name=\"lookup\"/> {{function.lookup.status}}";
    let (wrote, _, end) = chat(&suite(vec![function(&server, "lookup", json!({}))], action)).await;
    assert_eq!((&wrote[..], end.reason), (&["Friday at four, please.".to_owned()][..], EndReason::CallerFailed));
    assert_eq!(end.detail, "a message has no words: the values that its functions gave are empty");
}

#[tokio::test]
async fn declared_defaults_stand_in_for_a_call_that_fails_and_the_failure_is_logged() {
    let server = server(Some((404, "")));
    let defaults =
        json!({"response_mapping": {"status": {"path": "$.a", "default": "unknown"}, "count": {"path": "$.b", "default": 0}}});
    let (wrote, noted, end) = chat(&suite(vec![function(&server, "lookup", defaults)], SAYS)).await;
    assert_eq!(wrote.last().unwrap(), "It is unknown, 0 of them.");
    assert_eq!(
        (end.reason, &noted[..]),
        (EndReason::ScriptFinished, &["function \"lookup\": the server answered 404 Not Found".to_owned()][..])
    );
}

#[test]
fn a_voice_says_the_value_after_the_answer_and_a_failure_makes_the_run_void() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, to) = built_in_agent("scripted");
    let wav = format!("{}/fixtures/speech/caller-which.wav", env!("CARGO_MANIFEST_DIR"));
    let asked = folder.path().join("asked");
    let tts = format!("sh -c 'printf \"%s\\n\" \"$1\" >> {} && cp {wav} \"$2\"' say {{text}} {{out}}", asked.display());
    let call = |name: &str, server: &Server, action: &str| {
        let file = folder.path().join("suite.json");
        std::fs::write(&file, suite(vec![function(server, "lookup", json!({}))], action).to_string()).unwrap();
        let (out, cache) = (folder.path().join(name), folder.path().join(format!("{name}-cache")));
        let arguments = ["call", "--to", &to, "--suite", path(&file), "--out", path(&out), "--tts", &tts, "--format", "json"];
        let mut command = trunkline(&[&arguments[..], &["--speech-cache", path(&cache)]].concat());
        // No proxy stands between this machine and itself.
        command.env("http_proxy", "http://127.0.0.1:9").env("HTTP_PROXY", "http://127.0.0.1:9");
        let output = command.output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report, events(&call_folder(&out)))
    };
    let good = server(Some((200, ANSWER)));
    let (code, _, logged) = call("good", &good, "<function name=\"lookup\"/> It is {{function.lookup.status}}. <endcall/>");
    assert_eq!(code, Some(0));
    assert_eq!(std::fs::read_to_string(&asked).unwrap(), "It is on its way.\n");
    let spoken = logged.iter().filter(|event| event["event"] == "speech_stopped" && event["side"] == "caller").count();
    assert_eq!(spoken, 2, "the words were said");
    let bad = server(Some((500, "")));
    let (code, report, _) = call("bad", &bad, "<function name=\"lookup\"/> It is {{function.lookup.status}}.");
    assert_eq!(code, Some(3));
    let failure = &report["runs"][0]["failures"][0];
    assert_eq!(failure["kind"], "caller_lost");
    assert!(failure["detail"].as_str().unwrap().contains("the server answered 500"), "{failure}");
}
