//! What layers do at a level of the processor: the body of every call on a network.

use super::network::Buffers;
use crate::lstm::layer::Passes;

/// LSTM layers of this crate. The module is private, so that no other crate has any.
///
/// Sequences are flat, with lengths that are constants where this is compiled into its caller.
pub trait Layers: Buffers {
    /// Whether a layer's units fill one or two vectors of some level: one row of them has no time for calls, so
    /// that the caller is to be compiled for the level.
    const FILLED: bool;

    fn init<R: FnMut() -> f32>(&mut self, random: &mut R);

    fn pack(&mut self, net: &Self);

    fn step_packed_with<S: Passes, const B: usize>(
        &self,
        s: S,
        x: &[f32],
        state: &mut Self::State<B>,
        y: &mut [f32],
        scratch: &mut Self::Scratch<1, B>,
        descending: bool,
    );

    fn infer_with<S: Passes, const T: usize, const B: usize>(
        &self,
        s: S,
        x: &[f32],
        state: &mut Self::State<B>,
        y: &mut [f32],
        scratch: &mut Self::Scratch<T, B>,
    );

    fn forward_with<S: Passes, const T: usize, const B: usize>(
        &self,
        s: S,
        x: &[f32],
        state: &mut Self::State<B>,
        cache: &mut Self::Cache<T, B>,
    );

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
