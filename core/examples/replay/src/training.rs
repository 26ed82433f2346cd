//! The echo tutorial from its own random start: truncated backpropagation over 15 steps,
//! softmax cross-entropy, Adagrad.

use crate::{DELAY, Hash, Layers, Net, Random};
use fused_lstm::optimizer::Adagrad;
use fused_lstm::{ArgumentError, Buffers, ClassifierWorkspace, Flat};

/// Time steps of a training step.
pub const STEPS: usize = 15;

/// A network in training on `B` streams of bits, with everything that it needs.
#[derive(Clone, Copy)]
pub struct Training<const B: usize> {
    random: Random,
    bits: [[u32; DELAY]; B],
    net: Net,
    gradients: Net,
    accumulators: Net,
    state: <Layers as Buffers>::State<B>,
    cache: <Layers as Buffers>::Cache<STEPS, B>,
    workspace: ClassifierWorkspace<<Layers as Buffers>::Workspace<STEPS, B>, STEPS, B, 4, 2>,
    x: [[[f32; 1]; B]; STEPS],
    labels: [[u32; B]; STEPS],
    probabilities: [[[f32; 2]; B]; STEPS],
    /// Of all losses.
    pub hash: Hash,
    /// The mean of about the last hundred losses.
    pub mean: f32,
}

impl<const B: usize> Training<B> {
    /// Room, for a `static`.
    pub const ZERO: Self = Self {
        random: Random::new(0),
        bits: [[0; DELAY]; B],
        net: Net::ZERO,
        gradients: Net::ZERO,
        accumulators: Net::ZERO,
        state: Flat::ZERO,
        cache: Flat::ZERO,
        workspace: Flat::ZERO,
        x: Flat::ZERO,
        labels: [[0; B]; STEPS],
        probabilities: Flat::ZERO,
        hash: Hash::EMPTY,
        mean: 0.0,
    };

    const ADAGRAD: Adagrad = Adagrad::tensorflow(0.3);

    /// Begins anew with the weights and the bits of this seed.
    pub fn start(&mut self, seed: u32) {
        self.random = Random::new(seed);
        let random = &mut self.random;
        self.net = Net::glorot_uniform(|| random.uniform());
        self.accumulators
            .as_flat_mut()
            .fill(Self::ADAGRAD.initial_accumulator);
        self.state = Flat::zero();
        self.bits = [[0; DELAY]; B];
        self.hash = Hash::EMPTY;
        self.mean = core::f32::consts::LN_2;
    }

    /// The next bits of every stream, and what they were three steps before.
    pub fn read(&mut self) {
        for (x, labels) in self.x.iter_mut().zip(&mut self.labels) {
            for ((x, label), bits) in x.iter_mut().zip(labels).zip(&mut self.bits) {
                let bit = self.random.bit();
                *x = [bit as f32];
                *label = bits[DELAY - 1];
                *bits = [bit, bits[0], bits[1]];
            }
        }
    }

    /// One training step on what was read: gives the loss.
    pub fn learn(&mut self) -> Result<f32, ArgumentError> {
        self.gradients.as_flat_mut().fill(0.0);
        let loss = self.net.loss_gradient::<STEPS, B>(
            &self.x,
            &self.labels,
            &mut self.state,
            &mut self.gradients,
            &mut self.probabilities,
            &mut self.cache,
            &mut self.workspace,
        )?;
        Self::ADAGRAD.update(
            self.net.as_flat_mut(),
            self.gradients.as_flat(),
            self.accumulators.as_flat_mut(),
        )?;
        Ok(loss)
    }

    /// [`read`](Self::read) and [`learn`](Self::learn), so many times.
    pub fn run(&mut self, steps: u32) -> Result<(), ArgumentError> {
        for _ in 0..steps {
            self.read();
            let loss = self.learn()?;
            self.hash.add(loss);
            self.mean += (loss - self.mean) / 100.0;
        }
        Ok(())
    }
}
