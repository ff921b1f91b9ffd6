//! Starts the agent and waits until it has dialled and its session has begun.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::net::TcpListener;

use super::{BadFrame, ConsoleCommand, ConsoleLeg};
use crate::call::{CallIds, LegEvent};
use crate::transport::process::{Child, Output, ProcessError};

/// How long an agent may take to dial and begin its session where nothing else is said. Python with its plugins takes 3 to 9 s.
pub const DIAL_TIME: Duration = Duration::from_secs(20);
/// From SIGTERM to SIGKILL: the time that `livekit-agents` gives a job to shut down (`shutdown_process_timeout`).
const SHUTDOWN: Duration = Duration::from_secs(10);
/// Lines of the agent's log that are kept of the time before its call, and of these, how many an error repeats.
const MOST_LINES: usize = 1000;
const LINES_SHOWN: usize = 5;

/// An agent that cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// No port to listen on.
    #[error("cannot listen on 127.0.0.1 for the agent: {0}")]
    Listen(#[source] io::Error),
    /// The command cannot be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It ended before its session began.
    #[error("{command} ended before it took the call: {status}{}", shown(log))]
    Ended {
        /// The way out.
        command: String,
        /// How it ended.
        status: String,
        /// Its last lines.
        log: Vec<String>,
    },
    /// It did not dial.
    #[error("{command} did not dial {address} within {} s{}", within.as_secs_f64(), shown(log))]
    NeverDialled {
        /// The way out.
        command: String,
        /// Where we waited.
        address: String,
        /// How long.
        within: Duration,
        /// Its last lines.
        log: Vec<String>,
    },
    /// It dialled and no session began.
    #[error("{command} dialled, but its session did not begin within {} s{}", within.as_secs_f64(), shown(log))]
    NeverBegan {
        /// The way out.
        command: String,
        /// How long we waited in all.
        within: Duration,
        /// Its last lines.
        log: Vec<String>,
    },
    /// It closed the connection before its session began.
    #[error("{command} closed its connection before its session began{}", shown(log))]
    Closed {
        /// The way out.
        command: String,
        /// Its last lines.
        log: Vec<String>,
    },
    /// What it sends is not the console's protocol.
    #[error("{command} does not speak the console protocol of livekit-agents: {problem}")]
    Protocol {
        /// The way out.
        command: String,
        /// What is wrong.
        problem: BadFrame,
    },
}

fn shown(log: &[String]) -> String {
    let last = &log[log.len().saturating_sub(LINES_SHOWN)..];
    if last.is_empty() { String::new() } else { format!("; it said last: {}", last.join(" | ")) }
}

/// Starts the agent, waits until it has dialled us, and until its session has begun: `within` is the time for all of it.
///
/// # Errors
/// [`ConsoleError`]. The agent is ended.
pub async fn dial(
    command: &ConsoleCommand,
    within: Duration,
    ids: &CallIds,
    metadata: Option<&str>,
) -> Result<ConsoleLeg, ConsoleError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(ConsoleError::Listen)?;
    let address = listener.local_addr().map_err(ConsoleError::Listen)?.to_string();
    let child = Child::spawn(&command.dialling(&address), ids, metadata, &[])?;
    let mut child = child.logging_stdout().with_patience(Duration::ZERO, SHUTDOWN);
    let deadline = tokio::time::sleep(within);
    let mut deadline = std::pin::pin!(deadline);
    let mut log = Log::default();
    let stream = loop {
        tokio::select! {
            accepted = listener.accept() => break accepted.map_err(ConsoleError::Listen)?.0,
            output = std::future::poll_fn(|cx| child.poll_output(cx)) => match output {
                Output::Log(line) => log.keep(line),
                Output::Bytes(_) => {}
                Output::Gone(gone) => return Err(ended(command, &gone, log)),
            },
            () = &mut deadline => {
                return Err(ConsoleError::NeverDialled { command: command.to_string(), address, within, log: log.lines() });
            }
        }
    };
    // The agent speaks alone: who else dials finds nobody.
    drop(listener);
    stream.set_nodelay(true).map_err(ConsoleError::Listen)?;
    let mut leg = ConsoleLeg::new(command.to_string(), stream, child);
    loop {
        tokio::select! {
            step = std::future::poll_fn(|cx| leg.poll_beginning(cx)) => match step {
                Beginning::Begun => break,
                Beginning::Log(line) => log.keep(line),
                Beginning::Bad(problem) => return Err(ConsoleError::Protocol { command: command.to_string(), problem }),
                Beginning::Closed => {
                    return Err(ConsoleError::Closed { command: command.to_string(), log: log.lines() });
                }
                Beginning::Gone(gone) => return Err(ended(command, &gone, log)),
            },
            () = &mut deadline => {
                return Err(ConsoleError::NeverBegan { command: command.to_string(), within, log: log.lines() });
            }
        }
    }
    leg.begin(log.0);
    Ok(leg)
}

/// What happens before the session has begun.
pub(super) enum Beginning {
    /// It has begun.
    Begun,
    /// A line of the agent's log.
    Log(String),
    /// It broke the protocol.
    Bad(BadFrame),
    /// It closed the connection, and lives.
    Closed,
    /// It ended: a [`LegEvent::Hangup`].
    Gone(LegEvent),
}

fn ended(command: &ConsoleCommand, gone: &LegEvent, log: Log) -> ConsoleError {
    let status = match gone {
        LegEvent::Hangup { detail, .. } => detail.trim_start_matches("the process ended: ").to_owned(),
        _ => String::new(),
    };
    ConsoleError::Ended { command: command.to_string(), status, log: log.lines() }
}

/// What the agent wrote before its call.
#[derive(Default)]
struct Log(VecDeque<String>);

impl Log {
    fn keep(&mut self, line: String) {
        if self.0.len() == MOST_LINES {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }

    fn lines(self) -> Vec<String> {
        self.0.into()
    }
}
