//! Which web pages may call. A browser says whose page asks (`Origin`: RFC 6454; of a WebSocket, RFC 6455 section 10.2), and shows an answer
//! to a page of another origin only if the answer allows it (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! Who shows a door's credentials may be anywhere. A door without any takes pages of this machine, which is where the client of a bot under
//! development is served from, and its own page by whatever name it was reached: any other page that is open in the browser of the
//! same machine must not be able to call.

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use url::Url;

use crate::http::is_loopback;

/// The answers to browsers, about pages of other origins.
pub(super) fn cors(guarded: bool) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| guarded || is_of_this_machine(origin)))
        .allow_methods([Method::GET, Method::POST, Method::PATCH])
        // `*` would not stand for `Authorization`.
        .allow_headers(AllowHeaders::mirror_request())
}

/// Why the page that asks may not call a door without credentials; none: it may, or no page asks.
pub(super) fn stranger(headers: &HeaderMap) -> Option<String> {
    let origin = headers.get(ORIGIN).filter(|origin| !is_of_this_machine(origin))?;
    let own = origin.as_bytes().split(|byte| *byte == b'/').nth(2);
    if own.is_some() && own == headers.get(HOST).map(HeaderValue::as_bytes) {
        return None;
    }
    let page = String::from_utf8_lossy(origin.as_bytes());
    Some(format!("pages of {page} may not call: without credentials the door takes those of this machine"))
}

fn is_of_this_machine(origin: &HeaderValue) -> bool {
    origin.to_str().ok().and_then(|origin| Url::parse(origin).ok()).is_some_and(|origin| is_loopback(&origin))
}
