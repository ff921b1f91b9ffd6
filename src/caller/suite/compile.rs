//! Compiles a scenario to a [`Script`], and tells of all that cannot be played.

use std::convert::Infallible;

use super::function::{Function, Headers};
use super::placeholder::{fill, fill_json, function_and_key, names, placeholders};
use super::script::{Delivery, Line, Script, Step, Trigger};
use super::spec::{Condition, Scenario};
use super::tags::{Piece, pieces};
use super::{Problem, Rule};
use crate::spelling::nearest;

impl Scenario {
    /// Compiles the scenario.
    ///
    /// # Errors
    /// All that a scripted caller cannot play: other scenario types, conditions and actions that a language model would
    /// have to judge or make up, tags that are wrong or cannot be played, variables that no test profile has.
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
        let mut lines: Vec<Line> = Vec::new();
        for (condition, trigger) in self.in_order() {
            lines.extend(self.line(&condition, trigger));
        }
        let silent = |line: &Line| line.trigger == Trigger::Opening && line.steps.is_empty();
        lines.retain(|line| !silent(line));
        let opening = lines.iter().position(|line| line.trigger == Trigger::Opening).map(|at| lines.remove(at));
        if opening.is_none() && lines.is_empty() {
            self.say(None, "there is nothing to say: neither a first message nor a follow-up");
        }
        for line in &lines {
            let Trigger::Follows(before) = &line.trigger else { continue };
            if opening.iter().chain(&lines).any(|other| other.condition == *before && other.ends_call()) {
                self.say(Some(i64::from(line.condition)), format!("is never reached: condition {before} hangs up"));
            }
        }
        let functions = self.functions(&lines);
        Some(Script { opening, lines, language: self.scenario.language.clone().unwrap_or_default(), functions })
    }

    /// The first message with its follow-ups, then every condition with a rule and its follow-ups. Everything else is told of.
    fn in_order(&mut self) -> Vec<(Condition, Trigger)> {
        let conditions = &self.scenario.conditions;
        let mut order: Vec<(Condition, Trigger)> = Vec::new();
        match conditions.iter().find(|condition| condition.id == 0) {
            Some(first) => self.with_follow_ups(first, Trigger::Opening, &mut order),
            None => self.say(Some(0), "the first message (id 0, condition FIRST_MESSAGE) is missing"),
        }
        for condition in conditions.iter().filter(|condition| condition.id != 0 && !condition.follow_up) {
            let id = Some(condition.id);
            match Rule::parse(&condition.condition) {
                Some(Ok(rule)) => self.with_follow_ups(condition, Trigger::Reply(rule), &mut order),
                Some(Err(bad)) => self.say(id, bad.to_string()),
                None => {
                    let sentence = &condition.condition;
                    let problem = format!(
                        "a \"standard\" condition ({sentence:?}) is judged by a language model; a script plays only a rule: \
                         \"contains: words\" or \"regex: pattern\""
                    );
                    self.say(id, problem);
                }
            }
        }
        for condition in conditions.iter().filter(|condition| condition.id != 0 && condition.follow_up) {
            if !order.iter().any(|(reached, _)| reached.id == condition.id) {
                self.say(Some(condition.id), format!("follows {:?}, which leads to nothing", condition.condition));
            }
        }
        order
    }

    fn with_follow_ups(&mut self, root: &Condition, trigger: Trigger, order: &mut Vec<(Condition, Trigger)>) {
        order.push((root.clone(), trigger));
        let mut last = root.id;
        loop {
            let follows = |condition: &&Condition| condition.follow_up && condition.condition.trim().parse() == Ok(last);
            let mut next = self.scenario.conditions.iter().filter(follows);
            let Some(first) = next.next() else { return };
            if let Some(second) = next.next() {
                let problem = format!("conditions {} and {} both follow {last}: a script has one way on", first.id, second.id);
                self.say(Some(second.id), problem);
            }
            if order.iter().any(|(condition, _)| condition.id == first.id) {
                return self.say(Some(first.id), "follows itself");
            }
            order.push((first.clone(), Trigger::Follows(last as u32)));
            last = first.id;
        }
    }

    fn line(&mut self, condition: &Condition, trigger: Trigger) -> Option<Line> {
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
        let mut line = Line { condition: id as u32, trigger, interrupt_after: None, steps: Vec::new(), voice_tags: Vec::new() };
        let mut delivery = Delivery::default();
        for (at, piece) in pieces.into_iter().enumerate() {
            if line.steps.last() == Some(&Step::EndCall) {
                self.say(Some(id), "nothing may follow <endcall/>");
                return None;
            }
            match piece {
                Piece::Interruption(time) if at == 0 && condition.follow_up => {
                    line.interrupt_after = Some(time);
                    line.voice_tags.push("interruption");
                }
                Piece::Interruption(_) => {
                    self.say(Some(id), "tag <interruption>: only at the beginning of an action_followup");
                }
                other => self.steps(&mut line, other, &mut delivery),
            }
        }
        if line.interrupt_after.is_some() && !line.steps.iter().any(Step::is_heard) {
            self.say(Some(id), "tag <interruption>: what is said over the agent is missing");
        }
        Some(line)
    }

    fn steps(&mut self, line: &mut Line, piece: Piece, delivery: &mut Delivery) {
        let id = i64::from(line.condition);
        let mut protected = Delivery { ignore_interruptions: true, ..*delivery };
        if let Some(tag) = piece.voice_tag() {
            line.voice_tags.push(tag);
        }
        match piece {
            Piece::Text(text) => self.words(line, &text, *delivery),
            Piece::Spell(text) => {
                let text = self.plain(id, "spell", &text);
                self.words(line, &spelled(&text), *delivery);
            }
            Piece::Silence(time) if delivery.ignore_interruptions => line.steps.push(Step::Hold(time)),
            Piece::Silence(time) => line.steps.push(Step::Silence(time)),
            Piece::Hold(time) => line.steps.push(Step::Hold(time)),
            Piece::EndCall => line.steps.push(Step::EndCall),
            Piece::IgnoreInterruptions(inner) => {
                for piece in inner {
                    self.steps(line, piece, &mut protected);
                }
            }
            Piece::Dtmf(digits) => self.digits(line, &digits),
            Piece::Ivr(text) => self.words(line, &text, protected),
            Piece::Voicemail(greeting) => {
                if let Some(greeting) = greeting {
                    self.words(line, &greeting, protected);
                }
                line.steps.push(Step::Beep);
            }
            Piece::Audio(clip) => {
                line.steps.push(Step::Clip { id: clip, ignore_interruptions: delivery.ignore_interruptions });
            }
            Piece::Noise { sound, volume, time } => line.steps.push(Step::Noise { sound, volume, time }),
            Piece::BackgroundNoise { sound, volume, inner } => {
                line.steps.push(Step::Background(Some((sound, volume))));
                for piece in inner {
                    self.steps(line, piece, delivery);
                }
                line.steps.push(Step::Background(None));
            }
            Piece::PacketLoss(percent) => line.steps.push(Step::PacketLoss(percent)),
            Piece::Volume { ratio, text: None } => delivery.volume = ratio,
            Piece::Volume { ratio, text: Some(text) } => self.words(line, &text, Delivery { volume: ratio, ..*delivery }),
            Piece::Speed { ratio, text: None } => delivery.speed = ratio,
            Piece::Speed { ratio, text: Some(text) } => self.words(line, &text, Delivery { speed: ratio, ..*delivery }),
            Piece::ClientMessage { kind, data } => self.message(line, &kind, data.as_deref()),
            Piece::Function(name) => self.function(line, name),
            Piece::Interruption(_) => self.say(Some(id), "tag <interruption>: only at the beginning of an action_followup"),
        }
    }

    /// Words to say; what is said in the same way goes on in the same breath.
    fn words(&mut self, line: &mut Line, text: &str, delivery: Delivery) {
        let text = self.fill_in(i64::from(line.condition), text);
        if text.trim().is_empty() {
            return;
        }
        if line.trigger == Trigger::Opening && !placeholders(&text).is_empty() {
            return self.say(Some(0), "the first message cannot say what a function gives: no function has run yet");
        }
        match line.steps.last_mut() {
            Some(Step::Say { text: before, delivery: same }) if *same == delivery => {
                if !text.starts_with(['.', ',', '!', '?', ';', ':']) {
                    before.push(' ');
                }
                before.push_str(&text);
            }
            _ => line.steps.push(Step::Say { text, delivery }),
        }
    }

    fn digits(&mut self, line: &mut Line, written: &str) {
        let id = i64::from(line.condition);
        let digits = self.plain(id, "dtmf", written);
        let digits: String = digits.chars().filter(|c| c.is_ascii_digit() || matches!(c, '*' | '#')).collect();
        if digits.is_empty() {
            return self.say(Some(id), format!("tag <dtmf>: there is no key in {written:?}; keys are 0-9, * and #"));
        }
        line.steps.push(Step::Dtmf(digits));
    }

    /// An RTVI client message (Pipecat's protocol): `{label, type, id, data: {t, d}}`.
    fn message(&mut self, line: &mut Line, kind: &str, data: Option<&str>) {
        let id = i64::from(line.condition);
        let kind = self.plain(id, "client_message", kind);
        let mut content = serde_json::json!({"t": kind});
        if let Some(data) = data {
            let data = self.plain(id, "client_message", data);
            match serde_json::from_str(&data) {
                Ok(data) => content["d"] = data,
                Err(error) => return self.say(Some(id), format!("tag <client_message>: d is not JSON: {error}")),
            }
        }
        let number = line.steps.len();
        let message = serde_json::json!({
            "label": "rtvi-ai", "type": "client-message", "id": format!("{id}-{number}"), "data": content,
        });
        line.steps.push(Step::Message(message));
    }

    fn function(&mut self, line: &mut Line, name: String) {
        let id = i64::from(line.condition);
        if line.trigger == Trigger::Opening {
            return self.say(Some(id), "tag <function>: not in the first message");
        }
        if !self.scenario.functions.iter().any(|function| function.name == name) {
            return self.say(Some(id), format!("tag <function>: no function {name:?} is declared{}", self.declared()));
        }
        line.steps.push(Step::Function(name));
    }

    /// The declared functions, ready to be called; one whose values are used must also be run.
    fn functions(&mut self, lines: &[Line]) -> Vec<Function> {
        let mut ready = Vec::new();
        for function in &self.scenario.functions {
            let tagged = lines.iter().any(|line| line.steps.contains(&Step::Function(function.name.clone())));
            let used = |step: &Step| match step {
                Step::Say { text, .. } => placeholders(text).iter().any(|(name, _)| *name == function.name),
                _ => false,
            };
            if let Some(line) = lines.iter().find(|line| line.steps.iter().any(used))
                && !function.auto_run
                && !tagged
            {
                let problem =
                    format!("uses function {:?}, which nothing runs: auto_run is false and no tag names it", function.name);
                self.say(Some(i64::from(line.condition)), problem);
            }
            let mut problems = Vec::new();
            let mut fill = |text: &str| {
                let (text, wrong) = self.filled(text);
                problems.extend(wrong);
                text
            };
            let fill_all = |pairs: &[(String, String)], fill: &mut dyn FnMut(&str) -> String| {
                pairs.iter().map(|(name, value)| (name.clone(), fill(value))).collect::<Vec<_>>()
            };
            let headers = Headers(fill_all(&function.headers.0, &mut fill));
            let query = fill_all(&function.query, &mut fill);
            let url = fill(&function.url);
            let body = function.body.as_ref().map(|body| {
                let Ok(body) = fill_json::<Infallible>(body, &mut |text| Ok(fill(text)));
                body
            });
            for problem in problems {
                self.say(None, format!("function {:?}: {problem}", function.name));
            }
            ready.push(Function { headers, query, url, body, ..function.clone() });
        }
        ready
    }

    /// A text that must be known before the call.
    fn plain(&mut self, id: i64, tag: &str, text: &str) -> String {
        let text = self.fill_in(id, text);
        if !placeholders(&text).is_empty() {
            self.say(Some(id), format!("tag <{tag}>: what a function gives can only be said in words"));
        }
        text
    }

    /// The text as [`Self::filled`] gives it; what is wrong is told of.
    fn fill_in(&mut self, id: i64, text: &str) -> String {
        let (filled, problems) = self.filled(text);
        for problem in problems {
            self.say(Some(id), problem);
        }
        filled
    }

    /// Puts the test profile's values where `{{test_profile.key}}` stands, and gives what is wrong with the text.
    /// `{{function.name.key}}` stays, and no value may make another one.
    fn filled(&self, text: &str) -> (String, Vec<String>) {
        let (mut problems, mut stays) = (Vec::new(), Vec::new());
        let filled = fill(text, &mut |name| {
            if function_and_key(name).is_some() {
                stays.push(name);
            }
            Ok(self.variable(name).unwrap_or_else(|problem| {
                problems.push(problem);
                String::new()
            }))
        });
        let filled = filled.unwrap_or_else(|problem| {
            problems.push(problem);
            String::new()
        });
        if problems.is_empty() && names(&filled) != Ok(stays) {
            problems.push(format!("{text:?}: a value of the test profile makes a {{{{ of its own; only the script may hold one"));
        }
        (filled, problems)
    }

    fn variable(&self, name: &str) -> Result<String, String> {
        if name.starts_with("function.") {
            let (function, key) =
                function_and_key(name).ok_or_else(|| format!("{{{{{name}}}}}: write {{{{function.name.key}}}}"))?;
            let declared = self.scenario.functions.iter().find(|declared| declared.name == function);
            let declared = declared.ok_or_else(|| format!("{{{{{name}}}}}: no such function is declared{}", self.declared()))?;
            return if declared.outputs.iter().any(|output| output.key == key) {
                Ok(format!("{{{{{name}}}}}"))
            } else {
                Err(format!("{{{{{name}}}}}: the function's response_mapping has no {key:?}"))
            };
        }
        let Some(key) = name.strip_prefix("test_profile.") else {
            return Err(format!("{{{{{name}}}}} is no variable: use {{{{test_profile.key}}}} or {{{{function.name.key}}}}"));
        };
        let (caller, agent) = (&self.scenario.caller_variables, &self.scenario.agent_variables);
        if let Some(value) = caller.get(key).or_else(|| agent.get(key)) {
            return Ok(value.clone());
        }
        Err(match nearest(key, caller.keys().chain(agent.keys()).map(String::as_str)) {
            Some(nearest) => format!("the test profile has no {key:?}; the nearest is {nearest:?}"),
            None => format!("the scenario has no test profile to take {key:?} from"),
        })
    }

    fn declared(&self) -> String {
        let names: Vec<_> = self.scenario.functions.iter().map(|function| function.name.as_str()).collect();
        if names.is_empty() { String::new() } else { format!("; there are: {}", names.join(", ")) }
    }
}

impl Piece {
    /// The tag's name, where it means nothing without a voice.
    fn voice_tag(&self) -> Option<&'static str> {
        Some(match self {
            Self::Dtmf(_) => "dtmf",
            Self::Ivr(_) => "ivr",
            Self::Voicemail(_) => "voicemail",
            Self::Audio(_) => "audio",
            Self::Noise { .. } => "noise",
            Self::BackgroundNoise { .. } => "background_noise",
            Self::PacketLoss(_) => "network_simulation",
            Self::Volume { .. } => "volume",
            Self::Speed { .. } => "speed",
            _ => return None,
        })
    }
}

impl Step {
    /// It is heard: words or a sound.
    fn is_heard(&self) -> bool {
        matches!(self, Self::Say { .. } | Self::Clip { .. } | Self::Noise { .. })
    }
}

/// Each letter and digit by itself, as a speech command reads a list.
fn spelled(text: &str) -> String {
    let letters = text.chars().filter(|c| !c.is_whitespace()).map(String::from);
    letters.collect::<Vec<_>>().join(", ")
}
