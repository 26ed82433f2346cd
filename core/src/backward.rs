//! One step backward through a layer of so few units that a vector holds them: the
//! gradients of the gates and of the hidden state before, with nothing but the buffers
//! of the layer itself in between.
//!
//! ```text
//! dh_before = Σ dgates(k) · Wh(·, k)        k over the gates, their units ascending
//! ```
//!
//! The sum is the chain of a matrix product from zero, so wider layers, which take one,
//! have the same bits.

#![allow(unsafe_code)]

use crate::cell::{joined, most_rows, parted, step_gradients};
use crate::simd::{Kernel, Several, Simd};
use crate::tile::split;

/// One step of `batch` rows; a vector holds the units.
///
/// `gates` `[B, 4, H]`, `dh` and `dc` `[B, H]` are those of
/// [`StepBackward`](crate::cell::StepBackward), and `dh` becomes the gradient of the hidden
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
    let units = batch * hidden;
    let fits = hidden <= S::LANES
        && gates.len() == 4 * units
        && [c_before, c, dy, dc, dh].iter().all(|b| b.len() == units)
        && transposed.len() == 4 * hidden * hidden;
    debug_assert!(fits, "a buffer of the step has the wrong length");
    if !fits {
        return;
    }
    let step = Step {
        hidden,
        gates: gates.as_mut_ptr(),
        c_before: c_before.as_ptr(),
        c: c.as_ptr(),
        dy: dy.as_ptr(),
        dc: dc.as_mut_ptr(),
        dh: dh.as_mut_ptr(),
        transposed: transposed.as_ptr(),
    };
    let whole = hidden == S::LANES;
    let (large, size, small) = split(batch, most_rows::<S>(S::FILLED || whole));
    let mut row = 0;
    for (count, rows) in [(large, size), (small, size.saturating_sub(1))] {
        for _ in 0..count {
            let step = &step;
            match rows {
                4 if S::JOINS && whole => s.call(Tile::<4, true> { step, row }),
                4 if S::JOINS => s.call(Tile::<4, false> { step, row }),
                1 if S::FILLED || whole => s.call(Tile::<1, true> { step, row }),
                2 if S::FILLED || whole => s.call(Tile::<2, true> { step, row }),
                1 => s.call(Tile::<1, false> { step, row }),
                _ if const { S::SHORT } => {}
                _ if S::FILLED || whole => s.call(Tile::<3, true> { step, row }),
                2 => s.call(Tile::<2, false> { step, row }),
                _ => s.call(Tile::<3, false> { step, row }),
            }
            row += rows;
        }
    }
}

/// The buffers of one step.
struct Step {
    hidden: usize,
    gates: *mut f32,
    c_before: *const f32,
    c: *const f32,
    dy: *const f32,
    dc: *mut f32,
    dh: *mut f32,
    transposed: *const f32,
}

/// `ROWS` rows from `row` on, which lie within the step's; `WHOLE`, the units fill a vector.
struct Tile<'a, const ROWS: usize, const WHOLE: bool> {
    step: &'a Step,
    row: usize,
}

impl<const ROWS: usize, const WHOLE: bool> Kernel for Tile<'_, ROWS, WHOLE> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { step, row } = self;
        let hidden = step.hidden;
        let mask = s.mask(hidden);
        // SAFETY: the rows lie within the buffers, as the type promises, and their units
        // within the mask.
        unsafe {
            let at = row * hidden;
            let gates = step.gates.add(4 * at);
            let mut by_gate = [[s.splat(0.0); ROWS]; 4];
            for (g, gate) in by_gate.iter_mut().enumerate() {
                *gate = rows::<S, ROWS, WHOLE>(s, gates.add(g * hidden), 4 * hidden, mask);
            }
            let mut units = [[s.splat(0.0); ROWS]; 5];
            let (dh, dc) = (step.dh.cast_const(), step.dc.cast_const());
            let buffers = [step.c_before, step.c, step.dy, dh, dc];
            for (units, buffer) in units.iter_mut().zip(buffers) {
                *units = rows::<S, ROWS, WHOLE>(s, buffer.add(at), hidden, mask);
            }
            let [c_before, c, dy, dh, dc] = units;
            let of_cell = (by_gate, (c_before, c), (dy, dh, dc));
            let (dgates, dc) = match ROWS {
                2 if S::JOINS => gradients_joined::<S, ROWS, 1>(s, of_cell),
                3 | 4 if S::JOINS => gradients_joined::<S, ROWS, 2>(s, of_cell),
                _ => {
                    let (gates, states, gradients) = of_cell;
                    step_gradients(Several::<S, ROWS>(s), gates, states, gradients)
                }
            };
            for r in 0..ROWS {
                s.store_part::<WHOLE>(step.dc.add(at + r * hidden), dc[r], mask);
                for (g, dgate) in dgates.iter().enumerate() {
                    let place = gates.add((4 * r + g) * hidden);
                    s.store_part::<WHOLE>(place, dgate[r], mask);
                }
            }
            let mut sums = [s.splat(0.0); ROWS];
            for k in 0..4 * hidden {
                let w = s.load_part::<WHOLE>(step.transposed.add(k * hidden), mask);
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = s.fma(s.splat(*gates.add(4 * r * hidden + k)), w, *sum);
                }
            }
            for (r, sum) in sums.into_iter().enumerate() {
                s.store_part::<WHOLE>(step.dh.add(at + r * hidden), sum, mask);
            }
        }
    }
}

/// A vector of each row, so far apart. Not a closure, which the compiler may leave a function
/// of its own: that would not have the level's instructions.
///
/// # Safety
/// The rows lie within the buffer, as far as the mask goes unless `WHOLE`.
#[inline(always)]
unsafe fn rows<S: Simd, const ROWS: usize, const WHOLE: bool>(
    s: S,
    from: *const f32,
    apart: usize,
    mask: S::Mask,
) -> [S::V; ROWS] {
    let mut rows = [s.splat(0.0); ROWS];
    for (r, row) in rows.iter_mut().enumerate() {
        // SAFETY: the caller's.
        *row = unsafe { s.load_part::<WHOLE>(from.add(r * apart), mask) };
    }
    rows
}

/// The arguments of [`step_gradients`] for `N` vectors.
type OfCell<V, const N: usize> = ([[V; N]; 4], ([V; N], [V; N]), ([V; N], [V; N], [V; N]));

/// [`step_gradients`] for `N` vectors as `PAIRS` of twice the lanes.
#[inline(always)]
fn gradients_joined<S: Simd, const N: usize, const PAIRS: usize>(
    s: S,
    (gates, (c_before, c), (dy, dh, dc)): OfCell<S::V, N>,
) -> ([[S::V; N]; 4], [S::V; N]) {
    let mut pairs = [[s.join(c[0], c[0]); PAIRS]; 4];
    for (pairs, gate) in pairs.iter_mut().zip(gates) {
        *pairs = joined(s, gate);
    }
    let (pairs, dc) = step_gradients(
        Several::<S::Twice, PAIRS>(s.twice()),
        pairs,
        (joined(s, c_before), joined(s, c)),
        (joined(s, dy), joined(s, dh), joined(s, dc)),
    );
    let mut dgates = gates;
    for (gate, pairs) in dgates.iter_mut().zip(pairs) {
        *gate = parted(s, pairs);
    }
    (dgates, parted(s, dc))
}
