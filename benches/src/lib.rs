//! What the benches share: the tutorials' echo system with its buffers.

use fused_lstm::optimizer::Adagrad;
use fused_lstm::{Classifier, ClassifierWorkspace, Flat, Lstm, Network, Stack};

/// The echo system's layers.
pub type Layers = Stack<Stack<Lstm<1, 4>, Lstm<4, 4>>, Lstm<4, 4>>;
/// And with its head.
pub type Echo = Classifier<Layers, 4, 2>;
type Workspace = ClassifierWorkspace<<Layers as Network>::Workspace<15, 5>, 15, 5, 4, 2>;

/// The echo system in training: 15 steps of 5 rows.
pub struct Training {
    /// The network.
    pub net: Echo,
    x: [[[f32; 1]; 5]; 15],
    labels: [[u32; 5]; 15],
    state: <Layers as Network>::State<5>,
    slots: Echo,
    cache: <Layers as Network>::Cache<15, 5>,
    workspace: Workspace,
    probabilities: [[[f32; 2]; 5]; 15],
}

impl Default for Training {
    fn default() -> Self {
        let mut seed = 1u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 24) as f32
        };
        let net = Echo::glorot_uniform(&mut random);
        let bit: [[u32; 5]; 15] =
            std::array::from_fn(|_| std::array::from_fn(|_| u32::from(random() < 0.5)));
        let mut slots = Echo::ZERO;
        slots.as_flat_mut().fill(0.1);
        Self {
            net,
            x: bit.map(|row| row.map(|bit| [bit as f32])),
            labels: bit,
            state: Flat::ZERO,
            slots,
            cache: Flat::ZERO,
            workspace: Flat::ZERO,
            probabilities: Flat::ZERO,
        }
    }
}

impl Training {
    /// Forward, loss, backward, Adagrad; gives the loss.
    pub fn step(&mut self) -> f32 {
        let mut gradients = Echo::ZERO;
        let loss = self
            .net
            .loss_gradient(
                &self.x,
                &self.labels,
                &mut self.state,
                &mut gradients,
                &mut self.probabilities,
                &mut self.cache,
                &mut self.workspace,
            )
            .expect("the labels are bits");
        Adagrad::tensorflow(0.01)
            .update(
                self.net.as_flat_mut(),
                gradients.as_flat(),
                self.slots.as_flat_mut(),
            )
            .expect("the sizes are types");
        loss
    }
}
