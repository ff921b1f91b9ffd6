//! The commands that ask Cekura's API, against a server that records each request and answers as it is told: what is sent, what is
//! sent again, and what never is.

use crate::common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::api::{Api, Fault, ok, page, response, searched};
use serde_json::{Value, json};
use trunkline::cekura::{Client, Key, Lookup, Mode, start_once};
use trunkline::ledger::Ledger;

fn result(id: u64) -> Value {
    json!({"id": id, "status": "completed", "runs": {"7": {"id": 7, "status": "completed", "success": true}, "8": {"id": 8, "status": "completed"}}})
}

#[test]
fn scoring_anew_names_all_runs_as_texts_and_calls_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::new(|_, _| ok(&result(9)));
    let (code, out, errors) = api.run(folder.path(), &["results", "rescore", "9", "--metric-ids", "55,56", "--format", "json"]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["id"], 9);
    let posts: Vec<_> = api.asked().into_iter().filter(|(method, ..)| method == "POST").collect();
    let body = json!({"run_ids": ["7", "8"], "metric_ids": ["55", "56"]});
    assert_eq!(posts, [("POST".to_owned(), "/test_framework/v1/results/9/evaluate_metrics/".to_owned(), body)]);
}

#[test]
fn executing_again_costs_so_it_asks_and_is_sent_once_whatever_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::new(|_, _| ok(&result(10)));
    let (code, _, errors) = api.run(folder.path(), &["results", "rerun", "9"]);
    assert!(code == 2 && errors.contains("which costs: say --yes") && api.asked().is_empty(), "{errors}");
    let (code, out, errors) = api.run(folder.path(), &["results", "rerun", "9", "--yes", "--format", "json"]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["id"], 10);
    let faults: [Fault; 4] = [
        || None,
        || response("500 Internal Server Error", "", ""),
        || response("502 Bad Gateway", "Content-Type: text/html\r\n", "<html><title>Bad Gateway</title></html>"),
        || Some("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"id\": 1".to_owned()),
    ];
    for fault in faults {
        let folder = tempfile::tempdir().unwrap();
        let api = Api::new(move |_, _| fault());
        let (code, _, errors) = api.run(folder.path(), &["results", "rerun", "9", "--yes"]);
        assert!(code == 3 && errors.contains("it is not known whether runs were started"), "{errors}");
        assert_eq!(api.asked().len(), 1, "one POST, always");
        let kept = trunkline::ledger::Ledger::open(&folder.path().join("ledger.sqlite")).unwrap().list(5).unwrap();
        assert_eq!((kept.len(), kept[0].mode.as_str(), kept[0].state.as_str()), (1, "rerun", "lost"));
    }
}

#[test]
fn reading_is_tried_again_and_keeps_to_retry_after() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::new(|number, _| match number {
        1 => None,
        2 => response("503 Service Unavailable", "", ""),
        3 => response("429 Too Many Requests", "Retry-After: 2\r\n", "{\"detail\": \"slow down\"}"),
        _ => ok(&json!({"id": 7, "status": "completed", "success": true})),
    });
    let begun = std::time::Instant::now();
    let (code, out, errors) = api.run(folder.path(), &["runs", "get", "7", "--format", "json"]);
    assert_eq!((code, api.asked().len()), (0, 4), "{errors}");
    assert!(out.contains("completed"));
    assert!(begun.elapsed() >= std::time::Duration::from_secs(2), "Retry-After was kept to");
}

#[test]
fn refusals_are_one_clear_line_and_not_tried_again() {
    for (status, body, expected) in [
        ("401 Unauthorized", "{\"detail\": \"Invalid API key.\"}", "HTTP 401: Invalid API key."),
        ("403 Forbidden", "{\"detail\": \"No.\"}", "HTTP 403: No."),
        ("404 Not Found", "<html><title>Not here</title></html>", "HTTP 404: an HTML page: Not here"),
        ("400 Bad Request", "{\"run_ids\": [\"Required.\"]}", "HTTP 400: run_ids: Required."),
        ("302 Found", "", "HTTP 302"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let api = Api::new(move |_, _| response(status, "", body));
        let (code, out, errors) = api.run(folder.path(), &["runs", "get", "7"]);
        assert!(code == 3 && out.is_empty() && errors.contains(expected) && errors.trim().lines().count() == 1, "{errors}");
        assert_eq!(api.asked().len(), 1, "{status}");
    }
}

#[test]
fn traces_listen_urls_and_test_sets_are_asked_for_as_the_reference_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::new(|_, (_, path, _)| {
        ok(&if path.contains("listen") {
            json!({"listen_url": "https://listen.example/7"})
        } else {
            json!({"id": 3, "trace_id": "t", "spans": []})
        })
    });
    let (code, out, _) = api.run(folder.path(), &["runs", "trace", "7"]);
    assert_eq!((code, serde_json::from_str::<Value>(&out).unwrap()["trace_id"].as_str()), (0, Some("t")));
    let (_, out, _) = api.run(folder.path(), &["runs", "listen-url", "7"]);
    assert_eq!(out, "https://listen.example/7\n");
    let arguments = ["test-sets", "create-from-run", "--run-id", "7", "--metric-ids", "55", "--name", "kept", "--project-id", "2"];
    let (code, out, errors) = api.run(folder.path(), &arguments);
    assert_eq!((code, serde_json::from_str::<Value>(&out).unwrap()["id"].as_u64()), (0, Some(3)), "{errors}");
    let asked: Vec<_> = api.asked().into_iter().map(|(method, path, body)| (format!("{method} {path}"), body)).collect();
    let test_set = json!({"run_id": 7, "metrics": [{"metric": 55}], "name": "kept", "project": 2});
    assert_eq!(
        asked,
        [
            ("GET /test_framework/v1/runs/7/trace/".to_owned(), Value::Null),
            ("GET /test_framework/v1/runs/7/get_listen_url/".to_owned(), Value::Null),
            ("POST /test_framework/test-sets/create_from_run/".to_owned(), test_set),
        ]
    );
}

#[test]
fn a_start_is_one_post_whatever_the_server_does() {
    let faults: [(&str, Fault); 6] = [
        ("the connection breaks off", || None),
        ("500", || response("500 Internal Server Error", "", "{\"detail\": \"oops\"}")),
        ("502 HTML", || response("502 Bad Gateway", "Content-Type: text/html\r\n", "<html><title>Bad Gateway</title></html>")),
        ("429", || response("429 Too Many Requests", "Retry-After: 1\r\n", "")),
        ("a cut body", || Some("HTTP/1.1 201 Created\r\nContent-Length: 900\r\n\r\n{\"id\": 9,".to_owned())),
        ("no JSON", || response("200 OK", "", "fine")),
    ];
    for (what, fault) in faults {
        let folder = tempfile::tempdir().unwrap();
        // The result turns up by its name: then the run goes on with it.
        let api = Api::new(move |_, (method, path, _)| match (method.as_str(), path.contains("search=")) {
            ("POST", _) => fault(),
            (_, true) => ok(&page(&[json!({"id": 9, "name": searched(path).unwrap(), "status": "completed"})])),
            _ => ok(&result(9)),
        });
        let file = folder.path().join("run.json");
        std::fs::write(&file, json!({"agent_id": 1, "scenarios": [1], "name": "once"}).to_string()).unwrap();
        let out = folder.path().join("out");
        let arguments = ["run", "text", "--from-file", common::path(&file), "--out", common::path(&out), "--format", "json"];
        let (code, stdout, errors) = api.run(folder.path(), &arguments);
        let posts = api.asked().iter().filter(|(method, ..)| method == "POST").count();
        assert_eq!(posts, 1, "{what}: one POST, always");
        if what == "429" {
            assert!(code == 3 && errors.contains("no run was started"), "{what}: a refusal is no lost answer: {errors}");
        } else {
            let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{what}: {errors}"));
            assert_eq!((code, &report["result_id"], &report["run_ids"]), (0, &9.into(), &json!([7, 8])), "{what}");
        }
    }
}

#[test]
fn so_many_runs_must_pass() {
    let failed_one = json!({"id": 9, "status": "completed", "runs": {
        "7": {"id": 7, "status": "completed", "success": true}, "8": {"id": 8, "status": "completed", "success": false}}});
    for (more, expected) in
        [(&[][..], 1), (&["--fail-under", "0.5"], 0), (&["--fail-under", "0.51"], 1), (&["--fail-under", "0"], 0)]
    {
        let folder = tempfile::tempdir().unwrap();
        let answer = ok(&failed_one);
        let api = Api::new(move |_, _| answer.clone());
        let file = folder.path().join("run.json");
        std::fs::write(&file, json!({"agent_id": 1, "scenarios": [1]}).to_string()).unwrap();
        let out = folder.path().join("out");
        let arguments =
            ["run", "voice", "--wait", "--from-file", common::path(&file), "--out", common::path(&out), "--format", "json"];
        let (code, stdout, errors) = api.run(folder.path(), &[&arguments[..], more].concat());
        let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{errors}"));
        assert_eq!((code, &report["totals"]["passed"], &report["totals"]["failed"]), (expected, &1.into(), &1.into()), "{more:?}");
    }
}

/// What becomes of a connection whose request has come.
type Break = fn(&mut TcpStream);

/// An API that does with the first POST's connection what `fault` does, before it has read the body, and finds the result.
fn api_that_fails(fault: Break) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let posts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&posts);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, posts) = (stream.unwrap(), Arc::clone(&counted));
            std::thread::spawn(move || {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    head.extend(byte);
                }
                let head = String::from_utf8(head).unwrap();
                if head.starts_with("POST ") {
                    posts.fetch_add(1, Ordering::SeqCst);
                    stream.peek(&mut [0]).unwrap();
                    return fault(&mut stream);
                }
                let path = head.split(' ').nth(1).unwrap();
                let found = searched(path).map(|name| page(&[json!({"id": 9, "name": name, "status": "completed"})]));
                stream.write_all(ok(&found.unwrap_or_else(|| result(9))).unwrap().as_bytes()).unwrap();
            });
        }
    });
    (url, posts)
}

#[test]
fn a_start_is_one_post_also_when_time_is_up_or_the_connection_is_reset() {
    let faults: [(&str, Break); 3] = [
        // A connection that is closed with something unread is reset.
        ("reset", |_| {}),
        ("silent", |stream| drop(stream.read_to_end(&mut Vec::new()))),
        ("slow", |stream| {
            let mut sent = stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 100000\r\n\r\n{");
            while sent.is_ok() {
                sent = stream.write_all(b" ");
                std::thread::sleep(Duration::from_millis(20));
            }
        }),
    ];
    for (what, fault) in faults {
        let folder = tempfile::tempdir().unwrap();
        let (url, posts) = api_that_fails(fault);
        let client = Client::new(&url, Key::new("any").unwrap()).unwrap().with_start_timeout(Duration::from_millis(300));
        let ledger = Ledger::open(&folder.path().join("ledger.sqlite")).unwrap();
        let body = json!({"agent_id": 1, "scenarios": [1], "name": "once"});
        let lookup = Lookup { polls: 3, every: Duration::from_millis(10) };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let started = runtime.block_on(start_once(&client, &ledger, Mode::Text, body, lookup)).unwrap();
        assert_eq!((started.result_id, posts.load(Ordering::SeqCst)), (9, 1), "{what}: one POST, always");
        assert_eq!(ledger.list(5).unwrap()[0].state.as_str(), "replied", "{what}");
    }
}
