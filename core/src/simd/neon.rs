//! The native AArch64 level: one-line operations over `core::arch`. Every AArch64 target that
//! has vector registers has all of these, so there is nothing to detect and no trampoline.

#![allow(
    unused_unsafe,
    reason = "some of these are safe functions in newer compilers"
)]

use super::lanes::{read_lanes, write_lanes};
use super::{Simd, Tiling};
use core::arch::aarch64::*;

/// Proof that the target has NEON.
#[derive(Clone, Copy)]
pub(crate) struct Neon {}

// Every block below that is marked with a T: SAFETY: this file is compiled only for targets
// that have the instructions.

impl Simd for Neon {
    type V = float32x4_t;
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
    fn splat(self, x: f32) -> float32x4_t {
        // SAFETY: T.
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    fn mask(self, lanes: usize) -> usize {
        lanes
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> float32x4_t {
        // SAFETY: T; the caller says that four numbers are readable.
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn load_masked(self, p: *const f32, lanes: usize) -> float32x4_t {
        // SAFETY: the caller says that `lanes` numbers are readable.
        let v: [f32; 4] = unsafe { read_lanes(p, lanes) };
        // SAFETY: T; four numbers are there.
        unsafe { vld1q_f32(v.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: float32x4_t) {
        // SAFETY: T; the caller says that four numbers are writable.
        unsafe { vst1q_f32(p, v) }
    }
    #[inline(always)]
    unsafe fn store_masked(self, p: *mut f32, v: float32x4_t, lanes: usize) {
        let mut all = [0.0; 4];
        // SAFETY: T; there is room for four numbers.
        unsafe { vst1q_f32(all.as_mut_ptr(), v) }
        // SAFETY: the caller says that `lanes` numbers are writable.
        unsafe { write_lanes(p, all, lanes) }
    }
    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: T.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: T.
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: T.
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: T.
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: T.
        unsafe { vsqrtq_f32(a) }
    }
    #[inline(always)]
    fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: T.
        unsafe { vfmaq_f32(c, a, b) }
    }
    // The instructions for minimum and maximum give NaN where either operand is one.
    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        self.select_lt(a, b, a, b)
    }
    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        self.select_lt(b, a, a, b)
    }
    #[inline(always)]
    fn abs(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: T.
        unsafe { vabsq_f32(a) }
    }
    #[inline(always)]
    fn copysign(self, magnitude: float32x4_t, sign: float32x4_t) -> float32x4_t {
        // SAFETY: T.
        unsafe { vbslq_f32(vdupq_n_u32(1 << 31), sign, magnitude) }
    }
    #[inline(always)]
    fn select_lt(
        self,
        a: float32x4_t,
        b: float32x4_t,
        then: float32x4_t,
        otherwise: float32x4_t,
    ) -> float32x4_t {
        // SAFETY: T.
        unsafe { vbslq_f32(vcltq_f32(a, b), then, otherwise) }
    }
    #[inline(always)]
    fn exp2_int(self, t: float32x4_t) -> float32x4_t {
        // SAFETY: T.
        unsafe {
            let exponent = vshlq_n_u32::<23>(vreinterpretq_u32_f32(t));
            let one = vdupq_n_u32(1.0f32.to_bits());
            vreinterpretq_f32_u32(vaddq_u32(exponent, one))
        }
    }
}
