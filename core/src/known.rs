//! What the compiler knows of the sizes, so that only the code they need is made.

use crate::simd::{Kernel, Simd};
use crate::tile::split;

/// Sizes as types, 0 for one that is known only when it runs.
pub(crate) trait Known {
    /// Hidden units, H.
    const HIDDEN: usize;
    /// Batch rows, B.
    const BATCH: usize;

    /// Whether a batch cut into tiles of at most `most` rows may have one of `rows`.
    const ROWS: [bool; 4] = {
        let (large, size, small) = split(Self::BATCH, 3);
        let mut may = [false; 4];
        let mut rows = 1;
        while rows < 4 {
            may[rows] =
                Self::BATCH == 0 || (large > 0 && rows == size) || (small > 0 && rows + 1 == size);
            rows += 1;
        }
        may
    };
}

/// Both are known.
pub(crate) struct Fixed<const H: usize, const B: usize>;

impl<const H: usize, const B: usize> Known for Fixed<H, B> {
    const HIDDEN: usize = H;
    const BATCH: usize = B;
}

/// Nothing is.
pub(crate) struct RunTime;

impl Known for RunTime {
    const HIDDEN: usize = 0;
    const BATCH: usize = 0;
}

/// Runs `kernel` with the narrowest vectors of the level that hold the hidden units, or with
/// its own.
#[inline(always)]
pub(crate) fn fitting<S: Simd, D: Known, K: Kernel>(s: S, hidden: usize, kernel: K) -> K::Output {
    type Half<S> = <S as Simd>::Narrow;
    type Quarter<S> = <Half<S> as Simd>::Narrow;
    let quarter = const { S::LANES > Quarter::<S>::LANES };
    let half = const { S::LANES > Half::<S>::LANES && Half::<S>::LANES > Quarter::<S>::LANES };
    if const { D::HIDDEN != 0 } {
        if const { S::LANES > Quarter::<S>::LANES && D::HIDDEN <= Quarter::<S>::LANES } {
            kernel.run(s.narrow().narrow())
        } else if const { S::LANES > Half::<S>::LANES && D::HIDDEN <= Half::<S>::LANES } {
            kernel.run(s.narrow())
        } else {
            kernel.run(s)
        }
    } else if quarter && hidden <= Quarter::<S>::LANES {
        kernel.run(s.narrow().narrow())
    } else if half && hidden <= Half::<S>::LANES {
        kernel.run(s.narrow())
    } else {
        kernel.run(s)
    }
}
