//! The calls that reached the agent while a result went on: at our own door, or at that of a `serve` that runs beside.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::super::doors::{chat_door, chirp_door, closed_door, fits};
use super::super::progress::Progress;
use super::super::settings::shown;
use crate::call::{CallEnd, CallIds, CallOutcome, EndReason};
use crate::cekura::{Client, Mode};
use crate::config::Config;
use crate::conversation::FinishedCall;
use crate::error::Failure;
use crate::record::{CALL_JSON, CallInfo, RecordError};
use crate::serve::{Desk, Happening, serve};
use crate::transport::chat::{ChatDoor, REST_FAREWELL, chats_of};
use crate::transport::chirp::ChirpDoor;
use crate::transport::web_socket::{Door, DoorError};
use crate::transport::{Arrivals, WayOut};

/// How long calls may take to end after the API says that all runs have.
/// Longer than any leg takes to say farewell.
const LAST_CALLS: Duration = Duration::from_secs(REST_FAREWELL.as_secs() + 10);
/// Between two looks at our own calls, and at another process's folders.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOOK_BESIDE_EVERY: Duration = Duration::from_millis(500);

/// How the calls of a mode come in.
pub(in super::super) enum WayIn {
    /// Through a CHIRP door.
    Chirp(ChirpDoor),
    /// Through a chat door.
    Chat(ChatDoor),
    /// They are fetched from the API.
    Polled,
}

impl WayIn {
    /// That of `mode`; none where its calls do not come through here.
    pub(super) fn of(mode: Mode, config: &Config) -> Result<Option<Self>, Failure> {
        Ok(match mode {
            Mode::Chirp => Some(Self::Chirp(chirp_door(config)?)),
            Mode::Text | Mode::Websocket => Some(Self::Chat(chat_door(config)?)),
            Mode::ApiChat => Some(Self::Polled),
            _ => None,
        })
    }

    /// Refuses an agent that cannot take these calls.
    pub(super) fn check(&self, agent: &WayOut) -> Result<(), Failure> {
        match self {
            Self::Chirp(_) => fits("a CHIRP door", false, agent),
            Self::Chat(_) => fits("a chat door", true, agent),
            Self::Polled => fits("REST chats", true, agent),
        }
    }

    /// The door's address is the configuration's, not the default.
    pub(super) fn is_set(&self, config: &Config) -> bool {
        match self {
            Self::Chirp(_) => config.doors.chirp.listen.is_some(),
            Self::Chat(_) => config.doors.chat.listen.is_some(),
            Self::Polled => false,
        }
    }

    /// Where the door listens; none where there is none.
    pub(super) fn listen(&mut self) -> Option<&mut SocketAddr> {
        match self {
            Self::Chirp(door) => Some(&mut door.listen),
            Self::Chat(door) => Some(&mut door.listen),
            Self::Polled => None,
        }
    }

    /// The scheme of the door's address.
    pub(super) fn scheme(&self) -> &'static str {
        let encrypted = match self {
            Self::Chirp(door) => door.tls.is_some(),
            Self::Chat(door) => door.tls.is_some(),
            Self::Polled => false,
        };
        if encrypted { "wss" } else { "ws" }
    }
}

/// Where the calls come in.
pub(super) enum Calls {
    /// Our own door, or the API that we poll.
    Here(Open),
    /// Another process has the door's address: a `serve`. Its recordings are looked for in the output folder.
    Beside(SocketAddr),
}

/// What is open in front of the agent.
pub(super) struct Open {
    /// The door's.
    address: Option<SocketAddr>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    seen: Arc<Mutex<Seen>>,
    watching: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    under_way: usize,
    over: Vec<FinishedCall>,
}

impl Calls {
    /// Opens the door, unless a `serve` has. None where there is no door to open.
    pub(super) async fn open(way_in: &WayIn, desk: &Desk, out: &Path, progress: &Progress) -> Result<Option<Self>, Failure> {
        let (listen, opened) = match way_in {
            WayIn::Chirp(door) => (door.listen, Door::open(door.clone()).await),
            WayIn::Chat(door) => (door.listen, Door::open(door.clone()).await),
            WayIn::Polled => return Ok(None),
        };
        let door = match opened {
            Ok(door) => door,
            Err(DoorError::Listen { source, .. }) if source.kind() == std::io::ErrorKind::AddrInUse => {
                let line = "is open already: a serve runs and takes the calls; its recordings are looked for in";
                progress.line(&format!("the door at {listen} {line} {}", out.display()));
                return Ok(Some(Self::Beside(listen)));
            }
            Err(error) => return Err(closed_door(error)),
        };
        progress.line(&format!("door {} {} in front of {}", door.wire(), door.address(), desk.agent));
        Ok(Some(Self::take(Some(door.address()), door.into(), desk.clone(), progress)))
    }

    /// Fetches the chats of a result's runs from the API.
    pub(super) fn poll(client: &Client, result_id: u64, desk: &Desk, progress: &Progress) -> Self {
        progress.line(&format!("the chats of result {result_id} are fetched for {}", desk.agent));
        Self::take(None, chats_of(client.clone(), result_id), desk.clone(), progress)
    }

    fn take(address: Option<SocketAddr>, arrivals: Arrivals, desk: Desk, progress: &Progress) -> Self {
        let (sender, happenings) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async {
            // Either way the door is to close.
            drop(stopped.await);
        };
        let serving = tokio::spawn(serve(vec![arrivals], desk, sender, until, std::future::ready(())));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let watching = tokio::spawn(watch(happenings, Arc::clone(&seen), progress.clone()));
        Self::Here(Open { address, stop, serving, seen, watching })
    }

    /// The door's address; none where there is no door.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Here(open) => open.address,
            Self::Beside(address) => Some(*address),
        }
    }

    /// Waits for the calls that still go on, closes the door and gives all calls since `since`.
    pub(super) async fn close(self, out: &Path, since: DateTime<Utc>) -> Vec<FinishedCall> {
        match self {
            Self::Beside(_) => {
                let over = |calls: &[FinishedCall]| calls.iter().all(|call| matches!(call.recording, Some(Ok(_))));
                let until = tokio::time::Instant::now() + LAST_CALLS;
                loop {
                    let calls = look_beside(out, since).await;
                    if over(&calls) || tokio::time::Instant::now() >= until {
                        return calls;
                    }
                    tokio::time::sleep(LOOK_BESIDE_EVERY).await;
                }
            }
            Self::Here(door) => {
                let until = tokio::time::Instant::now() + LAST_CALLS;
                while lock(&door.seen).under_way > 0 && tokio::time::Instant::now() < until {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                // The receiver is there as long as the door serves.
                let _ = door.stop.send(());
                drop(door.serving.await);
                drop(door.watching.await);
                std::mem::take(&mut lock(&door.seen).over)
            }
        }
    }
}

/// [`recorded_since`], off the runtime's threads.
pub(super) async fn look_beside(out: &Path, since: DateTime<Utc>) -> Vec<FinishedCall> {
    let out = out.to_owned();
    let looked = tokio::task::spawn_blocking(move || recorded_since(&out, since)).await;
    looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

async fn watch(mut happenings: mpsc::UnboundedReceiver<Happening>, seen: Arc<Mutex<Seen>>, progress: Progress) {
    while let Some(happening) = happenings.recv().await {
        match happening {
            Happening::Began(ids) => {
                lock(&seen).under_way += 1;
                let run = ids.run_id.map_or_else(String::new, |run| format!(" of run {run}"));
                progress.line(&format!("call {}{run} began", ids.call_id));
            }
            Happening::Event(ids, event) => {
                if let Some(line) = shown(&event) {
                    progress.now(format!("{}: {line}", ids.run_id.unwrap_or(ids.call_id)));
                }
            }
            Happening::Over(call) => {
                progress.line(&format!("call {} is over after {:.1} s", call.ids.call_id, call.outcome.duration.as_secs_f64()));
                let mut seen = lock(&seen);
                seen.under_way -= 1;
                seen.over.push(*call);
            }
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a `serve` beside us, or a sandbox, has recorded into the same folder since `since`.
fn recorded_since(out: &Path, since: DateTime<Utc>) -> Vec<FinishedCall> {
    let entries = std::fs::read_dir(out).into_iter().flatten().filter_map(Result::ok);
    let mut calls: Vec<_> = entries
        .filter_map(|entry| {
            let folder = entry.path();
            let info: CallInfo = serde_json::from_slice(&std::fs::read(folder.join(CALL_JSON)).ok()?).ok()?;
            (info.started_at >= since).then(|| from_folder(folder, info))
        })
        .collect();
    calls.sort_by_key(|call| call.began);
    calls
}

fn from_folder(folder: std::path::PathBuf, info: CallInfo) -> FinishedCall {
    const NO_END: &str = "the recording has no end";
    let unended = CallEnd { by: None, reason: EndReason::Cancelled, detail: NO_END.to_owned() };
    let duration = Duration::try_from_secs_f64(info.duration_ms.unwrap_or_default() / 1000.0).unwrap_or_default();
    let ids: CallIds = info.ids.clone();
    let end = info.end.clone().unwrap_or(unended);
    let (began, set_up) = (info.started_at, info.set_up.clone());
    let no_end = RecordError::Malformed { path: folder.join(CALL_JSON), problem: NO_END.to_owned() };
    // The end and the duration are written together, when all the files are there.
    let recording = if info.duration_ms.is_some() { Ok(info) } else { Err(no_end) };
    let outcome = CallOutcome { end, duration, first_agent_audio: None };
    FinishedCall { ids, began, folder: Some(folder), outcome, recording: Some(recording), unreachable: None, set_up }
}
