//! A network's weights in a file: `lstm.{layer}.kernel` `[I+H, 4H]` with gates in
//! the order i, j, f, o, `lstm.{layer}.bias` `[4H]` with the forget bias inside, and
//! for a head `dense.kernel` `[H, C]` and `dense.bias` `[C]`; and if it does not start from
//! zeros, `state.{layer}` `[2, B, H]` (c, then h).

use crate::Error;
use crate::memory::reserve;
use crate::tensors::{NamedTensor, TensorFile, index_of};
use fused_lstm::{LayerShape, Model, NetworkShape};
use std::path::Path;

/// A network of any sizes, as a file has it.
///
/// ```
/// use fused_lstm_driver::tensors;
/// use fused_lstm_driver::weights::Weights;
///
/// let weights = Weights {
///     inputs: 6,
///     hidden: vec![4, 5],
///     classes: None,
///     params: vec![0.5; 376],
///     start: None,
/// };
/// let path = std::env::temp_dir().join(format!("weights-{}.safetensors", std::process::id()));
/// tensors::write(&path, &weights.tensors(""), None)?;
/// assert_eq!(Weights::open(&path)?, weights);
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), fused_lstm_driver::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// Inputs.
    pub inputs: usize,
    /// Units of each layer.
    pub hidden: Vec<usize>,
    /// Classes of the head, if there is one.
    pub classes: Option<usize>,
    /// All parameters, in the core's layout.
    pub params: Vec<f32>,
    /// The state to start from, if it is not zeros.
    pub start: Option<Start>,
}

/// A state that belongs to a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Rows; one stands for any number.
    pub batch: usize,
    /// `[2, B, H]` of each layer, in the core's layout.
    pub state: Vec<f32>,
}

/// The tensors that a network's parameters are, in their order: names and shapes.
fn tensors_of(shape: NetworkShape) -> Vec<(String, Vec<usize>)> {
    let mut tensors = Vec::new();
    for (index, layer) in shape.layers().enumerate() {
        let columns = layer.hidden.saturating_mul(4);
        tensors.push((
            format!("lstm.{index}.kernel"),
            vec![layer.inputs.saturating_add(layer.hidden), columns],
        ));
        tensors.push((format!("lstm.{index}.bias"), vec![columns]));
    }
    if let Some(head) = shape.head() {
        tensors.push(("dense.kernel".into(), vec![head.inputs, head.outputs]));
        tensors.push(("dense.bias".into(), vec![head.outputs]));
    }
    tensors
}

/// The parameters, or something of their layout, as tensors under `prefix`.
pub(crate) fn to_tensors<'a>(
    shape: NetworkShape,
    prefix: &str,
    params: &'a [f32],
) -> Vec<NamedTensor<'a>> {
    let mut rest = params;
    let named = |(name, shape): (String, Vec<usize>)| {
        let (values, after) = rest.split_at(shape.iter().product());
        rest = after;
        NamedTensor::f32(format!("{prefix}{name}"), &shape, values)
    };
    tensors_of(shape).into_iter().map(named).collect()
}

/// What [`to_tensors`] wrote.
pub(crate) fn from_tensors(
    shape: NetworkShape,
    prefix: &str,
    file: &TensorFile,
) -> Result<Vec<f32>, Error> {
    let tensors = tensors_of(shape);
    for (name, shape) in &tensors {
        file.expect_f32_shape(&format!("{prefix}{name}"), shape)?;
    }
    let mut params = reserve(shape.params_len())?;
    for (name, _) in tensors {
        params.extend(file.f32_values(&format!("{prefix}{name}"))?.iter());
    }
    Ok(params)
}

/// A state of so many rows as tensors `state.{layer}` `[2, B, H]`.
pub(crate) fn state_tensors<'a>(
    shape: NetworkShape,
    batch: usize,
    state: &'a [f32],
) -> Vec<NamedTensor<'a>> {
    let mut rest = state;
    let named = |(index, layer): (usize, LayerShape)| {
        let (own, after) = rest.split_at(layer.state_len(batch));
        rest = after;
        NamedTensor::f32(format!("state.{index}"), &[2, batch, layer.hidden], own)
    };
    shape.layers().enumerate().map(named).collect()
}

/// Keys of a checkpoint that are not weights, slots or states.
const PROGRESS_KEYS: [&str; 4] = ["step", "epoch", "random", "data"];

/// What the keys begin with that say where the training of a model stands.
pub(crate) const TRAINING_KEYS: &str = "training.";

/// Whether a key belongs to a model or a checkpoint.
pub(crate) fn is_known(key: &str) -> bool {
    let layer = |rest: &str| index_of(rest).is_some();
    let lstm = |key: &str| match key
        .strip_prefix("lstm.")
        .and_then(|rest| rest.rsplit_once('.'))
    {
        Some((index, part)) => layer(index) && (part == "kernel" || part == "bias"),
        None => key == "dense.kernel" || key == "dense.bias",
    };
    let slot = |rest: &str| {
        rest.split_once('.')
            .is_some_and(|(slot, key)| layer(slot) && lstm(key))
    };
    lstm(key)
        || key.strip_prefix("optimizer.").is_some_and(slot)
        || key.strip_prefix("state.").is_some_and(layer)
        || PROGRESS_KEYS.contains(&key)
        || key.starts_with(TRAINING_KEYS)
}

/// The state of a model, zeros for the layers that have none. That of a checkpoint is where its
/// training stands, and no start for other data.
fn start(shape: NetworkShape, file: &TensorFile) -> Result<Option<Start>, Error> {
    let layers = shape.hidden.len();
    file.only_keys(
        |key| match key.strip_prefix("state.").and_then(index_of) {
            Some(index) => index < layers,
            None => true,
        },
        &format!("state.0 to state.{}", layers - 1),
    )?;
    let key = |index: usize| format!("state.{index}");
    let first = (0..layers).map(key).find(|key| file.has(key));
    let Some(first) = first.filter(|_| !file.has("step")) else {
        return Ok(None);
    };
    let got = file.f32_shape(&first)?;
    let Some(batch) = (got.len() == 3).then(|| got[1]).filter(|&batch| batch > 0) else {
        return Err(file.problem(format!(
            "key {first}: expected shape [2, B, H], got {got:?}"
        )));
    };
    let mut state = Vec::new();
    for (index, layer) in shape.layers().enumerate() {
        let key = key(index);
        if file.has(&key) {
            state.extend(file.f32_of_shape(&key, &[2, batch, layer.hidden])?);
        } else {
            state.resize(state.len() + layer.state_len(batch), 0.0);
        }
    }
    Ok(Some(Start { batch, state }))
}

impl Weights {
    /// Reads a model, or the model in a checkpoint; the sizes are the file's.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::read(&TensorFile::open(path)?)
    }

    /// The same of a file that was read.
    pub fn read(file: &TensorFile) -> Result<Self, Error> {
        file.only_keys(
            is_known,
            "keys lstm.LAYER.kernel, lstm.LAYER.bias, dense.kernel, dense.bias and those of a checkpoint",
        )?;
        let (mut inputs, mut hidden) = (0, Vec::new());
        let mut layers = 0;
        while layers == 0 || file.has(&format!("lstm.{layers}.kernel")) {
            let key = format!("lstm.{layers}.kernel");
            let shape = file.f32_shape(&key)?;
            let below = hidden.last().copied();
            let sizes = match shape[..] {
                [rows, columns] if columns > 0 && columns % 4 == 0 && rows > columns / 4 => {
                    Some((rows - columns / 4, columns / 4))
                }
                _ => None,
            };
            match (sizes, below) {
                (Some((i, h)), None) => (inputs, hidden) = (i, vec![h]),
                (Some((i, h)), Some(below)) if i == below => hidden.push(h),
                (_, below) => {
                    let i = below.map_or("I".to_owned(), |below| below.to_string());
                    let problem = format!("key {key}: expected shape [{i}+H, 4H], got {shape:?}");
                    return Err(file.problem(problem));
                }
            }
            layers += 1;
        }
        // A layer above a gap would be left out in silence.
        file.only_keys(
            |key| {
                let index = key
                    .strip_prefix("lstm.")
                    .and_then(|rest| rest.split('.').next());
                index.and_then(index_of).is_none_or(|index| index < layers)
            },
            &format!("lstm.{layers}.kernel below it"),
        )?;
        let classes = if file.has("dense.kernel") || file.has("dense.bias") {
            let shape = file.f32_shape("dense.kernel")?;
            match shape[..] {
                [_, classes] if classes > 0 => Some(classes),
                _ => {
                    let h = hidden[layers - 1];
                    let problem =
                        format!("key dense.kernel: expected shape [{h}, C], got {shape:?}");
                    return Err(file.problem(problem));
                }
            }
        } else {
            None
        };
        let shape = NetworkShape::new(inputs, &hidden).with_classes(classes);
        Ok(Self {
            params: from_tensors(shape, "", file)?,
            start: start(shape, file)?,
            inputs,
            hidden,
            classes,
        })
    }

    /// The sizes.
    pub fn shape(&self) -> NetworkShape<'_> {
        NetworkShape::new(self.inputs, &self.hidden).with_classes(self.classes)
    }

    /// The network, to run.
    pub fn model(&self) -> Result<Model<'_>, Error> {
        Ok(Model::new(self.shape(), &self.params)?)
    }

    /// The tensors to write, their keys under `prefix`.
    pub fn tensors(&self, prefix: &str) -> Vec<NamedTensor<'_>> {
        let mut tensors = to_tensors(self.shape(), prefix, &self.params);
        if let Some(Start { batch, state }) = &self.start {
            tensors.extend(state_tensors(self.shape(), *batch, state));
        }
        tensors
    }

    /// Refuses weights of other sizes than `shape`; `path` is where they come from.
    pub fn expect_shape(&self, shape: NetworkShape, path: &Path) -> Result<(), Error> {
        if self.shape() == shape {
            return Ok(());
        }
        let say = |shape: NetworkShape| {
            let head = shape
                .classes
                .map_or("no head".into(), |c| format!("{c} classes"));
            format!("{} inputs, hidden {:?}, {head}", shape.inputs, shape.hidden)
        };
        let problem = format!(
            "expected weights for {}, got {}",
            say(shape),
            say(self.shape())
        );
        Err(Error::file(path, problem))
    }
}
