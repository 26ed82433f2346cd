//! Inference bit by bit.

use crate::{DELAY, Hash, Layers, Net, Random};
use fused_lstm::{Buffers, Flat};

/// The trained network on a stream of bits.
pub struct Stream {
    random: Random,
    /// The bits of the last steps, the newest first.
    bits: [u32; DELAY],
    x: [[[f32; 1]; 1]; 1],
    state: <Layers as Buffers>::State<1>,
    y: [[[f32; 4]; 1]; 1],
    scratch: <Layers as Buffers>::Scratch<1, 1>,
    probabilities: [[[f32; 2]; 1]; 1],
    /// The steps whose prediction was the bit three steps before, but for the first three.
    pub right: u32,
    /// Of all predicted probabilities.
    pub hash: Hash,
}

impl Stream {
    /// At rest.
    pub const START: Self = Self {
        random: Random::new(1),
        bits: [0; DELAY],
        x: Flat::ZERO,
        state: Flat::ZERO,
        y: Flat::ZERO,
        scratch: Flat::ZERO,
        probabilities: Flat::ZERO,
        right: 0,
        hash: Hash::EMPTY,
    };

    /// One bit more.
    pub fn step(&mut self, net: &Net) {
        let bit = self.random.bit();
        self.x = [[[bit as f32]]];
        self.infer(net);
        let [[[zero, one]]] = self.probabilities;
        let [.., echo] = self.bits;
        self.right += u32::from((one > zero) == (echo == 1));
        self.bits = [bit, self.bits[0], self.bits[1]];
        self.hash.add(zero);
        self.hash.add(one);
    }

    /// The network's part of a step.
    pub fn infer(&mut self, net: &Net) {
        net.infer::<1, 1>(
            &self.x,
            &mut self.state,
            &mut self.y,
            &mut self.probabilities,
            &mut self.scratch,
        );
    }
}
