//! The task of a call: polls both legs, keeps the clock, feeds the recording.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Alarm, Bridge, CallEnd, CallTime, EndReason, Event, Leg, LegCommand, LegEvent, LoggedEvent, Outlet, Party};
use super::{SampleIndex, Side};

/// Events of a leg that are taken before other calls get their turn.
const BUDGET: usize = 64;

/// What a call may not exceed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest duration; then the call ends with [`EndReason::MaxDuration`].
    pub max_duration: Duration,
}

impl Default for Limits {
    /// One hour.
    fn default() -> Self {
        Self { max_duration: Duration::from_secs(3600) }
    }
}

/// Ends calls from outside: every call that was given a clone of it.
#[derive(Debug, Clone)]
pub struct CallControl {
    cancelled: Arc<watch::Sender<bool>>,
}

impl Default for CallControl {
    fn default() -> Self {
        Self { cancelled: Arc::new(watch::Sender::new(false)) }
    }
}

impl CallControl {
    /// Asks the calls to end with [`EndReason::Cancelled`].
    pub fn cancel(&self) {
        self.cancelled.send_replace(true);
    }

    /// [`Self::cancel`] was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }

    /// Waits until [`Self::cancel`] was called.
    pub async fn cancelled(&self) {
        let mut cancelled = self.cancelled.subscribe();
        // The sender lives as long as this control.
        drop(cancelled.wait_for(|cancelled| *cancelled).await);
    }
}

/// Two legs that cannot be joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{via} cannot {ability}, which the other side needs")]
pub struct Unable {
    /// The leg that lacks the ability.
    pub via: String,
    /// What it lacks.
    pub ability: &'static str,
}

/// How a call went.
#[derive(Debug)]
pub struct CallOutcome {
    /// How it ended.
    pub end: CallEnd,
    /// How long it lasted.
    pub duration: Duration,
    /// From its start to the agent's first audio, be it silence; none without any.
    pub first_agent_audio: Option<Duration>,
}

/// Keeps what happens in a call. It never waits: writing is its own business.
pub trait Tape: Send {
    /// The call begins: sample 0 of both tracks is at this wall time.
    fn started(&mut self, wall: DateTime<Utc>);
    /// What was heard of `side` from `at` on, at the side's own rate.
    fn audio(&mut self, now: CallTime, side: Side, at: SampleIndex, samples: &[i16]);
    /// An event.
    fn event(&mut self, now: CallTime, event: &LoggedEvent);
    /// What ended the recording, once; none while all is well. The call goes on.
    fn take_error(&mut self) -> Option<String>;
}

/// Keeps nothing.
impl Tape for () {
    fn started(&mut self, _: DateTime<Utc>) {}
    fn audio(&mut self, _: CallTime, _: Side, _: SampleIndex, _: &[i16]) {}
    fn event(&mut self, _: CallTime, _: &LoggedEvent) {}
    fn take_error(&mut self) -> Option<String> {
        None
    }
}

/// Watches a call's events.
pub type Observer = Box<dyn FnMut(&LoggedEvent) + Send>;

/// A call, ready to run.
pub struct Call<T: Tape = ()> {
    bridge: Bridge,
    parties: Parties<T>,
    control: CallControl,
    limits: Limits,
}

/// The legs and whoever else hears of the call: the bridge's outlet.
struct Parties<T> {
    started: Instant,
    caller: Seat,
    agent: Seat,
    tape: T,
    observer: Option<Observer>,
    first_agent_audio: Option<Duration>,
}

struct Seat {
    leg: Box<dyn Leg>,
    gone: bool,
    /// It was told something that is to be sent.
    told: bool,
    /// It may have an event: it gave one when it was last polled, or something has woken the call since.
    ready: bool,
}

impl Call {
    /// Joins a caller and an agent.
    ///
    /// # Errors
    /// [`Unable`] when one needs what the other cannot do.
    pub fn new(caller: Box<dyn Leg>, agent: Box<dyn Leg>, limits: Limits) -> Result<Self, Unable> {
        for (needy, other) in [(&caller, &agent), (&agent, &caller)] {
            let (needs, has) = (needy.needs(), other.abilities());
            let chats = needy.abilities().text_only;
            let lacking = [
                ("take keypad digits", needs.dtmf && !has.dtmf),
                ("take text", (needs.text || chats) && !has.text),
                ("take function calls", needs.functions && !has.functions),
                ("take other data", needs.data && !has.data),
                ("give a transcript of what is said", needs.transcripts && !has.transcripts),
            ];
            if let Some((ability, _)) = lacking.into_iter().find(|(_, lacks)| *lacks) {
                return Err(Unable { via: other.via(), ability });
            }
        }
        let party = |leg: &dyn Leg| Party { rate: leg.rate(), abilities: leg.abilities() };
        let bridge = Bridge::new(party(&*caller), party(&*agent));
        let seat = |leg| Seat { leg, gone: false, told: false, ready: true };
        let started = Instant::now();
        let (caller, agent) = (seat(caller), seat(agent));
        let parties = Parties { started, caller, agent, tape: (), observer: None, first_agent_audio: None };
        Ok(Self { bridge, parties, control: CallControl::default(), limits })
    }

    /// Records the call on `tape`.
    #[must_use]
    pub fn record<T: Tape>(self, tape: T) -> Call<T> {
        let Self { bridge, parties: Parties { started, caller, agent, observer, first_agent_audio, .. }, control, limits } = self;
        let parties = Parties { started, caller, agent, tape, observer, first_agent_audio };
        Call { bridge, parties, control, limits }
    }
}

impl<T: Tape> Call<T> {
    /// Hears of every event of the call as it happens.
    #[must_use]
    pub fn observe(mut self, observer: Observer) -> Self {
        self.parties.observer = Some(observer);
        self
    }

    /// Lets the call be ended from outside by `control`.
    #[must_use]
    pub fn controlled_by(mut self, control: CallControl) -> Self {
        self.control = control;
        self
    }

    /// Carries the call out; gives the tape back, to be finished at the call's duration.
    pub async fn run(mut self) -> (CallOutcome, T) {
        self.parties.started = Instant::now();
        let wall = chrono::Utc::now();
        self.parties.tape.started(wall);
        self.parties.log(LoggedEvent { at_ms: 0.0, side: None, event: Event::Started { wall } });
        let mut alarm = Alarm::new();
        let control = self.control.clone();
        let cancelled = control.cancelled();
        let longest = tokio::time::sleep(self.limits.max_duration);
        let (bridge, parties) = (&mut self.bridge, &mut self.parties);
        let stopped = tokio::select! {
            biased;
            () = poll_fn(|cx| poll_call(bridge, parties, &mut alarm, cx)) => None,
            () = cancelled => Some((EndReason::Cancelled, "cancelled")),
            () = longest => Some((EndReason::MaxDuration, "the call reached its longest duration")),
        };
        if let Some((reason, detail)) = stopped {
            let end = CallEnd { by: None, reason, detail: detail.to_owned() };
            self.bridge.finish(self.parties.now(), end, &mut self.parties);
        }
        let ended_at = self.parties.now();
        let end = self.bridge.end().cloned().expect("every way out of the loop sets the end");
        let longest = self.parties.caller.leg.farewell().max(self.parties.agent.leg.farewell());
        let farewell = poll_fn(|cx| poll_farewell(&mut self.parties, cx));
        // A leg that does not close in time is dropped, which closes it rudely.
        let polite = tokio::time::timeout(longest, farewell).await.is_ok();
        for seat in [&self.parties.caller, &self.parties.agent].into_iter().filter(|seat| !seat.gone) {
            tracing::warn!(
                leg = seat.leg.via(),
                "the leg did not close within {} s: its last words may be lost",
                longest.as_secs()
            );
        }
        tracing::debug!(polite, reason = ?end.reason, "call over");
        let Parties { first_agent_audio, tape, .. } = self.parties;
        (CallOutcome { end, duration: ended_at.elapsed(), first_agent_audio }, tape)
    }
}

fn poll_call<T: Tape>(bridge: &mut Bridge, parties: &mut Parties<T>, alarm: &mut Alarm, cx: &mut Context<'_>) -> Poll<()> {
    for side in Side::BOTH {
        parties.seat(side).ready = true;
    }
    for _ in 0..BUDGET {
        for side in Side::BOTH {
            if parties.seat(side).ready
                && let Some(event) = parties.poll_leg(side, cx)
            {
                bridge.event(parties.now(), side, event, parties);
            }
        }
        bridge.tick(parties.now(), parties);
        if bridge.end().is_some() {
            return Poll::Ready(());
        }
        if !parties.send(cx) {
            let wake = bridge.next_wake().map(|at| parties.started + at.elapsed());
            if alarm.poll_at(wake, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Waits until both legs have closed. What they still say is not part of the call; what they still write to their log is, and
/// what they have counted.
fn poll_farewell<T: Tape>(parties: &mut Parties<T>, cx: &mut Context<'_>) -> Poll<()> {
    for side in Side::BOTH {
        while let Some(event) = parties.poll_leg(side, cx) {
            let event = match event {
                LegEvent::Log(line) => Event::Log { line },
                LegEvent::Line(counts) => Event::Line(counts),
                _ => continue,
            };
            let at_ms = parties.now().millis();
            parties.log(LoggedEvent { at_ms, side: Some(side), event });
        }
    }
    if parties.caller.gone && parties.agent.gone { Poll::Ready(()) } else { Poll::Pending }
}

impl<T: Tape> Parties<T> {
    fn now(&self) -> CallTime {
        CallTime::after(self.started.elapsed())
    }

    fn seat(&mut self, side: Side) -> &mut Seat {
        match side {
            Side::Caller => &mut self.caller,
            Side::Agent => &mut self.agent,
        }
    }

    fn poll_leg(&mut self, side: Side, cx: &mut Context<'_>) -> Option<LegEvent> {
        let seat = self.seat(side);
        if seat.gone {
            seat.ready = false;
            return None;
        }
        let polled = seat.leg.poll_event(cx);
        (seat.ready, seat.told) = (polled.is_ready(), false);
        let Poll::Ready(event) = polled else { return None };
        seat.gone = matches!(event, LegEvent::Hangup { .. });
        if side == Side::Agent && self.first_agent_audio.is_none() && matches!(event, LegEvent::Audio(_)) {
            self.first_agent_audio = Some(self.started.elapsed());
        }
        Some(event)
    }

    /// Says, once, that the recording has ended before the call.
    fn mind_tape(&mut self, now: CallTime) {
        if let Some(error) = self.tape.take_error() {
            tracing::error!("the recording has ended, the call goes on: {error}");
            self.log(LoggedEvent { at_ms: now.millis(), side: None, event: Event::RecordingEnded { error } });
        }
    }

    /// Lets the legs send what they were told. True: one of them has to be polled.
    fn send(&mut self, cx: &mut Context<'_>) -> bool {
        for seat in [&mut self.caller, &mut self.agent] {
            if std::mem::take(&mut seat.told) && !seat.ready && !seat.gone {
                seat.ready = !seat.leg.poll_send(cx);
            }
        }
        self.caller.ready || self.agent.ready
    }
}

impl<T: Tape> Outlet for Parties<T> {
    fn command(&mut self, to: Side, command: LegCommand<'_>) {
        let seat = self.seat(to);
        if !seat.gone {
            seat.leg.command(command);
            seat.told = true;
        }
    }

    fn record(&mut self, of: Side, at: SampleIndex, samples: &[i16]) {
        let now = self.now();
        self.tape.audio(now, of, at, samples);
        self.mind_tape(now);
    }

    fn log(&mut self, event: LoggedEvent) {
        let now = self.now();
        self.tape.event(now, &event);
        if let Some(observer) = &mut self.observer {
            observer(&event);
        }
        self.mind_tape(now);
    }
}
