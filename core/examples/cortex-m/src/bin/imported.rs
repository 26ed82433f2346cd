//! Imported networks on a microcontroller: the model of an amplifier, one sample after the other, and
//! a word segmenter that looks at a text from both ends, both where they lie in flash.
//!
//! `amp.rs` and `words.rs` are what `fused-lstm export --format rust` writes, and the numbers beside
//! them what `fused-lstm run` gives on a desktop. Prints what it measures through semihosting, and ends
//! with code 0 only if every output is within 2e-6 of these.

#![no_std]
#![no_main]

#[path = "../board.rs"]
#[allow(dead_code, reason = "the other program uses all of it")]
mod board;

#[allow(dead_code, reason = "a network says more than one program needs")]
mod amp {
    include!(concat!(env!("OUT_DIR"), "/amp.rs"));
}
#[allow(dead_code, reason = "a network says more than one program needs")]
mod words {
    include!(concat!(env!("OUT_DIR"), "/words.rs"));
}
mod expected {
    include!(concat!(env!("OUT_DIR"), "/expected.rs"));
}

use fused_lstm::{Flat, Network};
use semihosting::println;

/// The largest difference from a desktop, whose kernels fuse multiplications and additions.
const TOLERANCE: f32 = 2e-6;

// Every output is compared.
const _: () = assert!(expected::AMP_X.len() == expected::AMP_Y.len());
const _: () = assert!(expected::WORDS_Y.len() == LENGTHS.y);

/// Whether all is well; says so if it is not.
fn check(holds: bool, what: &str) -> bool {
    if !holds {
        println!("FAILED: {what}");
    }
    holds
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    let each = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    // NaN is no distance that is allowed.
    each.fold(0.0, |most, d| if d <= most { most } else { d })
}

/// The amplifier: a plain network with a head, and the state that was learned with it.
fn amplify(counter: &board::Counter) -> bool {
    let weights = amp::NET.as_flat().as_ptr() as usize;
    let mut all = check(
        board::FLASH.contains(&weights),
        "the amplifier lies in flash",
    );
    let mut state = amp::STATE.0;
    let mut largest = 0.0;
    let mut cost = (0, 0);
    for (&sample, &expected) in expected::AMP_X.iter().zip(&expected::AMP_Y) {
        let mut out = [[[0.0]]];
        cost = counter.measure(|| {
            let mut y = Flat::zero();
            amp::NET.lstm.step(&[[[sample]]], &mut state, &mut y);
            out = amp::NET.dense.forward(&y);
        });
        largest = distance(&[out[0][0][0]], &[expected]).max(largest);
    }
    all &= check(largest <= TOLERANCE, "the samples are those of a desktop");
    println!("amp, flash weights: {} bytes", size_of_val(&amp::NET));
    println!("amp, RAM of the state: {} bytes", size_of_val(&state));
    println!("amp, instructions per sample: {}", cost.0);
    println!("amp, deepest stack: {} bytes", cost.1);
    all
}

/// The steps of a text.
const STEPS: usize = expected::WORDS_X.len();
const LENGTHS: fused_lstm::ChainLengths = words::lengths(STEPS);

/// The segmenter: a table, a layer in both directions, and probabilities.
fn segment(counter: &board::Counter) -> bool {
    let weights = words::PARAMS.as_ptr() as usize;
    let mut all = check(
        board::FLASH.contains(&weights),
        "the segmenter lies in flash",
    );
    let mut y = [0.0; LENGTHS.y];
    let mut scratch = [0.0; LENGTHS.scratch];
    let mut result = Ok(());
    let (instructions, stack) = counter.measure(|| {
        result = words::run(STEPS, &expected::WORDS_X, &mut y, &mut scratch);
    });
    let largest = distance(&y, &expected::WORDS_Y);
    all &= check(result.is_ok(), "the segmenter takes the text");
    all &= check(
        largest <= TOLERANCE,
        "the probabilities are those of a desktop",
    );
    println!(
        "words, flash weights: {} bytes",
        size_of_val(&words::PARAMS)
    );
    println!(
        "words, RAM for {STEPS} steps: {} bytes",
        size_of_val(&y) + size_of_val(&scratch)
    );
    println!(
        "words, instructions per step: {}",
        instructions / STEPS as u32
    );
    println!("words, deepest stack: {stack} bytes");
    all
}

fn run() -> bool {
    println!("board: {}", board::NAME);
    println!("flash code: {} bytes", board::code_bytes());
    let counter = board::Counter::new();
    amplify(&counter) & segment(&counter)
}
