//! A long series through the network, some steps after the others: memory for what lies between
//! input and output does not grow with its length. The bits do not depend on where it is cut.

use crate::Error;
use crate::memory::{reserve, zeros};
use crate::parallel::InferParts;
use crate::threads;
use crate::units::{self, InferUnits};
use fused_lstm::{Extent, Model};

/// Rows of time and batch that go through together.
const ROWS: usize = 1 << 14;
/// Numbers in the widest of their buffers: wide networks take fewer rows at a time.
const NUMBERS: usize = 1 << 22;

/// A network on the cores that there are, and its buffers for a block.
pub(super) struct Blocks<'a> {
    model: Model<'a>,
    extent: Extent,
    y: Vec<f32>,
    by: By,
}

/// What the cores share.
enum By {
    Units(InferUnits),
    Rows(InferParts),
}

impl<'a> Blocks<'a> {
    /// For a series of this extent.
    pub(super) fn new(model: Model<'a>, series: Extent) -> Result<Self, Error> {
        let (shape, parts) = (model.shape(), rayon::current_num_threads());
        let widths = [shape.inputs, shape.classes.unwrap_or(0)];
        let widest = widths.iter().chain(shape.hidden).max().map_or(1, |w| *w);
        let rows = ROWS.min(NUMBERS / widest);
        let extent = Extent {
            steps: (rows / series.batch).clamp(1, series.steps),
            ..series
        };
        // They wait for each other after every step, so that more of them than cores would do
        // nothing but wait.
        let cores = parts.min(threads::cores());
        // What the parts take together, so that what cannot be had is refused and no abort.
        let rows = extent.rows().saturating_mul(shape.inputs + shape.outputs());
        let room = [
            rows.saturating_mul(2),
            // Packed by each of the cores that share the units.
            shape.params_len(),
            shape.scratch_len(extent),
            shape.state_len(extent.batch),
        ];
        reserve::<f32>(room.into_iter().fold(0, usize::saturating_add))?;
        Ok(Self {
            by: if units::pays(shape, extent.batch, cores) {
                By::Units(InferUnits::new(model, extent.batch, cores)?)
            } else {
                By::Rows(InferParts::new(shape, extent, parts))
            },
            y: zeros(extent.rows().saturating_mul(shape.outputs()))?,
            model,
            extent,
        })
    }

    /// Time steps of a block.
    pub(super) fn steps(&self) -> usize {
        self.extent.steps
    }

    /// The hidden states of so many time steps, at most a block's; `state` is advanced.
    pub(super) fn infer(
        &mut self,
        steps: usize,
        x: &[f32],
        state: &mut [f32],
    ) -> Result<&[f32], Error> {
        let (shape, batch) = (self.model.shape(), self.extent.batch);
        let y = &mut self.y[..steps * batch * shape.outputs()];
        match &mut self.by {
            By::Units(all) => all.infer(steps, x, state, y)?,
            By::Rows(all) => {
                // The last block may be shorter.
                if steps != self.extent.steps {
                    self.extent.steps = steps;
                    let parts = rayon::current_num_threads();
                    *all = InferParts::new(shape, self.extent, parts);
                }
                all.infer(self.model, x, state, y)?;
            }
        }
        Ok(y)
    }
}
