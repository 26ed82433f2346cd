//! The recorded runs with sizes as types, to be held against what a desktop gave.

#![allow(unsafe_code)]

use crate::room::Room;
use fused_lstm_replay::recorded::{
    INFER_STEPS, PORTABLE, QUANTIZED, QUANTIZED_STEPS, SEED, TRAIN_STEPS,
};
use fused_lstm_replay::{NET, Quantized, Stream, Training};

static ONE: Room<Training<1>> = Room::new(Training::ZERO);
static FIVE: Room<Training<5>> = Room::new(Training::ZERO);

/// The hash of the losses, 0 if the training failed.
fn train<const B: usize>(room: &Room<Training<B>>) -> u32 {
    let hash = room.lend(|training| {
        training.start(SEED);
        training.run(TRAIN_STEPS).ok()?;
        Some(training.hash.0)
    });
    hash.flatten().unwrap_or(0)
}

/// The hash of all probabilities of a run of inference.
// SAFETY: no other function has the name; the same goes for all below.
#[unsafe(no_mangle)]
pub extern "C" fn replay_infer() -> u32 {
    let mut stream = Stream::START;
    for _ in 0..INFER_STEPS {
        stream.step(&NET);
    }
    stream.hash.0
}

/// The hash of all states and words of a run through int8 weights, 0 if they cannot be packed.
#[unsafe(no_mangle)]
pub extern "C" fn replay_quantized() -> u32 {
    let mut quantized = Quantized::ZERO;
    let ran = quantized.run(QUANTIZED_STEPS);
    ran.map_or(0, |()| quantized.hash.0)
}

/// The same on a desktop.
#[unsafe(no_mangle)]
pub extern "C" fn recorded_quantized() -> u32 {
    QUANTIZED.0
}

/// The hash of all losses of a training with one row,
#[unsafe(no_mangle)]
pub extern "C" fn replay_train_1() -> u32 {
    train(&ONE)
}

/// and with five.
#[unsafe(no_mangle)]
pub extern "C" fn replay_train_5() -> u32 {
    train(&FIVE)
}

/// What the first of these is on a desktop,
#[unsafe(no_mangle)]
pub extern "C" fn recorded_infer() -> u32 {
    PORTABLE.infer.0
}

/// the second,
#[unsafe(no_mangle)]
pub extern "C" fn recorded_train_1() -> u32 {
    PORTABLE.train_1.0
}

/// and the third.
#[unsafe(no_mangle)]
pub extern "C" fn recorded_train_5() -> u32 {
    PORTABLE.train_5.0
}
