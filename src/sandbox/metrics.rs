//! The sandbox's metrics: what the recording says of a run, held against the configured thresholds. Nothing here needs a
//! language model, and nothing is made up: what could not be measured has no value.

use serde::Deserialize;
use serde_json::{Value, json};

use super::carrier::RunEnd;
use crate::measure::{BargeIn, Figure, Measures};

/// What a run must keep to; each is off where it is not set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
pub struct MetricThresholds {
    /// The longest answer of the agent, in ms.
    pub max_latency_ms: Option<f64>,
    /// How often the agent may talk on when it is interrupted.
    pub max_interruptions_ignored: Option<f64>,
    /// The smallest share of the call's time, 0 to 1, in which the agent speaks.
    pub min_talk_ratio: Option<f64>,
    /// The largest.
    pub max_talk_ratio: Option<f64>,
    /// How long neither may have spoken, in pauses of more than two seconds, in ms.
    pub max_dead_air_ms: Option<f64>,
    /// How many infrastructure issues (lost and late frames, a slip of the caller's pacing, a broken connection) there may be.
    pub max_infrastructure_issues: Option<f64>,
}

/// A metric: its id, name and function name.
pub(super) struct Definition {
    pub(super) id: u64,
    pub(super) name: &'static str,
    pub(super) function_name: &'static str,
    unit: &'static str,
}

/// All metrics.
pub(super) const DEFINITIONS: [Definition; 5] = [
    Definition { id: 1, name: "Latency", function_name: "latency", unit: "ms" },
    Definition { id: 2, name: "Interruptions ignored", function_name: "interruptions_ignored", unit: "count" },
    Definition { id: 3, name: "Talk Ratio", function_name: "talk_ratio", unit: "ratio" },
    Definition { id: 4, name: "Dead Air", function_name: "dead_air", unit: "ms" },
    Definition { id: 5, name: "Infrastructure Issues", function_name: "infrastructure_issues", unit: "count" },
];

impl MetricThresholds {
    /// Whether something is asked of what the recording tells.
    pub(super) fn ask_the_recording(&self) -> bool {
        Self { max_infrastructure_issues: None, ..*self } != Self::default()
    }
}

/// What is wrong with a value, if it misses its threshold.
fn missed(value: Option<f64>, least: Option<f64>, most: Option<f64>, unit: &str) -> Option<String> {
    let value = value?;
    let over = most.filter(|most| value > *most).map(|most| format!("{value} {unit}, at most {most} are allowed"));
    over.or_else(|| least.filter(|least| value < *least).map(|least| format!("{value} {unit}, at least {least} are wanted")))
}

/// A run's metrics as the API lists them, and the reasons why the run does not pass.
pub(super) fn evaluate(
    measures: Option<&Measures>,
    end: RunEnd,
    connection_lost: bool,
    thresholds: &MetricThresholds,
) -> (Vec<Value>, Vec<String>) {
    let mut reasons = Vec::new();
    let items = DEFINITIONS.iter().map(|definition| {
        let (value, method) = value_of(definition.id, measures, end, connection_lost);
        let (least, most) = limits(definition.id, thresholds);
        let miss = missed(value, least, most, definition.unit);
        let judged = value.is_some() && (least.is_some() || most.is_some());
        let explanation = match (&miss, value) {
            (Some(miss), _) => miss.clone(),
            (None, Some(value)) => format!("{value} {}: {method}", definition.unit),
            (None, None) => "not measured".to_owned(),
        };
        if let Some(miss) = miss.as_ref() {
            reasons.push(format!("{}: {miss}", definition.name));
        }
        json!({
            "id": definition.id,
            "name": definition.name,
            "type": "numeric",
            "function_name": definition.function_name,
            "score": value,
            // The API's word for 0 = failed; null where nothing was judged.
            "score_normalized": judged.then_some(if miss.is_some() { 0 } else { 100 }),
            "explanation": [explanation],
            "extra": {"unit": definition.unit, "min": least, "max": most, "method": method},
        })
    });
    let items = items.collect();
    (items, reasons)
}

fn limits(id: u64, thresholds: &MetricThresholds) -> (Option<f64>, Option<f64>) {
    match id {
        1 => (None, thresholds.max_latency_ms),
        2 => (None, thresholds.max_interruptions_ignored),
        3 => (thresholds.min_talk_ratio, thresholds.max_talk_ratio),
        4 => (None, thresholds.max_dead_air_ms),
        _ => (None, thresholds.max_infrastructure_issues),
    }
}

/// A metric's value and how it was found.
fn value_of(id: u64, measures: Option<&Measures>, end: RunEnd, connection_lost: bool) -> (Option<f64>, String) {
    if id == 5 {
        return infrastructure(measures, end, connection_lost);
    }
    let Some(measures) = measures else { return (None, String::new()) };
    let figure = |figure: &Figure| (figure.value, figure.method.clone());
    match id {
        1 => figure(&measures.response_latency.max),
        2 => {
            let ignored = |event: &&BargeIn| event.scripted && !event.yielded;
            let count = measures.barge_in.events.iter().filter(ignored).count();
            let asked = measures.barge_in.events.iter().any(|event| event.scripted);
            (asked.then_some(count as f64), measures.barge_in.method.clone())
        }
        3 => figure(&measures.agent.talk_ratio),
        _ => figure(&measures.dead_air),
    }
}

/// Lost frames, frames that came late or were not read, a slip of the caller's own pacing, a broken connection: each is one.
fn infrastructure(measures: Option<&Measures>, end: RunEnd, connection_lost: bool) -> (Option<f64>, String) {
    let method = "lost, late and unread frames, a slip of the caller's pacing above 100 ms, a connection that failed: one each";
    let mut issues = usize::from(end == RunEnd::Failed) + usize::from(connection_lost);
    if let Some(measures) = measures {
        let any = |figure: &Figure| usize::from(figure.value.is_some_and(|value| value > 0.0));
        let sides = [&measures.caller, &measures.agent];
        issues +=
            sides.iter().map(|side| any(&side.frames_lost) + any(&side.frames_late) + any(&side.frames_not_read)).sum::<usize>();
        issues += usize::from(measures.pacing_slip.value.is_some_and(|slip| slip > 100.0));
    }
    (Some(issues as f64), method.to_owned())
}
