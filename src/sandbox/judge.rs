//! Whether a run passed: the script was carried out, no threshold was missed, and a rule, where the scenario has one, says that the
//! expected outcome was met. What would need a language model is left open.

use serde_json::{Value, json};

use super::carrier::{RunEnd, RunOutcome, SPEECH};
use super::metrics::{MetricThresholds, evaluate};
use super::store::{Judgement, StoredRun};
use crate::caller::suite::Rule;
use crate::error::FileError;
use crate::measure::{Measures, measure};
use crate::record::{Role, TranscriptLine};

/// What a judgement goes by.
struct Evidence<'a> {
    end: RunEnd,
    carried_out: bool,
    error_message: Option<String>,
    connection_lost: bool,
    measures: Option<&'a Measures>,
    /// Why there are no measures of a call that took place.
    unmeasured: Option<String>,
    transcript: &'a [TranscriptLine],
    expected: Option<&'a str>,
    /// The agent's words are known to the last: it writes.
    chats: bool,
}

/// Judges a run that has just ended.
pub(super) fn judge(outcome: &RunOutcome, run: &StoredRun, thresholds: &MetricThresholds) -> Judgement {
    let evidence = Evidence {
        end: outcome.end,
        carried_out: outcome.success,
        error_message: outcome.error_message.clone(),
        connection_lost: outcome.connection_lost,
        measures: outcome.measures.as_ref().and_then(|measures| measures.as_deref().ok()),
        unmeasured: outcome.measures.as_ref().and_then(|measures| measures.as_ref().err().cloned()),
        transcript: &outcome.transcript,
        expected: run.expected_outcome.as_deref(),
        chats: run.chats(),
    };
    evidence.judge(thresholds)
}

/// Judges a run anew, from its recording. None for one that has not ended.
///
/// # Errors
/// Why the recording cannot be measured.
pub(super) fn judge_again(run: &StoredRun, thresholds: &MetricThresholds) -> Result<Option<Judgement>, FileError> {
    let Some(end) = run.outcome["end"].as_str().and_then(RunEnd::parse) else { return Ok(None) };
    let measures = run.recording.as_deref().map(measure).transpose()?;
    let evidence = Evidence {
        end,
        carried_out: run.outcome["carried_out"] == true,
        error_message: run.outcome["error_message"].as_str().map(str::to_owned),
        connection_lost: run.outcome["connection_lost"] == true,
        measures: measures.as_ref(),
        unmeasured: None,
        transcript: &run.transcript,
        expected: run.expected_outcome.as_deref(),
        chats: run.chats(),
    };
    Ok(Some(evidence.judge(thresholds)))
}

impl Evidence<'_> {
    fn judge(self, thresholds: &MetricThresholds) -> Judgement {
        let (metrics, mut reasons) = evaluate(self.measures, self.end, self.connection_lost, thresholds);
        if let Some(why) = self.unmeasured.as_ref().filter(|_| thresholds.ask_the_recording()) {
            reasons.push(format!("the recording cannot be measured: {why}"));
        }
        let expected_outcome = self.expected_outcome();
        if let Some(judged) = expected_outcome.as_ref().filter(|judged| judged["score"] != 100) {
            reasons.push(format!("expected outcome: {}", judged["explanation"][0].as_str().unwrap_or_default()));
        }
        let success = self.end == RunEnd::Completed && self.carried_out && reasons.is_empty();
        // Why no call took place counts for more than what was missed in it.
        let missed = (!reasons.is_empty()).then(|| reasons.join("; "));
        let error_message = self.error_message.or(missed.filter(|_| self.end == RunEnd::Completed));
        Judgement { success, error_message, metrics, expected_outcome }
    }

    /// What a rule says; none where the expected outcome is no rule, or where it is not known what the agent said.
    fn expected_outcome(&self) -> Option<Value> {
        let rule = Rule::parse(self.expected?)?.ok()?;
        let said: Vec<&str> = self
            .transcript
            .iter()
            .filter(|line| line.role == Role::MainAgent && line.content != SPEECH)
            .map(|line| line.content.as_str())
            .collect();
        if said.is_empty() && !self.chats {
            return None;
        }
        let met = said.iter().any(|text| rule.matches(text)) || rule.matches(&said.join("\n"));
        let words = if met { "the agent's words keep to" } else { "nothing that the agent said keeps to" };
        Some(json!({"score": if met { 100 } else { 0 }, "explanation": [format!("{words} {rule}")], "outcome_alignments": []}))
    }
}
