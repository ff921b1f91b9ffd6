//! Whole calls on virtual time over a seeded line that delays, jitters and stalls, as TCP over a bad network does: nothing is
//! lost and nothing changes places, but everything comes late.

use crate::common::random;

use std::collections::VecDeque;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use random::Random;
use tokio::time::{Instant, Sleep};
use trunkline::agent::{AgentLines, ScriptedAgent};
use trunkline::audio::{Rate, read_wav, resample};
use trunkline::call::{Abilities, CallIds, EndReason, Event, Leg, LegCommand, LegEvent, Limits, LoggedEvent, Mark, Side};
use trunkline::caller::{Patience, Player, PreparedLine, PreparedStep, ScriptedCaller};
use trunkline::conversation::{Conversation, FinishedCall, Recording, party_info};

/// What a line does to each message.
#[derive(Clone, Copy)]
struct Line {
    delay_ms: u64,
    jitter_ms: u64,
    /// One message in so many waits for a retransmission; all behind it wait too.
    stall_one_in: u64,
    stall_ms: u64,
}

impl Line {
    fn delay(&self, random: &mut Random) -> Duration {
        let mut ms = self.delay_ms + random.below(self.jitter_ms + 1);
        if random.below(self.stall_one_in) == 0 {
            ms += self.stall_ms / 2 + random.below(self.stall_ms / 2);
        }
        Duration::from_millis(ms)
    }
}

enum Told {
    Audio(Vec<i16>),
    Clear,
    Started(Mark),
    Stopped(Mark),
}

/// A leg at the far end of a line.
struct Far<L> {
    leg: L,
    line: Line,
    random: Random,
    coming: VecDeque<(Instant, LegEvent)>,
    going: VecDeque<(Instant, Told)>,
    sleep: Pin<Box<Sleep>>,
}

impl<L> Far<L> {
    fn new(leg: L, line: Line, seed: u64) -> Self {
        let sleep = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { leg, line, random: Random(seed), coming: VecDeque::new(), going: VecDeque::new(), sleep }
    }

    /// When a message that leaves now arrives: never before the one ahead of it.
    fn arrival(&mut self, ahead: Option<Instant>) -> Instant {
        let at = Instant::now() + self.line.delay(&mut self.random);
        ahead.map_or(at, |ahead| ahead.max(at))
    }
}

impl<L: Leg> Leg for Far<L> {
    fn rate(&self) -> Rate {
        self.leg.rate()
    }

    fn abilities(&self) -> Abilities {
        self.leg.abilities()
    }

    fn via(&self) -> String {
        self.leg.via()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        loop {
            let now = Instant::now();
            while let Some((_, told)) = self.going.pop_front_if(|(at, _)| *at <= now) {
                match told {
                    Told::Audio(samples) => self.leg.command(LegCommand::Audio(&samples)),
                    Told::Clear => self.leg.command(LegCommand::Clear),
                    Told::Started(mark) => self.leg.command(LegCommand::SpeechStarted(&mark)),
                    Told::Stopped(mark) => self.leg.command(LegCommand::SpeechStopped(&mark)),
                }
            }
            while let Poll::Ready(event) = self.leg.poll_event(cx) {
                let over = matches!(event, LegEvent::Hangup { .. });
                let at = self.arrival(self.coming.back().map(|(at, _)| *at));
                self.coming.push_back((at, event));
                if over {
                    break;
                }
            }
            if let Some((_, event)) = self.coming.pop_front_if(|(at, _)| *at <= now) {
                return Poll::Ready(event);
            }
            let next = [self.coming.front().map(|(at, _)| *at), self.going.front().map(|(at, _)| *at)];
            let Some(next) = next.into_iter().flatten().min() else { return Poll::Pending };
            self.sleep.as_mut().reset(next);
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn command(&mut self, command: LegCommand<'_>) {
        let told = match command {
            LegCommand::Audio(samples) => Told::Audio(samples.to_vec()),
            LegCommand::Clear => Told::Clear,
            LegCommand::SpeechStarted(mark) => Told::Started(mark.clone()),
            LegCommand::SpeechStopped(mark) => Told::Stopped(mark.clone()),
            // The end is told past the line, so that the test's calls end.
            other => return self.leg.command(other),
        };
        let at = self.arrival(self.going.back().map(|(at, _)| *at));
        self.going.push_back((at, told));
    }
}

fn speech(name: &str, rate: Rate) -> Arc<[i16]> {
    let file = format!("{}/fixtures/speech/{name}.wav", env!("CARGO_MANIFEST_DIR"));
    let samples = read_wav(std::fs::File::open(file).unwrap(), Rate::HZ_16000).unwrap();
    resample(&samples, 16_000, rate).into()
}

const LINES: [&str; 3] = ["caller-which", "caller-tuesday", "caller-goodbye"];

fn caller() -> ScriptedCaller {
    let line = |(condition, name): (u32, &&str)| {
        let samples = speech(name, Rate::HZ_16000);
        let mut steps = vec![PreparedStep::Speech { samples, ignore_interruptions: true }];
        if condition == 3 {
            steps.push(PreparedStep::EndCall);
        }
        PreparedLine { condition, text: (*name).to_owned(), interrupt_after: None, steps }
    };
    let lines = (1..).zip(&LINES).map(line).collect();
    ScriptedCaller::new(Player::new(lines, false, Rate::HZ_16000, Patience::default()), Rate::HZ_16000, "test")
}

fn agent(rate: Rate) -> ScriptedAgent {
    let answers = vec![speech("agent-answer-2", rate), speech("agent-answer-3", rate)];
    ScriptedAgent::new(AgentLines { greeting: speech("agent-greeting", rate), answers }, rate)
}

async fn call(folder: &Path, line: Line, agent_rate: Rate, seed: u64) -> (FinishedCall, Vec<LoggedEvent>) {
    let caller: Box<dyn Leg> = Box::new(Far::new(caller(), line, seed));
    let agent: Box<dyn Leg> = Box::new(Far::new(agent(agent_rate), line, seed ^ 0xA6E7));
    let ids = CallIds { call_id: format!("call-{seed}"), ..CallIds::default() };
    let set_up = trunkline::transport::SetUp::default();
    let recording = Recording::begin(Some(folder), &ids, party_info(&*caller), party_info(&*agent), &set_up).await;
    let events = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = Arc::clone(&events);
    let observer = move |event: &LoggedEvent| kept.lock().unwrap().push(event.clone());
    let conversation = Conversation { caller, agent, ids, began: chrono::Utc::now(), recording, set_up };
    let finished = conversation.carry_out(Limits::default(), trunkline::call::CallControl::default(), Box::new(observer)).await;
    let events = std::mem::take(&mut *events.lock().unwrap());
    (finished, events)
}

fn wav(file: &Path) -> Vec<i16> {
    hound::WavReader::open(file).unwrap().into_samples().map(Result::unwrap).collect()
}

/// From each start to its stop, in samples of the side's own track.
fn marked(events: &[LoggedEvent], side: Side) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut open = None;
    for logged in events.iter().filter(|logged| logged.side == Some(side)) {
        match logged.event {
            Event::SpeechStarted { sample, .. } => open = Some(sample as usize),
            Event::SpeechStopped { sample, .. } => found.extend(open.take().map(|start| (start, sample as usize))),
            _ => {}
        }
    }
    found
}

/// What a call over `line` must keep to, whatever the line does.
async fn holds(line: Line, agent_rate: Rate, seed: u64) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let (finished, events) = call(folder.path(), line, agent_rate, seed).await;
    assert_eq!(finished.outcome.end.reason, EndReason::ScriptFinished, "seed {seed}: {:?}", finished.outcome.end);
    let info = finished.recording.unwrap().unwrap();
    let call = finished.folder.unwrap();
    let caller = wav(&call.join("caller.wav"));
    let spoken = marked(&events, Side::Caller);
    assert_eq!(spoken.len(), LINES.len(), "seed {seed}");
    for ((start, stop), name) in spoken.iter().zip(LINES) {
        assert_eq!(caller[*start..*stop], *speech(name, Rate::HZ_16000), "seed {seed}: {name} lies where its marks say, whole");
    }
    let silence = caller.iter().enumerate().filter(|(at, _)| !spoken.iter().any(|(start, stop)| (*start..*stop).contains(at)));
    assert!(silence.into_iter().all(|(_, sample)| *sample == 0), "seed {seed}: nothing else is in the caller's track");
    let agent = wav(&call.join("agent.wav"));
    let whole: Vec<_> = ["agent-greeting", "agent-answer-2", "agent-answer-3"].map(|name| speech(name, agent_rate)).into();
    // An agent sends no silence: what a stall tears apart is heard with a gap, and recorded so; no sample is missing.
    let sound = |samples: &[i16]| -> Vec<i16> { samples.iter().copied().filter(|sample| *sample != 0).collect() };
    for ((start, stop), text) in marked(&events, Side::Agent).iter().zip(&whole) {
        assert!(sound(&agent[*start..*stop]) == sound(text), "seed {seed}: what the agent says is all there");
        assert!(line.stall_ms > 100 || stop - start == text.len(), "seed {seed}: jitter tears nothing apart");
    }
    assert_eq!(
        info.caller.as_ref().unwrap().samples * u64::from(agent_rate.hz()) / 16_000,
        info.agent.as_ref().unwrap().samples,
        "seed {seed}: both tracks end together"
    );
    let stereo = hound::WavReader::open(call.join("stereo.wav")).unwrap();
    assert_eq!(stereo.spec().sample_rate, agent_rate.hz().max(16_000));
    let late = |logged: &LoggedEvent| match logged.event {
        Event::Late { frames, .. } => frames as usize,
        _ => 0,
    };
    events.iter().map(late).sum()
}

#[tokio::test(start_paused = true)]
async fn a_line_that_delays_and_jitters_changes_no_sample() {
    for seed in 1..=6 {
        let rate = [Rate::HZ_16000, Rate::HZ_8000, Rate::HZ_24000][seed as usize % 3];
        holds(Line { delay_ms: 40, jitter_ms: 50, stall_one_in: u64::MAX, stall_ms: 2 }, rate, seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn stalls_of_a_retransmitting_line_are_counted_as_late_and_lose_nothing() {
    let mut late = 0;
    for seed in 11..=16 {
        late += holds(Line { delay_ms: 20, jitter_ms: 10, stall_one_in: 150, stall_ms: 400 }, Rate::HZ_16000, seed).await;
    }
    assert!(late > 100, "six calls with stalls of 200 to 400 ms: {late} frames were late");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_call() {
    let line = Line { delay_ms: 20, jitter_ms: 30, stall_one_in: 100, stall_ms: 300 };
    let mut calls = Vec::new();
    for _ in 0..2 {
        let folder = tempfile::tempdir().unwrap();
        let (finished, events) = call(folder.path(), line, Rate::HZ_16000, 99).await;
        let marks = (marked(&events, Side::Caller), marked(&events, Side::Agent));
        calls.push((marks, wav(&finished.folder.unwrap().join("stereo.wav"))));
    }
    assert!(calls[0] == calls[1], "a failure that a seed shows can be looked at again");
}
