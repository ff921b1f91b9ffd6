//! The sockets of a peer connection: one for each local address from which the far side can be reached.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll, ready};

use str0m::net::{Protocol, Transmit};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use super::tcp::{TcpGot, TcpPath};
use super::unsent::Unsent;

/// Longer than any datagram: nothing that comes is cut.
const LONGEST: usize = 65_535;

/// What came in, and between which addresses.
pub(in crate::transport::webrtc) struct Received<'a> {
    pub(in crate::transport::webrtc) proto: Protocol,
    pub(in crate::transport::webrtc) source: SocketAddr,
    pub(in crate::transport::webrtc) destination: SocketAddr,
    pub(in crate::transport::webrtc) contents: &'a [u8],
}

/// What the sockets tell.
pub(in crate::transport::webrtc) enum Got<'a> {
    /// A datagram, or a packet of a TCP connection.
    Received(Received<'a>),
    /// A TCP connection is open from this local address.
    TcpOpen(SocketAddr),
}

/// All sockets of one connection.
pub(in crate::transport::webrtc) struct Paths {
    udp: Vec<UdpPath>,
    tcp: Vec<TcpPath>,
    buffer: Box<[u8]>,
    /// Where to look first, so that no socket waits behind another for good.
    turn: usize,
}

struct UdpPath {
    socket: UdpSocket,
    local: SocketAddr,
    unsent: Unsent,
}

impl Paths {
    pub(in crate::transport::webrtc) fn new() -> Self {
        Self { udp: Vec::new(), tcp: Vec::new(), buffer: vec![0; LONGEST].into_boxed_slice(), turn: 0 }
    }

    /// Makes sure that there is a socket from which `remote` can be reached. Gives its address if it is a new one.
    ///
    /// # Errors
    /// There is no route to `remote`, or no socket to be had.
    pub(in crate::transport::webrtc) fn reach(&mut self, remote: SocketAddr) -> io::Result<Option<SocketAddr>> {
        let ip = local_address_towards(remote)?;
        if self.udp.iter().any(|path| path.local.ip() == ip) {
            return Ok(None);
        }
        let socket = std::net::UdpSocket::bind(SocketAddr::new(ip, 0))?;
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        self.udp.push(UdpPath { socket: UdpSocket::from_std(socket)?, local, unsent: Unsent::default() });
        Ok(Some(local))
    }

    /// Connects to a far side that takes TCP.
    pub(in crate::transport::webrtc) fn connect(&mut self, remote: SocketAddr) {
        if self.tcp.iter().all(|path| path.remote() != remote) {
            self.tcp.push(TcpPath::connect(remote));
        }
    }

    /// The addresses of the UDP sockets.
    pub(in crate::transport::webrtc) fn udp_locals(&self) -> impl Iterator<Item = SocketAddr> {
        self.udp.iter().map(|path| path.local)
    }

    /// Every local address.
    pub(in crate::transport::webrtc) fn locals(&self) -> impl Iterator<Item = SocketAddr> {
        self.udp.iter().map(|path| path.local).chain(self.tcp.iter().filter_map(TcpPath::local))
    }

    /// Sends a datagram; one for which the kernel has no room is lost, as on any network. False: no socket is at its source.
    pub(in crate::transport::webrtc) fn send(&mut self, transmit: &Transmit) -> bool {
        if transmit.proto == Protocol::Tcp {
            // Only the address that a connection leads to can be reached over it.
            let leads = |path: &&mut TcpPath| path.local() == Some(transmit.source) && path.remote() == transmit.destination;
            if let Some(path) = self.tcp.iter_mut().find(leads) {
                path.push(&transmit.contents);
            }
            return true;
        }
        transmit.proto == Protocol::Udp && self.send_udp(transmit.source, transmit.destination, &transmit.contents)
    }

    /// Sends a datagram from the socket at `local`. False: there is none.
    pub(in crate::transport::webrtc) fn send_udp(&mut self, local: SocketAddr, to: SocketAddr, datagram: &[u8]) -> bool {
        let Some(path) = self.udp.iter_mut().find(|path| path.local == local) else { return false };
        if let Err(error) = path.unsent.send(&path.socket, Some(to), datagram) {
            tracing::debug!(%to, "a datagram was not sent: {error}");
        }
        true
    }

    /// Sends what waits for room.
    pub(in crate::transport::webrtc) fn flush(&mut self, cx: &mut Context<'_>) {
        for path in &mut self.udp {
            if let Err(error) = path.unsent.flush(&path.socket, cx) {
                tracing::debug!(local = %path.local, "a datagram was not sent: {error}");
            }
        }
        for path in &mut self.tcp {
            if let Err(error) = path.flush(cx) {
                tracing::debug!(remote = %path.remote(), "a TCP path breaks: {error}");
            }
        }
    }

    /// The next datagram. A socket's error says that an earlier datagram did not arrive: ICE sees to that.
    pub(in crate::transport::webrtc) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Got<'_>> {
        for at in 0..self.tcp.len() {
            let path = &mut self.tcp[at];
            match path.poll(&mut self.buffer, cx) {
                Poll::Ready(TcpGot::Open(local)) => return Poll::Ready(Got::TcpOpen(local)),
                Poll::Ready(TcpGot::Packet(length)) => {
                    let Some(destination) = path.local() else { continue };
                    let (source, contents) = (path.remote(), &self.buffer[..length]);
                    let received = Received { proto: Protocol::Tcp, source, destination, contents };
                    return Poll::Ready(Got::Received(received));
                }
                Poll::Pending => {}
            }
        }
        for offset in 0..self.udp.len() {
            let at = (self.turn + offset) % self.udp.len();
            let mut buffer = ReadBuf::new(&mut self.buffer);
            let path = &self.udp[at];
            match path.poll_receive(&mut buffer, cx) {
                Poll::Ready(source) => {
                    let (length, destination) = (buffer.filled().len(), path.local);
                    self.turn = at;
                    let contents = &self.buffer[..length];
                    let received = Received { proto: Protocol::Udp, source, destination, contents };
                    return Poll::Ready(Got::Received(received));
                }
                Poll::Pending => {}
            }
        }
        self.turn = self.turn.wrapping_add(1);
        Poll::Pending
    }
}

impl UdpPath {
    fn poll_receive(&self, buffer: &mut ReadBuf<'_>, cx: &mut Context<'_>) -> Poll<SocketAddr> {
        loop {
            buffer.clear();
            match ready!(self.socket.poll_recv_from(cx, buffer)) {
                Ok(source) => return Poll::Ready(source),
                Err(error) => tracing::debug!(local = %self.local, "a datagram did not arrive: {error}"),
            }
        }
    }
}

/// The address of this machine from which it would send to `remote`. Nothing is sent.
fn local_address_towards(remote: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let probe = std::net::UdpSocket::bind(SocketAddr::new(any, 0))?;
    probe.connect(remote)?;
    Ok(probe.local_addr()?.ip())
}
