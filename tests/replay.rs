//! Runs that are recorded: every level of a kind, on every machine, repeats them bit for bit.
//! The same runs are held on microcontrollers and in the browser.

use fused_lstm::Level;
use fused_lstm_replay::recorded::{
    FUSED, INFER_STEPS, PORTABLE, QUANTIZED, QUANTIZED_STEPS, Recorded, SEED, TRAIN_STEPS,
};
use fused_lstm_replay::{DELAY, Hash, NET, Quantized, Stream, Training};
use fused_lstm_tests::levels::each_level;

fn train<const B: usize>() -> Hash {
    let mut training = Box::new(Training::<B>::ZERO);
    training.start(SEED);
    training.run(TRAIN_STEPS).unwrap();
    assert!(training.mean < 0.05, "{B} rows: {}", training.mean);
    training.hash
}

#[test]
fn every_level_repeats_what_was_recorded() {
    each_level(|level: Level| {
        let mut stream = Stream::START;
        for _ in 0..INFER_STEPS {
            stream.step(&NET);
        }
        let first = DELAY as u32;
        assert!(stream.right >= INFER_STEPS - first, "{}", stream.right);
        let got = Recorded {
            infer: stream.hash,
            train_1: train::<1>(),
            train_5: train::<5>(),
        };
        let recorded = if level.is_fused() { FUSED } else { PORTABLE };
        assert_eq!(got, recorded, "{level}");
    });
}

#[test]
fn int8_weights_repeat_it_at_levels_of_both_kinds() {
    each_level(|level: Level| {
        let mut quantized = Quantized::ZERO;
        quantized.run(QUANTIZED_STEPS).unwrap();
        assert_eq!(quantized.hash, QUANTIZED, "{level}");
    });
}
