//! A bad network between participants and their livekit-server: a proxy for media.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::common::random::Random;

/// What becomes of the datagrams of one participant, in both directions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Impairment {
    /// Of every hundred, so many are lost.
    pub loss_percent: u64,
    /// Each is held for up to so long, whatever the one before it: they overtake each other.
    pub jitter: Duration,
}

/// Which datagrams do not pass at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Blocked {
    #[default]
    Nothing,
    Everything,
    /// The handshake that makes the keys: RFC 7983 tells DTLS by its first byte.
    Dtls,
}

#[derive(Debug, Default)]
struct Rules {
    impairment: Impairment,
    blocked: Blocked,
    random: Random,
}

impl Rules {
    /// After how long a datagram goes on its way. None: never.
    fn fate(&mut self, impairment: Impairment, datagram: &[u8]) -> Option<Duration> {
        let blocked = match self.blocked {
            Blocked::Nothing => false,
            Blocked::Everything => true,
            Blocked::Dtls => datagram.first().is_some_and(|first| (20..64).contains(first)),
        };
        if blocked || self.random.below(100) < impairment.loss_percent {
            return None;
        }
        Some(Duration::from_micros(self.random.below(impairment.jitter.as_micros() as u64 + 1)))
    }
}

/// Stands at the address that the server announces, and passes on to where it listens. Ends with its test.
pub struct MediaProxy {
    rules: Arc<Mutex<Rules>>,
    _tasks: JoinSet<()>,
}

impl MediaProxy {
    pub async fn between(announced: SocketAddr, server: SocketAddr) -> Self {
        let front = Arc::new(UdpSocket::bind(announced).await.expect("the announced address is free"));
        let rules = Arc::new(Mutex::new(Rules::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(pass_on(front, server, Arc::clone(&rules)));
        Self { rules, _tasks: tasks }
    }

    /// For the participants that come from here on: each keeps what was set when its first datagram came.
    pub fn impair(&self, impairment: Impairment) {
        self.rules().impairment = impairment;
    }

    /// For all, at once.
    pub fn block(&self, blocked: Blocked) {
        self.rules().blocked = blocked;
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Rules> {
        self.rules.lock().expect("nobody panics with it")
    }
}

async fn pass_on(front: Arc<UdpSocket>, server: SocketAddr, rules: Arc<Mutex<Rules>>) {
    let mut flows: HashMap<SocketAddr, (Arc<UdpSocket>, Impairment)> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = [0; 2048];
    loop {
        // A port of a participant that is gone: the next datagram is another's.
        let Ok((length, from)) = front.recv_from(&mut buffer).await else { continue };
        if let std::collections::hash_map::Entry::Vacant(flow) = flows.entry(from) {
            let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
            back.connect(server).await.expect("loopback leads there");
            let back = Arc::new(back);
            let impairment = rules.lock().expect("nobody panics with it").impairment;
            flow.insert((Arc::clone(&back), impairment));
            tasks.spawn(pass_back(back, Arc::clone(&front), from, impairment, Arc::clone(&rules)));
        }
        let (back, impairment) = &flows[&from];
        deliver(&buffer[..length], *impairment, &rules, Arc::clone(back), None);
    }
}

async fn pass_back(back: Arc<UdpSocket>, front: Arc<UdpSocket>, to: SocketAddr, impairment: Impairment, rules: Arc<Mutex<Rules>>) {
    let mut buffer = [0; 2048];
    loop {
        let Ok(length) = back.recv(&mut buffer).await else { continue };
        deliver(&buffer[..length], impairment, &rules, Arc::clone(&front), Some(to));
    }
}

/// Sends a datagram when its time has come, if it comes.
fn deliver(datagram: &[u8], impairment: Impairment, rules: &Mutex<Rules>, through: Arc<UdpSocket>, to: Option<SocketAddr>) {
    let fate = rules.lock().expect("nobody panics with it").fate(impairment, datagram);
    let Some(delay) = fate else { return };
    let datagram = datagram.to_vec();
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        // Whoever is gone gets no more.
        drop(match to {
            Some(to) => through.send_to(&datagram, to).await,
            None => through.send(&datagram).await,
        });
    });
}
