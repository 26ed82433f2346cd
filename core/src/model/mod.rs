//! The run-time door: a network whose sizes are known only when it runs, over
//! borrowed flat buffers.

use crate::train::dense::{backward_rows, forward_rows};
mod packed;
pub use packed::PackedModel;

use crate::error::{ShapeError, check_len};
use crate::layout::split::{align_to_cache_line, copy, take, take_last};
use crate::layout::{CacheView, Cut, Extent, NetworkShape, Params, StateView};
use crate::lstm::layer;
use crate::lstm::weights::Panels;
use crate::simd::{Simd, dispatch};
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
        check_len("scratch", self.shape.scratch_len(extent), scratch.len())?;
        let model = *self;
        dispatch!(s => infer_layers(s, model, extent, x, state, y, scratch, None));
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
        dispatch!(s => forward_layers(s, model, extent, x, state, cache));
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
        dispatch!(s => backward_layers(
            s, model, extent, x, dy, dstate, cache, gradients, dx, workspace
        ));
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
        check_len("gradients", self.params.len(), gradients.len())?;
        check_len(
            "probabilities",
            self.shape.logits_len(extent),
            probabilities.len(),
        )?;
        check_len("cache", self.shape.cache_len(extent), cache.len())?;
        check_len(
            "workspace",
            self.shape.workspace_len(extent),
            workspace.len(),
        )?;
        let (model, loss) = (*self, CrossEntropy(labels));
        Ok(dispatch!(s => loss_gradient(
            s, model, extent, x, loss, state, gradients, probabilities, cache, workspace
        )))
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
        check_len("gradients", self.params.len(), gradients.len())?;
        check_len("y", len, y.len())?;
        check_len("cache", self.shape.cache_len(extent), cache.len())?;
        check_len(
            "workspace",
            self.shape.workspace_len(extent),
            workspace.len(),
        )?;
        let loss = SquaredError {
            target: targets,
            mask,
        };
        let model = *self;
        Ok(dispatch!(s => loss_gradient(
            s, model, extent, x, loss, state, gradients, y, cache, workspace
        )))
    }
}

/// The end of a cache: the last layer's h without its first row.
#[inline(always)]
fn output(mut cache: &[f32], len: usize) -> &[f32] {
    take_last(&mut cache, len)
}

#[inline(always)]
pub(crate) fn infer_layers<S: Simd>(
    s: S,
    model: Model,
    extent: Extent,
    x: &[f32],
    mut state: &mut [f32],
    y: &mut [f32],
    mut scratch: &mut [f32],
    mut packed: Option<&[f32]>,
) {
    let shape = model.shape;
    let mut params = model.params;
    let sums = take_last(&mut scratch, shape.sums_len(extent));
    let room = match packed {
        Some(_) => &mut [],
        None => take_last(&mut scratch, shape.panels_len(extent)),
    };
    // What a layer reads and what it writes change places after each layer.
    let half = if shape.hidden.len() > 2 {
        scratch.len() / 2
    } else {
        scratch.len()
    };
    let (mut to, mut from) = scratch.cut(half);
    let last = shape.hidden.len() - 1;
    for (index, layer) in shape.layers().enumerate() {
        let params = Params::cut(layer, take(&mut params, layer.params_len()));
        let state = StateView::cut(take(&mut state, layer.state_len(extent.batch)));
        let (before, _) = from.cut(extent.rows() * layer.inputs);
        let x = if index == 0 { x } else { &*before };
        let (sums, _) = (&mut *sums).cut(layer.sums_len(extent));
        let panels = match &mut packed {
            Some(packed) => Panels::Packed(take(packed, layer.packed_len())),
            None => Panels::PackBuffer(
                align_to_cache_line(&mut *room)
                    .cut(layer.panels_len(extent))
                    .0,
            ),
        };
        let room = (sums, panels);
        if index == last {
            infer_layer(s, layer, extent, params, x, state, y, room);
            return;
        }
        let (y, _) = (&mut *to).cut(extent.rows() * layer.hidden);
        infer_layer(s, layer, extent, params, x, state, y, room);
        (to, from) = (from, to);
    }
}

#[inline(always)]
fn forward_layers<'a, S: Simd>(
    s: S,
    model: Model,
    extent: Extent,
    mut x: &'a [f32],
    mut state: &mut [f32],
    mut cache: &'a mut [f32],
) {
    let mut params = model.params;
    let panels = take(&mut cache, model.shape.panels_len(extent));
    for layer in model.shape.layers() {
        let (panels, _) = align_to_cache_line(&mut *panels).cut(layer.panels_len(extent));
        let params = Params::cut(layer, take(&mut params, layer.params_len()));
        let state = StateView::cut(take(&mut state, layer.state_len(extent.batch)));
        let cache = take(&mut cache, layer.cache_len(extent));
        let view = CacheView::cut(layer, extent, &mut *cache);
        s.vectorize(
            #[inline(always)]
            move || layer::forward((s, s), layer, extent, params, x, state, view, panels),
        );
        x = output(cache, extent.rows() * layer.hidden);
    }
}

#[inline(always)]
fn backward_layers<S: Simd>(
    s: S,
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
    let (transposed, dy_below) = workspace.cut(model.shape.transposed_len());
    for (index, layer) in model.shape.layers().enumerate().rev() {
        let params = Params::cut(layer, take_last(&mut params, layer.params_len()));
        let gradients = Params::cut(layer, take_last(&mut gradients, layer.params_len()));
        let dstate = take_last(&mut dstate, layer.state_len(extent.batch));
        let own = take_last(&mut cache, layer.cache_len(extent));
        let (from_above, _) = (&*dy_below).cut(rows * layer.hidden);
        let dy = dy.take().unwrap_or(from_above);
        let view = CacheView::cut(layer, extent, &mut *own);
        let (recurrent, _) = (&mut *transposed).cut(4 * layer.hidden * layer.hidden);
        let dstate = StateView::cut(dstate);
        s.vectorize(
            #[inline(always)]
            move || {
                layer::backward_steps((s, s), layer, extent, params, view, dy, dstate, recurrent)
            },
        );

        // The gradient from above has been used: its place takes the one for
        // the layer below.
        let x = if index == 0 {
            x
        } else {
            output(cache, rows * layer.inputs)
        };
        let dx = if index == 0 {
            dx.take()
        } else {
            Some((&mut *dy_below).cut(rows * layer.inputs).0)
        };
        let (input, _) = (&mut *transposed).cut(4 * layer.hidden * layer.inputs);
        let view = CacheView::cut(layer, extent, &*own);
        let dx = dx.map(|dx| (dx, input));
        s.vectorize(
            #[inline(always)]
            move || layer::backward_products((s, s), layer, extent, params, x, view, gradients, dx),
        );
    }
}

/// A training step but for its update. `outputs` are the head's, or the last layer's.
#[inline(always)]
fn loss_gradient<S: Simd, L: Loss>(
    s: S,
    model: Model,
    extent: Extent,
    x: &[f32],
    loss: L,
    state: &mut [f32],
    gradients: &mut [f32],
    outputs: &mut [f32],
    cache: &mut [f32],
    workspace: &mut [f32],
) -> f32 {
    forward_layers(s, model, extent, x, state, &mut *cache);

    let rows = extent.rows();
    let y = output(cache, rows * model.shape.outputs());
    let mut workspace = workspace;
    let dstate = take_last(&mut workspace, model.shape.state_len(extent.batch));
    let work = &mut *workspace;
    let loss = if let Some(head) = model.shape.head() {
        let (_, params) = model.params.cut(model.params.len() - head.params_len());
        forward_rows(s, head, rows, params, y, outputs);
        let mut work = work;
        let doutputs = take_last(&mut work, outputs.len());
        let width = head.outputs;
        let dy = &mut *doutputs;
        let loss = s.vectorize_unless_filled(
            #[inline(always)]
            move || loss.gradient(s, width, outputs, dy),
        );

        let (transposed, dy) = work.cut(model.shape.transposed_len());
        let (dy, _) = dy.cut(rows * head.inputs);
        let (transposed, _) = transposed.cut(head.kernel_len());
        let dhead = take_last(&mut &mut *gradients, head.params_len());
        backward_rows(s, head, rows, params, y, doutputs, dhead, dy, transposed);
        loss
    } else {
        copy(outputs, y);
        let (_, dy) = work.cut(model.shape.transposed_len());
        let (dy, _) = dy.cut(y.len());
        let width = model.shape.outputs();
        s.vectorize_unless_filled(
            #[inline(always)]
            move || loss.gradient(s, width, outputs, dy),
        )
    };

    dstate.fill(0.0);
    let (dy, dx) = (None, None);
    backward_layers(
        s, model, extent, x, dy, dstate, cache, gradients, dx, workspace,
    );
    loss
}

#[inline(always)]
fn infer_layer<S: Simd>(
    s: S,
    layer: crate::layout::LayerShape,
    extent: Extent,
    params: Params<&[f32]>,
    x: &[f32],
    state: StateView<&mut [f32]>,
    y: &mut [f32],
    room: (&mut [f32], Panels),
) {
    s.vectorize(
        #[inline(always)]
        move || layer::infer::<S, false>(s, layer, extent, params, x, state, y, room),
    );
}
