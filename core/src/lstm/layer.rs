//! One layer over a whole sequence: inference, forward, and backward through time.
//!
//! x·Wx of many rows of time is taken as one product, so that only h·Wh is left for
//! the steps; only inference through narrow layers takes both step by step, with
//! nothing stored between. Backward turns the cached gates into gradients step by
//! step, from the last to the first, and then takes the gradients of the parameters
//! and of the input as products over all rows.
//!
//! Parameter gradients are added row by row from the last time step to the
//! first (in a step from the last batch row to the first), so that a sequence
//! that is cut into calls, the last one done first, gives the same bits.

use super::cell::{Activate, StepBackward};
use super::step::{Before, narrow_step, step, step_from_sums};
use super::weights::{FEW_ROWS, Order, Panels, Recurrent, input_sums, pack_kernels};
use crate::gemm::pack::{gemm_packed, pack};
use crate::gemm::transpose::transpose;
use crate::gemm::{Init, MatRef, Sizes, gemm};
use crate::layout::split::{copy, div_or_zero, exact_chunks, exact_chunks_rev};
use crate::layout::{CacheView, Cut, Extent, LayerShape, Params, StateView};
use crate::simd::{Simd, narrowest};

/// The layer without a cache: `x` `[T, B, I]`, `y` `[T, B, H]` is overwritten with
/// the hidden states, `state` is advanced.
///
/// If the layer is wide, there is room for the sums of as many steps as fit, and its panels;
/// a layer of fixed sizes has its own room for the sums.
#[inline(always)]
pub(crate) fn infer<S: Simd, const FIXED: bool>(
    s: S,
    shape: LayerShape,
    extent: Extent,
    params: Params<&[f32]>,
    x: &[f32],
    state: StateView<&mut [f32]>,
    y: &mut [f32],
    (sums, panels): (&mut [f32], Panels),
) {
    if shape.inputs == 0 || shape.hidden == 0 || extent.batch == 0 {
        return;
    }
    let layer = Infer {
        shape,
        extent,
        params,
        x,
        state,
        y,
        sums,
        panels,
    };
    if const { S::SMALL } {
        s.vectorize(
            #[inline(always)]
            move || layer.infer_fused(s),
        );
    } else if !shape.is_wide() || (FIXED && !S::BLOCKED) {
        layer.infer_fused(s);
    } else if FIXED {
        s.vectorize(
            #[inline(always)]
            move || layer.infer_gemm_on_stack(s),
        );
    } else {
        s.vectorize(
            #[inline(always)]
            move || layer.infer_gemm(s),
        );
    }
}

/// Numbers that the sums of a wide layer of fixed sizes may take on the stack.
const FIXED_ROOM: usize = 1 << 14;

/// The arguments of [`infer`].
struct Infer<'a> {
    shape: LayerShape,
    extent: Extent,
    params: Params<&'a [f32]>,
    x: &'a [f32],
    state: StateView<&'a mut [f32]>,
    y: &'a mut [f32],
    sums: &'a mut [f32],
    panels: Panels<'a>,
}

impl Infer<'_> {
    #[inline(always)]
    fn infer_gemm_on_stack<S: Simd>(self, s: S) {
        let Infer { shape, extent, .. } = self;
        // Filling all of it would take longer than a step of one row.
        let needed = extent.rows().saturating_mul(shape.sums_row());
        if needed <= FIXED_ROOM / 16 {
            let sums = &mut [0.0; FIXED_ROOM / 16];
            Infer { sums, ..self }.infer_gemm(s);
        } else {
            let sums = &mut [0.0; FIXED_ROOM];
            Infer { sums, ..self }.infer_gemm(s);
        }
    }

    /// Step by step, with nothing stored between.
    #[inline(always)]
    fn infer_fused<S: Simd>(self, s: S) {
        let Self {
            shape,
            extent,
            params,
            x,
            state,
            y,
            ..
        } = self;
        let (inputs, units) = (extent.batch * shape.inputs, extent.batch * shape.hidden);
        let mut h_before: &[f32] = state.h;
        for (x, h) in exact_chunks(x, inputs).zip(exact_chunks(&mut *y, units)) {
            let how = (Order::Rows, false);
            step(s, shape, extent.batch, how, params, x, h_before, state.c, h);
            h_before = h;
        }
        copy(state.h, last(y, units));
    }

    /// With the sums in memory: of as many steps as there is room for, or of a few
    /// units at a time if there is not even room for a step.
    #[inline(always)]
    fn infer_gemm<S: Simd>(self, s: S) {
        let Self {
            shape,
            extent,
            params,
            x,
            state,
            y,
            sums,
            panels,
        } = self;
        let (inputs, units) = (extent.batch * shape.inputs, extent.batch * shape.hidden);
        let (kernel, input_panels) = pack_kernels(s, shape, extent, params, panels);
        let width = shape.sums_row();
        let steps = div_or_zero(sums.len(), extent.batch * width);
        // Sizes are not zero; the compiler is told.
        let chunk = |row: usize| (steps.max(1) * row).max(1);
        let mut h_before: &[f32] = state.h;
        let blocks = x.chunks(chunk(inputs)).zip(y.chunks_mut(chunk(units)));
        for (x, y) in blocks {
            if steps > 0 {
                let rows = div_or_zero(x.len(), shape.inputs);
                let (sums, _) = (&mut *sums).cut(rows * width);
                let to = (&mut *sums, width);
                input_sums(s, shape, rows, params, input_panels, x, to);
                let steps =
                    exact_chunks(&mut *sums, extent.batch * width).zip(exact_chunks(y, units));
                for (t, (sums, h)) in steps.enumerate() {
                    if let Recurrent::Units(kernel) = kernel {
                        let how = (Order::Panels, t % 2 == 1);
                        let before = (Before::InPlace, h_before);
                        let (batch, c) = (extent.batch, &mut *state.c);
                        let sums = (sums, width);
                        let units = (shape.hidden, shape.hidden);
                        step_from_sums(s, units, batch, how, kernel, before, sums, c, h);
                        h_before = h;
                        continue;
                    }
                    let to = (&mut *sums, width);
                    kernel.add(s, shape, extent.batch, h_before, to, t % 2 == 1);
                    activate_rows(s, shape.hidden, (sums, width), None, state.c, h);
                    h_before = h;
                }
            } else {
                step_in_unit_blocks(s, shape, params, x, h_before, state.c, y, sums);
                h_before = y;
            }
        }
        copy(state.h, last(y, units));
    }
}

/// One step with room for the sums of some of its units only.
#[inline(always)]
fn step_in_unit_blocks<S: Simd>(
    s: S,
    shape: LayerShape,
    params: Params<&[f32]>,
    x: &[f32],
    h_before: &[f32],
    c: &mut [f32],
    h: &mut [f32],
    sums: &mut [f32],
) {
    /// Rows that are enough to pay for reading the kernel.
    const ROWS: usize = 64;
    /// Units that fill the vectors of every level.
    const UNITS: usize = 32;
    let LayerShape { inputs, hidden } = shape;
    let (input_kernel, recurrent_kernel) = params.split_kernel(shape);
    // Sizes are not zero; the compiler is told.
    let of = |row: usize| (ROWS * row).max(1);
    let rows = x
        .chunks(of(inputs))
        .zip(h_before.chunks(of(hidden)))
        .zip(c.chunks_mut(of(hidden)).zip(h.chunks_mut(of(hidden))));
    for ((x, h_before), (c, h)) in rows {
        let batch = div_or_zero(x.len(), inputs);
        let most = (div_or_zero(sums.len(), 4 * batch) / UNITS * UNITS).max(1);
        for unit in (0..hidden).step_by(most) {
            let units = most.min(hidden - unit);
            let (sums, _) = (&mut *sums).cut(4 * batch * units);
            if sums.len() < 4 * batch * units {
                debug_assert!(false, "no room for the sums");
                return;
            }
            for (gate, sums) in exact_chunks(&mut *sums, batch * units).enumerate() {
                let at = gate * hidden + unit;
                let size = |k| Sizes {
                    m: batch,
                    n: units,
                    k,
                };
                let kernel = |rows| MatRef::rows(rows, 4 * hidden).from_col(at);
                let bias = Init::Bias(params.bias.get(at..at + units).unwrap_or(&[]));
                let (x, h_before) = (MatRef::rows(x, inputs), MatRef::rows(h_before, hidden));
                gemm(s, size(inputs), x, kernel(input_kernel), bias, sums);
                let kernel = kernel(recurrent_kernel);
                gemm(s, size(hidden), h_before, kernel, Init::Accumulate, sums);
            }
            let [i, j, f, o] = by_gate(sums, batch * units);
            let sums = exact_chunks(i, units)
                .zip(exact_chunks(j, units))
                .zip(exact_chunks(f, units).zip(exact_chunks(o, units)));
            let states = exact_chunks(&mut *c, hidden).zip(exact_chunks(&mut *h, hidden));
            for (((i, j), (f, o)), (c, h)) in sums.zip(states) {
                let part = unit..unit + units;
                if let (Some(c), Some(h)) = (c.get_mut(part.clone()), h.get_mut(part)) {
                    let (gates, c_before) = ([i, j, f, o], None);
                    Activate {
                        gates,
                        c_before,
                        c,
                        h,
                    }
                    .run(s);
                }
            }
        }
    }
}

/// [`Activate`] for all rows of the batch; `c` is advanced in place without `c_before`.
#[inline(always)]
fn activate_rows<S: Simd>(
    s: S,
    hidden: usize,
    (sums, width): (&mut [f32], usize),
    c_before: Option<&[f32]>,
    c: &mut [f32],
    h: &mut [f32],
) {
    let states = exact_chunks(c, hidden).zip(exact_chunks(h, hidden));
    for (row, (gates, (c, h))) in exact_chunks(sums, width).zip(states).enumerate() {
        let (gates, _) = gates.cut(4 * hidden);
        let c_before = c_before.map(|c| c.get(row * hidden..(row + 1) * hidden).unwrap_or(&[]));
        Activate {
            gates: by_gate(gates, hidden),
            c_before,
            c,
            h,
        }
        .run(s);
    }
}

/// The last `n` numbers.
#[inline(always)]
fn last(values: &[f32], n: usize) -> &[f32] {
    exact_chunks_rev(values, n).next().unwrap_or(&[])
}

/// Four equal parts.
#[inline(always)]
fn by_gate(gates: &mut [f32], part: usize) -> [&mut [f32]; 4] {
    let (ij, fo) = gates.cut(2 * part);
    let ((i, j), (f, o)) = (ij.cut(part), fo.cut(part));
    [i, j, f, o]
}

/// The layer with a cache: `x` `[T, B, I]`; `cache` is overwritten, `state` is
/// advanced; `panels` is room of [`LayerShape::panels_len`], or none. The output
/// `[T, B, H]` is in the cache. `v` is for the steps of a narrow layer.
#[inline(always)]
pub(crate) fn forward<S: Simd, V: Simd>(
    (s, v): (S, V),
    shape: LayerShape,
    extent: Extent,
    params: Params<&[f32]>,
    x: &[f32],
    state: StateView<&mut [f32]>,
    cache: CacheView<&mut [f32]>,
    panels: &mut [f32],
) {
    let (hidden, batch) = (shape.hidden, extent.batch);
    let units = batch * hidden;
    if units == 0 {
        return;
    }
    let (_, rows) = params.split_kernel(shape);
    let (kernel, input_panels) = pack_kernels(s, shape, extent, params, Panels::PackBuffer(panels));
    input_sums(
        s,
        shape,
        extent.rows(),
        params,
        input_panels,
        x,
        (&mut *cache.gates, 4 * hidden),
    );
    let (mut c_before, c_after) = cache.c.cut(units);
    let (mut h_before, h_after) = cache.h.cut(units);
    copy(c_before, state.c);
    copy(h_before, state.h);
    let gates = exact_chunks(cache.gates, 4 * units);
    let after = exact_chunks(c_after, units).zip(exact_chunks(h_after, units));
    for (t, (gates, (c, h))) in gates.zip(after).enumerate() {
        let (order, rows) = match kernel {
            Recurrent::Units(panels) => (Order::Panels, panels),
            _ => (Order::Rows, rows),
        };
        if !S::SMALL && shape.is_wide() && order == Order::Rows {
            let before = (&*c_before, &*h_before);
            wide_step(
                s,
                shape,
                batch,
                kernel,
                t % 2 == 1,
                before,
                gates,
                &mut *c,
                &mut *h,
            );
        } else {
            let how = (order, order == Order::Panels && t % 2 == 1);
            let before = (Before::Kept(c_before), &*h_before);
            let gates = (gates, 4 * hidden);
            step_from_sums(v, (hidden, hidden), batch, how, rows, before, gates, c, h);
        }
        (c_before, h_before) = (c, h);
    }
    copy(state.c, c_before);
    copy(state.h, h_before);
}

/// One step of a wide layer with a cache; `gates` `[B, 4, H]` holds bias + x·Wx.
#[inline(always)]
fn wide_step<S: Simd>(
    s: S,
    shape: LayerShape,
    batch: usize,
    kernel: Recurrent,
    backwards: bool,
    (c_before, h_before): (&[f32], &[f32]),
    gates: &mut [f32],
    c: &mut [f32],
    h: &mut [f32],
) {
    let width = 4 * shape.hidden;
    s.vectorize(
        #[inline(always)]
        move || {
            let sums = (&mut *gates, width);
            kernel.add(s, shape, batch, h_before, sums, backwards);
            activate_rows(s, shape.hidden, (gates, width), Some(c_before), c, h);
        },
    );
}

/// The first half of the backward pass: the steps, from the last to the first.
///
/// `dy` `[T, B, H]` is the gradient of the output. `dstate` holds the gradient of
/// the final state and is overwritten with that of the initial one. The cache's
/// gates become the gradients of the sums before them. `transposed` [4, H, H] is
/// overwritten. `v` is for the steps of a narrow layer.
#[inline(always)]
pub(crate) fn backward_steps<S: Simd, V: Simd>(
    (s, v): (S, V),
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
    // As rows, or already in panels where that pays.
    let in_panels = S::BLOCKED && extent.batch > FEW_ROWS && shape.panels_len(extent) > 0;
    if in_panels {
        let columns = MatRef::rows(recurrent_kernel, 4 * hidden).transposed();
        pack(s, (4 * hidden, hidden), columns, transposed);
    } else {
        transpose(s, transposed, recurrent_kernel, 4 * hidden);
    }
    // The last step first. The first row of c is the initial state's.
    let c: &[f32] = cache.c;
    let (c_before, _) = c.cut(extent.rows() * hidden);
    let (_, c_after) = c.cut(units);
    let states = exact_chunks_rev(c_before, units).zip(exact_chunks_rev(c_after, units));
    let steps = exact_chunks_rev(cache.gates, 4 * units).zip(exact_chunks_rev(dy, units));
    for (t, ((gates, dy), (c_before, c))) in steps.zip(states).enumerate() {
        if !S::SMALL && (V::FILLED || hidden <= S::LANES) {
            let (given, d) = ((c_before, c, dy), (&mut *dstate.c, &mut *dstate.h));
            let batch = extent.batch;
            narrowest!(V, v, hidden, fit => {
                narrow_step(fit, hidden, batch, gates, given, d, transposed)
            });
            continue;
        }
        backward_rows(
            s,
            hidden,
            &mut *gates,
            (c_before, c, dy),
            dstate.h,
            dstate.c,
        );
        let sizes = Sizes {
            m: extent.batch,
            n: hidden,
            k: 4 * hidden,
        };
        let gates = MatRef::rows(gates, 4 * hidden);
        if in_panels {
            let backwards = t % 2 == 1;
            let dh = (&mut *dstate.h, hidden);
            gemm_packed(s, sizes, gates, transposed, Init::Zero, dh, backwards);
        } else {
            let kernel = MatRef::rows(transposed, hidden);
            gemm(s, sizes, gates, kernel, Init::Zero, dstate.h);
        }
    }
}

/// [`StepBackward`] for all rows of the batch.
#[inline(always)]
fn backward_rows<S: Simd>(
    s: S,
    hidden: usize,
    gates: &mut [f32],
    (c_before, c, dy): (&[f32], &[f32], &[f32]),
    dh: &[f32],
    dc: &mut [f32],
) {
    s.vectorize(
        #[inline(always)]
        move || {
            let c_rows = exact_chunks(c_before, hidden).zip(exact_chunks(c, hidden));
            let d_rows = exact_chunks(dc, hidden).zip(exact_chunks(dh, hidden));
            let rows = exact_chunks(gates, 4 * hidden).zip(exact_chunks(dy, hidden));
            for (((gates, dy), (c_before, c)), (dc, dh)) in rows.zip(c_rows).zip(d_rows) {
                StepBackward {
                    gates: by_gate(gates, hidden),
                    c_before,
                    c,
                    dy,
                    dh,
                    dc,
                }
                .run(s);
            }
        },
    );
}

/// The second half: the gradients of the parameters and of the input.
///
/// The cache's gates hold the gradients that [`backward_steps`] left. `gradients`
/// is accumulated to. `dx` `[T, B, I]`, if wanted, is overwritten; then
/// `transposed` [4, H, I] is too.
#[inline(always)]
pub(crate) fn backward_products<S: Simd, V: Simd>(
    (s, _): (S, V),
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
    let dgates = MatRef::reversed_rows(cache.gates, 4 * hidden);
    let Params { kernel, bias } = gradients;
    let (dinput, drecurrent) = kernel.cut(inputs * 4 * hidden);

    let sizes = Sizes {
        m: inputs,
        n: 4 * hidden,
        k: rows,
    };
    let columns = MatRef::reversed_rows(x, inputs).transposed();
    gemm(s, sizes, columns, dgates, Init::Accumulate, dinput);

    let sizes = Sizes {
        m: hidden,
        n: 4 * hidden,
        k: rows,
    };
    let columns = MatRef::reversed_rows(h_before, hidden).transposed();
    gemm(s, sizes, columns, dgates, Init::Accumulate, drecurrent);

    let sizes = Sizes {
        m: 1,
        n: 4 * hidden,
        k: rows,
    };
    gemm(
        s,
        sizes,
        MatRef::constant(&[1.0]),
        dgates,
        Init::Accumulate,
        bias,
    );

    if let Some((dx, transposed)) = dx {
        let (input_kernel, _) = params.split_kernel(shape);
        let sizes = Sizes {
            m: rows,
            n: inputs,
            k: 4 * hidden,
        };
        let gates = MatRef::rows(cache.gates, 4 * hidden);
        if S::BLOCKED && shape.is_wide() {
            let columns = MatRef::rows(input_kernel, 4 * hidden).transposed();
            pack(s, (4 * hidden, inputs), columns, transposed);
            gemm_packed(s, sizes, gates, transposed, Init::Zero, (dx, inputs), false);
        } else {
            transpose(s, transposed, input_kernel, 4 * hidden);
            let kernel = MatRef::rows(transposed, inputs);
            gemm(s, sizes, gates, kernel, Init::Zero, dx);
        }
    }
}
