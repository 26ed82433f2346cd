//! One layer over a whole sequence: inference, forward, and backward through time.
//!
//! x·Wx of many rows of time is taken as one product, so that only h·Wh is left for the steps; only
//! inference through narrow layers takes both step by step, with nothing stored between. Backward
//! turns the cached gates into gradients step by step, from the last to the first, and then takes the
//! gradients of the parameters and of the input as products over all rows.
//!
//! Parameter gradients are added row by row from the last time step to the first (in a step from the
//! last batch row to the first), so that a sequence that is cut into calls, the last one done first,
//! gives the same bits.

use super::cell::{BackwardRow, ForwardRow};
use super::step::{self, Steps, StepsBackward};
use super::tile::{BackwardArgs, FromBias, FromPreact, Step, StepBackward};
use super::weights::{FEW_ROWS, Kernels, Panels, Weights};
use crate::gemm::{GemmArgs, Init, MatMut, MatRef};
use crate::layout::split::{copy_prefix, div_or_zero, exact_chunks, exact_chunks_rev, take};
use crate::layout::{CacheView, Cut, Extent, LayerShape, Params, StateView};
use crate::simd::{Simd, per_level};

per_level! {
    /// The passes through a layer of any size.
    trait Passes: StepsBackward {
        fn infer(args: Infer<'_>) = infer;
        fn forward(args: Forward<'_>) = forward;
        fn backward_steps(args: BackwardSteps<'_>) = backward_steps;
        fn backward_products(args: BackwardProducts<'_>) = backward_products;
    }
}

/// The arguments of inference through a layer, without a cache.
pub struct Infer<'a> {
    pub(crate) shape: LayerShape,
    pub(crate) extent: Extent,
    pub(crate) params: Params<&'a [f32]>,
    /// `[T, B, I]`
    pub(crate) x: &'a [f32],
    /// Advanced.
    pub(crate) state: StateView<&'a mut [f32]>,
    /// `[T, B, H]`, overwritten with the hidden states.
    pub(crate) y: &'a mut [f32],
    /// Room for the pre-activations of a wide layer, of as many steps as fit. If it is empty, the
    /// unwritten part of `y` is used.
    pub(crate) preact: &'a mut [f32],
    pub(crate) panels: Panels<'a>,
    /// Room for products.
    pub(crate) scratch: &'a mut [f32],
}

/// The arguments of a forward pass with a cache.
pub struct Forward<'a> {
    pub(crate) shape: LayerShape,
    pub(crate) extent: Extent,
    pub(crate) params: Params<&'a [f32]>,
    /// `[T, B, I]`
    pub(crate) x: &'a [f32],
    /// Advanced.
    pub(crate) state: StateView<&'a mut [f32]>,
    /// Overwritten; the output `[T, B, H]` is in it.
    pub(crate) cache: CacheView<&'a mut [f32]>,
    /// Room of [`LayerShape::panels_len`], or none.
    pub(crate) panels: &'a mut [f32],
    /// Room for products.
    pub(crate) scratch: &'a mut [f32],
}

/// The arguments of the first half of the backward pass: the steps, from the last to the first.
pub struct BackwardSteps<'a> {
    pub(crate) shape: LayerShape,
    pub(crate) extent: Extent,
    pub(crate) params: Params<&'a [f32]>,
    /// Its gates become the gradients of the pre-activations.
    pub(crate) cache: CacheView<&'a mut [f32]>,
    /// `[T, B, H]`, the gradient of the output.
    pub(crate) dy: &'a [f32],
    /// The gradient of the final state, overwritten with that of the initial one.
    pub(crate) dstate: StateView<&'a mut [f32]>,
    /// Room for the recurrent kernel transposed, [4, H, H].
    pub(crate) transposed: &'a mut [f32],
    /// Room for products.
    pub(crate) scratch: &'a mut [f32],
}

/// The arguments of the second half: the gradients of the parameters and of the input.
pub struct BackwardProducts<'a> {
    pub(crate) shape: LayerShape,
    pub(crate) extent: Extent,
    pub(crate) params: Params<&'a [f32]>,
    /// `[T, B, I]`
    pub(crate) x: &'a [f32],
    /// With the gradients that the first half left.
    pub(crate) cache: CacheView<&'a [f32]>,
    /// Accumulated to.
    pub(crate) gradients: Params<&'a mut [f32]>,
    /// `[T, B, I]`, overwritten.
    pub(crate) dx: Option<&'a mut [f32]>,
    /// If `dx` is wanted, room for the inputs' kernel transposed, [4, H, I].
    pub(crate) transposed: &'a mut [f32],
    /// Room for products.
    pub(crate) scratch: &'a mut [f32],
}

/// Runs and returns `$pass` with `$v`, the vectors of `$s` that the units of a layer fill exactly, if
/// there are such, and with their number as a constant: such layers have no time for calls and masks.
macro_rules! if_filled {
    ($args:ident, $s:ident, $v:ident => $pass:expr) => {
        if const { S::LANES > 1 && S::TILING.step_vectors == 2 } {
            if $args.shape.hidden == <<S::Half as Simd>::Half as Simd>::LANES {
                let (mut $args, $v) = ($args, $s.half().half());
                $args.shape.hidden = <<S::Half as Simd>::Half as Simd>::LANES;
                return $pass;
            }
            if const { S::LANES > 2 * <<S::Half as Simd>::Half as Simd>::LANES }
                && $args.shape.hidden == S::Half::LANES
            {
                let (mut $args, $v) = ($args, $s.half());
                $args.shape.hidden = S::Half::LANES;
                return $pass;
            }
        }
    };
}

#[inline(always)]
fn infer<S: Steps>(s: S, args: Infer) {
    if args.shape.inputs == 0 || args.shape.hidden == 0 || args.extent.batch == 0 {
        return;
    }
    if const { S::LANES > 1 } && args.shape.is_wide() {
        return infer_gemm(s, args);
    }
    if args.extent.batch == 1 {
        if_filled!(args, s, v => {
            args.extent.batch = 1;
            infer_fused(
                args,
                #[inline(always)]
                |step| step::filled(v, step),
            )
        });
    }
    infer_fused(
        args,
        #[inline(always)]
        |step| s.step(step, false),
    );
}

/// Step by step, with nothing stored between.
#[inline(always)]
pub(crate) fn infer_fused(args: Infer, mut run: impl FnMut(&mut Step<false>)) {
    let Infer {
        shape,
        extent: Extent { batch, .. },
        params,
        x,
        state,
        y,
        ..
    } = args;
    let LayerShape { inputs, hidden } = shape;
    let kernels = Kernels::rows(shape, params);
    let units = batch * hidden;
    let mut h_before: &[f32] = state.h;
    for (x, h) in exact_chunks(x, batch * inputs).zip(exact_chunks(&mut *y, units)) {
        let args = FromBias {
            batch,
            inputs,
            hidden,
            kernels,
            bias: params.bias,
            x,
            h_before,
            c: &mut *state.c,
            h: &mut *h,
        };
        if let Some(mut step) = Step::from_bias(args) {
            run(&mut step);
        }
        h_before = h;
    }
    copy_prefix(state.h, last(y, units));
}

/// With the pre-activations of as many steps in memory as there is room for.
#[inline(always)]
fn infer_gemm<S: Steps>(s: S, args: Infer) {
    let Infer {
        shape,
        extent,
        params,
        mut x,
        state,
        mut y,
        preact,
        panels,
        scratch,
    } = args;
    let LayerShape { inputs, hidden } = shape;
    let batch = extent.batch;
    let units = batch * hidden;
    let kernels = Kernels::packed(s, shape, extent, params, panels);
    let stride = shape.preact_stride();
    let step_len = batch * stride;
    let mut steps = extent.steps;
    while steps > 0 {
        // As much of `y` as is left behind these steps, if there is no other room.
        let own = !preact.is_empty();
        let fit = if own {
            div_or_zero(preact.len(), step_len)
        } else {
            div_or_zero(steps * units, units + step_len)
        };
        let now = fit.min(steps);
        let (h_now, later) = y.cut(now.max(1) * units);
        let (x_now, x_later) = x.cut(now.max(1) * batch * inputs);
        if now == 0 {
            let step = FromBias {
                batch,
                inputs,
                hidden,
                kernels: Kernels::rows(shape, params),
                bias: params.bias,
                x: x_now,
                h_before: &*state.h,
                c: &mut *state.c,
                h: &mut *h_now,
            };
            step_on_stack(s, step);
            copy_prefix(state.h, h_now);
        } else {
            let room = if own { &mut *preact } else { &mut *later };
            let (preact, _) = room.cut(now * step_len);
            let x = MatRef::new(x_now, now * batch, inputs);
            let to = MatMut::strided(&mut *preact, now * batch, 4 * hidden, stride);
            let bias = Init::Bias(params.bias);
            kernels.input.multiply(s, x, bias, to, &mut *scratch, false);
            let mut h_before: &[f32] = state.h;
            let each = exact_chunks(preact, step_len).zip(exact_chunks(&mut *h_now, units));
            for (t, (preact, h)) in each.enumerate() {
                let args = FromPreact {
                    batch,
                    hidden,
                    units: hidden,
                    recurrent: kernels.recurrent,
                    h_before,
                    preact,
                    preact_stride: stride,
                    c_before: None,
                    c: &mut *state.c,
                    h: &mut *h,
                };
                let descending = t % 2 == 1;
                if let Weights::GatePanels(_) = kernels.recurrent {
                    if let Some(mut step) = Step::from_preact(args) {
                        s.step_from_preact(&mut step, descending);
                    }
                } else {
                    step_by_product(s, args, &mut *scratch, descending);
                }
                h_before = h;
            }
            copy_prefix(state.h, last(h_now, units));
        }
        (x, y) = (x_later, later);
        steps -= now.max(1);
    }
}

/// A step of a wide layer for which the caller has no room. A kernel is best read along its rows: the
/// pre-activations of all units are on the stack if they fit, or of some.
#[inline(always)]
fn step_on_stack<S: Steps>(s: S, args: FromBias) {
    /// Numbers on the stack.
    const ROOM: usize = 1024;
    /// Units that are enough to pay for reading rows of a kernel.
    const UNITS: usize = 32;
    let FromBias { batch, hidden, .. } = args;
    let fit = div_or_zero(ROOM, 4 * batch);
    let in_l2 = 4 * hidden * hidden < 1 << 14;
    if in_l2 || fit < UNITS {
        if let Some(mut step) = Step::from_bias(args) {
            s.step(&mut step, false);
        }
        return;
    }
    let FromBias {
        inputs,
        kernels,
        bias,
        x,
        h_before,
        c,
        h,
        ..
    } = args;
    let mut room = [0.0; ROOM];
    // Blocks of columns: all of them, or some units of a gate at a time.
    let most = if hidden <= fit {
        hidden
    } else {
        fit / UNITS * UNITS
    };
    // `max(1)`: a step of zero could panic, and the panic would be linked.
    for unit in (0..hidden).step_by(most.max(1)) {
        let units = most.min(hidden - unit);
        let (preact, _) = (&mut room[..]).cut(4 * batch * units);
        let (blocks, cols) = if units == hidden {
            (1, 4 * hidden)
        } else {
            (4, units)
        };
        for (block, preact) in exact_chunks(&mut *preact, batch * cols).enumerate() {
            let at = block * hidden + unit;
            let bias = bias.get(at..at + cols).unwrap_or(&[]);
            for (a, depth, weights, init) in [
                (x, inputs, kernels.input, Init::Bias(bias)),
                (h_before, hidden, kernels.recurrent, Init::Accumulate),
            ] {
                s.gemm(GemmArgs {
                    a: MatRef::new(a, batch, depth),
                    b: MatRef::new(weights.numbers(), depth, 4 * hidden).columns(at, cols),
                    init,
                    c: MatMut::new(&mut *preact, batch, cols),
                    scratch: &mut [],
                });
            }
        }
        // From one row of the batch to the next, and from one gate to the next.
        let (row_stride, gate_stride) = if blocks == 1 {
            (4 * hidden, hidden)
        } else {
            (units, batch * units)
        };
        let states = exact_chunks(&mut *c, hidden).zip(exact_chunks(&mut *h, hidden));
        for (row, (c, h)) in states.enumerate() {
            let part = unit..unit + units;
            if let (Some(c), Some(h)) = (c.get_mut(part.clone()), h.get_mut(part)) {
                let mut rest = preact.get_mut(row * row_stride..).unwrap_or_default();
                let gates = [(); 4].map(|()| {
                    let gate = take(&mut rest, units);
                    take(&mut rest, gate_stride - units);
                    gate
                });
                activate(s, gates, c, h);
            }
        }
    }
}

/// The elementwise part of one row of a step, in place.
#[inline(always)]
fn activate<S: Simd>(s: S, gates: [&mut [f32]; 4], c: &mut [f32], h: &mut [f32]) {
    s.vectorize(
        #[inline(always)]
        move || {
            let c_before = None;
            let row = ForwardRow {
                gates,
                c_before,
                c,
                h,
            };
            row.run(s);
        },
    );
}

/// A step with h·Wh as a product in memory.
#[inline(always)]
fn step_by_product<S: Steps>(s: S, args: FromPreact, scratch: &mut [f32], descending: bool) {
    let FromPreact {
        batch,
        hidden,
        recurrent,
        h_before,
        preact,
        preact_stride: stride,
        c_before,
        c,
        h,
        ..
    } = args;
    let before = MatRef::new(h_before, batch, hidden);
    let to = MatMut::strided(&mut *preact, batch, 4 * hidden, stride);
    recurrent.multiply(s, before, Init::Accumulate, to, scratch, descending);
    s.vectorize(
        #[inline(always)]
        move || {
            let states = exact_chunks(c, hidden).zip(exact_chunks(h, hidden));
            for (row, (gates, (c, h))) in exact_chunks(preact, stride).zip(states).enumerate() {
                let (gates, _) = gates.cut(4 * hidden);
                let c_before =
                    c_before.map(|c| c.get(row * hidden..(row + 1) * hidden).unwrap_or(&[]));
                ForwardRow {
                    gates: by_gate(gates, hidden),
                    c_before,
                    c,
                    h,
                }
                .run(s);
            }
        },
    );
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

#[inline(always)]
fn forward<S: Steps>(s: S, args: Forward) {
    if_filled!(args, s, v => forward_by(
        s,
        args,
        #[inline(always)]
        |step, _| step::filled(v, step),
    ));
    forward_by(
        s,
        args,
        #[inline(always)]
        |step, descending| s.step_from_preact(step, descending),
    );
}

/// The forward pass whose steps, unless the layer is wide, `run` takes.
#[inline(always)]
fn forward_by<S: Steps>(s: S, args: Forward, mut run: impl FnMut(&mut Step<true>, bool)) {
    let Forward {
        shape,
        extent,
        params,
        x,
        state,
        cache,
        panels,
        scratch,
    } = args;
    let LayerShape { inputs, hidden } = shape;
    let (batch, rows) = (extent.batch, extent.rows());
    let units = batch * hidden;
    if units == 0 {
        return;
    }
    let kernels = Kernels::packed(s, shape, extent, params, Panels::Room(panels));
    let x = MatRef::new(x, rows, inputs);
    let to = MatMut::new(&mut *cache.gates, rows, 4 * hidden);
    let bias = Init::Bias(params.bias);
    kernels.input.multiply(s, x, bias, to, &mut *scratch, false);

    let (mut c_before, c_after) = cache.c.cut(units);
    let (mut h_before, h_after) = cache.h.cut(units);
    copy_prefix(c_before, state.c);
    copy_prefix(h_before, state.h);
    let in_gate_panels = matches!(kernels.recurrent, Weights::GatePanels(_));
    let gates = exact_chunks(cache.gates, 4 * units);
    let after = exact_chunks(c_after, units).zip(exact_chunks(h_after, units));
    for (t, (gates, (c, h))) in gates.zip(after).enumerate() {
        let args = FromPreact {
            batch,
            hidden,
            units: hidden,
            recurrent: kernels.recurrent,
            h_before: &*h_before,
            preact: gates,
            preact_stride: 4 * hidden,
            c_before: Some(&*c_before),
            c: &mut *c,
            h: &mut *h,
        };
        let descending = t % 2 == 1;
        if const { S::LANES > 1 } && shape.is_wide() && !in_gate_panels {
            step_by_product(s, args, &mut *scratch, descending);
        } else if let Some(mut step) = Step::from_preact(args) {
            run(&mut step, descending && in_gate_panels);
        }
        (c_before, h_before) = (c, h);
    }
    copy_prefix(state.c, c_before);
    copy_prefix(state.h, h_before);
}

#[inline(always)]
fn backward_steps<S: StepsBackward>(s: S, args: BackwardSteps) {
    if_filled!(args, s, v => backward_steps_by(
        s,
        args,
        #[inline(always)]
        |step| step::filled_backward(v, step),
    ));
    backward_steps_by(
        s,
        args,
        #[inline(always)]
        |step| s.step_backward(step),
    );
}

/// The steps, of which `run` takes those of a layer whose units a vector holds.
#[inline(always)]
fn backward_steps_by<S: StepsBackward>(
    s: S,
    args: BackwardSteps,
    mut run: impl FnMut(&mut StepBackward),
) {
    let BackwardSteps {
        shape,
        extent,
        params,
        cache,
        dy,
        dstate,
        transposed,
        scratch,
    } = args;
    let (batch, hidden) = (extent.batch, shape.hidden);
    let units = batch * hidden;
    if units == 0 {
        return;
    }
    let (_, recurrent) = params.split_kernel(shape);
    let recurrent = MatRef::new(recurrent, hidden, 4 * hidden);
    // As rows, or already in panels where that pays.
    let in_panels =
        const { S::TILING.packed_rows > 0 } && batch > FEW_ROWS && shape.panels_len(extent) > 0;
    if in_panels {
        s.pack(recurrent.transposed(), &mut *transposed);
    } else {
        s.transpose(&mut *transposed, recurrent);
    }
    let transposed = &*transposed;
    // The last step first. The first row of c is the initial state's.
    let c: &[f32] = cache.c;
    let (c_before, _) = c.cut(extent.rows() * hidden);
    let (_, c_after) = c.cut(units);
    let states = exact_chunks_rev(c_before, units).zip(exact_chunks_rev(c_after, units));
    let steps = exact_chunks_rev(cache.gates, 4 * units).zip(exact_chunks_rev(dy, units));
    for (t, ((gates, dy), (c_before, c))) in steps.zip(states).enumerate() {
        let args = BackwardArgs {
            batch,
            hidden,
            gates: &mut *gates,
            c_before,
            c,
            dy,
            dc: &mut *dstate.c,
            dh: &mut *dstate.h,
            transposed,
        };
        if const { S::LANES > 1 } && hidden <= S::LANES {
            if let Some(mut step) = StepBackward::new(args) {
                run(&mut step);
            }
            continue;
        }
        backward_rows(s, args);
        let args = GemmArgs {
            a: MatRef::new(gates, batch, 4 * hidden),
            b: MatRef::new(transposed, 4 * hidden, hidden),
            init: Init::Zero,
            c: MatMut::new(&mut *dstate.h, batch, hidden),
            scratch: &mut *scratch,
        };
        if in_panels {
            s.gemm_packed(args, t % 2 == 1);
        } else {
            s.gemm(args);
        }
    }
}

/// The elementwise part of a step backward, for all rows of the batch.
#[inline(always)]
fn backward_rows<S: Simd>(s: S, args: BackwardArgs) {
    let BackwardArgs {
        hidden,
        gates,
        c_before,
        c,
        dy,
        dc,
        dh,
        ..
    } = args;
    s.vectorize(
        #[inline(always)]
        move || {
            let c_rows = exact_chunks(c_before, hidden).zip(exact_chunks(c, hidden));
            let d_rows = exact_chunks(dc, hidden).zip(exact_chunks(&*dh, hidden));
            let rows = exact_chunks(gates, 4 * hidden).zip(exact_chunks(dy, hidden));
            for (((gates, dy), (c_before, c)), (dc, dh)) in rows.zip(c_rows).zip(d_rows) {
                BackwardRow {
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

#[inline(always)]
fn backward_products<S: Steps>(s: S, args: BackwardProducts) {
    let BackwardProducts {
        shape,
        extent,
        params,
        x,
        cache,
        gradients: Params { kernel, bias },
        dx,
        transposed,
        scratch,
    } = args;
    let LayerShape { inputs, hidden } = shape;
    let rows = extent.rows();
    let (dinput, drecurrent) = kernel.cut(inputs * 4 * hidden);
    let (h_before, _) = cache.h.cut(rows * hidden);
    let dgates = MatRef::new(cache.gates, rows, 4 * hidden);
    let x = MatRef::new(x, rows, inputs);
    let h_before = MatRef::new(h_before, rows, hidden);
    let mut accumulate = |a: MatRef, c| {
        s.gemm(GemmArgs {
            a: a.reversed_rows().transposed(),
            b: dgates.reversed_rows(),
            init: Init::Accumulate,
            c: MatMut::new(c, a.col_count(), 4 * hidden),
            scratch: &mut *scratch,
        });
    };
    accumulate(x, dinput);
    accumulate(h_before, drecurrent);
    accumulate(MatRef::ones(rows, 1), bias);

    if let Some(dx) = dx {
        let (input, _) = params.split_kernel(shape);
        let input = MatRef::new(input, inputs, 4 * hidden);
        let in_panels = const { S::TILING.packed_rows > 0 } && shape.is_wide();
        if in_panels {
            s.pack(input.transposed(), &mut *transposed);
        } else {
            s.transpose(&mut *transposed, input);
        }
        let args = GemmArgs {
            a: dgates,
            b: MatRef::new(transposed, 4 * hidden, inputs),
            init: Init::Zero,
            c: MatMut::new(dx, rows, inputs),
            scratch,
        };
        if in_panels {
            s.gemm_packed(args, false);
        } else {
            s.gemm(args);
        }
    }
}
