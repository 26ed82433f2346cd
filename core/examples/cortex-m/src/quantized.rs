//! Weights of int8: a step of 32 inputs and 32 units from flash, and a run that has the desktop's bits.

use crate::{board, check, print_cost};
use fused_lstm::{LayerShape, NarrowLayer, Storage, Zigzag};
use fused_lstm_replay::Quantized;
use fused_lstm_replay::recorded::{QUANTIZED, QUANTIZED_STEPS};
use semihosting::println;

const WIDE: LayerShape = LayerShape::new(32, 32);
const WORDS: usize = Storage::Int8.words_len(WIDE);

pub fn run(counter: &board::Counter) -> bool {
    wide_step(counter);
    let mut run = Quantized::ZERO;
    let ran = run.run(QUANTIZED_STEPS).is_ok();
    check(ran, "random weights can be packed")
        & check(
            run.hash == QUANTIZED,
            "int8 weights have the desktop's bits",
        )
}

fn wide_step(counter: &board::Counter) {
    static LAYER: [u32; WORDS] = wide();
    println!(
        "flash weights of 32 inputs and 32 units, int8: {} bytes",
        size_of_val(&LAYER)
    );
    let x = core::array::from_fn::<f32, 32, _>(|k| k as f32 / 16.0 - 1.0);
    let (mut state, mut zigzag) = ([0.0; WIDE.state_len(1)], Zigzag::NEW);
    let mut scratch = [0.0; NarrowLayer::scratch_for(WIDE)];
    let (instructions, stack) = counter.measure(|| {
        let layer = NarrowLayer::new(WIDE, Storage::Int8, &LAYER);
        let _ = layer.and_then(|layer| layer.step(1, &x, &mut state, &mut zigzag, &mut scratch));
    });
    print_cost(
        "int8 step of 32 inputs and 32 units",
        instructions,
        64 * 4 * 32,
    );
    println!("deepest stack of an int8 step: {stack} bytes");
}

/// Weights that are not zero, and factors as a layer of this size has them.
const fn wide() -> [u32; WORDS] {
    let mut words = [0; WORDS];
    let mut k = 0;
    while k < WORDS {
        // The first three rows of every panel are biases and scales.
        words[k] = if k % (WORDS / 2) < 3 * 32 {
            0x3800_3800
        } else {
            (k as u32).wrapping_mul(0x9e37_79b9)
        };
        k += 1;
    }
    words[WORDS - 4] = 1e-5f32.to_bits();
    words[WORDS - 3] = 2048.0f32.to_bits();
    words[WORDS - 2] = 2048.0f32.to_bits();
    words[WORDS - 1] = 2048.0f32.to_bits();
    words
}
