//! Our doors: called by our own dial as the provider, and by raw WebSockets with the fixtures.

use std::future::poll_fn;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};
use trunkline::call::{CallIds, EndReason, LegCommand, LegEvent};
use trunkline::transport::telephony_ws::{Dialect, Incoming, Outgoing, Provider, Role};
use trunkline::transport::{ConnectOptions, SetUp, WayOut};

use super::messages::call;
use super::{TONE_DBFS, fixture, read, shown, tone, usual, wire};
use crate::common::leg::event_or_tick;
use crate::common::tone::tone_level;
use crate::common::{PATIENCE, Running, built_in_agent, events, path, run, trunkline, until, wav};

pub type Raw = WebSocket<TcpStream>;

/// `serve` with a door for each provider, in front of `to`.
pub struct Doors {
    serve: Mutex<Running>,
    pub out: PathBuf,
    pub addresses: Vec<String>,
}

impl Doors {
    pub fn open(to: &str, folder: &Path, config: &str) -> Self {
        let (file, out) = (folder.join("trunkline.toml"), folder.join("calls"));
        std::fs::write(&file, config).expect("a file");
        let doors: Vec<_> = Provider::ALL.iter().map(|provider| format!("--door={}=127.0.0.1:0", provider.name())).collect();
        let mut arguments = vec!["serve", "--to", to, "--out", path(&out), "--config", path(&file)];
        arguments.extend(doors.iter().map(String::as_str));
        let serve = Running::stderr_of(trunkline(&arguments));
        let addresses = Provider::ALL.iter().map(|_| serve.door()).collect();
        Self { serve: Mutex::new(serve), out, addresses }
    }

    pub fn address(&self, provider: Provider) -> &str {
        &self.addresses[provider as usize]
    }

    /// A provider's connection.
    pub fn connect(&self, provider: Provider) -> Raw {
        connect(&format!("ws://{}/", self.address(provider))).expect("the door is open")
    }

    /// A provider's connection whose call goes on: the agent, which must not be silent, was heard. And what the provider says next.
    pub fn begin(&self, provider: Provider, run_id: &str) -> (Raw, Vec<Message>) {
        let mut socket = self.connect(provider);
        let mut messages = provider_messages(provider, run_id);
        let start = messages.iter().position(|message| message.to_text().is_ok_and(|text| text.contains("run_id")));
        for message in messages.drain(..=start.expect("a start")) {
            socket.send(message).expect("it is sent");
        }
        while !is_audio(&socket.read().expect("the agent is heard")) {}
        (socket, messages)
    }

    /// The finished recording of the call with this run id.
    pub fn recording(&self, run_id: &str) -> PathBuf {
        until("the finished recording", || {
            std::fs::read_dir(&self.out).ok()?.filter_map(Result::ok).map(|entry| entry.path()).find(|folder| {
                let call = std::fs::read(folder.join("call.json")).ok();
                let call: Option<Value> = call.and_then(|json| serde_json::from_slice(&json).ok());
                call.is_some_and(|call| call["run_id"] == run_id) && folder.join("labels.txt").exists()
            })
        })
    }

    /// Its events.
    pub fn events(&self, run_id: &str) -> Vec<Value> {
        events(&self.recording(run_id))
    }

    pub fn stop(&mut self) {
        self.serve.get_mut().expect("nobody panicked with it").stop();
    }
}

fn is_audio(message: &Message) -> bool {
    message.is_binary() || message.to_text().is_ok_and(|text| text.contains("payload"))
}

pub fn connect(url: &str) -> Result<Raw, Box<Error>> {
    let request = url.into_client_request().map_err(Box::new)?;
    connect_as(request)
}

fn connect_as(request: tokio_tungstenite::tungstenite::http::Request<()>) -> Result<Raw, Box<Error>> {
    let stream = TcpStream::connect(request.uri().authority().expect("an address").as_str()).expect("the door is there");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    match tokio_tungstenite::tungstenite::client(request, stream) {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::HandshakeError::Failure(error)) => Err(Box::new(error)),
        Err(other) => panic!("{other}"),
    }
}

/// The fixture's messages with another run id, so that each call is found.
pub fn provider_messages(provider: Provider, run_id: &str) -> Vec<Message> {
    let text = Value::from(fixture(provider, "from-provider.json")).to_string();
    let text = text.replace("\"run_id\":\"77\"", &format!("\"run_id\":\"{run_id}\""));
    let text = text.replace("\"run_id\":77", &format!("\"run_id\":{run_id}")).replace("run_id=77", &format!("run_id={run_id}"));
    serde_json::from_str::<Vec<Value>>(&text).expect("JSON").iter().map(wire).collect()
}

/// What a socket said up to its close, with the close's code and reason.
pub fn to_the_end(socket: &mut Raw) -> (Vec<Message>, Option<(u16, String)>) {
    let (mut messages, mut close) = (Vec::new(), None);
    loop {
        match socket.read() {
            Ok(Message::Close(frame)) => close = frame.map(|frame| (frame.code.into(), frame.reason.as_str().to_owned())),
            Ok(message) => messages.push(message),
            Err(_) => return (messages, close),
        }
    }
}

/// An agent that says 440 Hz.
pub fn tone_agent() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    format!("process:{} {} 440", path(&root.join("target/pyenv/bin/python")), path(&root.join("tests/interop/tone_agent.py")))
}

/// Our dial plays the provider towards our door: what each side heard of the other.
async fn calls_the_door(address: String, run_id: String) -> (u32, Vec<i16>) {
    let way: WayOut = address.parse().expect("a way out");
    let ids = CallIds { run_id: Some(run_id), scenario_id: Some("5".to_owned()), ..CallIds::default() };
    let mut leg = way.connect(&ConnectOptions::default(), &ids, &mut SetUp::default()).await.expect("a call");
    let hz = leg.rate().hz();
    let (mut clock, mut heard, mut sent) = (tokio::time::interval(Duration::from_millis(20)), Vec::new(), 0);
    while heard.len() < 2 * hz as usize {
        match event_or_tick(&mut *leg, &mut clock).await {
            Some(LegEvent::Audio(samples)) => heard.extend(samples),
            Some(LegEvent::Hangup { detail, .. }) => panic!("the door is gone: {detail}"),
            Some(_) => {}
            None => {
                leg.command(LegCommand::Audio(&tone(hz, sent, hz as usize / 50)));
                sent += hz as usize / 50;
                if sent == hz as usize {
                    leg.command(LegCommand::Dtmf('5'));
                }
            }
        }
    }
    leg.command(LegCommand::Hangup(EndReason::HungUp));
    while !matches!(poll_fn(|cx| leg.poll_event(cx)).await, LegEvent::Hangup { .. }) {}
    (hz, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_door_takes_the_calls_of_our_own_dial() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut doors = Doors::open(&tone_agent(), folder.path(), "");
    let forms = ["", "", "#PCMA", "#L16@16000", "#L16@24000", "", ""];
    let providers = [
        Provider::Twilio,
        Provider::Telnyx,
        Provider::Telnyx,
        Provider::Plivo,
        Provider::Exotel,
        Provider::Vonage,
        Provider::Genesys,
    ];
    let calls: Vec<_> = (100..)
        .zip(providers.iter().zip(forms))
        .map(|(run, (provider, form))| {
            let address = format!("{}+ws://{}/{form}", provider.name(), doors.address(*provider));
            (run.to_string(), provider, tokio::spawn(calls_the_door(address, run.to_string())))
        })
        .collect();
    for (run_id, provider, called) in calls {
        let (hz, heard) = called.await.expect("it went well");
        assert!((tone_level(&heard[hz as usize / 2..], hz, 440.0) + 15.0).abs() < 1.0, "{provider:?}: the agent's tone is heard");
        let folder = doors.recording(&run_id);
        let caller = wav(&folder.join("caller.wav"));
        let level = tone_level(&caller[hz as usize / 2..hz as usize * 3 / 2], hz, 500.0);
        assert!((level - TONE_DBFS).abs() < 1.0, "{provider:?}: the caller's tone is recorded: {level} dBFS");
        let events = events(&folder);
        let digits: Vec<_> = events.iter().filter(|event| event["event"] == "dtmf").map(|event| &event["digit"]).collect();
        assert_eq!(digits, ["5"], "{provider:?}");
        let faults: Vec<_> = events.iter().filter(|event| event["event"] == "fault").collect();
        assert_eq!(faults, Vec::<&Value>::new(), "{provider:?}");
        let end = events.iter().find(|event| event["event"] == "ended").expect("an end");
        assert_eq!((&end["by"], &end["reason"]), (&json!("caller"), &json!("hung_up")), "{provider:?}");
        let logged = events.iter().find(|event| event["event"] == "log").expect("the agent's log");
        let found: Value = serde_json::from_str(logged["line"].as_str().expect("a line")).expect("JSON");
        assert_eq!((&found["TRUNKLINE_RUN_ID"], &found["TRUNKLINE_SCENARIO_ID"]), (&json!(run_id), &json!("5")));
        let told: Value = serde_json::from_str(found["TRUNKLINE_METADATA"].as_str().expect("metadata")).expect("JSON");
        assert!(told.is_object() && told.to_string().contains(&run_id), "{provider:?}: what the provider says of the call: {told}");
    }
    doors.stop();
}

#[test]
fn each_door_takes_a_providers_documented_messages() {
    let folder = tempfile::tempdir().expect("a folder");
    let doors = Doors::open(&tone_agent(), folder.path(), "");
    for (run_id, provider) in (200..).map(|run: u32| run.to_string()).zip(Provider::ALL) {
        let (mut socket, messages) = doors.begin(provider, &run_id);
        messages.into_iter().for_each(|message| socket.send(message).expect("it is sent"));
        // Plivo and Vonage end a stream with the connection's close.
        if matches!(provider, Provider::Plivo | Provider::Vonage) {
            socket.close(None).expect("it is sent");
        }
        let (said, close) = to_the_end(&mut socket);
        assert_eq!(close.map(|(code, _)| code).unwrap_or(1000), 1000, "{provider:?}: {said:?}");
        let events = doors.events(&run_id);
        let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).cloned().collect::<Vec<_>>();
        assert_eq!(of("dtmf").iter().map(|event| &event["digit"]).collect::<Vec<_>>(), ["1"], "{provider:?}: {events:#?}");
        // Its mark is one that nobody set.
        let faults: Vec<_> = of("fault").iter().map(|event| event["code"].clone()).collect();
        let expected: &[&str] = if provider == Provider::Genesys { &[] } else { &["UNKNOWN_MARK"] };
        assert_eq!(faults, expected, "{provider:?}");
        assert_eq!(of("ended")[0]["reason"], "hung_up", "{provider:?}");
    }
}

/// An agent that tells of its speech: its end is marked, and the provider's answer says when it was heard.
#[test]
fn the_agents_utterance_is_marked_and_told_of_when_it_was_heard() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_agent, agent) = built_in_agent("scripted");
    let doors = Doors::open(&agent, folder.path(), "");
    let mut socket = doors.connect(Provider::Twilio);
    for message in provider_messages(Provider::Twilio, "300").into_iter().take(2) {
        socket.send(message).expect("it is sent");
    }
    let mut heard = 0.0;
    let mark = loop {
        let message = shown(&socket.read().expect("the agent greets"));
        match message["event"].as_str() {
            Some("media") => heard += message["media"]["payload"].as_str().expect("audio").len() as f64 * 0.75 / 8000.0,
            Some("mark") => break message,
            other => panic!("{other:?}"),
        }
    };
    assert!(heard > 0.5, "the mark comes after the greeting: {heard} s");
    let name = mark["mark"]["name"].as_str().expect("a name").to_owned();
    socket.send(Message::text(mark.to_string())).expect("it is sent");
    socket.close(None).expect("it is sent");
    to_the_end(&mut socket);
    let told: Vec<_> = doors.events("300").into_iter().filter(|event| event["event"] == "heard").collect();
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0]["side"], &told[0]["utterance"]), (&json!("caller"), &json!(name)));
}

/// The greeting of the agent behind Exotel's door at this rate, which is the run's id too: its pieces up to its mark, after which
/// nothing comes.
fn exotel_greeting(doors: &Doors, rate: &str) -> Vec<Vec<u8>> {
    let mut socket = doors.connect(Provider::Exotel);
    for message in provider_messages(Provider::Exotel, rate).into_iter().take(2) {
        let text = message.to_text().expect("text").replace("\"sample_rate\":\"16000\"", &format!("\"sample_rate\":\"{rate}\""));
        socket.send(Message::text(text)).expect("it is sent");
    }
    let mut pieces = Vec::new();
    loop {
        let message = shown(&socket.read().expect("the agent greets"));
        match message["event"].as_str() {
            Some("media") => pieces.push(STANDARD.decode(message["media"]["payload"].as_str().expect("audio")).expect("base64")),
            Some("mark") => break,
            other => panic!("{other:?}"),
        }
    }
    socket.get_ref().set_read_timeout(Some(Duration::from_millis(500))).expect("a socket");
    assert!(socket.read().is_err(), "all of it came before its mark");
    pieces
}

/// Exotel plays less than 3200 bytes at once with gaps.
#[test]
fn exotel_is_given_the_agents_speech_in_pieces_that_it_plays_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_agent, agent) = built_in_agent("scripted");
    let doors = Doors::open(&agent, folder.path(), "");
    // At the agent's own rate, and at one that it must be brought to: then the last of it comes later than its end is told.
    let greetings = ["16000", "8000"].map(|rate| exotel_greeting(&doors, rate));
    for pieces in &greetings {
        let lengths: Vec<_> = pieces.iter().map(Vec::len).collect();
        assert!(lengths.len() > 3 && lengths.iter().all(|length| *length == 3200), "{lengths:?}");
    }
    let seconds = |pieces: &[Vec<u8>], rate: f64| pieces.len() as f64 * 1600.0 / rate;
    let (whole, half) = (seconds(&greetings[0], 16_000.0), seconds(&greetings[1], 8000.0));
    assert!((whole - half).abs() <= 0.2, "{whole} and {half} s");
    // It is the greeting that was recorded, sample by sample, at the 16 kHz of both.
    let said = greetings[0].concat();
    let said = said.chunks(2).map(|sample| i16::from_le_bytes([sample[0], sample[1]]));
    // A busy machine may let the agent wait, and fill a piece up with silence in between.
    let said: Vec<i16> = said.filter(|sample| *sample != 0).collect();
    let agent: Vec<i16> = wav(&doors.recording("16000").join("agent.wav")).into_iter().filter(|sample| *sample != 0).collect();
    assert!(said.len() > 8000 && agent.starts_with(&said), "{} samples of {}", said.len(), agent.len());
}

/// A bot of one call in front of `serve`: what it does with its socket.
fn raw_bot<T: Send + 'static>(act: impl FnOnce(Raw) -> T + Send + 'static) -> (String, thread::JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let bot = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a call");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        act(tokio_tungstenite::tungstenite::accept(stream).expect("a WebSocket"))
    });
    (address, bot)
}

/// Reads until something that is wanted comes.
pub fn hear(socket: &mut Raw, dialect: &mut dyn Dialect, wanted: impl Fn(&Incoming) -> bool) {
    let mut told = Vec::new();
    while !told.drain(..).any(|told| wanted(&told)) {
        read(dialect, &socket.read().expect("the call goes on"), &mut told).expect("a message");
    }
}

pub fn say(socket: &mut Raw, dialect: &mut dyn Dialect, said: &[Outgoing<'_>]) {
    let mut messages = Vec::new();
    said.iter().for_each(|said| dialect.write(*said, &mut messages));
    messages.into_iter().for_each(|message| socket.send(message).expect("it is sent"));
}

fn is_played(told: &Incoming, mark: &str) -> bool {
    matches!(told, Incoming::Played(name) if name == mark)
}

/// A bot that speaks in bursts with marks behind them, and clears a long one after a second. After how long the first mark and that
/// of the cleared burst were answered.
fn bursts(socket: &mut Raw, dialect: &mut dyn Dialect) -> (Duration, Duration) {
    hear(socket, dialect, |told| matches!(told, Incoming::Audio(_)));
    let hz = dialect.format().rate.hz();
    let sound = tone(hz, 0, 5 * hz as usize);
    let begun = Instant::now();
    say(socket, dialect, &[Outgoing::Audio(&sound[..hz as usize]), Outgoing::Mark("first")]);
    hear(socket, dialect, |told| is_played(told, "first"));
    let first = begun.elapsed();
    let begun = Instant::now();
    say(socket, dialect, &[Outgoing::Audio(&sound), Outgoing::Mark("long")]);
    hear(socket, dialect, |_| begun.elapsed() >= Duration::from_secs(1));
    let begun = Instant::now();
    say(socket, dialect, &[Outgoing::Clear]);
    hear(socket, dialect, |told| is_played(told, "long"));
    let cleared = begun.elapsed();
    say(socket, dialect, &[Outgoing::Audio(&sound[..hz as usize / 5]), Outgoing::Mark("last")]);
    hear(socket, dialect, |told| is_played(told, "last"));
    (first, cleared)
}

/// Through a dial and a door of the provider: the bot's marks are answered when heard, and its clear reaches the provider.
fn marks_and_a_clear(provider: Provider) {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, bot) = raw_bot(move |mut socket| {
        let answered = bursts(&mut socket, &mut *usual(provider, Role::Bot));
        socket.close(None).expect("it is sent");
        to_the_end(&mut socket);
        answered
    });
    let doors = Doors::open(&format!("{}+ws://{address}/", provider.name()), folder.path(), "");
    let (mut socket, mut dialect) = (doors.connect(provider), usual(provider, Role::Provider));
    say(&mut socket, &mut *dialect, &[Outgoing::Begin(&call())]);
    let (said, _) = to_the_end(&mut socket);
    let mut told = Vec::new();
    said.iter().for_each(|message| read(&mut *dialect, message, &mut told).expect("a message"));
    let (first, cleared) = bot.join().expect("the bot went well");
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    assert!((980.0..1300.0).contains(&ms(first)), "{provider:?}: a second of speech was heard after {first:?}");
    assert!(ms(cleared) < 200.0, "{provider:?}: what is cleared is answered at once: {cleared:?}");
    let clear = told.iter().position(|told| *told == Incoming::Clear).unwrap_or_else(|| panic!("{provider:?}: no clear: {told:?}"));
    let hz = f64::from(dialect.format().rate.hz());
    let [before, after] = [&told[..clear], &told[clear..]].map(|told| super::audio_of(told).len() as f64 / hz);
    assert!((1.9..2.4).contains(&before), "{provider:?}: one second, and one of five: {before}");
    assert!((0.15..0.3).contains(&after), "{provider:?}: what comes after the clear is heard: {after}");
    let discarded: Vec<f64> = doors.events("77").iter().filter_map(|event| event["discarded_ms"].as_f64()).collect();
    assert!(matches!(discarded[..], [ms] if (3700.0..4050.0).contains(&ms)), "{provider:?}: {discarded:?}");
}

#[test]
fn marks_are_answered_when_heard_and_a_clear_empties_the_playout() {
    let marked = Provider::ALL.into_iter().filter(|provider| *provider != Provider::Genesys);
    let calls: Vec<_> = marked.map(|provider| thread::spawn(move || marks_and_a_clear(provider))).collect();
    calls.into_iter().for_each(|call| call.join().expect("it went well"));
}

#[test]
fn a_door_with_a_token_takes_it_from_the_header_the_query_or_the_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("token");
    std::fs::write(&secret, "s3cret\n").expect("a file");
    let doors = Doors::open("process:cat", folder.path(), &format!("[doors.twilio]\ntoken_file = {secret:?}\n"));
    let door = format!("ws://{}", doors.address(Provider::Twilio));
    let bearer = |value: &str| {
        let mut request = door.as_str().into_client_request().expect("a request");
        request.headers_mut().insert("authorization", value.parse().expect("a header"));
        connect_as(request)
    };
    for url in ["/?token=s3cret", "/s3cret", "/calls/s3cret", "/?run=1&token=s3cret"] {
        assert!(connect(&format!("{door}{url}")).is_ok(), "{url}");
    }
    assert!(bearer("Bearer s3cret").is_ok());
    let refused = ["/", "/?token=other", "/s3cret/", "/?tokens=s3cret"].map(|url| connect(&format!("{door}{url}")));
    for refused in refused.into_iter().chain([bearer("Bearer other"), bearer("Basic s3cret")]) {
        match refused.map(drop).map_err(|error| *error) {
            Err(Error::Http(response)) => assert_eq!(response.status(), 401),
            other => panic!("{other:?}"),
        }
    }
    let output = run(&["serve", "--to", "process:cat", "--door", "exotel=0.0.0.0:0", "--out", path(&folder.path().join("no"))]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("exotel door on 0.0.0.0:0, which is not loopback"), "{said}");
    assert!(said.contains("token_file under [doors.exotel]"), "{said}");
}

#[test]
fn a_scripted_caller_reaches_an_agent_through_a_dial_and_a_door() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_agent, agent) = built_in_agent("scripted");
    let doors = Doors::open(&agent, folder.path(), "");
    let suite = crate::common::suite(folder.path(), &["", "Thank you, goodbye. <endcall/>"]);
    let (to, out) = (format!("twilio+ws://{}/", doors.address(Provider::Twilio)), folder.path().join("out"));
    let output = run(&["call", "--to", &to, "--suite", path(&suite), "--out", path(&out)]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let call = crate::common::call_folder(&out);
    let seconds = wav(&call.join("agent.wav")).iter().filter(|sample| sample.unsigned_abs() > 300).count() as f64 / 8000.0;
    assert!(seconds > 0.5, "the agent's speech is heard: {seconds} s of it");
    let agent_by_the_door = until("the door's recording", || {
        let folders = std::fs::read_dir(&doors.out).ok()?.filter_map(Result::ok).map(|entry| entry.path());
        folders.into_iter().find(|folder| folder.join("labels.txt").exists())
    });
    assert!(events(&agent_by_the_door).iter().any(|event| event["event"] == "heard"), "its marks were answered when heard");
}
