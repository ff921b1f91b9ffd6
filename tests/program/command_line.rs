//! The command line as its users and their scripts meet it.

use crate::common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{built_in_agent, path, run, suite, trunkline};
use serde_json::Value;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn error_of(output: &Output, code: i32) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(output.stdout.is_empty(), "stdout carries results alone: {}", text(&output.stdout));
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// The demo's folder and report are whole: one recorded, measured run for each of its four scenarios.
fn is_whole(output: &Output, out: &Path, mode: &str, latency_ms: std::ops::Range<f64>) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("stdout is one JSON document");
    assert_eq!((&report["mode"], &report["status"], &report["verdict"]), (&mode.into(), &"completed".into(), &"passed".into()));
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4);
    for run in runs {
        let recording = out.join(run["recording"].as_str().unwrap());
        for file in ["caller.wav", "agent.wav", "stereo.wav", "events.jsonl", "call.json", "labels.txt"] {
            assert!(recording.join(file).exists(), "{file}");
        }
        let call: Value = serde_json::from_slice(&fs::read(recording.join("call.json")).unwrap()).unwrap();
        assert_eq!(call["run_id"], run["run_id"].as_u64().unwrap().to_string(), "{call}");
        let latency = run["measures"]["response_latency"]["p50"]["value"].as_f64().unwrap();
        assert!(latency_ms.contains(&latency), "the scripted agent answers half a second after the caller: {latency} ms");
    }
    let barge_ins: Vec<_> = runs.iter().flat_map(|run| run["measures"]["barge_in"]["events"].as_array().unwrap()).collect();
    assert!(barge_ins.iter().any(|event| event["yielded"] == true), "one scenario interrupts: {barge_ins:?}");
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(out.join("report.json")).unwrap()).unwrap(), report);
    let junit = fs::read_to_string(out.join("junit.xml")).unwrap();
    assert_eq!(junit.matches("<testcase ").count(), 4);
    let labels = fs::read_to_string(out.join(runs[0]["recording"].as_str().unwrap()).join("labels.txt")).unwrap();
    for label in labels.lines() {
        let fields: Vec<_> = label.split('\t').collect();
        assert!(fields.len() == 3 && fields[0].parse::<f64>().unwrap() <= fields[1].parse::<f64>().unwrap(), "{label:?}");
    }
    report
}

fn demo(way: &[&str], out: &Path) -> Command {
    let mut command = trunkline(&["demo"]);
    command.args(way).args(["--out", path(out), "--format", "json"]).stdin(Stdio::null());
    command.env("TRUNKLINE_LEDGER", out.with_extension("ledger.sqlite"));
    command
}

#[test]
fn the_demo_is_the_whole_way_and_everything_is_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("demo");
    let begun = std::time::Instant::now();
    let report = is_whole(&demo(&[], &out).output().unwrap(), &out, "chirp", 300.0..1500.0);
    assert!(begun.elapsed().as_secs() < 60, "the demo took {:?}", begun.elapsed());
    let runs = report["runs"].as_array().unwrap();
    let barge_ins: Vec<_> = runs.iter().flat_map(|run| run["measures"]["barge_in"]["events"].as_array().unwrap()).collect();
    let scripted = barge_ins.iter().find(|event| event["scripted"] == true).expect("one scenario interrupts");
    assert!(scripted["stopped_after_ms"].as_f64().unwrap() < 500.0 && scripted["yielded"] == true, "{scripted}");
}

/// A server of the demo's own, found on PATH; a worker in front of the agent; each room recorded and tied to its run.
#[test]
fn the_demo_goes_through_real_rooms_too_and_ends_its_server() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("demo");
    let program = common::livekit::binary();
    let output = demo(&["livekit"], &out).env("PATH", program.parent().unwrap()).output().unwrap();
    is_whole(&output, &out, "livekit_v2", 300.0..2500.0);
    let said = text(&output.stderr);
    let address = said.lines().find_map(|line| line.strip_prefix("livekit-server ws://")).expect("it says where");
    let address: std::net::SocketAddr = address.split(' ').next().unwrap().parse().unwrap();
    let gone = std::net::TcpStream::connect(address).is_err();
    assert!(gone, "the server goes on at {address}");

    let output = demo(&["livekit"], &out).env("PATH", folder.path()).output().unwrap();
    let error = error_of(&output, 2);
    assert!(error.contains("no livekit-server on PATH") && error.contains("LIVEKIT_URL"), "{error}");
}

#[test]
fn the_table_says_what_the_json_says() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let (suite, out) = (suite(folder.path(), &["", "Thank you, goodbye. <endcall/>"]), folder.path().join("out"));
    let output = run(&["call", "--to", &agent, "--suite", path(&suite), "--out", path(&out)]);
    assert_eq!(output.status.code(), Some(0));
    let table = text(&output.stdout);
    let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    let recording = report["runs"][0]["recording"].as_str().unwrap();
    assert!(table.contains(recording) && table.contains("1 of 1 passed, 0 failed, 0 void: passed"), "{table}");
    let first = report["runs"][0]["measures"]["first_agent_audio"]["value"].as_f64().unwrap();
    assert!(table.contains(&format!(" {first:.0} ")), "{table}");
}

#[test]
fn a_threshold_that_is_missed_fails_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let lines = ["", "Which appointments are free?", "Thank you, goodbye. <endcall/>"];
    let (suite, out) = (suite(folder.path(), &lines), folder.path().join("out"));
    let arguments =
        ["call", "--to", &agent, "--suite", path(&suite), "--out", path(&out), "--max-latency-ms", "100", "--format", "json"];
    let output = run(&arguments);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let failure = &report["runs"][0]["failures"][0];
    assert_eq!((output.status.code(), &failure["kind"]), (Some(1), &"latency_exceeded".into()));
    assert!(failure["detail"].as_str().unwrap().contains("100 are allowed"));
    let junit = fs::read_to_string(out.join("junit.xml")).unwrap();
    assert!(junit.contains("type=\"latency_exceeded\""), "{junit}");
}

/// The help of every command, by its words.
fn helps(words: &[&str], found: &mut Vec<(String, String)>) {
    let mut arguments = words.to_vec();
    arguments.push("--help");
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{words:?}");
    let help = text(&output.stdout);
    let listed = help.split("\nCommands:\n").nth(1).map(|rest| rest.split("\n\n").next().unwrap_or_default().to_owned());
    for name in listed.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()) {
        if !name.is_empty() && name != "help" {
            helps(&[words, &[name]].concat(), found);
        }
    }
    found.push((words.join(" "), help));
}

#[test]
fn the_help_of_each_command_shows_an_example_that_the_command_takes() {
    let mut found = Vec::new();
    helps(&[], &mut found);
    let commands: Vec<_> = found.iter().map(|(command, _)| command.as_str()).collect();
    let wanted = [
        "demo",
        "run",
        "payload chirp",
        "payload check",
        "payload livekit_v2",
        "runs list",
        "runs recover",
        "results wait",
        "history",
        "sandbox",
        "call",
        "serve",
        "agent",
        "measure",
        "record repair",
        "completions",
    ];
    for command in wanted {
        assert!(commands.contains(&command), "{command} is missing: {commands:?}");
    }
    for (command, help) in &found {
        let example = help.split("Example").nth(1).unwrap_or_else(|| panic!("`trunkline {command} --help` shows no example"));
        assert!(example.contains("trunkline "), "{command}: {example}");
    }
}

#[test]
fn completions_are_made_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success() && text(&output.stdout).contains("trunkline"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("completions.bash");
    fs::write(&file, run(&["completions", "bash"]).stdout).unwrap();
    let check = Command::new("bash").arg("-n").arg(&file).status().unwrap();
    assert!(check.success(), "bash can read them");
}

#[test]
fn wrong_usage_is_named_and_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &str); 11] = [
        (&["call", "--to", "chirp//x"], "use chirp://HOST:PORT/PATH"),
        (&["call", "--to", "ws://127.0.0.1:1/"], "say which protocol the WebSocket speaks"),
        (&["call", "--to", "chirp://me:pass@127.0.0.1:1/"], "credentials do not belong into an address"),
        (&["call", "--to", "process:"], "the command is missing"),
        (&["call", "--to", "process:x", "--rate", "11025"], "11025 Hz is not a supported rate"),
        (&["call", "--to", "chirp://127.0.0.1:1/", "--scenario", "nothing"], "no scenario \"nothing\"; there are: book, first"),
        (&["call"], "no agent to connect to"),
        (&["serve", "--door", "chrip"], "unknown door \"chrip\"; the nearest known one is \"chirp\""),
        (&["serve", "--door", "chirp=8765"], "\"8765\" is no address to listen on"),
        (&["serve", "--to", "process:x", "--door", "chirp", "--listen", "127.0.0.1:0"], "the chirp door is asked for twice"),
        (&["measure", "/no/such/folder"], "/no/such/folder"),
    ];
    for (arguments, expected) in cases {
        let mut command = trunkline(arguments);
        let output = command.current_dir(folder.path()).stdin(Stdio::null()).output().unwrap();
        let said = error_of(&output, 2);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn a_configuration_is_checked_key_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trunkline.toml");
    let cases = [
        ("ttss = \"x\"", "unknown key \"ttss\"; the nearest known one is \"tts\""),
        ("[agent]\ntoo = \"x\"", "unknown key \"agent.too\"; the nearest known one is \"to\""),
        ("[doors.chirp]\nlisen = \"127.0.0.1:1\"", "the nearest known one is \"listen\""),
        ("[agent]\nto = \"chirp:x\"", "is no way to reach an agent"),
        ("[agent]\nto = \"process:x\"\nrate = 44100", "44100 Hz is not a supported rate"),
        ("out = [1]", "out"),
        ("= broken", "TOML parse error"),
    ];
    for (toml, expected) in cases {
        fs::write(&file, toml).unwrap();
        let said = error_of(&run(&["serve", "--config", path(&file)]), 2);
        assert!(said.contains(expected) && said.contains("trunkline.toml"), "{toml}: {said}");
    }
    let said = error_of(&run(&["serve", "--config", "/no/such/file.toml"]), 2);
    assert!(said.contains("/no/such/file.toml"));
}

#[test]
fn a_door_is_asked_for_by_its_name_and_its_address_goes_before_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trunkline.toml");
    fs::write(&file, "[doors.chirp]\nlisten = \"127.0.0.1:1\"\n").unwrap();
    let out = folder.path().join("out");
    let arguments = ["serve", "--to", "process:x", "--door", "chirp=127.0.0.1:0", "--out", path(&out), "--config", path(&file)];
    let mut serve = common::Running::stderr_of(trunkline(&arguments));
    let port: u16 =
        serve.wait_for("its address", |line| line.strip_prefix("listening chirp 127.0.0.1:")?.split_once(' ')?.0.parse().ok());
    assert!(port > 1, "a port that was free, and not the file's: {port}");
    serve.stop();
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trunkline.toml");
    fs::write(&file, "[agent]\nto = \"process:from-the-file\"\n").unwrap();
    let called = |flag: &[&str], variable: Option<&str>| {
        let out = folder.path().join("out");
        let mut arguments = vec!["call", "--scenario", "book", "--config", path(&file), "--out", path(&out), "--format", "json"];
        arguments.extend(flag);
        let mut command = trunkline(&arguments);
        if let Some(value) = variable {
            command.env("TRUNKLINE_AGENT", value);
        }
        let report: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        report["runs"][0]["failures"][0]["detail"].as_str().unwrap().to_owned()
    };
    assert!(called(&[], None).contains("from-the-file"));
    assert!(called(&[], Some("process:from-the-environment")).contains("from-the-environment"));
    assert!(called(&["--to", "process:from-the-flag"], Some("process:from-the-environment")).contains("from-the-flag"));
}

#[test]
fn a_payload_is_built_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let built = run(&["payload", "chirp", "--agent-id", "1", "--scenario-ids", "1,2", "--websocket-url", "wss://a.example/x"]);
    assert!(built.status.success());
    let body: Value = serde_json::from_slice(&built.stdout).unwrap();
    assert_eq!(body, serde_json::json!({"agent_id": 1, "scenarios": [1, 2], "websocket_url": "wss://a.example/x"}));
    fs::write(&file, &built.stdout).unwrap();
    assert!(run(&["payload", "check", "chirp", path(&file)]).status.success());
    fs::write(
        &file,
        r#"{"agent_id": "7", "scenarios": [1, "2", 0], "frequency": 1.5, "mode": "same", "websocket_url": "https://a.example/"}"#,
    )
    .unwrap();
    let output = run(&["payload", "check", "chirp", path(&file), "--format", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let misfits: Vec<_> = told["misfits"].as_array().unwrap().iter().map(|misfit| misfit["path"].as_str().unwrap()).collect();
    assert_eq!(misfits, ["$.agent_id", "$.scenarios[1]", "$.scenarios[2]", "$.frequency", "$.mode", "$.websocket_url"]);
    let said = text(&output.stderr);
    for right in ["7", "wss://a.example/", "same_number", "whole number"] {
        assert!(said.contains(right), "{said}");
    }
    for (wrong, expected) in [("[]", "an object"), ("{", "not JSON"), ("{}", "scenarios, tags or folder_path")] {
        fs::write(&file, wrong).unwrap();
        let said = error_of(&run(&["payload", "check", "chirp", path(&file)]), 2);
        assert!(said.contains(expected), "{wrong}: {said}");
    }
    let said = error_of(&run(&["payload", "chirp", "--agent-id", "1"]), 2);
    assert!(said.contains("scenarios"), "{said}");
}

#[test]
fn speech_that_is_not_ready_is_made_by_the_users_command_once_and_never_by_a_shell() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let words = "It costs $HOME; touch pwned `touch pwned` 'quoted' \"twice\" & done";
    let (suite, out) = (suite(folder.path(), &["", &format!("{words} <endcall/>")]), folder.path().join("out"));
    let (cache, log) = (folder.path().join("cache"), folder.path().join("log"));
    let arguments =
        ["call", "--to", &agent, "--suite", path(&suite), "--out", path(&out), "--speech-cache", path(&cache), "--format", "json"];
    let said = error_of(&run(&arguments), 2);
    assert!(said.contains("there is no ready speech for") && said.contains("espeak-ng -w {out} {text}"), "{said}");
    let script = folder.path().join("speak.sh");
    fs::write(&script, format!("echo \"$2\" >> {}; exec espeak-ng -w \"$1\" \"$2\"", path(&log))).unwrap();
    let tts = format!("sh {} {{out}} {{text}}", path(&script));
    for _ in 0..2 {
        let output = trunkline(&[&arguments[..], &["--tts", &tts]].concat()).current_dir(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    assert_eq!(fs::read_to_string(&log).unwrap(), format!("{words}\n"), "spoken once, word for word");
    assert!(!folder.path().join("pwned").exists());
    for (tts, expected) in [
        ("espeak-ng {text}", "needs {out} among its arguments"),
        ("espeak-ng -w {out} 'x", "a quote that is not closed"),
        ("/no/such/voice {out} {text}", "/no/such/voice"),
        ("false {out} {text}", "exit status: 1"),
        ("true {out} {text}", "it wrote no file"),
    ] {
        let cache = folder.path().join("other-cache");
        let arguments =
            ["call", "--to", &agent, "--suite", path(&suite), "--speech-cache", path(&cache), "--out", path(&out), "--tts", tts];
        let said = error_of(&run(&arguments), 2);
        assert!(said.contains(expected), "{tts}: {said}");
    }
}

#[test]
fn an_interruption_ends_the_calls_and_keeps_their_recordings() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("echo");
    let out = folder.path().join("out");
    let mut command = trunkline(&["call", "--to", &agent, "--scenario", "first", "--out", path(&out), "--format", "json"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    common::until("a second of the call", || {
        let call = fs::read_dir(&out).ok()?.filter_map(Result::ok).map(|entry| entry.path()).find(|path| path.is_dir())?;
        (fs::metadata(call.join("caller.wav")).ok()?.len() > 32_000).then_some(())
    });
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let status = child.wait().unwrap();
    let mut json = Vec::new();
    std::io::Read::read_to_end(&mut child.stdout.take().unwrap(), &mut json).unwrap();
    let report: Value = serde_json::from_slice(&json).unwrap();
    let run = &report["runs"][0];
    assert_eq!((status.code(), &run["failures"][0]["kind"]), (Some(1), &"run_cancelled".into()), "{report}");
    assert!(out.join(run["recording"].as_str().unwrap()).join("stereo.wav").exists());
}

#[test]
fn the_readme_is_true() {
    let readme = include_str!("../../README.md");
    for table in [trunkline::transport::capability_table(), trunkline::cekura::mode_table(), trunkline::report::failure_table()] {
        assert!(
            readme.contains(&table),
            "the README does not hold this table as `cargo run --example readme_tables` prints it:\n{table}"
        );
    }
    let toml = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    trunkline::config::Config::parse(toml).expect("the README's configuration is one");
    // Every command that the README shows is one, with flags that it takes.
    let shown = readme.lines().filter(|line| line.starts_with("    ")).flat_map(|line| line.split("trunkline ").skip(1));
    let mut seen = 0;
    for command in shown {
        let words: Vec<_> = command.split_whitespace().collect();
        let names = words.iter().take_while(|word| word.chars().all(|c| c.is_ascii_lowercase())).take(2);
        let mut names: Vec<&str> = names.copied().collect();
        if !matches!(names.first(), Some(&("call" | "run" | "runs" | "payload" | "sandbox" | "measure" | "record"))) {
            continue;
        }
        if names[0] == "run" {
            names.truncate(1);
        }
        names.push("--help");
        let help = text(&run(&names).stdout);
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(*flag), "`trunkline {command}`: {flag} is not in the command's help");
        }
        seen += 1;
    }
    assert!(seen >= 5, "{seen} commands were found");
}
