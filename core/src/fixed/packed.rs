//! Weights in the order in which a step reads them, for streams through wide layers.
//!
//! A step of one row reads every weight once, so it is as fast as weights can be
//! read. A [`Packed`] network has them in panels of 16 units, each in one piece and
//! aligned to the lines of the caches, and a [`Zigzag`] lets every step begin with the
//! panels that the step before read last. Neither leaves a trace in the bits that come
//! out. It pays from about 16 units on.

use super::network::Network;
use crate::layout::flat::{Flat, zeroable};
use crate::lstm::Zigzag;
use crate::simd::dispatch_inline;

/// A network whose weights stand as a step reads them: as large as the network, made
/// anew when its weights change, and good for nothing but [`step`](Packed::step).
///
/// ```
/// use fused_lstm::{Flat, Lstm, LstmState, Network, Packed, Zigzag};
///
/// let net = Lstm::<1, 40>::glorot_uniform(|| 0.75);
/// let packed = Packed::new(&net);
///
/// let (mut state, mut zigzag) = (LstmState::<1, 40>::ZERO, Zigzag::default());
/// let (mut y, mut again) = (Flat::zero(), LstmState::ZERO);
/// for x in [[[[1.0]]], [[[-1.0]]]] {
///     packed.step(&x, &mut state, &mut y, &mut zigzag);
///     net.step(&x, &mut again, &mut y);
/// }
/// assert_eq!(state, again);
/// ```
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Packed<N>(N);

zeroable! { [N: Network] Packed<N> { N } }

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
    /// `x` `[1, B, I]` is read, `state` advanced, `y` `[1, B, H]` overwritten with the
    /// last layer's hidden states.
    pub fn step<const B: usize>(
        &self,
        x: &N::Input<1, B>,
        state: &mut N::State<B>,
        y: &mut N::Output<1, B>,
        zigzag: &mut Zigzag,
    ) {
        let descending = zigzag.next();
        dispatch_inline!(s => {
            let (x, y, scratch) = (x.as_flat(), y.as_flat_mut(), &mut Flat::zero());
            self.0.step_packed_with::<_, B>(s, x, state, y, scratch, descending);
        });
    }
}
