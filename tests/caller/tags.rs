//! The tags of a script over real wires, through the command: what is refused before any call, what is recorded of the rest.

use crate::common;
use crate::voice;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use common::{built_in_agent, call_folder, path, run, suite, wav};
use serde_json::{Value, json};
use trunkline::audio::Rate;
use trunkline::call::{Abilities, Call, EndReason, Event, Leg, LegCommand, LegEvent, Limits, LoggedEvent, Side};
use trunkline::caller::Patience;
use trunkline::caller::speech::SpeechStore;
use voice::dbfs;

#[test]
fn what_the_agents_wire_cannot_carry_is_refused_before_any_call() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (
            "<dtmf digits=\"1\"/>",
            "tag <dtmf>: CHIRP carries no keypad digits",
            "tag <dtmf>: child process carries no keypad digits",
        ),
        (
            "Hi. <client_message t=\"a\"/>",
            "tag <client_message>: CHIRP carries no data beside the conversation",
            "tag <client_message>: child process carries no data beside the conversation",
        ),
    ];
    for (action, chirp, process) in cases {
        let file = suite(folder.path(), &["", action]);
        // Nothing listens there, and the command does not exist: a call would have another end.
        for (to, expected) in [("chirp://127.0.0.1:1/", chirp), ("process:no-such-command", process)] {
            let output = run(&["call", "--to", to, "--suite", path(&file), "--out", path(folder.path())]);
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{told}");
            assert!(told.contains(&format!("scenario \"Test\": condition 1: {expected}")), "{told}");
        }
    }
}

#[test]
fn a_suite_that_is_fine_as_text_says_so_where_a_voice_cannot_play_it() {
    let folder = tempfile::tempdir().unwrap();
    let suite = json!({"version": "1", "scenarios": [{
        "name": "Rules", "type": "conditional_actions", "language": "en",
        "conditional_actions": {"role": "a caller", "conditions": [
            {"id": 0, "condition": "FIRST_MESSAGE", "action": "Hi", "type": "standard", "fixed_message": true},
            {"id": 4, "condition": "contains: day", "action": "Tuesday", "type": "standard", "fixed_message": true},
        ]},
    }]});
    let file = folder.path().join("suite.json");
    std::fs::write(&file, suite.to_string()).unwrap();
    let output = run(&["call", "--to", "chirp://127.0.0.1:1/", "--suite", path(&file), "--out", path(folder.path())]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    let expected = "scenario \"Rules\": condition 4: the rule \"contains: day\" needs the agent's words, and CHIRP carries no \
                    transcripts; it can be played as text";
    assert!(told.contains(expected), "{told}");
}

#[test]
fn a_recorded_call_lists_its_effects_and_is_measured_by_its_script() {
    let folder = tempfile::tempdir().unwrap();
    let bed = "<background_noise sound=\"standard-hiss\" volume=\"0.5\"><hold time=\"200ms\"/> Tuesday at eleven, please. <silence time=\"400ms\"/></background_noise>";
    let last = "<noise sound=\"beep\" time=\"300\"/> <network_simulation packet_loss=\"50\"/> <speed ratio=\"1.2\"/> Thank you, goodbye. <endcall/>";
    let file = suite(folder.path(), &["", bed, last]);
    let (_agent, to) = built_in_agent("scripted");
    let out = folder.path().join("out");
    let output = run(&["call", "--to", &to, "--suite", path(&file), "--out", path(&out), "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let folder = call_folder(&out);
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let info = json(&std::fs::read(folder.join("call.json")).unwrap());
    let kinds: Vec<_> = info["effects"].as_array().unwrap().iter().map(|effect| effect["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["background_noise", "noise", "packet_loss", "speed"], "{info:#}");
    let track = wav(&folder.join("caller.wav"));
    let span = |at: usize| {
        let effect = &info["effects"][at];
        let to = effect["to_sample"].as_u64().unwrap_or(track.len() as u64);
        effect["from_sample"].as_u64().unwrap() as usize..to as usize
    };
    let report = json(&output.stdout);
    let measures = &report["runs"][0]["measures"];
    let turns = measures["turns"].as_array().unwrap().iter().filter(|turn| turn["side"] == "caller").collect::<Vec<_>>();
    assert!(turns.len() == 2 && turns.iter().all(|turn| turn["known"] == "script"), "neither hiss nor beep is a turn: {turns:?}");
    let sample = |ms: &Value| (ms.as_f64().unwrap() * 16.0).round() as usize;
    let pause = sample(&turns[0]["end_ms"]) + 320..span(0).end;
    let level = info["effects"][0]["level_dbfs"].as_f64().unwrap();
    let found = dbfs(&track[pause]);
    assert!((found - level).abs() < 0.7, "{found:.2} dBFS, not {level}");
    assert!((dbfs(&track[span(1)]) - -20.0).abs() < 0.3, "the beep: {:.2} dBFS", dbfs(&track[span(1)]));
    assert_eq!(span(3), sample(&turns[1]["start_ms"])..sample(&turns[1]["end_ms"]), "the marks are of what is sent");
    let lost = measures["caller"]["frames_lost"]["value"].as_f64().unwrap();
    let frames = (span(2).end - span(2).start) as f64 / 320.0;
    assert!((lost / frames - 0.5).abs() < 0.25, "{lost} of {frames} frames");
    let labels = std::fs::read_to_string(folder.join("labels.txt")).unwrap();
    assert!(labels.contains("caller: background_noise standard-hiss"), "{labels}");
}

/// An agent that takes keys, and keeps them.
struct Keypad {
    keys: Arc<Mutex<String>>,
    takes: bool,
    events: VecDeque<LegEvent>,
}

impl Leg for Keypad {
    fn rate(&self) -> Rate {
        Rate::HZ_8000
    }

    fn abilities(&self) -> Abilities {
        Abilities { dtmf: self.takes, ..Abilities::NONE }
    }

    fn via(&self) -> String {
        "the test's keypad".to_owned()
    }

    fn poll_event(&mut self, _: &mut Context<'_>) -> Poll<LegEvent> {
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn command(&mut self, command: LegCommand<'_>) {
        match command {
            LegCommand::Dtmf(key) => self.keys.lock().unwrap().push(key),
            LegCommand::Hangup(reason) => self.events.push_back(LegEvent::Hangup { reason, detail: String::new() }),
            _ => {}
        }
    }
}

#[test]
fn a_tag_that_is_never_finished_is_told_of_once() {
    let action = "<a".repeat(1 << 19);
    let problems = trunkline::caller::suite::pieces(&action).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().ends_with("at character 1: the tag is not finished: > is missing"), "{}", problems[0]);
}

#[tokio::test(start_paused = true)]
async fn keys_reach_a_leg_that_takes_them_and_are_in_the_calls_events() {
    let store = SpeechStore::new(None, Path::new("unused"));
    let script = voice::prepared("Test", &["<dtmf digits=\"(555) 0*#\"/> <endcall/>"], &store, Path::new("")).await;
    let keypad = |takes: bool, keys: &Arc<Mutex<String>>| Keypad { keys: Arc::clone(keys), takes, events: VecDeque::new() };
    let keys = Arc::new(Mutex::new(String::new()));
    let deaf = Call::new(Box::new(script.caller(Patience::default())), Box::new(keypad(false, &keys)), Limits::default());
    let told = deaf.err().unwrap().to_string();
    assert_eq!(told, "the test's keypad cannot take keypad digits, which the other side needs");
    let call = Call::new(Box::new(script.caller(Patience::default())), Box::new(keypad(true, &keys)), Limits::default());
    let logged = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&logged);
    let observer = move |event: &LoggedEvent| {
        if let (Event::Dtmf { digit }, Some(Side::Caller)) = (&event.event, event.side) {
            kept.lock().unwrap().push(*digit);
        }
    };
    let (outcome, ()) = call.unwrap().observe(Box::new(observer)).run().await;
    assert_eq!(outcome.end.reason, EndReason::ScriptFinished);
    assert_eq!((&keys.lock().unwrap()[..], &logged.lock().unwrap()[..]), ("5550*#", "5550*#"));
}
