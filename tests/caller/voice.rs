//! A scripted caller on virtual time: what it sends, and what it tells of it.

#![allow(dead_code)]

use std::path::Path;

use serde_json::{Value, json};
use trunkline::audio::{FRAME, Rate, read_wav};
use trunkline::call::{EffectKind, Leg, LegCommand, LegEvent};
use trunkline::caller::speech::SpeechStore;
use trunkline::caller::suite::Suite;
use trunkline::caller::{PreparedScript, ScriptedCaller};

pub const RATE: Rate = Rate::HZ_16000;
pub const LINE: &str = "Tuesday at eleven, please.";

pub fn speech(name: &str) -> Vec<i16> {
    let file = format!("{}/fixtures/speech/{name}.wav", env!("CARGO_MANIFEST_DIR"));
    read_wav(std::fs::File::open(file).unwrap(), RATE).unwrap()
}

/// The level of samples, RMS.
pub fn dbfs(samples: &[i16]) -> f64 {
    let power = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / samples.len() as f64;
    10.0 * (power / 32_768f64.powi(2)).log10()
}

pub fn suite(scenario: &str, actions: &[&str]) -> Value {
    let condition = |(id, action): (usize, &&str)| {
        let (after, kind) = match id {
            0 => ("FIRST_MESSAGE".to_owned(), "standard"),
            _ => ((id - 1).to_string(), "action_followup"),
        };
        json!({"id": id, "condition": after, "action": action, "type": kind, "fixed_message": true})
    };
    let conditions: Vec<_> = actions.iter().enumerate().map(condition).collect();
    json!({"version": "1", "scenarios": [{
        "name": scenario, "type": "conditional_actions", "language": "en",
        "conditional_actions": {"role": "a caller", "conditions": conditions},
    }]})
}

pub async fn prepared(scenario: &str, actions: &[&str], store: &SpeechStore, beside: &Path) -> PreparedScript {
    let suite = Suite::parse(&suite(scenario, actions)).unwrap();
    let script = suite.scenarios[0].script().unwrap_or_else(|problems| panic!("{}", problems[0]));
    PreparedScript::prepare(&script, scenario, store, RATE, beside).await.unwrap()
}

/// What a caller sent, and when it told what (in samples of its stream).
pub struct Played {
    pub said: Vec<i16>,
    pub events: Vec<(usize, LegEvent)>,
}

impl Played {
    /// Kind and place of each effect.
    pub fn effects(&self) -> Vec<(EffectKind, usize, usize)> {
        let ended = |wanted: u32| {
            self.events.iter().find_map(|(_, event)| match event {
                LegEvent::EffectEnded { number, position } if *number == wanted => Some(*position as usize),
                _ => None,
            })
        };
        let started = |(_, event): &(usize, LegEvent)| match event {
            LegEvent::EffectStarted { number, effect, position } => {
                Some((effect.kind.clone(), *position as usize, ended(*number).unwrap_or(self.said.len())))
            }
            _ => None,
        };
        self.events.iter().filter_map(started).collect()
    }

    /// The caller's speech, as its marks have it.
    pub fn marks(&self) -> Vec<(usize, usize)> {
        let place = |event: &LegEvent, start: bool| match event {
            LegEvent::SpeechStarted(mark) if start => mark.position,
            LegEvent::SpeechStopped(mark) if !start => mark.position,
            _ => None,
        };
        let starts = self.events.iter().filter_map(|(_, event)| place(event, true));
        let stops = self.events.iter().filter_map(|(_, event)| place(event, false));
        starts.zip(stops).map(|(start, stop)| (start as usize, stop as usize)).collect()
    }
}

/// Takes what the leg has ready, up to its end.
pub async fn ready(leg: &mut ScriptedCaller) -> Vec<LegEvent> {
    let mut events = Vec::new();
    std::future::poll_fn(|cx| {
        while let std::task::Poll::Ready(event) = leg.poll_event(cx) {
            let over = matches!(event, LegEvent::Hangup { .. });
            events.push(event);
            if over {
                break;
            }
        }
        std::task::Poll::Ready(())
    })
    .await;
    events
}

/// Lets a caller play for some seconds to an agent that says nothing, or says `agent` from this second on.
pub async fn play(mut leg: ScriptedCaller, seconds: u64, agent: Option<(u64, Vec<i16>)>) -> Played {
    let (mut said, mut events) = (Vec::new(), Vec::new());
    let agent = agent.unwrap_or_default();
    for frame in 0..seconds * 50 {
        if let Some(heard) = frame.checked_sub(agent.0 * 50).and_then(|frame| agent.1.chunks(320).nth(frame as usize)) {
            leg.command(LegCommand::Audio(heard));
        }
        for event in ready(&mut leg).await {
            match event {
                LegEvent::Audio(samples) => said.extend(samples),
                other => events.push((said.len(), other)),
            }
        }
        tokio::time::advance(FRAME).await;
    }
    Played { said, events }
}
