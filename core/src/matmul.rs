//! The matrix product: the input projections of a whole sequence, the gates of wide
//! layers, the read-out, and every gradient.
//!
//! `c[m, n] = start + Σ_k a(m, k) · b(k, n)`, k ascending in one chain of
//! (fused) multiply–adds for every output, so that the bits depend on the sizes
//! alone. `a` is read one number at a time and may lie in any order; `b` is read
//! along its rows, which lie in any order too; the rows of `c` may be apart.
//!
//! There are three ways to walk, which give the same bits: tile by tile where `b`
//! fits the first cache, [`sweep`] for a row or two of `a`, and
//! [`blocked`] for the rest.

#![allow(unsafe_code)]

use crate::blocked::blocked;
use crate::simd::{Simd, with_fitting};
use crate::sweep::sweep;
use crate::tile::{Ahead, Left, ROWS, tiles};

/// Numbers in a buffer that are walked by row and column, forwards or backwards.
#[derive(Clone, Copy)]
pub(crate) struct Walk<'a> {
    data: &'a [f32],
    start: usize,
    row: isize,
    column: isize,
}

impl<'a> Walk<'a> {
    /// A dense row-major matrix with rows of `width`.
    #[inline(always)]
    pub(crate) fn rows(data: &'a [f32], width: usize) -> Self {
        Self {
            data,
            start: 0,
            row: width as isize,
            column: 1,
        }
    }

    /// The same, from its last row to its first.
    #[inline(always)]
    pub(crate) fn rows_backwards(data: &'a [f32], width: usize) -> Self {
        let start = data.len().saturating_sub(width);
        Self {
            data,
            start,
            row: -(width as isize),
            column: 1,
        }
    }

    /// Rows become columns.
    #[inline(always)]
    pub(crate) fn transposed(self) -> Self {
        Self {
            row: self.column,
            column: self.row,
            ..self
        }
    }

    /// The first number everywhere.
    #[inline(always)]
    pub(crate) fn constant(data: &'a [f32; 1]) -> Self {
        Self {
            data,
            start: 0,
            row: 0,
            column: 0,
        }
    }

    /// The same from row `row` on.
    #[inline(always)]
    pub(crate) fn below(self, row: usize) -> Self {
        Self {
            start: self.start.saturating_add_signed(row as isize * self.row),
            ..self
        }
    }

    /// The same from column `column` on.
    #[inline(always)]
    pub(crate) fn right_of(self, column: usize) -> Self {
        self.transposed().below(column).transposed()
    }

    /// The first place, and how far rows and columns are apart, if all of `rows` ×
    /// `columns` lie inside.
    #[inline(always)]
    pub(crate) fn places(self, rows: usize, columns: usize) -> Option<(*const f32, isize, isize)> {
        let inside = rows > 0 && columns > 0 && self.covers(rows, columns);
        debug_assert!(inside, "an operand is too short");
        let start = self.data.as_ptr().wrapping_add(self.start);
        inside.then_some((start, self.row, self.column))
    }

    /// Whether every place of `rows` × `columns` lies inside the buffer. Places
    /// are affine in both, so the four corners are enough.
    #[inline(always)]
    fn covers(self, rows: usize, columns: usize) -> bool {
        let last = |n: usize, stride: isize| (n as isize - 1).checked_mul(stride);
        let (Some(down), Some(right)) = (last(rows, self.row), last(columns, self.column)) else {
            return false;
        };
        let inside = |offset: Option<isize>| {
            let place = offset.and_then(|offset| self.start.checked_add_signed(offset));
            place.is_some_and(|place| place < self.data.len())
        };
        inside(Some(0))
            && inside(Some(down))
            && inside(Some(right))
            && inside(down.checked_add(right))
    }
}

/// What the sums start from.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Zero: the output is overwritten.
    Zero,
    /// The same row for every row of the output, which is overwritten.
    Row(&'a [f32]),
    /// What the output holds: it is accumulated to.
    Output,
}

impl Start<'_> {
    /// The same from column `at` on.
    #[inline(always)]
    pub(crate) fn right_of(self, at: usize) -> Self {
        match self {
            Self::Row(row) => Self::Row(row.get(at..).unwrap_or(&[])),
            other => other,
        }
    }
}

/// Sizes: `c` is [m, n], `a` [m, k], `b` [k, n].
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// `b` of more numbers than this is not walked tile by tile: half of a small first
/// cache.
const SMALL: usize = 1 << 12;

/// Columns of a tile where code is small.
const FEW: usize = 4;

/// The product. Does nothing if a size is zero (the callers have ruled that out but
/// for sums over no rows, which leave an accumulated output as it is), or if an
/// operand is too short (which they have ruled out too).
#[inline(always)]
pub(crate) fn matmul<S: Simd>(s: S, sizes: Sizes, a: Walk, b: Walk, start: Start, c: &mut [f32]) {
    matmul_into(s, sizes, a, b, start, (c, sizes.n));
}

/// The product as a part of its caller, for a few numbers.
#[inline(always)]
pub(crate) fn matmul_here<S: Simd>(
    s: S,
    sizes: Sizes,
    a: Walk,
    b: Walk,
    start: Start,
    c: &mut [f32],
) {
    if let Some(product) = Product::new(sizes, a, b, start, (c, sizes.n)) {
        with_fitting!(S, s, sizes.n, v => product.tile_by_tile(v));
    }
}

/// The product with rows of the output so far apart.
#[inline(always)]
pub(crate) fn matmul_into<S: Simd>(
    s: S,
    sizes: Sizes,
    a: Walk,
    b: Walk,
    start: Start,
    c: (&mut [f32], usize),
) {
    if const { S::SHORT } {
        // With its checks, in one function for all callers.
        s.vectorize(
            #[inline(always)]
            move || {
                if let Some(product) = Product::new(sizes, a, b, start, c) {
                    product.run(s);
                }
            },
        );
    } else if let Some(product) = Product::new(sizes, a, b, start, c) {
        with_fitting!(S, s, sizes.n, v => product.outlined(v));
    }
}

/// The operands, whose pointers cover `sizes`.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub sizes: Sizes,
    pub a: Left,
    pub b: *const f32,
    pub b_row: isize,
    pub start: Start<'a>,
    pub c: *mut f32,
    pub c_row: usize,
}

impl Product<'_> {
    #[inline(always)]
    fn outlined<S: Simd>(self, s: S) {
        s.vectorize(
            #[inline(always)]
            move || self.run(s),
        );
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Sizes { m, n, k } = self.sizes;
        if const { S::SMALL } {
            self.tile_by_tile(s);
            return;
        }
        // SAFETY: the pointers cover the sizes.
        unsafe {
            // One tile of rows reads `b` once, so there is nothing to gain by a copy.
            let once = m <= ROWS && n <= 4 * S::LANES;
            if once || n.saturating_mul(k) <= SMALL {
                self.tile_by_tile(s);
            } else if m <= 3 {
                sweep(s, self);
            } else if S::BLOCKED {
                // Its room on the stack costs time even where it is not used.
                blocked::<S, false>(s, self, false);
            } else {
                self.tile_by_tile(s);
            }
        }
    }
}

impl<'a> Product<'a> {
    /// `None`, and nothing to do, if a size is zero or an operand too short.
    #[inline(always)]
    pub(crate) fn new(
        sizes: Sizes,
        a: Walk,
        b: Walk,
        start: Start<'a>,
        (c, c_row): (&mut [f32], usize),
    ) -> Option<Self> {
        let Sizes { m, n, k } = sizes;
        let row_fits = match start {
            Start::Row(row) => row.len() == n,
            Start::Zero | Start::Output => true,
        };
        let fits = m > 0 && n > 0 && k > 0 && b.column == 1 && row_fits;
        let covered = c_row >= n && m.checked_mul(c_row) == Some(c.len());
        if !(fits && a.covers(m, k) && b.covers(k, n) && covered) {
            debug_assert!(
                m == 0 || n == 0 || k == 0,
                "an operand of the product is too short"
            );
            return None;
        }
        // SAFETY: `a`, `b`, `c` and the row were just seen to cover the sizes.
        Some(unsafe {
            Self {
                sizes,
                a: Left {
                    data: a.data.as_ptr().add(a.start),
                    row: a.row,
                    column: a.column,
                },
                b: b.data.as_ptr().add(b.start),
                b_row: b.row,
                start,
                c: c.as_mut_ptr(),
                c_row,
            }
        })
    }

    #[inline(always)]
    fn tile_by_tile<S: Simd>(&self, s: S) {
        let n = self.sizes.n;
        let mut at = 0;
        // SAFETY: columns from `at` lie inside, and the pointers cover the sizes.
        unsafe {
            if const { S::SMALL } {
                while n - at >= FEW {
                    self.columns::<S, FEW, true>(s, at, FEW);
                    at += FEW;
                }
                while at < n {
                    self.columns::<S, 1, true>(s, at, 1);
                    at += 1;
                }
                return;
            }
            while n - at >= 2 * S::LANES {
                self.columns::<S, 2, true>(s, at, 2 * S::LANES);
                at += 2 * S::LANES;
            }
            if n - at >= S::LANES {
                self.columns::<S, 1, true>(s, at, S::LANES);
                at += S::LANES;
            }
            if at < n {
                self.columns::<S, 1, false>(s, at, n - at);
            }
        }
    }

    /// All rows of `VECTORS` vectors of columns from `at`; unless `WHOLE`, the
    /// one vector is what is left of the row.
    ///
    /// # Safety
    /// The vectors lie within the columns.
    #[inline(always)]
    unsafe fn columns<S: Simd, const VECTORS: usize, const WHOLE: bool>(
        &self,
        s: S,
        at: usize,
        width: usize,
    ) {
        let Sizes { m, k, .. } = self.sizes;
        // SAFETY: the caller's.
        unsafe {
            tiles::<S, VECTORS, WHOLE, false>(
                s,
                (m, k),
                self.a,
                (self.b.add(at), self.b_row),
                self.start.right_of(at),
                (self.c.add(at), self.c_row),
                width,
                Ahead::Nothing,
            );
        }
    }
}
