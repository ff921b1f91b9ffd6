//! A child process and its pipes, whatever they carry: started, fed, read, ended.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::task::{Context, Poll};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, Sleep};

use crate::call::{CallIds, EndReason, LegEvent};

/// From the end of the call to SIGTERM, and from there to SIGKILL.
const PATIENCE: Duration = Duration::from_secs(1);
const LAST_PATIENCE: Duration = Duration::from_millis(500);
/// How long output is read on after the child has exited, for a grandchild may still hold the pipe; and how long a child that
/// has closed its stdout may take to exit by itself, which tells a hang-up from a crash.
const AFTER_EXIT: Duration = Duration::from_millis(200);
/// A longer line of the child's log is cut here.
const LONGEST_LINE: usize = 4096;
/// Lines of the child's log that are kept of each second; the others are counted.
const MOST_LINES: u32 = 1000;

/// A child that could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {command:?}: {source}")]
pub struct ProcessError {
    /// The command as given.
    command: String,
    /// Why.
    source: io::Error,
}

/// A running child. Dropping it kills it.
pub(in crate::transport) struct Child {
    group: Pid,
    exit: Pin<Box<dyn Future<Output = io::Result<ExitStatus>> + Send>>,
    exited: Option<String>,
    failed: bool,
    stdin: Option<ChildStdin>,
    outgoing: VecDeque<u8>,
    stdout: Option<ChildStdout>,
    /// It has closed its stdout, and may be about to exit.
    mute: bool,
    stderr: Option<ChildStderr>,
    /// Its stdout is log, too: the line that has begun there.
    stdout_line: Option<Vec<u8>>,
    line: Vec<u8>,
    lines: VecDeque<String>,
    pace: LogPace,
    /// Its log's turn to be read; else that of its stdout.
    log_next: bool,
    ending: Ending,
    finished: bool,
    /// From being asked to end to SIGTERM, and from there to SIGKILL.
    patience: (Duration, Duration),
    timer: Pin<Box<Sleep>>,
}

/// Keeps a child that floods its log from filling the call's.
struct LogPace {
    second: Instant,
    lines: u32,
    left_out: u64,
}

impl LogPace {
    /// Whether a line of this moment is kept, and what is to be said before it.
    fn admits(&mut self, now: Instant) -> Option<Option<String>> {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.lines) = (now, 0);
        }
        if self.lines == MOST_LINES {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(self.left_out())
    }

    fn left_out(&mut self) -> Option<String> {
        let lines = std::mem::take(&mut self.left_out);
        (lines > 0).then(|| format!("[{lines} lines left out: more than {MOST_LINES} a second]"))
    }
}

/// What came from a child.
pub(in crate::transport) enum Output {
    /// A line of its log.
    Log(String),
    /// Bytes of its stdout.
    Bytes(Vec<u8>),
    /// It is gone: a [`LegEvent::Hangup`].
    Gone(LegEvent),
}

/// How far the child's end has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    /// Its stdin is closed, or will be when it has read what waits.
    Asked(EndReason),
    /// It was sent SIGTERM.
    Told(EndReason),
    /// It was sent SIGKILL.
    Killed(EndReason),
}

impl Child {
    /// Starts `words[0]` with the rest as its arguments. It finds the call's ids, its metadata and `more` in its
    /// environment.
    ///
    /// # Errors
    /// [`ProcessError`] when it cannot be started.
    pub(in crate::transport) fn spawn(
        words: &[String],
        ids: &CallIds,
        metadata: Option<&str>,
        more: &[(&str, String)],
    ) -> Result<Self, ProcessError> {
        let (program, arguments) = words.split_first().expect("a way out has at least one word");
        let mut command = Command::new(program);
        command.args(arguments).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("TRUNKLINE_CALL_ID", &ids.call_id);
        command.envs(more.iter().map(|(name, value)| (name, value)));
        let known = [
            ("TRUNKLINE_RUN_ID", ids.run_id.as_deref()),
            ("TRUNKLINE_RESULT_ID", ids.result_id.as_deref()),
            ("TRUNKLINE_SCENARIO_ID", ids.scenario_id.as_deref()),
            ("TRUNKLINE_SCENARIO", ids.scenario.as_deref()),
            // An environment cannot hold a NUL; no JSON does.
            ("TRUNKLINE_METADATA", metadata.filter(|text| !text.contains('\0'))),
        ];
        for (name, value) in known {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let failed = |source| ProcessError { command: shell_words::join(words), source };
        let mut child = command.spawn().map_err(failed)?;
        let id = child.id().expect("a child that was not waited for has an id");
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        Ok(Self {
            group: Pid::from_raw(id as i32),
            exit: Box::pin(async move { child.wait().await }),
            exited: None,
            failed: false,
            stdin,
            outgoing: VecDeque::new(),
            stdout,
            mute: false,
            stderr,
            stdout_line: None,
            line: Vec::new(),
            lines: VecDeque::new(),
            pace: LogPace { second: Instant::now(), lines: 0, left_out: 0 },
            log_next: true,
            ending: Ending::No,
            finished: false,
            patience: (PATIENCE, LAST_PATIENCE),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        })
    }

    /// What it writes to its stdout is log as well: it speaks elsewhere.
    #[must_use]
    pub(in crate::transport) fn logging_stdout(mut self) -> Self {
        self.stdout_line = Some(Vec::new());
        self
    }

    /// How long it may take to end: from being asked to SIGTERM, and from there to SIGKILL.
    #[must_use]
    pub(in crate::transport) fn with_patience(mut self, to_term: Duration, to_kill: Duration) -> Self {
        self.patience = (to_term, to_kill);
        self
    }

    /// It may still read, and nobody has asked it to end.
    pub(in crate::transport) fn listens(&self) -> bool {
        self.stdin.is_some() && self.ending == Ending::No
    }

    /// Bytes that wait until it reads.
    pub(in crate::transport) fn waiting(&self) -> usize {
        self.outgoing.len()
    }

    /// Puts bytes behind what waits for it.
    pub(in crate::transport) fn send(&mut self, bytes: impl IntoIterator<Item = u8>) {
        if self.stdin.is_some() {
            self.outgoing.extend(bytes);
        }
    }

    /// Throws away what it has not read.
    pub(in crate::transport) fn drop_waiting(&mut self) {
        self.outgoing.clear();
    }

    /// Asks it to end: its stdin is closed once it has read what waits. `reason` is what the call is told when it is gone.
    pub(in crate::transport) fn ask(&mut self, reason: EndReason) {
        if self.ending == Ending::No {
            self.ending = Ending::Asked(reason);
            self.timer.as_mut().reset(Instant::now() + self.patience.0);
        }
    }

    /// Feeds it, as far as it reads.
    pub(in crate::transport) fn poll_stdin(&mut self, cx: &mut Context<'_>) {
        while let Some(stdin) = self.stdin.as_mut().filter(|_| !self.outgoing.is_empty()) {
            let (bytes, _) = self.outgoing.as_slices();
            match Pin::new(stdin).poll_write(cx, bytes) {
                Poll::Ready(Ok(written)) => drop(self.outgoing.drain(..written)),
                // It closed its stdin: it does not want to hear any more, but may well go on speaking.
                Poll::Ready(Err(_)) => self.close_stdin(),
                Poll::Pending => return,
            }
        }
        if self.ending != Ending::No {
            self.close_stdin();
        }
    }

    fn close_stdin(&mut self) {
        self.stdin = None;
        self.outgoing = VecDeque::new();
    }

    /// The next thing that it says or does.
    pub(in crate::transport) fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Output> {
        self.poll_exit(cx);
        // A child that is never quiet must not keep its time from passing.
        if self.exited.is_none() {
            self.poll_timer(cx);
        } else if Instant::now() >= self.timer.deadline() {
            // Whoever still holds its pipes: what is in them is read, and no more comes.
            self.signal(Signal::SIGKILL);
        }
        self.poll_stdout_log(cx);
        for log in [self.log_next, !self.log_next] {
            let output = match log {
                true => self.poll_log(cx).map(Output::Log),
                false if self.stdout_line.is_some() => None,
                false => self.poll_stdout(cx).map(Output::Bytes),
            };
            if let Some(output) = output {
                self.log_next = !log;
                return Poll::Ready(output);
            }
        }
        self.poll_timer(cx);
        if self.exited.is_some() && self.stdout.is_none() && self.stderr.is_none() {
            self.signal(Signal::SIGKILL);
            self.finished = true;
            return Poll::Ready(Output::Gone(self.hangup()));
        }
        Poll::Pending
    }

    fn poll_stdout(&mut self, cx: &mut Context<'_>) -> Option<Vec<u8>> {
        let stdout = self.stdout.as_mut()?;
        let mut bytes = [0; 8192];
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(stdout).poll_read(cx, &mut buffer) {
            Poll::Pending => None,
            Poll::Ready(read) if read.is_err() || buffer.filled().is_empty() => {
                self.stdout = None;
                match self.stdout_line.take() {
                    None => self.closed_voice(),
                    Some(line) if line.is_empty() => {}
                    Some(line) => self.end_line(&line),
                }
                None
            }
            Poll::Ready(_) => Some(buffer.filled().to_vec()),
        }
    }

    /// Reads a stdout that is log. No more is read while lines wait.
    fn poll_stdout_log(&mut self, cx: &mut Context<'_>) {
        while self.stdout_line.is_some() && self.lines.is_empty() {
            let Some(bytes) = self.poll_stdout(cx) else { return };
            let mut line = self.stdout_line.take().unwrap_or_default();
            self.gather(&bytes, &mut line);
            self.stdout_line = Some(line);
        }
    }

    /// A child without a voice has hung up, even if it stays.
    pub(in crate::transport) fn closed_voice(&mut self) {
        if self.ending == Ending::No && self.exited.is_none() {
            self.mute = true;
            self.timer.as_mut().reset(Instant::now() + AFTER_EXIT);
        }
    }

    /// The next line of its log. No more is read while lines wait.
    fn poll_log(&mut self, cx: &mut Context<'_>) -> Option<String> {
        while let Some(stderr) = self.stderr.as_mut().filter(|_| self.lines.is_empty()) {
            let mut bytes = [0; 1024];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(stderr).poll_read(cx, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    let mut line = std::mem::take(&mut self.line);
                    self.gather(buffer.filled(), &mut line);
                    self.line = line;
                }
                Poll::Ready(_) => {
                    self.stderr = None;
                    let line = std::mem::take(&mut self.line);
                    if !line.is_empty() {
                        self.end_line(&line);
                    }
                    self.lines.extend(self.pace.left_out());
                }
            }
        }
        self.lines.pop_front()
    }

    /// Cuts bytes into lines; `line` is the one that has begun.
    fn gather(&mut self, bytes: &[u8], line: &mut Vec<u8>) {
        for byte in bytes {
            if *byte == b'\n' || line.len() == LONGEST_LINE {
                self.end_line(line);
                line.clear();
            }
            if *byte != b'\n' {
                line.push(*byte);
            }
        }
    }

    fn end_line(&mut self, line: &[u8]) {
        let Some(left_out) = self.pace.admits(Instant::now()) else { return };
        self.lines.extend(left_out);
        self.lines.push_back(String::from_utf8_lossy(line).into_owned());
    }

    fn poll_exit(&mut self, cx: &mut Context<'_>) {
        if self.exited.is_some() {
            return;
        }
        let Poll::Ready(status) = self.exit.as_mut().poll(cx) else { return };
        self.failed = !status.as_ref().is_ok_and(ExitStatus::success);
        self.exited = Some(status.map_or_else(|error| error.to_string(), |status| status.to_string()));
        self.timer.as_mut().reset(Instant::now() + AFTER_EXIT);
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        let waiting = self.exited.is_some() || self.ending != Ending::No || self.mute;
        if !waiting || self.timer.as_mut().poll(cx).is_pending() {
            return;
        }
        if self.exited.is_some() {
            (self.stdout, self.stderr) = (None, None);
            return;
        }
        let next = match self.ending {
            Ending::Asked(reason) => (Signal::SIGTERM, Ending::Told(reason)),
            Ending::Told(reason) | Ending::Killed(reason) => (Signal::SIGKILL, Ending::Killed(reason)),
            Ending::No => {
                self.close_stdin();
                self.ask(EndReason::HungUp);
                // Registers the new moment; it lies ahead.
                let _ = self.timer.as_mut().poll(cx);
                return;
            }
        };
        self.signal(next.0);
        self.ending = next.1;
        self.timer.as_mut().reset(Instant::now() + self.patience.1);
        // Registers the new moment; it lies ahead.
        let _ = self.timer.as_mut().poll(cx);
    }

    /// A group that is already gone needs no signal.
    fn signal(&self, signal: Signal) {
        let _ = killpg(self.group, signal);
    }

    fn hangup(&self) -> LegEvent {
        let status = self.exited.clone().unwrap_or_default();
        match self.ending {
            // It closed its stdout first, and then failed by itself.
            Ending::Asked(_) if self.failed && self.mute => crashed(&status),
            Ending::No if self.failed => crashed(&status),
            Ending::No => LegEvent::Hangup { reason: EndReason::HungUp, detail: status },
            Ending::Asked(reason) | Ending::Told(reason) | Ending::Killed(reason) => LegEvent::Hangup { reason, detail: status },
        }
    }
}

fn crashed(status: &str) -> LegEvent {
    LegEvent::Hangup { reason: EndReason::ConnectionLost, detail: format!("the process ended: {status}") }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.finished {
            self.signal(Signal::SIGKILL);
        }
    }
}
