//! Two of our peer connections, each told the other's descriptions and candidates as far as the test lets them.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::{Duration, Instant};

use trunkline::transport::webrtc::{AudioPlan, ChannelPlan, IceOptions, IceServer, Peer, PeerEvent, PeerState, RtpTime, SentAudio};

use super::common::PATIENCE;

/// A packet that says nothing but which it is, with 20 ms of Opus at its head.
const OPUS: u8 = 0x08;
const AUDIO: AudioPlan<'_> = AudioPlan { stream: "stream", track: "track", both_ways: false };
const DATA: ChannelPlan = ChannelPlan { label: "data", reliable: true };

/// What a candidate becomes on its way to the other side; none: it is not told.
pub type Filter = fn(&str) -> Option<String>;

/// Every candidate passes.
pub fn all(candidate: &str) -> Option<String> {
    Some(candidate.to_owned())
}

/// None passes.
pub fn none(_: &str) -> Option<String> {
    None
}

/// None but relays and addresses seen from outside pass.
pub fn not_host(candidate: &str) -> Option<String> {
    (!candidate.contains("typ host")).then(|| candidate.to_owned())
}

/// A host's port is one where nobody is: it cannot be reached, but a relay is told whom to let through.
pub fn dead_port(candidate: &str) -> Option<String> {
    let mut parts: Vec<&str> = candidate.split(' ').collect();
    if candidate.contains("typ host") {
        parts[5] = "9";
    }
    Some(parts.join(" "))
}

/// An offering side that sends audio, and an answering one.
pub struct Pair {
    pub offering: Peer,
    pub answering: Peer,
    filters: [Filter; 2],
    sent: Option<SentAudio>,
    count: u64,
    /// The candidates that each side has told, whether they passed or not.
    pub told: [Vec<String>; 2],
    /// Which packets the answering side got.
    pub got: Vec<u64>,
}

impl Pair {
    /// Each side with its servers. `filters`: what the answering side hears of the offering one, and the other way.
    pub fn new(offering: &IceOptions, answering: &IceOptions, filters: [Filter; 2]) -> Self {
        let towards = [SocketAddr::from(([127, 0, 0, 1], 9))];
        let (mut offering, mut answering) = (Peer::new(&towards, offering), Peer::new(&towards, answering));
        let mut told = [Vec::new(), Vec::new()];
        let (offer, sent) = offering.offer(Some(AUDIO), &[DATA]).expect("there is something to offer");
        let answer = answering.answer(&pass(&offer, filters[0], &mut told[0])).expect("a good offer");
        offering.accept_answer(&pass(&answer, filters[1], &mut told[1])).expect("a good answer");
        Self { offering, answering, filters, sent, count: 0, told, got: Vec::new() }
    }

    /// Sends 20 ms of audio in real time until `done`.
    pub async fn talk(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < PATIENCE, "{:?} {} {:?}", self.told, self.got.len(), self.offering.no_way());
            let next = poll_fn(|cx| {
                if let Poll::Ready(event) = self.offering.poll_event(cx) {
                    return Poll::Ready(Some((0, event)));
                }
                if let Poll::Ready(event) = self.answering.poll_event(cx) {
                    return Poll::Ready(Some((1, event)));
                }
                clock.poll_tick(cx).map(|_| None)
            });
            match next.await {
                Some((side, PeerEvent::Candidate(candidate))) => {
                    if let Some(passed) = (self.filters[side])(&candidate) {
                        [&mut self.answering, &mut self.offering][side].add_candidate(&passed);
                    }
                    self.told[side].push(candidate);
                }
                Some((1, PeerEvent::Rtp { packet, .. })) => {
                    let number = packet.payload[1..9].try_into().map(u64::from_be_bytes);
                    self.got.push(number.expect("it is ours"));
                }
                Some(_) => {}
                None => self.send(),
            }
        }
    }

    fn send(&mut self) {
        let Some(sent) = &mut self.sent else { return };
        let mut payload: Vec<u8> = [OPUS].into_iter().chain(self.count.to_be_bytes()).collect();
        // Of every length that a relay may have to fill up.
        payload.resize(payload.len() + self.count as usize % 4, 0);
        if self.offering.send_audio(sent, RtpTime::new(self.count * 960), -20, &payload) {
            self.count += 1;
        }
    }

    /// Talks until so many packets have come.
    pub async fn talk_for(&mut self, packets: usize) {
        self.talk(|pair| pair.got.len() >= packets).await;
    }

    pub fn is_connected(&self) -> bool {
        [&self.offering, &self.answering].iter().all(|peer| peer.state() == PeerState::Connected)
    }

    /// Both sides close, and are polled until `done`.
    pub async fn close(&mut self, done: impl Fn() -> bool) {
        self.offering.close();
        self.answering.close();
        self.talk(|_| done()).await;
    }

    /// The candidates of a kind that a side has told.
    pub fn candidates(&self, side: usize, kind: &str) -> Vec<&str> {
        let told = self.told[side].iter().map(String::as_str);
        told.filter(|candidate| candidate.contains(&format!("typ {kind}"))).collect()
    }
}

/// A description with the candidates that `filter` lets pass.
fn pass(sdp: &str, filter: Filter, told: &mut Vec<String>) -> String {
    let line = |line: &str| match line.strip_prefix("a=").filter(|line| line.starts_with("candidate:")) {
        Some(candidate) => {
            told.push(candidate.to_owned());
            filter(candidate).map(|passed| format!("a={passed}\r\n")).unwrap_or_default()
        }
        None => format!("{line}\r\n"),
    };
    sdp.lines().map(line).collect()
}

/// The address of a candidate.
pub fn address(candidate: &str) -> SocketAddr {
    let parts: Vec<&str> = candidate.split(' ').collect();
    SocketAddr::new(parts[4].parse().expect("an address"), parts[5].parse().expect("a port"))
}

/// These servers; `relay_only`: nothing but relays.
pub fn ice(urls: &[String], user: &str, password: &str, relay_only: bool) -> IceOptions {
    let servers = urls.iter().map(|url| IceServer::new(url, user, password).expect("a good address"));
    IceOptions { servers: servers.collect(), relay_only }
}
