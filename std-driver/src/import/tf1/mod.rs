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
mod order;
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

/// All layers; of a list of variables, those of the part that is wanted, in the order of its names.
pub(crate) fn read(source: &Source, options: &Options) -> Result<Found, Error> {
    let bytes = source.bytes();
    if ml5::is(bytes) || table::is(bytes) && !has_objects(source)? {
        return read_all(source, options);
    }
    super::whole_or_part(read_all, source, options)
}

/// Whether a checkpoint says which objects its variables are of.
fn has_objects(source: &Source) -> Result<bool, Error> {
    let (_, variables) = bundle::Bundle::open(source)?;
    Ok(objects::graph(&variables).is_some())
}

fn read_all(source: &Source, options: &Options) -> Result<Found, Error> {
    let bytes = source.bytes();
    let part = options.part.as_deref();
    let given = options.forget_bias;
    if table::is(bytes) {
        let (mut bundle, variables) = bundle::Bundle::open(source)?;
        if let Some(graph) = objects::graph(&variables) {
            let text = bundle.text(graph)?;
            return objects::found(source, &text, &variables, &mut bundle, part);
        }
        let mut said = false;
        let mut forget_bias = |notes: &mut Vec<String>| {
            if let Some(given) = given
                && !said
            {
                said = true;
                notes.push(format!(
                    "{given} was added to the biases of the forget gates."
                ));
            }
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
            if !said {
                said = true;
                notes.push(match given {
                    None => "ml5's code adds 1 to the forget gate: so does this model.".into(),
                    Some(given) => format!("{given} was added to the biases of the forget gates."),
                });
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
