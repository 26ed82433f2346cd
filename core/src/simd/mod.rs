//! The vector operations that the kernels are written in, and the choice of
//! the instruction set that runs them.
//!
//! A kernel is written once, generic over [`Simd`]. A value of a type that
//! implements it (a token) is the proof that the processor has the
//! instructions: safe code can only get one from [`dispatch`], which looks at
//! the processor first. Only the trampolines in the instruction set's own file
//! carry `#[target_feature]`; everything below them is `#[inline(always)]`, so
//! that it is compiled with the features of the trampoline it ends up in.
//!
//! The native levels are for x86-64 with its usual SSE2 and AArch64 with its usual NEON: a
//! target that has switched vector registers off, as kernels do, and an interpreter get
//! [`Level::Portable`].

#![allow(unsafe_code)]

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
mod detect;
mod filled;
mod lanes;
mod level;
pub(crate) mod map;
mod math;
#[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
mod neon;
#[cfg(all(
    not(feature = "one-lane"),
    any(
        target_feature = "sse2",
        target_feature = "simd128",
        all(target_feature = "neon", target_arch = "aarch64")
    )
))]
mod portable;
#[cfg(not(all(
    not(feature = "one-lane"),
    any(
        target_feature = "sse2",
        target_feature = "simd128",
        all(target_feature = "neon", target_arch = "aarch64")
    )
)))]
#[path = "scalar.rs"]
mod portable;
mod unrolled;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
mod x86;

pub(crate) use filled::Filled;
pub use level::Level;
pub(crate) use unrolled::Unrolled;

use portable::Portable;

/// Vectors of `f32` and what the kernels do with them.
///
/// [`fma`](Simd::fma) rounds once on the levels that have the instruction and
/// twice on [`Level::Portable`]; every other operation is exact or rounded once
/// everywhere, so that two levels of the same kind agree bit for bit.
pub trait Simd: Copy {
    /// One vector of [`LANES`](Simd::LANES) numbers.
    type V: Copy;
    /// The first few lanes of a vector: the end of a row.
    type Mask: Copy;
    /// Vectors of half as many lanes or fewer, for rows that do not fill these;
    /// the level's narrowest is its own.
    type Half: Simd;
    /// Numbers in a vector.
    const LANES: usize;
    /// Whether large products are done in blocks that are copied to the stack.
    const BLOCKED: bool;
    /// Rows of a tile of such a product: with two vectors of columns, as many sums under
    /// way as the registers hold.
    const TILE_ROWS: usize;
    /// Whether the units of the layer are known to fill a vector exactly.
    const FILLED: bool = false;
    /// Whether short code counts more than sums under way: one lane, one row at a time.
    const SMALL: bool = false;
    /// Whether tiles have few sizes, and what is long is a function of its own: vectors, but
    /// little code.
    const SHORT: bool = false;
    /// Whether [`add_products`](Simd::add_products) is there, for sixteen units of a gate.
    const LONG: bool = false;

    /// Whether two vectors can be joined to one of the processor's, and two rows of a narrow
    /// layer be taken as one.
    const JOINS: bool = false;
    /// The vectors that two of these make, if they can be joined, and else these.
    type Twice: Simd;

    /// The proof for the joined vectors.
    fn twice(self) -> Self::Twice;
    /// Two vectors as one; the first one, if they cannot be joined.
    fn join(self, low: Self::V, high: Self::V) -> <Self::Twice as Simd>::V;
    /// The way back of [`join`](Simd::join).
    fn halves(self, v: <Self::Twice as Simd>::V) -> [Self::V; 2];

    /// The proof for the narrower vectors.
    fn half(self) -> Self::Half;
    /// Runs `f`, compiled for the level, as a function of its own.
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R;
    /// The same for what a single step does, which [`FILLED`](Simd::FILLED) vectors make part of
    /// their caller.
    #[inline(always)]
    fn vectorize_unless_filled<R>(self, f: impl FnOnce() -> R) -> R {
        self.vectorize(f)
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

    /// `sums` += x·W: `inner` numbers of `x`, and as many rows of `kernel`, so far apart, of
    /// sixteen numbers.
    ///
    /// # Safety
    /// All these are readable.
    #[inline(always)]
    unsafe fn add_products(
        self,
        _inner: usize,
        _x: *const f32,
        _kernel: *const f32,
        _row: usize,
        _sums: &mut [f32; 16],
    ) {
        debug_assert!(false, "only where LONG says so");
    }

    /// [`exp`](crate::activation::exp), perhaps in a function of its own.
    #[inline(always)]
    fn exp(self, x: Self::V) -> Self::V {
        math::exp(self, x)
    }
    /// [`sigmoid`](crate::activation::sigmoid) likewise.
    #[inline(always)]
    fn sigmoid(self, x: Self::V) -> Self::V {
        math::sigmoid(self, x)
    }
    /// [`tanh`](crate::activation::tanh) likewise.
    #[inline(always)]
    fn tanh(self, x: Self::V) -> Self::V {
        math::tanh(self, x)
    }

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
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

/// What [`Simd`] has to say of vectors that cannot be joined.
macro_rules! does_not_join {
    () => {
        type Twice = Self;

        #[inline(always)]
        fn twice(self) -> Self {
            self
        }
        #[inline(always)]
        fn join(self, low: Self::V, _: Self::V) -> Self::V {
            low
        }
        #[inline(always)]
        fn halves(self, v: Self::V) -> [Self::V; 2] {
            [v, v]
        }
    };
}
pub(crate) use does_not_join;

/// Evaluates `$body`, compiled for the current level, whose token is `$s`: the one place where a
/// level is chosen, once per public call.
macro_rules! dispatch {
    ($s:ident => $body:expr) => {{
        use $crate::simd::{Simd as _, Token};
        match $crate::simd::token() {
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
            Token::Avx512($s) => $s.vectorize(
                #[inline(always)]
                move || $body,
            ),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
            Token::Avx2($s) => $s.vectorize(
                #[inline(always)]
                move || $body,
            ),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
            Token::Neon($s) => $body,
            Token::Portable($s) => $body,
        }
    }};
}
pub(crate) use dispatch;

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
        if const { !$S::FILLED && $S::LANES > Quarter::<$S>::LANES } && len <= Quarter::<$S>::LANES
        {
            let $v = $s.half().half();
            $body
        } else if const { !$S::FILLED && $S::LANES > 2 * Quarter::<$S>::LANES }
            && len <= <$S as Simd>::Half::LANES
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
