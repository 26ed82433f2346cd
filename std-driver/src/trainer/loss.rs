//! The losses of the jobs, each with its gradient, over the rows of a batch that count.

use crate::Error;
use crate::dataset::Batch;
use fused_lstm::loss::{self, IGNORE, Weighting};

/// What is made small.
///
/// ```
/// use fused_lstm_driver::dataset::Batch;
/// use fused_lstm_driver::trainer::Loss;
///
/// let batch = Batch { targets: vec![1.0, 3.0], mask: vec![true, true], ..Batch::default() };
/// let (mut y, mut dy) = ([1.0, 5.0], [0.0; 2]);
/// let loss = Loss::SquaredError.gradient(1, &batch, &mut y, &mut dy)?;
/// assert_eq!((loss, dy), (2.0, [0.0, 2.0]));
/// # Ok::<(), fused_lstm_driver::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Loss {
    /// Cross-entropy of the batch's labels.
    CrossEntropy {
        /// What each class weighs, if it is not the same.
        class_weights: Option<Vec<f32>>,
        /// The part of the target that is spread over all classes.
        smoothing: f32,
    },
    /// The mean square of the differences from the batch's targets.
    SquaredError,
    /// Squares up to `delta`, and a line beyond.
    Huber {
        /// Where the line begins.
        delta: f32,
    },
    /// Of sounds: see [`AudioLoss`](crate::recipe::AudioLoss).
    Audio(crate::recipe::AudioLoss),
}

impl Loss {
    /// The mean loss of the outputs `y` `[R, width]`; `dy` is overwritten with its gradient. Of classes `y`
    /// becomes their probabilities.
    pub fn gradient(
        &self,
        width: usize,
        batch: &Batch,
        y: &mut [f32],
        dy: &mut [f32],
    ) -> Result<f32, Error> {
        let (targets, mask) = (&batch.targets, &batch.mask);
        Ok(match self {
            Self::CrossEntropy {
                class_weights: None,
                smoothing: 0.0,
            } => loss::softmax_cross_entropy(width, y, &batch.labels, dy)?,
            Self::CrossEntropy {
                class_weights,
                smoothing,
            } => {
                let weighting = Weighting {
                    class_weights: class_weights.as_deref(),
                    smoothing: *smoothing,
                };
                loss::weighted_softmax_cross_entropy(width, y, &batch.labels, weighting, dy)?
            }
            Self::SquaredError => loss::masked_mean_squared_error(width, y, targets, mask, dy)?,
            Self::Huber { delta } => loss::masked_huber(width, y, targets, mask, *delta, dy)?,
            Self::Audio(audio) => {
                let rows = batch.extent.batch.max(1);
                audio_gradient(*audio, rows, y, targets, mask, dy)
            }
        })
    }

    /// What a batch counts in a mean over batches: its rows that count, or the weights of their classes.
    pub fn count(&self, batch: &Batch) -> f64 {
        match self {
            Self::CrossEntropy { class_weights, .. } => {
                let labels = batch.labels.iter().filter(|&&label| label != IGNORE);
                let weights = labels.map(|&label| match class_weights {
                    Some(weights) => weights.get(label as usize).map_or(0.0, |&w| f64::from(w)),
                    None => 1.0,
                });
                weights.sum()
            }
            _ => batch.mask.iter().filter(|&&counts| counts).count() as f64,
        }
    }
}

/// So quiet a target that the ratio would be of no use.
const SILENCE: f64 = 1e-5;

/// With e = y − target over the N numbers that count, and e', target' those behind the filter:
/// mse·Σe²/N + esr·Σe'² / (Σtarget'² + 1e-5·N). The first number of a row has none before it, and so no e'.
fn audio_gradient(
    audio: crate::recipe::AudioLoss,
    rows: usize,
    y: &[f32],
    targets: &[f32],
    mask: &[bool],
    dy: &mut [f32],
) -> f32 {
    dy.fill(0.0);
    let count = mask.iter().filter(|&&counts| counts).count() as f64;
    if count == 0.0 {
        return 0.0;
    }
    let a = f64::from(audio.pre_emphasis);
    let before = |at: usize| at.checked_sub(rows).filter(|&before| mask[before]);
    // Behind the filter.
    let filtered = |value: &dyn Fn(usize) -> f64, at: usize| match before(at) {
        Some(before) => value(at) - a * value(before),
        None => 0.0,
    };
    let error = |at: usize| f64::from(y[at] - targets[at]);
    let target = |at: usize| f64::from(targets[at]);
    let counted = || (0..mask.len()).filter(|&at| mask[at]);
    let (mut square, mut errors, mut signal) = (0.0, 0.0, SILENCE * count);
    for at in counted() {
        square += error(at) * error(at);
        let (e, t) = (filtered(&error, at), filtered(&target, at));
        errors += e * e;
        signal += t * t;
    }
    let (mse, esr) = (f64::from(audio.mse), f64::from(audio.esr));
    for at in counted() {
        let e = filtered(&error, at);
        dy[at] += (2.0 * mse * error(at) / count) as f32;
        if let Some(before) = before(at) {
            dy[at] += (2.0 * esr * e / signal) as f32;
            dy[before] -= (2.0 * esr * a * e / signal) as f32;
        }
    }
    (mse * square / count + esr * errors / signal) as f32
}
