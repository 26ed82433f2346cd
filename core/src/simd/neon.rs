//! The native AArch64 level: one-line operations over `core::arch`. Every AArch64 target that
//! has vector registers has all of these, so there is nothing to detect and no trampoline.

#![allow(
    unused_unsafe,
    reason = "some of these are safe functions in newer compilers"
)]

use super::portable::{read_lanes, write_lanes};
use super::{Arithmetic, Simd, Tiling};
use core::arch::aarch64::*;

/// Proof that the target has NEON: this file is compiled only for such.
#[derive(Clone, Copy)]
pub(crate) struct Neon {}

impl Simd for Neon {
    type Mask = usize;
    type Half = Self;
    const LANES: usize = 4;
    const TILING: Tiling = Tiling::SIXTEEN_REGISTERS;

    #[inline(always)]
    fn half(self) -> Self {
        self
    }
    #[inline(never)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }
    #[inline(always)]
    fn mask(self, lanes: usize) -> usize {
        lanes
    }
    operations! { unsafe:
        load(p: *const f32) -> float32x4_t = vld1q_f32(p);
        load_masked(p: *const f32, lanes: usize) -> float32x4_t =
            vld1q_f32(read_lanes::<4>(p, lanes).as_ptr());
        store(p: *mut f32, v: float32x4_t) = vst1q_f32(p, v);
        store_masked(p: *mut f32, v: float32x4_t, lanes: usize) = {
            let mut all = [0.0; 4];
            vst1q_f32(all.as_mut_ptr(), v);
            write_lanes(p, all, lanes);
        };
    }
}

impl Arithmetic for Neon {
    type V = float32x4_t;

    operations! {
        splat(x: f32) -> float32x4_t = vdupq_n_f32(x);
        add(a: float32x4_t, b: float32x4_t) -> float32x4_t = vaddq_f32(a, b);
        sub(a: float32x4_t, b: float32x4_t) -> float32x4_t = vsubq_f32(a, b);
        mul(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmulq_f32(a, b);
        div(a: float32x4_t, b: float32x4_t) -> float32x4_t = vdivq_f32(a, b);
        sqrt(a: float32x4_t) -> float32x4_t = vsqrtq_f32(a);
        fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t = vfmaq_f32(c, a, b);
        // The instructions for minimum and maximum give NaN where either operand is one.
        min(a: float32x4_t, b: float32x4_t) -> float32x4_t = vbslq_f32(vcltq_f32(a, b), a, b);
        max(a: float32x4_t, b: float32x4_t) -> float32x4_t = vbslq_f32(vcltq_f32(b, a), a, b);
        abs(a: float32x4_t) -> float32x4_t = vabsq_f32(a);
        copysign(magnitude: float32x4_t, sign: float32x4_t) -> float32x4_t =
            vbslq_f32(vdupq_n_u32(1 << 31), sign, magnitude);
        select_lt(a: float32x4_t, b: float32x4_t, then: float32x4_t, otherwise: float32x4_t)
            -> float32x4_t = vbslq_f32(vcltq_f32(a, b), then, otherwise);
        exp2_int(t: float32x4_t) -> float32x4_t = vreinterpretq_f32_u32(vaddq_u32(
            vshlq_n_u32::<23>(vreinterpretq_u32_f32(t)),
            vdupq_n_u32(1.0f32.to_bits())
        ));
    }
}
