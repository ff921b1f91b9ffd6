//! A Pipecat bot behind other wires' doors: Cekura's other run modes reach it, in the sandbox, recorded and tied to their runs.

use serde_json::{Value, json};

use super::common::livekit::LiveKitServer;
use super::common::pipecat::PipecatBot;
use super::common::{Running, path, suite, trunkline};
use super::hears_the_greeting;

const LINES: [&str; 2] = ["", "Thank you, goodbye. <endcall/>"];

/// What one run of a sandbox within the command gives: its report.
fn run(mode: &[&str], server: Option<&LiveKitServer>) -> (Value, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let (suite, out) = (suite(folder.path(), &LINES), folder.path().join("out"));
    let more =
        ["--agent-id", "1", "--scenario-ids", "1", "--sandbox", "--suite", path(&suite), "--out", path(&out), "--format", "json"];
    let mut command = trunkline(&[&["run"], mode, &more[..]].concat());
    if let Some(server) = server {
        command.envs(server.env());
    }
    let ran = command.output().expect("trunkline starts");
    let said = String::from_utf8_lossy(&ran.stderr);
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("no report: {said}"));
    assert_eq!((ran.status.code(), &report["verdict"]), (Some(0), &json!("passed")), "{report:#} {said}");
    (report, folder)
}

#[test]
fn a_chirp_run_reaches_a_bot_behind_a_chirp_door() {
    let bot = PipecatBot::start(&["scripted", "--greet", "--loopback"]);
    let (report, folder) = run(&["chirp", "--to", &format!("pipecat+http://{}/start", bot.host())], None);
    let run = &report["runs"][0];
    let call = folder.path().join("out").join(run["recording"].as_str().expect("a recording"));
    assert!(hears_the_greeting(&call), "the bot's greeting is recorded");
    let body = bot.told("heard")["body"].clone();
    assert_eq!(body["run_id"], run["run_id"].to_string(), "the run's id is the session's: {body}");
}

#[test]
fn a_livekit_v2_run_reaches_a_bot_behind_an_agent_worker_and_tells_it_the_jobs_metadata() {
    let (server, bot) = (LiveKitServer::start(), PipecatBot::start(&["scripted", "--greet", "--loopback"]));
    let out = tempfile::tempdir().expect("a folder");
    let to = format!("pipecat+http://{}/start", bot.host());
    let mut serving = trunkline(&["serve", "--to", &to, "--livekit-agent-name", "my-bot", "--out", path(out.path())]);
    serving.envs(server.env());
    let mut serving = Running::stderr_of(serving);
    serving.wait_for("the worker's registration", |line| line.starts_with("registered livekit my-bot").then_some(()));
    let (report, _folder) = run(&["livekit_v2", "--agent-name", "my-bot"], Some(&server));
    serving.wait_for("the call's end", |line| line.contains(" ended by ").then_some(()));
    serving.stop();
    let call = super::common::call_folder(out.path());
    assert!(hears_the_greeting(&call), "the bot's greeting is recorded at the worker too");
    let body = bot.told("heard")["body"].clone();
    assert_eq!(body["run_id"], report["runs"][0]["run_id"], "the job's metadata is the session's body: {body}");
    assert!(body["scenario_id"].is_number(), "{body}");
}
