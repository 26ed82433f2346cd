//! GEMM: the matrix product of the input projections of a whole sequence, the gates of wide
//! layers, the read-out, and every gradient.
//!
//! ```text
//! c[m, n] = init + Σ_k a(m, k) · b(k, n)
//! ```
//!
//! k ascends in one chain of (fused) multiply–adds for every output, so that the bits depend on the
//! sizes alone. `a` is read one number at a time and may have any strides; `b` is read along its
//! rows. There are three ways, which give the same bits:
//!
//! | file | way | where |
//! |---|---|---|
//! | `mod` | tile by tile | `b` fits the first cache, or is read once |
//! | `gemv` | one row of the output takes up rows of `b` | three rows of `a` or less |
//! | `blocked` | block by block, each packed | all else |

mod blocked;
mod gemv;
pub(crate) mod micro;
mod one_lane;
mod operand;
mod pack;
mod tile;

pub use operand::{GemmArgs, Init, MatMut, MatRef};
pub(crate) use tile::RowTiles;

use crate::layout::scratch::blocks::L1_FLOATS;
use crate::simd::{Simd, narrowest, per_level};
use micro::Tiles;
use operand::Sizes;
use tile::{Prefetch, tiles};

/// Rows of a tile at a level with vectors.
pub(crate) const MR: usize = 6;

per_level! {
    /// Matrix products and what prepares their operands.
    trait Gemm: Simd, one_lane apart {
        /// c = init + a·b.
        fn gemm(args: GemmArgs<'_>) = run;
        /// The same with `b` in panels, which are taken from the last to the first if
        /// `descending`. That leaves no trace in the result: what the product before read last is
        /// then read first.
        fn gemm_packed(args: GemmArgs<'_>, descending: bool) = run_packed;
        /// `panels` = `b` [k, n] in panels. It has k·n numbers.
        fn pack(b: MatRef<'_>, panels: &mut [f32]) = pack::run;
        /// `to` [columns, rows] = `from` [rows, columns] transposed.
        fn transpose(to: &mut [f32], from: MatRef<'_>) = pack::transpose;
    }
}

/// The product as a part of its caller, for a few numbers.
#[inline(always)]
pub(crate) fn gemm_inline<S: Simd>(s: S, args: GemmArgs) {
    let n = args.sizes().n;
    narrowest!(S, s, n, v => by_tiles(v, args));
}

#[inline(always)]
fn run<S: Gemm>(s: S, args: GemmArgs) {
    let sizes = args.sizes();
    let Sizes { m, n, k } = sizes;
    if const { S::LANES > S::Half::LANES } && n <= S::Half::LANES {
        return narrowest!(S, s, n, v => one_strip(v, args));
    }
    // One tile of rows reads `b` once, so there is nothing to gain by a copy.
    let once = m <= MR && n <= 4 * S::LANES;
    if const { S::LANES == 1 } || once || n.saturating_mul(k) <= L1_FLOATS {
        by_tiles(s, args);
    } else if m <= S::TILING.gemv_max_rows {
        gemv::run(s, args, sizes);
    } else if const { S::TILING.packed_rows > 0 } {
        blocked::run::<S, false>(s, args, sizes, false);
    } else {
        by_tiles(s, args);
    }
}

#[inline(always)]
fn run_packed<S: Gemm>(s: S, args: GemmArgs, descending: bool) {
    if const { S::TILING.packed_rows > 0 } {
        let sizes = args.sizes();
        blocked::run::<S, true>(s, args, sizes, descending);
    }
}

/// Strips of two vectors of columns, and the remainder in strips of one, the last one masked.
#[inline(always)]
fn by_tiles<S: Simd>(s: S, mut args: GemmArgs) {
    let n = args.sizes().n;
    // One lane takes four columns at a time.
    let wide = if const { S::LANES == 1 } {
        4
    } else {
        2 * S::LANES
    };
    let mut at = 0;
    while at < n {
        let left = n - at;
        let width = if left >= wide {
            wide
        } else {
            S::LANES.min(left)
        };
        if let Some(product) = strip(&mut args, at, width) {
            if width == wide {
                if const { S::LANES == 1 } {
                    tiles::<S, 4, true, false, true>(s, product, Prefetch::Nothing);
                } else {
                    tiles::<S, 2, true, false, true>(s, product, Prefetch::Nothing);
                }
            } else {
                one_vector(s, product, width);
            }
        }
        at += width;
    }
}

/// The product whose columns a vector holds.
#[inline(always)]
fn one_strip<S: Simd>(s: S, mut args: GemmArgs) {
    let n = args.sizes().n;
    if let Some(product) = strip(&mut args, 0, n) {
        one_vector(s, product, n);
    }
}

#[inline(always)]
fn one_vector<S: Simd>(s: S, product: Tiles<'_, false>, width: usize) {
    if width == S::LANES {
        tiles::<S, 1, true, false, true>(s, product, Prefetch::Nothing);
    } else if const { S::LANES > 1 } {
        tiles::<S, 1, false, false, true>(s, product, Prefetch::Nothing);
    }
}

/// `width` columns from `at` on.
#[inline(always)]
fn strip<'a>(args: &'a mut GemmArgs, at: usize, width: usize) -> Option<Tiles<'a, false>> {
    let b = args.b.columns(at, width);
    let c = args.c.part(0, usize::MAX, at, width);
    Tiles::new(args.a, b, args.init.columns(at, width), c)
}
