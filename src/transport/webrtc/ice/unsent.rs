//! Datagrams for which a socket has no room at once: a socket that was just opened does not know yet that it has.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use tokio::net::UdpSocket;

/// More are lost, as on any network.
const MOST: usize = 32;

/// What waits for one socket.
#[derive(Default)]
pub(super) struct Unsent(VecDeque<(Option<SocketAddr>, Vec<u8>)>);

impl Unsent {
    /// Sends a datagram, or keeps it. Without `to` it goes to where the socket is connected.
    ///
    /// # Errors
    /// Of the socket: the datagram is lost.
    pub(super) fn send(&mut self, socket: &UdpSocket, to: Option<SocketAddr>, datagram: &[u8]) -> io::Result<()> {
        let sent = match to {
            Some(to) => socket.try_send_to(datagram, to),
            None => socket.try_send(datagram),
        };
        match sent {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.0.len() < MOST => {
                self.0.push_back((to, datagram.to_vec()));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Sends what waits, as far as there is room.
    ///
    /// # Errors
    /// The last of the socket's: the datagram is lost.
    pub(super) fn flush(&mut self, socket: &UdpSocket, cx: &mut Context<'_>) -> io::Result<()> {
        let mut result = Ok(());
        while let Some((to, datagram)) = self.0.front() {
            let sent = match to {
                Some(to) => socket.poll_send_to(cx, datagram, *to),
                None => socket.poll_send(cx, datagram),
            };
            let Poll::Ready(sent) = sent else { break };
            self.0.pop_front();
            result = sent.map(drop).and(result);
        }
        result
    }
}
