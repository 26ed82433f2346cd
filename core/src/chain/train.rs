//! Training through a chain: a forward pass that keeps what the backward pass needs, and that.

use super::pointwise::Pointwise as _;
use super::recurrent::{
    Backward, Cache, Forward, Masks, Recurrent as _, backward_room_len, forward_room_len,
};
use super::run::{Apart, Chain, Columns, Layer, exchange, reverse_rows, reverse_steps};
use super::shape::{between_len, is_plain, max};
use super::stage::{Activation, LstmStage, Returns, Stage};
use crate::error::{ArgumentError, check_len, check_lens};
use crate::layout::split::{copy_prefix, div_or_zero, exact_chunks, take};
use crate::layout::{Cut, Extent, NetworkShape};
use crate::model::{self, Model};
use crate::simd::{dispatch, dispatch_inline};
use crate::train::dense::{self, backward_rows};
use crate::train::loss::softmax_rows;

/// The buffers of [`Chain::forward_with`].
#[derive(Debug)]
pub struct ChainForward<'a> {
    /// The input `[T, B, I]`.
    pub x: &'a [f32],
    /// Advanced. [`ChainLengths::state`](crate::ChainLengths::state).
    pub state: &'a mut [f32],
    /// The output `[T, B, O]` or `[1, B, O]`, overwritten.
    pub y: &'a mut [f32],
    /// Overwritten with what [`Chain::backward`] needs.
    /// [`ChainLengths::cache`](crate::ChainLengths::cache).
    pub cache: &'a mut [f32],
    /// The masks of all stages, one after the other: those of a [`Stage::Mask`], and of a layer
    /// those that [`LstmStage::direction_masks_len`] tells, of each direction.
    /// [`ChainLengths::masks`](crate::ChainLengths::masks).
    pub masks: &'a [f32],
}

/// The buffers of [`Chain::backward`].
#[derive(Debug)]
pub struct ChainBackward<'a> {
    /// The gradient of the output, `[T, B, O]` or `[1, B, O]`.
    pub dy: &'a [f32],
    /// The gradient of the final state, zeros if there is none; overwritten with that of the
    /// initial state. [`ChainLengths::state`](crate::ChainLengths::state).
    pub dstate: &'a mut [f32],
    /// What [`Chain::forward`] left. It holds nothing of use after.
    /// [`ChainLengths::cache`](crate::ChainLengths::cache).
    pub cache: &'a mut [f32],
    /// Accumulated to. [`ChainLengths::params`](crate::ChainLengths::params).
    pub gradients: &'a mut [f32],
    /// The gradient of the input `[T, B, I]`, overwritten, if it is wanted; zeros before a table.
    pub dx: Option<&'a mut [f32]>,
    /// Room, which holds nothing of use after.
    /// [`ChainLengths::workspace`](crate::ChainLengths::workspace).
    pub workspace: &'a mut [f32],
}

/// What is kept of one direction.
const fn direction_cache_len(lstm: &LstmStage, extent: Extent) -> usize {
    let hidden = [lstm.layer.hidden];
    let shape = NetworkShape::new(lstm.layer.inputs, &hidden);
    let z = extent
        .rows()
        .saturating_mul(4)
        .saturating_mul(lstm.layer.hidden);
    let own = z.saturating_add(Cache::len(lstm, extent));
    // The input is kept in the order of the steps.
    let x = extent.rows().saturating_mul(lstm.layer.inputs);
    max(shape.cache_len(extent), own).saturating_add(x)
}

/// What is kept of a stage beside its input.
const fn stage_cache_len(stage: &Stage, extent: Extent) -> usize {
    match stage {
        Stage::Lstm(lstm) => {
            direction_cache_len(lstm, extent).saturating_mul(lstm.direction.count())
        }
        _ => 0,
    }
}

/// Room of the forward pass of a layer: a direction's output, and what its steps take.
const fn forward_len(lstm: &LstmStage, extent: Extent) -> usize {
    let outputs = extent.rows().saturating_mul(lstm.outputs());
    outputs.saturating_add(forward_room_len(lstm, extent))
}

/// Room of its backward pass: the gradients of a direction's output and input, and what its steps
/// take.
const fn backward_len(lstm: &LstmStage, extent: Extent) -> usize {
    let hidden = [lstm.layer.hidden];
    let shape = NetworkShape::new(lstm.layer.inputs, &hidden);
    let widths = lstm.outputs().saturating_add(lstm.layer.inputs);
    let own = max(shape.workspace_len(extent), backward_room_len(lstm, extent));
    extent.rows().saturating_mul(widths).saturating_add(own)
}

/// Whether a layer trains as [`Model`] does.
fn trains_plainly(lstm: &LstmStage, lengths: Option<&[usize]>) -> bool {
    is_plain(lstm, lengths) && !lstm.recurrent_mask
}

/// The lengths of the cache, of the workspace, and of the masks.
pub(super) const fn training_lens(
    inputs: usize,
    stages: &[Stage],
    extent: Extent,
) -> (usize, usize, usize) {
    let (mut kept, mut forward, mut backward) = (0usize, 0, 0);
    let mut masks = 0usize;
    let (mut width, mut now, mut index) = (inputs, extent, 0);
    while index < stages.len() {
        let stage = &stages[index];
        kept = kept.saturating_add(now.rows().saturating_mul(width));
        masks = masks.saturating_add(stage.masks_len(width, now));
        match stage {
            Stage::Lstm(lstm) => {
                kept = kept.saturating_add(stage_cache_len(stage, now));
                forward = max(forward, forward_len(lstm, now));
                backward = max(backward, backward_len(lstm, now));
            }
            Stage::Dense(shape) => backward = max(backward, shape.kernel_len()),
            _ => {}
        }
        width = stage.width(width);
        now = stage.extent(now);
        index += 1;
    }
    kept = kept.saturating_add(now.rows().saturating_mul(width));
    // The gradients before and behind a stage, and of what is skipped.
    let between = between_len(inputs, stages, extent).saturating_mul(2);
    let skipped = extent.rows().saturating_mul(inputs);
    (
        kept.saturating_add(forward).saturating_add(masks),
        backward.saturating_add(between).saturating_add(skipped),
        masks,
    )
}

impl Chain<'_> {
    /// [`run`](Self::run) with a cache for [`backward`](Self::backward): `state` is advanced, `y` and
    /// `cache` are overwritten. What `x` holds beyond the length of a row must be finite, or the
    /// gradients of the parameters are not.
    ///
    /// Refuses a chain with masks, which [`forward_with`](Self::forward_with) takes.
    pub fn forward(
        &self,
        extent: Extent,
        lengths: Option<&[usize]>,
        x: &[f32],
        state: &mut [f32],
        y: &mut [f32],
        cache: &mut [f32],
    ) -> Result<(), ArgumentError> {
        let buffers = ChainForward {
            x,
            state,
            y,
            cache,
            masks: &[],
        };
        self.forward_with(extent, lengths, buffers)
    }

    /// [`forward`](Self::forward) with masks for dropout, which the caller makes anew for each
    /// sequence: the core has no random numbers.
    ///
    /// ```
    /// use fused_lstm::{Chain, ChainForward, DenseShape, Extent, LayerShape, LstmStage, Stage};
    ///
    /// // Dropout of the inputs, the same for all steps, and of the hidden state on its way back.
    /// let layer = LayerShape::new(2, 3);
    /// let stages = [
    ///     Stage::Mask { per_step: false },
    ///     Stage::Lstm(LstmStage { recurrent_mask: true, ..LstmStage::new(layer) }),
    ///     Stage::Dense(DenseShape::new(3, 1)),
    /// ];
    /// let extent = Extent { steps: 4, batch: 1 };
    /// let lens = Chain::lengths(2, &stages, extent);
    /// assert_eq!(lens.masks, 2 + 3);
    /// let params = vec![0.1; lens.params];
    /// let chain = Chain::new(2, &stages, &params)?;
    ///
    /// let (mut y, mut cache) = (vec![0.0; lens.y], vec![0.0; lens.cache]);
    /// chain.forward_with(extent, None, ChainForward {
    ///     x: &[1.0; 8],
    ///     state: &mut vec![0.0; lens.state],
    ///     y: &mut y,
    ///     cache: &mut cache,
    ///     masks: &[2.0, 0.0, 0.0, 1.5, 1.5], // a half is kept, and two thirds
    /// })?;
    /// # Ok::<(), fused_lstm::ArgumentError>(())
    /// ```
    pub fn forward_with(
        &self,
        extent: Extent,
        lengths: Option<&[usize]>,
        buffers: ChainForward<'_>,
    ) -> Result<(), ArgumentError> {
        self.check_f32("weights of f32 for training")?;
        let lens = Self::lengths(self.inputs(), self.stages(), extent);
        self.check(extent, lengths, buffers.x)?;
        check_lens(&[
            ("x", lens.x, buffers.x.len()),
            ("state", lens.state, buffers.state.len()),
            ("y", lens.y, buffers.y.len()),
            ("cache", lens.cache, buffers.cache.len()),
            ("masks", lens.masks, buffers.masks.len()),
        ])?;
        if extent.rows() == 0 {
            return Ok(());
        }
        forward(self, extent, lengths, buffers)
    }

    /// The gradients of all parameters, of the initial state and of the input, from those of the
    /// output and of the final state. `lengths` are those of the forward pass, whose masks stand in the
    /// cache.
    ///
    /// ```
    /// use fused_lstm::{Cell, Chain, ChainBackward, Extent, LayerShape, LstmStage, Stage};
    ///
    /// let cell = Cell { peepholes: true, projection: Some(2), ..Cell::PLAIN };
    /// let stages = [Stage::Lstm(LstmStage { cell, ..LstmStage::new(LayerShape::new(3, 4)) })];
    /// let extent = Extent { steps: 5, batch: 2 };
    /// let lens = Chain::lengths(3, &stages, extent);
    /// let params = vec![0.1; lens.params];
    /// let chain = Chain::new(3, &stages, &params)?;
    ///
    /// let (mut y, mut cache) = (vec![0.0; lens.y], vec![0.0; lens.cache]);
    /// chain.forward(extent, None, &[1.0; 30], &mut vec![0.0; lens.state], &mut y, &mut cache)?;
    /// let mut gradients = vec![0.0; lens.params];
    /// chain.backward(extent, None, ChainBackward {
    ///     dy: &[1.0; 20],
    ///     dstate: &mut vec![0.0; lens.state],
    ///     cache: &mut cache,
    ///     gradients: &mut gradients,
    ///     dx: None,
    ///     workspace: &mut vec![0.0; lens.workspace],
    /// })?;
    /// assert!(gradients.iter().all(|&gradient| gradient > 0.0));
    /// # Ok::<(), fused_lstm::ArgumentError>(())
    /// ```
    pub fn backward(
        &self,
        extent: Extent,
        lengths: Option<&[usize]>,
        buffers: ChainBackward<'_>,
    ) -> Result<(), ArgumentError> {
        self.check_f32("weights of f32 for training")?;
        let lens = Self::lengths(self.inputs(), self.stages(), extent);
        self.check(extent, lengths, &[])?;
        let dx = buffers.dx.as_ref().map_or(lens.x, |dx| dx.len());
        check_lens(&[
            ("dy", lens.y, buffers.dy.len()),
            ("dstate", lens.state, buffers.dstate.len()),
            ("cache", lens.cache, buffers.cache.len()),
            ("gradients", lens.params, buffers.gradients.len()),
            ("dx", lens.x, dx),
            ("workspace", lens.workspace, buffers.workspace.len()),
        ])?;
        if extent.rows() == 0 {
            return Ok(());
        }
        backward(self, extent, lengths, buffers)
    }
}

/// Multiplies by a mask of all steps, or of one, which all then have; if there is a mask.
fn mask_rows(values: &mut [f32], mask: &[f32]) {
    for values in exact_chunks(values, mask.len()) {
        dispatch!(s => s.multiply(values, mask));
    }
}

fn forward(
    chain: &Chain,
    extent: Extent,
    mut lengths: Option<&[usize]>,
    buffers: ChainForward,
) -> Result<(), ArgumentError> {
    let ChainForward {
        x,
        mut state,
        y,
        cache,
        mut masks,
    } = buffers;
    let mut rest = cache;
    copy_prefix(take(&mut rest, masks.len()), masks);
    let (mut params, mut width, mut at) = (chain.params(), chain.inputs(), extent);
    let mut from = take(&mut rest, at.rows() * width);
    copy_prefix(from, x);
    for stage in chain.stages() {
        let own = take(&mut params, stage.params_len());
        let kept = take(&mut rest, stage_cache_len(stage, at));
        let mask = take(&mut masks, stage.masks_len(width, at));
        width = stage.width(width);
        let after = stage.extent(at);
        let to = take(&mut rest, after.rows() * width);
        if let Stage::Lstm(lstm) = stage {
            let state = take(&mut state, lstm.state_len(at.batch));
            let layer = Layer {
                lstm,
                extent: at,
                lengths,
                masks: mask,
                narrow: None,
            };
            layer.forward(own, from, state, to, kept, rest)?;
        } else {
            let step = Apart {
                stage,
                extent: at,
                lengths,
                width,
                x,
                inputs: chain.inputs(),
            };
            step.apply(own, from, to, &mut []);
            mask_rows(to, mask);
        }
        from = to;
        if !stage.is_whole() {
            lengths = None;
        }
        at = after;
    }
    copy_prefix(y, from);
    Ok(())
}

impl Layer<'_> {
    fn forward(
        &self,
        mut params: &[f32],
        x: &[f32],
        mut state: &mut [f32],
        y: &mut [f32],
        mut kept: &mut [f32],
        mut room: &mut [f32],
    ) -> Result<(), ArgumentError> {
        let (lstm, extent) = (self.lstm, self.extent);
        let batch = extent.batch;
        let (inputs, hidden, outputs) = (lstm.layer.inputs, lstm.layer.hidden, lstm.outputs());
        let stride = outputs * lstm.direction.count();
        let apart = take(&mut room, extent.rows() * outputs);
        let mut masks = self.masks;
        for index in 0..lstm.direction.count() {
            let reversed = self.is_reversed(index);
            let own = take(&mut params, lstm.direction_params_len());
            let state = take(&mut state, lstm.direction_state_len(batch));
            let mut cache = take(&mut kept, direction_cache_len(lstm, extent));
            let x_kept = take(&mut cache, extent.rows() * inputs);
            if reversed {
                reverse_steps(&mut *x_kept, x, batch * inputs);
            } else {
                copy_prefix(&mut *x_kept, x);
            }
            let masks = take(&mut masks, lstm.direction_masks_len(extent));
            if trains_plainly(lstm, self.lengths) {
                let hidden = [hidden];
                let shape = NetworkShape::new(inputs, &hidden);
                let model = Model::new(shape, own)?;
                let (cache, _) = cache.cut(shape.cache_len(extent));
                model.forward(extent, x_kept, &mut *state, &mut *cache)?;
                copy_prefix(&mut *apart, model.output(extent, cache)?);
            } else {
                let z = take(&mut cache, extent.rows() * 4 * hidden);
                let (cache, _) = cache.cut(Cache::len(lstm, extent));
                dispatch!(s => s.recur(Forward {
                    stage: *lstm,
                    extent,
                    rows: self.rows(reversed),
                    params: own,
                    x: x_kept,
                    state: &mut *state,
                    y: &mut *apart,
                    z,
                    cache: Some(Cache::cut(lstm, extent, cache)),
                    masks: Masks::cut(lstm, extent, masks),
                    room: &mut *room,
                }));
            }
            let (_, last) = (&*state).cut(batch * hidden);
            let columns = Columns {
                first: index * outputs,
                stride,
            };
            self.hand_on(reversed, columns, &mut *apart, last, &mut *y);
        }
        Ok(())
    }

    fn backward(
        &self,
        mut params: &[f32],
        dy: &[f32],
        mut dstate: &mut [f32],
        mut kept: &mut [f32],
        mut gradients: &mut [f32],
        dx: &mut [f32],
        mut room: &mut [f32],
    ) -> Result<(), ArgumentError> {
        let (lstm, extent) = (self.lstm, self.extent);
        let (inputs, hidden, outputs) = (lstm.layer.inputs, lstm.layer.hidden, lstm.outputs());
        let batch = extent.batch;
        let stride = outputs * lstm.direction.count();
        let dapart = take(&mut room, extent.rows() * outputs);
        let dx_apart = take(&mut room, extent.rows() * inputs);
        dx.fill(0.0);
        let mut masks = self.masks;
        for index in 0..lstm.direction.count() {
            let reversed = self.is_reversed(index);
            let own = take(&mut params, lstm.direction_params_len());
            let to = take(&mut gradients, lstm.direction_params_len());
            let dstate = take(&mut dstate, lstm.direction_state_len(batch));
            let mut cache = take(&mut kept, direction_cache_len(lstm, extent));
            let x = &*take(&mut cache, extent.rows() * inputs);
            let (_, dlast) = (&mut *dstate).cut(batch * hidden);
            let columns = Columns {
                first: index * outputs,
                stride,
            };
            self.take_back(reversed, columns, dy, &mut *dapart, dlast);
            let masks = take(&mut masks, lstm.direction_masks_len(extent));
            if trains_plainly(lstm, self.lengths) {
                let hidden = [hidden];
                let shape = NetworkShape::new(inputs, &hidden);
                let (cache, _) = cache.cut(shape.cache_len(extent));
                let (workspace, _) = (&mut *room).cut(shape.workspace_len(extent));
                Model::new(shape, own)?.backward(
                    extent,
                    model::Backward {
                        x,
                        dy: dapart,
                        dstate,
                        cache,
                        gradients: to,
                        dx: Some(&mut *dx_apart),
                        workspace,
                    },
                )?;
            } else {
                let z = take(&mut cache, extent.rows() * 4 * hidden);
                let (cache, _) = cache.cut(Cache::len(lstm, extent));
                dispatch!(s => s.recur_back(Backward {
                    stage: *lstm,
                    extent,
                    rows: self.rows(reversed),
                    params: own,
                    x,
                    dy: &*dapart,
                    dstate: &mut *dstate,
                    z,
                    cache: Cache::cut(lstm, extent, cache),
                    masks: Masks::cut(lstm, extent, masks),
                    gradients: to,
                    dx: &mut *dx_apart,
                    room: &mut *room,
                }));
            }
            let steps = exact_chunks(&*dx_apart, batch * inputs).enumerate();
            for (step, from) in steps {
                let step = if reversed {
                    extent.steps - 1 - step
                } else {
                    step
                };
                let at = step * batch * inputs;
                let to = dx.get_mut(at..at + from.len()).unwrap_or_default();
                dispatch!(s => s.add_scaled(to, from, 1.0));
            }
        }
        Ok(())
    }

    /// From the gradient of what the layer handed on to those of a direction's outputs, in the order
    /// of its steps, and of its last hidden state.
    fn take_back(
        &self,
        reversed: bool,
        columns: Columns,
        dy: &[f32],
        dapart: &mut [f32],
        dlast: &mut [f32],
    ) {
        let outputs = self.lstm.outputs();
        let Extent { steps, batch } = self.extent;
        let row_of = |row: usize| {
            let at = row * columns.stride + columns.first;
            dy.get(at..at + outputs).unwrap_or(&[])
        };
        let rows = self.rows(reversed);
        dapart.fill(0.0);
        if self.lstm.returns == Returns::Last {
            for (row, dlast) in exact_chunks(dlast, outputs).enumerate() {
                // To the output of a step, or to the hidden state that it is.
                let output = self.last_step(reversed, row).and_then(|step| {
                    let at = (step * batch + row) * outputs;
                    dapart.get_mut(at..at + outputs)
                });
                let to = output.unwrap_or(dlast);
                dispatch!(s => s.add_scaled(to, row_of(row), 1.0));
            }
            return;
        }
        for (step, to) in exact_chunks(dapart, batch * outputs).enumerate() {
            for (row, to) in exact_chunks(to, outputs).enumerate() {
                if !rows.is_active(step, row) {
                    continue;
                }
                if self.lstm.returns == Returns::Mean {
                    let factor = self.mean_factor(row);
                    dispatch!(s => s.add_scaled(to, row_of(row), factor));
                } else {
                    let step = if reversed { steps - 1 - step } else { step };
                    copy_prefix(to, row_of(step * batch + row));
                }
            }
        }
    }
}

fn backward(
    chain: &Chain,
    extent: Extent,
    lengths: Option<&[usize]>,
    buffers: ChainBackward,
) -> Result<(), ArgumentError> {
    let ChainBackward {
        dy,
        dstate,
        cache,
        gradients,
        dx,
        workspace,
    } = buffers;
    let mut room = workspace;
    let between = between_len(chain.inputs(), chain.stages(), extent);
    let (mut now, mut next) = (take(&mut room, between), take(&mut room, between));
    let skipped = take(&mut room, extent.rows() * chain.inputs());
    skipped.fill(0.0);
    let all = Place::of(chain, extent, chain.stages().len());
    let (masks, cache) = cache.cut(all.masks);
    copy_prefix(now, dy);
    for index in (0..chain.stages().len()).rev() {
        // Where a stage's parts begin is what those before it take.
        let place = Place::of(chain, extent, index);
        let Some(stage) = chain.stages().get(index) else {
            continue;
        };
        let own = part(chain.params(), place.params, stage.params_len());
        let to = part_mut(&mut *gradients, place.params, stage.params_len());
        let (before, after) = (place.extent, stage.extent(place.extent));
        let width = stage.width(place.width);
        let (from_len, to_len) = (after.rows() * width, before.rows() * place.width);
        let (_, mut at_stage) = (&mut *cache).cut(place.cache);
        let mask = part(masks, place.masks, stage.masks_len(place.width, before));
        let x = &*take(&mut at_stage, to_len);
        let d = part_mut(&mut *now, 0, from_len);
        let d_to = part_mut(&mut *next, 0, to_len);
        match stage {
            Stage::Embedding { width, .. } => {
                for (d, &index) in exact_chunks(&*d, *width).zip(x) {
                    let at = (index as usize).saturating_mul(*width);
                    let to = part_mut(&mut *to, at, *width);
                    dispatch!(s => s.add_scaled(to, d, 1.0));
                }
                d_to.fill(0.0);
            }
            Stage::Dense(shape) => {
                let workspace = part_mut(&mut *room, 0, shape.kernel_len());
                let rows = before.rows();
                let buffers = dense::Backward {
                    params: own,
                    x,
                    dy: d,
                    gradients: to,
                    dx: d_to,
                    workspace,
                };
                dispatch!(s => backward_rows(s, *shape, rows, buffers, &mut []));
            }
            Stage::Lstm(lstm) => {
                let layer = Layer {
                    lstm,
                    extent: before,
                    lengths: lengths.filter(|_| place.is_whole),
                    masks: mask,
                    narrow: None,
                };
                let kept = take(&mut at_stage, stage_cache_len(stage, before));
                let dstate = part_mut(&mut *dstate, place.state, lstm.state_len(before.batch));
                layer.backward(own, d, dstate, kept, to, d_to, &mut *room)?;
            }
            Stage::Reverse => {
                let lengths = lengths.filter(|_| place.is_whole);
                reverse_rows(d_to, d, before, width, lengths);
            }
            Stage::Flatten { steps } => exchange(d_to, d, [before.batch, *steps], place.width),
            Stage::Gain(gain) => {
                dispatch!(s => s.scale(&mut *d, *gain));
                copy_prefix(d_to, d);
            }
            Stage::Mask { .. } => {
                copy_prefix(&mut *d_to, d);
                mask_rows(d_to, mask);
            }
            Stage::Activation(kind) => {
                let y = part(at_stage, 0, from_len);
                activation_backward(*kind, width, y, d);
                copy_prefix(d_to, d);
            }
            Stage::Skip { first, gain } => {
                let rows = exact_chunks(&mut *skipped, chain.inputs());
                for (to, d) in rows.zip(exact_chunks(&*d, width)) {
                    let to = part_mut(to, *first, width);
                    dispatch!(s => s.add_scaled(to, d, *gain));
                }
                copy_prefix(d_to, d);
            }
        }
        core::mem::swap(&mut now, &mut next);
    }
    if let Some(dx) = dx {
        copy_prefix(dx, now);
        dispatch!(s => s.add_scaled(dx, skipped, 1.0));
    }
    Ok(())
}

/// Where the parts of a stage begin, and what comes to it.
struct Place {
    params: usize,
    state: usize,
    /// Behind the masks.
    cache: usize,
    masks: usize,
    width: usize,
    extent: Extent,
    /// Whether all steps of the input are there.
    is_whole: bool,
}

impl Place {
    fn of(chain: &Chain, extent: Extent, index: usize) -> Self {
        let mut place = Self {
            params: 0,
            state: 0,
            cache: 0,
            masks: 0,
            width: chain.inputs(),
            extent,
            is_whole: true,
        };
        for stage in chain.stages().iter().take(index) {
            place.params += stage.params_len();
            place.state += stage.state_len(extent.batch);
            place.cache += place.extent.rows() * place.width;
            place.cache += stage_cache_len(stage, place.extent);
            place.masks += stage.masks_len(place.width, place.extent);
            place.width = stage.width(place.width);
            place.is_whole &= stage.is_whole();
            place.extent = stage.extent(place.extent);
        }
        place
    }
}

fn part(values: &[f32], start: usize, len: usize) -> &[f32] {
    values.get(start..start.saturating_add(len)).unwrap_or(&[])
}

fn part_mut(values: &mut [f32], start: usize, len: usize) -> &mut [f32] {
    values
        .get_mut(start..start.saturating_add(len))
        .unwrap_or_default()
}

/// The gradient before an activation, from that behind it and from its result.
fn activation_backward(kind: Activation, width: usize, y: &[f32], d: &mut [f32]) {
    if kind != Activation::Softmax {
        return dispatch!(s => s.times_slope(kind, y, d));
    }
    // dx = y·(dy − Σ dy·y)
    for (y, d) in exact_chunks(y, width).zip(exact_chunks(d, width)) {
        let sum: f32 = y.iter().zip(&*d).map(|(y, d)| y * d).sum();
        for (d, y) in d.iter_mut().zip(y) {
            *d = y * (*d - sum);
        }
    }
}

impl Activation {
    /// Replaces every number by the function of it, or every row of so many by that of the row.
    /// Refuses rows of 0 numbers, and another length than whole rows.
    pub fn apply(self, width: usize, values: &mut [f32]) -> Result<(), ArgumentError> {
        if width == 0 {
            return Err(ArgumentError::Zero { what: "width" });
        }
        let rows = div_or_zero(values.len(), width);
        check_len("values", rows * width, values.len())?;
        self.apply_to_rows(width, values);
        Ok(())
    }

    pub(super) fn apply_to_rows(self, width: usize, values: &mut [f32]) {
        match self {
            Self::Softmax => dispatch_inline!(s => softmax_rows(s, width, values)),
            kind => dispatch!(s => s.activate(kind, values)),
        }
    }
}
