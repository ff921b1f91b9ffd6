//! Carries the runs of a result out, as many at a time as its start allows.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::SandboxError;
use super::carrier::{CancelSwitch, CancelToken, Carrier, Progress, RunOrder, RunOutcome};
use super::judge::judge;
use super::metrics::MetricThresholds;
use super::project::Project;
use super::request::{PlannedRun, StartRequest};
use super::store::{Store, StoredResult, StoredRun};
use super::webhook::{Occasion, Webhook};
use crate::cekura::Status;
use crate::cekura::payload::redacted;

/// Requests with secrets that are kept for a rerun.
const REQUESTS_KEPT: usize = 100;
/// How long a carrier may take to end a call that was cancelled.
const CANCEL_TIME: Duration = Duration::from_secs(10);

/// The store, and the runs that are under way.
pub(super) struct Runner {
    pub(super) store: Store,
    pub(super) project: Project,
    pub(super) thresholds: MetricThresholds,
    pub(super) recordings: PathBuf,
    carrier: Arc<dyn Carrier>,
    webhook: Option<Webhook>,
    /// Calls at the same time, of all results together.
    calls: Arc<Semaphore>,
    under_way: Mutex<HashMap<u64, UnderWay>>,
    /// The newest requests with secrets, as they came: what the store keeps of them has none.
    requests: Mutex<BTreeMap<u64, Value>>,
    /// Bytes below the folder of the recordings, and the most that there may be.
    recorded: AtomicU64,
    most_recorded: u64,
}

/// A start's request.
pub(super) struct Request {
    pub(super) endpoint: String,
    pub(super) body: Value,
    /// Its secrets are still known, or it had none.
    pub(super) whole: bool,
}

struct UnderWay {
    cancel: CancelSwitch,
    task: AbortHandle,
}

/// What the runs of a result share.
struct Batch {
    result_id: u64,
    places: Semaphore,
    left: AtomicUsize,
    /// Held until the pre-run webhook has been answered, or given up.
    opened: Semaphore,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("under_way", &self.under_way().len()).finish_non_exhaustive()
    }
}

/// What a runner is made of.
pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) project: Project,
    pub(super) thresholds: MetricThresholds,
    pub(super) recordings: PathBuf,
    pub(super) carrier: Arc<dyn Carrier>,
    pub(super) webhook: Option<Webhook>,
    pub(super) most_calls: usize,
    pub(super) most_recorded: u64,
}

impl Runner {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { store, project, thresholds, recordings, carrier, webhook, most_calls, most_recorded } = parts;
        let calls = Arc::new(Semaphore::new(most_calls.max(1)));
        let (under_way, requests) = Default::default();
        let recorded = AtomicU64::new(folder_size(&recordings));
        Self { store, project, thresholds, recordings, carrier, webhook, calls, under_way, requests, recorded, most_recorded }
    }

    /// Keeps a start and begins its runs; `body` is the request as it came to `endpoint`.
    pub(super) fn start(
        self: &Arc<Self>,
        request: StartRequest,
        endpoint: &str,
        body: &Value,
    ) -> Result<StoredResult, SandboxError> {
        let kept = redacted(body);
        let result = self.store.add(&request, &json!({"endpoint": endpoint, "body": kept, "whole": kept == *body}))?;
        if kept != *body {
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            requests.insert(result.id, body.clone());
            if requests.len() > REQUESTS_KEPT {
                requests.pop_first();
            }
        }
        self.begin(&result, request.runs);
        Ok(result)
    }

    /// A result's request.
    pub(super) fn request(&self, result: u64) -> Result<Option<Request>, SandboxError> {
        let Some(mut kept) = self.store.request(result)? else { return Ok(None) };
        let whole = self.requests.lock().unwrap_or_else(PoisonError::into_inner).get(&result).cloned();
        let endpoint = kept["endpoint"].as_str().unwrap_or_default().to_owned();
        Ok(Some(match whole {
            Some(body) => Request { endpoint, body, whole: true },
            None => Request { endpoint, whole: kept["whole"] == true, body: kept["body"].take() },
        }))
    }

    /// That the recordings have no room left, in words. Whoever has made room is believed after a look.
    pub(super) async fn full(&self) -> Option<String> {
        if self.recorded.load(Ordering::Relaxed) >= self.most_recorded {
            let folder = self.recordings.clone();
            let size = tokio::task::spawn_blocking(move || folder_size(&folder)).await.unwrap_or(u64::MAX);
            self.recorded.store(size, Ordering::Relaxed);
        }
        let (recorded, most) = (self.recorded.load(Ordering::Relaxed), self.most_recorded);
        (recorded >= most)
            .then(|| format!("The recordings have {recorded} bytes, {most} are allowed: remove some from the sandbox's folder."))
    }

    /// So many bytes came to the recordings.
    pub(super) fn note_recorded(&self, bytes: u64) {
        self.recorded.fetch_add(bytes, Ordering::Relaxed);
    }

    fn begin(self: &Arc<Self>, result: &StoredResult, plans: Vec<PlannedRun>) {
        let limit = result.concurrency_limit.unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        let (places, left) = (Semaphore::new(limit), AtomicUsize::new(result.runs.len()));
        let opened = Semaphore::new(if self.webhook.is_some() { 0 } else { result.runs.len() });
        let batch = Arc::new(Batch { result_id: result.id, places, left, opened });
        // The lock is held until the run is listed: a run that ends at once finds itself there.
        let mut under_way = self.under_way();
        for (run, plan) in result.runs.iter().zip(plans) {
            let (cancel, token) = CancelToken::new();
            let work = Arc::clone(self).carry_out(run.clone(), plan, Arc::clone(&batch), token);
            let task = tokio::spawn(work).abort_handle();
            under_way.insert(run.id, UnderWay { cancel, task });
        }
        drop(under_way);
        if self.webhook.is_some() {
            let (runner, runs) = (Arc::clone(self), result.runs.len());
            tokio::spawn(async move {
                runner.tell(Occasion::BeforeRun, batch.result_id).await;
                batch.opened.add_permits(runs);
            });
        }
    }

    /// Whether the run's call goes on.
    pub(super) fn goes_on(&self, run: u64) -> bool {
        self.under_way().contains_key(&run)
    }

    /// Ends the calls of these runs.
    pub(super) fn cancel(&self, runs: impl IntoIterator<Item = u64>) {
        let under_way = self.under_way();
        for run in runs {
            if let Some(found) = under_way.get(&run) {
                found.cancel.cancel();
            }
        }
    }

    /// Drops all that is under way; the next to open the store finds those runs interrupted.
    pub(super) fn stop(&self) {
        for (_, run) in self.under_way().drain() {
            run.cancel.cancel();
            run.task.abort();
        }
    }

    async fn carry_out(self: Arc<Self>, run: StoredRun, plan: PlannedRun, batch: Arc<Batch>, cancel: CancelToken) {
        self.note(run.id, self.store.advance(run.id, &Status::InQueue));
        let place = async {
            let opened = batch.opened.acquire().await.ok()?;
            Some((opened, batch.places.acquire().await.ok()?, self.calls.acquire().await.ok()?))
        };
        let place = tokio::select! {
            place = place => place,
            () = cancel.cancelled() => None,
        };
        let outcome = match &place {
            None => RunOutcome::cancelled(),
            Some(_) if cancel.is_cancelled() => RunOutcome::cancelled(),
            Some(_) => match self.full().await {
                Some(full) => RunOutcome::failed(full),
                None => self.call(&run, plan, cancel).await,
            },
        };
        // The next call may begin; the webhook of this result takes its time.
        drop(place);
        if let Some(folder) = outcome.recording.clone() {
            let size = tokio::task::spawn_blocking(move || folder_size(&folder)).await.unwrap_or_default();
            self.note_recorded(size);
        }
        let judgement = judge(&outcome, &run, &self.thresholds);
        self.note(run.id, self.store.end(run.id, &outcome, &judgement));
        self.under_way().remove(&run.id);
        if batch.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.tell(Occasion::Completed, batch.result_id).await;
        }
    }

    /// The call is a task of its own: the store's notes do not hold it up, and a defect in it ends neither its result nor the
    /// sandbox.
    async fn call(&self, run: &StoredRun, plan: PlannedRun, cancel: CancelToken) -> RunOutcome {
        self.note(run.id, self.store.advance(run.id, &Status::InProgress));
        let (progress, mut stages) = Progress::new();
        let (carrier, order, token) = (Arc::clone(&self.carrier), self.order(run, plan, progress), cancel.clone());
        // Dropped with this, it ends with this.
        let mut task = JoinSet::new();
        task.spawn(async move { carrier.carry(order, token).await });
        let call = async move {
            let defect = || RunOutcome::failed("the sandbox failed in this run: its log tells more");
            task.join_next().await.and_then(Result::ok).unwrap_or_else(defect)
        };
        let mut call = std::pin::pin!(call);
        let mut recording = None;
        loop {
            tokio::select! {
                outcome = &mut call => return outcome,
                Ok(()) = stages.changed() => {
                    let stage = stages.borrow_and_update().clone();
                    if let Some(folder) = stage.recording.as_ref().filter(|_| stage.recording != recording) {
                        self.note(run.id, self.store.record(run.id, folder));
                        recording.clone_from(&stage.recording);
                    }
                    if stage.evaluating {
                        self.note(run.id, self.store.advance(run.id, &Status::Evaluating));
                        return call.await;
                    }
                }
                () = cancel.cancelled() => {
                    let ended = tokio::time::timeout(CANCEL_TIME, call).await;
                    return ended.unwrap_or_else(|_| RunOutcome::cancelled());
                }
            }
        }
    }

    fn order(&self, run: &StoredRun, plan: PlannedRun, progress: Progress) -> RunOrder {
        RunOrder {
            run_id: run.id,
            result_id: run.result_id,
            test_profile_id: plan.test_profile.as_ref().and_then(|profile| profile.id),
            scenario: plan.scenario,
            target: plan.target,
            agent_id: run.agent_id,
            personality_id: run.personality_id,
            recordings: self.recordings.clone(),
            progress,
        }
    }

    /// Tells the webhook, if there is one, and waits until it was told or could not be.
    async fn tell(&self, occasion: Occasion, result: u64) {
        let Some(webhook) = &self.webhook else { return };
        match self.store.result(result) {
            Ok(Some(result)) => webhook.tell(occasion, &result).await,
            Ok(None) => {}
            Err(error) => tracing::error!(result, "{error}"),
        }
    }

    fn note(&self, run: u64, stored: Result<(), SandboxError>) {
        if let Err(error) = stored {
            tracing::error!(run, "{error}");
        }
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<u64, UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of all files below a folder.
fn folder_size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => folder_size(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}
