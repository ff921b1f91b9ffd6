//! Suite files: what is played, what is refused, and that no file, message or configuration makes anything fall over.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use trunkline::caller::suite::{Piece, Script, Step, Suite, pieces};
use trunkline::config::Config;
use trunkline::transport::WayOut;
use trunkline::transport::chirp::Session;

fn condition(id: u32, action: &str) -> Value {
    let (after, kind) = match id {
        0 => ("FIRST_MESSAGE".to_owned(), "standard"),
        _ => ((id - 1).to_string(), "action_followup"),
    };
    json!({"id": id, "condition": after, "action": action, "type": kind, "fixed_message": true})
}

fn suite_of(conditions: Vec<Value>) -> Value {
    json!({"version": "1", "scenarios": [{
        "name": "Books", "key": "book", "type": "conditional_actions", "language": "en",
        "test_profile": {"caller_variables": {"name": "Ada"}, "agent_variables": {"plan": 7}},
        "conditional_actions": {"role": "a caller", "conditions": conditions},
    }]})
}

fn script(conditions: Vec<Value>) -> Result<Script, Vec<String>> {
    let told = |problems: Vec<trunkline::caller::suite::Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    Suite::parse(&suite_of(conditions)).map_err(told)?.scenarios[0].script().map_err(told)
}

fn say(text: &str) -> Step {
    Step::Say { text: text.to_owned(), ignore_interruptions: false }
}

#[test]
fn a_script_is_the_first_message_and_the_chain_of_its_follow_ups() {
    let script = script(vec![
        condition(0, ""),
        condition(2, "<interruption time=\"1.5s\"/>My plan is {{test_profile.plan}}. <endcall/>"),
        condition(1, "I am {{ test_profile.name }}. <silence time=\"500ms\"/> <ignore_interruptions>Wait <silence time='1s'/> please.</ignore_interruptions> <hold time=\"2s\"/>"),
    ])
    .unwrap();
    assert_eq!(script.opening, None, "an empty first message: the agent speaks first");
    assert_eq!(script.lines.iter().map(|line| line.condition).collect::<Vec<_>>(), [1, 2]);
    let to_the_end = |text: &str| Step::Say { text: text.to_owned(), ignore_interruptions: true };
    let steps = [
        say("I am Ada."),
        Step::Silence(Duration::from_millis(500)),
        to_the_end("Wait"),
        Step::Hold(Duration::from_secs(1)),
        to_the_end("please."),
        Step::Hold(Duration::from_secs(2)),
    ];
    assert_eq!(script.lines[0].steps, steps);
    assert_eq!(script.lines[1].interrupt_after, Some(Duration::from_millis(1500)));
    assert_eq!(script.lines[1].steps, [say("My plan is 7."), Step::EndCall]);
}

#[test]
fn what_cannot_be_played_is_refused_with_scenario_condition_and_tag() {
    let standard =
        json!({"id": 1, "condition": "the agent asks for a name", "action": "Ada", "type": "standard", "fixed_message": true});
    let made_up = json!({"id": 1, "condition": "0", "action": "say hello", "type": "action_followup", "fixed_message": false});
    let follows_nothing = json!({"id": 7, "condition": "5", "action": "Hi", "type": "action_followup", "fixed_message": true});
    let twice = json!({"id": 2, "condition": "0", "action": "Hi", "type": "action_followup", "fixed_message": true});
    let cases = [
        (vec![condition(0, "Hi"), standard], "condition 1: a \"standard\" condition"),
        (vec![condition(0, "Hi"), made_up], "condition 1: \"fixed_message\": false asks a language model"),
        (vec![condition(0, "Hi"), follows_nothing], "condition 7: follows \"5\", which leads to nothing"),
        (vec![condition(0, "Hi"), condition(1, "a"), twice], "both follow 0"),
        (vec![condition(0, "Hi"), condition(1, "a <endcall/>"), condition(2, "b")], "condition 2: is never reached"),
        (vec![condition(0, "Hi"), condition(1, "b <interruption time=\"1s\"/>")], "only at the beginning"),
        (vec![condition(0, "<interruption time=\"1s\"/>Hi")], "only at the beginning"),
        (vec![condition(0, "{{test_profile.nam}}")], "the test profile has no \"nam\"; the nearest is \"name\""),
        (vec![condition(0, "{{function.x.y}}")], "functions are known, but not played yet"),
        (vec![condition(0, "{{test_profile.name")], "the closing }} is missing"),
        (vec![condition(0, "<silnce time=\"1s\"/>")], "the nearest one is <silence>"),
        (vec![condition(0, "<silence time=\"long\"/>")], "\"long\" is no time"),
        (vec![condition(0, "<silence/>")], "needs the attribute time"),
        (vec![condition(0, "<endcall/> and more")], "nothing may follow <endcall/>"),
        (vec![condition(0, "<ignore_interruptions>a")], "is not closed"),
        (vec![condition(0, "a </hold>")], "closes what was not opened"),
        (vec![condition(0, "<hold time=\"1s\"")], "> is missing"),
        (vec![condition(0, "")], "there is nothing to say"),
    ];
    for (conditions, expected) in cases {
        let problems = script(conditions.clone()).expect_err(expected).join("; ");
        assert!(problems.contains(expected), "{problems}");
        assert!(problems.starts_with("scenario \"Books\": "), "{problems}");
    }
}

#[test]
fn tags_of_the_format_that_are_not_played_yet_are_known_by_name() {
    let known = [
        "dtmf digits=\"1\"/",
        "ivr text=\"a\"/",
        "voicemail/",
        "audio id=\"1\"/",
        "noise sound=\"beep\"/",
        "background_noise sound=\"x\"",
        "network_simulation packet_loss=\"5\"/",
        "volume ratio=\"1\"/",
        "speed ratio=\"1\"/",
        "spell",
        "voice id=\"x\"/",
        "client_message t=\"x\"/",
        "send_sms text=\"x\"/",
        "function name=\"x\"/",
    ];
    for tag in known {
        let problems = pieces(&format!("Hello <{tag}> there")).expect_err(tag);
        let told = problems[0].to_string();
        assert!(told.contains(&format!("tag <{tag}> at character 7: is known, but not played yet")), "{told}");
    }
}

#[test]
fn a_suites_shape_is_checked_key_by_key_and_all_at_once() {
    let mut suite = suite_of(vec![condition(0, "Hi"), condition(1, "a"), condition(2, "")]);
    suite["version"] = json!(1);
    suite["scenarois"] = json!([]);
    suite["scenarios"][0]["langauge"] = json!("en");
    suite["scenarios"][0]["max_duration"] = json!(0);
    suite["scenarios"][0]["conditional_actions"]["conditions"][1]["id"] = json!(0);
    let problems: Vec<_> = Suite::parse(&suite).unwrap_err().iter().map(ToString::to_string).collect();
    let told = problems.join("\n");
    for expected in [
        "\"version\" must be \"1\"",
        "unknown key \"scenarois\"; the nearest known one is \"scenarios\"",
        "unknown key \"langauge\"; the nearest known one is \"language\"",
        "\"max_duration\" must be a whole number",
        "condition 0: this id is used twice",
        "\"action\" must not be empty",
    ] {
        assert!(told.contains(expected), "{expected} is not in:\n{told}");
    }
}

#[test]
fn the_shipped_suite_is_played_whole() {
    let json: Value = serde_json::from_str(include_str!("../fixtures/suites/demo.json")).unwrap();
    let suite = Suite::parse(&json).unwrap();
    let ready = trunkline::caller::speech::shipped_texts();
    for scenario in &suite.scenarios {
        for text in scenario.script().unwrap().texts() {
            assert!(ready.contains(&text.to_owned()), "no speech is shipped for {text:?}");
        }
    }
}

/// Any JSON, not too deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        ".{0,12}".prop_map(Value::from),
        Just(json!("FIRST_MESSAGE")),
        Just(json!("conditional_actions")),
    ];
    let key = prop_oneof![
        "[a-z_]{1,8}",
        Just("scenarios".to_owned()),
        Just("conditional_actions".to_owned()),
        Just("conditions".to_owned()),
        Just("id".to_owned()),
        Just("type".to_owned()),
        Just("data".to_owned()),
        Just("name".to_owned())
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..6).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_action_is_read_or_refused(action in "[<>/a-z =\"'{}.0-9ms]{0,80}|.{0,80}") {
        match pieces(&action) {
            Ok(pieces) if !action.contains('<') => {
                let words = action.split_whitespace().collect::<Vec<_>>().join(" ");
                let expected: Vec<_> = (!words.is_empty()).then_some(Piece::Text(words)).into_iter().collect();
                prop_assert_eq!(pieces, expected);
            }
            Ok(_) => {}
            Err(problems) => {
                let length = action.chars().count();
                prop_assert!(problems.iter().all(|problem| (1..=length).contains(&problem.at)), "{:?}", problems);
            }
        }
    }

    #[test]
    fn any_json_is_a_suite_or_refused(json in any_json()) {
        if let Ok(suite) = Suite::parse(&json) {
            for scenario in &suite.scenarios {
                drop(scenario.script());
            }
        }
    }

    #[test]
    fn any_json_is_a_payload_that_fits_or_is_told_of(json in any_json()) {
        for misfit in trunkline::cekura::payload::check(trunkline::cekura::Mode::Chirp, &json) {
            prop_assert!(misfit.path.starts_with('$') && !misfit.expected.is_empty());
        }
    }

    #[test]
    fn any_message_is_a_chirp_event_or_a_refusal(text in ".{0,60}", json in any_json(), bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
        let mut session = Session::default();
        drop(session.text(&text));
        drop(session.text(&json.to_string()));
        let event = json!({"type": "speech.started", "id": "1", "ts_ms": 0, "data": json});
        drop(session.text(&event.to_string()));
        prop_assert_eq!(session.binary(&bytes).is_ok(), !bytes.is_empty() && bytes.len() % 2 == 0);
    }

    #[test]
    fn any_text_is_a_configuration_or_refused(text in "[a-z.\\[\\]= \"\n0-9]{0,80}|.{0,60}") {
        if let Err(problem) = Config::parse(&text) {
            prop_assert!(!problem.is_empty());
        }
    }

    #[test]
    fn a_way_out_is_refused_or_says_itself(text in "(chirps?://|process:|ws://|)[a-z0-9:/ '\"\\.\\[\\]@-]{0,40}") {
        if let Ok(way) = text.parse::<WayOut>() {
            let again: WayOut = way.to_string().parse().unwrap();
            prop_assert_eq!(again, way);
        }
    }
}
