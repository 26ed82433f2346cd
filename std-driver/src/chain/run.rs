//! Inference through a chain of a file: room for it, and long sequences in blocks.

use super::ChainModel;
use crate::Error;
use crate::memory::zeros;
use fused_lstm::{ArgumentError, Chain, Extent, Stage};

/// Numbers between stages that a block of a long sequence has, about.
const BLOCK: usize = 1 << 16;

/// A chain with what it runs in.
///
/// ```
/// use fused_lstm::{Extent, LayerShape, LstmStage, Stage};
/// use fused_lstm_driver::chain::{ChainModel, NamedStage, Runner};
///
/// let stage = Stage::Lstm(LstmStage::new(LayerShape::new(1, 4)));
/// let model = ChainModel {
///     inputs: 1,
///     stages: vec![NamedStage { name: "lstm".into(), stage }],
///     params: vec![0.5; 96],
///     start: None,
///     sample_rate: None,
/// };
/// let mut runner = Runner::new(&model)?;
/// let extent = Extent { steps: 3, batch: 2 };
/// let mut state = runner.start(extent.batch)?;
/// let y = runner.run(extent, &[1.0; 6], &mut state)?;
/// assert_eq!((y.len(), state.len()), (3 * 2 * 4, 2 * 2 * 4));
/// # Ok::<(), fused_lstm_driver::Error>(())
/// ```
#[derive(Debug)]
pub struct Runner<'a> {
    model: &'a ChainModel,
    stages: Vec<Stage>,
    scratch: Vec<f32>,
}

impl<'a> Runner<'a> {
    /// Takes a model whose stages fit each other.
    pub fn new(model: &'a ChainModel) -> Result<Self, Error> {
        let stages = model.kinds();
        model.chain(&stages)?;
        Ok(Self {
            model,
            stages,
            scratch: Vec::new(),
        })
    }

    /// Whether no stage looks at later steps.
    pub fn is_causal(&self) -> bool {
        let chain = self.model.chain(&self.stages);
        chain.is_ok_and(|chain| chain.is_causal())
    }

    /// The width of the output.
    pub fn outputs(&self) -> usize {
        let widths = self.stages.iter();
        widths.fold(self.model.inputs, |width, stage| stage.width(width))
    }

    /// The state of so many rows that the model starts from.
    pub fn start(&self, batch: usize) -> Result<Vec<f32>, Error> {
        let tensors = super::state_tensors_of(&self.model.stages, 1);
        let widths = tensors.iter().flat_map(|(_, shape)| match shape[..] {
            [2, 1, hidden] => vec![hidden; 2],
            [1, width] => vec![width],
            _ => Vec::new(),
        });
        let lens = Chain::lengths(self.model.inputs, &self.stages, Extent { steps: 1, batch });
        let Some(start) = &self.model.start else {
            return zeros(lens.state);
        };
        let mut state = crate::memory::reserve(lens.state)?;
        let mut rest = &start[..];
        for width in widths {
            let (own, after) = rest.split_at(width);
            rest = after;
            (0..batch).for_each(|_| state.extend_from_slice(own));
        }
        Ok(state)
    }

    /// Runs `x` `[T, B, I]` and gives `[T, B, O]`, or `[1, B, O]` of a chain that returns one step. The
    /// state is advanced.
    pub fn run(&mut self, extent: Extent, x: &[f32], state: &mut [f32]) -> Result<Vec<f32>, Error> {
        self.run_rows(extent, None, x, state)
    }

    /// The same with rows that have so many steps each, as [`Chain::run`] takes them.
    pub fn run_rows(
        &mut self,
        extent: Extent,
        lengths: Option<&[usize]>,
        x: &[f32],
        state: &mut [f32],
    ) -> Result<Vec<f32>, Error> {
        let inputs = self.model.inputs;
        let chain = self.model.chain(&self.stages)?;
        let lens = Chain::lengths(inputs, &self.stages, extent);
        if x.len() != lens.x {
            let (expected, got) = (lens.x, x.len());
            return Err(ArgumentError::Length {
                what: "x",
                expected,
                got,
            }
            .into());
        }
        let mut y = zeros(lens.y)?;
        let one = Extent { steps: 1, ..extent };
        let each = Chain::lengths(inputs, &self.stages, one).scratch.max(1);
        let most = if chain.is_causal() && lengths.is_none() {
            (BLOCK / each).max(1)
        } else {
            usize::MAX
        };
        let mut at = 0;
        while at < extent.steps {
            let steps = most.min(extent.steps - at);
            let block = Extent { steps, ..extent };
            let room = Chain::lengths(inputs, &self.stages, block);
            if self.scratch.len() < room.scratch {
                self.scratch = zeros(room.scratch)?;
            }
            let x_at = at * extent.batch * inputs;
            let y_at = at * extent.batch * chain.outputs();
            chain.run(
                block,
                lengths,
                &x[x_at..x_at + room.x],
                state,
                &mut y[y_at..y_at + room.y],
                &mut self.scratch[..room.scratch],
            )?;
            at += steps;
        }
        Ok(y)
    }
}
