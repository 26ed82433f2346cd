//! Inference through a chain.

use super::{Options, Output};
use crate::Error;
use crate::chain::{ChainModel, Runner, named, state_tensors_of};
use crate::tensors::{NamedTensor, TensorFile};
use fused_lstm::{Extent, Stage};
use std::path::Path;

/// Runs the chain on `x` `[T, B, I]`, or on the numbers `x` or `ids` `[T, B]` where it begins with a
/// table; `lengths` int32 `[B]`, if it is there, says how many steps each row has. The state is taken
/// as [`infer`](super::infer) does it. Gives `y` and `state.N`.
pub(super) fn infer(
    model: &ChainModel,
    input: &TensorFile,
    state: Option<&TensorFile>,
    options: &Options,
) -> Result<Vec<NamedTensor<'static>>, Error> {
    let one = state_tensors_of(&model.stages, 1);
    let is_state = |key: &str| one.iter().any(|(name, _)| name == key);
    let states: Vec<_> = one.iter().map(|(name, _)| name.as_str()).collect();
    let expected = format!("x, ids, lengths, {}", states.join(", "));
    for file in [Some(input), state].into_iter().flatten() {
        let known = |key: &str| is_state(key) || matches!(key, "x" | "ids" | "lengths" | "y");
        file.only_keys(known, &expected)?;
    }
    let asked = options
        .outputs
        .as_deref()
        .unwrap_or(&[Output::Y, Output::State]);
    if let Some(other) = asked
        .iter()
        .find(|o| !matches!(o, Output::Y | Output::State))
    {
        let got = match other {
            Output::Logits => "logits",
            _ => "probabilities",
        };
        return Err(Error::setting(
            "outputs",
            "y or state, which a chain has",
            got,
        ));
    }
    let (extent, x) = read(model, input, options.batch_first)?;
    let lengths = match input.has("lengths") {
        true => Some(lengths(input, extent)?),
        false => None,
    };
    let mut runner = Runner::new(model)?;
    let mut start = runner.start(extent.batch)?;
    let tensors = state_tensors_of(&model.stages, extent.batch);
    let mut at = 0;
    for (key, shape) in &tensors {
        let len: usize = shape.iter().product();
        let files = [Some(input), state];
        if let Some(file) = files.into_iter().flatten().find(|file| file.has(key)) {
            start[at..at + len].copy_from_slice(&file.f32_of_shape(key, shape)?);
        }
        at += len;
    }
    let y = runner.run_rows(extent, lengths.as_deref(), &x, &mut start);
    let y = y.map_err(|error| match error {
        Error::Shape(error) => input.problem(error.to_string()),
        other => other,
    })?;
    let mut results = Vec::new();
    if asked.contains(&Output::Y) {
        let width = runner.outputs();
        let steps = y.len() / (extent.batch * width).max(1);
        let (shape, y) = if options.batch_first {
            (
                [extent.batch, steps, width],
                turned(&y, steps, extent.batch, width),
            )
        } else {
            ([steps, extent.batch, width], y)
        };
        results.push(NamedTensor::f32("y", &shape, y));
    }
    if asked.contains(&Output::State) {
        for tensor in named(tensors, &start) {
            results.push(tensor.into_owned()?);
        }
    }
    Ok(results)
}

/// Inputs of a chain from a file, as a run takes them.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Steps and rows.
    pub extent: Extent,
    /// `[T, B, I]`
    pub x: Vec<f32>,
    /// The steps of each row, if the file says them.
    pub lengths: Option<Vec<usize>>,
    /// Classes, if the file has `labels`, and their shape.
    pub labels: Option<(Vec<usize>, Vec<i32>)>,
}

impl Inputs {
    /// Reads a file by its content: safetensors, WAV, NPY or CSV. Of a reference as `verify` takes
    /// them, the inputs are those of the whole model, or `x` or `lstm.0.x` of a model that begins with
    /// the layer: the first that has the model's width. They are time-major unless `batch_first`; those
    /// of a reference with `model.y` are in the order with which the model is nearer to it.
    pub fn read(path: &Path, model: &ChainModel, batch_first: bool) -> Result<Self, Error> {
        let super::read::Input {
            tensors: input,
            sample_rate,
        } = super::read::read(path, model.inputs)?;
        if let (Some(expected), Some(got)) = (model.sample_rate, sample_rate)
            && expected != f64::from(got)
        {
            let problem =
                format!("expected {expected} samples a second, as the model has, got {got}");
            return Err(Error::file(path, problem));
        }
        let is_lstm =
            matches!(model.stages.first(), Some(stage) if matches!(stage.stage, Stage::Lstm(_)));
        let whole = |key: &str| {
            matches!(key, "ids" | "model.x" | "model.x0") || key.starts_with("model.x.")
        };
        let keys = input.keys().into_iter().filter(|key| whole(key));
        let layer = ["x", "lstm.0.x", "lstm.0.X"]
            .into_iter()
            .filter(|&key| key == "x" || is_lstm);
        let fits = |key: &String| {
            let shape = input.has(key).then(|| input.numbers(key).ok()).flatten();
            shape.is_some_and(|(shape, _)| extent_of(&shape, model.inputs).is_some())
        };
        let key = keys.chain(layer.map(String::from)).find(fits);
        let key = key.as_deref().unwrap_or("x");
        let (mut extent, mut x) = read_key(model, &input, key, batch_first)?;
        if let Some((at, got)) = x.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(input.problem(format!(
                "key {key}: expected finite numbers, got {got} at {at}"
            )));
        }
        if whole(key) && !batch_first && input.has("model.y") {
            let (_, y) = input.numbers("model.y")?;
            let time = distance(model, extent, &x, &y, false);
            let other = read_key(model, &input, key, true)?;
            if distance(model, other.0, &other.1, &y, true) < time {
                (extent, x) = other;
            }
        }
        let lengths = input.has("lengths").then(|| lengths(&input, extent));
        let labels = input.has("labels").then(|| input.i32_values("labels"));
        Ok(Self {
            extent,
            x,
            lengths: lengths.transpose()?,
            labels: labels
                .transpose()?
                .map(|(shape, labels)| (shape.to_vec(), labels.iter().collect())),
        })
    }
}

/// The largest difference of a run from an output, infinite if it cannot be compared.
fn distance(model: &ChainModel, extent: Extent, x: &[f32], y: &[f32], batch_first: bool) -> f32 {
    let run = || -> Result<Vec<f32>, Error> {
        let mut runner = Runner::new(model)?;
        let mut state = runner.start(extent.batch)?;
        let got = runner.run(extent, x, &mut state)?;
        let width = runner.outputs();
        let steps = got.len() / (extent.batch * width).max(1);
        Ok(if batch_first {
            turned(&got, steps, extent.batch, width)
        } else {
            got
        })
    };
    match run() {
        Ok(got) if got.len() == y.len() => {
            let each = got.iter().zip(y).map(|(a, b)| (a - b).abs());
            each.fold(0.0, |most, d| if d <= most { most } else { d })
        }
        _ => f32::INFINITY,
    }
}

/// The input, time-major.
fn read(
    model: &ChainModel,
    input: &TensorFile,
    batch_first: bool,
) -> Result<(Extent, Vec<f32>), Error> {
    let key = if input.has("ids") { "ids" } else { "x" };
    read_key(model, input, key, batch_first)
}

/// The first two sizes, if the third is the model's width and there is at least one of each.
fn extent_of(shape: &[usize], inputs: usize) -> Option<(usize, usize)> {
    let (first, second) = match *shape {
        [first, second, width] if width == inputs => (first, second),
        [first, second] if inputs == 1 => (first, second),
        _ => (0, 0),
    };
    (first > 0 && second > 0).then_some((first, second))
}

fn read_key(
    model: &ChainModel,
    input: &TensorFile,
    key: &str,
    batch_first: bool,
) -> Result<(Extent, Vec<f32>), Error> {
    let (shape, values) = input.numbers(key)?;
    let Some((first, second)) = extent_of(&shape, model.inputs) else {
        let order = if batch_first { "B, T" } else { "T, B" };
        let inputs = model.inputs;
        return Err(input.problem(format!(
            "key {key}: expected shape [{order}, {inputs}] with at least one of each, got {shape:?}"
        )));
    };
    if batch_first {
        let extent = Extent {
            steps: second,
            batch: first,
        };
        return Ok((extent, turned(&values, first, second, model.inputs)));
    }
    let extent = Extent {
        steps: first,
        batch: second,
    };
    Ok((extent, values))
}

fn lengths(input: &TensorFile, extent: Extent) -> Result<Vec<usize>, Error> {
    let (shape, values) = input.i32_values("lengths")?;
    if shape != [extent.batch] {
        let expected = extent.batch;
        return Err(input.problem(format!(
            "key lengths: expected shape [{expected}], got {shape:?}"
        )));
    }
    let each = values.iter().enumerate().map(|(row, length)| {
        let length = usize::try_from(length)
            .ok()
            .filter(|&length| length <= extent.steps);
        length.ok_or_else(|| {
            let steps = extent.steps;
            input.problem(format!(
                "key lengths: expected 0 to {steps} at {row}, got another number"
            ))
        })
    });
    each.collect()
}

/// Rows `[second, first, width]` of `[first, second, width]`.
fn turned(values: &[f32], first: usize, second: usize, width: usize) -> Vec<f32> {
    let row = |a: usize, b: usize| &values[(a * second + b) * width..][..width];
    let each = (0..second).flat_map(|b| (0..first).flat_map(move |a| row(a, b)));
    each.copied().collect()
}
