//! A seeded generator: the same seed makes the same sound on every machine.

use sha2::{Digest, Sha256};

/// PCG-XSH-RR with 64 bits of state (the reference's constants).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed);
        random.share();
        random
    }

    /// 0 to below 1.
    pub(crate) fn share(&mut self) -> f64 {
        let state = self.0;
        self.0 = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (((state >> 18) ^ state) >> 27) as u32;
        f64::from(mixed.rotate_right((state >> 59) as u32)) / 4_294_967_296.0
    }

    /// `from` to below `to`.
    pub(crate) fn between(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.share()
    }

    /// Noise of mean 0 and variance 1: the sum of twelve shares, less its mean (Irwin-Hall).
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.share()).sum::<f64>() - 6.0
    }
}

/// A seed that depends on where in which scenario it is used, and on nothing else.
pub(crate) fn seed_of(scenario: &str, condition: u32, step: usize) -> u64 {
    let mut hash = Sha256::new();
    hash.update(scenario.as_bytes());
    hash.update(condition.to_le_bytes());
    hash.update((step as u64).to_le_bytes());
    let bytes = hash.finalize();
    // JSON's numbers are exact to 53 bits.
    u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], 0, 0])
}
