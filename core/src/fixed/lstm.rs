//! One layer whose sizes are types, and its buffers.

use super::layers::Layers;
use super::network::Buffers;
use crate::layout::flat::{Flat, flat};
use crate::layout::split::copy_prefix;
use crate::layout::{CacheView, Extent, LayerShape, Params, StateView};
use crate::lstm::layer::{self, BackwardProducts, BackwardSteps, Forward, Infer, Passes};
use crate::lstm::step::{self, Steps as _};
use crate::lstm::tile::{FromBias, Step};
use crate::lstm::weights::{Kernels, PANEL_UNITS, Panels, pack_gates};
use crate::simd::{Scalar, Simd, UNITS};
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

/// Room for an [`Lstm`]'s kernel transposed.
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

/// Runs `$body` with the level `$s`, or, where there is one lane, with that for less than 16 units.
macro_rules! by_units {
    ($s:ident => $body:expr) => {
        if const { S::LANES == 1 && H < UNITS } {
            let $s = Scalar::<false> {};
            $body
        } else {
            $body
        }
    };
}

/// Runs and returns `$body` for one row with the vectors `$s` of which the units fill one or two, of
/// at most `$most` numbers, and `$step` for the step: as a part of the caller, because a step waits
/// for a call.
macro_rules! if_filled {
    ($rows:expr, $most:expr, ($s:ident, $step:ident) => $body:expr) => {
        if const { S::LANES > 1 && $rows == 1 && Self::FILLED } {
            use step::filled as $step;
            if const { H == <<S::Half as Simd>::Half as Simd>::LANES } {
                let $s = $s.half().half();
                return $body;
            }
            if const { H == S::Half::LANES } {
                let $s = $s.half();
                return $body;
            }
            if const { H == S::LANES } {
                return $body;
            }
            if const { S::TILING.step_vectors == 2 && H == 2 * S::LANES && H <= $most } {
                use step::filled_pair as $step;
                return $body;
            }
        }
    };
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

impl<const B: usize, const H: usize> LstmState<B, H> {
    #[inline(always)]
    fn view(&mut self) -> StateView<&mut [f32]> {
        StateView {
            c: self.c.as_flat_mut(),
            h: self.h.as_flat_mut(),
        }
    }
}

impl<const I: usize, const H: usize> Buffers for Lstm<I, H> {
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
}

impl<const I: usize, const H: usize> Layers for Lstm<I, H> {
    const FILLED: bool = I <= 4 * H && matches!(H, 4 | 8 | 16 | 32);

    fn init<R: FnMut() -> f32>(&mut self, random: &mut R) {
        init::layer(Self::SHAPE, self.as_flat_mut(), random);
    }

    fn pack(&mut self, net: &Self) {
        let params = Params::cut(Self::SHAPE, self.as_flat_mut());
        pack_gates(Self::SHAPE, params, net.params());
    }

    #[inline(always)]
    fn step_packed_with<S: Passes, const B: usize>(
        &self,
        s: S,
        x: &[f32],
        state: &mut LstmState<B, H>,
        y: &mut [f32],
        _: &mut [f32; 0],
        descending: bool,
    ) {
        let (c, h) = (state.c.as_flat_mut(), state.h.as_flat_mut());
        let params = self.params();
        let step = Step::from_bias(FromBias {
            batch: B,
            inputs: I,
            hidden: H,
            kernels: Kernels::gate_panels(Self::SHAPE, params),
            bias: params.bias,
            x,
            h_before: h,
            c,
            h: &mut *y,
        });
        let Some(mut step) = step else {
            return;
        };
        if_filled!(B, PANEL_UNITS, (s, run) => {
            run(s, &mut step);
            copy_prefix(h, y);
        });
        by_units!(s => s.step(&mut step, descending));
        copy_prefix(h, y);
    }

    #[inline(always)]
    fn infer_with<S: Passes, const T: usize, const B: usize>(
        &self,
        s: S,
        x: &[f32],
        state: &mut LstmState<B, H>,
        y: &mut [f32],
        _: &mut [f32; 0],
    ) {
        let args = Infer {
            shape: Self::SHAPE,
            extent: Extent { steps: T, batch: B },
            params: self.params(),
            x,
            state: state.view(),
            y,
            preact: &mut [],
            panels: Panels::Room(&mut []),
            scratch: &mut [],
        };
        if_filled!(B, usize::MAX, (s, run) => layer::infer_fused(
            args,
            #[inline(always)]
            |step| run(s, step),
        ));
        if const { Self::SHAPE.is_wide() } {
            by_units!(s => s.infer(args));
        } else {
            by_units!(s => layer::infer_fused(
                args,
                #[inline(always)]
                |step| s.step(step, false),
            ));
        }
    }

    #[inline(always)]
    fn forward_with<S: Passes, const T: usize, const B: usize>(
        &self,
        s: S,
        x: &[f32],
        state: &mut LstmState<B, H>,
        cache: &mut LstmCache<T, B, H>,
    ) {
        let extent = Extent { steps: T, batch: B };
        let args = Forward {
            shape: Self::SHAPE,
            extent,
            params: self.params(),
            x,
            state: state.view(),
            cache: CacheView::cut(Self::SHAPE, extent, cache.as_flat_mut()),
            panels: &mut [],
            scratch: &mut [],
        };
        by_units!(s => s.forward(args));
    }

    #[inline(always)]
    fn backward_with<S: Passes, const T: usize, const B: usize>(
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
        // Each half transposes one kernel, and has room for products where the other's was or will
        // be.
        let (input, recurrent) = (
            workspace.input.as_flat_mut(),
            workspace.recurrent.as_flat_mut(),
        );
        let args = BackwardSteps {
            shape,
            extent,
            params,
            cache: CacheView::cut(shape, extent, cache.as_flat_mut()),
            dy,
            dstate: dstate.view(),
            transposed: &mut *recurrent,
            scratch: &mut *input,
        };
        by_units!(s => s.backward_steps(args));
        s.backward_products(BackwardProducts {
            shape,
            extent,
            params,
            x,
            cache: CacheView::cut(shape, extent, cache.as_flat()),
            gradients: Params::cut(shape, gradients.as_flat_mut()),
            dx,
            transposed: input,
            scratch: recurrent,
        });
    }
}
