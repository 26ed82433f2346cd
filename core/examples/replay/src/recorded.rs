//! What came out when it was recorded, on a desktop.

use crate::Hash;

/// What a machine must repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Of the probabilities of [`INFER_STEPS`] steps.
    pub infer: Hash,
    /// Of the losses of [`TRAIN_STEPS`] steps of one row,
    pub train_1: Hash,
    /// and of five.
    pub train_5: Hash,
}

/// Steps of inference.
pub const INFER_STEPS: u32 = 1000;
/// Steps of training.
pub const TRAIN_STEPS: u32 = 2000;
/// The seed of the training.
pub const SEED: u32 = 7;

/// Levels that round a product before they add it.
pub const PORTABLE: Recorded = Recorded {
    infer: Hash(0xaad7_b644),
    train_1: Hash(0xf689_5bf7),
    train_5: Hash(0x6698_13d1),
};

/// Levels that do not.
pub const FUSED: Recorded = Recorded {
    infer: Hash(0x70c1_50c9),
    train_1: Hash(0x4eb5_4215),
    train_5: Hash(0x992c_bdb6),
};

/// Steps through int8 weights.
pub const QUANTIZED_STEPS: u32 = 200;

/// Of a run through int8 weights: the same for levels of both kinds.
pub const QUANTIZED: Hash = Hash(0x0b23_d90b);
