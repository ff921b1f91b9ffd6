//! A run that is killed (`kill -9`) at each of its steps: afterwards `runs recover` and `history` know every run id that there is, and
//! nothing was started twice. Where the process stands is told by the server's side and by the ledger, not by a clock.

use crate::common;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use common::api::{Api, ok, page, searched};
use common::{Running, built_in_agent, path, suite, trunkline, until};
use rusqlite::{Connection, ErrorCode};
use serde_json::{Value, json};
use trunkline::ledger::Ledger;

/// The API's memory.
#[derive(Default)]
struct Memory {
    /// The names of the starts that it took.
    taken: Vec<String>,
    /// How often it told of the result.
    told: usize,
    /// The result has ended.
    ended: bool,
}

/// What the API does with a start.
#[derive(Clone, Copy, PartialEq)]
enum Start {
    Answered,
    /// Taken; the answer does not come before the test goes on.
    Held,
    /// The API fell over before it took anything.
    NotTaken,
}

/// An API with a memory, whose start the test can hold.
struct Server {
    api: Api,
    memory: Arc<Mutex<Memory>>,
    /// A start has come in.
    came: Receiver<()>,
    /// Lets it go on.
    go: Sender<()>,
}

fn result(memory: &Memory, name: &str) -> Value {
    let (status, success) = if memory.ended { ("completed", json!(true)) } else { ("in_progress", Value::Null) };
    let run = |id: u64| json!({"id": id, "status": status, "success": success, "scenario": id - 70, "scenario_name": "S"});
    let passed = if memory.ended { 2 } else { 0 };
    json!({"id": 9, "name": name, "status": status, "total_runs_count": 2, "success_runs_count": passed, "runs": [run(71), run(72)]})
}

fn server(start: Start) -> Server {
    let memory = Arc::new(Mutex::new(Memory::default()));
    let ((tell, came), (go, held)) = (channel(), channel::<()>());
    let (kept, held) = (Arc::clone(&memory), Mutex::new(held));
    let api = Api::new(move |_, (method, path, body)| {
        if method == "POST" {
            let name = body["name"].as_str().unwrap_or_default().to_owned();
            if start != Start::NotTaken {
                kept.lock().unwrap().taken.push(name.clone());
            }
            tell.send(()).unwrap();
            if start != Start::Answered {
                // The test lets go, or is over.
                held.lock().unwrap().recv().ok();
                return None;
            }
            return ok(&result(&kept.lock().unwrap(), &name));
        }
        let mut memory = kept.lock().unwrap();
        let named = memory.taken.last().cloned();
        match searched(path) {
            Some(wanted) => {
                ok(&page(&named.filter(|name| *name == wanted).map(|name| result(&memory, &name)).into_iter().collect::<Vec<_>>()))
            }
            None if path.contains("/results/?") => ok(&page(&[])),
            None => {
                memory.told += 1;
                ok(&result(&memory, &named.unwrap_or_default()))
            }
        }
    });
    Server { api, memory, came, go }
}

impl Server {
    /// A run against it, as users start one.
    fn run(&self, folder: &Path) -> Running {
        let out = folder.join("out");
        let arguments =
            ["run", "voice", "--agent-id", "1", "--scenario-ids", "1,2", "--wait", "--every-s", "0.05", "--out", path(&out)];
        Running::stderr_of(self.api.command(folder, &arguments))
    }

    fn json(&self, folder: &Path, arguments: &[&str]) -> (i32, Value) {
        let (code, out, errors) = self.api.run(folder, &[arguments, &["--format", "json"]].concat());
        (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{arguments:?}: {errors}")))
    }

    /// The API has a start and has not answered when its sender is killed.
    fn run_is_killed_in_its_request(&self, folder: &Path) {
        let mut run = self.run(folder);
        self.came.recv().unwrap();
        run.kill_9();
        self.go.send(()).unwrap();
        assert_eq!(states(folder), ["sent"]);
    }

    /// What is known afterwards: nothing is open, the history has all ids, and there was one start.
    fn all_is_known(&self, folder: &Path, recovered: usize) {
        let (code, told) = self.json(folder, &["runs", "recover"]);
        assert_eq!((code, told.as_array().unwrap().len()), (0, recovered), "{told}");
        assert!(told.as_array().unwrap().iter().all(|start| start["run_ids"] == json!([71, 72])), "{told}");
        assert_eq!(self.json(folder, &["runs", "recover"]), (0, json!([])), "nothing is open any more");
        let (_, history) = self.json(folder, &["history"]);
        let first = &history[0];
        assert_eq!(
            (&first["state"], &first["result_id"], &first["run_ids"]),
            (&"replied".into(), &9.into(), &json!([71, 72])),
            "{history}"
        );
        assert_eq!(history.as_array().unwrap().len(), 1);
        let starts = self.api.posts().into_iter().filter(|(path, _)| path.contains("/run_scenarios")).count();
        assert_eq!((starts, self.memory.lock().unwrap().taken.len()), (1, 1), "one start, always");
    }
}

fn ledger(folder: &Path) -> PathBuf {
    folder.join("ledger.sqlite")
}

/// Makes the ledger's next step of this kind never end: SQLite works on a trigger until the process is killed.
fn hold(folder: &Path, step: &str) {
    drop(Ledger::open(&ledger(folder)).unwrap());
    let connection = Connection::open(ledger(folder)).unwrap();
    let rows = vec!["(1)"; 1000].join(",");
    let sql = format!(
        "CREATE TABLE many (x); INSERT INTO many VALUES {rows};
         CREATE TRIGGER hold BEFORE {step} BEGIN SELECT count(*) FROM many a, many b, many c, many d, many e, many f; END;"
    );
    connection.execute_batch(&sql).unwrap();
}

fn release(folder: &Path) {
    Connection::open(ledger(folder)).unwrap().execute_batch("DROP TRIGGER hold").unwrap();
}

/// Whether a process is in the middle of a change.
fn is_written(folder: &Path) -> bool {
    let connection = Connection::open(ledger(folder)).unwrap();
    connection.busy_timeout(std::time::Duration::ZERO).unwrap();
    match connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
        Ok(()) => false,
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => true,
        Err(error) => panic!("{error}"),
    }
}

fn states(folder: &Path) -> Vec<&'static str> {
    Ledger::open(&ledger(folder)).unwrap().list(9).unwrap().iter().map(|start| start.state.as_str()).collect()
}

#[test]
fn before_the_intent_nothing_was_sent_and_nothing_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(Start::Answered);
    hold(folder.path(), "INSERT ON starts");
    let mut run = server.run(folder.path());
    until("that it writes", || is_written(folder.path()).then_some(()));
    run.kill_9();
    release(folder.path());
    assert_eq!(states(folder.path()), [""; 0]);
    assert_eq!(server.json(folder.path(), &["runs", "recover"]), (0, json!([])));
    assert_eq!(server.json(folder.path(), &["history"]), (0, json!([])));
    assert!(server.api.posts().is_empty());
}

#[test]
fn between_the_intent_and_the_request_nothing_was_sent_and_the_intent_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(Start::Answered);
    hold(folder.path(), "UPDATE ON starts WHEN NEW.state = 'sent'");
    let mut run = server.run(folder.path());
    until("the intent", || (is_written(folder.path()) && states(folder.path()) == ["intended"]).then_some(()));
    run.kill_9();
    release(folder.path());
    assert_eq!(states(folder.path()), ["intended"]);
    assert_eq!(server.json(folder.path(), &["runs", "recover"]), (0, json!([])), "it was surely not sent");
    assert!(server.api.posts().is_empty());
}

#[test]
fn a_request_that_the_api_did_not_take_stays_open_and_is_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(Start::NotTaken);
    server.run_is_killed_in_its_request(folder.path());
    for _ in 0..2 {
        let (code, told) = server.json(folder.path(), &["runs", "recover"]);
        assert_eq!((code, &told[0]["outcome"]), (1, &"not_found".into()), "{told}");
    }
    assert_eq!((server.api.posts().len(), states(folder.path())), (1, vec!["sent"]));
}

#[test]
fn a_start_that_was_taken_and_not_answered_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(Start::Held);
    server.run_is_killed_in_its_request(folder.path());
    server.all_is_known(folder.path(), 1);
}

#[test]
fn a_start_that_two_processes_find_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(Start::Held);
    server.memory.lock().unwrap().ended = true;
    let mut run = server.run(folder.path());
    server.came.recv().unwrap();
    let (code, told) = server.json(folder.path(), &["runs", "recover"]);
    assert_eq!((code, &told[0]["outcome"]), (0, &"found".into()), "{told}");
    // The answer never comes: the run itself looks for its result, too.
    server.go.send(()).unwrap();
    let after = run.wait_for("what the run says after its start", |line| {
        (line.contains("the ledger does not have it") || line.contains("2 of 2 runs ended")).then(|| line.to_owned())
    });
    assert!(after.contains("2 of 2 runs ended"), "{after}");
    assert_eq!(run.wait().code(), Some(0));
    server.all_is_known(folder.path(), 0);
}

#[test]
fn an_answer_that_the_ledger_does_not_have_yet_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(Start::Answered);
    hold(folder.path(), "UPDATE ON starts WHEN NEW.state = 'replied'");
    let mut run = server.run(folder.path());
    server.came.recv().unwrap();
    // The one change after the request goes out is the reply's.
    until("the reply", || (is_written(folder.path()) && states(folder.path()) == ["sent"]).then_some(()));
    run.kill_9();
    release(folder.path());
    assert_eq!(states(folder.path()), ["sent"]);
    server.all_is_known(folder.path(), 1);
}

#[test]
fn a_result_that_is_being_followed_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(Start::Answered);
    let mut run = server.run(folder.path());
    until("two looks at the result", || (server.memory.lock().unwrap().told >= 2).then_some(()));
    run.kill_9();
    server.all_is_known(folder.path(), 0);
}

#[test]
fn a_result_that_has_ended_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(Start::Answered);
    let mut run = server.run(folder.path());
    until("a look at the result", || (server.memory.lock().unwrap().told >= 1).then_some(()));
    let told = {
        let mut memory = server.memory.lock().unwrap();
        memory.ended = true;
        memory.told
    };
    until("that it is told of the end", || (server.memory.lock().unwrap().told > told).then_some(()));
    // It may be over already.
    run.kill_9();
    server.all_is_known(folder.path(), 0);
}

#[test]
fn a_run_that_is_killed_in_its_calls_is_known_and_its_recording_can_be_mended() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("echo");
    let suite = suite(folder.path(), &["Good morning. When can I see a doctor this week?", "Friday at four, please. <endcall/>"]);
    let out = folder.path().join("out");
    let start = ["run", "chirp", "--agent-id", "1", "--scenario-ids", "1", "--sandbox", "--suite", path(&suite), "--to", &agent];
    let mut command = trunkline(&[&start[..], &["--out", path(&out)]].concat());
    command.env("TRUNKLINE_LEDGER", ledger(folder.path()));
    let mut run = Running::stderr_of(command);
    run.wait_for("the call", |line| line.contains("began").then_some(()));
    until("some of the call", || {
        let calls = std::fs::read_dir(&out).ok()?.filter_map(Result::ok).map(|entry| entry.path());
        calls.filter_map(|call| std::fs::metadata(call.join("caller.wav")).ok()).find(|file| file.len() > 16_000).map(|_| ())
    });
    run.kill_9();
    // The API's memory outlives the process: another sandbox tells of it.
    let data = out.join(".sandbox");
    let sandbox = trunkline(&["sandbox", "--listen", "127.0.0.1:0", "--data", path(&data), "--suite", path(&suite)]);
    let sandbox = Running::stderr_of(sandbox);
    let url = sandbox.wait_for("its address", |line| line.strip_prefix("sandbox ")?.split(' ').next().map(str::to_owned));
    let json = |arguments: &[&str]| -> Value {
        let mut command = trunkline(&[arguments, &["--format", "json"]].concat());
        command.env("CEKURA_API_URL", &url).env("CEKURA_API_KEY", "any").env("TRUNKLINE_LEDGER", ledger(folder.path()));
        serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
    };
    assert_eq!(json(&["runs", "recover"]), json!([]));
    let (history, results) = (json(&["history"]), json(&["results", "list"]));
    assert_eq!(results.as_array().unwrap().len(), 1, "one start, always: {results}");
    let id = &results[0]["id"];
    let runs = json(&["runs", "list", "--result-id", &id.to_string()]);
    assert_eq!((&history[0]["result_id"], &history[0]["run_ids"]), (id, &json!([runs[0]["id"]])));
    let calls = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let call = calls.filter(|path| path.join("call.json").exists()).collect::<Vec<_>>().pop().expect("the call's folder");
    let mended = common::run(&["record", "repair", path(&call)]);
    assert!(mended.status.success(), "{}", String::from_utf8_lossy(&mended.stderr));
    let info: Value = serde_json::from_slice(&std::fs::read(call.join("call.json")).unwrap()).unwrap();
    assert_eq!(info["run_id"].as_str().unwrap(), runs[0]["id"].to_string(), "the recording knows its run");
    assert!(call.join("stereo.wav").exists());
}

#[test]
fn a_start_without_a_name_is_not_guessed_but_taken_when_its_user_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let now = chrono::Utc::now();
    let row = move |id: u64, minutes: i64, agent: u64, scenarios: [u64; 2]| {
        let runs = scenarios.map(|scenario| json!({"id": id * 10 + scenario, "status": "completed", "scenario": scenario}));
        let created = (now - chrono::TimeDelta::minutes(minutes)).to_rfc3339();
        json!({"id": id, "status": "completed", "agent": agent, "created_at": created, "runs": runs})
    };
    // Of another agent, of other scenarios, of an hour ago; one that may be it; and one like it that another start has.
    let rows = [row(5, 0, 2, [1, 2]), row(6, 0, 1, [1, 3]), row(7, 60, 1, [1, 2]), row(8, 0, 1, [1, 2]), row(9, 0, 1, [1, 2])];
    let api = Api::new(move |_, (method, path, body)| match path.split('/').nth_back(1).and_then(|id| id.parse::<u64>().ok()) {
        _ if method == "POST" && body["name"].is_string() => ok(&rows[4]),
        _ if method == "POST" => None,
        Some(id) => ok(rows.iter().find(|row| row["id"] == id).unwrap()),
        None => ok(&page(&rows)),
    });
    let start = ["--agent-id", "1", "--scenario-ids", "1,2", "--websocket-url", "wss://a.example"];
    assert_eq!(api.run(folder.path(), &[&["scenarios", "run-chirp"][..], &start].concat()).0, 0);
    let (code, _, errors) = api.run(folder.path(), &[&["scenarios", "run-websocket"][..], &start].concat());
    assert!(code == 3 && errors.contains("it is not known whether runs were started"), "{errors}");
    let json = |arguments: &[&str]| -> (i32, Value) {
        let (code, out, errors) = api.run(folder.path(), &[arguments, &["--format", "json"]].concat());
        (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{arguments:?}: {errors}")))
    };
    let (code, told) = json(&["runs", "recover"]);
    assert_eq!((code, &told[0]["outcome"], &told[0]["candidates"]), (1, &"cannot_be_looked_for".into(), &json!([8])), "{told}");
    let name = told[0]["name"].as_str().unwrap();
    let (code, _, errors) = api.run(folder.path(), &["runs", "recover", "--name", "another", "--result-id", "8"]);
    assert!(code == 2 && errors.contains("no open start has the name \"another\""), "{errors}");
    assert_eq!(json(&["runs", "recover", "--name", name, "--result-id", "8"]).0, 0);
    assert_eq!(json(&["runs", "recover"]), (0, json!([])));
    let (_, history) = json(&["history"]);
    assert_eq!((&history[0]["result_id"], &history[0]["run_ids"]), (&8.into(), &json!([81, 82])), "{history}");
    assert_eq!(api.posts().len(), 2);
}
