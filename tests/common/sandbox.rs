//! A sandbox of the tests', and plain HTTP to talk to it, so that nothing of ours stands between.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::Value;

use super::{Running, path, python, suite, trunkline, until};

/// One short scenario: the agent greets, the caller says goodbye.
pub const SCENARIO: [&str; 2] = ["", "Thank you, goodbye. <endcall/>"];

/// A sandbox with one short scenario, and its URL.
pub fn sandbox(folder: &Path, more: &[&str], key: Option<&str>) -> (Running, String) {
    let suite = suite(folder, &SCENARIO);
    let mut arguments = vec!["--suite", path(&suite)];
    arguments.extend(more);
    sandbox_with(folder, &arguments, |command| {
        if let Some(key) = key {
            command.env("CEKURA_API_KEY", key);
        }
    })
}

/// A sandbox with these arguments and what `prepare` adds, and its URL.
pub fn sandbox_with(folder: &Path, more: &[&str], prepare: impl FnOnce(&mut std::process::Command)) -> (Running, String) {
    let data = folder.join("data");
    let mut arguments = vec!["sandbox", "--listen", "127.0.0.1:0", "--data", path(&data)];
    arguments.extend(more);
    let mut command = trunkline(&arguments);
    prepare(&mut command);
    let running = Running::stderr_of(command);
    let url = running.wait_for("its address", |line| line.strip_prefix("sandbox ")?.split(' ').next().map(str::to_owned));
    (running, url)
}

/// A plain HTTP/1.1 request, so that nothing of ours stands between: status and JSON body.
pub fn http(method: &str, url: &str, path: &str, key: Option<&str>, body: Option<&str>) -> (u16, Value) {
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).expect("the sandbox listens");
    let key = key.map(|key| format!("X-CEKURA-API-KEY: {key}\r\n")).unwrap_or_default();
    let kind =
        if body.is_some_and(|body| body.starts_with('{')) { "application/json" } else { "application/x-www-form-urlencoded" };
    let body = body.unwrap_or_default();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n"
    );
    // A body that is too long may be refused before it is whole: the answer counts.
    drop(write!(stream, "{head}{key}\r\n{body}"));
    let mut answer = String::new();
    drop(stream.read_to_string(&mut answer));
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer with a head");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

pub fn start(url: &str, body: &Value) -> (u16, Value) {
    http("POST", url, "/test_framework/v1/scenarios/run_scenarios_chirp/", None, Some(&body.to_string()))
}

pub fn finished(url: &str, id: &Value) -> Value {
    until("the result's end", || {
        let (_, result) = http("GET", url, &format!("/test_framework/v1/results/{id}/"), None, None);
        ["completed", "failed", "timeout", "cancelled"].contains(&result["status"].as_str()?).then_some(result)
    })
}

/// A run that the `cekura` package's client starts by this method and follows to its end: what it says.
pub fn with_the_package(method: &str, url: &str, key: &str, request: &Value) -> Value {
    let output = python("sdk_run.py", &[method, url, key, &request.to_string()]).output().expect("python starts");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}
