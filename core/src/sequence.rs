//! One layer over a whole sequence: inference, forward, and backward through time.
//!
//! Forward with a cache takes x·Wx of all T·B rows as one product, so that only
//! h·Wh is left for the steps. Backward turns the cached gates into gradients
//! step by step, from the last to the first, and then takes the gradients of the
//! parameters and of the input as products over all rows.
//!
//! Parameter gradients are added row by row from the last time step to the
//! first (in a step from the last batch row to the first), so that a sequence
//! that is cut into calls, the last one done first, gives the same bits.

use crate::cell::{StepBackward, step, step_forward};
use crate::layout::{CacheView, Cut, Extent, LayerShape, Params, StateView};
use crate::matmul::{Sizes, Start, Walk, matmul};
use crate::simd::Simd;

/// `to` = `from`, up to the shorter one.
#[inline(always)]
pub(crate) fn copy(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// `to` [columns, rows] = `from` [rows, columns] transposed.
#[inline(always)]
pub(crate) fn transpose(to: &mut [f32], from: &[f32], columns: usize) {
    if columns == 0 || to.len() != from.len() {
        return;
    }
    let rows = from.len() / columns;
    if rows == 0 {
        return;
    }
    for (column, to) in to.chunks_exact_mut(rows).enumerate() {
        for (to, from) in to.iter_mut().zip(from.iter().skip(column).step_by(columns)) {
            *to = *from;
        }
    }
}

/// The layer without a cache: `x` `[T, B, I]`, `y` `[T, B, H]` is overwritten with
/// the hidden states, `state` is advanced.
#[inline(always)]
pub(crate) fn infer<S: Simd>(
    s: S,
    shape: LayerShape,
    extent: Extent,
    params: Params<&[f32]>,
    x: &[f32],
    state: StateView<&mut [f32]>,
    y: &mut [f32],
) {
    let inputs = extent.batch * shape.inputs;
    let units = extent.batch * shape.hidden;
    if inputs == 0 || units == 0 {
        return;
    }
    let mut h_before: &[f32] = state.h;
    for (x, h) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(units)) {
        step(s, shape, extent.batch, params, x, h_before, state.c, h);
        h_before = h;
    }
    let (last, _) = y.cut(extent.steps * units);
    if let Some(last) = last.rchunks_exact(units).next() {
        copy(state.h, last);
    }
}

/// The layer with a cache: `x` `[T, B, I]`; `cache` is overwritten, `state` is
/// advanced. The output `[T, B, H]` is in the cache.
#[inline(always)]
pub(crate) fn forward<S: Simd>(
    s: S,
    shape: LayerShape,
    extent: Extent,
    params: Params<&[f32]>,
    x: &[f32],
    state: StateView<&mut [f32]>,
    cache: CacheView<&mut [f32]>,
) {
    let LayerShape { inputs, hidden } = shape;
    let units = extent.batch * hidden;
    if units == 0 {
        return;
    }
    let (input_kernel, recurrent_kernel) = params.split_kernel(shape);
    let sizes = Sizes {
        m: extent.rows(),
        n: 4 * hidden,
        k: inputs,
    };
    let (rows, kernel) = (Walk::rows(x, inputs), Walk::rows(input_kernel, 4 * hidden));
    matmul(s, sizes, rows, kernel, Start::Row(params.bias), cache.gates);

    let (mut c_before, c_after) = cache.c.cut(units);
    let (mut h_before, h_after) = cache.h.cut(units);
    copy(c_before, state.c);
    copy(h_before, state.h);
    let gates = cache.gates.chunks_exact_mut(4 * units);
    let after = c_after
        .chunks_exact_mut(units)
        .zip(h_after.chunks_exact_mut(units));
    for (gates, (c, h)) in gates.zip(after) {
        let before = (&*c_before, &*h_before);
        step_forward(
            s,
            shape,
            extent.batch,
            recurrent_kernel,
            before,
            gates,
            c,
            h,
        );
        (c_before, h_before) = (c, h);
    }
    copy(state.c, c_before);
    copy(state.h, h_before);
}

/// The first half of the backward pass: the steps, from the last to the first.
///
/// `dy` `[T, B, H]` is the gradient of the output. `dstate` holds the gradient of
/// the final state and is overwritten with that of the initial one. The cache's
/// gates become the gradients of the sums before them. `transposed` [4, H, H] is
/// overwritten.
#[inline(always)]
pub(crate) fn backward_steps<S: Simd>(
    s: S,
    shape: LayerShape,
    extent: Extent,
    params: Params<&[f32]>,
    cache: CacheView<&mut [f32]>,
    dy: &[f32],
    dstate: StateView<&mut [f32]>,
    transposed: &mut [f32],
) {
    let hidden = shape.hidden;
    let units = extent.batch * hidden;
    if units == 0 {
        return;
    }
    let (_, recurrent_kernel) = params.split_kernel(shape);
    transpose(transposed, recurrent_kernel, 4 * hidden);
    // The last step first. The first row of c is the initial state's.
    let c: &[f32] = cache.c;
    let (c_before, _) = c.cut(extent.rows() * hidden);
    let (_, c_after) = c.cut(units);
    let states = c_before
        .rchunks_exact(units)
        .zip(c_after.rchunks_exact(units));
    let steps = cache
        .gates
        .rchunks_exact_mut(4 * units)
        .zip(dy.rchunks_exact(units));
    for ((gates, dy), (c_before, c)) in steps.zip(states) {
        let c_rows = c_before.chunks_exact(hidden).zip(c.chunks_exact(hidden));
        let dc_rows = dstate
            .c
            .chunks_exact_mut(hidden)
            .zip(dstate.h.chunks_exact(hidden));
        let rows = gates
            .chunks_exact_mut(4 * hidden)
            .zip(dy.chunks_exact(hidden));
        for (((gates, dy), (c_before, c)), (dc, dh)) in rows.zip(c_rows).zip(dc_rows) {
            let (ij, fo) = gates.cut(2 * hidden);
            let ((i, j), (f, o)) = (ij.cut(hidden), fo.cut(hidden));
            StepBackward {
                gates: [i, j, f, o],
                c_before,
                c,
                dy,
                dh,
                dc,
            }
            .run(s);
        }
        let sizes = Sizes {
            m: extent.batch,
            n: hidden,
            k: 4 * hidden,
        };
        let kernel = Walk::rows(transposed, hidden);
        matmul(
            s,
            sizes,
            Walk::rows(gates, 4 * hidden),
            kernel,
            Start::Zero,
            dstate.h,
        );
    }
}

/// The second half: the gradients of the parameters and of the input.
///
/// The cache's gates hold the gradients that [`backward_steps`] left. `gradients`
/// is accumulated to. `dx` `[T, B, I]`, if wanted, is overwritten; then
/// `transposed` [4, H, I] is too.
#[inline(always)]
pub(crate) fn backward_products<S: Simd>(
    s: S,
    shape: LayerShape,
    extent: Extent,
    params: Params<&[f32]>,
    x: &[f32],
    cache: CacheView<&[f32]>,
    gradients: Params<&mut [f32]>,
    dx: Option<(&mut [f32], &mut [f32])>,
) {
    let LayerShape { inputs, hidden } = shape;
    let rows = extent.rows();
    let (h_before, _) = cache.h.cut(rows * hidden);
    let dgates = Walk::rows_backwards(cache.gates, 4 * hidden);
    let Params { kernel, bias } = gradients;
    let (dinput, drecurrent) = kernel.cut(inputs * 4 * hidden);

    let sizes = Sizes {
        m: inputs,
        n: 4 * hidden,
        k: rows,
    };
    let columns = Walk::rows_backwards(x, inputs).transposed();
    matmul(s, sizes, columns, dgates, Start::Output, dinput);

    let sizes = Sizes {
        m: hidden,
        n: 4 * hidden,
        k: rows,
    };
    let columns = Walk::rows_backwards(h_before, hidden).transposed();
    matmul(s, sizes, columns, dgates, Start::Output, drecurrent);

    let sizes = Sizes {
        m: 1,
        n: 4 * hidden,
        k: rows,
    };
    matmul(
        s,
        sizes,
        Walk::constant(&[1.0]),
        dgates,
        Start::Output,
        bias,
    );

    if let Some((dx, transposed)) = dx {
        let (input_kernel, _) = params.split_kernel(shape);
        transpose(transposed, input_kernel, 4 * hidden);
        let sizes = Sizes {
            m: rows,
            n: inputs,
            k: 4 * hidden,
        };
        let (gates, kernel) = (
            Walk::rows(cache.gates, 4 * hidden),
            Walk::rows(transposed, inputs),
        );
        matmul(s, sizes, gates, kernel, Start::Zero, dx);
    }
}
