//! `run`: inference of a file's network on a file's input.

mod blocks;
mod chain;
mod read;
mod series;
mod write;

pub use chain::Inputs;

use crate::Error;
use crate::chain::{Network, sample_rate};
use crate::files::{Contents, Uses, Written};
use crate::import;
use crate::memory::reserve;
use crate::tensors::{NamedTensor, TensorFile, index_of};
use crate::weights::{Weights, state_tensors};
use blocks::Blocks;
use clap::ValueEnum;
use fused_lstm::{Extent, NetworkShape};
use series::{Outputs, Series};
use std::path::Path;

/// What a run gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// The last layer's hidden states, f32 `[T, B, H]`.
    Y,
    /// What the head makes of them, `[T, B, C]`.
    Logits,
    /// Its softmax, if there are two outputs or more.
    Probabilities,
    /// `state.{layer}` after the last step, `[2, B, H]`.
    State,
}

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Input and outputs are `[B, T, …]`.
    pub batch_first: bool,
    /// What is wanted; everything that there is if it is not said.
    pub outputs: Option<Vec<Output>>,
}

/// The files of a run.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The network: a model or a checkpoint.
    pub model: &'a Path,
    /// `x` f32 `[T, B, I]`, and `state.{layer}` f32 `[2, B, H]` for layers that start from there.
    pub input: &'a Path,
    /// Where layers start whose state the input does not have: such states, as a run writes them.
    pub state: Option<&'a Path>,
    /// What is written: see [`Output`].
    pub output: &'a Path,
    /// Whether the output may replace any file but those that are read.
    pub force: bool,
}

/// Runs the network of a file on another one: see [`infer`].
pub fn run(files: Files, options: &Options) -> Result<(), Error> {
    let mut read = vec![("model", files.model), ("input", files.input)];
    read.extend(files.state.map(|state| ("state", state)));
    // Only tensors have a mark of the run in them.
    let tensors = write::Kind::of(files.output) == write::Kind::Tensors;
    let output = Written {
        flag: "output",
        path: files.output,
        contents: tensors.then_some(Contents::Outputs),
    };
    let uses = Uses {
        read: &read,
        written: &[output],
        force: files.force,
    };
    uses.check()?;
    let model = TensorFile::open(files.model).map_err(|e| import::advise(files.model, e))?;
    let network = Network::read(&model)?;
    let sample_rate = sample_rate(&model);
    let inputs = match &network {
        Network::Plain(weights) => weights.inputs,
        Network::Chain(chain) => chain.inputs,
    };
    let input = read::read(files.input, inputs)?;
    if let (Some(expected), Some(got)) = (sample_rate, input.sample_rate)
        && expected != f64::from(got)
    {
        let problem = format!("expected {expected} samples a second, as the model has, got {got}");
        return Err(Error::file(files.input, problem));
    }
    let state = files.state.map(TensorFile::open).transpose()?;
    let results = match &network {
        Network::Plain(weights) => infer(weights, &input.tensors, state.as_ref(), options)?,
        Network::Chain(model) => chain::infer(model, &input.tensors, state.as_ref(), options)?,
    };
    let rate = input.sample_rate.map(f64::from).or(sample_rate);
    write::write(files.output, &results, rate.unwrap_or(48_000.0) as u32)
}

/// Runs the network on `x` f32 `[T, B, I]` of `input`. Each layer starts from `state.{layer}` f32
/// `[2, B, H]` of the input, else of `state`, else from the start that the network has, else from
/// zeros. Gives the tensors of [`Output`]. The input may hold outputs of an earlier run, which
/// are passed over.
pub fn infer(
    weights: &Weights,
    input: &TensorFile,
    state: Option<&TensorFile>,
    options: &Options,
) -> Result<Vec<NamedTensor<'static>>, Error> {
    let shape = weights.shape();
    let last = weights.hidden.len() - 1;
    let is_known = |key: &str| match key.strip_prefix("state.").and_then(index_of) {
        Some(index) => index <= last,
        None => matches!(key, "x" | "y" | "logits" | "probabilities"),
    };
    let expected = format!("x and state.0 to state.{last}");
    for file in [Some(input), state].into_iter().flatten() {
        file.only_keys(is_known, &expected)?;
    }
    let wanted = wanted(shape, options)?;
    let series = Series::read(input, shape, options.batch_first)?;
    let Extent { steps, batch } = series.extent;
    let mut state = starts(weights, input, state, batch)?;
    let mut outputs = Outputs::new(shape, &wanted, &series)?;
    let mut blocks = Blocks::new(weights.model()?, series.extent)?;
    let mut x = Vec::new();
    let mut done = 0;
    while done < steps {
        let steps = blocks.steps().min(steps - done);
        series.copy(done, steps, &mut x);
        let y = blocks.infer(steps, &x, &mut state)?;
        outputs.take(weights.model()?, done, steps, y)?;
        done += steps;
    }
    let mut results = outputs.into_tensors();
    if wanted.contains(&Output::State) {
        for tensor in state_tensors(shape, batch, &state) {
            results.push(tensor.into_owned()?);
        }
    }
    Ok(results)
}

/// The outputs that are wanted. Refuses one that is asked for by name and is not there.
fn wanted(shape: NetworkShape, options: &Options) -> Result<Vec<Output>, Error> {
    let outputs = shape.classes.unwrap_or(0);
    let exists = |output: Output| match output {
        Output::Y | Output::State => true,
        Output::Logits => outputs > 0,
        Output::Probabilities => outputs > 1,
    };
    let Some(asked) = &options.outputs else {
        let all = Output::value_variants().iter().copied();
        return Ok(all.filter(|&output| exists(output)).collect());
    };
    let got = match asked.iter().find(|&&output| !exists(output)) {
        None => return Ok(asked.clone()),
        Some(Output::Logits) => "logits without a head".into(),
        Some(_) => format!("probabilities of a head of {outputs}"),
    };
    Err(Error::setting("outputs", "what the network has", got))
}

/// The state that each layer starts from.
fn starts(
    weights: &Weights,
    input: &TensorFile,
    given: Option<&TensorFile>,
    batch: usize,
) -> Result<Vec<f32>, Error> {
    let shape = weights.shape();
    let mut state = reserve(shape.state_len(batch))?;
    let mut own = weights.start.as_ref().map(|start| &start.state[..]);
    let rows = weights.start.as_ref().map_or(0, |start| start.batch);
    for (index, layer) in shape.layers().enumerate() {
        let key = format!("state.{index}");
        let len = layer.state_len(batch);
        let start = own.map(|rest| {
            let (start, after) = rest.split_at(layer.state_len(rows));
            own = Some(after);
            start
        });
        let file = [Some(input), given].into_iter().flatten();
        if let Some(file) = file.into_iter().find(|file| file.has(&key)) {
            state.extend(file.f32_of_shape(&key, &[2, batch, layer.hidden])?);
        } else if let Some(start) = start {
            // One row stands for all.
            if ![1, batch].contains(&rows) {
                let problem =
                    format!("key x: expected {rows} rows, as the model's state has, got {batch}");
                return Err(input.problem(problem));
            }
            let copies = len / start.len();
            let halves = start.chunks_exact(start.len() / 2);
            halves.for_each(|half| (0..copies).for_each(|_| state.extend_from_slice(half)));
        } else {
            state.resize(state.len() + len, 0.0);
        }
    }
    Ok(state)
}
