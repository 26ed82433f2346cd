//! Networks whose sizes are types: one layer, or a stack of them.
//!
//! Every buffer is a plain value of known size, so `size_of` is the memory it
//! takes and nothing has a wrong length. The same kernels run as behind
//! [`Model`](crate::Model), with sizes that the compiler can fold, and the same
//! bits come out.

use crate::layout::flat::{Flat, flat};
use crate::lstm::layer::Passes;
use crate::simd::{dispatch, dispatch_inline};

/// Two of something, one after the other in memory: the part of the layers below
/// and the part of the layer above.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stack<A, B> {
    /// What comes first.
    pub below: A,
    /// What comes on top of it.
    pub above: B,
}

flat! {
    [A: Flat, B: Flat] Stack<A, B> { below, above };
}

/// LSTM layers with sizes as types: an [`Lstm`](crate::Lstm), or a [`Stack`] of them. A value is
/// the parameters; gradients and optimizer slots are values of the same type.
///
/// T is a number of time steps and B of batch rows, both free in every call. The
/// associated types are the buffers; all are plain numbers ([`Flat`]) and start
/// from [`Flat::ZERO`].
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
/// use fused_lstm::{Flat, Lstm, Network, Stack};
///
/// type Net = Stack<Lstm<6, 4>, Lstm<4, 5>>;
/// let net = Net::glorot_uniform(|| 0.75);
///
/// // Inference: 3 steps of 2 rows.
/// let x = [[[1.0; 6]; 2]; 3];
/// let mut state = <Net as Network>::State::<2>::ZERO;
/// let mut y = [[[0.0; 5]; 2]; 3];
/// net.infer(&x, &mut state, &mut y, &mut Flat::zero());
///
/// // The same again with a cache, and the gradients of the sum of the outputs.
/// let mut cache = <Net as Network>::Cache::<3, 2>::ZERO;
/// net.forward(&x, &mut Flat::zero(), &mut cache);
/// assert_eq!(*Net::output(&cache), y);
/// let (dy, mut dstate, mut gradients) = ([[[1.0; 5]; 2]; 3], Flat::ZERO, Net::ZERO);
/// let mut workspace = <Net as Network>::Workspace::<3, 2>::ZERO;
/// net.backward(&x, &dy, &mut dstate, &mut cache, &mut gradients, None, &mut workspace);
/// assert!(gradients.above.bias[3][0] > 0.0);
/// ```
pub trait Network: Flat {
    /// Inputs of the first layer.
    const INPUTS: usize;
    /// Hidden units of the last layer.
    const OUTPUTS: usize;
    /// `[T, B, I]`.
    type Input<const T: usize, const B: usize>: Flat;
    /// `[T, B, H]`.
    type Output<const T: usize, const B: usize>: Flat;
    /// The state, or its gradient.
    type State<const B: usize>: Flat;
    /// What the forward pass leaves for the backward pass.
    type Cache<const T: usize, const B: usize>: Flat;
    /// What the layers of a stack hand to each other in inference.
    type Scratch<const T: usize, const B: usize>: Flat;
    /// Room for the backward pass.
    type Workspace<const T: usize, const B: usize>: Flat;

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
        dispatch_inline!(s => self.infer_with::<_, T, B>(
            s, x.as_flat(), state, y.as_flat_mut(), scratch
        ));
    }

    /// A sequence with a cache for [`backward`](Self::backward): `state` is
    /// advanced, `cache` overwritten. The output is in it: [`output`](Self::output).
    fn forward<const T: usize, const B: usize>(
        &self,
        x: &Self::Input<T, B>,
        state: &mut Self::State<B>,
        cache: &mut Self::Cache<T, B>,
    ) {
        dispatch!(s => self.forward_with::<_, T, B>(s, x.as_flat(), state, cache));
    }

    /// The last layer's hidden states in a cache that [`forward`](Self::forward)
    /// filled.
    fn output<const T: usize, const B: usize>(cache: &Self::Cache<T, B>) -> &Self::Output<T, B>;

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

    #[doc(hidden)]
    fn init<R: FnMut() -> f32>(&mut self, random: &mut R);

    #[doc(hidden)]
    fn pack(&mut self, net: &Self);

    #[doc(hidden)]
    fn step_packed_with<S: Passes, const B: usize>(
        &self,
        s: S,
        x: &[f32],
        state: &mut Self::State<B>,
        y: &mut [f32],
        scratch: &mut Self::Scratch<1, B>,
        descending: bool,
    );

    #[doc(hidden)]
    fn infer_with<S: Passes, const T: usize, const B: usize>(
        &self,
        s: S,
        x: &[f32],
        state: &mut Self::State<B>,
        y: &mut [f32],
        scratch: &mut Self::Scratch<T, B>,
    );

    #[doc(hidden)]
    fn forward_with<S: Passes, const T: usize, const B: usize>(
        &self,
        s: S,
        x: &[f32],
        state: &mut Self::State<B>,
        cache: &mut Self::Cache<T, B>,
    );

    #[doc(hidden)]
    fn backward_with<S: Passes, const T: usize, const B: usize>(
        &self,
        s: S,
        x: &[f32],
        dy: &[f32],
        dstate: &mut Self::State<B>,
        cache: &mut Self::Cache<T, B>,
        gradients: &mut Self,
        dx: Option<&mut [f32]>,
        workspace: &mut Self::Workspace<T, B>,
    );
}

impl<A: Network, B: Network> Network for Stack<A, B> {
    const INPUTS: usize = A::INPUTS;
    const OUTPUTS: usize = {
        assert!(
            A::OUTPUTS == B::INPUTS,
            "the units below are not the inputs above"
        );
        B::OUTPUTS
    };
    type Input<const T: usize, const R: usize> = A::Input<T, R>;
    type Output<const T: usize, const R: usize> = B::Output<T, R>;
    type State<const R: usize> = Stack<A::State<R>, B::State<R>>;
    type Cache<const T: usize, const R: usize> = Stack<A::Cache<T, R>, B::Cache<T, R>>;
    type Scratch<const T: usize, const R: usize> =
        Stack<Stack<A::Scratch<T, R>, B::Scratch<T, R>>, A::Output<T, R>>;
    type Workspace<const T: usize, const R: usize> =
        Stack<Stack<A::Workspace<T, R>, B::Workspace<T, R>>, A::Output<T, R>>;

    fn output<const T: usize, const R: usize>(cache: &Self::Cache<T, R>) -> &B::Output<T, R> {
        B::output(&cache.above)
    }

    fn init<F: FnMut() -> f32>(&mut self, random: &mut F) {
        self.below.init(random);
        self.above.init(random);
    }

    fn pack(&mut self, net: &Self) {
        self.below.pack(&net.below);
        self.above.pack(&net.above);
    }

    #[inline(always)]
    fn step_packed_with<S: Passes, const R: usize>(
        &self,
        s: S,
        x: &[f32],
        state: &mut Self::State<R>,
        y: &mut [f32],
        scratch: &mut Self::Scratch<1, R>,
        descending: bool,
    ) {
        const { assert!(Self::OUTPUTS > 0) };
        let Stack {
            below: scratch,
            above: between,
        } = scratch;
        let (below, above) = (&mut scratch.below, &mut scratch.above);
        let between = between.as_flat_mut();
        self.below
            .step_packed_with::<S, R>(s, x, &mut state.below, between, below, descending);
        self.above
            .step_packed_with::<S, R>(s, between, &mut state.above, y, above, descending);
    }

    #[inline(always)]
    fn infer_with<S: Passes, const T: usize, const R: usize>(
        &self,
        s: S,
        x: &[f32],
        state: &mut Self::State<R>,
        y: &mut [f32],
        scratch: &mut Self::Scratch<T, R>,
    ) {
        const { assert!(Self::OUTPUTS > 0) };
        let Stack {
            below: scratch,
            above: between,
        } = scratch;
        let between = between.as_flat_mut();
        self.below
            .infer_with(s, x, &mut state.below, between, &mut scratch.below);
        self.above
            .infer_with(s, between, &mut state.above, y, &mut scratch.above);
    }

    #[inline(always)]
    fn forward_with<S: Passes, const T: usize, const R: usize>(
        &self,
        s: S,
        x: &[f32],
        state: &mut Self::State<R>,
        cache: &mut Self::Cache<T, R>,
    ) {
        const { assert!(Self::OUTPUTS > 0) };
        self.below
            .forward_with(s, x, &mut state.below, &mut cache.below);
        let between = A::output(&cache.below).as_flat();
        self.above
            .forward_with(s, between, &mut state.above, &mut cache.above);
    }

    #[inline(always)]
    fn backward_with<S: Passes, const T: usize, const R: usize>(
        &self,
        s: S,
        x: &[f32],
        dy: &[f32],
        dstate: &mut Self::State<R>,
        cache: &mut Self::Cache<T, R>,
        gradients: &mut Self,
        dx: Option<&mut [f32]>,
        workspace: &mut Self::Workspace<T, R>,
    ) {
        const { assert!(Self::OUTPUTS > 0) };
        let Stack {
            below: workspace,
            above: dbetween,
        } = workspace;
        let dbetween = dbetween.as_flat_mut();
        self.above.backward_with(
            s,
            A::output(&cache.below).as_flat(),
            dy,
            &mut dstate.above,
            &mut cache.above,
            &mut gradients.above,
            Some(&mut *dbetween),
            &mut workspace.above,
        );
        self.below.backward_with(
            s,
            x,
            dbetween,
            &mut dstate.below,
            &mut cache.below,
            &mut gradients.below,
            dx,
            &mut workspace.below,
        );
    }
}
