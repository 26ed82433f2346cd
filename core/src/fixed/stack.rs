//! Networks one on top of the other.

use super::layers::Layers;
use super::network::Buffers;
use crate::layout::flat::{Flat, flat};
use crate::lstm::layer::Passes;

/// Two networks, or two of their buffers, one after the other in memory: of the layers below and of
/// the layer above.
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

impl<A: Buffers, B: Buffers> Buffers for Stack<A, B> {
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
}

impl<A: Layers, B: Layers> Layers for Stack<A, B> {
    const FILLED: bool = A::FILLED || B::FILLED;

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
