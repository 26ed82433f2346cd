//! Weights in the order in which a step reads them, for streams through wide layers.
//!
//! A step of one row reads every weight once, so it is as fast as weights can be
//! read. A [`Packed`] network has them in panels of 16 units, each in one piece and
//! aligned to the lines of the caches, and a [`Turn`] lets every step begin with the
//! panels that the step before read last. Neither leaves a trace in the bits that come
//! out. It pays from about 16 units on.

use crate::cell::PANEL;
use crate::chunks::parts;
use crate::flat::Flat;
use crate::layout::{LayerShape, Params};
use crate::network::Network;
use crate::sequence::copy;
use crate::simd::dispatch;
use core::ops::Range;

/// A network whose weights stand as a step reads them: as large as the network, made
/// anew when its weights change, and good for nothing but [`step`](Packed::step).
///
/// ```
/// use fused_lstm::{Flat, Lstm, LstmState, Network, Packed, Turn};
///
/// let net = Lstm::<1, 40>::glorot_uniform(|| 0.75);
/// let packed = Packed::new(&net);
///
/// let (mut state, mut turn) = (LstmState::<1, 40>::ZERO, Turn::default());
/// let (mut y, mut again) = (Flat::zero(), LstmState::ZERO);
/// for x in [[[[1.0]]], [[[-1.0]]]] {
///     packed.step(&x, &mut state, &mut y, &mut turn);
///     net.step(&x, &mut again, &mut y);
/// }
/// assert_eq!(state, again);
/// ```
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Packed<N>(N);

// SAFETY: a network is numbers only, so all of it may be zero; padding may be anything.
#[allow(unsafe_code)]
unsafe impl<N: Network> bytemuck::Zeroable for Packed<N> {}

/// Which end of the weights the next step of a stream begins with. One for each
/// stream; any will do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn(bool);

impl Turn {
    /// Whether the next step goes backwards; the one after it then goes the other way.
    pub(crate) fn next(&mut self) -> bool {
        let backwards = self.0;
        self.0 = !backwards;
        backwards
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
    /// `x` `[1, B, I]` is read, `state` advanced, `y` `[1, B, H]` overwritten with the
    /// last layer's hidden states.
    pub fn step<const B: usize>(
        &self,
        x: &N::Input<1, B>,
        state: &mut N::State<B>,
        y: &mut N::Output<1, B>,
        turn: &mut Turn,
    ) {
        let backwards = turn.next();
        dispatch!(s => {
            let (x, y, scratch) = (x.as_flat(), y.as_flat_mut(), &mut Flat::zero());
            self.0.step_packed_with::<_, B>(s, x, state, y, scratch, backwards);
        });
    }
}

/// A layer's parameters with both kernels in panels; the bias stays as it is.
pub(crate) fn pack_layer(shape: LayerShape, to: Params<&mut [f32]>, from: Params<&[f32]>) {
    copy(to.bias, from.bias);
    let (input, recurrent) = from.split_kernel(shape);
    let (to_input, to_recurrent) = to.split_kernel(shape);
    pack_kernel(shape.hidden, to_input, input);
    pack_kernel(shape.hidden, to_recurrent, recurrent);
}

/// A kernel `[K, 4, H]` in panels `[H / 16][K, 4, 16]`, the last one narrower.
pub(crate) fn pack_kernel(hidden: usize, to: &mut [f32], kernel: &[f32]) {
    pack_units(hidden, 0..hidden, to, kernel);
}

/// [`pack_kernel`] of some of the units: panels `[U / 16][K, 4, 16]`.
pub(crate) fn pack_units(hidden: usize, taken: Range<usize>, to: &mut [f32], kernel: &[f32]) {
    /// Rows of a gate that are copied at a time, so that both are walked along memory.
    const ROWS: usize = 8;
    let rows = parts(kernel.len(), hidden);
    for first in (0..rows).step_by(ROWS) {
        for unit in (0..taken.len()).step_by(PANEL) {
            let units = PANEL.min(taken.len() - unit);
            for row in first..rows.min(first + ROWS) {
                let from = row * hidden + taken.start + unit;
                let place = unit * rows + row * units;
                if let (Some(to), Some(from)) = (
                    to.get_mut(place..place + units),
                    kernel.get(from..from + units),
                ) {
                    // A whole panel's row is a few vectors; the length of any other is
                    // known too late for that.
                    match (to.first_chunk_mut::<PANEL>(), from.first_chunk::<PANEL>()) {
                        (Some(to), Some(from)) => *to = *from,
                        _ => to.copy_from_slice(from),
                    }
                }
            }
        }
    }
}
