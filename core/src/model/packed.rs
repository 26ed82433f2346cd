//! A model whose kernels are packed once, for many sequences with the same weights.
//!
//! [`Model::infer`] packs the kernels of wide layers anew in every call, because the
//! weights may have changed; a batch of few rows and a short sequence notice it.

use super::Model;
use crate::error::{ArgumentError, check_len};
use crate::layout::split::{align_to_cache_line, take};
use crate::layout::{Extent, Params};
use crate::lstm::weights::{FEW_ROWS, prepack};
use crate::simd::{Level, dispatch};

/// A [`Model`] with the kernels of its layers of 46 units or more packed, for sequences of
/// batches of about a given size. The bits that come out are [`Model::infer`]'s.
///
/// ```
/// use fused_lstm::{Extent, Model, NetworkShape, PackedModel};
///
/// let shape = NetworkShape::new(2, &[48]);
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
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PackedModel<'a> {
    model: Model<'a>,
    panels: &'a [f32],
    /// Whose order the panels have, and whether it is that of a few rows.
    order: (Level, bool),
}

impl<'a> PackedModel<'a> {
    /// Packs the kernels into `panels`, of [`NetworkShape::packed_len`] numbers, for batches of
    /// `batch` rows. Three rows or fewer read them in another order than more do.
    ///
    /// [`NetworkShape::packed_len`]: crate::NetworkShape::packed_len
    pub fn new(
        model: Model<'a>,
        batch: usize,
        panels: &'a mut [f32],
    ) -> Result<Self, ArgumentError> {
        check_len("panels", model.shape().packed_len(), panels.len())?;
        let order = (Level::current(), batch <= FEW_ROWS);
        let to = &mut *panels;
        pack_layers(model, batch, to);
        Ok(Self {
            model,
            panels,
            order,
        })
    }

    /// The model whose kernels these are.
    pub fn model(&self) -> Model<'a> {
        self.model
    }

    /// [`Model::infer`], with a scratch of [`NetworkShape::packed_scratch_len`] numbers, which
    /// holds nothing of use after. A batch that reads the kernels in another order than they
    /// were packed for takes the model's own.
    ///
    /// [`NetworkShape::packed_scratch_len`]: crate::NetworkShape::packed_scratch_len
    pub fn infer(
        &self,
        extent: Extent,
        x: &[f32],
        state: &mut [f32],
        y: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<(), ArgumentError> {
        let panels = if self.order == (Level::current(), extent.batch <= FEW_ROWS) {
            align_to_cache_line(self.panels)
        } else {
            &[]
        };
        self.model
            .infer_with(extent, x, state, y, scratch, Some(panels))
    }
}

fn pack_layers(model: Model, batch: usize, panels: &mut [f32]) {
    let mut params = model.params();
    let mut panels = align_to_cache_line(panels);
    for layer in model.shape().layers() {
        let params = Params::cut(layer, take(&mut params, layer.params_len()));
        let panels = take(&mut panels, layer.packed_len());
        if layer.is_wide() {
            dispatch!(s => prepack(s, layer, batch, params, panels));
        }
    }
}
