//! Connections that suffer or break in mid-call.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::json;
use trunkline::call::{EndReason, Leg, LegEvent};

use super::common::cuttable_line::CuttableLine;
use super::common::livekit::{ANNOUNCED, LiveKitServer, Options, Peer};
use super::common::tone::{gaps, tone_level, tone_seconds};
use super::common::{path, until};
use super::network::{Blocked, Impairment, MediaProxy};
use super::{DBFS, RATE, dial, hang_up, talk};

/// A server whose media passes through a proxy.
async fn proxied() -> (LiveKitServer, MediaProxy) {
    let server = LiveKitServer::start_with(&Options { behind_a_proxy: true, ..Options::default() });
    let at = |ip: Ipv4Addr| SocketAddr::from((ip, server.udp_port()));
    let proxy = MediaProxy::between(at(ANNOUNCED), at(Ipv4Addr::LOCALHOST)).await;
    (server, proxy)
}

fn is_lost(event: &LegEvent) -> bool {
    matches!(event, LegEvent::Fault { code, .. } if code == "LIVEKIT_RECONNECTING")
}

/// How the connection came back: with a new session, or with the old one.
fn came_back_anew(events: &[LegEvent]) -> Option<bool> {
    events.iter().find_map(|event| match event {
        LegEvent::Note(data) if data["livekit"] == "reconnected" => data["anew"].as_bool(),
        _ => None,
    })
}

/// The far side's tone has been whole for a second at the end.
pub fn is_heard(heard: &[i16], _: &[LegEvent]) -> bool {
    let second = RATE as usize;
    heard.len() > second && tone_level(&heard[heard.len() - second..], RATE, 700.0) > DBFS - 1.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_restarted_in_mid_call_is_joined_anew_and_the_gap_stays_a_gap() {
    restarted_in_mid_call(LiveKitServer::start(), "livekit://restart").await;
}

/// The call into the room `restart` comes back when its server does.
pub async fn restarted_in_mid_call(mut server: LiveKitServer, way: &str) {
    let mut agent = Peer::joined(&server, "restart", "agent", json!({"kind": "agent"}));
    agent.tell("tone", json!({"hz": 700}));
    let mut leg = dial(&server, way).await;
    talk(&mut *leg, is_heard).await;
    let begun = Instant::now();
    server.restart();
    let (anew, heard, events) = talk_until_back(&mut *leg).await;
    assert!(anew, "{events:?}");
    // The leg's audio goes on in real time through the outage: what was not heard is silence.
    let (real, heard_s) = (begun.elapsed().as_secs_f64(), heard.len() as f64 / f64::from(RATE));
    assert!((real - heard_s).abs() < 1.0, "{heard_s} s of audio in {real} s");
    let silent_s = heard_s - tone_seconds(&heard, RATE, 700.0, DBFS);
    assert!(silent_s > 0.1, "an outage with only {silent_s} s of silence");
    hang_up(&mut *leg).await;
}

/// Talks until the connection was lost, is back, and the far side is heard again: whether the session is a new one, what was heard,
/// and what happened.
pub async fn talk_until_back(leg: &mut dyn Leg) -> (bool, Vec<i16>, Vec<LegEvent>) {
    let mut back = None;
    let (heard, events) = talk(leg, |heard, events| {
        if back.is_none() && came_back_anew(events).is_some() {
            back = Some(heard.len());
        }
        back.is_some_and(|back| heard.len() > back + RATE as usize && is_heard(heard, events))
    })
    .await;
    assert!(events.iter().any(is_lost), "{events:?}");
    (came_back_anew(&events).expect("it was seen"), heard, events)
}

/// A tenth of the packets lost and each held for up to 60 ms, in both directions of our side alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenth_lost_and_60_ms_of_jitter_are_heard_through() {
    const SECONDS: usize = 12;
    let (server, proxy) = proxied().await;
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Peer::joined(&server, "lossy", "agent", json!({"kind": "agent", "record": path(folder.path())}));
    agent.tell("tone", json!({"hz": 700}));
    proxy.impair(Impairment { loss_percent: 10, jitter: Duration::from_millis(60) });
    let mut leg = dial(&server, "livekit://lossy").await;
    let (heard, events) = talk(&mut *leg, |heard, _| heard.len() > SECONDS * RATE as usize).await;
    let (last, reason) = hang_up(&mut *leg).await;
    assert_eq!(reason, EndReason::HungUp);
    assert!(!events.iter().any(is_lost), "{events:?}");
    let Some(LegEvent::Line(line)) = last.last() else { panic!("what the line did comes last: {last:?}") };
    let share = line.lost as f64 / (line.received + line.lost) as f64;
    assert!((0.05..0.16).contains(&share), "the proxy lost a tenth of them: {line:?}");
    // The far side's encoder sees no loss on its own way to the server, and sends no copies: what is lost is made up.
    assert!(line.concealed + line.recovered >= line.lost / 2 && line.late * 50 < line.received, "{line:?}");
    assert!(line.mean_depth_ms > 20.0 && line.mean_depth_ms < 200.0, "{line:?}");
    // The far side is LiveKit's own client: what it hears of us is no worse than its own jitter buffer makes it, which lets time pass
    // when the machine is busy.
    for (heard, hz, least) in [(&heard, 700.0, 0.97), (&agent.recording_of("caller"), 440.0, 0.9)] {
        let middle = &heard[2 * RATE as usize..heard.len() - RATE as usize / 2];
        let there = tone_seconds(middle, RATE, hz, DBFS) / (middle.len() as f64 / f64::from(RATE));
        let gaps = gaps(middle, RATE, hz, DBFS);
        assert!(there > least && gaps.iter().all(|gap| *gap <= 5), "{hz} Hz: {there:.3} there, gaps {gaps:?}");
    }
}

/// A call with an agent that says a tone, whose signalling, but not the agent's, goes over a line that can be cut.
async fn over_a_line(room: &str) -> (LiveKitServer, CuttableLine, Peer, Box<dyn Leg>) {
    let server = LiveKitServer::start();
    let signalling = CuttableLine::to(server.signalling());
    let mut agent = Peer::joined(&server, room, "agent", json!({"kind": "agent"}));
    agent.tell("tone", json!({"hz": 700}));
    let leg = dial(&server, &format!("livekit+ws://{}/{room}", signalling.address)).await;
    (server, signalling, agent, leg)
}

#[tokio::test(flavor = "multi_thread")]
async fn signalling_that_drops_alone_is_resumed_and_media_does_not_notice() {
    let (_server, signalling, mut agent, mut leg) = over_a_line("signal").await;
    talk(&mut *leg, |heard, _| heard.len() > RATE as usize).await;
    signalling.cut();
    let (anew, heard, events) = talk_until_back(&mut *leg).await;
    assert!(!anew, "{events:?}");
    // The server looks for its way anew, which costs a packet at the most.
    let gaps = gaps(&heard, RATE, 700.0, DBFS);
    assert!(gaps.iter().sum::<usize>() <= 3, "{gaps:?}");
    // What is told over signalling comes again.
    agent.send("leave", json!({}));
    let (_, events) = talk(&mut *leg, |_, _| false).await;
    assert!(matches!(events.last(), Some(LegEvent::Hangup { reason: EndReason::HungUp, .. })), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_deleted_while_signalling_is_down_ends_the_call_and_the_one_in_its_place_is_left() {
    let (server, signalling, mut agent, mut leg) = over_a_line("gone").await;
    talk(&mut *leg, is_heard).await;
    signalling.take_down();
    agent.tell("delete_room", json!({"room": "gone"}));
    signalling.mend();
    let (_, events) = talk(&mut *leg, |_, _| false).await;
    assert!(events.iter().any(is_lost), "{events:?}");
    let Some(LegEvent::Hangup { reason: EndReason::HungUp, detail }) = events.last() else { panic!("{events:?}") };
    assert!(detail.contains("was deleted"), "{detail}");
    // Nor do we go without a word: the server need not wait for us to come back.
    until("our goodbye", || {
        let log = server.log();
        let closing: Vec<_> = log.lines().filter(|line| line.contains("participant closing")).collect();
        closing.iter().any(|line| line.contains("CLIENT_REQUEST_LEAVE")).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn media_that_drops_alone_is_looked_for_and_comes_back() {
    let (server, proxy) = proxied().await;
    let mut agent = Peer::joined(&server, "media", "agent", json!({"kind": "agent"}));
    agent.tell("tone", json!({"hz": 700}));
    let mut leg = dial(&server, "livekit://media").await;
    talk(&mut *leg, is_heard).await;
    let begun = Instant::now();
    proxy.block(Blocked::Everything);
    let (mut heard, _) = talk(&mut *leg, |_, events| events.iter().any(is_lost)).await;
    proxy.block(Blocked::Nothing);
    let (more, _) = talk(&mut *leg, |heard, events| came_back_anew(events).is_some() && is_heard(heard, events)).await;
    heard.extend(more);
    // The outage is as long in what was heard as it was.
    let (real, heard_s) = (begun.elapsed().as_secs_f64(), heard.len() as f64 / f64::from(RATE));
    assert!((real - heard_s).abs() < 1.0, "{heard_s} s of audio in {real} s");
    assert!(heard_s - tone_seconds(&heard, RATE, 700.0, DBFS) > 1.0, "an outage without silence");
    hang_up(&mut *leg).await;
}
