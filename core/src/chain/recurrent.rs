//! One direction of an LSTM layer with options, over time: forward, and backward.
//!
//! For every row of the batch and every unit, with the layer's functions of the gates σ, of the
//! candidate g and of the output h, and clip(·) to what the options say:
//!
//! ```text
//! zi, zj, zf, zo = bias + x·Wx + h·Wh        and with peepholes  zi += wi·c   zf += wf·c
//! i, j, f = σ(clip(zi)), g(clip(zj)), σ(clip(zf))                or f = 1 − i
//! c' = clip(f·c + i·j)                       and with peepholes  zo += wo·c'
//! m = σ(clip(zo))·h(c')                      h' = m              or clip(m·Wp)
//! ```
//!
//! (Gers and Schmidhuber 2000; Sak, Senior and Beaufays 2014; Greff et al. 2017.) x·Wx of all steps
//! is one product; each step then takes few passes over its rows. A row that has ended keeps its
//! state, and its output is zero.
//!
//! With layer normalisation the bias is not in z but added to gain·norm(z) of each gate, before the
//! peepholes, and c' = clip(norm(f·c + i·j)), with a gain and a shift too (Ba, Kiros and Hinton 2016).
//!
//! Where states may stay as they are, z of a mask or the rate of a run, c' becomes z·c + (1 − z)·c' and h
//! likewise in what is carried; m and the output are those without (Krueger et al. 2017).

use super::norm::{Norm, gain_and_shift};
use super::pointwise::{Pointwise, Update, clipped, formula, unless_clipped, update};
use super::stage::LstmStage;
use crate::gemm::{GemmArgs, Init, MatMut, MatRef};
use crate::layout::scratch::blocks;
use crate::layout::split::{copy_prefix, exact_chunks, take};
use crate::layout::{Cut, Extent, LayerShape};
use crate::lstm::cell::state;
use crate::simd::{Arithmetic, per_level};

per_level! {
    /// The passes through one direction.
    trait Recurrent: Norm {
        fn recur(args: Forward<'_>) = forward;
        fn recur_back(args: Backward<'_>) = backward;
    }
}

/// Which rows of the batch are active in which steps.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// The steps of each row; without, all have all.
    pub(super) lengths: Option<&'a [usize]>,
    /// The steps are taken from the last to the first, so that a row begins late.
    pub(super) reversed: bool,
    pub(super) steps: usize,
}

impl Rows<'_> {
    /// Whether a row is active in a step, in the order in which they are taken.
    #[inline(always)]
    pub(super) fn is_active(&self, step: usize, row: usize) -> bool {
        let Some(lengths) = self.lengths else {
            return true;
        };
        let length = lengths.get(row).copied().unwrap_or(0);
        if self.reversed {
            step.saturating_add(length) >= self.steps
        } else {
            step < length
        }
    }
}

/// The parameters of a direction, or their gradients.
pub(super) struct Parts<S> {
    /// `[I, 4, H]`
    input: S,
    /// `[P, 4, H]`
    recurrent: S,
    /// `[4, H]`
    bias: S,
    /// The gains of the gates, `[4, H]`, or none.
    gains: S,
    /// The gain and the shift of the cell state, `[2, H]`, or none.
    cell_norm: S,
    /// `[3, H]`, or none.
    peepholes: S,
    /// `[H, P]`, or none.
    projection: S,
}

impl<S: Cut + Default> Parts<S> {
    #[inline(always)]
    pub(super) fn cut(stage: &LstmStage, flat: S) -> Self {
        let LayerShape { inputs, hidden } = stage.layer;
        let mut rest = flat;
        let peepholes = if stage.cell.peepholes { 3 * hidden } else { 0 };
        let norm = if stage.cell.layer_norm { hidden } else { 0 };
        Self {
            input: take(&mut rest, inputs * 4 * hidden),
            recurrent: take(&mut rest, stage.outputs() * 4 * hidden),
            bias: take(&mut rest, 4 * hidden),
            gains: take(&mut rest, 4 * norm),
            cell_norm: take(&mut rest, 2 * norm),
            peepholes: take(&mut rest, peepholes),
            projection: rest,
        }
    }
}

/// Some equal parts.
#[inline(always)]
fn parts<S: Cut + Default, const N: usize>(flat: S, each: usize) -> [S; N] {
    let mut rest = flat;
    [(); N].map(|()| take(&mut rest, each))
}

/// What the backward pass needs of a forward pass.
pub struct Cache<'a> {
    /// The cell state before each step, and after the last, `[T+1, B, H]`.
    pub(super) c: &'a mut [f32],
    /// The hidden state likewise, `[T+1, B, P]`.
    pub(super) h: &'a mut [f32],
    /// The new cell states before they are mixed with the old ones, `[T, B, H]`; none if they are not.
    fresh: &'a mut [f32],
    /// What layer normalisation keeps of each row: [`Normed`].
    norms: &'a mut [f32],
    /// Projected outputs before they are clipped, `[T, B, P]`; none without a projection.
    pub(super) projected: &'a mut [f32],
}

impl<'a> Cache<'a> {
    pub(super) const fn len(stage: &LstmStage, extent: Extent) -> usize {
        let later = Extent {
            steps: extent.steps.saturating_add(1),
            batch: extent.batch,
        };
        let outputs = stage.outputs();
        let projected = match stage.cell.projection {
            Some(_) => extent.rows().saturating_mul(outputs),
            None => 0,
        };
        let fresh = if stage.cell.zoneout.cell > 0.0 {
            extent.rows().saturating_mul(stage.layer.hidden)
        } else {
            0
        };
        let norms = extent.rows().saturating_mul(Normed::<&[f32]>::len(stage));
        let states = stage.layer.hidden.saturating_add(outputs);
        later
            .rows()
            .saturating_mul(states)
            .saturating_add(fresh)
            .saturating_add(norms)
            .saturating_add(projected)
    }

    pub(super) fn cut(stage: &LstmStage, extent: Extent, flat: &'a mut [f32]) -> Self {
        let rows = (extent.steps + 1) * extent.batch;
        let fresh = if stage.cell.zoneout.cell > 0.0 {
            extent.rows() * stage.layer.hidden
        } else {
            0
        };
        let mut rest = flat;
        Self {
            c: take(&mut rest, rows * stage.layer.hidden),
            h: take(&mut rest, rows * stage.outputs()),
            fresh: take(&mut rest, fresh),
            norms: take(&mut rest, extent.rows() * Normed::<&[f32]>::len(stage)),
            projected: rest,
        }
    }
}

/// The masks of a direction, each empty where the layer has no such, or does not train.
#[derive(Clone, Copy, Default)]
pub struct Masks<'a> {
    /// Of the hidden state on its way into the gates, `[B, P]`.
    recurrent: &'a [f32],
    /// Which cell states stay, `[T, B, H]`, with the steps in their order.
    cell: &'a [f32],
    /// Which hidden states do, `[T, B, P]`.
    hidden: &'a [f32],
}

impl<'a> Masks<'a> {
    pub(super) fn cut(stage: &LstmStage, extent: Extent, flat: &'a [f32]) -> Self {
        let (outputs, zoneout) = (stage.outputs(), stage.cell.zoneout);
        let mut rest = flat;
        let mut part = |wanted: bool, len| take(&mut rest, if wanted { len } else { 0 });
        Self {
            recurrent: part(stage.recurrent_mask, extent.batch * outputs),
            cell: part(zoneout.cell > 0.0, extent.rows() * stage.layer.hidden),
            hidden: part(zoneout.hidden > 0.0, extent.rows() * outputs),
        }
    }
}

/// What is kept of the normalisations of a row: of its gates, and of its cell state.
#[derive(Default)]
struct Normed<S> {
    /// `[4, H]`
    gates: S,
    /// `[H]`
    cell: S,
    /// `[4]`
    gate_factors: S,
    /// `[1]`
    cell_factor: S,
}

impl<S: Cut + Default> Normed<S> {
    const fn len(stage: &LstmStage) -> usize {
        if stage.cell.layer_norm {
            stage.layer.hidden.saturating_add(1).saturating_mul(5)
        } else {
            0
        }
    }

    /// That of a row, from those of all.
    #[inline(always)]
    fn of(stage: &LstmStage, all: S, row: usize) -> Self {
        let (hidden, len) = (stage.layer.hidden, Self::len(stage));
        let (_, mut rest) = all.cut(row * len);
        Self {
            gates: take(&mut rest, 4 * hidden),
            cell: take(&mut rest, hidden),
            gate_factors: take(&mut rest, 4),
            cell_factor: take(&mut rest, 1),
        }
    }
}

/// A row of so many numbers, if there are any.
#[inline(always)]
fn row_of(all: &[f32], row: usize, width: usize) -> &[f32] {
    all.get(row * width..(row + 1) * width).unwrap_or(&[])
}

/// The arguments of a forward pass.
pub struct Forward<'a> {
    pub(super) stage: LstmStage,
    pub(super) extent: Extent,
    pub(super) rows: Rows<'a>,
    pub(super) params: &'a [f32],
    /// `[T, B, I]`, in the order of the steps.
    pub(super) x: &'a [f32],
    /// c `[B, H]` and h `[B, P]`, advanced.
    pub(super) state: &'a mut [f32],
    /// `[T, B, P]`, overwritten.
    pub(super) y: &'a mut [f32],
    /// The pre-activations `[T, B, 4, H]`, overwritten.
    pub(super) z: &'a mut [f32],
    /// Overwritten, if there is a backward pass to come.
    pub(super) cache: Option<Cache<'a>>,
    pub(super) masks: Masks<'a>,
    /// Room of [`forward_room_len`], or without that for products.
    pub(super) room: &'a mut [f32],
}

/// Room of a forward pass: the gates of a row, m of a step, and what it is projected to; a row of new
/// cell states that are to be mixed with the old ones; and for products, which need it no more than that they are faster.
pub(super) const fn forward_room_len(stage: &LstmStage, extent: Extent) -> usize {
    let LayerShape { inputs, hidden } = stage.layer;
    let (outputs, gates) = (stage.outputs(), hidden.saturating_mul(4));
    let step = hidden.saturating_add(outputs);
    let fresh = if stage.cell.zoneout.cell > 0.0 {
        hidden
    } else {
        0
    };
    let products = blocks::longest([
        [extent.rows(), gates, inputs],
        [extent.batch, gates, outputs],
        [extent.batch, outputs, hidden],
    ]);
    gates
        .saturating_add(extent.batch.saturating_mul(step))
        .saturating_add(fresh)
        .saturating_add(products)
}

formula!(NewCell { clip: f32 } (this, s, [i, j, f], [c]) => {
    let c = s.fma(f, c, s.mul(i, j));
    [state(s, clipped(s, c, this.clip))]
});
formula!(OneMinus {} (_this, s, [a], [_to]) => [s.sub(s.splat(1.0), a)]);
formula!(NextCell {} (_this, s, [i, j, f], [c]) => [s.fma(f, c, s.mul(i, j))]);
formula!(Clipped { clip: f32 } (this, s, [], [v]) => [state(s, clipped(s, v, this.clip))]);
formula!(HiddenState {} (_this, s, [o], [m]) => [state(s, s.mul(o, m))]);

/// The activations of i, j and f, from pre-activations that see the old cell state.
#[inline(always)]
fn gates_before<S: Pointwise>(s: S, stage: &LstmStage, z: &[f32], gates: &mut [f32]) {
    let hidden = stage.layer.hidden;
    let cell = &stage.cell;
    copy_prefix(gates, z);
    if cell.preact_clip.is_finite() {
        s.clip(&mut *gates, cell.preact_clip);
    }
    let [i, j, f] = parts(gates, hidden);
    s.activate(cell.gates, &mut *i);
    s.activate(cell.candidate, j);
    if cell.coupled {
        update(s, OneMinus {}, [&*i], [f]);
    } else {
        s.activate(cell.gates, f);
    }
}

/// That of o, likewise from one that sees the new one.
#[inline(always)]
fn gate_after<S: Pointwise>(s: S, stage: &LstmStage, z: &[f32], gate: &mut [f32]) {
    copy_prefix(&mut *gate, z);
    if stage.cell.preact_clip.is_finite() {
        s.clip(&mut *gate, stage.cell.preact_clip);
    }
    s.activate(stage.cell.gates, gate);
}

#[inline(always)]
fn forward<S: Recurrent>(s: S, args: Forward) {
    let Forward {
        stage,
        extent: Extent { steps, batch },
        rows,
        params,
        x,
        state: flat_state,
        y,
        z,
        mut cache,
        masks,
        room,
    } = args;
    let LayerShape { inputs, hidden } = stage.layer;
    let (outputs, cell) = (stage.outputs(), stage.cell);
    let weights = Parts::cut(&stage, params);
    let (c, h) = flat_state.cut(batch * hidden);
    let mut room = room;
    let gates = take(&mut room, 4 * hidden);
    let m = take(&mut room, batch * hidden);
    let projected = take(&mut room, batch * outputs);
    let [cell_stays, hidden_stays] = [cell.zoneout.cell > 0.0, cell.zoneout.hidden > 0.0];
    let fresh = take(&mut room, if cell_stays { hidden } else { 0 });
    s.gemm(GemmArgs {
        a: MatRef::new(x, steps * batch, inputs),
        b: MatRef::new(weights.input, inputs, 4 * hidden),
        init: if cell.layer_norm {
            Init::Zero
        } else {
            Init::Bias(weights.bias)
        },
        c: MatMut::new(&mut *z, steps * batch, 4 * hidden),
        scratch: &mut *room,
    });
    let [wi, wf, wo] = parts(weights.peepholes, hidden);
    let [cell_gain, cell_shift] = parts(weights.cell_norm, hidden);
    let each = exact_chunks(z, batch * 4 * hidden).zip(exact_chunks(y, batch * outputs));
    for (step, (z, y)) in each.enumerate() {
        let mut before = &*h;
        if let Some(cache) = &mut cache {
            keep(&mut *cache.c, step, c);
            keep(&mut *cache.h, step, h);
            if !masks.recurrent.is_empty() {
                // What the gates see is what their kernel has its gradient from.
                let (_, place) = (&mut *cache.h).cut(step * batch * outputs);
                let (place, _) = place.cut(batch * outputs);
                s.multiply(&mut *place, masks.recurrent);
                before = place;
            }
        }
        s.gemm(GemmArgs {
            a: MatRef::new(before, batch, outputs),
            b: MatRef::new(weights.recurrent, outputs, 4 * hidden),
            init: Init::Accumulate,
            c: MatMut::new(&mut *z, batch, 4 * hidden),
            scratch: &mut *room,
        });
        let units = exact_chunks(&mut *c, hidden).zip(exact_chunks(&mut *m, hidden));
        for (row, (z, (c, m))) in exact_chunks(z, 4 * hidden).zip(units).enumerate() {
            if !rows.is_active(step, row) {
                continue;
            }
            let mut normed = Normed::default();
            if cell.layer_norm {
                if let Some(cache) = &mut cache {
                    normed = Normed::of(&stage, &mut *cache.norms, step * batch + row);
                }
                let (hats, factors) = (normed.gates, normed.gate_factors);
                s.normalize(hidden, weights.gains, weights.bias, &mut *z, hats, factors);
            }
            if cell.peepholes {
                let [zi, _, zf, _] = parts(&mut *z, hidden);
                s.add_product(zi, c, wi);
                s.add_product(zf, c, wf);
            }
            gates_before(s, &stage, z, &mut *gates);
            let [i, j, f, o] = parts(&mut *gates, hidden);
            let clip = cell.cell_clip;
            let new = if cell_stays {
                copy_prefix(&mut *fresh, c);
                &mut *fresh
            } else {
                &mut *c
            };
            if cell.layer_norm {
                update(s, NextCell {}, [&*i, &*j, &*f], [&mut *new]);
                let (hats, factor) = (normed.cell, normed.cell_factor);
                s.normalize(hidden, cell_gain, cell_shift, &mut *new, hats, factor);
                update(s, Clipped { clip }, [], [&mut *new]);
            } else {
                update(s, NewCell { clip }, [&*i, &*j, &*f], [&mut *new]);
            }
            let [_, _, _, zo] = parts(z, hidden);
            if cell.peepholes {
                s.add_product(zo, new, wo);
            }
            gate_after(s, &stage, zo, &mut *o);
            copy_prefix(&mut *m, new);
            s.activate(cell.output, &mut *m);
            update(s, HiddenState {}, [&*o], [m]);
            if cell_stays {
                let row = step * batch + row;
                if let Some(cache) = &mut cache {
                    keep(&mut *cache.fresh, row, fresh);
                }
                let mask = row_of(masks.cell, row, hidden);
                s.mix(c, fresh, mask, cell.zoneout.cell);
            }
        }
        let now: &[f32] = if cell.projection.is_some() {
            s.gemm(GemmArgs {
                a: MatRef::new(m, batch, hidden),
                b: MatRef::new(weights.projection, hidden, outputs),
                init: Init::Zero,
                c: MatMut::new(&mut *projected, batch, outputs),
                scratch: &mut *room,
            });
            if let Some(cache) = &mut cache {
                keep(&mut *cache.projected, step, projected);
            }
            let clip = cell.projection_clip;
            update(s, Clipped { clip }, [], [&mut *projected]);
            projected
        } else {
            m
        };
        let each = exact_chunks(now, outputs).zip(exact_chunks(&mut *h, outputs));
        for (row, ((now, h), y)) in each.zip(exact_chunks(y, outputs)).enumerate() {
            if !rows.is_active(step, row) {
                y.fill(0.0);
                continue;
            }
            copy_prefix(y, now);
            if hidden_stays {
                let mask = row_of(masks.hidden, step * batch + row, outputs);
                s.mix(h, now, mask, cell.zoneout.hidden);
            } else {
                copy_prefix(h, now);
            }
        }
    }
    if let Some(cache) = &mut cache {
        keep(&mut *cache.c, steps, c);
        keep(&mut *cache.h, steps, h);
    }
}

/// Copies what a step has to its place.
#[inline(always)]
fn keep(all: &mut [f32], step: usize, from: &[f32]) {
    if let Some(place) = all.get_mut(step * from.len()..) {
        copy_prefix(place, from);
    }
}

/// The arguments of a backward pass.
pub struct Backward<'a> {
    pub(super) stage: LstmStage,
    pub(super) extent: Extent,
    pub(super) rows: Rows<'a>,
    pub(super) params: &'a [f32],
    /// `[T, B, I]`, in the order of the steps.
    pub(super) x: &'a [f32],
    /// `[T, B, P]`, the gradient of the output.
    pub(super) dy: &'a [f32],
    /// That of the final state, overwritten with that of the initial one.
    pub(super) dstate: &'a mut [f32],
    /// What the forward pass left. The pre-activations become their gradients.
    pub(super) z: &'a mut [f32],
    pub(super) cache: Cache<'a>,
    pub(super) masks: Masks<'a>,
    /// Accumulated to.
    pub(super) gradients: &'a mut [f32],
    /// `[T, B, I]`, overwritten.
    pub(super) dx: &'a mut [f32],
    /// Room of [`backward_room_len`].
    pub(super) room: &'a mut [f32],
}

/// Room of a backward pass: the gates of a row and four rows more, dm of a step, dh of two, m of all
/// steps, the kernels and the projection transposed, and a row where cell states may stay.
pub(super) const fn backward_room_len(stage: &LstmStage, extent: Extent) -> usize {
    let LayerShape { inputs, hidden } = stage.layer;
    let outputs = stage.outputs();
    let kernels = inputs
        .saturating_add(outputs)
        .saturating_mul(hidden)
        .saturating_mul(4);
    let step = outputs.saturating_mul(2).saturating_add(hidden);
    let mut len = hidden
        .saturating_mul(8)
        .saturating_add(extent.batch.saturating_mul(step))
        .saturating_add(kernels);
    if stage.cell.projection.is_some() {
        len = len
            .saturating_add(extent.rows().saturating_mul(hidden))
            .saturating_add(hidden.saturating_mul(outputs));
    }
    if stage.cell.zoneout.cell > 0.0 {
        len = len.saturating_add(hidden);
    }
    len
}

formula!(RawCell {} (_this, s, [i, j, f, c], [_raw]) => [s.fma(f, c, s.mul(i, j))]);
formula!(Product {} (_this, s, [a, b], [_to]) => [s.mul(a, b)]);
formula!(AddTo {} (_this, s, [a], [to]) => [s.add(to, a)]);
formula!(Stay {} (_this, s, [z], [_kept, d]) => {
    [s.mul(z, d), s.mul(s.sub(s.splat(1.0), z), d)]
});
formula!(Subtract {} (_this, s, [a], [to]) => [s.sub(to, a)]);
formula!(CellGradient { clip: f32 } (this, s, [raw], [dc]) => [unless_clipped(s, raw, this.clip, dc)]);

#[inline(always)]
fn backward<S: Recurrent>(s: S, args: Backward) {
    let Backward {
        stage,
        extent: Extent { steps, batch },
        rows,
        params,
        x,
        dy,
        dstate,
        z,
        cache,
        masks,
        gradients,
        dx,
        room,
    } = args;
    let LayerShape { inputs, hidden } = stage.layer;
    let (outputs, cell) = (stage.outputs(), stage.cell);
    let weights = Parts::cut(&stage, params);
    let to = Parts::cut(&stage, gradients);
    let mut room = room;
    let gates = take(&mut room, 4 * hidden);
    let [tanh_c, raw, dtanh, spare] = parts(take(&mut room, 4 * hidden), hidden);
    let dm = take(&mut room, batch * hidden);
    let dh_now = take(&mut room, batch * outputs);
    let dh_before = take(&mut room, batch * outputs);
    let recurrent = take(&mut room, outputs * 4 * hidden);
    let input = take(&mut room, inputs * 4 * hidden);
    let m_len = if cell.projection.is_some() {
        steps * batch * hidden
    } else {
        0
    };
    let m_all = take(&mut room, m_len);
    let projection_len = if cell.projection.is_some() {
        hidden * outputs
    } else {
        0
    };
    let projection = take(&mut room, projection_len);
    let [cell_stays, hidden_stays] = [cell.zoneout.cell > 0.0, cell.zoneout.hidden > 0.0];
    let dkept = take(&mut room, if cell_stays { hidden } else { 0 });
    let transposed = |to: &mut [f32], from: &[f32], rows, cols| {
        s.transpose(to, MatRef::new(from, rows, cols));
    };
    transposed(&mut *recurrent, weights.recurrent, outputs, 4 * hidden);
    transposed(&mut *input, weights.input, inputs, 4 * hidden);
    if cell.projection.is_some() {
        transposed(&mut *projection, weights.projection, hidden, outputs);
    }
    let (dc, dh) = dstate.cut(batch * hidden);
    let [wi, wf, wo] = parts(weights.peepholes, hidden);
    let [dwi, dwf, dwo] = parts(to.peepholes, hidden);
    let [cell_gain, cell_shift] = parts(weights.cell_norm, hidden);
    let [dcell_gain, dcell_shift] = parts(to.cell_norm, hidden);

    for step in (0..steps).rev() {
        let at = |all: usize| step * all..(step + 1) * all;
        let later = |all: usize| (step + 1) * all..(step + 2) * all;
        let (units, width) = (batch * hidden, batch * outputs);
        let c_before = cache.c.get(at(units)).unwrap_or(&[]);
        let c_after = if cell_stays {
            cache.fresh.get(at(units))
        } else {
            cache.c.get(later(units))
        };
        let c_after = c_after.unwrap_or(&[]);
        let dy = dy.get(at(width)).unwrap_or(&[]);
        // The gradient of what the step gave: none for rows that it left alone.
        for (row, (now, dy)) in exact_chunks(&mut *dh_now, outputs)
            .zip(exact_chunks(dy, outputs))
            .enumerate()
        {
            if rows.is_active(step, row) {
                let dh = dh.get_mut(row * outputs..(row + 1) * outputs);
                let dh = dh.unwrap_or_default();
                copy_prefix(&mut *now, dh);
                if hidden_stays {
                    let mask = row_of(masks.hidden, step * batch + row, outputs);
                    update(s, Stay {}, [mask], [dh, &mut *now]);
                }
                update(s, AddTo {}, [dy], [now]);
            } else {
                now.fill(0.0);
            }
        }
        if cell.projection.is_some() {
            let projected = cache.projected.get_mut(at(width)).unwrap_or_default();
            if cell.projection_clip.is_finite() {
                s.where_not_clipped(projected, cell.projection_clip, &mut *dh_now);
            }
            // Kept for the gradient of the projection.
            copy_prefix(projected, dh_now);
            s.gemm(GemmArgs {
                a: MatRef::new(dh_now, batch, outputs),
                b: MatRef::new(projection, outputs, hidden),
                init: Init::Zero,
                c: MatMut::new(&mut *dm, batch, hidden),
                scratch: &mut [],
            });
        } else {
            copy_prefix(&mut *dm, dh_now);
        }
        let z = z.get_mut(at(4 * units)).unwrap_or_default();
        // From the last row to the first, as all gradients are summed.
        for row in (0..batch).rev() {
            let part = |width: usize| row * width..(row + 1) * width;
            let z = z.get_mut(part(4 * hidden)).unwrap_or_default();
            let m = m_all
                .get_mut((step * batch + row) * hidden..)
                .unwrap_or_default();
            let (m, _) = m.cut(hidden);
            if !rows.is_active(step, row) {
                z.fill(0.0);
                m.fill(0.0);
                continue;
            }
            let c_before = c_before.get(part(hidden)).unwrap_or(&[]);
            let c_after = c_after.get(part(hidden)).unwrap_or(&[]);
            let dm = &*dm.get_mut(part(hidden)).unwrap_or_default();
            let dc = dc.get_mut(part(hidden)).unwrap_or_default();
            if cell_stays {
                let mask = row_of(masks.cell, step * batch + row, hidden);
                update(s, Stay {}, [mask], [&mut *dkept, &mut *dc]);
            }

            gates_before(s, &stage, z, &mut *gates);
            let [i, j, f, o] = parts(&mut *gates, hidden);
            let [zi, zj, zf, zo] = parts(&mut *z, hidden);
            gate_after(s, &stage, zo, &mut *o);
            copy_prefix(&mut *tanh_c, c_after);
            s.activate(cell.output, &mut *tanh_c);
            if cell.projection.is_some() {
                update(s, Product {}, [&*o, &*tanh_c], [m]);
            }

            // dzo, from dm·h(c').
            let dz = |kind, y: &[f32], d: &mut [f32], z: &mut [f32]| {
                s.times_slope(kind, y, &mut *d);
                if cell.preact_clip.is_finite() {
                    s.where_not_clipped(z, cell.preact_clip, &mut *d);
                }
                copy_prefix(z, d);
            };
            update(s, Product {}, [dm, &*tanh_c], [&mut *spare]);
            dz(cell.gates, o, &mut *spare, &mut *zo);
            // dc', from m and the peephole of o, before the clipping.
            update(s, Product {}, [dm, &*o], [&mut *dtanh]);
            s.times_slope(cell.output, tanh_c, &mut *dtanh);
            update(s, AddTo {}, [&*dtanh], [&mut *dc]);
            if cell.peepholes {
                s.add_product(&mut *dc, zo, wo);
                s.add_product(&mut *dwo, zo, c_after);
            }
            let mut normed = Normed::default();
            if cell.layer_norm {
                normed = Normed::of(&stage, &*cache.norms, step * batch + row);
            }
            if cell.cell_clip.is_finite() {
                if cell.layer_norm {
                    copy_prefix(&mut *raw, normed.cell);
                    gain_and_shift(s, cell_gain, cell_shift, &mut *raw);
                } else {
                    update(s, RawCell {}, [&*i, &*j, &*f, c_before], [&mut *raw]);
                }
                let clip = cell.cell_clip;
                update(s, CellGradient { clip }, [&*raw], [&mut *dc]);
            }
            if cell.layer_norm {
                let (hats, factor) = (normed.cell, normed.cell_factor);
                let (dgain, dshift) = (&mut *dcell_gain, &mut *dcell_shift);
                s.normalize_back(hidden, cell_gain, hats, factor, &mut *dc, dgain, dshift);
            }
            // dzf, or the share of i in f = 1 − i.
            update(s, Product {}, [&*dc, c_before], [&mut *spare]);
            update(s, Product {}, [&*dc, &*j], [&mut *dtanh]);
            if cell.coupled {
                update(s, Subtract {}, [&*spare], [&mut *dtanh]);
                zf.fill(0.0);
            } else {
                dz(cell.gates, f, &mut *spare, &mut *zf);
            }
            dz(cell.gates, i, &mut *dtanh, &mut *zi);
            update(s, Product {}, [&*dc, &*i], [&mut *spare]);
            dz(cell.candidate, j, &mut *spare, &mut *zj);
            // dc of the step before.
            copy_prefix(&mut *spare, dc);
            update(s, Product {}, [&*spare, &*f], [&mut *dc]);
            if cell.peepholes {
                s.add_product(&mut *dc, zi, wi);
                s.add_product(&mut *dwi, zi, c_before);
                if !cell.coupled {
                    s.add_product(&mut *dc, zf, wf);
                    s.add_product(&mut *dwf, zf, c_before);
                }
            }
            if cell_stays {
                update(s, AddTo {}, [&*dkept], [dc]);
            }
            // From what the gates see to the products.
            if cell.layer_norm {
                let (hats, factors) = (normed.gates, normed.gate_factors);
                let (dgains, dbias) = (&mut *to.gains, &mut *to.bias);
                s.normalize_back(hidden, weights.gains, hats, factors, z, dgains, dbias);
            }
        }
        s.gemm(GemmArgs {
            a: MatRef::new(z, batch, 4 * hidden),
            b: MatRef::new(recurrent, 4 * hidden, outputs),
            init: Init::Zero,
            c: MatMut::new(&mut *dh_before, batch, outputs),
            scratch: &mut [],
        });
        if !masks.recurrent.is_empty() {
            s.multiply(&mut *dh_before, masks.recurrent);
        }
        for (row, (dh, before)) in exact_chunks(&mut *dh, outputs)
            .zip(exact_chunks(&*dh_before, outputs))
            .enumerate()
        {
            if !rows.is_active(step, row) {
                continue;
            }
            if hidden_stays {
                update(s, AddTo {}, [before], [dh]);
            } else {
                copy_prefix(dh, before);
            }
        }
    }

    // The parameters', over all rows at once, from the last to the first.
    let all = steps * batch;
    let accumulate = |a: MatRef, b: &[f32], cols, to: &mut [f32]| {
        s.gemm(GemmArgs {
            a: a.reversed_rows().transposed(),
            b: MatRef::new(b, all, cols).reversed_rows(),
            init: Init::Accumulate,
            c: MatMut::new(to, a.col_count(), cols),
            scratch: &mut [],
        });
    };
    let (h_before, _) = (&*cache.h).cut(all * outputs);
    accumulate(MatRef::new(x, all, inputs), z, 4 * hidden, to.input);
    accumulate(
        MatRef::new(h_before, all, outputs),
        z,
        4 * hidden,
        to.recurrent,
    );
    if !cell.layer_norm {
        accumulate(MatRef::ones(all, 1), z, 4 * hidden, to.bias);
    }
    if cell.projection.is_some() {
        let m = MatRef::new(m_all, all, hidden);
        accumulate(m, cache.projected, outputs, to.projection);
    }
    s.gemm(GemmArgs {
        a: MatRef::new(z, all, 4 * hidden),
        b: MatRef::new(input, 4 * hidden, inputs),
        init: Init::Zero,
        c: MatMut::new(dx, all, inputs),
        scratch: &mut [],
    });
}
