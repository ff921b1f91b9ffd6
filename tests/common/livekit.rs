//! A real livekit-server of the test's own, and LiveKit's own Python side: a participant, and agents.

#![allow(dead_code)]

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use serde_json::{Value, json};

use super::{PATIENCE, read_lines, until};

const KEY: &str = "devkey";
const SECRET: &str = "a-secret-that-is-long-enough-for-the-server";

/// A livekit-server on loopback, ended with its test.
pub struct LiveKitServer {
    child: Child,
    ports: Ports,
    folder: tempfile::TempDir,
}

/// What differs from a server as it is.
#[derive(Default)]
pub struct Options {
    /// Where webhooks are posted.
    pub webhooks: Vec<String>,
    /// Media goes over TCP: the server opens no UDP port.
    pub tcp_only: bool,
    /// The server's own TURN service, on UDP.
    pub turn: bool,
    /// Other TURN servers that its participants are told of (YAML, a flow sequence).
    pub turn_servers: Option<String>,
    /// Media goes over one UDP port on 127.0.0.1 alone, which the server announces at [`ANNOUNCED`]: whoever stands there sees
    /// every datagram.
    pub behind_a_proxy: bool,
    /// Lines that are put at the end of its configuration (YAML).
    pub more: String,
}

/// Where a server that is behind a proxy says that it is.
pub const ANNOUNCED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

struct Ports {
    http: u16,
    tcp: u16,
    /// The first of some that are free.
    udp: u16,
    turn: u16,
}

const UDP_PORTS: u16 = 60;

impl LiveKitServer {
    pub fn start() -> Self {
        Self::start_with(&Options::default())
    }

    pub fn start_with(options: &Options) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ports = Ports { http: free_tcp_port(), tcp: free_tcp_port(), udp: free_udp_ports(UDP_PORTS), turn: free_udp_ports(1) };
        std::fs::write(folder.path().join("livekit.yaml"), configuration(options, &ports)).expect("a file");
        let child = spawn(folder.path());
        let mut server = Self { child, ports, folder };
        server.wait_until_it_answers();
        server
    }

    fn wait_until_it_answers(&mut self) {
        let begun = Instant::now();
        while !answers(self.ports.http) {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                panic!("livekit-server ended with {status}:\n{}", self.log());
            }
            assert!(begun.elapsed() < PATIENCE, "livekit-server does not answer:\n{}", self.log());
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    }

    /// Ends it as no process can prevent.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Starts it anew on the same ports, after [`kill`](Self::kill) or in its place.
    pub fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.folder.path());
        self.wait_until_it_answers();
    }

    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.ports.http)
    }

    /// The server's process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn key(&self) -> &'static str {
        KEY
    }

    pub fn secret(&self) -> &'static str {
        SECRET
    }

    /// The environment by which its clients find it.
    pub fn env(&self) -> [(&'static str, String); 3] {
        [("LIVEKIT_URL", self.url()), ("LIVEKIT_API_KEY", KEY.to_owned()), ("LIVEKIT_API_SECRET", SECRET.to_owned())]
    }

    /// The TCP port for media.
    pub fn tcp_port(&self) -> u16 {
        self.ports.tcp
    }

    /// The first UDP port for media.
    pub fn udp_port(&self) -> u16 {
        self.ports.udp
    }

    /// Where it takes signalling.
    pub fn signalling(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.http).into()
    }

    /// The UDP port of its TURN service.
    pub fn turn_port(&self) -> u16 {
        self.ports.turn
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for LiveKitServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn configuration(options: &Options, ports: &Ports) -> String {
    let Ports { http, tcp, udp, turn } = ports;
    let last = udp + UDP_PORTS - 1;
    let (node, tcp) = if options.behind_a_proxy { (ANNOUNCED, &0) } else { (Ipv4Addr::LOCALHOST, tcp) };
    let media = match options {
        Options { tcp_only: true, .. } => "  force_tcp: true\n".to_owned(),
        // With ICE lite the server looks for no way of its own, past the proxy.
        Options { behind_a_proxy: true, .. } => {
            format!("  udp_port: {udp}\n  use_ice_lite: true\n  ips:\n    includes: [127.0.0.1/32]\n")
        }
        _ => format!("  port_range_start: {udp}\n  port_range_end: {last}\n"),
    };
    // Without one the server names some on the Internet.
    let stun = format!("  stun_servers: [\"127.0.0.1:{turn}\"]\n");
    let turn_servers = options.turn_servers.as_ref().map(|servers| format!("  turn_servers: {servers}\n")).unwrap_or_default();
    let webhooks = match options.webhooks.as_slice() {
        [] => String::new(),
        urls => format!("webhook: {}\n", json!({"api_key": KEY, "urls": urls})),
    };
    let turn = match options.turn {
        true => format!(
            "turn:\n  enabled: true\n  domain: localhost\n  udp_port: {turn}\n  allow_restricted_peer_cidrs: [127.0.0.0/8]\n"
        ),
        false => String::new(),
    };
    format!(
        "port: {http}\nbind_addresses: [127.0.0.1]\nkeys:\n  {KEY}: {SECRET}\nlogging:\n  level: info\n\
         rtc:\n  tcp_port: {tcp}\n  use_external_ip: false\n  node_ip: {node}\n  enable_loopback_candidate: true\n{media}{stun}{turn_servers}{webhooks}{turn}{}",
        options.more
    )
}

fn spawn(folder: &Path) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).expect("a file");
    let mut command = Command::new(binary());
    command.arg("--config").arg(folder.join("livekit.yaml")).stdin(Stdio::null());
    command.stdout(log.try_clone().expect("a file")).stderr(log);
    command.spawn().expect("livekit-server starts")
}

/// The server on PATH, else the one that `scripts/livekit-server` has built.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let built = root().join("target/tools");
    std::env::split_paths(&path)
        .chain([built])
        .map(|folder| folder.join("livekit-server"))
        .find(|file| file.is_file())
        .expect("livekit-server is missing: run scripts/setup test, then scripts/livekit-server (scripts/test does both)")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    asked.is_ok() && super::read_http(&mut stream).is_some_and(|(head, _)| head.starts_with("HTTP/1.1 200"))
}

fn free_tcp_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}

/// The first of `count` UDP ports in a row that are free, below those that the system gives out by itself. Each test process begins
/// elsewhere.
fn free_udp_ports(count: u16) -> u16 {
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    const FIRST: u16 = 10_000;
    const ALL: u16 = 20_000;
    let mut next = NEXT.lock().expect("nobody panics with it");
    let mut offset = next.unwrap_or_else(|| (u64::from(std::process::id()) * 977 % u64::from(ALL)) as u16);
    for _ in 0..ALL / count {
        let start = FIRST + offset % (ALL - count);
        offset = (offset + count) % ALL;
        if (start..start + count).all(|port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()) {
            *next = Some(offset);
            return start;
        }
    }
    panic!("no {count} UDP ports in a row are free");
}

/// LiveKit's Python, which `scripts/python-env` makes.
pub fn livekit_python() -> Command {
    let python = root().join("target/pyenv-livekit/bin/python");
    assert!(
        python.exists(),
        "LiveKit's Python side is missing: run scripts/setup test, then scripts/python-env (scripts/test does both)"
    );
    let mut command = Command::new(python);
    command.current_dir(root());
    command
}

/// A Python process that is told and tells in JSON lines. Closing its stdin ends it.
pub struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// What it told and nobody has asked for yet.
    told: Mutex<Vec<Value>>,
}

impl Peer {
    /// Starts one.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python starts");
        let lines = read_lines(child.stdout.take().expect("a pipe"));
        let stdin = child.stdin.take();
        Self { child, stdin, lines, told: Mutex::default() }
    }

    /// The independent participant (`livekit_peer.py`), not yet in a room.
    pub fn new(server: &LiveKitServer) -> Self {
        let mut command = livekit_python();
        command.arg("tests/interop/livekit_peer.py").envs(server.env());
        Self::spawn(command)
    }

    /// A participant that has joined `room`; `more` goes into its `join`.
    pub fn joined(server: &LiveKitServer, room: &str, identity: &str, more: Value) -> Self {
        let mut peer = Self::new(server);
        let mut join = json!({"room": room, "identity": identity});
        join.as_object_mut().expect("it is one").extend(more.as_object().cloned().unwrap_or_default());
        peer.tell("join", join);
        peer
    }

    /// Gives a command without waiting.
    pub fn send(&mut self, what: &str, mut command: Value) {
        command["do"] = what.into();
        let stdin = self.stdin.as_mut().expect("its stdin is open");
        writeln!(stdin, "{command}").expect("it reads its commands");
    }

    /// Gives a command and waits for its answer, which must be good.
    pub fn tell(&mut self, what: &str, command: Value) -> Value {
        self.ask(what, command).unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Gives a command and waits for its answer: what was done, or the error's text.
    pub fn ask(&mut self, what: &str, command: Value) -> Result<Value, String> {
        self.send(what, command);
        self.answer(what)
    }

    /// Waits for a command's answer.
    pub fn answer(&self, what: &str) -> Result<Value, String> {
        let answer = self.wait_for(&format!("the answer to {what}"), |said| said["done"] == what || said["failed"] == what);
        match answer["failed"].is_string() {
            true => Err(answer["error"].as_str().unwrap_or_default().to_owned()),
            false => Ok(answer),
        }
    }

    /// Waits for an event of this name that `pick` takes; events that were passed over can still be asked for.
    pub fn event(&self, name: &str, pick: impl Fn(&Value) -> bool) -> Value {
        self.wait_for(name, |said| said["event"] == name && pick(said))
    }

    /// Waits for a line that `pick` takes. Each line is taken once.
    pub fn wait_for(&self, what: &str, pick: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        let mut told = self.told.lock().expect("nobody panics with it");
        let mut looked_at = 0;
        loop {
            if let Some(found) = told[looked_at..].iter().position(&pick) {
                return told.remove(looked_at + found);
            }
            looked_at = told.len();
            match self.lines.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
                // What is no JSON is somebody's log line.
                Ok(line) => told.extend(serde_json::from_str::<Value>(&line)),
                Err(error) => {
                    let why = if error == RecvTimeoutError::Timeout { "in time" } else { "before its end" };
                    let seen: Vec<String> = told.iter().map(Value::to_string).collect();
                    drop(told);
                    panic!("no {what} {why}; there were: {seen:#?}");
                }
            }
        }
    }

    /// What it has told up to this moment and was not asked for.
    pub fn told(&self) -> Vec<Value> {
        let mut told = self.told.lock().expect("nobody panics with it");
        told.extend(self.lines.try_iter().filter_map(|line| serde_json::from_str(&line).ok()));
        told.clone()
    }

    /// Ends its recordings: the samples (48 kHz) of the one of `identity`.
    pub fn recording_of(&mut self, identity: &str) -> Vec<i16> {
        let saved = self.tell("saved", json!({}));
        let recordings = saved["recordings"].as_array().expect("a list");
        let of = recordings.iter().find(|recording| recording["identity"] == identity);
        let of = of.unwrap_or_else(|| panic!("no recording of {identity}: {saved}"));
        super::wav(Path::new(of["file"].as_str().expect("a path")))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Closes its stdin and waits for its end.
    pub fn end(&mut self) {
        drop(self.stdin.take());
        let begun = Instant::now();
        while self.child.try_wait().expect("it is ours").is_none() {
            assert!(begun.elapsed() < PATIENCE, "it goes on after its stdin was closed");
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    }

    /// Ends it as no process can prevent.
    pub fn kill_9(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.stdin.take());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A stock livekit-agents worker in `script`, registered under `agent_name`. Its jobs end with it.
pub fn agent_worker(server: &LiveKitServer, script: &str, agent_name: &str, env: &[(&str, &str)]) -> Peer {
    let mut command = livekit_python();
    command.arg(root().join("tests/interop").join(script)).envs(server.env());
    command.env("LIVEKIT_AGENT_NAME_OVERRIDE", agent_name).envs(env.iter().copied());
    let worker = Peer::spawn(command);
    worker.wait_for("the worker's registration", |said| said["event"] == "registered");
    worker
}

/// Waits until no process with this id runs: one that nobody has waited for yet does not.
pub fn gone(id: u32) {
    until("the process's end", || {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{id}/stat")) else { return Some(()) };
        status.rsplit(')').next()?.trim_start().starts_with('Z').then_some(())
    });
}
