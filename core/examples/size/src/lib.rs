//! Functions that a linker keeps with all that they reach, and nothing else.

#![no_std]
#![allow(unsafe_code)]

use fused_lstm::{
    ArgumentError, Buffers, Chain, Extent, LayerShape, NarrowLayer, Stage, Storage, Zigzag,
};
use fused_lstm_replay::{Layers, Net, Training};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// A step of inference of the echo network.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn echo_step(
    net: &Net,
    x: &[[[f32; 1]; 1]; 1],
    state: &mut <Layers as Buffers>::State<1>,
    y: &mut [[[f32; 4]; 1]; 1],
    probabilities: &mut [[[f32; 2]; 1]; 1],
    scratch: &mut <Layers as Buffers>::Scratch<1, 1>,
) {
    net.infer::<1, 1>(x, state, y, probabilities, scratch);
}

/// A layer of the echo network with int8 weights, and what it needs.
pub struct Int8 {
    inputs: usize,
    words: &'static [u32],
    state: [f32; 8],
    zigzag: Zigzag,
}

/// A step of inference of the echo network's layers with int8 weights.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub fn echo_int8_step(layers: &mut [Int8; 3], x: f32, y: &mut [f32; 4]) -> bool {
    let mut scratch = [0.0; NarrowLayer::scratch_for(LayerShape::new(4, 4))];
    let step = || -> Result<(), ArgumentError> {
        let mut x = [x, 0.0, 0.0, 0.0];
        for layer in layers {
            let shape = LayerShape::new(layer.inputs, 4);
            let net = NarrowLayer::new(shape, Storage::Int8, layer.words)?;
            let inputs = x.get(..layer.inputs).unwrap_or(&[]);
            let room = scratch.get_mut(..NarrowLayer::scratch_for(shape));
            let room = room.unwrap_or_default();
            net.step(1, inputs, &mut layer.state, &mut layer.zigzag, room)?;
            x.copy_from_slice(layer.state.last_chunk().unwrap_or(&[0.0; 4]));
        }
        *y = x;
        Ok(())
    };
    step().is_ok()
}

/// A training step on what was read: forward, softmax cross-entropy, backward, Adagrad.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub extern "C" fn echo_train(training: &mut Training<1>) -> f32 {
    training.learn().unwrap_or(f32::NAN)
}

/// A sequence through any chain.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
pub fn chain_run(
    stages: &[Stage],
    params: &[f32],
    steps: usize,
    x: &[f32],
    state: &mut [f32],
    y: &mut [f32],
    scratch: &mut [f32],
) -> bool {
    let extent = Extent { steps, batch: 1 };
    Chain::new(1, stages, params)
        .and_then(|chain| chain.run(extent, None, x, state, y, scratch))
        .is_ok()
}
