//! The tags of a script over real wires, through the command: what is refused before any call, what is recorded of the rest.

mod common;

use common::{path, run, suite};
use serde_json::json;

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
