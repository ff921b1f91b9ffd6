//! Agents that are child processes: what they get, what becomes of what they say, how they end.

use crate::common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::{call_folder, events, path, python_caller, run, serve, suite, until, wav};
use serde_json::Value;

/// A shell script as an agent.
fn agent(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("agent.sh");
    std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file
}

/// Calls the script with a one-line scenario: exit code, report, the call's folder.
fn call(folder: &Path, text: &str, lines: &[&str], flags: &[&str]) -> (i32, Value, PathBuf) {
    let (agent, suite, out) = (agent(folder, text), suite(folder, lines), folder.join("out"));
    let to = format!("process:{}", agent.display());
    let mut arguments = vec!["call", "--to", &to, "--suite", path(&suite), "--out", path(&out), "--format", "json"];
    arguments.extend(flags);
    let output = run(&arguments);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), report, call_folder(&out))
}

fn logged(folder: &Path) -> Vec<String> {
    let events = events(folder);
    let lines = events.iter().filter(|event| event["event"] == "log");
    lines.map(|event| event["line"].as_str().unwrap().to_owned()).collect()
}

/// Python that says 1.2 s of a buzz at its rate, then copies stdin to nowhere until it is closed.
const SPEAKS: &str = r#"exec python3 -c '
import math, os, struct, sys
rate = int(os.environ["TRUNKLINE_RATE"])
for n in range(int(rate * 1.2)):
    t = n / rate
    swell = 0.55 - 0.45 * math.cos(2 * math.pi * 4 * t)
    v = int(5000 * swell * sum(math.sin(2 * math.pi * 140 * k * t) / k for k in range(1, 12)))
    sys.stdout.buffer.write(struct.pack("<h", v))
sys.stdout.buffer.flush()
heard = 0
while True:
    piece = sys.stdin.buffer.read1(65536)
    if not piece:
        break
    heard += len(piece)
sys.stderr.write("heard %.1f s\n" % (heard / 2 / rate))
'"#;

#[test]
fn a_process_is_heard_and_hears_at_its_declared_rate() {
    for rate in [8000_u32, 24_000, 48_000] {
        let folder = tempfile::tempdir().unwrap();
        let flags = ["--rate", &rate.to_string()];
        let (code, report, call) = call(folder.path(), SPEAKS, &["", "Thank you, goodbye. <endcall/>"], &flags);
        assert_eq!(code, 0, "{report}");
        let reader = hound::WavReader::open(call.join("agent.wav")).unwrap();
        assert_eq!(reader.spec().sample_rate, rate, "its track has its own rate");
        let agent = wav(&call.join("agent.wav"));
        let first = agent.iter().position(|s| *s != 0).unwrap();
        let last = agent.iter().rposition(|s| *s != 0).unwrap();
        let heard = (last - first) as f64 / f64::from(rate);
        assert!((heard - 1.2).abs() < 0.01, "1.2 s of speech that came at once are heard over {heard} s");
        let told = logged(&call).pop().unwrap();
        let heard: f64 = told.trim_start_matches("heard ").trim_end_matches(" s").parse().unwrap();
        let lasted = report["runs"][0]["measures"]["duration"]["value"].as_f64().unwrap() / 1000.0;
        assert!((heard - lasted).abs() < 0.4, "it was given {heard} s of a call of {lasted} s");
        let stereo = hound::WavReader::open(call.join("stereo.wav")).unwrap();
        assert_eq!((stereo.spec().channels, stereo.spec().sample_rate), (2, rate.max(16_000)));
    }
}

#[test]
fn its_environment_names_the_call_and_its_log_is_the_calls() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"echo "call=$TRUNKLINE_CALL_ID rate=$TRUNKLINE_RATE scenario=$TRUNKLINE_SCENARIO_ID name=$TRUNKLINE_SCENARIO run=${TRUNKLINE_RUN_ID-none}" >&2
printf 'no line end' >&2"#;
    let (code, report, call) = call(folder.path(), text, &["", "Thank you, goodbye."], &[]);
    let id = call.file_name().unwrap().to_str().unwrap();
    assert_eq!(logged(&call), [format!("call={id} rate=16000 scenario=test name=Test run=none"), "no line end".to_owned()]);
    assert_eq!((code, &report["runs"][0]["failures"][0]["kind"]), (1, &"agent_hung_up".into()), "its exit is its hang-up");
}

#[test]
fn run_ids_reach_the_process_behind_a_door() {
    let folder = tempfile::tempdir().unwrap();
    let agent =
        agent(folder.path(), r#"echo "$TRUNKLINE_RUN_ID $TRUNKLINE_RESULT_ID $TRUNKLINE_SCENARIO_ID" >&2; exec cat >/dev/null"#);
    let out = folder.path().join("calls");
    let (_serve, door) = serve(&format!("process:{}", agent.display()), &out, "");
    let ids = ["--header", "X-VOCERA-RUN-ID=7", "--header", "X-VOCERA-RESULT-ID=8", "--header", "X-VOCERA-SCENARIO-ID=9"];
    let mut arguments = vec!["--mode", "hold", "--seconds", "1"];
    arguments.extend(ids);
    python_caller(&format!("ws://{door}/"), &arguments);
    let call = call_folder(&out);
    until("the end of the recording", || call.join("labels.txt").exists().then_some(()));
    assert_eq!(logged(&call), ["7 8 9"]);
}

#[test]
fn a_process_that_dies_is_told_from_one_that_hangs_up() {
    let folder = tempfile::tempdir().unwrap();
    let (code, report, _) = call(folder.path(), "kill -SEGV $$", &["", "Thank you, goodbye."], &[]);
    let failure = &report["runs"][0]["failures"][0];
    assert_eq!((code, &failure["kind"]), (1, &"connection_lost".into()));
    assert!(failure["detail"].as_str().unwrap().contains("signal: 11"), "{failure}");
    let folder = tempfile::tempdir().unwrap();
    let (_, report, _) = call(folder.path(), "exit 3", &["", "Thank you, goodbye."], &[]);
    assert!(report["runs"][0]["failures"][0]["detail"].as_str().unwrap().contains("exit status: 3"));
}

#[test]
fn a_process_that_does_not_read_never_blocks_the_call() {
    let folder = tempfile::tempdir().unwrap();
    let (_, report, call) = call(folder.path(), "exec sleep 60", &["", "Thank you, goodbye."], &["--patience-s", "8"]);
    assert_eq!(report["runs"][0]["end"]["reason"], "agent_silent", "the caller kept its time");
    let caller = wav(&call.join("caller.wav"));
    assert!((caller.len() as f64 / 16_000.0 - 8.0).abs() < 0.3);
}

#[test]
fn a_process_that_ignores_the_end_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"trap '' TERM
sh -c 'trap "" TERM; echo "grandchild $$" >&2; while :; do sleep 1; done' &
while :; do sleep 1; done"#;
    let begun = std::time::Instant::now();
    let (.., call) = call(folder.path(), text, &["", "Thank you, goodbye."], &["--patience-s", "1"]);
    assert!(begun.elapsed().as_secs() < 15, "the end took {:?}", begun.elapsed());
    let line = logged(&call).into_iter().find(|line| line.starts_with("grandchild")).unwrap();
    let id = line.rsplit(' ').next().unwrap().to_owned();
    until("the grandchild's end", || {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.rsplit(')').next().unwrap_or_default().trim().starts_with('Z')).then_some(())
    });
}

#[test]
fn a_command_that_cannot_be_started_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let output = run(&[
        "call",
        "--to",
        "process:/no/such/agent --flag 'a b'",
        "--scenario",
        "book",
        "--out",
        path(&out),
        "--format",
        "json",
    ]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let failure = &report["runs"][0]["failures"][0];
    assert_eq!((output.status.code(), &failure["kind"]), (Some(1), &"agent_unreachable".into()));
    assert!(failure["detail"].as_str().unwrap().contains("/no/such/agent"), "{failure}");
}
