//! The level that every target has, where there are vectors of four lanes: SSE2, NEON or
//! SIMD128 through `wide`, never fused.

use super::{Arithmetic, Integers, IntegersOf, Simd, Tiling, Unrolled, WithIntegers, half, math};
use crate::layout::scratch::PACKS;
use wide::{f32x4, i16x8, i32x4, u32x4};

/// Proof of nothing: every target can run it.
#[derive(Clone, Copy)]
pub(crate) struct Portable {}

const SIGN: u32 = 1 << 31;

/// Whether code is to be small: few sizes of tiles, and what is long in functions of its own.
const SHORT: bool = cfg!(feature = "compact-code");

const PACKED_ROWS: usize = if PACKS { 6 } else { 0 };

macro_rules! functions {
    ($($name:ident, $each:ident;)*) => {$(
        #[inline(always)]
        fn $each<const N: usize>(self, mut x: [f32x4; N]) -> [f32x4; N] {
            if !SHORT {
                return math::$name(Unrolled(self), x);
            }
            for x in &mut x {
                *x = short::$name(*x);
            }
            x
        }
    )*};
}

impl Simd for Portable {
    type Mask = usize;
    type Half = Self;
    const LANES: usize = 4;
    const TILING: Tiling = if SHORT {
        Tiling {
            gemm_rows: 3,
            gemm_tail_rows: 1,
            packed_rows: PACKED_ROWS,
            gemv_max_rows: 0,
            step_rows: 2,
            step_tail_rows: 1,
            step_vectors: 1,
            step_unroll: 1,
            map_vectors: 1,
        }
    } else {
        Tiling {
            packed_rows: PACKED_ROWS,
            ..Tiling::SIXTEEN_REGISTERS
        }
    };

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
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> f32x4 {
        // SAFETY: the caller says that four numbers are readable.
        f32x4::new(unsafe { p.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_masked(self, p: *const f32, lanes: usize) -> f32x4 {
        // SAFETY: the caller's.
        unsafe {
            if SHORT {
                short::load(p, lanes)
            } else {
                f32x4::new(read_lanes(p, lanes))
            }
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: f32x4) {
        // SAFETY: the caller says that four numbers are writable.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(v.to_array()) }
    }
    #[inline(always)]
    unsafe fn store_masked(self, p: *mut f32, v: f32x4, lanes: usize) {
        // SAFETY: the caller's.
        unsafe {
            if SHORT {
                short::store(p, v, lanes);
            } else {
                write_lanes(p, v.to_array(), lanes);
            }
        }
    }
    #[inline(always)]
    unsafe fn load_halves<const FULL: bool>(self, p: *const u16, lanes: usize) -> f32x4 {
        let mut halves = [0u32; 4];
        for (lane, half) in halves.iter_mut().enumerate() {
            if FULL || lane < lanes {
                // SAFETY: the caller says that so many are readable.
                *half = unsafe { p.add(lane).read() }.into();
            }
        }
        let halves = u32x4::new(halves);
        let magnitude: f32x4 = bytemuck::cast((halves & u32x4::splat(0x7fff)) << 13);
        let sign: f32x4 = bytemuck::cast((halves & u32x4::splat(0x8000)) << 16);
        (magnitude * f32x4::splat(half::SCALE)) | sign
    }
}

impl Integers for Portable {
    type Floats = Self;
    type I = i32x4;

    #[inline(always)]
    fn floats(self) -> Self {
        self
    }
    #[inline(always)]
    fn splat_word(self, word: u32) -> i32x4 {
        i32x4::splat(word as i32)
    }
    #[inline(always)]
    fn load_words(self, from: &[u32]) -> i32x4 {
        let words = match from.first_chunk() {
            Some(words) => *words,
            None => {
                let mut words = [0; 4];
                for (word, from) in words.iter_mut().zip(from) {
                    *word = *from;
                }
                words
            }
        };
        bytemuck::cast(words)
    }
    #[inline(always)]
    fn subtract(self, a: i32x4, b: i32x4) -> i32x4 {
        a - b
    }
    #[inline(always)]
    fn add_low_bytes(self, sums: i32x4, words: i32x4, pair: i32x4) -> i32x4 {
        let bytes = words & i32x4::splat(0x00ff_00ff);
        sums + bytemuck::cast::<_, i16x8>(bytes).dot(bytemuck::cast(pair))
    }
    #[inline(always)]
    fn add_high_bytes(self, sums: i32x4, words: i32x4, pair: i32x4) -> i32x4 {
        let halves: i16x8 = bytemuck::cast(words);
        let bytes: i16x8 = halves >> 8;
        sums + bytes.dot(bytemuck::cast(pair))
    }
    #[inline(always)]
    fn low_half(self, words: i32x4) -> i32x4 {
        (words << 16) >> 16
    }
    #[inline(always)]
    fn high_half(self, words: i32x4) -> i32x4 {
        words >> 16
    }
    #[inline(always)]
    fn top_half(self, words: i32x4) -> i32x4 {
        words << 16
    }
    #[inline(always)]
    fn to_float(self, words: i32x4) -> f32x4 {
        words.round_float()
    }
    #[inline(always)]
    fn as_float(self, words: i32x4) -> f32x4 {
        bytemuck::cast(words)
    }
}

impl IntegersOf for Portable {
    #[inline(always)]
    fn with_integers(self, f: impl WithIntegers) {
        f.call(self);
    }
}

impl Arithmetic for Portable {
    type V = f32x4;
    const FUSES: bool = false;

    functions! { exp, exp_each; sigmoid, sigmoid_each; tanh, tanh_each; }

    #[inline(always)]
    fn splat(self, x: f32) -> f32x4 {
        f32x4::splat(x)
    }
    #[inline(always)]
    fn add(self, a: f32x4, b: f32x4) -> f32x4 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32x4, b: f32x4) -> f32x4 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32x4, b: f32x4) -> f32x4 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32x4, b: f32x4) -> f32x4 {
        a / b
    }
    #[inline(always)]
    fn sqrt(self, a: f32x4) -> f32x4 {
        a.sqrt()
    }
    #[inline(always)]
    fn fma(self, a: f32x4, b: f32x4, c: f32x4) -> f32x4 {
        a * b + c
    }
    #[inline(always)]
    fn min(self, a: f32x4, b: f32x4) -> f32x4 {
        // SIMD128's instruction is the only one that gives its first operand
        // where one is NaN.
        if cfg!(target_feature = "simd128") {
            b.fast_min(a)
        } else {
            a.fast_min(b)
        }
    }
    #[inline(always)]
    fn max(self, a: f32x4, b: f32x4) -> f32x4 {
        if cfg!(target_feature = "simd128") {
            b.fast_max(a)
        } else {
            a.fast_max(b)
        }
    }
    #[inline(always)]
    fn abs(self, a: f32x4) -> f32x4 {
        a.abs()
    }
    #[inline(always)]
    fn copysign(self, magnitude: f32x4, sign: f32x4) -> f32x4 {
        magnitude | (sign & f32x4::splat(f32::from_bits(SIGN)))
    }
    #[inline(always)]
    fn select_lt(self, a: f32x4, b: f32x4, then: f32x4, otherwise: f32x4) -> f32x4 {
        a.simd_lt(b).select(then, otherwise)
    }
    #[inline(always)]
    fn exp2_int(self, t: f32x4) -> f32x4 {
        let bits: u32x4 = bytemuck::cast(t);
        bytemuck::cast((bits << 23) + u32x4::splat(1.0f32.to_bits()))
    }
}

/// The first `lanes` numbers at `p`; the others are zero.
///
/// # Safety
///
/// So many are readable.
#[inline(always)]
pub(super) unsafe fn read_lanes<const N: usize>(p: *const f32, lanes: usize) -> [f32; N] {
    let mut v = [0.0; N];
    for (lane, x) in v.iter_mut().enumerate() {
        if lane < lanes {
            // SAFETY: the caller says that `lanes` numbers are readable.
            *x = unsafe { p.add(lane).read() };
        }
    }
    v
}

/// Writes the first `lanes` numbers to `p`.
///
/// # Safety
///
/// So many are writable.
#[inline(always)]
pub(super) unsafe fn write_lanes<const N: usize>(p: *mut f32, v: [f32; N], lanes: usize) {
    for (lane, x) in v.into_iter().enumerate() {
        if lane < lanes {
            // SAFETY: the caller says that `lanes` numbers are writable.
            unsafe { p.add(lane).write(x) }
        }
    }
}

/// What is long, as functions; in the C ABI, which hands vectors over in registers.
// Both sides are Rust of one compilation: the layout is the same.
#[allow(improper_ctypes_definitions)]
mod short {
    use super::{Portable, f32x4, math};

    #[inline(never)]
    pub extern "C" fn exp(x: f32x4) -> f32x4 {
        math::exp(Portable {}, x)
    }
    #[inline(never)]
    pub extern "C" fn sigmoid(x: f32x4) -> f32x4 {
        math::sigmoid(Portable {}, x)
    }
    #[inline(never)]
    pub extern "C" fn tanh(x: f32x4) -> f32x4 {
        math::tanh(Portable {}, x)
    }

    /// [`read_lanes`](super::read_lanes), by the lanes there are.
    ///
    /// # Safety
    /// So many numbers are readable at `p`.
    #[inline(never)]
    pub unsafe extern "C" fn load(p: *const f32, lanes: usize) -> f32x4 {
        // SAFETY: the caller says that `lanes` numbers are readable.
        f32x4::new(unsafe {
            match lanes {
                0 => [0.0; 4],
                1 => [*p, 0.0, 0.0, 0.0],
                2 => [*p, *p.add(1), 0.0, 0.0],
                3 => [*p, *p.add(1), *p.add(2), 0.0],
                _ => p.cast::<[f32; 4]>().read_unaligned(),
            }
        })
    }

    /// [`write_lanes`](super::write_lanes), by the lanes there are.
    ///
    /// # Safety
    /// So many numbers are writable at `p`.
    #[inline(never)]
    pub unsafe extern "C" fn store(p: *mut f32, v: f32x4, lanes: usize) {
        let [a, b, c, _] = v.to_array();
        // SAFETY: the caller says that `lanes` numbers are writable.
        unsafe {
            match lanes {
                0 => {}
                1 => p.write(a),
                2 => p.cast::<[f32; 2]>().write_unaligned([a, b]),
                3 => p.cast::<[f32; 3]>().write_unaligned([a, b, c]),
                _ => p.cast::<[f32; 4]>().write_unaligned(v.to_array()),
            }
        }
    }
}
