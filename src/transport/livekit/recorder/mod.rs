//! Recording rooms from within, unseen: each room has a folder as a call has (`call.json`), tied to its run by what its
//! agent was told when it was asked for.
//!
//! A room is one task. It is found by listing the server's rooms, and sooner by the server's [`Webhooks`].

mod room;
mod seats;
mod ties;
mod webhooks;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use self::room::{Plan, RoomRecording};
pub use self::webhooks::{Webhooks, WebhooksError};
use super::{JoinError as RoomJoinError, Server, ServerError};
use crate::call::{CallControl, CallEnd, CallIds};
use crate::conversation::new_call_id;
use crate::record::{CallInfo, RecordError};

/// Which rooms are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one of this name, as often as it is made.
    Room(String),
    /// All of them.
    All,
    /// Those in which an agent of this name was asked for.
    Agent(String),
}

/// What is to be recorded, and for how long.
#[derive(Debug, Clone)]
pub struct RoomRecorder {
    /// The server.
    pub server: Server,
    /// Which of its rooms.
    pub which: Which,
    /// Gets one folder a room.
    pub out: PathBuf,
    /// How often the rooms are listed.
    pub poll: Duration,
    /// So many rooms are recorded at once; others wait until one has ended.
    pub most_rooms: usize,
    /// The recorder ends after this time; none: it goes on.
    pub time: Option<Duration>,
    /// The recorder ends when no room was recorded for this time; none: it goes on.
    pub idle_time: Option<Duration>,
}

/// What happens to a recorder.
#[derive(Debug)]
pub enum Happening {
    /// A room is being recorded.
    Began {
        /// Its name.
        room: String,
        /// The server's id of it.
        sid: String,
        /// Its folder.
        folder: PathBuf,
    },
    /// A room is over, and its folder is whole.
    Over(Box<FinishedRoom>),
    /// A room cannot be recorded.
    Missed {
        /// Its name.
        room: String,
        /// Why not.
        problem: RoomProblem,
    },
    /// A room waits, for as many as may be are being recorded.
    Waits {
        /// Its name.
        room: String,
    },
    /// The rooms could not be listed this time.
    Unlisted(ServerError),
}

/// A room whose recording is over.
#[derive(Debug)]
pub struct FinishedRoom {
    /// Its name.
    pub name: String,
    /// The server's id of it.
    pub sid: String,
    /// Which call, run and scenario it was.
    pub ids: CallIds,
    /// When the recorder came into it.
    pub began: DateTime<Utc>,
    /// Its folder.
    pub folder: PathBuf,
    /// How it ended.
    pub end: CallEnd,
    /// For how long it was recorded.
    pub duration: Duration,
    /// What became of the recording.
    pub recording: Result<CallInfo, RecordError>,
}

/// A room that cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RoomProblem {
    /// The server's API.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Joining.
    #[error(transparent)]
    Join(#[from] RoomJoinError),
    /// The folder.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It ended before it was joined.
    #[error("the room ended before it was joined")]
    Gone,
    /// A fault of ours.
    #[error("the recording broke down: {0}")]
    Broken(JoinError),
}

impl RoomRecorder {
    /// Records until its time is over or `control` is cancelled; then every room's folder is finished. What happens is told as it
    /// does.
    ///
    /// # Errors
    /// [`ServerError`] when the rooms cannot be listed at the start, or the server does not take the key and the secret.
    pub async fn run(
        self,
        mut webhooks: Option<Webhooks>,
        control: CallControl,
        happenings: UnboundedSender<Happening>,
    ) -> Result<(), ServerError> {
        let begun = Instant::now();
        let mut work = Work::new(self, happenings);
        let mut poll = tokio::time::interval(work.settings.poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut first = true;
        let ended = loop {
            let until = work.deadline(begun);
            let rooms = tokio::select! {
                () = control.cancelled() => break Ok(()),
                () = sleep_until(until) => break Ok(()),
                Some(done) = work.tasks.join_next_with_id() => {
                    // One that waits can take its place.
                    poll.reset_immediately();
                    work.done(done);
                    continue;
                }
                _ = poll.tick() => work.settings.names(),
                room = hinted(webhooks.as_mut()) => match work.settings.wants(&room) {
                    true => vec![room],
                    false => continue,
                },
            };
            let looked = tokio::select! {
                () = control.cancelled() => break Ok(()),
                looked = work.look(rooms) => looked,
            };
            match looked {
                Ok(()) => first = false,
                Err(error) if first || matches!(error, ServerError::Unauthorized) => break Err(error),
                Err(error) => work.tell(Happening::Unlisted(error)),
            }
        };
        drop(webhooks);
        work.end().await;
        ended
    }

    /// Which names the rooms are listed by; none: all.
    fn names(&self) -> Vec<String> {
        match &self.which {
            Which::Room(name) => vec![name.clone()],
            Which::All | Which::Agent(_) => Vec::new(),
        }
    }

    fn wants(&self, room: &str) -> bool {
        !matches!(&self.which, Which::Room(name) if name != room)
    }
}

/// A recorder at work.
struct Work {
    settings: RoomRecorder,
    happenings: UnboundedSender<Happening>,
    /// Ends the rooms' recordings.
    stop: CallControl,
    tasks: JoinSet<Result<FinishedRoom, RoomProblem>>,
    /// The names of the rooms that are being recorded.
    active: HashMap<Id, String>,
    /// The server's ids of rooms that were recorded or tried: each is once.
    seen: HashSet<String>,
    /// Of those that wait.
    waiting: HashSet<String>,
    idle_since: Instant,
}

impl Work {
    fn new(settings: RoomRecorder, happenings: UnboundedSender<Happening>) -> Self {
        Self {
            settings,
            happenings,
            stop: CallControl::default(),
            tasks: JoinSet::new(),
            active: HashMap::new(),
            seen: HashSet::new(),
            waiting: HashSet::new(),
            idle_since: Instant::now(),
        }
    }

    /// When the recorder has had its time.
    fn deadline(&self, begun: Instant) -> Option<Instant> {
        let idle = self.settings.idle_time.filter(|_| self.tasks.is_empty()).map(|time| self.idle_since + time);
        self.settings.time.map(|time| begun + time).into_iter().chain(idle).min()
    }

    fn tell(&self, happening: Happening) {
        // Nobody may be left to hear it: then nobody misses it.
        drop(self.happenings.send(happening));
    }

    /// Lists rooms, of these names or all, and begins to record those that are wanted.
    async fn look(&mut self, names: Vec<String>) -> Result<(), ServerError> {
        let whole = names.is_empty();
        let rooms = self.settings.server.list_rooms(names).await?;
        if whole {
            // Rooms that are no more need not be remembered.
            let there: HashSet<_> = rooms.iter().map(|room| room.sid.as_str()).collect();
            self.seen.retain(|sid| there.contains(sid.as_str()));
            self.waiting.retain(|sid| there.contains(sid.as_str()));
        }
        for room in rooms {
            let busy = self.active.values().any(|name| *name == room.name);
            if busy || self.seen.contains(&room.sid) || !self.is_wanted(&room.name).await? {
                continue;
            }
            if self.tasks.len() >= self.settings.most_rooms {
                if self.waiting.insert(room.sid) {
                    self.tell(Happening::Waits { room: room.name });
                }
                continue;
            }
            self.waiting.remove(&room.sid);
            self.begin(room.name, room.sid);
        }
        Ok(())
    }

    async fn is_wanted(&self, room: &str) -> Result<bool, ServerError> {
        let Which::Agent(agent) = &self.settings.which else { return Ok(true) };
        match self.settings.server.dispatches(room).await {
            Ok(dispatches) => Ok(dispatches.iter().any(|dispatch| dispatch.agent_name == *agent)),
            // It has ended meanwhile.
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn begin(&mut self, name: String, sid: String) {
        self.seen.insert(sid.clone());
        let RoomRecorder { server, which, out, .. } = &self.settings;
        let agent = if let Which::Agent(agent) = which { Some(agent.clone()) } else { None };
        let ids = CallIds { call_id: new_call_id(), ..CallIds::default() };
        let folder = out.join(&ids.call_id);
        let plan = Plan { server: server.clone(), name: name.clone(), sid, agent, ids, folder };
        let (happenings, stop) = (self.happenings.clone(), self.stop.clone());
        let task = self.tasks.spawn(async move {
            let (room, sid, folder) = (plan.name.clone(), plan.sid.clone(), plan.folder.clone());
            let recording = RoomRecording::begin(plan).await?;
            drop(happenings.send(Happening::Began { room, sid, folder }));
            Ok(recording.carry_out(stop).await)
        });
        self.active.insert(task.id(), name);
    }

    fn done(&mut self, done: Result<(Id, Result<FinishedRoom, RoomProblem>), JoinError>) {
        let (id, outcome) = match done {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => (error.id(), Err(RoomProblem::Broken(error))),
        };
        let room = self.active.remove(&id).unwrap_or_default();
        self.idle_since = Instant::now();
        self.tell(match outcome {
            Ok(finished) => Happening::Over(Box::new(finished)),
            Err(problem) => Happening::Missed { room, problem },
        });
    }

    /// Ends what goes on, and waits until every folder is whole.
    async fn end(mut self) {
        self.stop.cancel();
        while let Some(done) = self.tasks.join_next_with_id().await {
            self.done(done);
        }
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

async fn hinted(webhooks: Option<&mut Webhooks>) -> String {
    match webhooks {
        Some(webhooks) => webhooks.room().await,
        None => std::future::pending().await,
    }
}
