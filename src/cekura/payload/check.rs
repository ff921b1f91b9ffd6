//! Checks a start request's body field by field.

use serde_json::{Map, Value};

use super::field::{Field, Kind};
use super::{Misfit, Mode, modes, token};
use crate::caller::suite::Suite;

/// Checks a start request's body; an empty list means that it fits.
///
/// Reported are unknown keys (with the nearest known one), wrong types, values out of range, and a selection of scenarios
/// that is missing or doubled. The order is the body's own, with what concerns the whole body last.
#[must_use]
pub fn check(mode: Mode, body: &Value) -> Vec<Misfit> {
    let Value::Object(body) = body else {
        return vec![misfit("$", format!("is {}", what(body)), "an object with the fields of the start request")];
    };
    let mut found = Vec::new();
    for (key, value) in body {
        match mode.field(key) {
            Some(field) => check_field("$", field, value, &mut found),
            None => found.push(unknown_key(mode, key)),
        }
    }
    for field in mode.fields().filter(|field| field.required && !body.contains_key(field.name)) {
        found.push(misfit("$", format!("has no {}", field.name), &wanted(field)));
    }
    if mode.selects() && mode.entry().is_none() {
        check_selection(body, &mut found);
    }
    if mode == Mode::Spec {
        check_channel(body, &mut found);
    }
    found
}

/// The ways of choosing scenarios: exactly one is to be used (the API reference's "pick one of").
const SELECTORS: [&str; 3] = ["scenarios", "tags", "folder_path"];

fn check_selection(body: &Map<String, Value>, found: &mut Vec<Misfit>) {
    let used: Vec<&str> = SELECTORS.into_iter().filter(|key| body.contains_key(*key)).collect();
    match used[..] {
        [] => found.push(misfit("$", "chooses no scenarios".into(), "one of scenarios, tags or folder_path")),
        [_] => {}
        _ => found.push(misfit(
            "$",
            format!("chooses scenarios by {}", used.join(" and by ")),
            "exactly one of scenarios, tags or folder_path",
        )),
    }
    if body.contains_key("folder_path") && !body.contains_key("project_id") {
        found.push(misfit("$.folder_path", "is given without project_id".into(), "project_id beside it"));
    }
    let counted = matches!(body.get("scenarios"), Some(Value::Number(_) | Value::String(_)));
    if counted && !body.contains_key("agent_id") {
        found.push(misfit(
            "$.scenarios",
            "is not a list, and agent_id is missing".into(),
            "agent_id beside it, or a list of scenario ids",
        ));
    }
}

/// What only one channel has is given with that channel alone; the API's default is `voice`.
fn check_channel(body: &Map<String, Value>, found: &mut Vec<Misfit>) {
    let channel = body.get("channel").and_then(Value::as_str).unwrap_or("voice");
    for (key, wanted) in modes::CHANNEL_DATA {
        if channel != wanted && modes::CHANNELS.contains(&channel) && body.contains_key(key) {
            found.push(misfit(
                &format!("$.{key}"),
                format!("is given for the channel {channel}"),
                &format!("channel \"{wanted}\""),
            ));
        }
    }
}

/// A suite, by the strict reader of such files.
fn check_suite(path: &str, suite: &Value, found: &mut Vec<Misfit>) {
    let Value::Object(members) = suite else {
        return found.push(misfit(path, format!("is {}", what(suite)), "a test suite: an object with version and scenarios"));
    };
    let mut rest = members.clone();
    for key in ["agent_id", "agent"] {
        if rest.shift_remove(key).is_some() {
            found.push(misfit(&member(path, key), "is not allowed in a suite".into(), "the agent beside the suite: $.agent_id"));
        }
    }
    if let Err(problems) = Suite::parse(&Value::Object(rest)) {
        found.extend(problems.iter().map(|problem| misfit(path, problem.to_string(), "a suite as Cekura's schema has it")));
    }
}

pub(super) fn check_field(place: &str, field: &Field, value: &Value, found: &mut Vec<Misfit>) {
    if field.nullable && value.is_null() {
        return;
    }
    let path = format!("{place}.{}", field.name);
    match &field.kind {
        Kind::Id => check_whole(&path, value, "an id: a whole number from 1", found),
        Kind::Count => check_whole(&path, value, "a whole number from 1", found),
        Kind::Ids => check_ids(&path, value, "a list of ids", found),
        Kind::Text { longest } => check_text(&path, value, *longest, found),
        Kind::Texts { may_be_empty } => check_texts(&path, value, *may_be_empty, found),
        Kind::Choice(words) => check_choice(&path, value, words, found),
        Kind::WebSocketUrl => check_websocket_url(&path, value, found),
        Kind::Scenarios => check_scenarios(&path, value, found),
        Kind::UpTo(most) => check_up_to(&path, value, *most, found),
        Kind::RoomUrl => check_room_url(&path, value, found),
        Kind::Entries(members) => check_entries(&path, value, members, found),
        Kind::Object(members) => match value {
            Value::Object(object) => check_members(&path, object, members, found),
            other => found.push(misfit(&path, format!("is {}", what(other)), &wanted(field))),
        },
        Kind::AnyObject if value.is_object() => {}
        Kind::AnyObject => found.push(misfit(&path, format!("is {}", what(value)), &wanted(field))),
        Kind::TextMap => check_text_map(&path, value, found),
        Kind::RoomToken => {
            found.extend(token::problems(value).into_iter().map(|(problem, expected)| misfit(&path, problem, expected)))
        }
        Kind::Suite => check_suite(&path, value, found),
        Kind::Secret if value.as_str().is_some_and(|text| !text.trim().is_empty()) => {}
        Kind::Secret => found.push(misfit(&path, "is no text, or an empty one".into(), &wanted(field))),
    }
}

/// What a field wants, for one that is missing or of another kind.
fn wanted(field: &Field) -> String {
    match &field.kind {
        Kind::Id => "an id".into(),
        Kind::Ids => "a list of ids".into(),
        Kind::Count => "a whole number from 1".into(),
        Kind::UpTo(most) => format!("a whole number from 1 to {most}"),
        Kind::Text { .. } | Kind::Secret => "a text".into(),
        Kind::Texts { .. } => "a list of texts".into(),
        Kind::Choice(words) => format!("one of {}", words.join(", ")),
        Kind::WebSocketUrl => "a ws:// or wss:// address".into(),
        Kind::RoomUrl => "the room's address".into(),
        Kind::Scenarios => "a list of scenario ids".into(),
        Kind::Entries(members) => format!("a list of entries such as {}", example(members, &Value::from(1))),
        Kind::Object(members) => {
            format!("an object with {}", members.iter().map(|member| member.name).collect::<Vec<_>>().join(", "))
        }
        Kind::AnyObject => "an object".into(),
        Kind::TextMap => "an object whose values are texts".into(),
        Kind::RoomToken => "an access token for the room".into(),
        Kind::Suite => "a test suite".into(),
    }
}

/// The entry that a bare scenario id stands for.
fn example(members: &[Field], scenario: &Value) -> String {
    let required = members.iter().filter(|member| member.required).map(|member| match member.name {
        "scenario" => format!("\"scenario\": {scenario}"),
        name => format!("\"{name}\": \"…\""),
    });
    format!("{{{}}}", required.collect::<Vec<_>>().join(", "))
}

fn check_up_to(path: &str, value: &Value, most: i64, found: &mut Vec<Misfit>) {
    let expected = format!("a whole number from 1 to {most}");
    match value.as_i64() {
        Some(number) if number > most => found.push(misfit(path, format!("is {number}, above {most}"), &expected)),
        _ => check_whole(path, value, &expected, found),
    }
}

fn check_entries(path: &str, value: &Value, members: &'static [Field], found: &mut Vec<Misfit>) {
    let Value::Array(entries) = value else {
        let expected = format!("a list of entries: [{}]", example(members, &Value::from(value.as_i64().unwrap_or(1))));
        return found.push(misfit(path, format!("is {}", what(value)), &expected));
    };
    if entries.is_empty() {
        found.push(misfit(path, "is an empty list".into(), &format!("entries such as {}", example(members, &Value::from(1)))));
    }
    for (index, entry) in entries.iter().enumerate() {
        let path = format!("{path}[{index}]");
        match entry {
            Value::Object(object) => check_members(&path, object, members, found),
            Value::Number(id) => {
                found.push(misfit(&path, format!("is the number {id}"), &example(members, entry)));
            }
            other => found.push(misfit(&path, format!("is {}", what(other)), &example(members, &Value::from(1)))),
        }
    }
}

fn check_members(path: &str, object: &Map<String, Value>, members: &'static [Field], found: &mut Vec<Misfit>) {
    for (key, value) in object {
        match members.iter().find(|member| member.name == key) {
            Some(field) => check_field(path, field, value, found),
            None => {
                let expected = match closest(members.iter(), key) {
                    Some(name) => format!("{name}?"),
                    None => format!("one of {}", members.iter().map(|member| member.name).collect::<Vec<_>>().join(", ")),
                };
                found.push(misfit(&member(path, key), "is not a field there".into(), &expected));
            }
        }
    }
    for field in members.iter().filter(|field| field.required && !object.contains_key(field.name)) {
        found.push(misfit(path, format!("has no {}", field.name), &wanted(field)));
    }
}

fn check_text_map(path: &str, value: &Value, found: &mut Vec<Misfit>) {
    let Value::Object(object) = value else {
        return found.push(misfit(path, format!("is {}", what(value)), "an object whose values are texts"));
    };
    for (key, value) in object.iter().filter(|(_, value)| !value.is_string()) {
        found.push(misfit(&member(path, key), format!("is {}", what(value)), "a text"));
    }
}

fn check_room_url(path: &str, value: &Value, found: &mut Vec<Misfit>) {
    const EXPECTED: &str = "the server's address: wss://, ws://, https:// or http://";
    match value.as_str().map(reqwest::Url::parse) {
        Some(Ok(url)) if matches!(url.scheme(), "ws" | "wss" | "http" | "https") => {}
        Some(Ok(url)) => found.push(misfit(path, format!("has the scheme {}://", url.scheme()), EXPECTED)),
        Some(Err(error)) => found.push(misfit(path, format!("is no address ({error})"), EXPECTED)),
        None => found.push(misfit(path, format!("is {}", what(value)), EXPECTED)),
    }
}

fn check_whole(path: &str, value: &Value, expected: &str, found: &mut Vec<Misfit>) {
    let problem = match value {
        // The API's integers are signed 64-bit ones.
        Value::Number(number) => match (number.as_i64(), number.is_f64()) {
            (Some(1..), _) => return,
            (Some(_), _) => format!("is {number}, below 1"),
            (None, true) => format!("is {number}, not a whole number"),
            (None, false) => format!("is {number}, too large"),
        },
        Value::String(text) if text.trim().parse::<i64>().is_ok_and(|number| number >= 1) => {
            found.push(misfit(
                path,
                format!("is the text {}", shown(value)),
                &format!("the number without quotes: {}", text.trim()),
            ));
            return;
        }
        other => format!("is {}", what(other)),
    };
    found.push(misfit(path, problem, expected));
}

fn check_ids(path: &str, value: &Value, expected: &str, found: &mut Vec<Misfit>) {
    let Value::Array(items) = value else {
        let expected = match value.as_i64() {
            Some(id) => format!("{expected}: [{id}]"),
            None => format!("{expected}, for example [1, 2]"),
        };
        found.push(misfit(path, format!("is {}", what(value)), &expected));
        return;
    };
    if items.is_empty() {
        found.push(misfit(path, "is an empty list".into(), expected));
    }
    for (index, item) in items.iter().enumerate() {
        check_id_item(&format!("{path}[{index}]"), item, found);
    }
}

/// An id in a list. Some other modes wrap it into an object; here it stands alone.
fn check_id_item(path: &str, item: &Value, found: &mut Vec<Misfit>) {
    let inner = item.as_object().and_then(|object| object.get("scenario").or_else(|| object.get("id"))).and_then(Value::as_i64);
    match inner {
        Some(id) => found.push(misfit(path, "is an object".into(), &format!("the bare id: {id}"))),
        None => check_whole(path, item, "an id: a whole number from 1", found),
    }
}

fn check_scenarios(path: &str, value: &Value, found: &mut Vec<Misfit>) {
    match value {
        Value::String(text) if text == "all" => {}
        Value::Number(_) => check_whole(path, value, "a whole number from 1 (the first N of the agent's scenarios)", found),
        _ => check_ids(path, value, "a list of scenario ids, a number (the first N of the agent's) or \"all\"", found),
    }
}

fn check_text(path: &str, value: &Value, longest: Option<usize>, found: &mut Vec<Misfit>) {
    match value {
        Value::String(text) if text.trim().is_empty() => found.push(misfit(path, "is empty".into(), "a text, or no such key")),
        Value::String(text) => {
            let length = text.chars().count();
            if let Some(longest) = longest.filter(|longest| length > *longest) {
                found.push(misfit(path, format!("has {length} characters"), &format!("at most {longest} characters")));
            }
        }
        Value::Number(number) => found.push(misfit(path, format!("is the number {number}"), &format!("a text: \"{number}\""))),
        other => found.push(misfit(path, format!("is {}", what(other)), "a text")),
    }
}

fn check_texts(path: &str, value: &Value, may_be_empty: bool, found: &mut Vec<Misfit>) {
    match value {
        Value::Array(items) => {
            if items.is_empty() && !may_be_empty {
                found.push(misfit(path, "is an empty list".into(), "a list of at least one text"));
            }
            for (index, item) in items.iter().enumerate() {
                check_text(&format!("{path}[{index}]"), item, None, found);
            }
        }
        Value::String(_) => found.push(misfit(path, "is a text".into(), &format!("a list of texts: [{}]", shown(value)))),
        other => found.push(misfit(path, format!("is {}", what(other)), "a list of texts")),
    }
}

fn check_choice(path: &str, value: &Value, words: &[&str], found: &mut Vec<Misfit>) {
    if !value.as_str().is_some_and(|text| words.contains(&text)) {
        let problem = if value.is_string() { format!("is {}", shown(value)) } else { format!("is {}", what(value)) };
        found.push(misfit(path, problem, &format!("one of {}", words.join(", "))));
    }
}

fn check_websocket_url(path: &str, value: &Value, found: &mut Vec<Misfit>) {
    const EXPECTED: &str = "a ws:// or wss:// address, for example wss://agent.example.com/chirp";
    let Value::String(text) = value else {
        found.push(misfit(path, format!("is {}", what(value)), EXPECTED));
        return;
    };
    if let Err(problem) = parse_websocket_url(text) {
        let corrected = text.replacen("https://", "wss://", 1).replacen("http://", "ws://", 1);
        let expected = if corrected != *text && parse_websocket_url(&corrected).is_ok() { &corrected } else { EXPECTED };
        found.push(misfit(path, problem, expected));
    }
}

/// Whether `text` is an address that a WebSocket client can dial.
pub(crate) fn parse_websocket_url(text: &str) -> Result<(), String> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("is {}, which has white space in it", shown(&text.into())));
    }
    let url = reqwest::Url::parse(text).map_err(|e| format!("is {}, which is no address ({e})", shown(&text.into())))?;
    if !matches!(url.scheme(), "ws" | "wss") {
        return Err(format!("has the scheme {}://", url.scheme()));
    }
    if url.fragment().is_some() {
        return Err("has a #fragment, which a WebSocket address cannot have".into());
    }
    Ok(())
}

fn unknown_key(mode: Mode, key: &str) -> Misfit {
    let expected = match mode.right_name(key).or_else(|| closest(mode.fields(), key)) {
        Some(name) => format!("{name}?"),
        None => format!("one of {}", mode.fields().map(|field| field.name).collect::<Vec<_>>().join(", ")),
    };
    misfit(&member("$", key), format!("is not a field of {}", mode.endpoint()), &expected)
}

fn closest(fields: impl Iterator<Item = &'static Field>, key: &str) -> Option<&'static str> {
    let likeness = |name: &str| strsim::jaro_winkler(name, &key.to_lowercase());
    let best = fields.map(|field| field.name).max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.85).then_some(best)
}

/// The path of `key` in the object at `path`: `.key`, or `["the key"]` where it is not a plain word.
fn member(path: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !key.starts_with(|c: char| c.is_ascii_digit());
    if plain { format!("{path}.{key}") } else { format!("{path}[{}]", shown(&key.into())) }
}

fn misfit(path: &str, problem: String, expected: &str) -> Misfit {
    Misfit { path: path.to_owned(), problem, expected: expected.to_owned() }
}

fn what(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// `value` as JSON, cut to a length that fits a line.
fn shown(value: &Value) -> String {
    let json = value.to_string();
    match json.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &json[..end]),
        None => json,
    }
}
