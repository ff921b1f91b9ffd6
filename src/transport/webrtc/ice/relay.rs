//! A TURN server that is spoken to over UDP, TCP or TLS.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};

use super::server::{IceServer, Service, Via};
use super::stun::{HEADER, LONGEST_MESSAGE};
use super::turn::{FIRST_CHANNEL, Turn};
use super::unsent::Unsent;
use crate::transport::tls::{self, Wire};

/// How long the way to the server may take to open.
const OPEN_TIME: Duration = Duration::from_secs(10);
/// What may wait for a server that does not read, in bytes: some seconds of audio. More is lost, as it would be over UDP.
const MOST_QUEUED: usize = 64 * 1024;

type Opening = Pin<Box<dyn Future<Output = Result<Box<dyn Wire>, String>> + Send>>;

enum Way {
    Opening(Opening),
    Udp { socket: UdpSocket, unsent: Unsent },
    Stream { stream: Box<dyn Wire>, incoming: Frames, outgoing: VecDeque<u8> },
    Gone(String),
}

/// A server that relays for us, or is asked to.
pub(super) struct Relay {
    pub(super) server: IceServer,
    pub(super) address: SocketAddr,
    turn: Option<Turn>,
    way: Way,
    /// The relayed address, once it was told.
    told: Option<SocketAddr>,
    /// The last trouble of the socket.
    trouble: Option<String>,
}

/// What a relay tells.
pub(super) enum RelayGot {
    /// It relays at this address.
    Open(SocketAddr),
    /// A peer's packet is in the buffer.
    Packet { from: SocketAddr, relayed: SocketAddr, at: std::ops::Range<usize> },
    /// It no longer relays at this address.
    Lost(SocketAddr),
}

impl Relay {
    /// Asks `server`, which is at `address`. None: it is no TURN server.
    pub(super) fn ask(server: &IceServer, address: SocketAddr, now: Instant) -> Option<Self> {
        let (way, turn) = match server.via()? {
            Via::Udp => match connected_socket(address) {
                Ok(socket) => (Way::Udp { socket, unsent: Unsent::default() }, allocation(server, now)),
                Err(error) => (Way::Gone(error.to_string()), None),
            },
            Via::Tcp => (Way::Opening(Box::pin(open(address, None))), None),
            Via::Tls => (Way::Opening(Box::pin(open(address, Some(server.host.clone())))), None),
        };
        let mut relay = Self { server: server.clone(), address, turn, way, told: None, trouble: None };
        relay.send_out();
        Some(relay)
    }

    /// How far it is, in words.
    pub(super) fn status(&self) -> String {
        let status = match (&self.way, &self.turn) {
            (Way::Gone(reason), _) => reason.clone(),
            (_, Some(turn)) => turn.status(),
            (_, None) => "it has not opened so far".to_owned(),
        };
        let trouble = self.trouble.as_ref().map(|trouble| format!(" ({trouble})")).unwrap_or_default();
        format!("{} at {}: {status}{trouble}", self.server, self.address)
    }

    /// It relays at this address.
    pub(super) const fn relayed(&self) -> Option<SocketAddr> {
        self.told
    }

    /// Nothing will come of it any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.way, Way::Gone(_))
    }

    pub(super) fn wake(&self) -> Option<Instant> {
        self.turn.as_ref().filter(|_| !self.is_over()).and_then(Turn::wake)
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if let Some(turn) = &mut self.turn {
            turn.tick(now);
            self.send_out();
        }
    }

    /// Sends a packet to a peer.
    pub(super) fn send(&mut self, to: SocketAddr, packet: &[u8], now: Instant) {
        if let Some(turn) = &mut self.turn {
            turn.send(to, packet, now);
            self.send_out();
        }
    }

    /// Gives the allocation back; polling on waits for the server's answer.
    pub(super) fn close(&mut self, now: Instant) {
        if let Some(turn) = &mut self.turn {
            turn.close(now);
            self.send_out();
        }
        if self.turn.as_ref().is_none_or(|turn| turn.ended().is_some()) && !self.is_over() {
            self.way = Way::Gone("closed".to_owned());
        }
    }

    /// What comes of it next. Packets are at the front of `buffer`.
    pub(super) fn poll(&mut self, buffer: &mut [u8], cx: &mut Context<'_>) -> Poll<RelayGot> {
        loop {
            if let Some(told) = self.tell() {
                return Poll::Ready(told);
            }
            let length = match ready!(self.poll_frame(buffer, cx)) {
                Ok(length) => length,
                Err(reason) => {
                    self.way = Way::Gone(reason);
                    continue;
                }
            };
            let Some(turn) = &mut self.turn else { continue };
            let got = turn.receive(&buffer[..length], Instant::now());
            self.send_out();
            if let (Some((from, at)), Some(relayed)) = (got, self.told) {
                return Poll::Ready(RelayGot::Packet { from, relayed, at });
            }
        }
    }

    /// What has changed and was not told yet.
    fn tell(&mut self) -> Option<RelayGot> {
        if let Some(reason) = self.turn.as_ref().and_then(Turn::ended).filter(|_| !self.is_over()) {
            tracing::debug!(server = %self.server, address = %self.address, "no TURN relay: {reason}");
            self.way = Way::Gone(reason.to_owned());
        }
        let relayed = self.turn.as_ref().and_then(Turn::relayed).filter(|_| !self.is_over());
        match (self.told, relayed) {
            (None, Some(relayed)) => {
                self.told = Some(relayed);
                Some(RelayGot::Open(relayed))
            }
            (Some(told), None) => {
                self.told = None;
                Some(RelayGot::Lost(told))
            }
            _ => None,
        }
    }

    /// The next datagram or frame of the server, at the front of `buffer`. An error ends the relay.
    fn poll_frame(&mut self, buffer: &mut [u8], cx: &mut Context<'_>) -> Poll<Result<usize, String>> {
        loop {
            match &mut self.way {
                Way::Opening(opening) => {
                    let stream = match ready!(opening.as_mut().poll(cx)) {
                        Ok(stream) => stream,
                        Err(reason) => return Poll::Ready(Err(reason)),
                    };
                    self.way = Way::Stream { stream, incoming: Frames::default(), outgoing: VecDeque::new() };
                    self.turn = allocation(&self.server, Instant::now());
                    self.send_out();
                }
                Way::Udp { socket, unsent } => {
                    if let Err(error) = unsent.flush(socket, cx) {
                        self.trouble = Some(error.to_string());
                    }
                    let mut read = ReadBuf::new(buffer);
                    match ready!(socket.poll_recv(cx, &mut read)) {
                        Ok(()) => return Poll::Ready(Ok(read.filled().len())),
                        // An earlier datagram did not arrive; it is sent again.
                        Err(error) => self.trouble = Some(error.to_string()),
                    }
                }
                Way::Stream { stream, incoming, outgoing } => {
                    if let Err(error) = flush(stream, outgoing, cx) {
                        return Poll::Ready(Err(format!("the connection broke: {error}")));
                    }
                    match incoming.next(self.turn.as_ref().map_or(0, Turn::channels), buffer) {
                        Ok(None) => {}
                        Ok(Some(length)) => return Poll::Ready(Ok(length)),
                        Err(reason) => return Poll::Ready(Err(reason)),
                    }
                    let mut read = ReadBuf::new(buffer);
                    match ready!(Pin::new(stream).poll_read(cx, &mut read)) {
                        Ok(()) if read.filled().is_empty() => {
                            return Poll::Ready(Err("the server closed the connection".to_owned()));
                        }
                        Ok(()) => incoming.push(read.filled()),
                        Err(error) => return Poll::Ready(Err(format!("the connection broke: {error}"))),
                    }
                }
                Way::Gone(_) => return Poll::Pending,
            }
        }
    }

    /// Sends what the core has for the server. What a socket has no room for is lost, as on any network.
    fn send_out(&mut self) {
        let Some(turn) = &mut self.turn else { return };
        while let Some(bytes) = turn.next_out() {
            match &mut self.way {
                Way::Udp { socket, unsent } => {
                    if let Err(error) = unsent.send(socket, None, &bytes) {
                        self.trouble = Some(error.to_string());
                    }
                }
                Way::Stream { outgoing, .. } if outgoing.len() + bytes.len() <= MOST_QUEUED => outgoing.extend(bytes),
                Way::Stream { .. } => tracing::debug!(server = %self.server, "a packet is lost: the TURN server does not read"),
                Way::Opening(_) | Way::Gone(_) => {}
            }
        }
        if let Way::Stream { stream, outgoing, .. } = &mut self.way {
            // An error, and what is left, is met again when the stream is polled.
            drop(flush(stream, outgoing, &mut Context::from_waker(std::task::Waker::noop())));
        }
    }

    /// Sends on what waits for room.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) {
        // An error is met again when the relay is polled.
        match &mut self.way {
            Way::Udp { socket, unsent } => drop(unsent.flush(socket, cx)),
            Way::Stream { stream, outgoing, .. } => drop(flush(stream, outgoing, cx)),
            Way::Opening(_) | Way::Gone(_) => {}
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.close(Instant::now());
    }
}

fn flush(stream: &mut Box<dyn Wire>, outgoing: &mut VecDeque<u8>, cx: &mut Context<'_>) -> io::Result<()> {
    while !outgoing.is_empty() {
        let (bytes, _) = outgoing.as_slices();
        match Pin::new(&mut *stream).poll_write(cx, bytes) {
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(written) => drop(outgoing.drain(..written?)),
            Poll::Pending => return Ok(()),
        }
    }
    // TLS keeps back what its socket had no room for.
    match Pin::new(stream).poll_flush(cx) {
        Poll::Ready(flushed) => flushed,
        Poll::Pending => Ok(()),
    }
}

/// Asks for an allocation. None: it is no TURN server.
fn allocation(server: &IceServer, now: Instant) -> Option<Turn> {
    let Service::Turn { via, username, credential } = &server.service else { return None };
    Some(Turn::new(username, credential, *via != Via::Udp, now))
}

fn connected_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = std::net::UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// Connects; `host` is the name that its certificate must have.
async fn open(address: SocketAddr, host: Option<String>) -> Result<Box<dyn Wire>, String> {
    let opened = tokio::time::timeout(OPEN_TIME, async move {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let Some(host) = host else { return Ok(Box::new(stream) as Box<dyn Wire>) };
        let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
        // Reading the machine's certificates takes as long as some packets of a call: not here.
        let config = tokio::task::spawn_blocking(tls::client_config).await.map_err(|error| error.to_string())?;
        let config = config.map_err(|error| error.to_string())?;
        let connected = tokio_rustls::TlsConnector::from(config).connect(name, stream).await;
        Ok(Box::new(connected.map_err(|error| tls::explain(&error))?) as Box<dyn Wire>)
    });
    opened.await.unwrap_or_else(|_| Err(format!("it did not open within {} s", OPEN_TIME.as_secs())))
}

/// A TURN connection's bytes, cut into messages and channels' data (RFC 8656 section 12.5).
#[derive(Default)]
struct Frames(VecDeque<u8>);

impl Frames {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    /// Moves the first whole frame to the front of `buffer`. So many channels were asked for: the server can use no others.
    fn next(&mut self, channels: usize, buffer: &mut [u8]) -> Result<Option<usize>, String> {
        let Some(head) = self.head() else { return Ok(None) };
        let [kind, told] = [[head[0], head[1]], [head[2], head[3]]].map(|two| usize::from(u16::from_be_bytes(two)));
        let first = usize::from(FIRST_CHANNEL);
        let (length, padded) = if (first..first + channels).contains(&kind) {
            (4 + told, (4 + told).next_multiple_of(4))
        } else if kind < first && told.is_multiple_of(4) && HEADER + told <= LONGEST_MESSAGE {
            (HEADER + told, HEADER + told)
        } else {
            return Err("the server sent what is not TURN".to_owned());
        };
        if length > buffer.len() {
            return Err(format!("the server sent {length} bytes at once"));
        }
        if self.0.len() < padded {
            return Ok(None);
        }
        for (place, byte) in buffer.iter_mut().zip(self.0.drain(..padded).take(length)) {
            *place = byte;
        }
        Ok(Some(length))
    }

    fn head(&self) -> Option<[u8; 4]> {
        Some([*self.0.front()?, *self.0.get(1)?, *self.0.get(2)?, *self.0.get(3)?])
    }
}
