//! HTTP requests to whoever is asked: Cekura's API, an agent's model. Each goes out once; who asks decides about a second try.

use std::time::Duration;

use reqwest::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client for requests to `base`.
pub(crate) fn client(base: &Url) -> Result<reqwest::Client, reqwest::Error> {
    crate::transport::tls::install_crypto();
    let mut http = reqwest::Client::builder()
        .user_agent(concat!("trunkline/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        // A redirected POST turns into a GET; and no second server is to see the key.
        .redirect(reqwest::redirect::Policy::none())
        // Repeating is decided by who asks, call by call.
        .retry(reqwest::retry::never())
        // No request goes out on a connection that the server may just have closed.
        .pool_max_idle_per_host(0);
    if base.scheme() == "http" {
        // Without TLS the system's root certificates are not needed, and a bare container may have none.
        http = http.tls_certs_only([]);
    }
    if is_loopback(base) {
        http = http.no_proxy();
    }
    http.build()
}

/// The address is one of this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// An error with its causes, in one line; reqwest's own line tells only the address.
pub(crate) fn detail(error: &reqwest::Error) -> String {
    let mut line = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !line.contains(&text) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&text);
        }
        cause = inner.source();
    }
    if line.is_empty() { error.to_string() } else { line }
}
