//! Chat agents that are no WebSocket: child processes with JSON lines, and servers of the OpenAI interface (`litellm` 1.106.2,
//! and one that fails in many ways), behind the chat door.

use crate::common;

use std::path::{Path, PathBuf};

use common::{PATIENCE, Running, events, path, python, trunkline};
use serde_json::{Value, json};

/// What a chat left: what the caller got, its folder, the report.
struct Chat {
    got: Value,
    folder: PathBuf,
    run: Value,
    /// What `serve -vvv` wrote.
    log: String,
    _out: tempfile::TempDir,
}

/// One chat with the agent `to` through a `trunkline serve`, with this environment.
fn chat(to: &str, config: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Chat {
    let folder = tempfile::tempdir().unwrap();
    let (out, file, log) = (folder.path().join("calls"), folder.path().join("trunkline.toml"), folder.path().join("log"));
    std::fs::write(&file, config).unwrap();
    let serve = ["-vvv", "serve", "--to", to, "--chat-listen", "127.0.0.1:0", "--out", path(&out), "--config", path(&file)];
    let mut command = trunkline(&serve);
    command.env_remove("OPENAI_API_KEY").envs(environment.iter().copied());
    let mut serve = Running::logging_to(command, &log);
    let url = format!("ws://{}/", serve.door());
    let mut all = vec![url.as_str(), "--header", "X-VOCERA-RUN-ID=7", "--header", "X-VOCERA-SCENARIO-ID=9"];
    all.extend(arguments);
    let output = python("chat_caller.py", &all).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let got = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no summary: {errors}"));
    serve.wait_for("the call's end", |line| line.contains(" ended by ").then_some(()));
    serve.stop();
    let report: Value = serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    let run = report["runs"][0].clone();
    Chat {
        got,
        folder: out.join(run["recording"].as_str().unwrap()),
        run,
        log: std::fs::read_to_string(&log).unwrap(),
        _out: folder,
    }
}

impl Chat {
    fn contents(&self) -> Vec<&str> {
        self.got["frames"].as_array().unwrap().iter().filter_map(|frame| frame["content"].as_str()).collect()
    }

    fn crash(&self) -> &str {
        let frames = self.got["frames"].as_array().unwrap();
        let told = frames.iter().find_map(|frame| frame["metadata"]["trunkline"]["agent_crashed"].as_str());
        assert!(frames.iter().all(|frame| frame["type"] != "end_call"), "a crash is no hang-up: {frames:?}");
        assert_eq!((&self.got["close_code"], &self.run["failures"][0]["kind"]), (&1011.into(), &"connection_lost".into()));
        let told = told.unwrap_or_else(|| panic!("nothing of a crash: {frames:?}"));
        assert_eq!(self.run["failures"][0]["detail"], told);
        told
    }

    fn events(&self, kind: &str) -> Vec<Value> {
        events(&self.folder).into_iter().filter(|event| event["event"] == kind).collect()
    }
}

/// A Python script as a chat agent: for each frame that comes, `text` is run with it as `frame`.
fn process(folder: &Path, text: &str) -> String {
    let file = folder.join("agent.py");
    let body = text.replace('\n', "\n    ");
    let head = "import json, os, sys\ndef say(**frame):\n    print(json.dumps(frame), flush=True)\n";
    std::fs::write(&file, format!("{head}for line in sys.stdin:\n    frame = json.loads(line)\n    {body}\n")).unwrap();
    format!("chat-process:python3 '{}'", file.display())
}

const ANSWERS: &str = "if frame.get('content'):\n    say(content='you said: ' + frame['content'])";

#[test]
fn a_process_chats_in_json_lines_and_knows_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        format!("print(os.environ.get('TRUNKLINE_RUN_ID'), os.environ.get('TRUNKLINE_RATE'), frame, file=sys.stderr)\n{ANSWERS}");
    let chat = chat(&process(folder.path(), &text), "", &[], &["--say", "Grüße ✔", "--say", "two\nlines"]);
    assert_eq!(chat.contents(), ["you said: Grüße ✔", "you said: two\nlines"]);
    assert_eq!((&chat.run["verdict"], &chat.run["run_id"]), (&"passed".into(), &7.into()));
    let log: Vec<_> = chat.events("log").into_iter().map(|event| event["line"].as_str().unwrap().to_owned()).collect();
    assert_eq!(log[0], "7 None {'content': 'Grüße ✔'}");
    assert_eq!(log[2], "7 None {'type': 'end_call'}", "it is told of the end");
}

#[test]
fn a_process_that_dies_in_a_chat_has_crashed_and_one_that_exits_with_0_has_hung_up() {
    let folder = tempfile::tempdir().unwrap();
    let crashed = chat(&process(folder.path(), "say(content='one')\nsys.exit(3)"), "", &[], &["--mode", "listen", "--say", "Hi"]);
    assert_eq!(crashed.crash(), "the process ended: exit status: 3");
    assert_eq!(crashed.contents(), ["one"]);
    let killed = chat(&process(folder.path(), "os.kill(os.getpid(), 11)"), "", &[], &["--mode", "listen", "--say", "Hi"]);
    assert!(killed.crash().contains("signal: 11"), "{}", killed.crash());
    let hung_up = chat(&process(folder.path(), "sys.exit(0)"), "", &[], &["--mode", "listen", "--say", "Hi"]);
    assert_eq!(hung_up.got["frames"], json!([{"type": "end_call"}]));
    assert_eq!((&hung_up.run["verdict"], &hung_up.run["end"]["by"]), (&"passed".into(), &"agent".into()));
    let said = chat(&process(folder.path(), "say(content='bye', type='end_call')"), "", &[], &["--mode", "listen", "--say", "Hi"]);
    assert_eq!(said.got["frames"], json!([{"content": "bye"}, {"type": "end_call"}]));
    assert_eq!(said.run["verdict"], "passed");
}

#[test]
fn a_process_that_prints_garbage_is_still_understood() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "print('Loading model...', flush=True)\nsys.stdout.buffer.write(b'\\xff\\xfe\\n\\n')\nprint('{{\"x\": 1}}')\nprint('{{' * 1100000)\n{ANSWERS}"
    );
    let chat = chat(&process(folder.path(), &text), "", &[], &["--say", "Hi"]);
    assert_eq!(chat.contents(), ["you said: Hi"]);
    let codes: Vec<_> = chat.events("fault").into_iter().map(|event| event["code"].as_str().unwrap().to_owned()).collect();
    assert_eq!(codes[..4], ["LEGACY_DIALECT", "NOT_JSON", "UNKNOWN_FRAME", "NOT_JSON"]);
}

/// A real server of the interface with a canned answer, and its address; in an environment that has no way out.
fn litellm(folder: &Path) -> (Running, String) {
    let config = folder.join("litellm.yaml");
    let model = "model_list: [{model_name: local, litellm_params: {model: openai/local, api_key: none, mock_response: Good morning to you}}]";
    std::fs::write(&config, format!("{model}\ngeneral_settings: {{master_key: sk-of-the-test}}\n")).unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pyenv-litellm/bin/litellm");
    assert!(program.exists(), "litellm is missing: run scripts/python-env (scripts/test does)");
    // Another process may take the port before it does.
    (0..5).find_map(|_| started(&program, &config, folder)).unwrap_or_else(|| {
        panic!("litellm does not come up: {}", std::fs::read_to_string(folder.join("litellm.log")).unwrap_or_default())
    })
}

/// The server at a free port; none when it has ended.
fn started(program: &Path, config: &Path, folder: &Path) -> Option<(Running, String)> {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut command = std::process::Command::new(program);
    command.args(["--config", path(config), "--host", "127.0.0.1", "--port", &port, "--telemetry", "False"]);
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").current_dir(folder);
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:9");
    }
    command.stderr(std::fs::File::create(folder.join("litellm.log")).unwrap());
    let mut running = Running::stdout_of(command);
    let begun = std::time::Instant::now();
    // It takes some ten seconds on a free machine.
    loop {
        let log = std::fs::read_to_string(folder.join("litellm.log")).unwrap_or_default();
        if log.contains("Uvicorn running on") {
            return Some((running, format!("openai:http://127.0.0.1:{port}/v1?model=local")));
        }
        if running.has_ended() {
            return None;
        }
        assert!(begun.elapsed() < PATIENCE * 3, "litellm does not come up: {log}");
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
}

#[test]
fn a_real_server_of_the_openai_interface_answers_whole_and_streamed() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, whole) = litellm(folder.path());
    let key = [("OPENAI_API_KEY", "sk-of-the-test")];
    for (to, streamed) in [(whole.clone(), false), (format!("{whole}&stream=true"), true)] {
        let chat = chat(&to, "", &key, &["--say", "Hello", "--say", "And you?"]);
        assert_eq!(chat.contents(), ["Good morning to you", "Good morning to you"]);
        assert_eq!(chat.run["verdict"], "passed", "{}", chat.run);
        let told: Vec<_> = chat.events("data").into_iter().map(|event| event["data"]["openai"].clone()).collect();
        assert_eq!(told.len(), 2);
        for told in told {
            let first = told["first_token_ms"].as_f64();
            assert_eq!(first.is_some(), streamed);
            assert!(first.unwrap_or(0.0) <= told["whole_ms"].as_f64().unwrap());
        }
        assert!(!chat.log.contains("sk-of-the-test"), "the key is in the log");
    }
    let refused = chat(&whole, "", &[("OPENAI_API_KEY", "sk-wrong-key-of-mine")], &["--mode", "listen", "--say", "Hello"]);
    assert!(refused.crash().contains("HTTP 4"), "{}", refused.crash());
    assert!(!refused.log.contains("sk-wrong-key-of-mine"), "the key is in the log");
}

/// The server that does one thing wrong.
fn faulty(mode: &str) -> (Running, String) {
    let server = Running::stdout_of(python("faulty_openai.py", &[mode]));
    let port = server.json("the port")["port"].as_u64().unwrap();
    (server, format!("openai:http://127.0.0.1:{port}/v1/?model=m"))
}

#[test]
fn a_server_that_fails_is_a_crash_of_the_agent_and_its_words_are_told() {
    for (mode, more, wanted) in [
        ("500", "", "HTTP 500: boom for …"),
        ("html", "", "the answer is not JSON"),
        ("cut", "&stream=true", "the stream was cut off before its end"),
        ("cut-body", "", "the answer broke off"),
        ("slow", "&timeout_s=0.5", "no whole answer within 0.5 s"),
        ("error-in-stream", "&stream=true", "it reports: overloaded"),
        ("html", "&stream=true", "the stream was cut off before its end"),
    ] {
        let (_server, to) = faulty(mode);
        let environment = [("OPENAI_API_KEY", "sk-secret-of-mine")];
        let chat = chat(&format!("{to}{more}"), "", &environment, &["--mode", "listen", "--say", "Hello"]);
        assert!(chat.crash().contains(wanted), "{mode}: {}", chat.crash());
        assert!(chat.contents().is_empty(), "half an answer is none");
        assert!(
            !chat.log.contains("sk-secret-of-mine") && !chat.run.to_string().contains("sk-secret-of-mine"),
            "{mode}: {}",
            chat.log
        );
    }
    let chat = chat("openai:http://127.0.0.1:1/v1?model=m", "", &[], &["--mode", "listen", "--say", "Hello"]);
    assert!(chat.crash().contains("refused"), "{}", chat.crash());
}

#[test]
fn the_history_goes_along_and_the_agent_is_asked_for_the_first_word() {
    let (_server, to) = faulty("history");
    let to = format!("{to}&system=Be%20brief");
    let config = "[doors.chat]\nagent_speaks_first = true\n";
    let chat = chat(&to, config, &[("OPENAI_API_KEY", "sk-of-the-test")], &["--agent-first", "--say", "Hello"]);
    let seen: Vec<Value> = chat.contents().iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let system = json!({"role": "system", "content": "Be brief"});
    assert_eq!(seen[0], json!(["sk-of-the-test", "m", false, [system]]));
    let first = json!({"role": "assistant", "content": chat.contents()[0]});
    assert_eq!(seen[1][3], json!([system, first, {"role": "user", "content": "Hello"}]));
}

#[test]
fn what_the_caller_says_twice_in_a_row_keeps_its_place_in_the_history() {
    let seen = |mode: &str| -> (Vec<Value>, Vec<Value>) {
        let (_server, to) = faulty(mode);
        let chat = chat(&to, "", &[], &["--mode", "burst", "--say", "one", "--say", "and two"]);
        let contents: Vec<Value> = chat.contents().into_iter().map(Value::from).collect();
        let last: Value = serde_json::from_str(chat.contents().last().unwrap()).unwrap();
        (contents, last[3].as_array().unwrap().clone())
    };
    let said = |text: &str| json!({"role": "user", "content": text});
    let (answers, history) = seen("slow-history");
    match &answers[..] {
        [first, _] => assert_eq!(history, [said("one"), json!({"role": "assistant", "content": first}), said("and two")]),
        // Both had come before the first request.
        _ => assert_eq!(history, [said("one"), said("and two")]),
    }
    let (_, history) = seen("empty-first");
    assert_eq!(history, [said("one"), said("and two")], "an empty answer is no message");
}

#[test]
fn a_stream_that_is_done_is_not_waited_on() {
    let (_server, to) = faulty("done-open");
    let chat = chat(&format!("{to}&stream=true"), "", &[], &["--say", "Hi"]);
    assert_eq!((chat.contents(), &chat.run["verdict"]), (vec!["Hello"], &"passed".into()));
}

#[test]
fn a_model_is_asked_for_the_first_word_of_a_scripted_chat_whose_first_message_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, to) = faulty("history");
    let (suite, out) = (common::suite(folder.path(), &["", "Thank you, goodbye. <endcall/>"]), folder.path().join("out"));
    let to = format!("{to}&system=Be%20brief");
    let output = common::run(&["call", "--to", &to, "--suite", path(&suite), "--out", path(&out), "--format", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["verdict"]), (Some(0), &"passed".into()), "{report}");
    let texts: Vec<_> = events(&common::call_folder(&out)).into_iter().filter(|event| event["event"] == "text").collect();
    assert_eq!((&texts[0]["side"], &texts[1]["side"]), (&"agent".into(), &"caller".into()));
}

#[test]
fn a_process_that_floods_its_log_is_heard_and_ends() {
    let answers = r#"yes >&2 & while read line; do echo "{\"content\": \"yes?\"}"; done"#;
    let to = format!("chat-process:sh -c '{answers}'");
    let chat = chat(&to, "", &[], &["--say", "Hi"]);
    assert_eq!((chat.contents()[0], &chat.run["verdict"]), ("yes?", &"passed".into()));
    // Each second keeps a thousand lines, and one that counts the others.
    let log = chat.events("log");
    let seconds = log.last().expect("a log")["at_ms"].as_f64().unwrap() / 1000.0;
    assert!(log.len() >= 1000 && (log.len() as f64) <= 1001.0 * (seconds + 2.0), "{} lines in {seconds} s", log.len());
}

#[test]
fn a_process_that_closes_its_stdout_and_then_fails_has_crashed() {
    // It fails only when it is asked to end, for it has no voice any more.
    let to = "chat-process:sh -c 'read line; exec >&-; while read line; do :; done; exit 3'";
    let crashed = chat(to, "", &[], &["--mode", "listen", "--say", "Hi"]);
    assert_eq!(crashed.crash(), "the process ended: exit status: 3");
}

#[test]
fn function_calls_of_a_model_are_told_and_an_empty_answer_is_a_fault() {
    let (_server, to) = faulty("tools-streamed");
    let streamed = chat(&format!("{to}&stream=true"), "", &[], &["--say", "Hello"]);
    let call = json!({"role": "Function Call", "data": {"id": "c1", "name": "book", "arguments": "{\"at\": \"9:00\"}"}});
    assert_eq!(streamed.got["frames"], json!([call, {"content": "Vergnügen ✔"}]));
    let (_server, to) = faulty("tools");
    let called = chat(&to, "", &[], &["--mode", "results", "--say", "Hello"]);
    let result = r#"{"role": "tool", "tool_call_id": "c1", "content": "{\"booked\":true}"}"#;
    assert_eq!(called.contents()[0].strip_prefix("after ").map(|text| serde_json::from_str(text).unwrap()), {
        let result: Value = serde_json::from_str(result).unwrap();
        Some(result)
    });
    let skipped = chat(&to, "", &[], &["--mode", "skip", "--say", "Hello", "--say", "Well?"]);
    assert!(skipped.contents()[0].contains("Well?"), "what is said next goes on without a result");
    let (_server, to) = faulty("nothing");
    let config = "[doors.chat]\nidle_s = 15\n";
    let empty = chat(&to, config, &[], &["--mode", "listen", "--say", "Hello"]);
    assert_eq!(empty.events("fault")[0]["code"], "EMPTY_ANSWER");
    assert_eq!(empty.run["failures"][0]["kind"], "agent_silent");
}

#[test]
fn addresses_that_make_no_sense_are_refused_without_repeating_a_key() {
    for (to, said) in [
        ("openai:http://127.0.0.1:1/v1", "model=NAME is missing"),
        ("openai:http://127.0.0.1:1/v1?model=m&stream=maybe", "stream is true or false"),
        ("openai:http://127.0.0.1:1/v1?model=m&temperature=1", "unknown setting \"temperature\""),
        ("openai:http://127.0.0.1:1/v1?model=m&api_key=sk-mine", "set OPENAI_API_KEY"),
        ("openai:http://me:sk-mine@127.0.0.1:1/v1?model=m", "set OPENAI_API_KEY"),
        ("openai:ftp://127.0.0.1/", "use openai:http://HOST:PORT/v1?model=NAME"),
        ("openai:http://127.0.0.1:1/v1?model=m&timeout_s=0", "is no time"),
        ("chat://me:sk-mine@127.0.0.1:1/", "set TRUNKLINE_CHAT_SECRET"),
        ("chat-process:", "the command is missing"),
        ("openai:me:sk-mine@127.0.0.1:1", "use openai:http://HOST:PORT/v1?model=NAME"),
        ("chat://me:sk-mine@[x", "invalid IPv6 address"),
        ("ws://me:sk-mine@127.0.0.1:1/", "say which protocol the WebSocket speaks"),
        ("me:sk-mine@127.0.0.1:1/", "use chirp://HOST:PORT/PATH"),
        ("sk-mine@127.0.0.1", "use chirp://HOST:PORT/PATH"),
        ("chat-process:agent http://me:sk-mine@h '", "a quote in the command is not closed"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("trunkline.toml"), format!("[agent]\nto = {to:?}\n")).unwrap();
        let flag = common::run(&["serve", "--to", to]);
        let variable = trunkline(&["serve"]).env("TRUNKLINE_AGENT", to).output().unwrap();
        let file = trunkline(&["serve"]).current_dir(folder.path()).output().unwrap();
        for output in [flag, variable, file] {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{to}: {errors}");
            assert!(errors.contains(said), "{to}: {errors}");
            assert!(!errors.contains("sk-mine"), "{to}: {errors}");
        }
    }
    // Where no address belongs, and where help tells of the variables.
    let misplaced = common::run(&["serve", "chat://me:sk-mine@127.0.0.1:1/"]);
    assert_eq!(misplaced.status.code(), Some(2));
    let help = trunkline(&["serve", "--help"]).env("TRUNKLINE_AGENT", "chat://127.0.0.1/?token=sk-mine").output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    for said in [misplaced.stdout, misplaced.stderr, help.stdout, help.stderr] {
        assert!(!String::from_utf8_lossy(&said).contains("sk-mine"), "{}", String::from_utf8_lossy(&said));
    }
}
