//! A coturn (4.6.1) of the test's own: STUN, and TURN over UDP, TCP and TLS on one port of loopback.

#![allow(dead_code)]

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Command;

use super::{Running, until};

pub const USER: &str = "caller";
pub const PASSWORD: &str = "a-password-that-nobody-may-see";

/// A coturn, ended with its test.
pub struct Coturn {
    pub address: SocketAddr,
    /// Where TLS is taken.
    pub tls: SocketAddr,
    /// The certificate that is to be trusted for `localhost`.
    pub certificate: PathBuf,
    folder: tempfile::TempDir,
    _running: Running,
}

impl Coturn {
    /// Starts one; `more` are lines of its configuration.
    pub fn start(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let [certificate, key, log, config] =
            ["turn.pem", "turn.key", "log", "turnserver.conf"].map(|name| folder.path().join(name));
        std::fs::write(&certificate, made.cert.pem()).expect("a file");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
        let (port, tls) = (free_port(), free_port());
        let mut lines = format!(
            "listening-ip=127.0.0.1\nlistening-port={port}\ntls-listening-port={tls}\n\
             lt-cred-mech\nuser={USER}:{PASSWORD}\nrealm=trunkline.test\nallow-loopback-peers\nno-cli\nno-dtls\nverbose\n\
             relay-threads=1\n"
        );
        let files = [("cert", &certificate), ("pkey", &key), ("userdb", &folder.path().join("db"))];
        for (name, file) in files.into_iter().chain([("pidfile", &folder.path().join("pid")), ("log-file", &log)]) {
            writeln!(lines, "{name}={}", file.display()).expect("a text");
        }
        lines.push_str("simple-log\nno-stdout-log\n");
        if !more.iter().any(|line| line.starts_with("relay-ip=")) {
            lines.push_str("relay-ip=127.0.0.1\n");
        }
        more.iter().for_each(|line| writeln!(lines, "{line}").expect("a text"));
        std::fs::write(&config, lines).expect("a file");
        let mut command = Command::new(binary());
        command.arg("-c").arg(&config).current_dir(folder.path());
        let running = Running::logging_to(command, &folder.path().join("out"));
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let coturn = Self { address: at(port), tls: at(tls), certificate, folder, _running: running };
        until("coturn's port", || std::net::TcpStream::connect(coturn.address).ok());
        coturn
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits for a line of its log that holds all of `parts`.
    pub fn wait_for_line(&self, parts: &[&str]) -> String {
        until(&format!("{parts:?} in coturn's log"), || {
            self.log().lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        })
    }
}

fn binary() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    let found = folders.map(|folder| folder.join("turnserver")).find(|file| file.is_file());
    found.expect("coturn is missing: run scripts/setup test")
}

/// A port of loopback that is free for UDP and TCP.
fn free_port() -> u16 {
    let found = (0..100).find_map(|_| {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?.local_addr().ok()?.port();
        UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(port)
    });
    found.expect("a port is free")
}
