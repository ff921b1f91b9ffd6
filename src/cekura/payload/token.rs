//! LiveKit access tokens: what is wrong with one, and making one. A token is never shown.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// Keys of entries that hold secrets.
const SECRETS: [&str; 2] = ["access_token", "pipecat_token"];

/// What the ledger has in a secret's place.
const LEFT_OUT: &str = "(not kept)";
/// What stands in a secret's place.
const HIDDEN: &str = "(hidden)";
/// A text as short as a word is no secret, and would be found everywhere.
const SHORTEST_HIDDEN: usize = 4;

/// Whether a body holds a secret, an access token or headers: then its file is nobody else's to read.
#[must_use]
pub fn holds_secret(body: &Value) -> bool {
    let headers = body.get("websocket_headers").and_then(Value::as_object).is_some_and(|headers| !headers.is_empty());
    headers || entries(body).any(|entry| SECRETS.iter().any(|key| entry.get(*key).is_some_and(|token| !token.is_null())))
}

/// The secrets of a body: its tokens, the values of its headers, and the queries of the addresses to dial.
pub(crate) fn secrets(body: &Value) -> Vec<&str> {
    let headers = body.get("websocket_headers").and_then(Value::as_object).into_iter().flat_map(|headers| headers.values());
    let tokens = entries(body).flat_map(|entry| SECRETS.iter().filter_map(|key| entry.get(*key)));
    let addresses = ["websocket_url", "pipecat_room_url"];
    let addresses = entries(body).chain([body, &body["chirp_data"]]).flat_map(|part| addresses.map(|key| part.get(key)));
    let queries = addresses.flatten().filter_map(|address| Some(address.as_str()?.split_once('?')?.1));
    headers.chain(tokens).filter_map(Value::as_str).chain(queries).collect()
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

fn entries(body: &Value) -> impl Iterator<Item = &Value> {
    body.get("scenarios").and_then(Value::as_array).into_iter().flatten()
}

/// The body without its secrets, for the ledger and for logs: tokens and the WebSocket's headers are left out.
#[must_use]
pub fn redacted(body: &Value) -> Value {
    let mut body = body.clone();
    redact_addresses(&mut body);
    for entry in body.get_mut("scenarios").and_then(Value::as_array_mut).into_iter().flatten() {
        for key in SECRETS {
            entry.get_mut(key).into_iter().for_each(|token| *token = LEFT_OUT.into());
        }
    }
    let headers = body.get_mut("websocket_headers").and_then(Value::as_object_mut);
    headers.into_iter().flat_map(|headers| headers.values_mut()).for_each(|value| *value = LEFT_OUT.into());
    body
}

/// Addresses without what may be a password or a token in them: the query, and what stands before an @. What a suite says is
/// the scenarios' text, no address of ours.
fn redact_addresses(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(redact_addresses),
        Value::Object(members) => {
            for (key, value) in members.iter_mut().filter(|(key, _)| *key != "spec") {
                match value {
                    Value::String(text) if key.ends_with("url") => redact_address(text),
                    inner => redact_addresses(inner),
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

/// A token with which `identity` may join `room` for `valid`, publish and subscribe (RFC 7519, HS256; LiveKit's claims:
/// <https://docs.livekit.io/home/get-started/authentication/>).
#[must_use]
pub fn room_token(key: &str, secret: &str, room: &str, identity: &str, valid: Duration) -> String {
    let now = seconds_since_1970();
    let claims = json!({
        "iss": key,
        "sub": identity,
        "nbf": now,
        "exp": now + valid.as_secs(),
        "video": {"room": room, "roomJoin": true, "canPublish": true, "canSubscribe": true, "canPublishData": true},
    });
    let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(json!({"alg": "HS256", "typ": "JWT"})), part(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, signed.as_bytes())))
}

/// What is wrong with a room's access token, and what would be right.
pub(super) fn problems(token: &Value) -> Vec<(String, &'static str)> {
    const TOKEN: &str = "an access token: three parts of base64 with a dot between";
    let Some(token) = token.as_str() else { return vec![("is no text".into(), TOKEN)] };
    let parts: Vec<&str> = token.split('.').collect();
    let claims = match parts[..] {
        [_, claims, _] => URL_SAFE_NO_PAD.decode(claims).ok().and_then(|json| serde_json::from_slice::<Value>(&json).ok()),
        _ => None,
    };
    let Some(claims) = claims else { return vec![("is no JSON Web Token".into(), TOKEN)] };
    let mut found = Vec::new();
    let now = seconds_since_1970();
    match claims["exp"].as_u64() {
        Some(end) if end <= now => {
            found.push((format!("expired {} s ago", now - end), "a token that is valid until the calls are over"))
        }
        Some(_) => {}
        None => found.push(("never expires, or does not say when".into(), "a token with an exp claim")),
    }
    if claims["nbf"].as_u64().is_some_and(|from| from > now + 60) {
        found.push(("is not valid yet".into(), "a token that is valid now"));
    }
    if claims["video"]["roomJoin"] != true {
        found.push(("does not let its bearer join a room".into(), "a token with the grant roomJoin"));
    }
    if claims["video"]["room"].as_str().unwrap_or_default().is_empty() {
        found.push(("names no room".into(), "a token for one room"));
    }
    found
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
