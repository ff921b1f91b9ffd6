//! The door for Pipecat's clients: a Pipecat pipeline that calls (`WebsocketClientTransport` of `pipecat-ai` 1.14.0), hostile peers, and
//! the bot's side of RTVI.

use crate::common;

use std::path::Path;

use common::pipecat::{PipecatBot, client_told, javascript_client, pipecat_python};
use common::tone::{gaps, tone_file, tone_level, tone_seconds};
use common::{Running, built_in_agent, call_folder, events, path, serve_door, trunkline, until, wav};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use trunkline::call::{FunctionCall, FunctionResult, LegCommand, LegEvent, Mark, MarkSource};
use trunkline::transport::pipecat::rtvi::{BadMessage, Rtvi};
use trunkline::transport::pipecat::{Bot, Frame, Understood};

/// The level of the tones: sines of 8000.
const TONE_DBFS: f64 = -15.3;

/// A Pipecat pipeline that calls, run to its end: what it tells.
fn caller(door: &str, arguments: &[&str]) -> Value {
    let mut all = vec![door];
    all.extend(arguments);
    let output = pipecat_python("pipecat_caller.py", &all).output().expect("python starts");
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.trim()).unwrap_or_else(|_| panic!("no summary: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// The types of the messages that a caller got.
fn kinds(told: &Value) -> Vec<&str> {
    told["messages"].as_array().expect("a list").iter().filter_map(|message| message["type"].as_str()).collect()
}

fn finished(out: &Path) -> std::path::PathBuf {
    until("the finished recording", || Some(call_folder(out)).filter(|folder| folder.join("labels.txt").exists()))
}

#[test]
fn a_pipecat_pipeline_calls_an_agent_and_sound_goes_both_ways() {
    let out = tempfile::tempdir().expect("a folder");
    let (_agent, agent) = built_in_agent("echo");
    let (_serve, door) = serve_door("pipecat", &agent, out.path(), "");
    let told = caller(&format!("ws://{door}/"), &["--tone", "700", "--version", "1.2.0"]);
    assert_eq!(told["ready"]["data"]["version"], "1.2.0", "an old client is spoken to in its version");
    assert_eq!(
        (&told["ready"]["id"], &told["ready"]["data"]["about"]["library"]),
        (&json!("caller-client-ready"), &json!("trunkline"))
    );
    assert_eq!((&told["rates"], &told["close_code"]), (&json!([24000]), &json!(1000)), "{told}");
    let hz = told["hz"].as_array().expect("a list");
    assert!(hz.len() >= 2 && hz.iter().all(|hz| hz == 700.0), "its own tone comes back: {hz:?}");
    let folder = finished(out.path());
    let events = events(&folder);
    for name in ["caller.wav", "agent.wav"] {
        let (samples, rate) = (wav(&folder.join(name)), if name == "caller.wav" { 24_000_u32 } else { 16_000 });
        let seconds = tone_seconds(&samples, rate, 700.0, TONE_DBFS);
        // A client on a busy machine sends its three seconds with holes between: it is not ours to fill them.
        assert!((2.5..3.2).contains(&seconds), "{name}: three seconds, not {seconds}");
        if !events.iter().any(|event| event["event"] == "starved" || event["event"] == "late") {
            assert_eq!(gaps(&samples, rate, 700.0, TONE_DBFS), Vec::<usize>::new(), "{name}");
        }
        let from = samples.iter().position(|sample| sample.unsigned_abs() > 1000).expect("the tone") + rate as usize / 10;
        let level = tone_level(&samples[from..from + rate as usize / 10], rate, 700.0);
        assert!((level - TONE_DBFS).abs() < 1.0, "{name}: {level} dBFS");
    }
    let end = events.into_iter().find(|event| event["event"] == "ended").expect("an end");
    assert_eq!((&end["by"], &end["reason"]), (&json!("caller"), &json!("hung_up")), "disconnect-bot ends the call");
}

#[test]
fn what_a_bot_behind_us_tells_reaches_the_client_and_what_the_client_tells_reaches_the_bot() {
    let out = tempfile::tempdir().expect("a folder");
    let bot = PipecatBot::start(&["scripted", "--function", "told"]);
    let (_serve, door) = serve_door("pipecat", &bot.web_socket(), out.path(), "");
    let speech = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/speech/caller-book.wav");
    let messages =
        ["--message", r#"client-message={"t": "order", "d": {"n": 1}}"#, "--message", r##"dtmf={"buttons": ["4", "#"]}"##];
    let mut arguments = vec!["--speech", path(&speech), "--until", "bot-stopped-speaking", "--answer", "server-response"];
    arguments.extend(messages);
    let told = caller(&format!("ws://{door}/"), &arguments);
    assert_eq!((&told["ready"]["data"]["version"], &told["close_code"]), (&json!("2.2.0"), &json!(1000)), "{told}");
    let kinds = kinds(&told);
    for kind in [
        "user-started-speaking",
        "user-stopped-speaking",
        "user-transcription",
        "llm-function-call-in-progress",
        "llm-function-call-stopped",
        "bot-started-speaking",
        "bot-output",
        "bot-stopped-speaking",
    ] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    assert_eq!(kinds.iter().filter(|kind| **kind == "bot-ready").count(), 1, "ours, and not the bot's: {kinds:?}");
    let all = told["messages"].as_array().expect("a list");
    let answer = all.iter().find(|message| message["type"] == "server-response").expect("an answer");
    assert_eq!(
        answer,
        &json!({"label": "rtvi-ai", "type": "server-response", "id": "caller-client-message",
        "data": {"t": "order", "d": {"heard": {"n": 1}}}})
    );
    let spoken = all.iter().find(|message| message["type"] == "bot-output").expect("words");
    assert_eq!((&spoken["data"]["text"], &spoken["data"]["spoken_status"]), (&json!("Of course."), &json!("completed")));
    let heard = bot.told("heard");
    assert_eq!(
        (&heard["keys"], &heard["client_messages"]),
        (&json!(["4", "#"]), &json!([{"t": "order", "d": {"n": 1}}])),
        "{heard}"
    );
}

#[test]
fn pipecats_javascript_client_calls_an_agent_over_its_web_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let (out, microphone) = (folder.path().join("out"), folder.path().join("voice.wav"));
    tone_file(&microphone, 700.0, 20.0, TONE_DBFS);
    let (_agent, agent) = built_in_agent("echo");
    let (_serve, door) = serve_door("pipecat", &agent, &out, "");
    let call = json!({"kind": "websocket", "connect": {"wsUrl": format!("ws://{door}/")}});
    let told = javascript_client(&call, &microphone, "3", &[]);
    let hz = told["heard"]["hz"].as_f64().expect("a number");
    assert!((hz - 700.0).abs() < 10.0, "its own tone comes back, at the rate that it plays: {told}");
    assert_eq!(client_told(&told, "BotReady")[0]["about"]["library"], "trunkline");
    let folder = finished(&out);
    let caller = wav(&folder.join("caller.wav"));
    let seconds = tone_seconds(&caller, 24_000, 700.0, TONE_DBFS);
    assert!(seconds > 1.5, "{seconds} s of the microphone");
}

type Client =
    tokio_tungstenite::tungstenite::WebSocket<tokio_tungstenite::tungstenite::stream::MaybeTlsStream<std::net::TcpStream>>;

fn open(url: &str) -> Client {
    tokio_tungstenite::tungstenite::connect(url).expect("the door opens").0
}

/// How the door closes a client that sends this.
fn closed_for(door: &str, message: Message) -> (CloseCode, String) {
    let mut client = open(&format!("ws://{door}/"));
    // A message that is too long may not be taken to its end.
    drop(client.send(message));
    loop {
        match client.read() {
            Ok(Message::Close(Some(frame))) => return (frame.code, frame.reason.to_string()),
            Ok(_) => {}
            other => panic!("no close: {other:?}"),
        }
    }
}

#[test]
fn hostile_frames_are_refused_with_a_close_and_touch_no_other_call() {
    let out = tempfile::tempdir().expect("a folder");
    let (_agent, agent) = built_in_agent("echo");
    let (serve, door) = serve_door("pipecat", &agent, out.path(), "[doors.pipecat]\nmax_message = 65536\n");
    let mut other = open(&format!("ws://{door}/"));
    let cases = [
        (Message::binary(b"\xff\xff\xff".to_vec()), "3 bytes are no pipecat.Frame"),
        (Message::binary(b"\x12\x06\x1a\x02\x01\x00\x20\x01".to_vec()), "an audio frame of 1 Hz"),
        (Message::text("{\"event\": \"media\"}"), "another serializer than ProtobufFrameSerializer"),
        (Message::binary(vec![0; 65537]), "is longer than the 65536 that are taken"),
    ];
    for (message, expected) in cases {
        let (code, reason) = closed_for(&door, message);
        assert!(code == CloseCode::Policy && reason.contains(expected), "{code:?} {reason}");
    }
    let mut client = open(&format!("ws://{door}/"));
    for _ in 0..100 {
        client.send(Message::binary(Frame::Message("{".to_owned()).encode())).expect("it is sent");
    }
    let mut complaints = 0;
    let reason = loop {
        match client.read() {
            Ok(Message::Binary(bytes)) => {
                let Ok(Some(Frame::Message(text))) = Frame::decode(&bytes) else { continue };
                complaints += usize::from(text.contains("error-response"));
            }
            Ok(Message::Close(Some(frame))) => break frame.reason.to_string(),
            other => panic!("{other:?} after {complaints} complaints"),
        }
    };
    assert_eq!((complaints, reason.as_str()), (100, "100 messages broke the protocol"), "each is told of");
    // The first client is still in its call.
    let ready = json!({"label": "rtvi-ai", "type": "client-ready", "id": "7", "data": {"version": "2.2.0"}}).to_string();
    other.send(Message::binary(Frame::Message(ready).encode())).expect("it is sent");
    let answer = loop {
        if let Ok(Some(Frame::Message(text))) = Frame::decode(&other.read().expect("an answer").into_data()) {
            break text;
        }
    };
    assert!(answer.contains("bot-ready"), "{answer}");
    drop(serve);
}

#[test]
fn an_agent_that_cannot_be_reached_is_told_of() {
    let out = tempfile::tempdir().expect("a folder");
    let (_serve, door) = serve_door("pipecat", "process:/nowhere/agent", out.path(), "");
    let mut client = open(&format!("ws://{door}/"));
    let mut said = String::new();
    let code = loop {
        match client.read() {
            Ok(Message::Binary(bytes)) => said.push_str(&String::from_utf8_lossy(&bytes)),
            Ok(Message::Close(Some(frame))) => break frame.code,
            other => panic!("{other:?}"),
        }
    };
    assert!(
        code == CloseCode::Error && said.contains("the agent cannot be reached") && said.contains("\"fatal\":true"),
        "{code:?} {said}"
    );
}

#[test]
fn a_door_that_is_guarded_takes_who_shows_the_token_in_any_of_three_places() {
    let out = tempfile::tempdir().expect("a folder");
    let (_agent, agent) = built_in_agent("echo");
    let file = out.path().join("token");
    std::fs::write(&file, "let-me-in\n").expect("a file");
    let config = format!("[doors.pipecat]\ntoken_file = {:?}\n", path(&file));
    let (_serve, door) = serve_door("pipecat", &agent, &out.path().join("calls"), &config);
    for place in ["/?token=let-me-in", "/ws-client/let-me-in"] {
        drop(open(&format!("ws://{door}{place}")));
    }
    let mut bearer = format!("ws://{door}/").into_client_request().expect("a request");
    bearer.headers_mut().insert("authorization", "Bearer let-me-in".parse().expect("a value"));
    drop(tokio_tungstenite::tungstenite::connect(bearer).expect("the door opens"));
    for place in ["/", "/?token=wrong", "/ws-client/wrong"] {
        match tokio_tungstenite::tungstenite::connect(format!("ws://{door}{place}")) {
            Err(Error::Http(response)) => assert_eq!(response.status(), 401),
            other => panic!("{place}: {other:?}"),
        }
    }
    let open_to_all = trunkline(&["serve", "--to", &agent, "--door", "pipecat=0.0.0.0:0", "--out", path(out.path())]);
    let mut refused = Running::stderr_of(open_to_all);
    refused.wait_for("a refusal", |line| line.contains("a pipecat door on 0.0.0.0:0, which is not loopback, needs").then_some(()));
    assert_eq!(refused.wait().code(), Some(2));
}

#[test]
fn pages_of_other_machines_may_not_call_a_door_without_a_token() {
    let out = tempfile::tempdir().expect("a folder");
    let (_agent, agent) = built_in_agent("echo");
    let (_serve, door) = serve_door("pipecat", &agent, &out.path().join("calls"), "");
    let file = out.path().join("token");
    std::fs::write(&file, "let-me-in\n").expect("a file");
    let guarded = format!("[doors.pipecat]\ntoken_file = {:?}\n", path(&file));
    let (_serve_guarded, guarded) = serve_door("pipecat", &agent, &out.path().join("guarded"), &guarded);
    let page = |url: String, origin: &str| {
        let mut request = url.into_client_request().expect("a request");
        request.headers_mut().insert("origin", origin.parse().expect("a value"));
        tokio_tungstenite::tungstenite::connect(request)
    };
    for (url, origin) in
        [(format!("ws://{door}/"), "http://localhost:5173"), (format!("ws://{guarded}/?token=let-me-in"), "https://example.com")]
    {
        drop(page(url, origin).expect("the door opens"));
    }
    match page(format!("ws://{door}/"), "https://example.com") {
        Err(Error::Http(refused)) => {
            let said = String::from_utf8_lossy(refused.body().as_deref().unwrap_or_default()).into_owned();
            let problem = "pages of https://example.com may not call: without credentials the door takes those of this machine\n";
            assert_eq!((refused.status().as_u16(), said.as_str()), (403, problem));
        }
        other => panic!("{other:?}"),
    }
}

/// What a client's message of this kind means.
fn understood(bot: &mut Bot, kind: &str, data: Value) -> Result<Understood, BadMessage> {
    bot.take(&json!({"label": "rtvi-ai", "type": kind, "id": "1", "data": data}).to_string())
}

#[test]
fn a_clients_messages_become_the_calls_events_and_wrong_ones_say_why() {
    let mut bot = Bot::default();
    let events = |understood: Result<Understood, BadMessage>| understood.expect("a message that can be read").events;
    let ready = understood(&mut bot, "client-ready", json!({"version": "2.0.0"})).expect("a message");
    assert_eq!(ready, Understood::default(), "the agent is not there yet");
    assert!(bot.begin().is_some_and(|answer| answer.contains("bot-ready")) && bot.begin().is_none(), "one answer to one question");
    assert_eq!(events(understood(&mut bot, "send-text", json!({"content": "Hi"}))), [LegEvent::Text("Hi".to_owned())]);
    let keys = events(understood(&mut bot, "dtmf", json!({"buttons": ["1", "*"]})));
    assert_eq!(keys, [LegEvent::Dtmf('1'), LegEvent::Dtmf('*')]);
    let result = events(understood(&mut bot, "llm-function-call-result", json!({"tool_call_id": "7", "result": {"ok": true}})));
    assert_eq!(result, [LegEvent::FunctionResult(FunctionResult { id: "7".to_owned(), result: json!({"ok": true}) })]);
    assert!(understood(&mut bot, "disconnect-bot", Value::Null).expect("a message").leaves);
    let whole = json!({"label": "rtvi-ai", "type": "ui-event", "id": "1", "data": {"a": 1}});
    assert_eq!(events(bot.take(&whole.to_string())), [LegEvent::Data(whole)]);
    assert_eq!(events(bot.take(r#"{"mine": 1}"#)), [LegEvent::Data(json!({"mine": 1}))]);
    let audio = understood(&mut bot, "raw-audio", json!({})).expect("a message");
    assert!(audio.answers[0].contains("error-response") && audio.events.is_empty(), "{audio:?}");
    for (kind, data, field) in [
        ("send-text", json!({}), "content"),
        ("dtmf", json!({"buttons": ["12"]}), "buttons"),
        ("dtmf", json!({"buttons": 1}), "buttons"),
        ("llm-function-call-result", json!({}), "tool_call_id"),
    ] {
        let problem = understood(&mut bot, kind, data).expect_err("a wrong message").to_string();
        assert!(problem.contains(kind) && problem.contains(field), "{problem}");
    }
}

/// What the bot's side tells, the client's side reads: the two are each other's oracle here, as Pipecat's own are above.
#[test]
fn what_is_told_of_an_agent_is_read_as_it_was() {
    let (mut bot, mut client) = (Bot::default(), Rtvi::default());
    understood(&mut bot, "client-ready", json!({"version": "2.2.0"})).expect("a message");
    let mut read = |messages: Vec<String>| {
        let mut events = Vec::new();
        for message in messages {
            client.take(&message, &mut events).expect("a message that can be read");
        }
        events
    };
    read(bot.begin().into_iter().collect());
    assert_eq!(read(bot.tell(&LegCommand::Transcript("Hello."))), [LegEvent::Transcript("Hello.".to_owned())]);
    assert_eq!(read(bot.tell(&LegCommand::Text("a picture"))), [LegEvent::Text("a picture".to_owned())]);
    let mark = Mark { utterance: "u".to_owned(), position: None, source: MarkSource::Signalled, interruption: None };
    assert!(matches!(read(bot.tell(&LegCommand::SpeechStarted(&mark)))[..], [LegEvent::SpeechStarted(_)]));
    assert!(matches!(read(bot.tell(&LegCommand::SpeechStopped(&mark)))[..], [LegEvent::SpeechStopped(_)]));
    let call = FunctionCall { id: "7".to_owned(), name: "book".to_owned(), arguments: json!({"day": "Friday"}) };
    assert_eq!(read(bot.tell(&LegCommand::FunctionCall(&call))), [LegEvent::FunctionCall(call)]);
    let result = FunctionResult { id: "7".to_owned(), result: json!({"ok": true}) };
    assert_eq!(read(bot.tell(&LegCommand::FunctionResult(&result))), [LegEvent::FunctionResult(result)]);
    let told = json!({"rtvi": "user-transcription", "text": "Hi.", "final": true});
    assert_eq!(read(bot.tell(&LegCommand::Data(&told))), [LegEvent::Data(told)], "another bot's message passes as it came");
    let own = read(bot.tell(&LegCommand::Data(&json!({"mine": 1}))));
    assert_eq!(own, [LegEvent::Data(json!({"rtvi": "server-message", "mine": 1}))]);
}
