//! Several vectors that go through the same operations side by side, so that the latency of one
//! hides behind the others.

use super::{Arithmetic, math};

/// `N` vectors of `A`'s.
#[derive(Clone, Copy)]
pub(crate) struct Unrolled<A, const N: usize>(pub A);

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

impl<A: Arithmetic, const N: usize> Arithmetic for Unrolled<A, N> {
    type V = [A::V; N];
    const FUSES: bool = A::FUSES;

    functions! { exp, exp_each; sigmoid, sigmoid_each; tanh, tanh_each; }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [self.0.splat(x); N]
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
