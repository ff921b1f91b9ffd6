//! The API's answers: results, runs and lists, in the shapes that the API reference publishes.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::links::Links;
use super::store::{CallLog, StoredResult, StoredRun};
use crate::cekura::payload::Mode;
use crate::record::STEREO_WAV;

/// The answer to a start.
pub(super) fn started(result: &StoredResult) -> Value {
    let runs: Vec<Value> = result.runs.iter().map(summary).collect();
    json!({
        "id": result.id,
        "name": result.name,
        "agent": result.agent_id,
        "status": status(result),
        "success_rate": 0.0,
        "run_as_text": as_text(&result.mode),
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
pub(super) fn detail(result: &StoredResult, links: &Links) -> Value {
    let mut detail = common(result);
    let runs: Map<String, Value> = result.runs.iter().map(|run| (run.id.to_string(), self::run(run, links))).collect();
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
        "failed_reasons": result.runs.iter().filter_map(|run| run.error_message.as_ref()).collect::<Vec<_>>(),
    });
    if let Value::Object(more) = more {
        detail.extend(more);
    }
    Value::Object(detail)
}

fn common(result: &StoredResult) -> Map<String, Value> {
    let count = |test: &dyn Fn(&StoredRun) -> bool| result.runs.iter().filter(|run| test(run)).count();
    let (total, success) = (result.runs.len(), count(&passed));
    let expected = count(&|run| run.judged.is_some());
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
        "run_as_text": as_text(&result.mode),
        "is_cronjob": false,
        "met_expected_outcome_count": count(&|run| run.judged.as_ref().is_some_and(|judged| judged["score"] == 100)),
        "total_expected_outcome_count": expected,
        "total_runs_count": total,
        "completed_runs_count": count(&|run| run.status.as_str() == "completed"),
        "success_runs_count": success,
        "failed_runs_count": count(&failed_checks),
        "scenarios": scenarios,
        "run_type": run_type(&result.mode),
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
pub(super) fn run(run: &StoredRun, links: &Links) -> Value {
    let transcript: Vec<String> = run
        .transcript
        .iter()
        .map(|line| {
            let role = json!(line.role);
            let said = line.data.as_ref().map_or_else(|| line.content.clone(), Value::to_string);
            format!(
                "[{}] {}: {said}",
                clock(Duration::try_from_secs_f64(line.start_time).unwrap_or_default()),
                role.as_str().unwrap_or_default()
            )
        })
        .collect();
    json!({
        "id": run.id,
        "provider_call_id": run.provider_call_id,
        "trace_id": null,
        "scenario": run.scenario_id,
        "scenario_name": run.scenario_name,
        "scenario_type": "conditional_actions",
        "personality": run.personality_id,
        "agent": run.agent_id,
        "agent_name": "Sandbox agent",
        "result_id": run.result_id,
        "result_name": run.result_name,
        "expected_outcome_prompt": run.expected_outcome,
        "expected_outcome": run.judged,
        "evaluation": {"metrics": run.metrics},
        "transcript": transcript.join("\n"),
        "transcript_object": run.transcript,
        "duration": run.duration.map(clock),
        "voice_recording_url": recording_url(run, links),
        "status": run.status.as_str(),
        "success": run.success,
        "evaluation_status": run.success.map(|success| if success { "success" } else { "failure" }),
        "error_message": run.error_message,
        "metadata": run.metadata,
        "is_reviewed": false,
        "run_as_text": as_text(&run.mode),
        "run_type": run_type(&run.mode),
        "number": null,
        "inbound_number": null,
        "outbound_number": null,
        "testing_channel_index": 0,
        "test_profile_data": profile(run),
        "timestamp": run.created_at,
        "executed_at": run.executed_at,
    })
}

/// The stereo recording's address; none for a chat and for a call that goes on.
fn recording_url(run: &StoredRun, links: &Links) -> Option<String> {
    let there = run.status.is_terminal() && run.recording.as_ref().is_some_and(|folder| folder.join(STEREO_WAV).exists());
    there.then(|| links.recording(run.id))
}

/// What a webhook says of a result: its runs have their scenarios as objects.
pub(super) fn webhook_data(result: &StoredResult, links: &Links) -> Value {
    let mut data = common(result);
    let of_run = |run: &StoredRun| {
        let shown = json!({
            "id": run.id,
            "scenario": {"id": run.scenario_id, "name": run.scenario_name, "personality_name": "", "expected_outcome_prompt": run.expected_outcome.clone().unwrap_or_default()},
            "status": run.status.as_str(),
            "expected_outcome": run.judged.clone().unwrap_or_else(|| json!({})),
            "success": run.success,
            "evaluation": {"metrics": run.metrics},
            "transcript_object": run.transcript,
            "voice_recording": recording_url(run, links).unwrap_or_default(),
            "test_profile_data": profile(run),
            "timestamp": run.created_at,
            "executed_at": run.executed_at,
            "error_message": run.error_message.clone().unwrap_or_default(),
        });
        (run.id.to_string(), shown)
    };
    data.insert("runs".into(), Value::Object(result.runs.iter().map(of_run).collect()));
    Value::Object(data)
}

/// A test set made from a run.
pub(super) fn test_set(id: u64, name: &str, at: &str, run: &StoredRun, reviews: &Value, links: &Links) -> Value {
    json!({
        "id": id,
        "agent": run.agent_id,
        "name": name,
        "transcript": self::run(run, links)["transcript"],
        "transcript_object": run.transcript,
        "voice_recording_url": recording_url(run, links),
        "call_end_reason": run.metadata.get("call_ended_reason"),
        "duration": run.duration.map(clock),
        "source_model": "Run",
        "source_id": run.id.to_string(),
        "metric_reviews": reviews,
        "created_at": at,
        "updated_at": at,
    })
}

/// A call that was sent to be observed.
pub(super) fn call_log(log: &CallLog) -> Value {
    let mut shown = log.fields.clone();
    let own = json!({
        "id": log.id,
        "call_id": log.call_id,
        // Metrics come from Cekura's judges, which are not here.
        "status": "evaluating",
        "evaluation": {"metrics": []},
        "voice_recording": log.recording,
        "created_at": log.created_at,
        "updated_at": log.updated_at,
    });
    if let Value::Object(own) = own {
        shown.extend(own);
    }
    Value::Object(shown)
}

/// What the API calls the runs of a mode. Its pages do not have the word for LiveKit's.
fn run_type(mode: &str) -> &'static str {
    match mode.parse() {
        Ok(Mode::Chirp) => "Chirp",
        Ok(Mode::Livekit | Mode::LivekitV2) => "LiveKit",
        Ok(Mode::Text) => "WebSocket",
        Ok(Mode::ApiChat) => "API Chat",
        _ => "Text",
    }
}

fn as_text(mode: &str) -> bool {
    mode.parse().is_ok_and(Mode::is_text)
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
