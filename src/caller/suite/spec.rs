//! The suite file's shape, checked strictly: unknown keys are refused with the nearest known one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::Problem;
use super::function::Function;
use crate::spelling::unknown_key;

const SUITE_KEYS: &[&str] = &["version", "scenarios", "suite", "defaults", "$schema"];
const SCENARIO_KEYS: &[&str] = &[
    "name",
    "key",
    "type",
    "conditional_actions",
    "instructions",
    "first_message",
    "language",
    "expected_outcome",
    "test_profile",
    "frequency",
    "max_duration",
    "tags",
    "metrics",
    "personality",
    "tools",
];
const CONDITION_KEYS: &[&str] = &["id", "condition", "action", "type", "fixed_message"];
const PROFILE_KEYS: &[&str] = &["name", "agent_variables", "caller_variables"];
const TYPES: &[&str] = &["instruction", "conditional_actions", "real_world_fixed", "real_world_smart"];
const LONGEST_NAME: usize = 80;
const MOST_SCENARIOS: usize = 200;

/// A suite whose shape is right. Whether a scenario can be played is asked of the scenario: see [`Scenario::script`].
#[derive(Debug, Clone)]
pub struct Suite {
    /// The suite's name.
    pub name: Option<String>,
    /// Its scenarios, in the file's order; the sandbox counts them from 1.
    pub scenarios: Vec<Scenario>,
}

/// A scenario.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its place in the file, from 1: its id in the sandbox.
    pub number: u64,
    /// Its name.
    pub name: String,
    /// Its key, if it has one.
    pub key: Option<String>,
    /// Its type: only `conditional_actions` is played here.
    pub kind: String,
    /// The conditions of a `conditional_actions` scenario.
    pub conditions: Vec<Condition>,
    /// The REST calls that it declares.
    pub functions: Vec<Function>,
    /// The personality that it names.
    pub personality: Option<PersonalityKey>,
    /// The language, for the voice.
    pub language: Option<String>,
    /// What is to come out of it, for a judge.
    pub expected_outcome: Option<String>,
    /// The longest duration of its call.
    pub max_duration: Option<Duration>,
    /// How often it is run.
    pub frequency: u32,
    /// Its tags.
    pub tags: Vec<String>,
    /// What the agent gets to know.
    pub agent_variables: BTreeMap<String, String>,
    /// What the caller alone knows.
    pub caller_variables: BTreeMap<String, String>,
}

/// How a scenario names its personality.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PersonalityKey {
    /// By its id.
    Id(u64),
    /// By the name of one that the scenario describes itself.
    Name(String),
}

/// A condition and what it makes the caller do.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Its id.
    pub id: i64,
    /// `FIRST_MESSAGE`, a sentence, or the id that a follow-up follows.
    pub condition: String,
    /// Text with tags, or an instruction.
    pub action: String,
    /// `action_followup`, not `standard`.
    pub follow_up: bool,
    /// The action is said as it stands.
    pub fixed_message: bool,
}

/// Collects problems on the way through the file.
struct Checker {
    scenario: Option<String>,
    problems: Vec<Problem>,
}

impl Suite {
    /// Checks a suite's shape.
    ///
    /// # Errors
    /// Every [`Problem`] of it.
    pub fn parse(json: &Value) -> Result<Self, Vec<Problem>> {
        let mut check = Checker { scenario: None, problems: Vec::new() };
        let suite = check.suite(json);
        if check.problems.is_empty() { Ok(suite) } else { Err(check.problems) }
    }

    /// The scenario of this key, name or number.
    #[must_use]
    pub fn find(&self, wanted: &str) -> Option<&Scenario> {
        let by = |test: &dyn Fn(&Scenario) -> bool| self.scenarios.iter().find(|scenario| test(scenario));
        by(&|scenario| scenario.key.as_deref() == Some(wanted))
            .or_else(|| by(&|scenario| scenario.name == wanted))
            .or_else(|| by(&|scenario| wanted.parse() == Ok(scenario.number)))
    }
}

impl Checker {
    fn say(&mut self, problem: impl Into<String>) {
        self.say_of(None, problem);
    }

    fn say_of(&mut self, condition: Option<i64>, problem: impl Into<String>) {
        self.problems.push(Problem { scenario: self.scenario.clone(), condition, problem: problem.into() });
    }

    fn suite(&mut self, json: &Value) -> Suite {
        let mut suite = Suite { name: None, scenarios: Vec::new() };
        let Some(object) = json.as_object() else {
            self.say("a suite is a JSON object");
            return suite;
        };
        self.known_keys(object, SUITE_KEYS, "");
        if object.get("version").and_then(Value::as_str) != Some("1") {
            self.say("\"version\" must be \"1\"");
        }
        suite.name = object.get("suite").and_then(|suite| suite.get("name")).and_then(Value::as_str).map(str::to_owned);
        let defaults = object.get("defaults").and_then(Value::as_object).cloned().unwrap_or_default();
        let Some(scenarios) = object.get("scenarios").and_then(Value::as_array) else {
            self.say("\"scenarios\" must be a list of 1 to 200 scenarios");
            return suite;
        };
        if scenarios.is_empty() || scenarios.len() > MOST_SCENARIOS {
            self.say(format!("{} scenarios: a suite has 1 to {MOST_SCENARIOS}", scenarios.len()));
        }
        for (number, scenario) in (1..).zip(scenarios) {
            let name = scenario.get("name").and_then(Value::as_str);
            self.scenario = Some(name.map_or_else(|| format!("number {number}"), str::to_owned));
            suite.scenarios.extend(self.scenario(number, scenario, &defaults));
        }
        for (at, scenario) in suite.scenarios.iter().enumerate() {
            let twin = |other: &&Scenario| other.key.is_some() && other.key == scenario.key;
            if suite.scenarios[..at].iter().find(twin).is_some() {
                self.scenario = Some(scenario.name.clone());
                self.say(format!("the key {:?} is used twice", scenario.key.as_deref().unwrap_or_default()));
            }
        }
        suite
    }

    fn scenario(&mut self, number: u64, json: &Value, defaults: &Map<String, Value>) -> Option<Scenario> {
        let Some(object) = json.as_object() else {
            self.say("a scenario is a JSON object");
            return None;
        };
        self.known_keys(object, SCENARIO_KEYS, "");
        let field = |key: &str| object.get(key).or_else(|| defaults.get(key)).filter(|value| !value.is_null());
        let name = object.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if name.is_empty() || name.chars().count() > LONGEST_NAME {
            self.say(format!("\"name\" must be a text of 1 to {LONGEST_NAME} characters"));
        }
        let kind = field("type").and_then(Value::as_str).unwrap_or("instruction").to_owned();
        if !TYPES.contains(&kind.as_str()) {
            self.say(format!("\"type\" must be one of {}, not {kind:?}", TYPES.join(", ")));
        }
        let language = field("language").and_then(Value::as_str).map(str::to_owned);
        let mut conditions = Vec::new();
        let mut functions = Vec::new();
        if kind == "conditional_actions" {
            if language.is_none() {
                self.say("\"language\" is required");
            }
            let actions = object.get("conditional_actions");
            conditions = self.conditions(actions);
            functions = self.functions(actions.and_then(|actions| actions.get("functions")));
        }
        let mut number_of = |key: &str| match field(key) {
            None => None,
            Some(value) => {
                let number = value.as_u64().filter(|number| *number >= 1);
                if number.is_none() {
                    self.say(format!("{key:?} must be a whole number of at least 1"));
                }
                number
            }
        };
        let max_duration = number_of("max_duration").map(Duration::from_secs);
        let frequency = number_of("frequency").map_or(1, |number| u32::try_from(number).unwrap_or(u32::MAX));
        let (agent_variables, caller_variables) = self.profile(field("test_profile"));
        let text = |key: &str| field(key).and_then(Value::as_str).map(str::to_owned);
        let (key, expected_outcome) = (text("key"), text("expected_outcome"));
        let personality = match field("personality") {
            None => None,
            Some(Value::Number(id)) => id.as_u64().map(PersonalityKey::Id),
            Some(described) => described.get("name").and_then(Value::as_str).map(|name| PersonalityKey::Name(name.to_owned())),
        };
        if field("personality").is_some() && personality.is_none() {
            self.say("\"personality\" must be an id, or a description with a \"name\"");
        }
        let tags = field("tags").and_then(Value::as_array).into_iter().flatten();
        let tags = tags.filter_map(Value::as_str).map(str::to_owned).collect();
        Some(Scenario {
            number,
            name,
            key,
            kind,
            conditions,
            functions,
            personality,
            language,
            expected_outcome,
            max_duration,
            frequency,
            tags,
            agent_variables,
            caller_variables,
        })
    }

    fn conditions(&mut self, json: Option<&Value>) -> Vec<Condition> {
        let Some(object) = json.and_then(Value::as_object) else {
            self.say("\"conditional_actions\" must be {\"role\": …, \"conditions\": […]}");
            return Vec::new();
        };
        self.known_keys(object, &["role", "conditions", "functions"], "conditional_actions.");
        let Some(list) = object.get("conditions").and_then(Value::as_array).filter(|list| !list.is_empty()) else {
            self.say("\"conditional_actions.conditions\" must be a list with at least the first message");
            return Vec::new();
        };
        let conditions: Vec<_> = list.iter().filter_map(|json| self.condition(json)).collect();
        for (at, condition) in conditions.iter().enumerate() {
            if conditions[..at].iter().any(|other| other.id == condition.id) {
                self.say_of(Some(condition.id), "this id is used twice");
            }
        }
        conditions
    }

    fn functions(&mut self, json: Option<&Value>) -> Vec<Function> {
        let Some(json) = json.filter(|json| !json.is_null()) else { return Vec::new() };
        let Some(list) = json.as_array() else {
            self.say("\"conditional_actions.functions\" must be a list");
            return Vec::new();
        };
        let mut functions: Vec<Function> = Vec::new();
        for entry in list {
            match Function::parse(entry) {
                Ok(function) if functions.iter().any(|other| other.name == function.name) => {
                    self.say(format!("the function {:?} is declared twice", function.name));
                }
                Ok(function) => functions.push(function),
                Err(problem) => self.say(format!("conditional_actions.functions: {problem}")),
            }
        }
        functions
    }

    fn condition(&mut self, json: &Value) -> Option<Condition> {
        let Some(object) = json.as_object() else {
            self.say("a condition is a JSON object");
            return None;
        };
        self.known_keys(object, CONDITION_KEYS, "conditional_actions.conditions[].");
        let Some(id) = object.get("id").and_then(Value::as_i64).filter(|id| (0..=i64::from(u32::MAX)).contains(id)) else {
            self.say("a condition's \"id\" must be a whole number");
            return None;
        };
        let condition = match object.get("condition") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => {
                self.say_of(Some(id), "\"condition\" must be a text, or the id that it follows");
                return None;
            }
        };
        let follow_up = match object.get("type").and_then(Value::as_str) {
            Some("action_followup") => true,
            Some("standard") => false,
            _ => {
                self.say_of(Some(id), "\"type\" must be \"standard\" or \"action_followup\"");
                return None;
            }
        };
        let Some(fixed_message) = object.get("fixed_message").and_then(Value::as_bool) else {
            self.say_of(Some(id), "\"fixed_message\" must be true or false");
            return None;
        };
        let action = object.get("action").and_then(Value::as_str).unwrap_or_default().to_owned();
        let first = id == 0;
        if first != (condition == "FIRST_MESSAGE") {
            self.say_of(Some(id), "the condition FIRST_MESSAGE and the id 0 go together");
        }
        if first && !fixed_message {
            self.say_of(Some(id), "the first message must have \"fixed_message\": true");
        }
        if !first && action.trim().is_empty() {
            self.say_of(Some(id), "\"action\" must not be empty: only the first message may be, for the agent to speak first");
        }
        Some(Condition { id, condition, action, follow_up, fixed_message })
    }

    fn profile(&mut self, json: Option<&Value>) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
        // A number is the id of a profile that only Cekura has.
        let Some(object) = json.and_then(Value::as_object) else { return Default::default() };
        self.known_keys(object, PROFILE_KEYS, "test_profile.");
        let mut variables = |key: &str| {
            let mut found = BTreeMap::new();
            let object = object.get(key).and_then(Value::as_object);
            for (name, value) in object.into_iter().flatten() {
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Number(_) | Value::Bool(_) => value.to_string(),
                    _ => {
                        self.say(format!("test_profile.{key}.{name} must be a text, a number or a truth value"));
                        continue;
                    }
                };
                found.insert(name.clone(), text);
            }
            found
        };
        (variables("agent_variables"), variables("caller_variables"))
    }

    fn known_keys(&mut self, object: &Map<String, Value>, known: &[&str], place: &str) {
        for key in object.keys().filter(|key| !known.contains(&key.as_str())) {
            self.say(unknown_key(place, key, known));
        }
    }
}
