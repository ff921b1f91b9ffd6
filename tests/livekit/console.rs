//! LiveKit agents with no LiveKit server, over the TCP console of `livekit-agents`: a real agent (`livekit-agents` 1.8.9 with local
//! parts only), and peers written from the protocol, well behaved and hostile.

use crate::common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{call_folder, events, path, python, python_caller, run, serve, suite, wav};
use proptest::prelude::*;
use serde_json::{Value, json};
use trunkline::transport::WayOut;
use trunkline::transport::livekit::console::{BadFrame, ConsoleCommand, FrameReader, MAX_MESSAGE, Play, Playback, RATE, frame};
use trunkline::transport::livekit::session::ask_for_state;

/// Time for Python and its plugins to start on a busy machine.
const CONFIG: &str = "[agent]\ndial_s = 120\n";

/// A command as a way out.
fn way_out(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| word.to_str().expect("the tests' paths are UTF-8"));
    format!("livekit-console:{}", shell_words::join(words))
}

/// The agent written from the protocol.
fn peer(mode: &str) -> String {
    way_out(&python("console_peer.py", &[mode]))
}

/// A stock agent, as its own command line starts it.
fn real_agent() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/pyenv-livekit/bin/python");
    assert!(python.exists(), "LiveKit's Python side is missing: run scripts/python-env (scripts/test does)");
    let mut command = Command::new(python);
    command.args(["-m", "livekit.agents", "console"]).arg(root.join("tests/interop/livekit_scripted_agent.py"));
    way_out(&command)
}

/// Calls `to` with a caller of these lines: the exit code, the report's first run and the folder.
struct Called {
    code: i32,
    run: Value,
    out: PathBuf,
    _folder: tempfile::TempDir,
}

fn call_with(to: &str, lines: &[&str], config: &str, flags: &[&str]) -> Called {
    let folder = tempfile::tempdir().expect("a folder");
    let suite = suite(folder.path(), lines);
    let (out, file) = (folder.path().join("out"), folder.path().join("trunkline.toml"));
    std::fs::write(&file, config).expect("a file");
    let mut arguments = vec!["call", "--to", to, "--suite", path(&suite), "--out", path(&out), "--format", "json"];
    arguments.extend(["--config", path(&file)]);
    arguments.extend(flags);
    let output = run(&arguments);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {}", String::from_utf8_lossy(&output.stderr)));
    Called { code: output.status.code().expect("an exit code"), run: report["runs"][0].clone(), out, _folder: folder }
}

/// Calls the peer with a caller that lets it begin, and has more to say than the peer stays for.
fn call(mode: &str) -> Called {
    let lines =
        ["", "Which appointments are free?", "Friday at four, please.", "Wednesday at two.", "Thank you, goodbye. <endcall/>"];
    call_with(&peer(mode), &lines, CONFIG, &["--patience-s", "40"])
}

impl Called {
    fn folder(&self) -> PathBuf {
        call_folder(&self.out)
    }

    fn events(&self) -> Vec<Value> {
        events(&self.folder())
    }

    /// How the call ended: its reason and its detail.
    fn end(&self) -> (String, String) {
        let events = self.events();
        let end = events.iter().find(|event| event["event"] == "ended").expect("every call ends");
        let text = |key: &str| end[key].as_str().unwrap_or_default().to_owned();
        (text("reason"), text("detail"))
    }

    /// What the peer tells of itself in its log.
    fn told(&self) -> Value {
        let events = self.events();
        let logs = events.iter().filter(|event| event["event"] == "log").filter_map(|event| event["line"].as_str());
        logs.filter_map(|line| serde_json::from_str(line).ok())
            .next_back()
            .unwrap_or_else(|| panic!("it tells nothing: {events:#?}"))
    }
}

fn of_kind<'a>(events: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["event"] == kind)
}

/// What the agent tells beside its audio.
fn data<'a>(events: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    of_kind(events, "data").map(|event| &event["data"]).filter(move |data| data["livekit"] == kind)
}

/// Milliseconds of `hz` in samples at 48 kHz: blocks of 20 ms in which nothing else is louder.
fn tone_ms(samples: &[i16], hz: f64) -> usize {
    let power = |block: &[i16], hz: f64| {
        let (mut re, mut im) = (0.0, 0.0);
        for (n, sample) in block.iter().enumerate() {
            let angle = std::f64::consts::TAU * hz * n as f64 / 48_000.0;
            re += f64::from(*sample) * angle.cos();
            im += f64::from(*sample) * angle.sin();
        }
        (re * re + im * im) / (block.len() as f64).powi(2)
    };
    // A tone of amplitude 8000 has a power of 8000² / 4 in this measure.
    samples.chunks_exact(960).filter(|block| power(block, hz) > 8e6).count() * 20
}

#[test]
fn a_burst_is_heard_in_real_time_and_acknowledged_when_it_was_heard() {
    let called = call("burst");
    let told = called.told();
    for took in told["took"].as_array().expect("two utterances") {
        assert!(took.as_f64().is_some_and(|took| took >= 0.99), "a second is heard in no less than a second: {told}");
    }
    // The resampler gives its first 10 ms alone.
    let sizes = told["sizes"].as_array().expect("a list").iter().all(|size| [480, 960].map(Value::from).contains(size));
    assert!(sizes && told["wrong"] == json!([]), "20 ms of 48 kHz, one channel, in order: {told}");
    assert_eq!(told["requests"], json!([[10], [7]]), "the framework and the state are asked for");
    let agent = wav(&called.folder().join("agent.wav"));
    assert_eq!((tone_ms(&agent, 440.0).abs_diff(1000) <= 40, tone_ms(&agent, 880.0).abs_diff(1000) <= 40), (true, true));
    let events = called.events();
    let marks: Vec<_> = events.iter().filter(|event| event["side"] == "agent" && event["source"] == "signalled").collect();
    assert!(marks.len() >= 3 && marks[0]["event"] == "speech_started" && marks[1]["event"] == "speech_stopped", "{marks:?}");
}

#[test]
fn what_an_agent_stops_is_held_and_goes_on_or_is_never_heard() {
    let called = call("stopped");
    let told = called.told();
    assert_eq!(told["finished"], 1, "only what was heard to its end is acknowledged: {told}");
    assert!(told["went_on"].as_f64().is_some_and(|took| took > 2.9), "two seconds and the time of the stop: {told}");
    let agent = wav(&called.folder().join("agent.wav"));
    assert!(tone_ms(&agent, 440.0).abs_diff(2000) <= 100, "nothing of it is lost: {}", tone_ms(&agent, 440.0));
    for hz in [880.0, 1320.0] {
        assert!((500..3000).contains(&tone_ms(&agent, hz)), "{hz} Hz is cut short: {} ms", tone_ms(&agent, hz));
    }
    assert!(data(&called.events(), "audio_cleared").count() >= 1);
}

#[test]
fn words_tools_latencies_and_errors_of_an_agent_are_events_of_the_call() {
    let called = call("tools");
    let events = called.events();
    let calls: Vec<_> = of_kind(&events, "function_call").map(|call| (&call["id"], &call["name"], &call["arguments"])).collect();
    assert_eq!(
        calls,
        [(&json!("id-1"), &json!("book"), &json!({"day": "Friday"})), (&json!("id-2"), &json!("odd"), &json!("not JSON")),],
        "each call is told once"
    );
    let results: Vec<_> = of_kind(&events, "function_result").map(|result| (&result["id"], &result["result"])).collect();
    assert_eq!(results, [(&json!("id-1"), &json!({"slot": 3})), (&json!("id-2"), &json!({"error": "no such day"}))]);
    let texts: Vec<_> = of_kind(&events, "text").filter(|text| text["side"] == "agent").map(|text| &text["text"]).collect();
    assert_eq!(texts, ["Grüß Gott."]);
    let message = data(&events, "message").next().expect("the message");
    assert_eq!((&message["metrics"]["e2e_latency"], &message["interrupted"]), (&json!(0.75), &json!(true)));
    let heard: Vec<_> = data(&events, "heard").map(|heard| &heard["text"]).collect();
    assert_eq!(heard, ["A whole sentence."], "what is not final is left out");
    let fault = of_kind(&events, "fault").next().expect("the error");
    assert_eq!((&fault["code"], &fault["detail"]), (&json!("AGENT_ERROR"), &json!("the model is out of reach")));
    let metadata = of_kind(&events, "metadata").next().expect("the framework");
    assert_eq!(metadata["metadata"]["livekit_agents"], json!({"sdk": "peer", "version": "0.1"}));
}

#[test]
fn messages_that_make_no_sense_are_faults_until_there_are_too_many() {
    let called = call("wrong_messages");
    let events = called.events();
    let codes: Vec<_> = of_kind(&events, "fault").map(|fault| fault["code"].as_str().unwrap()).take(7).collect();
    let (message, audio) = ("BAD_MESSAGE", "BAD_AUDIO");
    assert_eq!(codes, [message, message, message, message, audio, audio, message]);
    let agent = wav(&called.folder().join("agent.wav"));
    assert!(tone_ms(&agent, 440.0).abs_diff(500) <= 40, "the call goes on meanwhile");
    let (reason, detail) = called.end();
    assert_eq!(reason, "protocol_error");
    assert!(detail.contains("more than 100 faults"), "{detail}");
}

#[test]
fn bytes_that_are_no_frames_end_the_call_with_what_is_wrong() {
    for (mode, reason, said) in [
        ("oversized", "protocol_error", "a message of 1048577 bytes is announced, 1048576 are the most"),
        ("garbage_message", "protocol_error", "a message of 6 bytes is no AgentSessionMessage"),
        ("truncated", "connection_lost", "the connection ended within a frame: 14 bytes of 1004 had come"),
    ] {
        let called = call(mode);
        let end = called.end();
        assert!(end.0 == reason && end.1.contains(said), "{mode}: {end:?}");
        assert_ne!(called.run["verdict"], "passed", "{mode}");
    }
}

#[test]
fn an_agent_that_does_not_take_the_call_is_told_by_name() {
    let short = "[agent]\ndial_s = 3\n";
    let missing = "livekit-console:/no/such/program agent.py".to_owned();
    let clean = format!("livekit-console:sh -c {}", shell_words::quote("echo nothing to do; exit 0 # {addr}"));
    for (to, config, said) in [
        (missing, CONFIG, "cannot start \"/no/such/program agent.py --connect-addr 127.0.0.1:"),
        (
            peer("crash"),
            CONFIG,
            "ended before it took the call: exit status: 1; it said last: loading the agent | no module named agent",
        ),
        (clean, CONFIG, "ended before it took the call: exit status: 0; it said last: nothing to do"),
        (peer("hangs_up_at_once"), CONFIG, "before"),
        (peer("garbage_length"), CONFIG, "does not speak the console protocol of livekit-agents: a message of 1195725856 bytes"),
        (peer("never"), short, "did not dial 127.0.0.1:"),
        (peer("silent"), short, "within 3 s"),
    ] {
        let called = call_with(&to, &["Thank you, goodbye. <endcall/>"], config, &[]);
        let shown = called.run.to_string().replace("\\\"", "\"");
        assert_eq!(called.code, 1, "{to}: {shown}");
        assert!(shown.contains(said), "{to}: {shown}");
    }
}

#[test]
fn who_dials_a_second_time_finds_nobody() {
    let called = call("twice");
    let told = called.told();
    assert!(["closed", "ConnectionRefusedError", "ConnectionResetError"].map(Value::from).contains(&told["second"]), "{told}");
    assert!(tone_ms(&wav(&called.folder().join("agent.wav")), 440.0).abs_diff(500) <= 40);
}

#[test]
fn a_real_agent_is_called_and_recorded_with_what_it_tells_of_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let speech = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/speech");
    let line = |text: &str, file: &str| json!({"text": text, "file": speech.join(file)});
    let mut looked_up = line("Very good, that is booked for you.", "agent-answer-2.wav");
    looked_up["call"] = json!({"member": "4711"});
    let script = json!({
        "greeting": line("Hello, this is the Lakeside clinic. How can I help you today?", "agent-greeting.wav"),
        "answers": [looked_up, line("Thank you for calling, and goodbye.", "agent-answer-3.wav")],
        "heard": ["My member number is four seven one one.", "Thank you, goodbye."],
    });
    let file = folder.path().join("script.json");
    std::fs::write(&file, script.to_string()).expect("a file");
    let to = real_agent().replace("livekit-console:", &format!("livekit-console:env AGENT_SCRIPT={} ", path(&file)));
    let lines = ["", "My member number is four seven one one.", "Thank you, goodbye. <endcall/>"];
    let called = call_with(&to, &lines, CONFIG, &["--patience-s", "60"]);
    // On a busy machine the caller's own pacing may slip, which makes the call void and nothing else.
    let failures = called.run["failures"].as_array().expect("a list");
    assert!(failures.iter().all(|failure| failure["kind"] == "pacing_slipped"), "{}", called.run);
    assert_eq!(called.code, if failures.is_empty() { 0 } else { 3 });
    let events = called.events();
    let texts: Vec<_> =
        of_kind(&events, "text").filter(|text| text["side"] == "agent").map(|text| text["text"].as_str().unwrap()).collect();
    assert!(
        texts.starts_with(&["Hello, this is the Lakeside clinic. How can I help you today?", "Very good, that is booked for you."]),
        "{texts:?}"
    );
    let heard: Vec<_> = data(&events, "heard").map(|heard| heard["text"].as_str().unwrap()).collect();
    assert_eq!(heard.first(), Some(&"My member number is four seven one one."));
    let call = of_kind(&events, "function_call").next().expect("the tool is called");
    assert_eq!((&call["name"], &call["arguments"]), (&json!("look_up_member"), &json!({"member": "4711"})));
    let result = of_kind(&events, "function_result").next().expect("the tool has answered");
    assert_eq!((&result["id"], &result["result"]), (&call["id"], &json!("Member 4711 is known.")));
    let metrics: Vec<_> =
        data(&events, "message").filter(|message| message["role"] == "assistant").map(|message| &message["metrics"]).collect();
    assert!(metrics.iter().any(|metrics| metrics["e2e_latency"].as_f64().is_some_and(|latency| latency > 0.0)), "{metrics:?}");
    assert!(metrics.iter().any(|metrics| metrics["tts_node_ttfb"].as_f64().is_some()), "{metrics:?}");
    let version = of_kind(&events, "metadata").next().expect("the framework tells itself");
    assert_eq!(version["metadata"]["livekit_agents"]["version"], "1.8.9");
    recording_has_both_sides(&called.folder(), &events);
}

/// Both sides are loud where they speak, in turn, and the agent's greeting is whole.
fn recording_has_both_sides(folder: &Path, events: &[Value]) {
    let (caller, agent) = (wav(&folder.join("caller.wav")), wav(&folder.join("agent.wav")));
    let loudest = |samples: &[i16]| samples.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or_default();
    assert!(loudest(&caller) > 3000 && loudest(&agent) > 3000, "{} and {}", loudest(&caller), loudest(&agent));
    // The agent's greeting before the caller's first word, its answer after it: by the tracks alone.
    let onset = |samples: &[i16]| samples.iter().position(|sample| sample.unsigned_abs() > 1000).expect("speech");
    let rate = |track: &[i16]| if track.len() > 2 * caller.len().min(agent.len()) { 3.0 } else { 1.0 };
    let seconds = |samples: usize, track: &[i16]| samples as f64 / (16_000.0 * rate(track));
    assert!(seconds(onset(&agent), &agent) < seconds(onset(&caller), &caller), "the agent greets first");
    let greeting =
        hound::WavReader::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/speech/agent-greeting.wav")).unwrap();
    let greeting_s = f64::from(greeting.duration()) / f64::from(greeting.spec().sample_rate);
    let bounds: Vec<_> = events.iter().filter(|event| event["side"] == "agent" && event["source"] == "signalled").take(2).collect();
    let heard_s = (bounds[1]["sample"].as_f64().unwrap() - bounds[0]["sample"].as_f64().unwrap()) / 48_000.0;
    assert!((heard_s - greeting_s).abs() < 0.5, "the greeting of {greeting_s} s is {heard_s} s long");
}

#[test]
fn an_interruption_stops_a_real_agent() {
    let lines = [
        "",
        "Which appointments are free?",
        "<interruption time=\"1.5s\"/>Sorry, I have only time on Friday.",
        "Thank you, goodbye. <endcall/>",
    ];
    let called = call_with(&real_agent(), &lines, CONFIG, &["--patience-s", "60"]);
    let events = called.events();
    let interrupted = data(&events, "message").any(|message| message["role"] == "assistant" && message["interrupted"] == true);
    assert!(interrupted, "the agent knows that it was interrupted: {}", called.run);
    let barge_in = &called.run["measures"]["barge_in"]["events"][0];
    assert_eq!((&barge_in["scripted"], &barge_in["yielded"]), (&json!(true), &json!(true)), "{barge_in}");
}

#[test]
fn a_chirp_door_in_front_of_a_real_agent_takes_calls() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let (mut server, address) = serve(&real_agent(), &out, CONFIG);
    let got = python_caller(&format!("ws://{address}/"), &["--mode", "hold", "--seconds", "25"]);
    server.stop();
    assert!(got["bytes"].as_u64().is_some_and(|bytes| bytes > 2 * 16_000), "the greeting is heard through CHIRP: {got}");
    let events = events(&call_folder(&out));
    assert!(of_kind(&events, "text").any(|text| text["side"] == "agent"), "{events:#?}");
}

#[test]
fn the_address_is_put_where_the_command_says_or_at_its_end() {
    let words = |command: &str| {
        let words = shell_words::split(command).expect("words");
        ConsoleCommand::new(words).expect("a command").dialling("127.0.0.1:9")
    };
    assert_eq!(words("python agent.py"), ["python", "agent.py", "--connect-addr", "127.0.0.1:9"]);
    assert_eq!(words("run --to={addr} 'an agent.py'"), ["run", "--to=127.0.0.1:9", "an agent.py"]);
    let spelled = "livekit-console:python 'an agent.py'";
    assert_eq!(spelled.parse::<WayOut>().expect("a way out").to_string(), spelled);
    let nothing = "livekit-console: ".parse::<WayOut>().expect_err("no command").to_string();
    assert!(nothing.contains("the command is missing"), "{nothing}");
}

proptest! {
    #[test]
    fn frames_are_read_wherever_they_are_cut_and_any_bytes_are_survived(
        ids in proptest::collection::vec("[a-z]{0,40}", 0..8),
        junk in proptest::collection::vec(any::<u8>(), 0..64),
        cuts in proptest::collection::vec(1_usize..50, 1..40),
    ) {
        let messages: Vec<_> = ids.iter().map(|id| ask_for_state(id)).collect();
        let mut bytes: Vec<u8> = messages.iter().flat_map(frame).collect();
        bytes.extend(&junk);
        let mut reader = FrameReader::default();
        let (mut read, mut cut, mut failed) = (Vec::new(), cuts.iter().cycle(), false);
        let mut rest = &bytes[..];
        while !rest.is_empty() && !failed {
            let (piece, later) = rest.split_at((*cut.next().expect("a cycle")).min(rest.len()));
            reader.push(piece);
            rest = later;
            loop {
                match reader.next_message() {
                    Ok(Some(message)) => read.push(message),
                    Ok(None) => break,
                    Err(problem) => {
                        prop_assert_eq!(reader.next_message(), Err(problem));
                        failed = true;
                        break;
                    }
                }
            }
        }
        prop_assert!(read.len() >= messages.len() && read[..messages.len()] == messages[..]);
        if junk.is_empty() {
            prop_assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn a_playback_gives_what_it_got_in_order_and_in_real_time(
        bursts in proptest::collection::vec((0_u64..400, 0_usize..5000, any::<bool>()), 1..12),
    ) {
        let millis = std::time::Duration::from_millis;
        let mut playback = Playback::new(RATE);
        let (mut now, mut pushed, mut given, mut flushes, mut finished) = (0, 0_i64, 0_i64, 0, 0);
        let mut play = |playback: &mut Playback, until: u64, now: &mut u64, pushed: i64| {
            while *now < until {
                *now += 5;
                while let Some(play) = playback.next(millis(*now)) {
                    match play {
                        Play::Finished => finished += 1,
                        Play::Audio(samples) => {
                            assert!(samples.len() <= 960);
                            let expected = |n: usize| (given + n as i64) % 30_000;
                            assert!(samples.iter().enumerate().all(|(n, sample)| i64::from(*sample) == expected(n)));
                            given += samples.len() as i64;
                            // No more than was heard until now, and what is given a frame ahead, by steps of 5 ms.
                            assert!(given <= pushed && given as u64 <= (*now + 45) * 48, "{given} at {now}");
                        }
                    }
                }
            }
            (given, finished)
        };
        for (pause, samples, flush) in bursts {
            let until = now + pause;
            play(&mut playback, until, &mut now, pushed);
            let audio: Vec<i16> = (pushed..pushed + samples as i64).map(|n| (n % 30_000) as i16).collect();
            prop_assert_eq!(playback.push(millis(now), &audio), 0);
            pushed += samples as i64;
            if flush {
                playback.flush();
                flushes += 1;
            }
        }
        let until = now + 60_000;
        prop_assert_eq!(play(&mut playback, until, &mut now, pushed), (pushed, flushes));
        prop_assert!(playback.idle());
    }
}

#[test]
fn a_frame_of_the_longest_length_is_taken_and_one_of_a_byte_more_is_not() {
    let mut reader = FrameReader::default();
    reader.push(&(MAX_MESSAGE as u32).to_be_bytes());
    assert_eq!(reader.next_message(), Ok(None));
    assert_eq!(reader.end(), Err(BadFrame::Truncated { had: 4, of: MAX_MESSAGE + 4 }));
    let mut reader = FrameReader::default();
    reader.push(&(MAX_MESSAGE as u32 + 1).to_be_bytes());
    assert_eq!(reader.next_message(), Err(BadFrame::TooLong { length: MAX_MESSAGE as u32 + 1 }));
}
