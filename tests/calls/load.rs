//! Many calls at once: how many are open, what is kept of them, and what they add up to.

use crate::common;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Running, path, python, run, suite, trunkline, until, wav};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

/// 20 ms frames of silence after which the caller's turn is over.
const PAUSE_FRAMES: usize = 20;
const LINES: [&str; 2] = ["Tuesday at eleven, please.", "Thank you, goodbye. <endcall/>"];

/// An agent of the test's own, written from the protocol: it waits for the caller's turn to end and answers with ready speech. It
/// counts its calls.
struct Agent {
    url: String,
    seen: Arc<Seen>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
    ended: AtomicUsize,
}

impl Agent {
    /// An agent that refuses each `refused`th connection with the status 503 (0 refuses none), and answers in the first `answered`
    /// calls.
    fn start(refused: usize, answered: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("chirp://{}/", listener.local_addr().unwrap());
        let seen = Arc::new(Seen::default());
        let answer = wav(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/speech/agent-answer-2.wav"));
        let (counted, answer) = (Arc::clone(&seen), Arc::new(answer));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = counted.connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (seen, answer) = (Arc::clone(&counted), Arc::clone(&answer));
                tokio::spawn(async move {
                    if refused > 0 && number.is_multiple_of(refused) {
                        refuse(stream).await;
                    } else {
                        take(stream, &seen, if number <= answered { &answer } else { &[] }).await;
                    }
                });
            }
        });
        Self { url, seen, _runtime: runtime }
    }

    fn seen(&self, pick: fn(&Seen) -> &AtomicUsize) -> usize {
        pick(&self.seen).load(Ordering::SeqCst)
    }
}

async fn refuse(mut stream: TcpStream) {
    let mut request = [0; 4096];
    assert!(stream.read(&mut request).await.unwrap() > 0, "an upgrade request comes");
    stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
}

async fn take(stream: TcpStream, seen: &Seen, answer: &[i16]) {
    let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most_open.fetch_max(open, Ordering::SeqCst);
    let mut socket = accept_async(stream).await.unwrap();
    let (mut spoke, mut quiet) = (false, 0);
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Binary(frame) => {
                let loud = frame.chunks_exact(2).any(|two| i16::from_le_bytes([two[0], two[1]]).unsigned_abs() > 300);
                (spoke, quiet) = if loud { (true, 0) } else { (spoke, quiet + 1) };
                if spoke && quiet == PAUSE_FRAMES && !answer.is_empty() {
                    spoke = false;
                    let bytes: Vec<u8> = answer.iter().flat_map(|sample| sample.to_le_bytes()).collect();
                    socket.send(Message::binary(bytes)).await.unwrap();
                }
            }
            // The answer to it goes out when the socket is asked for more: until then the caller holds the call open.
            Message::Close(_) => break,
            _ => {}
        }
    }
    seen.open.fetch_sub(1, Ordering::SeqCst);
    seen.ended.fetch_add(1, Ordering::SeqCst);
    while let Some(Ok(_)) = socket.next().await {}
}

fn load(agent: &str, suite: &Path, out: &Path, more: &[&str]) -> (Output, Value) {
    let mut arguments = vec!["call", "--to", agent, "--suite", path(suite), "--out", path(out), "--format", "json"];
    arguments.extend(more);
    let output = run(&arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("no report: {error}: {told}"));
    (output, report)
}

fn folders(out: &Path) -> HashSet<PathBuf> {
    fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
}

fn count(value: &Value) -> usize {
    value.as_u64().unwrap_or_else(|| panic!("no count: {value}")) as usize
}

/// Calls in which this machine was late: on a busy one there may be some, and they are no fault of what is tested.
fn void(report: &Value) -> usize {
    let runs = report["runs"].as_array().unwrap();
    let void: Vec<_> = runs.iter().filter(|run| run["verdict"] == "void").collect();
    for run in &void {
        let failures = run["failures"].as_array().unwrap();
        assert!(failures.iter().any(|failure| failure["kind"] == "pacing_slipped"), "{run:#}");
    }
    let slips = &report["load"]["host"]["slips"];
    assert_eq!(count(&slips["calls"]), void.len(), "{slips}");
    void.len()
}

fn close_to(ours: &Value, theirs: &Value, tolerance: f64) {
    assert_eq!(ours["n"], theirs["n"], "{ours} {theirs}");
    for name in ["p50", "p90", "p95", "p99", "max"] {
        let [ours, theirs] = [ours, theirs].map(|spread| spread[name].as_f64().unwrap());
        assert!((ours - theirs).abs() <= tolerance, "{name}: {ours}, recomputed {theirs}");
    }
}

#[test]
fn twenty_calls_five_at_once_are_all_recorded_and_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let (suite, out) = (folder.path().join("suite.json"), folder.path().join("out"));
    let scenario = |name: &str, lines: [&str; 2]| {
        json!({"name": name, "key": name, "type": "conditional_actions", "language": "en", "conditional_actions": {
        "role": "a caller", "conditions": [
            {"id": 0, "condition": "FIRST_MESSAGE", "action": lines[0], "type": "standard", "fixed_message": true},
            {"id": 1, "condition": "0", "action": lines[1], "type": "action_followup", "fixed_message": true},
        ]}})
    };
    let own = ["This text has no recording.", LINES[1]];
    fs::write(&suite, json!({"version": "1", "scenarios": [scenario("a", LINES), scenario("b", own)]}).to_string()).unwrap();
    let (script, spoken) = (folder.path().join("speak.sh"), folder.path().join("spoken"));
    let speech = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/speech/caller-friday.wav");
    fs::write(&script, format!("echo \"$2\" >> {}\ncp {speech} \"$1\"\n", path(&spoken))).unwrap();
    let (tts, cache) = (format!("sh {} {{out}} {{text}}", path(&script)), folder.path().join("cache"));
    let agent = Agent::start(0, usize::MAX);

    let more = ["--calls", "20", "--at-once", "5", "--ramp", "1", "--tts", &tts, "--speech-cache", path(&cache)];
    let (output, report) = load(&agent.url, &suite, &out, &more);

    let (load, void) = (&report["load"], void(&report));
    assert_eq!(output.status.code(), Some(if void == 0 { 0 } else { 3 }), "{report:#}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("calls over") && !said.contains("calling"), "a script that reads JSON sees no progress: {said}");
    assert_eq!(count(&report["totals"]["passed"]) + void, 20, "{report:#}");
    assert_eq!((&load["asked"], &load["placed"], &load["at_once"]), (&json!(20), &json!(20), &json!(5)));
    assert_eq!((agent.seen(|seen| &seen.connections), agent.seen(|seen| &seen.ended)), (20, 20));
    let most_open = agent.seen(|seen| &seen.most_open);
    assert!((2..=5).contains(&most_open) && (most_open..=5).contains(&count(&load["at_once_reached"])), "{most_open}: {load}");
    assert_eq!(fs::read_to_string(&spoken).unwrap().lines().collect::<Vec<_>>(), [own[0]], "a text is spoken once");

    let runs = report["runs"].as_array().unwrap();
    let told: HashSet<_> = runs.iter().map(|run| out.join(run["recording"].as_str().unwrap())).collect();
    assert_eq!((told.len(), &told), (20, &folders(&out)));
    for (number, run) in runs.iter().enumerate() {
        assert_eq!(run["scenario"], ["a", "b"][number % 2], "the scenarios come in turn");
        let call: Value =
            serde_json::from_slice(&fs::read(out.join(run["recording"].as_str().unwrap()).join("call.json")).unwrap()).unwrap();
        assert_eq!(call["set_up"], run["set_up"]);
        let stages: Vec<_> = call["set_up"]["stages"].as_array().unwrap().iter().map(|stage| stage["stage"].clone()).collect();
        assert_eq!(stages, ["tcp", "web_socket", "first_audio"]);
    }
    assert_eq!(fs::read_to_string(out.join("junit.xml")).unwrap().matches("<testcase ").count(), 20);

    let recomputed = python("load_percentiles.py", &[path(&out)]).output().unwrap();
    let recomputed: Value = serde_json::from_slice(&recomputed.stdout).unwrap_or_else(|_| panic!("{recomputed:?}"));
    close_to(&load["set_up"], &recomputed["set_up"], 0.001);
    for stage in load["stages"].as_array().unwrap() {
        close_to(stage, &recomputed["stages"][stage["stage"].as_str().unwrap()], 0.001);
    }
    close_to(&load["response_latency"], &recomputed["response_latency"], 10.0);
    assert_eq!(count(&load["response_latency"]["n"]), 20 - void, "each call has one answer");
    let host = &load["host"];
    assert!(host["cpu_mean"].as_f64().unwrap() > 0.0 && host["process_cores_mean"].as_f64().unwrap() > 0.0, "{host}");
    assert!(host["process_peak_bytes"].as_u64().unwrap() > 1 << 20, "{host}");
}

#[test]
fn what_the_agent_refuses_is_counted_by_name_and_dialled_once() {
    let folder = tempfile::tempdir().unwrap();
    let suite = suite(folder.path(), &LINES);
    let (agent, out) = (Agent::start(3, usize::MAX), folder.path().join("out"));
    let (output, report) = load(&agent.url, &suite, &out, &["--calls", "9", "--at-once", "3"]);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert_eq!(agent.seen(|seen| &seen.connections), 9, "who is refused does not dial again");
    let totals = &report["totals"];
    assert_eq!((&totals["runs"], &totals["failed"]), (&json!(9), &json!(3)), "{totals}");
    let failures = report["load"]["failures"].as_array().unwrap();
    let refused = failures.iter().find(|failure| failure["kind"] == "agent_unreachable").unwrap();
    assert_eq!((&refused["calls"], &refused["stage"], &refused["void"]), (&json!(3), &json!("web_socket"), &json!(false)));
    assert!(refused["example"].as_str().unwrap().contains("503"), "{refused}");
    assert_eq!(count(&report["load"]["set_up"]["n"]), 6 - void(&report), "who was refused has no set-up time");

    let table = run(&["call", "--to", &agent.url, "--suite", path(&suite), "--out", path(&out), "--calls", "3"]);
    let table = String::from_utf8_lossy(&table.stdout);
    for part in ["calls: 3 of 3 placed", "set-up", "web_socket", "first_audio", "p99", "this machine: CPU"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    // The times of void calls, which a busy machine may make, are left out.
    assert!(table.contains("response latency") || !table.contains(" 0 void"), "{table}");
    assert!(table.contains("failed: agent_unreachable in web_socket: 1 calls"), "{table}");

    // Nobody listens there.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (output, report) = load(&format!("chirp://{dead}/"), &suite, &out, &["--calls", "30"]);
    let failure = &report["load"]["failures"][0];
    assert_eq!((output.status.code(), &failure["stage"], &failure["calls"]), (Some(1), &json!("tcp"), &json!(30)), "{report:#}");
    assert!(failure["example"].as_str().unwrap().contains("tried once"), "{failure}");
}

#[test]
fn thresholds_hold_for_every_call_and_recordings_are_kept_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let suite = suite(folder.path(), &LINES);
    let agent = Agent::start(0, usize::MAX);
    let shape = |more: &[&'static str]| [&["--calls", "4", "--at-once", "4"][..], more].concat();

    let out = folder.path().join("missed");
    let (output, report) = load(&agent.url, &suite, &out, &shape(&["--max-latency-ms", "1", "--record", "failed"]));
    assert_eq!(output.status.code(), Some(if void(&report) == 4 { 3 } else { 1 }), "{report:#}");
    let missed = report["load"]["failures"].as_array().unwrap().iter().find(|failure| failure["kind"] == "latency_exceeded");
    assert_eq!(count(&missed.unwrap()["calls"]), 4, "{report:#}");
    assert_eq!(folders(&out).len(), 4);

    let out = folder.path().join("kept");
    let (_, report) = load(&agent.url, &suite, &out, &shape(&["--max-latency-ms", "60000", "--record", "failed"]));
    assert_eq!(count(&report["totals"]["failed"]), 0, "{report:#}");
    assert_eq!(folders(&out).len(), void(&report), "what passed is not kept");
    assert_eq!(count(&report["load"]["response_latency"]["n"]), 4 - void(&report), "but it is measured");

    let out = folder.path().join("none");
    let (_, report) = load(&agent.url, &suite, &out, &shape(&["--record", "none", "--fail-under", "0.5"]));
    assert!(folders(&out).is_empty() && report["runs"][0]["recording"].is_null(), "{report:#}");
    assert_eq!(count(&report["load"]["set_up"]["n"]), 4 - void(&report));

    for wrong in [&["--ramp", "2"][..], &["--calls", "0"], &["--calls", "2", "--ramp", "-1"]] {
        let mut arguments = vec!["call", "--to", &agent.url, "--suite", path(&suite), "--out", path(&out)];
        arguments.extend(wrong);
        assert_eq!(run(&arguments).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn ctrl_c_ends_the_calls_and_reports_what_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let (suite, out) = (suite(folder.path(), &LINES), folder.path().join("out"));
    let agent = Agent::start(0, 2);
    let arguments = ["call", "--to", &agent.url, "--suite", path(&suite), "--out", path(&out), "--calls", "500", "--at-once", "2"];
    let arguments = [&arguments[..], &["--patience-s", "600"]].concat();
    let mut running = Running::stdout_of(trunkline(&arguments));
    until("two calls that are over, and two that go on", || {
        (agent.seen(|seen| &seen.ended) == 2 && agent.seen(|seen| &seen.open) == 2).then_some(())
    });
    running.interrupt();
    let code = running.wait().code();
    let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    let (load, runs) = (&report["load"], report["runs"].as_array().unwrap());
    assert_eq!((&report["status"], &load["asked"]), (&json!("cancelled"), &json!(500)));
    assert_eq!((count(&load["placed"]), runs.len()), (4, 4), "{load}");
    let cancelled = runs.iter().filter(|run| run["end"]["reason"] == "cancelled").count();
    assert_eq!(cancelled, 2, "{report:#}");
    assert!(runs.iter().any(|run| run["verdict"] == "passed" || run["verdict"] == "void"), "{report:#}");
    assert!(code == Some(1) || (code == Some(3) && count(&report["totals"]["failed"]) == 0), "{code:?}");
    for run in runs.iter().filter(|run| !run["recording"].is_null()) {
        let call = out.join(run["recording"].as_str().unwrap()).join("call.json");
        let call: Value = serde_json::from_slice(&fs::read(call).unwrap()).unwrap();
        assert_eq!(call["end"], run["end"], "its recording is whole");
    }
}
