//! What a worker and its server say to each other (`livekit_agent.proto`): a sans-IO core. Messages and time in; messages and
//! what they mean out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use livekit_protocol::server_message::Message as FromServer;
use livekit_protocol::worker_message::Message as ToServer;
use livekit_protocol::{
    AvailabilityRequest, AvailabilityResponse, JobAssignment, JobStatus, JobType, MigrateJobRequest, ParticipantPermission,
    RegisterWorkerRequest, ServerMessage, UpdateJobStatus, UpdateWorkerStatus, WorkerMessage, WorkerPing, WorkerStatus,
};

/// How long a registration may take (livekit-server's own limit, `RegisterTimeout` in `pkg/agent/worker.go`).
const REGISTER_TIME: Duration = Duration::from_secs(10);
/// A promised place is kept for so long: the server gives up after 10 s (`AssignJobTimeout`, there).
const PROMISE_TIME: Duration = Duration::from_secs(12);
/// The server is asked so often whether it is there.
const PING_EVERY: Duration = Duration::from_secs(10);
/// A server that has said nothing for so long is gone: two pings went unanswered.
const SILENCE: Duration = Duration::from_secs(25);
/// Servers give jobs only to workers below this load (`DefaultTargetLoad` in livekit-server's `pkg/agent/config.go`): one with a
/// place left must be below it.
const TARGET_LOAD: f32 = 0.7;
/// The attribute of an agent's state, and its first value.
pub(super) const STATE: (&str, &str) = ("lk.agent.state", "initializing");

/// What a message of the server means for the worker.
pub(super) enum Told {
    /// The server knows us under this id.
    Registered { worker_id: String },
    /// A job is ours.
    Assigned(Assignment),
    /// A job is to end.
    Terminated { job_id: String },
    /// The server wants to be connected to anew: it is about to stop.
    GoAway,
}

/// A job, and what lets us into its room.
pub(super) struct Assignment {
    pub(super) job_id: String,
    pub(super) room: String,
    /// The server, where it is another than the one that we are connected to.
    pub(super) url: Option<String>,
    pub(super) token: String,
    pub(super) metadata: String,
}

/// A connection that is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Dead {
    #[error("it did not register the worker within {} s", REGISTER_TIME.as_secs())]
    NotRegistered,
    #[error("nothing came from it for {} s", SILENCE.as_secs())]
    Silent,
}

/// A job's place among those that may go on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The server was told that we take it.
    Promised { until: Instant },
    /// It is ours.
    Running,
}

/// The worker's side.
pub(super) struct Protocol {
    agent_name: String,
    max_jobs: usize,
    jobs: BTreeMap<String, Place>,
    registered: bool,
    draining: bool,
    began: Instant,
    heard: Instant,
    pinged: Instant,
    outgoing: VecDeque<WorkerMessage>,
}

impl Protocol {
    pub(super) fn new(agent_name: &str, max_jobs: usize, now: Instant) -> Self {
        Self {
            agent_name: agent_name.to_owned(),
            max_jobs,
            jobs: BTreeMap::new(),
            registered: false,
            draining: false,
            began: now,
            heard: now,
            pinged: now,
            outgoing: VecDeque::new(),
        }
    }

    /// A connection is there: the worker registers. Jobs that it has go on; what the server was promised before is forgotten.
    pub(super) fn connected(&mut self, now: Instant) {
        self.registered = false;
        (self.began, self.heard, self.pinged) = (now, now, now);
        self.jobs.retain(|_, place| *place == Place::Running);
        self.outgoing.clear();
        let permissions = ParticipantPermission {
            can_subscribe: true,
            can_publish: true,
            can_publish_data: true,
            can_update_metadata: true,
            ..ParticipantPermission::default()
        };
        self.push(ToServer::Register(RegisterWorkerRequest {
            r#type: JobType::JtRoom.into(),
            agent_name: self.agent_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ping_interval: PING_EVERY.as_secs() as u32,
            allowed_permissions: Some(permissions),
            ..RegisterWorkerRequest::default()
        }));
    }

    /// Takes what the server says.
    pub(super) fn take(&mut self, now: Instant, message: ServerMessage) -> Option<Told> {
        self.heard = now;
        match message.message? {
            FromServer::Register(registered) => {
                self.registered = true;
                self.tell_load();
                let job_ids: Vec<_> = self.jobs.keys().cloned().collect();
                if !job_ids.is_empty() {
                    self.push(ToServer::MigrateJob(MigrateJobRequest { job_ids }));
                }
                Some(Told::Registered { worker_id: registered.worker_id })
            }
            FromServer::Availability(request) => {
                self.answer(now, request);
                None
            }
            FromServer::Assignment(assignment) => self.assigned(assignment),
            FromServer::Termination(termination) => Some(Told::Terminated { job_id: termination.job_id }),
            FromServer::GoAway(_) => Some(Told::GoAway),
            FromServer::Pong(_) => None,
        }
    }

    /// Takes the job if there is a place for it.
    fn answer(&mut self, now: Instant, request: AvailabilityRequest) {
        let Some(job) = request.job else { return };
        let mut answer = AvailabilityResponse { job_id: job.id.clone(), ..AvailabilityResponse::default() };
        if !self.draining && self.jobs.len() < self.max_jobs && !self.jobs.contains_key(&job.id) {
            self.jobs.insert(job.id.clone(), Place::Promised { until: now + PROMISE_TIME });
            answer.available = true;
            // As the agents of LiveKit's own SDKs are called.
            answer.participant_identity = format!("agent-{}", job.id);
            answer.participant_name = self.agent_name.clone();
            answer.participant_attributes = HashMap::from([(STATE.0.to_owned(), STATE.1.to_owned())]);
        }
        let taken = answer.available;
        self.push(ToServer::Availability(answer));
        if taken {
            self.tell_load();
        }
    }

    fn assigned(&mut self, assignment: JobAssignment) -> Option<Told> {
        let JobAssignment { job: Some(job), url, token } = assignment else { return None };
        let Some(place @ Place::Promised { .. }) = self.jobs.get_mut(&job.id) else {
            self.tell_job(&job.id, JobStatus::JsFailed, "the assignment came too late");
            return None;
        };
        *place = Place::Running;
        self.tell_job(&job.id, JobStatus::JsRunning, "");
        let room = job.room.map(|room| room.name).unwrap_or_default();
        let url = url.filter(|url| !url.is_empty());
        Some(Told::Assigned(Assignment { job_id: job.id, room, url, token, metadata: job.metadata }))
    }

    /// A job is over: well, or with what went wrong.
    pub(super) fn over(&mut self, job_id: &str, result: Result<(), String>) {
        if self.jobs.remove(job_id).is_none() {
            return;
        }
        match result {
            Ok(()) => self.tell_job(job_id, JobStatus::JsSuccess, ""),
            Err(problem) => self.tell_job(job_id, JobStatus::JsFailed, &problem),
        }
        self.tell_load();
    }

    /// No more jobs are taken; those that are there go on.
    pub(super) fn drain(&mut self) {
        self.draining = true;
        self.tell_load();
    }

    /// It takes no more jobs, and has none.
    pub(super) fn is_drained(&self) -> bool {
        self.draining && self.jobs.is_empty()
    }

    /// The next message for the server.
    pub(super) fn outgoing(&mut self) -> Option<WorkerMessage> {
        self.outgoing.pop_front()
    }

    /// What is due at `now`.
    ///
    /// # Errors
    /// [`Dead`].
    pub(super) fn tick(&mut self, now: Instant) -> Result<(), Dead> {
        if !self.registered && now >= self.began + REGISTER_TIME {
            return Err(Dead::NotRegistered);
        }
        if now >= self.heard + SILENCE {
            return Err(Dead::Silent);
        }
        let jobs = self.jobs.len();
        self.jobs.retain(|_, place| !matches!(place, Place::Promised { until } if *until <= now));
        if self.jobs.len() < jobs {
            self.tell_load();
        }
        if self.registered && now >= self.pinged + PING_EVERY {
            self.pinged = now;
            self.push(ToServer::Ping(WorkerPing { timestamp: chrono::Utc::now().timestamp_millis() }));
        }
        Ok(())
    }

    /// When [`Self::tick`] is due next.
    pub(super) fn next_wake(&self) -> Instant {
        let promised = self.jobs.values().filter_map(|place| match place {
            Place::Promised { until } => Some(*until),
            Place::Running => None,
        });
        let health = if self.registered { self.pinged + PING_EVERY } else { self.began + REGISTER_TIME };
        promised.fold(health.min(self.heard + SILENCE), Instant::min)
    }

    fn tell_job(&mut self, job_id: &str, status: JobStatus, error: &str) {
        let update = UpdateJobStatus { job_id: job_id.to_owned(), status: status.into(), error: error.to_owned() };
        self.push(ToServer::UpdateJob(update));
    }

    fn tell_load(&mut self) {
        if !self.registered {
            return;
        }
        let full = self.draining || self.jobs.len() >= self.max_jobs;
        let status = if full { WorkerStatus::WsFull } else { WorkerStatus::WsAvailable };
        let load = if full { 1.0 } else { TARGET_LOAD * self.jobs.len() as f32 / self.max_jobs as f32 };
        self.push(ToServer::UpdateWorker(UpdateWorkerStatus {
            status: Some(status.into()),
            load,
            job_count: self.jobs.len().try_into().unwrap_or(u32::MAX),
            draining: self.draining,
            ..UpdateWorkerStatus::default()
        }));
    }

    fn push(&mut self, message: ToServer) {
        self.outgoing.push_back(WorkerMessage { message: Some(message) });
    }
}
