//! The native AArch64 level: one-line operations over `core::arch`. Every AArch64 target that
//! has vector registers has all of these, so there is nothing to detect and no trampoline.

#![allow(
    unused_unsafe,
    reason = "some of these are safe functions in newer compilers"
)]

use super::portable::{read_lanes, write_lanes};
use super::{Arithmetic, Integers, IntegersOf, Simd, Tiling, WithIntegers, half};
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
    #[inline(always)]
    unsafe fn load_halves<const FULL: bool>(self, p: *const u16, lanes: usize) -> float32x4_t {
        let mut halves = [0u16; 4];
        for (lane, half) in halves.iter_mut().enumerate() {
            if FULL || lane < lanes {
                // SAFETY: the caller says that so many are readable.
                *half = unsafe { p.add(lane).read() };
            }
        }
        // SAFETY: the token. FCVTL's intrinsic takes a type that is not stable.
        unsafe {
            let wide = vmovl_u16(vld1_u16(halves.as_ptr()));
            let magnitude = vshlq_n_u32::<13>(vandq_u32(wide, vdupq_n_u32(0x7fff)));
            let magnitude = vmulq_n_f32(vreinterpretq_f32_u32(magnitude), half::SCALE);
            let sign = vreinterpretq_f32_u32(vshlq_n_u32::<16>(wide));
            vbslq_f32(vdupq_n_u32(1 << 31), sign, magnitude)
        }
    }
}

impl Integers for Neon {
    type Floats = Self;
    type I = int32x4_t;

    #[inline(always)]
    fn floats(self) -> Self {
        self
    }
    operations! {
        splat_word(word: u32) -> int32x4_t = vdupq_n_s32(word as i32);
        load_words(from: &[u32]) -> int32x4_t = match from.first_chunk::<4>() {
            Some(words) => vreinterpretq_s32_u32(vld1q_u32(words.as_ptr())),
            None => {
                let mut words = [0; 4];
                for (word, from) in words.iter_mut().zip(from) {
                    *word = *from;
                }
                vreinterpretq_s32_u32(vld1q_u32(words.as_ptr()))
            }
        };
        subtract(a: int32x4_t, b: int32x4_t) -> int32x4_t = vsubq_s32(a, b);
        add_low_bytes(sums: int32x4_t, words: int32x4_t, pair: int32x4_t) -> int32x4_t =
            add_products(sums, vandq_s32(words, vdupq_n_s32(0x00ff_00ff)), pair);
        add_high_bytes(sums: int32x4_t, words: int32x4_t, pair: int32x4_t) -> int32x4_t =
            add_products(
                sums,
                vreinterpretq_s32_s16(vshrq_n_s16::<8>(vreinterpretq_s16_s32(words))),
                pair
            );
        low_half(words: int32x4_t) -> int32x4_t = vshrq_n_s32::<16>(vshlq_n_s32::<16>(words));
        high_half(words: int32x4_t) -> int32x4_t = vshrq_n_s32::<16>(words);
        top_half(words: int32x4_t) -> int32x4_t = vshlq_n_s32::<16>(words);
        to_float(words: int32x4_t) -> float32x4_t = vcvtq_f32_s32(words);
        as_float(words: int32x4_t) -> float32x4_t = vreinterpretq_f32_s32(words);
    }
}

impl IntegersOf for Neon {
    #[inline(always)]
    fn with_integers(self, f: impl WithIntegers) {
        f.call(self);
    }
}

/// `sums` += the products of the two halves of each lane, together.
#[inline(always)]
fn add_products(sums: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
    // SAFETY: NEON is what this file is compiled for.
    unsafe {
        let (a, b) = (vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
        let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
        vaddq_s32(sums, vpaddq_s32(low, vmull_high_s16(a, b)))
    }
}

impl Arithmetic for Neon {
    type V = float32x4_t;
    const FUSES: bool = true;

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
