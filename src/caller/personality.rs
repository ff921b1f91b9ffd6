//! How a caller behaves beside what its script says: a file of personalities that scenarios name.
//!
//! ```toml
//! [[personalities]]
//! id = 7
//! name = "Hurried"
//! pace = 1.15                                       # speech at this many times the voice's own pace, 0.5 to 2
//! pause_ms = 200                                    # waits so long before it answers
//! interrupts = true                                 # false: <interruption> waits for the agent's turn instead
//! backchannels = [{ at_ms = 1500, text = "Yes." }]  # said so long into each turn of the agent, without taking the turn
//! ```
//!
//! JSON has the same keys. Unknown keys are refused with the nearest known one.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::suite::PersonalityKey;
use crate::error::FileError;
use crate::spelling::known_keys;

const FILE_KEYS: &[&str] = &["personalities"];
const KEYS: &[&str] = &["id", "name", "pace", "pause_ms", "backchannels", "interrupts"];
const BACKCHANNEL_KEYS: &[&str] = &["at_ms", "text"];
/// The longest pause before an answer.
const LONGEST_PAUSE_MS: u64 = 60_000;

/// A caller's way of talking.
#[derive(Debug, Clone, PartialEq)]
pub struct Personality {
    /// Its id, as a scenario or a start names it.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its pace: 1 is the voice's own.
    pub pace: f64,
    /// Waits this long before it answers.
    pub pause: Duration,
    /// What it says while the agent speaks, in order.
    pub backchannels: Vec<Backchannel>,
    /// Speaks over the agent where the script says so.
    pub interrupts: bool,
}

/// A sign of listening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backchannel {
    /// This long into each turn of the agent.
    pub at: Duration,
    /// The words.
    pub text: String,
}

/// The personalities of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Personalities {
    all: Vec<Personality>,
}

impl Personalities {
    /// Reads a file: JSON when its name ends in `.json`, else TOML.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let text = std::fs::read_to_string(path).map_err(|source| FileError::read(path, source))?;
        let json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let value: Result<Value, String> = if json {
            serde_json::from_str(&text).map_err(|error| format!("not JSON: {error}"))
        } else {
            toml::from_str(&text).map_err(|error| format!("not TOML: {error}"))
        };
        let read = value.and_then(|value| Self::parse(&value));
        read.map_err(|problem| FileError::malformed(path, problem))
    }

    /// Reads `{"personalities": [...]}`, or the list alone.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let list = match value {
            Value::Object(object) => {
                known_keys(object, FILE_KEYS)?;
                object.get("personalities")
            }
            other => Some(other),
        };
        let list = list.and_then(Value::as_array).ok_or("\"personalities\" must be a list")?;
        let mut all: Vec<Personality> = Vec::new();
        for (number, entry) in (1..).zip(list) {
            let read = personality(entry).map_err(|problem| format!("personality number {number}: {problem}"))?;
            if all.iter().any(|other| other.id == read.id) {
                return Err(format!("personality number {number}: the id {} is used twice", read.id));
            }
            all.push(read);
        }
        Ok(Self { all })
    }

    /// All of them, in the file's order.
    #[must_use]
    pub fn all(&self) -> &[Personality] {
        &self.all
    }

    /// The one that a scenario names.
    ///
    /// # Errors
    /// What was named, and what there is.
    pub fn find(&self, key: &PersonalityKey) -> Result<&Personality, String> {
        let found = self.all.iter().find(|personality| match key {
            PersonalityKey::Id(id) => personality.id == *id,
            PersonalityKey::Name(name) => personality.name == *name,
        });
        found.ok_or_else(|| {
            let named = match key {
                PersonalityKey::Id(id) => id.to_string(),
                PersonalityKey::Name(name) => format!("{name:?}"),
            };
            let known: Vec<_> = self.all.iter().map(|personality| format!("{} ({})", personality.id, personality.name)).collect();
            format!("there is no personality {named}; there are: {}", known.join(", "))
        })
    }
}

fn personality(entry: &Value) -> Result<Personality, String> {
    let object = entry.as_object().ok_or("it must be an object")?;
    known_keys(object, KEYS)?;
    let id = object.get("id").and_then(Value::as_u64).ok_or("\"id\" must be a whole number")?;
    let name = object.get("name").and_then(Value::as_str).filter(|name| !name.trim().is_empty());
    let name = name.ok_or("\"name\" must be a text")?.to_owned();
    let pace = object.get("pace").map_or(Some(1.0), Value::as_f64).filter(|pace| (0.5..=2.0).contains(pace));
    let pause = object.get("pause_ms").map_or(Some(0), Value::as_u64).filter(|pause| *pause <= LONGEST_PAUSE_MS);
    let mut backchannels = Vec::new();
    for entry in
        object.get("backchannels").map_or(Ok(&Vec::new()), |list| list.as_array().ok_or("\"backchannels\" must be a list"))?
    {
        backchannels.push(backchannel(entry)?);
    }
    if backchannels.windows(2).any(|pair: &[Backchannel]| pair[0].at >= pair[1].at) {
        return Err("\"backchannels\": each must come later than the one before it".to_owned());
    }
    Ok(Personality {
        id,
        name,
        pace: pace.ok_or("\"pace\" must be a number from 0.5 to 2")?,
        pause: Duration::from_millis(pause.ok_or(format!("\"pause_ms\" must be a whole number up to {LONGEST_PAUSE_MS}"))?),
        backchannels,
        interrupts: object.get("interrupts").map_or(Some(true), Value::as_bool).ok_or("\"interrupts\" must be true or false")?,
    })
}

fn backchannel(entry: &Value) -> Result<Backchannel, String> {
    let object = entry.as_object().ok_or("a backchannel is {\"at_ms\": …, \"text\": …}")?;
    known_keys(object, BACKCHANNEL_KEYS)?;
    let at = object.get("at_ms").and_then(Value::as_u64).ok_or("a backchannel's \"at_ms\" must be a whole number")?;
    let text = object.get("text").and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    Ok(Backchannel { at: Duration::from_millis(at), text: text.ok_or("a backchannel's \"text\" must be words")?.to_owned() })
}
