//! Calls that do not come about, and participants that are sent away.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::json;
use trunkline::call::CallIds;
use trunkline::transport::livekit::{Disconnect, Grants, JoinError, Room, RoomEvent, RoomOptions, Server};
use trunkline::transport::{ConnectOptions, Secret, SetUp, WayOut};

use super::common;
use super::common::livekit::{ANNOUNCED, LiveKitServer, Options, Peer};
use super::network::{Blocked, MediaProxy};
use super::{api, options};

pub(super) async fn fails(server: &LiveKitServer, way: &str, step_s: u64) -> (String, String) {
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
    let expired = Peer::new(&server).tell("token", json!({"room": "here", "identity": "me", "ttl_s": -600}));
    let expired = expired["token"].as_str().unwrap();
    assert_eq!(join(&server.url(), expired).await, JoinError::TokenExpired);
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
    let why = async |room: &mut Room| end_of(room).await.0.to_string();
    let mut first = joined("twin").await;
    let mut twin = joined("twin").await;
    assert_eq!(why(&mut first).await, "another participant joined with the same identity");
    api.remove_participant("away", "twin").await.unwrap();
    assert_eq!(why(&mut twin).await, "removed from the room through the server's API");
    let mut last = joined("last").await;
    api.delete_room("away").await.unwrap();
    assert_eq!(why(&mut last).await, "the room was deleted");
}

/// Why a participant is no longer in its room, and in which words.
async fn end_of(room: &mut Room) -> (Disconnect, String) {
    loop {
        if let RoomEvent::Disconnected { reason, detail } = poll_fn(|cx| room.poll_event(cx)).await {
            return (reason, detail);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_room_and_a_full_server_say_so() {
    let server = LiveKitServer::start_with(&Options {
        more: "room:\n  max_participants: 1\nlimit:\n  num_tracks: 1\n".to_owned(),
        ..Options::default()
    });
    let mut first = Peer::joined(&server, "small", "first", json!({}));
    let (error, stage) = fails(&server, "livekit://small", 3).await;
    assert!(stage == "join" && error.contains("the room is full (max_participants)"), "{stage}: {error}");
    // The server counts its tracks every few seconds.
    first.tell("tone", json!({"hz": 700}));
    common::until("the server's limit", || {
        let asked = Peer::new(&server).ask("join", json!({"room": "other", "identity": "second"}));
        asked.err().filter(|error| error.contains("limit")).map(drop)
    });
    let (error, stage) = fails(&server, "livekit://other", 3).await;
    assert!(stage == "room" && error.contains("reached configured limit for node"), "{stage}: {error}");
    let api = api(&server);
    let token = api.room_token("other", "me", Duration::from_secs(60), &Grants::default()).unwrap();
    let error = Room::join(api.url(), &token, RoomOptions::default()).await.err().expect("it is refused");
    assert_eq!(error.to_string(), "the LiveKit server is full: its configured limit is reached");
}

/// What a room ends with whose media cannot come about.
async fn without_media(blocked: Blocked) -> (String, String) {
    let server = LiveKitServer::start_with(&Options { behind_a_proxy: true, ..Options::default() });
    let at = |ip: Ipv4Addr| SocketAddr::from((ip, server.udp_port()));
    let proxy = MediaProxy::between(at(ANNOUNCED), at(Ipv4Addr::LOCALHOST)).await;
    proxy.block(blocked);
    let api = api(&server);
    let token = api.room_token("unheard", "me", Duration::from_secs(60), &Grants::default()).unwrap();
    let mut room = Room::join(api.url(), &token, RoomOptions::default()).await.unwrap();
    let end = tokio::time::timeout(common::PATIENCE, end_of(&mut room)).await;
    let (reason, detail) = end.expect("it gives up");
    assert_eq!(reason, Disconnect::MediaFailure, "{detail}");
    (detail, at(ANNOUNCED).to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn media_without_a_way_names_what_was_tried() {
    let (detail, address) = without_media(Blocked::Everything).await;
    assert!(detail.contains("ICE found no way: tried from 127.0.0.1:") && detail.contains(&address), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn media_without_keys_names_the_handshake() {
    let (detail, address) = without_media(Blocked::Dtls).await;
    assert!(detail.contains("the DTLS handshake failed: the far side did not answer") && detail.contains(&address), "{detail}");
}
