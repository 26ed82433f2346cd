//! Unrolled vectors that go through the same operations side by side, so that the
//! latency of one hides behind the others.

use super::{Simd, does_not_join};

/// `N` vectors of another level as one of its own.
#[derive(Clone, Copy)]
pub(crate) struct Unrolled<S, const N: usize>(pub S);

macro_rules! lane_by_lane {
    ($($name:ident($a:ident $(, $more:ident)*);)*) => {$(
        #[inline(always)]
        fn $name(self, mut $a: Self::V $(, $more: Self::V)*) -> Self::V {
            for n in 0..N {
                $a[n] = self.0.$name($a[n] $(, $more[n])*);
            }
            $a
        }
    )*};
}

/// What is a function of its own where code is small; elsewhere the latencies hide, and vectors
/// that can be joined are.
macro_rules! long_functions {
    ($($name:ident;)*) => {$(
        #[inline(always)]
        fn $name(self, mut a: Self::V) -> Self::V {
            if const { S::SMALL || S::SHORT || N == 1 } {
                for a in &mut a {
                    *a = self.0.$name(*a);
                }
                return a;
            }
            if const { S::JOINS && N == 2 } {
                return self.parted(Unrolled::<S::Twice, 1>(self.0.twice()).$name(self.joined(a)));
            }
            if const { S::JOINS && N > 2 && N <= 4 } {
                return self.parted(Unrolled::<S::Twice, 2>(self.0.twice()).$name(self.joined(a)));
            }
            super::math::$name(self, a)
        }
    )*};
}

impl<S: Simd, const N: usize> Unrolled<S, N> {
    /// The vectors as `PAIRS` of twice the lanes, the last one twice if they are odd.
    #[inline(always)]
    fn joined<const PAIRS: usize>(self, vectors: [S::V; N]) -> [<S::Twice as Simd>::V; PAIRS] {
        let s = self.0;
        let mut pairs = [s.join(vectors[0], vectors[0]); PAIRS];
        for (n, pair) in pairs.iter_mut().enumerate() {
            let [low, high] = [2 * n, 2 * n + 1].map(|n| if n < N { n } else { N - 1 });
            *pair = s.join(vectors[low], vectors[high]);
        }
        pairs
    }

    /// The way back.
    #[inline(always)]
    fn parted<const PAIRS: usize>(self, pairs: [<S::Twice as Simd>::V; PAIRS]) -> [S::V; N] {
        let s = self.0;
        let mut vectors = [s.splat(0.0); N];
        for (n, pair) in pairs.into_iter().enumerate() {
            let [low, high] = s.halves(pair);
            if 2 * n < N {
                vectors[2 * n] = low;
            }
            if 2 * n + 1 < N {
                vectors[2 * n + 1] = high;
            }
        }
        vectors
    }
}

impl<S: Simd, const N: usize> Simd for Unrolled<S, N> {
    type V = [S::V; N];
    type Mask = [S::Mask; N];
    type Half = Self;
    const LANES: usize = N * S::LANES;
    const BLOCKED: bool = S::BLOCKED;
    const TILE_ROWS: usize = S::TILE_ROWS;
    const SHORT: bool = S::SHORT;

    does_not_join!();

    #[inline(always)]
    fn half(self) -> Self {
        self
    }
    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        self.0.vectorize(f)
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        self.0.prefetch(p);
    }
    long_functions! { exp; sigmoid; tanh; }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [self.0.splat(x); N]
    }
    #[inline(always)]
    fn mask(self, lanes: usize) -> Self::Mask {
        let mut masks = [self.0.mask(0); N];
        for (n, mask) in masks.iter_mut().enumerate() {
            let left = lanes.saturating_sub(n * S::LANES);
            *mask = self.0.mask(if left < S::LANES { left } else { S::LANES });
        }
        masks
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        let mut v = self.splat(0.0);
        for (n, v) in v.iter_mut().enumerate() {
            // SAFETY: the caller's, for a part of the numbers.
            *v = unsafe { self.0.load(p.add(n * S::LANES)) };
        }
        v
    }
    #[inline(always)]
    unsafe fn load_masked(self, p: *const f32, masks: Self::Mask) -> Self::V {
        let mut v = self.splat(0.0);
        for (n, v) in v.iter_mut().enumerate() {
            // SAFETY: the caller's; a vector that the mask leaves out is not touched.
            *v = unsafe { self.0.load_masked(p.wrapping_add(n * S::LANES), masks[n]) };
        }
        v
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        for (n, v) in v.into_iter().enumerate() {
            // SAFETY: the caller's, for a part of the numbers.
            unsafe { self.0.store(p.add(n * S::LANES), v) }
        }
    }
    #[inline(always)]
    unsafe fn store_masked(self, p: *mut f32, v: Self::V, masks: Self::Mask) {
        for (n, v) in v.into_iter().enumerate() {
            // SAFETY: the caller's; a vector that the mask leaves out is not touched.
            unsafe {
                self.0
                    .store_masked(p.wrapping_add(n * S::LANES), v, masks[n]);
            }
        }
    }
    lane_by_lane! {
        add(a, b);
        sub(a, b);
        mul(a, b);
        div(a, b);
        sqrt(a);
        fma(a, b, c);
        min(a, b);
        max(a, b);
        abs(a);
        copysign(magnitude, sign);
        select_lt(a, b, then, otherwise);
        exp2_int(t);
    }
}
