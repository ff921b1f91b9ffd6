//! The keys that an agent presses, as turns.

/// Keys pressed less than this apart belong together, and `#` ends a group at once (Cekura's page on structured tests: less
/// than about 2 s). In frames of 20 ms.
const TOGETHER: u64 = 100;

/// Gathers keys into groups.
#[derive(Debug, Default)]
pub(super) struct Keys {
    group: String,
    /// The frame of the last key.
    last: u64,
}

impl Keys {
    pub(super) fn press(&mut self, digit: char, frame: u64) {
        self.group.push(digit);
        self.last = frame;
    }

    /// A group that is whole, worded as Cekura's transcripts have it: `DTMF: 123`.
    pub(super) fn take(&mut self, frame: u64) -> Option<String> {
        let whole = self.group.ends_with('#') || frame.saturating_sub(self.last) >= TOGETHER;
        (whole && !self.group.is_empty()).then(|| format!("DTMF: {}", std::mem::take(&mut self.group)))
    }
}
