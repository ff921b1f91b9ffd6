//! The report of a load for people.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Table};

use super::table::outcome;
use super::{Host, Load, Report, Spread, StageSpread, VOID_SLIP_MS};
use crate::transport::Stage;

/// The sums, the times, the failures by kind, the machine, and a line on the whole.
pub(super) fn load_table(report: &Report, load: &Load) -> String {
    let mut out = format!(
        "calls: {} of {} placed, {} passed, {} failed, {} void; {} at once at the most ({} allowed{}); {:.1} s\n",
        load.placed,
        load.asked,
        report.totals.passed,
        report.totals.failed,
        report.totals.void,
        load.at_once_reached,
        load.at_once,
        if load.ramp_s > 0.0 { format!(", started over {} s", load.ramp_s) } else { String::new() },
        load.wall_ms / 1000.0,
    );
    out.push_str(&format!("{}\n", times(load)));
    out.push_str("percentiles are nearest ranks; of void calls nothing is counted\n");
    for failure in &load.failures {
        let word = if failure.void { "void" } else { "failed" };
        let stage = failure.stage.map(|stage| format!(" in {}", stage.name())).unwrap_or_default();
        let (kind, calls) = (failure.kind.name(), failure.calls);
        let example: String = failure.example.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        out.push_str(&format!("{word}: {kind}{stage}: {calls} calls, the first: {example}\n"));
    }
    out.push_str(&host(&load.host));
    out.push_str(&outcome(report));
    out
}

fn times(load: &Load) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["ms", "n", "p50", "p90", "p95", "p99", "max"]);
    let mut row = |name: &str, times: &Spread| {
        let cell = |ms: Option<f64>| {
            ms.map_or_else(|| "–".to_owned(), |ms| if ms < 100.0 { format!("{ms:.1}") } else { format!("{ms:.0}") })
        };
        let percentiles = [times.p50, times.p90, times.p95, times.p99, times.max].map(cell);
        table.add_row([name.to_owned(), times.n.to_string()].into_iter().chain(percentiles));
    };
    row("set-up", &load.set_up);
    for StageSpread { stage, times } in &load.stages {
        let within = if *stage == Stage::FirstAudio { "" } else { "  " };
        row(&format!("{within}{}", stage.name()), times);
    }
    row("first speech", &load.first_agent_audio);
    row("response latency", &load.response_latency);
    for column in 1..=6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn host(host: &Host) -> String {
    let percent = |share: Option<f64>| share.map_or_else(|| "?".to_owned(), |share| format!("{:.0} %", share * 100.0));
    let steal = host.steal_mean.filter(|steal| *steal >= 0.005).map(|steal| format!(", {:.0} % stolen", steal * 100.0));
    let mut line = format!(
        "this machine: CPU {} of {} cores (busiest second {}{}); this process {} cores, {} MiB at the most",
        percent(host.cpu_mean),
        host.cores,
        percent(host.cpu_max),
        steal.unwrap_or_default(),
        host.process_cores_mean.map_or_else(|| "?".to_owned(), |cores| format!("{cores:.2}")),
        host.process_peak_bytes.map_or_else(|| "?".to_owned(), |bytes| (bytes >> 20).to_string()),
    );
    match host.slips.worst_ms {
        None => line.push_str(&format!("; its pacing never slipped by more than {VOID_SLIP_MS:.0} ms\n")),
        Some(worst) => line.push_str(&format!(
            "; its own pacing slipped {} times in {} calls, by {worst:.0} ms at the worst: these calls are void, place fewer at once\n",
            host.slips.count, host.slips.calls
        )),
    }
    line
}
