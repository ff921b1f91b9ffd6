//! The API key, which no log, error or `Debug` output shows.

use std::fmt;

/// An API key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

/// A text that cannot be an API key. It does not show the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// There is nothing in it.
    #[error("the API key is empty")]
    Empty,
    /// It cannot stand in an HTTP header.
    #[error("the API key has a character that no HTTP header can hold")]
    Character,
}

impl Key {
    /// Takes a key; white space around it (a file's last line end) is dropped.
    ///
    /// # Errors
    /// [`BadKey`] when it is empty or cannot stand in an HTTP header (RFC 9110 section 5.5: visible ASCII).
    pub fn new(text: &str) -> Result<Self, BadKey> {
        let text = text.trim();
        if text.is_empty() {
            return Err(BadKey::Empty);
        }
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(BadKey::Character);
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether `given` is this key. Takes as long for a near miss as for a far one.
    #[must_use]
    pub fn admits(&self, given: &str) -> bool {
        use sha2::{Digest, Sha256};
        Sha256::digest(given) == Sha256::digest(&self.0)
    }

    /// The key itself, for a header and for nothing else.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}
