//! STUN and TURN: our peer connections against coturn 4.6.1, and against servers that are broken or hostile.

use crate::common;
mod forced;
mod hostile;
mod network;
mod pair;

use std::sync::atomic::Ordering;

use common::coturn::{Coturn, PASSWORD, USER};
use network::Nat;
use pair::{Pair, address, all, dead_port, ice, none, not_host};
use trunkline::transport::webrtc::{IceOptions, IceServer};

/// Packets of audio: 2 s.
const PACKETS: usize = 100;

fn gaps(got: &[u64]) -> usize {
    got.windows(2).filter(|two| two[1] != two[0] + 1).count()
}

/// How many packets the server says that it has passed on for our allocation, to its peers and from them.
fn passed_on(coturn: &Coturn) -> [usize; 2] {
    let line = coturn.wait_for_line(&["peer usage:", &format!("username=<{USER}>")]);
    let count = |name: &str| line.split(name).nth(1)?.split(',').next()?.parse().ok();
    [" sp=", " rp="].map(|name| count(name).unwrap_or_else(|| panic!("{line}")))
}

/// Audio over a relay of this kind and no other way; at the end it is given back.
async fn audio_over_a_relay(transport: &str) {
    let coturn = Coturn::start(&[]);
    let url = format!("turn:{}?transport={transport}", coturn.address);
    let mut pair = Pair::new(&ice(&[url], USER, PASSWORD, true), &IceOptions::default(), [all, all]);
    pair.talk_for(PACKETS).await;
    assert!(pair.is_connected());
    let relays = pair.candidates(0, "relay");
    assert_eq!((relays.len(), pair.told[0].len()), (1, 1), "nothing but the relay is told: {:?}", pair.told);
    assert!(address(relays[0]).ip().is_loopback());
    assert_eq!(gaps(&pair.got), 0, "{:?}", pair.got);
    pair.close(|| coturn.log().contains("lifetime=0")).await;
    coturn.wait_for_line(&["delete:", USER]);
    let [to_peer, from_peer] = passed_on(&coturn);
    assert!(to_peer >= PACKETS && from_peer > 5, "{to_peer} and {from_peer} of at least {PACKETS}");
}

#[tokio::test]
async fn audio_goes_over_a_relay_that_is_spoken_to_over_udp() {
    audio_over_a_relay("udp").await;
}

#[tokio::test]
async fn audio_goes_over_a_relay_that_is_spoken_to_over_tcp() {
    audio_over_a_relay("tcp").await;
}

#[tokio::test]
async fn two_relays_that_are_found_by_name_speak_to_each_other() {
    let coturn = Coturn::start(&[]);
    let port = coturn.address.port();
    let [udp, tcp] = ["udp", "tcp"].map(|transport| format!("turn:localhost:{port}?transport={transport}"));
    let [offering, answering] = [udp, tcp].map(|url| ice(&[url], USER, PASSWORD, true));
    let mut pair = Pair::new(&offering, &answering, [all, all]);
    pair.talk_for(PACKETS).await;
    assert!(pair.told.iter().all(|told| told.len() == 1 && told[0].contains("typ relay")), "{:?}", pair.told);
}

#[tokio::test]
async fn a_server_that_has_nothing_but_ipv6_relays_over_it() {
    let coturn = Coturn::start(&["listening-ip=::1", "relay-ip=::1"]);
    for transport in ["udp", "tcp"] {
        let url = format!("turn:[::1]:{}?transport={transport}", coturn.address.port());
        let mut pair = Pair::new(&ice(&[url], USER, PASSWORD, true), &IceOptions::default(), [all, all]);
        pair.talk_for(PACKETS / 2).await;
        assert!(address(pair.candidates(0, "relay")[0]).is_ipv6(), "{:?}", pair.told);
    }
}

#[tokio::test]
async fn a_relay_is_asked_for_when_no_direct_way_is_found_and_not_before() {
    let coturn = Coturn::start(&[]);
    let options = ice(&[format!("turn:{}", coturn.address)], USER, PASSWORD, false);
    let mut direct = Pair::new(&options, &IceOptions::default(), [all, all]);
    direct.talk_for(PACKETS).await;
    assert!(!coturn.log().contains("ALLOCATE"), "{}", coturn.log());
    // Now neither side can reach the other's sockets. The relay lets through what comes from the other's address.
    let mut pair = Pair::new(&options, &IceOptions::default(), [not_host, dead_port]);
    pair.talk_for(PACKETS).await;
    assert_eq!(pair.candidates(0, "relay").len(), 1, "{:?}", pair.told);
    assert!(!pair.candidates(0, "host").is_empty());
    pair.close(|| coturn.log().contains("lifetime=0")).await;
    assert!(passed_on(&coturn)[0] >= PACKETS);
}

#[tokio::test]
async fn a_relay_outlives_its_lifetime_and_its_nonces() {
    let coturn = Coturn::start(&["max-allocate-lifetime=2", "stale-nonce=1"]);
    let talks = ["udp", "tcp"].map(async |transport| {
        let url = format!("turn:{}?transport={transport}", coturn.address);
        let mut pair = Pair::new(&ice(&[url], USER, PASSWORD, true), &IceOptions::default(), [all, all]);
        pair.talk_for(300).await;
        assert_eq!(gaps(&pair.got), 0, "{:?}", pair.got);
    });
    futures_util::future::join_all(talks).await;
    let log = coturn.log();
    let count = |what: &str| log.matches(what).count();
    assert!(count("REFRESH processed, success") >= 6 && count("error 438") >= 2, "{log}");
}

#[tokio::test]
async fn the_address_that_a_nat_gives_is_told_and_media_comes_over_it() {
    let coturn = Coturn::start(&[]);
    for turn in [false, true] {
        let nat = Nat::before(coturn.address).await;
        // Of a TURN server over UDP it is asked in the same way.
        let url = format!("{}:{}", if turn { "turn" } else { "stun" }, nat.stun);
        let dead = "stun:127.0.0.1:9".to_owned();
        let mut pair = Pair::new(&ice(&[dead, url], USER, PASSWORD, false), &IceOptions::default(), [not_host, none]);
        pair.talk_for(PACKETS).await;
        let reflexive = pair.candidates(0, "srflx");
        assert_eq!(reflexive.iter().map(|told| address(told)).collect::<Vec<_>>(), [nat.mapped], "{:?}", pair.told);
        assert!(nat.passed.load(Ordering::Relaxed) > 5);
        assert_eq!(gaps(&pair.got), 0, "{:?}", pair.got);
    }
}

#[test]
fn addresses_of_servers_are_read_as_browsers_read_them() {
    let shown = |url: &str| IceServer::new(url, "user", "secret-word").map(|server| server.to_string());
    let good = [
        ("stun:stun.example.org", "stun:stun.example.org:3478"),
        ("turn:10.0.0.1:443", "turn:10.0.0.1:443?transport=udp"),
        ("turn:[2001:db8::1]?transport=tcp", "turn:[2001:db8::1]:3478?transport=tcp"),
        ("TURNS:turn.example.org", "turns:turn.example.org:5349?transport=tcp"),
        ("turns:turn.example.org:443?transport=tcp", "turns:turn.example.org:443?transport=tcp"),
    ];
    for (url, as_shown) in good {
        assert_eq!(shown(url).as_deref(), Ok(as_shown));
    }
    let bad = [
        ("stun.example.org", "no scheme"),
        ("http:example.org", "none of stun, turn and turns"),
        ("turn:", "no host"),
        ("turn:host:0", "port"),
        ("turn:host:70000", "port"),
        ("turn:2001:db8::1", "brackets"),
        ("turn:host?transport=sctp", "neither udp nor tcp"),
        ("turn:host?x=y", "transport"),
        ("turns:host?transport=udp", "DTLS"),
        ("stuns:host", "STUN over TLS"),
        ("turn:user:secret-word@host", "follow the scheme"),
    ];
    for (url, problem) in bad {
        let error = shown(url).expect_err(url);
        assert!(error.to_string().contains(problem) && !error.to_string().contains("secret-word"), "{url}: {error}");
    }
    let error = IceServer::new("turn:host", "", "secret-word").expect_err("nobody to log in");
    assert!(error.to_string().contains("user name") && !format!("{error:?}").contains("secret-word"), "{error:?}");
    let server = IceServer::new("turn:host", "user", "secret-word").unwrap();
    assert!(!format!("{server:?} {server}").contains("secret-word"));
}
