//! The chat's cores, without a socket: what frames mean, when a session's clocks fire, and that nothing ticks in a chat.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;
use trunkline::audio::Rate;
use trunkline::call::{
    Abilities, Bridge, CallTime, EndReason, Event, FunctionCall, FunctionResult, LegCommand, LegEvent, LoggedEvent, Outlet, Party,
    SampleIndex, Side,
};
use trunkline::transport::chat::protocol::{self, Frame, read};
use trunkline::transport::chat::session::{Due, IDLE, PING_EVERY, PONG_WITHIN, Session, SessionRules};

fn text(text: &str) -> LegEvent {
    LegEvent::Text(text.to_owned())
}

fn fault(frame: &Frame) -> &str {
    match &frame.events[..] {
        [LegEvent::Fault { code, .. }] => code,
        other => panic!("no fault: {other:?}"),
    }
}

#[test]
fn frames_mean_what_the_protocol_says() {
    let one = |value: Value| read(&value.to_string());
    assert_eq!(one(json!({"content": "Hi", "role": "agent"})), text("Hi").into());
    assert_eq!(one(json!({"content": "Hi", "metadata": {"a": 1}})).events, [text("Hi"), LegEvent::Metadata(json!({"a": 1}))]);
    assert_eq!(one(json!({"metadata": {"keepalive": true}})), LegEvent::Metadata(json!({"keepalive": true})).into());
    assert_eq!(one(json!({"metadata": "no object"})), Frame::default(), "ignored, as Cekura does");
    assert_eq!(one(json!({"content": ""})), Frame::default());
    assert_eq!(one(json!({"content": "bye", "type": "end_call"})), Frame { events: vec![text("bye")], ends: true });
    assert_eq!(one(json!({"type": "end_call", "content": null})), Frame { events: vec![], ends: true });
    for arguments in [json!("{\"a\": 1}"), json!({"a": 1})] {
        let call = FunctionCall { id: "x".to_owned(), name: "f".to_owned(), arguments: arguments.clone() };
        let frame = protocol::call(&call);
        assert_eq!(frame["data"]["arguments"], arguments, "sent as it came");
        assert_eq!(one(frame), LegEvent::FunctionCall(call).into());
    }
}

#[test]
fn what_makes_no_sense_is_a_fault_that_names_it() {
    for (frame, code) in [
        ("Hello", protocol::LEGACY_DIALECT),
        (r#"{"type": "response", "response": "x"}"#, protocol::LEGACY_DIALECT),
        (r#"{"type": "function_call", "name": "f"}"#, protocol::LEGACY_DIALECT),
        (r#"{"type": "function_result"}"#, protocol::LEGACY_DIALECT),
        (r#"{"type": "end_of_conversation"}"#, protocol::LEGACY_DIALECT),
        (r#"{"content": "#, protocol::NOT_JSON),
        ("[]", protocol::NOT_JSON),
        ("7", protocol::NOT_JSON),
        ("{}", protocol::UNKNOWN_FRAME),
        (r#"{"role": "agent"}"#, protocol::UNKNOWN_FRAME),
        (r#"{"content": ["a"]}"#, protocol::BAD_FIELD),
        (r#"{"role": "Function Call"}"#, protocol::BAD_FIELD),
        (r#"{"role": "Function Call", "data": {"id": "1"}}"#, protocol::BAD_FIELD),
        (r#"{"role": "Function Call Result", "data": {"result": 1}}"#, protocol::BAD_FIELD),
    ] {
        assert_eq!(fault(&read(frame)), code, "{frame}");
    }
}

proptest! {
    #[test]
    fn no_frame_upsets_the_reader(frame in ".*", key in "content|metadata|role|data|type", value in "[\\[\\]{}\"a-z0-9:, ]*") {
        let _ = read(&frame);
        let _ = read(&format!("{{\"{key}\": {value}}}"));
        let _ = read(&json!({ key: value, "role": "Function Call", "data": {"id": frame} }).to_string());
    }
}

const CALLER: SessionRules = SessionRules { idle: Some(IDLE), pings: false, far_is_caller: true, agent_speaks_first: None };

fn ends(due: Option<Due>) -> Option<EndReason> {
    match due? {
        Due::End { reason, .. } => Some(reason),
        Due::Ping => None,
    }
}

#[test]
fn a_session_ends_five_minutes_after_the_last_content() {
    assert_eq!(IDLE, Duration::from_secs(300));
    let start = Instant::now();
    let mut session = Session::new(CALLER, start);
    assert_eq!(session.next_wake(), Some(start + IDLE));
    assert_eq!(session.due(start + Duration::from_secs(299)), None);
    session.far_spoke(start + Duration::from_secs(299));
    assert_eq!(session.due(start + Duration::from_secs(598)), None);
    assert_eq!(ends(session.due(start + Duration::from_secs(599))), Some(EndReason::AgentSilent), "the caller waits for an answer");
    session.near_spoke(start + Duration::from_secs(599));
    assert_eq!(ends(session.due(start + Duration::from_secs(899))), Some(EndReason::IdleTimeout), "the agent waits for the caller");
}

#[test]
fn who_was_to_begin_is_to_blame_when_nobody_does() {
    let start = Instant::now();
    for (first, reason) in
        [(Some(true), EndReason::AgentSilent), (Some(false), EndReason::IdleTimeout), (None, EndReason::IdleTimeout)]
    {
        let mut session = Session::new(SessionRules { agent_speaks_first: first, ..CALLER }, start);
        assert_eq!(ends(session.due(start + IDLE)), Some(reason), "{first:?}");
    }
}

#[test]
fn a_far_side_that_answers_no_ping_is_dropped_after_ten_seconds() {
    let rules = SessionRules { idle: None, pings: true, far_is_caller: false, agent_speaks_first: None };
    let start = Instant::now();
    let mut session = Session::new(rules, start);
    assert_eq!(session.next_wake(), Some(start + PING_EVERY));
    assert_eq!(session.due(start + Duration::from_secs(30)), Some(Due::Ping));
    assert_eq!(session.due(start + Duration::from_secs(39)), None);
    session.pong();
    assert_eq!(session.due(start + Duration::from_secs(59)), None);
    assert_eq!(session.due(start + Duration::from_secs(60)), Some(Due::Ping));
    assert_eq!(session.next_wake(), Some(start + Duration::from_secs(60) + PONG_WITHIN));
    assert_eq!(ends(session.due(start + Duration::from_secs(70))), Some(EndReason::ConnectionLost));
}

/// Keeps what the bridge says.
#[derive(Default)]
struct Kept {
    commands: Vec<String>,
    events: Vec<LoggedEvent>,
    recorded: usize,
}

impl Outlet for Kept {
    fn command(&mut self, to: Side, command: LegCommand<'_>) {
        self.commands.push(format!("{to}: {command:?}"));
    }

    fn record(&mut self, _: Side, _: SampleIndex, samples: &[i16]) {
        self.recorded += samples.len();
    }

    fn log(&mut self, event: LoggedEvent) {
        self.events.push(event);
    }
}

#[test]
fn nothing_ticks_and_nothing_is_recorded_in_a_chat() {
    let chat = Abilities { text_only: true, text: true, ..Abilities::NONE };
    // The other side may be one that also speaks, at another rate and without gaps.
    let voice = Abilities { continuous_source: true, continuous_sink: true, text: true, ..Abilities::NONE };
    for abilities in [chat, voice] {
        let agent = Party { rate: Rate::HZ_48000, abilities };
        let mut bridge = Bridge::new(Party { rate: Rate::HZ_8000, abilities: chat }, agent);
        let mut kept = Kept::default();
        let at = |ms| CallTime::after(Duration::from_millis(ms));
        bridge.event(at(0), Side::Caller, text("Hello"), &mut kept);
        bridge.event(at(10), Side::Agent, LegEvent::Audio(vec![1; 4800]), &mut kept);
        bridge.event(at(20), Side::Agent, text("Hi"), &mut kept);
        bridge.tick(at(5000), &mut kept);
        assert_eq!((bridge.next_wake(), kept.recorded), (None, 0));
        let hangup = LegEvent::Hangup { reason: EndReason::HungUp, detail: String::new() };
        bridge.event(at(6000), Side::Agent, hangup, &mut kept);
        bridge.tick(at(6000), &mut kept);
        assert_eq!(bridge.end().map(|end| (end.by, end.reason)), Some((Some(Side::Agent), EndReason::HungUp)));
        assert_eq!(kept.commands[..2], ["agent: Text(\"Hello\")", "caller: Text(\"Hi\")"]);
        assert!(
            kept.commands[2..].iter().all(|command| command.contains("Ending") || command.contains("Hangup")),
            "{:?}",
            kept.commands
        );
        assert_eq!(kept.events.len(), 3, "two lines and the end");
    }
}

#[test]
fn who_leaves_a_chat_waits_for_the_results_of_functions_for_a_while() {
    let chat = Party { rate: Rate::HZ_8000, abilities: Abilities { text_only: true, text: true, ..Abilities::NONE } };
    let at = |ms| CallTime::after(Duration::from_millis(ms));
    let call = || FunctionCall { id: "1".to_owned(), name: "look_up".to_owned(), arguments: json!({}) };
    let result = || FunctionResult { id: "1".to_owned(), result: json!("known") };
    let hangup = || LegEvent::Hangup { reason: EndReason::HungUp, detail: String::new() };
    for (result_at, ends_at) in [(Some(1300), 1300), (None, 3000)] {
        let (mut bridge, mut kept) = (Bridge::new(chat, chat), Kept::default());
        bridge.event(at(0), Side::Agent, LegEvent::FunctionCall(call()), &mut kept);
        bridge.event(at(10), Side::Agent, text("It is known."), &mut kept);
        bridge.event(at(1000), Side::Caller, hangup(), &mut kept);
        bridge.tick(at(1000), &mut kept);
        assert_eq!((bridge.end().is_some(), bridge.next_wake()), (false, Some(at(3000))), "the result is awaited");
        if let Some(ms) = result_at {
            bridge.event(at(ms), Side::Agent, LegEvent::FunctionResult(result()), &mut kept);
        }
        bridge.tick(at(ends_at), &mut kept);
        assert_eq!(bridge.end().and_then(|end| end.by), Some(Side::Caller));
        let told = kept.events.iter().filter(|told| matches!(told.event, Event::FunctionResult(_))).count();
        assert_eq!(told, usize::from(result_at.is_some()));
        // The agent itself has nothing to wait for.
        let (mut bridge, mut kept) = (Bridge::new(chat, chat), Kept::default());
        bridge.event(at(0), Side::Agent, LegEvent::FunctionCall(call()), &mut kept);
        bridge.event(at(10), Side::Agent, hangup(), &mut kept);
        bridge.tick(at(10), &mut kept);
        assert!(bridge.end().is_some());
    }
}
