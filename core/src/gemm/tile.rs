//! A few rows by one or two vectors of a matrix product, in registers.

#![allow(unsafe_code)]

use super::micro::{self, Right, accumulate};
use super::operand::Init;
use crate::layout::split::CACHE_LINE;
use crate::simd::Simd;

/// The left operand: numbers a row and a column apart.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    pub data: *const f32,
    pub row: isize,
    pub column: isize,
}

impl Left {
    /// The same from row `row` on. It is for the user to know that there is one.
    #[inline(always)]
    pub(crate) fn from_row(self, row: usize) -> Self {
        let data = self.data.wrapping_offset(row as isize * self.row);
        Self { data, ..self }
    }
    /// The same from column `column` on.
    #[inline(always)]
    pub(crate) fn from_col(self, column: usize) -> Self {
        let data = self.data.wrapping_offset(column as isize * self.column);
        Self { data, ..self }
    }
}

/// `rows` cut into as few tiles of at most `most` as there can be, of sizes that
/// differ by one at most: how many of the larger ones, their size, how many of the
/// smaller ones. A tile of few rows has too few sums under way.
#[inline(always)]
pub(crate) const fn split(rows: usize, most: usize) -> (usize, usize, usize) {
    let tiles = rows.div_ceil(most);
    if tiles == 0 {
        return (0, 0, 0);
    }
    let size = rows.div_ceil(tiles);
    let small = tiles * size - rows;
    (tiles - small, size, small)
}

/// Rows of a tile: with two vectors of columns as many sums under way as fit the
/// registers of AVX2, and enough to hide the latency of every level's multiply–add.
pub(crate) const ROWS: usize = 6;

/// Rows of a tile where code is short: of masked columns one, because there are few.
const fn short_rows(whole: bool) -> usize {
    if whole { 3 } else { 1 }
}

/// Calls a tile function with its number of rows as a constant, the first after the
/// level: `tile::<S, ROWS, ..>(..)`. Those above the most are left out.
macro_rules! with_rows {
    (# $tile:ident, $S:ty, $n:literal, [$($flag:tt),*], ($($argument:expr),*)) => {
        $tile::<$S, $n, $($flag),*>($($argument),*)
    };
    ($rows:expr, $most:expr, [$($n:literal)*], $tile:ident, $S:ty, $flags:tt, $arguments:tt) => {
        match $rows {
            $($n if const { $n <= $most } => with_rows!(# $tile, $S, $n, $flags, $arguments),)*
            _ => {}
        }
    };
}

/// What is brought to the second cache while tiles are computed, because it comes next.
#[derive(Clone, Copy)]
pub(crate) enum Prefetch {
    /// Nothing: all is near.
    Nothing,
    /// A panel, from where it begins.
    Panel(*const f32),
    /// Rows so far apart, the first from where it begins, of which a panel will be made.
    Rows(*const f32, isize),
}

impl Prefetch {
    /// Where tile number `index` of `tiles` begins to ask, and how far it goes on with
    /// each of the `k` products; a panel is `width` wide.
    #[inline(always)]
    fn share(
        self,
        (index, tiles): (usize, usize),
        k: usize,
        width: usize,
    ) -> Option<(*const f32, isize)> {
        match self {
            Self::Nothing => None,
            Self::Panel(panel) => {
                let part = width / tiles.max(1);
                Some((panel.wrapping_add(index * k * part), part as isize))
            }
            Self::Rows(rows, apart) => {
                let column = index * CACHE_LINE;
                (column < width).then_some((rows.wrapping_add(column), apart))
            }
        }
    }
}

/// All `m` rows of `VECTORS` vectors of columns: `c` [m, ..] = `start` + `a` [m, k] · `b`.
///
/// # Safety
/// `a` covers m × k, `PACKED_A` tile by tile and in each along its columns. `b` and `c`, each
/// with the distance of its rows, cover k and m rows of `VECTORS` vectors, unless `FULL` as
/// far as `width` goes.
#[inline(always)]
pub(crate) unsafe fn tiles<
    S: Simd,
    const VECTORS: usize,
    const FULL: bool,
    const PACKED_A: bool,
>(
    s: S,
    (m, k): (usize, usize),
    a: Left,
    b: (*const f32, isize),
    start: Init,
    c: (*mut f32, usize),
    width: usize,
    ahead: Prefetch,
) {
    let masks = masks::<S, VECTORS>(s, width);
    if const { S::SMALL } {
        for row in 0..m {
            // SAFETY: the tiles cover the rows once each.
            unsafe {
                let c = (c.0.add(row * c.1), c.1);
                tile::<S, 1, VECTORS, FULL, PACKED_A>(
                    s,
                    k,
                    a.from_row(row),
                    b,
                    start,
                    c,
                    masks,
                    None,
                );
            }
        }
        return;
    }
    let most = const {
        match (PACKED_A, S::SHORT, FULL) {
            (true, ..) => S::TILE_ROWS,
            (false, false, _) => ROWS,
            (false, true, whole) => short_rows(whole),
        }
    };
    let (large, size, small) = split(m, most);
    let (mut row, mut index) = (0, 0);
    for (count, rows) in [(large, size), (small, size.saturating_sub(1))] {
        for _ in 0..count {
            let ahead = ahead.share((index, large + small), k, VECTORS * S::LANES);
            index += 1;
            let a = if PACKED_A {
                Left {
                    data: a.data.wrapping_add(row * k),
                    ..a
                }
            } else {
                a.from_row(row)
            };
            // SAFETY: the tiles cover the rows once each.
            unsafe {
                let c = (c.0.add(row * c.1), c.1);
                if const { PACKED_A } {
                    with_rows!(
                        rows,
                        S::TILE_ROWS,
                        [1 2 3 4 5 6 7 8 9 10 11 12 13 14],
                        packed_tile,
                        S,
                        [VECTORS, FULL],
                        (s, k, a, b, start, c, width, ahead)
                    );
                } else {
                    with_rows!(
                        rows,
                        (if S::SHORT { short_rows(FULL) } else { ROWS }),
                        [1 2 3 4 5 6],
                        tile,
                        S,
                        [VECTORS, FULL, PACKED_A],
                        (s, k, a, b, start, c, masks, ahead)
                    );
                }
            }
            row += rows;
        }
    }
}

/// The masks of `VECTORS` vectors of `width` numbers.
#[inline(always)]
fn masks<S: Simd, const VECTORS: usize>(s: S, width: usize) -> [S::Mask; VECTORS] {
    let mut masks = [s.mask(0); VECTORS];
    for (j, mask) in masks.iter_mut().enumerate() {
        *mask = s.mask(width.saturating_sub(j * S::LANES).min(S::LANES));
    }
    masks
}

/// A [`tile`] of a copied operand as a function of its own, because there are many of them
/// and each is long.
///
/// # Safety
/// Those of [`tiles`], with `ROWS` for m.
#[inline(always)]
unsafe fn packed_tile<S: Simd, const ROWS: usize, const VECTORS: usize, const FULL: bool>(
    s: S,
    k: usize,
    a: Left,
    b: (*const f32, isize),
    start: Init,
    c: (*mut f32, usize),
    width: usize,
    ahead: Option<(*const f32, isize)>,
) {
    s.vectorize(
        #[inline(always)]
        move || {
            let masks = masks::<S, VECTORS>(s, width);
            // SAFETY: the caller's.
            unsafe { tile::<S, ROWS, VECTORS, FULL, true>(s, k, a, b, start, c, masks, ahead) }
        },
    );
}

/// One tile.
///
/// # Safety
/// Those of [`tiles`], with `ROWS` for m.
#[inline(always)]
unsafe fn tile<
    S: Simd,
    const ROWS: usize,
    const VECTORS: usize,
    const FULL: bool,
    const PACKED_A: bool,
>(
    s: S,
    k: usize,
    a: Left,
    (b, b_row): (*const f32, isize),
    start: Init,
    (c, c_row): (*mut f32, usize),
    masks: [S::Mask; VECTORS],
    ahead: Option<(*const f32, isize)>,
) {
    let (down, across) = if PACKED_A {
        (1, ROWS as isize)
    } else {
        (a.row, a.column)
    };
    // A vector that the mask leaves out may lie past the end: wrapping.
    let place = |i: usize, j: usize| c.wrapping_add(i * c_row + j * S::LANES);
    // SAFETY: the places read and written are those that the caller speaks of.
    unsafe {
        let mut sums = [[[s.splat(0.0); VECTORS]; 1]; ROWS];
        match start {
            Init::Zero => {}
            Init::Bias(start) => {
                for j in 0..VECTORS {
                    let start = start.as_ptr().wrapping_add(j * S::LANES);
                    let v = s.load_part::<FULL>(start, masks[j]);
                    for [row] in &mut sums {
                        row[j] = v;
                    }
                }
            }
            Init::Accumulate => {
                for (i, [row]) in sums.iter_mut().enumerate() {
                    for (j, v) in row.iter_mut().enumerate() {
                        *v = s.load_part::<FULL>(place(i, j), masks[j]);
                        if ahead.is_some() {
                            // The tile to the right is the next of these rows.
                            s.prefetch(place(i, j + VECTORS));
                        }
                    }
                }
            }
        }
        let left = micro::Left::<ROWS>::new(a.data, down, across, k);
        let right = Right::<S, 1, VECTORS, FULL>::new(b, b_row, 0, k, masks);
        let sums = accumulate::<_, false, _, _, _, _>(s, left, right, ahead, sums);
        for (i, [row]) in sums.into_iter().enumerate() {
            for (j, v) in row.into_iter().enumerate() {
                s.store_part::<FULL>(place(i, j), v, masks[j]);
            }
        }
    }
}
