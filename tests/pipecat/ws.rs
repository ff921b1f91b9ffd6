//! Pipecat bots over a WebSocket: a real bot (`pipecat-ai` 1.14.0, local parts only), frames made by its own serializer, and hostile
//! peers.

use crate::common;

use std::net::TcpListener;
use std::time::Duration;

use common::leg::event_or_tick;
use common::pipecat::pipecat_python;
use common::tone::{gaps, tone_level, tone_seconds};
use common::{Running, call_folder, events, path, python_caller, run, serve, suite, until, wav};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use trunkline::audio::Rate;
use trunkline::call::{CallIds, LegCommand, LegEvent};
use trunkline::transport::pipecat::rtvi::{self, BadMessage, Rtvi, Turn};
use trunkline::transport::pipecat::{Audio, BadFrame, Frame, MAX_MESSAGE};
use trunkline::transport::{ConnectOptions, SetUp, WayOut};

/// The level of the tones: sines of 8000.
const TONE_DBFS: f64 = -15.3;

/// Frames as `ProtobufFrameSerializer` of `pipecat-ai` 1.14.0 writes them, with the id 7 and the name `n#7`.
const FROM_PIPECAT: [&str; 6] = [
    "0a0f080712036e23371a0668c3ab6c6c6f",
    "1215080712036e23371a060100ff7f008020c0bb012801",
    "1212080712036e23371a040a00140020807d2802",
    "1a24080712036e23371a026869220275312a13323032362d30312d30325430333a30343a3035",
    "22230a217b226c6162656c223a2022727476692d6169222c202274797065223a202278227d",
    "2a07080712036e2337",
];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal")).collect()
}

fn frames() -> [Frame; 6] {
    let audio = |rate, samples: &[i16]| Frame::Audio(Audio { rate, samples: samples.to_vec() });
    let (text, user_id, timestamp) = ("hi".to_owned(), "u1".to_owned(), "2026-01-02T03:04:05".to_owned());
    [
        Frame::Text("hëllo".to_owned()),
        audio(Rate::HZ_24000, &[1, 32767, -32768]),
        // Two channels become their mean.
        audio(Rate::HZ_16000, &[15]),
        Frame::Transcription { text, user_id, timestamp },
        Frame::Message(r#"{"label": "rtvi-ai", "type": "x"}"#.to_owned()),
        Frame::Interruption,
    ]
}

#[test]
fn frames_of_pipecats_own_serializer_are_read_and_ours_read_the_same() {
    for (hex, frame) in FROM_PIPECAT.iter().zip(frames()) {
        assert_eq!(Frame::decode(&bytes(hex)), Ok(Some(frame.clone())));
        assert_eq!(Frame::decode(&frame.encode()), Ok(Some(frame)));
    }
    assert_eq!(Frame::decode(&[]), Ok(None), "a kind of frame that is not known");
}

#[test]
fn frames_that_cannot_be_read_say_why() {
    for hex in FROM_PIPECAT {
        let whole = bytes(hex);
        for cut in 1..whole.len() {
            let read = Frame::decode(&whole[..cut]);
            assert!(matches!(read, Err(BadFrame::Garbage { length, .. }) if length == cut), "{hex} cut at {cut}: {read:?}");
        }
    }
    let audio =
        |audio: &[u8], rate: &[u8]| [&[0x12, (audio.len() + rate.len() + 2) as u8, 0x1a, audio.len() as u8], audio, rate].concat();
    assert_eq!(Frame::decode(&audio(b"\x01", &[0x20, 0xc0, 0xbb, 0x01])), Err(BadFrame::HalfSample { length: 1, channels: 1 }));
    assert_eq!(Frame::decode(&audio(b"\x01\x00", &[])), Err(BadFrame::Rate { hz: 0 }));
    assert_eq!(Frame::decode(&audio(b"\x01\x00", &[0x20, 0x01])), Err(BadFrame::Rate { hz: 1 }));
}

/// What a message of this type and data means.
fn told(rtvi: &mut Rtvi, kind: &str, data: Value) -> (Option<Turn>, Vec<LegEvent>) {
    let mut events = Vec::new();
    let message = json!({"label": "rtvi-ai", "type": kind, "id": "1", "data": data}).to_string();
    let turn = rtvi.take(&message, &mut events).expect("a message that can be read");
    (turn, events)
}

#[test]
fn rtvi_becomes_speech_words_functions_and_faults() {
    let mut rtvi = Rtvi::default();
    assert!(!rtvi.is_ready());
    told(&mut rtvi, "bot-ready", json!({"version": "2.2.0", "about": {"library": "pipecat-ai"}}));
    assert!(rtvi.is_ready());
    let (_, started) = told(&mut rtvi, "bot-started-speaking", Value::Null);
    let (turn, stopped) = told(&mut rtvi, "bot-stopped-speaking", Value::Null);
    match (&started[..], &stopped[..]) {
        ([LegEvent::SpeechStarted(from)], [LegEvent::SpeechStopped(to)]) => assert_eq!(from.utterance, to.utterance),
        other => panic!("{other:?}"),
    }
    assert_eq!(turn, Some(Turn::Stops));
    assert_eq!(told(&mut rtvi, "bot-stopped-speaking", Value::Null), (None, vec![]), "nothing was begun");
    let spoken = |status: &str| json!({"text": "Hello.", "will_be_spoken": true, "spoken_status": status});
    assert_eq!(told(&mut rtvi, "bot-output", spoken("new")).1, []);
    assert_eq!(told(&mut rtvi, "bot-output", spoken("completed")).1, [LegEvent::Transcript("Hello.".to_owned())]);
    assert_eq!(told(&mut rtvi, "bot-transcription", json!({"text": "Hello."})).1, [], "each sentence is told once");
    let so_far = json!({"text": "How are you?", "spoken_status": "in-progress", "spoken_progress": {"accumulated_text": "How are ", "remaining_text": "you?"}});
    assert_eq!(told(&mut rtvi, "bot-output", so_far).1, []);
    let (turn, cut) = told(&mut rtvi, "bot-interrupted", Value::Null);
    assert_eq!(turn, Some(Turn::Interrupted));
    assert_eq!(cut[0], LegEvent::Transcript("How are".to_owned()), "what of a sentence was spoken before it was cut");
    assert_eq!(told(&mut rtvi, "bot-interrupted", Value::Null).1.len(), 1, "a bot that was silent has said nothing");
    let written = json!({"text": "a picture", "will_be_spoken": false, "spoken_status": "new"});
    assert_eq!(told(&mut rtvi, "bot-output", written).1, [LegEvent::Text("a picture".to_owned())]);
    let call = json!({"tool_call_id": "7", "function_name": "book", "arguments": {"day": "Friday"}});
    let [LegEvent::FunctionCall(call)] = &told(&mut rtvi, "llm-function-call-in-progress", call).1[..] else { panic!("a call") };
    assert_eq!((call.id.as_str(), call.name.as_str(), &call.arguments), ("7", "book", &json!({"day": "Friday"})));
    let result = json!({"tool_call_id": "7", "cancelled": false, "result": {"ok": true}});
    let [LegEvent::FunctionResult(result)] = &told(&mut rtvi, "llm-function-call-stopped", result).1[..] else {
        panic!("a result")
    };
    assert_eq!((result.id.as_str(), &result.result), ("7", &json!({"ok": true})));
    let [LegEvent::Fault { detail, .. }] = &told(&mut rtvi, "error", json!({"error": "no model", "fatal": true})).1[..] else {
        panic!("a fault")
    };
    assert_eq!(detail, "no model");
    let heard = told(&mut rtvi, "user-input", json!({"text": "Yes.", "final": true})).1;
    assert_eq!(heard, [LegEvent::Data(json!({"rtvi": "user-input", "text": "Yes.", "final": true}))]);

    let mut old = Rtvi::default();
    told(&mut old, "bot-ready", json!({"version": "1.1.0"}));
    assert_eq!(told(&mut old, "bot-transcription", json!({"text": "Hi."})).1, [LegEvent::Transcript("Hi.".to_owned())]);
}

#[test]
fn rtvi_that_cannot_be_read_says_why_and_other_json_is_data() {
    let (mut rtvi, mut events) = (Rtvi::default(), Vec::new());
    assert!(matches!(rtvi.take("{", &mut events), Err(BadMessage::NotJson(_))));
    let missing = rtvi.take(r#"{"label":"rtvi-ai","type":"bot-ready","data":{}}"#, &mut events);
    assert_eq!(
        missing.map_err(|error| error.to_string()),
        Err(r#"an RTVI message "bot-ready": the field "version" is missing or no string"#.to_owned())
    );
    assert_eq!(rtvi.take(r#"{"mine":1}"#, &mut events), Ok(None));
    assert_eq!(events, [LegEvent::Data(json!({"mine": 1}))]);
    let sent: Value = serde_json::from_str(&rtvi::data(&json!({"mine": 1}))).expect("JSON");
    assert_eq!((&sent["type"], &sent["data"]), (&json!("client-message"), &json!({"t": "data", "d": {"mine": 1}})));
}

#[test]
fn an_address_is_spelled_as_it_is_read_and_carries_no_credentials() {
    for address in ["pipecat-ws://127.0.0.1:7860/ws-client", "pipecat-wss://bots.example/ws"] {
        let way: WayOut = address.parse().expect("a way out");
        assert_eq!(way.to_string(), address);
    }
    let error = "pipecat-ws://me:secret@127.0.0.1/".parse::<WayOut>().expect_err("credentials").to_string();
    assert!(!error.contains("secret") && error.contains("credentials"), "{error}");
}

/// A real bot and its address.
fn bot(arguments: &[&str]) -> (Running, String) {
    let bot = Running::stdout_of(pipecat_python("pipecat_agent.py", arguments));
    let port = bot.json("its port")["port"].as_u64().expect("a port");
    (bot, format!("pipecat-ws://127.0.0.1:{port}/ws"))
}

#[test]
fn sound_goes_both_ways_and_a_bot_that_hangs_up_leaves_no_silence_behind() {
    let out = tempfile::tempdir().expect("a folder");
    let (bot, address) = bot(&["tone", "440"]);
    let (_serve, door) = serve(&address, out.path(), "");
    let got = python_caller(&format!("ws://{door}/"), &["--mode", "talk-and-hold", "--seconds", "20"]);
    assert_eq!(got["close_code"], 1000, "the bot's hang-up is passed on");
    let heard = bot.json("what the bot heard");
    assert_eq!((&heard["rates"], &heard["messages"]), (&json!([16000]), &json!(["client-ready"])));
    let hz = heard["hz"].as_array().expect("a list");
    assert!(!hz.is_empty() && hz.iter().all(|hz| hz == 150.0), "the caller's voice of 150 Hz: {heard}");
    let folder =
        until("the finished recording", || Some(call_folder(out.path())).filter(|folder| folder.join("labels.txt").exists()));
    let agent = wav(&folder.join("agent.wav"));
    let spoken: Vec<usize> = (0..agent.len()).filter(|at| agent[*at].unsigned_abs() > 100).collect();
    let (first, last) = (spoken[0], spoken[spoken.len() - 1]);
    assert!((last - first).abs_diff(32_000) < 200, "two seconds: {} samples", last - first);
    assert_eq!(gaps(&agent[first..last], 16_000, 440.0, TONE_DBFS), Vec::<usize>::new(), "its tone, whole");
    assert!((tone_level(&agent[first..last], 16_000, 440.0) - TONE_DBFS).abs() < 1.0);
    let events = events(&folder);
    let marks: Vec<_> = events.iter().filter(|event| event["side"] == "agent" && event["source"] == "signalled").collect();
    assert_eq!(marks.iter().map(|mark| &mark["event"]).collect::<Vec<_>>(), ["speech_started", "speech_stopped"]);
    let end = events.iter().find(|event| event["event"] == "ended").expect("an end");
    assert_eq!((&end["by"], &end["reason"]), (&json!("agent"), &json!("hung_up")));
}

/// A bot without RTVI never says that it is ready, and needs no other rate than its own.
#[test]
fn a_bot_without_rtvi_is_called_after_a_while() {
    let out = tempfile::tempdir().expect("a folder");
    let (bot, address) = bot(&["tone", "440", "--no-rtvi", "--rate-out", "16000"]);
    let suite = suite(out.path(), &["Thank you, goodbye. <silence time=\"4s\"/> <endcall/>"]);
    let output = run(&["call", "--to", &address, "--suite", path(&suite), "--out", path(&out.path().join("out"))]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let heard = bot.json("what the bot heard");
    assert!(heard["hz"].as_array().is_some_and(|hz| !hz.is_empty()), "it hears the caller: {heard}");
    let agent = wav(&call_folder(&out.path().join("out")).join("agent.wav"));
    let seconds = tone_seconds(&agent, 16_000, 440.0, TONE_DBFS);
    assert!((seconds - 2.0).abs() < 0.1, "{seconds} s of its tone: {said}");
}

/// What a bot hears and says are each other's echo: a tone goes to it and comes back, whole.
#[tokio::test(flavor = "multi_thread")]
async fn an_echo_comes_back_whole() {
    let (_bot, address) = bot(&["echo"]);
    let way: WayOut = address.parse().expect("a way out");
    let mut leg = way.connect(&ConnectOptions::default(), &CallIds::default(), &mut SetUp::default()).await.expect("a call");
    let (mut clock, mut heard, mut sent) = (tokio::time::interval(Duration::from_millis(20)), Vec::new(), 0_u64);
    while heard.len() < 5 * 16_000 {
        match event_or_tick(&mut *leg, &mut clock).await {
            Some(LegEvent::Audio(samples)) => heard.extend(samples),
            Some(LegEvent::Hangup { detail, .. }) => panic!("the bot is gone: {detail}"),
            Some(_) => {}
            None => {
                let sample = |at: u64| 8000.0 * (std::f64::consts::TAU * 700.0 * at as f64 / 16_000.0).sin();
                let frame: Vec<i16> = (sent..sent + 320).map(|at| sample(at) as i16).collect();
                sent += 320;
                leg.command(LegCommand::Audio(&frame));
            }
        }
    }
    let middle = &heard[16_000..];
    assert_eq!(gaps(middle, 16_000, 700.0, TONE_DBFS), Vec::<usize>::new());
    assert!((tone_level(middle, 16_000, 700.0) - TONE_DBFS).abs() < 1.0);
}

/// Calls a peer that is ready, and sends `message` once it hears the caller: how the call ended.
fn ended_by(message: Message) -> Value {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("pipecat-ws://{}/", listener.local_addr().expect("an address"));
    let peer = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a caller");
        let mut socket = tokio_tungstenite::tungstenite::accept(stream).expect("a WebSocket");
        let ready = json!({"label": "rtvi-ai", "type": "bot-ready", "id": "1", "data": {"version": "2.2.0"}}).to_string();
        socket.send(Message::binary(Frame::Message(ready).encode())).expect("it is sent");
        let is_audio = |message: Message| matches!(Frame::decode(&message.into_data()), Ok(Some(Frame::Audio(_))));
        while !is_audio(socket.read().expect("the caller's audio")) {}
        // A message that is too long may not be taken to its end.
        drop(socket.send(message));
        while socket.read().is_ok() {}
    });
    let folder = tempfile::tempdir().expect("a folder");
    let (suite, out) = (suite(folder.path(), &["", "Thank you, goodbye. <endcall/>"]), folder.path().join("out"));
    let output = run(&["call", "--to", &address, "--suite", path(&suite), "--out", path(&out), "--format", "json"]);
    peer.join().expect("the peer");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    report["runs"][0]["end"].clone()
}

#[test]
fn frames_that_make_no_sense_end_the_call_and_say_why() {
    let cut = bytes(FROM_PIPECAT[1])[..12].to_vec();
    let cases = [
        (Message::binary(b"\xff\xff\xff".to_vec()), "3 bytes are no pipecat.Frame"),
        (Message::binary(cut), "12 bytes are no pipecat.Frame"),
        (Message::text("{\"event\": \"media\"}"), "another serializer than ProtobufFrameSerializer"),
        (Message::binary(vec![0; MAX_MESSAGE + 1]), "is longer than the 1048576 that are taken"),
    ];
    for (message, expected) in cases {
        let end = ended_by(message);
        assert_eq!((&end["by"], &end["reason"]), (&json!("agent"), &json!("protocol_error")), "{end}");
        assert!(end["detail"].as_str().is_some_and(|detail| detail.contains(expected)), "{end}");
    }
}
