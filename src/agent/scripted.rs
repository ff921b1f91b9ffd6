//! An agent that greets, waits for the caller to stop speaking, and answers from ready speech.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use uuid::Uuid;

use crate::audio::{FRAME, Rate, SpeechDetector};
use crate::call::{Abilities, EndReason, FrameClock, Leg, LegCommand, LegEvent, Mark, MarkSource};

/// The caller's turn is over after this much silence.
const HANGOVER: Duration = Duration::from_millis(500);
/// From the call's start to the greeting.
const BEFORE_GREETING: Duration = Duration::from_millis(700);
/// Frames without any audio from the caller, after which it counts as silent.
const GAP_FRAMES: u32 = 3;

/// What the agent says, ready to be sent at the leg's rate.
#[derive(Debug, Clone)]
pub struct AgentLines {
    /// Said at the start; empty: the caller speaks first.
    pub greeting: Arc<[i16]>,
    /// Said in order after each turn of the caller, from the first again when all are said.
    pub answers: Vec<Arc<[i16]>>,
}

/// The agent.
#[derive(Debug)]
pub struct ScriptedAgent {
    rate: Rate,
    lines: AgentLines,
    next_answer: usize,
    detector: SpeechDetector,
    clock: FrameClock,
    frames: u64,
    /// Frames since the caller's audio last came.
    starved: u32,
    speaking: Option<Saying>,
    caller_was_speaking: bool,
    /// Samples given so far: the place of the next one in the leg's stream.
    given: u64,
    events: VecDeque<LegEvent>,
    hung_up: Option<EndReason>,
}

#[derive(Debug)]
struct Saying {
    samples: Arc<[i16]>,
    said: usize,
    utterance: String,
}

impl ScriptedAgent {
    /// An agent that says `lines` at `rate`.
    #[must_use]
    pub fn new(lines: AgentLines, rate: Rate) -> Self {
        Self {
            rate,
            lines,
            next_answer: 0,
            detector: SpeechDetector::new(rate, HANGOVER),
            clock: FrameClock::new(),
            frames: 0,
            starved: 0,
            speaking: None,
            caller_was_speaking: false,
            given: 0,
            events: VecDeque::new(),
            hung_up: None,
        }
    }

    fn frame(&mut self) {
        self.frames += 1;
        self.starved += 1;
        if self.starved > GAP_FRAMES {
            let silence = vec![0; self.rate.frame_len()];
            self.detector.hear(&silence);
        }
        let caller_speaks = self.detector.speaking();
        let caller_stopped = std::mem::replace(&mut self.caller_was_speaking, caller_speaks) && !caller_speaks;
        let greeting_due = self.frames == (BEFORE_GREETING.as_nanos() / FRAME.as_nanos()) as u64;
        if caller_speaks && self.detector.voiced() {
            self.stop(true);
        } else if caller_stopped && self.speaking.is_none() {
            self.answer();
        } else if greeting_due && !caller_speaks && !self.lines.greeting.is_empty() {
            self.say(Arc::clone(&self.lines.greeting));
        }
        self.send_frame();
    }

    fn answer(&mut self) {
        let answers = &self.lines.answers;
        if let Some(answer) = answers.get(self.next_answer % answers.len().max(1)) {
            let answer = Arc::clone(answer);
            self.next_answer += 1;
            self.say(answer);
        }
    }

    fn say(&mut self, samples: Arc<[i16]>) {
        let utterance = Uuid::new_v4().to_string();
        self.events.push_back(LegEvent::SpeechStarted(self.mark(&utterance)));
        self.speaking = Some(Saying { samples, said: 0, utterance });
    }

    fn mark(&self, utterance: &str) -> Mark {
        let utterance = utterance.to_owned();
        Mark { utterance, position: Some(self.given), source: MarkSource::Script, interruption: None }
    }

    fn send_frame(&mut self) {
        let Some(saying) = &mut self.speaking else { return };
        let to = (saying.said + self.rate.frame_len()).min(saying.samples.len());
        let frame = saying.samples[saying.said..to].to_vec();
        saying.said = to;
        self.given += frame.len() as u64;
        let done = to == saying.samples.len();
        self.events.push_back(LegEvent::Audio(frame));
        if done {
            self.stop(false);
        }
    }

    /// Ends what is being said, by itself or because the caller cut in.
    fn stop(&mut self, interrupted: bool) {
        if let Some(saying) = self.speaking.take() {
            let mark = self.mark(&saying.utterance);
            self.events.push_back(LegEvent::SpeechStopped(mark));
            tracing::debug!(interrupted, said = saying.said, "the agent stops");
        }
    }
}

impl Leg for ScriptedAgent {
    fn rate(&self) -> Rate {
        self.rate
    }

    fn abilities(&self) -> Abilities {
        Abilities { speech_marks: true, ..Abilities::default() }
    }

    fn via(&self) -> String {
        "scripted agent".to_owned()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        if let Some(reason) = self.hung_up {
            return Poll::Ready(LegEvent::Hangup { reason, detail: String::new() });
        }
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            let Poll::Ready(due) = self.clock.poll_due(cx) else { return Poll::Pending };
            for _ in 0..due.frames {
                self.frame();
            }
        }
    }

    fn command(&mut self, command: LegCommand<'_>) {
        match command {
            LegCommand::Audio(samples) => {
                self.starved = 0;
                self.detector.hear(samples);
            }
            LegCommand::SpeechStarted(_) => self.stop(true),
            LegCommand::Hangup(reason) => self.hung_up = Some(reason),
            _ => {}
        }
    }
}
