//! A real Pipecat bot of the test's own, behind Pipecat's development runner (tests/interop/pipecat_bot.py).

#![allow(dead_code)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::Running;

/// A script of tests/interop with Pipecat's Python.
pub fn pipecat_python(script: &str, arguments: &[&str]) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/pyenv-pipecat/bin/python");
    assert!(python.exists(), "Pipecat is missing: run scripts/python-env (scripts/test does)");
    let mut command = Command::new(python);
    command.arg(root.join("tests/interop").join(script)).args(arguments);
    command
}

/// A call of Pipecat's JavaScript client from a page in Chromium, run to its end: what it tells (tests/interop/javascript_client.py, of which
/// these are the arguments).
pub fn javascript_client(call: &Value, microphone: &Path, seconds: &str, then: &[&str]) -> Value {
    let call = call.to_string();
    let mut arguments = vec![call.as_str(), super::path(microphone), seconds];
    arguments.extend(then.iter().flat_map(|expression| ["--then", expression]));
    let output = pipecat_python("javascript_client.py", &arguments).output().expect("Python starts");
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.trim()).unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// What the client told of `what`, in order.
pub fn client_told<'a>(told: &'a Value, what: &str) -> Vec<&'a Value> {
    let all = told["told"].as_array().unwrap_or_else(|| panic!("a list: {told}"));
    all.iter().filter(|told| told["told"] == what).map(|told| &told["data"]).collect()
}

/// A bot, ended with its test.
pub struct PipecatBot {
    running: Running,
    port: u64,
}

impl PipecatBot {
    /// Starts a bot and waits until it listens. The arguments are those of tests/interop/pipecat_bot.py, then the runner's.
    pub fn start(arguments: &[&str]) -> Self {
        Self::from_command(pipecat_python("pipecat_bot.py", arguments))
    }

    /// As [`Self::start`], where the process needs more than arguments.
    pub fn from_command(command: Command) -> Self {
        let running = Running::stdout_of(command);
        let port = told(&running, "port")["port"].as_u64().expect("a port");
        Self { running, port }
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its plain WebSocket, with Pipecat's frames.
    pub fn web_socket(&self) -> String {
        format!("pipecat-ws://{}/ws-client", self.host())
    }

    /// Waits for what it tells: `ready`, `interrupted`, `gone`, `heard`. What it told before is skipped.
    pub fn told(&self, what: &str) -> Value {
        told(&self.running, what)
    }
}

fn told(running: &Running, what: &str) -> Value {
    running.wait_for(&format!("what the bot tells: {what}"), |line| {
        let told: Value = serde_json::from_str(line).ok()?;
        (told["told"] == what).then_some(told)
    })
}
