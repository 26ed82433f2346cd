//! Weights in the order in which a step reads them, for streams through wide layers.
//!
//! A step of one row reads every weight once, so it is as fast as weights can be read. A [`Packed`]
//! network has them in panels of 16 units, each contiguous and aligned to a cache line; every other
//! step of a [`Stream`] takes the panels from the last to the first, and so begins with those that
//! are still in the cache. Neither leaves a trace in the bits that come out. It pays for layers
//! that do not fit the first cache, of more than 40 units or so.

use super::network::{Buffers, Network};
use crate::layout::flat::{Flat, zeroable};
use crate::lstm::Zigzag;
use crate::simd::{dispatch, dispatch_inline};

/// A network with its weights in the order in which a step reads them: as large as the network, to
/// be packed again when its weights change.
///
/// ```
/// use fused_lstm::{Flat, Lstm, LstmState, Network, Packed, Stream};
///
/// let net = Lstm::<1, 40>::glorot_uniform(|| 0.75);
/// let packed = Packed::new(&net);
///
/// let mut stream = Stream::ZERO;
/// let (mut y, mut state) = (Flat::zero(), LstmState::ZERO);
/// for x in [[[[1.0]]], [[[-1.0]]]] {
///     packed.step(&x, &mut stream, &mut y);
///     net.step(&x, &mut state, &mut y);
/// }
/// assert_eq!(stream.state, state);
/// ```
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Packed<N>(N);

zeroable! { [N: Network] Packed<N> { N } }

/// `B` sequences that go through a [`Packed`] network `N` step by step.
#[derive(Clone, Copy, Debug)]
pub struct Stream<N: Buffers, const B: usize> {
    /// The state after the last step.
    pub state: N::State<B>,
    zigzag: Zigzag,
}

impl<N: Buffers, const B: usize> Stream<N, B> {
    /// From a state of zeros.
    pub const ZERO: Self = Self {
        state: Flat::ZERO,
        zigzag: Zigzag::NEW,
    };
}

/// Of the states.
impl<N: Buffers, const B: usize> PartialEq for Stream<N, B> {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state
    }
}

impl<N: Buffers, const B: usize> Default for Stream<N, B> {
    fn default() -> Self {
        Self::ZERO
    }
}

impl<N: Network> Packed<N> {
    /// Zeros, for a `static` that is filled with [`pack`](Self::pack).
    pub const ZERO: Self = Self(N::ZERO);

    /// Packs `net`. A large network passes through the stack: see
    /// [`pack`](Self::pack).
    pub fn new(net: &N) -> Self {
        let mut packed = Self::ZERO;
        packed.pack(net);
        packed
    }

    /// Packs `net`; what was there is overwritten.
    pub fn pack(&mut self, net: &N) {
        self.0.pack(net);
    }

    /// One step of `B` rows: [`Network::step`], with the same bits.
    ///
    /// `x` `[1, B, I]` is read, the stream's state advanced, `y` `[1, B, H]` overwritten with the
    /// last layer's hidden states.
    pub fn step<const B: usize>(
        &self,
        x: &N::Input<1, B>,
        stream: &mut Stream<N, B>,
        y: &mut N::Output<1, B>,
    ) {
        let Stream { state, zigzag } = stream;
        let descending = zigzag.next();
        if const { B == 1 && N::FILLED } {
            dispatch_inline!(s => {
                let (x, y, scratch) = (x.as_flat(), y.as_flat_mut(), &mut Flat::zero());
                self.0.step_packed_with::<_, B>(s, x, state, y, scratch, descending);
            });
        } else {
            dispatch!(s => {
                let (x, y, scratch) = (x.as_flat(), y.as_flat_mut(), &mut Flat::zero());
                self.0.step_packed_with::<_, B>(s, x, state, y, scratch, descending);
            });
        }
    }
}
