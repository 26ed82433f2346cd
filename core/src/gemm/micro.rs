//! The micro-kernel: a register tile plus a product.

#![allow(unsafe_code)]

use crate::simd::Simd;

/// The sums in registers: for each row, groups of vectors.
pub(crate) type Tile<S, const ROWS: usize, const GROUPS: usize, const VECTORS: usize> =
    [[[<S as Simd>::V; VECTORS]; GROUPS]; ROWS];

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
pub(crate) struct Right<S: Simd, const GROUPS: usize, const VECTORS: usize, const FULL: bool> {
    start: *const f32,
    down: isize,
    group: usize,
    depth: usize,
    masks: [S::Mask; VECTORS],
}

impl<const ROWS: usize> Left<ROWS> {
    /// # Safety
    /// That many numbers, so far apart, are readable as long as it is used.
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

impl<S: Simd, const GROUPS: usize, const VECTORS: usize, const FULL: bool>
    Right<S, GROUPS, VECTORS, FULL>
{
    /// # Safety
    /// That many vectors, so far apart, are readable as long as it is used.
    #[inline(always)]
    pub unsafe fn new(
        start: *const f32,
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
/// `PAIRS`: two products of each sum in a round, for tiles that leave registers free. `ahead` is
/// memory that comes next: with product k the line k times so far from a place is asked for.
#[inline(always)]
pub(crate) fn accumulate<
    S: Simd,
    const PAIRS: bool,
    const ROWS: usize,
    const GROUPS: usize,
    const VECTORS: usize,
    const FULL: bool,
>(
    s: S,
    a: Left<ROWS>,
    b: Right<S, GROUPS, VECTORS, FULL>,
    ahead: Option<(*const f32, isize)>,
    mut sums: Tile<S, ROWS, GROUPS, VECTORS>,
) -> Tile<S, ROWS, GROUPS, VECTORS> {
    let depth = if a.depth < b.depth { a.depth } else { b.depth };
    // SAFETY: both operands are readable for every k below their depths.
    unsafe {
        if const { !PAIRS || S::SHORT } {
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
    const ROWS: usize,
    const GROUPS: usize,
    const VECTORS: usize,
    const FULL: bool,
>(
    s: S,
    a: Left<ROWS>,
    b: Right<S, GROUPS, VECTORS, FULL>,
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
                *w = s.load_part::<FULL>(
                    b_start.wrapping_add(g * b.group + v * S::LANES),
                    b.masks[v],
                );
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

/// Units of a gate that [`Simd::add_products`] takes at a time.
pub(crate) const LONG: usize = 16;

/// [`accumulate`] for one row and one lane, with the sums in memory before and after.
#[inline(never)]
pub(crate) fn accumulate_units<S: Simd, const UNITS: usize>(
    s: S,
    a: Left<1>,
    b: Right<S, 4, UNITS, true>,
    sums: &mut [[S::V; UNITS]; 4],
) {
    let depth = if a.depth < b.depth { a.depth } else { b.depth };
    // SAFETY: both operands are readable for every k below their depths, and a vector is a number.
    unsafe {
        if const { UNITS == LONG } {
            for (g, sums) in sums.iter_mut().enumerate() {
                let kernel = b.start.wrapping_add(g * b.group);
                let sums = &mut *sums.as_mut_ptr().cast::<[f32; LONG]>();
                s.add_products(depth, a.start, kernel, b.down as usize, sums);
            }
            return;
        }
        let [mut i, mut j, mut f, mut o] = *sums;
        let (mut x, mut kernel) = (a.start, b.start);
        for _ in 0..depth {
            let by = s.splat(*x);
            i = add_units(s, by, kernel, i);
            j = add_units(s, by, kernel.add(b.group), j);
            f = add_units(s, by, kernel.add(2 * b.group), f);
            o = add_units(s, by, kernel.add(3 * b.group), o);
            x = x.wrapping_add(1);
            kernel = kernel.wrapping_offset(b.down);
        }
        *sums = [i, j, f, o];
    }
}

/// Written out, because indices that are no constants would keep the sums in memory where
/// loops are not unrolled.
///
/// # Safety
/// `UNITS` numbers, one or four, are readable at `kernel`, and a vector is a number.
#[inline(always)]
unsafe fn add_units<S: Simd, const UNITS: usize>(
    s: S,
    x: S::V,
    kernel: *const f32,
    mut sums: [S::V; UNITS],
) -> [S::V; UNITS] {
    // SAFETY: the caller's.
    unsafe {
        sums[0] = s.fma(x, s.load(kernel), sums[0]);
        if const { UNITS == 4 } {
            sums[1 % UNITS] = s.fma(x, s.load(kernel.add(1)), sums[1 % UNITS]);
            sums[2 % UNITS] = s.fma(x, s.load(kernel.add(2)), sums[2 % UNITS]);
            sums[3 % UNITS] = s.fma(x, s.load(kernel.add(3)), sums[3 % UNITS]);
        }
    }
    sums
}
