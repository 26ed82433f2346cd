//! Any bytes as a file: reading gives a network or an error of one line, and a network
//! that was read can be run and comes back the same.

#![no_main]

use fused_lstm_driver::checkpoint::Checkpoint;
use fused_lstm_driver::data::GivenData;
use fused_lstm_driver::infer::{self, Options};
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
    if let Err(error) = GivenData::read(&file, 1) {
        one_line(&error);
    }
    let resumed = Checkpoint::read(&file).and_then(|checkpoint| {
        let settings = checkpoint.settings().clone();
        checkpoint.resume(settings)
    });
    match resumed {
        Ok(mut trainer) => {
            if let Err(error) = trainer.step() {
                one_line(&error);
            }
        }
        Err(error) => one_line(&error),
    }
    match Weights::read(&file) {
        Ok(weights) => {
            assert_eq!(weights.params.len(), weights.shape().params_len());
            assert!(weights.params.iter().all(|w| w.is_finite()));
            let options = Options {
                batch_first: true,
                outputs: None,
            };
            if let Err(error) = infer::infer(&weights, &file, Some(&file), &options) {
                one_line(&error);
            }
        }
        Err(error) => one_line(&error),
    }
    // The same bytes as inputs of a small network.
    let mut weights = Weights {
        inputs: 1,
        hidden: vec![2, 3],
        classes: Some(2),
        params: Vec::new(),
        start: None,
    };
    weights.params = vec![0.1; weights.shape().params_len()];
    if let Err(error) = infer::infer(&weights, &file, None, &Options::default()) {
        one_line(&error);
    }
});

fn one_line(error: &fused_lstm_driver::Error) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
}
