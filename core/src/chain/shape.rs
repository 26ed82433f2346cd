//! The lengths of a chain's buffers, and what its stages must be to fit each other.

use super::recurrent::forward_room_len;
use super::stage::{Direction, LstmStage, Returns, Stage};
use super::train::training_lens;
use crate::error::ArgumentError;
use crate::layout::scratch::blocks;
use crate::layout::{Extent, NetworkShape};
use crate::narrow::NarrowLayer;

/// The lengths of the buffers of a [`Chain`](crate::Chain).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChainLengths {
    /// All stages' parameters.
    pub params: usize,
    /// All stages' states.
    pub state: usize,
    /// The input `[T, B, I]`.
    pub x: usize,
    /// The output `[T, B, O]`, or `[1, B, O]` behind a layer that returns one step; 0 without steps.
    pub y: usize,
    /// Room of a run.
    pub scratch: usize,
    /// What a forward pass keeps for the backward pass.
    pub cache: usize,
    /// Room of a backward pass.
    pub workspace: usize,
    /// The masks that training asks for, stage by stage: [`Stage::masks_len`]. Most chains have none.
    pub masks: usize,
}

pub(super) const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// Whether a layer runs as [`Model`](crate::Model) does. Without lengths of rows it does if its cell
/// is plain.
pub(super) fn is_plain(stage: &LstmStage, lengths: Option<&[usize]>) -> bool {
    stage.cell.is_plain() && lengths.is_none()
}

/// Room of a layer: of whatever kind its cell is.
pub(super) const fn lstm_room_len(stage: &LstmStage, extent: Extent) -> usize {
    let hidden = [stage.layer.hidden];
    let shape = NetworkShape::new(stage.layer.inputs, &hidden);
    let z = extent
        .rows()
        .saturating_mul(4)
        .saturating_mul(stage.layer.hidden);
    let own = if stage.is_narrow() {
        NarrowLayer::scratch_for(stage.layer)
    } else {
        max(
            shape.scratch_len(extent),
            z.saturating_add(forward_room_len(stage, extent)),
        )
    };
    let (reversed, apart) = apart_lens(stage, extent);
    own.saturating_add(reversed).saturating_add(apart)
}

/// Room for the input with its steps reversed, and for the output of a direction where it is not the
/// stage's.
pub(super) const fn apart_lens(stage: &LstmStage, extent: Extent) -> (usize, usize) {
    let rows = extent.rows();
    let forward = matches!(stage.direction, Direction::Forward);
    let whole = matches!(stage.returns, Returns::Sequence);
    let reversed = if forward {
        0
    } else {
        rows.saturating_mul(stage.layer.inputs)
    };
    let apart = if forward && whole {
        0
    } else {
        rows.saturating_mul(stage.outputs())
    };
    (reversed, apart)
}

/// The most numbers between two stages: room for what one hands to the next.
pub(super) const fn between_len(inputs: usize, stages: &[Stage], extent: Extent) -> usize {
    let (mut width, mut now, mut index) = (inputs, extent, 0);
    let mut widest = now.rows().saturating_mul(width);
    while index < stages.len() {
        width = stages[index].width(width);
        now = stages[index].extent(now);
        widest = max(widest, now.rows().saturating_mul(width));
        index += 1;
    }
    widest
}

/// The lengths for so many steps and rows. For invalid stages they have no meaning.
pub(super) const fn lengths(inputs: usize, stages: &[Stage], extent: Extent) -> ChainLengths {
    let (cache, workspace, masks) = training_lens(inputs, stages, extent);
    ChainLengths {
        masks,
        cache,
        workspace,
        ..inference_lengths(inputs, stages, extent)
    }
}

/// The same without those of training, which a step has no time for.
pub(super) const fn inference_lengths(
    inputs: usize,
    stages: &[Stage],
    extent: Extent,
) -> ChainLengths {
    let (mut params, mut state, mut room) = (0usize, 0usize, 0);
    let (mut width, mut now, mut index) = (inputs, extent, 0);
    while index < stages.len() {
        let stage = &stages[index];
        params = params.saturating_add(stage.params_len());
        state = state.saturating_add(stage.state_len(extent.batch));
        match stage {
            Stage::Lstm(lstm) => room = max(room, lstm_room_len(lstm, now)),
            Stage::Dense(shape) => {
                let product = [now.rows(), shape.outputs, shape.inputs];
                room = max(room, blocks::longest([product]));
            }
            _ => {}
        }
        width = stage.width(width);
        now = stage.extent(now);
        index += 1;
    }
    ChainLengths {
        cache: 0,
        workspace: 0,
        masks: 0,
        params,
        state,
        x: extent.rows().saturating_mul(inputs),
        y: now.rows().saturating_mul(width),
        scratch: room.saturating_add(between_len(inputs, stages, extent).saturating_mul(2)),
    }
}

/// Refuses stages that do not fit each other.
pub(crate) fn check(inputs: usize, stages: &[Stage]) -> Result<(), ArgumentError> {
    if inputs == 0 {
        return Err(ArgumentError::Zero { what: "inputs" });
    }
    let mut width = inputs;
    let mut whole = true;
    for (index, stage) in stages.iter().enumerate() {
        let refuse = |what| ArgumentError::Stage { index, what };
        let expect = |got| {
            if got == width {
                Ok(())
            } else {
                Err(ArgumentError::StageInputs {
                    index,
                    expected: got,
                    got: width,
                })
            }
        };
        match stage {
            Stage::Embedding { rows, width: to } => {
                expect(1)?;
                if *rows == 0 || *to == 0 {
                    return Err(refuse("a table of at least one number"));
                }
                if index > 0 {
                    return Err(refuse("a table to be the first stage"));
                }
            }
            Stage::Dense(shape) => {
                expect(shape.inputs)?;
                if shape.outputs == 0 {
                    return Err(refuse("at least one output"));
                }
            }
            Stage::Lstm(lstm) => {
                expect(lstm.layer.inputs)?;
                if lstm.layer.hidden == 0 {
                    return Err(refuse("at least one hidden unit"));
                }
                if lstm.outputs() == 0 {
                    return Err(refuse("a projection to at least one number"));
                }
                if let Some(what) = lstm.problem() {
                    return Err(refuse(what));
                }
                whole &= lstm.returns == Returns::Sequence;
            }
            Stage::Skip { first, .. } => {
                if !whole {
                    return Err(refuse("a skip where the steps are those of the input"));
                }
                if matches!(stages.first(), Some(Stage::Embedding { .. })) {
                    return Err(refuse("no skip in a chain that begins with a table"));
                }
                if first.saturating_add(width) > inputs {
                    return Err(refuse("a skip within the columns of the input"));
                }
            }
            Stage::Flatten { steps } => {
                if *steps == 0 {
                    return Err(refuse("at least one step"));
                }
                whole = false;
            }
            Stage::Reverse => whole = false,
            Stage::Activation(_) | Stage::Gain(_) | Stage::Mask { .. } => {}
        }
        width = stage.width(width);
    }
    Ok(())
}
