//! Where the door's connections come in, encrypted or not.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::transport::tls::{self, Wire};

/// How long a TLS handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Handshakes at the same time.
const MOST_HANDSHAKES: usize = 256;

/// Takes connections in.
pub(super) struct Reception {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    /// Of connections that are on their way in. None in the end: it failed.
    handshakes: JoinSet<Option<(Box<dyn Wire>, SocketAddr)>>,
}

impl Reception {
    pub(super) fn new(listener: TcpListener, tls: Option<TlsAcceptor>) -> Self {
        Self { listener, tls, handshakes: JoinSet::new() }
    }
}

async fn shake_hands(tls: TlsAcceptor, stream: TcpStream, address: SocketAddr) -> Option<(Box<dyn Wire>, SocketAddr)> {
    match tokio::time::timeout(HANDSHAKE_TIME, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some((Box::new(stream), address)),
        Ok(Err(error)) => {
            tracing::info!("a connection from {address}: TLS: {}", tls::explain(&error));
            None
        }
        Err(_) => None,
    }
}

impl Listener for Reception {
    type Io = Box<dyn Wire>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connected)) = done {
                        return connected;
                    }
                }
                (stream, address) = Listener::accept(&mut self.listener), if self.handshakes.len() < MOST_HANDSHAKES => {
                    match &self.tls {
                        None => return (Box::new(stream), address),
                        Some(tls) => drop(self.handshakes.spawn(shake_hands(tls.clone(), stream, address))),
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Reception>> for Asker {
    fn connect_info(stream: IncomingStream<'_, Reception>) -> Self {
        Self(*stream.remote_addr())
    }
}
