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

use super::cell::Forward;
use super::tile::{Step, StepBackward};
use crate::gemm::micro::Tile;
use crate::gemm::{Gemm, RowTiles};
use crate::simd::{Simd, Weight, narrowest, per_level};

per_level! {
    /// One step of a layer of any size. It takes the units from the last to the first if
    /// `descending`, which leaves no trace in the result: what was read last is then read first.
    trait Steps: Gemm, one_lane apart {
        /// From the bias.
        fn step(step: &mut Step<'_, false>, descending: bool) = run;
        /// From pre-activations that lack h·Wh.
        fn step_from_preact(step: &mut Step<'_, true>, descending: bool) = run;
        /// From the bias, with weights of half precision.
        fn step_halves(step: &mut Step<'_, false, u16>, descending: bool) = run_halves;
    }
}

per_level! {
    /// One step backward through a layer whose units a vector holds.
    trait StepsBackward: Steps {
        fn step_backward(step: &mut StepBackward<'_>) = run_backward;
    }
}

/// A step whose units fill a vector exactly, in one function with its caller.
#[inline(always)]
pub(crate) fn filled<S: Simd, W: Weight, const GATES: bool>(s: S, step: &mut Step<GATES, W>) {
    units::<S, W, true, true, GATES>(step, s, 0);
}

/// A step of one row whose units fill two vectors, which lie in one panel if there are panels.
#[inline(always)]
pub(crate) fn filled_pair<S: Simd, W: Weight, const GATES: bool>(s: S, step: &mut Step<GATES, W>) {
    tile::<S, W, 1, 2, true, true, GATES>(step, s, 0, 0);
}

/// A step backward likewise.
#[inline(always)]
pub(super) fn filled_backward<S: Simd>(s: S, step: &mut StepBackward) {
    rows_backward::<S, true, true>(step, s);
}

#[inline(always)]
fn run<S: Simd, W: Weight, const GATES: bool>(s: S, step: &mut Step<GATES, W>, descending: bool) {
    // In one vector of a narrower kind, if that holds the units.
    let (half, quarter) = (s.half(), s.half().half());
    if const { S::LANES > <<S::Half as Simd>::Half as Simd>::LANES }
        && step.hidden() <= <<S::Half as Simd>::Half as Simd>::LANES
    {
        one_vector(quarter, step);
    } else if const { S::LANES > 2 * <<S::Half as Simd>::Half as Simd>::LANES }
        && step.hidden() <= S::Half::LANES
    {
        one_vector(half, step);
    } else {
        many_vectors(s, step, descending);
    }
}

/// In vectors of eight numbers at most: those of sixteen are widened at half the speed.
#[inline(always)]
fn run_halves<S: Simd>(s: S, step: &mut Step<false, u16>, descending: bool) {
    if const { S::LANES > 8 } {
        run(s.half(), step, descending);
    } else {
        run(s, step, descending);
    }
}

#[inline(always)]
fn one_vector<S: Simd, W: Weight, const GATES: bool>(s: S, step: &mut Step<GATES, W>) {
    if step.hidden() == S::LANES {
        units::<S, W, true, false, GATES>(step, s, 0);
    } else {
        tail(step, s, 0);
    }
}

#[inline(always)]
fn many_vectors<S: Simd, W: Weight, const GATES: bool>(
    s: S,
    step: &mut Step<GATES, W>,
    descending: bool,
) {
    // One row alone has too few sums under way with one vector of units.
    let (wide, tiles) =
        if const { S::TILING.step_vectors == 2 } && step.batch() == 1 && step.takes(2 * S::LANES) {
            (2 * S::LANES, step.hidden() / (2 * S::LANES))
        } else {
            (S::LANES, step.hidden() / S::LANES)
        };
    if descending {
        tail(step, s, tiles * wide);
    }
    for index in 0..tiles {
        let at = wide * if descending { tiles - 1 - index } else { index };
        if const { S::TILING.step_vectors == 2 } && wide > S::LANES {
            tile::<S, W, 1, 2, true, true, GATES>(step, s, 0, at);
        } else {
            units::<S, W, true, false, GATES>(step, s, at);
        }
    }
    if !descending {
        tail(step, s, tiles * wide);
    }
}

/// All rows of the last units, which do not fill the vectors that came before: in narrower ones, and
/// what does not fill these masked.
#[inline(always)]
fn tail<S: Simd, W: Weight, const GATES: bool>(step: &mut Step<GATES, W>, s: S, mut at: usize) {
    let hidden = step.hidden();
    let half = s.half();
    let quarter = half.half();
    if hidden - at >= S::LANES {
        units::<S, W, true, false, GATES>(step, s, at);
        at += S::LANES;
    }
    if const { S::LANES > S::Half::LANES } && hidden - at >= S::Half::LANES {
        units::<S::Half, W, true, false, GATES>(step, half, at);
        at += S::Half::LANES;
    }
    let lanes = const { <<S::Half as Simd>::Half as Simd>::LANES };
    if const { S::Half::LANES > <<S::Half as Simd>::Half as Simd>::LANES } && hidden - at >= lanes {
        units::<_, W, true, false, GATES>(step, quarter, at);
        at += lanes;
    }
    if at < hidden {
        units::<_, W, false, false, GATES>(step, quarter, at);
    }
}

/// Rows of a step's tile, forward and backward.
const fn most_rows<S: Simd>(full: bool) -> usize {
    if full {
        S::TILING.step_rows
    } else {
        S::TILING.step_tail_rows
    }
}

/// The same of a step forward. Weights that are widened have streams of one row.
const fn most_rows_of<S: Simd, W: Weight>(full: bool) -> usize {
    if W::IS_F32 { most_rows::<S>(full) } else { 1 }
}

/// All rows of one vector of units, masked unless `FULL`.
#[inline(always)]
fn units<S: Simd, W: Weight, const FULL: bool, const INLINE: bool, const GATES: bool>(
    step: &mut Step<GATES, W>,
    s: S,
    at: usize,
) {
    let tiles = RowTiles::new(step.batch(), const { most_rows_of::<S, W>(FULL) });
    tiles.for_each(
        #[inline(always)]
        |row, rows| match rows {
            1 => tile::<S, W, 1, 1, FULL, INLINE, GATES>(step, s, row, at),
            2 if const { most_rows_of::<S, W>(FULL) >= 2 } => {
                tile::<S, W, 2, 1, FULL, INLINE, GATES>(step, s, row, at);
            }
            3 if const { most_rows_of::<S, W>(FULL) >= 3 } => {
                tile::<S, W, 3, 1, FULL, INLINE, GATES>(step, s, row, at);
            }
            4 if const { most_rows_of::<S, W>(FULL) >= 4 } => {
                tile::<S, W, 4, 1, FULL, INLINE, GATES>(step, s, row, at);
            }
            _ => {}
        },
    );
}

/// `ROWS` rows of `VECTORS` vectors of units, all four gates in registers: unless `INLINE`, a function
/// of its own.
#[inline(always)]
fn tile<
    S: Simd,
    W: Weight,
    const ROWS: usize,
    const VECTORS: usize,
    const FULL: bool,
    const INLINE: bool,
    const GATES: bool,
>(
    step: &mut Step<GATES, W>,
    s: S,
    row: usize,
    at: usize,
) {
    if INLINE {
        return tile_body::<S, W, ROWS, VECTORS, FULL, GATES>(step, s, row, at);
    }
    s.vectorize(
        #[inline(always)]
        move || tile_body::<S, W, ROWS, VECTORS, FULL, GATES>(step, s, row, at),
    );
}

#[inline(always)]
fn tile_body<
    S: Simd,
    W: Weight,
    const ROWS: usize,
    const VECTORS: usize,
    const FULL: bool,
    const GATES: bool,
>(
    step: &mut Step<GATES, W>,
    s: S,
    row: usize,
    at: usize,
) {
    let Some(tile) = step.tile::<S, ROWS, VECTORS, FULL>(s, row, at) else {
        debug_assert!(false, "a tile that the step does not have");
        return;
    };
    let mut sums = [[[s.splat(0.0); VECTORS]; 4]; ROWS];
    if const { ROWS == 4 } {
        // Two at a time: the sums of all would not stay in registers.
        let ([first, second], [third, fourth]) = (tile.sums(s, 0), tile.sums(s, 2));
        if let Some(four) = sums.first_chunk_mut() {
            *four = [first, second, third, fourth];
        }
    } else {
        sums = tile.sums(s, 0);
    }
    let [i, j, f, o] = by_gate(s, sums);
    let outputs = s.evaluate(Forward, [i, j, f, o, tile.c_before(s)]);
    tile.finish(s, outputs);
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

#[inline(always)]
fn run_backward<S: Simd>(s: S, step: &mut StepBackward) {
    let hidden = step.hidden();
    narrowest!(S, s, hidden, v => rows_of_units_backward(v, step));
}

#[inline(always)]
fn rows_of_units_backward<S: Simd>(s: S, step: &mut StepBackward) {
    if step.hidden() == S::LANES {
        rows_backward::<S, true, false>(step, s);
    } else {
        rows_backward::<S, false, false>(step, s);
    }
}

/// All rows of the units, which fill a vector if `FULL`.
#[inline(always)]
fn rows_backward<S: Simd, const FULL: bool, const INLINE: bool>(step: &mut StepBackward, s: S) {
    let tiles = RowTiles::new(step.batch(), const { most_rows::<S>(FULL) });
    tiles.for_each(
        #[inline(always)]
        |row, rows| match rows {
            1 => tile_backward::<S, 1, FULL, INLINE>(step, s, row),
            2 if const { most_rows::<S>(FULL) >= 2 } => {
                tile_backward::<S, 2, FULL, INLINE>(step, s, row);
            }
            3 if const { most_rows::<S>(FULL) >= 3 } => {
                tile_backward::<S, 3, FULL, INLINE>(step, s, row);
            }
            4 if const { most_rows::<S>(FULL) >= 4 } => {
                tile_backward::<S, 4, FULL, INLINE>(step, s, row);
            }
            _ => {}
        },
    );
}

#[inline(always)]
fn tile_backward<S: Simd, const ROWS: usize, const FULL: bool, const INLINE: bool>(
    step: &mut StepBackward,
    s: S,
    row: usize,
) {
    if INLINE {
        return tile_backward_body::<S, ROWS, FULL>(step, s, row);
    }
    s.vectorize(
        #[inline(always)]
        move || tile_backward_body::<S, ROWS, FULL>(step, s, row),
    );
}

#[inline(always)]
fn tile_backward_body<S: Simd, const ROWS: usize, const FULL: bool>(
    step: &mut StepBackward,
    s: S,
    row: usize,
) {
    step.tile::<S, ROWS, FULL>(s, row);
}
