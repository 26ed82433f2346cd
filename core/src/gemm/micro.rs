//! The micro-kernel, the only inner loop over products: a register tile += a·b.
//!
//! A product takes it through [`Tiles`], whose operands are checked against each other once; a step
//! of a layer has checked buffers of its own, and calls [`accumulate`].

#![allow(unsafe_code)]

use super::operand::{GemmArgs, Init, MatMut, MatRef};
use crate::simd::{Arithmetic, Simd, Weight};
use core::marker::PhantomData;

/// The sums in registers: for each row, groups of vectors.
pub(crate) type Tile<S, const ROWS: usize, const GROUPS: usize, const VECTORS: usize> =
    [[[<S as Arithmetic>::V; VECTORS]; GROUPS]; ROWS];

/// The left operand: `ROWS` × `depth` numbers, all of them readable.
#[derive(Clone, Copy)]
pub(crate) struct Left<const ROWS: usize> {
    start: *const f32,
    down: isize,
    across: isize,
    depth: usize,
}

/// The right one: `depth` × `GROUPS` × `VECTORS` vectors, readable, as far as the mask goes unless
/// `FULL`.
#[derive(Clone, Copy)]
pub(crate) struct Right<
    S: Simd,
    W: Weight,
    const GROUPS: usize,
    const VECTORS: usize,
    const FULL: bool,
> {
    start: *const W,
    down: isize,
    group: usize,
    depth: usize,
    masks: [S::Mask; VECTORS],
}

impl<const ROWS: usize> Left<ROWS> {
    /// # Safety
    /// `ROWS` × `depth` numbers, `down` and `across` apart, are readable as long as it is used.
    #[inline(always)]
    pub unsafe fn new(start: *const f32, down: isize, across: isize, depth: usize) -> Self {
        Self {
            start,
            down,
            across,
            depth,
        }
    }
}

impl<S: Simd, W: Weight, const GROUPS: usize, const VECTORS: usize, const FULL: bool>
    Right<S, W, GROUPS, VECTORS, FULL>
{
    /// # Safety
    /// `depth` × `GROUPS` × `VECTORS` vectors, `down` and `group` apart, are readable as long as it is used.
    #[inline(always)]
    pub unsafe fn new(
        start: *const W,
        down: isize,
        group: usize,
        depth: usize,
        masks: [S::Mask; VECTORS],
    ) -> Self {
        Self {
            start,
            down,
            group,
            depth,
            masks,
        }
    }
}

/// `sums` + `a`·`b`, k ascending in one chain for each sum. By value, so that the sums stay in
/// registers whatever is done with them later.
///
/// `UNROLL`: two products of each sum in a round, for tiles that leave registers free. `ahead` is
/// memory that comes next: with product k the line k times so far from a place is asked for.
#[inline(always)]
pub(crate) fn accumulate<
    S: Simd,
    W: Weight,
    const UNROLL: bool,
    const ROWS: usize,
    const GROUPS: usize,
    const VECTORS: usize,
    const FULL: bool,
>(
    s: S,
    a: Left<ROWS>,
    b: Right<S, W, GROUPS, VECTORS, FULL>,
    ahead: Option<(*const f32, isize)>,
    mut sums: Tile<S, ROWS, GROUPS, VECTORS>,
) -> Tile<S, ROWS, GROUPS, VECTORS> {
    let depth = if a.depth < b.depth { a.depth } else { b.depth };
    // SAFETY: both operands are readable for every k below their depths.
    unsafe {
        if const { !UNROLL || S::TILING.step_unroll == 1 } {
            for k in 0..depth {
                if let Some((next, apart)) = ahead {
                    s.prefetch(next.wrapping_offset(k as isize * apart));
                }
                sums = add(s, a, b, k, sums);
            }
            return sums;
        }
        let (mut k, mut pairs) = (0, depth / 2);
        while pairs > 0 {
            sums = add(s, a, b, k, sums);
            sums = add(s, a, b, k + 1, sums);
            k += 2;
            pairs = s.opaque(pairs - 1);
        }
        if depth % 2 == 1 {
            sums = add(s, a, b, k, sums);
        }
    }
    sums
}

/// Product number `k` of each sum.
///
/// # Safety
/// `k` is below both depths.
#[inline(always)]
unsafe fn add<
    S: Simd,
    W: Weight,
    const ROWS: usize,
    const GROUPS: usize,
    const VECTORS: usize,
    const FULL: bool,
>(
    s: S,
    a: Left<ROWS>,
    b: Right<S, W, GROUPS, VECTORS, FULL>,
    k: usize,
    mut sums: Tile<S, ROWS, GROUPS, VECTORS>,
) -> Tile<S, ROWS, GROUPS, VECTORS> {
    // SAFETY: the caller's.
    unsafe {
        let (a_start, b_start) = (
            a.start.offset(k as isize * a.across),
            b.start.offset(k as isize * b.down),
        );
        let mut w = [[s.splat(0.0); VECTORS]; GROUPS];
        for (g, w) in w.iter_mut().enumerate() {
            for (v, w) in w.iter_mut().enumerate() {
                let from = b_start.wrapping_add(g * b.group + v * S::LANES);
                *w = W::load::<S, FULL>(s, from, b.masks[v]);
            }
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            let x = s.splat(*a_start.offset(r as isize * a.down));
            for (sums, w) in sums.iter_mut().zip(w) {
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = s.fma(x, w, *sum);
                }
            }
        }
    }
    sums
}

/// A product c = init + a·b whose operands agree, for the micro-kernel. With `PACKED_A`, `a` is in
/// micro-panels.
pub(super) struct Tiles<'a, const PACKED_A: bool> {
    rows: usize,
    cols: usize,
    depth: usize,
    a: *const f32,
    /// Only without `PACKED_A`: the strides of rows and columns.
    a_strides: (isize, isize),
    b: *const f32,
    b_stride: isize,
    init: Init<'a>,
    c: *mut f32,
    c_stride: usize,
    _buffers: PhantomData<&'a mut [f32]>,
}

impl<'a> Tiles<'a, false> {
    /// `None` if there is nothing to do, or two operands do not agree.
    #[inline(always)]
    pub fn new(a: MatRef<'a>, b: MatRef<'a>, init: Init<'a>, c: MatMut<'a>) -> Option<Self> {
        let strides = (a.row_stride(), a.col_stride());
        Self::checked(a, strides, b, init, c)
    }
}

impl<'a> Tiles<'a, true> {
    /// The same with `a` as [`pack_a`](super::pack::pack_a) leaves it.
    #[inline(always)]
    pub fn with_packed_a(
        a: &'a [f32],
        b: MatRef<'a>,
        init: Init<'a>,
        c: MatMut<'a>,
    ) -> Option<Self> {
        // As many numbers as in rows.
        let a = MatRef::new(a, c.row_count(), b.row_count());
        Self::checked(a, (0, 0), b, init, c)
    }
}

impl<'a, const PACKED_A: bool> Tiles<'a, PACKED_A> {
    #[inline(always)]
    fn checked(
        a: MatRef<'a>,
        a_strides: (isize, isize),
        b: MatRef<'a>,
        init: Init<'a>,
        c: MatMut<'a>,
    ) -> Option<Self> {
        let scratch = &mut [];
        let args = GemmArgs {
            a,
            b,
            init,
            c,
            scratch,
        };
        let sizes = args.checked_sizes()?;
        let (c, c_stride) = args.c.into_parts();
        Some(Self {
            rows: sizes.m,
            cols: sizes.n,
            depth: sizes.k,
            a: a.start(),
            a_strides,
            b: b.start(),
            b_stride: b.row_stride(),
            init,
            c: c.as_mut_ptr(),
            c_stride,
            _buffers: PhantomData,
        })
    }

    #[inline(always)]
    pub fn rows(&self) -> usize {
        self.rows
    }
    #[inline(always)]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// A tile of `ROWS` rows from `row` on and all columns: `VECTORS` full vectors; unless `FULL`, fewer
    /// columns, which are masked. Does nothing if the product does not have that many rows or columns.
    #[inline(always)]
    pub fn tile<S: Simd, const ROWS: usize, const VECTORS: usize, const FULL: bool>(
        &mut self,
        s: S,
        row: usize,
        ahead: Option<(*const f32, isize)>,
    ) {
        let cols_fit = if FULL {
            self.cols == VECTORS * S::LANES
        } else {
            self.cols < VECTORS * S::LANES
        };
        if row + ROWS > self.rows || !cols_fit {
            return;
        }
        let mut masks = [s.mask(0); VECTORS];
        for (v, mask) in masks.iter_mut().enumerate() {
            *mask = s.mask(self.cols.saturating_sub(v * S::LANES).min(S::LANES));
        }
        let a_start = if PACKED_A {
            row * self.depth
        } else {
            (row as isize).wrapping_mul(self.a_strides.0) as usize
        };
        let (down, across) = if PACKED_A {
            (1, ROWS as isize)
        } else {
            self.a_strides
        };
        // A vector that the mask leaves out may lie past the end: wrapping.
        let place = |r: usize, v: usize| {
            self.c
                .wrapping_add((row + r) * self.c_stride + v * S::LANES)
        };
        // SAFETY: rows and columns are the product's, whose operands cover them: `a` with `depth`
        // numbers for each row, `b` with as many rows of `cols`, and `c`.
        unsafe {
            let mut sums = [[[s.splat(0.0); VECTORS]; 1]; ROWS];
            match self.init {
                Init::Zero => {}
                Init::Bias(bias) => {
                    for (v, &mask) in masks.iter().enumerate() {
                        let bias = bias.as_ptr().wrapping_add(v * S::LANES);
                        let bias = s.load_part::<FULL>(bias, mask);
                        for [sums] in &mut sums {
                            sums[v] = bias;
                        }
                    }
                }
                Init::Accumulate => {
                    for (r, [sums]) in sums.iter_mut().enumerate() {
                        for (v, sum) in sums.iter_mut().enumerate() {
                            *sum = s.load_part::<FULL>(place(r, v), masks[v]);
                            if ahead.is_some() {
                                // The tile to the right is the next of these rows.
                                s.prefetch(place(r, v + VECTORS));
                            }
                        }
                    }
                }
            }
            let a = self.a.wrapping_add(a_start);
            let left = Left::<ROWS>::new(a, down, across, self.depth);
            let right =
                Right::<S, f32, 1, VECTORS, FULL>::new(self.b, self.b_stride, 0, self.depth, masks);
            let sums = accumulate::<_, _, false, _, _, _, _>(s, left, right, ahead, sums);
            for (r, [sums]) in sums.into_iter().enumerate() {
                for (v, sum) in sums.into_iter().enumerate() {
                    s.store_part::<FULL>(place(r, v), sum, masks[v]);
                }
            }
        }
    }
}

/// `c` += rows `k` to `k + ROWS` of `b`, each times its number in row `row` of `a`, one after the
/// other: for products of few rows, which read `b` in the order of memory. Does nothing if the
/// operands have not so many rows, or `c` not as many numbers.
#[inline(always)]
pub(super) fn axpy<S: Simd, const ROWS: usize>(
    s: S,
    a: MatRef,
    b: MatRef,
    row: usize,
    k: usize,
    c: &mut [f32],
) {
    let len = c.len();
    let in_a = row < a.row_count() && k + ROWS <= a.col_count();
    let in_b = k + ROWS <= b.row_count() && len == b.col_count() && b.is_along_rows();
    if !(in_a && in_b) {
        debug_assert!(false, "rows of the operands");
        return;
    }
    let c = c.as_mut_ptr();
    // SAFETY: rows and columns lie within the operands, and vectors from `at` on within the row.
    unsafe {
        let a_start = a.start().offset(row as isize * a.row_stride());
        let mut x = [s.splat(0.0); ROWS];
        let mut rows = [b.start(); ROWS];
        for (i, (x, row)) in x.iter_mut().zip(&mut rows).enumerate() {
            let k = (k + i) as isize;
            *x = s.splat(*a_start.offset(k * a.col_stride()));
            *row = row.offset(k * b.row_stride());
        }
        let mut at = 0;
        while len - at >= S::LANES {
            let mut sum = s.load(c.add(at));
            for (x, row) in x.into_iter().zip(rows) {
                sum = s.fma(x, s.load(row.add(at)), sum);
            }
            s.store(c.add(at), sum);
            at += S::LANES;
        }
        if at < len {
            let mask = s.mask(len - at);
            let mut sum = s.load_masked(c.add(at), mask);
            for (x, row) in x.into_iter().zip(rows) {
                sum = s.fma(x, s.load_masked(row.add(at), mask), sum);
            }
            s.store_masked(c.add(at), sum, mask);
        }
    }
}
