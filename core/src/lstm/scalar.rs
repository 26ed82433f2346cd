//! A step where there is one lane and code is small: a few units of one row at a time, in functions
//! that all layers share.

use super::cell::Forward;
use super::step::Steps;
use super::tile::Step;
use crate::simd::{Formula as _, Scalar, UNITS, Weight};

/// Units that are summed at a time where `UNITS` are not.
const FEW: usize = 4;

impl<const LONG: bool> Steps for Scalar<LONG> {
    #[inline(always)]
    fn step(self, step: &mut Step<'_, false>, _: bool) {
        run(self, step);
    }
    #[inline(always)]
    fn step_from_preact(self, step: &mut Step<'_, true>, _: bool) {
        run(self, step);
    }
    #[inline(always)]
    fn step_halves(self, step: &mut Step<'_, false, u16>, _: bool) {
        run(self, step);
    }
}

/// All rows and units.
#[inline(always)]
fn run<const LONG: bool, const GATES: bool, W: Weight>(s: Scalar<LONG>, step: &mut Step<GATES, W>) {
    for row in 0..step.batch() {
        let mut at = 0;
        while const { Scalar::<LONG>::has_units::<W>() } && step.hidden() - at >= UNITS {
            units::<LONG, UNITS, GATES, W>(s, step, row, at);
            at += UNITS;
        }
        while step.hidden() - at >= FEW {
            units::<LONG, FEW, GATES, W>(s, step, row, at);
            at += FEW;
        }
        while at < step.hidden() {
            units::<LONG, 1, GATES, W>(s, step, row, at);
            at += 1;
        }
    }
}

#[inline(never)]
fn units<const LONG: bool, const N: usize, const GATES: bool, W: Weight>(
    s: Scalar<LONG>,
    step: &mut Step<GATES, W>,
    row: usize,
    at: usize,
) {
    if let Some(tile) = step.tile::<_, 1, N, true>(s, row, at) {
        let sums = tile.sums_in_memory(s);
        finish(s, step, row, at, sums.as_flattened(), N);
    }
}

/// Activations and new states of some units, from their pre-activations `[4, units]`.
#[inline(never)]
fn finish<const LONG: bool, const GATES: bool, W: Weight>(
    s: Scalar<LONG>,
    step: &mut Step<GATES, W>,
    row: usize,
    at: usize,
    sums: &[f32],
    units: usize,
) {
    for n in 0..units {
        let sum = |gate: usize| sums.get(gate * units + n).copied().unwrap_or(0.0);
        if let Some(tile) = step.tile::<_, 1, 1, true>(s, row, at + n) {
            let [[c]] = tile.c_before(s);
            let outputs = Forward.evaluate(s, [sum(0), sum(1), sum(2), sum(3), c]);
            tile.finish(s, outputs.map(|v| [[v]]));
        }
    }
}
