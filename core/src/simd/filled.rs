//! Vectors that the units of a layer fill exactly, known when it is compiled: its steps then
//! need no choice of vectors, no mask and no call, and become part of their caller.

use super::Simd;

/// The same vectors, filled.
#[derive(Clone, Copy)]
pub(crate) struct Filled<S>(pub S);

macro_rules! the_same {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: $type),*) -> $result {
            self.0.$name($($argument),*)
        }
    )*};
    (unsafe: $($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        #[inline(always)]
        unsafe fn $name(self, $($argument: $type),*) -> $result {
            // SAFETY: the caller's.
            unsafe { self.0.$name($($argument),*) }
        }
    )*};
}

impl<S: Simd> Simd for Filled<S> {
    type V = S::V;
    type Mask = S::Mask;
    type Half = Self;
    const LANES: usize = S::LANES;
    const BLOCKED: bool = S::BLOCKED;
    const TILE_ROWS: usize = S::TILE_ROWS;
    const FILLED: bool = true;
    const SHORT: bool = S::SHORT;

    const JOINS: bool = S::JOINS;
    type Twice = S::Twice;

    #[inline(always)]
    fn half(self) -> Self {
        self
    }
    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        self.0.vectorize(f)
    }
    #[inline(always)]
    fn vectorize_unless_filled<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }
    the_same! {
        twice() -> S::Twice;
        join(low: S::V, high: S::V) -> <S::Twice as Simd>::V;
        halves(v: <S::Twice as Simd>::V) -> [S::V; 2];
        prefetch(p: *const f32) -> ();
        splat(x: f32) -> S::V;
        mask(lanes: usize) -> S::Mask;
        add(a: S::V, b: S::V) -> S::V;
        sub(a: S::V, b: S::V) -> S::V;
        mul(a: S::V, b: S::V) -> S::V;
        div(a: S::V, b: S::V) -> S::V;
        sqrt(a: S::V) -> S::V;
        fma(a: S::V, b: S::V, c: S::V) -> S::V;
        min(a: S::V, b: S::V) -> S::V;
        max(a: S::V, b: S::V) -> S::V;
        abs(a: S::V) -> S::V;
        copysign(magnitude: S::V, sign: S::V) -> S::V;
        select_lt(a: S::V, b: S::V, then: S::V, otherwise: S::V) -> S::V;
        exp2_int(t: S::V) -> S::V;
        exp(x: S::V) -> S::V;
        sigmoid(x: S::V) -> S::V;
        tanh(x: S::V) -> S::V;
    }
    the_same! { unsafe:
        load(p: *const f32) -> S::V;
        load_masked(p: *const f32, mask: S::Mask) -> S::V;
        store(p: *mut f32, v: S::V) -> ();
        store_masked(p: *mut f32, v: S::V, mask: S::Mask) -> ();
    }
}
