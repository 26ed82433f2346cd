//! The const-generic API of the dense head: alone, and on top of LSTM layers as a
//! classifier that trains.

use super::network::Network;
use crate::error::ArgumentError;
use crate::layout::DenseShape;
use crate::layout::flat::{Flat, flat};
use crate::simd::{dispatch, dispatch_inline};
use crate::train::dense::{self, backward_rows, forward_rows, step_row};
use crate::train::init;
use crate::train::loss::{check_labels, cross_entropy_rows, softmax_rows};

/// A dense layer of `I` inputs and `O` outputs: its parameters, or their gradients.
///
/// ```
/// use fused_lstm::Dense;
///
/// let dense = Dense { kernel: [[1.0], [2.0]], bias: [0.5] };
/// assert_eq!(dense.forward(&[[[1.0, 1.0]]]), [[[3.5]]]);
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dense<const I: usize, const O: usize> {
    /// `[I, O]`.
    pub kernel: [[f32; O]; I],
    /// `[O]`.
    pub bias: [f32; O],
}

flat! {
    [const I: usize, const O: usize] Dense<I, O> { kernel, bias };
    [N: Flat, const H: usize, const C: usize] Classifier<N, H, C> { lstm, dense };
    [W: Flat, const T: usize, const B: usize, const H: usize, const C: usize]
        ClassifierWorkspace<W, T, B, H, C> { lstm, dy, dlogits, transposed };
}

impl<const I: usize, const O: usize> Dense<I, O> {
    const SHAPE: DenseShape = {
        assert!(
            I > 0 && O > 0,
            "a dense layer needs at least one input and one output"
        );
        DenseShape {
            inputs: I,
            outputs: O,
        }
    };

    /// What training starts from: the kernel glorot-uniform, the bias 0.
    pub fn glorot_uniform(mut random: impl FnMut() -> f32) -> Self {
        let mut dense = Self::ZERO;
        init::dense(Self::SHAPE, dense.as_flat_mut(), &mut random);
        dense
    }

    /// x·W + b for `T` steps of `B` rows.
    pub fn forward<const T: usize, const B: usize>(
        &self,
        x: &[[[f32; I]; B]; T],
    ) -> [[[f32; O]; B]; T] {
        let mut y = [[[0.0; O]; B]; T];
        let (params, x, to) = (self.as_flat(), x.as_flat(), y.as_flat_mut());
        dispatch!(s => forward_rows(s, Self::SHAPE, T * B, params, x, to, &mut []));
        y
    }

    /// The gradients of [`forward`](Self::forward), from `dy`: `gradients` is
    /// accumulated to, the gradient of `x` is given back.
    ///
    /// ```
    /// use fused_lstm::{Dense, Flat};
    ///
    /// let dense = Dense { kernel: [[1.0], [2.0]], bias: [0.5] };
    /// let mut gradients = Dense::ZERO;
    /// let dx = dense.backward(&[[[3.0, 4.0]]], &[[[10.0]]], &mut gradients);
    /// assert_eq!(dx, [[[10.0, 20.0]]]);
    /// assert_eq!(gradients, Dense { kernel: [[30.0], [40.0]], bias: [10.0] });
    /// ```
    pub fn backward<const T: usize, const B: usize>(
        &self,
        x: &[[[f32; I]; B]; T],
        dy: &[[[f32; O]; B]; T],
        gradients: &mut Self,
    ) -> [[[f32; I]; B]; T] {
        let mut dx = [[[0.0; I]; B]; T];
        let mut transposed = [[0.0f32; I]; O];
        let args = dense::Backward {
            params: self.as_flat(),
            x: x.as_flat(),
            dy: dy.as_flat(),
            gradients: gradients.as_flat_mut(),
            dx: dx.as_flat_mut(),
            workspace: transposed.as_flat_mut(),
        };
        dispatch!(s => backward_rows(s, Self::SHAPE, T * B, args, &mut []));
        dx
    }
}

/// LSTM layers `N` of `H` outputs under a dense head of `C` classes with softmax:
/// the parameters, or their gradients.
///
/// ```
/// use fused_lstm::optimizer::Adagrad;
/// use fused_lstm::{Buffers, Classifier, Flat, Lstm, Network, Stack};
///
/// // The echo system: 3 layers of 4 units, 2 classes; 15 steps of 5 rows.
/// type Layers = Stack<Stack<Lstm<1, 4>, Lstm<4, 4>>, Lstm<4, 4>>;
/// type Echo = Classifier<Layers, 4, 2>;
///
/// let mut seed = 1u32;
/// let mut net = Echo::glorot_uniform(|| {
///     seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
///     (seed >> 8) as f32 / (1 << 24) as f32
/// });
/// let (x, labels) = ([[[1.0]; 5]; 15], [[1; 5]; 15]);
/// let mut state = <Layers as Buffers>::State::<5>::ZERO;
/// let mut slots = Echo::ZERO;
/// slots.as_flat_mut().fill(0.1);
/// let (mut cache, mut workspace) = (Flat::ZERO, Flat::ZERO);
/// let mut probabilities = [[[0.0; 2]; 5]; 15];
/// let mut losses = [0.0; 20];
/// for loss in &mut losses {
///     let mut gradients = Echo::ZERO;
///     *loss = net.loss_gradient(
///         &x, &labels, &mut state, &mut gradients, &mut probabilities, &mut cache, &mut workspace,
///     )?;
///     Adagrad::tensorflow(0.3).update(net.as_flat_mut(), gradients.as_flat(), slots.as_flat_mut())?;
/// }
/// assert!(losses[19] < 0.1 * losses[0]);
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Classifier<N, const H: usize, const C: usize> {
    /// The LSTM layers.
    pub lstm: N,
    /// The head.
    pub dense: Dense<H, C>,
}

/// Room for [`Classifier::loss_gradient`] and [`Classifier::gradient_of`]; `W` is the layers' own.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassifierWorkspace<W, const T: usize, const B: usize, const H: usize, const C: usize> {
    lstm: W,
    dy: [[[f32; H]; B]; T],
    dlogits: [[[f32; C]; B]; T],
    transposed: [[f32; H]; C],
}

impl<N: Network, const H: usize, const C: usize> Classifier<N, H, C> {
    const FITS: () = {
        assert!(
            N::OUTPUTS == H,
            "the units of the layers are not the inputs of the head"
        );
        assert!(C > 0, "a head needs at least one class");
    };

    /// What training starts from: see [`Network::glorot_uniform`].
    pub fn glorot_uniform(mut random: impl FnMut() -> f32) -> Self {
        let mut net = Self::ZERO;
        net.lstm.init(&mut random);
        net.dense = Dense::glorot_uniform(random);
        net
    }

    /// Class probabilities of a sequence without a cache: `state` is advanced,
    /// `probabilities` overwritten; `y` (the last layer's hidden states) and
    /// `scratch` are the layers' room.
    ///
    /// ```
    /// use fused_lstm::{Classifier, Flat, Lstm, LstmState};
    ///
    /// let net = Classifier::<Lstm<1, 4>, 4, 2>::ZERO;
    /// let (mut state, mut y, mut p) = (LstmState::<1, 4>::ZERO, [[[0.0; 4]; 1]; 1], Flat::ZERO);
    /// net.infer(&[[[1.0]]], &mut state, &mut y, &mut p, &mut Flat::zero());
    /// assert_eq!(p, [[[0.5, 0.5]]]);
    /// ```
    pub fn infer<const T: usize, const B: usize>(
        &self,
        x: &N::Input<T, B>,
        state: &mut N::State<B>,
        y: &mut N::Output<T, B>,
        probabilities: &mut [[[f32; C]; B]; T],
        scratch: &mut N::Scratch<T, B>,
    ) {
        const { Self::FITS };
        dispatch_inline!(s => {
            let (x, y) = (x.as_flat(), y.as_flat_mut());
            let (shape, head) = (Dense::<H, C>::SHAPE, self.dense.as_flat());
            let probabilities = probabilities.as_flat_mut();
            self.lstm.infer_with::<_, T, B>(s, x, state, y, scratch);
            // A step of a tiny network would wait for the call.
            if const { T * B == 1 && C <= 4 && H <= 32 } {
                step_row(s, shape, head, y, probabilities);
            } else {
                forward_rows(s, shape, T * B, head, y, probabilities, &mut []);
            }
            softmax_rows(s, C, probabilities);
        });
    }

    /// Forward, softmax cross-entropy averaged over all T·B rows, and backward:
    /// everything of a training step but the update. Gives the loss; refuses a
    /// label that is neither a class nor [`loss::IGNORE`](crate::train::loss::IGNORE). Rows with the
    /// latter do not count: the mean is over the others, though the state advances through all.
    /// If no row counts, the loss and the gradient are 0.
    ///
    /// `state` is advanced, `gradients` accumulated to, `probabilities` overwritten
    /// with the softmax; `cache` and `workspace` hold nothing of use after. The
    /// gradient does not reach back into the state: truncated backpropagation.
    pub fn loss_gradient<const T: usize, const B: usize>(
        &self,
        x: &N::Input<T, B>,
        labels: &[[u32; B]; T],
        state: &mut N::State<B>,
        gradients: &mut Self,
        probabilities: &mut [[[f32; C]; B]; T],
        cache: &mut N::Cache<T, B>,
        workspace: &mut ClassifierWorkspace<N::Workspace<T, B>, T, B, H, C>,
    ) -> Result<f32, ArgumentError> {
        const { Self::FITS };
        let labels: &[u32] = labels.as_flattened();
        if labels.is_empty() {
            return Err(ArgumentError::Zero { what: "labels" });
        }
        check_labels(C, labels)?;
        Ok(dispatch!(s => {
            let ClassifierWorkspace {
                lstm,
                dy,
                dlogits,
                transposed,
            } = workspace;
            let (x, dy, dlogits) = (x.as_flat(), dy.as_flat_mut(), dlogits.as_flat_mut());
            let (shape, head, rows) = (Dense::<H, C>::SHAPE, self.dense.as_flat(), T * B);
            let probabilities = probabilities.as_flat_mut();
            let (dstate, dlstm) = (&mut N::State::<B>::zero(), &mut gradients.lstm);
            self.lstm.forward_with::<_, T, B>(s, x, state, cache);

            let y = N::output(cache).as_flat();
            forward_rows(s, shape, rows, head, y, probabilities, &mut []);
            let loss = cross_entropy_rows(C, probabilities, labels, dlogits);
            let args = dense::Backward {
                params: head,
                x: y,
                dy: dlogits,
                gradients: gradients.dense.as_flat_mut(),
                dx: &mut *dy,
                workspace: transposed.as_flat_mut(),
            };
            backward_rows(s, shape, rows, args, &mut []);

            self.lstm.backward_with::<_, T, B>(s, x, dy, dstate, cache, dlstm, None, lstm);
            loss
        }))
    }

    /// Forward, a loss of the caller's, and backward: the training step of any loss. Gives what the
    /// loss gives.
    ///
    /// `loss` gets the head's outputs and zeros, which it replaces by the gradient of what it
    /// returns; rows that it leaves alone do not count. It may change the outputs, as a softmax does.
    /// All else is as in [`loss_gradient`](Self::loss_gradient), with the same bits if the loss is. If
    /// the loss is refused, so is the step: the state has advanced then, the gradients are untouched.
    ///
    /// ```
    /// use fused_lstm::loss::huber;
    /// use fused_lstm::{Classifier, Flat, Lstm};
    ///
    /// type Net = Classifier<Lstm<1, 4>, 4, 2>;
    /// let (mut gradients, mut y) = (Net::ZERO, [[[0.0; 2]; 2]; 3]);
    /// // Huber's loss of the last of 3 steps of 2 rows.
    /// let targets = [[0.5, -3.0]; 2];
    /// let loss = Net::ZERO.gradient_of(
    ///     &[[[1.0]; 2]; 3],
    ///     |y, dy| huber(y[2].as_flat(), targets.as_flat(), 1.0, dy[2].as_flat_mut()),
    ///     &mut Flat::zero(),
    ///     &mut gradients,
    ///     &mut y,
    ///     &mut Flat::zero(),
    ///     &mut Flat::zero(),
    /// )?;
    /// assert_eq!(loss, (0.125 + 2.5) / 2.0);
    /// assert_eq!(gradients.dense.bias, [-0.25, 0.5]);
    /// # Ok::<(), fused_lstm::ArgumentError>(())
    /// ```
    pub fn gradient_of<const T: usize, const B: usize>(
        &self,
        x: &N::Input<T, B>,
        loss: impl FnOnce(
            &mut [[[f32; C]; B]; T],
            &mut [[[f32; C]; B]; T],
        ) -> Result<f32, ArgumentError>,
        state: &mut N::State<B>,
        gradients: &mut Self,
        outputs: &mut [[[f32; C]; B]; T],
        cache: &mut N::Cache<T, B>,
        workspace: &mut ClassifierWorkspace<N::Workspace<T, B>, T, B, H, C>,
    ) -> Result<f32, ArgumentError> {
        const { Self::FITS };
        let (shape, rows) = (Dense::<H, C>::SHAPE, T * B);
        let (own, to) = (&mut *cache, &mut *outputs);
        dispatch!(s => {
            self.lstm.forward_with::<_, T, B>(s, x.as_flat(), state, own);
            let (y, to) = (N::output(own).as_flat(), to.as_flat_mut());
            forward_rows(s, shape, rows, self.dense.as_flat(), y, to, &mut []);
        });
        let ClassifierWorkspace {
            lstm,
            dy,
            dlogits,
            transposed,
        } = workspace;
        dlogits.as_flat_mut().fill(0.0);
        let loss = loss(outputs, dlogits)?;
        dispatch!(s => {
            let (x, dy) = (x.as_flat(), dy.as_flat_mut());
            let (dstate, dlstm) = (&mut N::State::<B>::zero(), &mut gradients.lstm);
            let args = dense::Backward {
                params: self.dense.as_flat(),
                x: N::output(cache).as_flat(),
                dy: dlogits.as_flat(),
                gradients: gradients.dense.as_flat_mut(),
                dx: &mut *dy,
                workspace: transposed.as_flat_mut(),
            };
            backward_rows(s, shape, rows, args, &mut []);
            self.lstm.backward_with::<_, T, B>(s, x, dy, dstate, cache, dlstm, None, lstm);
        });
        Ok(loss)
    }
}
