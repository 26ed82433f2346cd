//! What a chain is made of: the kinds of stages, and the options of an LSTM layer.

use crate::layout::{DenseShape, Extent, LayerShape};
use crate::narrow::Storage;

/// A function of one number, or of a row.
///
/// ```
/// use fused_lstm::Activation;
///
/// let mut row = [-1.0, 0.0, 1.0];
/// Activation::HardSigmoid { slope: 0.2 }.apply(3, &mut row)?;
/// assert_eq!(row, [0.3, 0.5, 0.7]);
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// x.
    Linear,
    /// tanh x.
    Tanh,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// max(0, x).
    Relu,
    /// slope·x + 0.5, clipped to 0 and 1. Keras 1 and 2, TensorFlow.js and ONNX have a slope of
    /// 0.2, Keras 3 and PyTorch one of 1/6.
    HardSigmoid {
        /// How steep it is.
        slope: f32,
    },
    /// The exponentials of a row, divided by their sum. Not allowed in a cell.
    Softmax,
}

/// The order in which a layer takes the time steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Direction {
    /// From the first to the last.
    Forward,
    /// From the last to the first.
    Reverse,
    /// Both, with weights for each; a row of the output is that of the forward direction and
    /// then that of the other.
    Both,
}

impl Direction {
    /// How many directions these are.
    pub const fn count(self) -> usize {
        match self {
            Self::Forward | Self::Reverse => 1,
            Self::Both => 2,
        }
    }
}

/// What a layer hands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Returns {
    /// The output of every step, `[T, B, P]`.
    Sequence,
    /// The output of the step that a direction takes last, `[1, B, P]`: with lengths, of each
    /// row's own, and the initial hidden state of a row without steps. For the reverse direction
    /// this is the output at the first time step.
    Last,
    /// The mean over the steps, `[1, B, P]`: with lengths, over each row's own.
    Mean,
}

/// How likely a unit keeps its state of the step before (Krueger et al. 2017), from 0 to 1 each.
///
/// A run takes the expectation, c' = z·c + (1 − z)·c_new and likewise h; training takes 0 and 1 of
/// the caller's masks for z, [`LstmStage::masks_len`]. As TensorFlow's code has it (`ZoneoutWrapper`
/// of the authors, `ZoneoutLSTMCell` of Tacotron 2), the cell is run as it is and what it carries to the next
/// step is mixed afterwards: h_new is that of c_new before it is mixed, and the *output* is h_new; only
/// the carried h is mixed.
///
/// ```
/// use fused_lstm::{Cell, Zoneout};
///
/// let cell = Cell { zoneout: Zoneout { cell: 0.1, hidden: 0.05 }, ..Cell::PLAIN };
/// assert!(!cell.is_plain());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zoneout {
    /// Of the cell state c.
    pub cell: f32,
    /// Of the hidden state h.
    pub hidden: f32,
}

impl Zoneout {
    /// Both 0.
    pub const NONE: Self = Self {
        cell: 0.0,
        hidden: 0.0,
    };
}

/// The equations of a cell, as options beside [`PLAIN`](Self::PLAIN). More options may come: a value is
/// best made with `..Cell::PLAIN`.
///
/// The clips are infinite where nothing is clipped; 0, less and NaN are refused.
///
/// ```
/// use fused_lstm::{Activation, Cell};
///
/// // As an old Keras model has it.
/// let cell = Cell { gates: Activation::HardSigmoid { slope: 0.2 }, ..Cell::PLAIN };
/// assert!(!cell.is_plain());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// P, the width of a projection of the hidden state, which is then both the output and what
    /// the next step reads: LSTMP (Sak et al. 2014).
    pub projection: Option<usize>,
    /// Whether the gates see the cell state (Gers and Schmidhuber 2000): i and f that before the
    /// step, o the new one.
    pub peepholes: bool,
    /// Whether f = 1 − i; the weights of f are not used then (Greff et al. 2017).
    pub coupled: bool,
    /// The function of i, f and o.
    pub gates: Activation,
    /// That of the candidate j.
    pub candidate: Activation,
    /// That of the cell state on its way out.
    pub output: Activation,
    /// The largest magnitude of a pre-activation: ONNX's `clip`.
    pub preact_clip: f32,
    /// The largest magnitude of a new cell state: TensorFlow's `cell_clip`.
    pub cell_clip: f32,
    /// The largest magnitude of a projected output: TensorFlow's `proj_clip`. Without a projection
    /// it does nothing.
    pub projection_clip: f32,
    /// How likely its states stay as they are.
    pub zoneout: Zoneout,
    /// Whether the sums of each gate and the new cell state are normalised over the units (Ba, Kiros
    /// and Hinton 2016), as TensorFlow's `LayerNormBasicLSTMCell` and `LayerNormLSTMCell` have it:
    /// x·Wx + h·Wh, without a bias, is normalised for each gate, multiplied by the gate's gain, and the
    /// layer's bias is added; c_new is normalised with a gain and a shift of its own. What the gates
    /// see of c through peepholes is added behind, and c is clipped behind. Gains start from 1, the forget
    /// bias is part of f's. Not with coupled gates or a `preact_clip`, for which no system says what
    /// it means.
    pub layer_norm: bool,
}

impl Cell {
    /// The cell of [`Lstm`](crate::Lstm) and [`Model`](crate::Model).
    pub const PLAIN: Self = Self {
        projection: None,
        peepholes: false,
        coupled: false,
        gates: Activation::Sigmoid,
        candidate: Activation::Tanh,
        output: Activation::Tanh,
        preact_clip: f32::INFINITY,
        cell_clip: f32::INFINITY,
        projection_clip: f32::INFINITY,
        zoneout: Zoneout::NONE,
        layer_norm: false,
    };

    /// What is wrong with it, if anything is.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let functions = [self.gates, self.candidate, self.output];
        let clips = [self.preact_clip, self.cell_clip, self.projection_clip];
        let rates = [self.zoneout.cell, self.zoneout.hidden];
        if functions.contains(&Activation::Softmax) {
            Some("functions of one number in a cell")
        } else if !clips.iter().all(|&clip| clip > 0.0) {
            Some("clipping to more than 0")
        } else if !rates.iter().all(|rate| (0.0..=1.0).contains(rate)) {
            Some("zoneout from 0 to 1")
        } else if self.layer_norm && (self.coupled || self.preact_clip.is_finite()) {
            Some("layer normalisation without coupled gates and clipped pre-activations")
        } else {
            None
        }
    }

    /// Whether there are no options.
    pub fn is_plain(&self) -> bool {
        *self == Self::PLAIN
    }
}

/// An LSTM layer of a chain.
///
/// Its parameters are those of one direction, and then those of the other: the kernel
/// `[I+P, 4, H]` and the bias `[4, H]`, gates i, j, f, o; then, if there are such, of layer normalisation
/// the gates' gains `[4, H]` and the cell state's gain and shift `[2, H]`, the peepholes `[3, H]` of i, f and o,
/// and the projection `[H, P]`. Its state is c `[B, H]` and then h `[B, P]` of each
/// direction. P is H where there is no projection.
///
/// Another storage than `F32` is for plain cells, and for inference: the parameters of a direction are
/// then the words of a [`NarrowLayer`](crate::NarrowLayer), bit by bit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LstmStage {
    /// Inputs I and hidden units H.
    pub layer: LayerShape,
    /// The equations.
    pub cell: Cell,
    /// The order of the steps.
    pub direction: Direction,
    /// What is handed on.
    pub returns: Returns,
    /// What the weights are stored as.
    pub storage: Storage,
    /// Whether training multiplies the hidden state by a mask of the caller's, the same for all steps
    /// and all gates, on its way into them (Gal and Ghahramani 2016; Keras's `recurrent_dropout` with
    /// `implementation` 2). What is carried and handed on is not masked, and a run knows of no mask.
    pub recurrent_mask: bool,
}

impl LstmStage {
    /// A plain layer.
    pub const fn new(layer: LayerShape) -> Self {
        Self {
            layer,
            cell: Cell::PLAIN,
            direction: Direction::Forward,
            returns: Returns::Sequence,
            storage: Storage::F32,
            recurrent_mask: false,
        }
    }

    /// Whether its weights are stored in fewer bits.
    pub const fn is_narrow(&self) -> bool {
        !matches!(self.storage, Storage::F32)
    }

    /// What is wrong with it, if anything is.
    pub(super) fn problem(&self) -> Option<&'static str> {
        if self.is_narrow() && !self.cell.is_plain() {
            return Some("a plain cell for weights of fewer bits");
        }
        self.cell.problem()
    }

    /// P, the outputs of one direction.
    pub const fn outputs(&self) -> usize {
        match self.cell.projection {
            Some(outputs) => outputs,
            None => self.layer.hidden,
        }
    }

    /// The parameters of one direction.
    pub const fn direction_params_len(&self) -> usize {
        if self.is_narrow() {
            return self.storage.words_len(self.layer);
        }
        let LayerShape { inputs, hidden } = self.layer;
        let rows = inputs.saturating_add(self.outputs()).saturating_add(1);
        let mut len = rows.saturating_mul(4).saturating_mul(hidden);
        if self.cell.layer_norm {
            len = len.saturating_add(hidden.saturating_mul(6));
        }
        if self.cell.peepholes {
            len = len.saturating_add(hidden.saturating_mul(3));
        }
        if self.cell.projection.is_some() {
            len = len.saturating_add(hidden.saturating_mul(self.outputs()));
        }
        len
    }

    /// The parameters.
    pub const fn params_len(&self) -> usize {
        self.direction_params_len()
            .saturating_mul(self.direction.count())
    }

    /// The state of one direction.
    pub const fn direction_state_len(&self, batch: usize) -> usize {
        self.layer
            .hidden
            .saturating_add(self.outputs())
            .saturating_mul(batch)
    }

    /// The state.
    pub const fn state_len(&self, batch: usize) -> usize {
        self.direction_state_len(batch)
            .saturating_mul(self.direction.count())
    }

    /// The masks of one direction: of the hidden state on its way into the gates, `[B, P]`; then which
    /// cell states stay, `[T, B, H]`, and which hidden states do, `[T, B, P]`, with the steps in the
    /// order in which the direction takes them. Each if the layer has such.
    pub const fn direction_masks_len(&self, extent: Extent) -> usize {
        let outputs = self.outputs();
        let mut len = 0usize;
        if self.recurrent_mask {
            len = extent.batch.saturating_mul(outputs);
        }
        if self.cell.zoneout.cell > 0.0 {
            len = len.saturating_add(extent.rows().saturating_mul(self.layer.hidden));
        }
        if self.cell.zoneout.hidden > 0.0 {
            len = len.saturating_add(extent.rows().saturating_mul(outputs));
        }
        len
    }

    /// The masks that training asks for: those of one direction, and then those of the other.
    pub const fn masks_len(&self, extent: Extent) -> usize {
        self.direction_masks_len(extent)
            .saturating_mul(self.direction.count())
    }
}

/// One stage of a [`Chain`](crate::Chain).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Stage {
    /// A row of a table `[rows, width]` for each input, which is the row's number.
    Embedding {
        /// Rows of the table.
        rows: usize,
        /// Numbers in a row.
        width: usize,
    },
    /// x·W + b, with W `[I, O]` and b `[O]`, of every step, those beyond a row's length too.
    Dense(DenseShape),
    /// A function of every number, or of every row.
    Activation(Activation),
    /// An LSTM layer.
    Lstm(LstmStage),
    /// Adds columns of the chain's input, times a factor. It stands where the time steps are those of
    /// the input, in their order, and in no chain that begins with a table.
    Skip {
        /// The first of as many columns as the stage has outputs.
        first: usize,
        /// The factor.
        gain: f32,
    },
    /// Multiplies every number.
    Gain(f32),
    /// The time steps from the last to the first; of a row with a length, only its own.
    Reverse,
    /// All time steps of a row side by side, as one step, those beyond its length too: a sequence must
    /// have so many.
    Flatten {
        /// The steps.
        steps: usize,
    },
    /// In training, multiplies by a mask of the caller's, which holds 0 for what is dropped and
    /// 1 / (the share that is kept) elsewhere; a run hands on what it gets.
    Mask {
        /// Whether every step has a mask of its own, `[T, B, W]`, and not all the same, `[B, W]`
        /// (Gal and Ghahramani 2016).
        per_step: bool,
    },
}

impl Stage {
    /// The parameters.
    pub const fn params_len(&self) -> usize {
        match self {
            Self::Embedding { rows, width } => rows.saturating_mul(*width),
            Self::Dense(shape) => shape.params_len(),
            Self::Lstm(stage) => stage.params_len(),
            _ => 0,
        }
    }

    /// The state.
    pub const fn state_len(&self, batch: usize) -> usize {
        match self {
            Self::Lstm(stage) => stage.state_len(batch),
            _ => 0,
        }
    }

    /// The masks that training asks for, where so many numbers come to it in a row.
    pub const fn masks_len(&self, width: usize, extent: Extent) -> usize {
        match self {
            Self::Lstm(stage) => stage.masks_len(extent),
            Self::Mask { per_step: true } => extent.rows().saturating_mul(width),
            Self::Mask { per_step: false } => extent.batch.saturating_mul(width),
            _ => 0,
        }
    }

    /// The width of a row behind it, of one of so many numbers before it.
    pub const fn width(&self, before: usize) -> usize {
        match self {
            Self::Embedding { width, .. } => *width,
            Self::Dense(shape) => shape.outputs,
            Self::Lstm(stage) => stage.outputs().saturating_mul(stage.direction.count()),
            Self::Flatten { steps } => before.saturating_mul(*steps),
            _ => before,
        }
    }

    /// Whether it is a layer whose weights are stored in fewer bits.
    pub const fn is_narrow(&self) -> bool {
        matches!(self, Self::Lstm(stage) if stage.is_narrow())
    }

    /// Whether as many steps come out as went in.
    pub(crate) const fn is_whole(&self) -> bool {
        !matches!(
            self,
            Self::Flatten { .. }
                | Self::Lstm(LstmStage {
                    returns: Returns::Last | Returns::Mean,
                    ..
                })
        )
    }

    /// The steps behind it.
    pub(crate) const fn extent(&self, before: Extent) -> Extent {
        if self.is_whole() || before.steps == 0 {
            return before;
        }
        Extent {
            steps: 1,
            batch: before.batch,
        }
    }
}
