//! Servers that are not there, that refuse, or that answer what no TURN server answers.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use trunkline::transport::webrtc::{IceOptions, IceServer, Peer, PeerError, PeerState, Tried};

use super::common::PATIENCE;
use super::common::coturn::{Coturn, PASSWORD, USER};
use super::common::random::Random;
use super::network::harmful_line;
use super::pair::ice;

/// What a connection says of its relays.
fn relays(peer: &Peer) -> Vec<String> {
    let Some(PeerError::Ice(Tried { relays, local, .. })) = peer.no_way() else { panic!("{:?}", peer.no_way()) };
    assert!(local.is_empty(), "no address of ours is used: {local:?}");
    relays
}

/// Polls a connection that may use nothing but these relays until it says something of them that `done` takes.
async fn until_it_says(options: &IceOptions, done: impl Fn(&[String]) -> bool) -> Vec<String> {
    let mut peer = Peer::new(&[], options);
    let begun = Instant::now();
    let mut look = tokio::time::interval(Duration::from_millis(10));
    loop {
        poll_fn(|cx| {
            while peer.poll_event(cx).is_ready() {}
            look.poll_tick(cx).map(drop)
        })
        .await;
        let said = relays(&peer);
        if done(&said) {
            assert_ne!(peer.state(), PeerState::Connected);
            assert!(!format!("{:?}", peer.no_way()).contains(PASSWORD));
            return said;
        }
        assert!(begun.elapsed() < PATIENCE, "{said:?}");
    }
}

async fn says(urls: &[String], password: &str, what: &str) {
    let options = ice(urls, USER, password, true);
    let said = until_it_says(&options, |said| said.iter().any(|said| said.contains(what))).await;
    let shown = urls[0].split_once(':').expect("a scheme").1.split('?').next().expect("a place");
    assert!(said[0].contains(shown), "{said:?}");
}

#[tokio::test]
async fn a_server_that_refuses_or_is_not_there_is_named_with_the_reason() {
    let coturn = Coturn::start(&["user-quota=1"]);
    let urls = ["udp", "tcp"].map(|transport| format!("turn:{}?transport={transport}", coturn.address));
    for url in &urls {
        says(std::slice::from_ref(url), "another password", "the server does not take the credential: 401").await;
    }
    let tls = format!("turns:localhost:{}", coturn.tls.port());
    says(&[tls], PASSWORD, "its certificate is not trusted").await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    says(&[format!("turn:{nobody}?transport=tcp")], PASSWORD, "refused").await;
    says(&[format!("turn:{nobody}")], PASSWORD, "refused").await;
    says(&["turn:there.is.no.such.host.invalid".to_owned()], PASSWORD, "turn:there.is.no.such.host.invalid:3478").await;
    let none = until_it_says(&IceOptions { servers: Vec::new(), relay_only: true }, |said| !said.is_empty()).await;
    assert_eq!(none, ["none is known, and no other way may be used"]);
    let held = ice(&urls[..1], USER, PASSWORD, true);
    let mut first = Peer::new(&[], &held);
    poll_until_relayed(&mut first).await;
    says(&urls[..1], PASSWORD, "the server refuses: 486").await;
}

async fn poll_until_relayed(peer: &mut Peer) {
    let mut look = tokio::time::interval(Duration::from_millis(10));
    while !relays(peer).iter().any(|said| said.contains("it relays at")) {
        poll_fn(|cx| match peer.poll_event(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => look.poll_tick(cx).map(drop),
        })
        .await;
    }
}

/// A message of this kind and length, whose transaction is `transaction`, with `body` after its head.
fn message(kind: u16, length: u16, transaction: &[u8], body: &[u8]) -> Vec<u8> {
    let head = [kind.to_be_bytes(), length.to_be_bytes()].concat();
    [&head[..], &[0x21, 0x12, 0xa4, 0x42], transaction, body].concat()
}

/// What is sent back for a request, and what a connection over TCP and one over UDP say of it.
type Answer = (fn(&[u8]) -> Vec<u8>, &'static str, &'static str);

const UNUSABLE: &str = "what it answers is not TURN";
const NOTHING: &str = "no answer so far";
const NOT_TURN: &str = "the server sent what is not TURN";
const CLOSED: &str = "the server closed the connection";

/// The answers are followed by the end of the connection.
const ANSWERS: [Answer; 13] = [
    (|_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), NOT_TURN, NOTHING),
    (|_| vec![0xff; 100], NOT_TURN, UNUSABLE),
    (|_| vec![0; 19], CLOSED, UNUSABLE),
    (|_| Vec::new(), CLOSED, UNUSABLE),
    (|request| request.to_vec(), CLOSED, NOTHING),
    // Longer than any answer, longer than what follows, and of no whole number of words.
    (|request| message(0x0103, 0xfffc, &request[8..20], &[0; 65_000]), NOT_TURN, UNUSABLE),
    (|request| message(0x0103, 400, &request[8..20], &[0; 16]), CLOSED, UNUSABLE),
    (|request| message(0x0103, 3, &request[8..20], &[0; 3]), NOT_TURN, UNUSABLE),
    // A channel that nobody has bound.
    (|_| [&[0x40, 0, 0xff, 0xff][..], &[1; 2000]].concat(), NOT_TURN, NOTHING),
    // An error whose code is cut off; one with none; a realm without a nonce.
    (|request| message(0x0113, 8, &request[8..20], &[0, 9, 0, 40, 0, 0, 4, 1]), CLOSED, UNUSABLE),
    (|request| message(0x0113, 0, &request[8..20], &[]), "an error without a code", "an error without a code"),
    (|request| message(0x0113, 8, &request[8..20], &[0, 9, 0, 4, 0, 0, 4, 1]), "the server refuses: 401", "refuses: 401"),
    // A success that nobody has signed.
    (
        |request| message(0x0103, 12, &request[8..20], &[0, 0x16, 0, 8, 0, 1, 0x12, 0x34, 1, 2, 3, 4]),
        CLOSED,
        "its answer is not signed with the credential",
    ),
];

async fn tcp_server(answer: fn(&[u8]) -> Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut request = [0; 2048];
        let length = client.read(&mut request).await.unwrap();
        // The client may have gone at the first bytes of it.
        drop(client.write_all(&answer(&request[..length])).await);
        drop(client.shutdown().await);
        while client.read(&mut request).await.is_ok_and(|length| length > 0) {}
    });
    address
}

async fn udp_server(answer: fn(&[u8]) -> Vec<u8>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut request = [0; 2048];
        while let Ok((length, client)) = socket.recv_from(&mut request).await {
            let answer = answer(&request[..length]);
            // No datagram is longer.
            socket.send_to(&answer[..answer.len().min(65_507)], client).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn what_is_no_answer_of_a_turn_server_ends_its_connection_with_the_reason() {
    for (answer, reason, _) in ANSWERS {
        let address = tcp_server(answer).await;
        says(&[format!("turn:{address}?transport=tcp")], PASSWORD, reason).await;
    }
}

#[tokio::test]
async fn a_datagram_that_is_no_answer_of_a_turn_server_is_left_alone() {
    for (answer, _, reason) in ANSWERS {
        let address = udp_server(answer).await;
        says(&[format!("turn:{address}")], PASSWORD, reason).await;
    }
}

/// Changes one byte of half of all answers, cuts others short, and doubles others.
fn harm(bytes: &mut Vec<u8>, seed: u64) {
    let mut random = Random(seed);
    let mut below = |bound: usize| random.below(bound as u64) as usize;
    let at = below(bytes.len().max(1));
    match below(6) {
        0 => bytes.truncate(at),
        1 => bytes.extend(bytes.clone()),
        2 | 3 if !bytes.is_empty() => bytes[at] ^= 1 << below(8),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_changed_on_the_way_never_do_more_than_end_a_relay() {
    let coturn = Coturn::start(&[]);
    let line = harmful_line(coturn.address, harm).await;
    for transport in ["udp", "tcp"] {
        let tries = (0..60).map(|_| {
            let server = IceServer::new(&format!("turn:{line}?transport={transport}"), USER, PASSWORD).unwrap();
            let options = IceOptions { servers: vec![server], relay_only: true };
            // Sent again over UDP; over TCP a message whose end is missing waits for it.
            tokio::spawn(async move {
                let until = Instant::now() + Duration::from_secs(2);
                until_it_says(&options, |said| Instant::now() > until || !said[0].contains("no answer so far")).await
            })
        });
        let mut said = Vec::new();
        for each in tries.collect::<Vec<_>>() {
            said.extend(each.await.expect("it does not panic"));
        }
        let count = |what: &str| said.iter().filter(|said| said.contains(what)).count();
        assert!(count("it relays at") > 0, "{said:#?}");
        assert!(count("it relays at") < 60, "{said:#?}");
    }
}
