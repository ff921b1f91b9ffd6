//! Calls into the rooms of a real livekit-server (1.13.5): LiveKit's Python client 1.1.21 and livekit-agents 1.8.9 are the far side.

use crate::common;
mod lost;
mod network;
mod refused;
mod relays;

use std::future::poll_fn;
use std::path::Path;
use std::time::{Duration, Instant};

use common::leg::event_or_tick;
use common::livekit::{LiveKitServer, Options, Peer, agent_worker};
use common::tone::{gaps, tone_level};
use common::{path, trunkline, until};
use serde_json::{Value, json};
use trunkline::call::{CallIds, EndReason, Leg, LegCommand, LegEvent};
use trunkline::transport::livekit::Server;
use trunkline::transport::{ConnectOptions, Secret, SetUp, WayOut};

const RATE: u32 = 48_000;
/// Of the tones.
const DBFS: f64 = -15.0;

fn api(server: &LiveKitServer) -> Server {
    Server::new(&server.url(), server.key(), Secret::new(server.secret()).unwrap()).unwrap()
}

fn options(server: &LiveKitServer, step_s: u64) -> ConnectOptions {
    ConnectOptions { livekit: Some(api(server)), dial_time: Duration::from_secs(step_s), ..ConnectOptions::default() }
}

async fn dial(server: &LiveKitServer, way: &str) -> Box<dyn Leg> {
    let way: WayOut = way.parse().unwrap();
    way.connect(&options(server, 30), &CallIds::default(), &mut SetUp::default()).await.unwrap()
}

/// Keeps a tone of 440 Hz going into the leg, in real time, until `done` of what came back.
async fn talk(leg: &mut dyn Leg, mut done: impl FnMut(&[i16], &[LegEvent]) -> bool) -> (Vec<i16>, Vec<LegEvent>) {
    let mut clock = tokio::time::interval(Duration::from_millis(20));
    let (mut heard, mut events, mut sent) = (Vec::new(), Vec::new(), 0_u64);
    let until = Instant::now() + common::PATIENCE;
    while !done(&heard, &events) {
        assert!(Instant::now() < until, "the leg goes on: {events:?}");
        match event_or_tick(leg, &mut clock).await {
            Some(LegEvent::Audio(samples)) => heard.extend(samples),
            Some(event) => {
                let over = matches!(event, LegEvent::Hangup { .. });
                events.push(event);
                if over {
                    break;
                }
            }
            None => {
                let amplitude = 32_767.0 * std::f64::consts::SQRT_2 * 10f64.powf(DBFS / 20.0);
                let sample = |at: u64| amplitude * (std::f64::consts::TAU * 440.0 * at as f64 / f64::from(RATE)).sin();
                let frame: Vec<i16> = (sent..sent + 960).map(|at| sample(at) as i16).collect();
                sent += 960;
                leg.command(LegCommand::Audio(&frame));
            }
        }
    }
    (heard, events)
}

async fn hang_up(leg: &mut dyn Leg) -> (Vec<LegEvent>, EndReason) {
    leg.command(LegCommand::Hangup(EndReason::HungUp));
    let mut events = Vec::new();
    loop {
        match tokio::time::timeout(leg.farewell(), poll_fn(|cx| leg.poll_event(cx))).await.expect("it closes in its time") {
            LegEvent::Hangup { reason, .. } => return (events, reason),
            event => events.push(event),
        }
    }
}

fn assert_is_one_tone(heard: &[i16], right: f64, wrong: f64) {
    // A track is there some time before it is spoken on.
    let loud = |sample: &i16| sample.unsigned_abs() > 1000;
    let (Some(first), Some(last)) = (heard.iter().position(loud), heard.iter().rposition(loud)) else { panic!("nothing is heard") };
    let heard = &heard[first..=last];
    assert!(heard.len() > 2 * RATE as usize, "{} samples from the first to the last loud one", heard.len());
    let middle = &heard[heard.len() / 4..heard.len() * 3 / 4];
    let level = tone_level(middle, RATE, right);
    assert!((level - DBFS).abs() < 1.5, "{right} Hz at {level} dBFS");
    let level = tone_level(middle, RATE, wrong);
    assert!(level < DBFS - 30.0, "{wrong} Hz at {level} dBFS");
    assert_eq!(gaps(middle, RATE, right, DBFS), Vec::<usize>::new());
}

/// The dial and an independent client as the agent: each hears the other's tone, whole.
async fn tones_both_ways(server: &LiveKitServer, way: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Peer::joined(server, "tones", "agent", json!({"kind": "agent", "record": path(folder.path())}));
    agent.tell("tone", json!({"hz": 700}));
    let mut leg = dial(server, way).await;
    let (heard, events) = talk(&mut *leg, |heard, _| heard.len() > 4 * RATE as usize).await;
    assert_is_one_tone(&heard, 700.0, 440.0);
    assert!(events.iter().all(|event| !matches!(event, LegEvent::Fault { .. })), "{events:?}");
    let (last, reason) = hang_up(&mut *leg).await;
    let Some(LegEvent::Line(line)) = last.last() else { panic!("what the line did comes last: {last:?}") };
    assert!(line.received > 150 && line.lost == 0, "{line:?}");
    assert_eq!(reason, EndReason::HungUp);
    agent.event("participant_disconnected", |event| event["participant"] == "caller");
    assert_is_one_tone(&agent.recording_of("caller"), 440.0, 700.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_client_and_the_dial_hear_each_other_whole() {
    tones_both_ways(&LiveKitServer::start(), "livekit://tones").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn media_goes_over_tcp_where_the_server_has_no_udp() {
    let server = LiveKitServer::start_with(&Options { tcp_only: true, ..Options::default() });
    tones_both_ways(&server, "livekit://tones").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_texts_data_and_mutes_pass_and_the_agent_that_leaves_hangs_up() {
    let server = LiveKitServer::start();
    let mut agent = Peer::joined(&server, "talk", "agent", json!({"kind": "agent", "topics": ["lk.chat"]}));
    agent.tell("tone", json!({"hz": 700}));
    let mut leg = dial(&server, "livekit://talk?identity=tester").await;
    leg.command(LegCommand::Dtmf('5'));
    leg.command(LegCommand::Text("a message"));
    leg.command(LegCommand::Data(&json!({"a": 1})));
    agent.send("dtmf", json!({"code": 7, "digit": "7"}));
    agent.send("text", json!({"text": "an answer", "topic": "lk.chat"}));
    agent.send("data", json!({"text": "{\"b\": 2}", "topic": "t"}));
    let has = |events: &[LegEvent], wanted: &LegEvent| events.contains(wanted);
    let wanted = [
        LegEvent::Dtmf('7'),
        LegEvent::Text("an answer".to_owned()),
        LegEvent::Data(json!({"livekit": "packet", "topic": "t", "data": {"b": 2}})),
    ];
    talk(&mut *leg, |_, events| wanted.iter().all(|wanted| has(events, wanted))).await;
    agent.event("dtmf", |event| event["digit"] == "5" && event["participant"] == "tester");
    agent.event("text", |event| event["text"] == "a message");
    agent.event("data", |event| event["text"] == "{\"a\":1}");
    agent.send("leave", json!({}));
    let (_, events) = talk(&mut *leg, |_, _| false).await;
    let Some(LegEvent::Hangup { reason, detail }) = events.last() else { panic!("{events:?}") };
    assert_eq!((*reason, detail.as_str()), (EndReason::HungUp, "agent left the room"));
}

/// A stock agent behind `trunkline call`: asked for, called, recorded; and the room is gone.
#[test]
fn a_stock_agent_is_asked_for_called_and_recorded() {
    let server = LiveKitServer::start();
    let _worker = agent_worker(&server, "livekit_scripted_agent.py", "clinic", &[]);
    let out = tempfile::tempdir().unwrap();
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/suites/demo.json");
    let call = ["call", "--to", "livekit://?agent=clinic", "--suite", path(&suite), "--scenario", "first", "--format", "json"];
    let mut command = trunkline(&call);
    let called = command.args(["--out", path(out.path())]).envs(server.env()).output().unwrap();
    let report: Value = serde_json::from_slice(&called.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}{}", String::from_utf8_lossy(&called.stdout), String::from_utf8_lossy(&called.stderr))
    });
    let run = &report["runs"][0];
    let stages: Vec<&str> = run["set_up"]["stages"].as_array().unwrap().iter().map(|s| s["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["room", "join", "dispatch", "agent_joined", "track_subscribed", "first_audio"], "{run}");
    let folder = out.path().join(run["recording"].as_str().unwrap());
    let events = events(&folder);
    let said = events.iter().filter(|event| event["event"] == "text" && event["side"] == "agent").count();
    assert!(said >= 2, "the agent's words are in the events: {events:#?}");
    let state = |to: &str| events.iter().any(|event| event["data"]["livekit"] == "agent_state" && event["data"]["to"] == to);
    assert!(state("speaking") && state("listening"), "{events:#?}");
    assert!(run["measures"]["agent"]["line"]["received"].as_u64().unwrap() > 100, "{run}");
    let loud = |name: &str| common::wav(&folder.join(name)).iter().filter(|sample| sample.unsigned_abs() > 1000).count();
    assert!(loud("agent.wav") > 5_000 && loud("caller.wav") > 5_000);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let api = api(&server);
    until("the room's end", || runtime.block_on(api.list_rooms(Vec::new())).unwrap().is_empty().then_some(()));
}

fn events(folder: &Path) -> Vec<Value> {
    let lines = std::fs::read_to_string(folder.join("events.jsonl")).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
