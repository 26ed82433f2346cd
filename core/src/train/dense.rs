//! The dense read-out y = x·W + b: forward and backward over rows.

use crate::error::{ShapeError, check_len};
use crate::gemm::transpose::transpose;
use crate::gemm::{Init, MatRef, Sizes, gemm, gemm_inline};
use crate::layout::{Cut, DenseShape};
use crate::simd::{Simd, dispatch};

/// `y` `[R, O]` = `x` `[R, I]`·W + b, overwritten; `params` is W `[I, O]`, b `[O]`.
#[inline(always)]
pub(crate) fn forward_rows<S: Simd>(
    s: S,
    shape: DenseShape,
    rows: usize,
    params: &[f32],
    x: &[f32],
    y: &mut [f32],
) {
    let DenseShape { inputs, outputs } = shape;
    let (kernel, bias) = params.cut(shape.kernel_len());
    let sizes = Sizes {
        m: rows,
        n: outputs,
        k: inputs,
    };
    let (x, kernel) = (MatRef::rows(x, inputs), MatRef::rows(kernel, outputs));
    gemm(s, sizes, x, kernel, Init::Bias(bias), y);
}

/// [`forward_rows`] for one row of few numbers, as a part of the caller.
#[inline(always)]
pub(crate) fn step_row<S: Simd>(s: S, shape: DenseShape, params: &[f32], x: &[f32], y: &mut [f32]) {
    let DenseShape { inputs, outputs } = shape;
    let (kernel, bias) = params.cut(shape.kernel_len());
    let sizes = Sizes {
        m: 1,
        n: outputs,
        k: inputs,
    };
    let (x, kernel) = (MatRef::rows(x, inputs), MatRef::rows(kernel, outputs));
    gemm_inline(s, sizes, x, kernel, Init::Bias(bias), y);
}

/// The gradients: `gradients` accumulates dW and db, rows from the last to the
/// first; `dx` `[R, I]` is overwritten; `transposed` `[O, I]` is overwritten.
#[inline(always)]
pub(crate) fn backward_rows<S: Simd>(
    s: S,
    shape: DenseShape,
    rows: usize,
    params: &[f32],
    x: &[f32],
    dy: &[f32],
    gradients: &mut [f32],
    dx: &mut [f32],
    transposed: &mut [f32],
) {
    let DenseShape { inputs, outputs } = shape;
    let (kernel, _) = params.cut(shape.kernel_len());
    let (dkernel, dbias) = gradients.cut(shape.kernel_len());
    let dy_backwards = MatRef::reversed_rows(dy, outputs);

    let sizes = Sizes {
        m: inputs,
        n: outputs,
        k: rows,
    };
    let columns = MatRef::reversed_rows(x, inputs).transposed();
    gemm(s, sizes, columns, dy_backwards, Init::Accumulate, dkernel);

    let sizes = Sizes {
        m: 1,
        n: outputs,
        k: rows,
    };
    gemm(
        s,
        sizes,
        MatRef::constant(&[1.0]),
        dy_backwards,
        Init::Accumulate,
        dbias,
    );

    transpose(s, transposed, kernel, outputs);
    let sizes = Sizes {
        m: rows,
        n: inputs,
        k: outputs,
    };
    let kernel = MatRef::rows(transposed, inputs);
    gemm(s, sizes, MatRef::rows(dy, outputs), kernel, Init::Zero, dx);
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
    dispatch!(s => forward_rows(s, shape, rows, params, x, y));
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
    dispatch!(s => backward_rows(s, shape, rows, params, x, dy, gradients, dx, workspace));
    Ok(())
}
