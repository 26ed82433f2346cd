//! Walks over buffers of one length, a vector at a time, the last one masked.

#![allow(unsafe_code)]

use super::{Arithmetic, Simd, Unrolled, narrowest};

/// An operation on the same place of several buffers.
///
/// The buffers of `self` must all have the length given to [`for_each_block`];
/// a buffer of another length reads as zeros and is not written.
pub(crate) trait Elementwise {
    fn block<A: Arithmetic>(&mut self, s: A, at: impl Block<A>);
}

/// A place in buffers of one length that holds as many numbers as `A` takes.
pub(crate) trait Block<A: Arithmetic> {
    fn load(&self, from: &[f32]) -> A::V;
    fn store(&self, to: &mut [f32], v: A::V);
}

/// One vector's place.
struct One<S: Simd, const FULL: bool> {
    s: S,
    /// If `FULL`, `at + LANES <= len`; else `at + lanes of mask == len`.
    at: usize,
    len: usize,
    mask: S::Mask,
}

impl<S: Simd, const FULL: bool> Block<S> for One<S, FULL> {
    #[inline(always)]
    fn load(&self, from: &[f32]) -> S::V {
        // One comparison for the compiler to prove, not a bounds check per use.
        if from.len() != self.len {
            return self.s.splat(0.0);
        }
        // SAFETY: the invariant of `at`, and `from` has `len` numbers.
        unsafe {
            self.s
                .load_part::<FULL>(from.as_ptr().add(self.at), self.mask)
        }
    }

    #[inline(always)]
    fn store(&self, to: &mut [f32], v: S::V) {
        if to.len() != self.len {
            return;
        }
        // SAFETY: the invariant of `at`, and `to` has `len` numbers.
        unsafe {
            self.s
                .store_part::<FULL>(to.as_mut_ptr().add(self.at), v, self.mask)
        }
    }
}

/// Two vectors' place.
struct Two<S: Simd>([One<S, true>; 2]);

impl<S: Simd> Block<Unrolled<S, 2>> for Two<S> {
    #[inline(always)]
    fn load(&self, from: &[f32]) -> [S::V; 2] {
        [self.0[0].load(from), self.0[1].load(from)]
    }

    #[inline(always)]
    fn store(&self, to: &mut [f32], [first, second]: [S::V; 2]) {
        self.0[0].store(to, first);
        self.0[1].store(to, second);
    }
}

/// Applies `op` to all of `len` numbers, in ascending order, with the narrowest vectors that hold so
/// many.
#[inline(always)]
pub(crate) fn for_each_block<S: Simd, E: Elementwise>(s: S, len: usize, op: &mut E) {
    narrowest!(S, s, len, v => for_each_of_many(v, len, op));
}

/// [`for_each_block`] for more numbers than a vector has.
#[inline(always)]
pub(crate) fn for_each_of_many<S: Simd, E: Elementwise>(s: S, len: usize, op: &mut E) {
    let mut at = 0;
    let full = |at| One::<S, true> {
        s,
        at,
        len,
        mask: s.mask(S::LANES),
    };
    while const { S::TILING.map_vectors == 2 } && len - at >= 2 * S::LANES {
        let two = Two([full(at), full(at + S::LANES)]);
        op.block(Unrolled::<S, 2>(s), two);
        at += 2 * S::LANES;
    }
    while len - at >= S::LANES {
        op.block(s, full(at));
        at += S::LANES;
    }
    if const { S::LANES > 1 } && at < len {
        let mask = s.mask(len - at);
        op.block(s, One::<S, false> { s, at, len, mask });
    }
}

/// Sums that [`sum_of_squares`] has under way.
pub(crate) const CHAINS: usize = 16;

/// Σ v², in an order that is the same for every level: sixteen chains, chain j
/// over the elements j, j + 16, j + 32, …; then the chains, ascending.
#[inline(always)]
pub(crate) fn sum_of_squares<S: Simd>(s: S, values: &[f32]) -> f32 {
    sum_of_scaled_squares(s, values, 1.0)
}

/// Σ (v·scale)², likewise.
#[inline(always)]
pub(crate) fn sum_of_scaled_squares<S: Simd>(s: S, values: &[f32], scale: f32) -> f32 {
    let mut chains = [0.0f32; CHAINS];
    // A group is one step of every chain; the last may be short.
    let groups = values.chunks_exact(CHAINS);
    let rest = groups.remainder();
    for group in groups {
        for_each_block(
            s,
            CHAINS,
            &mut Squares {
                chains: &mut chains,
                group,
                scale,
            },
        );
    }
    for_each_block(
        s,
        rest.len(),
        &mut Squares {
            chains: &mut chains,
            group: rest,
            scale,
        },
    );
    chains.into_iter().fold(0.0, |sum, chain| sum + chain)
}

struct Squares<'a> {
    chains: &'a mut [f32; CHAINS],
    group: &'a [f32],
    scale: f32,
}

impl Elementwise for Squares<'_> {
    #[inline(always)]
    fn block<A: Arithmetic>(&mut self, s: A, at: impl Block<A>) {
        let Some(chains) = self.chains.get_mut(..self.group.len()) else {
            return;
        };
        let v = s.mul(at.load(self.group), s.splat(self.scale));
        let sum = s.fma(v, v, at.load(chains));
        at.store(chains, sum);
    }
}
