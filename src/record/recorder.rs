//! Recording a call while it goes on. The call's task only gathers bytes; one thread of the process writes them.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::RecordError;
use super::finish::{finish_folder, write_call_json};
use super::layout::{CallInfo, EVENTS_JSONL, NamedTrack, TrackInfo};
use super::track::{LONGEST_PART, TrackWriter};
use crate::audio::{Rate, push_s16le};
use crate::call::{CallEnd, CallTime, LoggedEvent, SampleIndex, Side, Tape};
use crate::transport::SetUpTimes;

/// What is gathered before it is written. With [`ROUND`], a killed process loses less than 200 ms.
const BATCH: Duration = Duration::from_millis(120);
/// The writer rests this long after it has written all that waits: while it rests, nobody has to wake it.
const ROUND: Duration = Duration::from_millis(10);
/// What may wait for the disk before the recording is given up: some 15 minutes of a wide-band call.
const MOST_WAITING: usize = 64 << 20;

/// One of a recording's tracks: a side's, or one of [`Recorder::add_track`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TrackId(usize);

impl From<Side> for TrackId {
    fn from(side: Side) -> Self {
        match side {
            Side::Caller => Self(0),
            Side::Agent => Self(1),
        }
    }
}

/// Records one call into its folder.
#[derive(Debug)]
pub struct Recorder {
    folder: PathBuf,
    info: CallInfo,
    /// Of each track.
    rates: Vec<Rate>,
    shared: Arc<Shared>,
    batch: Batch,
    batch_since: Option<CallTime>,
    longest_part: u64,
    given_up: bool,
}

/// Audio and events on their way to the writer.
#[derive(Debug, Default)]
struct Batch {
    /// Tracks that begin: by name.
    tracks: Vec<(String, Rate)>,
    /// Runs of unbroken audio: of which track, from where, s16le.
    runs: Vec<(TrackId, SampleIndex, Vec<u8>)>,
    events: Vec<u8>,
    /// The `call.json` that takes the place of the one on disk.
    info: Option<Box<CallInfo>>,
}

/// What the call's task and the writer share. The task never takes the lock while the call goes on: a slow disk does not
/// slow the call.
#[derive(Debug)]
struct Shared {
    files: Mutex<Files>,
    /// Bytes on their way to the writer.
    waiting: AtomicUsize,
    /// The first error.
    error: OnceLock<RecordError>,
}

/// A call's open files.
#[derive(Debug)]
struct Files {
    folder: PathBuf,
    longest_part: u64,
    /// The caller's, the agent's, then those that were added; none in a chat.
    tracks: Vec<TrackWriter>,
    events: File,
    events_path: PathBuf,
}

enum Job {
    Write(Arc<Shared>, Batch),
    Done(oneshot::Sender<()>),
}

impl Recorder {
    /// Makes the call's folder and its files.
    ///
    /// # Errors
    /// [`RecordError::Create`] or [`RecordError::Write`] when the folder cannot be made or written.
    pub fn begin(folder: &Path, info: CallInfo) -> Result<Self, RecordError> {
        Self::begin_with_parts(folder, info, LONGEST_PART)
    }

    /// As [`Self::begin`]; a track goes on in a next part after `longest_part` bytes of audio.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_with_parts(folder: &Path, info: CallInfo, longest_part: u64) -> Result<Self, RecordError> {
        let create = |path: &Path, source| RecordError::Create { path: path.to_owned(), source };
        fs::create_dir_all(folder).map_err(|source| create(folder, source))?;
        write_call_json(folder, &info)?;
        let events_path = folder.join(EVENTS_JSONL);
        let track = |side: Side, info: &TrackInfo| TrackWriter::create(folder, side.name(), info.rate, 1, longest_part);
        let files = Files {
            folder: folder.to_owned(),
            longest_part,
            tracks: match info.tracks() {
                Some([caller, agent]) => vec![track(Side::Caller, caller)?, track(Side::Agent, agent)?],
                None => Vec::new(),
            },
            events: File::create(&events_path).map_err(|source| create(&events_path, source))?,
            events_path,
        };
        let rates = files.tracks.iter().map(TrackWriter::rate).collect();
        let shared = Shared { files: Mutex::new(files), waiting: AtomicUsize::new(0), error: OnceLock::new() };
        let (folder, shared, batch) = (folder.to_owned(), Arc::new(shared), Batch::default());
        Ok(Self { folder, info, rates, shared, batch, batch_since: None, longest_part, given_up: false })
    }

    /// The call's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How the agent was reached, as far as it is known; the finished `call.json` tells it.
    pub fn set_up(&mut self, times: SetUpTimes) {
        self.info.set_up = times;
    }

    /// Another track of a call with audio, from the same sample 0 on. Its files are called by `name`, which must be fit for it and
    /// none of the others'.
    pub fn add_track(&mut self, now: CallTime, name: &str, rate: Rate) -> TrackId {
        self.rates.push(rate);
        self.batch.tracks.push((name.to_owned(), rate));
        let track = TrackInfo { rate, samples: 0, parts: Vec::new() };
        self.info.more_tracks.push(NamedTrack { name: name.to_owned(), track });
        self.pass_on_when_due(now);
        TrackId(self.rates.len() - 1)
    }

    /// What was heard on a track from `at` on. Audio that overlaps what came before it is left out.
    pub fn track_audio(&mut self, now: CallTime, track: TrackId, at: SampleIndex, samples: &[i16]) {
        let unbroken = self.batch.runs.iter_mut().rev().find(|(of, ..)| *of == track);
        match unbroken.filter(|(_, from, run)| *from + run.len() as u64 / 2 == at) {
            Some((_, _, run)) => push_s16le(samples, run),
            None => {
                let mut run = Vec::with_capacity(self.batch_bytes(track) + samples.len() * 2);
                push_s16le(samples, &mut run);
                self.batch.runs.push((track, at, run));
            }
        }
        self.pass_on_when_due(now);
    }

    /// What is told of the call.
    #[must_use]
    pub const fn info(&self) -> &CallInfo {
        &self.info
    }

    /// Changes what is told of the call. `call.json` on disk has it soon: a process that is killed leaves it behind.
    pub fn tell(&mut self, now: CallTime, change: impl FnOnce(&mut CallInfo)) {
        change(&mut self.info);
        self.batch.info = Some(Box::new(self.info.clone()));
        self.pass_on_when_due(now);
    }

    /// Lets what waits be written when its time has come. For a call in which nothing may happen for a while.
    pub fn keep_up(&mut self, now: CallTime) {
        if self.batch_since.is_some() {
            self.pass_on_when_due(now);
        }
    }

    /// Ends the recording: both tracks to the call's last moment, the stereo file, the labels and the whole `call.json`.
    ///
    /// # Errors
    /// The first error that the recording met.
    pub async fn finish(mut self, now: CallTime, end: CallEnd) -> Result<CallInfo, RecordError> {
        self.pass_on();
        let (done, written) = oneshot::channel();
        let gone = writer().send(Job::Done(done)).is_err() || written.await.is_err();
        debug_assert!(!gone, "the writer lives as long as the process");
        let work = move || self.finish_files(now, end);
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    fn finish_files(self, now: CallTime, end: CallEnd) -> Result<CallInfo, RecordError> {
        let shared = Arc::into_inner(self.shared).expect("the writer has let go of every batch of this call");
        if let Some(error) = shared.error.into_inner() {
            return Err(error);
        }
        let mut files = shared.files.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut info = self.info;
        if let [caller, agent, more @ ..] = &mut files.tracks[..] {
            // What was let go in the call's last moment plays a little longer than the call: both tracks end with it.
            let end = |track: &TrackWriter| SampleIndex::new(track.samples()).at(track.rate());
            let last = now.max(end(caller)).max(end(agent));
            for track in [&mut *caller, &mut *agent] {
                track.pad_to(last.in_track(track.rate()))?;
                track.flush()?;
            }
            more.iter_mut().try_for_each(TrackWriter::flush)?;
            [info.caller, info.agent] = [caller, agent].map(|track| Some(track.info()));
            info.more_tracks.iter_mut().zip(more).for_each(|(named, track)| named.track = track.info());
        }
        info.end = Some(end);
        info.duration_ms = Some(now.millis());
        finish_folder(&self.folder, info, self.longest_part)
    }

    /// Room for the audio of one batch.
    fn batch_bytes(&self, track: TrackId) -> usize {
        self.rates.get(track.0).map_or(0, |rate| rate.samples_in(BATCH) as usize * 2)
    }

    fn pass_on_when_due(&mut self, now: CallTime) {
        let since = *self.batch_since.get_or_insert(now);
        if now.since(since) >= BATCH {
            self.pass_on();
        }
    }

    fn pass_on(&mut self) {
        self.batch_since = None;
        let batch = std::mem::take(&mut self.batch);
        if self.given_up {
            return;
        }
        let bytes = batch.bytes();
        let waiting = self.shared.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if waiting > MOST_WAITING {
            self.shared.error.get_or_init(|| RecordError::TooSlow { folder: self.folder.clone(), waiting });
            return;
        }
        let sent = writer().send(Job::Write(Arc::clone(&self.shared), batch));
        debug_assert!(sent.is_ok(), "the writer lives as long as the process");
    }
}

impl Tape for Recorder {
    fn started(&mut self, wall: DateTime<Utc>) {
        self.info.started_at = wall;
    }

    fn audio(&mut self, now: CallTime, side: Side, at: SampleIndex, samples: &[i16]) {
        self.track_audio(now, side.into(), at, samples);
    }

    fn event(&mut self, now: CallTime, event: &LoggedEvent) {
        serde_json::to_writer(&mut self.batch.events, event).expect("an event is plain data with string keys");
        self.batch.events.push(b'\n');
        if self.info.tracks().is_some() {
            self.pass_on_when_due(now);
        } else {
            // In a chat nothing may come for minutes: what is known must not wait for it.
            self.pass_on();
        }
    }

    fn take_error(&mut self) -> Option<String> {
        if self.given_up {
            return None;
        }
        let error = self.shared.error.get().map(ToString::to_string);
        self.given_up = error.is_some();
        error
    }
}

impl Batch {
    fn bytes(&self) -> usize {
        self.runs.iter().map(|(.., run)| run.len()).sum::<usize>() + self.events.len()
    }
}

impl Files {
    fn write(&mut self, batch: &Batch) -> Result<(), RecordError> {
        for (name, rate) in &batch.tracks {
            self.tracks.push(TrackWriter::create(&self.folder, name, *rate, 1, self.longest_part)?);
        }
        if let Some(info) = &batch.info {
            write_call_json(&self.folder, info)?;
        }
        for (track, at, bytes) in &batch.runs {
            if let Some(track) = self.tracks.get_mut(track.0) {
                track.put(*at, bytes)?;
            }
        }
        if !batch.events.is_empty() {
            let path = self.events_path.clone();
            self.events.write_all(&batch.events).map_err(|source| RecordError::Write { path, source })?;
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), RecordError> {
        self.tracks.iter_mut().try_for_each(TrackWriter::flush)
    }
}

/// The process's writer thread, started with the first recording.
fn writer() -> &'static Sender<Job> {
    static WRITER: OnceLock<Sender<Job>> = OnceLock::new();
    WRITER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel();
        let work = move || {
            while let Ok(job) = jobs.recv() {
                run(job);
                jobs.try_iter().for_each(run);
                std::thread::sleep(ROUND);
            }
        };
        std::thread::Builder::new().name("recordings".into()).spawn(work).expect("a process may start one thread");
        sender
    })
}

fn run(job: Job) {
    match job {
        Job::Write(shared, batch) => {
            let mut files = shared.files.lock().unwrap_or_else(PoisonError::into_inner);
            shared.waiting.fetch_sub(batch.bytes(), Ordering::Relaxed);
            if shared.error.get().is_none()
                && let Err(error) = files.write(&batch)
            {
                shared.error.get_or_init(|| error);
            }
        }
        // Whoever asked may have gone; then nobody waits for the answer.
        Job::Done(done) => drop(done.send(())),
    }
}
