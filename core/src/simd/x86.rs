//! The native x86-64 levels: one-line operations over `core::arch`, the trampoline that each level's
//! kernels run in, and whether the processor and the operating system support them, without std, by
//! CPUID and XGETBV (Intel SDM, volume 1, 14.3 and 15.2–15.4).

#![allow(
    unused_unsafe,
    reason = "some operations need no instruction of the level"
)]

use super::{Arithmetic, Formula, IntegersOf, Simd, Tiling, Unrolled, WithIntegers};
use core::arch::x86_64::*;
use core::sync::atomic::{AtomicU8, Ordering};

/// Proof that the processor has AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// The same proof, for 128-bit vectors.
#[derive(Clone, Copy)]
pub(crate) struct Fma128(());

/// Proof that the processor has AVX-512F, AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

/// Proof that it has AVX-512VL and VNNI besides, for products of integers.
#[derive(Clone, Copy)]
struct Vnni(());

impl Avx2 {
    /// # Safety
    /// The processor has AVX2, FMA and F16C.
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

impl Avx512 {
    /// # Safety
    /// The processor has AVX-512F, AVX2, FMA and F16C.
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
fn vectorize_avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}

const SIGN: i32 = i32::MIN;
const ONE: i32 = 1.0f32.to_bits() as i32;

/// What 128 and 256 bits have in common, from the names of the intrinsics.
macro_rules! vex {
    ($token:ident, $lanes:literal, { $($own:tt)* }) => {
        impl Simd for $token {
            type Half = Fma128;
            const LANES: usize = $lanes;

            $($own)*

            #[inline(always)]
            fn half(self) -> Fma128 {
                Fma128(())
            }
            #[inline(always)]
            fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
                // SAFETY: the token.
                unsafe { vectorize_avx2(f) }
            }
            #[inline(always)]
            fn opaque(self, rounds: usize) -> usize {
                opaque(rounds)
            }
            operations! { unsafe:
                load(p: *const f32) -> Floats = loadu_ps(p);
                store(p: *mut f32, v: Floats) = storeu_ps(p, v);
            }
            operations! {
                prefetch(p: *const f32) = _mm_prefetch::<_MM_HINT_T1>(p.cast());
            }
        }

        impl Arithmetic for $token {
            type V = Floats;
            const FUSES: bool = true;

            operations! {
                splat(x: f32) -> Floats = set1_ps(x);
                add(a: Floats, b: Floats) -> Floats = add_ps(a, b);
                sub(a: Floats, b: Floats) -> Floats = sub_ps(a, b);
                mul(a: Floats, b: Floats) -> Floats = mul_ps(a, b);
                div(a: Floats, b: Floats) -> Floats = div_ps(a, b);
                sqrt(a: Floats) -> Floats = sqrt_ps(a);
                fma(a: Floats, b: Floats, c: Floats) -> Floats = fmadd_ps(a, b, c);
                min(a: Floats, b: Floats) -> Floats = min_ps(a, b);
                max(a: Floats, b: Floats) -> Floats = max_ps(a, b);
                abs(a: Floats) -> Floats = andnot_ps(cast_to_floats(set1_epi32(SIGN)), a);
                copysign(m: Floats, sign: Floats) -> Floats =
                    or_ps(m, and_ps(cast_to_floats(set1_epi32(SIGN)), sign));
                select_lt(a: Floats, b: Floats, then: Floats, otherwise: Floats) -> Floats =
                    blendv_ps(otherwise, then, cmp_ps::<_CMP_LT_OQ>(a, b));
                exp2_int(t: Floats) -> Floats = cast_to_floats(add_epi32(
                    slli_epi32::<23>(cast_to_integers(t)),
                    set1_epi32(ONE)
                ));
            }
        }
    };
}

impl Fma128 {
    operations! {
        join(low: __m128, high: __m128) -> __m256 = _mm256_set_m128(high, low);
        halves(v: __m256) -> [__m128; 2] =
            [_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v)];
    }

    /// The vectors as `PAIRS` of twice the lanes, the last one twice if they are odd.
    #[inline(always)]
    fn joined<const N: usize, const PAIRS: usize>(self, x: [__m128; N]) -> [__m256; PAIRS] {
        let mut pairs = [self.join(x[0], x[0]); PAIRS];
        for (n, pair) in pairs.iter_mut().enumerate() {
            let [low, high] = [2 * n, 2 * n + 1].map(|n| if n < N { n } else { N - 1 });
            *pair = self.join(x[low], x[high]);
        }
        pairs
    }

    /// A formula for vectors in pairs.
    #[inline(always)]
    fn evaluate_pairs<
        F: Formula<IN, OUT>,
        const PAIRS: usize,
        const ROWS: usize,
        const VECTORS: usize,
        const IN: usize,
        const OUT: usize,
    >(
        self,
        formula: F,
        inputs: [[[__m128; ROWS]; VECTORS]; IN],
    ) -> [[[__m128; ROWS]; VECTORS]; OUT] {
        let wide = Unrolled::<_, VECTORS>(Unrolled::<_, PAIRS>(Avx2(())));
        // In loops: a map would go through memory.
        let mut pairs = [wide.splat(0.0); IN];
        for (to, from) in pairs
            .as_flattened_mut()
            .iter_mut()
            .zip(inputs.as_flattened())
        {
            *to = self.joined(*from);
        }
        let pairs = formula.evaluate(wide, pairs);
        let mut outputs = [[[self.splat(0.0); ROWS]; VECTORS]; OUT];
        for (to, from) in outputs
            .as_flattened_mut()
            .iter_mut()
            .zip(pairs.as_flattened())
        {
            *to = self.parted(*from);
        }
        outputs
    }

    /// The vectors of [`joined`](Self::joined).
    #[inline(always)]
    fn parted<const N: usize, const PAIRS: usize>(self, pairs: [__m256; PAIRS]) -> [__m128; N] {
        let mut x = [self.splat(0.0); N];
        for (n, pair) in pairs.into_iter().enumerate() {
            for (half, v) in self.halves(pair).into_iter().enumerate() {
                if 2 * n + half < N {
                    x[2 * n + half] = v;
                }
            }
        }
        x
    }
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
    vex!(Fma128, 4, {
        // Nothing is packed for rows that fit these. Four rows of a step make two vectors of 256 bits.
        const TILING: Tiling = Tiling {
            packed_rows: 0,
            step_rows: 4,
            ..Tiling::SIXTEEN_REGISTERS
        };

        #[inline(always)]
        fn evaluate<
            F: Formula<IN, OUT>,
            const ROWS: usize,
            const VECTORS: usize,
            const IN: usize,
            const OUT: usize,
        >(
            self,
            formula: F,
            inputs: [[[Floats; ROWS]; VECTORS]; IN],
        ) -> [[[Floats; ROWS]; VECTORS]; OUT] {
            match ROWS {
                2 => self.evaluate_pairs::<_, 1, _, _, _, _>(formula, inputs),
                3 | 4 => self.evaluate_pairs::<_, 2, _, _, _, _>(formula, inputs),
                _ => formula.evaluate(Unrolled::<_, VECTORS>(Unrolled::<_, ROWS>(self)), inputs),
            }
        }

        // With the number of lanes: what the instruction for masks writes cannot be read
        // again soon.
        type Mask = (Integers, usize);
        operations! {
            mask(lanes: usize) -> Self::Mask =
                (cmpgt_epi32(set1_epi32(lanes as i32), setr_epi32(0, 1, 2, 3)), lanes);
        }
        operations! { unsafe:
            load_masked(p: *const f32, mask: Self::Mask) -> Floats = maskload_ps(p, mask.0);
            store_masked(p: *mut f32, v: Floats, mask: Self::Mask) = match mask.1 {
                0 => {}
                1 => _mm_store_ss(p, v),
                2 => _mm_storel_epi64(p.cast(), cast_to_integers(v)),
                3 => {
                    _mm_storel_epi64(p.cast(), cast_to_integers(v));
                    _mm_store_ss(p.add(2), _mm_movehl_ps(v, v));
                }
                _ => storeu_ps(p, v),
            };
        }
        #[inline(always)]
        unsafe fn load_halves<const FULL: bool>(self, p: *const u16, mask: Self::Mask) -> Floats {
            // SAFETY: the token, and the caller's promise.
            unsafe {
                if FULL {
                    return _mm_cvtph_ps(_mm_loadl_epi64(p.cast()));
                }
                _mm_cvtph_ps(_mm_loadl_epi64(
                    first_halves::<4>(p, mask.1).as_ptr().cast(),
                ))
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
    vex!(Avx2, 8, {
        const TILING: Tiling = Tiling::SIXTEEN_REGISTERS;

        type Mask = Integers;
        operations! {
            mask(lanes: usize) -> Integers = cmpgt_epi32(
                set1_epi32(lanes as i32),
                setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)
            );
        }
        operations! { unsafe:
            load_masked(p: *const f32, mask: Integers) -> Floats = maskload_ps(p, mask);
            store_masked(p: *mut f32, v: Floats, mask: Integers) = maskstore_ps(p, mask, v);
        }
        #[inline(always)]
        unsafe fn load_halves<const FULL: bool>(self, p: *const u16, mask: Integers) -> Floats {
            // SAFETY: the token, and the caller's promise.
            unsafe {
                if FULL {
                    return _mm256_cvtph_ps(_mm_loadu_si128(p.cast()));
                }
                let lanes = _mm256_movemask_ps(cast_to_floats(mask)).count_ones() as usize;
                _mm256_cvtph_ps(_mm_loadu_si128(first_halves::<8>(p, lanes).as_ptr().cast()))
            }
        }
    });

    /// 256 bits, from how a sum takes products.
    macro_rules! integers {
        ($token:ident, |$sums:ident, $a:ident, $b:ident| $multiply_add:expr) => {
            impl crate::simd::Integers for $token {
                type Floats = Avx2;
                type I = __m256i;

                #[inline(always)]
                fn floats(self) -> Avx2 {
                    Avx2(())
                }
                #[inline(always)]
                fn load_words(self, from: &[u32]) -> __m256i {
                    // SAFETY: the token; reads no more lanes than there are words.
                    unsafe {
                        if from.len() >= Avx2::LANES {
                            _mm256_loadu_si256(from.as_ptr().cast())
                        } else {
                            let mask = self.floats().mask(from.len());
                            _mm256_maskload_epi32(from.as_ptr().cast(), mask)
                        }
                    }
                }
                operations! {
                    splat_word(word: u32) -> __m256i = set1_epi32(word as i32);
                    subtract(a: __m256i, b: __m256i) -> __m256i = _mm256_sub_epi32(a, b);
                    add_low_bytes($sums: __m256i, words: __m256i, $b: __m256i) -> __m256i = {
                        let $a = _mm256_and_si256(words, set1_epi32(0x00ff_00ff));
                        $multiply_add
                    };
                    add_high_bytes($sums: __m256i, words: __m256i, $b: __m256i) -> __m256i = {
                        let $a = _mm256_srai_epi16::<8>(words);
                        $multiply_add
                    };
                    low_half(words: __m256i) -> __m256i =
                        _mm256_srai_epi32::<16>(slli_epi32::<16>(words));
                    high_half(words: __m256i) -> __m256i = _mm256_srai_epi32::<16>(words);
                    top_half(words: __m256i) -> __m256i = slli_epi32::<16>(words);
                    to_float(words: __m256i) -> Floats = _mm256_cvtepi32_ps(words);
                    as_float(words: __m256i) -> Floats = cast_to_floats(words);
                }
            }
        };
    }
    integers!(Avx2, |sums, a, b| add_epi32(sums, _mm256_madd_epi16(a, b)));
    integers!(Vnni, |sums, a, b| _mm256_dpwssd_epi32(sums, a, b));
}

/// The first lanes, the others zero.
///
/// # Safety
/// So many halves are readable at `p`.
#[inline(always)]
unsafe fn first_halves<const N: usize>(p: *const u16, lanes: usize) -> [u16; N] {
    let mut halves = [0; N];
    for (lane, half) in halves.iter_mut().take(lanes).enumerate() {
        // SAFETY: the caller's.
        *half = unsafe { p.add(lane).read() };
    }
    halves
}

impl IntegersOf for Avx2 {
    #[inline(always)]
    fn with_integers(self, f: impl WithIntegers) {
        f.call(self);
    }
}

/// In 256 bits: AVX-512F has no products of 16 bits, and those of VNNI are as fast so.
impl IntegersOf for Avx512 {
    #[inline(always)]
    fn with_integers(self, f: impl WithIntegers) {
        #[target_feature(enable = "avx512f,avx512vl,avx512vnni,avx2,fma,f16c")]
        #[inline(never)]
        fn with_vnni(f: impl WithIntegers) {
            f.call(Vnni(()));
        }
        if has_vnni() {
            // SAFETY: AVX-512VL and VNNI were looked for, and the token.
            unsafe { with_vnni(f) }
        } else {
            f.call(Avx2(()));
        }
    }
}

impl Simd for Avx512 {
    type Mask = __mmask16;
    type Half = Avx2;
    const LANES: usize = 16;
    const TILING: Tiling = Tiling {
        packed_rows: 14,
        ..Tiling::SIXTEEN_REGISTERS
    };

    #[inline(always)]
    fn half(self) -> Avx2 {
        Avx2(())
    }
    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx512f,avx2,fma,f16c")]
        #[inline(never)]
        fn vectorize_avx512<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        // SAFETY: the token.
        unsafe { vectorize_avx512(f) }
    }
    #[inline(always)]
    fn opaque(self, rounds: usize) -> usize {
        opaque(rounds)
    }
    operations! { unsafe:
        load(p: *const f32) -> __m512 = _mm512_loadu_ps(p);
        load_masked(p: *const f32, mask: __mmask16) -> __m512 = _mm512_maskz_loadu_ps(mask, p);
        store(p: *mut f32, v: __m512) = _mm512_storeu_ps(p, v);
        store_masked(p: *mut f32, v: __m512, mask: __mmask16) = _mm512_mask_storeu_ps(p, mask, v);
    }
    operations! {
        mask(lanes: usize) -> __mmask16 = ((1u32 << lanes) - 1) as __mmask16;
        prefetch(p: *const f32) = _mm_prefetch::<_MM_HINT_T1>(p.cast());
    }
    #[inline(always)]
    unsafe fn load_halves<const FULL: bool>(self, p: *const u16, mask: __mmask16) -> __m512 {
        // SAFETY: the token, and the caller's promise.
        unsafe {
            if FULL {
                return _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()));
            }
            let lanes = mask.count_ones() as usize;
            _mm512_cvtph_ps(_mm256_loadu_si256(
                first_halves::<16>(p, lanes).as_ptr().cast(),
            ))
        }
    }
}

impl Arithmetic for Avx512 {
    type V = __m512;
    const FUSES: bool = true;

    operations! {
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        sqrt(a: __m512) -> __m512 = _mm512_sqrt_ps(a);
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        abs(a: __m512) -> __m512 = _mm512_abs_ps(a);
        // AVX-512F has the bitwise operations on integers only.
        copysign(m: __m512, sign: __m512) -> __m512 = _mm512_castsi512_ps(_mm512_or_si512(
            _mm512_castps_si512(m),
            _mm512_and_si512(_mm512_set1_epi32(SIGN), _mm512_castps_si512(sign))
        ));
        select_lt(a: __m512, b: __m512, then: __m512, otherwise: __m512) -> __m512 =
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), otherwise, then);
        exp2_int(t: __m512) -> __m512 = _mm512_castsi512_ps(_mm512_add_epi32(
            _mm512_slli_epi32::<23>(_mm512_castps_si512(t)),
            _mm512_set1_epi32(ONE)
        ));
    }
}

/// [`Simd::opaque`]: nothing for the processor to do.
#[inline(always)]
fn opaque(mut rounds: usize) -> usize {
    // SAFETY: no instruction; the compiler takes the number for one that may have changed.
    unsafe {
        core::arch::asm!("/* {} */", inout(reg) rounds, options(pure, nomem, nostack, preserves_flags));
    }
    rounds
}

/// Bits of XCR0: the operating system saves SSE and AVX registers.
const YMM_STATE: u64 = 0b110;
/// … and the opmask registers and all of the 512-bit ones.
const ZMM_STATE: u64 = 0b1110_0110;

const fn bit(word: u32, bit: u32) -> bool {
    word >> bit & 1 == 1
}

/// Leaf 7's EBX, or zero where there is no leaf 7.
#[allow(unused_unsafe, reason = "CPUID is a safe function in newer compilers")]
fn extended_features() -> u32 {
    // SAFETY: every x86-64 processor has CPUID.
    unsafe {
        if __cpuid(0).eax < 7 {
            0
        } else {
            __cpuid_count(7, 0).ebx
        }
    }
}

/// Leaf 1's ECX.
#[allow(unused_unsafe, reason = "CPUID is a safe function in newer compilers")]
fn features() -> u32 {
    // SAFETY: every x86-64 processor has CPUID with leaf 1.
    unsafe { __cpuid(1).ecx }
}

/// Which registers the operating system saves; none without OSXSAVE.
fn saved_registers() -> u64 {
    #[target_feature(enable = "xsave")]
    fn xcr0() -> u64 {
        // SAFETY: register 0 exists wherever XGETBV does.
        unsafe { _xgetbv(0) }
    }
    const OSXSAVE: u32 = 27;
    if !bit(features(), OSXSAVE) {
        return 0;
    }
    // SAFETY: OSXSAVE says that XGETBV may be used.
    unsafe { xcr0() }
}

/// AVX2, FMA and F16C, saved by the operating system.
pub(super) fn avx2_fma_f16c() -> bool {
    let (fma, avx, f16c, avx2) = (12, 28, 29, 5);
    bit(features(), fma)
        && bit(features(), f16c)
        && bit(features(), avx)
        && bit(extended_features(), avx2)
        && saved_registers() & YMM_STATE == YMM_STATE
}

/// AVX-512F, saved by the operating system.
pub(super) fn avx512f() -> bool {
    let avx512f = 16;
    bit(extended_features(), avx512f) && saved_registers() & ZMM_STATE == ZMM_STATE
}

/// AVX-512VL and VNNI, looked for once.
#[inline(always)]
fn has_vnni() -> bool {
    const UNKNOWN: u8 = 0;
    static FOUND: AtomicU8 = AtomicU8::new(UNKNOWN);
    #[cold]
    fn look() -> u8 {
        let found = 1 + u8::from(avx512vl_and_vnni());
        FOUND.store(found, Ordering::Relaxed);
        found
    }
    let found = match FOUND.load(Ordering::Relaxed) {
        UNKNOWN => look(),
        found => found,
    };
    found == 2
}

/// On a processor with AVX-512F.
#[allow(unused_unsafe, reason = "CPUID is a safe function in newer compilers")]
fn avx512vl_and_vnni() -> bool {
    let (vl, vnni) = (31, 11);
    // SAFETY: a processor with AVX-512F has leaf 7.
    let leaf = unsafe { __cpuid_count(7, 0) };
    bit(leaf.ebx, vl) && bit(leaf.ecx, vnni)
}

#[cfg(test)]
mod tests {
    extern crate std;

    #[test]
    fn agrees_with_std() {
        assert_eq!(
            super::avx2_fma_f16c(),
            std::is_x86_feature_detected!("avx2")
                && std::is_x86_feature_detected!("fma")
                && std::is_x86_feature_detected!("f16c")
        );
        assert_eq!(super::avx512f(), std::is_x86_feature_detected!("avx512f"));
        if super::avx512f() {
            assert_eq!(
                super::has_vnni(),
                std::is_x86_feature_detected!("avx512vl")
                    && std::is_x86_feature_detected!("avx512vnni")
            );
        }
    }
}
