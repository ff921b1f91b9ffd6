//! From a call that is over to its place in the report.

use std::path::Path;

use tokio::task::JoinError;

use super::io::result;
use crate::conversation::FinishedCall;
use crate::error::{Exit, Failure};
use crate::measure::{Measures, measure};
use crate::record::{CallInfo, RecordError, write_labels};
use crate::report::{Failure as RunFailure, FailureKind, Report, RunReport, Thresholds, Verdict, judge_call, table};

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
}

/// Measures and judges a call. `scenario` is its name in the report; `out` the folder that the report lies in.
pub(super) fn report_call(call: &FinishedCall, scenario: &str, out: &Path, thresholds: Thresholds) -> RunReport {
    let mut failures = Vec::new();
    let mut measures = None;
    match &call.recording {
        Some(Ok(info)) => match measured(call.folder.as_deref().unwrap_or(out), info) {
            Ok(found) => measures = Some(found),
            Err(problem) => failures.push(RunFailure { kind: FailureKind::RecordingFailed, detail: problem }),
        },
        Some(Err(error)) => failures.push(RunFailure { kind: FailureKind::RecordingFailed, detail: error.to_string() }),
        None => {}
    }
    match &call.unreachable {
        Some(problem) => failures.push(RunFailure { kind: FailureKind::AgentUnreachable, detail: problem.clone() }),
        None => failures.extend(judge_call(&call.outcome.end, measures.as_ref(), thresholds)),
    }
    let recording = call.folder.as_deref().filter(|_| call.recording.is_some());
    let report = RunReport {
        run_id: None,
        scenario_id: call.ids.scenario_id.clone().map(Into::into),
        scenario: scenario.to_owned(),
        status: if call.unreachable.is_some() { "failed" } else { "completed" }.to_owned(),
        success: Some(failures.is_empty()),
        verdict: Verdict::Passed,
        failures,
        recording: recording.map(|folder| folder.strip_prefix(out).unwrap_or(folder).to_owned()),
        call_id: Some(call.ids.call_id.clone()),
        tied_by: None,
        end: Some(call.outcome.end.clone()),
        set_up: (!call.set_up.is_empty()).then(|| call.set_up.clone()),
        measures,
    };
    report.judged()
}

/// A call whose measuring broke down: to be reported as one without a recording that can be used. Other calls are none the worse
/// for it.
pub(super) fn unmeasured(call: FinishedCall, out: &Path, panic: &JoinError) -> FinishedCall {
    let recording = Some(Err(RecordError::Malformed {
        path: call.folder.clone().unwrap_or_else(|| out.to_owned()),
        problem: format!("measuring it broke down: {panic}"),
    }));
    FinishedCall { recording, ..call }
}

/// Measures a call and puts what was found beside its other labels.
pub(super) fn measured(folder: &Path, info: &CallInfo) -> Result<Measures, String> {
    let measures = measure(folder).map_err(|error| error.to_string())?;
    let turns = measures
        .turns
        .iter()
        .enumerate()
        .map(|(number, turn)| (turn.start_ms / 1000.0, turn.end_ms / 1000.0, format!("turn {}: {}", number + 1, turn.side)));
    write_labels(folder, info, &turns.collect::<Vec<_>>()).map_err(|error| error.to_string())?;
    Ok(measures)
}

/// Writes the report's files, prints it, and says how the command ends.
pub(super) fn conclude(report: &Report, out: &Path, format: Format) -> Result<Exit, Failure> {
    let written = report.write(out);
    match format {
        Format::Json => result(&report.to_json()),
        Format::Table => result(&format!("{}recordings and reports: {}\n", table(report), out.display())),
    }
    written.map_err(Failure::infrastructure)?;
    Ok(report.verdict.exit())
}
