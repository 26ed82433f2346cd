//! Activations of any kind over slices, their derivatives, and the walk that cells with options
//! take over their rows.

use super::stage::Activation;
use crate::activation::{SigmoidInPlace, TanhInPlace};
use crate::gemm::Gemm;
use crate::lstm::cell::state;
use crate::simd::map::{Block, Elementwise, for_each_block};
use crate::simd::{Arithmetic, Simd, per_level};

per_level! {
    /// Functions of every number of a slice; those that ask for several need them of one length.
    trait Pointwise: Gemm {
        /// Replaces every number by its activation; leaves a softmax, which is one of rows, alone.
        fn activate(kind: Activation, values: &mut [f32]) = activate;
        /// Multiplies gradients by the derivative of an activation that had the result `y`.
        fn times_slope(kind: Activation, y: &[f32], d: &mut [f32]) = times_slope;
        /// to += a·b
        fn add_product(to: &mut [f32], a: &[f32], b: &[f32]) = add_product;
        /// to += a·gain
        fn add_scaled(to: &mut [f32], a: &[f32], gain: f32) = add_scaled;
        /// Multiplies every number.
        fn scale(values: &mut [f32], gain: f32) = scale;
        /// Multiplies every number by another one.
        fn multiply(values: &mut [f32], by: &[f32]) = multiply;
        /// z·kept + (1 − z)·new in place of what is kept, with the numbers of a mask for z, or one rate
        /// where there is no mask; a state.
        fn mix(kept: &mut [f32], new: &[f32], mask: &[f32], rate: f32) = mix;
        /// Clips every number to ±most.
        fn clip(values: &mut [f32], most: f32) = clip;
        /// Gradients become 0 where what they belong to was clipped.
        fn where_not_clipped(from: &[f32], most: f32, d: &mut [f32]) = where_not_clipped;
    }
}

/// A formula that reads numbers of some buffers and replaces those of others.
pub(super) trait Update<const R: usize, const W: usize> {
    fn evaluate<A: Arithmetic>(&self, s: A, read: [A::V; R], written: [A::V; W]) -> [A::V; W];
}

/// [`Update`] over buffers of one length.
struct Over<'a, F, const R: usize, const W: usize> {
    formula: F,
    read: [&'a [f32]; R],
    written: [&'a mut [f32]; W],
}

impl<F: Update<R, W>, const R: usize, const W: usize> Elementwise for Over<'_, F, R, W> {
    #[inline(always)]
    fn block<A: Arithmetic>(&mut self, s: A, at: impl Block<A>) {
        // Loops, because the compiler makes calls of `map`.
        let (mut read, mut written) = ([s.splat(0.0); R], [s.splat(0.0); W]);
        for (v, buffer) in read.iter_mut().zip(&self.read) {
            *v = at.load(buffer);
        }
        for (v, buffer) in written.iter_mut().zip(&self.written) {
            *v = at.load(buffer);
        }
        let results = self.formula.evaluate(s, read, written);
        for (buffer, v) in self.written.iter_mut().zip(results) {
            at.store(buffer, v);
        }
    }
}

/// Takes a formula over buffers of the length of the first one that is written.
#[inline(always)]
pub(super) fn update<S: Simd, const R: usize, const W: usize>(
    s: S,
    formula: impl Update<R, W>,
    read: [&[f32]; R],
    written: [&mut [f32]; W],
) {
    let len = written.first().map_or(0, |buffer| buffer.len());
    let mut over = Over {
        formula,
        read,
        written,
    };
    for_each_block(s, len, &mut over);
}

/// An [`Update`] as a struct of its constants.
macro_rules! formula {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* }
        ($this:ident, $s:ident, [$($read:ident),*], [$($written:ident),*]) => $results:expr
    ) => {
        $(#[$doc])*
        pub(super) struct $name { $(pub(super) $field: $type),* }
        impl Update<{ 0 $(+ formula!(@one $read))* }, { 0 $(+ formula!(@one $written))* }> for $name {
            #[inline(always)]
            fn evaluate<A: Arithmetic>(
                &self,
                $s: A,
                [$($read),*]: [A::V; 0 $(+ formula!(@one $read))*],
                [$($written),*]: [A::V; 0 $(+ formula!(@one $written))*],
            ) -> [A::V; 0 $(+ formula!(@one $written))*] {
                let $this = self;
                $results
            }
        }
    };
    (@one $name:ident) => { 1 };
}
pub(super) use formula;

formula!(Relu {} (_this, s, [], [x]) => {
    let zero = s.splat(0.0);
    [s.select_lt(x, zero, zero, x)]
});
formula!(HardSigmoid { slope: f32 } (this, s, [], [x]) => {
    let line = s.fma(x, s.splat(this.slope), s.splat(0.5));
    // The number comes second, and so stays if it is NaN.
    [s.max(s.splat(0.0), s.min(s.splat(1.0), line))]
});
formula!(TanhSlope {} (_this, s, [y], [d]) => {
    let slope = s.fma(s.sub(s.splat(0.0), y), y, s.splat(1.0));
    [s.mul(d, slope)]
});
formula!(SigmoidSlope {} (_this, s, [y], [d]) => [s.mul(d, s.mul(y, s.sub(s.splat(1.0), y)))]);
formula!(ReluSlope {} (_this, s, [y], [d]) => [s.select_lt(s.splat(0.0), y, d, s.splat(0.0))]);
formula!(HardSigmoidSlope { slope: f32 } (this, s, [y], [d]) => {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    let inside = s.select_lt(zero, y, s.mul(d, s.splat(this.slope)), zero);
    [s.select_lt(y, one, inside, zero)]
});
formula!(AddProduct {} (_this, s, [a, b], [to]) => [s.fma(a, b, to)]);
formula!(AddScaled { gain: f32 } (this, s, [a], [to]) => [s.fma(a, s.splat(this.gain), to)]);
formula!(Scale { gain: f32 } (this, s, [], [v]) => [s.mul(v, s.splat(this.gain))]);
formula!(Times {} (_this, s, [by], [v]) => [s.mul(v, by)]);
formula!(Mix { rate: f32 } (this, s, [new], [kept]) => {
    let z = s.splat(this.rate);
    [mixed(s, z, kept, new)]
});
formula!(MixByMask {} (_this, s, [new, z], [kept]) => [mixed(s, z, kept, new)]);
formula!(Clip { most: f32 } (this, s, [], [v]) => [clipped(s, v, this.most)]);
formula!(WhereNotClipped { most: f32 } (this, s, [v], [d]) => [unless_clipped(s, v, this.most, d)]);

/// z·kept + (1 − z)·new, as a state.
#[inline(always)]
fn mixed<A: Arithmetic>(s: A, z: A::V, kept: A::V, new: A::V) -> A::V {
    let new = s.mul(s.sub(s.splat(1.0), z), new);
    state(s, s.fma(z, kept, new))
}

/// A number, clipped to ±most. NaN stays.
#[inline(always)]
pub(super) fn clipped<A: Arithmetic>(s: A, v: A::V, most: f32) -> A::V {
    s.max(s.splat(-most), s.min(s.splat(most), v))
}

/// A gradient, or 0 if what it belongs to is strictly beyond ±most.
#[inline(always)]
pub(super) fn unless_clipped<A: Arithmetic>(s: A, v: A::V, most: f32, d: A::V) -> A::V {
    s.select_lt(s.splat(most), s.abs(v), s.splat(0.0), d)
}

#[inline(always)]
fn activate<S: Pointwise>(s: S, kind: Activation, values: &mut [f32]) {
    let len = values.len();
    match kind {
        Activation::Tanh => for_each_block(s, len, &mut TanhInPlace(values)),
        Activation::Sigmoid => for_each_block(s, len, &mut SigmoidInPlace(values)),
        Activation::Relu => update(s, Relu {}, [], [values]),
        Activation::HardSigmoid { slope } => update(s, HardSigmoid { slope }, [], [values]),
        Activation::Linear | Activation::Softmax => {}
    }
}

#[inline(always)]
fn times_slope<S: Pointwise>(s: S, kind: Activation, y: &[f32], d: &mut [f32]) {
    match kind {
        Activation::Tanh => update(s, TanhSlope {}, [y], [d]),
        Activation::Sigmoid => update(s, SigmoidSlope {}, [y], [d]),
        Activation::Relu => update(s, ReluSlope {}, [y], [d]),
        Activation::HardSigmoid { slope } => update(s, HardSigmoidSlope { slope }, [y], [d]),
        Activation::Linear | Activation::Softmax => {}
    }
}

#[inline(always)]
fn add_product<S: Pointwise>(s: S, to: &mut [f32], a: &[f32], b: &[f32]) {
    update(s, AddProduct {}, [a, b], [to]);
}

#[inline(always)]
fn add_scaled<S: Pointwise>(s: S, to: &mut [f32], a: &[f32], gain: f32) {
    update(s, AddScaled { gain }, [a], [to]);
}

#[inline(always)]
fn scale<S: Pointwise>(s: S, values: &mut [f32], gain: f32) {
    update(s, Scale { gain }, [], [values]);
}

#[inline(always)]
fn multiply<S: Pointwise>(s: S, values: &mut [f32], by: &[f32]) {
    update(s, Times {}, [by], [values]);
}

#[inline(always)]
fn mix<S: Pointwise>(s: S, kept: &mut [f32], new: &[f32], mask: &[f32], rate: f32) {
    if mask.is_empty() {
        update(s, Mix { rate }, [new], [kept]);
    } else {
        update(s, MixByMask {}, [new, mask], [kept]);
    }
}

#[inline(always)]
fn clip<S: Pointwise>(s: S, values: &mut [f32], most: f32) {
    update(s, Clip { most }, [], [values]);
}

#[inline(always)]
fn where_not_clipped<S: Pointwise>(s: S, from: &[f32], most: f32, d: &mut [f32]) {
    update(s, WhereNotClipped { most }, [from], [d]);
}
