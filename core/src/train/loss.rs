//! The losses, each with its gradient: softmax cross-entropy with sparse labels,
//! and mean squared error.
//!
//! A row may be left out, as the padding of a short sequence is: by the label [`IGNORE`], or
//! by a mask. The mean is over the rows that count. A row that does not has a gradient of zero,
//! and if none counts, the loss is 0.
//!
//! Sums over classes, and the loss over rows, are taken ascending, so that they
//! are the same for every level of a kind. Rows are summed in blocks of 4,096, and what the sum
//! of the blocks loses to rounding is added at the end (Neumaier 1974): however many rows there
//! are, the error is that of a block. It is at most 4,096 roundings, 2.4e-4 of the loss; that of a
//! million and of twenty million random rows is 2e-7.

use crate::activation::{ExpInPlace, exp_in_place};
use crate::error::{ArgumentError, check_len};
use crate::layout::split::exact_chunks;
use crate::simd::map::{CHAINS, for_each_block, sum_of_squares};
use crate::simd::{Simd, dispatch_inline};

/// The label of a row that does not count, as that of padding. No class has this number.
///
/// ```
/// use fused_lstm::loss::{IGNORE, softmax_cross_entropy};
///
/// let (mut logits, mut dlogits) = ([0.0, 0.0, 5.0, 5.0], [1.0; 4]);
/// let loss = softmax_cross_entropy(2, &mut logits, &[1, IGNORE], &mut dlogits)?;
/// assert!((loss - core::f32::consts::LN_2).abs() < 1e-7); // the first row's
/// assert_eq!(dlogits, [0.5, -0.5, 0.0, 0.0]);
/// assert_eq!(logits, [0.5; 4]); // both softmaxes
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
pub const IGNORE: u32 = u32::MAX;

/// Rows that are summed before the sum joins the others.
const BLOCK_ROWS: usize = 4096;

/// A sum of blocks, with what rounding took from it.
#[derive(Default)]
struct Blocks {
    sum: f32,
    lost: f32,
}

impl Blocks {
    #[inline(always)]
    fn add(&mut self, block: f32) {
        let sum = self.sum + block;
        self.lost += if self.sum.abs() >= block.abs() {
            (self.sum - sum) + block
        } else {
            (block - sum) + self.sum
        };
        self.sum = sum;
    }

    #[inline(always)]
    fn total(self) -> f32 {
        // An infinite sum has lost no number.
        if self.sum.is_finite() {
            self.sum + self.lost
        } else {
            self.sum
        }
    }
}

/// Turns every row of `logits` `[R, C]` into its softmax.
#[inline(always)]
pub(crate) fn softmax_rows<S: Simd>(s: S, classes: usize, logits: &mut [f32]) {
    if classes == 0 {
        return;
    }
    for row in exact_chunks(&mut *logits, classes) {
        subtract_max(row);
    }
    for_each_block(s, logits.len(), &mut ExpInPlace(logits));
    for row in exact_chunks(&mut *logits, classes) {
        let total = 1.0 + sum_without_max(row);
        for p in row {
            *p /= total;
        }
    }
}

/// Subtracts the largest number of the row from all of them. A NaN is passed
/// over here, stays NaN, and makes the sum of the row NaN.
#[inline(always)]
fn subtract_max(row: &mut [f32]) {
    let mut largest = f32::NEG_INFINITY;
    for &z in row.iter() {
        if z > largest {
            largest = z;
        }
    }
    for z in row {
        *z -= largest;
    }
}

/// The sum of the row but for the first one that is 1, which is the exponential
/// of the largest logit.
#[inline(always)]
fn sum_without_max(row: &[f32]) -> f32 {
    let (mut sum, mut seen) = (0.0, false);
    for &e in row {
        if e == 1.0 && !seen {
            seen = true;
        } else {
            sum += e;
        }
    }
    sum
}

/// A product that leaves room for one more row of all the classes that a label can name.
const PRODUCT_LIMIT: f32 = (1u128 << 64) as f32;

/// The loss of a network's outputs, in a training step.
pub(crate) trait Loss {
    /// The mean loss of `outputs` `[R, width]`, which become what the loss gives of them;
    /// `doutputs` is overwritten with its gradient.
    fn gradient(self, width: usize, outputs: &mut [f32], doutputs: &mut [f32]) -> f32;
}

/// Softmax cross-entropy with these labels, which have been checked. The outputs, logits,
/// become their softmax.
pub(crate) struct CrossEntropy<'a>(pub &'a [u32]);

impl Loss for CrossEntropy<'_> {
    fn gradient(self, classes: usize, logits: &mut [f32], dlogits: &mut [f32]) -> f32 {
        cross_entropy_rows(classes, logits, self.0, dlogits)
    }
}

/// The mean loss, its gradient in `dlogits` and the softmax in `logits`. Labels have been checked.
pub(crate) fn cross_entropy_rows(
    classes: usize,
    logits: &mut [f32],
    labels: &[u32],
    dlogits: &mut [f32],
) -> f32 {
    // Two classes are as good as a constant where code need not be small.
    if classes == 2 && !cfg!(feature = "compact-code") {
        cross_entropy(2, logits, labels, dlogits)
    } else {
        cross_entropy(classes, logits, labels, dlogits)
    }
}

#[inline(always)]
fn cross_entropy(classes: usize, logits: &mut [f32], labels: &[u32], dlogits: &mut [f32]) -> f32 {
    if classes == 0 {
        return 0.0;
    }
    // loss = ln Σ exp(z) − z[label] = ln(1 + rest) − (z[label] − max z). The last
    // part is kept in the row's first gradient until the exponentials are there.
    let mut counted = 0usize;
    let rows = exact_chunks(&mut *logits, classes).zip(exact_chunks(&mut *dlogits, classes));
    for ((z, dz), &label) in rows.zip(labels) {
        subtract_max(z);
        counted += usize::from(label != IGNORE);
        if let (Some(dz), Some(&z)) = (dz.first_mut(), z.get(label as usize)) {
            *dz = z;
        }
    }
    exp_in_place(logits);
    let count = counted as f32;
    let share = 1.0 / count;
    let mut total = Blocks::default();
    let mut loss = 0.0;
    // Π (1 + rest) − 1: one logarithm for as many rows as fit.
    let mut product_minus_one = 0.0;
    let rows = exact_chunks(&mut *logits, classes).zip(exact_chunks(&mut *dlogits, classes));
    for (row, ((p, dz), &label)) in rows.zip(labels).enumerate() {
        if row % BLOCK_ROWS == 0 {
            total.add(loss + libm::log1pf(product_minus_one));
            (loss, product_minus_one) = (0.0, 0.0);
        }
        let rest = sum_without_max(p);
        if label != IGNORE {
            product_minus_one += rest + product_minus_one * rest;
            if product_minus_one > PRODUCT_LIMIT {
                loss += libm::log1pf(product_minus_one);
                product_minus_one = 0.0;
            }
            loss -= dz.first().copied().unwrap_or(0.0);
        }
        for (class, (p, dz)) in p.iter_mut().zip(dz).enumerate() {
            *p /= 1.0 + rest;
            let hit = if class == label as usize { 1.0 } else { 0.0 };
            *dz = if label == IGNORE {
                0.0
            } else {
                (*p - hit) * share
            };
        }
    }
    total.add(loss + libm::log1pf(product_minus_one));
    if counted == 0 {
        return 0.0;
    }
    total.total() / count
}

/// Refuses a label that is neither a class nor [`IGNORE`].
#[inline(always)]
pub(crate) fn check_labels(classes: usize, labels: &[u32]) -> Result<(), ArgumentError> {
    for (row, &label) in labels.iter().enumerate() {
        if label != IGNORE && label as usize >= classes {
            return Err(ArgumentError::Label {
                row,
                label,
                classes,
            });
        }
    }
    Ok(())
}

/// Turns every row of `logits` `[R, C]` into its softmax, in place.
///
/// ```
/// let mut rows = [0.0, 0.0, 100.0, -100.0];
/// fused_lstm::loss::softmax(2, &mut rows)?;
/// assert_eq!(rows, [0.5, 0.5, 1.0, 0.0]);
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
pub fn softmax(classes: usize, logits: &mut [f32]) -> Result<(), ArgumentError> {
    if classes == 0 {
        return Err(ArgumentError::Zero { what: "classes" });
    }
    check_len(
        "logits",
        logits.len().next_multiple_of(classes),
        logits.len(),
    )?;
    dispatch_inline!(s => softmax_rows(s, classes, logits));
    Ok(())
}

/// The mean over rows of −ln softmax(z) at the label, for `logits` z `[R, C]` and `labels`
/// `[R]`: TensorFlow's `sparse_softmax_cross_entropy_with_logits`, averaged.
///
/// `logits` is overwritten with the softmax, `dlogits` `[R, C]` with the gradient
/// of the mean, (softmax − one at the label) / R. Rows with the label [`IGNORE`] do not count:
/// R is the number of the others, their gradient is zero, their softmax is written. If no row
/// counts, the loss is 0. A label that is neither a class nor [`IGNORE`] is refused.
///
/// ```
/// use fused_lstm::loss::softmax_cross_entropy;
///
/// let (mut logits, mut dlogits) = ([0.0, 0.0], [0.0; 2]);
/// let loss = softmax_cross_entropy(2, &mut logits, &[1], &mut dlogits)?;
/// assert!((loss - core::f32::consts::LN_2).abs() < 1e-7);
/// assert_eq!(logits, [0.5, 0.5]);
/// assert_eq!(dlogits, [0.5, -0.5]);
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
pub fn softmax_cross_entropy(
    classes: usize,
    logits: &mut [f32],
    labels: &[u32],
    dlogits: &mut [f32],
) -> Result<f32, ArgumentError> {
    if classes == 0 {
        return Err(ArgumentError::Zero { what: "classes" });
    }
    if labels.is_empty() {
        return Err(ArgumentError::Zero { what: "labels" });
    }
    check_len("logits", labels.len().saturating_mul(classes), logits.len())?;
    check_len("dlogits", logits.len(), dlogits.len())?;
    check_labels(classes, labels)?;
    Ok(cross_entropy_rows(classes, logits, labels, dlogits))
}

/// The mean of (y − target)² over all numbers; `dy` is overwritten with its
/// gradient, 2·(y − target) / N.
///
/// ```
/// let mut dy = [0.0; 2];
/// let loss = fused_lstm::loss::mean_squared_error(&[1.0, 5.0], &[1.0, 3.0], &mut dy)?;
/// assert_eq!((loss, dy), (2.0, [0.0, 2.0]));
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
pub fn mean_squared_error(y: &[f32], target: &[f32], dy: &mut [f32]) -> Result<f32, ArgumentError> {
    squared_error(1, y, target, None, dy)
}

/// [`mean_squared_error`] over the rows of `y` `[R, O]` that `mask` `[R]` says count.
///
/// The mean is over the numbers of these rows, and N is how many they are. `dy` `[R, O]` is
/// overwritten: with zeros in the other rows, whatever `y` and `target` hold there. If no row
/// counts, the loss is 0. The bits are those of [`mean_squared_error`] if all do.
///
/// ```
/// use fused_lstm::loss::masked_mean_squared_error;
///
/// let (y, target) = ([1.0, 5.0, 7.0, 7.0], [1.0, 3.0, f32::NAN, f32::NAN]);
/// let mut dy = [0.5; 4];
/// let loss = masked_mean_squared_error(2, &y, &target, &[true, false], &mut dy)?;
/// assert_eq!((loss, dy), (2.0, [0.0, 2.0, 0.0, 0.0]));
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
pub fn masked_mean_squared_error(
    outputs: usize,
    y: &[f32],
    target: &[f32],
    mask: &[bool],
    dy: &mut [f32],
) -> Result<f32, ArgumentError> {
    if outputs == 0 {
        return Err(ArgumentError::Zero { what: "outputs" });
    }
    check_len("y", mask.len().saturating_mul(outputs), y.len())?;
    squared_error(outputs, y, target, Some(bytemuck::cast_slice(mask)), dy)
}

fn squared_error(
    width: usize,
    y: &[f32],
    target: &[f32],
    mask: Option<&[u8]>,
    dy: &mut [f32],
) -> Result<f32, ArgumentError> {
    if y.is_empty() {
        return Err(ArgumentError::Zero { what: "y" });
    }
    check_len("target", y.len(), target.len())?;
    check_len("dy", y.len(), dy.len())?;
    let loss = SquaredError { target, mask };
    Ok(loss.rows(width, y, dy))
}

/// Mean squared error against these targets, over all rows or those whose byte of the mask is
/// not zero. The outputs stay as they are.
#[derive(Clone, Copy)]
pub(crate) struct SquaredError<'a> {
    pub target: &'a [f32],
    pub mask: Option<&'a [u8]>,
}

impl SquaredError<'_> {
    fn rows(self, width: usize, y: &[f32], dy: &mut [f32]) -> f32 {
        for ((dy, y), target) in dy.iter_mut().zip(y).zip(self.target) {
            *dy = y - target;
        }
        let mut counted = y.len();
        if let Some(mask) = self.mask {
            // Zeros leave no trace in the sum, and stay the gradient.
            for (dy, _) in exact_chunks(&mut *dy, width)
                .zip(mask)
                .filter(|&(_, &m)| m == 0)
            {
                dy.fill(0.0);
                counted -= width;
            }
        }
        if counted == 0 {
            return 0.0;
        }
        let count = counted as f32;
        let mut total = Blocks::default();
        // As many additions to each of the chains of a block as it has rows elsewhere.
        for block in dy.chunks(BLOCK_ROWS * CHAINS) {
            total.add(dispatch_inline!(s => sum_of_squares(s, block)));
        }
        for dy in dy {
            *dy = 2.0 * *dy / count;
        }
        total.total() / count
    }
}

impl Loss for SquaredError<'_> {
    fn gradient(self, width: usize, y: &mut [f32], dy: &mut [f32]) -> f32 {
        self.rows(width, y, dy)
    }
}
