//! The report of a result: each call tied to its run, with what the API says of it.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::super::outcome::report_call;
use super::calls::WayIn;
use super::carry_out::Plan;
use crate::cekura::{ResultState, RunState, Started, Status};
use crate::conversation::FinishedCall;
use crate::ledger::Ledger;
use crate::report::{
    Failure as RunFailure, FailureKind, Report, RunReport, TiedBy, TiedCall, TiedRun, VOID_SLIP_MS, Verdict, starved, tie,
};
use crate::sandbox::{PACING_SLIP_KEY, RECEIVED_RATE_KEY};

/// The report of runs that were started and not waited for.
pub(super) fn report_started(plan: &Plan, started: &Started) -> Report {
    let runs = started.runs.iter().map(|run| RunReport { verdict: Verdict::Pending, ..run_report(run) }).collect();
    let mut report = Report::new(plan.mode.name(), Some(started.name.clone()), "pending", plan.fail_under, runs);
    report.result_id = Some(started.result_id.into());
    // The answer to a lost start may list no runs.
    report.verdict = Verdict::Pending;
    report
}

/// The report of a result that has ended; `calls` is what the door saw, none where there was no door.
pub(super) fn report(plan: &Plan, state: &ResultState, calls: Option<&[FinishedCall]>, ledger: &Ledger) -> Report {
    let Some(calls) = calls else {
        let runs = state.runs.iter().map(|run| RunReport { failures: api_failures(run), ..run_report(run) }.judged());
        return report_of(plan, state, runs.collect());
    };
    let runs: Vec<_> = state
        .runs
        .iter()
        .map(|run| TiedRun { id: run.id.to_string(), result_id: state.id.to_string(), executed_at: executed_at(run) })
        .collect();
    let ended = |call: &FinishedCall| call.began + chrono::Duration::from_std(call.outcome.duration).unwrap_or_default();
    let tied: Vec<_> = calls.iter().map(|call| TiedCall { ids: &call.ids, began: call.began, ended: ended(call) }).collect();
    let told = if is_polled(plan) { TiedBy::Direct } else { TiedBy::Header };
    let ties = tie(&runs, &tied, told);
    let reports = state.runs.iter().zip(ties).map(|(run, tie)| match tie {
        Some((call, by)) => tied_report(plan, state, run, &calls[call], by, ledger),
        None => untied_report(plan, run, calls.len()),
    });
    report_of(plan, state, reports.collect())
}

fn report_of(plan: &Plan, state: &ResultState, runs: Vec<RunReport>) -> Report {
    let mut report = Report::new(plan.mode.name(), state.name.clone(), state.status.as_str(), plan.fail_under, runs);
    report.result_id = Some(state.id.into());
    report
}

fn executed_at(run: &RunState) -> Option<DateTime<Utc>> {
    let text = run.raw.get("executed_at").or_else(|| run.raw.get("timestamp"))?.as_str()?;
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.with_timezone(&Utc))
}

/// What the API alone says of a run.
fn run_report(run: &RunState) -> RunReport {
    RunReport {
        run_id: Some(run.id.into()),
        scenario_id: run.scenario_id.map(Value::from),
        scenario: run.scenario_name.clone().unwrap_or_else(|| format!("run {}", run.id)),
        status: run.status.as_str().to_owned(),
        success: run.success,
        verdict: Verdict::Void,
        failures: Vec::new(),
        recording: None,
        call_id: None,
        tied_by: None,
        end: None,
        set_up: None,
        measures: None,
    }
}

fn tied_report(plan: &Plan, state: &ResultState, run: &RunState, call: &FinishedCall, by: TiedBy, ledger: &Ledger) -> RunReport {
    let of_api = run_report(run);
    let of_call = report_call(call, &of_api.scenario, &plan.out, plan.thresholds);
    let mut failures = of_call.failures;
    if run.status == Status::Cancelled {
        // The caller left because it was told to.
        failures.retain(|failure| failure.kind != FailureKind::CallerLost);
    }
    let said = api_failures(run);
    // What the door saw says more than the API's "failed"; both are told only where the door saw nothing wrong.
    let explained = failures.iter().any(|failure| !failure.kind.is_void());
    failures.extend(said.into_iter().filter(|failure| failure.kind.is_void() || !explained));
    let mut ids = call.ids.clone();
    ids.run_id = Some(run.id.to_string());
    ids.result_id = Some(state.id.to_string());
    ids.scenario = run.scenario_name.clone();
    if let Some(folder) = &call.folder
        && let Err(error) = ledger.tie_call(&ids, folder)
    {
        tracing::error!("{error}");
    }
    let tied_by = Some(by.name().to_owned());
    let RunReport { recording, call_id, end, set_up, measures, .. } = of_call;
    RunReport { failures, recording, call_id, tied_by, end, set_up, measures, ..of_api }.judged()
}

fn is_polled(plan: &Plan) -> bool {
    matches!(plan.desk, Some((WayIn::Polled, _)))
}

fn untied_report(plan: &Plan, run: &RunState, calls: usize) -> RunReport {
    let mut failures = api_failures(run);
    if failures.iter().all(|failure| failure.kind.is_void()) {
        let detail = if is_polled(plan) {
            "the API says that the run has ended, but its chat was never open to us".to_owned()
        } else if calls == 0 {
            "the API says that the run has ended, but no call reached the door: does its websocket_url lead here?".to_owned()
        } else {
            format!("{calls} calls reached the door; which of them is this run's cannot be told")
        };
        failures.push(RunFailure { kind: FailureKind::CallMissing, detail });
    }
    RunReport { failures, ..run_report(run) }.judged()
}

/// What the API says went wrong.
fn api_failures(run: &RunState) -> Vec<RunFailure> {
    let words = run.error_message.clone().or_else(|| run.call_ended_reason.clone());
    let words = words.unwrap_or_else(|| "the API gives no reason".to_owned());
    let mut failures = Vec::new();
    let mut say = |kind: FailureKind, detail: String| failures.push(RunFailure { kind, detail });
    match (&run.status, run.success) {
        (Status::Completed, Some(true)) => {}
        (Status::Completed, Some(false)) | (Status::Failed, _) => say(FailureKind::RunFailed, words),
        (Status::Completed, None) => say(FailureKind::Infrastructure, "the API does not say whether the run passed".to_owned()),
        (Status::Timeout, _) => say(FailureKind::RunTimeout, words),
        (Status::Cancelled, _) => say(FailureKind::RunCancelled, words),
        (other, _) => say(FailureKind::Infrastructure, format!("the run is still {}", other.as_str())),
    }
    let told = |key: &str| run.raw.get("metadata").and_then(|metadata| metadata.get(key)).and_then(Value::as_f64);
    if let Some(slip) = told(PACING_SLIP_KEY).filter(|slip| *slip > VOID_SLIP_MS) {
        say(FailureKind::PacingSlipped, format!("the caller was {slip:.0} ms late"));
    }
    failures.extend(told(RECEIVED_RATE_KEY).and_then(starved));
    failures
}
