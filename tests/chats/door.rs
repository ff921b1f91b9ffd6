//! The chat door against an independent caller in Python (`websockets` 17.4), with an agent of the same kind or a process
//! behind it.

use crate::common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use common::chat::{chat_agent, chat_caller as caller, chat_door as serve, contents, recorded};
use common::{Running, call_folder, events, path, python, run, trunkline, until};
use serde_json::{Value, json};

/// The report that `serve` writes when it is stopped.
fn report(mut serve: Running, out: &Path) -> Value {
    serve.interrupt();
    assert!(serve.wait().success());
    serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap()
}

#[test]
fn a_chat_passes_from_caller_to_agent_and_back_and_is_recorded_with_its_run() {
    let out = tempfile::tempdir().unwrap();
    let (agent, to) = chat_agent("echo", &[]);
    let (serve, door) = serve(&to, out.path(), "");
    let ids = ["--header", "X-VOCERA-RUN-ID=7", "--header", "X-VOCERA-RESULT-ID=8", "--header", "x-vocera-scenario-id=9"];
    let mut arguments = vec!["--say", "Hello", "--say", "Do you have a table for two? ✔"];
    arguments.extend(ids);
    let got = caller(&door, &arguments);
    assert_eq!(contents(&got), ["you said: Hello", "you said: Do you have a table for two? ✔"]);
    assert_eq!(got["close_code"], 1000);
    let seen = agent.json("the agent's summary");
    assert_eq!(seen["path"], "/agent");
    for (name, id) in [("X-VOCERA-RUN-ID", "7"), ("X-VOCERA-RESULT-ID", "8"), ("X-VOCERA-SCENARIO-ID", "9")] {
        let header = seen["headers"].as_object().unwrap().iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        assert_eq!(header.map(|(_, value)| value), Some(&id.into()), "{name} is passed on");
    }
    let frames = seen["frames"].as_array().unwrap();
    assert_eq!(frames[..2], [json!({"content": "Hello"}), json!({"content": "Do you have a table for two? ✔"})]);
    assert_eq!(frames[2], json!({"type": "end_call"}), "the agent is told of the end");
    let (folder, info) = recorded(out.path());
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, ["call.json", "events.jsonl", "transcript.json"], "a chat has no audio");
    assert_eq!((&info["run_id"], &info["result_id"], &info["scenario_id"]), (&"7".into(), &"8".into(), &"9".into()));
    assert_eq!(info["end"], json!({"by": "caller", "reason": "hung_up"}));
    let transcript: Value = serde_json::from_slice(&std::fs::read(folder.join("transcript.json")).unwrap()).unwrap();
    let lines: Vec<_> = transcript.as_array().unwrap().iter().map(|line| (&line["role"], &line["content"])).collect();
    let (theirs, ours) = (Value::from("Testing Agent"), Value::from("Main Agent"));
    let said =
        ["Hello", "you said: Hello", "Do you have a table for two? ✔", "you said: Do you have a table for two? ✔"].map(Value::from);
    assert_eq!(lines, [(&theirs, &said[0]), (&ours, &said[1]), (&theirs, &said[2]), (&ours, &said[3])]);
    let measured = run(&["measure", path(&folder), "--format", "json"]);
    let measures: Value = serde_json::from_slice(&measured.stdout).unwrap();
    let answers = measures["response_latency"]["answers"].as_array().unwrap();
    assert_eq!((measures["turns"].as_array().unwrap().len(), answers.len()), (4, 2));
    let times: Vec<f64> = events(&folder).iter().filter(|e| e["event"] == "text").map(|e| e["at_ms"].as_f64().unwrap()).collect();
    assert!((answers[1]["latency_ms"].as_f64().unwrap() - (times[3] - times[2])).abs() < 0.01, "{answers:?} {times:?}");
    let report = report(serve, out.path());
    let junit = std::fs::read_to_string(out.path().join("junit.xml")).unwrap();
    assert!(junit.contains("classname=\"trunkline.serve\"") && junit.contains("value=\"7\""), "{junit}");
    let shown = run(&["measure", path(&folder)]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("agent messages"), "the table is for chats too");
    assert_eq!((&report["verdict"], &report["runs"][0]["run_id"]), (&"passed".into(), &7.into()));
    assert_eq!(report["runs"][0]["measures"]["chat"]["agent_messages"]["value"], 2.0);
}

#[test]
fn what_the_caller_says_before_the_agent_answers_is_not_lost() {
    let out = tempfile::tempdir().unwrap();
    let (_agent, to) = chat_agent("echo", &["--delay", "1.5"]);
    let (_serve, door) = serve(&to, out.path(), "");
    let got = caller(&door, &["--say", "Hello"]);
    assert_eq!(contents(&got), ["you said: Hello"]);
}

#[test]
fn a_chat_passes_two_doors_of_which_one_is_encrypted() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("door.pem"), folder.path().join("door.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (_agent, to) = chat_agent("echo", &[]);
    let config = format!("[doors.chat]\ncertificate = {:?}\nkey = {:?}\n", path(&certificate), path(&key));
    let (_inner, door) = serve(&to, &folder.path().join("inner"), &config);
    let to = format!("chats://localhost:{}/", door.rsplit(':').next().unwrap());
    let out = folder.path().join("outer");
    let arguments = ["-v", "serve", "--to", &to, "--chat-listen", "127.0.0.1:0", "--out", path(&out)];
    for trusted in [true, false] {
        let mut command = trunkline(&arguments);
        command.env_remove("SSL_CERT_DIR").env_remove("SSL_CERT_FILE");
        if trusted {
            command.env("SSL_CERT_FILE", &certificate);
        }
        let outer = Running::stderr_of(command);
        let door =
            outer.wait_for("the door's address", |line| line.strip_prefix("listening chat ")?.split(' ').next().map(str::to_owned));
        let got = caller(&door, &["--mode", if trusted { "talk" } else { "listen" }, "--say", "Hello"]);
        assert_eq!(contents(&got).contains(&"you said: Hello"), trusted, "{got}");
        if !trusted {
            outer.wait_for("what is wrong", |line| line.contains("its certificate is not trusted").then_some(()));
        }
    }
}

#[test]
fn either_side_may_speak_first() {
    let out = tempfile::tempdir().unwrap();
    let (_agent, to) = chat_agent("greet", &[]);
    let (_serve, door) = serve(&to, out.path(), "[doors.chat]\nagent_speaks_first = true\n");
    let got = caller(&door, &["--agent-first", "--say", "A table, please"]);
    assert_eq!(contents(&got), ["Hello, how can I help?", "you said: A table, please"]);
}

#[test]
fn function_calls_keep_their_arguments_as_they_came_and_metadata_goes_alone_too() {
    let out = tempfile::tempdir().unwrap();
    let (_agent, to) = chat_agent("tools", &[]);
    let (_serve, door) = serve(&to, out.path(), "");
    let got = caller(&door, &["--say", "Two people"]);
    let wanted = json!([
        {"role": "Function Call", "data": {"id": "call-1", "name": "look_up", "arguments": "{\"day\": \"Monday\"}"}},
        {"role": "Function Call Result", "data": {"id": "call-1", "result": {"free": ["9:00"]}}},
        {"role": "Function Call", "data": {"id": "call-2", "name": "book", "arguments": {"at": "9:00", "party": 2}}},
        {"role": "Function Call Result", "data": {"id": "call-2", "result": "booked"}},
        {"metadata": {"stage": "booking"}},
        {"content": "Booked for nine: Two people"},
        {"metadata": {"stage": "done", "nested": {"a": [1]}}},
    ]);
    assert_eq!(got["frames"], wanted);
    let (folder, _) = recorded(out.path());
    let transcript: Value = serde_json::from_slice(&std::fs::read(folder.join("transcript.json")).unwrap()).unwrap();
    let roles: Vec<_> = transcript.as_array().unwrap().iter().map(|line| line["role"].as_str().unwrap()).collect();
    let (call, result) = ("Function Call", "Function Call Result");
    assert_eq!(roles, ["Testing Agent", call, result, call, result, "Main Agent"]);
    assert_eq!(transcript[3]["data"], wanted[2]["data"]);
    let metadata: Vec<_> = events(&folder).into_iter().filter(|event| event["event"] == "metadata").collect();
    assert_eq!(metadata.len(), 2);
}

#[test]
fn both_sides_may_end_a_session_with_or_without_words() {
    let out = tempfile::tempdir().unwrap();
    let (_agent, to) = chat_agent("hang_up", &[]);
    let (_serve, door) = serve(&to, out.path(), "");
    let got = caller(&door, &["--mode", "listen", "--say", "Hello"]);
    assert_eq!(got["frames"], json!([{"content": "Goodbye: Hello"}, {"type": "end_call"}]));
    assert_eq!(got["close_code"], 1000);
    let (_, info) = recorded(out.path());
    assert_eq!(info["end"], json!({"by": "agent", "reason": "hung_up"}));
    let out = tempfile::tempdir().unwrap();
    let (agent, to) = chat_agent("echo", &[]);
    let (_serve, door) = self::serve(&to, out.path(), "");
    let got = caller(&door, &["--mode", "goodbye", "--say", "Hello"]);
    assert_eq!(got["close_code"], 1000);
    let frames = agent.json("the agent's summary");
    let said: Vec<_> = frames["frames"].as_array().unwrap().iter().map(|frame| frame["content"].as_str().unwrap_or("-")).collect();
    assert_eq!(said, ["Hello", "bye from the caller", "-"], "the last words are heard");
    let (_, info) = recorded(out.path());
    assert_eq!(info["end"]["by"], "caller");
}

#[test]
fn an_agent_that_just_closes_has_hung_up_and_one_that_breaks_has_crashed() {
    for (mode, reason, detail) in
        [("close", "hung_up", ""), ("crash", "connection_lost", "out of memory"), ("vanish", "connection_lost", "broke off")]
    {
        let out = tempfile::tempdir().unwrap();
        let (_agent, to) = chat_agent(mode, &[]);
        let (serve, door) = serve(&to, out.path(), "");
        let got = caller(&door, &["--mode", "listen", "--say", "Hello"]);
        let (_, info) = recorded(out.path());
        assert_eq!((&info["end"]["by"], &info["end"]["reason"]), (&"agent".into(), &reason.into()), "{mode}");
        if reason == "hung_up" {
            assert_eq!((&got["frames"], &got["close_code"]), (&json!([{"type": "end_call"}]), &1000.into()));
            continue;
        }
        let said = got["frames"][0]["metadata"]["trunkline"]["agent_crashed"].as_str().unwrap();
        assert!(said.contains(detail), "{mode}: {said}");
        assert_eq!((got["frames"].as_array().unwrap().len(), &got["close_code"]), (1, &1011.into()), "no end_call");
        let report = report(serve, out.path());
        assert_eq!(report["runs"][0]["failures"][0]["kind"], "connection_lost");
    }
}

#[test]
fn an_agent_that_answers_no_ping_has_crashed() {
    let out = tempfile::tempdir().unwrap();
    let (_agent, to) = chat_agent("deaf", &[]);
    let (_serve, door) = serve(&to, out.path(), "");
    let got = caller(&door, &["--mode", "listen", "--say", "Hello"]);
    assert_eq!(got["frames"][1]["metadata"]["trunkline"]["agent_crashed"], "a ping was not answered within 10 s");
    assert!(got["closed_after"].as_f64().unwrap() >= 40.0, "the first ping goes out after 30 s");
}

#[test]
fn a_caller_that_breaks_off_is_no_fault_of_the_agent() {
    let out = tempfile::tempdir().unwrap();
    let (agent, to) = chat_agent("echo", &[]);
    let (serve, door) = serve(&to, out.path(), "");
    caller(&door, &["--mode", "vanish", "--say", "Hello"]);
    let frames = agent.json("the agent's summary");
    assert_eq!(frames["frames"].as_array().unwrap().last().unwrap(), &json!({"type": "end_call"}));
    recorded(out.path());
    let report = report(serve, out.path());
    assert_eq!((&report["runs"][0]["failures"][0]["kind"], &report["verdict"]), (&"caller_lost".into(), &"void".into()));
}

/// An agent that takes a connection and never answers it: its address.
fn agent_that_never_answers() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("chat://{}/", listener.local_addr().unwrap());
    (listener, to)
}

#[test]
fn a_caller_that_leaves_before_the_agent_answers_has_tested_nothing() {
    let out = tempfile::tempdir().unwrap();
    let (_agent, to) = agent_that_never_answers();
    let (serve, door) = serve(&to, out.path(), "");
    assert_eq!(caller(&door, &["--mode", "ping"])["close_code"], 1000);
    serve.wait_for("the call's end", |line| line.contains(" ended by caller").then_some(()));
    let report = report(serve, out.path());
    let failure = &report["runs"][0]["failures"][0];
    assert_eq!((&report["verdict"], &failure["kind"]), (&"void".into(), &"caller_lost".into()), "{report}");
    assert!(failure["detail"].as_str().unwrap().contains("left before the agent answered"), "{failure}");
}

#[test]
fn a_serve_that_is_stopped_does_not_wait_for_an_agent_that_has_not_answered() {
    let out = tempfile::tempdir().unwrap();
    let (agent, to) = agent_that_never_answers();
    let (mut serve, door) = serve(&to, out.path(), "");
    let caller = Running::stdout_of(python("chat_caller.py", &[&format!("ws://{door}/"), "--mode", "listen"]));
    // The dial is under way.
    let _connection = agent.accept().unwrap();
    serve.interrupt();
    assert!(serve.wait().success());
    assert_eq!(caller.json("its summary")["close_code"], 1000);
    let report: Value = serde_json::from_slice(&std::fs::read(out.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(report["runs"][0]["end"]["reason"], "cancelled", "{report}");
}

#[test]
fn frames_that_mean_nothing_are_faults_and_the_chat_goes_on() {
    let out = tempfile::tempdir().unwrap();
    let (_agent, to) = chat_agent("odd", &[]);
    let (_serve, door) = serve(&to, out.path(), "");
    let bad = [r#"{"content": "#, "Hello there", r#"{"type": "response", "response": "x"}"#, r#"{"x": 1}"#, r#"{"content": "  "}"#];
    let mut arguments = vec!["--mode", "raw"];
    bad.iter().for_each(|text| arguments.extend(["--say", text]));
    let got = caller(&door, &arguments);
    assert_eq!(contents(&got), ["you said: still there?"]);
    let (folder, _) = recorded(out.path());
    let codes = |side: &str| -> Vec<String> {
        let of_side = events(&folder).into_iter().filter(|event| event["event"] == "fault" && event["side"] == side);
        of_side.map(|event| event["code"].as_str().unwrap().to_owned()).collect()
    };
    let (json, legacy, unknown, field) = ("NOT_JSON", "LEGACY_DIALECT", "UNKNOWN_FRAME", "BAD_FIELD");
    assert_eq!(codes("caller"), [json, legacy, legacy, unknown, unknown]);
    assert_eq!(codes("agent"), [legacy, json, legacy, legacy, unknown, field, field, unknown]);
}

#[test]
fn a_message_that_is_too_long_closes_with_1009_and_pings_are_answered() {
    let out = tempfile::tempdir().unwrap();
    let (_agent, to) = chat_agent("echo", &[]);
    let (_serve, door) = serve(&to, out.path(), "[doors.chat]\nmax_message = 100000\nmax_calls = 1\n");
    let got = caller(&door, &["--mode", "huge"]);
    assert_eq!(got["close_code"], 1009);
    let mut staying =
        Running::until_told(python("chat_caller.py", &[&format!("ws://{door}/"), "--mode", "stay", "--say", "Hello"]));
    assert_eq!(staying.json("that it has spoken")["said"], true);
    let second = caller(&door, &["--mode", "listen"]);
    assert_eq!((&second["close_code"], &second["close_reason"]), (&1008.into(), &"all 1 calls are taken".into()));
    staying.tell();
    staying.json("its summary");
    let pinged = until("a free place", || {
        let got = caller(&door, &["--mode", "ping"]);
        got.get("pong_after").is_some().then_some(got)
    });
    assert_eq!(pinged["close_code"], 1000);
}

#[test]
fn a_session_in_which_nobody_says_anything_is_ended() {
    let (hello, nothing) = (&["--mode", "listen", "--say", "Hello"][..], &["--mode", "listen"][..]);
    for (idle, first, arguments, kind) in [
        (15, "", hello, "agent_silent"),
        (1, "agent_speaks_first = true\n", nothing, "agent_silent"),
        (1, "", nothing, "caller_lost"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (silent, out) = (silent_process(folder.path()), folder.path().join("calls"));
        let (serve, door) = serve(&silent, &out, &format!("[doors.chat]\nidle_s = {idle}\n{first}"));
        let got = caller(&door, arguments);
        assert_eq!((&got["frames"], &got["close_code"]), (&json!([{"type": "end_call"}]), &1000.into()));
        assert!(got["closed_after"].as_f64().unwrap() >= f64::from(idle));
        recorded(&out);
        let failure = report(serve, &out)["runs"][0]["failures"][0].clone();
        assert_eq!((&failure["kind"], &failure["detail"]), (&kind.into(), &format!("no message for {idle} s").into()));
    }
}

/// An agent that reads and says nothing.
fn silent_process(folder: &Path) -> String {
    let file = folder.join("silent.py");
    std::fs::write(&file, "import sys\nsys.stdin.read()\n").unwrap();
    format!("chat-process:python3 {}", file.display())
}

#[test]
fn a_secret_is_asked_for_and_shown_nowhere() {
    let out = tempfile::tempdir().unwrap();
    let secret = out.path().join("secret");
    std::fs::write(&secret, "s3cret-of-the-door\n").unwrap();
    let (_agent, to) = chat_agent("echo", &["--secret", "s3cret-of-the-agent"]);
    let (config, calls) = (out.path().join("trunkline.toml"), out.path().join("calls"));
    std::fs::write(&config, format!("[doors.chat]\nsecret_file = {:?}\n", path(&secret))).unwrap();
    let arguments =
        ["-vvv", "serve", "--to", &to, "--chat-listen", "127.0.0.1:0", "--out", path(&calls), "--config", path(&config)];
    let log = out.path().join("log");
    let mut command = trunkline(&arguments);
    command.env("TRUNKLINE_CHAT_SECRET", "s3cret-of-the-agent");
    let mut serve = Running::logging_to(command, &log);
    let door = serve.door();
    let refused = caller(&door, &["--mode", "listen"]);
    assert_eq!(
        (&refused["refused"], refused["reason"].as_str().unwrap()),
        (&401.into(), "the X-VOCERA-SECRET header is missing\n")
    );
    let refused = caller(&door, &["--mode", "listen", "--header", "X-VOCERA-SECRET=wrong"]);
    assert_eq!((&refused["refused"], refused["reason"].as_str().unwrap()), (&401.into(), "the X-VOCERA-SECRET header is wrong\n"));
    let got = caller(&door, &["--say", "Hello", "--header", "X-VOCERA-SECRET=s3cret-of-the-door"]);
    assert_eq!(contents(&got), ["you said: Hello"]);
    recorded(&calls);
    serve.stop();
    let mut seen = vec![std::fs::read_to_string(&log).unwrap()];
    assert!(seen[0].contains("DEBUG"), "the log tells all it can");
    let mut folders = vec![calls];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { seen.push(std::fs::read_to_string(path).unwrap()) }
        }
    }
    assert!(seen.len() >= 6, "the log, two reports and a call's three files");
    assert!(seen.iter().all(|text| !text.contains("s3cret")), "a secret was written down");
}

#[test]
fn a_plain_request_is_answered() {
    let out = tempfile::tempdir().unwrap();
    let (_agent, to) = chat_agent("echo", &[]);
    let (_serve, door) = serve(&to, out.path(), "");
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(&door).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("GET /health HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(ask("POST / HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(ask("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(ask("nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
}

#[test]
fn a_door_and_an_agent_that_do_not_go_together_are_refused_at_the_start() {
    for (arguments, said) in [
        (
            &["serve", "--to", "chirp://127.0.0.1:1/", "--chat-listen", "127.0.0.1:0"][..],
            "a chat door cannot stand in front of chirp://127.0.0.1:1/, which takes audio",
        ),
        (
            &["serve", "--to", "chat://127.0.0.1:1/", "--listen", "127.0.0.1:0"],
            "a CHIRP door cannot stand in front of chat://127.0.0.1:1/, which takes text only",
        ),
        (
            &["serve", "--to", "chat://127.0.0.1:1/", "--chat-listen", "0.0.0.0:0"],
            "a chat door on 0.0.0.0:0, which is not loopback, needs credentials",
        ),
        (&["call", "--to", "chat-process:cat"], "tag <interruption>"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = trunkline(arguments).current_dir(folder.path()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(said), "{errors}");
    }
}

#[test]
fn a_configuration_of_the_door_that_makes_no_sense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trunkline.toml");
    for (config, said) in [
        ("[doors.chat]\nlisen = \"127.0.0.1:1\"\n", "unknown key \"doors.chat.lisen\"; the nearest known one is \"listen\""),
        ("[doors.chat]\nkey = \"x\"\n", "[doors.chat] needs both `certificate` and `key`, or neither"),
        ("[doors.chat]\nsecret_file = \"/no/such/file\"\n", "cannot read /no/such/file"),
        ("[doors.chat]\nsecret_file = \"/dev/null\"\n", "/dev/null: the secret is empty"),
        ("[doors.chat]\nidle_s = 9223372036854775807\n", "[doors.chat] idle_s = 9223372036854775807: give 1 to 315360000 seconds"),
        ("[doors.chat]\nidle_s = 0\n", "[doors.chat] idle_s = 0: give 1 to"),
        ("[doors.chat]\nagent_speaks_first = \"yes\"\n", "agent_speaks_first"),
        ("[agent]\nchat_secret_file = \"/no/such/file\"\n", "cannot read /no/such/file"),
    ] {
        std::fs::write(&file, config).unwrap();
        let output = run(&["serve", "--to", "chat://127.0.0.1:1/", "--config", path(&file), "--out", path(folder.path())]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(said), "{errors}");
    }
}

#[test]
fn a_table_of_settings_opens_no_door() {
    let out = tempfile::tempdir().unwrap();
    let settings = "[doors.chirp]\nidle_s = 5\n[doors.chat]\nidle_s = 5\n";
    let (_voice, _) = common::serve("process:cat", &out.path().join("voice"), settings);
    let (_text, _) = serve("chat-process:cat", &out.path().join("text"), settings);
}

#[test]
fn a_taken_address_is_told_with_the_table_that_another_one_is_set_in() {
    let out = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, to, wire) in [("--listen", "process:cat", "chirp"), ("--chat-listen", "chat-process:cat", "chat")] {
        let output = run(&["serve", "--to", to, flag, &address, "--out", path(out.path())]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{errors}");
        assert!(errors.contains(&format!("choose another address: `listen` under [doors.{wire}]")), "{errors}");
    }
}

#[test]
fn an_agent_that_cannot_be_reached_is_told_to_the_caller() {
    let out = tempfile::tempdir().unwrap();
    let (serve, door) = serve("chat-process:/no/such/agent", out.path(), "");
    let got = caller(&door, &["--mode", "listen"]);
    assert_eq!(got["frames"][0]["metadata"]["trunkline"]["agent_crashed"], "the agent cannot be reached");
    assert_eq!(got["close_code"], 1011);
    let report = report(serve, out.path());
    assert_eq!(report["runs"][0]["failures"][0]["kind"], "agent_unreachable");
}

#[test]
fn a_killed_serve_leaves_what_was_said_and_repair_makes_the_rest() {
    let out = tempfile::tempdir().unwrap();
    let (_agent, to) = chat_agent("echo", &[]);
    let (mut serve, door) = serve(&to, out.path(), "");
    let staying = Running::until_told(python("chat_caller.py", &[&format!("ws://{door}/"), "--mode", "stay", "--say", "Hello"]));
    assert_eq!(staying.json("that it has spoken")["said"], true);
    let folder = call_folder(out.path());
    until("the answer on disk", || {
        std::fs::read_to_string(folder.join("events.jsonl")).ok()?.contains("you said: Hello").then_some(())
    });
    serve.kill_9();
    assert!(!folder.join("transcript.json").exists());
    // The last line is torn off within a letter.
    let mut log = std::fs::OpenOptions::new().append(true).open(folder.join("events.jsonl")).unwrap();
    log.write_all(b"{\"at_ms\": 1, \"event\": \"text\", \"text\": \"Gr\xc3").unwrap();
    let output = run(&["record", "repair", path(&folder)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let transcript: Value = serde_json::from_slice(&std::fs::read(folder.join("transcript.json")).unwrap()).unwrap();
    assert_eq!(transcript.as_array().unwrap().len(), 2);
    let info: Value = serde_json::from_slice(&std::fs::read(folder.join("call.json")).unwrap()).unwrap();
    assert_eq!(info["repaired"], true);
    let half = json!({"rate": 8000, "samples": 0, "parts": []});
    let mut broken = info.clone();
    broken["caller"] = half;
    for command in [&["record", "repair"][..], &["measure"]] {
        std::fs::write(folder.join("call.json"), broken.to_string()).unwrap();
        let output = run(&[command, &[path(&folder)]].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && errors.contains("only one of the two tracks is there"), "{errors}");
    }
    std::fs::write(folder.join("call.json"), info.to_string()).unwrap();
    assert!(run(&["measure", path(&folder)]).status.success());
}
