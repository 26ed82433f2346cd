//! Functions that a linker keeps with all that they reach, and nothing else.

#![no_std]
#![allow(unsafe_code)]

use fused_lstm::{Buffers, Chain, Extent, Stage};
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
