//! What every command does in the same way: the runtime, the terminal, interruption.

use std::io::{IsTerminal, Write};

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

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

/// Waits for Ctrl-C or SIGTERM.
pub(super) async fn until_interrupted() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminated) => drop(terminated.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
