//! A path over TCP, for networks that let no UDP through: we connect (RFC 6544, the active side), and each packet is sent with
//! its length before it (RFC 4571).

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What may wait for a far side that does not read, in bytes: some seconds of audio. More is lost, as it would be over UDP.
const MOST_QUEUED: usize = 64 * 1024;

type Connecting = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

enum State {
    Connecting(Connecting),
    Open { stream: TcpStream, local: SocketAddr },
    Gone,
}

/// One connection.
pub(super) struct TcpPath {
    remote: SocketAddr,
    state: State,
    incoming: VecDeque<u8>,
    outgoing: VecDeque<u8>,
}

/// What a connection tells.
pub(super) enum TcpGot {
    /// It is open, from this local address.
    Open(SocketAddr),
    /// So many bytes of a packet are in the buffer.
    Packet(usize),
}

impl TcpPath {
    pub(super) fn connect(remote: SocketAddr) -> Self {
        let connecting = Box::pin(async move {
            let stream = TcpStream::connect(remote).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        Self { remote, state: State::Connecting(connecting), incoming: VecDeque::new(), outgoing: VecDeque::new() }
    }

    pub(super) const fn remote(&self) -> SocketAddr {
        self.remote
    }

    pub(super) const fn local(&self) -> Option<SocketAddr> {
        match &self.state {
            State::Open { local, .. } => Some(*local),
            State::Connecting(_) | State::Gone => None,
        }
    }

    /// Queues a packet; [`Self::poll`] sends it.
    pub(super) fn push(&mut self, packet: &[u8]) {
        let (Ok(length), true) = (u16::try_from(packet.len()), self.outgoing.len() + packet.len() <= MOST_QUEUED) else {
            return tracing::debug!(to = %self.remote, "a packet is lost: the far side does not read");
        };
        self.outgoing.extend(length.to_be_bytes());
        self.outgoing.extend(packet);
    }

    /// Sends what waits, and gives what comes: a packet goes to the front of `buffer`.
    pub(super) fn poll(&mut self, buffer: &mut [u8], cx: &mut Context<'_>) -> Poll<TcpGot> {
        if let State::Connecting(connecting) = &mut self.state {
            let opened = ready!(connecting.as_mut().poll(cx)).and_then(|stream| Ok((stream.local_addr()?, stream)));
            match opened {
                Ok((local, stream)) => {
                    self.state = State::Open { stream, local };
                    return Poll::Ready(TcpGot::Open(local));
                }
                Err(error) => self.fail(&error),
            }
        }
        if let Err(error) = self.flush(cx) {
            self.fail(&error);
        }
        loop {
            if let Some(length) = self.packet(buffer) {
                return Poll::Ready(TcpGot::Packet(length));
            }
            let State::Open { stream, .. } = &mut self.state else { return Poll::Pending };
            let mut read = ReadBuf::new(buffer);
            match ready!(Pin::new(stream).poll_read(cx, &mut read)) {
                Ok(()) if read.filled().is_empty() => self.fail(&io::ErrorKind::UnexpectedEof.into()),
                Ok(()) => self.incoming.extend(read.filled()),
                Err(error) => self.fail(&error),
            }
        }
    }

    /// The first whole packet of what has come.
    fn packet(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let length = usize::from(u16::from_be_bytes([*self.incoming.front()?, *self.incoming.get(1)?]));
        if self.incoming.len() < 2 + length {
            return None;
        }
        self.incoming.drain(..2);
        for (place, byte) in buffer.iter_mut().zip(self.incoming.drain(..length)) {
            *place = byte;
        }
        Some(length)
    }

    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let State::Open { stream, .. } = &mut self.state else { return Ok(()) };
        while !self.outgoing.is_empty() {
            let (bytes, _) = self.outgoing.as_slices();
            match Pin::new(&mut *stream).poll_write(cx, bytes) {
                Poll::Ready(written) => drop(self.outgoing.drain(..written?)),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: &io::Error) {
        tracing::debug!(remote = %self.remote, "a TCP path is gone: {error}");
        self.state = State::Gone;
        self.outgoing.clear();
    }
}
