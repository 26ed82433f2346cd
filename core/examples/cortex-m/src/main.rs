//! Echo on a microcontroller: the trained network is stepped where it lies in flash, another
//! one learns in static memory, and both give the bits that a desktop gives.
//!
//! Prints what it measures through semihosting, and ends with code 0 only if every check held.

#![no_std]
#![no_main]

mod board;
#[cfg(feature = "train")]
mod once;
mod quantized;

use fused_lstm::{Flat, Lstm, LstmState, Network};
use fused_lstm_replay::recorded::{INFER_STEPS, PORTABLE};
use fused_lstm_replay::{DELAY, NET, Net, Stream};
use semihosting::println;

/// Multiply–adds of a step of three layers of 4 units and a head of 2 classes.
const ECHO_PRODUCTS: u32 = 4 * 4 * ((1 + 4) + (4 + 4) + (4 + 4)) + 4 * 2;

/// Whether all is well; says so if it is not.
fn check(holds: bool, what: &str) -> bool {
    if !holds {
        println!("FAILED: {what}");
    }
    holds
}

/// Prints a number of instructions, and how many these are for each product.
fn print_cost(what: &str, instructions: u32, products: u32) {
    let hundredths = u64::from(instructions) * 100 / u64::from(products);
    let (whole, part) = (hundredths / 100, hundredths % 100);
    println!("instructions per {what}: {instructions}");
    println!("instructions per multiply-add of it: {whole}.{part:02}");
}

fn run() -> bool {
    println!("board: {}", board::NAME);
    println!("flash code: {} bytes", board::code_bytes());
    println!("flash weights: {} bytes", size_of::<Net>());
    println!("static RAM: {} bytes", board::static_bytes());
    let counter = board::Counter::new();
    let inferred = infer(&counter);
    wide_step(&counter);
    let inferred = quantized::run(&counter) & inferred;
    #[cfg(feature = "train")]
    let inferred = train::run(&counter) & inferred;
    inferred
}

/// The trained network, bit by bit.
fn infer(counter: &board::Counter) -> bool {
    let weights = NET.as_flat().as_ptr() as usize;
    let mut all = check(board::FLASH.contains(&weights), "the weights lie in flash");

    let mut stream = Stream::START;
    let (instructions, stack) = counter.measure(|| stream.infer(&NET));
    print_cost("inference step", instructions, ECHO_PRODUCTS);
    println!("deepest stack of an inference step: {stack} bytes");

    let mut stream = Stream::START;
    for _ in 0..INFER_STEPS {
        stream.step(&NET);
    }
    println!("steps predicted: {} of {INFER_STEPS}", stream.right);
    all &= check(
        stream.right >= INFER_STEPS - DELAY as u32,
        "every bit comes back",
    );
    all & check(
        stream.hash == PORTABLE.infer,
        "the probabilities have the desktop's bits",
    )
}

/// One step of 32 inputs and 32 units, from flash, for comparison with others.
fn wide_step(counter: &board::Counter) {
    static WIDE: Lstm<32, 32> = wide();
    let x = [[core::array::from_fn(|k| k as f32 / 16.0 - 1.0)]];
    let (mut state, mut y) = (LstmState::ZERO, Flat::zero());
    let (instructions, _) = counter.measure(|| WIDE.step(&x, &mut state, &mut y));
    print_cost("step of 32 inputs and 32 units", instructions, 64 * 4 * 32);
}

/// Weights that are not zero.
const fn wide() -> Lstm<32, 32> {
    let mut net = Lstm::ZERO;
    let mut k = 0;
    while k < 32 * 4 * 32 {
        let value = ((k * 37 % 101) as f32 - 50.0) / 400.0;
        net.input_kernel[k / 128][k / 32 % 4][k % 32] = value;
        net.recurrent_kernel[k / 128][k / 32 % 4][k % 32] = -value;
        k += 1;
    }
    net
}

#[cfg(feature = "train")]
mod train {
    use crate::once::Once;
    use crate::{ECHO_PRODUCTS, board, check, print_cost};
    use fused_lstm_replay::recorded::{PORTABLE, SEED, TRAIN_STEPS};
    use fused_lstm_replay::{Hash, STEPS, Training};
    use semihosting::println;

    static ONE: Once<Training<1>> = Once::new(Training::ZERO);
    static FIVE: Once<Training<5>> = Once::new(Training::ZERO);

    pub fn run(counter: &board::Counter) -> bool {
        learn(counter, ONE.take(), PORTABLE.train_1) & learn(counter, FIVE.take(), PORTABLE.train_5)
    }

    fn learn<const B: usize>(
        counter: &board::Counter,
        training: Option<&'static mut Training<B>>,
        recorded: Hash,
    ) -> bool {
        let Some(training) = training else {
            return check(false, "the room for training is free");
        };
        println!("rows: {B}");
        println!("static RAM of training: {} bytes", size_of::<Training<B>>());
        training.start(SEED);
        training.read();
        let mut learnt = true;
        let (instructions, stack) = counter.measure(|| learnt = training.learn().is_ok());
        // Forward, and twice as many backward: for the gradients of weights and of inputs.
        let products = 3 * ECHO_PRODUCTS * (B * STEPS) as u32;
        print_cost("training step", instructions, products);
        println!("deepest stack of a training step: {stack} bytes");

        training.start(SEED);
        learnt &= training.run(TRAIN_STEPS).is_ok();
        let millionths = (training.mean * 1e6) as u32;
        println!("mean loss after {TRAIN_STEPS} steps: 0.{millionths:06}");
        check(learnt, "every label is a class")
            & check(training.mean < 0.05, "the loss falls below 0.05")
            & check(
                training.hash == recorded,
                "the losses have the desktop's bits",
            )
    }
}
