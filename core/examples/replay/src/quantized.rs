//! A layer with int8 weights, packed from random numbers and run bit by bit.

use crate::{Hash, Random};
use fused_lstm::{LayerShape, NarrowLayer, QuantizeError, Storage, Zigzag};

/// Odd, and with a panel that is not full.
const LAYER: LayerShape = LayerShape::new(3, 19);
const WORDS: usize = Storage::Int8.words_len(LAYER);
const SCRATCH: usize = NarrowLayer::scratch_for(LAYER);

/// The layer, its buffers, and what came out so far.
pub struct Quantized {
    random: Random,
    params: [f32; LAYER.params_len()],
    words: [u32; WORDS],
    state: [f32; LAYER.state_len(1)],
    zigzag: Zigzag,
    scratch: [f32; SCRATCH],
    /// Of all states, and then of the words.
    pub hash: Hash,
}

impl Quantized {
    /// Before anything is packed.
    pub const ZERO: Self = Self {
        random: Random::new(3),
        params: [0.0; LAYER.params_len()],
        words: [0; WORDS],
        state: [0.0; LAYER.state_len(1)],
        zigzag: Zigzag::NEW,
        scratch: [0.0; SCRATCH],
        hash: Hash::EMPTY,
    };

    /// Packs random weights, and runs so many steps of random inputs, some of them beyond the range.
    pub fn run(&mut self, steps: u32) -> Result<(), QuantizeError> {
        for param in &mut self.params {
            *param = self.random.uniform() - 0.5;
        }
        let words = &mut self.words;
        let layer = NarrowLayer::pack(LAYER, Storage::Int8, &self.params, 1.5, words)?;
        for _ in 0..steps {
            let mut x = [0.0; LAYER.inputs];
            for x in &mut x {
                *x = 4.5 * (self.random.uniform() - 0.5);
            }
            let (state, scratch) = (&mut self.state, &mut self.scratch);
            layer.step(1, &x, state, &mut self.zigzag, scratch)?;
            for value in self.state {
                self.hash.add(value);
            }
        }
        for word in self.words {
            self.hash.add(f32::from_bits(word));
        }
        Ok(())
    }
}
