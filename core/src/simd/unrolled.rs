//! Several vectors that go through the same operations side by side, so that the latency of one
//! hides behind the others.

use super::{Simd, Tiling, math};

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

macro_rules! functions {
    ($($name:ident, $each:ident;)*) => {$(
        #[inline(always)]
        fn $name(self, x: Self::V) -> Self::V {
            self.0.$each(x)
        }
        #[inline(always)]
        fn $each<const M: usize>(self, mut x: [Self::V; M]) -> [Self::V; M] {
            if const { M == 1 } {
                x[0] = self.$name(x[0]);
                return x;
            }
            math::$name(Unrolled(self), x)
        }
    )*};
}

impl<S: Simd, const N: usize> Simd for Unrolled<S, N> {
    type V = [S::V; N];
    type Mask = [S::Mask; N];
    type Half = Self;
    const LANES: usize = N * S::LANES;
    const TILING: Tiling = S::TILING;

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
    functions! { exp, exp_each; sigmoid, sigmoid_each; tanh, tanh_each; }

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
