//! One layer whose sizes are types, and its buffers.

use super::network::Network;
use crate::layout::flat::{Flat, flat};
use crate::layout::split::copy;
use crate::layout::{CacheView, Extent, LayerShape, Params, StateView};
use crate::lstm::step::step;
use crate::lstm::weights::{Order, Panels, pack_layer};
use crate::lstm::{layer, outlined};
use crate::simd::{Filled, Simd};
use crate::train::init;

/// One LSTM layer of `I` inputs and `H` hidden units: its parameters, or their
/// gradients.
///
/// In memory it is TensorFlow's kernel `[I+H, 4H]`, gates in the order i, j, f, o,
/// and then the bias `[4H]`.
///
/// ```
/// use fused_lstm::{Flat, Lstm, LstmState, Network};
///
/// let layer = Lstm::<6, 4>::glorot_uniform(|| 0.75);
/// let mut state = LstmState::<1, 4>::ZERO;
/// let mut y = [[[0.0; 4]; 1]; 1];
/// layer.step(&[[[1.0; 6]]], &mut state, &mut y);
/// assert_eq!(y[0], state.h);
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lstm<const I: usize, const H: usize> {
    /// From the inputs: `[I, 4, H]`.
    pub input_kernel: [[[f32; H]; 4]; I],
    /// From the hidden units of the step before: `[H, 4, H]`.
    pub recurrent_kernel: [[[f32; H]; 4]; H],
    /// `[4, H]`; the forget bias stands in the third.
    pub bias: [[f32; H]; 4],
}

/// The state of an [`Lstm`] for `B` rows.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LstmState<const B: usize, const H: usize> {
    /// The cell state.
    pub c: [[f32; H]; B],
    /// The hidden state, which is the output too.
    pub h: [[f32; H]; B],
}

/// What an [`Lstm`]'s forward pass over `T` steps of `B` rows leaves for its
/// backward pass.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LstmCache<const T: usize, const B: usize, const H: usize> {
    /// Gate activations.
    pub gates: [[[[f32; H]; 4]; B]; T],
    /// The cell state that the sequence started from,
    pub initial_c: [[f32; H]; B],
    /// and the ones after each step.
    pub c: [[[f32; H]; B]; T],
    /// The hidden state that the sequence started from,
    pub initial_h: [[f32; H]; B],
    /// and the ones after each step: the output.
    pub h: [[[f32; H]; B]; T],
}

/// PackBuffer for an [`Lstm`]'s kernel transposed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LstmWorkspace<const I: usize, const H: usize> {
    input: [[[f32; I]; H]; 4],
    recurrent: [[[f32; H]; H]; 4],
}

flat! {
    [const I: usize, const H: usize] Lstm<I, H> { input_kernel, recurrent_kernel, bias };
    [const B: usize, const H: usize] LstmState<B, H> { c, h };
    [const T: usize, const B: usize, const H: usize] LstmCache<T, B, H> {
        gates, initial_c, c, initial_h, h
    };
    [const I: usize, const H: usize] LstmWorkspace<I, H> { input, recurrent };
}

/// Runs the body with `$v` for the vectors that the units fill exactly, if there are such, and
/// `$s` if there are none.
macro_rules! with_filled {
    ($s:ident, |$v:ident| $body:expr) => {{
        let (half, quarter) = ($s.half(), $s.half().half());
        if const { S::LONG && H < 16 } {
            let $v = half;
            $body
        } else if const { !S::SMALL && H == <<S::Half as Simd>::Half as Simd>::LANES && I <= 4 * H }
        {
            let $v = Filled(quarter);
            $body
        } else if const { !S::SMALL && H == S::Half::LANES && I <= 4 * H } {
            let $v = Filled(half);
            $body
        } else {
            let $v = $s;
            $body
        }
    }};
}

impl<const I: usize, const H: usize> Lstm<I, H> {
    const SHAPE: LayerShape = {
        assert!(
            I > 0 && H > 0,
            "a layer needs at least one input and one unit"
        );
        LayerShape {
            inputs: I,
            hidden: H,
        }
    };

    #[inline(always)]
    fn params(&self) -> Params<&[f32]> {
        Params::cut(Self::SHAPE, self.as_flat())
    }
}

impl<const I: usize, const H: usize> Network for Lstm<I, H> {
    const INPUTS: usize = I;
    const OUTPUTS: usize = H;
    type Input<const T: usize, const B: usize> = [[[f32; I]; B]; T];
    type Output<const T: usize, const B: usize> = [[[f32; H]; B]; T];
    type State<const B: usize> = LstmState<B, H>;
    type Cache<const T: usize, const B: usize> = LstmCache<T, B, H>;
    type Scratch<const T: usize, const B: usize> = [f32; 0];
    type Workspace<const T: usize, const B: usize> = LstmWorkspace<I, H>;

    fn output<const T: usize, const B: usize>(cache: &LstmCache<T, B, H>) -> &[[[f32; H]; B]; T] {
        &cache.h
    }

    fn init<R: FnMut() -> f32>(&mut self, random: &mut R) {
        init::layer(Self::SHAPE, self.as_flat_mut(), random);
    }

    fn pack(&mut self, net: &Self) {
        let params = Params::cut(Self::SHAPE, self.as_flat_mut());
        pack_layer(Self::SHAPE, params, net.params());
    }

    #[inline(always)]
    fn step_packed_with<S: Simd, const B: usize>(
        &self,
        s: S,
        x: &[f32],
        state: &mut LstmState<B, H>,
        y: &mut [f32],
        _: &mut [f32; 0],
        backwards: bool,
    ) {
        let (c, h) = (state.c.as_flat_mut(), state.h.as_flat_mut());
        let how = (Order::Panels, backwards);
        with_filled!(s, |v| step(
            v,
            Self::SHAPE,
            B,
            how,
            self.params(),
            x,
            h,
            c,
            y
        ));
        copy(h, y);
    }

    #[inline(always)]
    fn infer_with<S: Simd, const T: usize, const B: usize>(
        &self,
        s: S,
        x: &[f32],
        state: &mut LstmState<B, H>,
        y: &mut [f32],
        _: &mut [f32; 0],
    ) {
        let state = StateView {
            c: state.c.as_flat_mut(),
            h: state.h.as_flat_mut(),
        };
        let extent = Extent { steps: T, batch: B };
        let params = self.params();
        let room: (&mut [f32], _) = (&mut [], Panels::PackBuffer(&mut []));
        with_filled!(s, |v| layer::infer::<_, true>(
            v,
            Self::SHAPE,
            extent,
            params,
            x,
            state,
            y,
            room
        ));
    }

    #[inline(always)]
    fn forward_with<S: Simd, const T: usize, const B: usize>(
        &self,
        s: S,
        x: &[f32],
        state: &mut LstmState<B, H>,
        cache: &mut LstmCache<T, B, H>,
    ) {
        let extent = Extent { steps: T, batch: B };
        let state = StateView {
            c: state.c.as_flat_mut(),
            h: state.h.as_flat_mut(),
        };
        let cache = CacheView::cut(Self::SHAPE, extent, cache.as_flat_mut());
        let (shape, params) = (Self::SHAPE, self.params());
        with_filled!(s, |v| outlined::forward(
            (s, v),
            shape,
            extent,
            params,
            x,
            state,
            cache,
            &mut []
        ));
    }

    #[inline(always)]
    fn backward_with<S: Simd, const T: usize, const B: usize>(
        &self,
        s: S,
        x: &[f32],
        dy: &[f32],
        dstate: &mut LstmState<B, H>,
        cache: &mut LstmCache<T, B, H>,
        gradients: &mut Self,
        dx: Option<&mut [f32]>,
        workspace: &mut LstmWorkspace<I, H>,
    ) {
        let (shape, params) = (Self::SHAPE, self.params());
        let extent = Extent { steps: T, batch: B };
        let dstate = StateView {
            c: dstate.c.as_flat_mut(),
            h: dstate.h.as_flat_mut(),
        };
        let recurrent = workspace.recurrent.as_flat_mut();
        let view = CacheView::cut(shape, extent, cache.as_flat_mut());
        with_filled!(s, |v| outlined::backward_steps(
            (s, v),
            shape,
            extent,
            params,
            view,
            dy,
            dstate,
            recurrent
        ));
        let view = CacheView::cut(shape, extent, cache.as_flat());
        let gradients = Params::cut(shape, gradients.as_flat_mut());
        let dx = dx.map(|dx| (dx, workspace.input.as_flat_mut()));
        outlined::backward_products((s, s), shape, extent, params, x, view, gradients, dx);
    }
}
