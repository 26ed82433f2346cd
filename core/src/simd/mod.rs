//! The vector operations that the kernels are written in, and the choice of
//! the instruction set that runs them.
//!
//! A kernel is written once, generic over [`Simd`]; formulas are generic over [`Arithmetic`], which
//! [`Unrolled`] vectors have too. A value of a type that implements `Simd` (a token) is the proof
//! that the processor has the instructions: safe code can only get one from `dispatch!` and
//! `dispatch_inline!`, which look at the processor first. Only the functions that `per_level!`
//! compiles and the trampolines behind [`Simd::vectorize`] carry `#[target_feature]`; everything
//! below them is `#[inline(always)]`, so that it is compiled with the features of the function it
//! ends up in.
//!
//! The native levels are for x86-64 with its usual SSE2 and AArch64 with its usual NEON: a
//! target that has switched vector registers off, as kernels do, and an interpreter get
//! [`Level::Portable`].

#![allow(unsafe_code)]

/// Items for targets where [`Level::Portable`] has vectors of four lanes.
macro_rules! with_vectors {
    ($($item:item)*) => {$(
        #[cfg(all(
            not(fused_lstm_one_lane),
            any(
                target_feature = "sse2",
                target_feature = "simd128",
                all(target_feature = "neon", target_arch = "aarch64")
            )
        ))]
        $item
    )*};
}
/// Items for targets where it has one lane.
macro_rules! with_one_lane {
    ($($item:item)*) => {$(
        #[cfg(not(all(
            not(fused_lstm_one_lane),
            any(
                target_feature = "sse2",
                target_feature = "simd128",
                all(target_feature = "neon", target_arch = "aarch64")
            )
        )))]
        $item
    )*};
}
pub(crate) use with_vectors;

/// Operations of a level, one a line. The token proves that the processor has the instructions;
/// what reads and writes memory has its caller's promise besides.
#[allow(unused_macros, reason = "where there is no level of `core::arch`")]
macro_rules! operations {
    ($($name:ident($($a:ident: $t:ty),*) $(-> $r:ty)? = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($a: $t),*) $(-> $r)? {
            // SAFETY: the token.
            unsafe { $body }
        }
    )*};
    (unsafe: $($name:ident($($a:ident: $t:ty),*) $(-> $r:ty)? = $body:expr;)*) => {$(
        #[inline(always)]
        unsafe fn $name(self, $($a: $t),*) $(-> $r)? {
            // SAFETY: the token, and the caller's promise.
            unsafe { $body }
        }
    )*};
}

use crate::layout::scratch::blocks::GEMV_MAX_ROWS;

pub(crate) mod half;
mod integer;
mod level;
pub(crate) mod map;
mod math;
#[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
mod neon;
#[allow(dead_code, reason = "this level or that of one lane is the target's")]
mod portable;
#[allow(dead_code, reason = "this level or that of four lanes is the target's")]
mod scalar;
mod unrolled;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
mod x86;

pub(crate) use integer::{Integers, IntegersOf, Unfused, WithIntegers};
pub use level::Level;
#[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
pub(crate) use neon::Neon;
pub(crate) use unrolled::Unrolled;
with_vectors! {
    pub(crate) use portable::Portable;
}
with_one_lane! {
    pub(crate) use scalar::Portable;
}
pub(crate) use scalar::{Scalar, UNITS};
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
pub(crate) use x86::{Avx2, Avx512};

/// Arithmetic on a vector of `f32`, or on several side by side.
///
/// [`fma`](Arithmetic::fma) rounds once on the levels that have the instruction and
/// twice on [`Level::Portable`]; every other operation is exact or rounded once
/// everywhere, so that two levels of the same kind agree bit for bit.
pub trait Arithmetic: Copy {
    /// The numbers of one operation.
    type V: Copy;
    /// Whether [`fma`](Arithmetic::fma) rounds once.
    const FUSES: bool;

    /// [`exp`](crate::activation::exp_in_place).
    #[inline(always)]
    fn exp(self, x: Self::V) -> Self::V {
        let [y] = self.exp_each([x]);
        y
    }
    /// [`sigmoid`](crate::activation::sigmoid_in_place).
    #[inline(always)]
    fn sigmoid(self, x: Self::V) -> Self::V {
        let [y] = self.sigmoid_each([x]);
        y
    }
    /// [`tanh`](crate::activation::tanh_in_place).
    #[inline(always)]
    fn tanh(self, x: Self::V) -> Self::V {
        let [y] = self.tanh_each([x]);
        y
    }
    /// [`exp`](Arithmetic::exp) of several vectors side by side, unless a level has a better way.
    #[inline(always)]
    fn exp_each<const N: usize>(self, x: [Self::V; N]) -> [Self::V; N] {
        math::exp(Unrolled(self), x)
    }
    /// [`sigmoid`](Arithmetic::sigmoid) likewise.
    #[inline(always)]
    fn sigmoid_each<const N: usize>(self, x: [Self::V; N]) -> [Self::V; N] {
        math::sigmoid(Unrolled(self), x)
    }
    /// [`tanh`](Arithmetic::tanh) likewise.
    #[inline(always)]
    fn tanh_each<const N: usize>(self, x: [Self::V; N]) -> [Self::V; N] {
        math::tanh(Unrolled(self), x)
    }

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// The square root, correctly rounded.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// `a * b + c`: fused or not is the level's kind.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a < b ? a : b`, so `b` where either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a > b ? a : b`, so `b` where either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a` without its sign.
    fn abs(self, a: Self::V) -> Self::V;
    /// `magnitude`, which has no sign, with the sign of `sign`.
    fn copysign(self, magnitude: Self::V, sign: Self::V) -> Self::V;
    /// `a < b ? then : otherwise`, so `otherwise` where either is NaN.
    fn select_lt(self, a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V;
    /// 2ⁿ from 1.5·2²³ + n: the low bits of that number are n, and become the
    /// exponent. For n from −126 to 127; anything else is meaningless.
    fn exp2_int(self, t: Self::V) -> Self::V;
}

/// Arithmetic from `IN` numbers to `OUT` numbers.
pub trait Formula<const IN: usize, const OUT: usize> {
    fn evaluate<A: Arithmetic>(self, a: A, inputs: [A::V; IN]) -> [A::V; OUT];
}

/// Vectors of `f32` that are loaded and stored. A value is the proof that the processor has them.
pub trait Simd: Arithmetic {
    /// The first few lanes of a vector: the end of a row.
    type Mask: Copy;
    /// Vectors of half as many lanes or fewer, for rows that do not fill these;
    /// the level's narrowest is its own.
    type Half: Simd;
    /// Numbers in a vector.
    const LANES: usize;
    /// How large the tiles of the kernels are.
    const TILING: Tiling;

    /// The proof for the narrower vectors.
    fn half(self) -> Self::Half;
    /// Runs `f`, compiled for the level, as a function of its own.
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R;
    /// A formula for all vectors of a tile side by side: alone, a vector would wait for its own
    /// results.
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
        inputs: [[[Self::V; ROWS]; VECTORS]; IN],
    ) -> [[[Self::V; ROWS]; VECTORS]; OUT] {
        formula.evaluate(Unrolled::<_, VECTORS>(Unrolled::<_, ROWS>(self)), inputs)
    }
    /// Asks for the line of `p`, which may be anywhere, to be brought to the second cache.
    #[inline(always)]
    fn prefetch(self, _p: *const f32) {}

    /// `rounds`, in a way that keeps a loop of so many rounds more from being unrolled: for
    /// some processors the compiler otherwise does that to loops that run a few times only.
    #[inline(always)]
    fn opaque(self, rounds: usize) -> usize {
        rounds
    }

    /// The first `lanes` lanes (at most [`LANES`](Simd::LANES)).
    fn mask(self, lanes: usize) -> Self::Mask;

    /// Reads a whole vector.
    ///
    /// # Safety
    /// `LANES` numbers are readable at `p`.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// Reads the lanes of `mask`; the others are zero.
    ///
    /// # Safety
    /// As many numbers as `mask` has lanes are readable at `p`.
    unsafe fn load_masked(self, p: *const f32, mask: Self::Mask) -> Self::V;
    /// Writes a whole vector.
    ///
    /// # Safety
    /// `LANES` numbers are writable at `p`.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Writes the lanes of `mask` and leaves the memory of the others alone.
    ///
    /// # Safety
    /// As many numbers as `mask` has lanes are writable at `p`.
    unsafe fn store_masked(self, p: *mut f32, v: Self::V, mask: Self::Mask);

    /// [`load`](Simd::load) if `FULL`, else [`load_masked`](Simd::load_masked).
    ///
    /// # Safety
    /// Those of the one it is.
    #[inline(always)]
    unsafe fn load_part<const FULL: bool>(self, p: *const f32, mask: Self::Mask) -> Self::V {
        // SAFETY: the caller's.
        unsafe {
            if FULL {
                self.load(p)
            } else {
                self.load_masked(p, mask)
            }
        }
    }
    /// [`load_part`](Simd::load_part) of half-precision numbers, by their bits. Neither infinities nor
    /// NaN are among them.
    ///
    /// # Safety
    /// Those of `load_part`.
    unsafe fn load_halves<const FULL: bool>(self, p: *const u16, mask: Self::Mask) -> Self::V;

    /// Writes as many lanes as the slice has numbers, from its first.
    #[inline(always)]
    fn store_slice(self, to: &mut [f32], v: Self::V) {
        // SAFETY: writes no more lanes than the slice has numbers; one lane has no mask.
        unsafe {
            if to.is_empty() {
            } else if to.len() >= Self::LANES {
                self.store(to.as_mut_ptr(), v);
            } else {
                self.store_masked(to.as_mut_ptr(), v, self.mask(to.len()));
            }
        }
    }

    /// [`store`](Simd::store) if `FULL`, else [`store_masked`](Simd::store_masked).
    ///
    /// # Safety
    /// Those of the one it is.
    #[inline(always)]
    unsafe fn store_part<const FULL: bool>(self, p: *mut f32, v: Self::V, mask: Self::Mask) {
        // SAFETY: the caller's.
        unsafe {
            if FULL {
                self.store(p, v)
            } else {
                self.store_masked(p, v, mask)
            }
        }
    }
}

/// What weights are stored as. They are widened to `f32` as they are read.
pub trait Weight: Copy {
    /// Whether they are `f32` already.
    const IS_F32: bool;

    /// The nearest to a number.
    fn narrow(number: f32) -> Self;
    /// As a number to calculate with.
    fn widen(self) -> f32;
    /// The lanes of `mask`, or all if `FULL`; the others are zero.
    ///
    /// # Safety
    /// As many weights are readable at `p`.
    unsafe fn load<S: Simd, const FULL: bool>(s: S, p: *const Self, mask: S::Mask) -> S::V;
}

impl Weight for f32 {
    const IS_F32: bool = true;

    #[inline(always)]
    fn narrow(number: f32) -> f32 {
        number
    }
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
    #[inline(always)]
    unsafe fn load<S: Simd, const FULL: bool>(s: S, p: *const f32, mask: S::Mask) -> S::V {
        // SAFETY: the caller's.
        unsafe { s.load_part::<FULL>(p, mask) }
    }
}

/// The bits of a half-precision number, which is neither an infinity nor NaN.
impl Weight for u16 {
    const IS_F32: bool = false;

    #[inline(always)]
    fn narrow(number: f32) -> u16 {
        half::narrow(number)
    }
    #[inline(always)]
    fn widen(self) -> f32 {
        half::widen(self)
    }
    #[inline(always)]
    unsafe fn load<S: Simd, const FULL: bool>(s: S, p: *const u16, mask: S::Mask) -> S::V {
        // SAFETY: the caller's.
        unsafe { s.load_halves::<FULL>(p, mask) }
    }
}

/// How large the tiles of the kernels are, in rows of a batch and vectors of columns or units.
#[derive(Clone, Copy)]
pub struct Tiling {
    /// Rows of a product's tile of two vectors, MR.
    pub gemm_rows: usize,
    /// The same where its columns are masked.
    pub gemm_tail_rows: usize,
    /// MR where `a` is packed; 0 where nothing is, because caches are small or there are none.
    pub packed_rows: usize,
    /// Rows of `a` for which `b` is read once, in the order of memory.
    pub gemv_max_rows: usize,
    /// Rows of a step's tile: four sums each.
    pub step_rows: usize,
    /// The same where its units are masked.
    pub step_tail_rows: usize,
    /// Vectors of units of a step's tile of one row.
    pub step_vectors: usize,
    /// Products of each sum in a round of a step's inner loop.
    pub step_unroll: usize,
    /// Vectors that elementwise loops take at a time.
    pub map_vectors: usize,
}

impl Tiling {
    /// For sixteen registers: 6 × 2 sums of a product, 3 × 4 of a step, and the rest for operands.
    pub(crate) const SIXTEEN_REGISTERS: Self = Self {
        gemm_rows: 6,
        gemm_tail_rows: 6,
        packed_rows: 6,
        gemv_max_rows: GEMV_MAX_ROWS,
        step_rows: 3,
        step_tail_rows: 2,
        step_vectors: 2,
        step_unroll: 2,
        map_vectors: 2,
    };
}

/// Evaluates `$body` with the token `$s` of the current level.
/// For calls of functions that are compiled for a level.
macro_rules! dispatch {
    ($s:ident => $body:expr) => {
        match $crate::simd::token() {
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
            $crate::simd::Token::Avx512($s) => $body,
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
            $crate::simd::Token::Avx2($s) => $body,
            #[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
            $crate::simd::Token::Neon($s) => $body,
            $crate::simd::Token::Portable($s) => $body,
        }
    };
}

/// The same with `$body` compiled for the level.
macro_rules! dispatch_inline {
    ($s:ident => $body:expr) => {
        match $crate::simd::token() {
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
            $crate::simd::Token::Avx512($s) => $crate::simd::Simd::vectorize(
                $s,
                #[inline(always)]
                move || $body,
            ),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
            $crate::simd::Token::Avx2($s) => $crate::simd::Simd::vectorize(
                $s,
                #[inline(always)]
                move || $body,
            ),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
            $crate::simd::Token::Neon($s) => $body,
            $crate::simd::Token::Portable($s) => $body,
        }
    };
}
pub(crate) use {dispatch, dispatch_inline};

/// A level's proof.
#[derive(Clone, Copy)]
pub(crate) enum Token {
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
    Avx512(x86::Avx512),
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
    Avx2(x86::Avx2),
    #[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
    Neon(neon::Neon),
    Portable(Portable),
}

/// That of the current level.
#[inline(always)]
pub(crate) fn token() -> Token {
    match Level::current() {
        // SAFETY: `Level::current` only gives levels that the processor has.
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
        Level::Avx512 => Token::Avx512(unsafe { x86::Avx512::new() }),
        // SAFETY: as above.
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
        Level::Avx2 => Token::Avx2(unsafe { x86::Avx2::new() }),
        #[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
        Level::Neon => Token::Neon(neon::Neon {}),
        _ => Token::Portable(Portable {}),
    }
}

/// Evaluates `$body` with `$v` for the narrowest vectors of the level that hold `$len` numbers, or
/// its own.
macro_rules! narrowest {
    ($S:ident, $s:expr, $len:expr, $v:ident => $body:expr) => {{
        let len = $len;
        type Quarter<S> = <<S as Simd>::Half as Simd>::Half;
        if const { $S::LANES > Quarter::<$S>::LANES } && len <= Quarter::<$S>::LANES {
            let $v = $s.half().half();
            $body
        } else if const { $S::LANES > 2 * Quarter::<$S>::LANES } && len <= <$S as Simd>::Half::LANES
        {
            let $v = $s.half();
            $body
        } else {
            let $v = $s;
            $body
        }
    }};
}
pub(crate) use narrowest;

/// A trait of functions that are compiled once for each level, with its instructions and with this
/// crate, whoever calls them. Each stands for a generic function, whose body it is.
///
/// Those of one lane are generic, and so compiled where they are used; or they stand `apart`.
macro_rules! per_level {
    ($(#[$doc:meta])* trait $Trait:ident: $Super:ident $functions:tt) => {
        $crate::simd::per_level! { $(#[$doc])* trait $Trait: $Super, one_lane apart $functions }
        $crate::simd::per_level!(@implement $Trait, [const LONG: bool] $crate::simd::Scalar<LONG>,
            #[cfg(all())], $functions);
    };
    ($(#[$doc:meta])* trait $Trait:ident: $Super:ident, one_lane apart $functions:tt) => {
        $(#[$doc])*
        pub trait $Trait: $Super {
            $crate::simd::per_level!(@declare $functions);
        }
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
        const _: () = {
            use $crate::simd::{Avx2, Avx512};
            $crate::simd::per_level!(@implement $Trait, [] Avx512,
                #[target_feature(enable = "avx512f,avx2,fma,f16c")], $functions);
            $crate::simd::per_level!(@implement $Trait, [] Avx2,
                #[target_feature(enable = "avx2,fma,f16c")], $functions);
        };
        #[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
        $crate::simd::per_level!(@implement $Trait, [] $crate::simd::Neon,
            #[cfg(all())], $functions);
        $crate::simd::with_vectors! {
            $crate::simd::per_level!(@implement $Trait, [] $crate::simd::Portable,
                #[cfg(all())], $functions);
        }
    };
    (@declare {$(
        $(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) = $body:path;
    )*}) => {$(
        $(#[$doc])*
        fn $name(self, $($argument: $type),*);
    )*};
    (@implement $Trait:ident, [$($generics:tt)*] $token:ty, #[$feature:meta], $functions:tt) => {
        impl<$($generics)*> $Trait for $token {
            $crate::simd::per_level!(@functions [$($generics)*] $token, #[$feature], $functions);
        }
    };
    (@functions $generics:tt $token:ty, #[$feature:meta], {$(
        $(#[$doc:meta])* fn $name:ident $arguments:tt = $body:path;
    )*}) => {$(
        $crate::simd::per_level!(@function $generics $token, #[$feature], $name $arguments, $body);
    )*};
    (@function [$($generics:tt)*] $token:ty, #[$feature:meta],
        $name:ident($($argument:ident: $type:ty),*), $body:path
    ) => {
        #[inline(always)]
        fn $name(self, $($argument: $type),*) {
            #[$feature]
            #[inline(never)]
            fn compiled<$($generics)*>(s: $token, $($argument: $type),*) {
                $body(s, $($argument),*)
            }
            #[allow(unused_unsafe, reason = "a level without a feature")]
            #[allow(unsafe_code)]
            // SAFETY: the token proves that the processor has the feature.
            unsafe { compiled(self, $($argument),*) }
        }
    };
}
pub(crate) use per_level;
