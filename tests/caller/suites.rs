//! Suite files: what is played, what is refused, and that no file, message or configuration makes anything fall over.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use trunkline::caller::effects::{BEDS, SHOTS};
use trunkline::caller::suite::{Delivery, Piece, Rule, Script, Step, Suite, Trigger, pieces};
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
    Step::Say { text: text.to_owned(), delivery: Delivery::default() }
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
    let protected = Delivery { ignore_interruptions: true, ..Delivery::default() };
    let to_the_end = |text: &str| Step::Say { text: text.to_owned(), delivery: protected };
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
        (vec![condition(0, "{{function.x.y}}")], "no such function is declared"),
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
fn what_has_no_local_meaning_is_refused_and_says_why() {
    for (tag, why) in
        [("voice id=\"x\" provider=\"y\"/", "another voice needs another speech command"), ("send_sms text=\"x\"/", "SMS")]
    {
        let problems = pieces(&format!("Hello <{tag}> there")).expect_err(tag);
        let told = problems[0].to_string();
        assert!(told.starts_with(&format!("tag <{tag}> at character 7: cannot be played: ")) && told.contains(why), "{told}");
    }
}

#[test]
fn every_tag_of_the_format_has_its_piece() {
    let one = |action: &str| pieces(action).unwrap_or_else(|problems| panic!("{action}: {}", problems[0])).remove(0);
    let ms = Duration::from_millis;
    let text = |words: &str| Piece::Text(words.to_owned());
    assert_eq!(one("<dtmf digits='1-2#'/>"), Piece::Dtmf("1-2#".to_owned()));
    assert_eq!(one("<ivr text=\"Press 1 > now\"/>"), Piece::Ivr("Press 1 > now".to_owned()));
    assert_eq!(one("<voicemail/>"), Piece::Voicemail(None));
    assert_eq!(one("<voicemail text='Gone.' />"), Piece::Voicemail(Some("Gone.".to_owned())));
    assert_eq!(one("<audio id=\"hold-music\"/>"), Piece::Audio("hold-music".to_owned()));
    assert_eq!(one("<noise sound=\"beep\"/>"), Piece::Noise { sound: "beep", volume: 1.0, time: None });
    let beep = Piece::Noise { sound: "beep", volume: 0.5, time: Some(ms(1100)) };
    assert_eq!(one("<noise sound=\"beep\" volume=\"0.5\" time=\"1100\"/>"), beep);
    assert_eq!(one("<noise sound=\"beep\" volume=\"0.5\" time=\"1.1s\"/>"), beep, "an older page writes seconds");
    let bed =
        Piece::BackgroundNoise { sound: "coffee-shop", volume: 0.3, inner: vec![text("a"), Piece::Hold(ms(1000)), text("b")] };
    assert_eq!(one("<background_noise sound=\"coffee-shop\">a <hold time=\"1s\"/> b</background_noise>"), bed);
    assert_eq!(one("<network_simulation packet_loss=\"5\"/>"), Piece::PacketLoss(5.0));
    assert_eq!(one("<volume ratio=\"1.5\"/>"), Piece::Volume { ratio: 1.5, text: None });
    assert_eq!(one("<speed ratio=\"0.8\" text=\"slow\"/>"), Piece::Speed { ratio: 0.8, text: Some("slow".to_owned()) });
    assert_eq!(one("<spell>AB 1</spell>"), Piece::Spell("AB 1".to_owned()));
    let message = Piece::ClientMessage { kind: "t".to_owned(), data: Some("{\"a\":1}".to_owned()) };
    assert_eq!(one("<client_message t=\"t\" d='{\"a\":1}'/>"), message);
    assert_eq!(one("<function name=\"x\"/>"), Piece::Function("x".to_owned()));
    for sound in BEDS {
        one(&format!("<background_noise sound=\"{sound}\" volume=\"1\">a</background_noise>"));
    }
    for sound in SHOTS {
        one(&format!("<noise sound=\"{sound}\"/>"));
    }
    assert_eq!((BEDS.len(), SHOTS.len()), (30, 7), "the sounds that Cekura's page names");
}

#[test]
fn a_tag_that_is_wrong_is_told_of_with_what_would_be_right() {
    let cases = [
        ("<noise sound=\"coughing1\"/>", "the nearest one is \"cough1\""),
        ("<background_noise sound=\"cofee-shop\">a</background_noise>", "the nearest one is \"coffee-shop\""),
        ("<background_noise sound=\"rain-thunder\" volume=\"1.5\">a</background_noise>", "\"1.5\" is no number from 0 to 1"),
        ("<background_noise sound=\"rain-thunder\"/>", "needs text: <background_noise>…</background_noise>"),
        ("<noise sound=\"beep\" time=\"soon\"/>", "write milliseconds"),
        ("<network_simulation packet_loss=\"5\" jitter=\"20\"/>", "jitter and latency are not played"),
        ("<network_simulation packet_loss=\"101\"/>", "is no number from 0 to 100"),
        ("<volume ratio=\"NaN\"/>", "is no number from 0 to 2"),
        ("<speed ratio=\"3\"/>", "is no number from 0.1 to 2"),
        ("<audio id=\"../secret\"/>", "letters, digits, _ and -"),
        ("Hi <ivr text=\"a\"/>", "must be the whole action"),
        ("<voicemail/> and more", "must be the whole action"),
        ("<client_message t=\"a <ivr b\"/> <ivr text=\"c\"/>", "must be the whole action"),
        ("<spell></spell>", "has nothing to spell"),
        ("<spell>a <hold time=\"1s\"/></spell>", "cannot stand inside <spell>"),
        (
            "<background_noise sound=\"stadium-crowd\"><audio id=\"a\"/></background_noise>",
            "cannot stand inside <background_noise>",
        ),
        ("<ignore_interruptions><endcall/></ignore_interruptions>", "cannot stand inside <ignore_interruptions>"),
        ("<client_message d='1'/>", "needs the attribute t"),
    ];
    for (action, expected) in cases {
        let problems = pieces(action).expect_err(action);
        assert!(problems.iter().any(|problem| problem.problem.contains(expected)), "{action}: {problems:?}");
    }
    let more = [
        ("<dtmf digits=\"call me\"/>", "there is no key in"),
        ("<client_message t=\"a\" d='{'/>", "d is not JSON"),
        ("<function name=\"lookup\"/>", "no function \"lookup\" is declared"),
        ("<interruption time=\"1s\"/> <hold time=\"1s\"/>", "what is said over the agent is missing"),
    ];
    for (action, expected) in more {
        let problems = script(vec![condition(0, "Hi"), condition(1, action)]).expect_err(action).join("; ");
        assert!(problems.contains(expected), "{problems}");
    }
}

#[test]
fn words_are_said_in_one_breath_where_only_their_way_is_the_same() {
    let action = "My code is <spell>AB1</spell>, thanks. <speed ratio=\"1.2\"/> Quick. <volume ratio=\"0.5\" text=\"Soft.\"/> \
                  <dtmf digits=\"({{test_profile.plan}}) 1#\"/>";
    let script = script(vec![condition(0, action)]).unwrap();
    let way = |speed, volume| Delivery { speed, volume, ..Delivery::default() };
    let said = |text: &str, delivery| Step::Say { text: text.to_owned(), delivery };
    let expected = [
        say("My code is A, B, 1, thanks."),
        said("Quick.", way(1.2, 1.0)),
        said("Soft.", way(1.2, 0.5)),
        Step::Dtmf("71#".to_owned()),
    ];
    assert_eq!(script.opening.unwrap().steps, expected);
}

#[test]
fn a_standard_condition_is_played_by_its_rule_and_refused_without() {
    let standard = |id: u32, rule: &str| json!({"id": id, "condition": rule, "action": format!("to {id}"), "type": "standard", "fixed_message": true});
    let follows = |id: u32, after: u32| json!({"id": id, "condition": after, "action": "then", "type": "action_followup", "fixed_message": true});
    let script =
        script(vec![condition(0, "Hi"), standard(1, "contains: which  DAY"), follows(3, 1), standard(2, "regex: (?i)tues|wednes")])
            .unwrap();
    let triggers: Vec<_> = script.lines.iter().map(|line| (line.condition, line.trigger.clone())).collect();
    let rule = |text: &str| Trigger::Reply(Rule::parse(text).unwrap().unwrap());
    let expected = [(1, rule("contains: which  DAY")), (3, Trigger::Follows(1)), (2, rule("regex: (?i)tues|wednes"))];
    assert_eq!(triggers, expected);
    for (rule, expected) in [
        ("The agent asks for a day", "a script plays only a rule"),
        ("regex: (", "is no pattern: unclosed group"),
        ("contains:", "has no words"),
        ("regex: [a-z]{1000}{1000}", "is no pattern"),
    ] {
        let problems = self::script(vec![condition(0, "Hi"), standard(1, rule)]).expect_err(rule).join("; ");
        assert!(problems.contains("condition 1: ") && problems.contains(expected), "{problems}");
    }
}

#[test]
fn a_rule_is_for_what_it_says() {
    let matches = |rule: &str, text: &str| Rule::parse(rule).unwrap().unwrap().matches(text);
    assert!(matches("contains: Tuesday", "On TUESDAYS, yes"));
    assert!(matches("contains: on  tuesday", "On\n Tuesday"), "every run of white space is one");
    assert!(matches("contains: ÄPFEL", "zwei äpfel"));
    assert!(!matches("contains: Tuesday", "Tues day"));
    assert!(matches("regex: ^no\\b", "no, thanks") && !matches("regex: ^no\\b", "No") && !matches("regex: ^no\\b", "now"));
    for sentence in ["the agent asks for a name", "Tuesday: a day", "", "contains"] {
        assert!(Rule::parse(sentence).is_none(), "{sentence:?} is a sentence");
    }
}

#[test]
fn functions_are_checked_field_by_field() {
    let with = |function: Value| {
        let mut suite = suite_of(vec![condition(0, "Hi"), condition(1, "It is {{function.lookup.status}}.")]);
        suite["scenarios"][0]["conditional_actions"]["functions"] = json!([function]);
        let told = |problems: Vec<trunkline::caller::suite::Problem>| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        Suite::parse(&suite).map_err(told).and_then(|suite| suite.scenarios[0].script().map_err(told))
    };
    let good = json!({"name": "lookup", "type": "rest_api", "config": {
        "method": "GET", "url": "http://127.0.0.1:1/{{test_profile.name}}", "headers": {"Authorization": "hush"},
        "query_params": {"n": 1}, "timeout_seconds": 5, "response_mapping": {"status": {"path": "$.a[0][\"b-c\"]", "default": "none"}},
    }});
    let script = with(good.clone()).unwrap();
    assert_eq!(script.functions[0].url, "http://127.0.0.1:1/Ada");
    assert!(!format!("{script:?}").contains("hush"), "a header's value is a secret");
    assert!(!script.texts().iter().any(|text| text.contains("function")), "it cannot be spoken before the call");
    let changed = |path: &str, value: Value| {
        let mut function = good.clone();
        *function.pointer_mut(path).unwrap() = value;
        with(function).unwrap_err()
    };
    for (path, value, expected) in [
        ("/name", json!("a b"), "letters, digits, _ and -"),
        ("/type", json!("grpc"), "must be \"rest_api\""),
        ("/config/method", json!("PUT"), "\"GET\" or \"POST\""),
        ("/config/url", json!("file:///etc/passwd"), "http:// or https://"),
        ("/config/timeout_seconds", json!(31), "from 1 to 30"),
        ("/config/headers", json!({"a": []}), "must be a text or a number"),
        ("/config/response_mapping", json!({"status": "$..a"}), "is no path"),
        ("/config/response_mapping", json!({"other": "$.a"}), "response_mapping has no \"status\""),
    ] {
        let problems = changed(path, value);
        assert!(problems.contains(expected), "{problems}");
    }
    let problems = changed("/config/url", json!("http://127.0.0.1:1/{{test_profile.nam}}"));
    let expected = "scenario \"Books\": function \"lookup\": the test profile has no \"nam\"; the nearest is \"name\"";
    assert_eq!(problems, expected, "no condition is to blame");
    let mut unknown = good.clone();
    unknown["config"]["retries"] = json!(1);
    assert!(with(unknown).unwrap_err().contains("unknown key \"retries\""));
    let mut unrun = good;
    unrun["auto_run"] = json!(false);
    assert!(with(unrun).unwrap_err().contains("condition 1: uses function \"lookup\", which nothing runs"));
}

#[test]
fn a_value_of_the_test_profile_makes_no_placeholder() {
    for (value, action) in [
        ("{{function.lookup.status}}", "It is {{test_profile.name}}."),
        ("{", "It is {{test_profile.name}}{function.lookup.status}}."),
        ("{", "It is {{test_profile.name}}{{function.lookup.status}}."),
        ("{{", "It is {{test_profile.name}}."),
    ] {
        let mut suite = suite_of(vec![condition(0, "Hi"), condition(1, action)]);
        let scenario = &mut suite["scenarios"][0];
        scenario["test_profile"]["caller_variables"]["name"] = json!(value);
        scenario["conditional_actions"]["functions"] = json!([{"name": "lookup", "type": "rest_api", "config": {
            "method": "GET", "url": "http://127.0.0.1:1/", "response_mapping": {"status": "$.a"},
        }}]);
        let problems = Suite::parse(&suite).unwrap().scenarios[0].script().expect_err(value);
        let told = problems[0].to_string();
        assert!(told.contains("condition 1: ") && told.contains("a value of the test profile makes a {{ of its own"), "{told}");
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
    let json: Value = serde_json::from_str(include_str!("../../fixtures/suites/demo.json")).unwrap();
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
    fn any_action_is_read_or_refused(action in "[<>/a-z =\"'{}.0-9ms]{0,80}|.{0,80}|(</?(spell|ivr|noise|hold|volume|background_noise|ignore_interruptions|dtmf)( (sound|time|ratio|text|digits)=\"[a-z0-9.]{0,5}\"){0,2}/?>|[a-z ]{0,5}){0,6}") {
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
    fn any_text_is_a_rule_a_sentence_or_refused(text in "(contains|regex)?:? ?.{0,20}", reply in ".{0,20}") {
        match Rule::parse(&text) {
            Some(Ok(rule)) => {
                prop_assert_eq!(rule.as_str(), text.trim());
                let said = text.strip_prefix("contains:").map(|words| [&reply, words, &reply].join(" "));
                prop_assert!(said.is_none_or(|said| rule.matches(&said)));
            }
            Some(Err(bad)) => prop_assert!(!bad.problem.is_empty()),
            None => prop_assert!(!text.starts_with("contains:") && !text.starts_with("regex:")),
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
