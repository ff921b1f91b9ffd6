//! The secrets of a start request: which they are, and a body or a text without them.
//!
//! Secret are the rooms' tokens, the values of the WebSocket's headers, and of every address its query and what stands before
//! an @. A suite is the scenarios' text: nothing in it is a secret of ours.

use serde_json::Value;

/// What the ledger has in a secret's place.
const LEFT_OUT: &str = "(not kept)";
/// What stands in a secret's place.
const HIDDEN: &str = "(hidden)";
/// A text as short as a word is no secret, and would be found everywhere.
const SHORTEST_HIDDEN: usize = 4;

/// What a member of a body is.
enum Holds {
    Token,
    Headers,
    Address,
    NoSecret,
}

impl Holds {
    fn of(key: &str) -> Self {
        match key {
            "access_token" | "pipecat_token" => Self::Token,
            "websocket_headers" => Self::Headers,
            key if key.ends_with("url") => Self::Address,
            _ => Self::NoSecret,
        }
    }
}

/// Whether a body holds a secret: then its file is nobody else's to read.
#[must_use]
pub fn holds_secret(body: &Value) -> bool {
    !secrets(body).is_empty()
}

/// The secrets of a body.
pub(crate) fn secrets(body: &Value) -> Vec<&str> {
    match body {
        Value::Array(items) => items.iter().flat_map(secrets).collect(),
        Value::Object(members) => members.iter().filter(|(key, _)| *key != "spec").flat_map(secrets_of).collect(),
        _ => Vec::new(),
    }
}

fn secrets_of<'a>((key, value): (&'a String, &'a Value)) -> Vec<&'a str> {
    match (Holds::of(key), value) {
        (Holds::Token, Value::String(token)) => vec![token],
        (Holds::Headers, Value::Object(headers)) => headers.values().filter_map(Value::as_str).collect(),
        (Holds::Address, Value::String(address)) => secrets_of_address(address),
        (_, inner) => secrets(inner),
    }
}

fn secrets_of_address(address: &str) -> Vec<&str> {
    let (before, query) = address.split_once('?').map_or((address, None), |(before, query)| (before, Some(query)));
    let authority = before.split_once("://").and_then(|(_, rest)| rest.split('/').next());
    let user = authority.and_then(|authority| Some(authority.rsplit_once('@')?.0));
    let password = user.and_then(|user| Some(user.split_once(':')?.1));
    user.into_iter().chain(password).chain(query).collect()
}

/// The body without its secrets, for the ledger and for logs.
#[must_use]
pub fn redacted(body: &Value) -> Value {
    let mut body = body.clone();
    redact(&mut body);
    body
}

fn redact(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(members) => {
            for (key, value) in members.iter_mut().filter(|(key, _)| *key != "spec") {
                match (Holds::of(key), value) {
                    (Holds::Token, token @ Value::String(_)) => *token = LEFT_OUT.into(),
                    (Holds::Headers, Value::Object(headers)) => {
                        headers.values_mut().filter(|value| value.is_string()).for_each(|value| *value = LEFT_OUT.into());
                    }
                    (Holds::Address, Value::String(address)) => redact_address(address),
                    (_, inner) => redact(inner),
                }
            }
        }
        _ => {}
    }
}

fn redact_address(text: &mut String) {
    let Ok(mut url) = url::Url::parse(text) else { return };
    if url.query().is_none() && url.username().is_empty() && url.password().is_none() {
        return;
    }
    // An address that can have no user has none to be taken out.
    let _ = (url.set_username(""), url.set_password(None));
    let query = url.query().is_some();
    url.set_query(None);
    *text = if query { format!("{url}?{LEFT_OUT}") } else { url.to_string() };
}

/// Takes secrets out of a text, also where JSON, a URL or a line's cut has changed or cut them.
pub(crate) fn hide(secrets: &[&str], text: &mut String) {
    for secret in secrets.iter().filter(|secret| secret.len() >= SHORTEST_HIDDEN) {
        let quoted = Value::from(*secret).to_string();
        let escaped = quoted.trim_matches('"');
        let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        for form in [*secret, escaped, &escaped.replace('/', "\\/"), &encoded] {
            *text = text.replace(form, HIDDEN);
        }
    }
    hide_cut(secrets, text);
}

/// A text that was cut in the middle of a secret ends with the secret's start.
fn hide_cut(secrets: &[&str], text: &mut String) {
    let Some(kept) = text.strip_suffix('…').map(str::len) else { return };
    let starts = |secret: &&str| {
        (SHORTEST_HIDDEN..secret.len()).rev().find(|end| secret.get(..*end).is_some_and(|start| text[..kept].ends_with(start)))
    };
    if let Some(cut) = secrets.iter().filter_map(starts).max() {
        text.replace_range(kept - cut..kept, HIDDEN);
    }
}
