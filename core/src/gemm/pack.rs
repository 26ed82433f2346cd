//! The right operand of a product that is taken again and again, copied once to where
//! [`tiles`](super::tile::tiles) read it in order.
//!
//! A panel is as wide as a tile, its rows one after the other; the last one may be
//! narrower. So the copy is as large as the operand, and lasts for a call.

#![allow(unsafe_code)]

use super::blocked::blocked;
use super::transpose::transpose_part;
use super::{Init, MatRef, Product, Sizes};
use crate::simd::Simd;

/// Rows that are copied at a time: lines of the caches, where rows are columns.
const ROWS: usize = 16;

/// Copies `b` [k, n] to `panels`, which has k·n numbers.
#[inline(always)]
pub(crate) fn pack<S: Simd>(s: S, (k, n): (usize, usize), b: MatRef, panels: &mut [f32]) {
    let Some((b, row, column)) = b.in_bounds(k, n) else {
        return;
    };
    let along = row == 1 || column == 1;
    if !along || k.checked_mul(n) != Some(panels.len()) {
        debug_assert!(
            false,
            "the operand lies along memory, and the panels are as large"
        );
        return;
    }
    let panels = panels.as_mut_ptr();
    s.vectorize(
        #[inline(always)]
        move || pack_rows(s, (k, n), b, (row, column), panels),
    );
}

#[inline(always)]
fn pack_rows<S: Simd>(
    _: S,
    (k, n): (usize, usize),
    b: *const f32,
    (row_stride, column): (isize, isize),
    panels: *mut f32,
) {
    // A few rows at a time, so that both are read and written along memory.
    for k_at in (0..k).step_by(ROWS) {
        let rows = k_at..k.min(k_at + ROWS);
        let mut at = 0;
        while at < n {
            let width = (2 * S::LANES).min(n - at);
            // SAFETY: rows and columns lie within k and n, and the copy within k·n.
            unsafe {
                let panel = panels.add(at * k);
                let b = b.offset(at as isize * column);
                if column == 1 {
                    for k in rows.clone() {
                        let from = b.offset(k as isize * row_stride);
                        let to = panel.add(k * width);
                        if width == 2 * S::LANES {
                            core::ptr::copy_nonoverlapping(from, to, 2 * S::LANES);
                        } else {
                            core::ptr::copy_nonoverlapping(from, to, width);
                        }
                    }
                } else {
                    let to = panel.add(rows.start * width);
                    let from = b.add(rows.start);
                    transpose_part((to, width), (from, column), width, rows.len());
                }
            }
            at += width;
        }
    }
}

/// `c` [m, n], its rows so far apart, = `start` + `a` [m, k] · b, of which `panels` is the copy. `backwards` takes the
/// panels from the last to the first, which leaves no trace in the result: what the product
/// before read last is then read first.
#[inline(always)]
pub(crate) fn gemm_packed<S: Simd>(
    s: S,
    sizes: Sizes,
    a: MatRef,
    panels: &[f32],
    start: Init,
    c: (&mut [f32], usize),
    backwards: bool,
) {
    // Panels are rows of another width: the checks are the same.
    if let Some(product) = Product::new(sizes, a, MatRef::rows(panels, sizes.n), start, c) {
        blocked::<S, true>(s, product, backwards);
    }
}
