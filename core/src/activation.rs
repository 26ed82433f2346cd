//! `exp`, `sigmoid` and `tanh` over slices, in place.
//!
//! All three reduce x = n·ln 2 + r with |r| ≤ ln 2 / 2, in two pieces of ln 2 of
//! which the first has so few bits that n times it is exact, and take
//! eʳ − 1 = r + r²·q(r) with the q of Cephes' `expf` (Moshier, 1989).
//!
//! | function | formula | largest error | where |
//! |---|---|---|---|
//! | `exp` | 2ⁿ·eʳ | 1.28 ULP | normal results |
//! | `sigmoid` | 1 / (1 + e⁻ˣ), nothing rounded before the sum | 1.82 ULP | normal results |
//! | `tanh` | \|x\| < 0.625: x + x³·p(x²), Cephes' `tanhf`; else 1 − 2 / (e²ˣ + 1) | 1.23 ULP | everywhere |
//!
//! The errors are the largest over all 2³² arguments, fused or not, held by an
//! exhaustive test. NaN stays NaN; the subnormal tail is within one unit of the
//! smallest subnormal; both infinities give the limits.

use crate::simd::map::{Block, Elementwise, for_each_block};
use crate::simd::{Arithmetic, dispatch_inline};

macro_rules! on_slices {
    ($($(#[$doc:meta])* $name:ident, $function:ident, $kernel:ident;)*) => {$(
        pub(crate) struct $kernel<'a>(pub &'a mut [f32]);

        impl Elementwise for $kernel<'_> {
            #[inline(always)]
            fn block<A: Arithmetic>(&mut self, s: A, at: impl Block<A>) {
                let x = at.load(self.0);
                at.store(self.0, s.$function(x));
            }
        }

        $(#[$doc])*
        pub fn $name(values: &mut [f32]) {
            dispatch_inline!(s => for_each_block(s, values.len(), &mut $kernel(values)));
        }
    )*};
}

on_slices! {
    /// Replaces every value by its exponential.
    ///
    /// ```
    /// let mut values = [0.0, 1.0, f32::NEG_INFINITY];
    /// fused_lstm::activation::exp_in_place(&mut values);
    /// assert_eq!(values[0], 1.0);
    /// assert!((values[1] - core::f32::consts::E).abs() < 3e-7);
    /// assert_eq!(values[2], 0.0);
    /// ```
    exp_in_place, exp, ExpInPlace;
    /// Replaces every value by its logistic sigmoid, 1 / (1 + e⁻ˣ).
    ///
    /// ```
    /// let mut values = [0.0, f32::INFINITY, f32::NEG_INFINITY];
    /// fused_lstm::activation::sigmoid_in_place(&mut values);
    /// assert_eq!(values, [0.5, 1.0, 0.0]);
    /// ```
    sigmoid_in_place, sigmoid, SigmoidInPlace;
    /// Replaces every value by its hyperbolic tangent.
    ///
    /// ```
    /// let mut values = [0.0, 0.5, -20.0];
    /// fused_lstm::activation::tanh_in_place(&mut values);
    /// assert_eq!(values[0], 0.0);
    /// assert!((values[1] - 0.46211717).abs() < 1e-7);
    /// assert_eq!(values[2], -1.0);
    /// ```
    tanh_in_place, tanh, TanhInPlace;
}
