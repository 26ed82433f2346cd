//! What a run is made of, checked field by field, and the lengths that follow from it.

use fused_lstm::optimizer::{Adagrad, Adam, Momentum, Optimizer, RmsProp, Sgd};
use fused_lstm::{Extent, NetworkShape};

/// Most layers of a stack.
pub const LAYERS: usize = 8;
/// Most units of a layer.
const UNITS: u32 = 64;
/// Most rows of a batch.
const BATCH: u32 = 200;
/// Most time steps of a training step.
const TRUNCATION: u32 = 100;
/// Most steps by which the bits come back: a row remembers 32 bits, its newest included.
const ECHO: u32 = 31;
/// The learning rates.
const LEARNING_RATES: core::ops::RangeInclusive<f32> = 1e-6..=10.0;

/// Bits are two classes.
pub const CLASSES: usize = 2;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// It was met.
    Ready = 0,
    /// The buffers do not fit the arena; [`needed`](crate::needed) says how much they take.
    Arena = 1,
    /// The number of layers is out of range,
    Layers = 2,
    /// or that of units,
    Units = 3,
    /// of batch rows,
    Batch = 4,
    /// of the time steps of a training step,
    Truncation = 5,
    /// or of the steps by which the bits come back.
    Echo = 6,
    /// There is no such optimizer.
    Optimizer = 7,
    /// The learning rate is out of range.
    LearningRate = 8,
}

/// A network, its task and its training.
#[derive(Clone, Copy)]
pub struct Settings {
    /// Units of each layer, as many as there can be; the first [`layers`](Self::layers) count.
    hidden: [usize; LAYERS],
    layers: usize,
    pub extent: Extent,
    /// Steps by which the bits come back.
    pub echo: u32,
    pub optimizer: Optimizer,
    pub seed: u32,
}

impl Settings {
    /// Layers, units, batch, truncation and echo step; the optimizer's number in the page's
    /// list.
    pub fn check(
        [layers, units, batch, truncation, echo]: [u32; 5],
        optimizer: u32,
        learning_rate: f32,
        seed: u32,
    ) -> Result<Self, Status> {
        if layers == 0 || layers > LAYERS as u32 {
            return Err(Status::Layers);
        }
        if units == 0 || units > UNITS {
            return Err(Status::Units);
        }
        if batch == 0 || batch > BATCH {
            return Err(Status::Batch);
        }
        if truncation == 0 || truncation > TRUNCATION {
            return Err(Status::Truncation);
        }
        if echo > ECHO {
            return Err(Status::Echo);
        }
        // NaN is in no range.
        if !LEARNING_RATES.contains(&learning_rate) {
            return Err(Status::LearningRate);
        }
        let optimizer = match optimizer {
            0 => Optimizer::Sgd(Sgd::new(learning_rate)),
            1 => Optimizer::Momentum(Momentum::new(learning_rate, 0.9)),
            2 => Optimizer::Adagrad(Adagrad::tensorflow(learning_rate)),
            3 => Optimizer::Adam(Adam::tensorflow(learning_rate)),
            4 => Optimizer::RmsProp(RmsProp::tensorflow(learning_rate)),
            _ => return Err(Status::Optimizer),
        };
        Ok(Self {
            hidden: [units as usize; LAYERS],
            layers: layers as usize,
            extent: Extent {
                steps: truncation as usize,
                batch: batch as usize,
            },
            echo,
            optimizer,
            seed,
        })
    }

    /// One bit goes in, two classes come out.
    pub fn shape(&self) -> NetworkShape<'_> {
        let (hidden, _) = self
            .hidden
            .split_at_checked(self.layers)
            .unwrap_or_default();
        NetworkShape::new(1, hidden).with_head(CLASSES)
    }

    /// How long every buffer is.
    pub fn lengths(&self) -> Lengths {
        let (shape, extent) = (self.shape(), self.extent);
        let params = shape.params_len();
        Lengths {
            params,
            slots: self.optimizer.slots_len(params),
            state: shape.state_len(extent.batch),
            cache: shape.cache_len(extent),
            workspace: shape.workspace_len(extent),
            probabilities: shape.logits_len(extent),
            rows: extent.rows(),
            batch: extent.batch,
        }
    }
}

/// How long every buffer is, in numbers.
#[derive(Clone, Copy)]
pub struct Lengths {
    /// Of the weights, and of their gradients.
    pub params: usize,
    pub slots: usize,
    pub state: usize,
    pub cache: usize,
    pub workspace: usize,
    pub probabilities: usize,
    /// Of the input, and of the labels.
    pub rows: usize,
    /// Of what the rows remember of their bits.
    pub batch: usize,
}

impl Lengths {
    /// Of all buffers together.
    pub fn total(&self) -> usize {
        [
            self.params,
            self.params,
            self.slots,
            self.state,
            self.cache,
            self.workspace,
            self.probabilities,
            self.rows,
            self.rows,
            self.batch,
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }
}
