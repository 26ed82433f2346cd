//! TensorFlow 1: checkpoints of version 2, also those of Keras models in TensorFlow 2, frozen
//! graphs, and ml5's list of variables.

mod bundle;
mod cells;
mod crc;
mod frozen;
mod graph;
mod loops;
mod ml5;
mod objects;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod variables;

use crate::Error;
use crate::import::{Found, Options, Source};

/// Whether it is one of them.
pub(crate) fn is(source: &Source) -> bool {
    let bytes = source.bytes();
    table::is(bytes) || ml5::is(bytes) || graph::is(bytes)
}

/// All layers.
pub(crate) fn read(source: &Source, options: &Options) -> Result<Found, Error> {
    let bytes = source.bytes();
    let part = options.part.as_deref();
    let given = options.forget_bias;
    if table::is(bytes) {
        let (mut bundle, variables) = bundle::Bundle::open(source)?;
        if let Some(graph) = objects::graph(&variables) {
            let text = bundle.text(graph)?;
            return objects::found(source, &text, &variables, &mut bundle, part);
        }
        let mut forget_bias = |_: &mut Vec<String>| {
            given.ok_or_else(|| {
                source.problem(
                    "expected --forget-bias: a checkpoint does not hold what the cell adds to the \
                     forget gate (TensorFlow's default is 1, some code uses 0)",
                )
            })
        };
        return variables::found(source, variables, &mut bundle, &mut forget_bias, part);
    }
    if ml5::is(bytes) {
        let (mut manifest, variables) = ml5::Manifest::open(source)?;
        let mut said = false;
        let mut forget_bias = |notes: &mut Vec<String>| {
            if given.is_none() && !said {
                said = true;
                notes.push("ml5's code adds 1 to the forget gate: so does this model.".into());
            }
            Ok(given.unwrap_or(1.0))
        };
        return variables::found(source, variables, &mut manifest, &mut forget_bias, part);
    }
    if graph::is(bytes) {
        return frozen::found(source, options);
    }
    Err(source.problem("expected a checkpoint's index, a frozen graph or ml5's list of variables"))
}
