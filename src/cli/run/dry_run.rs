//! What a suite's start would do, asked of the API: nothing is started.

use serde_json::Value;

use super::super::io::result;
use super::super::listing::{json_of, rows, shown};
use super::super::outcome::Format;
use crate::cekura::{ApiError, Client, ResultState};
use crate::error::{Exit, Failure};

/// Asks for the plan of `body`, by the call that checks alone (`validate`) or by a dry run of the start, and prints it.
pub(super) async fn ask(client: &Client, body: &Value, validate: bool, format: Format) -> Result<Exit, Failure> {
    let answer = if validate { client.validate(body).await } else { client.dry_run(body).await };
    let answer = answer.map_err(refused)?;
    if let Ok(started) = ResultState::read(answer.clone()) {
        let runs: Vec<_> = started.runs.iter().map(|run| run.id.to_string()).collect();
        let problem = format!("the API took the dry run for a start: result {}, runs {}", started.id, runs.join(", "));
        return Err(Failure::infrastructure(problem).hint(format!("trunkline results end-calls {}", started.id)));
    }
    match format {
        Format::Json => result(&json_of(&answer)),
        Format::Table => result(&table(&answer)),
    }
    // `valid` is not there in each answer: a suite that is wrong is refused with an error.
    Ok(if answer["valid"] == false { Exit::Usage } else { Exit::Passed })
}

/// A suite that the API does not take is the user's to mend; each of its errors has a line.
fn refused(error: ApiError) -> Failure {
    match &error {
        ApiError::Refused { status: 400 | 413 | 422, details, .. } if !details.is_empty() => {
            let lines: Vec<_> = details.iter().map(|line| format!("\n  {line}")).collect();
            Failure::usage(format!("the API does not take the suite:{}", lines.concat()))
        }
        _ => Failure::infrastructure(error),
    }
}

/// The plan's members, a row each; of its scenarios a row each, too.
fn table(answer: &Value) -> String {
    let plan = answer.get("plan").unwrap_or(answer);
    let members = plan.as_object().into_iter().flatten().filter(|(_, value)| !value.is_array() && !value.is_object());
    let mut text = rows(&["plan", ""], members.map(|(key, value)| vec![key.replace('_', " "), shown(Some(value))]));
    let scenarios: Vec<_> = plan["scenarios"].as_array().into_iter().flatten().map(scenario).collect();
    if !scenarios.is_empty() {
        text.push('\n');
        text.push_str(&rows(&["scenario", "runs"], scenarios.into_iter()));
    }
    text
}

/// The shape of a plan's scenarios is not published: a name, or an object with one.
fn scenario(entry: &Value) -> Vec<String> {
    let name = if entry.is_object() { &entry["name"] } else { entry };
    let runs = ["total_runs", "runs", "frequency"].iter().find_map(|key| entry.get(*key));
    vec![shown(Some(name)), shown(runs)]
}
