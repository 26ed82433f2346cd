//! The matrix product for operands that do not fit the first cache: block by block,
//! each copied to where it is read in order (Goto and van de Geijn 2008).
//!
//! A panel of the right operand, as wide as a tile, stays in the first cache while
//! all rows of a block of the left operand pass by. The copies are on the stack,
//! about 180 KiB. Sums over more than [`DEPTH`] are kept in the output
//! between blocks, so the chains are those of every other walk.

#![allow(unsafe_code)]

use crate::matmul::{Product, Sizes, Start};
use crate::simd::Simd;
use crate::tile::{self, Ahead, Left, split, tiles};
use core::mem::MaybeUninit;

/// Products that are added up at a time.
const DEPTH: usize = 256;
/// Rows of the left operand that are copied, and so stay in the second cache.
const COPIED_ROWS: usize = 144;
/// Rows of the left operand that are read where they are.
const ROWS: usize = 240;
/// Columns of the widest tile.
const WIDTH: usize = 32;

#[repr(align(64))]
struct Room<const N: usize>([MaybeUninit<f32>; N]);

impl<const N: usize> Room<N> {
    #[inline(always)]
    fn new() -> Self {
        Self([MaybeUninit::uninit(); N])
    }
    #[inline(always)]
    fn start(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}

/// The product; `PACKED`, its right operand is in panels already.
///
/// # Safety
/// The product's pointers cover its sizes.
#[inline(always)]
pub(crate) unsafe fn blocked<S: Simd, const PACKED: bool>(s: S, product: Product) {
    const { assert!(2 * S::LANES <= WIDTH) };
    let Sizes { m, n, k } = product.sizes;
    let mut panel = Room::<{ DEPTH * WIDTH }>::new();
    let mut copy = Room::<{ COPIED_ROWS * DEPTH }>::new();
    let (panel, copy) = (panel.start(), copy.start());
    // Rows that lie along memory are read as they are.
    let copied = product.a.column != 1;
    let most = if copied { COPIED_ROWS } else { ROWS };
    let most_depth = k.div_ceil(k.div_ceil(DEPTH));
    for k_at in (0..k).step_by(most_depth) {
        let depth = most_depth.min(k - k_at);
        let start = if k_at == 0 {
            product.start
        } else {
            Start::Output
        };
        // Of about one size, because few rows would not pay for their panels.
        let most_rows = m.div_ceil(m.div_ceil(most));
        for row in (0..m).step_by(most_rows) {
            let rows = most_rows.min(m - row);
            // SAFETY: the block lies within the sizes, and its copies in their rooms.
            unsafe {
                let a = product.a.below(row).right_of(k_at);
                if copied {
                    copy_left(a, rows, depth, copy);
                }
                let left = |row: usize, rows: usize| {
                    if copied {
                        Left {
                            data: copy.cast_const().wrapping_add(row * depth),
                            row: 1,
                            column: rows as isize,
                        }
                    } else {
                        a.below(row)
                    }
                };
                let mut at = 0;
                while at < n {
                    let width = (2 * S::LANES).min(n - at);
                    let (b, ahead) = if PACKED {
                        let b = product.b.add(at * k + k_at * width);
                        let next = b.wrapping_add(width * k);
                        ((b, width as isize), Ahead::Panel(next))
                    } else {
                        let b = product.b.offset(k_at as isize * product.b_row).add(at);
                        copy_panel(s, b, product.b_row, depth, width, panel);
                        let next = b.wrapping_add(width);
                        let b = (panel.cast_const(), 2 * S::LANES as isize);
                        (b, Ahead::Rows(next, product.b_row))
                    };
                    let c = (product.c.add(row * n + at), n);
                    let (size, start) = ((rows, depth), start.right_of(at));
                    let masks = [
                        s.mask(width.min(S::LANES)),
                        s.mask(width.saturating_sub(S::LANES)),
                    ];
                    if width == 2 * S::LANES {
                        tiles::<S, 2, true, true>(s, size, left, b, start, c, masks, ahead);
                    } else if PACKED {
                        tiles::<S, 2, false, false>(s, size, left, b, start, c, masks, ahead);
                    } else {
                        tiles::<S, 2, true, false>(s, size, left, b, start, c, masks, ahead);
                    }
                    at += width;
                }
            }
        }
    }
}

/// Copies `depth` rows of `width` numbers, filled up with zeros to two vectors.
///
/// # Safety
/// `b`, with rows `b_row` apart, covers them, and `panel` the copy.
#[inline(always)]
unsafe fn copy_panel<S: Simd>(
    s: S,
    b: *const f32,
    b_row: isize,
    depth: usize,
    width: usize,
    panel: *mut f32,
) {
    // SAFETY: the caller's; a vector that the mask leaves out is not touched.
    unsafe {
        if width == 2 * S::LANES {
            for k in 0..depth {
                let (b, panel) = (b.offset(k as isize * b_row), panel.add(k * 2 * S::LANES));
                let (low, high) = (s.load(b), s.load(b.add(S::LANES)));
                s.store(panel, low);
                s.store(panel.add(S::LANES), high);
            }
            return;
        }
        let low = s.mask(width.min(S::LANES));
        let high = s.mask(width.saturating_sub(S::LANES));
        for k in 0..depth {
            let (b, panel) = (b.offset(k as isize * b_row), panel.add(k * 2 * S::LANES));
            s.store(panel, s.load_masked(b, low));
            let right = s.load_masked(b.wrapping_add(S::LANES), high);
            s.store(panel.add(S::LANES), right);
        }
    }
}

/// Copies `rows` × `depth` of the left operand tile by tile, each along its columns.
///
/// # Safety
/// `a` covers them, and `copy` the copy.
#[inline(always)]
unsafe fn copy_left(a: Left, rows: usize, depth: usize, copy: *mut f32) {
    let (large, size, small) = split(rows, tile::ROWS);
    let (mut row, mut to) = (0, copy);
    for (count, size) in [(large, size), (small, size.saturating_sub(1))] {
        for _ in 0..count {
            for k in 0..depth as isize {
                for i in 0..size as isize {
                    // SAFETY: the tiles cover rows and depth once each.
                    unsafe {
                        *to = *a.data.offset((row + i) * a.row + k * a.column);
                        to = to.add(1);
                    }
                }
            }
            row += size as isize;
        }
    }
}
