//! The run-time API: a network whose sizes are known only when it runs, over
//! borrowed flat buffers.

mod packed;
pub use packed::PackedModel;

use crate::error::{ShapeError, check_len, check_lens};
use crate::layout::scratch::InferenceRoom;
use crate::layout::split::{align_to_cache_line, copy_prefix, take, take_last};
use crate::layout::{CacheView, Cut, Extent, NetworkShape, Params, StateView};
use crate::lstm::layer::{BackwardProducts, BackwardSteps, Forward, Infer, Passes};
use crate::lstm::weights::Panels;
use crate::simd::dispatch;
use crate::train::dense::{backward_rows, forward_rows};
use crate::train::loss::{CrossEntropy, Loss, SquaredError, check_labels};

/// A network over borrowed parameters, its shape checked.
///
/// Every buffer is flat and given by the caller; its length comes from the
/// [`NetworkShape`], its layout from the [`layout`](crate::layout) module.
///
/// ```
/// use fused_lstm::{Extent, Model, NetworkShape};
///
/// // A stack of unequal layers, 6 inputs, 4 and then 5 units; 2 rows, 3 steps.
/// let shape = NetworkShape { inputs: 6, hidden: &[4, 5], classes: None };
/// let extent = Extent { steps: 3, batch: 2 };
/// let params = vec![0.1; shape.params_len()];
/// let model = Model::new(shape, &params)?;
///
/// let mut state = vec![0.0; shape.state_len(extent.batch)];
/// let mut scratch = vec![0.0; shape.scratch_len(extent)];
/// let mut y = vec![0.0; 3 * 2 * 5];
/// model.infer(extent, &[1.0; 3 * 2 * 6], &mut state, &mut y, &mut scratch)?;
/// assert_eq!(y[20..], state[16 + 10..]); // the last step's h is the state's h
/// # Ok::<(), fused_lstm::ShapeError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    shape: NetworkShape<'a>,
    params: &'a [f32],
}

impl<'a> Model<'a> {
    /// Refuses a size that is zero, and parameters of another length than
    /// [`NetworkShape::params_len`].
    pub fn new(shape: NetworkShape<'a>, params: &'a [f32]) -> Result<Self, ShapeError> {
        shape.check()?;
        check_len("params", shape.params_len(), params.len())?;
        Ok(Self { shape, params })
    }

    /// The sizes.
    pub fn shape(&self) -> NetworkShape<'a> {
        self.shape
    }

    /// The parameters.
    pub fn params(&self) -> &'a [f32] {
        self.params
    }

    pub(crate) fn check_x_and_state(
        &self,
        extent: Extent,
        x: &[f32],
        state: &[f32],
    ) -> Result<(), ShapeError> {
        check_len(
            "x",
            extent.rows().saturating_mul(self.shape.inputs),
            x.len(),
        )?;
        check_len("state", self.shape.state_len(extent.batch), state.len())
    }

    pub(crate) fn outputs_len(&self, extent: Extent) -> usize {
        extent.rows().saturating_mul(self.shape.outputs())
    }

    /// The LSTM layers without a cache: a streaming step or a whole sequence.
    ///
    /// `x` `[T, B, I]` is read, `state` advanced; `y` `[T, B, H]` is overwritten with
    /// the last layer's hidden states; `scratch`
    /// ([`NetworkShape::scratch_len`]) holds nothing of use after.
    pub fn infer(
        &self,
        extent: Extent,
        x: &[f32],
        state: &mut [f32],
        y: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<(), ShapeError> {
        self.check_x_and_state(extent, x, state)?;
        check_len("y", self.outputs_len(extent), y.len())?;
        let room = self.shape.inference_room(extent);
        check_len("scratch", room.len(), scratch.len())?;
        infer_layers(*self, extent, x, state, y, scratch, room, None);
        Ok(())
    }

    /// The dense head: `logits` `[T, B, C]` is overwritten with y·W + b of `y`
    /// `[T, B, H]`.
    pub fn logits(&self, extent: Extent, y: &[f32], logits: &mut [f32]) -> Result<(), ShapeError> {
        let head = self.shape.head().ok_or(ShapeError::NoHead)?;
        let (_, params) = self.params.cut(self.params.len() - head.params_len());
        crate::train::dense::forward(head, extent.rows(), params, y, logits)
    }

    /// The LSTM layers with a cache for [`backward`](Self::backward).
    ///
    /// `x` `[T, B, I]` is read, `state` advanced; `cache`
    /// ([`NetworkShape::cache_len`]) is overwritten. The output is in it:
    /// [`output`](Self::output).
    pub fn forward(
        &self,
        extent: Extent,
        x: &[f32],
        state: &mut [f32],
        cache: &mut [f32],
    ) -> Result<(), ShapeError> {
        self.check_x_and_state(extent, x, state)?;
        check_len("cache", self.shape.cache_len(extent), cache.len())?;
        let model = *self;
        forward_layers(model, extent, x, state, cache);
        Ok(())
    }

    /// The last layer's hidden states `[T, B, H]` in a cache that
    /// [`forward`](Self::forward) filled.
    pub fn output<'c>(&self, extent: Extent, cache: &'c [f32]) -> Result<&'c [f32], ShapeError> {
        check_len("cache", self.shape.cache_len(extent), cache.len())?;
        Ok(output(cache, self.outputs_len(extent)))
    }

    /// The gradients of the LSTM layers, from that of their output.
    ///
    /// `x` and `cache` are those of [`forward`](Self::forward); `dy` `[T, B, H]` is
    /// the gradient of the output; `dstate`
    /// ([`NetworkShape::state_len`]) holds the gradient of the final state (zeros
    /// if there is none) and is overwritten with that of the initial state.
    /// `gradients`, as the parameters, is accumulated to (a head's is left alone);
    /// `dx` `[T, B, I]`, if wanted, is overwritten. `workspace`
    /// ([`NetworkShape::workspace_len`]) and `cache` hold nothing of use after.
    pub fn backward(
        &self,
        extent: Extent,
        x: &[f32],
        dy: &[f32],
        dstate: &mut [f32],
        cache: &mut [f32],
        gradients: &mut [f32],
        dx: Option<&mut [f32]>,
        workspace: &mut [f32],
    ) -> Result<(), ShapeError> {
        self.check_x_and_state(extent, x, dstate)?;
        check_len("dy", self.outputs_len(extent), dy.len())?;
        check_len("cache", self.shape.cache_len(extent), cache.len())?;
        check_len("gradients", self.params.len(), gradients.len())?;
        if let Some(dx) = &dx {
            check_len("dx", x.len(), dx.len())?;
        }
        check_len(
            "workspace",
            self.shape.workspace_len(extent),
            workspace.len(),
        )?;
        let (model, dy) = (*self, Some(dy));
        backward_layers(
            model, extent, x, dy, dstate, cache, gradients, dx, workspace,
        );
        Ok(())
    }

    /// Forward, softmax cross-entropy averaged over all T·B rows, and backward:
    /// everything of a training step but the update. Gives the loss.
    ///
    /// `x` `[T, B, I]` and `labels` `[T, B]` are read, `state` is advanced, `gradients`
    /// accumulated to; `probabilities` `[T, B, C]` is overwritten with the softmax.
    /// `cache` and `workspace` hold nothing of use after. The gradient does not
    /// reach back into the state: truncated backpropagation.
    ///
    /// Rows with the label [`loss::IGNORE`](crate::train::loss::IGNORE), such as the padding of a short
    /// sequence, do not count: the mean is over the others, though the state advances through
    /// all. If no row counts, the loss and the gradient are 0.
    ///
    /// A gradient is one sum over the T·B rows, taken in order, and its roundings grow with their
    /// number: to 3e-6 of the largest gradient with 10⁵ random rows, and 2.5e-3 with 10⁶. Where
    /// that is too much, give parts of the batch gradients of their own, and add these.
    ///
    /// ```
    /// use fused_lstm::{Extent, Model, NetworkShape};
    ///
    /// let shape = NetworkShape { inputs: 1, hidden: &[4, 4, 4], classes: Some(2) };
    /// let extent = Extent { steps: 15, batch: 5 };
    /// let params = vec![0.0; shape.params_len()];
    /// let mut state = vec![0.0; shape.state_len(5)];
    /// let mut gradients = vec![0.0; params.len()];
    /// let mut probabilities = vec![0.0; shape.logits_len(extent)];
    /// let mut cache = vec![0.0; shape.cache_len(extent)];
    /// let mut workspace = vec![0.0; shape.workspace_len(extent)];
    /// let loss = Model::new(shape, &params)?.loss_gradient(
    ///     extent, &[1.0; 75], &[0; 75], &mut state,
    ///     &mut gradients, &mut probabilities, &mut cache, &mut workspace,
    /// )?;
    /// assert!((loss - core::f32::consts::LN_2).abs() < 1e-6);
    /// # Ok::<(), fused_lstm::ShapeError>(())
    /// ```
    pub fn loss_gradient(
        &self,
        extent: Extent,
        x: &[f32],
        labels: &[u32],
        state: &mut [f32],
        gradients: &mut [f32],
        probabilities: &mut [f32],
        cache: &mut [f32],
        workspace: &mut [f32],
    ) -> Result<f32, ShapeError> {
        let classes = self.shape.classes.ok_or(ShapeError::NoHead)?;
        self.check_x_and_state(extent, x, state)?;
        if labels.is_empty() {
            return Err(ShapeError::Zero { what: "labels" });
        }
        check_len("labels", extent.rows(), labels.len())?;
        check_labels(classes, labels)?;
        let shape = self.shape;
        check_lens(&[
            ("gradients", self.params.len(), gradients.len()),
            (
                "probabilities",
                shape.logits_len(extent),
                probabilities.len(),
            ),
            ("cache", shape.cache_len(extent), cache.len()),
            ("workspace", shape.workspace_len(extent), workspace.len()),
        ])?;
        let (model, loss) = (*self, CrossEntropy(labels));
        Ok(loss_gradient(
            model,
            extent,
            x,
            loss,
            state,
            gradients,
            probabilities,
            cache,
            workspace,
        ))
    }

    /// Forward, mean squared error, and backward: the training step of a network whose outputs
    /// are numbers. Gives the loss, [`masked_mean_squared_error`]'s.
    ///
    /// The outputs `y` `[T, B, O]`, which are overwritten, are the head's, of O = C numbers, or
    /// the last layer's hidden states if there is no head, with O = H. `x` `[T, B, I]` and
    /// `targets` `[T, B, O]` are read; `mask` `[T, B]`, if there is one, says which rows count.
    /// All else is as in [`loss_gradient`](Self::loss_gradient).
    ///
    /// [`masked_mean_squared_error`]: crate::train::loss::masked_mean_squared_error
    ///
    /// ```
    /// use fused_lstm::{Extent, Model, NetworkShape};
    ///
    /// let shape = NetworkShape { inputs: 1, hidden: &[4], classes: Some(1) };
    /// let extent = Extent { steps: 3, batch: 2 };
    /// let params = vec![0.0; shape.params_len()];
    /// let mut state = vec![0.0; shape.state_len(2)];
    /// let mut gradients = vec![0.0; params.len()];
    /// let mut y = [0.0; 6];
    /// let mut cache = vec![0.0; shape.cache_len(extent)];
    /// let mut workspace = vec![0.0; shape.workspace_len(extent)];
    /// // The second sequence has one step only.
    /// let mask = [true, true, true, false, true, false];
    /// let loss = Model::new(shape, &params)?.squared_error_gradient(
    ///     extent, &[1.0; 6], &[0.5; 6], Some(&mask), &mut state,
    ///     &mut gradients, &mut y, &mut cache, &mut workspace,
    /// )?;
    /// assert_eq!(loss, 0.25);
    /// assert_eq!(gradients[params.len() - 1], -1.0); // the head's bias
    /// # Ok::<(), fused_lstm::ShapeError>(())
    /// ```
    pub fn squared_error_gradient(
        &self,
        extent: Extent,
        x: &[f32],
        targets: &[f32],
        mask: Option<&[bool]>,
        state: &mut [f32],
        gradients: &mut [f32],
        y: &mut [f32],
        cache: &mut [f32],
        workspace: &mut [f32],
    ) -> Result<f32, ShapeError> {
        let mask = mask.map(bytemuck::cast_slice);
        self.squared_error_gradient_of(
            extent, x, targets, mask, state, gradients, y, cache, workspace,
        )
    }

    /// [`squared_error_gradient`](Self::squared_error_gradient), with a mask of bytes.
    pub(crate) fn squared_error_gradient_of(
        &self,
        extent: Extent,
        x: &[f32],
        targets: &[f32],
        mask: Option<&[u8]>,
        state: &mut [f32],
        gradients: &mut [f32],
        y: &mut [f32],
        cache: &mut [f32],
        workspace: &mut [f32],
    ) -> Result<f32, ShapeError> {
        self.check_x_and_state(extent, x, state)?;
        let width = self.shape.classes.unwrap_or(self.shape.outputs());
        let len = extent.rows().saturating_mul(width);
        if targets.is_empty() {
            return Err(ShapeError::Zero { what: "targets" });
        }
        check_len("targets", len, targets.len())?;
        if let Some(mask) = mask {
            check_len("mask", extent.rows(), mask.len())?;
        }
        let shape = self.shape;
        check_lens(&[
            ("gradients", self.params.len(), gradients.len()),
            ("y", len, y.len()),
            ("cache", shape.cache_len(extent), cache.len()),
            ("workspace", shape.workspace_len(extent), workspace.len()),
        ])?;
        let loss = SquaredError {
            target: targets,
            mask,
        };
        let model = *self;
        Ok(loss_gradient(
            model, extent, x, loss, state, gradients, y, cache, workspace,
        ))
    }
}

/// The end of a cache: the last layer's h without its first row.
#[inline(always)]
fn output(mut cache: &[f32], len: usize) -> &[f32] {
    take_last(&mut cache, len)
}

pub(crate) fn infer_layers(
    model: Model,
    extent: Extent,
    x: &[f32],
    mut state: &mut [f32],
    y: &mut [f32],
    mut scratch: &mut [f32],
    room: InferenceRoom,
    mut packed: Option<&[f32]>,
) {
    let shape = model.shape;
    let mut params = model.params;
    let blocks = take_last(&mut scratch, room.blocks);
    let preact = take_last(&mut scratch, room.preact);
    let panels = match packed {
        Some(_) => &mut [],
        None => take_last(&mut scratch, room.panels),
    };
    // What a layer reads and what it writes change places after each layer.
    let half = if shape.hidden.len() > 2 {
        scratch.len() / 2
    } else {
        scratch.len()
    };
    let (mut to, mut from) = scratch.cut(half);
    let last = shape.hidden.len() - 1;
    let mut y = Some(y);
    for (index, layer) in shape.layers().enumerate() {
        let (before, _) = from.cut(extent.rows() * layer.inputs);
        let (between, _) = (&mut *to).cut(extent.rows() * layer.hidden);
        let args = Infer {
            shape: layer,
            extent,
            params: Params::cut(layer, take(&mut params, layer.params_len())),
            x: if index == 0 { x } else { &*before },
            state: StateView::cut(take(&mut state, layer.state_len(extent.batch))),
            y: y.take_if(|_| index == last).unwrap_or(between),
            preact: (&mut *preact).cut(layer.preact_len(extent)).0,
            panels: match &mut packed {
                Some(packed) => Panels::Packed(take(packed, layer.packed_len())),
                None => {
                    let panels = align_to_cache_line(&mut *panels);
                    Panels::Room(panels.cut(layer.panels_len(extent)).0)
                }
            },
            scratch: &mut *blocks,
        };
        dispatch!(s => s.infer(args));
        (to, from) = (from, to);
    }
}

fn forward_layers<'a>(
    model: Model,
    extent: Extent,
    mut x: &'a [f32],
    mut state: &mut [f32],
    mut cache: &'a mut [f32],
) {
    let mut params = model.params;
    let room = take(&mut cache, model.shape.training_room_len(extent));
    let (panels, blocks) = room.cut(model.shape.panels_len(extent));
    for layer in model.shape.layers() {
        let own = take(&mut cache, layer.cache_len(extent));
        let args = Forward {
            shape: layer,
            extent,
            params: Params::cut(layer, take(&mut params, layer.params_len())),
            x,
            state: StateView::cut(take(&mut state, layer.state_len(extent.batch))),
            cache: CacheView::cut(layer, extent, &mut *own),
            panels: align_to_cache_line(&mut *panels)
                .cut(layer.panels_len(extent))
                .0,
            scratch: &mut *blocks,
        };
        dispatch!(s => s.forward(args));
        x = output(own, extent.rows() * layer.hidden);
    }
}

fn backward_layers(
    model: Model,
    extent: Extent,
    x: &[f32],
    mut dy: Option<&[f32]>,
    mut dstate: &mut [f32],
    mut cache: &mut [f32],
    mut gradients: &mut [f32],
    mut dx: Option<&mut [f32]>,
    workspace: &mut [f32],
) {
    let rows = extent.rows();
    let mut params = model.params;
    if let Some(head) = model.shape.head() {
        take_last(&mut params, head.params_len());
        take_last(&mut gradients, head.params_len());
    }
    let blocks = take(&mut cache, model.shape.training_room_len(extent));
    let (transposed, dy_below) = workspace.cut(model.shape.transposed_len());
    for (index, layer) in model.shape.layers().enumerate().rev() {
        let params = Params::cut(layer, take_last(&mut params, layer.params_len()));
        let own = take_last(&mut cache, layer.cache_len(extent));
        let (from_above, _) = (&*dy_below).cut(rows * layer.hidden);
        let args = BackwardSteps {
            shape: layer,
            extent,
            params,
            cache: CacheView::cut(layer, extent, &mut *own),
            dy: dy.take().unwrap_or(from_above),
            dstate: StateView::cut(take_last(&mut dstate, layer.state_len(extent.batch))),
            transposed: (&mut *transposed).cut(4 * layer.hidden * layer.hidden).0,
            scratch: &mut *blocks,
        };
        dispatch!(s => s.backward_steps(args));

        // The gradient from above has been used: its place takes the one for the layer below.
        let (below, _) = (&mut *dy_below).cut(rows * layer.inputs);
        let args = BackwardProducts {
            shape: layer,
            extent,
            params,
            x: if index == 0 {
                x
            } else {
                output(cache, rows * layer.inputs)
            },
            cache: CacheView::cut(layer, extent, &*own),
            gradients: Params::cut(layer, take_last(&mut gradients, layer.params_len())),
            dx: if index == 0 { dx.take() } else { Some(below) },
            transposed: (&mut *transposed).cut(4 * layer.hidden * layer.inputs).0,
            scratch: &mut *blocks,
        };
        dispatch!(s => s.backward_products(args));
    }
}

/// A training step but for its update. `outputs` are the head's, or the last layer's.
fn loss_gradient(
    model: Model,
    extent: Extent,
    x: &[f32],
    loss: impl Loss,
    state: &mut [f32],
    gradients: &mut [f32],
    outputs: &mut [f32],
    cache: &mut [f32],
    workspace: &mut [f32],
) -> f32 {
    forward_layers(model, extent, x, state, &mut *cache);

    let rows = extent.rows();
    let (blocks, caches) = (&mut *cache).cut(model.shape.training_room_len(extent));
    let y = output(caches, rows * model.shape.outputs());
    let mut workspace = workspace;
    let dstate = take_last(&mut workspace, model.shape.state_len(extent.batch));
    let work = &mut *workspace;
    let loss = if let Some(head) = model.shape.head() {
        let (_, params) = model.params.cut(model.params.len() - head.params_len());
        dispatch!(s => forward_rows(s, head, rows, params, y, &mut *outputs, &mut *blocks));
        let mut work = work;
        let doutputs = take_last(&mut work, outputs.len());
        let loss = loss.gradient(head.outputs, outputs, doutputs);

        let (transposed, dy) = work.cut(model.shape.transposed_len());
        let (dy, _) = dy.cut(rows * head.inputs);
        let (transposed, _) = transposed.cut(head.kernel_len());
        let dhead = take_last(&mut &mut *gradients, head.params_len());
        dispatch!(s => backward_rows(
            s, head, rows, params, y, doutputs, dhead, &mut *dy, transposed, &mut *blocks
        ));
        loss
    } else {
        copy_prefix(outputs, y);
        let (_, dy) = work.cut(model.shape.transposed_len());
        let (dy, _) = dy.cut(y.len());
        loss.gradient(model.shape.outputs(), outputs, dy)
    };

    dstate.fill(0.0);
    let (dy, dx) = (None, None);
    backward_layers(
        model, extent, x, dy, dstate, cache, gradients, dx, workspace,
    );
    loss
}
