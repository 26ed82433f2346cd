//! Chains: stages of an imported network, run from arrays that `fused-lstm export` writes.

use super::buffers::{Span, apart, slice, span, writable};
use super::{ConstFloats, Floats, Status, status};
use crate::chain::{self, Chain, Direction, LstmStage, Returns};
use crate::layout::{DenseShape, Extent, LayerShape};
use crate::narrow::Storage;
use bytemuck::must_cast_slice;

/// The most stages of a chain.
const MOST_STAGES: usize = 16;

/// A row of a table for each input: `inputs` rows of `outputs` numbers.
const EMBEDDING: u32 = 1;
/// x·W + b, from `inputs` to `outputs`.
const DENSE: u32 = 2;
/// The function `gates` of every number or row.
const ACTIVATION: u32 = 3;
/// An LSTM layer of `outputs` hidden units over `inputs`.
const LSTM: u32 = 4;
/// Adds `gain` times the columns of the chain's input from `inputs` on.
const SKIP: u32 = 5;
/// Multiplies every number by `gain`.
const GAIN: u32 = 6;
/// The steps from the last to the first.
const REVERSE: u32 = 7;
/// All of `inputs` steps of a row as one.
const FLATTEN: u32 = 8;

/// A function: 0 linear, 1 tanh, 2 sigmoid, 3 ReLU, 4 hard sigmoid of `slope`, 5 softmax.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Activation {
    /// Which.
    pub kind: u32,
    /// Of the hard sigmoid.
    pub slope: f32,
}

/// A stage of a chain; fields that its kind does not have are 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// `FUSED_LSTM_EMBEDDING` 1, `_DENSE` 2, `_ACTIVATION` 3, `_LSTM` 4, `_SKIP` 5, `_GAIN` 6, `_REVERSE` 7 or `_FLATTEN` 8.
    pub kind: u32,
    /// Inputs.
    pub inputs: usize,
    /// Outputs, or hidden units.
    pub outputs: usize,
    /// Width of a layer's projection, 0 if it has none.
    pub projection: usize,
    /// Of a layer: 0 forward, 1 reverse, 2 both.
    pub direction: u32,
    /// What a layer hands on: 0 every step, 1 the last one, 2 the mean.
    pub returns: u32,
    /// Whether a layer has peepholes.
    pub peepholes: u32,
    /// Whether its f is 1 − i.
    pub coupled: u32,
    /// The function of its gates, or of an activation.
    pub gates: Activation,
    /// The function of its candidate.
    pub candidate: Activation,
    /// The function of its cell state.
    pub output: Activation,
    /// The largest magnitude of its pre-activations, 0 if there is none.
    pub preact_clip: f32,
    /// Of its cell state, likewise.
    pub cell_clip: f32,
    /// Of its projection, likewise.
    pub projection_clip: f32,
    /// The factor of a skip or gain.
    pub gain: f32,
    /// What a layer's weights are stored as: 0 float, 1 half precision, 2 int8. Its parameters
    /// are then words, bit by bit.
    pub storage: u32,
    /// Whether a layer's sums and cell state are normalised.
    pub layer_norm: u32,
    /// The zoneout of its cell state.
    pub zoneout_cell: f32,
    /// Of its hidden state.
    pub zoneout_hidden: f32,
}

/// How many values each buffer of [`fused_lstm_chain_run`] has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainLengths {
    /// All stages' parameters.
    pub params: usize,
    /// All layers' states.
    pub state: usize,
    /// Inputs `[steps, batch, inputs]`.
    pub x: usize,
    /// Outputs `[steps, batch, outputs]`, or `[1, batch, outputs]` behind a layer that hands on one
    /// step.
    pub y: usize,
    /// Room.
    pub scratch: usize,
}

/// Stages, from the first to the last.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Stages {
    /// The first.
    pub data: *const Stage,
    /// How many, at most 16.
    pub len: usize,
}

impl Activation {
    fn read(self) -> Result<chain::Activation, Status> {
        Ok(match self.kind {
            0 => chain::Activation::Linear,
            1 => chain::Activation::Tanh,
            2 => chain::Activation::Sigmoid,
            3 => chain::Activation::Relu,
            4 => chain::Activation::HardSigmoid { slope: self.slope },
            5 => chain::Activation::Softmax,
            _ => return Err(Status::Stage),
        })
    }
}

impl Stage {
    fn read(self) -> Result<chain::Stage, Status> {
        let most = |clip: f32| if clip == 0.0 { f32::INFINITY } else { clip };
        Ok(match self.kind {
            EMBEDDING => chain::Stage::Embedding {
                rows: self.inputs,
                width: self.outputs,
            },
            DENSE => chain::Stage::Dense(DenseShape::new(self.inputs, self.outputs)),
            ACTIVATION => chain::Stage::Activation(self.gates.read()?),
            LSTM => chain::Stage::Lstm(LstmStage {
                cell: chain::Cell {
                    projection: (self.projection > 0).then_some(self.projection),
                    peepholes: self.peepholes != 0,
                    coupled: self.coupled != 0,
                    gates: self.gates.read()?,
                    candidate: self.candidate.read()?,
                    output: self.output.read()?,
                    preact_clip: most(self.preact_clip),
                    cell_clip: most(self.cell_clip),
                    projection_clip: most(self.projection_clip),
                    layer_norm: self.layer_norm != 0,
                    zoneout: chain::Zoneout {
                        cell: self.zoneout_cell,
                        hidden: self.zoneout_hidden,
                    },
                },
                direction: match self.direction {
                    0 => Direction::Forward,
                    1 => Direction::Reverse,
                    2 => Direction::Both,
                    _ => return Err(Status::Stage),
                },
                returns: match self.returns {
                    0 => Returns::Sequence,
                    1 => Returns::Last,
                    2 => Returns::Mean,
                    _ => return Err(Status::Stage),
                },
                storage: match self.storage {
                    0 => Storage::F32,
                    1 => Storage::F16,
                    2 => Storage::Int8,
                    _ => return Err(Status::Stage),
                },
                ..LstmStage::new(LayerShape::new(self.inputs, self.outputs))
            }),
            SKIP => chain::Stage::Skip {
                first: self.inputs,
                gain: self.gain,
            },
            GAIN => chain::Stage::Gain(self.gain),
            REVERSE => chain::Stage::Reverse,
            FLATTEN => chain::Stage::Flatten { steps: self.inputs },
            _ => return Err(Status::Stage),
        })
    }
}

/// The stages, copied to the caller's room, and where they lie.
///
/// # Safety
///
/// What every caller promises, at the top of the module.
unsafe fn read(
    stages: Stages,
    room: &mut [chain::Stage; MOST_STAGES],
) -> Result<(&[chain::Stage], Span), Status> {
    let own = span(stages.data, stages.len)?;
    // SAFETY: accepted by `span`; the caller promises the rest.
    let stages = unsafe { slice(stages.data, stages.len) };
    let to = room.get_mut(..stages.len()).ok_or(Status::Stage)?;
    for (to, stage) in to.iter_mut().zip(stages) {
        *to = stage.read()?;
    }
    Ok((to, own))
}

/// How long the buffers of a chain are for `steps` time steps of `batch` rows; `*lengths` is
/// overwritten.
///
/// # Safety
///
/// What every caller promises, at the top.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fused_lstm_chain_lengths(
    inputs: usize,
    stages: Stages,
    steps: usize,
    batch: usize,
    lengths: *mut ChainLengths,
) -> Status {
    status((|| {
        let mut room = [chain::Stage::Reverse; MOST_STAGES];
        // SAFETY: the caller's promise.
        let (stages, own) = unsafe { read(stages, &mut room) }?;
        apart(&[own], &[span(lengths, 1)?])?;
        chain::check(inputs, stages)?;
        let lens = Chain::lengths(inputs, stages, Extent { steps, batch });
        let all = ChainLengths {
            params: lens.params,
            state: lens.state,
            x: lens.x,
            y: lens.y,
            scratch: lens.scratch,
        };
        // SAFETY: neither null nor misaligned, and the caller's to write.
        unsafe { lengths.write(all) };
        Ok(())
    })())
}

/// Runs a chain: `state` is advanced by `steps` time steps, `y` is overwritten, and what is in
/// `scratch` does not matter. A stream is taken with `steps` = 1, where the chain does not look ahead.
///
/// # Safety
///
/// What every caller promises, at the top.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fused_lstm_chain_run(
    inputs: usize,
    stages: Stages,
    params: ConstFloats,
    steps: usize,
    batch: usize,
    x: ConstFloats,
    state: Floats,
    y: Floats,
    scratch: Floats,
) -> Status {
    status((|| {
        let mut room = [chain::Stage::Reverse; MOST_STAGES];
        // SAFETY: the caller's promise.
        let (stages, own) = unsafe { read(stages, &mut room) }?;
        let read = [own, params.span()?, x.span()?];
        // SAFETY: as above.
        let [state, y, scratch] = unsafe { writable(&read, [state, y, scratch]) }?;
        // SAFETY: accepted by `span`, and apart from what is written.
        let (params, x) = unsafe { (params.slice(), x.slice()) };
        let extent = Extent { steps, batch };
        Chain::of_words(inputs, stages, must_cast_slice(params))?
            .run(extent, None, x, state, y, scratch)?;
        Ok(())
    })())
}
