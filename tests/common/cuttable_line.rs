//! A line to a TCP server of loopback that can be cut.

#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The line; it is there again at once for whoever connects anew.
pub struct CuttableLine {
    pub address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl CuttableLine {
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let open = Arc::new(Mutex::new(Vec::new()));
        let kept = open.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else { continue };
                let twice = |stream: &TcpStream| [stream.try_clone(), stream.try_clone()].map(|clone| clone.expect("a stream"));
                let ([from_client, to_client], [from_server, to_server]) = (twice(&client), twice(&server));
                kept.lock().expect("nobody panics with it").extend([client, server]);
                std::thread::spawn(move || pass(from_client, to_server));
                std::thread::spawn(move || pass(from_server, to_client));
            }
        });
        Self { address, open }
    }

    /// Ends all connections that are there.
    pub fn cut(&self) {
        for stream in self.open.lock().expect("nobody panics with it").drain(..) {
            // It may have ended by itself.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // It may have ended already.
    drop(to.shutdown(Shutdown::Both));
}
