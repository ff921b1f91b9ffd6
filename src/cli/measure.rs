//! `trunkline measure`.

use std::path::PathBuf;

use super::io::result;
use super::outcome::Format;
use crate::error::{Exit, Failure};
use crate::measure::{Figure, Known, Measures, measure};

/// Recomputes a call's numbers from its folder alone
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  trunkline measure trunkline-runs/20260101-120000-abc123 --format json")]
pub struct Args {
    /// The call's folder
    folder: PathBuf,
    /// What is printed on stdout
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let measures = measure(&args.folder).map_err(Failure::usage)?;
    match args.format {
        Format::Json => {
            let json = serde_json::to_string_pretty(&measures).expect("measures are plain data with string keys");
            result(&json);
        }
        Format::Table => result(&shown(&measures)),
    }
    Ok(Exit::Passed)
}

fn shown(measures: &Measures) -> String {
    let mut out = format!("call {}\n", measures.ids.call_id);
    for (number, turn) in measures.turns.iter().enumerate() {
        let known = match turn.known {
            Known::Script => "script",
            Known::Detected => "detected",
            Known::Logged => "logged",
        };
        let (from, to) = (turn.start_ms / 1000.0, turn.end_ms / 1000.0);
        out.push_str(&format!("turn {:>2}  {:<6}  {from:8.3} s  to {to:8.3} s  ({known})\n", number + 1, turn.side.name()));
    }
    for answer in &measures.response_latency.answers {
        out.push_str(&format!("answer at {:.3} s: {:.0} ms\n", answer.agent_onset_ms / 1000.0, answer.latency_ms));
    }
    for event in &measures.barge_in.events {
        let word = if event.yielded { "gave way" } else { "talked on" };
        out.push_str(&format!(
            "barge-in at {:.3} s: the agent {word}, silent after {:.0} ms, {:.0} ms discarded\n",
            event.caller_onset_ms / 1000.0,
            event.stopped_after_ms,
            event.discarded_ms
        ));
    }
    let latency = &measures.response_latency;
    let mut rows: Vec<(String, &Figure)> = vec![
        ("duration".into(), &measures.duration),
        ("first agent audio".into(), &measures.first_agent_audio),
        ("response latency p50".into(), &latency.p50),
        ("response latency p95".into(), &latency.p95),
        ("response latency max".into(), &latency.max),
        ("false stops".into(), &measures.barge_in.false_stops),
        ("overlap".into(), &measures.overlap),
        ("dead air".into(), &measures.dead_air),
        ("pacing slip".into(), &measures.pacing_slip),
    ];
    if let Some(chat) = &measures.chat {
        rows.extend([
            ("caller messages".into(), &chat.caller_messages),
            ("agent messages".into(), &chat.agent_messages),
            ("function calls".into(), &chat.function_calls),
            ("unanswered turns".into(), &chat.unanswered),
        ]);
    }
    for (name, side) in [("caller", &measures.caller), ("agent", &measures.agent)] {
        rows.extend([
            (format!("{name} talk ratio"), &side.talk_ratio),
            (format!("{name} level"), &side.level),
            (format!("{name} peak"), &side.peak),
            (format!("{name} clipped samples"), &side.clipped),
            (format!("{name} frames late"), &side.frames_late),
            (format!("{name} frames concealed"), &side.frames_concealed),
            (format!("{name} frames lost"), &side.frames_lost),
            (format!("{name} frames not read"), &side.frames_not_read),
            (format!("{name} received rate"), &side.received_rate),
        ]);
    }
    for (name, figure) in rows {
        let value = figure.value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"));
        out.push_str(&format!("{name:<24}{value:>12} {:<6} {} [{}]\n", figure.unit, figure.method, figure.error));
    }
    for note in &measures.notes {
        out.push_str(&format!("note: {note}\n"));
    }
    out
}
