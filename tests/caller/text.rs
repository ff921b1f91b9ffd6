//! The caller in writing, on virtual time, against an agent of the test's own: what it writes to which reply, and when.

use crate::writing;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use trunkline::call::{Call, EndReason, Event, FunctionCall, LegEvent, Limits, Side};
use trunkline::caller::suite::{Script, Suite};
use trunkline::caller::{TEXT_PATIENCE, TextScript};
use writing::{Agent, Reply, chat, says};

fn condition(id: u32, condition: impl Into<Value>, kind: &str, action: &str) -> Value {
    json!({"id": id, "condition": condition.into(), "action": action, "type": kind, "fixed_message": true})
}

fn script(conditions: Vec<Value>) -> Script {
    let suite = json!({"version": "1", "scenarios": [{
        "name": "Chat", "type": "conditional_actions", "language": "en",
        "conditional_actions": {"role": "a caller", "conditions": conditions},
    }]});
    Suite::parse(&suite).unwrap().scenarios[0].script().unwrap_or_else(|problems| panic!("{}", problems[0]))
}

#[tokio::test(start_paused = true)]
async fn a_script_is_written_line_by_line_each_after_one_message_of_the_agent() {
    let script = script(vec![
        condition(0, "FIRST_MESSAGE", "standard", "Hello, my code is <spell>AB</spell>."),
        condition(1, 0, "action_followup", "<ignore_interruptions>Please</ignore_interruptions> wait."),
        condition(2, 1, "action_followup", "Bye. <endcall/>"),
    ]);
    let chat = chat(&script, Agent::new(|text, _| vec![says(&format!("You said {text}"))])).await;
    assert_eq!(chat.caller(), ["Hello, my code is A, B.", "Please wait.", "Bye."]);
    assert_eq!(chat.end.reason, EndReason::ScriptFinished);
    assert!(chat.events.iter().any(|logged| logged.event == Event::ScriptDone));
}

#[tokio::test(start_paused = true)]
async fn the_agent_speaks_first_where_the_first_message_is_empty() {
    let script = script(vec![condition(0, "FIRST_MESSAGE", "standard", ""), condition(1, 0, "action_followup", "Hi.")]);
    let mut agent = Agent::new(|_, _| vec![says("And bye.")]);
    agent.events.push_back(says("Welcome."));
    let chat = chat(&script, agent).await;
    let lines: Vec<_> = chat.lines.iter().map(|(_, side, text)| (*side, text.as_str())).collect();
    assert_eq!(lines, [(Side::Agent, "Welcome."), (Side::Caller, "Hi."), (Side::Agent, "And bye.")]);
    assert_eq!(chat.end.reason, EndReason::ScriptFinished);
}

#[tokio::test(start_paused = true)]
async fn function_calls_and_metadata_are_no_turns() {
    let script = script(vec![condition(0, "FIRST_MESSAGE", "standard", "Hi."), condition(1, 0, "action_followup", "Bye.")]);
    let reply: Reply = |_, number| {
        let call = FunctionCall { id: "1".to_owned(), name: "look".to_owned(), arguments: json!({}) };
        let noise = vec![LegEvent::FunctionCall(call), LegEvent::Metadata(json!({"a": 1}))];
        if number == 0 { noise } else { vec![says("Bye.")] }
    };
    let chat = chat(&script, Agent::new(reply)).await;
    assert_eq!(chat.caller(), ["Hi."]);
    let silent = "the agent wrote nothing for 60 s";
    assert_eq!((chat.end.reason, chat.end.detail.as_str()), (EndReason::AgentSilent, silent));
    let ended = chat.events.last().unwrap().at_ms;
    assert!((60_000.0..60_100.0).contains(&ended), "after {ended} ms");
}

fn by_rules() -> Script {
    script(vec![
        condition(0, "FIRST_MESSAGE", "standard", "Hi."),
        condition(1, "regex: (?i)\\bbye\\b", "standard", "Bye. <endcall/>"),
        condition(2, "contains: which day", "standard", "Tuesday."),
        condition(3, 2, "action_followup", "Or Friday."),
        condition(4, "contains: day", "standard", "Any day."),
    ])
}

#[tokio::test(start_paused = true)]
async fn a_rule_decides_where_nothing_follows_and_the_first_in_the_file_that_matches_fires() {
    let reply: Reply = |text, _| match text {
        "Hi." => vec![says("Which DAY do you want?")],
        // Whatever it says: a follow-up is pending.
        "Tuesday." => vec![says("bye then")],
        "Or Friday." => vec![says("Is another day right?")],
        "Any day." => vec![says("Good bye!")],
        _ => vec![],
    };
    let chat = chat(&by_rules(), Agent::new(reply)).await;
    assert_eq!(chat.caller(), ["Hi.", "Tuesday.", "Or Friday.", "Any day.", "Bye."]);
    assert_eq!(chat.end.reason, EndReason::ScriptFinished);
}

#[tokio::test(start_paused = true)]
async fn a_condition_may_fire_again_and_twins_fire_in_the_files_order() {
    let twins = script(vec![
        condition(0, "FIRST_MESSAGE", "standard", "Hi."),
        condition(1, "contains: what", "standard", "One."),
        condition(2, "contains: what", "standard", "Two."),
        condition(3, "contains: bye", "standard", "Bye. <endcall/>"),
    ]);
    let reply: Reply = |_, number| vec![says(if number < 4 { "What?" } else { "Bye." })];
    let chat = chat(&twins, Agent::new(reply)).await;
    assert_eq!(chat.caller(), ["Hi.", "One.", "Two.", "One.", "One.", "Bye."]);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_no_condition_is_for_is_waited_on_and_then_told_of() {
    let chat = chat(&by_rules(), Agent::new(|_, _| vec![says("Nice weather.")])).await;
    assert_eq!(chat.caller(), ["Hi."]);
    let told = "no condition is for what the agent wrote: \"Nice weather.\"";
    assert_eq!((chat.end.reason, chat.end.detail.as_str()), (EndReason::UnexpectedReply, told));
}

#[tokio::test(start_paused = true)]
async fn an_agents_next_message_may_be_the_one_that_matches() {
    let chat = chat(&by_rules(), Agent::new(|_, _| vec![says("Nice weather."), says("Well, bye.")])).await;
    assert_eq!(chat.caller(), ["Hi.", "Bye."]);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_conditions_have_all_fired_ends_with_the_agents_last_word() {
    let script =
        script(vec![condition(0, "FIRST_MESSAGE", "standard", "Hi."), condition(1, "contains: which day", "standard", "Tuesday.")]);
    let reply: Reply = |_, number| vec![says(if number == 0 { "Which day?" } else { "It is booked." })];
    let chat = chat(&script, Agent::new(reply)).await;
    assert_eq!(chat.end.reason, EndReason::ScriptFinished);
    assert_eq!(chat.lines.last().unwrap().2, "It is booked.");
}

#[tokio::test(start_paused = true)]
async fn an_agent_and_a_rule_that_set_each_other_off_without_end_are_stopped() {
    let script = script(vec![
        condition(0, "FIRST_MESSAGE", "standard", "One day"),
        condition(1, "contains: day", "standard", "Which day?"),
        condition(2, "contains: never", "standard", "Bye."),
    ]);
    let chat = chat(&script, Agent::new(|text, _| vec![says(text)])).await;
    let told = "conditions have fired 500 times: the agent and the script set each other off in a circle";
    assert_eq!((chat.end.reason, chat.end.detail.as_str()), (EndReason::UnexpectedReply, told));
    assert_eq!(chat.caller().len(), 501);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_did_not_fire_is_no_part_of_the_script_that_was_missed() {
    let branches = || {
        script(vec![
            condition(0, "FIRST_MESSAGE", "standard", "Hi."),
            condition(1, "contains: tuesday", "standard", "Tuesday is fine."),
            condition(2, 1, "action_followup", "Thank you."),
            condition(3, "contains: friday", "standard", "Friday is fine."),
        ])
    };
    let end = async |script: Script, reply: Reply| chat(&script, Agent::new(reply)).await.end;
    // The branch is through: what the agent says then needs no condition, and it may hang up.
    let waits: Reply = |text, _| match text {
        "Hi." => vec![says("Is Tuesday right?")],
        _ => vec![says("You are welcome.")],
    };
    assert_eq!(end(branches(), waits).await.reason, EndReason::ScriptFinished);
    let leaves: Reply = |text, _| match text {
        "Hi." => vec![says("Is Tuesday right?")],
        "Thank you." => gone_now(),
        _ => vec![says("It is booked.")],
    };
    assert_eq!(end(branches(), leaves).await.reason, EndReason::HungUp);
    // It is not: a greeting alone, and the middle of a branch.
    assert_eq!(end(branches(), |_, _| gone_now()).await.reason, EndReason::AgentHungUp);
    assert_eq!(end(branches(), |_, _| vec![says("Nice weather.")]).await.reason, EndReason::UnexpectedReply);
    let early: Reply = |text, _| if text == "Hi." { vec![says("Is Tuesday right?")] } else { gone_now() };
    assert_eq!(end(branches(), early).await.reason, EndReason::AgentHungUp);
    // What follows the first message is a script by itself.
    let chain = script(vec![
        condition(0, "FIRST_MESSAGE", "standard", "Hi."),
        condition(1, 0, "action_followup", "A table, please."),
        condition(2, "contains: sorry", "standard", "What a pity."),
    ]);
    let polite: Reply = |_, number| if number == 0 { vec![says("Yes?")] } else { gone_now() };
    assert_eq!(end(chain, polite).await.reason, EndReason::HungUp);
}

#[tokio::test(start_paused = true)]
async fn pauses_divide_a_line_and_a_message_ends_a_silence_but_not_a_hold() {
    let script = script(vec![
        condition(
            0,
            "FIRST_MESSAGE",
            "standard",
            "One <hold time=\"5s\"/> two <silence time=\"20s\"/> three <silence time=\"3s\"/> four",
        ),
        condition(1, 0, "action_followup", "five <endcall/>"),
    ]);
    let reply: Reply = |text, _| if text == "three" { vec![] } else { vec![says("Yes?")] };
    let chat = chat(&script, Agent::new(reply)).await;
    let times: Vec<_> =
        chat.lines.iter().filter(|(_, side, _)| *side == Side::Caller).map(|(at, _, text)| (*at, text.as_str())).collect();
    let expected = [(0, "One"), (5000, "two"), (5000, "three"), (8000, "four"), (8000, "five")];
    assert_eq!(times.len(), expected.len(), "{times:?}");
    for ((at, text), (due, wanted)) in times.iter().zip(expected) {
        assert!(*text == wanted && at.abs_diff(due) <= 20, "{times:?}");
    }
}

#[test]
fn what_is_only_for_a_voice_is_refused_by_name_and_condition() {
    let tags = [
        ("<noise sound=\"beep\"/> a", "noise"),
        ("<volume ratio=\"2\"/> a", "volume"),
        ("<speed ratio=\"1.1\"/> a", "speed"),
        ("<dtmf digits=\"1\"/>", "dtmf"),
        ("<ivr text=\"a\"/>", "ivr"),
        ("<voicemail/>", "voicemail"),
        ("<audio id=\"a\"/>", "audio"),
        ("<background_noise sound=\"fan-buzz\">a</background_noise>", "background_noise"),
        ("<network_simulation packet_loss=\"5\"/> a", "network_simulation"),
        ("<interruption time=\"1s\"/> a", "interruption"),
    ];
    for (action, tag) in tags {
        let script = script(vec![condition(0, "FIRST_MESSAGE", "standard", "Hi."), condition(1, 0, "action_followup", action)]);
        let problems = TextScript::new(&script, "Chat", "chat").expect_err(tag);
        let told = problems[0].to_string();
        let expected =
            format!("scenario \"Chat\": condition 1: tag <{tag}> is for a voice: it cannot be played as text, over chat");
        assert_eq!(told, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_message_goes_as_data_and_needs_a_leg_that_takes_it() {
    let script = script(vec![condition(0, "FIRST_MESSAGE", "standard", "Hi. <client_message t=\"order\" d='{\"n\":1}'/>")]);
    let text = TextScript::new(&script, "Chat", "chat").unwrap();
    let deaf = Call::new(Box::new(text.caller(TEXT_PATIENCE)), Box::new(Agent::new(|_, _| vec![])), Limits::default());
    assert_eq!(deaf.err().unwrap().to_string(), "the test's agent cannot take other data, which the other side needs");
    let mut agent = Agent::new(|_, _| vec![says("Bye.")]);
    agent.takes.data = true;
    let chat = chat(&script, agent).await;
    let data = chat.events.iter().find_map(|logged| if let Event::Data { data } = &logged.event { Some(data) } else { None });
    let data = data.expect("it was sent");
    assert_eq!((&data["type"], &data["data"]), (&json!("client-message"), &json!({"t": "order", "d": {"n": 1}})));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_hangs_up_before_everything_is_said_has_cut_the_script_short() {
    let script = script(vec![condition(0, "FIRST_MESSAGE", "standard", "Hi."), condition(1, 0, "action_followup", "Bye.")]);
    let gone: Reply = |_, _| vec![LegEvent::Hangup { reason: EndReason::HungUp, detail: String::new() }];
    assert_eq!(chat(&script, Agent::new(gone)).await.end.reason, EndReason::AgentHungUp);
    let begun = Instant::now();
    let late: Reply = |_, number| if number == 0 { vec![says("Yes?")] } else { gone_now() };
    assert_eq!(chat(&script, Agent::new(late)).await.end.reason, EndReason::HungUp, "all was said");
    assert!(begun.elapsed() < Duration::from_secs(60));
}

fn gone_now() -> Vec<LegEvent> {
    vec![LegEvent::Hangup { reason: EndReason::HungUp, detail: String::new() }]
}
