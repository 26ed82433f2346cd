//! `verify`: a model against the inputs and outputs that another system recorded, and what is wrong
//! with it if they differ.

mod mistakes;
mod reference;

use crate::Error;
use crate::chain::ChainModel;
use crate::tensors::TensorFile;
use fused_lstm::Stage;
use reference::{Comparison, compare};

/// How to verify.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The largest difference that is allowed; of numbers above 1, the largest relative one.
    pub tolerance: f32,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Report {
    /// The outputs that were compared.
    pub outputs: Vec<Output>,
    /// Keys of the reference that say nothing about this model, or that nobody knows here.
    pub passed_over: Vec<String>,
    /// What would explain the differences, if they are too large.
    pub mistakes: Vec<Mistake>,
}

/// A usual mistake, and how near the reference the model is once it is undone.
#[derive(Clone, Debug)]
pub struct Mistake {
    /// What it is.
    pub name: String,
    /// The largest difference that is left.
    pub largest: f32,
}

/// An output and how far it is from the reference's.
#[derive(Clone, Debug)]
pub struct Output {
    /// The reference's key.
    pub key: String,
    /// The largest difference, divided by the reference's number where that is above 1; NaN where a
    /// number is none.
    pub largest: f32,
    /// Where it is, in the reference's shape.
    pub place: Vec<usize>,
    /// The model's number there.
    pub got: f32,
    /// The reference's.
    pub expected: f32,
}

impl Report {
    /// Whether all outputs are within the tolerance.
    pub fn is_good(&self, options: &Options) -> bool {
        self.outputs
            .iter()
            .all(|output| output.largest <= options.tolerance)
    }
}

/// Runs the model on every input that the reference has and compares every output. Refuses a
/// reference that says nothing about the model.
pub fn verify(
    model: &ChainModel,
    reference: &TensorFile,
    options: &Options,
) -> Result<Report, Error> {
    let Comparison {
        outputs,
        passed_over,
    } = compare(model, reference, false)?;
    if outputs.is_empty() {
        let shapes = reference.keys().into_iter().map(|key| {
            let shape = reference
                .numbers(&key)
                .map(|(shape, _)| format!(" {shape:?}"));
            format!("{key}{}", shape.unwrap_or_default())
        });
        let got = shapes.collect::<Vec<_>>().join(", ");
        let inputs = model.inputs;
        return Err(reference.problem(format!(
            "expected x and y of the LSTM layers, or model.x [T, B, {inputs}] and model.y, got {got}"
        )));
    }
    let mut report = Report {
        outputs,
        passed_over,
        mistakes: Vec::new(),
    };
    // The usual mistakes are looked for in kernels, which words are not.
    let narrow = model.kinds().iter().any(Stage::is_narrow);
    if !report.is_good(options) && !narrow {
        report.mistakes = mistakes::find(model, reference, options)?;
    }
    Ok(report)
}
