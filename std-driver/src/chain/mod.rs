//! A chain of stages in a file: what a network has that is more than plain layers with a head.
//!
//! The metadata says the stages; the tensors of stage K are `stage.K.table`, or `stage.K.kernel` and
//! `stage.K.bias`, and for a layer also, where its cell has them, `stage.K.gate_gains` `[4H]` and
//! `stage.K.cell_norm` `[2, H]` of layer normalisation, `stage.K.peepholes` `[3, H]` and
//! `stage.K.projection` `[H, P]`,
//! those of a second direction under `stage.K.backward.`. A layer whose weights are stored in fewer bits
//! has `stage.K.words` instead, uint32, as the core has them. A state to start from is
//! `state.N` `[2, 1, H]` of layer N (with `.forward` and `.backward` where there are two directions), or
//! `state.N.c` `[1, H]` and `state.N.h` `[1, P]` where there is a projection.

mod run;
mod text;

pub use run::Runner;

use crate::Error;
use crate::memory::reserve;
use crate::tensors::{NamedTensor, TensorFile};
use crate::weights::{Start, TRAINING_KEYS, Weights};
use fused_lstm::{ArgumentError, Chain, Direction, LstmStage, Stage};
use serde::{Deserialize, Serialize};
use std::path::Path;
use text::{StageText, Text};

/// A chain, as a file has it.
///
/// ```
/// use fused_lstm::{Activation, DenseShape, LayerShape, LstmStage, Stage};
/// use fused_lstm_driver::chain::{ChainModel, NamedStage};
/// use fused_lstm_driver::tensors;
///
/// let stage = |name: &str, stage| NamedStage { name: name.into(), stage };
/// let model = ChainModel {
///     inputs: 1,
///     stages: vec![
///         stage("rec", Stage::Lstm(LstmStage::new(LayerShape::new(1, 4)))),
///         stage("lin", Stage::Dense(DenseShape::new(4, 1))),
///         stage("out", Stage::Activation(Activation::Tanh)),
///     ],
///     params: vec![0.5; 101],
///     start: None,
///     sample_rate: Some(48_000.0),
/// };
/// let path = std::env::temp_dir().join(format!("chain-{}.safetensors", std::process::id()));
/// model.write(&path)?;
/// assert_eq!(ChainModel::open(&path)?, model);
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), fused_lstm_driver::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ChainModel {
    /// The width of the input.
    pub inputs: usize,
    /// The stages, in their order.
    pub stages: Vec<NamedStage>,
    /// All parameters, in the core's layout.
    pub params: Vec<f32>,
    /// The state of one row to start from, in the core's layout, if it is not zeros.
    pub start: Option<Vec<f32>>,
    /// Samples a second of an audio model, if that is known.
    pub sample_rate: Option<f64>,
}

/// A stage and what it was called where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedStage {
    /// The name.
    pub name: String,
    /// The stage.
    pub stage: Stage,
}

/// The names of a layer's directions.
pub(crate) fn directions(lstm: &LstmStage) -> &'static [&'static str] {
    match lstm.direction {
        Direction::Both => &["forward", "backward"],
        _ => &[""],
    }
}

/// The last part of the name of a tensor of words.
const WORDS: &str = "words";

fn is_words(name: &str) -> bool {
    name.rsplit('.').next() == Some(WORDS)
}

/// The tensors of a stage's parameters in their order: names and shapes.
fn tensors_of(index: usize, stage: &Stage) -> Vec<(String, Vec<usize>)> {
    let name = |part: &str| format!("stage.{index}.{part}");
    match stage {
        Stage::Embedding { rows, width } => vec![(name("table"), vec![*rows, *width])],
        Stage::Dense(shape) => vec![
            (name("kernel"), vec![shape.inputs, shape.outputs]),
            (name("bias"), vec![shape.outputs]),
        ],
        Stage::Lstm(lstm) => {
            let (hidden, outputs) = (lstm.layer.hidden, lstm.outputs());
            let columns = hidden.saturating_mul(4);
            let mut tensors = Vec::new();
            for direction in 0..lstm.direction.count() {
                let prefix = if direction == 1 { "backward." } else { "" };
                let name = |part: &str| name(&format!("{prefix}{part}"));
                if lstm.is_narrow() {
                    tensors.push((name(WORDS), vec![lstm.direction_params_len()]));
                    continue;
                }
                let rows = lstm.layer.inputs.saturating_add(outputs);
                tensors.push((name("kernel"), vec![rows, columns]));
                tensors.push((name("bias"), vec![columns]));
                if lstm.cell.layer_norm {
                    tensors.push((name("gate_gains"), vec![columns]));
                    tensors.push((name("cell_norm"), vec![2, hidden]));
                }
                if lstm.cell.peepholes {
                    tensors.push((name("peepholes"), vec![3, hidden]));
                }
                if lstm.cell.projection.is_some() {
                    tensors.push((name("projection"), vec![hidden, outputs]));
                }
            }
            tensors
        }
        _ => Vec::new(),
    }
}

/// The tensors of a state of so many rows in their order: names and shapes.
pub(crate) fn state_tensors_of(stages: &[NamedStage], batch: usize) -> Vec<(String, Vec<usize>)> {
    let mut tensors = Vec::new();
    let lstms = stages.iter().filter_map(|stage| match &stage.stage {
        Stage::Lstm(lstm) => Some(lstm),
        _ => None,
    });
    for (index, lstm) in lstms.enumerate() {
        let hidden = lstm.layer.hidden;
        for direction in directions(lstm) {
            let name = match *direction {
                "" => format!("state.{index}"),
                direction => format!("state.{index}.{direction}"),
            };
            if lstm.cell.projection.is_some() {
                tensors.push((format!("{name}.c"), vec![batch, hidden]));
                tensors.push((format!("{name}.h"), vec![batch, lstm.outputs()]));
            } else {
                tensors.push((name, vec![2, batch, hidden]));
            }
        }
    }
    tensors
}

/// Numbers as tensors of these names and shapes.
pub(crate) fn named<'a>(
    tensors: Vec<(String, Vec<usize>)>,
    values: &'a [f32],
) -> Vec<NamedTensor<'a>> {
    let mut rest = values;
    let each = tensors.into_iter().map(|(name, shape)| {
        let (own, after) = rest.split_at(shape.iter().product());
        rest = after;
        if is_words(&name) {
            NamedTensor::words(name, own)
        } else {
            NamedTensor::f32(name, &shape, own)
        }
    });
    each.collect()
}

impl ChainModel {
    /// Whether a file's metadata says a chain.
    pub fn is(file: &TensorFile) -> bool {
        file.metadata()
            .is_some_and(|text| text.starts_with(r#"{"chain""#))
    }

    /// Reads a file that [`write`](Self::write) wrote.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::read(&TensorFile::open(path)?)
    }

    /// Writes plain layers as what they are, and anything else by [`write`](Self::write).
    pub fn write_plainly(&self, path: &Path) -> Result<(), Error> {
        let (tensors, text) = self.contents(path)?;
        crate::tensors::write(path, &tensors, text)
    }

    /// The tensors and the metadata's text of plain layers as what they are, and of anything else as a
    /// chain.
    pub(crate) fn contents(
        &self,
        path: &Path,
    ) -> Result<(Vec<NamedTensor<'static>>, Option<String>), Error> {
        let refuse = |e| Error::file(path, format!("cannot be written: {e}"));
        let Some(weights) = self.to_weights() else {
            let (tensors, text) = self.chain_contents();
            let text = serde_json::to_string(&text).map_err(refuse)?;
            let tensors = tensors.into_iter().map(NamedTensor::into_owned);
            return Ok((tensors.collect::<Result<_, _>>()?, Some(text)));
        };
        let text = self
            .sample_rate
            .map(|sample_rate| PlainText { sample_rate });
        let text = text.map(|text| serde_json::to_string(&text)).transpose();
        let tensors = weights.tensors("").into_iter().map(NamedTensor::into_owned);
        Ok((tensors.collect::<Result<_, _>>()?, text.map_err(refuse)?))
    }

    /// The same of a file that was read.
    pub fn read(file: &TensorFile) -> Result<Self, Error> {
        let text = file.metadata().unwrap_or_default();
        let text: Text = serde_json::from_str(text)
            .map_err(|e| file.problem(format!("the chain in the metadata cannot be read: {e}")))?;
        let stages: Vec<NamedStage> = text
            .chain
            .into_iter()
            .map(|stage| NamedStage {
                name: stage.name,
                stage: stage.kind.into(),
            })
            .collect();
        let mut tensors = Vec::new();
        for (index, stage) in stages.iter().enumerate() {
            tensors.extend(tensors_of(index, &stage.stage));
        }
        let states = state_tensors_of(&stages, 1);
        file.only_keys(
            |key| {
                let mut known = tensors.iter().chain(&states);
                key.starts_with(TRAINING_KEYS) || known.any(|(name, _)| name == key)
            },
            "the tensors of the chain's stages",
        )?;
        let read = |tensors: &[(String, Vec<usize>)]| -> Result<Vec<f32>, Error> {
            for (name, shape) in tensors {
                if is_words(name) {
                    file.u32_of_len(name, shape.iter().product())?;
                } else {
                    file.expect_f32_shape(name, shape)?;
                }
            }
            let sizes = tensors
                .iter()
                .map(|(_, shape)| shape.iter().product::<usize>());
            let mut values = reserve(sizes.sum())?;
            for (name, shape) in tensors {
                if is_words(name) {
                    let words = file.u32_of_len(name, shape.iter().product())?;
                    values.extend(words.iter().map(f32::from_bits));
                } else {
                    values.extend(file.f32_values(name)?.iter());
                }
            }
            Ok(values)
        };
        let starts = states.iter().any(|(name, _)| file.has(name));
        let model = Self {
            inputs: text.inputs,
            params: read(&tensors)?,
            start: if starts { Some(read(&states)?) } else { None },
            stages,
            sample_rate: text.sample_rate,
        };
        let kinds = model.kinds();
        model
            .chain(&kinds)
            .and_then(|chain| chain.check_words())
            .map_err(|e| file.problem(format!("the chain in the metadata: {e}")))?;
        Ok(model)
    }

    /// Writes a file by atomic replacement.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let (tensors, text) = self.chain_contents();
        let text = serde_json::to_string(&text)
            .map_err(|e| Error::file(path, format!("the chain cannot be written: {e}")))?;
        crate::tensors::write(path, &tensors, Some(text))
    }

    fn chain_contents(&self) -> (Vec<NamedTensor<'_>>, Text) {
        let text = Text {
            inputs: self.inputs,
            sample_rate: self.sample_rate,
            chain: self
                .stages
                .iter()
                .map(|stage| StageText {
                    name: stage.name.clone(),
                    kind: stage.stage.into(),
                })
                .collect(),
        };
        let mut tensors = Vec::new();
        for (index, stage) in self.stages.iter().enumerate() {
            tensors.extend(tensors_of(index, &stage.stage));
        }
        let mut tensors = named(tensors, &self.params);
        if let Some(start) = &self.start {
            tensors.extend(named(state_tensors_of(&self.stages, 1), start));
        }
        (tensors, text)
    }

    /// What the core runs, of the [`kinds`](Self::kinds) of its stages.
    pub fn chain<'a>(&'a self, kinds: &'a [Stage]) -> Result<Chain<'a>, ArgumentError> {
        Chain::of_words(self.inputs, kinds, bytemuck::cast_slice(&self.params))
    }

    /// The stages without their names.
    pub fn kinds(&self) -> Vec<Stage> {
        self.stages.iter().map(|stage| stage.stage).collect()
    }

    /// Plain layers and a head as a chain.
    pub fn of_weights(weights: &Weights) -> Self {
        let shape = weights.shape();
        let mut stages: Vec<NamedStage> = shape
            .layers()
            .enumerate()
            .map(|(index, layer)| NamedStage {
                name: format!("lstm.{index}"),
                stage: Stage::Lstm(LstmStage::new(layer)),
            })
            .collect();
        stages.extend(shape.head().map(|head| NamedStage {
            name: "dense".into(),
            stage: Stage::Dense(head),
        }));
        let start = weights.start.as_ref().filter(|start| start.batch == 1);
        Self {
            inputs: weights.inputs,
            stages,
            params: weights.params.clone(),
            start: start.map(|start| start.state.clone()),
            sample_rate: None,
        }
    }

    /// The chain as plain layers, with a head or without, if it is no more than that.
    pub fn to_weights(&self) -> Option<Weights> {
        let mut hidden = Vec::new();
        let mut classes = None;
        for stage in &self.stages {
            match stage.stage {
                Stage::Lstm(lstm) if classes.is_none() && lstm == LstmStage::new(lstm.layer) => {
                    hidden.push(lstm.layer.hidden);
                }
                Stage::Dense(shape) if classes.is_none() && !hidden.is_empty() => {
                    classes = Some(shape.outputs);
                }
                _ => return None,
            }
        }
        if hidden.is_empty() {
            return None;
        }
        Some(Weights {
            inputs: self.inputs,
            hidden,
            classes,
            params: self.params.clone(),
            start: self.start.clone().map(|state| Start { batch: 1, state }),
        })
    }
}

/// The metadata of plain layers of which more is known than their sizes.
#[derive(Deserialize, Serialize)]
struct PlainText {
    sample_rate: f64,
}

/// Samples a second of a model of either kind, if its file says so.
pub fn sample_rate(file: &TensorFile) -> Option<f64> {
    let text = file.metadata()?;
    let plain = serde_json::from_str(text).map(|text: PlainText| text.sample_rate);
    let chain = || serde_json::from_str(text).map(|text: Text| text.sample_rate);
    plain.ok().or_else(|| chain().ok().flatten())
}

/// A model file of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Network {
    /// Plain layers, with a head or without.
    Plain(Weights),
    /// More than that.
    Chain(ChainModel),
}

impl Network {
    /// Reads a model or the model in a checkpoint.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::read(&TensorFile::open(path)?)
    }

    /// The same of a file that was read.
    pub fn read(file: &TensorFile) -> Result<Self, Error> {
        if ChainModel::is(file) {
            Ok(Self::Chain(ChainModel::read(file)?))
        } else {
            Ok(Self::Plain(Weights::read(file)?))
        }
    }

    /// As a chain.
    pub fn into_chain(self) -> ChainModel {
        match self {
            Self::Plain(weights) => ChainModel::of_weights(&weights),
            Self::Chain(chain) => chain,
        }
    }
}
