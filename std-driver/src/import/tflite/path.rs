//! The way from an output back to the input: the operators that are the layers.

use super::model::Model;
use super::ops;
use super::unrolled::{Chain, Rows, Unrolled};
use crate::Error;

/// A part of the way.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// An operator, and the tensors before and behind it.
    Operator {
        operator: usize,
        before: usize,
        after: usize,
    },
    /// An LSTM layer of small operators; whether only its last output is taken.
    Chain { chain: Chain, last: bool },
    /// The two operators of a layer of two directions; whether only their last outputs are taken.
    Both {
        operators: [usize; 2],
        after: usize,
        last: bool,
    },
}

/// The parts in the order in which they run.
pub(super) fn path(
    model: &Model,
    unrolled: &Unrolled,
    part: Option<&str>,
) -> Result<Vec<Part>, Error> {
    let mut at = output(model, unrolled, part)?;
    let mut parts = Vec::new();
    // As many as there are operators, or they go in circles.
    for _ in 0..=model.operators.len() {
        let packed = unrolled.packed(model, at);
        let last = unrolled.chain_to(at);
        if let Some((chain, last)) = packed
            .map(|chain| (chain, false))
            .or(last.map(|chain| (chain, true)))
        {
            // With one step, that is the whole sequence.
            let mut chain = chain.map_err(|problem| model.problem(at, problem))?;
            let mut last = last && chain.steps.len() > 1;
            loop {
                let rows = unrolled
                    .rows(model, &mut chain)
                    .map_err(|problem| model.problem(at, problem))?;
                parts.push(Part::Chain { chain, last });
                match rows {
                    Rows::Tensor(tensor) => {
                        at = tensor;
                        break;
                    }
                    Rows::Chain(before) => (chain, last) = (before, false),
                }
                if parts.len() > model.operators.len() {
                    return Err(model.problem(at, "expected layers in a row, got a circle"));
                }
            }
            continue;
        }
        let Some((operator, _)) = model.makers.get(at).copied().flatten() else {
            if model.inputs.contains(&at) {
                parts.reverse();
                return Ok(parts);
            }
            return Err(model.problem(at, "expected a way to an input, got its end"));
        };
        if let Some((operators, before, last)) = both(model, operator) {
            parts.push(Part::Both {
                operators,
                after: at,
                last,
            });
            at = before;
            continue;
        }
        let Some(found) = model.operators.get(operator) else {
            break;
        };
        let data: Vec<usize> = match found.code {
            // The states are not constants, but zeros.
            ops::UNIDIRECTIONAL_SEQUENCE_LSTM | ops::BIDIRECTIONAL_SEQUENCE_LSTM => {
                found.input(0).into_iter().collect()
            }
            _ => {
                let inputs = found.inputs();
                inputs
                    .filter(|&input| model.constant(input).is_none())
                    .collect()
            }
        };
        let [before] = data[..] else {
            let count = data.len();
            let name = ops::name(found.code);
            return Err(model.problem(
                at,
                format_args!("expected layers in a row, got {name} of {count} tensors"),
            ));
        };
        parts.push(Part::Operator {
            operator,
            before,
            after: at,
        });
        at = before;
    }
    Err(model.problem(at, "expected layers in a row, got a circle"))
}

/// A name up to the first `;`, which a shell takes for an end.
fn short(name: &str) -> &str {
    name.split(';').next().unwrap_or(name)
}

/// The output that is not a state.
fn output(model: &Model, unrolled: &Unrolled, part: Option<&str>) -> Result<usize, Error> {
    let names = |of: &[usize]| -> String {
        let names: Vec<&str> = of
            .iter()
            .take(12)
            .map(|&at| short(model.name(at)))
            .collect();
        names.join(", ")
    };
    if let Some(part) = part {
        let found = model.outputs.iter().find(|&&at| {
            let name = model.name(at);
            name == part || short(name) == part
        });
        return found.copied().ok_or_else(|| {
            let names = names(&model.outputs);
            model
                .source
                .problem(format!("part {part}: expected an output, one of {names}"))
        });
    }
    let outputs: Vec<usize> = match model.outputs[..] {
        [_] => model.outputs.clone(),
        _ => {
            let all = model.outputs.iter().copied();
            all.filter(|&at| !unrolled.is_state(model, at)).collect()
        }
    };
    match outputs[..] {
        [output] => Ok(output),
        _ => Err(model.source.problem(format!(
            "expected one output, got {}; --part chooses one by its name: {}",
            outputs.len(),
            names(&outputs)
        ))),
    }
}

/// The operator that makes a tensor, if it has a code.
fn made_by(model: &Model, tensor: usize, code: i32) -> Option<usize> {
    let (operator, _) = model.makers.get(tensor).copied().flatten()?;
    let found = model.operators.get(operator)?;
    (found.code == code).then_some(operator)
}

/// What an operator of a code takes, if a tensor is made by one.
fn before(model: &Model, tensor: usize, code: i32) -> Option<usize> {
    model.operators.get(made_by(model, tensor, code)?)?.input(0)
}

/// A layer of two directions in the form that Keras has: the one backward between two reversals,
/// both side by side. Also what they take, and whether only the last outputs are taken.
fn both(model: &Model, operator: usize) -> Option<([usize; 2], usize, bool)> {
    let found = model.operators.get(operator)?;
    if found.code != ops::CONCATENATION {
        return None;
    }
    let (first, second) = (found.input(0)?, found.input(1)?);
    if found.inputs().count() != 2 {
        return None;
    }
    // The columns, which are the last dimension.
    let dimensions = i32::try_from(model.shape(found.output()?).len()).ok()?;
    let axis = found.options?.i32(0).ok()?;
    if axis != -1 && axis.checked_add(1) != Some(dimensions) {
        return None;
    }
    let one = ops::UNIDIRECTIONAL_SEQUENCE_LSTM;
    let reversed = |tensor: usize| {
        let reverse = model
            .operators
            .get(made_by(model, tensor, ops::REVERSE_V2)?)?;
        let axis = model.integers(reverse.input(1)?)?;
        (axis == [1] || axis == [-2]).then(|| reverse.input(0))?
    };
    let (last, forward, backward) = match made_by(model, first, ops::STRIDED_SLICE) {
        Some(_) => {
            let slices = [first, second].map(|tensor| {
                let slice = made_by(model, tensor, ops::STRIDED_SLICE)?;
                let of = before(model, tensor, ops::STRIDED_SLICE)?;
                (super::layers::last_of(model, slice)? == 1).then_some(of)
            });
            (true, slices[0]?, slices[1]?)
        }
        None => (false, first, reversed(second)?),
    };
    let operators = [
        made_by(model, forward, one)?,
        made_by(model, backward, one)?,
    ];
    let from = before(model, forward, one)?;
    let same = reversed(before(model, backward, one)?)? == from;
    same.then_some((operators, from, last))
}
