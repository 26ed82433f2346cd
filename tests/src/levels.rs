//! Runs a test at every level that the machine has.

use fused_lstm::Level;
use std::sync::{Mutex, PoisonError};

/// The level is the whole process's, so one test at a time may choose it.
static CHOICE: Mutex<()> = Mutex::new(());

/// Runs `test` at every available level, slowest first, and gives the results.
pub fn each_level<T>(mut test: impl FnMut(Level) -> T) -> Vec<(Level, T)> {
    let _alone = CHOICE.lock().unwrap_or_else(PoisonError::into_inner);
    let best = Level::available()
        .last()
        .expect("the portable level is always there");
    let mut results = Vec::new();
    for level in Level::available() {
        assert!(level.force());
        results.push((level, test(level)));
    }
    assert!(best.force());
    results
}

/// Runs `test` at every level and asserts that levels of a kind agree in every bit.
pub fn same_bits_at_each_level(mut test: impl FnMut() -> Vec<f32>) {
    let results = each_level(|_| bits(&test()));
    for (level, result) in &results {
        for (other, theirs) in &results {
            if level.is_fused() == other.is_fused() {
                assert!(result == theirs, "{level} and {other} differ");
            }
        }
    }
}

/// The bits of numbers, to compare exactly.
pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}
