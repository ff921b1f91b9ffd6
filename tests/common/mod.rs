//! What the tests share: Trunkline's own processes and the independent Python peers, each ended with its test.

// Every test binary uses its own part of this.
#![allow(dead_code)]

pub mod api;
pub mod chat;
pub mod coturn;
pub mod cuttable_line;
pub mod leg;
pub mod livekit;
pub mod pipecat;
pub mod random;
pub mod sandbox;
pub mod tone;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// No condition here takes longer than this, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A process of the test's, killed with it.
pub struct Running {
    child: Child,
    said: Said,
}

/// Where what a process says is to be found.
enum Said {
    /// Each line once.
    Lines(Receiver<String>),
    /// A file that stays.
    Log(PathBuf),
}

/// Trunkline with these arguments.
pub fn trunkline(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
    command.args(arguments).env_remove("TRUNKLINE_OUT").env_remove("TRUNKLINE_TTS").env_remove("TRUNKLINE_CONFIG");
    let others =
        ["CEKURA_API_KEY", "CEKURA_API_URL", "LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "TRUNKLINE_AGENT", "RUST_LOG"];
    for name in others {
        command.env_remove(name);
    }
    command
}

/// Trunkline run to its end.
pub fn run(arguments: &[&str]) -> Output {
    trunkline(arguments).stdin(Stdio::null()).output().expect("trunkline starts")
}

/// The independent peers' Python, which `scripts/python-env` makes.
pub fn python(script: &str, arguments: &[&str]) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/pyenv/bin/python");
    assert!(python.exists(), "the Python peers are missing: run scripts/python-env (scripts/test does)");
    let mut command = Command::new(python);
    command.arg(root.join("tests/interop").join(script)).args(arguments);
    command
}

impl Running {
    /// Starts a process; its stdout is read line by line.
    pub fn stdout_of(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the process starts");
        let stdout = child.stdout.take().expect("a pipe");
        Self { child, said: Said::Lines(read_lines(stdout)) }
    }

    /// Starts a process that goes on until its stdin is closed; its stdout is read line by line.
    pub fn until_told(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the process starts");
        let stdout = child.stdout.take().expect("a pipe");
        Self { child, said: Said::Lines(read_lines(stdout)) }
    }

    /// Closes its stdin.
    pub fn tell(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Starts a process; its stderr is read line by line.
    pub fn stderr_of(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the process starts");
        let stderr = child.stderr.take().expect("a pipe");
        Self { child, said: Said::Lines(read_lines(stderr)) }
    }

    /// Starts a process; its stdout and stderr go into the file `log`.
    pub fn logging_to(mut command: Command, log: &Path) -> Self {
        let file = std::fs::File::create(log).expect("a file");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a file")).stderr(file);
        Self { child: command.spawn().expect("the process starts"), said: Said::Log(log.to_owned()) }
    }

    /// Waits for a line that `pick` takes; in a log, from its beginning.
    pub fn wait_for<T>(&self, what: &str, pick: impl Fn(&str) -> Option<T>) -> T {
        let lines = match &self.said {
            Said::Lines(lines) => lines,
            Said::Log(log) => {
                return until(what, || {
                    let text = String::from_utf8_lossy(&std::fs::read(log).ok()?).into_owned();
                    // The last line may not be whole.
                    text.rsplit_once('\n')?.0.lines().find_map(&pick)
                });
            }
        };
        let mut seen = Vec::new();
        loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => match pick(&line) {
                    Some(found) => return found,
                    None => seen.push(line),
                },
                Err(_) => panic!("no line with {what}; there were: {seen:#?}"),
            }
        }
    }

    /// Waits for a line of JSON.
    pub fn json(&self, what: &str) -> Value {
        self.wait_for(what, |line| serde_json::from_str(line).ok())
    }

    /// The address of the one door of a `serve`.
    pub fn door(&self) -> String {
        self.wait_for("the door's address", |line| line.strip_prefix("listening ")?.split(' ').nth(1).map(str::to_owned))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the process as its user would: Ctrl-C.
    pub fn interrupt(&self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("the process is there");
    }

    /// Ends the process as its user would, and it ends well.
    pub fn stop(&mut self) {
        self.interrupt();
        assert!(self.wait().success());
    }

    /// Ends the process as no process can prevent.
    pub fn kill_9(&mut self) {
        self.child.kill().expect("the process is there");
        self.child.wait().expect("it is ours");
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_some()
    }

    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("it is ours")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn read_lines(source: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// An independent CHIRP agent in Python and its port.
pub fn python_agent(mode: &str, more: &[&str]) -> (Running, u64) {
    let mut arguments = vec!["--mode", mode];
    arguments.extend(more);
    let agent = Running::stdout_of(python("chirp_agent.py", &arguments));
    let port = agent.json("the port")["port"].as_u64().expect("a port");
    (agent, port)
}

/// An independent CHIRP caller in Python, run to its end: what it got.
pub fn python_caller(url: &str, arguments: &[&str]) -> Value {
    let mut all = vec![url];
    all.extend(arguments);
    let output = python("chirp_client.py", &all).output().expect("python starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_str(text.trim()).unwrap_or_else(|_| panic!("no summary: {text}{errors}"))
}

/// An independent CHIRP caller in Python that has been connected, and stays until it is told.
pub fn python_caller_that_stays(url: &str) -> Running {
    let caller = Running::until_told(python("chirp_client.py", &[url, "--mode", "stay"]));
    assert_eq!(caller.json("that it is connected")["connected"], true);
    caller
}

/// `trunkline serve` in front of `to`, recording into `out`, and its door's address.
pub fn serve(to: &str, out: &Path, config: &str) -> (Running, String) {
    serve_through("--listen", to, out, config)
}

/// As [`serve`], with the door that `flag` opens.
pub fn serve_through(flag: &str, to: &str, out: &Path, config: &str) -> (Running, String) {
    serve_with([flag, "127.0.0.1:0"], to, out, config)
}

/// As [`serve`], with the door of this name.
pub fn serve_door(name: &str, to: &str, out: &Path, config: &str) -> (Running, String) {
    serve_with(["--door", &format!("{name}=127.0.0.1:0")], to, out, config)
}

fn serve_with([flag, door]: [&str; 2], to: &str, out: &Path, config: &str) -> (Running, String) {
    let file = out.join("trunkline.toml");
    std::fs::create_dir_all(out).expect("a folder");
    std::fs::write(&file, config).expect("a file");
    let arguments = ["serve", "--to", to, flag, door, "--out", path(out), "--config", path(&file)];
    let running = Running::stderr_of(trunkline(&arguments));
    let address = running.door();
    (running, address)
}

/// A built-in agent and its address.
pub fn built_in_agent(kind: &str) -> (Running, String) {
    let agent = Running::stderr_of(trunkline(&["agent", kind, "--listen", "127.0.0.1:0"]));
    let address = agent.wait_for("its address", |line| line.strip_prefix("listening ").map(str::to_owned));
    (agent, address)
}

pub fn path(path: &Path) -> &str {
    path.to_str().expect("the tests' paths are UTF-8")
}

/// A suite file with one scenario of these caller lines, all of which are shipped; an empty first one lets the agent begin.
pub fn suite(folder: &Path, lines: &[&str]) -> PathBuf {
    let conditions: Vec<Value> = lines
        .iter()
        .enumerate()
        .map(|(id, action)| {
            let (condition, kind) = match id {
                0 => ("FIRST_MESSAGE".to_owned(), "standard"),
                _ => ((id - 1).to_string(), "action_followup"),
            };
            json!({"id": id, "condition": condition, "action": action, "type": kind, "fixed_message": true})
        })
        .collect();
    let suite = json!({"version": "1", "scenarios": [{
        "name": "Test", "key": "test", "type": "conditional_actions", "language": "en",
        "conditional_actions": {"role": "a caller", "conditions": conditions},
    }]});
    let file = folder.join("suite.json");
    std::fs::write(&file, suite.to_string()).expect("a file");
    file
}

/// The one folder of a call below `out`.
pub fn call_folder(out: &Path) -> PathBuf {
    let folders: Vec<_> = std::fs::read_dir(out)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir() && !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')))
        .collect();
    assert_eq!(folders.len(), 1, "one call was made: {folders:?}");
    folders[0].clone()
}

pub fn wav(path: &Path) -> Vec<i16> {
    let reader = hound::WavReader::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    reader.into_samples::<i16>().map(|sample| sample.expect("a sample")).collect()
}

pub fn events(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("events.jsonl")).expect("events");
    text.lines().map(|line| serde_json::from_str(line).expect("an event")).collect()
}

/// Waits until `condition` gives something.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = std::time::Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Reads one HTTP/1.1 request: its head and its body. None when the connection closes before it is whole.
pub fn read_http(stream: &mut impl Read) -> Option<(String, String)> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 65536]);
    let head = loop {
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            bytes.truncate(end);
            break String::from_utf8_lossy(&std::mem::replace(&mut bytes, rest)).into_owned();
        }
    };
    let length = head.to_lowercase().split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    while bytes.len() < length.unwrap_or(0) {
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
    }
    Some((head, String::from_utf8_lossy(&bytes).into_owned()))
}
