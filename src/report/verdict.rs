//! Whether a run passed, failed or is void, and why.

use serde::{Deserialize, Serialize};

use super::Totals;
use crate::call::{CallEnd, EndReason, Side};
use crate::error::Exit;
use crate::measure::Measures;

/// A slip of Trunkline's own pacing, the caller's or the call's, above this makes a run void, in ms.
pub const VOID_SLIP_MS: f64 = 100.0;
/// An agent of whose audio less than this came in a second in which it spoke makes a run void: its numbers are its host's.
pub const VOID_RECEIVED_RATE: f64 = 0.9;

/// How a run, or all of them, came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing failed.
    Passed,
    /// The agent failed, or a threshold was missed.
    Failed,
    /// The infrastructure failed: the run says nothing about the agent.
    Void,
    /// Started and not waited for: nothing is known yet.
    Pending,
}

impl Verdict {
    pub(super) fn of(failures: &[Failure]) -> Self {
        if failures.is_empty() {
            Self::Passed
        } else if failures.iter().any(|failure| failure.kind.is_void()) {
            // What failed in a run whose numbers cannot be trusted is not known to be the agent's fault.
            Self::Void
        } else {
            Self::Failed
        }
    }

    pub(super) fn of_totals(totals: Totals, fail_under: f64) -> Self {
        let judged = totals.passed + totals.failed;
        let share = totals.passed as f64 / judged.max(1) as f64;
        if totals.pending > 0 {
            Self::Pending
        } else if totals.failed > 0 && share < fail_under {
            Self::Failed
        } else if totals.void > 0 || totals.runs == 0 {
            Self::Void
        } else {
            Self::Passed
        }
    }

    /// The exit code: 0 passed (and started, where nobody waits), 1 failed, 3 void.
    #[must_use]
    pub fn exit(self) -> Exit {
        match self {
            Self::Passed | Self::Pending => Exit::Passed,
            Self::Failed => Exit::Failed,
            Self::Void => Exit::Infrastructure,
        }
    }

    /// `passed`, `failed`, `void` or `pending`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Void => "void",
            Self::Pending => "pending",
        }
    }
}

/// Why a run did not pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its stable name.
    pub kind: FailureKind,
    /// In words.
    pub detail: String,
}

macro_rules! failure_kinds {
    ($($doc:literal, $variant:ident = $name:literal, $void:literal;)*) => {
        /// The kinds of failures. Their names are stable: scripts and CI may rely on them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum FailureKind {
            $(#[doc = $doc] #[serde(rename = $name)] $variant,)*
        }

        impl FailureKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What it means.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $doc),* }
            }

            /// The run is void, not failed.
            #[must_use]
            pub const fn is_void(self) -> bool {
                match self { $(Self::$variant => $void),* }
            }
        }
    };
}

failure_kinds! {
    "The agent never spoke, or never answered a line.", AgentSilent = "agent_silent", false;
    "The agent replied with nothing that the script has a condition for.", UnexpectedReply = "unexpected_reply", false;
    "The agent hung up before the script was played to its end.", AgentHungUp = "agent_hung_up", false;
    "No call to the agent could be placed.", AgentUnreachable = "agent_unreachable", false;
    "The agent's connection broke or its process died.", ConnectionLost = "connection_lost", false;
    "The agent broke its protocol, or refused the call.", ProtocolError = "protocol_error", false;
    "The call reached its longest duration.", MaxDuration = "max_duration", false;
    "The agent talked on when the script interrupted it.", InterruptionIgnored = "interruption_ignored", false;
    "An answer took longer than `--max-latency-ms`.", LatencyExceeded = "latency_exceeded", false;
    "The API says that the run failed, or did not meet what was expected.", RunFailed = "run_failed", false;
    "The API says that the run took too long.", RunTimeout = "run_timeout", false;
    "The run was cancelled.", RunCancelled = "run_cancelled", false;
    "The caller's side, not the agent, broke off: its connection, or a function of its script.", CallerLost = "caller_lost", true;
    "Trunkline's own pacing slipped by more than 100 ms.", PacingSlipped = "pacing_slipped", true;
    "The agent's audio came slower than it plays, less than 0.9 s of it a second: its host, or the line, was overloaded.", AgentStarved = "agent_starved", true;
    "The call could not be recorded, or not to its end.", RecordingFailed = "recording_failed", true;
    "The run ended at the API, but no call, or none that is surely its own, came through here.", CallMissing = "call_missing", true;
    "The API failed, or does not know an end of the run.", Infrastructure = "infrastructure", true;
}

/// [`FailureKind::ALL`] as a Markdown table. The README holds it; a test compares the two.
#[must_use]
pub fn failure_table() -> String {
    let mut table = "| kind | verdict | meaning |\n|---|---|---|\n".to_owned();
    for kind in FailureKind::ALL {
        let verdict = if kind.is_void() { "void" } else { "failed" };
        table.push_str(&format!("| `{}` | {verdict} | {} |\n", kind.name(), kind.meaning()));
    }
    table
}

/// What a call must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Thresholds {
    /// The longest answer, ms.
    pub max_latency_ms: Option<f64>,
}

/// What is wrong with a call, by its end and its numbers.
#[must_use]
pub fn judge_call(end: &CallEnd, measures: Option<&Measures>, thresholds: Thresholds) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut say = |kind: FailureKind, detail: String| failures.push(Failure { kind, detail });
    let agent = end.by == Some(Side::Agent);
    let kind = match end.reason {
        EndReason::ScriptFinished | EndReason::HungUp => None,
        EndReason::AgentSilent => Some(FailureKind::AgentSilent),
        EndReason::UnexpectedReply => Some(FailureKind::UnexpectedReply),
        EndReason::AgentHungUp => Some(FailureKind::AgentHungUp),
        EndReason::ConnectionLost if agent => Some(FailureKind::ConnectionLost),
        EndReason::ProtocolError if agent => Some(FailureKind::ProtocolError),
        EndReason::ConnectionLost | EndReason::ProtocolError | EndReason::IdleTimeout | EndReason::CallerFailed => {
            Some(FailureKind::CallerLost)
        }
        EndReason::MaxDuration => Some(FailureKind::MaxDuration),
        EndReason::Cancelled => Some(FailureKind::RunCancelled),
        EndReason::PacingSlipped => Some(FailureKind::PacingSlipped),
    };
    if let Some(kind) = kind {
        say(kind, if end.detail.is_empty() { kind.name().replace('_', " ") } else { end.detail.clone() });
    }
    let Some(measures) = measures else { return failures };
    if let Some(slip) = measures.pacing_slip.value.filter(|slip| *slip > VOID_SLIP_MS) {
        say(FailureKind::PacingSlipped, format!("Trunkline itself was {slip:.0} ms late"));
    }
    if let Some(Failure { kind, detail }) = measures.agent.received_rate.value.and_then(starved) {
        say(kind, detail);
    }
    for barge_in in measures.barge_in.events.iter().filter(|event| event.scripted && !event.yielded) {
        let detail = format!(
            "interrupted at {:.2} s, the agent talked on for {:.0} ms",
            barge_in.caller_onset_ms / 1000.0,
            barge_in.stopped_after_ms
        );
        say(FailureKind::InterruptionIgnored, detail);
    }
    if let (Some(limit), Some(max)) = (thresholds.max_latency_ms, measures.response_latency.max.value)
        && max > limit
    {
        say(FailureKind::LatencyExceeded, format!("the slowest answer took {max:.0} ms, {limit:.0} are allowed"));
    }
    failures
}

/// What is wrong where the agent's audio came at this rate ([`crate::measure::SideMeasures::received_rate`]).
#[must_use]
pub fn starved(rate: f64) -> Option<Failure> {
    let detail = format!("while the agent spoke, {rate:.2} s of its audio came a second: its host, or the line, is overloaded");
    (rate < VOID_RECEIVED_RATE).then_some(Failure { kind: FailureKind::AgentStarved, detail })
}
