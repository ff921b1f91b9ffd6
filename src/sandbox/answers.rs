//! The API's answers: results, runs and lists, in the shapes that the API reference publishes.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::store::{StoredResult, StoredRun};

/// The answer to a start.
pub(super) fn started(result: &StoredResult) -> Value {
    let runs: Vec<Value> = result.runs.iter().map(summary).collect();
    json!({
        "id": result.id,
        "name": result.name,
        "agent": result.agent_id,
        "status": status(result),
        "success_rate": 0.0,
        "run_as_text": false,
        "is_cronjob": false,
        "runs": runs,
        "created_at": result.created_at,
        "updated_at": result.updated_at,
    })
}

/// A row of the list of results: its runs are a list of summaries.
pub(super) fn row(result: &StoredResult) -> Value {
    let mut row = common(result);
    row.insert("runs".into(), result.runs.iter().map(summary).collect());
    Value::Object(row)
}

/// A result: its runs are a map by their ids.
pub(super) fn detail(result: &StoredResult) -> Value {
    let mut detail = common(result);
    let runs: Map<String, Value> = result.runs.iter().map(|run| (run.id.to_string(), self::run(run))).collect();
    let ended = |wanted: &str| result.runs.iter().filter(|run| run.status.as_str() == wanted).count();
    let connected = ended("completed");
    let total: Duration = result.runs.iter().filter_map(|run| run.duration).sum();
    let more = json!({
        "runs": runs,
        "overall_evaluation": {},
        "total_duration": clock(total),
        "connected_runs": connected,
        "not_connected_runs": ended("failed") + ended("timeout"),
        "failed_infrastructure_runs": ended("failed"),
        "failed_workflow_runs": result.runs.iter().filter(|run| failed_checks(run)).count(),
        "successful_calls": result.runs.iter().filter(|run| passed(run)).count(),
        "failed_reasons": [],
    });
    if let Value::Object(more) = more {
        detail.extend(more);
    }
    Value::Object(detail)
}

fn common(result: &StoredResult) -> Map<String, Value> {
    let count = |test: &dyn Fn(&StoredRun) -> bool| result.runs.iter().filter(|run| test(run)).count();
    let (total, success) = (result.runs.len(), count(&passed));
    let expected = count(&|run| run.expected_outcome.is_some());
    let mut scenarios: Vec<u64> = result.runs.iter().map(|run| run.scenario_id).collect();
    scenarios.sort_unstable();
    scenarios.dedup();
    let common = json!({
        "id": result.id,
        "name": result.name,
        "agent": result.agent_id,
        "agent_name": "Sandbox agent",
        "status": status(result),
        "success_rate": if total == 0 { 0.0 } else { success as f64 * 100.0 / total as f64 },
        "run_as_text": false,
        "is_cronjob": false,
        "met_expected_outcome_count": count(&|run| run.expected_outcome.is_some() && passed(run)),
        "total_expected_outcome_count": expected,
        "total_runs_count": total,
        "completed_runs_count": count(&|run| run.status.as_str() == "completed"),
        "success_runs_count": success,
        "failed_runs_count": count(&failed_checks),
        "scenarios": scenarios,
        "run_type": "Chirp",
        "agent_version": null,
        "created_at": result.created_at,
        "updated_at": result.updated_at,
    });
    match common {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A run in a start's answer and in lists of results.
fn summary(run: &StoredRun) -> Value {
    json!({
        "id": run.id,
        "status": run.status.as_str(),
        "scenario": run.scenario_id,
        "scenario_name": run.scenario_name,
        "number": null,
        "inbound_number": null,
        "test_profile_data": profile(run),
    })
}

/// A run.
pub(super) fn run(run: &StoredRun) -> Value {
    let transcript: Vec<String> =
        run.transcript.iter().map(|line| format!("{}: {}", json!(line.role).as_str().unwrap_or_default(), line.content)).collect();
    json!({
        "id": run.id,
        "provider_call_id": run.provider_call_id,
        "scenario": run.scenario_id,
        "scenario_name": run.scenario_name,
        "scenario_type": "conditional_actions",
        "personality": run.personality_id,
        "agent": run.agent_id,
        "agent_name": "Sandbox agent",
        "result_id": run.result_id,
        "result_name": run.result_name,
        "expected_outcome_prompt": run.expected_outcome,
        "evaluation": {"metrics": []},
        "transcript": transcript.join("\n"),
        "transcript_object": run.transcript,
        "duration": run.duration.map(clock),
        "status": run.status.as_str(),
        "success": run.success,
        "error_message": run.error_message,
        "metadata": run.metadata,
        "is_reviewed": false,
        "run_as_text": false,
        "run_type": "Chirp",
        "number": null,
        "inbound_number": null,
        "outbound_number": null,
        "test_profile_data": profile(run),
        "timestamp": run.created_at,
        "executed_at": run.executed_at,
    })
}

/// A page of a list.
pub(super) fn page(count: usize, number: usize, size: usize, link: impl Fn(usize) -> String, results: Vec<Value>) -> Value {
    json!({
        "count": count,
        "next": (number * size < count).then(|| link(number + 1)),
        "previous": (number > 1).then(|| link(number - 1)),
        "results": results,
    })
}

/// A result's status follows from its runs: it goes on until all have ended, and has completed when one of them has.
pub(super) fn status(result: &StoredResult) -> &'static str {
    let any = |wanted: &[&str]| result.runs.iter().any(|run| wanted.contains(&run.status.as_str()));
    let going_on = result.runs.iter().any(|run| !run.status.is_terminal());
    match going_on {
        true if any(&["in_progress", "running"]) => "in_progress",
        true if any(&["evaluating"]) && !any(&["pending", "in_queue"]) => "evaluating",
        true if any(&["completed", "failed", "timeout", "cancelled", "evaluating"]) => "in_progress",
        true if any(&["in_queue"]) => "in_queue",
        true => "pending",
        false if any(&["completed"]) => "completed",
        false if any(&["failed"]) => "failed",
        false if any(&["timeout"]) => "timeout",
        false => "cancelled",
    }
}

fn passed(run: &StoredRun) -> bool {
    run.status.as_str() == "completed" && run.success == Some(true)
}

fn failed_checks(run: &StoredRun) -> bool {
    run.status.as_str() == "completed" && run.success == Some(false)
}

fn profile(run: &StoredRun) -> Value {
    run.test_profile.as_ref().map_or(Value::Null, |profile| json!(profile))
}

/// `MM:SS`, as the API writes durations.
fn clock(time: Duration) -> String {
    format!("{:02}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}
