//! A line to a TCP server of loopback that can be cut.

#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// The line; after [`Self::cut`] it is there again at once for whoever connects anew.
pub struct CuttableLine {
    pub address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
    down: Arc<(Mutex<bool>, Condvar)>,
}

impl CuttableLine {
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let open = Arc::new(Mutex::new(Vec::new()));
        let down = Arc::new((Mutex::new(false), Condvar::new()));
        let (kept, is_down) = (open.clone(), down.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (lock, changed) = &*is_down;
                drop(changed.wait_while(lock.lock().expect("nobody panics with it"), |down| *down));
                let Ok(server) = TcpStream::connect(server) else { continue };
                let twice = |stream: &TcpStream| [stream.try_clone(), stream.try_clone()].map(|clone| clone.expect("a stream"));
                let ([from_client, to_client], [from_server, to_server]) = (twice(&client), twice(&server));
                kept.lock().expect("nobody panics with it").extend([client, server]);
                std::thread::spawn(move || pass(from_client, to_server));
                std::thread::spawn(move || pass(from_server, to_client));
            }
        });
        Self { address, open, down }
    }

    /// Ends all connections that are there, and lets nobody through until [`Self::mend`].
    pub fn take_down(&self) {
        *self.down.0.lock().expect("nobody panics with it") = true;
        self.cut();
    }

    /// Lets through who has come since [`Self::take_down`], and who comes.
    pub fn mend(&self) {
        *self.down.0.lock().expect("nobody panics with it") = false;
        self.down.1.notify_all();
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
