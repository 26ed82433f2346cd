//! The dense read-out y = x·W + b: forward and backward over rows.

use crate::error::{ArgumentError, check_len, check_lens};
use crate::gemm::{Gemm, GemmArgs, Init, MatMut, MatRef, gemm_inline};
use crate::layout::{Cut, DenseShape};
use crate::simd::dispatch;

/// The operands of x·W + b.
#[inline(always)]
fn forward_args<'a>(
    shape: DenseShape,
    rows: usize,
    params: &'a [f32],
    x: &'a [f32],
    y: &'a mut [f32],
    scratch: &'a mut [f32],
) -> GemmArgs<'a> {
    let DenseShape { inputs, outputs } = shape;
    let (kernel, bias) = params.cut(shape.kernel_len());
    GemmArgs {
        a: MatRef::new(x, rows, inputs),
        b: MatRef::new(kernel, inputs, outputs),
        init: Init::Bias(bias),
        c: MatMut::new(y, rows, outputs),
        scratch,
    }
}

/// `y` `[R, O]` = `x` `[R, I]`·W + b, overwritten; `params` is W `[I, O]`, b `[O]`. `scratch` is room
/// for the product.
#[inline(always)]
pub(crate) fn forward_rows<S: Gemm>(
    s: S,
    shape: DenseShape,
    rows: usize,
    params: &[f32],
    x: &[f32],
    y: &mut [f32],
    scratch: &mut [f32],
) {
    s.gemm(forward_args(shape, rows, params, x, y, scratch));
}

/// [`forward_rows`] for one row of few numbers, as a part of the caller.
#[inline(always)]
pub(crate) fn step_row<S: Gemm>(s: S, shape: DenseShape, params: &[f32], x: &[f32], y: &mut [f32]) {
    gemm_inline(s, forward_args(shape, 1, params, x, y, &mut []));
}

/// The buffers of [`backward`].
#[derive(Debug)]
pub struct Backward<'a> {
    /// W `[I, O]` and b `[O]`.
    pub params: &'a [f32],
    /// The inputs `[R, I]`.
    pub x: &'a [f32],
    /// The gradient of the outputs `[R, O]`.
    pub dy: &'a [f32],
    /// dW and db, accumulated to.
    pub gradients: &'a mut [f32],
    /// The gradient of the inputs `[R, I]`, overwritten.
    pub dx: &'a mut [f32],
    /// Room for W transposed: [`DenseShape::kernel_len`].
    pub workspace: &'a mut [f32],
}

/// [`backward`], with `scratch` as room for the products. Rows are taken from the last to the first.
#[inline(always)]
pub(crate) fn backward_rows<S: Gemm>(
    s: S,
    shape: DenseShape,
    rows: usize,
    buffers: Backward,
    scratch: &mut [f32],
) {
    let DenseShape { inputs, outputs } = shape;
    let (kernel, _) = buffers.params.cut(shape.kernel_len());
    let (dkernel, dbias) = buffers.gradients.cut(shape.kernel_len());
    let dy = MatRef::new(buffers.dy, rows, outputs);
    let mut accumulate = |a: MatRef, c| {
        s.gemm(GemmArgs {
            a: a.reversed_rows().transposed(),
            b: dy.reversed_rows(),
            init: Init::Accumulate,
            c: MatMut::new(c, a.col_count(), outputs),
            scratch: &mut *scratch,
        });
    };
    accumulate(MatRef::new(buffers.x, rows, inputs), dkernel);
    accumulate(MatRef::ones(rows, 1), dbias);

    let transposed = buffers.workspace;
    s.transpose(&mut *transposed, MatRef::new(kernel, inputs, outputs));
    s.gemm(GemmArgs {
        a: dy,
        b: MatRef::new(transposed, outputs, inputs),
        init: Init::Zero,
        c: MatMut::new(buffers.dx, rows, inputs),
        scratch,
    });
}

/// `y` `[R, O]` = `x` `[R, I]`·W + b, overwritten, with W `[I, O]` and b `[O]` in `params`.
///
/// ```
/// use fused_lstm::{DenseShape, dense};
///
/// let shape = DenseShape::new(2, 1);
/// let mut y = [0.0; 2];
/// dense::forward(shape, 2, &[1.0, 2.0, 0.5], &[1.0, 1.0, 3.0, 0.0], &mut y)?;
/// assert_eq!(y, [3.5, 3.5]);
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
pub fn forward(
    shape: DenseShape,
    rows: usize,
    params: &[f32],
    x: &[f32],
    y: &mut [f32],
) -> Result<(), ArgumentError> {
    shape.check()?;
    check_len("params", shape.params_len(), params.len())?;
    check_len("x", rows.saturating_mul(shape.inputs), x.len())?;
    check_len("y", rows.saturating_mul(shape.outputs), y.len())?;
    dispatch!(s => forward_rows(s, shape, rows, params, x, y, &mut []));
    Ok(())
}

/// The gradients of [`forward`] over `rows` rows.
///
/// ```
/// use fused_lstm::{DenseShape, dense};
///
/// let (mut gradients, mut dx) = ([0.0; 3], [0.0; 2]);
/// dense::backward(DenseShape::new(2, 1), 1, dense::Backward {
///     params: &[1.0, 2.0, 0.5],
///     x: &[3.0, 4.0],
///     dy: &[10.0],
///     gradients: &mut gradients,
///     dx: &mut dx,
///     workspace: &mut [0.0; 2],
/// })?;
/// assert_eq!(gradients, [30.0, 40.0, 10.0]);
/// assert_eq!(dx, [10.0, 20.0]);
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
pub fn backward(
    shape: DenseShape,
    rows: usize,
    buffers: Backward<'_>,
) -> Result<(), ArgumentError> {
    shape.check()?;
    check_lens(&[
        ("params", shape.params_len(), buffers.params.len()),
        ("x", rows.saturating_mul(shape.inputs), buffers.x.len()),
        ("dy", rows.saturating_mul(shape.outputs), buffers.dy.len()),
        ("gradients", shape.params_len(), buffers.gradients.len()),
        ("dx", rows.saturating_mul(shape.inputs), buffers.dx.len()),
        ("workspace", shape.kernel_len(), buffers.workspace.len()),
    ])?;
    dispatch!(s => backward_rows(s, shape, rows, buffers, &mut []));
    Ok(())
}
