//! The native x86-64 levels: one-line operations over `core::arch`, and the
//! trampoline that each level's kernels run in.

use super::{Kernel, Simd, does_not_join};
use core::arch::x86_64::*;

/// Proof that the processor has AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// The same proof, for 128-bit vectors.
#[derive(Clone, Copy)]
pub(crate) struct Fma128(());

/// Proof that the processor has AVX-512F, AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

/// Compiles `kernel` for AVX2 and FMA and runs it.
///
/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

/// [`run_avx2`], never inlined.
///
/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
#[inline(never)]
unsafe fn outlined_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

/// The same with 128-bit vectors.
///
/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
#[inline(never)]
unsafe fn outlined_avx2_narrow<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Fma128(()))
}

/// Compiles `kernel` for AVX-512F and runs it.
///
/// # Safety
/// The processor has AVX-512F, AVX2 and FMA.
#[target_feature(enable = "avx512f,avx2,fma")]
pub(super) unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

/// [`run_avx512`], never inlined.
///
/// # Safety
/// The processor has AVX-512F, AVX2 and FMA.
#[target_feature(enable = "avx512f,avx2,fma")]
#[inline(never)]
unsafe fn outlined_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

const SIGN: i32 = i32::MIN;
const ONE: i32 = 1.0f32.to_bits() as i32;

// Every block below that is marked with a T: SAFETY: the token proves that the
// processor has the instructions.

/// A level of vectors of 32-bit lanes, from the names of its intrinsics: 128 and
/// 256 bits differ in nothing else.
macro_rules! fused_vectors {
    ($token:ident, $lanes:literal, $outlined:ident, { $($own:tt)* }) => {
        impl Simd for $token {
            type V = Floats;
            type Narrow = Fma128;
            const LANES: usize = $lanes;
            const BLOCKED: bool = true;
            const TILE_ROWS: usize = 6;

            #[inline(always)]
            fn narrow(self) -> Fma128 {
                Fma128(())
            }
            #[inline(always)]
            fn outline<K: Kernel>(self, kernel: K) -> K::Output {
                // SAFETY: T.
                unsafe { $outlined(kernel) }
            }

            #[inline(always)]
            fn rolled(self, rounds: usize) -> usize {
                rolled(rounds)
            }

            #[inline(always)]
            fn fetch(self, p: *const f32) {
                // SAFETY: a hint; it never faults.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
            }

            #[inline(always)]
            fn splat(self, x: f32) -> Floats {
                // SAFETY: T.
                unsafe { set1_ps(x) }
            }
            $($own)*

            #[inline(always)]
            unsafe fn load(self, p: *const f32) -> Floats {
                // SAFETY: T; the caller says that so many numbers are readable.
                unsafe { loadu_ps(p) }
            }
            #[inline(always)]
            unsafe fn store(self, p: *mut f32, v: Floats) {
                // SAFETY: T; the caller says that so many numbers are writable.
                unsafe { storeu_ps(p, v) }
            }
            #[inline(always)]
            fn add(self, a: Floats, b: Floats) -> Floats {
                // SAFETY: T.
                unsafe { add_ps(a, b) }
            }
            #[inline(always)]
            fn sub(self, a: Floats, b: Floats) -> Floats {
                // SAFETY: T.
                unsafe { sub_ps(a, b) }
            }
            #[inline(always)]
            fn mul(self, a: Floats, b: Floats) -> Floats {
                // SAFETY: T.
                unsafe { mul_ps(a, b) }
            }
            #[inline(always)]
            fn div(self, a: Floats, b: Floats) -> Floats {
                // SAFETY: T.
                unsafe { div_ps(a, b) }
            }
            #[inline(always)]
            fn sqrt(self, a: Floats) -> Floats {
                // SAFETY: T.
                unsafe { sqrt_ps(a) }
            }
            #[inline(always)]
            fn fma(self, a: Floats, b: Floats, c: Floats) -> Floats {
                // SAFETY: T.
                unsafe { fmadd_ps(a, b, c) }
            }
            #[inline(always)]
            fn min(self, a: Floats, b: Floats) -> Floats {
                // SAFETY: T.
                unsafe { min_ps(a, b) }
            }
            #[inline(always)]
            fn max(self, a: Floats, b: Floats) -> Floats {
                // SAFETY: T.
                unsafe { max_ps(a, b) }
            }
            #[inline(always)]
            fn abs(self, a: Floats) -> Floats {
                // SAFETY: T.
                unsafe { andnot_ps(cast_to_floats(set1_epi32(SIGN)), a) }
            }
            #[inline(always)]
            fn with_sign(self, magnitude: Floats, sign: Floats) -> Floats {
                // SAFETY: T.
                unsafe {
                    let sign = and_ps(cast_to_floats(set1_epi32(SIGN)), sign);
                    or_ps(magnitude, sign)
                }
            }
            #[inline(always)]
            fn if_less(self, a: Floats, b: Floats, then: Floats, otherwise: Floats) -> Floats {
                // SAFETY: T.
                unsafe { blendv_ps(otherwise, then, cmp_ps::<_CMP_LT_OQ>(a, b)) }
            }
            #[inline(always)]
            fn exp2_of_magic(self, t: Floats) -> Floats {
                // SAFETY: T.
                unsafe {
                    let exponent = slli_epi32::<23>(cast_to_integers(t));
                    cast_to_floats(add_epi32(exponent, set1_epi32(ONE)))
                }
            }
        }
    };
}

mod xmm {
    use super::*;
    use core::arch::x86_64::{
        __m128 as Floats, __m128i as Integers, _mm_add_epi32 as add_epi32, _mm_add_ps as add_ps,
        _mm_and_ps as and_ps, _mm_andnot_ps as andnot_ps, _mm_blendv_ps as blendv_ps,
        _mm_castps_si128 as cast_to_integers, _mm_castsi128_ps as cast_to_floats,
        _mm_cmp_ps as cmp_ps, _mm_cmpgt_epi32 as cmpgt_epi32, _mm_div_ps as div_ps,
        _mm_fmadd_ps as fmadd_ps, _mm_loadu_ps as loadu_ps, _mm_maskload_ps as maskload_ps,
        _mm_max_ps as max_ps, _mm_min_ps as min_ps, _mm_mul_ps as mul_ps, _mm_or_ps as or_ps,
        _mm_set1_epi32 as set1_epi32, _mm_set1_ps as set1_ps, _mm_setr_epi32 as setr_epi32,
        _mm_slli_epi32 as slli_epi32, _mm_sqrt_ps as sqrt_ps, _mm_storeu_ps as storeu_ps,
        _mm_sub_ps as sub_ps,
    };
    fused_vectors!(Fma128, 4, outlined_avx2_narrow, {
        const JOINS: bool = true;
        type Twice = Avx2;

        #[inline(always)]
        fn twice(self) -> Avx2 {
            Avx2(())
        }
        #[inline(always)]
        fn join(self, low: Floats, high: Floats) -> __m256 {
            // SAFETY: T.
            unsafe { _mm256_set_m128(high, low) }
        }
        #[inline(always)]
        fn halves(self, v: __m256) -> [Floats; 2] {
            // SAFETY: T.
            unsafe { [_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v)] }
        }

        // With the number of lanes: what the instruction for masks writes cannot be read
        // again soon.
        type Mask = (Integers, usize);

        #[inline(always)]
        fn mask(self, lanes: usize) -> Self::Mask {
            // SAFETY: T.
            unsafe {
                let lane = setr_epi32(0, 1, 2, 3);
                (cmpgt_epi32(set1_epi32(lanes as i32), lane), lanes)
            }
        }
        #[inline(always)]
        unsafe fn load_masked(self, p: *const f32, (mask, _): Self::Mask) -> Floats {
            // SAFETY: T; lanes outside the mask are not read.
            unsafe { maskload_ps(p, mask) }
        }
        #[inline(always)]
        unsafe fn store_masked(self, p: *mut f32, v: Floats, (_, lanes): Self::Mask) {
            // SAFETY: T; the caller says that `lanes` numbers are writable.
            unsafe {
                match lanes {
                    0 => {}
                    1 => _mm_store_ss(p, v),
                    2 => _mm_store_sd(p.cast(), _mm_castps_pd(v)),
                    3 => {
                        _mm_store_sd(p.cast(), _mm_castps_pd(v));
                        _mm_store_ss(p.add(2), _mm_movehl_ps(v, v));
                    }
                    _ => storeu_ps(p, v),
                }
            }
        }
    });
}

mod ymm {
    use super::*;
    use core::arch::x86_64::{
        __m256 as Floats, __m256i as Integers, _mm256_add_epi32 as add_epi32,
        _mm256_add_ps as add_ps, _mm256_and_ps as and_ps, _mm256_andnot_ps as andnot_ps,
        _mm256_blendv_ps as blendv_ps, _mm256_castps_si256 as cast_to_integers,
        _mm256_castsi256_ps as cast_to_floats, _mm256_cmp_ps as cmp_ps,
        _mm256_cmpgt_epi32 as cmpgt_epi32, _mm256_div_ps as div_ps, _mm256_fmadd_ps as fmadd_ps,
        _mm256_loadu_ps as loadu_ps, _mm256_maskload_ps as maskload_ps,
        _mm256_maskstore_ps as maskstore_ps, _mm256_max_ps as max_ps, _mm256_min_ps as min_ps,
        _mm256_mul_ps as mul_ps, _mm256_or_ps as or_ps, _mm256_set1_epi32 as set1_epi32,
        _mm256_set1_ps as set1_ps, _mm256_setr_epi32 as setr_epi32,
        _mm256_slli_epi32 as slli_epi32, _mm256_sqrt_ps as sqrt_ps, _mm256_storeu_ps as storeu_ps,
        _mm256_sub_ps as sub_ps,
    };
    fused_vectors!(Avx2, 8, outlined_avx2, {
        does_not_join!();

        type Mask = Integers;

        #[inline(always)]
        fn mask(self, lanes: usize) -> Integers {
            // SAFETY: T.
            unsafe {
                let lane = setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                cmpgt_epi32(set1_epi32(lanes as i32), lane)
            }
        }
        #[inline(always)]
        unsafe fn load_masked(self, p: *const f32, mask: Integers) -> Floats {
            // SAFETY: T; lanes outside the mask are not read.
            unsafe { maskload_ps(p, mask) }
        }
        #[inline(always)]
        unsafe fn store_masked(self, p: *mut f32, v: Floats, mask: Integers) {
            // SAFETY: T; lanes outside the mask are not written.
            unsafe { maskstore_ps(p, mask, v) }
        }
    });
}

impl Simd for Avx512 {
    type V = __m512;
    type Mask = __mmask16;
    type Narrow = Avx2;
    const LANES: usize = 16;
    const BLOCKED: bool = true;
    const TILE_ROWS: usize = 14;

    does_not_join!();

    #[inline(always)]
    fn narrow(self) -> Avx2 {
        Avx2(())
    }
    #[inline(always)]
    fn outline<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: T.
        unsafe { outlined_avx512(kernel) }
    }
    #[inline(always)]
    fn rolled(self, rounds: usize) -> usize {
        rolled(rounds)
    }
    #[inline(always)]
    fn fetch(self, p: *const f32) {
        // SAFETY: a hint; it never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: T.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn mask(self, lanes: usize) -> __mmask16 {
        ((1u32 << lanes) - 1) as __mmask16
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: T; the caller says that sixteen numbers are readable.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_masked(self, p: *const f32, mask: __mmask16) -> __m512 {
        // SAFETY: T; lanes outside the mask are not read.
        unsafe { _mm512_maskz_loadu_ps(mask, p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        // SAFETY: T; the caller says that sixteen numbers are writable.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn store_masked(self, p: *mut f32, v: __m512, mask: __mmask16) {
        // SAFETY: T; lanes outside the mask are not written.
        unsafe { _mm512_mask_storeu_ps(p, mask, v) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: T.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: T.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: T.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: T.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        // SAFETY: T.
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: T.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: T.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: T.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        // SAFETY: T.
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    fn with_sign(self, magnitude: __m512, sign: __m512) -> __m512 {
        // SAFETY: T. AVX-512F has the bitwise operations on integers only.
        unsafe {
            let sign = _mm512_and_si512(_mm512_set1_epi32(SIGN), _mm512_castps_si512(sign));
            _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(magnitude), sign))
        }
    }
    #[inline(always)]
    fn if_less(self, a: __m512, b: __m512, then: __m512, otherwise: __m512) -> __m512 {
        // SAFETY: T.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), otherwise, then) }
    }
    #[inline(always)]
    fn exp2_of_magic(self, t: __m512) -> __m512 {
        // SAFETY: T.
        unsafe {
            let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(t));
            _mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(ONE)))
        }
    }
}

/// [`Simd::rolled`]: nothing for the processor to do.
#[inline(always)]
fn rolled(mut rounds: usize) -> usize {
    // SAFETY: no instruction; the compiler takes the number for one that may have changed.
    unsafe {
        core::arch::asm!("/* {} */", inout(reg) rounds, options(pure, nomem, nostack, preserves_flags));
    }
    rounds
}
