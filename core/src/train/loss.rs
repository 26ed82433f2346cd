//! The losses, each with its gradient: softmax cross-entropy with sparse labels, also with weights of
//! the classes and smoothed labels, mean squared error, and Huber's.
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
    fn gradient(
        self,
        width: usize,
        outputs: &mut [f32],
        doutputs: &mut [f32],
    ) -> Result<f32, ArgumentError>;
}

/// A loss of the caller's, which finds zeros in the gradient.
pub(crate) struct Given<F>(pub F);

impl<F: FnOnce(&mut [f32], &mut [f32]) -> Result<f32, ArgumentError>> Loss for Given<F> {
    fn gradient(
        self,
        _width: usize,
        outputs: &mut [f32],
        doutputs: &mut [f32],
    ) -> Result<f32, ArgumentError> {
        doutputs.fill(0.0);
        (self.0)(outputs, doutputs)
    }
}

/// Softmax cross-entropy with these labels, which have been checked. The outputs, logits,
/// become their softmax.
pub(crate) struct CrossEntropy<'a>(pub &'a [u32]);

impl Loss for CrossEntropy<'_> {
    fn gradient(
        self,
        classes: usize,
        logits: &mut [f32],
        dlogits: &mut [f32],
    ) -> Result<f32, ArgumentError> {
        Ok(cross_entropy_rows(classes, logits, self.0, dlogits))
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
    check_rows(classes, logits, labels, dlogits)?;
    Ok(cross_entropy_rows(classes, logits, labels, dlogits))
}

/// Refuses rows of no class, no rows, other lengths than these ask for, and wrong labels.
fn check_rows(
    classes: usize,
    logits: &[f32],
    labels: &[u32],
    dlogits: &[f32],
) -> Result<(), ArgumentError> {
    if classes == 0 {
        return Err(ArgumentError::Zero { what: "classes" });
    }
    if labels.is_empty() {
        return Err(ArgumentError::Zero { what: "labels" });
    }
    check_len("logits", labels.len().saturating_mul(classes), logits.len())?;
    check_len("dlogits", logits.len(), dlogits.len())?;
    check_labels(classes, labels)
}

/// How [`weighted_softmax_cross_entropy`] weighs classes and labels. More may come: a value is best
/// made with `..Weighting::NONE`.
///
/// ```
/// use fused_lstm::loss::Weighting;
///
/// let smoothed = Weighting { smoothing: 0.1, ..Weighting::NONE };
/// assert_eq!(smoothed.class_weights, None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighting<'a> {
    /// The weight of each class, `[C]`, 0 or more; without, all have 1.
    pub class_weights: Option<&'a [f32]>,
    /// ε: the share of the target, from 0 to 1, that all classes have in equal parts, so that the
    /// label has 1 − ε + ε / C (Szegedy et al. 2016).
    pub smoothing: f32,
}

impl Weighting<'_> {
    /// That of [`softmax_cross_entropy`].
    pub const NONE: Self = Self {
        class_weights: None,
        smoothing: 0.0,
    };

    /// Refuses what is not described.
    fn check(&self, classes: usize) -> Result<(), ArgumentError> {
        if !(0.0..=1.0).contains(&self.smoothing) {
            return Err(ArgumentError::Range {
                what: "smoothing",
                range: "a number from 0 to 1",
            });
        }
        let Some(weights) = self.class_weights else {
            return Ok(());
        };
        check_len("class_weights", classes, weights.len())?;
        if weights.iter().all(|&w| w >= 0.0 && w.is_finite()) {
            return Ok(());
        }
        Err(ArgumentError::Range {
            what: "class_weights",
            range: "finite numbers of at least 0",
        })
    }

    /// The weight of a class.
    #[inline(always)]
    fn of(&self, class: usize) -> f32 {
        match self.class_weights {
            Some(weights) => weights.get(class).copied().unwrap_or(0.0),
            None => 1.0,
        }
    }

    /// The share of a class in the target of a row with this label.
    #[inline(always)]
    fn target(&self, label: usize, class: usize, classes: f32) -> f32 {
        let hit = if class == label {
            1.0 - self.smoothing
        } else {
            0.0
        };
        self.of(class) * (hit + self.smoothing / classes)
    }
}

/// [`softmax_cross_entropy`] with weights of the classes and smoothed labels: PyTorch's
/// `cross_entropy` with `weight`, `label_smoothing`, and [`IGNORE`] as `ignore_index`.
///
/// With the weights w and the smoothing ε of a [`Weighting`], the target of a row with the label l
/// is q of each class c, w(c)·((1 − ε)·\[c = l\] + ε / C), and the loss
///
/// ```text
/// Σ over rows, Σ over c: −q(c)·ln softmax(z)(c), divided by Σ over rows: w(l)
/// ```
///
/// `logits` `[R, C]` is overwritten with the softmax, `dlogits` `[R, C]` with the gradient of the
/// loss, (softmax·Σ q − q) / Σ w(l). Rows with the label [`IGNORE`] do not count: their gradient is
/// zero, their softmax is written. If the labels of the others have no weight, or there are no
/// others, the loss and the gradient are 0. With [`Weighting::NONE`] the bits are those of
/// [`softmax_cross_entropy`].
///
/// Refuses another number of weights than of classes, weights and a smoothing that are not as
/// described, and a label that is neither a class nor [`IGNORE`].
///
/// ```
/// use fused_lstm::loss::{Weighting, weighted_softmax_cross_entropy};
///
/// // The second class is rare, and counts three times.
/// let weighting = Weighting { class_weights: Some(&[1.0, 3.0]), ..Weighting::NONE };
/// let (mut logits, mut dlogits) = ([0.0; 4], [0.0; 4]);
/// let loss = weighted_softmax_cross_entropy(2, &mut logits, &[0, 1], weighting, &mut dlogits)?;
/// assert!((loss - core::f32::consts::LN_2).abs() < 1e-7);
/// assert_eq!(dlogits, [-0.125, 0.125, 0.375, -0.375]);
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
pub fn weighted_softmax_cross_entropy(
    classes: usize,
    logits: &mut [f32],
    labels: &[u32],
    weighting: Weighting<'_>,
    dlogits: &mut [f32],
) -> Result<f32, ArgumentError> {
    if weighting == Weighting::NONE {
        return softmax_cross_entropy(classes, logits, labels, dlogits);
    }
    check_rows(classes, logits, labels, dlogits)?;
    weighting.check(classes)?;
    Ok(weighted_rows(classes, logits, labels, weighting, dlogits))
}

fn weighted_rows(
    classes: usize,
    logits: &mut [f32],
    labels: &[u32],
    weighting: Weighting,
    dlogits: &mut [f32],
) -> f32 {
    let every = classes as f32;
    // A row's loss is Σ q·ln Σ exp(z − max z) − Σ q·(z − max z). The last part is kept in the row's
    // first gradient until the exponentials are there.
    let mut weight = Blocks::default();
    let mut block = 0.0;
    let rows = exact_chunks(&mut *logits, classes).zip(exact_chunks(&mut *dlogits, classes));
    for (row, ((z, dz), &label)) in rows.zip(labels).enumerate() {
        if row % BLOCK_ROWS == 0 {
            weight.add(block);
            block = 0.0;
        }
        subtract_max(z);
        if label == IGNORE {
            continue;
        }
        block += weighting.of(label as usize);
        let mut sum = 0.0;
        for (class, &z) in z.iter().enumerate() {
            let q = weighting.target(label as usize, class, every);
            // A class without a share may be impossible.
            if q != 0.0 {
                sum += q * z;
            }
        }
        if let Some(dz) = dz.first_mut() {
            *dz = sum;
        }
    }
    weight.add(block);
    let weight = weight.total();
    exp_in_place(logits);
    let mut total = Blocks::default();
    let mut loss = 0.0;
    let rows = exact_chunks(&mut *logits, classes).zip(exact_chunks(&mut *dlogits, classes));
    for (row, ((p, dz), &label)) in rows.zip(labels).enumerate() {
        if row % BLOCK_ROWS == 0 {
            total.add(loss);
            loss = 0.0;
        }
        let rest = sum_without_max(p);
        for p in &mut *p {
            *p /= 1.0 + rest;
        }
        if label == IGNORE || weight == 0.0 {
            dz.fill(0.0);
            continue;
        }
        let mut all = 0.0;
        for class in 0..classes {
            all += weighting.target(label as usize, class, every);
        }
        loss += all * libm::log1pf(rest) - dz.first().copied().unwrap_or(0.0);
        for (class, (&mut p, dz)) in p.iter_mut().zip(dz).enumerate() {
            let q = weighting.target(label as usize, class, every);
            *dz = (p * all - q) / weight;
        }
    }
    total.add(loss);
    if weight == 0.0 {
        return 0.0;
    }
    total.total() / weight
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
    fn gradient(self, width: usize, y: &mut [f32], dy: &mut [f32]) -> Result<f32, ArgumentError> {
        Ok(self.rows(width, y, dy))
    }
}

/// Huber's loss (1964), the mean over all numbers of e²/2 where |e| ≤ `delta` and `delta`·(|e| − `delta`/2)
/// elsewhere, with e = y − target: PyTorch's `HuberLoss`. `dy` is overwritten with its gradient, e
/// clipped to ±`delta`, / N.
///
/// A `delta` that is not above 0 is refused. An infinite one gives half of
/// [`mean_squared_error`].
///
/// ```
/// let mut dy = [0.0; 2];
/// let loss = fused_lstm::loss::huber(&[1.5, 5.0], &[1.0, 3.0], 1.0, &mut dy)?;
/// assert_eq!(loss, (0.125 + 1.5) / 2.0);
/// assert_eq!(dy, [0.25, 0.5]);
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
pub fn huber(y: &[f32], target: &[f32], delta: f32, dy: &mut [f32]) -> Result<f32, ArgumentError> {
    huber_of(1, y, target, None, delta, dy)
}

/// [`huber`] over the rows of `y` `[R, O]` that `mask` `[R]` says count.
///
/// The mean is over the numbers of these rows, and N is how many they are. `dy` `[R, O]` is
/// overwritten: with zeros in the other rows, whatever `y` and `target` hold there. If no row
/// counts, the loss is 0. The bits are those of [`huber`] if all do.
///
/// ```
/// use fused_lstm::loss::masked_huber;
///
/// let (y, target) = ([1.5, 5.0, 7.0, 7.0], [1.0, 3.0, f32::NAN, f32::NAN]);
/// let mut dy = [0.5; 4];
/// let loss = masked_huber(2, &y, &target, &[true, false], 1.0, &mut dy)?;
/// assert_eq!((loss, dy), (0.8125, [0.25, 0.5, 0.0, 0.0]));
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
pub fn masked_huber(
    outputs: usize,
    y: &[f32],
    target: &[f32],
    mask: &[bool],
    delta: f32,
    dy: &mut [f32],
) -> Result<f32, ArgumentError> {
    if outputs == 0 {
        return Err(ArgumentError::Zero { what: "outputs" });
    }
    check_len("y", mask.len().saturating_mul(outputs), y.len())?;
    huber_of(outputs, y, target, Some(mask), delta, dy)
}

/// e, clipped to ±delta. NaN stays.
#[inline(always)]
fn clipped(e: f32, delta: f32) -> f32 {
    if e > delta {
        delta
    } else if e < -delta {
        -delta
    } else {
        e
    }
}

fn huber_of(
    width: usize,
    y: &[f32],
    target: &[f32],
    mask: Option<&[bool]>,
    delta: f32,
    dy: &mut [f32],
) -> Result<f32, ArgumentError> {
    if y.is_empty() {
        return Err(ArgumentError::Zero { what: "y" });
    }
    check_len("target", y.len(), target.len())?;
    check_len("dy", y.len(), dy.len())?;
    if delta.is_nan() || delta <= 0.0 {
        return Err(ArgumentError::NotPositive { what: "delta" });
    }
    for ((dy, y), target) in dy.iter_mut().zip(y).zip(target) {
        *dy = y - target;
    }
    let mut counted = y.len();
    for (dy, _) in exact_chunks(&mut *dy, width)
        .zip(mask.unwrap_or(&[]))
        .filter(|&(_, &counts)| !counts)
    {
        dy.fill(0.0);
        counted -= width;
    }
    if counted == 0 {
        return Ok(0.0);
    }
    let count = counted as f32;
    let mut total = Blocks::default();
    for block in dy.chunks(BLOCK_ROWS * CHAINS) {
        // In as many chains as the squares of a squared error.
        let mut chains = [0.0f32; CHAINS];
        for group in block.chunks(CHAINS) {
            for (chain, &e) in chains.iter_mut().zip(group) {
                // Both branches of the loss in one: g is e, or ±delta.
                let g = clipped(e, delta);
                *chain += g * (e - 0.5 * g);
            }
        }
        total.add(chains.into_iter().fold(0.0, |sum, chain| sum + chain));
    }
    for dy in dy {
        *dy = clipped(*dy, delta) / count;
    }
    Ok(total.total() / count)
}
