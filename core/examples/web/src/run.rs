//! One run: random bits go in, and what comes out is trained to be the bits of some steps
//! before.

use crate::settings::{Lengths, Settings};
use fused_lstm::{LossGradient, Model, init};
use fused_lstm_replay::{Hash, Random};

/// A run but for its buffers.
pub struct Run {
    settings: Settings,
    /// They follow from the settings.
    lengths: Lengths,
    random: Random,
    /// Updates so far.
    updates: u32,
    /// Of all losses.
    pub hash: Hash,
}

/// The buffers of a run, cut from the arena.
pub struct Buffers<'a> {
    params: &'a mut [f32],
    gradients: &'a mut [f32],
    slots: &'a mut [f32],
    state: &'a mut [f32],
    cache: &'a mut [f32],
    workspace: &'a mut [f32],
    pub probabilities: &'a mut [f32],
    pub x: &'a mut [f32],
    pub labels: &'a mut [u32],
    /// The bits of every row, its newest in the lowest place.
    bits: &'a mut [u32],
}

impl<'a> Buffers<'a> {
    /// `None` if they do not fit.
    fn cut(lengths: &Lengths, mut arena: &'a mut [f32]) -> Option<Self> {
        Some(Self {
            params: arena.split_off_mut(..lengths.params)?,
            gradients: arena.split_off_mut(..lengths.params)?,
            slots: arena.split_off_mut(..lengths.slots)?,
            state: arena.split_off_mut(..lengths.state)?,
            cache: arena.split_off_mut(..lengths.cache)?,
            workspace: arena.split_off_mut(..lengths.workspace)?,
            probabilities: arena.split_off_mut(..lengths.probabilities)?,
            x: arena.split_off_mut(..lengths.rows)?,
            labels: bytemuck::cast_slice_mut(arena.split_off_mut(..lengths.rows)?),
            bits: bytemuck::cast_slice_mut(arena.split_off_mut(..lengths.batch)?),
        })
    }
}

impl Run {
    /// From the weights and the bits of the seed; `None` if the arena is too small, which then
    /// stays as it was.
    pub fn begin(settings: Settings, arena: &mut [f32]) -> Option<Self> {
        let lengths = settings.lengths();
        let mut random = Random::new(settings.seed);
        let buffers = Buffers::cut(&lengths, arena)?;
        init::glorot_uniform(settings.shape(), buffers.params, || random.uniform()).ok()?;
        settings.optimizer.init_slots(buffers.slots);
        buffers.state.fill(0.0);
        buffers.bits.fill(0);
        // What is drawn before the first step.
        buffers.probabilities.fill(0.5);
        buffers.x.fill(0.0);
        buffers.labels.fill(0);
        Some(Self {
            settings,
            lengths,
            random,
            updates: 0,
            hash: Hash::EMPTY,
        })
    }

    /// How long every buffer is.
    pub fn lengths(&self) -> &Lengths {
        &self.lengths
    }

    /// The buffers of this run.
    pub fn buffers<'a>(&self, arena: &'a mut [f32]) -> Option<Buffers<'a>> {
        Buffers::cut(&self.lengths, arena)
    }

    /// One training step on the next bits of every row: gives the loss.
    pub fn step(&mut self, arena: &mut [f32]) -> Option<f32> {
        let buffers = self.buffers(arena)?;
        self.read(buffers.x, buffers.labels, buffers.bits);
        buffers.gradients.fill(0.0);
        let loss = Model::new(self.settings.shape(), buffers.params)
            .ok()?
            .loss_gradient(
                self.settings.extent,
                buffers.labels,
                LossGradient {
                    x: buffers.x,
                    state: buffers.state,
                    gradients: buffers.gradients,
                    outputs: buffers.probabilities,
                    cache: buffers.cache,
                    workspace: buffers.workspace,
                },
            )
            .ok()?;
        self.updates = self.updates.saturating_add(1);
        self.settings
            .optimizer
            .update(
                self.updates,
                buffers.params,
                buffers.gradients,
                buffers.slots,
            )
            .ok()?;
        self.hash.add(loss);
        Some(loss)
    }

    /// The next bits of every row, and what they were before.
    fn read(&mut self, x: &mut [f32], labels: &mut [u32], bits: &mut [u32]) {
        let batch = self.lengths.batch.max(1);
        for (x, labels) in x
            .chunks_exact_mut(batch)
            .zip(labels.chunks_exact_mut(batch))
        {
            for ((x, label), bits) in x.iter_mut().zip(labels).zip(&mut *bits) {
                let bit = self.random.bit();
                *bits = *bits << 1 | bit;
                *x = bit as f32;
                *label = *bits >> (self.settings.echo & 31) & 1;
            }
        }
    }
}
