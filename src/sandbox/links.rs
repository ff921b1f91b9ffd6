//! Addresses that a browser can open without the API key: each carries a token for one run and one purpose.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The stereo recording of a run.
    Recording,
    /// The page on which a run's call is heard, and its parts.
    Listen,
}

impl Purpose {
    pub(super) const fn segment(self) -> &'static str {
        match self {
            Self::Recording => "recordings",
            Self::Listen => "listen",
        }
    }
}

/// Makes and checks links.
#[derive(Debug)]
pub(super) struct Links {
    base: String,
    key: hmac::Key,
}

impl Links {
    /// Links below `base`, for example `http://127.0.0.1:8700`. They are good for as long as this process lives.
    pub(super) fn new(base: &str) -> Self {
        // Two UUIDs of version 4 have 244 random bits.
        let secret = [uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat();
        Self { base: base.trim_end_matches('/').to_owned(), key: hmac::Key::new(hmac::HMAC_SHA256, &secret) }
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn recording(&self, run: u64) -> String {
        format!("{}{}", self.base, self.recording_path(run))
    }

    /// For a page of this server, whatever it is called there.
    pub(super) fn recording_path(&self, run: u64) -> String {
        format!("/{}/{run}.wav?token={}", Purpose::Recording.segment(), self.token(Purpose::Recording, run))
    }

    pub(super) fn listen(&self, run: u64) -> String {
        format!("{}/{}/{run}/?token={}", self.base, Purpose::Listen.segment(), self.token(Purpose::Listen, run))
    }

    pub(super) fn admits(&self, purpose: Purpose, run: u64, token: &str) -> bool {
        let Ok(tag) = URL_SAFE_NO_PAD.decode(token) else { return false };
        hmac::verify(&self.key, message(purpose, run).as_bytes(), &tag).is_ok()
    }

    fn token(&self, purpose: Purpose, run: u64) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, message(purpose, run).as_bytes()))
    }
}

fn message(purpose: Purpose, run: u64) -> String {
    format!("{}:{run}", purpose.segment())
}
