//! Rewrites a body whose meaning is clear and whose shape is another mode's or another tool's.

use serde_json::{Map, Value, json};

use super::Mode;
use super::field::Kind;

/// The body as `mode` wants it: keys by their right names, scenarios as ids or as entries, numbers without quotes, an address
/// with the right scheme. What cannot be told is left as it is; [`super::check`] tells of it.
#[must_use]
pub fn fix(mode: Mode, body: &Value) -> Value {
    let Value::Object(body) = body else { return body.clone() };
    let mut fixed = Map::new();
    for (key, value) in body {
        let right = if mode.field(key).is_some() { None } else { mode.right_name(key) };
        let name = right.filter(|name| !body.contains_key(*name)).unwrap_or(key);
        fixed.insert(name.to_owned(), value.clone());
    }
    for (key, value) in &mut fixed {
        match mode.field(key).map(|field| &field.kind) {
            Some(Kind::Id | Kind::Count | Kind::UpTo(_)) => unquote(value),
            Some(Kind::Ids | Kind::Scenarios) => as_ids(value),
            Some(Kind::Entries(_)) => as_entries(value),
            Some(Kind::WebSocketUrl) => as_websocket(value),
            _ => {}
        }
    }
    Value::Object(fixed)
}

pub(super) fn unquote(value: &mut Value) {
    if let Some(number) = value.as_str().and_then(|text| text.trim().parse::<i64>().ok()) {
        *value = number.into();
    }
}

/// `{"scenario": 1}` is 1 where ids are wanted, and one id is a list of it.
fn as_ids(value: &mut Value) {
    unquote(value);
    if let Value::Array(items) = value {
        for item in items {
            unquote(item);
            if let Some(id) = item.get("scenario").or_else(|| item.get("id")).and_then(Value::as_i64) {
                *item = id.into();
            }
        }
    }
}

/// 1 is `{"scenario": 1}` where entries are wanted, and one entry is a list of it.
fn as_entries(value: &mut Value) {
    if !value.is_array() {
        *value = json!([value.take()]);
    }
    for entry in value.as_array_mut().into_iter().flatten() {
        unquote(entry);
        if entry.is_i64() || entry.is_u64() {
            *entry = json!({"scenario": entry.take()});
        } else if let Value::Object(members) = entry {
            if let Some(id) = members.remove("id").filter(|_| !members.contains_key("scenario")) {
                members.insert("scenario".into(), id);
            }
            members.get_mut("scenario").into_iter().for_each(unquote);
            members.get_mut("websocket_url").into_iter().for_each(as_websocket);
        }
    }
}

fn as_websocket(value: &mut Value) {
    let right = |(wrong, right): (&str, &str)| Some(format!("{right}{}", value.as_str()?.strip_prefix(wrong)?));
    if let Some(text) = [("https://", "wss://"), ("http://", "ws://")].into_iter().find_map(right) {
        *value = text.into();
    }
    // CHIRP's guide page wraps the address.
    if let Some(inner) = value.get("chirp_websocket_url").or_else(|| value.get("websocket_url")).cloned() {
        *value = inner;
    }
}
