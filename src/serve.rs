//! Opens the doors and connects each call that comes in to the agent under test, recorded.

use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use crate::call::{CallControl, CallEnd, CallIds, EndReason, Leg, LegCommand, LegEvent, Limits, LoggedEvent, Side};
use crate::conversation::{Conversation, FinishedCall, Recording, new_call_id, party_info, unreachable_agent};
use crate::transport::{Arrival, Arrivals, ConnectError, ConnectOptions, SetUp, WayOut, wait_for};

/// How long doors may take to tell of calls that were ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// Whom to connect the calls to, and where to record them.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The agent under test.
    pub agent: WayOut,
    /// How to reach it.
    pub connect: ConnectOptions,
    /// The folder that gets one folder a call; none: not recorded.
    pub out: Option<PathBuf>,
    /// What a call may not exceed.
    pub limits: Limits,
}

/// What happens at the doors.
#[derive(Debug)]
pub enum Happening {
    /// A call came in.
    Began(CallIds),
    /// Something happened in it.
    Event(CallIds, LoggedEvent),
    /// It is over.
    Over(Box<FinishedCall>),
}

/// Takes the calls that come in through `doors` until `stop` is done. Those that go on come to their own end, or are ended when
/// `cut` is done.
pub async fn serve(
    mut doors: Vec<Arrivals>,
    desk: Desk,
    happenings: mpsc::UnboundedSender<Happening>,
    stop: impl Future<Output = ()>,
    cut: impl Future<Output = ()>,
) {
    let desk = Arc::new(desk);
    let control = CallControl::default();
    let mut calls = JoinSet::new();
    let (mut stop, mut cut) = (std::pin::pin!(stop), std::pin::pin!(cut));
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(arrival) = next(&mut doors) => {
                calls.spawn(take(arrival, Arc::clone(&desk), happenings.clone(), control.clone()));
            }
            Some(done) = calls.join_next() => mind(done),
        }
    }
    // Some doors have promised calls that are still on their way.
    doors.retain_mut(Arrivals::close);
    while !(doors.is_empty() && calls.is_empty()) {
        tokio::select! {
            () = &mut cut => break,
            arrival = next(&mut doors), if !doors.is_empty() => match arrival {
                Some(arrival) => drop(calls.spawn(take(arrival, Arc::clone(&desk), happenings.clone(), control.clone()))),
                None => doors.clear(),
            },
            Some(done) = calls.join_next() => mind(done),
        }
    }
    control.cancel();
    while let Some(done) = calls.join_next().await {
        mind(done);
    }
    let told = async { while next(&mut doors).await.is_some() {} };
    // A call that is on its way all the same is not waited for.
    drop(tokio::time::timeout(FAREWELL, told).await);
}

/// A call that broke down is a fault of ours: it is told of, and touches no other.
fn mind(done: Result<(), JoinError>) {
    if let Err(error) = done {
        tracing::error!("a call broke down: {error}");
    }
}

/// The next call at any of the doors; none when no call will come any more.
async fn next(doors: &mut [Arrivals]) -> Option<Arrival> {
    std::future::poll_fn(|cx| {
        let mut open = false;
        for door in doors.iter_mut() {
            match door.poll_next(cx) {
                Poll::Ready(Some(arrival)) => return Poll::Ready(Some(arrival)),
                Poll::Ready(None) => {}
                Poll::Pending => open = true,
            }
        }
        if open { Poll::Pending } else { Poll::Ready(None) }
    })
    .await
}

/// Carries out one call from the door.
async fn take(arrival: Arrival, desk: Arc<Desk>, happenings: mpsc::UnboundedSender<Happening>, control: CallControl) {
    let Arrival { mut leg, run_id, result_id, scenario_id, peer, agent_speaks_first, metadata } = arrival;
    let ids = CallIds { call_id: new_call_id(), run_id, result_id, scenario_id, scenario: None };
    tracing::info!(call = ids.call_id, %peer, "a call comes in");
    let began = Utc::now();
    // Nobody may be left to hear what happens: then nobody misses it.
    drop(happenings.send(Happening::Began(ids.clone())));
    let caller = party_info(&*leg);
    let mut set_up = SetUp::default();
    let ready = wait_for(&mut *leg, async {
        let mut connect = desk.connect.clone();
        connect.agent_speaks_first = agent_speaks_first.unwrap_or(connect.agent_speaks_first);
        connect.metadata = metadata;
        let agent = desk.agent.connect(&connect, &ids, &mut set_up).await?;
        let recording = Recording::begin(desk.out.as_deref(), &ids, caller, party_info(&*agent), &set_up).await;
        Ok::<_, ConnectError>((agent, recording))
    });
    let ready = tokio::select! {
        ready = ready => Some(ready),
        () = control.cancelled() => None,
    };
    let finished = match ready {
        None => {
            leg.command(LegCommand::Hangup(EndReason::Cancelled));
            close(&mut *leg).await;
            FinishedCall::cancelled(ids.clone(), began)
        }
        Some(Ok(Ok((agent, recording)))) => {
            let (sender, told) = (happenings.clone(), ids.clone());
            let observe = move |event: &LoggedEvent| drop(sender.send(Happening::Event(told.clone(), event.clone())));
            let conversation = Conversation { caller: leg, agent, ids: ids.clone(), began, recording, set_up };
            conversation.carry_out(desk.limits, control, Box::new(observe)).await
        }
        Some(Ok(Err(error))) => {
            leg.fail("the agent cannot be reached");
            close(&mut *leg).await;
            unreachable_agent(ids.clone(), began, &error, &set_up)
        }
        Some(Err((reason, detail))) => {
            const LEFT: &str = "the caller left before the agent answered";
            // Nothing was tested: to leave so early is no ordinary end.
            let reason = if reason == EndReason::HungUp { EndReason::ConnectionLost } else { reason };
            let detail = if detail.is_empty() { LEFT.to_owned() } else { format!("{LEFT}: {detail}") };
            let end = CallEnd { by: Some(Side::Caller), reason, detail };
            FinishedCall::unrecorded(ids.clone(), began, end, None)
        }
    };
    drop(happenings.send(Happening::Over(Box::new(finished))));
}

async fn close(leg: &mut dyn Leg) {
    let farewell = leg.farewell();
    let closed = std::future::poll_fn(|cx| {
        loop {
            match leg.poll_event(cx) {
                std::task::Poll::Ready(LegEvent::Hangup { .. }) => return std::task::Poll::Ready(()),
                std::task::Poll::Ready(_) => {}
                std::task::Poll::Pending => return std::task::Poll::Pending,
            }
        }
    });
    // A leg closes within its own time; this is for one that does not.
    if tokio::time::timeout(farewell, closed).await.is_err() {
        tracing::warn!(leg = leg.via(), "the leg did not close within {} s", farewell.as_secs());
    }
}
