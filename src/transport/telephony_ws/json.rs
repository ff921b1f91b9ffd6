//! Fields of a provider's JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::dialect::{BadMessage, Format};

/// A message's object.
pub(super) fn object(text: &str) -> Result<Map<String, Value>, BadMessage> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(BadMessage::NoObject),
        Err(error) => Err(BadMessage::NotJson(error.to_string())),
    }
}

/// The field at `path`, whose steps are separated by dots.
pub(super) fn field<'a>(object: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let mut steps = path.split('.');
    let first = object.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.get(step)).filter(|value| !value.is_null())
}

/// The members of the object at `path`; none where it is not there.
pub(super) fn members(object: &Map<String, Value>, path: &str) -> Map<String, Value> {
    field(object, path).and_then(Value::as_object).cloned().unwrap_or_default()
}

pub(super) fn string<'a>(object: &'a Map<String, Value>, path: &'static str) -> Result<&'a str, BadMessage> {
    field(object, path).and_then(Value::as_str).ok_or(BadMessage::Field(path, "string"))
}

/// A whole number, which some providers write as a string.
pub(super) fn number(object: &Map<String, Value>, path: &str) -> Option<u64> {
    let value = field(object, path)?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// The keypad digit at `path`.
pub(super) fn digit(object: &Map<String, Value>, path: &'static str) -> Result<char, BadMessage> {
    match digits(object, path)?[..] {
        [digit] => Ok(digit),
        _ => Err(BadMessage::Field(path, "keypad digit")),
    }
}

/// The keypad digits at `path`, which some providers write as a number.
pub(super) fn digits(object: &Map<String, Value>, path: &'static str) -> Result<Vec<char>, BadMessage> {
    let found = field(object, path).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let digits: Vec<char> = found.as_deref().unwrap_or_default().chars().collect();
    let known = |digit: &char| matches!(digit, '0'..='9' | '*' | '#' | 'A'..='D');
    if digits.is_empty() || !digits.iter().all(known) { Err(BadMessage::Field(path, "keypad digit")) } else { Ok(digits) }
}

/// The audio at `path`.
pub(super) fn audio(object: &Map<String, Value>, path: &'static str, format: Format) -> Result<Vec<i16>, BadMessage> {
    let bytes = STANDARD.decode(string(object, path)?).map_err(|error| BadMessage::NotBase64(error.to_string()))?;
    format.decode(&bytes)
}

/// Audio as it stands in a message.
pub(super) fn payload(samples: &[i16], format: Format) -> String {
    STANDARD.encode(format.encode(samples))
}
