//! Forms: the API takes them in place of JSON.

use serde_json::{Map, Value};

/// The fields that hold lists: a form may repeat them.
const LISTS: [&str; 5] = ["scenarios", "tags", "personality_ids", "test_profile_ids", "mock_tool_names"];

/// A form's pairs as the JSON object that they stand for: a repeated or comma-separated list field is a list, and what reads
/// as a JSON object is one.
pub(in crate::sandbox) fn object_of_form(pairs: impl Iterator<Item = (String, String)>) -> Value {
    let mut object = Map::new();
    for (key, text) in pairs {
        if !LISTS.contains(&key.as_str()) || (key == "scenarios" && text == "all") {
            let parsed = serde_json::from_str(&text).ok().filter(Value::is_object);
            object.insert(key, parsed.unwrap_or_else(|| text.into()));
            continue;
        }
        let items: Vec<Value> = match serde_json::from_str(&text) {
            Ok(Value::Array(items)) => items,
            _ => text.split(',').map(|item| Value::from(item.trim())).collect(),
        };
        match object.get_mut(&key) {
            Some(Value::Array(list)) => list.extend(items),
            _ => drop(object.insert(key, Value::Array(items))),
        }
    }
    Value::Object(object)
}
