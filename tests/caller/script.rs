//! The scripted caller on virtual time: what it says and when, what it does with an agent that speaks, waits or does not.

use crate::voice;

use std::collections::VecDeque;
use std::time::Duration;

use trunkline::audio::FRAME;
use trunkline::call::{EndReason, Leg, LegCommand, LegEvent, MarkSource};
use trunkline::caller::{Answer, Patience, Player, PreparedLine, PreparedStep, Request, ScriptedCaller};
use voice::{RATE, ready, speech};

fn say(name: &str) -> PreparedStep {
    PreparedStep::Speech { samples: speech(name).into(), ignore_interruptions: false }
}

fn say_to_the_end(name: &str) -> PreparedStep {
    PreparedStep::Speech { samples: speech(name).into(), ignore_interruptions: true }
}

fn line(condition: u32, steps: Vec<PreparedStep>) -> PreparedLine {
    PreparedLine { condition, text: format!("line {condition}"), interrupt_after: None, steps }
}

/// The caller and what it hears, one 20 ms frame after the other.
struct Talk {
    player: Player,
    frames: u64,
    /// The agent's audio on its way to the caller.
    agent: VecDeque<i16>,
    said: Vec<i16>,
    events: Vec<(u64, LegEvent)>,
}

impl Talk {
    fn new(lines: Vec<PreparedLine>, speaks_first: bool) -> Self {
        let player = Player::new(lines, speaks_first, RATE, Patience::default());
        Self { player, frames: 0, agent: VecDeque::new(), said: Vec::new(), events: Vec::new() }
    }

    fn now_ms(&self) -> u64 {
        self.frames * 20
    }

    fn frame(&mut self) {
        if !self.agent.is_empty() {
            let heard: Vec<i16> = self.agent.drain(..self.agent.len().min(RATE.frame_len())).collect();
            self.player.hear(&heard);
        }
        let frame = self.player.frame().unwrap_or_else(|| vec![0; RATE.frame_len()]);
        assert_eq!(frame.len(), RATE.frame_len(), "every frame is 20 ms");
        self.said.extend(frame);
        while let Some(event) = self.player.take_event() {
            self.events.push((self.now_ms(), event));
        }
        self.frames += 1;
    }

    fn run_for(&mut self, time_ms: u64) {
        (0..time_ms / 20).for_each(|_| self.frame());
    }

    /// The agent says this, in real time, and the call goes on until it is said; when that was, in ms.
    fn agent_says(&mut self, name: &str) -> u64 {
        self.agent.extend(speech(name).iter());
        while !self.agent.is_empty() {
            self.frame();
        }
        self.now_ms()
    }

    /// Runs until `wanted` is among the events; when that was, in ms.
    fn until(&mut self, what: &str, wanted: impl Fn(&LegEvent) -> bool) -> u64 {
        for _ in 0..3000 {
            if let Some((at, _)) = self.events.iter().find(|(_, event)| wanted(event)) {
                return *at;
            }
            self.frame();
        }
        panic!("no {what} within a minute: {:#?}", self.events);
    }

    fn until_line(&mut self, condition: u32) -> u64 {
        self.until("line", |event| matches!(event, LegEvent::ScriptLine { condition: reached, .. } if *reached == condition))
    }

    fn until_the_end(&mut self) -> (u64, EndReason) {
        let at = self.until("end", |event| matches!(event, LegEvent::Hangup { .. }));
        let reason = self.events.iter().find_map(|(_, event)| match event {
            LegEvent::Hangup { reason, .. } => Some(*reason),
            _ => None,
        });
        (at, reason.unwrap())
    }

    /// Starts and stops of the caller's speech, in samples, as it tells them.
    fn marks(&self) -> Vec<(u64, u64)> {
        let place = |event: &LegEvent, start: bool| match event {
            LegEvent::SpeechStarted(mark) if start => Some((mark.utterance.clone(), mark.position.unwrap(), mark.source)),
            LegEvent::SpeechStopped(mark) if !start => Some((mark.utterance.clone(), mark.position.unwrap(), mark.source)),
            _ => None,
        };
        let starts = self.events.iter().filter_map(|(_, event)| place(event, true));
        let stops: Vec<_> = self.events.iter().filter_map(|(_, event)| place(event, false)).collect();
        starts
            .zip(stops)
            .map(|(start, stop)| {
                assert_eq!((&start.0, start.2), (&stop.0, MarkSource::Script), "a start and its stop carry one utterance");
                (start.1, stop.1)
            })
            .collect()
    }

    /// The stretches of what was said, by the samples themselves; a pause is half a second of zeros.
    fn stretches(&self) -> Vec<(u64, u64)> {
        let mut found: Vec<(u64, u64)> = Vec::new();
        for (at, _) in self.said.iter().enumerate().filter(|(_, sample)| **sample != 0) {
            match found.last_mut() {
                Some((_, end)) if at as u64 - *end < 8000 => *end = at as u64 + 1,
                _ => found.push((at as u64, at as u64 + 1)),
            }
        }
        found
    }
}

/// Within `by` ms.
fn close(a: u64, b: u64, by: u64) -> bool {
    a.abs_diff(b) <= by
}

#[test]
fn it_waits_for_the_greeting_and_takes_its_turns_after_the_agents() {
    let lines = vec![line(1, vec![say("caller-book")]), line(2, vec![say("caller-goodbye"), PreparedStep::EndCall])];
    let mut talk = Talk::new(lines, false);
    talk.run_for(500);
    let greeted = talk.agent_says("agent-greeting");
    let first = talk.until_line(1);
    assert!(close(first, greeted + 700, 120), "700 ms of silence end the agent's turn: {greeted}, then {first}");
    let said = speech("caller-book").len() as u64 / 16;
    talk.run_for(said + 600);
    let answered = talk.agent_says("agent-answer-2");
    let second = talk.until_line(2);
    assert!(close(second, answered + 700, 120), "{answered}, then {second}");
    let (end, reason) = talk.until_the_end();
    assert_eq!(reason, EndReason::ScriptFinished);
    assert!(close(end, second + speech("caller-goodbye").len() as u64 / 16, 40), "it hangs up when its last word is said");
    assert!(talk.events.iter().any(|(_, event)| matches!(event, LegEvent::ScriptDone)));
    assert_eq!(talk.marks(), talk.stretches(), "its marks are where its samples are");
}

#[test]
fn it_speaks_first_where_the_script_says_so() {
    let mut talk = Talk::new(vec![line(0, vec![say("caller-first")])], true);
    let at = talk.until_line(0);
    assert_eq!(at, 300, "the line settles first");
    talk.run_for(4000);
    assert_eq!(talk.stretches()[0].0, 300 * 16);
}

#[test]
fn an_agents_own_word_that_it_has_finished_shortens_the_wait() {
    let mut talk = Talk::new(vec![line(1, vec![say("caller-book")])], false);
    talk.player.agent_started();
    let said = talk.agent_says("agent-greeting");
    talk.player.agent_stopped();
    let at = talk.until_line(1);
    assert!(close(at, said + 300, 120), "said at {said}, the turn is taken at {at}");
}

#[test]
fn a_pause_within_the_agents_sentence_does_not_give_the_turn_away() {
    let mut talk = Talk::new(vec![line(1, vec![say("caller-book")])], false);
    talk.agent_says("agent-answer-2");
    talk.run_for(400);
    let said = talk.agent_says("agent-answer-3");
    assert!(talk.until_line(1) > said);
}

#[test]
fn an_agent_that_never_speaks_or_never_answers_is_given_up() {
    let mut talk = Talk::new(vec![line(1, vec![say("caller-book")])], false);
    let (at, reason) = talk.until_the_end();
    assert_eq!((reason, at), (EndReason::AgentSilent, 15_000));
    let mut talk = Talk::new(vec![line(0, vec![say("caller-first")]), line(1, vec![say("caller-friday")])], true);
    let (at, reason) = talk.until_the_end();
    let said = 300 + speech("caller-first").len() as u64 / 16;
    assert_eq!(reason, EndReason::AgentSilent);
    assert!(close(at, said + 15_000, 40), "said until {said}, given up at {at}");
}

#[test]
fn it_interrupts_when_the_script_says_so_and_is_not_stopped_by_its_own_interruption() {
    let interruption =
        PreparedLine { interrupt_after: Some(Duration::from_millis(1500)), ..line(2, vec![say("caller-only-friday")]) };
    let mut talk = Talk::new(vec![line(1, vec![say("caller-which")]), interruption], false);
    talk.agent_says("agent-greeting");
    talk.until_line(1);
    talk.run_for(speech("caller-which").len() as u64 / 16 + 500);
    let onset = talk.now_ms();
    talk.agent.extend(speech("agent-answer-1").iter());
    let at = talk.until_line(2);
    assert!(close(at, onset + 1500, 60), "the agent began at {onset}, the caller cut in at {at}");
    // The agent gives way, and then answers.
    talk.run_for(200);
    talk.agent.clear();
    talk.run_for(speech("caller-only-friday").len() as u64 / 16);
    let interrupts = |event: &LegEvent| matches!(event, LegEvent::SpeechStarted(mark) if mark.interruption == Some(2));
    assert!(talk.events.iter().any(|(_, event)| interrupts(event)), "its mark says that it is meant");
    let said = talk.stretches()[1];
    assert_eq!(said.1 - said.0, speech("caller-only-friday").len() as u64, "the interruption is said whole");
    talk.agent_says("agent-answer-2");
    assert_eq!(talk.until_the_end().1, EndReason::ScriptFinished);
}

#[test]
fn an_agent_that_cuts_in_stops_the_caller_where_it_says_so() {
    let mut talk = Talk::new(vec![line(0, vec![say("caller-name")]), line(1, vec![say("caller-friday")])], true);
    talk.run_for(300 + 1000);
    talk.player.agent_started();
    talk.agent_says("agent-answer-2");
    let whole = speech("caller-name").len() as u64;
    let (from, to) = talk.stretches()[0];
    assert!(to - from < whole / 2, "the line was cut: {} of {whole} samples", to - from);
    let told = talk.marks()[0];
    assert_eq!(told.0, from);
    assert!(told.1 >= to && told.1 < to + 640, "it stopped at {to}, and says {}", told.1);
    talk.until_line(1);
}

#[test]
fn what_ignores_interruptions_is_said_to_its_end() {
    let mut talk = Talk::new(vec![line(0, vec![say_to_the_end("caller-member")]), line(1, vec![say("caller-friday")])], true);
    talk.run_for(800);
    talk.player.agent_started();
    talk.agent_says("agent-answer-2");
    talk.player.agent_stopped();
    talk.run_for(3000);
    let (from, to) = talk.stretches()[0];
    assert_eq!(to - from, speech("caller-member").len() as u64);
}

#[test]
fn a_silence_yields_to_the_agent_and_a_hold_does_not() {
    for (hold, pause) in [(false, PreparedStep::Silence as fn(Duration) -> _), (true, PreparedStep::Hold)] {
        let steps = vec![say("caller-friday"), pause(Duration::from_secs(3)), say("caller-tuesday")];
        let mut talk = Talk::new(vec![line(0, steps)], true);
        let first = 300 + speech("caller-friday").len() as u64 / 16;
        talk.run_for(first + 1000);
        talk.player.agent_started();
        let spoken = talk.agent_says("agent-answer-1");
        talk.run_for(12_000);
        let second = talk.stretches()[1].0 / 16;
        if hold {
            assert!(close(second, first + 3000, 40), "a hold lasts {} ms", second - first);
        } else {
            assert!(close(second, spoken + 700, 140), "the agent spoke until {spoken}, the caller went on at {second}");
        }
    }
}

#[test]
fn a_pause_alone_lasts_as_long_as_it_says() {
    let steps = vec![say("caller-friday"), PreparedStep::Silence(Duration::from_millis(1500)), say("caller-tuesday")];
    let mut talk = Talk::new(vec![line(0, steps)], true);
    talk.run_for(6000);
    let (first, second) = (talk.stretches()[0], talk.stretches()[1]);
    assert!(close((second.0 - first.1) / 16, 1500, 20), "{:?}", talk.stretches());
}

fn samples(events: &[LegEvent]) -> usize {
    events.iter().map(|event| if let LegEvent::Audio(samples) = event { samples.len() } else { 0 }).sum()
}

fn slips(events: &[LegEvent]) -> usize {
    events.iter().filter(|event| matches!(event, LegEvent::Slipped(_))).count()
}

#[tokio::test(start_paused = true)]
async fn late_speech_catches_up_and_late_silence_never_does() {
    let player = Player::new(vec![line(0, vec![say("caller-name")])], true, RATE, Patience::default());
    let mut leg = ScriptedCaller::new(player, RATE, "test");
    assert_eq!(samples(&ready(&mut leg).await), 320, "the first frame leaves at once");
    for _ in 0..9 {
        tokio::time::advance(FRAME).await;
        assert_eq!(samples(&ready(&mut leg).await), 320, "then one every 20 ms");
    }
    // Half a second too late, in its silence at first: 100 ms of it are left, then comes speech.
    tokio::time::advance(Duration::from_millis(500)).await;
    let late = ready(&mut leg).await;
    assert_eq!(slips(&late), 1, "its own slip is told");
    let paused: u64 = late.iter().map(|event| if let LegEvent::Paused(samples) = event { *samples } else { 0 }).sum();
    let given = samples(&late);
    assert_eq!(given as u64 + paused, 25 * 320, "the stream's time goes on");
    assert!((4..=5).contains(&(paused / 320)), "silence is not made up for: {} ms of it were let go", paused / 16);
    for _ in 0..25 {
        tokio::time::advance(FRAME).await;
        assert_eq!(samples(&ready(&mut leg).await), 320, "no drift after a slip");
    }
}

#[test]
fn a_line_waits_in_silence_for_what_it_asks_and_hears_the_agent_out() {
    let steps = || vec![say("caller-friday"), PreparedStep::Function("lookup".to_owned()), say("caller-tuesday")];
    let mut talk = Talk::new(vec![line(0, steps())], true);
    let first = 300 + speech("caller-friday").len() as u64 / 16;
    talk.run_for(first + 5000);
    assert_eq!(talk.player.take_request(), Some(Request::Call("lookup".to_owned())));
    assert_eq!(talk.stretches().len(), 1, "nothing is said before the answer");
    talk.agent.extend(speech("agent-answer-1").iter());
    talk.run_for(1000);
    talk.player.answer(Answer::Called);
    while !talk.agent.is_empty() {
        talk.frame();
    }
    let spoken = talk.now_ms();
    talk.run_for(4000);
    let second = talk.stretches()[1].0 / 16;
    assert!(close(second, spoken + 700, 140), "the agent spoke until {spoken}, the caller went on at {second}");

    let mut talk = Talk::new(vec![line(0, steps())], true);
    talk.run_for(first + 1000);
    talk.player.answer(Answer::Failed("no answer".to_owned()));
    assert_eq!(talk.until_the_end().1, EndReason::CallerFailed);
}

/// A caller of these conditions on virtual time, fed by hand.
struct Heard {
    leg: ScriptedCaller,
    events: Vec<LegEvent>,
}

impl Heard {
    async fn new(conditions: serde_json::Value) -> Self {
        let suite = serde_json::json!({"version": "1", "scenarios": [{
            "name": "Test", "type": "conditional_actions", "language": "en",
            "conditional_actions": {"role": "a caller", "conditions": conditions},
        }]});
        let script = trunkline::caller::suite::Suite::parse(&suite).unwrap().scenarios[0].script().unwrap();
        let store = trunkline::caller::speech::SpeechStore::new(None, std::path::Path::new("unused"));
        let script =
            trunkline::caller::PreparedScript::prepare(&script, "Test", &store, RATE, std::path::Path::new("")).await.unwrap();
        Self { leg: script.caller(Patience::default()), events: Vec::new() }
    }

    async fn run_for(&mut self, time_ms: u64) {
        for _ in 0..time_ms / 20 {
            // What is over is not polled again.
            if self.end().is_none() {
                self.events.extend(ready(&mut self.leg).await);
            }
            tokio::time::advance(FRAME).await;
        }
    }

    /// The agent says this, and its leg gives these words for it.
    async fn agent_says(&mut self, name: &str, words: Option<&str>) {
        for frame in speech(name).chunks(320) {
            self.leg.command(LegCommand::Audio(frame));
            self.run_for(20).await;
        }
        if let Some(words) = words {
            self.leg.command(LegCommand::Transcript(words));
        }
        self.run_for(1200).await;
    }

    fn lines(&self) -> Vec<u32> {
        let line = |event: &LegEvent| if let LegEvent::ScriptLine { condition, .. } = event { Some(*condition) } else { None };
        self.events.iter().filter_map(line).collect()
    }

    fn end(&self) -> Option<(EndReason, String)> {
        self.events.iter().find_map(|event| match event {
            LegEvent::Hangup { reason, detail } => Some((*reason, detail.clone())),
            _ => None,
        })
    }
}

fn by_rules() -> serde_json::Value {
    let standard = |id: u32, condition: &str, action: &str| serde_json::json!({"id": id, "condition": condition, "action": action, "type": "standard", "fixed_message": true});
    serde_json::json!([
        standard(0, "FIRST_MESSAGE", ""),
        standard(1, "contains: which day", "Tuesday at eleven, please."),
        {"id": 2, "condition": 1, "action": "Friday at four, please.", "type": "action_followup", "fixed_message": true},
        standard(3, "regex: ^DTMF: 1$", "Thank you, goodbye. <endcall/>"),
    ])
}

#[tokio::test(start_paused = true)]
async fn a_rule_is_judged_on_the_words_of_the_agents_whole_turn() {
    let mut heard = Heard::new(by_rules()).await;
    assert!(heard.leg.needs().transcripts, "a leg without words is refused");
    heard.agent_says("agent-greeting", Some("Welcome.")).await;
    assert!(heard.lines().is_empty(), "no rule is for it");
    heard.agent_says("agent-answer-3", Some("And which")).await;
    heard.leg.command(LegCommand::Transcript("day?"));
    heard.run_for(4000).await;
    assert_eq!(heard.lines(), [1], "what it adds belongs to its turn");
    heard.agent_says("agent-answer-2", None).await;
    assert_eq!(heard.lines(), [1, 2], "a follow-up needs no words");
    heard.run_for(3000).await;
    for _ in 0..2 {
        heard.agent_says("agent-answer-3", Some("Fine weather.")).await;
    }
    heard.run_for(13_000).await;
    assert_eq!(heard.end(), None, "its patience begins with the agent's last word");
    heard.run_for(3000).await;
    assert_eq!(heard.end(), Some((EndReason::ScriptFinished, String::new())), "the branch that it took is through");
    let mut heard = Heard::new(by_rules()).await;
    for _ in 0..2 {
        heard.agent_says("agent-answer-3", Some("Fine weather.")).await;
    }
    heard.run_for(16_000).await;
    let told = "no condition is for what the agent said: \"Fine weather. Fine weather.\"".to_owned();
    assert_eq!(heard.end(), Some((EndReason::UnexpectedReply, told)));
}

#[tokio::test(start_paused = true)]
async fn keys_that_the_agent_presses_are_a_turn() {
    let mut heard = Heard::new(by_rules()).await;
    heard.leg.command(LegCommand::Dtmf('1'));
    heard.run_for(1000).await;
    heard.leg.command(LegCommand::Dtmf('2'));
    heard.run_for(3000).await;
    assert!(heard.lines().is_empty(), "12, not 1");
    let mut heard = Heard::new(by_rules()).await;
    heard.leg.command(LegCommand::Dtmf('1'));
    heard.run_for(1900).await;
    assert!(heard.lines().is_empty(), "there may be more");
    heard.run_for(200).await;
    assert_eq!(heard.lines(), [3]);
}

#[tokio::test(start_paused = true)]
async fn a_menu_is_played_to_its_end_and_keys_pressed_into_it_answer_it() {
    let mut heard = Heard::new(serde_json::json!([
        {"id": 0, "condition": "FIRST_MESSAGE", "action": "<ivr text=\"Which appointments are free?\"/>", "type": "standard", "fixed_message": true},
        {"id": 1, "condition": 0, "action": "Thank you, goodbye. <endcall/>", "type": "action_followup", "fixed_message": true},
    ]))
    .await;
    let menu = speech("caller-which").len() as u64;
    heard.run_for(1000).await;
    heard.leg.command(LegCommand::SpeechStarted(&trunkline::call::Mark {
        utterance: "a".to_owned(),
        position: None,
        source: MarkSource::Signalled,
        interruption: None,
    }));
    heard.leg.command(LegCommand::Dtmf('1'));
    heard.leg.command(LegCommand::Dtmf('#'));
    heard.run_for(menu / 16 + 2000).await;
    let stops: Vec<u64> = heard
        .events
        .iter()
        .filter_map(|event| if let LegEvent::SpeechStopped(mark) = event { mark.position } else { None })
        .collect();
    assert_eq!(stops.first(), Some(&(4800 + menu)), "the agent's speech does not cut it");
    assert_eq!(heard.lines(), [0, 1], "the keys are its answer, with no word said");
}
