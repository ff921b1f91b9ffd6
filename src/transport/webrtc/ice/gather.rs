//! What a connection asks STUN and TURN servers for: how its sockets look from outside, and relays.
//!
//! STUN servers are asked at once. Relays cost their server something, and are the last way that ICE chooses: they are asked for
//! when no way was found for a moment, or when nothing else may be used.

use std::net::{SocketAddr, ToSocketAddrs};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::oneshot;

use super::paths::Received;
use super::relay::{Relay, RelayGot};
use super::server::{IceServer, Service, Via};
use super::stun::{self, Binding, Due};
use str0m::net::{Protocol, Transmit};

/// Longer than any packet: nothing that comes is cut.
const LONGEST: usize = 65_535;

/// Servers of a connection and what became of them.
pub(in crate::transport::webrtc) struct Gather {
    servers: Vec<Known>,
    bindings: Vec<Binding>,
    /// Which of our sockets have asked which server.
    asked: Vec<(SocketAddr, SocketAddr)>,
    relays: Vec<Relay>,
    /// Room for a packet, once there is a relay.
    buffer: Vec<u8>,
    /// Which relay is looked at first, so that none waits behind another for good.
    turn: usize,
}

/// A server, and where it is.
struct Known {
    server: IceServer,
    place: Place,
    /// Its relays are wanted.
    wanted: bool,
}

enum Place {
    Unasked,
    Asked(oneshot::Receiver<Result<Vec<SocketAddr>, String>>),
    At(Vec<SocketAddr>),
    Nowhere(String),
}

/// What comes of the servers.
pub(in crate::transport::webrtc) enum Gathered<'a> {
    /// A server has become known that our sockets may ask.
    Stun,
    /// A relay is there.
    Relayed(SocketAddr),
    /// A relay is no longer there.
    Lost(SocketAddr),
    /// A packet came over a relay.
    Received(Received<'a>),
}

impl Gather {
    pub(in crate::transport::webrtc) fn new() -> Self {
        Self { servers: Vec::new(), bindings: Vec::new(), asked: Vec::new(), relays: Vec::new(), buffer: Vec::new(), turn: 0 }
    }

    /// Takes other servers; the relays that are there stay. `stun`: our own sockets are of use.
    pub(in crate::transport::webrtc) fn set_servers(&mut self, servers: &[IceServer], stun: bool) {
        self.servers = servers.iter().map(|server| Known::new(server.clone())).collect();
        self.bindings.clear();
        self.asked.clear();
        for known in self.servers.iter_mut().filter(|known| stun && known.tells_addresses()) {
            known.look_up();
        }
    }

    /// Asks for relays: those that are spoken to over UDP, or those over connections. One that has failed is asked for again.
    pub(in crate::transport::webrtc) fn want_relays(&mut self, udp: bool, now: Instant) {
        let of_these = |server: &IceServer| server.via().is_some_and(|via| udp == (via == Via::Udp));
        self.relays.retain(|relay| !(relay.is_over() && of_these(&relay.server)));
        for known in self.servers.iter_mut().filter(|known| of_these(&known.server)) {
            known.wanted = true;
            known.look_up();
            known.ask(&mut self.relays, now);
        }
    }

    /// The requests that ask every server that is known how the socket at `local` looks from outside: where to, and what. No
    /// server is asked twice.
    pub(in crate::transport::webrtc) fn ask_for(&mut self, local: SocketAddr, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
        let known = self.servers.iter().filter(|known| known.tells_addresses()).filter_map(Known::addresses);
        let reached =
            |server: &SocketAddr| server.is_ipv4() == local.is_ipv4() && server.ip().is_loopback() == local.ip().is_loopback();
        let servers: Vec<_> = known.flatten().copied().filter(reached).collect();
        let mut requests = Vec::new();
        for server in servers {
            if !self.asked.contains(&(local, server)) {
                let binding = Binding::new(local, server, now);
                self.asked.push((local, server));
                requests.push((server, binding.request.clone()));
                self.bindings.push(binding);
            }
        }
        requests
    }

    /// Takes a datagram that came to one of our sockets, if it is a STUN server's: gives our address as that server sees it.
    pub(in crate::transport::webrtc) fn take_stun(&mut self, received: &Received<'_>) -> Option<Option<SocketAddr>> {
        let from = |binding: &Binding| binding.server == received.source && binding.local == received.destination;
        if received.proto != Protocol::Udp || !self.bindings.iter().any(from) {
            return None;
        }
        let message = stun::parse(received.contents)?;
        let answered = self.bindings.iter().enumerate().filter(|(_, binding)| from(binding));
        let (at, answer) = answered.filter_map(|(at, binding)| Some((at, binding.answer(&message)?))).next()?;
        let binding = self.bindings.swap_remove(at);
        match answer {
            Ok(mapped) => {
                tracing::debug!(local = %binding.local, %mapped, server = %binding.server, "seen from outside");
                Some(Some(mapped))
            }
            Err(reason) => {
                tracing::debug!(server = %binding.server, "a STUN server does not say how we look: {reason}");
                Some(None)
            }
        }
    }

    /// Sends what goes out from a relayed address. False: it is none.
    pub(in crate::transport::webrtc) fn send(&mut self, transmit: &Transmit, now: Instant) -> bool {
        let relay = self.relays.iter_mut().find(|relay| relay.relayed() == Some(transmit.source));
        relay.map(|relay| relay.send(transmit.destination, &transmit.contents, now)).is_some()
    }

    /// When [`Self::tick`] has something to do.
    pub(in crate::transport::webrtc) fn wake(&self) -> Option<Instant> {
        let bindings = self.bindings.iter().map(|binding| binding.patience.next());
        bindings.chain(self.relays.iter().filter_map(Relay::wake)).min()
    }

    /// Does what has become due; gives what is to be sent from our own sockets: from where, where to, what.
    pub(in crate::transport::webrtc) fn tick(&mut self, now: Instant) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        self.relays.iter_mut().for_each(|relay| relay.tick(now));
        let mut again = Vec::new();
        self.bindings.retain_mut(|binding| match binding.patience.due(now) {
            Due::Nothing => true,
            Due::Again => {
                again.push((binding.local, binding.server, binding.request.clone()));
                true
            }
            Due::GiveUp => {
                tracing::debug!(server = %binding.server, "a STUN server does not answer");
                false
            }
        });
        again
    }

    /// What comes of the servers next.
    pub(in crate::transport::webrtc) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Gathered<'_>> {
        for known in &mut self.servers {
            if known.poll(cx) {
                known.ask(&mut self.relays, Instant::now());
                return Poll::Ready(Gathered::Stun);
            }
        }
        self.buffer.resize(if self.relays.is_empty() { 0 } else { LONGEST }, 0);
        for offset in 0..self.relays.len() {
            let at = (self.turn + offset) % self.relays.len();
            match self.relays[at].poll(&mut self.buffer, cx) {
                Poll::Ready(RelayGot::Open(relayed)) => return Poll::Ready(Gathered::Relayed(relayed)),
                Poll::Ready(RelayGot::Lost(relayed)) => return Poll::Ready(Gathered::Lost(relayed)),
                Poll::Ready(RelayGot::Packet { from, relayed, at: range }) => {
                    self.turn = at;
                    let contents = &self.buffer[range];
                    return Poll::Ready(Gathered::Received(Received {
                        proto: Protocol::Udp,
                        source: from,
                        destination: relayed,
                        contents,
                    }));
                }
                Poll::Pending => {}
            }
        }
        self.turn = self.turn.wrapping_add(1);
        Poll::Pending
    }

    /// Sends what waits for room.
    pub(in crate::transport::webrtc) fn flush(&mut self, cx: &mut Context<'_>) {
        self.relays.iter_mut().for_each(|relay| relay.flush(cx));
    }

    /// How far each TURN server is, in words.
    pub(in crate::transport::webrtc) fn relays(&self) -> Vec<String> {
        let told = self.relays.iter().map(Relay::status);
        let turn = self.servers.iter().filter(|known| known.server.via().is_some());
        let unasked = turn.filter_map(|known| match &known.place {
            Place::Nowhere(reason) => Some(format!("{}: {reason}", known.server)),
            Place::Asked(_) => Some(format!("{}: its name is being looked up", known.server)),
            Place::Unasked | Place::At(_) => None,
        });
        told.chain(unasked).collect()
    }

    /// No TURN server will relay: each has refused, is gone or cannot be found.
    pub(in crate::transport::webrtc) fn has_no_relays(&self) -> bool {
        let over = |known: &Known, address: &SocketAddr| {
            let of_it = |relay: &&Relay| relay.address == *address && relay.server.via() == known.server.via();
            self.relays.iter().find(of_it).is_some_and(Relay::is_over)
        };
        let turn = self.servers.iter().filter(|known| known.server.via().is_some());
        turn.into_iter().all(|known| match &known.place {
            Place::Unasked | Place::Asked(_) => false,
            Place::At(addresses) => addresses.iter().all(|address| over(known, address)),
            Place::Nowhere(_) => true,
        })
    }

    /// Gives the relays back.
    pub(in crate::transport::webrtc) fn close(&mut self, now: Instant) {
        self.servers.clear();
        self.bindings.clear();
        self.relays.iter_mut().for_each(|relay| relay.close(now));
    }
}

impl Known {
    fn new(server: IceServer) -> Self {
        Self { server, place: Place::Unasked, wanted: false }
    }

    /// A TURN server over UDP tells our address as a STUN server does (RFC 8445 section 5.1.1.2).
    fn tells_addresses(&self) -> bool {
        matches!(self.server.service, Service::Stun | Service::Turn { via: Via::Udp, .. })
    }

    fn addresses(&self) -> Option<&[SocketAddr]> {
        if let Place::At(addresses) = &self.place { Some(addresses) } else { None }
    }

    fn look_up(&mut self) {
        if matches!(self.place, Place::Unasked | Place::Nowhere(_)) {
            let (tell, told) = oneshot::channel();
            let (host, port) = (self.server.host.clone(), self.server.port);
            let look_up = move || {
                let found = (host.as_str(), port).to_socket_addrs();
                // The connection may be gone meanwhile.
                drop(tell.send(found.map(Iterator::collect).map_err(|error| error.to_string())));
            };
            if self.server.host.parse::<std::net::IpAddr>().is_ok() {
                // An address needs no looking up.
                look_up();
            } else if let Err(error) = std::thread::Builder::new().name("look-up".to_owned()).spawn(look_up) {
                // A thread of its own and none of the runtime's: the end of the program does not wait for a name server.
                self.place = Place::Nowhere(error.to_string());
                return;
            }
            self.place = Place::Asked(told);
        }
    }

    /// True: where it is has become known.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Place::Asked(told) = &mut self.place else { return false };
        let Poll::Ready(found) = std::pin::Pin::new(told).poll(cx) else { return false };
        self.place = match found.unwrap_or_else(|_| Err("its name was not looked up".to_owned())) {
            Ok(found) => {
                // One of each family: the others are the same server, or a spare one.
                let first = |v4: bool| found.iter().copied().find(|address| address.is_ipv4() == v4);
                Place::At(first(true).into_iter().chain(first(false)).collect())
            }
            Err(reason) => {
                tracing::debug!(server = %self.server, "an ICE server cannot be found: {reason}");
                Place::Nowhere(reason)
            }
        };
        matches!(self.place, Place::At(_))
    }

    /// Asks for the relays that are wanted and not there.
    fn ask(&self, relays: &mut Vec<Relay>, now: Instant) {
        for address in self.addresses().unwrap_or_default().iter().filter(|_| self.wanted) {
            let there = |relay: &Relay| relay.address == *address && relay.server.via() == self.server.via() && !relay.is_over();
            if !relays.iter().any(there) {
                relays.extend(Relay::ask(&self.server, *address, now));
            }
        }
    }
}
