//! A step where there is one lane and code is small: a few units of one row at a time, in
//! functions that all layers share.

use super::tile::Step;
use crate::gemm::micro::{LONG, accumulate_units};
use crate::lstm::cell::activate;
use crate::simd::Simd;

/// Units that are summed at a time, if there are not so many that the level has a way of its own.
const FEW: usize = 4;

/// All rows and units.
#[inline(always)]
pub(crate) fn run<S: Simd, const GATES: bool>(mut step: Step<GATES>, s: S) {
    let step = &mut step;
    for row in 0..step.batch {
        let mut at = 0;
        while const { S::LONG } && step.hidden - at >= LONG {
            units::<S, LONG, GATES>(s, step, row, at);
            at += LONG;
        }
        while step.hidden - at >= FEW {
            units::<S, FEW, GATES>(s, step, row, at);
            at += FEW;
        }
        while at < step.hidden {
            units::<S, 1, GATES>(s, step, row, at);
            at += 1;
        }
    }
}

#[inline(never)]
fn units<S: Simd, const N: usize, const GATES: bool>(
    s: S,
    step: &mut Step<GATES>,
    row: usize,
    at: usize,
) {
    if let Some(tile) = step.tile::<S, 1, N, true>(s, row, at) {
        let mut sums = tile.start(s);
        if let Some((x, kernel)) = tile.input() {
            accumulate_units(s, x, kernel, &mut sums);
        }
        let (h, kernel) = tile.recurrent();
        accumulate_units(s, h, kernel, &mut sums);
        finish(s, step, row, at, sums.as_flattened(), N);
    }
}

/// What is left of a step for some units, from their sums `[4, units]`.
#[inline(never)]
fn finish<S: Simd, const GATES: bool>(
    s: S,
    step: &mut Step<GATES>,
    row: usize,
    at: usize,
    sums: &[S::V],
    units: usize,
) {
    for n in 0..units {
        let sum = |gate: usize| sums.get(gate * units + n).copied().unwrap_or(s.splat(0.0));
        let gates = [sum(0), sum(1), sum(2), sum(3)];
        if let Some(tile) = step.tile::<S, 1, 1, true>(s, row, at + n) {
            let [[c]] = tile.c_before(s);
            let (gates, c, h) = activate(s, gates, c);
            tile.finish(s, gates.map(|gate| [[gate]]), [[c]], [[h]]);
        }
    }
}
