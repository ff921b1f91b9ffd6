//! Names that somebody has misspelt, and what was probably meant.

use serde_json::{Map, Value};

/// The known name that is most like `wrong`; none where nothing is known.
pub(crate) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known.into_iter().max_by(|a, b| strsim::jaro(a, wrong).total_cmp(&strsim::jaro(b, wrong)))
}

/// What is said of a key that is not known; `place` is where its object stands, with a dot at the end, or nothing.
pub(crate) fn unknown_key(place: &str, key: &str, known: &[&str]) -> String {
    let nearest = nearest(key, known.iter().copied()).unwrap_or_default();
    format!("unknown key \"{place}{key}\"; the nearest known one is {nearest:?}")
}

/// Refuses an object with a key that is not known.
pub(crate) fn known_keys(object: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(unknown_key("", key, known)),
    }
}
