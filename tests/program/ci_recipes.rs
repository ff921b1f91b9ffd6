//! The CI recipes in `docs/`: they are YAML, their reports are where Trunkline writes them, and each `trunkline` command in them, and in
//! `docs/reach.md`, is one.

use crate::common;

use std::path::Path;

use clap::Parser as _;
use common::python;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn recipe(name: &str) -> (Value, Vec<String>) {
    let file = root().join("docs/ci").join(name);
    let output = python("ci_recipe.py", &[common::path(&file)]).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    let commands = read["commands"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect();
    (read["recipe"].clone(), commands)
}

/// Parses a shell line's Trunkline command by the real definition; its variables hold some number.
fn parse(line: &str) {
    let words = shell_words::split(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let words =
        words.iter().skip_while(|word| *word != "trunkline").take_while(|word| !["|", "&&", ">", "&"].contains(&word.as_str()));
    let words: Vec<_> =
        words.map(|word| if word.contains('$') { word.replace(word.as_str(), "1") } else { word.clone() }).collect();
    if let Err(error) = trunkline::cli::Cli::try_parse_from(&words) {
        panic!("{line}: {error}");
    }
}

fn parse_all(name: &str, commands: &[String]) {
    let ours: Vec<_> = commands.iter().filter(|line| line.split_whitespace().next() == Some("trunkline")).collect();
    assert!(ours.len() >= 4, "{name}: {commands:?}");
    ours.into_iter().for_each(|line| parse(line));
}

#[test]
fn the_github_recipe_is_a_workflow_whose_commands_exist() {
    let (recipe, commands) = recipe("github-actions.yml");
    parse_all("github-actions.yml", &commands);
    assert!(recipe["on"]["push"].is_object());
    let mut reports = 0;
    for (name, job) in recipe["jobs"].as_object().unwrap() {
        assert!(job["runs-on"].is_string() && job["timeout-minutes"].is_number(), "{name}");
        for step in job["steps"].as_array().unwrap() {
            assert!(step["uses"].is_string() != step["run"].is_string(), "{name}: a step uses an action or runs a command: {step}");
            // An expression in a script would be text of whoever opens a pull request.
            assert!(!step["run"].as_str().unwrap_or_default().contains("${{"), "{name}: {step}");
            reports += usize::from(step["with"]["report_paths"] == "runs/junit.xml" && step["if"] == "always()");
        }
    }
    assert_eq!(reports, 2, "both jobs with calls report, also when they fail");
}

#[test]
fn the_gitlab_recipe_reports_junit_and_its_commands_exist() {
    let (recipe, commands) = recipe("gitlab-ci.yml");
    parse_all("gitlab-ci.yml", &commands);
    let artifacts = &recipe[".trunkline"]["artifacts"];
    assert_eq!((&artifacts["reports"]["junit"], &artifacts["when"]), (&"runs/junit.xml".into(), &"always".into()));
    for job in ["offline", "validate", "cekura"] {
        assert_eq!(recipe[job]["extends"], ".trunkline", "{job}");
        assert!(recipe[job]["script"].as_array().is_some_and(|script| !script.is_empty()), "{job}");
    }
    assert!(
        recipe["validate"].as_object().unwrap()["artifacts"].is_null(),
        "null takes away what is extended: a check has no report"
    );
}

#[test]
fn a_command_that_is_none_is_found() {
    assert!(std::panic::catch_unwind(|| parse("trunkline run spec suite.json --agent-idd 1")).is_err());
    parse("CEKURA_API_KEY=… trunkline runs list --result-id \"$ID\" --format json | jq .");
}

#[test]
fn the_page_on_reaching_a_door_is_true() {
    let page = std::fs::read_to_string(root().join("docs/reach.md")).unwrap();
    let commands: Vec<_> = page.split('`').filter(|code| code.starts_with("trunkline ")).collect();
    assert_eq!(commands.len(), 5, "serve and call for the doors, call for a chat door, serve and call for LiveKit: {commands:?}");
    for command in commands {
        parse(&command.replace('…', "process:x"));
    }
    let defaults = trunkline::config::Config::parse("[doors.chirp]\nlisten = \"0.0.0.0:443\"\ncertificate = \"a\"\nkey = \"b\"\n");
    assert!(defaults.is_ok(), "the keys that it names are there");
}
