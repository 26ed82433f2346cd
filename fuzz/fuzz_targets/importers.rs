//! Any bytes as a network of another system: a model, or an error of one line; and a model that was
//! read can be run and written again.

#![no_main]

use clap::ValueEnum;
use fused_lstm::Extent;
use fused_lstm_driver::chain::Runner;
use fused_lstm_driver::import::{self, Format, Options};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

/// A folder that is not there: no shard is read.
const PATH: &str = "/nowhere/fuzzed";

fuzz_target!(|bytes: &[u8]| {
    read(bytes, None, &Options::default());
    // A checkpoint of TensorFlow 1 is not read without.
    let options = Options {
        forget_bias: Some(1.0),
        ..Options::default()
    };
    read(bytes, Some(Format::Tf1), &options);
    // The last byte says a format, so that those are reached that the content does not show.
    if let Some((&which, bytes)) = bytes.split_last() {
        let formats = Format::value_variants();
        read(
            bytes,
            formats.get(usize::from(which) % formats.len()).copied(),
            &options,
        );
    }
});

fn read(bytes: &[u8], format: Option<Format>, options: &Options) {
    match import::read(Path::new(PATH), bytes.to_vec(), format, options) {
        Ok((model, _)) => {
            assert!(model.params.iter().all(|v| v.is_finite()));
            if model.params.len() > 1 << 16 {
                return;
            }
            let mut runner = Runner::new(&model).expect("stages that fit each other");
            let extent = Extent { steps: 2, batch: 1 };
            let mut state = runner.start(1).expect("a state");
            let run = runner.run(extent, &vec![0.0; 2 * model.inputs], &mut state);
            if let Err(error) = run {
                one_line(&error);
            }
        }
        Err(error) => one_line(&error),
    }
}

fn one_line(error: &fused_lstm_driver::Error) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
}
