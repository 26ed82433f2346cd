//! The matrix product for operands that do not fit the first cache: block by block,
//! each copied to where it is read in order (Goto and van de Geijn 2008).
//!
//! A panel of the right operand, as wide as a tile, stays near while all rows of a block of
//! the left operand pass by: in the first cache if it has few rows, and else in the second,
//! from where tall tiles read it less often. The copies are on the stack, 320 KiB. Sums
//! over more than a block is deep are kept in the output between blocks, so the chains
//! are those of every other walk.

#![allow(unsafe_code)]

use super::tile::{Left, Prefetch, split, tiles};
use super::transpose::transpose_part;
use super::{Init, Product, Sizes};
use crate::layout::split::even_block_len;
use crate::simd::Simd;
use core::mem::MaybeUninit;

/// Products that are added up at a time where the panels are copied.
const DEPTH: usize = 512;
/// Products of so few numbers to a sum that a panel fits the first cache.
const SHALLOW: usize = 256;
/// Rows of the left operand that are copied at a time.
const ROWS: usize = 128;
/// Numbers of the left operand that are copied, and so stay in the second cache.
const AREA: usize = ROWS * DEPTH;
/// Columns of the widest tile.
const WIDTH: usize = 32;

#[repr(align(64))]
struct PackBuffer<const N: usize>([MaybeUninit<f32>; N]);

impl<const N: usize> PackBuffer<N> {
    #[inline(always)]
    fn new() -> Self {
        Self([MaybeUninit::uninit(); N])
    }
    #[inline(always)]
    fn start(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}

/// The product, whose pointers cover its sizes, as a function of its own; `PACKED`, its right
/// operand is in panels already, which are taken from the last to the first if it goes `backwards`.
#[inline(always)]
pub(crate) fn blocked<S: Simd, const PACKED: bool>(s: S, product: Product, backwards: bool) {
    s.vectorize(
        #[inline(always)]
        move || {
            // SAFETY: the pointers cover the sizes, in panels as they would in rows.
            unsafe { blocks::<S, PACKED>(s, product, backwards) }
        },
    );
}

/// [`blocked`].
///
/// # Safety
/// The product's pointers cover its sizes.
#[inline(always)]
unsafe fn blocks<S: Simd, const PACKED: bool>(s: S, product: Product, backwards: bool) {
    const { assert!(2 * S::LANES <= WIDTH) };
    let Sizes { m, n, k } = product.sizes;
    let mut panel = PackBuffer::<{ DEPTH * WIDTH }>::new();
    let mut copy = PackBuffer::<AREA>::new();
    let (panel, copy) = (panel.start(), copy.start());
    // Rows that lie along memory are read as they are while a panel fits the first cache.
    let copied = product.a.column != 1 || k > SHALLOW;
    // Of about one size, because few rows would not pay for their panels.
    let step_rows = even_block_len(m, if copied { ROWS } else { 2 * ROWS });
    let most = if copied && PACKED {
        AREA / step_rows
    } else {
        DEPTH
    };
    let most_depth = even_block_len(k, most);
    for k_at in (0..k).step_by(most_depth) {
        let depth = most_depth.min(k - k_at);
        let start = if k_at == 0 {
            product.start
        } else {
            Init::Accumulate
        };
        for row in (0..m).step_by(step_rows) {
            let rows = step_rows.min(m - row);
            // SAFETY: the block lies within the sizes, and its copies in their rooms.
            unsafe {
                let mut a = product.a.from_row(row).from_col(k_at);
                if copied {
                    pack_a(s, a, rows, depth, copy);
                    a.data = copy.cast_const();
                }
                let panels = n.div_ceil(2 * S::LANES);
                for index in 0..panels {
                    let index = if backwards { panels - 1 - index } else { index };
                    let at = index * 2 * S::LANES;
                    let width = (2 * S::LANES).min(n - at);
                    let (b, ahead) = if PACKED {
                        let b = product.b.add(at * k + k_at * width);
                        let next = if backwards {
                            b.wrapping_sub(2 * S::LANES * k)
                        } else {
                            b.wrapping_add(width * k)
                        };
                        ((b, width as isize), Prefetch::Panel(next))
                    } else {
                        let b = product.b.offset(k_at as isize * product.b_row).add(at);
                        pack_b_panel(s, b, product.b_row, depth, width, panel);
                        let next = b.wrapping_add(width);
                        let b = (panel.cast_const(), 2 * S::LANES as isize);
                        (b, Prefetch::Rows(next, product.b_row))
                    };
                    let c = (product.c.add(row * product.c_row + at), product.c_row);
                    let (size, start) = ((rows, depth), start.from_col(at));
                    match (width == 2 * S::LANES, copied) {
                        (true, true) => {
                            tiles::<S, 2, true, true>(s, size, a, b, start, c, width, ahead);
                        }
                        (true, false) => {
                            tiles::<S, 2, true, false>(s, size, a, b, start, c, width, ahead);
                        }
                        (false, true) => {
                            tiles::<S, 2, false, true>(s, size, a, b, start, c, width, ahead);
                        }
                        (false, false) => {
                            tiles::<S, 2, false, false>(s, size, a, b, start, c, width, ahead);
                        }
                    }
                }
            }
        }
    }
}

/// Copies `depth` rows of `width` numbers, two vectors apart.
///
/// # Safety
/// `b`, with rows `b_row` apart, covers them, and `panel` the copy.
#[inline(always)]
unsafe fn pack_b_panel<S: Simd>(
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
unsafe fn pack_a<S: Simd>(_: S, a: Left, rows: usize, depth: usize, copy: *mut f32) {
    let (large, size, small) = split(rows, S::TILE_ROWS);
    let (mut row, mut to) = (0, copy);
    for (count, size) in [(large, size), (small, size.saturating_sub(1))] {
        for _ in 0..count {
            // SAFETY: the tiles cover rows and depth once each.
            unsafe {
                let from = a.data.offset(row * a.row);
                if a.column == 1 {
                    transpose_part((to, size), (from, a.row), size, depth);
                } else {
                    for k in 0..depth {
                        let (from, to) = (from.offset(k as isize * a.column), to.add(k * size));
                        if a.row == 1 && size >= 4 {
                            for i in (0..size).step_by(4) {
                                // The last ones once more together with those before them.
                                let i = i.min(size - 4);
                                core::ptr::copy_nonoverlapping(from.add(i), to.add(i), 4);
                            }
                        } else {
                            for i in 0..size {
                                *to.add(i) = *from.offset(i as isize * a.row);
                            }
                        }
                    }
                }
                to = to.add(size * depth);
            }
            row += size as isize;
        }
    }
}
