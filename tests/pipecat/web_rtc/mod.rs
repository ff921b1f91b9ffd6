//! Pipecat's SmallWebRTC: bots of `pipecat-ai` 1.14.0 are called (`pipecat+http://`), and clients call through the door: aiortc 1.16.0,
//! Chromium, Pipecat's JavaScript client, and we ourselves.

mod behind;
use crate::common;
mod door;
mod hostile;
mod pages;
mod steered;

use std::path::Path;
use std::time::{Duration, Instant};

use common::leg::event_or_tick;
use common::pipecat::PipecatBot;
use common::tone::{gaps, tone_level, tone_seconds};
use common::{PATIENCE, call_folder, events, path, run, suite};
use serde_json::{Value, json};
use trunkline::call::{CallIds, EndReason, Leg, LegCommand, LegEvent};
use trunkline::transport::{ConnectOptions, SetUp, WayOut};

/// The level of the bots' tones: sines of 8000.
const TONE_DBFS: f64 = -15.3;
/// The same tones once aiortc has sent them: it makes two channels of one, each 3 dB softer.
const AIORTC_DBFS: f64 = TONE_DBFS - 3.0;
/// The rate of WebRTC's recordings.
const RATE: u32 = 48_000;

/// A caller of the tests' own: a leg that sends a tone of 700 Hz in real time.
struct Caller {
    leg: Box<dyn Leg>,
    clock: tokio::time::Interval,
    sent: u64,
    heard: Vec<i16>,
    events: Vec<LegEvent>,
}

impl Caller {
    async fn call(to: &str, options: &ConnectOptions) -> Self {
        let way: WayOut = to.parse().expect("a way out");
        let leg = way.connect(options, &CallIds::default(), &mut SetUp::default()).await.expect("a call");
        let clock = tokio::time::interval(Duration::from_millis(20));
        Self { leg, clock, sent: 0, heard: Vec::new(), events: Vec::new() }
    }

    /// Talks and listens until `done`.
    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}: {:#?}", self.events);
            match event_or_tick(&mut *self.leg, &mut self.clock).await {
                Some(LegEvent::Audio(samples)) => self.heard.extend(samples),
                Some(event) => {
                    let over = matches!(event, LegEvent::Hangup { .. });
                    self.events.push(event);
                    assert!(!over || done(self), "waited for {what}, and the call ended: {:#?}", self.events);
                }
                None => {
                    let sample = |at: u64| 8000.0 * (std::f64::consts::TAU * 700.0 * at as f64 / f64::from(RATE)).sin();
                    let frame: Vec<i16> = (self.sent..self.sent + 960).map(|at| sample(at) as i16).collect();
                    self.sent += 960;
                    self.leg.command(LegCommand::Audio(&frame));
                }
            }
        }
    }

    /// Something of this kind was told.
    fn was_told(&self, event: impl Fn(&LegEvent) -> bool) -> bool {
        self.events.iter().any(event)
    }

    /// How the call has ended; none while it goes on.
    fn ended(&self) -> Option<(EndReason, &str)> {
        self.events.iter().find_map(|event| match event {
            LegEvent::Hangup { reason, detail } => Some((*reason, detail.as_str())),
            _ => None,
        })
    }

    async fn hang_up(&mut self) {
        self.leg.command(LegCommand::Hangup(EndReason::HungUp));
        self.until("the end", |caller| caller.ended().is_some()).await;
    }
}

/// The agent's track has sound: the bot's greeting lasts longer than three seconds.
fn hears_the_greeting(call: &Path) -> bool {
    let agent = hound::WavReader::open(call.join("agent.wav")).expect("a recording");
    let rate = agent.spec().sample_rate as usize;
    let samples: Vec<i16> = agent.into_samples().map(|sample| sample.expect("a sample")).collect();
    let loud = samples.chunks(rate / 50).filter(|piece| piece.iter().any(|sample| sample.unsigned_abs() > 1000)).count();
    loud > 100
}

/// A call of `to` with the caller's `lines`: the report's run and the call's folder.
fn call(to: &str, lines: &[&str], more: &[&str]) -> (Value, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let (suite, out) = (suite(folder.path(), lines), folder.path().join("out"));
    let arguments = ["call", "--to", to, "--suite", path(&suite), "--out", path(&out), "--format", "json"];
    let output = run(&[&arguments[..], more].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {said}"));
    (report["runs"][0].clone(), folder)
}

#[test]
fn an_address_is_spelled_as_it_is_read_and_carries_no_credentials() {
    let spelled = |way: &str| way.parse::<WayOut>().map(|way| way.to_string()).map_err(|error| error.to_string());
    for (way, shown) in [
        ("pipecat+http://127.0.0.1:7860/api/offer", "pipecat+http://127.0.0.1:7860/api/offer"),
        ("pipecat+https://bots.example/api/offer?relay=only", "pipecat+https://bots.example/api/offer?relay=only"),
        ("pipecat+http://127.0.0.1:7860", "pipecat+http://127.0.0.1:7860/start"),
        ("pipecat+http://h/a/start?transport=websocket&key=secret", "pipecat+http://h/a/start?…&transport=websocket"),
    ] {
        assert_eq!(spelled(way).as_deref(), Ok(shown));
    }
    for (way, problem) in [
        ("pipecat+http://me:secret@h/start", "credentials do not belong into an address: set PIPECAT_API_KEY"),
        ("pipecat+http://h/start?transport=daily", "the transport \"daily\" is none of webrtc and websocket"),
        ("pipecat+http://h/api/offer?transport=websocket", "transport is for a runner's /start"),
        ("pipecat+http://h/api/offer?relay=no", "relay can only be \"only\""),
    ] {
        let error = spelled(way).expect_err(way);
        assert!(error.contains(problem) && !error.contains("secret@"), "{error}");
    }
}

/// The whole of a call with a bot as its users write it: turns, words, keys.
#[test]
fn a_bot_is_called_and_recorded() {
    let bot = PipecatBot::start(&["scripted", "--loopback"]);
    let to = format!("pipecat+http://{}/api/offer", bot.host());
    let lines = [
        "I would like to book an appointment, please.",
        "<dtmf digits=\"42\"/> Tuesday at eleven, please.",
        "Thank you, goodbye. <endcall/>",
    ];
    let (called, folder) = call(&to, &lines, &[]);
    assert_eq!(called["verdict"], "passed", "{called}");
    let heard = bot.told("heard");
    assert_eq!((&heard["rates"], &heard["keys"]), (&json!([16_000]), &json!(["4", "2"])), "{heard}");
    // A bot on a busy machine may hear of the hang-up after its pause, and begin an answer to the goodbye.
    assert!(heard["answers"].as_u64().is_some_and(|answers| (2..=3).contains(&answers)), "{heard}");
    assert_eq!(heard["body"], json!({"scenario_id": "test"}));
    let folder = call_folder(&folder.path().join("out"));
    let events = events(&folder);
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind && event["side"] == "agent").count();
    assert!(of("text") >= 2, "the bot's words: {events:#?}");
    assert_eq!((of("speech_started"), of("fault")), (of("speech_stopped"), 0));
    let ready = events.iter().find(|event| event["data"]["rtvi"] == "bot-ready").expect("the bot says that it is ready");
    assert_eq!(ready["data"]["about"]["library"], "pipecat-ai");
    let line = events.iter().find(|event| event["event"] == "line").expect("what the line did");
    assert_eq!((&line["lost"], &line["late"]), (&json!(0), &json!(0)));
    let stages: Value = serde_json::from_slice(&std::fs::read(folder.join("call.json")).expect("a file")).expect("JSON");
    let stages = stages["set_up"]["stages"].as_array().expect("a list");
    let stages: Vec<_> = stages.iter().map(|stage| stage["stage"].as_str().expect("a name")).collect();
    assert_eq!(stages, ["offer", "connection", "agent_ready", "first_audio"]);
}

#[test]
fn a_caller_who_barges_in_stops_the_bot_and_the_recording_shows_it() {
    let bot = PipecatBot::start(&["scripted", "--greet", "--loopback"]);
    let over = "<interruption time=\"1.5s\"/>Thank you, goodbye. <silence time=\"2s\"/> <endcall/>";
    let (called, _folder) = call(&format!("pipecat+http://{}/api/offer", bot.host()), &["", over], &[]);
    let told = bot.told("interrupted");
    let after = told["after"].as_f64().expect("seconds");
    assert!((1.0..3.5).contains(&after), "it is stopped in the middle of its greeting of four seconds: {told}");
    let barge_in = &called["measures"]["barge_in"]["events"][0];
    assert_eq!((&barge_in["scripted"], &barge_in["yielded"]), (&json!(true), &json!(true)), "{called:#}");
    let stopped = barge_in["stopped_after_ms"].as_f64().expect("a time");
    assert!((50.0..2000.0).contains(&stopped), "its own detector takes its time: {stopped} ms");
}

/// A runner is asked for a session first, with what the bot is to be told; it may be had over WebRTC or a WebSocket.
#[test]
fn a_runners_session_is_started_and_called() {
    let bot = PipecatBot::start(&["scripted", "--greet", "--loopback", "--ws-auth", "token"]);
    for (query, first) in
        [("", "session offer connection agent_ready"), ("?transport=websocket", "session tcp web_socket agent_ready")]
    {
        let (called, folder) =
            call(&format!("pipecat+http://{}/start{query}", bot.host()), &["", "Thank you, goodbye. <endcall/>"], &[]);
        assert_eq!(called["verdict"], "passed", "{called}");
        let folder = call_folder(&folder.path().join("out"));
        let told = std::fs::read_to_string(folder.join("call.json")).expect("a file");
        assert!(!told.contains("token"), "the session's token is nobody's business: {told}");
        let told: Value = serde_json::from_str(&told).expect("JSON");
        let stages = told["set_up"]["stages"].as_array().expect("a list");
        let stages: Vec<_> = stages.iter().map(|stage| stage["stage"].as_str().expect("a name")).collect();
        assert_eq!(stages.join(" "), format!("{first} first_audio"));
        let heard = bot.told("heard");
        assert!(heard["seconds"].as_f64().is_some_and(|seconds| seconds > 2.0), "{heard}");
        // Pipecat's runner tells a bot behind its WebSocket nothing.
        let body = if query.is_empty() { json!({"scenario_id": "test"}) } else { heard["body"].clone() };
        assert_eq!(heard["body"], body);
    }
}

/// A tone goes to a bot and comes back, both whole, as its echo.
#[tokio::test(flavor = "multi_thread")]
async fn a_tone_comes_back_whole() {
    let bot = PipecatBot::start(&["echo", "--loopback"]);
    let mut caller = Caller::call(&format!("pipecat+http://{}/api/offer", bot.host()), &ConnectOptions::default()).await;
    caller.until("five seconds", |caller| caller.heard.len() >= 5 * RATE as usize).await;
    let back = &caller.heard[RATE as usize..];
    // A bot on a busy machine comes to its next frame late, and leaves a hole.
    let (seconds, whole) = (tone_seconds(back, RATE, 700.0, AIORTC_DBFS), back.len() as f64 / f64::from(RATE));
    assert!(seconds > 0.9 * whole, "{seconds} s of {whole}: {:?}", gaps(back, RATE, 700.0, AIORTC_DBFS));
    let loudest = back.chunks(RATE as usize / 10).map(|piece| tone_level(piece, RATE, 700.0)).fold(f64::MIN, f64::max);
    assert!((loudest - AIORTC_DBFS).abs() < 1.0, "{loudest} dBFS");
    caller.hang_up().await;
    let heard = tokio::task::spawn_blocking(move || bot.told("heard")).await.expect("the bot tells");
    let hz = heard["hz"].as_array().expect("a list");
    assert!(hz.len() >= 3 && hz.iter().all(|hz| *hz == 700.0), "{heard}");
}
