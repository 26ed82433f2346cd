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

mod blocked;
mod gemv;
pub(crate) mod micro;
mod operand;
pub(crate) mod pack;
mod tile;
pub(crate) mod transpose;

pub(crate) use operand::{Init, MatRef, Sizes};
pub(crate) use tile::split;

use crate::simd::{Simd, narrowest};
use blocked::blocked;
use gemv::gemv;
use tile::{Left, Prefetch, ROWS, tiles};

/// `b` of more numbers than this is not walked tile by tile: half of a small first
/// cache.
const SMALL: usize = 1 << 12;

/// Columns of a tile where code is small.
const FEW: usize = 4;

/// The product. Does nothing if a size is zero (the callers have ruled that out but
/// for sums over no rows, which leave an accumulated output as it is), or if an
/// operand is too short (which they have ruled out too).
#[inline(always)]
pub(crate) fn gemm<S: Simd>(s: S, sizes: Sizes, a: MatRef, b: MatRef, start: Init, c: &mut [f32]) {
    gemm_strided(s, sizes, a, b, start, (c, sizes.n));
}

/// The product as a part of its caller, for a few numbers.
#[inline(always)]
pub(crate) fn gemm_inline<S: Simd>(
    s: S,
    sizes: Sizes,
    a: MatRef,
    b: MatRef,
    start: Init,
    c: &mut [f32],
) {
    if let Some(product) = Product::new(sizes, a, b, start, (c, sizes.n)) {
        narrowest!(S, s, sizes.n, v => product.tile_by_tile(v));
    }
}

/// The product with rows of the output so far apart.
#[inline(always)]
pub(crate) fn gemm_strided<S: Simd>(
    s: S,
    sizes: Sizes,
    a: MatRef,
    b: MatRef,
    start: Init,
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
        narrowest!(S, s, sizes.n, v => product.outlined(v));
    }
}

/// The operands, whose pointers cover `sizes`.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub sizes: Sizes,
    pub a: Left,
    pub b: *const f32,
    pub b_row: isize,
    pub start: Init<'a>,
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
                gemv(s, self);
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
        a: MatRef,
        b: MatRef,
        start: Init<'a>,
        (c, c_row): (&mut [f32], usize),
    ) -> Option<Self> {
        let Sizes { m, n, k } = sizes;
        let row_fits = match start {
            Init::Bias(row) => row.len() == n,
            Init::Zero | Init::Accumulate => true,
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

    /// All rows of `VECTORS` vectors of columns from `at`; unless `FULL`, the
    /// one vector is what is left of the row.
    ///
    /// # Safety
    /// The vectors lie within the columns.
    #[inline(always)]
    unsafe fn columns<S: Simd, const VECTORS: usize, const FULL: bool>(
        &self,
        s: S,
        at: usize,
        width: usize,
    ) {
        let Sizes { m, k, .. } = self.sizes;
        // SAFETY: the caller's.
        unsafe {
            tiles::<S, VECTORS, FULL, false>(
                s,
                (m, k),
                self.a,
                (self.b.add(at), self.b_row),
                self.start.from_col(at),
                (self.c.add(at), self.c_row),
                width,
                Prefetch::Nothing,
            );
        }
    }
}
