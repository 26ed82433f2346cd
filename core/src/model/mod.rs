//! The run-time API: a network whose sizes are known only when it runs, over
//! borrowed flat buffers.

mod packed;
pub use packed::PackedModel;

use crate::error::{ArgumentError, check_len, check_lens};
use crate::layout::scratch::InferenceRoom;
use crate::layout::split::{align_to_cache_line, copy_prefix, take, take_last};
use crate::layout::{CacheView, Cut, Extent, NetworkShape, Params, StateView};
use crate::lstm::layer::{BackwardProducts, BackwardSteps, Forward, Infer, Passes};
use crate::lstm::weights::Panels;
use crate::simd::dispatch;
use crate::train::dense::{self, backward_rows, forward_rows};
use crate::train::loss::{CrossEntropy, Given, Loss, SquaredError, check_labels};

/// A network over borrowed parameters, its shape checked.
///
/// Every buffer is flat and given by the caller; its length comes from the
/// [`NetworkShape`], its layout from the [`layout`](crate::layout) module.
///
/// ```
/// use fused_lstm::{Extent, Model, NetworkShape};
///
/// // A stack of unequal layers, 6 inputs, 4 and then 5 units; 2 rows, 3 steps.
/// let shape = NetworkShape::new(6, &[4, 5]);
/// let extent = Extent { steps: 3, batch: 2 };
/// let params = vec![0.1; shape.params_len()];
/// let model = Model::new(shape, &params)?;
///
/// let mut state = vec![0.0; shape.state_len(extent.batch)];
/// let mut scratch = vec![0.0; shape.scratch_len(extent)];
/// let mut y = vec![0.0; 3 * 2 * 5];
/// model.infer(extent, &[1.0; 3 * 2 * 6], &mut state, &mut y, &mut scratch)?;
/// assert_eq!(y[20..], state[16 + 10..]); // the last step's h is the state's h
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    shape: NetworkShape<'a>,
    params: &'a [f32],
}

/// The buffers of [`Model::backward`].
#[derive(Debug)]
pub struct Backward<'a> {
    /// The inputs `[T, B, I]` that [`Model::forward`] read.
    pub x: &'a [f32],
    /// The gradient of the outputs `[T, B, H]`.
    pub dy: &'a [f32],
    /// The gradient of the final state, zeros if there is none; overwritten with that of the
    /// initial state. [`NetworkShape::state_len`].
    pub dstate: &'a mut [f32],
    /// What [`Model::forward`] left. It holds nothing of use after.
    /// [`NetworkShape::cache_len`].
    pub cache: &'a mut [f32],
    /// Accumulated to; a head's are left alone. [`NetworkShape::params_len`].
    pub gradients: &'a mut [f32],
    /// The gradient of the inputs `[T, B, I]`, overwritten, if it is wanted.
    pub dx: Option<&'a mut [f32]>,
    /// Room, which holds nothing of use after. [`NetworkShape::workspace_len`].
    pub workspace: &'a mut [f32],
}

/// The buffers of [`Model::loss_gradient`], [`Model::squared_error_gradient`] and
/// [`Model::gradient_of`].
#[derive(Debug)]
pub struct LossGradient<'a> {
    /// The inputs `[T, B, I]`.
    pub x: &'a [f32],
    /// Advanced. [`NetworkShape::state_len`].
    pub state: &'a mut [f32],
    /// Accumulated to. [`NetworkShape::params_len`].
    pub gradients: &'a mut [f32],
    /// What the loss is taken of, overwritten: `[T, B, C]`, or `[T, B, H]` without a head.
    /// [`NetworkShape::outputs_len`].
    pub outputs: &'a mut [f32],
    /// Room, which holds nothing of use after. [`NetworkShape::cache_len`].
    pub cache: &'a mut [f32],
    /// Room, which holds nothing of use after. [`NetworkShape::workspace_len`].
    pub workspace: &'a mut [f32],
}

impl<'a> Model<'a> {
    /// Refuses a size that is zero, and parameters of another length than
    /// [`NetworkShape::params_len`].
    pub fn new(shape: NetworkShape<'a>, params: &'a [f32]) -> Result<Self, ArgumentError> {
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

    /// The lengths of what every pass reads, as [`check_lens`] takes them.
    fn lens_of(
        &self,
        extent: Extent,
        x: &[f32],
        state: &[f32],
    ) -> [(&'static str, usize, usize); 2] {
        let x_len = extent.rows().saturating_mul(self.shape.inputs);
        let state_len = self.shape.state_len(extent.batch);
        [("x", x_len, x.len()), ("state", state_len, state.len())]
    }

    /// Of the last layer's hidden states.
    fn y_len(&self, extent: Extent) -> usize {
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
    ) -> Result<(), ArgumentError> {
        self.infer_with(extent, x, state, y, scratch, None)
    }

    /// [`infer`](Self::infer), with kernels that are packed, if there are any: then with less scratch.
    pub(crate) fn infer_with(
        &self,
        extent: Extent,
        x: &[f32],
        state: &mut [f32],
        y: &mut [f32],
        scratch: &mut [f32],
        packed: Option<&[f32]>,
    ) -> Result<(), ArgumentError> {
        let room = self.shape.inference_room(extent);
        let scratch_len = match packed {
            Some(_) => room.packed_len(),
            None => room.len(),
        };
        check_lens(&self.lens_of(extent, x, state))?;
        check_lens(&[
            ("y", self.y_len(extent), y.len()),
            ("scratch", scratch_len, scratch.len()),
        ])?;
        infer_layers(*self, extent, x, state, y, scratch, room, packed);
        Ok(())
    }

    /// The dense head: `logits` `[T, B, C]` is overwritten with y·W + b of `y`
    /// `[T, B, H]`. Without a head that is [`ArgumentError::NoHead`].
    pub fn logits(
        &self,
        extent: Extent,
        y: &[f32],
        logits: &mut [f32],
    ) -> Result<(), ArgumentError> {
        let head = self.shape.head().ok_or(ArgumentError::NoHead)?;
        check_lens(&[
            ("y", self.y_len(extent), y.len()),
            ("logits", self.shape.logits_len(extent), logits.len()),
        ])?;
        let (_, params) = self.params.cut(self.params.len() - head.params_len());
        dispatch!(s => forward_rows(s, head, extent.rows(), params, y, logits, &mut []));
        Ok(())
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
    ) -> Result<(), ArgumentError> {
        check_lens(&self.lens_of(extent, x, state))?;
        check_len("cache", self.shape.cache_len(extent), cache.len())?;
        let model = *self;
        forward_layers(model, extent, x, state, cache);
        Ok(())
    }

    /// The last layer's hidden states `[T, B, H]` in a cache that
    /// [`forward`](Self::forward) filled.
    pub fn output<'c>(&self, extent: Extent, cache: &'c [f32]) -> Result<&'c [f32], ArgumentError> {
        check_len("cache", self.shape.cache_len(extent), cache.len())?;
        Ok(output(cache, self.y_len(extent)))
    }

    /// The gradients of the LSTM layers, from that of their output.
    pub fn backward(&self, extent: Extent, buffers: Backward<'_>) -> Result<(), ArgumentError> {
        let shape = self.shape;
        let (x_len, dx) = (
            extent.rows().saturating_mul(shape.inputs),
            buffers.dx.as_ref(),
        );
        check_lens(&[
            ("x", x_len, buffers.x.len()),
            ("dy", self.y_len(extent), buffers.dy.len()),
            (
                "dstate",
                shape.state_len(extent.batch),
                buffers.dstate.len(),
            ),
            ("cache", shape.cache_len(extent), buffers.cache.len()),
            ("gradients", self.params.len(), buffers.gradients.len()),
            ("dx", x_len, dx.map_or(x_len, |dx| dx.len())),
            (
                "workspace",
                shape.workspace_len(extent),
                buffers.workspace.len(),
            ),
        ])?;
        backward_layers(*self, extent, Some(buffers.dy), buffers);
        Ok(())
    }

    /// Forward, softmax cross-entropy averaged over all T·B rows, and backward: everything of a
    /// training step but the update. Gives the loss.
    ///
    /// `labels` `[T, B]` are read; the outputs are the class probabilities `[T, B, C]`. The
    /// gradient does not reach back into the state: truncated backpropagation. Refuses a model
    /// without a head, an extent without rows, and a label that is neither a class nor `IGNORE`.
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
    /// use fused_lstm::{Extent, LossGradient, Model, NetworkShape};
    ///
    /// let shape = NetworkShape::new(1, &[4, 4, 4]).with_head(2);
    /// let extent = Extent { steps: 15, batch: 5 };
    /// let lens = shape.lengths(extent);
    /// let params = vec![0.0; lens.params];
    /// let mut gradients = vec![0.0; lens.params];
    /// let mut probabilities = vec![0.0; lens.outputs];
    /// let loss = Model::new(shape, &params)?.loss_gradient(extent, &[0; 75], LossGradient {
    ///     x: &[1.0; 75],
    ///     state: &mut vec![0.0; lens.state],
    ///     gradients: &mut gradients,
    ///     outputs: &mut probabilities,
    ///     cache: &mut vec![0.0; lens.cache],
    ///     workspace: &mut vec![0.0; lens.workspace],
    /// })?;
    /// assert!((loss - core::f32::consts::LN_2).abs() < 1e-6);
    /// # Ok::<(), fused_lstm::ArgumentError>(())
    /// ```
    pub fn loss_gradient(
        &self,
        extent: Extent,
        labels: &[u32],
        buffers: LossGradient<'_>,
    ) -> Result<f32, ArgumentError> {
        let classes = self.shape.classes.ok_or(ArgumentError::NoHead)?;
        self.check_training(extent, ("labels", extent.rows(), labels.len()), &buffers)?;
        check_labels(classes, labels)?;
        loss_gradient(*self, extent, CrossEntropy(labels), buffers)
    }

    /// Forward, mean squared error, and backward: the training step of a network whose outputs
    /// are numbers. Gives the loss, [`masked_mean_squared_error`]'s.
    ///
    /// The outputs `[T, B, O]` are the head's, of O = C numbers, or the last layer's hidden states
    /// if there is no head, with O = H. `targets` `[T, B, O]` are read; `mask` `[T, B]`, if there
    /// is one, says which rows count. All else is as in [`loss_gradient`](Self::loss_gradient).
    ///
    /// [`masked_mean_squared_error`]: crate::train::loss::masked_mean_squared_error
    ///
    /// ```
    /// use fused_lstm::{Extent, LossGradient, Model, NetworkShape};
    ///
    /// let shape = NetworkShape::new(1, &[4]).with_head(1);
    /// let extent = Extent { steps: 3, batch: 2 };
    /// let lens = shape.lengths(extent);
    /// let params = vec![0.0; lens.params];
    /// let mut gradients = vec![0.0; lens.params];
    /// // The second sequence has one step only.
    /// let mask = [true, true, true, false, true, false];
    /// let model = Model::new(shape, &params)?;
    /// let loss = model.squared_error_gradient(extent, &[0.5; 6], Some(&mask), LossGradient {
    ///     x: &[1.0; 6],
    ///     state: &mut vec![0.0; lens.state],
    ///     gradients: &mut gradients,
    ///     outputs: &mut vec![0.0; lens.outputs],
    ///     cache: &mut vec![0.0; lens.cache],
    ///     workspace: &mut vec![0.0; lens.workspace],
    /// })?;
    /// assert_eq!(loss, 0.25);
    /// assert_eq!(gradients[params.len() - 1], -1.0); // the head's bias
    /// # Ok::<(), fused_lstm::ArgumentError>(())
    /// ```
    pub fn squared_error_gradient(
        &self,
        extent: Extent,
        targets: &[f32],
        mask: Option<&[bool]>,
        buffers: LossGradient<'_>,
    ) -> Result<f32, ArgumentError> {
        self.squared_error_gradient_of(extent, targets, mask.map(bytemuck::cast_slice), buffers)
    }

    /// [`squared_error_gradient`](Self::squared_error_gradient), with a mask of bytes.
    pub(crate) fn squared_error_gradient_of(
        &self,
        extent: Extent,
        targets: &[f32],
        mask: Option<&[u8]>,
        buffers: LossGradient<'_>,
    ) -> Result<f32, ArgumentError> {
        let outputs = self.shape.outputs_len(extent);
        self.check_training(extent, ("targets", outputs, targets.len()), &buffers)?;
        if let Some(mask) = mask {
            check_len("mask", extent.rows(), mask.len())?;
        }
        let loss = SquaredError {
            target: targets,
            mask,
        };
        loss_gradient(*self, extent, loss, buffers)
    }

    /// Forward, a loss of the caller's, and backward: the training step of any loss. Gives what the
    /// loss gives.
    ///
    /// `loss` gets the outputs, `[T, B, C]` of the head or `[T, B, H]` of the last layer if there is
    /// none, and zeros of the same length, which it replaces by the gradient of what it returns;
    /// rows that it leaves alone do not count. It may change the outputs, as a softmax does. All else
    /// is as in [`loss_gradient`](Self::loss_gradient), with the same bits if the loss is. If the
    /// loss is refused, so is the step: the state has advanced then, the gradients are untouched.
    ///
    /// ```
    /// use fused_lstm::loss::{Weighting, huber, weighted_softmax_cross_entropy};
    /// use fused_lstm::{Extent, LossGradient, Model, NetworkShape};
    ///
    /// let shape = NetworkShape::new(1, &[4]).with_head(2);
    /// let extent = Extent { steps: 3, batch: 2 };
    /// let lens = shape.lengths(extent);
    /// let params = vec![0.0; lens.params];
    /// let model = Model::new(shape, &params)?;
    /// let mut gradients = vec![0.0; lens.params];
    /// let (mut outputs, mut cache) = (vec![0.0; lens.outputs], vec![0.0; lens.cache]);
    /// let mut workspace = vec![0.0; lens.workspace];
    ///
    /// // Huber's loss of the last step: its rows are the last ones, [B, C].
    /// let targets = [0.5, -3.0, 0.5, -3.0];
    /// let last = outputs.len() - targets.len();
    /// let loss = model.gradient_of(
    ///     extent,
    ///     |y, dy| huber(&y[last..], &targets, 1.0, &mut dy[last..]),
    ///     LossGradient {
    ///         x: &[1.0; 6],
    ///         state: &mut vec![0.0; lens.state],
    ///         gradients: &mut gradients,
    ///         outputs: &mut outputs,
    ///         cache: &mut cache,
    ///         workspace: &mut workspace,
    ///     },
    /// )?;
    /// assert_eq!(loss, (0.125 + 2.5) / 2.0);
    /// assert_eq!(gradients[params.len() - 2..], [-0.25, 0.5]); // the head's bias
    ///
    /// // Classes with weights, and smoothed labels.
    /// let weighting = Weighting { class_weights: Some(&[1.0, 3.0]), smoothing: 0.1 };
    /// let loss = model.gradient_of(
    ///     extent,
    ///     |z, dz| weighted_softmax_cross_entropy(2, z, &[0, 1, 0, 1, 1, 0], weighting, dz),
    ///     LossGradient {
    ///         x: &[1.0; 6],
    ///         state: &mut vec![0.0; lens.state],
    ///         gradients: &mut gradients,
    ///         outputs: &mut outputs,
    ///         cache: &mut cache,
    ///         workspace: &mut workspace,
    ///     },
    /// )?;
    /// assert!((loss - core::f32::consts::LN_2).abs() < 1e-6);
    /// assert_eq!(outputs, [0.5; 12]); // the softmax
    /// # Ok::<(), fused_lstm::ArgumentError>(())
    /// ```
    pub fn gradient_of(
        &self,
        extent: Extent,
        loss: impl FnOnce(&mut [f32], &mut [f32]) -> Result<f32, ArgumentError>,
        buffers: LossGradient<'_>,
    ) -> Result<f32, ArgumentError> {
        let outputs = (
            "outputs",
            self.shape.outputs_len(extent),
            buffers.outputs.len(),
        );
        self.check_training(extent, outputs, &buffers)?;
        loss_gradient(*self, extent, Given(loss), buffers)
    }

    /// Also refuses an empty set of labels or targets; `aim` is its name and lengths.
    #[inline(always)]
    fn check_training(
        &self,
        extent: Extent,
        aim: (&'static str, usize, usize),
        buffers: &LossGradient,
    ) -> Result<(), ArgumentError> {
        let shape = self.shape;
        let x_len = extent.rows().saturating_mul(shape.inputs);
        let workspace_len = shape.workspace_len(extent);
        check_lens(&[
            ("x", x_len, buffers.x.len()),
            ("state", shape.state_len(extent.batch), buffers.state.len()),
            aim,
            ("gradients", self.params.len(), buffers.gradients.len()),
            ("outputs", shape.outputs_len(extent), buffers.outputs.len()),
            ("cache", shape.cache_len(extent), buffers.cache.len()),
            ("workspace", workspace_len, buffers.workspace.len()),
        ])?;
        if aim.2 == 0 {
            return Err(ArgumentError::Zero { what: aim.0 });
        }
        Ok(())
    }
}

/// The end of a cache: the last layer's h without its first row.
#[inline(always)]
fn output(mut cache: &[f32], len: usize) -> &[f32] {
    take_last(&mut cache, len)
}

fn infer_layers(
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

/// The layers from the last to the first. Without `dy` the gradient of the outputs stands in the
/// workspace already, where a layer leaves it for the one below.
fn backward_layers(model: Model, extent: Extent, dy: Option<&[f32]>, buffers: Backward) {
    let Backward {
        x,
        mut dstate,
        mut cache,
        mut gradients,
        mut dx,
        workspace,
        ..
    } = buffers;
    let mut dy = dy;
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

/// A training step but for its update.
fn loss_gradient(
    model: Model,
    extent: Extent,
    loss: impl Loss,
    buffers: LossGradient,
) -> Result<f32, ArgumentError> {
    let LossGradient {
        x,
        state,
        gradients,
        outputs,
        cache,
        mut workspace,
    } = buffers;
    forward_layers(model, extent, x, state, &mut *cache);

    let rows = extent.rows();
    let (blocks, caches) = (&mut *cache).cut(model.shape.training_room_len(extent));
    let y = output(caches, rows * model.shape.outputs());
    let dstate = take_last(&mut workspace, model.shape.state_len(extent.batch));
    let mut work = &mut *workspace;
    let loss = if let Some(head) = model.shape.head() {
        let (_, params) = model.params.cut(model.params.len() - head.params_len());
        dispatch!(s => forward_rows(s, head, rows, params, y, &mut *outputs, &mut *blocks));
        let doutputs = take_last(&mut work, outputs.len());
        let loss = loss.gradient(head.outputs, outputs, doutputs)?;

        let (transposed, dy) = work.cut(model.shape.transposed_len());
        let args = dense::Backward {
            params,
            x: y,
            dy: doutputs,
            gradients: take_last(&mut &mut *gradients, head.params_len()),
            dx: dy.cut(rows * head.inputs).0,
            workspace: transposed.cut(head.kernel_len()).0,
        };
        dispatch!(s => backward_rows(s, head, rows, args, &mut *blocks));
        loss
    } else {
        copy_prefix(outputs, y);
        let (_, dy) = work.cut(model.shape.transposed_len());
        let (dy, _) = dy.cut(y.len());
        loss.gradient(model.shape.outputs(), outputs, dy)?
    };

    dstate.fill(0.0);
    let buffers = Backward {
        x,
        dy: &[],
        dstate,
        cache,
        gradients,
        dx: None,
        workspace,
    };
    backward_layers(model, extent, None, buffers);
    Ok(loss)
}
