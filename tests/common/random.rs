//! What a test leaves to chance, alike in every run.

/// A seeded generator (PCG-XSH-RR).
#[derive(Debug, Default)]
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = (((self.0 >> 18) ^ self.0) >> 27) as u32;
        u64::from(word.rotate_right((self.0 >> 59) as u32)) % bound
    }
}
