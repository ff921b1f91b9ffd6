//! Carries the runs of a result out, as many at a time as its start allows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::carrier::{CancelSwitch, CancelToken, Carrier, Progress, RunOrder, RunOutcome};
use super::store::{Store, StoredResult, StoredRun};
use super::{SandboxError, SandboxScenario};
use crate::cekura::Status;

/// Calls at the same time where a start sets no limit.
const MOST_CALLS: usize = 64;
/// How long a carrier may take to end a call that was cancelled.
const CANCEL_TIME: Duration = Duration::from_secs(10);

/// The store, and the runs that are under way.
pub(super) struct Runner {
    pub(super) store: Store,
    pub(super) scenarios: Vec<SandboxScenario>,
    carrier: Arc<dyn Carrier>,
    under_way: Mutex<HashMap<u64, UnderWay>>,
}

struct UnderWay {
    cancel: CancelSwitch,
    task: AbortHandle,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("under_way", &self.under_way().len()).finish_non_exhaustive()
    }
}

impl Runner {
    pub(super) fn new(store: Store, scenarios: Vec<SandboxScenario>, carrier: Arc<dyn Carrier>) -> Self {
        Self { store, scenarios, carrier, under_way: Mutex::default() }
    }

    /// Begins the runs of a new result.
    pub(super) fn begin(self: &Arc<Self>, result: &StoredResult) {
        let places = Arc::new(Semaphore::new(result.concurrency_limit.unwrap_or(MOST_CALLS).clamp(1, MOST_CALLS)));
        // The lock is held until the run is listed: a run that ends at once finds itself there.
        let mut under_way = self.under_way();
        for run in &result.runs {
            let (cancel, token) = CancelToken::new();
            let work = Arc::clone(self).carry_out(run.clone(), Arc::clone(&places), token);
            let task = tokio::spawn(work).abort_handle();
            under_way.insert(run.id, UnderWay { cancel, task });
        }
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

    async fn carry_out(self: Arc<Self>, run: StoredRun, places: Arc<Semaphore>, cancel: CancelToken) {
        self.note(run.id, self.store.advance(run.id, &Status::InQueue));
        let place = tokio::select! {
            place = places.acquire() => place.ok(),
            () = cancel.cancelled() => None,
        };
        let outcome = match place {
            None => RunOutcome::cancelled(),
            Some(_) if cancel.is_cancelled() => RunOutcome::cancelled(),
            Some(_) => self.call(&run, cancel).await,
        };
        self.note(run.id, self.store.end(run.id, &outcome));
        self.under_way().remove(&run.id);
    }

    async fn call(&self, run: &StoredRun, cancel: CancelToken) -> RunOutcome {
        self.note(run.id, self.store.advance(run.id, &Status::InProgress));
        let (progress, mut evaluating) = Progress::new();
        let call = self.carrier.carry(self.order(run, progress), cancel.clone());
        let mut call = std::pin::pin!(call);
        let told = async { evaluating.wait_for(|told| *told).await.is_ok() };
        tokio::select! {
            outcome = &mut call => return outcome,
            true = told => self.note(run.id, self.store.advance(run.id, &Status::Evaluating)),
            () = cancel.cancelled() => {
                let ended = tokio::time::timeout(CANCEL_TIME, call).await;
                return ended.unwrap_or_else(|_| RunOutcome::cancelled());
            }
        }
        call.await
    }

    fn order(&self, run: &StoredRun, progress: Progress) -> RunOrder {
        let scenario = self.scenarios.iter().find(|scenario| scenario.id == run.scenario_id);
        RunOrder {
            run_id: run.id,
            result_id: run.result_id,
            scenario_id: run.scenario_id,
            scenario_key: scenario.and_then(|scenario| scenario.key.clone()),
            scenario_name: run.scenario_name.clone(),
            websocket_url: run.websocket_url.clone(),
            agent_id: run.agent_id,
            personality_id: run.personality_id,
            test_profile: run.test_profile.clone(),
            max_duration: scenario.and_then(|scenario| scenario.max_duration),
            progress,
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
