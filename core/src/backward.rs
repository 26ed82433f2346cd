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

use crate::cell::{most_rows, step_gradients};
use crate::simd::{Several, Simd};
use crate::step::StepBack;
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
    let given = (c_before, c, dy);
    let Some(mut step) = StepBack::new((batch, hidden), gates, given, (dc, dh), transposed) else {
        return;
    };
    let whole = S::FILLED || hidden == S::LANES;
    let (large, size, small) = split(batch, most_rows::<S>(whole));
    let mut row = 0;
    for (count, rows) in [(large, size), (small, size.saturating_sub(1))] {
        for _ in 0..count {
            match rows {
                4 if S::JOINS && whole => tile::<S, 4, true>(&mut step, s, row),
                4 if S::JOINS => tile::<S, 4, false>(&mut step, s, row),
                1 if whole => tile::<S, 1, true>(&mut step, s, row),
                2 if whole => tile::<S, 2, true>(&mut step, s, row),
                1 => tile::<S, 1, false>(&mut step, s, row),
                _ if const { S::SHORT } => {}
                _ if whole => tile::<S, 3, true>(&mut step, s, row),
                2 => tile::<S, 2, false>(&mut step, s, row),
                _ => tile::<S, 3, false>(&mut step, s, row),
            }
            row += rows;
        }
    }
}

/// `ROWS` rows from `row` on; `WHOLE`, the units fill a vector.
#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const WHOLE: bool>(step: &mut StepBack, s: S, row: usize) {
    s.called(
        #[inline(always)]
        move || {
            step.tile::<S, ROWS, WHOLE>(
                s,
                row,
                #[inline(always)]
                |(gates, states, gradients)| {
                    let side_by_side = Several::<_, 1>(Several::<S, ROWS>(s));
                    step_gradients(side_by_side, gates, states, gradients)
                },
            );
        },
    );
}
