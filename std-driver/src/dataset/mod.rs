//! What a network is trained on: batches of sequences, from files or from anything else.

mod scale;
mod sequences;
mod table;

pub use scale::Scale;
pub(crate) use scale::{fold, folds_inputs};
pub use sequences::{Aim, Frames, Sequences, Span};
pub use table::Table;
pub(crate) use table::texts;

use fused_lstm::Extent;

/// A part of an epoch that is one batch: rows, and the time steps of these that are in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Portion {
    /// Which sequences are the rows.
    pub rows: Vec<usize>,
    /// The first time step. The state is zero before step 0, and carried on to later portions of the
    /// same rows, which must follow each other.
    pub first: usize,
    /// How many time steps.
    pub steps: usize,
}

/// What a step of training reads.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Steps T and rows B.
    pub extent: Extent,
    /// `[T, B, I]`.
    pub x: Vec<f32>,
    /// The steps of each row, if they are not all T. What `x` has beyond them is finite.
    pub lengths: Option<Vec<usize>>,
    /// Of classes: the label of each row of the output, `[T, B]`, or `[B]` where there is one output a
    /// sequence; [`IGNORE`](fused_lstm::loss::IGNORE) where none counts.
    pub labels: Vec<u32>,
    /// Of numbers: what the output should be, `[T, B, O]` or `[B, O]`.
    pub targets: Vec<f32>,
    /// Of numbers: which rows of the output count, `[T, B]` or `[B]`.
    pub mask: Vec<bool>,
}

/// Data to train on. [`Sequences`] is one for data in memory.
///
/// ```
/// use fused_lstm::Extent;
/// use fused_lstm_driver::dataset::{Batch, Dataset, Portion};
///
/// /// Sums of what has come so far, one new sequence each epoch.
/// struct Sums;
///
/// impl Dataset for Sums {
///     fn epoch(&self, epoch: u64) -> Vec<Portion> {
///         vec![Portion { rows: vec![epoch as usize], first: 0, steps: 10 }]
///     }
///     fn load(&self, portion: &Portion, batch: &mut Batch) {
///         let seed = portion.rows[0];
///         batch.extent = Extent { steps: 10, batch: 1 };
///         batch.x = (0..10).map(|t| ((t * 7 + seed * 3) % 5) as f32 - 2.0).collect();
///         batch.targets = batch.x.iter().scan(0.0, |sum, x| { *sum += 0.1 * x; Some(*sum) }).collect();
///         batch.mask = vec![true; 10];
///     }
/// }
/// let portions = Sums.epoch(3);
/// let mut batch = Batch::default();
/// Sums.load(&portions[0], &mut batch);
/// assert_eq!(batch.x.len(), batch.targets.len());
/// ```
pub trait Dataset: Sync {
    /// The batches of an epoch, in their order.
    fn epoch(&self, epoch: u64) -> Vec<Portion>;

    /// Overwrites `batch` with one of them.
    fn load(&self, portion: &Portion, batch: &mut Batch);
}

impl<D: Dataset + ?Sized> Dataset for Box<D> {
    fn epoch(&self, epoch: u64) -> Vec<Portion> {
        (**self).epoch(epoch)
    }
    fn load(&self, portion: &Portion, batch: &mut Batch) {
        (**self).load(portion, batch);
    }
}

/// Whole numbers below `n` in an order that is drawn.
pub(crate) fn shuffled(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(epoch);
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        // Fisher and Yates; the part of 2⁶⁴ that a number gets differs by less than n / 2⁶⁴.
        let at = (u128::from(random.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, at as usize);
    }
    order
}
