//! The metadata's text: the stages of a chain as JSON.

use fused_lstm::{
    Activation, Cell, DenseShape, Direction, LayerShape, LstmStage, Returns, Stage, Storage,
    Zoneout,
};
use serde::{Deserialize, Serialize};

/// The metadata's text.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Text {
    pub(super) chain: Vec<StageText>,
    pub(super) inputs: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sample_rate: Option<f64>,
}

#[derive(Deserialize, Serialize)]
pub(super) struct StageText {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) kind: KindText,
}

#[derive(Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum KindText {
    Embedding { rows: usize, width: usize },
    Dense { inputs: usize, outputs: usize },
    Activation { function: Function },
    Lstm(LstmText),
    Skip { first: usize, gain: f32 },
    Gain { gain: f32 },
    Reverse {},
    Flatten { steps: usize },
    Mask { per_step: bool },
}

#[derive(Clone, Copy, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Function {
    Linear,
    Tanh,
    Sigmoid,
    Relu,
    Softmax,
    HardSigmoid(f32),
}

#[derive(Deserialize, Serialize)]
pub(super) struct LstmText {
    inputs: usize,
    hidden: usize,
    direction: DirectionText,
    returns: ReturnsText,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage: Option<StorageText>,
    #[serde(flatten)]
    cell: CellText,
}

/// What is not said is f32.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StorageText {
    F16,
    Int8,
}

/// What is not said is as in a plain cell.
#[derive(Deserialize, Serialize)]
pub(super) struct CellText {
    #[serde(skip_serializing_if = "Option::is_none")]
    projection: Option<usize>,
    #[serde(default, skip_serializing_if = "is_false")]
    peepholes: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    coupled: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    layer_norm: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    gates: Option<Function>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate: Option<Function>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Function>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preact_clip: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cell_clip: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    projection_clip: Option<f32>,
    #[serde(default, skip_serializing_if = "is_zero")]
    zoneout_cell: f32,
    #[serde(default, skip_serializing_if = "is_zero")]
    zoneout_hidden: f32,
}

fn is_zero(value: &f32) -> bool {
    *value == 0.0
}

fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DirectionText {
    Forward,
    Reverse,
    Both,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ReturnsText {
    Sequence,
    Last,
    Mean,
}

impl From<Activation> for Function {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Tanh => Self::Tanh,
            Activation::Sigmoid => Self::Sigmoid,
            Activation::Relu => Self::Relu,
            Activation::Softmax => Self::Softmax,
            Activation::HardSigmoid { slope } => Self::HardSigmoid(slope),
            _ => Self::Linear,
        }
    }
}

impl From<Function> for Activation {
    fn from(function: Function) -> Self {
        match function {
            Function::Linear => Self::Linear,
            Function::Tanh => Self::Tanh,
            Function::Sigmoid => Self::Sigmoid,
            Function::Relu => Self::Relu,
            Function::Softmax => Self::Softmax,
            Function::HardSigmoid(slope) => Self::HardSigmoid { slope },
        }
    }
}

impl From<Cell> for CellText {
    fn from(cell: Cell) -> Self {
        let function = |own: Activation, plain| (own != plain).then(|| own.into());
        let clip = |most: f32| most.is_finite().then_some(most);
        Self {
            projection: cell.projection,
            peepholes: cell.peepholes,
            coupled: cell.coupled,
            layer_norm: cell.layer_norm,
            gates: function(cell.gates, Cell::PLAIN.gates),
            candidate: function(cell.candidate, Cell::PLAIN.candidate),
            output: function(cell.output, Cell::PLAIN.output),
            preact_clip: clip(cell.preact_clip),
            cell_clip: clip(cell.cell_clip),
            projection_clip: clip(cell.projection_clip),
            zoneout_cell: cell.zoneout.cell,
            zoneout_hidden: cell.zoneout.hidden,
        }
    }
}

impl From<CellText> for Cell {
    fn from(text: CellText) -> Self {
        let function = |own: Option<Function>, plain| own.map_or(plain, Into::into);
        let clip = |most: Option<f32>| most.unwrap_or(f32::INFINITY);
        Self {
            projection: text.projection,
            peepholes: text.peepholes,
            coupled: text.coupled,
            layer_norm: text.layer_norm,
            gates: function(text.gates, Self::PLAIN.gates),
            candidate: function(text.candidate, Self::PLAIN.candidate),
            output: function(text.output, Self::PLAIN.output),
            preact_clip: clip(text.preact_clip),
            cell_clip: clip(text.cell_clip),
            projection_clip: clip(text.projection_clip),
            zoneout: Zoneout {
                cell: text.zoneout_cell,
                hidden: text.zoneout_hidden,
            },
        }
    }
}

impl From<Stage> for KindText {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Embedding { rows, width } => Self::Embedding { rows, width },
            Stage::Dense(shape) => Self::Dense {
                inputs: shape.inputs,
                outputs: shape.outputs,
            },
            Stage::Activation(activation) => Self::Activation {
                function: activation.into(),
            },
            Stage::Lstm(lstm) => Self::Lstm(LstmText {
                inputs: lstm.layer.inputs,
                hidden: lstm.layer.hidden,
                direction: match lstm.direction {
                    Direction::Reverse => DirectionText::Reverse,
                    Direction::Both => DirectionText::Both,
                    _ => DirectionText::Forward,
                },
                returns: match lstm.returns {
                    Returns::Last => ReturnsText::Last,
                    Returns::Mean => ReturnsText::Mean,
                    _ => ReturnsText::Sequence,
                },
                storage: match lstm.storage {
                    Storage::F16 => Some(StorageText::F16),
                    Storage::Int8 => Some(StorageText::Int8),
                    _ => None,
                },
                cell: lstm.cell.into(),
            }),
            Stage::Skip { first, gain } => Self::Skip { first, gain },
            Stage::Gain(gain) => Self::Gain { gain },
            Stage::Flatten { steps } => Self::Flatten { steps },
            Stage::Mask { per_step } => Self::Mask { per_step },
            _ => Self::Reverse {},
        }
    }
}

impl From<KindText> for Stage {
    fn from(text: KindText) -> Self {
        match text {
            KindText::Embedding { rows, width } => Self::Embedding { rows, width },
            KindText::Dense { inputs, outputs } => Self::Dense(DenseShape::new(inputs, outputs)),
            KindText::Activation { function } => Self::Activation(function.into()),
            KindText::Lstm(lstm) => Self::Lstm(LstmStage {
                direction: match lstm.direction {
                    DirectionText::Forward => Direction::Forward,
                    DirectionText::Reverse => Direction::Reverse,
                    DirectionText::Both => Direction::Both,
                },
                returns: match lstm.returns {
                    ReturnsText::Sequence => Returns::Sequence,
                    ReturnsText::Last => Returns::Last,
                    ReturnsText::Mean => Returns::Mean,
                },
                storage: match lstm.storage {
                    Some(StorageText::F16) => Storage::F16,
                    Some(StorageText::Int8) => Storage::Int8,
                    None => Storage::F32,
                },
                cell: lstm.cell.into(),
                ..LstmStage::new(LayerShape::new(lstm.inputs, lstm.hidden))
            }),
            KindText::Skip { first, gain } => Self::Skip { first, gain },
            KindText::Gain { gain } => Self::Gain(gain),
            KindText::Reverse {} => Self::Reverse,
            KindText::Flatten { steps } => Self::Flatten { steps },
            KindText::Mask { per_step } => Self::Mask { per_step },
        }
    }
}
