//! The LiveKit side of the demo: a server, and a worker in front of the agent.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use url::Url;
use uuid::Uuid;

use super::super::io::say;
use super::super::serve::unregistered;
use super::super::settings::livekit_server;
use crate::error::Failure;
use crate::serve::{Desk, serve};
use crate::transport::Secret;
use crate::transport::livekit::{Server, Worker, WorkerOptions};

/// The server's program.
const PROGRAM: &str = "livekit-server";
/// How long it may take until it answers.
const START: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// A server for the demo, and the name under which its agent is dispatched there.
pub(super) struct DemoRoom {
    server: Server,
    agent_name: String,
    /// The server, where it is ours: ended when this is dropped.
    own: Option<Child>,
}

impl DemoRoom {
    /// The server that the environment names, else one of our own, whose log goes into `out`.
    pub(super) async fn open(out: &Path) -> Result<Self, Failure> {
        let (server, own) = match livekit_server()? {
            Some(server) => (server, None),
            None => start(out).await.map(|(server, child)| (server, Some(child)))?,
        };
        // On somebody else's server no other agent is meant.
        let agent_name = format!("trunkline-demo-{}", &Uuid::new_v4().simple().to_string()[..8]);
        Ok(Self { server, agent_name, own })
    }

    pub(super) const fn server(&self) -> &Server {
        &self.server
    }

    /// Ends the server that is ours, and waits until it is gone.
    pub(super) async fn close(mut self) -> Result<(), Failure> {
        match &mut self.own {
            Some(own) => own.kill().await.map_err(|error| Failure::infrastructure(format!("{PROGRAM} does not end: {error}"))),
            None => Ok(()),
        }
    }

    /// What the start of the runs says of the agent.
    pub(super) fn payload(&self) -> Map<String, Value> {
        Map::from_iter([("livekit_data".to_owned(), json!({"agent_name": self.agent_name}))])
    }

    /// Registers the worker, which puts each of its rooms in front of the desk's agent.
    pub(super) async fn answer(&self, desk: Desk) -> Result<Serving, Failure> {
        let worker = Worker::register(self.server.clone(), &WorkerOptions::new(&self.agent_name)).await.map_err(unregistered)?;
        say(&format!("registered livekit {} at {}", self.agent_name, self.server.shown()));
        let (stop, stopped) = oneshot::channel::<()>();
        let (happenings, mut told) = mpsc::unbounded_channel();
        tokio::spawn(async move { while told.recv().await.is_some() {} });
        let stopped = async { drop(stopped.await) };
        let task = tokio::spawn(serve(vec![worker.into()], desk, happenings, stopped, std::future::pending()));
        Ok(Serving { stop, task })
    }
}

/// The worker at work.
pub(super) struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Takes no more jobs, and waits for the end of those that go on.
    pub(super) async fn end(self) {
        drop(self.stop);
        drop(self.task.await);
    }
}

/// Starts a livekit-server that listens on loopback alone, and waits until it answers.
async fn start(out: &Path) -> Result<(Server, Child), Failure> {
    let program = on_path(std::env::var_os("PATH").as_deref()).ok_or_else(|| {
        let hint = "install it (https://docs.livekit.io/home/self-hosting/local/), or set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET";
        Failure::usage(format!("there is no {PROGRAM} on PATH for the demo's rooms")).hint(hint)
    })?;
    let (http, tcp, udp) = free_ports().map_err(|error| Failure::infrastructure(format!("no port is free: {error}")))?;
    let (key, secret) = ("trunkline-demo", format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()));
    std::fs::create_dir_all(out).map_err(|error| Failure::infrastructure(format!("{}: {error}", out.display())))?;
    let log = out.join("livekit-server.log");
    let unwritten = |error| Failure::infrastructure(format!("{}: {error}", log.display()));
    let output = std::fs::File::create(&log).map_err(unwritten)?;
    let mut command = Command::new(&program);
    // Not as an argument: those are there for everybody to read.
    command.env("LIVEKIT_CONFIG", configuration(http, tcp, udp, key, &secret));
    command.stdin(Stdio::null()).stdout(output.try_clone().map_err(unwritten)?).stderr(output).kill_on_drop(true);
    let mut child =
        command.spawn().map_err(|error| Failure::infrastructure(format!("{} cannot be started: {error}", program.display())))?;
    let address = format!("ws://127.0.0.1:{http}");
    let secret = Secret::new(&secret).expect("it is not empty");
    let server = Server::new(&address, key, secret).map_err(Failure::infrastructure)?;
    wait_for(&mut child, http, &log).await?;
    say(&format!("{PROGRAM} {address} (its log: {})", log.display()));
    Ok((server, child))
}

/// The server's program in the folders of `path`.
fn on_path(path: Option<&OsStr>) -> Option<PathBuf> {
    std::env::split_paths(path?).map(|folder| folder.join(PROGRAM)).find(|file| file.is_file())
}

fn free_ports() -> std::io::Result<(u16, u16, u16)> {
    let loopback = (Ipv4Addr::LOCALHOST, 0);
    let (http, tcp, udp) = (TcpListener::bind(loopback)?, TcpListener::bind(loopback)?, UdpSocket::bind(loopback)?);
    Ok((http.local_addr()?.port(), tcp.local_addr()?.port(), udp.local_addr()?.port()))
}

/// Signalling and media on 127.0.0.1 alone (YAML, of which JSON is a part).
fn configuration(http: u16, tcp: u16, udp: u16, key: &str, secret: &str) -> String {
    let media = json!({
        "tcp_port": tcp, "udp_port": udp, "node_ip": "127.0.0.1", "use_external_ip": false,
        "enable_loopback_candidate": true, "ips": {"includes": ["127.0.0.1/32"]}, "stun_servers": ["127.0.0.1:9"],
    });
    json!({"port": http, "bind_addresses": ["127.0.0.1"], "keys": {key: secret}, "rtc": media}).to_string()
}

async fn wait_for(child: &mut Child, port: u16, log: &Path) -> Result<(), Failure> {
    let url = Url::parse(&format!("http://127.0.0.1:{port}/")).map_err(Failure::infrastructure)?;
    let client = crate::http::client(&url).map_err(Failure::infrastructure)?;
    let begun = Instant::now();
    loop {
        if client.get(url.clone()).send().await.is_ok_and(|response| response.status().is_success()) {
            return Ok(());
        }
        let ended = child.try_wait().map_err(Failure::infrastructure)?;
        let problem = match ended {
            Some(status) => format!("{PROGRAM} ended at once ({status})"),
            None if begun.elapsed() > START => format!("{PROGRAM} does not answer after {} s", START.as_secs()),
            None => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
        };
        return Err(Failure::infrastructure(problem).hint(format!("its log is {}", log.display())));
    }
}
