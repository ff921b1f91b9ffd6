//! JUnit XML: a test case a run.

use std::collections::HashMap;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestSuite};

use super::{Report, RunReport, Verdict};

/// The report as JUnit XML. A failed run is a `failure` with its kind as the type; a void one is an `error`; one that was
/// started and not waited for is `skipped`.
#[must_use]
pub fn junit(report: &Report) -> String {
    let name = clean(report.name.as_deref().unwrap_or("trunkline"));
    let mut suite = TestSuite::new(format!("{} ({})", name, report.mode));
    let mut times: HashMap<&str, usize> = HashMap::new();
    report.runs.iter().for_each(|run| *times.entry(&run.scenario).or_default() += 1);
    for (number, run) in report.runs.iter().enumerate() {
        let repeated = times[run.scenario.as_str()] > 1;
        suite.add_test_case(test_case(report, run, repeated.then_some(number + 1)));
    }
    let mut whole = quick_junit::Report::new("trunkline");
    whole.add_test_suite(suite);
    whole.to_string().unwrap_or_else(|error| format!("<!-- {} -->\n", clean(&error.to_string())))
}

fn test_case(report: &Report, run: &RunReport, number: Option<usize>) -> TestCase {
    let status = match run.failures.first() {
        None if run.verdict == Verdict::Pending => TestCaseStatus::skipped(),
        None => TestCaseStatus::success(),
        Some(first) => {
            let kind = if run.verdict == Verdict::Void { NonSuccessKind::Error } else { NonSuccessKind::Failure };
            let mut status = TestCaseStatus::non_success(kind);
            let all: Vec<_> = run.failures.iter().map(|f| format!("{}: {}", f.kind.name(), clean(&f.detail))).collect();
            status.set_type(first.kind.name()).set_message(clean(&first.detail)).set_description(all.join("\n"));
            status
        }
    };
    let name = match number {
        Some(number) => format!("{} #{number}", clean(&run.scenario)),
        None => clean(&run.scenario),
    };
    let mut case = TestCase::new(name, status);
    case.set_classname(format!("trunkline.{}", report.mode));
    let duration_ms = run.measures.as_ref().and_then(|measures| measures.duration.value);
    case.set_time(Duration::from_secs_f64(duration_ms.unwrap_or_default().max(0.0) / 1000.0));
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let properties = [
        ("run_id", run.run_id.as_ref().map(text)),
        ("result_id", report.result_id.as_ref().map(text)),
        ("scenario_id", run.scenario_id.as_ref().map(text)),
        ("recording", run.recording.as_ref().map(|path| path.display().to_string())),
    ];
    for (name, value) in properties {
        if let Some(value) = value {
            case.add_property(Property::new(name, clean(&value)));
        }
    }
    case
}

/// XML 1.0 has no place for most control characters.
fn clean(text: &str) -> String {
    let allowed =
        |c: char| matches!(c, '\t' | '\n' | '\r') || (c >= ' ' && !matches!(c, '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}'));
    text.chars().map(|c| if allowed(c) { c } else { '\u{fffd}' }).collect()
}
