//! The commands of Cekura's own guide (docs.cekura.ai, "CLI & SDK"), most of which its package 1.6.7 does not have, word for word:
//! `cekura` on the path is Trunkline.

use crate::common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use common::api::{Api, ok, page};
use common::{Running, built_in_agent, path, suite, trunkline};
use serde_json::{Value, json};
use trunkline::cekura::Mode;

/// Runs a script of the guide's in a real bash.
fn bash(folder: &Path, url: &str, script: &str) -> Output {
    let link = folder.join("bin").join("cekura");
    if !link.exists() {
        fs::create_dir_all(folder.join("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_trunkline"), &link).unwrap();
    }
    let mut command = Command::new("bash");
    let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap());
    command.args(["-euo", "pipefail", "-c", script]).current_dir(folder).env("PATH", path);
    command.env("CEKURA_API_URL", url).env("CEKURA_API_KEY", "any").env("TRUNKLINE_LEDGER", folder.join("ledger.sqlite"));
    command.output().expect("bash starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The guide's loop, "Poll status".
const LOOP: &str = r#"
while true; do
  STATUSES=$(cekura runs list --result-id "$RESULT_ID" --format json | jq -r '.[].status' | sort -u)
  [[ "$STATUSES" =~ pending|running ]] || break
  sleep 5
done
"#;

#[test]
fn the_guides_loop_waits_for_the_runs_of_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let suite = suite(folder.path(), &["", "Thank you, goodbye. <endcall/>"]);
    let data = folder.path().join("data");
    let sandbox = trunkline(&["sandbox", "--listen", "127.0.0.1:0", "--data", path(&data), "--suite", path(&suite)]);
    let sandbox = Running::stderr_of(sandbox);
    let url = sandbox.wait_for("its address", |line| line.strip_prefix("sandbox ")?.split(' ').next().map(str::to_owned));
    let start = format!(
        "cekura scenarios run-chirp \\\n  --agent-id 123 \\\n  --scenario-ids 1 --websocket-url {} > start.json\n",
        agent.replace("chirp:", "ws:")
    );
    let script = format!("{start}RESULT_ID=$(jq -r .result_id start.json){LOOP}echo \"$RESULT_ID:$STATUSES\"");
    let output = bash(folder.path(), &url, &script);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let started: Value = serde_json::from_slice(&fs::read(folder.path().join("start.json")).unwrap()).unwrap();
    let said = text(&output.stdout);
    let (id, statuses) = said.trim().split_once(':').unwrap();
    assert_eq!(id, started["id"].to_string());
    assert_eq!((&started["result_id"], &started["run_ids"]), (&started["id"], &json!([started["runs"][0]["id"]])));
    // The loop does not know the API's `in_progress`: it may end with the call under way, never before.
    assert!(["in_progress", "evaluating", "completed"].contains(&statuses), "{statuses}");
}

#[test]
fn the_guides_loop_goes_on_until_no_run_is_pending_or_running() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::new(|number, _| {
        let status = |at: usize| ["pending", "completed"][usize::from(number > at)];
        let run = |id: u64, status: &str| json!({"id": id, "status": status});
        ok(&page(&[run(71, status(0)), run(72, status(1))]))
    });
    let output = bash(folder.path(), &api.url, &format!("RESULT_ID=9{LOOP}echo \"$STATUSES\""));
    assert_eq!(text(&output.stdout), "completed\n", "{}", text(&output.stderr));
    assert_eq!(api.asked().len(), 2, "it looked until both had ended");
}

#[test]
fn each_mode_has_its_command_which_prints_the_start_with_its_ids() {
    let bodies = [
        (Mode::Voice, "run-voice"),
        (Mode::Text, "run-text"),
        (Mode::Chirp, "run-chirp"),
        (Mode::Websocket, "run-websocket"),
        (Mode::Livekit, "run-livekit"),
        (Mode::LivekitV2, "run-livekit-v2"),
        (Mode::LivekitChat, "run-livekit-chat"),
        (Mode::Pipecat, "run-pipecat"),
        (Mode::PipecatV2, "run-pipecat-v2"),
        (Mode::Sip, "run-sip"),
        (Mode::VapiWebrtc, "run-vapi"),
        (Mode::RetellWebrtc, "run-retell"),
        (Mode::Elevenlabs, "run-elevenlabs"),
        (Mode::ApiChat, "run-api-chat"),
        (Mode::Spec, "run-spec"),
    ];
    assert_eq!(bodies.map(|(mode, _)| mode), Mode::ALL, "no mode is left out");
    let folder = tempfile::tempdir().unwrap();
    let suite = suite(folder.path(), &["", "Thank you, goodbye. <endcall/>"]);
    let runs = json!([{"id": 71, "status": "pending", "scenario": 1}, {"id": 72, "status": "pending", "scenario": 2}]);
    let api = Api::new(move |_, _| ok(&json!({"id": 9, "agent": 123, "status": "in_progress", "runs": runs})));
    for (mode, command) in bodies {
        let flags = match mode {
            Mode::Websocket => "--agent-id 123 --scenario-ids 1,2 --websocket-url wss://a.example/".to_owned(),
            Mode::Livekit | Mode::LivekitChat => "--scenario-ids 1,2 --room-url wss://lk.example --room one".to_owned(),
            Mode::Pipecat => "--scenario-ids 1,2 --room-url https://r.example/1".to_owned(),
            Mode::Spec => format!("--suite {} --agent-id 123 --channel text", suite.display()),
            _ => "--agent-id 123 --scenario-ids 1,2".to_owned(),
        };
        let run = |words: &[&str]| {
            let arguments: Vec<&str> = words.iter().copied().chain(flags.split(' ')).collect();
            let mut command = api.command(folder.path(), &arguments);
            command.env("LIVEKIT_API_KEY", "devkey").env("LIVEKIT_API_SECRET", "secret").output().unwrap()
        };
        // By flags, and by the file that `payload` makes of the same flags: the same body.
        let output = run(&["scenarios", command]);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
        assert_eq!((&answer["result_id"], &answer["run_ids"], &answer["id"]), (&9.into(), &json!([71, 72]), &9.into()), "{mode}");
        let file = folder.path().join("run.json");
        fs::write(&file, run(&["payload", mode.name()]).stdout).unwrap();
        let (code, out, errors) = api.run(folder.path(), &["scenarios", command, "--from-file", path(&file)]);
        assert!(code == 0 && out == text(&output.stdout), "{mode}: {errors}");
        let output = run(&["run", mode.name(), "--format", "json", "--out", path(folder.path())]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
        assert_eq!((&report["result_id"], &report["run_ids"]), (&9.into(), &json!([71, 72])), "run {mode}");
    }
    let posts = api.posts();
    assert_eq!(posts.len(), 3 * bodies.len());
    for (three, (mode, _)) in posts.chunks(3).zip(bodies) {
        let bodies = three.iter().map(|(called, body)| {
            assert_eq!(called, &format!("/test_framework/v1/scenarios/{}/", mode.endpoint()));
            let mut body = body.clone();
            body["name"] = Value::Null;
            for entry in body["scenarios"].as_array_mut().into_iter().flatten() {
                entry.get_mut("access_token").into_iter().for_each(|token| *token = Value::Null);
            }
            body
        });
        let bodies: Vec<_> = bodies.collect();
        assert!(bodies[0] == bodies[1] && bodies[1] == bodies[2], "{mode}: {bodies:?}");
    }
    // What the table of modes says of the sandbox is what the sandbox and `run` do.
    assert!(Mode::ALL.into_iter().all(|mode| mode.support().sandbox == trunkline::sandbox::Sandbox::carries_out(mode)));
    for (mode, _) in bodies.iter().filter(|(mode, _)| !mode.support().sandbox) {
        let (code, _, errors) =
            api.run(folder.path(), &["run", mode.name(), "--agent-id", "1", "--scenario-ids", "1", "--sandbox"]);
        assert!(
            code == 2 && errors.contains("the sandbox carries out ") && errors.contains(&format!("not {mode} ")),
            "{mode}: {errors}"
        );
    }
    // Flags beside a file are not mixed into it.
    let file = folder.path().join("run.json");
    for arguments in [&["run", "text", "--name", "x"][..], &["scenarios", "run-text", "--frequency", "2"]] {
        let (code, _, errors) = api.run(folder.path(), &[arguments, &["--from-file", path(&file)]].concat());
        assert!(code == 2 && errors.contains("from --from-file or from flags, not both"), "{errors}");
    }
    assert_eq!(api.posts().len(), posts.len());
}

#[test]
fn rerun_with_metrics_scores_anew_and_without_them_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::new(|_, _| ok(&json!({"id": 987, "status": "completed", "runs": {"7": {"id": 7, "status": "completed"}}})));
    let output = bash(folder.path(), &api.url, "cekura run rerun 987 --metric-ids 55,56");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let body = json!({"run_ids": ["7"], "metric_ids": ["55", "56"]});
    assert_eq!(api.posts(), [("/test_framework/v1/results/987/evaluate_metrics/".to_owned(), body)], "nothing is executed again");
    let (code, _, errors) = api.run(folder.path(), &["run", "rerun", "987"]);
    assert!(code == 2 && errors.contains("trunkline results rerun 987"), "{errors}");
    assert_eq!(api.posts().len(), 1);
}

#[test]
fn the_guides_other_commands_about_runs_and_test_sets_work() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::new(|_, (_, path, _)| {
        let run = json!({"id": 5544, "status": "completed", "success": true});
        ok(&match path.as_str() {
            path if path.contains("/runs/bulk/") => json!([run]),
            path if path.contains("/runs/?") => page(&[run]),
            path if path.contains("get_listen_url") => json!({"listen_url": "https://listen.example"}),
            _ => run,
        })
    });
    let script = "cekura runs get 5544
cekura runs list --agent-id 123
cekura runs listen-url 5544
cekura runs end-call 5544
cekura test-sets create-from-run --run-id 5544 --name \"regression-2024-04\"
cekura runs bulk --ids 5544,5545 --format json | jq -r '.[].id'";
    let output = bash(folder.path(), &api.url, script);
    assert!(output.status.success() && text(&output.stdout).ends_with("5544\n"), "{}", text(&output.stderr));
    let asked: Vec<_> = api.asked().into_iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    let expected = [
        "GET /test_framework/v1/runs/5544/",
        "GET /test_framework/v1/runs/?agent_id=123&page=1&page_size=100",
        "GET /test_framework/v1/runs/5544/get_listen_url/",
        "POST /test_framework/v1/runs/5544/end_call/",
        "POST /test_framework/test-sets/create_from_run/",
        "GET /test_framework/v1/runs/bulk/?run_ids=5544%2C5545",
    ];
    assert_eq!(asked, expected);
    assert_eq!(api.posts()[1].1, json!({"run_id": 5544, "metrics": [], "name": "regression-2024-04"}));
    // What the guide has and the API has not is told, not dropped.
    let values = ["--dynamic-variables", "{\"customer_name\":\"Alex\"}"];
    let (code, _, errors) =
        api.run(folder.path(), &[&["scenarios", "run-text", "--agent-id", "123", "--scenario-ids", "101"][..], &values].concat());
    assert!(code == 2 && errors.contains("--test-profile-ids"), "{errors}");
    assert_eq!(api.asked().len(), expected.len());
}
