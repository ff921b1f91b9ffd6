//! Peers that break the protocol: each is told of, or closed with a reason, and the call's other side hears of it.

use std::future::poll_fn;
use std::net::TcpListener;
use std::thread;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use trunkline::call::{CallIds, EndReason, LegEvent};
use trunkline::transport::telephony_ws::{Incoming, Outgoing, Provider, Role};
use trunkline::transport::{ConnectOptions, SetUp, WayOut};

use super::doors::{Doors, hear, provider_messages, say, to_the_end, tone_agent};
use super::{fixture, tone, usual, wire};
use crate::common::tone::tone_seconds;
use crate::common::wav;

/// A dialect's message of audio, with something else in it.
fn audio_with(provider: Provider, payload: &str, stream: Option<&str>) -> Message {
    let messages = fixture(provider, "from-provider.json");
    let mut media = messages.into_iter().find(|message| message["event"] == "media").expect("audio");
    media["media"]["payload"] = payload.into();
    for name in ["streamSid", "stream_id", "streamId", "stream_sid"] {
        if let (true, Some(stream)) = (media[name].is_string(), stream) {
            media[name] = stream.into();
        }
    }
    Message::text(media.to_string())
}

/// What a provider may do wrong after its start, and the fault that is told of.
fn wrongs(provider: Provider) -> Vec<(Message, &'static str)> {
    let mut wrongs = vec![
        (Message::text("{\"event\": \"med"), "BAD_MESSAGE"),
        (Message::text("[]"), "BAD_MESSAGE"),
        (Message::text("{}"), "BAD_MESSAGE"),
        (Message::text("garbage"), "BAD_MESSAGE"),
    ];
    let start = fixture(provider, "from-provider.json").iter().map(Value::to_string).find(|text| text.contains("run_id"));
    wrongs.push((Message::text(start.expect("a start")), "OUT_OF_ORDER"));
    match provider {
        Provider::Vonage => wrongs.extend([
            (Message::binary(vec![0; 3]), "BAD_AUDIO"),
            (Message::binary(Vec::new()), "BAD_AUDIO"),
            (Message::text(json!({"event": "websocket:dtmf", "digit": "55"}).to_string()), "BAD_MESSAGE"),
            (Message::text(json!({"event": "media"}).to_string()), "UNKNOWN_EVENT"),
        ]),
        Provider::Genesys => {
            let id = fixture(provider, "from-provider.json")[0]["id"].clone();
            let of = |kind: &str, seq: u64, id: Value| {
                Message::text(
                    json!({"version": "2", "type": kind, "id": id, "seq": seq, "serverseq": 1, "parameters": {}}).to_string(),
                )
            };
            wrongs.extend([
                (Message::binary(Vec::new()), "BAD_AUDIO"),
                (of("ping", 2, "another".into()), "WRONG_STREAM"),
                (of("ping", 9, id.clone()), "OUT_OF_ORDER"),
                (of("transcribe", 10, id.clone()), "UNKNOWN_EVENT"),
                (of("dtmf", 11, id), "BAD_MESSAGE"),
            ]);
        }
        _ => wrongs.extend([
            (Message::binary(vec![0; 160]), "BAD_MESSAGE"),
            (audio_with(provider, "!!!!", None), "BAD_AUDIO"),
            (audio_with(provider, "", None), "BAD_AUDIO"),
            (audio_with(provider, "AAAAAAAA", Some("another")), "WRONG_STREAM"),
            (Message::text(json!({"event": "websocket:connected"}).to_string()), "UNKNOWN_EVENT"),
        ]),
    }
    wrongs
}

#[test]
fn what_a_provider_does_wrong_is_told_of_and_its_call_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let doors = Doors::open(&tone_agent(), folder.path(), "");
    for (run_id, provider) in (400..).map(|run: u32| run.to_string()).zip(Provider::ALL) {
        let (mut socket, good) = doors.begin(provider, &run_id);
        let wrongs = wrongs(provider);
        wrongs.iter().for_each(|(message, _)| socket.send(message.clone()).expect("it is sent"));
        good[..2].iter().for_each(|message| socket.send(message.clone()).expect("it is sent"));
        socket.close(None).expect("it is sent");
        to_the_end(&mut socket);
        let events = doors.events(&run_id);
        let faults: Vec<_> = events.iter().filter(|event| event["event"] == "fault").collect();
        let codes: Vec<_> = faults.iter().map(|fault| fault["code"].as_str().expect("a code")).collect();
        assert_eq!(codes, wrongs.iter().map(|(_, code)| *code).collect::<Vec<_>>(), "{provider:?}: {faults:#?}");
        assert!(faults.iter().all(|fault| fault["side"] == "caller"), "{provider:?}");
        let caller = wav(&doors.recording(&run_id).join("caller.wav"));
        assert!(caller.iter().any(|sample| *sample > 7000), "{provider:?}: the audio after it is heard");
    }
}

/// What ends a connection before its call has begun, and the reason that is given.
#[test]
fn who_is_no_caller_is_closed_with_a_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut doors = Doors::open(&tone_agent(), folder.path(), "");
    let start = |provider: Provider, was: &str, is: &str| {
        let text = Value::from(fixture(provider, "from-provider.json")).to_string();
        assert!(text.contains(was), "{was}");
        let messages: Vec<Value> = serde_json::from_str(&text.replace(was, is)).expect("JSON");
        messages.iter().take(2).map(wire).collect::<Vec<_>>()
    };
    let cases = [
        (Provider::Genesys, start(Provider::Genesys, "\"version\":\"2\"", "\"version\":\"3\""), "version \"3\" of the protocol"),
        (Provider::Genesys, start(Provider::Genesys, "PCMU", "L16"), "audio is not carried as"),
        (Provider::Twilio, start(Provider::Twilio, "audio/x-mulaw", "audio/opus"), "audio is not carried as audio/opus, 8000 Hz"),
        (Provider::Telnyx, start(Provider::Telnyx, "PCMA", "G722"), "not carried as G722, 8000 Hz"),
        (Provider::Plivo, start(Provider::Plivo, "\"sampleRate\":8000", "\"sampleRate\":44100"), "audio/x-mulaw, 44100 Hz"),
        (Provider::Exotel, start(Provider::Exotel, "\"sample_rate\":\"16000\"", "\"sample_rate\":\"11025\""), "11025 Hz"),
        (Provider::Vonage, start(Provider::Vonage, "audio/l16;rate=8000", "audio/opus"), "not carried as audio/opus"),
        (Provider::Twilio, vec![Message::text("[]"); 100], "100 messages broke the protocol"),
        (Provider::Twilio, vec![Message::text("x".repeat((1 << 20) + 1))], "is longer than the 1048576"),
        (Provider::Plivo, Vec::new(), "the stream did not begin within 5 s"),
        // Audio alone is none: the stream has not begun.
        (Provider::Twilio, provider_messages(Provider::Twilio, "1")[2..3].to_vec(), "the stream did not begin within 5 s"),
        (Provider::Genesys, provider_messages(Provider::Genesys, "1")[1..4].to_vec(), "the stream did not begin within 5 s"),
    ];
    let sockets: Vec<_> = cases
        .into_iter()
        .map(|(provider, messages, expected)| {
            let mut socket = doors.connect(provider);
            // A message that is too long may not be taken to its end.
            messages.into_iter().for_each(|message| drop(socket.send(message)));
            (provider, socket, expected)
        })
        .collect();
    for (provider, mut socket, expected) in sockets {
        let (said, close) = to_the_end(&mut socket);
        let (code, reason) = close.unwrap_or_else(|| panic!("{provider:?}: no close for {expected:?}: {said:?}"));
        assert!(code == 1008 && reason.contains(expected), "{provider:?}: {code} {reason}, not {expected:?}");
    }
    doors.stop();
    let calls = std::fs::read_dir(&doors.out).map_or(0, Iterator::count);
    assert_eq!(calls, 0, "none of them was a call");
}

/// A call whose provider does this after its start: how it ended.
fn ended_by(doors: &Doors, provider: Provider, run_id: &str, messages: Vec<Message>) -> (Value, Option<(u16, String)>) {
    let (mut socket, _) = doors.begin(provider, run_id);
    messages.into_iter().for_each(|message| drop(socket.send(message)));
    let (_, close) = to_the_end(&mut socket);
    let end = doors.events(run_id).into_iter().find(|event| event["event"] == "ended").expect("an end");
    (end, close)
}

#[test]
fn a_provider_that_goes_silent_or_too_far_is_closed_and_the_agent_hears_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let doors: String = Provider::ALL.map(|provider| format!("[doors.{}]\nidle_s = 1\n", provider.name())).concat();
    let doors = Doors::open(&tone_agent(), folder.path(), &doors);
    thread::scope(|scope| {
        for (run_id, provider) in (500..).map(|run: u32| run.to_string()).zip(Provider::ALL) {
            let doors = &doors;
            scope.spawn(move || {
                let (end, close) = ended_by(doors, provider, &run_id, Vec::new());
                assert_eq!((&end["by"], &end["reason"]), (&json!("caller"), &json!("idle_timeout")), "{provider:?}: {end}");
                assert_eq!(close, Some((1008, "nothing came for 1 s".to_owned())), "{provider:?}");
                let run_id = format!("{run_id}0");
                let (end, close) = ended_by(doors, provider, &run_id, vec![Message::text("x".repeat((1 << 20) + 1))]);
                assert_eq!((&end["by"], &end["reason"]), (&json!("caller"), &json!("protocol_error")), "{provider:?}: {end}");
                assert!(close.is_some_and(|(code, reason)| code == 1008 && reason.contains("is longer than")), "{provider:?}");
                let run_id = format!("{run_id}1");
                let (end, close) = ended_by(doors, provider, &run_id, vec![Message::text("[]"); 100]);
                assert_eq!(end["reason"], "protocol_error", "{provider:?}: {end}");
                assert_eq!(close, Some((1008, "100 messages broke the protocol".to_owned())), "{provider:?}");
            });
        }
    });
}

/// Three seconds in one burst, and then the end of the stream.
#[test]
fn nothing_of_a_burst_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let doors = Doors::open(&tone_agent(), folder.path(), "");
    thread::scope(|scope| {
        for (run_id, provider) in (600..).map(|run: u32| run.to_string()).zip(Provider::ALL) {
            let doors = &doors;
            scope.spawn(move || {
                let (mut socket, mut dialect, mut messages) =
                    (doors.connect(provider), usual(provider, Role::Provider), Vec::new());
                let mut details = super::messages::call();
                details.parameters.insert("run_id".to_owned(), run_id.clone().into());
                say(&mut socket, &mut *dialect, &[Outgoing::Begin(&details)]);
                hear(&mut socket, &mut *dialect, |told| matches!(told, Incoming::Audio(_)));
                let rate = dialect.format().rate;
                for frame in tone(rate.hz(), 0, 3 * rate.hz() as usize).chunks(rate.frame_len()) {
                    dialect.write(Outgoing::Audio(frame), &mut messages);
                }
                dialect.write(Outgoing::Stop, &mut messages);
                messages.into_iter().for_each(|message| socket.send(message).expect("it is sent"));
                socket.close(None).expect("it is sent");
                to_the_end(&mut socket);
                let caller = wav(&doors.recording(&run_id).join("caller.wav"));
                let seconds = tone_seconds(&caller, rate.hz(), 500.0, super::TONE_DBFS);
                assert!((seconds - 3.0).abs() < 0.07, "{provider:?}: {seconds} s of three");
            });
        }
    });
}

/// A provider that asks for an answer again and again, and reads none: what waits for it has an end, and is told of.
#[test]
fn answers_that_nobody_reads_do_not_pile_up() {
    const PINGS: u64 = 150_000;
    let folder = tempfile::tempdir().expect("a folder");
    let doors = Doors::open(&tone_agent(), folder.path(), "");
    let (mut socket, _) = doors.begin(Provider::Genesys, "700");
    let id = fixture(Provider::Genesys, "from-provider.json")[0]["id"].clone();
    for seq in 2..2 + PINGS {
        let ping = json!({"version": "2", "type": "ping", "id": id, "seq": seq, "serverseq": 1, "parameters": {}});
        socket.write(Message::text(ping.to_string())).expect("it is taken");
    }
    socket.close(None).expect("it is sent");
    let (said, _) = to_the_end(&mut socket);
    let pongs = said.iter().filter(|message| message.to_text().is_ok_and(|text| text.contains("\"pong\""))).count() as u64;
    let not_read: u64 = doors.events("700").iter().filter_map(|event| event["frames"].as_u64()).sum();
    assert!(not_read > 0 && pongs < PINGS, "{pongs} of {PINGS} pings were answered, {not_read} messages were not read");
}

/// Our dial calls a bot that says this and closes: the faults, and the end.
async fn called(provider: Provider, said: Vec<Message>) -> (Vec<String>, EndReason, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("{}+ws://{}/", provider.name(), listener.local_addr().expect("an address"));
    let bot = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a call");
        let mut socket = tokio_tungstenite::tungstenite::accept(stream).expect("a WebSocket");
        let (mut dialect, mut told) = (usual(provider, Role::Bot), Vec::new());
        while !told.iter().any(|told| matches!(told, Incoming::Start(_))) {
            super::read(&mut *dialect, &socket.read().expect("the stream begins"), &mut told).expect("a message");
        }
        for told in told {
            if let Incoming::Answer(answer) = told {
                socket.send(answer).expect("it is sent");
            }
        }
        said.into_iter().for_each(|message| drop(socket.send(message)));
        drop(socket.close(None));
        to_the_end(&mut socket);
    });
    let way: WayOut = address.parse().expect("a way out");
    let mut leg = way.connect(&ConnectOptions::default(), &CallIds::default(), &mut SetUp::default()).await.expect("a call");
    let mut faults = Vec::new();
    loop {
        match poll_fn(|cx| leg.poll_event(cx)).await {
            LegEvent::Fault { code, .. } => faults.push(code),
            LegEvent::Hangup { reason, detail } => {
                bot.join().expect("the bot");
                return (faults, reason, detail);
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bot_does_wrong_is_told_of_and_ends_the_call_where_it_must() {
    for provider in Provider::ALL {
        let mut wrongs = vec![
            (Message::text("{\"event\": \"med"), "BAD_MESSAGE"),
            (Message::text("[1]"), "BAD_MESSAGE"),
            (Message::text("{}"), "BAD_MESSAGE"),
        ];
        match provider {
            Provider::Vonage => wrongs.extend([
                (Message::binary(vec![0; 3]), "BAD_AUDIO"),
                (Message::text(json!({"action": "dance"}).to_string()), "UNKNOWN_EVENT"),
                (Message::text(json!({"action": "notify"}).to_string()), "BAD_MESSAGE"),
            ]),
            Provider::Genesys => wrongs.push((Message::binary(Vec::new()), "BAD_AUDIO")),
            _ => {
                let mut bot: Vec<Value> = fixture(provider, "from-bot.json");
                let mut stranger = bot.swap_remove(0);
                for name in ["streamSid", "stream_id", "streamId", "stream_sid"] {
                    stranger[name] = if stranger[name].is_null() { Value::Null } else { "another".into() };
                }
                let named = provider != Provider::Telnyx;
                wrongs.push((Message::binary(vec![0; 160]), "BAD_MESSAGE"));
                wrongs.push((Message::text(json!({"event": "dance"}).to_string()), "UNKNOWN_EVENT"));
                wrongs.extend(named.then(|| (Message::text(stranger.to_string()), "WRONG_STREAM")));
            }
        }
        let (faults, reason, detail) = called(provider, wrongs.iter().map(|(message, _)| message.clone()).collect()).await;
        assert_eq!(faults, wrongs.iter().map(|(_, code)| *code).collect::<Vec<_>>(), "{provider:?}");
        assert_eq!((reason, detail.as_str()), (EndReason::HungUp, ""), "{provider:?}: its close is an ordinary one");

        let (_, reason, detail) = called(provider, vec![Message::text("[]"); 100]).await;
        assert_eq!((reason, detail.as_str()), (EndReason::ProtocolError, "100 messages broke the protocol"), "{provider:?}");
        let (_, reason, detail) = called(provider, vec![Message::text("x".repeat((1 << 20) + 1))]).await;
        assert!(reason == EndReason::ProtocolError && detail.contains("is longer than the 1048576"), "{provider:?}: {detail}");
    }
    let version = json!({"version": "1", "type": "pong", "id": "x", "seq": 2, "clientseq": 1, "parameters": {}});
    let (faults, reason, detail) = called(Provider::Genesys, vec![Message::text(version.to_string())]).await;
    assert_eq!((faults, reason), (vec!["WRONG_VERSION".to_owned()], EndReason::ProtocolError), "{detail}");
}
