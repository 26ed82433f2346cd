//! One step of a layer with all gates in registers: which tiles cover its rows and units, forward
//! and, for layers of so few units that a vector holds them, backward.
//!
//! Backward,
//!
//! ```text
//! dh_before = Σ dgates(k) · Wh(·, k)        k over the gates, their units ascending
//! ```
//!
//! is the chain of a matrix product from zero, so wider layers, which take one, have the same bits.

use crate::gemm::micro::Tile;
use crate::gemm::split;
use crate::layout::{LayerShape, Params};
use crate::lstm::cell::{activate, step_gradients};
use crate::lstm::scalar;
use crate::lstm::tile::{Step, StepBack};
use crate::lstm::weights::{Order, PANEL};
use crate::simd::{Simd, Unrolled, narrowest};

/// Batch rows of a tile: four sums each; backward the elementwise part keeps some ten vectors of
/// each.
const ROWS: usize = 3;
/// The same where two rows are joined for the activations.
const JOINED_ROWS: usize = 4;

/// Rows of a tile of units, forward and backward; fewer where code is short, one where units are
/// masked.
#[inline(always)]
pub(crate) fn step_rows<S: Simd>(whole: bool) -> usize {
    match (S::SHORT, whole) {
        (true, true) => 2,
        (true, false) => 1,
        _ if S::JOINS => JOINED_ROWS,
        _ => ROWS,
    }
}

/// One step without a cache, for `batch` rows.
///
/// `x` `[B, I]`, `h_before` `[B, H]`; `c` `[B, H]` is advanced in place, `h` `[B, H]` is
/// overwritten. `backwards` takes the units from the last to the first, which leaves
/// no trace in the result: what was read last is then read first.
#[inline(always)]
pub(crate) fn step<S: Simd>(
    s: S,
    shape: LayerShape,
    batch: usize,
    (order, backwards): (Order, bool),
    params: Params<&[f32]>,
    x: &[f32],
    h_before: &[f32],
    c: &mut [f32],
    h: &mut [f32],
) {
    let LayerShape { inputs, hidden } = shape;
    let (input, recurrent) = params.split_kernel(shape);
    let (sizes, bias) = ((batch, inputs, hidden), params.bias);
    let products = ((x, input), (h_before, recurrent));
    if let Some(step) = Step::from_bias(sizes, order, bias, products.0, products.1, c, h) {
        narrowest!(S, s, hidden, v => run(step, v, order, backwards));
    }
}

/// The cell state before a step.
pub(crate) enum Before<'a> {
    /// Kept `[B, H]`.
    Kept(&'a [f32]),
    /// Where the one after the step will be.
    InPlace,
}

/// One step from sums that lack h·Wh, for `batch` rows: of all H units of a layer, or of U of
/// them, whose recurrent kernel is `[H, 4, U]`.
///
/// `sums` `[B, 4, U]`, its rows so far apart, holds bias + x·Wx and is overwritten with the
/// gate activations; `h_before` `[B, H]`; `c` and `h` `[B, U]` are overwritten.
#[inline(always)]
pub(crate) fn step_from_sums<S: Simd>(
    s: S,
    (all, hidden): (usize, usize),
    batch: usize,
    (order, backwards): (Order, bool),
    recurrent_kernel: &[f32],
    (c_before, h_before): (Before, &[f32]),
    (sums, gates_row): (&mut [f32], usize),
    c: &mut [f32],
    h: &mut [f32],
) {
    let c_before = match c_before {
        Before::Kept(c) => Some(c),
        Before::InPlace => None,
    };
    let recurrent = (h_before, recurrent_kernel);
    let sizes = (batch, all, hidden);
    if let Some(step) = Step::from_sums(sizes, order, (sums, gates_row), recurrent, c_before, c, h)
    {
        narrowest!(S, s, hidden, v => run(step, v, order, backwards));
    }
}

#[inline(always)]
fn run<S: Simd, const GATES: bool>(mut step: Step<GATES>, s: S, order: Order, backwards: bool) {
    if const { S::SMALL } {
        return scalar::run(step, s);
    }
    let step = &mut step;
    if const { S::FILLED } {
        units::<S, true, GATES>(step, s, 0);
        return;
    }
    // One row alone has too few sums under way with one vector of units.
    let in_panel = order == Order::Rows || 2 * S::LANES <= PANEL;
    let wide = if const { !S::SHORT } && step.batch == 1 && in_panel {
        2 * S::LANES
    } else {
        S::LANES
    };
    let tiles = step.hidden / wide;
    if backwards {
        rest(step, s, tiles * wide);
    }
    for index in 0..tiles {
        let at = wide * if backwards { tiles - 1 - index } else { index };
        if const { !S::SHORT } && wide > S::LANES {
            tile::<S, 1, 2, true, GATES>(step, s, 0, at);
        } else {
            units::<S, true, GATES>(step, s, at);
        }
    }
    if !backwards {
        rest(step, s, tiles * wide);
    }
}

/// All rows of the last units, which do not fill the vectors that came before: in
/// narrower ones, and what does not fill these masked.
#[inline(always)]
fn rest<S: Simd, const GATES: bool>(step: &mut Step<GATES>, s: S, mut at: usize) {
    let hidden = step.hidden;
    let half = s.half();
    let quarter = half.half();
    if hidden - at >= S::LANES {
        units::<S, true, GATES>(step, s, at);
        at += S::LANES;
    }
    if const { S::LANES > S::Half::LANES } && hidden - at >= S::Half::LANES {
        units::<S::Half, true, GATES>(step, half, at);
        at += S::Half::LANES;
    }
    let lanes = const { <<S::Half as Simd>::Half as Simd>::LANES };
    if const { S::Half::LANES > <<S::Half as Simd>::Half as Simd>::LANES } && hidden - at >= lanes {
        units::<_, true, GATES>(step, quarter, at);
        at += lanes;
    }
    if at < hidden {
        units::<_, false, GATES>(step, quarter, at);
    }
}

/// All rows of one vector of units, masked unless `FULL`.
#[inline(always)]
fn units<S: Simd, const FULL: bool, const GATES: bool>(step: &mut Step<GATES>, s: S, at: usize) {
    let (large, size, small) = split(step.batch, step_rows::<S>(FULL));
    let mut row = 0;
    for (count, rows) in [(large, size), (small, size.saturating_sub(1))] {
        for _ in 0..count {
            match rows {
                1 => tile::<S, 1, 1, FULL, GATES>(step, s, row, at),
                2 if const { FULL || !S::SHORT } => tile::<S, 2, 1, FULL, GATES>(step, s, row, at),
                4 if S::JOINS => tile::<S, 4, 1, FULL, GATES>(step, s, row, at),
                _ if const { S::SHORT } => {}
                _ => tile::<S, 3, 1, FULL, GATES>(step, s, row, at),
            }
            row += rows;
        }
    }
}

/// `ROWS` rows of `VECTORS` vectors of units, all four gates in registers: a function of its
/// own, shared by every layer and both doors.
#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const VECTORS: usize, const FULL: bool, const GATES: bool>(
    step: &mut Step<GATES>,
    s: S,
    row: usize,
    at: usize,
) {
    s.vectorize_unless_filled(
        #[inline(always)]
        move || {
            let Some(tile) = step.tile::<S, ROWS, VECTORS, FULL>(s, row, at) else {
                return;
            };
            let mut sums = [[[s.splat(0.0); VECTORS]; 4]; ROWS];
            if const { ROWS == 4 } {
                // Two at a time: the sums of all would not stay in registers.
                for first in [0, ROWS / 2] {
                    let [one, two] = tile.sums(s, first);
                    (sums[first], sums[first + ROWS / 4]) = (one, two);
                }
            } else {
                sums = tile.sums(s, 0);
            }
            // Side by side: alone, a vector would wait for its own results.
            let side_by_side = Unrolled::<_, VECTORS>(Unrolled::<S, ROWS>(s));
            let (gates, c, h) = activate(side_by_side, by_gate(s, sums), tile.c_before(s));
            tile.finish(s, gates, c, h);
        },
    );
}

/// What belongs to one gate, together.
#[inline(always)]
fn by_gate<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    sums: Tile<S, ROWS, 4, VECTORS>,
) -> [[[S::V; ROWS]; VECTORS]; 4] {
    let mut by_gate = [[[s.splat(0.0); ROWS]; VECTORS]; 4];
    for (r, sums) in sums.into_iter().enumerate() {
        for (gate, sums) in by_gate.iter_mut().zip(sums) {
            for (gate, sum) in gate.iter_mut().zip(sums) {
                gate[r] = sum;
            }
        }
    }
    by_gate
}

/// One step of `batch` rows; a vector holds the units.
///
/// `gates` `[B, 4, H]`, `dh` and `dc` `[B, H]` are those of
/// [`StepBackward`](crate::lstm::cell::StepBackward), and `dh` becomes the gradient of the hidden
/// state before; `c_before`, `c` and `dy` `[B, H]`; `transposed` `[4, H, H]`.
#[inline(always)]
pub(crate) fn narrow_step<S: Simd>(
    s: S,
    hidden: usize,
    batch: usize,
    gates: &mut [f32],
    (c_before, c, dy): (&[f32], &[f32], &[f32]),
    (dc, dh): (&mut [f32], &mut [f32]),
    transposed: &[f32],
) {
    let given = (c_before, c, dy);
    let Some(mut step) = StepBack::new((batch, hidden), gates, given, (dc, dh), transposed) else {
        return;
    };
    let whole = S::FILLED || hidden == S::LANES;
    let (large, size, small) = split(batch, step_rows::<S>(whole));
    let mut row = 0;
    for (count, rows) in [(large, size), (small, size.saturating_sub(1))] {
        for _ in 0..count {
            match rows {
                4 if S::JOINS && whole => tile_backward::<S, 4, true>(&mut step, s, row),
                4 if S::JOINS => tile_backward::<S, 4, false>(&mut step, s, row),
                1 if whole => tile_backward::<S, 1, true>(&mut step, s, row),
                2 if whole => tile_backward::<S, 2, true>(&mut step, s, row),
                1 => tile_backward::<S, 1, false>(&mut step, s, row),
                _ if const { S::SHORT } => {}
                _ if whole => tile_backward::<S, 3, true>(&mut step, s, row),
                2 => tile_backward::<S, 2, false>(&mut step, s, row),
                _ => tile_backward::<S, 3, false>(&mut step, s, row),
            }
            row += rows;
        }
    }
}

/// `ROWS` rows from `row` on; `FULL`, the units fill a vector.
#[inline(always)]
fn tile_backward<S: Simd, const ROWS: usize, const FULL: bool>(
    step: &mut StepBack,
    s: S,
    row: usize,
) {
    s.vectorize_unless_filled(
        #[inline(always)]
        move || {
            step.tile::<S, ROWS, FULL>(
                s,
                row,
                #[inline(always)]
                |(gates, states, gradients)| {
                    let side_by_side = Unrolled::<_, 1>(Unrolled::<S, ROWS>(s));
                    step_gradients(side_by_side, gates, states, gradients)
                },
            );
        },
    );
}
