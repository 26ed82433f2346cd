//! `run`: inference of a file's network on a file's input.

use crate::Error;
use crate::parallel::InferParts;
use crate::tensors::{self, NamedTensor, TensorFile, index_of};
use crate::units::{self, InferUnits};
use crate::weights::Weights;
use fused_lstm::{Extent, loss};
use std::path::Path;

/// Runs the network of `model` on `x` f32 `[T, B, I]` of `input` (`[B, T, I]` if
/// `batch_first`), from `state.{layer}` f32 `[2, B, H]` where the input has it and from
/// zeros where not, and writes `y` (the last layer's hidden states), `logits` and
/// `probabilities` if there is a head, and `state.{layer}`.
pub fn run(model: &Path, input: &Path, output: &Path, batch_first: bool) -> Result<(), Error> {
    tensors::check_writable(output)?;
    let weights = Weights::open(model)?;
    let input = TensorFile::open(input)?;
    let results = infer(&weights, &input, batch_first)?;
    tensors::write(output, &results, None)
}

/// The same without the files: the tensors that [`run`] writes.
pub fn infer(
    weights: &Weights,
    input: &TensorFile,
    batch_first: bool,
) -> Result<Vec<NamedTensor>, Error> {
    let shape = weights.shape();
    let model = weights.model()?;
    let layers = weights.hidden.len();
    let is_state = |key: &str| {
        let index = key.strip_prefix("state.").and_then(index_of);
        index.is_some_and(|index| index < layers)
    };
    let expected = format!("x and state.0 to state.{}", layers - 1);
    input.only_keys(|key| key == "x" || is_state(key), &expected)?;

    let (x_shape, mut x) = input.f32("x")?;
    let (extent, order) = match x_shape[..] {
        [batch, steps, _] if batch_first => (Extent { steps, batch }, "B, T"),
        [steps, batch, _] => (Extent { steps, batch }, "T, B"),
        _ => (
            Extent { steps: 0, batch: 0 },
            if batch_first { "B, T" } else { "T, B" },
        ),
    };
    if x_shape.len() != 3 || x_shape[2] != shape.inputs || extent.rows() == 0 {
        let inputs = shape.inputs;
        let problem = format!(
            "key x: expected shape [{order}, {inputs}] with at least one of each, got {x_shape:?}"
        );
        return Err(input.problem(problem));
    }
    if batch_first {
        x = swap_first_two(&x, extent.batch, extent.steps);
    }
    let mut state = Vec::new();
    for (index, layer) in shape.layers().enumerate() {
        let key = format!("state.{index}");
        if input.has(&key) {
            state.extend(input.f32_of_shape(&key, &[2, extent.batch, layer.hidden])?);
        } else {
            state.resize(state.len() + layer.state_len(extent.batch), 0.0);
        }
    }

    let mut y = vec![0.0; extent.rows() * shape.outputs()];
    let parts = rayon::current_num_threads();
    if units::pays(shape, extent.batch, parts) {
        InferUnits::new(model, extent.batch, parts)?.infer(extent.steps, &x, &mut state, &mut y)?;
    } else {
        InferParts::new(shape, extent, parts).infer(model, &x, &mut state, &mut y)?;
    }

    let mut results = Vec::new();
    let mut push = |name: &str, width: usize, values: &[f32]| {
        let (first, second) = if batch_first {
            (extent.batch, extent.steps)
        } else {
            (extent.steps, extent.batch)
        };
        let swapped;
        let values = if batch_first {
            swapped = swap_first_two(values, extent.steps, extent.batch);
            &swapped
        } else {
            values
        };
        results.push(NamedTensor::f32(name, &[first, second, width], values));
    };
    push("y", shape.outputs(), &y);
    if let Some(classes) = shape.classes {
        let mut logits = vec![0.0; shape.logits_len(extent)];
        model.logits(extent, &y, &mut logits)?;
        push("logits", classes, &logits);
        loss::softmax(classes, &mut logits)?;
        push("probabilities", classes, &logits);
    }
    let mut rest = &state[..];
    for (index, layer) in shape.layers().enumerate() {
        let (own, after) = rest.split_at(layer.state_len(extent.batch));
        rest = after;
        let shape = [2, extent.batch, layer.hidden];
        results.push(NamedTensor::f32(format!("state.{index}"), &shape, own));
    }
    Ok(results)
}

/// `[first, second, width]` as `[second, first, width]`.
fn swap_first_two(values: &[f32], first: usize, second: usize) -> Vec<f32> {
    let width = values.len() / (first * second);
    let row = |a: usize, b: usize| &values[(a * second + b) * width..][..width];
    (0..second)
        .flat_map(|b| (0..first).flat_map(move |a| row(a, b)))
        .copied()
        .collect()
}
