//! The report for people.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

use super::load_table::load_table;
use super::{Report, RunReport};
use crate::measure::{Figure, Measures};

/// The report as a table, with a line on each failure and one on the whole; of a load the sums and not each call. On a terminal
/// it keeps to its width.
#[must_use]
pub fn table(report: &Report) -> String {
    if let Some(load) = &report.load {
        return load_table(report, load);
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header([
        "scenario",
        "run",
        "status",
        "verdict",
        "turns",
        "first audio",
        "latency p50",
        "p95",
        "max",
        "barge-in",
        "discarded",
        "recording",
    ]);
    for run in &report.runs {
        table.add_row(row(run));
    }
    for column in 4..=10 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut out = format!("{table}\n");
    for run in &report.runs {
        for failure in &run.failures {
            let word = if failure.kind.is_void() { "void" } else { "failed" };
            out.push_str(&format!("{word}: {}: {}: {}\n", run.scenario, failure.kind.name(), failure.detail));
        }
    }
    if let Some(method) = report.runs.iter().find_map(|run| run.measures.as_ref()).map(|m| &m.response_latency.p50.method) {
        out.push_str(&format!("latency, barge-in and first audio in ms; latency: {method}\n"));
    }
    out.push_str(&outcome(report));
    out
}

/// The line on the whole.
pub(super) fn outcome(report: &Report) -> String {
    let totals = report.totals;
    let result = report.result_id.as_ref().map(|id| format!("result {id} {}: ", report.status)).unwrap_or_default();
    let pending = if totals.pending > 0 { format!(", {} pending", totals.pending) } else { String::new() };
    format!(
        "{result}{} of {} passed, {} failed, {} void{pending}: {}\n",
        totals.passed,
        totals.runs,
        totals.failed,
        totals.void,
        report.verdict.name()
    )
}

fn row(run: &RunReport) -> Vec<Cell> {
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let measures = run.measures.as_ref();
    let ms = |pick: &dyn Fn(&Measures) -> &Figure| {
        measures.and_then(|measures| pick(measures).value).map_or_else(|| "–".to_owned(), |ms| format!("{ms:.0}"))
    };
    let barge_ins = measures.map(|measures| measures.barge_in.events.as_slice()).unwrap_or_default();
    let list = |values: Vec<String>| if values.is_empty() { "–".to_owned() } else { values.join(", ") };
    let cells = [
        run.scenario.clone(),
        run.run_id.as_ref().map_or_else(|| "–".to_owned(), text),
        run.status.clone(),
        run.verdict.name().to_owned(),
        measures.map_or_else(|| "–".to_owned(), |measures| measures.turns.len().to_string()),
        ms(&|measures| &measures.first_agent_audio),
        ms(&|measures| &measures.response_latency.p50),
        ms(&|measures| &measures.response_latency.p95),
        ms(&|measures| &measures.response_latency.max),
        list(barge_ins.iter().map(|event| format!("{:.0}", event.stopped_after_ms)).collect()),
        list(barge_ins.iter().map(|event| format!("{:.0}", event.discarded_ms)).collect()),
        run.recording.as_ref().map_or_else(|| "–".to_owned(), |path| path.display().to_string()),
    ];
    cells
        .into_iter()
        .map(|cell| Cell::new(cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>()))
        .collect()
}
