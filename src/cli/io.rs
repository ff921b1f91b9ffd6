//! What every command does in the same way: the runtime, the terminal, interruption.

use std::io::{IsTerminal, Write};

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Failure;

/// The runtime of a command.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::infrastructure(format!("cannot start: {error}")))
}

/// A line for the user: progress, not a result. Goes to stderr.
pub(super) fn say(line: &str) {
    eprintln!("{line}");
}

/// A command's result. Goes to stdout; a reader that has gone away is no error.
pub(super) fn result(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let ended = if text.ends_with('\n') { "" } else { "\n" };
    if write!(stdout, "{text}{ended}").and_then(|()| stdout.flush()).is_err() {
        tracing::debug!("nobody reads the result");
    }
}

/// Whether stderr is looked at by someone.
pub(super) fn watched() -> bool {
    std::io::stderr().is_terminal()
}

/// Asks on the terminal; where nobody can be asked the answer must come by a flag.
pub(super) fn confirmed(what: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() || !watched() {
        return Err(Failure::usage(format!("this {what}: say --yes")));
    }
    eprint!("this {what}. Go on? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| Failure::usage(format!("no answer: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Ctrl-C and SIGTERM, listened to from here on: one that comes before it is waited for is not lost, and ends nothing by itself.
pub(super) struct Interruption {
    signals: [Signal; 2],
}

impl Interruption {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::infrastructure(format!("cannot listen to signals: {error}")));
        Ok(Self { signals: [listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?] })
    }

    /// Waits for one of them.
    pub(super) async fn wait(&mut self) {
        let [interrupted, terminated] = &mut self.signals;
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    }
}

/// Waits for Ctrl-C or SIGTERM.
pub(super) async fn until_interrupted() {
    match Interruption::listen() {
        Ok(mut interruption) => interruption.wait().await,
        Err(failure) => {
            tracing::warn!("{failure}");
            std::future::pending().await
        }
    }
}
