//! What can go wrong between here and the API.

use std::path::PathBuf;
use std::time::Duration;

use super::key::BadKey;

/// A call of the API that did not work. Each text is one line and names the call.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ApiError {
    /// There is no key.
    #[error("no API key: set CEKURA_API_KEY")]
    NoKey,
    /// The key cannot be one.
    #[error(transparent)]
    Key(#[from] BadKey),
    /// The API's address is not one.
    #[error("the API's address {url:?} is not usable: {problem}")]
    Address {
        /// The address as given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The HTTP client could not be made, for example because the system has no root certificates.
    #[error("cannot set up HTTPS: {0}")]
    Setup(String),
    /// A file that was to be sent cannot be read: nothing was sent.
    #[error("cannot read {}: {detail}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// No connection came about: nothing was sent.
    #[error("{call}: no connection to {server}, nothing was sent: {detail}")]
    Unreachable {
        /// The method and path.
        call: String,
        /// Scheme, host and port.
        server: String,
        /// Why.
        detail: String,
    },
    /// The connection broke or went silent after the request may have been sent.
    #[error("{call}: {detail}")]
    Broken {
        /// The method and path.
        call: String,
        /// What happened.
        detail: String,
    },
    /// The API answered with an error.
    #[error("{call}: HTTP {status}: {message}")]
    Refused {
        /// The method and path.
        call: String,
        /// The HTTP status.
        status: u16,
        /// What the API says, in one line, whatever envelope it came in.
        message: String,
        /// The same, an error a line.
        details: Vec<String>,
        /// How long it asks to wait (`Retry-After`).
        retry_after: Option<Duration>,
    },
    /// The API answered with something that cannot be read.
    #[error("{call}: HTTP {status}, but the answer cannot be read: {detail}")]
    Garbled {
        /// The method and path.
        call: String,
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        detail: String,
    },
}

impl ApiError {
    /// The same call may work a little later: no connection, 408, 425, 429, 5xx, or an answer cut off on its way.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Garbled { .. } => true,
            Self::Refused { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::NoKey | Self::Key(_) | Self::Address { .. } | Self::Setup(_) | Self::Unreadable { .. } => false,
        }
    }

    /// After this error of a start request nobody knows whether the runs were started.
    #[must_use]
    pub fn leaves_start_open(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Garbled { .. } => true,
            // A redirect may come after the work (303), as may a gateway's 408 or 5xx. Every other 4xx is a refusal.
            Self::Refused { status, .. } => matches!(status, 100..=399 | 408 | 500..=599),
            Self::Unreachable { .. } | Self::Unreadable { .. } => false,
            Self::NoKey | Self::Key(_) | Self::Address { .. } | Self::Setup(_) => false,
        }
    }

    /// How long the API asks to wait before the next try.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
