//! What is done: starts, ends, scoring, chats, test sets, observed calls.

use std::io::Write;
use std::path::PathBuf;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::super::chat::read_post;
use super::super::judge::judge_again;
use super::super::metrics::DEFINITIONS;
use super::super::request::{Invalid, Support, read_spec, read_start, support};
use super::super::runner::Request;
use super::super::{answers, aside};
use super::body::Fields;
use super::lists::id_of;
use super::{Answer, Api, Refusal, ok};
use crate::caller::suite::LARGEST_FILE;
use crate::cekura::payload::Mode;
use crate::files::write_whole;

/// The API's other starts, and what they would need.
const ELSEWHERE: [(&str, &str); 4] = [
    ("run_scenarios_agora", "Agora's cloud"),
    ("run_scenarios_email", "a mail server"),
    ("run_scenarios_ello", "Ello's cloud"),
    ("run_scenarios_jotform", "Jotform's cloud"),
];
/// The longest `call_id` of an observed call.
const LONGEST_CALL_ID: usize = 100;

/// The JSON Schema of a suite.
pub(super) fn suite_schema() -> Value {
    serde_json::from_str(include_str!("../suite.schema.json")).expect("the shipped schema is JSON: a test reads it")
}

impl Api {
    /// `run_scenarios_*`.
    pub(super) async fn start(&self, endpoint: &str, body: Value) -> Answer {
        let Some(mode) = Mode::of_endpoint(endpoint) else {
            let known = ELSEWHERE.iter().find(|(name, _)| *name == endpoint).ok_or_else(Refusal::not_found)?;
            return Err(never(endpoint, known.1));
        };
        let request = aside(|| read_start(mode, &body, &self.runner.project, self.lenient))?;
        carried_out(mode)?;
        self.check_room().await?;
        let result = self.runner.start(request, endpoint, &body)?;
        // The first three answer 201, the others 200, as the API reference has it.
        let created = matches!(mode, Mode::Voice | Mode::Text | Mode::Websocket);
        Ok((if created { StatusCode::CREATED } else { StatusCode::OK }, answers::started(&result)))
    }

    /// `run_scenarios_json`, and its dry run.
    pub(super) async fn start_spec(&self, posted: &Fields, dry_run: bool) -> Answer {
        let mut body = posted.fields.clone();
        if let (Some(file), Value::Object(fields)) = (&posted.file, &mut body) {
            if file.bytes.len() as u64 > LARGEST_FILE {
                return Err(Invalid::field("file", format!("A suite has at most {LARGEST_FILE} bytes.")).into());
            }
            let text = std::str::from_utf8(&file.bytes).map_err(|error| Invalid::field("file", format!("not UTF-8: {error}")))?;
            fields.insert("spec".to_owned(), text.into());
        }
        let request = aside(|| read_spec(&body, &self.runner.project))?;
        if dry_run {
            return ok(json!({"dry_run": true, "valid": true, "plan": request.plan}));
        }
        let mode = request.mode;
        let start = request.start(&self.runner.project, &self.runner.store)?;
        carried_out(mode)?;
        self.check_room().await?;
        let result = self.runner.start(start, Mode::Spec.endpoint(), &body)?;
        Ok((StatusCode::OK, answers::started(&result)))
    }

    /// Nothing is begun that could not be recorded for want of room.
    async fn check_room(&self) -> Result<(), Refusal> {
        let Some(full) = self.runner.full().await else { return Ok(()) };
        Err(Refusal::detail(StatusCode::INSUFFICIENT_STORAGE, full))
    }

    pub(super) fn end_calls(&self, id: &str) -> Answer {
        let result = self.runner.store.result(id_of(id)?)?.ok_or_else(Refusal::not_found)?;
        self.runner.cancel(result.runs.iter().map(|run| run.id));
        ok(json!({}))
    }

    pub(super) fn end_call(&self, id: &str) -> Answer {
        let run = self.known_run(id)?;
        self.runner.cancel([run.id]);
        ok(json!({}))
    }

    /// Executes every run of a result again, as a new result.
    pub(super) async fn rerun(&self, id: &str) -> Answer {
        let kept = self.runner.request(id_of(id)?)?.ok_or_else(Refusal::not_found)?;
        let (project, Request { endpoint, body, whole }) = (&self.runner.project, kept);
        if !whole {
            let detail = "The request had secrets, which were not kept across the restart: start it anew.";
            return Err(Refusal::detail(StatusCode::BAD_REQUEST, detail));
        }
        let mode = Mode::of_endpoint(&endpoint).ok_or_else(Refusal::not_found)?;
        let request = match mode {
            Mode::Spec => aside(|| read_spec(&body, project))?.start(project, &self.runner.store)?,
            mode => aside(|| read_start(mode, &body, project, self.lenient))?,
        };
        self.check_room().await?;
        let result = self.runner.start(request, &endpoint, &body)?;
        ok(answers::started(&result))
    }

    /// Scores runs of a result anew, from their recordings: nothing is called.
    pub(super) async fn rescore(&self, id: &str, body: &Value) -> Answer {
        let result = self.runner.store.result(id_of(id)?)?.ok_or_else(Refusal::not_found)?;
        let run_ids = ids_of(body, "run_ids")?;
        let metric_ids = ids_of(body, "metric_ids")?;
        if let Some(unknown) = metric_ids.iter().find(|id| DEFINITIONS.iter().all(|known| known.id != **id)) {
            return Err(Invalid::field("metric_ids", format!("Invalid pk \"{unknown}\" - object does not exist.")).into());
        }
        if let Some(unknown) = run_ids.iter().find(|id| result.runs.iter().all(|run| run.id != **id)) {
            return Err(Invalid::field("run_ids", format!("Invalid pk \"{unknown}\" - object does not exist.")).into());
        }
        for run in result.runs.into_iter().filter(|run| run_ids.contains(&run.id)) {
            let (id, thresholds) = (run.id, self.runner.thresholds);
            let work = tokio::task::spawn_blocking(move || judge_again(&run, &thresholds));
            match work.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())) {
                Ok(Some(judgement)) => self.runner.store.judge_again(id, &judgement)?,
                Ok(None) => {}
                // The judgement that there is stays.
                Err(error) => return Err(Invalid::field("run_ids", format!("Run {id} cannot be scored anew: {error}")).into()),
            }
        }
        let result = self.runner.store.result(id_of(id)?)?.ok_or_else(Refusal::not_found)?;
        ok(answers::row(&result))
    }

    pub(super) fn listen_url(&self, id: &str) -> Answer {
        let run = self.known_run(id)?;
        if run.status.is_terminal() || !self.runner.goes_on(run.id) || run.recording.is_none() {
            return Err(Refusal::detail(StatusCode::BAD_REQUEST, "The run has no call that goes on."));
        }
        ok(json!({"listen_url": self.links.listen(run.id)}))
    }

    /// `runs/{id}/chat/`.
    pub(super) fn post_chat(&self, id: &str, body: &Value) -> Answer {
        let run = self.known_run(id)?;
        let post = read_post(body).map_err(|(field, problem)| Invalid::field(field, problem))?;
        let (turn, status) = self.chats.post(run.id, post)?;
        let body = json!({"run_id": run.id, "result_id": run.result_id, "turn_id": turn, "status": status});
        Ok((StatusCode::ACCEPTED, body))
    }

    /// `runs/{id}/chat/{turn}/`.
    pub(super) fn chat_turn(&self, id: &str, turn: &str) -> Answer {
        let run = self.known_run(id)?;
        let turn = turn.parse().map_err(|_| Refusal::not_found())?;
        let mut found = self.chats.turn(run.id, turn)?.ok_or_else(Refusal::not_found)?;
        found["run_id"] = run.id.into();
        found["result_id"] = run.result_id.into();
        ok(found)
    }

    /// `runs/{id}/end-chat/`.
    pub(super) fn end_chat(&self, id: &str, body: &Value) -> Answer {
        let run = self.known_run(id)?;
        self.chats.end(run.id, body["reason"].as_str().map(str::to_owned))?;
        ok(json!({"run_id": run.id, "result_id": run.result_id, "status": "completed"}))
    }

    /// `test-sets/create_from_run/`.
    pub(super) fn create_test_set(&self, body: &Value) -> Answer {
        let run_id = body["run_id"].as_u64().or_else(|| body["run_id"].as_str()?.parse().ok());
        let run_id = run_id.ok_or_else(|| Invalid::field("run_id", "A valid integer is required."))?;
        let run = self.runner.store.run(run_id)?;
        let run = run.ok_or_else(|| Invalid::field("run_id", format!("Invalid pk \"{run_id}\" - object does not exist.")))?;
        let metrics = match &body["metrics"] {
            Value::Array(metrics) => metrics.clone(),
            // Cekura's own command sends none, which the API reference does not allow.
            Value::Null if self.lenient => Vec::new(),
            Value::Null => return Err(Invalid::field("metrics", "This field is required.").into()),
            _ => return Err(Invalid::field("metrics", "Expected a list of items.").into()),
        };
        let mut reviews = Vec::new();
        for (at, metric) in metrics.iter().enumerate() {
            let id = metric["metric"].as_u64();
            let id =
                id.ok_or_else(|| Invalid(json!({"metrics": {at.to_string(): {"metric": ["A valid integer is required."]}}})))?;
            let known = DEFINITIONS.iter().find(|known| known.id == id);
            let mut review = json!({
                "metric": id,
                "metric_name": known.map(|known| known.name),
                "metric_function_name": known.map(|known| known.function_name),
                "feedback": metric["feedback"].as_str().unwrap_or_default(),
            });
            if let Some(expected) = metric.get("expected_value").filter(|value| !value.is_null()) {
                review["expected_value"] = expected.clone();
            }
            reviews.push(review);
        }
        let name = body["name"].as_str().unwrap_or_default();
        let reviews = Value::from(reviews);
        let (id, at) = self.runner.store.add_test_set(run.id, name, &reviews)?;
        ok(answers::test_set(id, name, &at, &run, &reviews, &self.links))
    }

    /// `observe/`: the call is kept, and judged by nobody.
    pub(super) async fn observe(&self, posted: Fields) -> Answer {
        let Value::Object(mut fields) = posted.fields else {
            return Err(Invalid(json!({"non_field_errors": ["Invalid data. Expected a dictionary."]})).into());
        };
        let call_id = match fields.remove("call_id") {
            Some(Value::String(text)) if !text.is_empty() && text.chars().count() <= LONGEST_CALL_ID => text,
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::String(text)) if text.is_empty() => {
                return Err(Invalid::field("call_id", "This field may not be blank.").into());
            }
            None | Some(Value::Null) => return Err(Invalid::field("call_id", "This field is required.").into()),
            Some(other) if !other.is_string() => return Err(Invalid::field("call_id", "Not a valid string.").into()),
            Some(_) => {
                let problem = format!("Ensure this field has no more than {LONGEST_CALL_ID} characters.");
                return Err(Invalid::field("call_id", problem).into());
            }
        };
        if !fields.contains_key("agent") && !fields.contains_key("assistant_id") {
            return Err(Invalid::field("agent", "One of agent and assistant_id is required.").into());
        }
        for name in ["transcript_json", "metadata", "dynamic_variables"] {
            parse_json_text(&mut fields, name)?;
        }
        let recording = match posted.file {
            Some(file) if file.part == "voice_recording" => Some(self.keep_recording(&call_id, file.bytes).await?),
            Some(file) => return Err(Invalid::field(&file.part, "The recording belongs into voice_recording.").into()),
            None => None,
        };
        let log = self.runner.store.observe(&call_id, &fields, recording.as_deref())?;
        Ok((StatusCode::CREATED, answers::call_log(&log)))
    }

    /// Keeps a recording whole or not at all.
    async fn keep_recording(&self, call_id: &str, bytes: axum::body::Bytes) -> Result<PathBuf, Refusal> {
        use sha2::{Digest, Sha256};
        self.check_room().await?;
        // A call id is the sender's, and no file name.
        let name: String = Sha256::digest(call_id).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let folder = self.runner.recordings.join("observed");
        let path = folder.join(name);
        let (place, count) = (path.clone(), bytes.len() as u64);
        let work = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&folder)?;
            write_whole(&place, 0o644, |file| file.write_all(&bytes))
        });
        let kept = work.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        kept.map_err(|error| {
            tracing::error!("{}: {error}", path.display());
            Refusal::detail(StatusCode::INSUFFICIENT_STORAGE, "the recording cannot be kept")
        })?;
        self.runner.note_recorded(count);
        Ok(path)
    }
}

/// In a form an object is sent as its JSON text.
fn parse_json_text(fields: &mut Map<String, Value>, name: &str) -> Result<(), Refusal> {
    if let Some(Value::String(text)) = fields.get(name) {
        let parsed = serde_json::from_str(text).map_err(|_| Invalid::field(name, "Value must be valid JSON."))?;
        fields.insert(name.to_owned(), parsed);
    }
    Ok(())
}

/// The modes that are not carried out here are told so.
fn carried_out(mode: Mode) -> Result<(), Refusal> {
    match support(mode) {
        Support::CarriedOut => Ok(()),
        Support::Never(what) => Err(never(mode.endpoint(), what)),
        Support::NotYet(what) => {
            let detail = format!("The sandbox does not carry out {} yet: it needs {what}.", mode.endpoint());
            Err(Refusal::detail(StatusCode::NOT_IMPLEMENTED, detail))
        }
    }
}

fn never(endpoint: &str, what: &str) -> Refusal {
    let detail = format!("The sandbox cannot carry out {endpoint}: it needs {what}, which cannot be on this machine.");
    Refusal::detail(StatusCode::BAD_REQUEST, detail)
}

/// A list of ids, as texts or numbers; not empty.
fn ids_of(body: &Value, field: &str) -> Result<Vec<u64>, Refusal> {
    let items = body[field].as_array().ok_or_else(|| Invalid::field(field, "This field is required."))?;
    let ids: Option<Vec<u64>> = items.iter().map(|item| item.as_u64().or_else(|| item.as_str()?.trim().parse().ok())).collect();
    match ids {
        Some(ids) if !ids.is_empty() => Ok(ids),
        Some(_) => Err(Invalid::field(field, "This list may not be empty.").into()),
        None => Err(Invalid::field(field, "A valid integer is required.").into()),
    }
}
