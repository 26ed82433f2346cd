//! The matrix product that everything but the gates is made of: the input
//! projections of a whole sequence, the read-out, and every gradient.
//!
//! `c[m, n] = start + Σ_k a(m, k) · b(k, n)`, k ascending in one chain of
//! (fused) multiply–adds for every output, so that the bits depend on the sizes
//! alone. `a` is read one number at a time and may lie in any order; `b` is read
//! along its rows, which lie in any order too; `c` is dense.

#![allow(unsafe_code)]

use crate::simd::Simd;

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

/// Sizes: `c` is [m, n], `a` [m, k], `b` [k, n].
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// The product. Does nothing if a size is zero (the callers have ruled that out but
/// for sums over no rows, which leave an accumulated output as it is), or if an
/// operand is too short (which they have ruled out too).
#[inline(always)]
pub(crate) fn matmul<S: Simd>(s: S, sizes: Sizes, a: Walk, b: Walk, start: Start, c: &mut [f32]) {
    let Sizes { m, n, k } = sizes;
    let row_fits = match start {
        Start::Row(row) => row.len() == n,
        Start::Zero | Start::Output => true,
    };
    let fits = m > 0 && n > 0 && k > 0 && b.column == 1 && row_fits;
    if !(fits && a.covers(m, k) && b.covers(k, n) && m.checked_mul(n) == Some(c.len())) {
        debug_assert!(
            m == 0 || n == 0 || k == 0,
            "an operand of the product is too short"
        );
        return;
    }
    // SAFETY: `a`, `b`, `c` and the row were just seen to cover the sizes.
    let product = unsafe {
        Product {
            sizes,
            a: a.data.as_ptr().add(a.start),
            a_row: a.row,
            a_column: a.column,
            b: b.data.as_ptr().add(b.start),
            b_row: b.row,
            start,
            c: c.as_mut_ptr(),
        }
    };
    let mut at = 0;
    while n - at >= 2 * S::LANES {
        product.columns::<S, 2, true>(s, at);
        at += 2 * S::LANES;
    }
    if n - at >= S::LANES {
        product.columns::<S, 1, true>(s, at);
        at += S::LANES;
    }
    if at < n {
        product.columns::<S, 1, false>(s, at);
    }
}

/// The operands, whose pointers cover `sizes`.
#[derive(Clone, Copy)]
struct Product<'a> {
    sizes: Sizes,
    a: *const f32,
    a_row: isize,
    a_column: isize,
    b: *const f32,
    b_row: isize,
    start: Start<'a>,
    c: *mut f32,
}

impl Product<'_> {
    /// All rows of `VECTORS` vectors of columns from `at`; unless `WHOLE`, the
    /// one vector is what is left of the row.
    #[inline(always)]
    fn columns<S: Simd, const VECTORS: usize, const WHOLE: bool>(&self, s: S, at: usize) {
        let mask = s.mask(if WHOLE { S::LANES } else { self.sizes.n - at });
        let m = self.sizes.m;
        let mut row = 0;
        while m - row >= S::TILE_ROWS {
            // SAFETY: rows from `row` and columns from `at` lie inside; so below.
            unsafe {
                match S::TILE_ROWS {
                    12 => self.tile::<S, 12, VECTORS, WHOLE>(s, row, at, mask),
                    6 => self.tile::<S, 6, VECTORS, WHOLE>(s, row, at, mask),
                    _ => self.tile::<S, 4, VECTORS, WHOLE>(s, row, at, mask),
                }
            }
            row += S::TILE_ROWS;
        }
        while m - row >= 3 && S::TILE_ROWS > 3 {
            // SAFETY: as above.
            unsafe { self.tile::<S, 3, VECTORS, WHOLE>(s, row, at, mask) }
            row += 3;
        }
        while row < m {
            // SAFETY: as above.
            unsafe { self.tile::<S, 1, VECTORS, WHOLE>(s, row, at, mask) }
            row += 1;
        }
    }

    /// # Safety
    /// `row + ROWS <= m`, and `at + VECTORS * LANES <= n` or, unless `WHOLE`,
    /// `VECTORS` is one and `at` plus the lanes of `mask` is n.
    #[inline(always)]
    unsafe fn tile<S: Simd, const ROWS: usize, const VECTORS: usize, const WHOLE: bool>(
        &self,
        s: S,
        row: usize,
        at: usize,
        mask: S::Mask,
    ) {
        // SAFETY: the places read and written lie in the `sizes` that the
        // pointers cover, by this function's own conditions.
        unsafe {
            let n = self.sizes.n;
            let c = self.c.add(row * n + at);
            let mut sum = [[s.splat(0.0); VECTORS]; ROWS];
            match self.start {
                Start::Zero => {}
                Start::Row(start) => {
                    for j in 0..VECTORS {
                        let v = s.load_part::<WHOLE>(start.as_ptr().add(at + j * S::LANES), mask);
                        for row in &mut sum {
                            row[j] = v;
                        }
                    }
                }
                Start::Output => {
                    for (i, row) in sum.iter_mut().enumerate() {
                        for (j, v) in row.iter_mut().enumerate() {
                            *v = s.load_part::<WHOLE>(c.add(i * n + j * S::LANES), mask);
                        }
                    }
                }
            }
            let a = self.a.offset(row as isize * self.a_row);
            let b = self.b.add(at);
            for k in 0..self.sizes.k as isize {
                let b = b.offset(k * self.b_row);
                let a = a.offset(k * self.a_column);
                let mut columns = [s.splat(0.0); VECTORS];
                for (j, v) in columns.iter_mut().enumerate() {
                    *v = s.load_part::<WHOLE>(b.add(j * S::LANES), mask);
                }
                for (i, row) in sum.iter_mut().enumerate() {
                    let x = s.splat(*a.offset(i as isize * self.a_row));
                    for (v, column) in row.iter_mut().zip(columns) {
                        *v = s.fma(x, column, *v);
                    }
                }
            }
            for (i, row) in sum.into_iter().enumerate() {
                for (j, v) in row.into_iter().enumerate() {
                    s.store_part::<WHOLE>(c.add(i * n + j * S::LANES), v, mask);
                }
            }
        }
    }
}
