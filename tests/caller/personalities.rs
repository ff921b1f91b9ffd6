//! Personalities: what a file may hold, and what a caller of one does otherwise, on virtual time and through the command.

use crate::common;
use crate::voice;

use std::path::Path;
use std::time::Duration;

use common::{built_in_agent, call_folder, events, path, run, suite};
use serde_json::{Value, json};
use trunkline::call::{EffectKind, LegEvent};
use trunkline::caller::Patience;
use trunkline::caller::personality::Personalities;
use trunkline::caller::speech::SpeechStore;
use trunkline::caller::suite::PersonalityKey;
use voice::{LINE, Played, RATE, play, prepared, speech};

const FILE: &str = r#"
[[personalities]]
id = 7
name = "Slow"
pace = 0.8
pause_ms = 600
interrupts = false
backchannels = [{ at_ms = 600, text = "Friday at four, please." }, { at_ms = 2600, text = "Friday at four, please." }]

[[personalities]]
id = 8
name = "Plain"
"#;

/// The caller of `actions` as this personality, or as none, to an agent that says one thing from the first second on.
async fn played(actions: &[&str], personality: Option<&str>, agent: &str) -> Played {
    let store = SpeechStore::new(None, Path::new("unused"));
    let mut script = prepared("Test", actions, &store, Path::new("")).await;
    if let Some(name) = personality {
        let known = Personalities::parse(&toml::from_str(FILE).unwrap()).unwrap();
        script = script.cast(known.find(&PersonalityKey::Name(name.to_owned())).unwrap()).await.unwrap();
    }
    play(script.caller(Patience::default()), 14, Some((1, speech(agent)))).await
}

#[tokio::test(start_paused = true)]
async fn a_pause_before_the_answer_is_exactly_as_long_as_it_says_and_the_pace_is_heard() {
    let plain = played(&["", LINE], None, "agent-answer-2").await.marks()[0];
    assert_eq!(
        played(&["", LINE], Some("Plain"), "agent-answer-2").await.marks()[0],
        plain,
        "nothing is said of it, nothing is changed"
    );
    let slow = played(&["", LINE], Some("Slow"), "agent-answer-2").await;
    let mark = slow.marks()[0];
    assert_eq!(mark.0 - plain.0, RATE.samples_in(Duration::from_millis(600)) as usize);
    assert_eq!(mark.1 - mark.0, ((plain.1 - plain.0) as f64 / 0.8).round() as usize);
    assert!(slow.effects().contains(&(EffectKind::Speed { ratio: 0.8 }, mark.0, mark.1)));
}

#[tokio::test(start_paused = true)]
async fn a_backchannel_is_said_into_the_agents_turn_and_is_no_turn() {
    let slow = played(&["", LINE], Some("Slow"), "agent-answer-2").await;
    let asides: Vec<_> = slow
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            LegEvent::Backchannel { position, samples, .. } => Some((*position as usize, *samples as usize)),
            _ => None,
        })
        .collect();
    let words = (speech("caller-friday").len() as f64 / 0.8).round() as usize;
    let turn = speech("agent-answer-2").len();
    assert_eq!(asides.len(), 1, "the turn is over before the second, after {} ms", turn / 16);
    let (from, samples) = asides[0];
    // The agent's onset is detected: some frames of its speech pass before it is one.
    let late = from.abs_diff(16_000 + 600 * 16);
    assert!(late <= 8 * 320 && samples == words, "{} ms off", late / 16);
    assert!(slow.said[from..from + 16_000].iter().any(|sample| *sample != 0), "it is heard");
    assert_eq!(slow.marks().len(), 1, "its words are no speech of a turn");
    assert!(slow.marks()[0].0 >= 16_000 + turn, "the turn stays the agent's");
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_interrupt_waits_for_its_turn() {
    let actions = ["", &format!("<interruption time=\"500ms\"/>{LINE}")[..]];
    let end = 16_000 + speech("agent-answer-1").len();
    let plain = played(&actions, None, "agent-answer-1").await;
    assert!(plain.marks()[0].0 < end - 16_000, "it cuts in");
    let slow = played(&actions, Some("Slow"), "agent-answer-1").await;
    assert!(slow.marks()[0].0 > end, "it waits");
    let interrupts = |event: &LegEvent| matches!(event, LegEvent::SpeechStarted(mark) if mark.interruption.is_some());
    assert!(!slow.events.iter().any(|(_, event)| interrupts(event)));
}

#[test]
fn a_file_is_checked_key_by_key() {
    let parse = |json: Value| Personalities::parse(&json);
    let one = |more: Value| {
        let mut entry = json!({"id": 1, "name": "A"});
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        parse(json!({"personalities": [entry]})).unwrap_err()
    };
    assert_eq!(parse(json!([{"id": 1, "name": "A"}])).unwrap().all().len(), 1, "the list alone");
    for (more, expected) in [
        (json!({"paec": 1}), "unknown key \"paec\"; the nearest known one is \"pace\""),
        (json!({"pace": 3}), "from 0.5 to 2"),
        (json!({"pause_ms": -1}), "\"pause_ms\" must be a whole number"),
        (json!({"interrupts": "no"}), "must be true or false"),
        (json!({"name": " "}), "\"name\" must be a text"),
        (json!({"backchannels": [{"at_ms": 5, "text": ""}]}), "must be words"),
        (json!({"backchannels": [{"at": 5, "text": "a"}]}), "the nearest known one is \"at_ms\""),
        (json!({"backchannels": [{"at_ms": 5, "text": "a"}, {"at_ms": 5, "text": "b"}]}), "later than the one before"),
    ] {
        let problem = one(more);
        assert!(problem.starts_with("personality number 1: ") && problem.contains(expected), "{problem}");
    }
    let twice = parse(json!([{"id": 1, "name": "A"}, {"id": 1, "name": "B"}])).unwrap_err();
    assert!(twice.contains("the id 1 is used twice"), "{twice}");
}

#[test]
fn a_scenario_names_its_personality_and_the_call_is_measured_without_its_backchannels() {
    let folder = tempfile::tempdir().unwrap();
    let file = suite(folder.path(), &["", "Tuesday at eleven, please.", "Thank you, goodbye. <endcall/>"]);
    let mut json: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    json["scenarios"][0]["personality"] = json!(7);
    std::fs::write(&file, json.to_string()).unwrap();
    let personalities = folder.path().join("p.toml");
    std::fs::write(&personalities, FILE).unwrap();
    let (_agent, to) = built_in_agent("scripted");
    let out = folder.path().join("out");
    let arguments =
        ["--to", &to, "--suite", path(&file), "--out", path(&out), "--format", "json", "--personalities", path(&personalities)];
    let output = run(&[&["call"], &arguments[..]].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    let folder_of_call = call_folder(&out);
    let events = events(&folder_of_call);
    let said = |name: &str| events.iter().filter(|event| event["event"] == name && event["side"] == "caller").count();
    assert!(said("backchannel") >= 1, "the agent's answers are longer than 600 ms");
    assert_eq!(said("speech_started"), 2);
    let discarded = |event: &&Value| event["event"] == "discarded" && event["side"] == "agent";
    assert_eq!(events.iter().filter(discarded).count(), 0, "no backchannel cuts the agent off on our side");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let measures = &report["runs"][0]["measures"];
    assert_eq!(measures["barge_in"]["events"], json!([]), "nor is it an interruption");
    let turns = measures["turns"].as_array().unwrap().iter().filter(|turn| turn["side"] == "caller");
    assert_eq!(turns.map(|turn| turn["known"].clone()).collect::<Vec<_>>(), ["script", "script"]);

    json["scenarios"][0]["personality"] = json!({"name": "Nobody", "speed": 1});
    std::fs::write(&file, json.to_string()).unwrap();
    let output = run(&[&["call"], &arguments[..]].concat());
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("scenario \"Test\": there is no personality \"Nobody\"; there are: 7 (Slow), 8 (Plain)"), "{told}");
}

#[test]
fn a_start_at_the_sandbox_may_ask_for_another_personality() {
    let folder = tempfile::tempdir().unwrap();
    let file = suite(folder.path(), &["", "Tuesday at eleven, please. <endcall/>"]);
    let personalities = folder.path().join("p.toml");
    std::fs::write(&personalities, FILE).unwrap();
    let (_agent, to) = built_in_agent("scripted");
    for (id, code) in [(7, 0), (9, 3)] {
        let payload = folder.path().join("run.json");
        let body = json!({"agent_id": 1, "scenarios": [1], "frequency": 1, "personality_ids": [id]});
        std::fs::write(&payload, body.to_string()).unwrap();
        let out = folder.path().join(format!("out-{id}"));
        let arguments = ["run", "chirp", "--sandbox", "--from-file", path(&payload), "--to", &to, "--suite", path(&file)];
        let config = folder.path().join("trunkline.toml");
        std::fs::write(&config, format!("personalities = \"{}\"\n[doors.chirp]\nlisten = \"127.0.0.1:0\"\n", path(&personalities)))
            .unwrap();
        let output = run(&[&arguments[..], &["--config", path(&config), "--out", path(&out), "--format", "json"]].concat());
        let told = String::from_utf8_lossy(&output.stderr);
        let report = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{told}{report}");
        if code == 3 {
            assert!(told.contains("Invalid personalities provided: 9."), "{told}");
        } else {
            let spoken = events(&call_folder(&out));
            let mark = |name: &str| {
                let found = spoken.iter().find(|event| event["event"] == name && event["side"] == "caller");
                found.and_then(|event| event["sample"].as_u64()).unwrap_or_else(|| panic!("no {name}"))
            };
            let words = mark("speech_stopped") - mark("speech_started");
            // Through the door the caller is another's: its marks are signalled, some 200 ms off at either end.
            assert!(words > speech("caller-tuesday").len() as u64, "it speaks more slowly: {words} samples");
        }
    }
}
