//! `trunkline call --calls N --at-once M`: many calls, some of them at the same time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::outcome::{report_call, unmeasured};
use super::super::progress::Progress;
use super::super::settings::{Ready, seconds};
use super::{Caller, Keep, call_ids};
use crate::call::{CallEnd, EndReason, Event, LoggedEvent, Observer};
use crate::conversation::FinishedCall;
use crate::error::Failure;
use crate::host::HostWatch;
use crate::report::{LoadRun, RunReport, Slips, Thresholds, Verdict};

/// Calls at once where nothing else is said.
const AT_ONCE: usize = 10;

/// The flags of a load.
#[derive(Debug, clap::Args)]
pub(super) struct LoadArgs {
    /// Places so many calls, the suite's scenarios in turn, and adds their times up; each is tried once [default: the suite's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    calls: Option<u32>,
    /// Keeps so many calls open at once, and adds their times up [default with --calls: 10]
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(1..))]
    at_once: Option<u32>,
    /// The callers start evenly over so many seconds [default: all of them together]
    #[arg(long, value_name = "S")]
    ramp: Option<f64>,
}

/// How many calls, how many of them at once, and how they begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    calls: usize,
    at_once: usize,
    ramp: Duration,
}

impl LoadArgs {
    /// The load that is asked for, with a suite of `scenarios` calls; none where one call comes after the other.
    pub(super) fn shape(&self, scenarios: usize) -> Result<Option<Shape>, Failure> {
        let ramp = self.ramp.map(|ramp| seconds("--ramp", ramp)).transpose()?.unwrap_or_default();
        if self.calls.is_none() && self.at_once.is_none() {
            return match self.ramp {
                Some(_) => Err(Failure::usage("--ramp is for many calls: give --calls, --at-once or both")),
                None => Ok(None),
            };
        }
        let calls = self.calls.map_or(scenarios, |calls| calls as usize);
        let at_once = self.at_once.map_or(AT_ONCE, |at_once| at_once as usize).min(calls);
        Ok(Some(Shape { calls, at_once, ramp }))
    }
}

/// How each call is reported.
#[derive(Debug, Clone)]
pub(super) struct Reporting {
    pub(super) out: PathBuf,
    pub(super) thresholds: Thresholds,
    pub(super) keep: Keep,
}

/// What the callers of a load share.
struct Board {
    calls: usize,
    next: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
    slips: Mutex<Slips>,
}

/// A call that is over, by its place in the order in which they were placed.
struct Over {
    number: usize,
    call: FinishedCall,
    at: Instant,
}

/// Places the calls, `ready` in turn. Those that are over are measured one at a time, so that measuring does not disturb those
/// that go on. An interruption ends what goes on; then fewer calls come back than were asked for.
pub(super) async fn place(
    shape: Shape,
    caller: Caller,
    ready: Vec<Ready>,
    reporting: &Reporting,
    progress: &Progress,
) -> (Vec<RunReport>, LoadRun) {
    allow_many_files();
    let (caller, ready) = (Arc::new(caller), Arc::new(ready));
    let board = Arc::new(Board::new(shape.calls));
    let (sender, mut over) = mpsc::unbounded_channel();
    let (mut watch, begun) = (HostWatch::start(), Instant::now());
    let mut callers = JoinSet::new();
    for number in 0..shape.at_once {
        let wait = shape.ramp.mul_f64(number as f64 / shape.at_once as f64);
        callers.spawn(place_in_turn(wait, Arc::clone(&caller), Arc::clone(&ready), Arc::clone(&board), sender.clone()));
    }
    drop(sender);
    let mut runs = BTreeMap::new();
    let mut ended = begun;
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    every_second.tick().await;
    loop {
        tokio::select! {
            _ = every_second.tick() => watch.look(),
            call = over.recv() => {
                let Some(Over { number, call, at }) = call else { break };
                ended = ended.max(at);
                let name = ready[number % ready.len()].scenario.name.clone();
                runs.insert(number, judge(call, name, reporting.clone()).await);
            }
        }
        progress.now(board.line(&runs));
    }
    watch.look();
    let mut host = watch.seen();
    host.slips = *board.slips();
    let run = LoadRun {
        asked: shape.calls,
        at_once: shape.at_once,
        at_once_reached: board.most_open.load(Ordering::Relaxed),
        ramp_s: shape.ramp.as_secs_f64(),
        wall_ms: (ended - begun).as_secs_f64() * 1000.0,
        host,
    };
    (runs.into_values().collect(), run)
}

/// One of the callers: one call after the other until all are placed or it is interrupted.
async fn place_in_turn(
    wait: Duration,
    caller: Arc<Caller>,
    ready: Arc<Vec<Ready>>,
    board: Arc<Board>,
    over: mpsc::UnboundedSender<Over>,
) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = caller.control.cancelled() => return,
    }
    while !caller.control.is_cancelled()
        && let Some(number) = board.take()
    {
        let began = Utc::now();
        let (placed, scripts, shared) = (Arc::clone(&caller), Arc::clone(&ready), Arc::clone(&board));
        let work = async move {
            let ready = &scripts[number % scripts.len()];
            shared.open(placed.call(ready, Board::observer(&shared))).await
        };
        let call = tokio::spawn(work).await.unwrap_or_else(|panic| {
            // A fault of ours, and of this call alone.
            board.open.fetch_sub(1, Ordering::Relaxed);
            let end = CallEnd { by: None, reason: EndReason::CallerFailed, detail: format!("the call broke down: {panic}") };
            FinishedCall::unrecorded(call_ids(&ready[number % ready.len()]), began, end, None)
        });
        // Whoever gathers them is there until the last caller has gone.
        drop(over.send(Over { number, call, at: Instant::now() }));
    }
}

/// Measures and judges a call off the threads on which calls keep their pace.
async fn judge(call: FinishedCall, scenario: String, reporting: Reporting) -> RunReport {
    let call = Arc::new(call);
    let (measured, name, how) = (Arc::clone(&call), scenario.clone(), reporting.clone());
    let work = tokio::task::spawn_blocking(move || {
        let mut run = report_call(&measured, &name, &how.out, how.thresholds);
        how.keep.apply(&mut run, &measured);
        run
    });
    work.await.unwrap_or_else(|panic| {
        let call = Arc::into_inner(call).expect("what measured it is gone");
        report_call(&unmeasured(call, &reporting.out, &panic), &scenario, &reporting.out, reporting.thresholds)
    })
}

impl Board {
    fn new(calls: usize) -> Self {
        let (next, open, most_open) = Default::default();
        Self { calls, next, open, most_open, slips: Mutex::default() }
    }

    /// The next call to be placed; none when all are.
    fn take(&self) -> Option<usize> {
        Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < self.calls)
    }

    /// Counts a call as open while it goes on.
    async fn open(&self, call: impl Future<Output = FinishedCall>) -> FinishedCall {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_open.fetch_max(open, Ordering::Relaxed);
        let finished = call.await;
        self.open.fetch_sub(1, Ordering::Relaxed);
        finished
    }

    /// Counts the slips of one call.
    fn observer(board: &Arc<Self>) -> Observer {
        let (board, mut calls) = (Arc::clone(board), 1);
        Box::new(move |event: &LoggedEvent| {
            if let Event::PacingSlipped { slipped_ms } = event.event {
                let mut slips = board.slips();
                slips.count += 1;
                slips.calls += std::mem::take(&mut calls);
                slips.worst_ms = Some(slips.worst_ms.unwrap_or_default().max(slipped_ms));
            }
        })
    }

    fn slips(&self) -> std::sync::MutexGuard<'_, Slips> {
        self.slips.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, runs: &BTreeMap<usize, RunReport>) -> String {
        let count = |verdict: Verdict| runs.values().filter(|run| run.verdict == verdict).count();
        let (passed, failed, void) = (count(Verdict::Passed), count(Verdict::Failed), count(Verdict::Void));
        let (over, open) = (runs.len(), self.open.load(Ordering::Relaxed));
        format!("{over} of {} calls over, {open} open: {passed} passed, {failed} failed, {void} void", self.calls)
    }
}

/// A call takes a socket and up to four files: lets the process open as many as it may.
fn allow_many_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::debug!("the limit of open files stays: {error}");
    }
}
