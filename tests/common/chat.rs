//! Chats: the independent Python peers and the door in front of them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Running, python, serve_through, until};

/// An independent chat agent in Python, and how it is reached.
pub fn chat_agent(mode: &str, more: &[&str]) -> (Running, String) {
    let mut arguments = vec!["--mode", mode];
    arguments.extend(more);
    let agent = Running::stdout_of(python("chat_agent.py", &arguments));
    let port = agent.json("the port")["port"].as_u64().expect("a port");
    (agent, format!("chat://127.0.0.1:{port}/agent"))
}

/// `trunkline serve` with a chat door in front of `to`, recording into `out`, and the door's address.
pub fn chat_door(to: &str, out: &Path, config: &str) -> (Running, String) {
    serve_through("--chat-listen", to, out, config)
}

/// An independent chat caller in Python, run to its end: what it got.
pub fn chat_caller(door: &str, arguments: &[&str]) -> Value {
    let url = format!("ws://{door}/any/path?query=1");
    let mut all = vec![url.as_str()];
    all.extend(arguments);
    let output = python("chat_caller.py", &all).output().expect("python starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_str(text.trim()).unwrap_or_else(|_| panic!("no summary: {text}{errors}"))
}

/// The content of the frames that a caller got.
pub fn contents(got: &Value) -> Vec<&str> {
    got["frames"].as_array().expect("frames").iter().filter_map(|frame| frame["content"].as_str()).collect()
}

/// The call's folder, once its end is recorded, and its call.json.
pub fn recorded(out: &Path) -> (PathBuf, Value) {
    until("the end of the recording", || {
        let folder = std::fs::read_dir(out).ok()?.filter_map(Result::ok).map(|entry| entry.path()).find(|path| path.is_dir())?;
        let info: Value = serde_json::from_slice(&std::fs::read(folder.join("call.json")).ok()?).ok()?;
        info.get("duration_ms").is_some().then_some((folder, info))
    })
}
