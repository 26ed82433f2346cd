//! One step of one row through int8 weights: integer products, and the cell in arithmetic that is
//! never fused.
//!
//! Inputs and hidden states become int16, the nearest to x·m, clipped; then, with
//! integer sums that cannot overflow,
//!
//! ```text
//! z = bias + scale_x·Σ q·x + scale_h·Σ q·h
//! ```
//!
//! Each of these operations is exact or rounded once, so that a step has the same bits everywhere.

use super::storage::{CONSTANT_ROWS, FACTORS, Panel, panel, panels};
use crate::layout::split::{exact_chunks, take};
use crate::layout::{Cut as _, LayerShape};
use crate::lstm::cell::Forward;
use crate::lstm::weights::PANEL_UNITS;
use crate::simd::map::{Block, Elementwise, for_each_of_many};
use crate::simd::{
    Arithmetic, Formula as _, Integers, IntegersOf, Simd, Unfused, WithIntegers, per_level,
};
use bytemuck::must_cast_slice_mut;

per_level! {
    /// A step through int8 weights, whose panels are taken from the last to the first if `descending`.
    trait Int8: IntegersOf {
        fn int8_step(row: Row<'_>, words: &[u32], descending: bool) = step;
    }
}

/// One row of a step, of any storage.
pub struct Row<'a> {
    pub(super) shape: LayerShape,
    /// `[I]`
    pub(super) x: &'a [f32],
    /// `[H]`, advanced.
    pub(super) c: &'a mut [f32],
    /// `[H]`, advanced.
    pub(super) h: &'a mut [f32],
    /// Of [`scratch_len`].
    pub(super) scratch: &'a mut [f32],
}

/// Room for the pre-activations, for a row as integers in `f32`, and for these in pairs.
pub(super) const fn scratch_len(shape: LayerShape) -> usize {
    let LayerShape { inputs, hidden } = shape;
    let longest = if inputs > hidden { inputs } else { hidden };
    let pairs = inputs.div_ceil(2).saturating_add(hidden.div_ceil(2));
    hidden
        .saturating_mul(4)
        .saturating_add(longest)
        .saturating_add(pairs)
}

/// The largest magnitude of an integer that an input or a hidden state ever becomes.
pub(super) const LARGEST: u32 = 1 << 14;

/// 1.5·2²³: the low half of the bits of a sum with it is the integer.
pub(super) const TO_INTEGER: f32 = 12_582_912.0;

#[inline(always)]
fn step<S: IntegersOf>(s: S, row: Row, words: &[u32], descending: bool) {
    let Row {
        shape,
        x,
        c,
        h,
        scratch,
    } = row;
    let LayerShape { inputs, hidden } = shape;
    let (words, factors) = words.cut(words.len().saturating_sub(FACTORS));
    let factors = factors.first_chunk().unwrap_or(&[0; FACTORS]);
    let [of_bias, of_x, of_h, most_x] = factors.map(f32::from_bits);
    let mut room = scratch;
    let z = take(&mut room, 4 * hidden);
    let (pairs, integers) = room.cut(inputs.div_ceil(2) + hidden.div_ceil(2));
    let (x_pairs, h_pairs) = must_cast_slice_mut(pairs).cut(inputs.div_ceil(2));
    let x_offset = to_pairs(s, x, [of_x, most_x], &mut *integers, x_pairs);
    let h_offset = to_pairs(s, h, [of_h, of_h], integers, h_pairs);
    let row = Operands {
        hidden,
        of_bias,
        x: Operand {
            pairs: x_pairs,
            offset: x_offset,
        },
        h: Operand {
            pairs: h_pairs,
            offset: h_offset,
        },
    };
    s.with_integers(Products {
        row,
        shape,
        words,
        descending,
        z: &mut *z,
    });
    let mut z = z;
    let gates: [&mut [f32]; 4] = [
        take(&mut z, hidden),
        take(&mut z, hidden),
        take(&mut z, hidden),
        z,
    ];
    for_each_of_many(s, hidden, &mut Cell { gates, c, h });
}

/// A row times a factor, clipped, as pairs of int16; and 128 times their sum.
#[inline(always)]
fn to_pairs<S: IntegersOf>(
    s: S,
    from: &[f32],
    [factor, most]: [f32; 2],
    integers: &mut [f32],
    pairs: &mut [u32],
) -> u32 {
    let (to, _) = integers.cut(from.len());
    let len = to.len();
    let mut rounded = Rounded {
        from,
        factor,
        most,
        to: &mut *to,
    };
    for_each_of_many(s, len, &mut rounded);
    let (twos, last) = to.as_chunks::<2>();
    let mut sum = 0u32;
    let mut pair = |to: &mut u32, low: f32, high: f32| {
        let (low, high) = (low.to_bits(), high.to_bits());
        sum = sum
            .wrapping_add(low as i16 as u32)
            .wrapping_add(high as i16 as u32);
        *to = (low & 0xffff) | high << 16;
    };
    let (even, odd) = pairs.cut(twos.len());
    for (to, &[low, high]) in even.iter_mut().zip(twos) {
        pair(to, low, high);
    }
    if let (Some(to), Some(&low)) = (odd.first_mut(), last.first()) {
        pair(to, low, TO_INTEGER);
    }
    sum.wrapping_mul(128)
}

/// Numbers times a factor, clipped, as integers in the low bits of `f32`.
struct Rounded<'a> {
    from: &'a [f32],
    factor: f32,
    most: f32,
    to: &'a mut [f32],
}

impl Elementwise for Rounded<'_> {
    #[inline(always)]
    fn block<A: Arithmetic>(&mut self, s: A, at: impl Block<A>) {
        let v = s.mul(at.load(self.from), s.splat(self.factor));
        let v = s.max(s.splat(-self.most), s.min(v, s.splat(self.most)));
        at.store(self.to, s.add(v, s.splat(TO_INTEGER)));
    }
}

/// What the rows of a kernel are multiplied with.
#[derive(Clone, Copy)]
struct Operand<'a> {
    pairs: &'a [u32],
    /// What bytes that have 128 too much add to a sum.
    offset: u32,
}

/// A row of inputs and hidden states as integers.
struct Operands<'a> {
    hidden: usize,
    of_bias: f32,
    x: Operand<'a>,
    h: Operand<'a>,
}

/// The pre-activations of all units.
struct Products<'a> {
    row: Operands<'a>,
    shape: LayerShape,
    words: &'a [u32],
    descending: bool,
    z: &'a mut [f32],
}

impl WithIntegers for Products<'_> {
    #[inline(always)]
    fn call<N: Integers>(self, n: N) {
        let count = panels(self.shape);
        for index in 0..count {
            let index = if self.descending {
                count - 1 - index
            } else {
                index
            };
            let panel = panel(self.shape, self.words, index);
            self.row.panel(n, panel, &mut *self.z);
        }
    }
}

impl Operands<'_> {
    /// The pre-activations of a panel's units.
    #[inline(always)]
    fn panel<N: Integers>(&self, n: N, panel: Panel<&[u32]>, z: &mut [f32]) {
        const FULL: usize = PANEL_UNITS / 2;
        if panel.width != FULL {
            for at in (0..panel.width).step_by(N::Floats::LANES) {
                self.tile::<N, 0>(n, panel, at, &mut *z);
            }
            return;
        }
        match N::Floats::LANES {
            FULL => self.tile::<N, FULL>(n, panel, 0, z),
            4 => {
                self.tile::<N, FULL>(n, panel, 0, &mut *z);
                self.tile::<N, FULL>(n, panel, 4, z);
            }
            _ => {
                for at in 0..FULL {
                    self.tile::<N, FULL>(n, panel, at, &mut *z);
                }
            }
        }
    }

    /// Those of the units of one vector of words, from word `at` of a gate on. `WIDTH` is the panel's,
    /// or 0.
    #[inline(always)]
    fn tile<N: Integers, const WIDTH: usize>(
        &self,
        n: N,
        panel: Panel<&[u32]>,
        at: usize,
        z: &mut [f32],
    ) {
        let width = if WIDTH == 0 { panel.width } else { WIDTH };
        let row = 4 * width;
        let mut words = panel.words;
        let constants = take(&mut words, CONSTANT_ROWS * row);
        let (input, recurrent) = words.cut(self.x.pairs.len() * row);
        let x = products::<N, WIDTH>(n, width, at, input, self.x);
        let h = products::<N, WIDTH>(n, width, at, recurrent, self.h);
        let constant = |row: usize, gate: usize| {
            let place = (row * 4 + gate) * width;
            let row = constants.get(place + at..place + width).unwrap_or(&[]);
            n.load_words(row)
        };
        let s = n.floats();
        for gate in 0..4 {
            let (bias, of_x, of_h) = (constant(0, gate), constant(1, gate), constant(2, gate));
            let both = [
                (n.low_half(bias), n.top_half(of_x), n.top_half(of_h)),
                (
                    n.high_half(bias),
                    n.top_half(n.high_half(of_x)),
                    n.top_half(n.high_half(of_h)),
                ),
            ];
            let units = [(at, width), (width + at, panel.units)];
            for (part, (bias, of_x, of_h)) in both.into_iter().enumerate() {
                let sum = s.mul(n.to_float(bias), s.splat(self.of_bias));
                let sum = s.add(sum, s.mul(n.as_float(of_x), n.to_float(x[part][gate])));
                let sum = s.add(sum, s.mul(n.as_float(of_h), n.to_float(h[part][gate])));
                let (first, end) = units[part];
                let place = gate * self.hidden + panel.first;
                if let Some(to) = z.get_mut(place + first..place + end) {
                    s.store_slice(to, sum);
                }
            }
        }
    }
}

/// Words of a row of a full panel.
const ROW: usize = 2 * PANEL_UNITS;

/// Sums of the low units and of the high ones, of all gates.
type Sums<N> = [[<N as Integers>::I; 4]; 2];

#[inline(always)]
fn products<N: Integers, const WIDTH: usize>(
    n: N,
    width: usize,
    at: usize,
    words: &[u32],
    by: Operand,
) -> Sums<N> {
    let mut sums = [[n.splat_word(0); 4]; 2];
    if const { WIDTH == PANEL_UNITS / 2 } {
        // The mask, so that the compiler sees that the word is in the row.
        let at = at & (WIDTH - 1);
        n.add_rows(words.as_chunks::<ROW>().0, at, by.pairs, &mut sums);
    } else {
        for (row, &pair) in exact_chunks(words, 4 * width).zip(by.pairs) {
            n.add_row(row, at, pair, &mut sums);
        }
    }
    let offset = n.splat_word(by.offset);
    for low in &mut sums[0] {
        *low = n.subtract(*low, offset);
    }
    sums
}

/// The equations of a cell from pre-activations in memory, never fused.
struct Cell<'a> {
    gates: [&'a mut [f32]; 4],
    c: &'a mut [f32],
    h: &'a mut [f32],
}

impl Elementwise for Cell<'_> {
    #[inline(always)]
    fn block<A: Arithmetic>(&mut self, s: A, at: impl Block<A>) {
        let [i, j, f, o] = &self.gates;
        let c = at.load(self.c);
        let inputs = [at.load(i), at.load(j), at.load(f), at.load(o), c];
        let [_, _, _, _, c, h] = Forward.evaluate(Unfused(s), inputs);
        at.store(self.c, c);
        at.store(self.h, h);
    }
}
