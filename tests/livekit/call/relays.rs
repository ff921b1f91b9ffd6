//! Media over TURN: the server's own, coturn's 4.6.1, and what is told when there is none.

use serde_json::json;
use trunkline::transport::WayOut;

use super::common::coturn::{Coturn, PASSWORD, USER};
use super::common::cuttable_line::CuttableLine;
use super::common::livekit::{LiveKitServer, Options, Peer};
use super::common::tone::tone_seconds;
use super::common::{self, call_folder, path, suite, trunkline};
use super::lost::{is_heard, restarted_in_mid_call, talk_until_back};
use super::refused::fails;
use super::{DBFS, RATE, dial, hang_up, talk, tones_both_ways};

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
async fn a_relay_is_had_anew_from_a_server_that_is_restarted_in_mid_call() {
    let server = LiveKitServer::start_with(&Options { turn: true, ..Options::default() });
    restarted_in_mid_call(server, "livekit://restart?relay=only").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signalling_that_drops_is_resumed_and_the_relay_stays() {
    let server = LiveKitServer::start_with(&Options { turn: true, ..Options::default() });
    let line = CuttableLine::to(server.signalling());
    let mut agent = Peer::joined(&server, "lost", "agent", json!({"kind": "agent"}));
    agent.tell("tone", json!({"hz": 700}));
    let mut leg = dial(&server, &format!("livekit+ws://{}/lost?relay=only", line.address)).await;
    talk(&mut *leg, is_heard).await;
    line.cut();
    let (anew, _, events) = talk_until_back(&mut *leg).await;
    assert!(!anew, "{events:?}");
    hang_up(&mut *leg).await;
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
    assert!(error.contains("ICE found no way: tried from none to ") && error.contains("udp 127.0.0.1:"), "{error}");
    assert!(error.contains(&refused) && error.contains("its certificate is not trusted"), "{error}");
    assert!(!error.contains(wrong) && !error.contains(PASSWORD), "{error}");
    let (error, _) = fails(&LiveKitServer::start(), "livekit://none?relay=only", 30).await;
    assert!(error.contains("relays: none is known, and no other way may be used"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_breaks_in_mid_call_is_asked_for_again() {
    let turn = Coturn::start(&[]);
    let line = CuttableLine::to(turn.address);
    let (host, port) = (line.address.ip(), line.address.port());
    let servers = json!([{"host": host, "port": port, "protocol": "tcp", "username": USER, "credential": PASSWORD}]);
    let server = LiveKitServer::start_with(&Options { turn_servers: Some(servers.to_string()), ..Options::default() });
    let mut agent = Peer::joined(&server, "breaks", "agent", json!({"kind": "agent"}));
    agent.tell("tone", json!({"hz": 700}));
    let mut leg = dial(&server, "livekit://breaks?relay=only").await;
    talk(&mut *leg, is_heard).await;
    line.cut();
    talk_until_back(&mut *leg).await;
    hang_up(&mut *leg).await;
    assert_eq!(turn.log().matches("ALLOCATE processed, success").count(), 4, "two connections, twice: {}", turn.log());
}
