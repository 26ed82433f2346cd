//! The losses, each with its gradient: softmax cross-entropy with sparse labels,
//! and mean squared error.
//!
//! Sums over classes, and the loss over rows, are taken ascending, so that they
//! are the same for every level of a kind.

use crate::chunks::chunks;
use crate::elementwise::{Block, Elementwise, for_each_block, sum_of_squares};
use crate::error::{ShapeError, check_len};
use crate::simd::{Kernel, Simd, dispatch};

/// Turns every row of `logits` `[R, C]` into its softmax.
#[inline(always)]
pub(crate) fn softmax_rows<S: Simd>(s: S, classes: usize, logits: &mut [f32]) {
    if classes == 0 {
        return;
    }
    for row in chunks(&mut *logits, classes) {
        shift(row);
    }
    for_each_block(s, logits.len(), &mut Exp(logits));
    for row in chunks(&mut *logits, classes) {
        let total = 1.0 + rest_of(row);
        for p in row {
            *p /= total;
        }
    }
}

/// Subtracts the largest number of the row from all of them. A NaN is passed
/// over here, stays NaN, and makes the sum of the row NaN.
#[inline(always)]
fn shift(row: &mut [f32]) {
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
fn rest_of(row: &[f32]) -> f32 {
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

struct Exp<'a>(&'a mut [f32]);

impl Elementwise for Exp<'_> {
    #[inline(always)]
    fn block<S: Simd, const WHOLE: bool>(&mut self, s: S, at: Block<S, WHOLE>) {
        let x = at.load(self.0);
        at.store(self.0, s.exp(x));
    }
}

/// A product that leaves room for one more row of all the classes that a label can name.
const LARGE: f32 = (1u128 << 64) as f32;

/// The mean loss, its gradient in `dlogits` and the softmax in `logits`. Labels
/// have been checked.
#[inline(always)]
pub(crate) fn cross_entropy_rows<S: Simd>(
    s: S,
    classes: usize,
    logits: &mut [f32],
    labels: &[u32],
    dlogits: &mut [f32],
) -> f32 {
    if classes == 0 || labels.is_empty() {
        return 0.0;
    }
    // loss = ln Σ exp(z) − z[label] = ln(1 + rest) − (z[label] − max z). The last
    // part is kept in the row's first gradient until the exponentials are there.
    let rows = chunks(&mut *logits, classes).zip(chunks(&mut *dlogits, classes));
    for ((z, dz), &label) in rows.zip(labels) {
        shift(z);
        if let (Some(dz), Some(&z)) = (dz.first_mut(), z.get(label as usize)) {
            *dz = z;
        }
    }
    for_each_block(s, logits.len(), &mut Exp(logits));
    let count = labels.len() as f32;
    let share = 1.0 / count;
    let mut loss = 0.0;
    // Π (1 + rest) − 1: one logarithm for as many rows as fit.
    let mut grown = 0.0;
    let rows = chunks(&mut *logits, classes).zip(chunks(&mut *dlogits, classes));
    for ((p, dz), &label) in rows.zip(labels) {
        let rest = rest_of(p);
        grown += rest + grown * rest;
        if grown > LARGE {
            loss += libm::log1pf(grown);
            grown = 0.0;
        }
        loss -= dz.first().copied().unwrap_or(0.0);
        for (class, (p, dz)) in p.iter_mut().zip(dz).enumerate() {
            *p /= 1.0 + rest;
            let hit = if class == label as usize { 1.0 } else { 0.0 };
            *dz = (*p - hit) * share;
        }
    }
    loss += libm::log1pf(grown);
    loss / count
}

/// Refuses a label that is not a class.
#[inline(always)]
pub(crate) fn check_labels(classes: usize, labels: &[u32]) -> Result<(), ShapeError> {
    for (row, &label) in labels.iter().enumerate() {
        if label as usize >= classes {
            return Err(ShapeError::Label {
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
/// # Ok::<(), fused_lstm::ShapeError>(())
/// ```
pub fn softmax(classes: usize, logits: &mut [f32]) -> Result<(), ShapeError> {
    if classes == 0 {
        return Err(ShapeError::Zero { what: "classes" });
    }
    check_len(
        "logits",
        logits.len().next_multiple_of(classes),
        logits.len(),
    )?;
    dispatch(Softmax { classes, logits });
    Ok(())
}

struct Softmax<'a> {
    classes: usize,
    logits: &'a mut [f32],
}

impl Kernel for Softmax<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        softmax_rows(s, self.classes, self.logits);
    }
}

/// The mean over rows of −ln softmax(z) at the label, for `logits` z `[R, C]` and `labels`
/// `[R]`: TensorFlow's `sparse_softmax_cross_entropy_with_logits`, averaged.
///
/// `logits` is overwritten with the softmax, `dlogits` `[R, C]` with the gradient
/// of the mean, (softmax − one at the label) / R.
///
/// ```
/// use fused_lstm::loss::softmax_cross_entropy;
///
/// let (mut logits, mut dlogits) = ([0.0, 0.0], [0.0; 2]);
/// let loss = softmax_cross_entropy(2, &mut logits, &[1], &mut dlogits)?;
/// assert!((loss - core::f32::consts::LN_2).abs() < 1e-7);
/// assert_eq!(logits, [0.5, 0.5]);
/// assert_eq!(dlogits, [0.5, -0.5]);
/// # Ok::<(), fused_lstm::ShapeError>(())
/// ```
pub fn softmax_cross_entropy(
    classes: usize,
    logits: &mut [f32],
    labels: &[u32],
    dlogits: &mut [f32],
) -> Result<f32, ShapeError> {
    if classes == 0 {
        return Err(ShapeError::Zero { what: "classes" });
    }
    if labels.is_empty() {
        return Err(ShapeError::Zero { what: "labels" });
    }
    check_len("logits", labels.len().saturating_mul(classes), logits.len())?;
    check_len("dlogits", logits.len(), dlogits.len())?;
    check_labels(classes, labels)?;
    Ok(dispatch(CrossEntropy {
        classes,
        logits,
        labels,
        dlogits,
    }))
}

struct CrossEntropy<'a> {
    classes: usize,
    logits: &'a mut [f32],
    labels: &'a [u32],
    dlogits: &'a mut [f32],
}

impl Kernel for CrossEntropy<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        cross_entropy_rows(s, self.classes, self.logits, self.labels, self.dlogits)
    }
}

/// The mean of (y − target)² over all numbers; `dy` is overwritten with its
/// gradient, 2·(y − target) / N.
///
/// ```
/// let mut dy = [0.0; 2];
/// let loss = fused_lstm::loss::mean_squared_error(&[1.0, 5.0], &[1.0, 3.0], &mut dy)?;
/// assert_eq!((loss, dy), (2.0, [0.0, 2.0]));
/// # Ok::<(), fused_lstm::ShapeError>(())
/// ```
pub fn mean_squared_error(y: &[f32], target: &[f32], dy: &mut [f32]) -> Result<f32, ShapeError> {
    if y.is_empty() {
        return Err(ShapeError::Zero { what: "y" });
    }
    check_len("target", y.len(), target.len())?;
    check_len("dy", y.len(), dy.len())?;
    Ok(dispatch(SquaredError { y, target, dy }))
}

struct SquaredError<'a> {
    y: &'a [f32],
    target: &'a [f32],
    dy: &'a mut [f32],
}

impl Kernel for SquaredError<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let count = self.y.len() as f32;
        for ((dy, y), target) in self.dy.iter_mut().zip(self.y).zip(self.target) {
            *dy = y - target;
        }
        let loss = sum_of_squares(s, self.dy) / count;
        for dy in self.dy {
            *dy = 2.0 * *dy / count;
        }
        loss
    }
}
