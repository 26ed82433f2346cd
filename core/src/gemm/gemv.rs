//! The matrix product for a row or two of the left operand: then the right one is
//! read once, and the best that can be done is to read it in the order of memory.
//!
//! The output stays in the first cache and takes up a few rows of `b` at a time.

#![allow(unsafe_code)]

use super::tile::Left;
use super::{Init, Product, Sizes};
use crate::simd::Simd;

/// Columns that are swept at a time: their outputs are a quarter of a small first cache.
const WIDTH: usize = 2048;

/// # Safety
/// The product's pointers cover its sizes.
#[inline(always)]
pub(crate) unsafe fn gemv<S: Simd>(s: S, product: Product) {
    let Sizes { m, n, k } = product.sizes;
    // SAFETY: rows and columns lie within the sizes.
    unsafe {
        let mut at = 0;
        while at < n {
            let width = WIDTH.min(n - at);
            for row in 0..m {
                let a = product.a.from_row(row);
                let c = product.c.add(row * product.c_row + at);
                begin(product.start.from_col(at), c, width);
                let mut done = 0;
                while k - done >= 4 {
                    rows::<S, 4>(s, &product, a, at, done, c, width);
                    done += 4;
                }
                while done < k {
                    rows::<S, 1>(s, &product, a, at, done, c, width);
                    done += 1;
                }
            }
            at += width;
        }
    }
}

/// # Safety
/// `c` covers `width`.
#[inline(always)]
unsafe fn begin(start: Init, c: *mut f32, width: usize) {
    // SAFETY: the caller's.
    let c = unsafe { core::slice::from_raw_parts_mut(c, width) };
    match start {
        Init::Zero => c.fill(0.0),
        Init::Bias(row) => c.iter_mut().zip(row).for_each(|(c, start)| *c = *start),
        Init::Accumulate => {}
    }
}

/// Adds rows `k` to `k + ROWS` of `b`, each times its number of the row `a`.
///
/// # Safety
/// The rows and the columns from `at` on lie in the product; `c` covers `width`.
#[inline(always)]
unsafe fn rows<S: Simd, const ROWS: usize>(
    s: S,
    product: &Product,
    a: Left,
    at: usize,
    k: usize,
    c: *mut f32,
    width: usize,
) {
    // SAFETY: the caller's, and vectors from `j` on lie within the width.
    unsafe {
        let mut x = [s.splat(0.0); ROWS];
        let mut b = [product.b; ROWS];
        for (i, (x, b)) in x.iter_mut().zip(&mut b).enumerate() {
            let k = (k + i) as isize;
            *x = s.splat(*a.data.offset(k * a.column));
            *b = b.offset(k * product.b_row).add(at);
        }
        let mut j = 0;
        while width - j >= S::LANES {
            let mut sum = s.load(c.add(j));
            for (x, b) in x.into_iter().zip(b) {
                sum = s.fma(x, s.load(b.add(j)), sum);
            }
            s.store(c.add(j), sum);
            j += S::LANES;
        }
        if j < width {
            let mask = s.mask(width - j);
            let mut sum = s.load_masked(c.add(j), mask);
            for (x, b) in x.into_iter().zip(b) {
                sum = s.fma(x, s.load_masked(b.add(j), mask), sum);
            }
            s.store_masked(c.add(j), sum, mask);
        }
    }
}
