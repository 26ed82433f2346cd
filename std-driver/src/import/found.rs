//! What a reader finds in a file: a list of layers in the order in which the model runs them, with
//! their weights in the core's layout.

use crate::import::Format;
use fused_lstm::{Activation, Cell, Direction, LayerShape, LstmStage, Returns};

/// What a file holds.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which kind of file it is.
    pub format: Format,
    /// The layers, in the order in which they run.
    pub layers: Vec<Layer>,
    /// What was assumed, folded or left out, a sentence each.
    pub notes: Vec<String>,
    /// Samples a second, if the file says so.
    pub sample_rate: Option<f64>,
    /// The names of `--part` that select layers, where the reader has used others to choose a model
    /// or a branch. `None` if it used none of them.
    pub part: Option<Vec<String>>,
}

/// A layer and its name in the file.
#[derive(Clone, Debug)]
pub struct Layer {
    /// As the file has it.
    pub name: String,
    /// What it does.
    pub kind: Kind,
}

/// What a layer does.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A row of a table for each index.
    Embedding {
        /// Rows of the table.
        rows: usize,
        /// Numbers in a row.
        width: usize,
        /// `[rows, width]`.
        table: Vec<f32>,
    },
    /// x·W + b.
    Dense {
        /// I.
        inputs: usize,
        /// O.
        outputs: usize,
        /// `[I, O]`.
        kernel: Vec<f32>,
        /// `[O]`.
        bias: Vec<f32>,
    },
    /// A function of every number, or of every row.
    Activation(Activation),
    /// x·scale + shift, a factor and a summand for each column.
    Affine {
        /// `[I]`.
        scale: Vec<f32>,
        /// `[I]`.
        shift: Vec<f32>,
    },
    /// An LSTM layer.
    Lstm(Box<Lstm>),
    /// Adds columns of the model's input, times a factor.
    Skip {
        /// The first of them.
        first: usize,
        /// The factor.
        gain: f32,
    },
    /// Multiplies every number.
    Gain(f32),
    /// The time steps from the last to the first.
    Reverse,
    /// All time steps of a row side by side, as one step.
    Flatten {
        /// How many a sequence has.
        steps: usize,
    },
    /// Something without effect once training is over, such as dropout: its kind.
    Nothing(String),
    /// Something that this project does not run: its kind and sizes.
    Other(String),
}

impl Kind {
    /// Batch normalisation with its running mean and variance: γ·(x − mean) / √(variance + ε) + β.
    pub fn normalisation(
        gamma: &[f32],
        beta: &[f32],
        mean: &[f32],
        variance: &[f32],
        epsilon: f32,
    ) -> Self {
        let scale: Vec<f32> = gamma
            .iter()
            .zip(variance)
            .map(|(gamma, variance)| gamma / (variance + epsilon).sqrt())
            .collect();
        let each = beta.iter().zip(mean).zip(&scale);
        let shift = each
            .map(|((beta, mean), scale)| beta - mean * scale)
            .collect();
        Self::Affine { scale, shift }
    }
}

/// An LSTM layer.
#[derive(Clone, Debug)]
pub struct Lstm {
    /// Inputs and hidden units.
    pub layer: LayerShape,
    /// The equations.
    pub cell: Cell,
    /// The order of the steps.
    pub direction: Direction,
    /// What is handed on.
    pub returns: Returns,
    /// The parameters of each direction, as [`LstmStage`] has them.
    pub params: Vec<Vec<f32>>,
    /// The state of each direction to start from, if there is one: c `[H]`, then h `[P]`.
    pub start: Option<Vec<Vec<f32>>>,
}

impl Lstm {
    /// A plain layer in one direction that returns the sequence.
    pub fn new(layer: LayerShape, params: Vec<f32>) -> Self {
        Self {
            layer,
            cell: Cell::PLAIN,
            direction: Direction::Forward,
            returns: Returns::Sequence,
            params: vec![params],
            start: None,
        }
    }

    /// What the core runs.
    pub fn stage(&self) -> LstmStage {
        LstmStage {
            cell: self.cell,
            direction: self.direction,
            returns: self.returns,
            ..LstmStage::new(self.layer)
        }
    }
}
