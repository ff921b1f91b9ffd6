//! How often a far side may break its protocol.

/// So many messages that make no sense are told of; then the call ends.
const MOST: u32 = 100;

/// Counts them.
#[derive(Debug, Default)]
pub(super) struct Faults(u32);

impl Faults {
    /// One more. Why the call ends, where it was the last that is taken.
    pub(super) fn add(&mut self) -> Option<String> {
        self.0 += 1;
        (self.0 == MOST).then(|| format!("{MOST} messages broke the protocol"))
    }
}
