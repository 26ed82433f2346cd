//! A model whose kernels are packed once, for many sequences with the same weights.
//!
//! [`Model::infer`] packs the kernels of wide layers anew in every call, because the
//! weights may have changed; a batch of few rows and a short sequence notice it.

use crate::error::{ShapeError, check_len};
use crate::layout::{Extent, Params, from_line, take};
use crate::model::{Infer, Model};
use crate::sequence::pack_for_good;
use crate::simd::{Kernel, Level, Simd, dispatch};

/// A [`Model`] with the kernels of its layers of 46 units or more packed, for sequences of a
/// given batch. The bits that come out are [`Model::infer`]'s.
///
/// ```
/// use fused_lstm::{Extent, Model, NetworkShape, PackedModel};
///
/// let shape = NetworkShape { inputs: 2, hidden: &[48], classes: None };
/// let extent = Extent { steps: 3, batch: 4 };
/// let params = vec![0.01; shape.params_len()];
/// let model = Model::new(shape, &params)?;
/// let mut panels = vec![0.0; shape.packed_len()];
/// let packed = PackedModel::new(model, extent.batch, &mut panels)?;
///
/// let x = [0.5; 3 * 4 * 2];
/// let mut state = vec![0.0; shape.state_len(extent.batch)];
/// let mut y = vec![0.0; 3 * 4 * 48];
/// let mut scratch = vec![0.0; shape.packed_scratch_len(extent)];
/// packed.infer(extent, &x, &mut state, &mut y, &mut scratch)?;
///
/// let (mut state, mut same) = (vec![0.0; state.len()], vec![0.0; y.len()]);
/// model.infer(extent, &x, &mut state, &mut same, &mut vec![0.0; shape.scratch_len(extent)])?;
/// assert_eq!(y, same);
/// # Ok::<(), fused_lstm::ShapeError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PackedModel<'a> {
    model: Model<'a>,
    batch: usize,
    panels: &'a [f32],
    /// Whose order the panels have.
    level: Level,
}

impl<'a> PackedModel<'a> {
    /// Packs the kernels into `panels`, of [`NetworkShape::packed_len`] numbers, for batches of
    /// `batch` rows.
    ///
    /// [`NetworkShape::packed_len`]: crate::NetworkShape::packed_len
    pub fn new(model: Model<'a>, batch: usize, panels: &'a mut [f32]) -> Result<Self, ShapeError> {
        check_len("panels", model.shape().packed_len(), panels.len())?;
        let level = Level::current();
        dispatch(Pack {
            model,
            batch,
            panels: &mut *panels,
        });
        Ok(Self {
            model,
            batch,
            panels,
            level,
        })
    }

    /// The model whose kernels these are.
    pub fn model(&self) -> Model<'a> {
        self.model
    }

    /// [`Model::infer`], with a scratch of [`NetworkShape::packed_scratch_len`] numbers, which
    /// holds nothing of use after. Refuses another batch than it was packed for.
    ///
    /// [`NetworkShape::packed_scratch_len`]: crate::NetworkShape::packed_scratch_len
    pub fn infer(
        &self,
        extent: Extent,
        x: &[f32],
        state: &mut [f32],
        y: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<(), ShapeError> {
        let model = self.model;
        check_len("batch", self.batch, extent.batch)?;
        model.check_x_and_state(extent, x, state)?;
        check_len("y", model.outputs_len(extent), y.len())?;
        let needed = model.shape().packed_scratch_len(extent);
        check_len("scratch", needed, scratch.len())?;
        // Tests change the level; another one would read the panels in another order.
        let panels = if Level::current() == self.level {
            from_line(self.panels)
        } else {
            &[]
        };
        dispatch(Infer {
            model,
            extent,
            x,
            state,
            y,
            scratch,
            packed: Some(panels),
        });
        Ok(())
    }
}

struct Pack<'a> {
    model: Model<'a>,
    batch: usize,
    panels: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut params = self.model.params();
        let mut panels = from_line(self.panels);
        for layer in self.model.shape().layers() {
            let params = Params::cut(layer, take(&mut params, layer.params_len()));
            let panels = take(&mut panels, layer.packed_len());
            if layer.is_wide() {
                pack_for_good(s, layer, self.batch, params, panels);
            }
        }
    }
}
