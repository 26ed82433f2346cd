//! Runs of the echo network that every machine must repeat bit for bit: a desktop, a
//! microcontroller, a browser.
//!
//! Bits come from a generator of this crate; what comes out is hashed, and held against the
//! values that are [`recorded`] for the two kinds of levels.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[rustfmt::skip]
mod echo;
mod quantized;
mod random;
pub mod recorded;
mod stream;
mod training;

pub use echo::{Layers, NET, Net};
pub use quantized::Quantized;
pub use random::Random;
pub use stream::Stream;
pub use training::{STEPS, Training};

/// Steps by which the bits come back.
pub const DELAY: usize = 3;

/// FNV-1a over the bits of numbers, 32 bits wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(pub u32);

impl Hash {
    /// Of nothing.
    pub const EMPTY: Self = Self(0x811c_9dc5);

    /// With one number more.
    pub fn add(&mut self, value: f32) {
        for byte in value.to_bits().to_le_bytes() {
            self.0 = (self.0 ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
}
