//! What many calls at once add up to: counts, times over all of them, and how loaded the machine was that placed them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FailureKind, RunReport, Verdict};
use crate::measure::nearest_rank;
use crate::transport::{SetUpTimes, Stage};

/// The load that was put on an agent, and how it bore it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Calls that were asked for.
    pub asked: usize,
    /// Calls that were placed: fewer when the load was interrupted.
    pub placed: usize,
    /// How many calls may be open at once.
    pub at_once: usize,
    /// How many were, at the most: from the dial's start to the closed connection.
    pub at_once_reached: usize,
    /// The callers started evenly over this time, in seconds.
    pub ramp_s: f64,
    /// From the first dial to the end of the last call, in milliseconds.
    pub wall_ms: f64,
    /// Why calls did not pass, the most frequent first.
    pub failures: Vec<FailureCount>,
    /// From the dial's start to an agent that is reached.
    pub set_up: Spread,
    /// Each stage of it, and the agent's first audio.
    pub stages: Vec<StageSpread>,
    /// From the call's start to the agent's first speech.
    pub first_agent_audio: Spread,
    /// From the end of the caller's speech to the agent's onset: all answers of all calls.
    pub response_latency: Spread,
    /// The machine that placed the calls.
    pub host: Host,
}

/// How often calls did not pass for one reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailureCount {
    /// Its stable name.
    pub kind: FailureKind,
    /// The stage of the set-up in which these calls failed; none once the agent was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// It makes a call void, not failed.
    pub void: bool,
    /// How many calls.
    pub calls: usize,
    /// The first of them in words.
    pub example: String,
}

/// Times of one kind over all calls, in milliseconds. Percentiles are nearest ranks: each is a time that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Spread {
    /// How many.
    pub n: usize,
    /// The median; none without any.
    pub p50: Option<f64>,
    /// The 90th percentile.
    pub p90: Option<f64>,
    /// The 95th percentile.
    pub p95: Option<f64>,
    /// The 99th percentile.
    pub p99: Option<f64>,
    /// The longest.
    pub max: Option<f64>,
}

/// One stage over all calls.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StageSpread {
    /// Which.
    pub stage: Stage,
    /// Its times.
    #[serde(flatten)]
    pub times: Spread,
}

/// How loaded the machine was that placed the calls. What the operating system does not tell is none: it is read from Linux's
/// `/proc`, once a second.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Host {
    /// Cores.
    pub cores: usize,
    /// Share of all cores' time, 0 to 1, in which they were busy, whoever kept them so; time that a hypervisor took is part of it.
    pub cpu_mean: Option<f64>,
    /// The busiest second.
    pub cpu_max: Option<f64>,
    /// Share of all cores' time that a hypervisor gave to others.
    pub steal_mean: Option<f64>,
    /// Cores that this process kept busy.
    pub process_cores_mean: Option<f64>,
    /// Its peak resident memory, in bytes.
    pub process_peak_bytes: Option<u64>,
    /// Its own slips.
    pub slips: Slips,
}

/// Frames of callers that came more than 100 ms late: the machine was late, and not the agent.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Slips {
    /// How many.
    pub count: usize,
    /// In how many calls; these are void.
    pub calls: usize,
    /// The worst, in milliseconds; none without any.
    pub worst_ms: Option<f64>,
}

/// What is known of a load beside its calls' reports.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadRun {
    /// As [`Load::asked`].
    pub asked: usize,
    /// As [`Load::at_once`].
    pub at_once: usize,
    /// As [`Load::at_once_reached`].
    pub at_once_reached: usize,
    /// As [`Load::ramp_s`].
    pub ramp_s: f64,
    /// As [`Load::wall_ms`].
    pub wall_ms: f64,
    /// As [`Load::host`].
    pub host: Host,
}

impl Load {
    /// Adds up the calls. The times of a void call are left out: they say nothing about the agent.
    #[must_use]
    pub fn of(run: LoadRun, calls: &[RunReport]) -> Self {
        let LoadRun { asked, at_once, at_once_reached, ramp_s, wall_ms, host } = run;
        let judged = || calls.iter().filter(|call| call.verdict != Verdict::Void);
        let set_ups = || judged().filter_map(|call| call.set_up.as_ref());
        let measured = || judged().filter_map(|call| call.measures.as_ref());
        let passed = |stage: Stage| {
            let of =
                move |times: &SetUpTimes| times.stages.iter().find(|passed| passed.stage == stage).map(|passed| passed.took_ms);
            Spread::of(set_ups().filter_map(of))
        };
        let stages = Stage::ALL.into_iter().map(|stage| StageSpread { stage, times: passed(stage) });
        Self {
            asked,
            placed: calls.len(),
            at_once,
            at_once_reached,
            ramp_s,
            wall_ms,
            failures: count_failures(calls),
            set_up: Spread::of(set_ups().filter_map(SetUpTimes::total_ms)),
            stages: stages.filter(|stage| stage.times.n > 0).collect(),
            first_agent_audio: Spread::of(measured().filter_map(|measures| measures.first_agent_audio.value)),
            response_latency: Spread::of(
                measured().flat_map(|m| m.response_latency.answers.iter().map(|answer| answer.latency_ms)),
            ),
            host,
        }
    }
}

impl Spread {
    /// The percentiles of `times`, in any order.
    #[must_use]
    pub fn of(times: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = times.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |percent| nearest_rank(&sorted, percent);
        Self { n: sorted.len(), p50: at(50), p90: at(90), p95: at(95), p99: at(99), max: at(100) }
    }
}

/// A call with two failures counts under both.
fn count_failures(calls: &[RunReport]) -> Vec<FailureCount> {
    let mut counts: BTreeMap<(&str, Option<Stage>), FailureCount> = BTreeMap::new();
    for call in calls {
        let mut told = Vec::new();
        for failure in &call.failures {
            let unreached = failure.kind == FailureKind::AgentUnreachable;
            let stage = call.set_up.as_ref().and_then(|times| times.failed_in).filter(|_| unreached);
            let key = (failure.kind.name(), stage);
            if told.contains(&key) {
                continue;
            }
            told.push(key);
            let new = || {
                let (kind, example) = (failure.kind, failure.detail.clone());
                FailureCount { kind, stage, void: kind.is_void(), calls: 0, example }
            };
            counts.entry(key).or_insert_with(new).calls += 1;
        }
    }
    let mut counts: Vec<_> = counts.into_values().collect();
    counts.sort_by_key(|count| std::cmp::Reverse(count.calls));
    counts
}
