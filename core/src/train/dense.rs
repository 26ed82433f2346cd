//! The dense read-out y = x·W + b: forward and backward over rows.

use crate::error::{ShapeError, check_len};
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

/// The gradients: `gradients` accumulates dW and db, rows from the last to the
/// first; `dx` `[R, I]` is overwritten; `transposed` `[O, I]` is overwritten. `scratch` is room for
/// the products.
#[inline(always)]
pub(crate) fn backward_rows<S: Gemm>(
    s: S,
    shape: DenseShape,
    rows: usize,
    params: &[f32],
    x: &[f32],
    dy: &[f32],
    gradients: &mut [f32],
    dx: &mut [f32],
    transposed: &mut [f32],
    scratch: &mut [f32],
) {
    let DenseShape { inputs, outputs } = shape;
    let (kernel, _) = params.cut(shape.kernel_len());
    let (dkernel, dbias) = gradients.cut(shape.kernel_len());
    let dy = MatRef::new(dy, rows, outputs);
    let mut accumulate = |a: MatRef, c| {
        s.gemm(GemmArgs {
            a: a.reversed_rows().transposed(),
            b: dy.reversed_rows(),
            init: Init::Accumulate,
            c: MatMut::new(c, a.col_count(), outputs),
            scratch: &mut *scratch,
        });
    };
    accumulate(MatRef::new(x, rows, inputs), dkernel);
    accumulate(MatRef::ones(rows, 1), dbias);

    s.transpose(&mut *transposed, MatRef::new(kernel, inputs, outputs));
    s.gemm(GemmArgs {
        a: dy,
        b: MatRef::new(transposed, outputs, inputs),
        init: Init::Zero,
        c: MatMut::new(dx, rows, inputs),
        scratch,
    });
}

/// `y` `[R, O]` = `x` `[R, I]`·W + b, overwritten, with W `[I, O]` and b `[O]` in `params`.
///
/// ```
/// use fused_lstm::{DenseShape, dense};
///
/// let shape = DenseShape { inputs: 2, outputs: 1 };
/// let mut y = [0.0; 2];
/// dense::forward(shape, 2, &[1.0, 2.0, 0.5], &[1.0, 1.0, 3.0, 0.0], &mut y)?;
/// assert_eq!(y, [3.5, 3.5]);
/// # Ok::<(), fused_lstm::ShapeError>(())
/// ```
pub fn forward(
    shape: DenseShape,
    rows: usize,
    params: &[f32],
    x: &[f32],
    y: &mut [f32],
) -> Result<(), ShapeError> {
    shape.check()?;
    check_len("params", shape.params_len(), params.len())?;
    check_len("x", rows.saturating_mul(shape.inputs), x.len())?;
    check_len("y", rows.saturating_mul(shape.outputs), y.len())?;
    dispatch!(s => forward_rows(s, shape, rows, params, x, y, &mut []));
    Ok(())
}

/// The gradients of [`forward`], from `dy` `[R, O]`.
///
/// `gradients` (as `params`) is accumulated to, `dx` `[R, I]` is overwritten, and
/// `workspace` of [`DenseShape::kernel_len`] numbers holds nothing of use after.
///
/// ```
/// use fused_lstm::{DenseShape, dense};
///
/// let shape = DenseShape { inputs: 2, outputs: 1 };
/// let (mut gradients, mut dx, mut workspace) = ([0.0; 3], [0.0; 2], [0.0; 2]);
/// let (params, x, dy) = ([1.0, 2.0, 0.5], [3.0, 4.0], [10.0]);
/// dense::backward(shape, 1, &params, &x, &dy, &mut gradients, &mut dx, &mut workspace)?;
/// assert_eq!(gradients, [30.0, 40.0, 10.0]);
/// assert_eq!(dx, [10.0, 20.0]);
/// # Ok::<(), fused_lstm::ShapeError>(())
/// ```
pub fn backward(
    shape: DenseShape,
    rows: usize,
    params: &[f32],
    x: &[f32],
    dy: &[f32],
    gradients: &mut [f32],
    dx: &mut [f32],
    workspace: &mut [f32],
) -> Result<(), ShapeError> {
    shape.check()?;
    check_len("params", shape.params_len(), params.len())?;
    check_len("x", rows.saturating_mul(shape.inputs), x.len())?;
    check_len("dy", rows.saturating_mul(shape.outputs), dy.len())?;
    check_len("gradients", shape.params_len(), gradients.len())?;
    check_len("dx", rows.saturating_mul(shape.inputs), dx.len())?;
    check_len("workspace", shape.kernel_len(), workspace.len())?;
    dispatch!(s => backward_rows(s, shape, rows, params, x, dy, gradients, dx, workspace, &mut []));
    Ok(())
}
