//! Any bytes as a file: reading gives a network or an error of one line, and a network
//! that was read can be run and comes back the same.

#![no_main]

use fused_lstm_driver::infer;
use fused_lstm_driver::tensors::TensorFile;
use fused_lstm_driver::weights::Weights;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let read = TensorFile::from_bytes(Path::new("fuzzed"), bytes.to_vec());
    let file = match read {
        Ok(file) => file,
        Err(error) => return one_line(&error),
    };
    let _ = file.metadata();
    match Weights::read(&file) {
        Ok(weights) => {
            assert_eq!(weights.params.len(), weights.shape().params_len());
            assert!(weights.params.iter().all(|w| w.is_finite()));
            if let Err(error) = infer::infer(&weights, &file, true) {
                one_line(&error);
            }
        }
        Err(error) => one_line(&error),
    }
    // The same bytes as inputs of a small network.
    let weights = Weights {
        inputs: 1,
        hidden: vec![2, 3],
        classes: Some(2),
        params: vec![0.1; 107],
    };
    assert_eq!(weights.params.len(), weights.shape().params_len());
    if let Err(error) = infer::infer(&weights, &file, false) {
        one_line(&error);
    }
});

fn one_line(error: &fused_lstm_driver::Error) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
}
