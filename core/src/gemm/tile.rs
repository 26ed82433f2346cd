//! Which register tiles cover the rows of a product that is at most a panel wide.

use super::micro::Tiles;
use crate::layout::split::CACHE_LINE;
use crate::simd::Simd;

/// `rows` cut into as few tiles of at most `most` as there can be, of sizes that differ by one at
/// most. A tile of few rows has too few sums under way.
#[derive(Clone, Copy)]
pub(crate) struct RowTiles {
    /// Tiles of `size` rows, which come first.
    large: usize,
    size: usize,
    /// Tiles of one row less.
    small: usize,
}

impl RowTiles {
    #[inline(always)]
    pub(crate) const fn new(rows: usize, most: usize) -> Self {
        let large = rows.div_ceil(most);
        if large == 0 {
            return Self {
                large,
                size: 0,
                small: 0,
            };
        }
        let size = rows.div_ceil(large);
        let small = large * size - rows;
        Self {
            large: large - small,
            size,
            small,
        }
    }

    #[inline(always)]
    const fn count(self) -> usize {
        self.large + self.small
    }

    /// Calls `each` with the first row of every tile, and its rows. Not an iterator: the compiler
    /// would not see that there are two sizes.
    #[inline(always)]
    pub(crate) fn for_each(self, mut each: impl FnMut(usize, usize)) {
        let mut row = 0;
        for (count, rows) in [
            (self.large, self.size),
            (self.small, self.size.saturating_sub(1)),
        ] {
            for _ in 0..count {
                each(row, rows);
                row += rows;
            }
        }
    }
}

/// What is brought to the second cache while tiles are computed, because it comes next: where it
/// begins, which may be anywhere.
#[derive(Clone, Copy)]
pub(super) enum Prefetch {
    /// All is near.
    Nothing,
    /// A panel.
    Panel(*const f32),
    /// Rows of `b` that will be packed, and their stride.
    Rows(*const f32, isize),
}

impl Prefetch {
    /// Where tile number `index` of `tiles` begins to ask, and how far it goes on with each of the
    /// `k` products; a panel is `width` wide.
    #[inline(always)]
    fn for_tile(
        self,
        index: usize,
        tiles: usize,
        k: usize,
        width: usize,
    ) -> Option<(*const f32, isize)> {
        match self {
            Self::Nothing => None,
            Self::Panel(panel) => {
                let part = width / tiles.max(1);
                Some((panel.wrapping_add(index * k * part), part as isize))
            }
            Self::Rows(rows, stride) => {
                let column = index * CACHE_LINE;
                (column < width).then_some((rows.wrapping_add(column), stride))
            }
        }
    }
}

/// Calls a tile function with its number of rows as a constant, the first after the level:
/// `tile::<S, ROWS, ..>(..)`. Those above the most are left out.
macro_rules! with_rows {
    (# $tile:ident, $S:ty, $n:literal, [$($flag:tt),*], $arguments:tt) => {
        $tile::<$S, $n, $($flag),*>$arguments
    };
    ($rows:expr, $most:expr, [$($n:literal)*], $tile:ident, $S:ty, $flags:tt, $arguments:tt) => {
        match $rows {
            $($n if const { $n <= $most } => with_rows!(# $tile, $S, $n, $flags, $arguments),)*
            _ => {}
        }
    };
}

/// All rows of a product of `VECTORS` full vectors of columns; unless `FULL`, of fewer columns, which
/// are masked. Unless `INLINE`, each tile is a function of its own: there are many, and each is long.
#[inline(always)]
pub(super) fn tiles<
    S: Simd,
    const VECTORS: usize,
    const FULL: bool,
    const PACKED_A: bool,
    const INLINE: bool,
>(
    s: S,
    product: Tiles<'_, PACKED_A>,
    ahead: Prefetch,
) {
    let mut product = product;
    let most = const { most_rows::<S>(FULL, PACKED_A) };
    let width = VECTORS * S::LANES;
    let all = RowTiles::new(product.rows(), most);
    let mut index = 0;
    all.for_each(
        #[inline(always)]
        |row, rows| {
            let ahead = ahead.for_tile(index, all.count(), product.depth(), width);
            index += 1;
            with_rows!(
                rows,
                most_rows::<S>(FULL, PACKED_A),
                [1 2 3 4 5 6 7 8 9 10 11 12 13 14],
                tile,
                S,
                [VECTORS, FULL, PACKED_A, INLINE],
                (s, &mut product, row, ahead)
            );
        },
    );
}

const fn most_rows<S: Simd>(full: bool, packed_a: bool) -> usize {
    match (packed_a, full) {
        (true, _) => S::TILING.packed_rows,
        (false, true) => S::TILING.gemm_rows,
        (false, false) => S::TILING.gemm_tail_rows,
    }
}

#[inline(always)]
fn tile<
    S: Simd,
    const ROWS: usize,
    const VECTORS: usize,
    const FULL: bool,
    const PACKED_A: bool,
    const INLINE: bool,
>(
    s: S,
    product: &mut Tiles<'_, PACKED_A>,
    row: usize,
    ahead: Option<(*const f32, isize)>,
) {
    if INLINE {
        return product.tile::<S, ROWS, VECTORS, FULL>(s, row, ahead);
    }
    s.vectorize(
        #[inline(always)]
        move || product.tile::<S, ROWS, VECTORS, FULL>(s, row, ahead),
    );
}
