//! What lies between a peer connection and its servers.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Mutex;

const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

async fn bound() -> Arc<UdpSocket> {
    Arc::new(UdpSocket::bind(LOOPBACK).await.expect("a socket"))
}

/// A NAT before one socket: what that sends to the STUN server leaves from another port, and what comes to that port is passed on to
/// the socket, from an address of the NAT's that stands for the sender. The socket meets nobody else's real address.
pub struct Nat {
    /// The STUN server, as the socket behind the NAT knows it.
    pub stun: SocketAddr,
    /// The port outside.
    pub mapped: SocketAddr,
    /// Datagrams that were passed on inwards, the STUN server's not among them.
    pub passed: Arc<AtomicUsize>,
}

impl Nat {
    pub async fn before(server: SocketAddr) -> Self {
        let (inside, outside) = (bound().await, bound().await);
        let (stun, mapped) = (inside.local_addr().expect("it is bound"), outside.local_addr().expect("it is bound"));
        let behind = Arc::new(Mutex::new(None));
        let passed = Arc::new(AtomicUsize::new(0));
        tokio::spawn({
            let (inside, outside, behind) = (inside.clone(), outside.clone(), behind.clone());
            async move {
                let mut buffer = [0; 2048];
                while let Ok((length, from)) = inside.recv_from(&mut buffer).await {
                    *behind.lock().await = Some(from);
                    drop(outside.send_to(&buffer[..length], server).await);
                }
            }
        });
        tokio::spawn(inwards(inside, outside, behind, server, passed.clone()));
        Self { stun, mapped, passed }
    }
}

async fn inwards(
    inside: Arc<UdpSocket>,
    outside: Arc<UdpSocket>,
    behind: Arc<Mutex<Option<SocketAddr>>>,
    server: SocketAddr,
    passed: Arc<AtomicUsize>,
) {
    let mut stand_ins: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = [0; 2048];
    while let Ok((length, from)) = outside.recv_from(&mut buffer).await {
        let Some(behind) = *behind.lock().await else { continue };
        if from == server {
            drop(inside.send_to(&buffer[..length], behind).await);
            continue;
        }
        let stand_in = match stand_ins.get(&from) {
            Some(stand_in) => stand_in.clone(),
            None => {
                let stand_in = bound().await;
                stand_ins.insert(from, stand_in.clone());
                tokio::spawn(outwards(stand_in.clone(), outside.clone(), from));
                stand_in
            }
        };
        passed.fetch_add(1, Ordering::Relaxed);
        drop(stand_in.send_to(&buffer[..length], behind).await);
    }
}

async fn outwards(stand_in: Arc<UdpSocket>, outside: Arc<UdpSocket>, to: SocketAddr) {
    let mut buffer = [0; 2048];
    while let Ok((length, _)) = stand_in.recv_from(&mut buffer).await {
        drop(outside.send_to(&buffer[..length], to).await);
    }
}

/// What a line does to the bytes that go from the server to its client.
pub type Harm = fn(&mut Vec<u8>, u64);

/// A way to a server, for datagrams and connections on the same port, which harms what comes back. Each client gets its own seed.
pub async fn harmful_line(server: SocketAddr, harm: Harm) -> SocketAddr {
    let (listener, datagrams) = loop {
        let listener = TcpListener::bind(LOOPBACK).await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        if let Ok(socket) = UdpSocket::bind(address).await {
            break (listener, Arc::new(socket));
        }
    };
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let mut seed = 0;
        while let Ok((client, _)) = listener.accept().await {
            seed += 1;
            tokio::spawn(pass_connection(client, server, harm, seed));
        }
    });
    tokio::spawn(pass_datagrams(datagrams, server, harm));
    address
}

async fn pass_connection(client: TcpStream, server: SocketAddr, harm: Harm, seed: u64) {
    let server = TcpStream::connect(server).await.expect("it listens");
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), server.into_split());
    let out = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut buffer = [0; 4096];
    let mut step = seed * 1000;
    while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
        let mut bytes = buffer[..length].to_vec();
        harm(&mut bytes, step);
        step += 1;
        if to_client.write_all(&bytes).await.is_err() {
            break;
        }
    }
    out.abort();
}

async fn pass_datagrams(socket: Arc<UdpSocket>, server: SocketAddr, harm: Harm) {
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = [0; 4096];
    while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
        let there = match clients.get(&client) {
            Some(there) => there.clone(),
            None => {
                let there = bound().await;
                there.connect(server).await.expect("it is there");
                let step = clients.len() as u64 * 1000;
                clients.insert(client, there.clone());
                tokio::spawn(pass_back(there.clone(), socket.clone(), client, harm, step));
                there
            }
        };
        drop(there.send(&buffer[..length]).await);
    }
}

async fn pass_back(there: Arc<UdpSocket>, socket: Arc<UdpSocket>, client: SocketAddr, harm: Harm, mut step: u64) {
    let mut buffer = [0; 4096];
    while let Ok(length) = there.recv(&mut buffer).await {
        let mut bytes = buffer[..length].to_vec();
        harm(&mut bytes, step);
        step += 1;
        drop(socket.send_to(&bytes, client).await);
    }
}
