//! Scores: what people judge a network by, beside its loss.

use crate::dataset::Batch;
use fused_lstm::loss::IGNORE;

/// Scores that are being added up over batches.
///
/// ```
/// use fused_lstm_driver::dataset::Batch;
/// use fused_lstm_driver::trainer::Scores;
///
/// let mut scores = Scores::classes(2);
/// let batch = Batch { labels: vec![0, 1, 1], ..Batch::default() };
/// scores.add(2, &batch, &[2.0, 1.0, 0.0, 3.0, 1.0, 0.5]);
/// assert_eq!(scores.named()[0], ("accuracy", 2.0 / 3.0));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Scores {
    /// Of numbers.
    Numbers {
        /// What each target is multiplied by to have its own unit.
        scale: Vec<f32>,
        /// Sums of the squares of the errors of each.
        squares: Vec<f64>,
        /// Sums of their magnitudes.
        magnitudes: Vec<f64>,
        /// Rows.
        count: u64,
    },
    /// Of classes: how often a label (row) was taken for a class (column).
    Classes {
        /// `[C, C]`.
        confusion: Vec<u64>,
        /// C.
        classes: usize,
    },
    /// Of sounds.
    Sound {
        /// The sum of the squares of the errors.
        errors: f64,
        /// That of the target.
        signal: f64,
        /// Samples.
        count: u64,
    },
    /// Of a text.
    Units {
        /// The sum of −log₂ p of what came.
        bits: f64,
        /// How often it was the likeliest.
        hits: u64,
        /// Units.
        count: u64,
    },
}

impl Scores {
    /// Of numbers with these units.
    pub fn numbers(scale: Vec<f32>) -> Self {
        let zeros = vec![0.0; scale.len()];
        Self::Numbers {
            scale,
            squares: zeros.clone(),
            magnitudes: zeros,
            count: 0,
        }
    }

    /// Of so many classes.
    pub fn classes(classes: usize) -> Self {
        Self::Classes {
            confusion: vec![0; classes * classes],
            classes,
        }
    }

    /// Of sounds.
    pub fn sound() -> Self {
        Self::Sound {
            errors: 0.0,
            signal: 0.0,
            count: 0,
        }
    }

    /// Of a text.
    pub fn units() -> Self {
        Self::Units {
            bits: 0.0,
            hits: 0,
            count: 0,
        }
    }

    /// Adds the outputs `y` `[R, width]` of a batch: numbers, or logits.
    pub fn add(&mut self, width: usize, batch: &Batch, y: &[f32]) {
        let rows = || y.chunks_exact(width.max(1));
        let labelled = || {
            let rows = rows().zip(&batch.labels);
            rows.filter(|&(_, &label)| label != IGNORE)
        };
        let numbers = || {
            let rows = rows().zip(batch.targets.chunks_exact(width.max(1)));
            rows.zip(&batch.mask).filter(|&(_, &counts)| counts)
        };
        match self {
            Self::Numbers {
                scale,
                squares,
                magnitudes,
                count,
            } => {
                for ((y, target), _) in numbers() {
                    *count += 1;
                    for (c, (y, target)) in y.iter().zip(target).enumerate() {
                        let error = f64::from(y - target) * f64::from(scale[c]);
                        squares[c] += error * error;
                        magnitudes[c] += error.abs();
                    }
                }
            }
            Self::Classes { confusion, classes } => {
                for (y, &label) in labelled() {
                    confusion[label as usize * *classes + largest(y)] += 1;
                }
            }
            Self::Sound {
                errors,
                signal,
                count,
            } => {
                for ((y, target), _) in numbers() {
                    *count += 1;
                    *errors += f64::from(y[0] - target[0]).powi(2);
                    *signal += f64::from(target[0]).powi(2);
                }
            }
            Self::Units { bits, hits, count } => {
                for (y, &label) in labelled() {
                    let most = f64::from(y[largest(y)]);
                    let sum: f64 = y.iter().map(|&z| (f64::from(z) - most).exp()).sum();
                    let own = f64::from(y[label as usize]) - most;
                    *bits += (sum.ln() - own) / std::f64::consts::LN_2;
                    *hits += u64::from(largest(y) == label as usize);
                    *count += 1;
                }
            }
        }
    }

    /// The scores with their names, the most telling first.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        match self {
            Self::Numbers {
                squares,
                magnitudes,
                count,
                ..
            } => {
                let numbers = (*count).max(1) as f64 * squares.len().max(1) as f64;
                let sum = |values: &[f64]| values.iter().sum::<f64>();
                vec![
                    ("RMSE", (sum(squares) / numbers).sqrt()),
                    ("MAE", sum(magnitudes) / numbers),
                ]
            }
            Self::Classes { confusion, classes } => {
                let total = confusion.iter().sum::<u64>().max(1) as f64;
                let right: u64 = (0..*classes).map(|c| confusion[c * classes + c]).sum();
                vec![
                    ("accuracy", right as f64 / total),
                    ("F1", f1(confusion, *classes)),
                ]
            }
            Self::Sound {
                errors,
                signal,
                count,
            } => {
                let mean = errors / (*count).max(1) as f64;
                vec![
                    // A silent target has no energy to compare with.
                    ("ESR", errors / signal.max(1e-10 * (*count).max(1) as f64)),
                    ("MSE", mean),
                ]
            }
            Self::Units { bits, hits, count } => {
                let count = (*count).max(1) as f64;
                vec![
                    ("bits per unit", bits / count),
                    ("accuracy", *hits as f64 / count),
                ]
            }
        }
    }
}

/// The mean over the classes that occur of 2·hits / (labels + answers).
fn f1(confusion: &[u64], classes: usize) -> f64 {
    let row = |c: usize| confusion[c * classes..][..classes].iter().sum::<u64>();
    let column = |c: usize| {
        (0..classes)
            .map(|r| confusion[r * classes + c])
            .sum::<u64>()
    };
    let each = (0..classes).filter(|&c| row(c) + column(c) > 0);
    let (sum, count) = each.fold((0.0, 0), |(sum, count), c| {
        let hits = confusion[c * classes + c] as f64;
        (sum + 2.0 * hits / (row(c) + column(c)) as f64, count + 1)
    });
    sum / f64::from(count.max(1))
}

/// Where the largest number is, the first of several.
pub(crate) fn largest(row: &[f32]) -> usize {
    let mut at = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[at] {
            at = index;
        }
    }
    at
}
