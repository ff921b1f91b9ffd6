//! `run livekit_v2 --record`: the rooms of the runs, recorded from within beside whoever calls.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::progress::Progress;
use crate::call::{CallControl, CallOutcome};
use crate::conversation::FinishedCall;
use crate::error::Failure;
use crate::transport::SetUpTimes;
use crate::transport::livekit::recorder::{FinishedRoom, Happening, RoomRecorder, Which};
use crate::transport::livekit::{Server, ServerError};

/// How long rooms may go on after the API says that all runs have ended: the server closes an empty room after 20 s.
const LAST_ROOMS: Duration = Duration::from_secs(30);
/// How often the rooms are listed: a run's first words come some seconds after its room is there.
const POLL: Duration = Duration::from_millis(500);
/// Rooms at once.
const MOST_ROOMS: usize = 100;

/// The recorder for a run with this body: of the agent that it names, else of all rooms.
pub(in super::super) fn recorder(server: Server, body: &Value, out: &Path) -> RoomRecorder {
    let agent = body["livekit_data"]["agent_name"].as_str().filter(|name| !name.is_empty());
    let which = agent.map_or(Which::All, |name| Which::Agent(name.to_owned()));
    RoomRecorder { server, which, out: out.to_owned(), poll: POLL, most_rooms: MOST_ROOMS, time: None, idle_time: None }
}

/// Rooms that are being recorded.
pub(super) struct Rooms {
    control: CallControl,
    recording: JoinHandle<Result<(), ServerError>>,
    happenings: mpsc::UnboundedReceiver<Happening>,
    progress: Progress,
}

impl Rooms {
    pub(super) fn record(recorder: RoomRecorder, progress: &Progress) -> Self {
        let (sender, happenings) = mpsc::unbounded_channel();
        let control = CallControl::default();
        let recording = tokio::spawn(recorder.run(None, control.clone(), sender));
        Self { control, recording, happenings, progress: progress.clone() }
    }

    /// Waits for the rooms that still go on, and gives all that were recorded as calls.
    ///
    /// # Errors
    /// The server does not let us record.
    pub(super) async fn close(mut self) -> Result<Vec<FinishedCall>, Failure> {
        let mut calls = Vec::new();
        let mut under_way = 0_usize;
        let patience = tokio::time::sleep(LAST_ROOMS);
        tokio::pin!(patience);
        // What has happened so far is known at once; then the rest is waited for.
        loop {
            let happening = match self.happenings.try_recv() {
                Ok(happening) => Some(happening),
                Err(_) if under_way == 0 => None,
                Err(_) => tokio::select! {
                    happening = self.happenings.recv() => happening,
                    () = &mut patience => None,
                },
            };
            let Some(happening) = happening else { break };
            note(happening, &mut under_way, &mut calls, &self.progress);
        }
        self.control.cancel();
        let ended = self.recording.await.map_err(|error| Failure::infrastructure(format!("the recorder broke down: {error}")))?;
        ended.map_err(Failure::infrastructure)?;
        while let Ok(happening) = self.happenings.try_recv() {
            note(happening, &mut under_way, &mut calls, &self.progress);
        }
        Ok(calls)
    }
}

fn note(happening: Happening, under_way: &mut usize, calls: &mut Vec<FinishedCall>, progress: &Progress) {
    match happening {
        Happening::Began { room, folder, .. } => {
            *under_way += 1;
            progress.line(&format!("room {room} is recorded into {}", folder.display()));
        }
        Happening::Over(room) => {
            *under_way = under_way.saturating_sub(1);
            progress.line(&format!("room {} is over after {:.1} s", room.name, room.duration.as_secs_f64()));
            calls.push(as_call(*room));
        }
        Happening::Missed { room, problem } => progress.line(&format!("room {room} is not recorded: {problem}")),
        Happening::Waits { room } => progress.line(&format!("room {room} waits: {MOST_ROOMS} are being recorded")),
        Happening::Unlisted(error) => progress.line(&format!("the rooms could not be listed: {error}")),
    }
}

fn as_call(room: FinishedRoom) -> FinishedCall {
    FinishedCall {
        ids: room.ids,
        began: room.began,
        folder: Some(room.folder),
        outcome: CallOutcome { end: room.end, duration: room.duration, first_agent_audio: None },
        recording: Some(room.recording),
        unreachable: None,
        set_up: SetUpTimes::default(),
    }
}
