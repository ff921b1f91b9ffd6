//! STUN (RFC 8489): requests that are sent again until an answer comes, and our address as a server sees it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stun_types::attribute::{ErrorCode, XorMappedAddress};
use stun_types::message::{BINDING, Message, MessageClass, MessageWriteVec, TransactionId};
use stun_types::prelude::{MessageWrite, MessageWriteExt};

/// The pause before a request is sent again over UDP; it doubles each time (RFC 8489 section 6.2.1: RTO).
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A request is sent so often (RFC 8489 section 6.2.1: Rc).
const SENT: u32 = 7;
/// The answer to the last of them is waited for so long (RFC 8489 section 6.2.1: Rm × RTO).
const LAST_PAUSE: Duration = Duration::from_secs(8);
/// The answer to a request over TCP is waited for so long (RFC 8489 section 6.2.2: Ti).
const RELIABLE_PAUSE: Duration = Duration::from_millis(39_500);
/// Longer than what a server has to say: what it passes on is held to a packet's length.
pub(super) const LONGEST_MESSAGE: usize = 4096;
/// The fixed beginning of a message.
pub(super) const HEADER: usize = 20;

/// Reads a message that is all of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Option<Message<'_>> {
    let length = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
    // stun-types reckons in 16 bits: messages that are far shorter cannot bring it to overflow.
    let whole = bytes.len() == HEADER + length && bytes.len() <= LONGEST_MESSAGE;
    if whole { Message::from_bytes(bytes).ok() } else { None }
}

/// A server's refusal in its own words, without what has no place in a line.
pub(super) fn refusal(message: &Message<'_>) -> (u16, String) {
    let Ok(error) = message.attribute::<ErrorCode>() else { return (0, "an error without a code".to_owned()) };
    let reason: String = error.reason().chars().filter(|letter| !letter.is_control()).take(100).collect();
    let reason = if reason.is_empty() { ErrorCode::default_reason_for_code(error.code()).to_owned() } else { reason };
    (error.code(), format!("{} {reason}", error.code()))
}

/// When a request is sent again, and when it is given up.
#[derive(Debug)]
pub(super) struct Patience {
    sent: u32,
    next: Instant,
    reliable: bool,
}

/// What a request's time says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Again,
    GiveUp,
}

impl Patience {
    /// For a request that is sent now. `reliable`: over a connection that loses nothing.
    pub(super) fn new(reliable: bool, now: Instant) -> Self {
        Self { sent: 1, next: now + if reliable { RELIABLE_PAUSE } else { FIRST_PAUSE }, reliable }
    }

    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    pub(super) fn due(&mut self, now: Instant) -> Due {
        if now < self.next {
            return Due::Nothing;
        }
        if self.reliable || self.sent == SENT {
            return Due::GiveUp;
        }
        self.sent += 1;
        // From now on, not from when it was due: a process that slept does not send all at once.
        self.next = now + if self.sent == SENT { LAST_PAUSE } else { FIRST_PAUSE * (1 << (self.sent - 1)) };
        Due::Again
    }
}

/// A server that is asked how one of our sockets looks from where it is.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) local: SocketAddr,
    pub(super) server: SocketAddr,
    pub(super) request: Vec<u8>,
    pub(super) patience: Patience,
    transaction: TransactionId,
}

impl Binding {
    pub(super) fn new(local: SocketAddr, server: SocketAddr, now: Instant) -> Self {
        let message = Message::builder_request(BINDING, MessageWriteVec::new());
        let transaction = message.transaction_id();
        Self { local, server, request: message.finish(), patience: Patience::new(false, now), transaction }
    }

    /// The server's answer: our address, or why there is none. None: it answers something else.
    pub(super) fn answer(&self, message: &Message<'_>) -> Option<Result<SocketAddr, String>> {
        if message.transaction_id() != self.transaction || message.method() != BINDING {
            return None;
        }
        match message.class() {
            MessageClass::Success => Some(match message.attribute::<XorMappedAddress>() {
                Ok(mapped) => Ok(mapped.addr(self.transaction)),
                Err(_) => Err("it tells no address".to_owned()),
            }),
            MessageClass::Error => Some(Err(refusal(message).1)),
            MessageClass::Request | MessageClass::Indication => None,
        }
    }
}
