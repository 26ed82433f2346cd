//! Integer operations of the levels, and arithmetic that is never fused: what has the same bits
//! everywhere.

use super::{Arithmetic, Simd, Unrolled, math};

/// A level's vectors of 32-bit words.
///
/// A word of weights has four bytes: the low ones of its two halves, plus 128, belong to one unit,
/// the high ones to another. A pair is two int16 in one word. Sums wrap.
pub trait Integers: Copy {
    /// The vectors of `f32` that belong to them.
    type Floats: Simd;
    /// As many words as a vector has numbers.
    type I: Copy;

    /// The proof for these vectors.
    fn floats(self) -> Self::Floats;

    /// A word in every lane.
    fn splat_word(self, word: u32) -> Self::I;
    /// The first words; the others are zero.
    fn load_words(self, from: &[u32]) -> Self::I;
    /// `a - b`.
    fn subtract(self, a: Self::I, b: Self::I) -> Self::I;
    /// `sums` + the unsigned low bytes of the halves × the pair.
    fn add_low_bytes(self, sums: Self::I, words: Self::I, pair: Self::I) -> Self::I;
    /// `sums` + the signed high bytes of the halves × the pair.
    fn add_high_bytes(self, sums: Self::I, words: Self::I, pair: Self::I) -> Self::I;
    /// `sums`, of the low units and of the high ones, of all gates, + the products of rows of weights
    /// `[4, STRIDE / 4]` with pairs, from word `at` of a gate on.
    #[inline(always)]
    fn add_rows<const STRIDE: usize>(
        self,
        rows: &[[u32; STRIDE]],
        at: usize,
        pairs: &[u32],
        sums: &mut [[Self::I; 4]; 2],
    ) {
        for (row, &pair) in rows.iter().zip(pairs) {
            self.add_row(row, at, pair, sums);
        }
    }
    /// The same of one row, whose gates have a quarter of its words each.
    #[inline(always)]
    fn add_row(self, row: &[u32], at: usize, pair: u32, sums: &mut [[Self::I; 4]; 2]) {
        let width = row.len() / 4;
        let pair = self.splat_word(pair);
        let [low, high] = sums;
        for (gate, (low, high)) in low.iter_mut().zip(high).enumerate() {
            let words = row.get(gate * width + at..(gate + 1) * width);
            let words = self.load_words(words.unwrap_or(&[]));
            *low = self.add_low_bytes(*low, words, pair);
            *high = self.add_high_bytes(*high, words, pair);
        }
    }
    /// The low halves, with their signs.
    fn low_half(self, words: Self::I) -> Self::I;
    /// The high halves, with their signs.
    fn high_half(self, words: Self::I) -> Self::I;
    /// The low halves in the place of the high ones.
    fn top_half(self, words: Self::I) -> Self::I;
    /// The nearest number, of two as near the even one.
    fn to_float(self, words: Self::I) -> <Self::Floats as Arithmetic>::V;
    /// The numbers whose bits they are.
    fn as_float(self, words: Self::I) -> <Self::Floats as Arithmetic>::V;
}

/// The choice of the vectors in which a level takes integer products.
pub trait IntegersOf: Simd {
    /// Calls `f` with those that the processor has.
    fn with_integers(self, f: impl WithIntegers);
}

/// A function of a level's integers.
pub trait WithIntegers {
    fn call<N: Integers>(self, integers: N);
}

/// Arithmetic that rounds every product before it is added, whatever the level.
#[derive(Clone, Copy)]
pub(crate) struct Unfused<A>(pub A);

macro_rules! same {
    ($($name:ident($($a:ident),*);)*) => {$(
        #[inline(always)]
        fn $name(self, $($a: Self::V),*) -> Self::V {
            self.0.$name($($a),*)
        }
    )*};
}

macro_rules! functions {
    ($($each:ident, $formula:ident;)*) => {$(
        #[inline(always)]
        fn $each<const N: usize>(self, x: [Self::V; N]) -> [Self::V; N] {
            if const { A::FUSES } {
                math::$formula(Unrolled(self), x)
            } else {
                self.0.$each(x)
            }
        }
    )*};
}

impl<A: Arithmetic> Arithmetic for Unfused<A> {
    type V = A::V;
    const FUSES: bool = false;

    functions! { exp_each, exp; sigmoid_each, sigmoid; tanh_each, tanh; }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        self.0.splat(x)
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        self.0.add(self.0.mul(a, b), c)
    }
    same! {
        add(a, b);
        sub(a, b);
        mul(a, b);
        div(a, b);
        sqrt(a);
        min(a, b);
        max(a, b);
        abs(a);
        copysign(magnitude, sign);
        select_lt(a, b, then, otherwise);
        exp2_int(t);
    }
}
