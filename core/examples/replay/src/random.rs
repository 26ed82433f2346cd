//! Random bits and numbers, the same everywhere.

/// Marsaglia's xorshift with 32 bits of state (2003).
#[derive(Clone, Copy, Debug)]
pub struct Random(u32);

impl Random {
    /// The sequence of this seed.
    pub const fn new(seed: u32) -> Self {
        // Zero would stay zero.
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// A bit.
    pub fn bit(&mut self) -> u32 {
        self.next() >> 31
    }

    /// A number from 0 to below 1.
    pub fn uniform(&mut self) -> f32 {
        (self.next() >> 8) as f32 / (1 << 24) as f32
    }
}
