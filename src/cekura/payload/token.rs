//! LiveKit access tokens: what is wrong with one, and making one. A token is never shown.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

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
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes())))
}

/// The room that a token opens.
pub(crate) fn room_of(token: &str) -> Option<String> {
    let room = claims(token)?["video"]["room"].as_str()?.to_owned();
    Some(room).filter(|room| !room.is_empty())
}

fn claims(token: &str) -> Option<Value> {
    let [_, claims, _] = token.split('.').collect::<Vec<_>>()[..] else { return None };
    URL_SAFE_NO_PAD.decode(claims).ok().and_then(|json| serde_json::from_slice(&json).ok())
}

/// What is wrong with a room's access token, and what would be right.
pub(super) fn problems(token: &Value) -> Vec<(String, &'static str)> {
    const TOKEN: &str = "an access token: three parts of base64 with a dot between";
    let Some(token) = token.as_str() else { return vec![("is no text".into(), TOKEN)] };
    let Some(claims) = claims(token) else { return vec![("is no JSON Web Token".into(), TOKEN)] };
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
