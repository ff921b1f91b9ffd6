//! A scenario compiled to what the caller says and does, in order.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Problem;
use super::spec::{Condition, Scenario};
use super::tags::{Piece, pieces};

/// What a caller plays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// What the caller says first; none: the agent speaks first.
    pub opening: Option<Line>,
    /// The follow-ups, in order.
    pub lines: Vec<Line>,
    /// For the voice.
    pub language: String,
}

/// One turn of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The condition's id.
    pub condition: u32,
    /// Speaks this long into the agent's speech instead of after it.
    pub interrupt_after: Option<Duration>,
    /// What it does.
    pub steps: Vec<Step>,
}

/// One thing that a line does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Says this.
    Say {
        /// The words.
        text: String,
        /// To the end, whatever the agent says.
        ignore_interruptions: bool,
    },
    /// Pauses; the agent may cut in.
    Silence(Duration),
    /// Pauses, whatever the agent says.
    Hold(Duration),
    /// Hangs up.
    EndCall,
}

impl Script {
    /// Every text that has to be spoken, each once, in order.
    #[must_use]
    pub fn texts(&self) -> Vec<&str> {
        let mut texts = Vec::new();
        for line in self.opening.iter().chain(&self.lines) {
            for step in &line.steps {
                if let Step::Say { text, .. } = step
                    && !texts.contains(&text.as_str())
                {
                    texts.push(text);
                }
            }
        }
        texts
    }
}

impl Line {
    /// The line's words, for the log.
    #[must_use]
    pub fn words(&self) -> String {
        let word = |step: &Step| match step {
            Step::Say { text, .. } => text.clone(),
            Step::Silence(time) => format!("[silence {} s]", time.as_secs_f64()),
            Step::Hold(time) => format!("[hold {} s]", time.as_secs_f64()),
            Step::EndCall => "[hangs up]".to_owned(),
        };
        self.steps.iter().map(word).collect::<Vec<_>>().join(" ")
    }
}

impl Scenario {
    /// Compiles the scenario.
    ///
    /// # Errors
    /// All that a scripted caller cannot play: other scenario types, conditions and actions that a language model would
    /// have to judge or make up, tags that are wrong or not played yet, variables that no test profile has.
    pub fn script(&self) -> Result<Script, Vec<Problem>> {
        let mut compiler = Compiler { scenario: self, problems: Vec::new() };
        let script = compiler.script();
        match script {
            Some(script) if compiler.problems.is_empty() => Ok(script),
            _ => Err(compiler.problems),
        }
    }
}

struct Compiler<'a> {
    scenario: &'a Scenario,
    problems: Vec<Problem>,
}

impl Compiler<'_> {
    fn say(&mut self, condition: Option<i64>, problem: impl Into<String>) {
        let scenario = Some(self.scenario.name.clone());
        self.problems.push(Problem { scenario, condition, problem: problem.into() });
    }

    fn script(&mut self) -> Option<Script> {
        if self.scenario.kind != "conditional_actions" {
            let kind = &self.scenario.kind;
            self.say(None, format!("a scenario of type {kind:?} needs a language model; only conditional_actions are played here"));
            return None;
        }
        let mut lines = Vec::new();
        let mut opening = None;
        for condition in self.chain() {
            let Some(line) = self.line(&condition) else { continue };
            if condition.id > 0 {
                lines.push(line);
            } else if !line.steps.is_empty() {
                opening = Some(line);
            }
        }
        if opening.is_none() && lines.is_empty() {
            self.say(None, "there is nothing to say: neither a first message nor a follow-up");
        }
        for (at, line) in lines.iter().enumerate() {
            if line.steps.contains(&Step::EndCall) && at + 1 < lines.len() {
                let condition = Some(i64::from(lines[at + 1].condition));
                self.say(condition, format!("is never reached: condition {} hangs up", line.condition));
            }
        }
        Some(Script { opening, lines, language: self.scenario.language.clone().unwrap_or_default() })
    }

    /// The first message and its follow-ups, one after the other. Everything else is told of.
    fn chain(&mut self) -> Vec<Condition> {
        let conditions = &self.scenario.conditions;
        let mut chain: Vec<Condition> = conditions.iter().filter(|condition| condition.id == 0).take(1).cloned().collect();
        if chain.is_empty() {
            self.say(Some(0), "the first message (id 0, condition FIRST_MESSAGE) is missing");
        }
        while let Some(last) = chain.last() {
            let follows = |condition: &&Condition| condition.follow_up && condition.condition.trim().parse() == Ok(last.id);
            let mut next = conditions.iter().filter(follows);
            let Some(first) = next.next() else { break };
            if let Some(second) = next.next() {
                let problem = format!("conditions {} and {} both follow {}: a script has one way on", first.id, second.id, last.id);
                self.say(Some(second.id), problem);
            }
            if chain.iter().any(|condition| condition.id == first.id) {
                self.say(Some(first.id), "follows itself");
                break;
            }
            chain.push(first.clone());
        }
        for condition in conditions {
            if condition.id != 0 && !condition.follow_up {
                let sentence = &condition.condition;
                let problem = format!("a \"standard\" condition ({sentence:?}) is judged by a language model; a script cannot");
                self.say(Some(condition.id), problem);
            } else if condition.id != 0 && !chain.iter().any(|reached| reached.id == condition.id) {
                let problem = format!("follows {:?}, which leads to nothing", condition.condition);
                self.say(Some(condition.id), problem);
            }
        }
        chain
    }

    fn line(&mut self, condition: &Condition) -> Option<Line> {
        let id = condition.id;
        if !condition.fixed_message {
            self.say(Some(id), "\"fixed_message\": false asks a language model for the words; a script needs them as they are");
            return None;
        }
        let pieces = match pieces(&condition.action) {
            Ok(pieces) => pieces,
            Err(problems) => {
                for problem in problems {
                    self.say(Some(id), problem.to_string());
                }
                return None;
            }
        };
        let mut line = Line { condition: id as u32, interrupt_after: None, steps: Vec::new() };
        for (at, piece) in pieces.into_iter().enumerate() {
            if line.steps.last() == Some(&Step::EndCall) {
                self.say(Some(id), "nothing may follow <endcall/>");
                return None;
            }
            match piece {
                Piece::Interruption(time) if at == 0 && condition.follow_up => line.interrupt_after = Some(time),
                Piece::Interruption(_) => {
                    self.say(Some(id), "tag <interruption>: only at the beginning of an action_followup");
                }
                other => self.steps(id, other, false, &mut line.steps),
            }
        }
        if line.interrupt_after.is_some() && line.steps.is_empty() {
            self.say(Some(id), "tag <interruption>: what is said over the agent is missing");
        }
        Some(line)
    }

    fn steps(&mut self, id: i64, piece: Piece, ignore_interruptions: bool, steps: &mut Vec<Step>) {
        match piece {
            Piece::Text(text) => {
                let text = self.fill_in(id, &text);
                if !text.trim().is_empty() {
                    steps.push(Step::Say { text, ignore_interruptions });
                }
            }
            Piece::Silence(time) if ignore_interruptions => steps.push(Step::Hold(time)),
            Piece::Silence(time) => steps.push(Step::Silence(time)),
            Piece::Hold(time) => steps.push(Step::Hold(time)),
            Piece::EndCall => steps.push(Step::EndCall),
            Piece::IgnoreInterruptions(inner) => {
                for piece in inner {
                    self.steps(id, piece, true, steps);
                }
            }
            Piece::Interruption(_) => self.say(Some(id), "tag <interruption>: only at the beginning of an action_followup"),
        }
    }

    /// Puts the test profile's values where `{{test_profile.key}}` stands.
    fn fill_in(&mut self, id: i64, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            filled.push_str(before);
            let Some((name, behind)) = after.split_once("}}") else {
                self.say(Some(id), format!("{{{{{after}: the closing }}}} is missing"));
                return filled;
            };
            match self.variable(name.trim()) {
                Ok(value) => filled.push_str(&value),
                Err(problem) => self.say(Some(id), problem),
            }
            rest = behind;
        }
        filled.push_str(rest);
        filled
    }

    fn variable(&self, name: &str) -> Result<String, String> {
        if name.starts_with("function.") {
            return Err(format!("{{{{{name}}}}}: functions are known, but not played yet"));
        }
        let Some(key) = name.strip_prefix("test_profile.") else {
            return Err(format!("{{{{{name}}}}} is no variable: use {{{{test_profile.key}}}}"));
        };
        let (caller, agent): (&BTreeMap<_, _>, &BTreeMap<_, _>) = (&self.scenario.caller_variables, &self.scenario.agent_variables);
        if let Some(value) = caller.get(key).or_else(|| agent.get(key)) {
            return Ok(value.clone());
        }
        let known = caller.keys().chain(agent.keys());
        let nearest = known.max_by(|a, b| strsim::jaro(a, key).total_cmp(&strsim::jaro(b, key)));
        Err(match nearest {
            Some(nearest) => format!("the test profile has no {key:?}; the nearest is {nearest:?}"),
            None => format!("the scenario has no test profile to take {key:?} from"),
        })
    }
}
