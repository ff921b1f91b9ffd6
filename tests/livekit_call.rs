//! Calls into the rooms of a real livekit-server (1.13.5): LiveKit's Python client 1.1.21 and livekit-agents 1.8.9 are the far side.

mod common;

use std::future::poll_fn;
use std::path::Path;
use std::task::Poll;
use std::time::{Duration, Instant};

use common::coturn::{Coturn, PASSWORD, USER};
use common::cut::Line;
use common::livekit::{LiveKitServer, Options, Peer, agent_worker, gaps, tone_level, tone_seconds};
use common::{call_folder, path, suite, trunkline, until};
use serde_json::{Value, json};
use trunkline::call::{CallIds, EndReason, Leg, LegCommand, LegEvent};
use trunkline::transport::livekit::{Grants, JoinError, Room, RoomEvent, RoomOptions, Server};
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
        let next = poll_fn(|cx| match leg.poll_event(cx) {
            Poll::Ready(event) => Poll::Ready(Some(event)),
            Poll::Pending => clock.poll_tick(cx).map(|_| None),
        });
        match next.await {
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

#[tokio::test(flavor = "multi_thread")]
async fn media_goes_over_the_servers_own_turn_service_alone() {
    let server = LiveKitServer::start_with(&Options { turn: true, ..Options::default() });
    tones_both_ways(&server, "livekit://tones?relay=only").await;
    assert_eq!(way_of(&server, "caller"), "turn");
}

/// The kind of way on which the server has met a participant first.
fn way_of(server: &LiveKitServer, identity: &str) -> String {
    let log = server.log();
    let of = format!("\"participant\": \"{identity}\"");
    let line = log.lines().find(|line| line.contains("participant active") && line.contains(&of));
    let way = line.and_then(|line| line.split("\"connectionType\": \"").nth(1)?.split('"').next());
    way.unwrap_or_else(|| panic!("{log}")).to_owned()
}

/// A caller behind a firewall that lets nothing but TLS out, and checks the certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_over_turn_over_tls() {
    let turn = Coturn::start(&[]);
    let port = turn.tls.port();
    let servers = json!([{"host": "localhost", "port": port, "protocol": "tls", "username": USER, "credential": PASSWORD}]);
    let server = LiveKitServer::start_with(&Options { turn_servers: Some(servers.to_string()), ..Options::default() });
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Peer::joined(&server, "tls", "agent", json!({"kind": "agent", "record": path(folder.path())}));
    agent.tell("tone", json!({"hz": 700}));
    let (suite, out) = (suite(folder.path(), &["Thank you, goodbye. <endcall/>"]), folder.path().join("out"));
    let to = "livekit://tls?relay=only";
    let call = ["call", "--to", to, "--suite", path(&suite), "--out", path(&out)];
    let mut command = trunkline(&call);
    let called = command.envs(server.env()).env("SSL_CERT_FILE", &turn.certificate).output().unwrap();
    let said = String::from_utf8_lossy(&called.stderr).into_owned();
    assert!(!said.contains(PASSWORD));
    let out = call_folder(&out);
    assert_eq!(way_of(&server, "caller"), "turn");
    let heard = common::wav(&out.join("agent.wav"));
    let seconds = tone_seconds(&heard, RATE, 700.0, DBFS);
    assert!(seconds > 1.0, "{seconds} s of the agent's tone: {said}");
    let loud = agent.recording_of("caller").iter().filter(|sample| sample.unsigned_abs() > 1000).count();
    assert!(loud > 5_000, "{loud} loud samples of the caller: {said}");
    turn.wait_for_line(&["method=TLSv1", "lifetime=0"]);
}

#[test]
fn an_address_can_ask_for_relays_alone() {
    let shown = |way: &str| way.parse::<WayOut>().map(|way| way.to_string()).map_err(|error| error.to_string());
    assert_eq!(shown("livekit://room?relay=only").unwrap(), "livekit://room?relay=only");
    assert_eq!(shown("livekit://?agent=me&relay=only&metadata=x").unwrap(), "livekit://?agent=me&relay=only");
    for relay in ["never", ""] {
        let error = shown(&format!("livekit://room?relay={relay}")).unwrap_err();
        assert!(error.contains("relay can only be \"only\""), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_restarted_in_mid_call_is_joined_anew_and_the_gap_stays_a_gap() {
    restarted_in_mid_call(LiveKitServer::start(), "livekit://restart").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_had_anew_from_a_server_that_is_restarted_in_mid_call() {
    let server = LiveKitServer::start_with(&Options { turn: true, ..Options::default() });
    restarted_in_mid_call(server, "livekit://restart?relay=only").await;
}

async fn restarted_in_mid_call(mut server: LiveKitServer, way: &str) {
    let mut agent = Peer::joined(&server, "restart", "agent", json!({"kind": "agent"}));
    agent.tell("tone", json!({"hz": 700}));
    let mut leg = dial(&server, way).await;
    talk(&mut *leg, |heard, _| heard.len() > 2 * RATE as usize).await;
    let begun = Instant::now();
    server.restart();
    let back = |event: &LegEvent| matches!(event, LegEvent::Data(data) if data["livekit"] == "reconnected");
    let mut after = None;
    let (heard, events) = talk(&mut *leg, |heard, events| {
        if after.is_none() && events.iter().any(back) {
            after = Some(heard.len());
        }
        after.is_some_and(|after| {
            heard.len() > after + RATE as usize && tone_level(&heard[heard.len() - RATE as usize..], RATE, 700.0) > DBFS - 3.0
        })
    })
    .await;
    let lost = events.iter().any(|event| matches!(event, LegEvent::Fault { code, .. } if code == "LIVEKIT_RECONNECTING"));
    assert!(lost, "{events:?}");
    // The leg's audio goes on in real time through the outage: what was not heard is silence.
    let (real, heard_s) = (begun.elapsed().as_secs_f64(), heard.len() as f64 / f64::from(RATE));
    assert!((real - heard_s).abs() < 1.0, "{heard_s} s of audio in {real} s");
    let silent_s = heard_s - tone_seconds(&heard, RATE, 700.0, DBFS);
    assert!(silent_s > 0.1, "an outage with only {silent_s} s of silence");
    hang_up(&mut *leg).await;
}

/// Talks until the call is back after something was lost: whether the session is a new one, and what happened.
async fn talk_until_back(leg: &mut dyn Leg) -> (bool, Vec<LegEvent>) {
    let back = |event: &LegEvent| match event {
        LegEvent::Data(data) if data["livekit"] == "reconnected" => data["anew"].as_bool(),
        _ => None,
    };
    let (_, events) = talk(leg, |_, events| events.iter().any(|event| back(event).is_some())).await;
    (events.iter().find_map(back).expect("it was seen"), events)
}

async fn hears(leg: &mut dyn Leg, hz: f64) {
    let second = RATE as usize;
    let (heard, events) =
        talk(leg, |heard, _| heard.len() > second && tone_level(&heard[heard.len() - second / 2..], RATE, hz) > DBFS - 3.0).await;
    let reconnecting = events.iter().any(|event| matches!(event, LegEvent::Fault { .. }));
    assert!(!reconnecting && !heard.is_empty(), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_signalling_connection_is_resumed_and_media_goes_on() {
    for way in ["livekit://lost", "livekit://lost?relay=only"] {
        let server = LiveKitServer::start_with(&Options { turn: true, ..Options::default() });
        let http = url::Url::parse(&server.url()).unwrap();
        let line = Line::to(http.socket_addrs(|| None).unwrap()[0]);
        let mut agent = Peer::joined(&server, "lost", "agent", json!({"kind": "agent"}));
        agent.tell("tone", json!({"hz": 700}));
        let url = format!("ws://{}", line.address);
        let api = Server::new(&url, server.key(), Secret::new(server.secret()).unwrap()).unwrap();
        let options = ConnectOptions { livekit: Some(api), ..options(&server, 30) };
        let parsed: WayOut = way.parse().unwrap();
        let mut leg = parsed.connect(&options, &CallIds::default(), &mut SetUp::default()).await.unwrap();
        hears(&mut *leg, 700.0).await;
        line.cut();
        let (anew, events) = talk_until_back(&mut *leg).await;
        assert!(!anew, "{way}: {events:?}");
        hears(&mut *leg, 700.0).await;
        let (events, _) = hang_up(&mut *leg).await;
        assert!(events.iter().all(|event| !matches!(event, LegEvent::Fault { .. })), "{way}: {events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn why_no_relay_is_had_is_told_when_there_is_no_other_way() {
    let turn = Coturn::start(&[]);
    let [host, port] = [turn.address.ip().to_string(), turn.address.port().to_string()];
    let tls = turn.tls.port();
    let wrong = "another-password-that-nobody-may-see";
    let servers = json!([
        {"host": host, "port": port.parse::<u16>().unwrap(), "protocol": "udp", "username": USER, "credential": wrong},
        {"host": "localhost", "port": tls, "protocol": "tls", "username": USER, "credential": PASSWORD},
    ]);
    let server = LiveKitServer::start_with(&Options { turn_servers: Some(servers.to_string()), ..Options::default() });
    let (error, _) = fails(&server, "livekit://refused?relay=only", 30).await;
    let refused = format!("turn:{host}:{port}?transport=udp at {host}:{port}: the server does not take the credential: 401");
    assert!(error.contains("ICE found no way: tried from none to udp 127.0.0.1:"), "{error}");
    assert!(error.contains(&refused) && error.contains("its certificate is not trusted"), "{error}");
    assert!(!error.contains(wrong) && !error.contains(PASSWORD), "{error}");
    let (error, _) = fails(&LiveKitServer::start(), "livekit://none?relay=only", 30).await;
    assert!(error.contains("relays: none is known, and no other way may be used"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_breaks_in_mid_call_is_asked_for_again() {
    let turn = Coturn::start(&[]);
    let line = Line::to(turn.address);
    let (host, port) = (line.address.ip(), line.address.port());
    let servers = json!([{"host": host, "port": port, "protocol": "tcp", "username": USER, "credential": PASSWORD}]);
    let server = LiveKitServer::start_with(&Options { turn_servers: Some(servers.to_string()), ..Options::default() });
    let mut agent = Peer::joined(&server, "breaks", "agent", json!({"kind": "agent"}));
    agent.tell("tone", json!({"hz": 700}));
    let mut leg = dial(&server, "livekit://breaks?relay=only").await;
    hears(&mut *leg, 700.0).await;
    line.cut();
    talk_until_back(&mut *leg).await;
    hears(&mut *leg, 700.0).await;
    hang_up(&mut *leg).await;
    assert_eq!(turn.log().matches("ALLOCATE processed, success").count(), 4, "two connections, twice: {}", turn.log());
}

async fn fails(server: &LiveKitServer, way: &str, step_s: u64) -> (String, String) {
    let way: WayOut = way.parse().unwrap();
    let mut set_up = SetUp::default();
    let error = way.connect(&options(server, step_s), &CallIds::default(), &mut set_up).await.err().expect("it fails");
    let failed_in = set_up.times().failed_in.map_or("none", |stage| stage.name());
    (error.to_string(), failed_in.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_of_the_set_up_fails_by_its_own_name() {
    let mut server = LiveKitServer::start();
    let (error, stage) = fails(&server, "livekit://?agent=nobody-is-called-so", 2).await;
    assert_eq!(stage, "agent_joined");
    assert!(error.contains("no worker has taken the job") && error.contains("nobody-is-called-so"), "{error}");
    let rooms = api(&server);
    until_empty(&rooms).await;

    let mut silent = Peer::joined(&server, "silent", "agent", json!({"kind": "agent"}));
    let (error, stage) = fails(&server, "livekit://silent", 2).await;
    assert_eq!(stage, "track_subscribed", "{error}");
    silent.end();

    let wrong = Server::new(&server.url(), server.key(), Secret::new("another secret that is long enough, too").unwrap()).unwrap();
    let options = ConnectOptions { livekit: Some(wrong), ..options(&server, 2) };
    let way: WayOut = "livekit://room".parse().unwrap();
    let error = way.connect(&options, &CallIds::default(), &mut SetUp::default()).await.err().unwrap().to_string();
    assert!(error.contains("does not take LIVEKIT_API_KEY and LIVEKIT_API_SECRET"), "{error}");

    server.kill();
    let (error, stage) = fails(&server, "livekit://room", 2).await;
    assert_eq!(stage, "room");
    assert!(error.contains("cannot be reached") && error.contains("refused"), "{error}");
}

/// The rooms that a dial made are gone when it has failed.
async fn until_empty(server: &Server) {
    let until = Instant::now() + common::PATIENCE;
    loop {
        let rooms = server.list_rooms(Vec::new()).await.unwrap();
        if rooms.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "{rooms:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_which_a_room_cannot_be_joined_has_its_error_and_none_tells_the_token() {
    let server = LiveKitServer::start();
    let api = api(&server);
    let join = async |url: &str, token: &str| {
        let url = url::Url::parse(url).unwrap();
        Room::join(&url, token, RoomOptions::default()).await.err().expect("it is refused")
    };
    let token = |valid: Duration| api.room_token("here", "me", valid, &Grants::default()).unwrap();
    let good = token(Duration::from_secs(60));

    let nobody = join("ws://127.0.0.1:9", &good).await;
    assert!(matches!(&nobody, JoinError::Unreachable { problem, .. } if problem.contains("refused")), "{nobody:?}");
    let unlike = join("ftp://127.0.0.1/", &good).await;
    assert!(matches!(unlike, JoinError::Url { .. }), "{unlike:?}");
    let forged = Server::new(&server.url(), server.key(), Secret::new("some other secret of a decent length").unwrap()).unwrap();
    let forged = forged.room_token("here", "me", Duration::from_secs(60), &Grants::default()).unwrap();
    let refused = join(&server.url(), &forged).await;
    assert_eq!(refused, JoinError::TokenRefused);
    let no_grant = api.worker_token(Duration::from_secs(60)).unwrap();
    let refused = join(&server.url(), &no_grant).await;
    assert!(matches!(refused, JoinError::NotGranted(_)), "{refused:?}");
    for (error, secret) in [(&nobody, &good), (&refused, &no_grant)] {
        assert!(!format!("{error:?} {error}").contains(secret.as_str()));
    }
    assert!(api.room_token("", "me", Duration::from_secs(60), &Grants::default()).is_err(), "a token for no room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_that_is_sent_away_hears_why() {
    let server = LiveKitServer::start();
    let api = api(&server);
    let token = |identity: &str| api.room_token("away", identity, Duration::from_secs(60), &Grants::default()).unwrap();
    // The server may send no word to one who is sent away before media is there.
    let joined = async |identity: &str| {
        let mut room = Room::join(api.url(), &token(identity), RoomOptions::default()).await.unwrap();
        let connected = async { while !matches!(poll_fn(|cx| room.poll_event(cx)).await, RoomEvent::Connected) {} };
        tokio::time::timeout(common::PATIENCE, connected).await.expect("media is there in time");
        room
    };
    let why = async |room: &mut Room| {
        let told = async {
            loop {
                if let RoomEvent::Disconnected { reason, .. } = poll_fn(|cx| room.poll_event(cx)).await {
                    return reason.to_string();
                }
            }
        };
        tokio::time::timeout(common::PATIENCE, told).await.expect("it is told in time")
    };
    let mut first = joined("twin").await;
    let mut twin = joined("twin").await;
    assert_eq!(why(&mut first).await, "another participant joined with the same identity");
    api.remove_participant("away", "twin").await.unwrap();
    assert_eq!(why(&mut twin).await, "removed from the room through the server's API");
    let mut last = joined("last").await;
    api.delete_room("away").await.unwrap();
    assert_eq!(why(&mut last).await, "the room was deleted");
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
