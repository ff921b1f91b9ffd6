//! The LiveKit door: an agent worker (<https://docs.livekit.io/agents/server/>). It dials out to the server, registers under an
//! agent's name, and is given jobs: each is a room to come into as the agent. Whoever is in the room is the caller.
//!
//! `protocol` is what the two say to each other, without a socket; `task` has the socket, `job` brings a job's call, `leg` is that
//! call's room.

mod job;
mod leg;
mod protocol;
mod task;

use std::time::Instant;

use self::protocol::Protocol;
use self::task::Task;
use super::{Server, ServerError};
use crate::transport::Arrivals;

/// How to be a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerOptions {
    /// The agent that jobs are asked for.
    pub agent_name: String,
    /// Jobs at the same time; more are left to other workers.
    pub max_jobs: usize,
}

impl WorkerOptions {
    /// A worker for this agent, with 64 jobs at most.
    #[must_use]
    pub fn new(agent_name: &str) -> Self {
        Self { agent_name: agent_name.to_owned(), max_jobs: 64 }
    }
}

/// A worker that the server does not take.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// No token can be made, or the server does not take it.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Nobody is there, or it is no LiveKit server.
    #[error("the LiveKit server at {url} cannot be reached: {problem}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why not.
        problem: String,
    },
    /// It is there and does not register us.
    #[error("the LiveKit server at {url} registers no worker: {problem}")]
    NotRegistered {
        /// Where.
        url: String,
        /// Why not.
        problem: String,
    },
}

impl WorkerError {
    /// The key or the secret is wrong.
    #[must_use]
    pub const fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Server(ServerError::Unauthorized))
    }
}

/// A registered worker. When its server is gone it looks for it until it is back; calls go on meanwhile.
pub struct Worker {
    id: String,
    arrivals: Arrivals,
}

impl Worker {
    /// Registers with the server, in one try.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub async fn register(server: Server, options: &WorkerOptions) -> Result<Self, WorkerError> {
        let mut protocol = Protocol::new(&options.agent_name, options.max_jobs, Instant::now());
        let (socket, id) = task::register(&server, &mut protocol).await?;
        let arrivals = Arrivals::from_draining_task(|arrivals, drain| Task::new(server, protocol, arrivals, drain).run(socket));
        Ok(Self { id, arrivals })
    }

    /// The server's name for the worker.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl From<Worker> for Arrivals {
    fn from(worker: Worker) -> Self {
        worker.arrivals
    }
}
