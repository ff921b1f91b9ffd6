//! The keys of a JSON object, checked against those that it may have.

use serde_json::{Map, Value};

/// Refuses an unknown key, with the nearest known one.
pub(super) fn known_keys(object: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let nearest = known.iter().max_by(|a, b| strsim::jaro(a, key).total_cmp(&strsim::jaro(b, key)));
            Err(format!("unknown key {key:?}; the nearest known one is {:?}", nearest.unwrap_or(&"")))
        }
    }
}
