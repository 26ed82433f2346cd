//! Repeatable numbers for tests.

/// A 64-bit mixing generator (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// From 0 up to, not including, 1.
    pub fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
    }

    /// `n` numbers from −`limit` to `limit`.
    pub fn vec(&mut self, n: usize, limit: f32) -> Vec<f32> {
        (0..n).map(|_| (2.0 * self.unit() - 1.0) * limit).collect()
    }
}

/// How many random cases a property is tried with: `most`, or as few as `PROPTEST_CASES` says, for
/// machines that are slow.
pub fn cases(most: u32) -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked
        .and_then(|n| n.parse().ok())
        .map_or(most, |n: u32| n.min(most))
}
