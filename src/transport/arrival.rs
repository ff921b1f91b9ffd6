//! Calls that come in, whatever door or API they come through.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::call::{EndReason, Leg, LegEvent};

/// Calls that may wait to be taken.
const MOST_WAITING: usize = 16;

/// Events that are kept of a caller whose call has not begun. Then it is not read any more: its connection holds the rest.
const MOST_KEPT: usize = 256;

/// A caller's leg, while its call has not begun.
pub trait CallerLeg: Leg {
    /// Something failed on our side: says so and closes.
    fn fail(&mut self, detail: &str);

    /// The call begins. What the far side said before is `kept`, to be given anew, but for `skipped` samples of its audio.
    fn resume(&mut self, kept: VecDeque<LegEvent>, skipped: u64);
}

/// Waits for `work` before the call of `leg` begins. The far side is heard meanwhile, but nobody listens: its audio is let go.
///
/// # Errors
/// Why the far side left, and in what words, when it does before `work` is done.
pub async fn wait_for<T>(leg: &mut dyn CallerLeg, work: impl Future<Output = T>) -> Result<T, (EndReason, String)> {
    let mut work = std::pin::pin!(work);
    let (mut kept, mut skipped) = (VecDeque::new(), 0);
    let waited = std::future::poll_fn(|cx| {
        // All audio that has come before the work is done is let go: none of it waits when the call begins.
        while kept.len() < MOST_KEPT
            && let Poll::Ready(event) = leg.poll_event(cx)
        {
            match event {
                LegEvent::Audio(samples) => skipped += samples.len() as u64,
                LegEvent::Hangup { reason, detail } => return Poll::Ready(Err((reason, detail))),
                other => kept.push_back(other),
            }
        }
        work.as_mut().poll(cx).map(Ok)
    });
    let waited = waited.await;
    leg.resume(kept, skipped);
    waited
}

/// A call that came in.
pub struct Arrival {
    /// The caller.
    pub leg: Box<dyn CallerLeg>,
    /// Where it came from.
    pub peer: String,
    /// The run, if the caller told it.
    pub run_id: Option<String>,
    /// The result, likewise.
    pub result_id: Option<String>,
    /// The scenario, likewise.
    pub scenario_id: Option<String>,
    /// The agent is to say the first word; none: not known.
    pub agent_speaks_first: Option<bool>,
    /// What else the caller's side says of the call, as it came: a LiveKit job's metadata, which is mostly JSON.
    pub metadata: Option<String>,
}

/// Where calls come from. Dropping it ends the task that waits for them; calls that came in go on.
pub struct Arrivals {
    arrivals: mpsc::Receiver<Arrival>,
    waiting: JoinHandle<()>,
    /// Tells the task to take no more calls; none: it is ended instead.
    drain: Option<oneshot::Sender<()>>,
}

impl Arrivals {
    /// Calls that the task of `wait` sends.
    pub(super) fn from_task<F>(wait: impl FnOnce(mpsc::Sender<Arrival>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, arrivals) = mpsc::channel(MOST_WAITING);
        Self { arrivals, waiting: tokio::spawn(wait(sender)), drain: None }
    }

    /// As [`Self::from_task`], where calls that are promised, or go on, need the task: once it is told to drain it takes no new
    /// ones, and ends after the last of its calls.
    pub(super) fn from_draining_task<F>(wait: impl FnOnce(mpsc::Sender<Arrival>, oneshot::Receiver<()>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, arrivals) = mpsc::channel(MOST_WAITING);
        let (drain, drained) = oneshot::channel();
        Self { arrivals, waiting: tokio::spawn(wait(sender, drained)), drain: Some(drain) }
    }

    /// Takes no more calls. True: it is to be kept, and [`Self::poll_next`] asked, until no call comes any more; false: it can be
    /// dropped.
    pub fn close(&mut self) -> bool {
        let Some(drain) = self.drain.take() else { return false };
        // A task that is over needs not be told.
        let _ = drain.send(());
        true
    }

    /// The next call. Dropping the wait loses none.
    pub async fn next(&mut self) -> Arrival {
        match std::future::poll_fn(|cx| self.poll_next(cx)).await {
            Some(arrival) => arrival,
            // No call will come any more, and none has.
            None => std::future::pending().await,
        }
    }

    /// As [`Self::next`], where calls come from several places. None: no call will come any more.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arrival>> {
        self.arrivals.poll_recv(cx)
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.waiting.abort();
    }
}
