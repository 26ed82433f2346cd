//! A forward and a backward pass with all their buffers.

use fused_lstm::{Backward, Extent, Model, NetworkShape};

/// Everything that the two passes give.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The last layer's hidden states.
    pub y: Vec<f32>,
    /// The states after the last step.
    pub state: Vec<f32>,
    /// Of the parameters.
    pub gradients: Vec<f32>,
    /// Of the input.
    pub dx: Vec<f32>,
    /// Of the initial states.
    pub dstate: Vec<f32>,
}

/// Runs a network from `state`, and back from the gradients of its outputs and of its
/// final states. What must be overwritten starts as NaN.
pub fn forward_and_backward(
    shape: NetworkShape,
    params: &[f32],
    extent: Extent,
    x: &[f32],
    state: &[f32],
    dy: &[f32],
    dfinal: &[f32],
) -> Outcome {
    let model = Model::new(shape, params).expect("a network");
    let mut out = Outcome {
        y: Vec::new(),
        state: state.to_vec(),
        gradients: vec![0.0; params.len()],
        dx: vec![f32::NAN; x.len()],
        dstate: dfinal.to_vec(),
    };
    let mut cache = vec![f32::NAN; shape.cache_len(extent)];
    model
        .forward(extent, x, &mut out.state, &mut cache)
        .expect("lengths that fit");
    out.y = model
        .output(extent, &cache)
        .expect("a length that fits")
        .to_vec();
    model
        .backward(
            extent,
            Backward {
                x,
                dy,
                dstate: &mut out.dstate,
                cache: &mut cache,
                gradients: &mut out.gradients,
                dx: Some(&mut out.dx),
                workspace: &mut vec![f32::NAN; shape.workspace_len(extent)],
            },
        )
        .expect("lengths that fit");
    out
}
