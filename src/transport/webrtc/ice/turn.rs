//! An allocation on a TURN server (RFC 8656): a sans-IO core, bytes of the server in and bytes for it out.
//!
//! Peers are reached over channels only: binding one gives the permission too, and binding it again renews both. What a peer sends
//! before its channel is there, or from another port, comes as a Data indication.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use stun_types::attribute::{AttributeType, ErrorCode, Nonce, RawAttribute, Realm, Username, XorSocketAddr};
use stun_types::message::{
    IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageClass, MessageType, MessageWriteVec, Method,
    StunWriteError, TransactionId,
};
use stun_types::prelude::{MessageWrite, MessageWriteExt};

use super::stun::{self, Due, Patience};
use crate::transport::Secret;

const ALLOCATE: Method = Method::new(0x003);
const REFRESH: Method = Method::new(0x004);
const DATA: Method = Method::new(0x007);
const CHANNEL_BIND: Method = Method::new(0x009);

/// The attributes of RFC 8656 section 18.
const CHANNEL_NUMBER: AttributeType = AttributeType::new(0x000C);
const LIFETIME: AttributeType = AttributeType::new(0x000D);
const XOR_PEER_ADDRESS: AttributeType = AttributeType::new(0x0012);
const DATA_ATTRIBUTE: AttributeType = AttributeType::new(0x0013);
const XOR_RELAYED_ADDRESS: AttributeType = AttributeType::new(0x0016);
const REQUESTED_ADDRESS_FAMILY: AttributeType = AttributeType::new(0x0017);
const REQUESTED_TRANSPORT: AttributeType = AttributeType::new(0x0019);

/// UDP as a protocol of IP.
const UDP: u8 = 17;
/// IPv6 in REQUESTED-ADDRESS-FAMILY (RFC 8656 section 18.6).
const IPV6: u8 = 2;
/// The first channel's number (RFC 8656 section 12).
pub(super) const FIRST_CHANNEL: u16 = 0x4000;
/// A permission ends after five minutes, a channel after ten (RFC 8656 sections 9 and 12): both are renewed in time.
const RENEW_CHANNEL: Duration = Duration::from_secs(240);
/// A peer that the server refuses is asked for again after this.
const REFUSED: Duration = Duration::from_secs(60);
/// An allocation is refreshed so long before its end, or at half its time.
const REFRESH_BEFORE: Duration = Duration::from_secs(60);
/// The lifetime that is asked for, in seconds: the default (RFC 8656 section 3.2). The server decides.
const LIFETIME_WANTED: u32 = 600;
/// No longer lifetime is believed, in seconds.
const LONGEST_LIFETIME: u32 = 3600;
/// Addresses that are spoken to over one allocation.
const MOST_PEERS: usize = 64;
/// Packets that wait until their channel is there.
const MOST_WAITING: usize = 8;
/// So often in a row a server may say that its nonce is too old.
const MOST_STALE: u8 = 3;

/// An allocation, or one that is being asked for.
pub(super) struct Turn {
    /// The server is spoken to over TCP or TLS.
    reliable: bool,
    username: String,
    credential: Secret,
    login: Option<Login>,
    ipv6: bool,
    requests: Vec<Request>,
    channels: Vec<Channel>,
    state: State,
    out: VecDeque<Vec<u8>>,
    /// What came from the server and is of no use.
    odd: Option<String>,
}

enum State {
    Asking,
    Allocated { relayed: SocketAddr, refresh: Option<Instant>, ends: Instant },
    Closing { relayed: SocketAddr },
    Over(String),
}

/// What requests are signed with (RFC 8489 section 9.2).
struct Login {
    realm: String,
    nonce: String,
    key: IntegrityKey,
}

/// A request that is not answered yet.
struct Request {
    what: What,
    transaction: TransactionId,
    bytes: Vec<u8>,
    patience: Patience,
    signed: bool,
    stale: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Allocate,
    Refresh,
    Delete,
    Bind(usize),
}

struct Channel {
    peer: SocketAddr,
    state: ChannelState,
}

enum ChannelState {
    Binding(VecDeque<Vec<u8>>),
    Bound { renew: Option<Instant> },
    Refused { until: Instant },
}

impl Turn {
    /// Asks for an allocation.
    pub(super) fn new(username: &str, credential: &Secret, reliable: bool, now: Instant) -> Self {
        let mut turn = Self {
            reliable,
            username: username.to_owned(),
            credential: credential.clone(),
            login: None,
            ipv6: false,
            requests: Vec::new(),
            channels: Vec::new(),
            state: State::Asking,
            out: VecDeque::new(),
            odd: None,
        };
        turn.ask(What::Allocate, 0, now);
        turn
    }

    /// The address from which the server passes on to us.
    pub(super) const fn relayed(&self) -> Option<SocketAddr> {
        match &self.state {
            State::Allocated { relayed, .. } | State::Closing { relayed } => Some(*relayed),
            State::Asking | State::Over(_) => None,
        }
    }

    /// Why there is no allocation any more, or none was had.
    pub(super) fn ended(&self) -> Option<&str> {
        if let State::Over(reason) = &self.state { Some(reason) } else { None }
    }

    /// How many channels were asked for.
    pub(super) const fn channels(&self) -> usize {
        self.channels.len()
    }

    /// How far it is, in words.
    pub(super) fn status(&self) -> String {
        match &self.state {
            State::Asking => self.odd.clone().unwrap_or_else(|| "no answer so far".to_owned()),
            State::Allocated { relayed, .. } => {
                let refused = self.channels.iter().filter(|channel| matches!(channel.state, ChannelState::Refused { .. }));
                let refused: Vec<_> = refused.map(|channel| channel.peer.to_string()).collect();
                let but = if refused.is_empty() { String::new() } else { format!(", but not to {}", refused.join(", ")) };
                format!("it relays at {relayed}{but}")
            }
            State::Closing { .. } => "closing".to_owned(),
            State::Over(reason) => reason.clone(),
        }
    }

    /// The next bytes for the server: a datagram, or a part of the connection's.
    pub(super) fn next_out(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// When [`Self::tick`] has something to do.
    pub(super) fn wake(&self) -> Option<Instant> {
        let requests = self.requests.iter().map(|request| request.patience.next());
        let channels = self.channels.iter().filter_map(|channel| match channel.state {
            ChannelState::Bound { renew } => renew,
            ChannelState::Binding(_) | ChannelState::Refused { .. } => None,
        });
        let own = match self.state {
            State::Allocated { refresh, ends, .. } => Some(refresh.unwrap_or(ends)),
            State::Asking | State::Closing { .. } | State::Over(_) => None,
        };
        requests.chain(channels).chain(own).min()
    }

    /// Does what has become due.
    pub(super) fn tick(&mut self, now: Instant) {
        let mut at = 0;
        while let Some(request) = self.requests.get_mut(at) {
            match request.patience.due(now) {
                Due::Nothing => at += 1,
                Due::Again => {
                    self.out.push_back(request.bytes.clone());
                    at += 1;
                }
                Due::GiveUp => {
                    let request = self.requests.swap_remove(at);
                    let odd = self.odd.as_deref().unwrap_or("no answer");
                    self.failed(request.what, odd.to_owned(), now);
                }
            }
        }
        for at in 0..self.channels.len() {
            if let ChannelState::Bound { renew } = &mut self.channels[at].state
                && renew.is_some_and(|renew| renew <= now)
            {
                *renew = None;
                self.ask(What::Bind(at), 0, now);
            }
        }
        if let State::Allocated { refresh, ends, .. } = &mut self.state {
            if *ends <= now {
                self.end("the allocation ran out before the server answered its refresh");
            } else if refresh.is_some_and(|refresh| refresh <= now) {
                *refresh = None;
                self.ask(What::Refresh, 0, now);
            }
        }
    }

    /// Sends a packet to a peer. Until its channel is there it waits; one that the server refuses gets nothing.
    pub(super) fn send(&mut self, to: SocketAddr, packet: &[u8], now: Instant) {
        let State::Allocated { relayed, .. } = self.state else { return };
        if relayed.is_ipv4() != to.is_ipv4() {
            return;
        }
        let known = self.channels.iter().position(|channel| channel.peer == to);
        let Some(at) = known.or_else(|| self.add_channel(to, now)) else { return };
        match &mut self.channels[at].state {
            ChannelState::Bound { .. } => self.push_data(at, packet),
            ChannelState::Binding(waiting) if waiting.len() < MOST_WAITING => waiting.push_back(packet.to_vec()),
            ChannelState::Refused { until } if *until <= now => {
                self.channels[at].state = ChannelState::Binding(VecDeque::from([packet.to_vec()]));
                self.ask(What::Bind(at), 0, now);
            }
            ChannelState::Binding(_) | ChannelState::Refused { .. } => {}
        }
    }

    fn add_channel(&mut self, peer: SocketAddr, now: Instant) -> Option<usize> {
        if self.channels.len() == MOST_PEERS {
            tracing::debug!(%peer, "a TURN allocation has no more channels");
            return None;
        }
        self.channels.push(Channel { peer, state: ChannelState::Binding(VecDeque::new()) });
        self.ask(What::Bind(self.channels.len() - 1), 0, now);
        Some(self.channels.len() - 1)
    }

    /// A channel's data: number, length, and over TCP as many bytes as make it a multiple of four (RFC 8656 section 12.5).
    fn push_data(&mut self, at: usize, packet: &[u8]) {
        let Ok(length) = u16::try_from(packet.len()) else { return };
        let mut bytes = Vec::with_capacity(packet.len() + 8);
        bytes.extend((FIRST_CHANNEL + at as u16).to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(packet);
        if self.reliable {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        self.out.push_back(bytes);
    }

    /// Gives the allocation back.
    pub(super) fn close(&mut self, now: Instant) {
        match self.state {
            State::Allocated { relayed, .. } => {
                self.requests.clear();
                self.channels.clear();
                self.state = State::Closing { relayed };
                self.ask(What::Delete, 0, now);
            }
            State::Asking => self.end("closed"),
            State::Closing { .. } | State::Over(_) => {}
        }
    }

    /// Takes a datagram, or one frame of a connection. Gives what a peer sent: from where, and which of the bytes.
    pub(super) fn receive(&mut self, bytes: &[u8], now: Instant) -> Option<(SocketAddr, Range<usize>)> {
        if bytes.first().is_some_and(|first| (0x40..0x80).contains(first)) {
            return self.channel_data(bytes);
        }
        let Some(message) = stun::parse(bytes) else {
            self.odd = Some("what it answers is not TURN".to_owned());
            return None;
        };
        match message.class() {
            MessageClass::Indication if message.method() == DATA => return data(&message),
            MessageClass::Success | MessageClass::Error => self.answered(&message, now),
            MessageClass::Indication | MessageClass::Request => {}
        }
        None
    }

    fn channel_data(&self, bytes: &[u8]) -> Option<(SocketAddr, Range<usize>)> {
        let number = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
        let length = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
        let channel = self.channels.get(usize::from(number.checked_sub(FIRST_CHANNEL)?))?;
        (bytes.len() >= 4 + length).then_some((channel.peer, 4..4 + length))
    }

    fn answered(&mut self, message: &Message<'_>, now: Instant) {
        let asked = self.requests.iter().position(|request| request.transaction == message.transaction_id());
        let Some(at) = asked else { return };
        if message.class() == MessageClass::Error {
            let request = self.requests.swap_remove(at);
            return self.refused(&request, message, now);
        }
        // RFC 8489 section 9.2.5: an answer that is not signed is none.
        let signed = self.login.as_ref().is_some_and(|login| message.validate_integrity_with_key(&login.key).is_ok());
        if !signed {
            self.odd = Some("its answer is not signed with the credential".to_owned());
            return;
        }
        let request = self.requests.swap_remove(at);
        match request.what {
            What::Allocate => self.allocated(message, now),
            What::Refresh => {
                if let State::Allocated { relayed, .. } = self.state {
                    self.lives(relayed, lifetime(message), now);
                }
            }
            What::Delete => self.end("closed"),
            What::Bind(at) => self.bound(at, now),
        }
    }

    fn allocated(&mut self, message: &Message<'_>, now: Instant) {
        let given = (0..2).filter_map(|at| address(message, &message.nth_raw_attribute(XOR_RELAYED_ADDRESS, at)?));
        // coturn puts an empty address before an IPv6 one.
        match given.into_iter().find(|address| address.port() != 0 && !address.ip().is_unspecified()) {
            Some(relayed) => self.lives(relayed, lifetime(message), now),
            None => self.end("the server gave no relayed address"),
        }
    }

    fn lives(&mut self, relayed: SocketAddr, seconds: u32, now: Instant) {
        if seconds == 0 {
            return self.end("the server ended the allocation");
        }
        let lifetime = Duration::from_secs(seconds.min(LONGEST_LIFETIME).into());
        let refresh = if lifetime > 2 * REFRESH_BEFORE { lifetime - REFRESH_BEFORE } else { lifetime / 2 };
        self.state = State::Allocated { relayed, refresh: Some(now + refresh), ends: now + lifetime };
    }

    fn bound(&mut self, at: usize, now: Instant) {
        let Some(channel) = self.channels.get_mut(at) else { return };
        let bound = ChannelState::Bound { renew: Some(now + RENEW_CHANNEL) };
        if let ChannelState::Binding(waiting) = std::mem::replace(&mut channel.state, bound) {
            waiting.iter().for_each(|packet| self.push_data(at, packet));
        }
    }

    /// The server says no.
    fn refused(&mut self, request: &Request, message: &Message<'_>, now: Instant) {
        let (code, text) = stun::refusal(message);
        let again = match code {
            ErrorCode::UNAUTHORIZED if !request.signed => self.log_in(message),
            ErrorCode::STALE_NONCE if request.stale < MOST_STALE => self.take_nonce(message),
            ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED if request.what == What::Allocate && !self.ipv6 => {
                self.ipv6 = true;
                true
            }
            _ => false,
        };
        if again {
            let stale = request.stale + u8::from(code == ErrorCode::STALE_NONCE);
            return self.ask(request.what, stale, now);
        }
        let text = match code {
            ErrorCode::UNAUTHORIZED if request.signed => format!("the server does not take the credential: {text}"),
            _ => format!("the server refuses: {text}"),
        };
        self.failed(request.what, text, now);
    }

    fn failed(&mut self, what: What, why: String, now: Instant) {
        match what {
            What::Allocate | What::Refresh => self.end(&why),
            What::Delete => self.end("closed"),
            What::Bind(at) => {
                let Some(channel) = self.channels.get_mut(at) else { return };
                tracing::debug!(peer = %channel.peer, "the TURN server does not relay to this peer: {why}");
                channel.state = ChannelState::Refused { until: now + REFUSED };
            }
        }
    }

    fn log_in(&mut self, message: &Message<'_>) -> bool {
        let (Ok(realm), Ok(nonce)) = (message.attribute::<Realm>(), message.attribute::<Nonce>()) else { return false };
        let (realm, nonce) = (realm.realm().to_owned(), nonce.nonce().to_owned());
        let credentials = LongTermKeyCredentials::new(self.username.clone(), self.credential.reveal().to_owned(), realm.clone());
        let key = credentials.make_key(IntegrityAlgorithm::Sha1);
        self.login = Some(Login { realm, nonce, key });
        true
    }

    fn take_nonce(&mut self, message: &Message<'_>) -> bool {
        let (Some(login), Ok(nonce)) = (&mut self.login, message.attribute::<Nonce>()) else { return false };
        login.nonce = nonce.nonce().to_owned();
        true
    }

    fn ask(&mut self, what: What, stale: u8, now: Instant) {
        let transaction = TransactionId::generate();
        match self.write(what, transaction) {
            Ok(bytes) => {
                self.out.push_back(bytes.clone());
                let (patience, signed) = (Patience::new(self.reliable, now), self.login.is_some());
                self.requests.push(Request { what, transaction, bytes, patience, signed, stale });
            }
            Err(error) => self.end(&format!("a request to the server cannot be written: {error}")),
        }
    }

    fn write(&self, what: What, transaction: TransactionId) -> Result<Vec<u8>, StunWriteError> {
        let method = match what {
            What::Allocate => ALLOCATE,
            What::Refresh | What::Delete => REFRESH,
            What::Bind(_) => CHANNEL_BIND,
        };
        let kind = MessageType::from_class_method(MessageClass::Request, method);
        let mut message = Message::builder(kind, transaction, MessageWriteVec::new());
        match what {
            What::Allocate => {
                message.add_attribute(&RawAttribute::new(REQUESTED_TRANSPORT, &[UDP, 0, 0, 0]))?;
                message.add_attribute(&RawAttribute::new(LIFETIME, &LIFETIME_WANTED.to_be_bytes()))?;
                if self.ipv6 {
                    message.add_attribute(&RawAttribute::new(REQUESTED_ADDRESS_FAMILY, &[IPV6, 0, 0, 0]))?;
                }
            }
            What::Refresh => message.add_attribute(&RawAttribute::new(LIFETIME, &LIFETIME_WANTED.to_be_bytes()))?,
            What::Delete => message.add_attribute(&RawAttribute::new(LIFETIME, &[0; 4]))?,
            What::Bind(at) => {
                let [high, low] = (FIRST_CHANNEL + at as u16).to_be_bytes();
                message.add_attribute(&RawAttribute::new(CHANNEL_NUMBER, &[high, low, 0, 0]))?;
                if let Some(channel) = self.channels.get(at) {
                    message.add_attribute(&XorSocketAddr::new(channel.peer, transaction).to_raw(XOR_PEER_ADDRESS))?;
                }
            }
        }
        if let Some(login) = &self.login {
            message.add_attribute(&Username::new(&self.username)?)?;
            message.add_attribute(&Realm::new(&login.realm)?)?;
            message.add_attribute(&Nonce::new(&login.nonce)?)?;
            message.add_message_integrity_with_key(&login.key, IntegrityAlgorithm::Sha1)?;
        }
        Ok(message.finish())
    }

    fn end(&mut self, reason: &str) {
        self.requests.clear();
        self.channels.clear();
        self.state = State::Over(reason.to_owned());
    }
}

/// What a Data indication passes on (RFC 8656 section 11.4).
fn data(message: &Message<'_>) -> Option<(SocketAddr, Range<usize>)> {
    let (offset, data) = message.raw_attribute_and_offset(DATA_ATTRIBUTE)?;
    let start = offset + 4;
    let peer = address(message, &message.raw_attribute(XOR_PEER_ADDRESS)?)?;
    Some((peer, start..start + data.value.len()))
}

fn address(message: &Message<'_>, attribute: &RawAttribute<'_>) -> Option<SocketAddr> {
    Some(XorSocketAddr::from_raw(attribute).ok()?.addr(message.transaction_id()))
}

fn lifetime(message: &Message<'_>) -> u32 {
    let told = message.raw_attribute(LIFETIME);
    let told = told.and_then(|told| <[u8; 4]>::try_from(&*told.value).ok());
    told.map_or(LIFETIME_WANTED, u32::from_be_bytes)
}
