//! Layer normalisation (Ba, Kiros and Hinton 2016), forward and backward.
//!
//! ```text
//! x̂ = (x − mean) / √(variance + ε)          y = gain·x̂ + shift
//! ```
//!
//! Mean and variance, that of the population, are those of a part of so many numbers. Sums are
//! taken in sixteen chains, chain j over the numbers j, j + 16, j + 32, …; then the chains, ascending:
//! the same at every level.

use super::pointwise::{Pointwise, Update, formula, update};
use crate::layout::split::{copy_prefix, exact_chunks};
use crate::simd::map::CHAINS;
use crate::simd::{Arithmetic, per_level};

/// ε, TensorFlow's. It is the square of a deviation of 1e-6, which sums of the order of 1 have of their
/// rounding, and so does no more than keep equal numbers from a division by 0.
const EPSILON: f32 = 1e-12;

per_level! {
    /// Normalisation of parts of `width` numbers, one after the other; all slices but `factors` are as
    /// long as all parts.
    trait Norm: Pointwise {
        /// Replaces x by y. For a backward pass, x̂ and each part's 1 / √(variance + ε) are written to
        /// `hats` and `factors`, unless these are empty.
        fn normalize(
            width: usize, gain: &[f32], shift: &[f32], values: &mut [f32], hats: &mut [f32], factors: &mut [f32]
        ) = normalize;
        /// Replaces dy by dx, and adds to dgain and dshift.
        fn normalize_back(
            width: usize, gain: &[f32], hats: &[f32], factors: &[f32], d: &mut [f32], dgain: &mut [f32],
            dshift: &mut [f32]
        ) = normalize_back;
    }
}

formula!(GainAndShift {} (_this, s, [gain, shift], [v]) => [s.fma(v, gain, shift)]);
formula!(Add {} (_this, s, [a], [to]) => [s.add(to, a)]);
formula!(/// factor·(d − mean of d − x̂·mean of d·x̂)
Back { factor: f32, mean: f32, along: f32 } (this, s, [hat], [d]) => {
    let d = s.sub(d, s.splat(this.mean));
    [s.mul(s.splat(this.factor), s.fma(s.splat(-this.along), hat, d))]
});

#[inline(always)]
fn total(chains: [f32; CHAINS]) -> f32 {
    let mut sum = 0.0;
    for chain in chains {
        sum += chain;
    }
    sum
}

#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let mut chains = [0.0f32; CHAINS];
    for group in values.chunks(CHAINS) {
        for (chain, v) in chains.iter_mut().zip(group) {
            *chain += v;
        }
    }
    total(chains)
}

#[inline(always)]
fn sum_of_products(a: &[f32], b: &[f32]) -> f32 {
    let mut chains = [0.0f32; CHAINS];
    for (a, b) in a.chunks(CHAINS).zip(b.chunks(CHAINS)) {
        for (chain, (a, b)) in chains.iter_mut().zip(a.iter().zip(b)) {
            *chain += a * b;
        }
    }
    total(chains)
}

#[inline(always)]
fn normalize<S: Norm>(
    s: S,
    width: usize,
    gain: &[f32],
    shift: &[f32],
    values: &mut [f32],
    hats: &mut [f32],
    factors: &mut [f32],
) {
    let count = width as f32;
    for (part, x) in exact_chunks(&mut *values, width).enumerate() {
        let mean = sum(x) / count;
        for x in &mut *x {
            *x -= mean;
        }
        let variance = sum_of_products(x, x) / count;
        let factor = 1.0 / libm::sqrtf(variance + EPSILON);
        for x in x {
            *x *= factor;
        }
        if let Some(place) = factors.get_mut(part) {
            *place = factor;
        }
    }
    copy_prefix(hats, values);
    gain_and_shift(s, gain, shift, values);
}

/// y of x̂, in place.
#[inline(always)]
pub(super) fn gain_and_shift<S: Pointwise>(s: S, gain: &[f32], shift: &[f32], hats: &mut [f32]) {
    update(s, GainAndShift {}, [gain, shift], [hats]);
}

#[inline(always)]
fn normalize_back<S: Norm>(
    s: S,
    width: usize,
    gain: &[f32],
    hats: &[f32],
    factors: &[f32],
    d: &mut [f32],
    dgain: &mut [f32],
    dshift: &mut [f32],
) {
    update(s, Add {}, [&*d], [dshift]);
    s.add_product(dgain, d, hats);
    s.multiply(&mut *d, gain);
    let count = width as f32;
    let parts = exact_chunks(d, width).zip(exact_chunks(hats, width));
    for ((d, hat), &factor) in parts.zip(factors) {
        let (mean, along) = (sum(d) / count, sum_of_products(d, hat) / count);
        let back = Back {
            factor,
            mean,
            along,
        };
        update(s, back, [hat], [d]);
    }
}
