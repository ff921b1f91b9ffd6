//! A scenario compiled to what the caller says and does, and when.

use std::time::Duration;

use serde_json::Value;

use super::function::Function;
use super::placeholder::placeholders;
use super::{Problem, Rule};
use crate::call::Abilities;

/// What a caller plays.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// What the caller says first; none: the agent speaks first.
    pub opening: Option<Line>,
    /// The follow-ups of the first message, in order; then those that a rule leads to, in the file's order, each with its
    /// own follow-ups behind it.
    pub lines: Vec<Line>,
    /// For the voice.
    pub language: String,
    /// The REST calls that lines may make, their texts filled in from the test profile.
    pub functions: Vec<Function>,
}

/// One turn of the caller.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The condition's id.
    pub condition: u32,
    /// What leads to it.
    pub trigger: Trigger,
    /// Speaks this long into the agent's speech instead of after it.
    pub interrupt_after: Option<Duration>,
    /// What it does.
    pub steps: Vec<Step>,
    /// The tags in it that can only be heard.
    pub voice_tags: Vec<&'static str>,
}

/// What leads to a line.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// The call's start.
    Opening,
    /// The agent's turn after this condition, whatever it says.
    Follows(u32),
    /// A turn of the agent that the rule is for, where nothing follows what was said last.
    Reply(Rule),
}

/// One thing that a line does.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Says this.
    Say {
        /// The words; `{{function.name.key}}` stands for a value that only the call brings.
        text: String,
        /// How.
        delivery: Delivery,
    },
    /// Plays a recording instead of speech.
    Clip {
        /// Its id: `audio/ID.wav` beside the suite file.
        id: String,
        /// To the end, whatever the agent says.
        ignore_interruptions: bool,
    },
    /// Pauses; the agent may cut in.
    Silence(Duration),
    /// Pauses, whatever the agent says.
    Hold(Duration),
    /// Hangs up.
    EndCall,
    /// Presses keys: 0–9, `*`, `#`.
    Dtmf(String),
    /// Makes a sound once.
    Noise {
        /// Its name.
        sound: &'static str,
        /// 0 to 1.
        volume: f64,
        /// At most this long.
        time: Option<Duration>,
    },
    /// The beep after a voicemail's greeting.
    Beep,
    /// A background sound from here on, and its volume from 0 to 1; none: no longer.
    Background(Option<(&'static str, f64)>),
    /// From here on this percentage of the frames is lost.
    PacketLoss(f64),
    /// Sends data that is not heard.
    Message(Value),
    /// Makes this REST call, and waits for its answer.
    Function(String),
}

/// How words are said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delivery {
    /// To the end, whatever the agent says.
    pub ignore_interruptions: bool,
    /// 1 is the voice's own pace.
    pub speed: f64,
    /// 1 is the voice's own level.
    pub volume: f64,
}

impl Default for Delivery {
    fn default() -> Self {
        Self { ignore_interruptions: false, speed: 1.0, volume: 1.0 }
    }
}

impl Script {
    /// All lines: the opening first, if there is one.
    pub fn all_lines(&self) -> impl Iterator<Item = &Line> {
        self.opening.iter().chain(&self.lines)
    }

    /// Every text that can be spoken before the call, each once, in order.
    #[must_use]
    pub fn texts(&self) -> Vec<&str> {
        let mut texts = Vec::new();
        for step in self.all_lines().flat_map(|line| &line.steps) {
            if let Step::Say { text, .. } = step
                && placeholders(text).is_empty()
                && !texts.contains(&text.as_str())
            {
                texts.push(text);
            }
        }
        texts
    }

    /// What the other side must be able to do.
    #[must_use]
    pub fn needs(&self) -> Abilities {
        let steps = || self.all_lines().flat_map(|line| &line.steps);
        Abilities {
            dtmf: steps().any(|step| matches!(step, Step::Dtmf(_))),
            data: steps().any(|step| matches!(step, Step::Message(_))),
            transcripts: self.all_lines().any(|line| matches!(line.trigger, Trigger::Reply(_))),
            ..Abilities::NONE
        }
    }

    /// What of the script an agent with these abilities cannot be played, over the wire of this name.
    #[must_use]
    pub fn misfits(&self, scenario: &str, wire: &str, can: Abilities) -> Vec<Problem> {
        let mut problems = Vec::new();
        for line in self.all_lines() {
            let mut say = |problem: String| {
                let (scenario, condition) = (Some(scenario.to_owned()), Some(i64::from(line.condition)));
                problems.push(Problem { scenario, condition, problem });
            };
            if can.text_only {
                for tag in &line.voice_tags {
                    say(format!("tag <{tag}> is for a voice: it cannot be played as text, over {wire}"));
                }
            } else if line.steps.iter().any(|step| matches!(step, Step::Dtmf(_))) && !can.dtmf {
                say(format!("tag <dtmf>: {wire} carries no keypad digits"));
            }
            if line.steps.iter().any(|step| matches!(step, Step::Message(_))) && !can.data {
                say(format!("tag <client_message>: {wire} carries no data beside the conversation"));
            }
            if let Trigger::Reply(rule) = &line.trigger
                && !can.transcripts
                && !can.text_only
            {
                let rule = rule.as_str();
                say(format!(
                    "the rule {rule:?} needs the agent's words, and {wire} carries no transcripts; it can be played as text"
                ));
            }
        }
        problems
    }
}

impl Line {
    /// The line's words, for the log.
    #[must_use]
    pub fn words(&self) -> String {
        self.steps.iter().map(Step::words).filter(|words| !words.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// It hangs up.
    #[must_use]
    pub fn ends_call(&self) -> bool {
        self.steps.contains(&Step::EndCall)
    }
}

impl Step {
    /// What it says or does, for the log.
    pub(in crate::caller) fn words(&self) -> String {
        match self {
            Self::Say { text, .. } => text.clone(),
            Self::Clip { id, .. } => format!("[plays {id}]"),
            Self::Silence(time) => format!("[silence {} s]", time.as_secs_f64()),
            Self::Hold(time) => format!("[hold {} s]", time.as_secs_f64()),
            Self::EndCall => "[hangs up]".to_owned(),
            Self::Dtmf(digits) => format!("[presses {digits}]"),
            Self::Noise { sound, .. } => format!("[noise: {sound}]"),
            Self::Beep => "[beep]".to_owned(),
            Self::Background(Some((sound, _))) => format!("[background: {sound}]"),
            Self::Background(None) => String::new(),
            Self::PacketLoss(percent) => format!("[{percent} % packet loss]"),
            Self::Message(_) => "[client message]".to_owned(),
            Self::Function(name) => format!("[function {name}]"),
        }
    }
}
