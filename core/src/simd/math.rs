//! `exp`, `sigmoid` and `tanh`, written once over the vectors.
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

use super::Arithmetic;

/// 1.5·2²³: a sum with it keeps no fraction, and its low bits are the integer.
const MAGIC: f32 = 12_582_912.0;
const LOG2_E: f32 = core::f32::consts::LOG2_E;
/// ln 2 to nine bits, so that its product with an integer below 2¹⁵ is exact,
const LN2_HIGH: f32 = 355.0 / 512.0;
/// and the rest of it.
const LN2_LOW: f32 = -2.121_944_4e-4;
/// q(r) of eʳ = 1 + r + r²·q(r), highest power first, as published.
#[expect(clippy::excessive_precision)]
const EXP_Q: [f32; 6] = [
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
];
/// p(w) of tanh x = x + x·w·p(w) with w = x², highest power first, as published.
#[expect(clippy::excessive_precision)]
const TANH_P: [f32; 5] = [
    -5.70498872745e-3,
    2.06390887954e-2,
    -5.37397155531e-2,
    1.33314422036e-1,
    -3.33332819422e-1,
];

#[inline(always)]
fn polynomial<S: Arithmetic, const N: usize>(s: S, x: S::V, coefficients: [f32; N]) -> S::V {
    let mut sum = s.splat(coefficients[0]);
    for c in coefficients.into_iter().skip(1) {
        sum = s.fma(sum, x, s.splat(c));
    }
    sum
}

/// `(magic + n, eʳ − 1)` for scale·x = n·ln 2 + r; the scale is a power of two, of any sign.
#[inline(always)]
fn reduce<S: Arithmetic>(s: S, x: S::V, scale: f32, magic: f32) -> (S::V, S::V) {
    let magic = s.splat(magic);
    let t = s.fma(x, s.splat(scale * LOG2_E), magic);
    let n = s.sub(t, magic);
    // r / scale: powers of two leave no trace here and in the coefficients.
    let r = s.fma(n, s.splat(-LN2_HIGH / scale), x);
    let r = s.fma(n, s.splat(-LN2_LOW / scale), r);
    let linear = if scale == 1.0 {
        r
    } else {
        s.mul(r, s.splat(scale))
    };
    let mut q = EXP_Q;
    let mut power = scale;
    for q in q.iter_mut().rev() {
        power *= scale;
        *q *= power;
    }
    // The terms in pairs, because a narrow layer waits for this sum.
    let pair = |k: usize| s.fma(s.splat(q[k]), r, s.splat(q[k + 1]));
    let r2 = s.mul(r, r);
    let low = s.fma(r2, pair(4), linear);
    let high = s.fma(r2, pair(0), pair(2));
    (t, s.fma(s.mul(r2, r2), high, low))
}

/// eˣ. Overflows to infinity above 88.72 and underflows gradually to 0 below −87.3.
#[inline(always)]
pub(crate) fn exp<S: Arithmetic>(s: S, x: S::V) -> S::V {
    // Beyond these the result is 0 or infinity; n stays within ±150.
    let x = s.max(s.splat(-104.0), s.min(s.splat(89.0), x));
    let (t, p) = reduce(s, x, 1.0, MAGIC);
    // 2ⁿ in two factors, because its exponent alone may not fit.
    let magic = s.splat(MAGIC);
    let n = s.sub(t, magic);
    let half = s.fma(n, s.splat(0.5), magic);
    let rest = s.sub(t, s.sub(half, magic));
    let one_more = s.add(p, s.splat(1.0));
    s.mul(s.mul(one_more, s.exp2_int(half)), s.exp2_int(rest))
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(crate) fn sigmoid<S: Arithmetic>(s: S, x: S::V) -> S::V {
    // With e⁻ˣ = 2ⁿ·(1 + p) the sum is 1 + 2ⁿ + 2ⁿ·p. Both sides of the fraction
    // are taken times 2⁻⁶⁴, so that neither end of the range leaves the exponents.
    const SCALE: f32 = 1.0 / (1u128 << 64) as f32;
    let scale = s.splat(SCALE);
    let x = s.max(s.splat(-104.0), s.min(s.splat(40.0), x));
    let (t, p) = reduce(s, x, -1.0, MAGIC - 64.0);
    let power = s.exp2_int(t);
    // 1 + 2ⁿ is exact but for n = ±24, where half a unit would be lost.
    let high = s.add(scale, power);
    let low = s.sub(scale, s.sub(high, power));
    s.div(scale, s.add(s.fma(power, p, low), high))
}

/// tanh x.
#[inline(always)]
pub(crate) fn tanh<S: Arithmetic>(s: S, x: S::V) -> S::V {
    let a = s.abs(x);
    let (small, large) = (tanh_small(s, a), tanh_large(s, a));
    // NaN is not less, and `large` keeps it.
    s.copysign(s.select_lt(a, s.splat(TANH_SMALL), small, large), x)
}

/// Where the two formulas of tanh meet.
pub(crate) const TANH_SMALL: f32 = 0.625;

/// tanh a for a from 0 to below [`TANH_SMALL`].
#[inline(always)]
pub(crate) fn tanh_small<S: Arithmetic>(s: S, a: S::V) -> S::V {
    let w = s.mul(a, a);
    s.fma(s.mul(polynomial(s, w, TANH_P), w), a, a)
}

/// tanh a for a from there on.
#[inline(always)]
pub(crate) fn tanh_large<S: Arithmetic>(s: S, a: S::V) -> S::V {
    let one = s.splat(1.0);
    // From 9.02 on the result is 1.
    let (t, p) = reduce(s, s.min(s.splat(10.0), a), 2.0, MAGIC);
    let power = s.exp2_int(t);
    let sum = s.fma(power, p, s.add(power, one));
    s.sub(one, s.div(s.splat(2.0), sum))
}
