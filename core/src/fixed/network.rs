//! Networks whose sizes are types: their buffers, and the calls on them.
//!
//! Every buffer is a plain value of known size, so `size_of` is the memory it
//! takes and nothing has a wrong length. The same kernels run as behind
//! [`Model`](crate::Model), with sizes that the compiler can fold, and the same
//! bits come out.

use super::layers::Layers;
use crate::error::ArgumentError;
use crate::layout::flat::Flat;
use crate::simd::{dispatch, dispatch_inline};
use core::fmt;

/// The sizes of a [`Network`], and the types of its buffers.
///
/// T is a number of time steps and B of batch rows, both free in every call. All buffers are plain
/// numbers ([`Flat`]) and start from [`Flat::ZERO`].
///
/// ```
/// use fused_lstm::{Buffers, Lstm, Stack};
///
/// type Net = Stack<Lstm<6, 4>, Lstm<4, 5>>;
/// assert_eq!((Net::INPUTS, Net::OUTPUTS), (6, 5));
/// assert_eq!(size_of::<<Net as Buffers>::State<2>>(), 4 * 2 * 2 * (4 + 5));
/// ```
pub trait Buffers: Flat {
    /// Inputs of the first layer.
    const INPUTS: usize;
    /// Hidden units of the last layer.
    const OUTPUTS: usize;
    /// `[T, B, I]`.
    type Input<const T: usize, const B: usize>: Flat;
    /// `[T, B, H]`.
    type Output<const T: usize, const B: usize>: Flat;
    /// The state, or its gradient.
    type State<const B: usize>: Flat + fmt::Debug + PartialEq;
    /// What the forward pass leaves for the backward pass.
    type Cache<const T: usize, const B: usize>: Flat;
    /// What the layers of a stack hand to each other in inference.
    type Scratch<const T: usize, const B: usize>: Flat;
    /// Room for the backward pass.
    type Workspace<const T: usize, const B: usize>: Flat;

    /// The last layer's hidden states in a cache that [`forward`](Network::forward)
    /// filled.
    fn output<const T: usize, const B: usize>(cache: &Self::Cache<T, B>) -> &Self::Output<T, B>;
}

/// LSTM layers with sizes as types: an [`Lstm`](crate::Lstm), or a [`Stack`](crate::Stack) of them. A value is
/// the parameters; gradients and optimizer slots are values of the same type.
///
/// T is a number of time steps and B of batch rows, both free in every call; the types of the
/// buffers are [`Buffers`]'.
///
/// A stack whose sizes do not meet does not compile:
///
/// ```compile_fail
/// use fused_lstm::{Flat, Lstm, Network, Stack};
///
/// type Net = Stack<Lstm<6, 4>, Lstm<3, 5>>; // 4 units into 3 inputs
/// let mut y = [[[0.0; 5]; 1]; 1];
/// Net::ZERO.step(&[[[0.0; 6]]], &mut Flat::zero(), &mut y);
/// ```
///
/// ```
/// use fused_lstm::{Buffers, Flat, Lstm, Network, Stack};
///
/// type Net = Stack<Lstm<6, 4>, Lstm<4, 5>>;
/// let net = Net::glorot_uniform(|| 0.75);
///
/// // Inference: 3 steps of 2 rows.
/// let x = [[[1.0; 6]; 2]; 3];
/// let mut state = <Net as Buffers>::State::<2>::ZERO;
/// let mut y = [[[0.0; 5]; 2]; 3];
/// net.infer(&x, &mut state, &mut y, &mut Flat::zero());
///
/// // The same again with a cache, and the gradients of the sum of the outputs.
/// let mut cache = <Net as Buffers>::Cache::<3, 2>::ZERO;
/// net.forward(&x, &mut Flat::zero(), &mut cache);
/// assert_eq!(*Net::output(&cache), y);
/// let (dy, mut dstate, mut gradients) = ([[[1.0; 5]; 2]; 3], Flat::ZERO, Net::ZERO);
/// let mut workspace = <Net as Buffers>::Workspace::<3, 2>::ZERO;
/// net.backward(&x, &dy, &mut dstate, &mut cache, &mut gradients, None, &mut workspace);
/// assert!(gradients.above.bias[3][0] > 0.0);
/// ```
pub trait Network: Buffers + Layers {
    /// What training starts from: kernels glorot-uniform, biases 0 but for the
    /// forget gates', which are 1. `random` gives numbers from 0 up to, not
    /// including, 1.
    fn glorot_uniform(mut random: impl FnMut() -> f32) -> Self {
        let mut net = Self::ZERO;
        net.init(&mut random);
        net
    }

    /// One step of `B` rows: [`infer`](Self::infer) with its scratch on the stack.
    fn step<const B: usize>(
        &self,
        x: &Self::Input<1, B>,
        state: &mut Self::State<B>,
        y: &mut Self::Output<1, B>,
    ) {
        self.infer(x, state, y, &mut Flat::zero());
    }

    /// A sequence without a cache: `state` is advanced, `y` overwritten with the
    /// last layer's hidden states; `scratch` holds nothing of use after.
    fn infer<const T: usize, const B: usize>(
        &self,
        x: &Self::Input<T, B>,
        state: &mut Self::State<B>,
        y: &mut Self::Output<T, B>,
        scratch: &mut Self::Scratch<T, B>,
    ) {
        // Flat inside, where the lengths are constants.
        if const { B == 1 && Self::FILLED } {
            dispatch_inline!(s => self.infer_with::<_, T, B>(
                s, x.as_flat(), state, y.as_flat_mut(), scratch
            ));
        } else {
            dispatch!(s => self.infer_with::<_, T, B>(
                s, x.as_flat(), state, y.as_flat_mut(), scratch
            ));
        }
    }

    /// A sequence with a cache for [`backward`](Self::backward): `state` is
    /// advanced, `cache` overwritten. The output is in it: [`output`](Buffers::output).
    fn forward<const T: usize, const B: usize>(
        &self,
        x: &Self::Input<T, B>,
        state: &mut Self::State<B>,
        cache: &mut Self::Cache<T, B>,
    ) {
        dispatch!(s => self.forward_with::<_, T, B>(s, x.as_flat(), state, cache));
    }

    /// The gradients, from that of the output.
    ///
    /// `x` and `cache` are those of [`forward`](Self::forward); `dstate` holds the
    /// gradient of the final state (zeros if there is none) and is overwritten with
    /// that of the initial state; `gradients` is accumulated to; `dx`, if wanted, is
    /// overwritten. `cache` and `workspace` hold nothing of use after.
    fn backward<const T: usize, const B: usize>(
        &self,
        x: &Self::Input<T, B>,
        dy: &Self::Output<T, B>,
        dstate: &mut Self::State<B>,
        cache: &mut Self::Cache<T, B>,
        gradients: &mut Self,
        dx: Option<&mut Self::Input<T, B>>,
        workspace: &mut Self::Workspace<T, B>,
    ) {
        dispatch!(s => {
            let (x, dy, dx) = (x.as_flat(), dy.as_flat(), dx.map(|dx| dx.as_flat_mut()));
            self.backward_with::<_, T, B>(s, x, dy, dstate, cache, gradients, dx, workspace);
        });
    }

    /// Forward, a loss of the caller's, and backward: the training step of layers without a head.
    /// Gives what the loss gives.
    ///
    /// `loss` gets the outputs and zeros in `dy`, which it replaces by the gradient of what it returns;
    /// rows that it leaves alone do not count. `state` is advanced, `gradients` accumulated to; `dy`
    /// is overwritten, `cache` and `workspace` hold nothing of use after. The gradient does not reach
    /// back into the state: truncated backpropagation. If the loss is refused, so is the step: the
    /// state has advanced then, the gradients are untouched.
    ///
    /// ```
    /// use fused_lstm::loss::mean_squared_error;
    /// use fused_lstm::{Flat, Lstm, Network};
    ///
    /// let net = Lstm::<1, 2>::glorot_uniform(|| 0.75);
    /// let (mut gradients, mut dy) = (Lstm::ZERO, [[[0.0; 2]; 1]; 3]);
    /// // Of the last step only.
    /// let loss = net.gradient_of(
    ///     &[[[1.0]]; 3],
    ///     |y, dy| mean_squared_error(y[2].as_flat(), &[1.0; 2], dy[2].as_flat_mut()),
    ///     &mut Flat::zero(),
    ///     &mut gradients,
    ///     &mut dy,
    ///     &mut Flat::zero(),
    ///     &mut Flat::zero(),
    /// )?;
    /// assert!(loss > 0.0 && gradients.bias[3][0] < 0.0);
    /// assert_eq!(dy[0], [[0.0; 2]]);
    /// # Ok::<(), fused_lstm::ArgumentError>(())
    /// ```
    fn gradient_of<const T: usize, const B: usize>(
        &self,
        x: &Self::Input<T, B>,
        loss: impl FnOnce(&Self::Output<T, B>, &mut Self::Output<T, B>) -> Result<f32, ArgumentError>,
        state: &mut Self::State<B>,
        gradients: &mut Self,
        dy: &mut Self::Output<T, B>,
        cache: &mut Self::Cache<T, B>,
        workspace: &mut Self::Workspace<T, B>,
    ) -> Result<f32, ArgumentError> {
        self.forward(x, state, cache);
        dy.as_flat_mut().fill(0.0);
        let loss = loss(Self::output(cache), dy)?;
        let dstate = &mut Self::State::<B>::zero();
        self.backward(x, dy, dstate, cache, gradients, None, workspace);
        Ok(loss)
    }
}

impl<N: Layers> Network for N {}
