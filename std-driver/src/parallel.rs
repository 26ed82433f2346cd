//! A batch on several cores: its rows are cut into parts, each with buffers of its
//! own, that are worked on side by side.
//!
//! Inference gives the same bits for any number of parts, because a row's bits do not
//! depend on its batch. In training the gradients of the parts are summed from the first
//! part to the last, each weighted with its share of the rows that count: the bits depend on the
//! number of parts, which is why the caller states it, and not on that of the threads.

use crate::Error;
use fused_lstm::loss::IGNORE;
use fused_lstm::{ArgumentError, Backward, Extent, LossGradient, Model, NetworkShape, PackedModel};
use rayon::prelude::*;
use std::ops::Range;

/// The rows of each part, as equal as they can be, the larger ones first; as many
/// parts as there are rows if more are asked for.
///
/// ```
/// let rows = fused_lstm_driver::parallel::cut_rows(5, 2);
/// assert_eq!(rows, [0..3, 3..5]);
/// ```
pub fn cut_rows(batch: usize, parts: usize) -> Vec<Range<usize>> {
    let parts = parts.clamp(1, batch.max(1));
    let (least, larger) = (batch / parts, batch % parts);
    let start = |part: usize| part * least + part.min(larger);
    (0..parts)
        .map(|part| start(part)..start(part + 1))
        .collect()
}

/// Copies `rows` of a buffer `[N, B, W]` to one `[N, rows, W]`.
pub(crate) fn gather<T: Copy>(
    from: &[T],
    batch: usize,
    width: usize,
    rows: &Range<usize>,
    to: &mut [T],
) {
    let steps = from.chunks_exact(batch * width);
    for (from, to) in steps.zip(to.chunks_exact_mut(rows.len() * width)) {
        to.copy_from_slice(&from[rows.start * width..rows.end * width]);
    }
}

/// The way back of [`gather`].
pub(crate) fn scatter(
    from: &[f32],
    batch: usize,
    width: usize,
    rows: &Range<usize>,
    to: &mut [f32],
) {
    let steps = to.chunks_exact_mut(batch * width);
    for (to, from) in steps.zip(from.chunks_exact(rows.len() * width)) {
        to[rows.start * width..rows.end * width].copy_from_slice(from);
    }
}

/// What every part has, of inference and of training.
#[derive(Clone, Debug)]
struct Part {
    rows: Range<usize>,
    extent: Extent,
    x: Vec<f32>,
    state: Vec<f32>,
}

impl Part {
    fn new(shape: NetworkShape, steps: usize, rows: Range<usize>) -> Self {
        let batch = rows.len();
        let extent = Extent { steps, batch };
        Self {
            x: vec![0.0; extent.rows() * shape.inputs],
            state: vec![0.0; shape.state_len(batch)],
            rows,
            extent,
        }
    }

    /// Takes its rows of the input and of the state.
    fn read(&mut self, shape: NetworkShape, batch: usize, x: &[f32], state: &[f32]) {
        gather(x, batch, shape.inputs, &self.rows, &mut self.x);
        let (mut whole, mut own) = (state, &mut self.state[..]);
        for layer in shape.layers() {
            let (from, to);
            (from, whole) = whole.split_at(layer.state_len(batch));
            (to, own) = own.split_at_mut(layer.state_len(self.rows.len()));
            gather(from, batch, layer.hidden, &self.rows, to);
        }
    }

    /// Gives its rows of the state back.
    fn write_state(&self, shape: NetworkShape, batch: usize, state: &mut [f32]) {
        let (mut whole, mut own) = (state, &self.state[..]);
        for layer in shape.layers() {
            let (from, to);
            (to, whole) = whole.split_at_mut(layer.state_len(batch));
            (from, own) = own.split_at(layer.state_len(self.rows.len()));
            scatter(from, batch, layer.hidden, &self.rows, to);
        }
    }
}

/// Inference in parts: their buffers, for one shape and extent.
///
/// ```
/// use fused_lstm::{Extent, Model, NetworkShape};
/// use fused_lstm_driver::parallel::InferParts;
///
/// let shape = NetworkShape::new(1, &[4]);
/// let extent = Extent { steps: 2, batch: 3 };
/// let params = [0.1; 96];
/// let model = Model::new(shape, &params)?;
/// let (x, mut y, mut state) = ([0.5; 6], [0.0; 24], [0.0; 24]);
/// InferParts::new(shape, extent, 2).infer(model, &x, &mut state, &mut y)?;
///
/// let (mut same, mut state) = ([0.0; 24], [0.0; 24]);
/// model.infer(extent, &x, &mut state, &mut same, &mut vec![0.0; shape.scratch_len(extent)])?;
/// assert_eq!(y, same);
/// # Ok::<(), fused_lstm_driver::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct InferParts {
    extent: Extent,
    parts: Vec<InferPart>,
}

#[derive(Clone, Debug)]
struct InferPart {
    part: Part,
    y: Vec<f32>,
    scratch: Vec<f32>,
}

impl InferParts {
    /// Buffers for so many parts.
    pub fn new(shape: NetworkShape, extent: Extent, parts: usize) -> Self {
        let part = |rows| {
            let part = Part::new(shape, extent.steps, rows);
            InferPart {
                y: vec![0.0; part.extent.rows() * shape.outputs()],
                scratch: vec![0.0; shape.scratch_len(part.extent)],
                part,
            }
        };
        let parts = cut_rows(extent.batch, parts).into_iter().map(part);
        Self {
            extent,
            parts: parts.collect(),
        }
    }

    /// [`Model::infer`] on rayon's threads: `x` `[T, B, I]` is read, `state` advanced,
    /// `y` `[T, B, H]` overwritten.
    pub fn infer(
        &mut self,
        model: Model,
        x: &[f32],
        state: &mut [f32],
        y: &mut [f32],
    ) -> Result<(), Error> {
        self.infer_with(
            model.shape(),
            x,
            state,
            y,
            |extent, x, state, y, scratch| model.infer(extent, x, state, y, scratch),
        )
    }

    /// [`infer`](Self::infer) with kernels that were packed before, for as many rows as a part
    /// has.
    ///
    /// ```
    /// use fused_lstm::{Extent, Model, NetworkShape, PackedModel};
    /// use fused_lstm_driver::parallel::InferParts;
    ///
    /// let shape = NetworkShape::new(1, &[50]);
    /// let extent = Extent { steps: 2, batch: 8 };
    /// let params = vec![0.1; shape.params_len()];
    /// let mut panels = vec![0.0; shape.packed_len()];
    /// let model = PackedModel::new(Model::new(shape, &params)?, 4, &mut panels)?;
    /// let (mut y, mut state) = ([0.0; 800], [0.0; 800]);
    /// InferParts::new(shape, extent, 2).infer_packed(model, &[0.5; 16], &mut state, &mut y)?;
    /// assert_eq!(y[400..], state[400..]);
    /// # Ok::<(), fused_lstm_driver::Error>(())
    /// ```
    pub fn infer_packed(
        &mut self,
        model: PackedModel,
        x: &[f32],
        state: &mut [f32],
        y: &mut [f32],
    ) -> Result<(), Error> {
        let shape = model.model().shape();
        self.infer_with(shape, x, state, y, |extent, x, state, y, scratch| {
            let scratch = &mut scratch[..shape.packed_scratch_len(extent)];
            model.infer(extent, x, state, y, scratch)
        })
    }

    fn infer_with(
        &mut self,
        shape: NetworkShape,
        x: &[f32],
        state: &mut [f32],
        y: &mut [f32],
        infer: impl Fn(Extent, &[f32], &mut [f32], &mut [f32], &mut [f32]) -> Result<(), ArgumentError>
        + Sync,
    ) -> Result<(), Error> {
        let extent = self.extent;
        let batch = extent.batch;
        check("x", extent.rows() * shape.inputs, x.len())?;
        check("y", extent.rows() * shape.outputs(), y.len())?;
        check("state", shape.state_len(batch), state.len())?;
        let whole = &*state;
        self.parts.par_iter_mut().try_for_each(|own| {
            own.part.read(shape, batch, x, whole);
            let Part {
                extent, x, state, ..
            } = &mut own.part;
            infer(*extent, x, state, &mut own.y, &mut own.scratch)
        })?;
        for own in &self.parts {
            own.part.write_state(shape, batch, state);
            scatter(&own.y, batch, shape.outputs(), &own.part.rows, y);
        }
        Ok(())
    }
}

/// Training in parts: their buffers, for one shape and extent.
///
/// ```
/// use fused_lstm::{Extent, Model, NetworkShape};
/// use fused_lstm_driver::parallel::TrainParts;
///
/// let shape = NetworkShape::new(1, &[4]).with_head(2);
/// let extent = Extent { steps: 2, batch: 3 };
/// let params = vec![0.0; shape.params_len()];
/// let mut gradients = vec![0.0; shape.params_len()];
/// let (mut state, mut probabilities) = ([0.0; 24], [0.0; 12]);
/// let loss = TrainParts::new(shape, extent, 2).loss_gradient(
///     Model::new(shape, &params)?, &[1.0; 6], &[1; 6],
///     &mut state, &mut gradients, &mut probabilities,
/// )?;
/// assert!((loss - core::f32::consts::LN_2).abs() < 1e-6);
/// # Ok::<(), fused_lstm_driver::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TrainParts {
    extent: Extent,
    parts: Vec<TrainPart>,
}

#[derive(Clone, Debug)]
struct TrainPart {
    part: Part,
    labels: Vec<u32>,
    probabilities: Vec<f32>,
    /// The gradients of the outputs and of the state.
    dy: Vec<f32>,
    dstate: Vec<f32>,
    gradients: Vec<f32>,
    cache: Vec<f32>,
    workspace: Vec<f32>,
}

impl TrainParts {
    /// Buffers for so many parts.
    pub fn new(shape: NetworkShape, extent: Extent, parts: usize) -> Self {
        let part = |rows| {
            let part = Part::new(shape, extent.steps, rows);
            let lens = shape.lengths(part.extent);
            TrainPart {
                labels: vec![0; lens.labels],
                probabilities: vec![0.0; shape.logits_len(part.extent)],
                dy: Vec::new(),
                dstate: Vec::new(),
                gradients: vec![0.0; lens.params],
                cache: vec![0.0; lens.cache],
                workspace: vec![0.0; lens.workspace],
                part,
            }
        };
        let parts = cut_rows(extent.batch, parts).into_iter().map(part);
        Self {
            extent,
            parts: parts.collect(),
        }
    }

    /// [`Model::loss_gradient`] on rayon's threads: gives the loss; `x` `[T, B, I]` and
    /// `labels` `[T, B]` are read, `state` is advanced, `gradients` accumulated to and
    /// `probabilities` `[T, B, C]` overwritten. Rows with the label [`IGNORE`] do not count.
    pub fn loss_gradient(
        &mut self,
        model: Model,
        x: &[f32],
        labels: &[u32],
        state: &mut [f32],
        gradients: &mut [f32],
        probabilities: &mut [f32],
    ) -> Result<f32, Error> {
        let (shape, extent) = (model.shape(), self.extent);
        let (batch, classes) = (extent.batch, shape.classes.unwrap_or(0));
        let outputs = shape.logits_len(extent);
        check("labels", extent.rows(), labels.len())?;
        check("probabilities", outputs, probabilities.len())?;
        check_buffers(shape, extent, x, state, gradients)?;
        let whole = &*state;
        let losses: Vec<f32> = self
            .parts
            .par_iter_mut()
            .map(|own| {
                own.part.read(shape, batch, x, whole);
                gather(labels, batch, 1, &own.part.rows, &mut own.labels);
                own.gradients.fill(0.0);
                let buffers = LossGradient {
                    x: &own.part.x,
                    state: &mut own.part.state,
                    gradients: &mut own.gradients,
                    outputs: &mut own.probabilities,
                    cache: &mut own.cache,
                    workspace: &mut own.workspace,
                };
                model.loss_gradient(own.part.extent, &own.labels, buffers)
            })
            .collect::<Result<_, _>>()?;
        let mut loss = 0.0;
        let counted = |labels: &[u32]| labels.iter().filter(|&&label| label != IGNORE).count();
        // If no row counts, every part's loss and gradient is 0.
        let all = counted(labels).max(1);
        for (own, own_loss) in self.parts.iter().zip(losses) {
            let share = (counted(&own.labels) as f64 / all as f64) as f32;
            loss += share * own_loss;
            for (sum, own) in gradients.iter_mut().zip(&own.gradients) {
                *sum += share * own;
            }
            own.part.write_state(shape, batch, state);
            let rows = &own.part.rows;
            scatter(&own.probabilities, batch, classes, rows, probabilities);
        }
        Ok(loss)
    }

    /// [`Model::forward`] and [`Model::backward`] on rayon's threads: `x` `[T, B, I]` and `dy`
    /// `[T, B, H]` are read, `state` is advanced, `gradients` accumulated to. Nothing comes
    /// from beyond the final state.
    ///
    /// ```
    /// use fused_lstm::{Extent, Model, NetworkShape};
    /// use fused_lstm_driver::parallel::TrainParts;
    ///
    /// let shape = NetworkShape::new(1, &[4]);
    /// let extent = Extent { steps: 2, batch: 3 };
    /// let params = vec![0.1; shape.params_len()];
    /// let mut gradients = vec![0.0; shape.params_len()];
    /// let (x, dy, mut state) = ([1.0; 6], [1.0; 24], [0.0; 24]);
    /// TrainParts::new(shape, extent, 2)
    ///     .gradient(Model::new(shape, &params)?, &x, &dy, &mut state, &mut gradients)?;
    /// assert!(gradients.iter().all(|&g| g > 0.0));
    /// # Ok::<(), fused_lstm_driver::Error>(())
    /// ```
    pub fn gradient(
        &mut self,
        model: Model,
        x: &[f32],
        dy: &[f32],
        state: &mut [f32],
        gradients: &mut [f32],
    ) -> Result<(), Error> {
        let (shape, extent) = (model.shape(), self.extent);
        let (batch, outputs) = (extent.batch, shape.outputs());
        check("dy", extent.rows() * outputs, dy.len())?;
        check_buffers(shape, extent, x, state, gradients)?;
        let whole = &*state;
        // The first part adds to the caller's.
        let mut targets = vec![Some(&mut *gradients)];
        targets.resize_with(self.parts.len(), || None);
        let parts = self.parts.par_iter_mut().zip(targets);
        parts.try_for_each(|(own, gradients)| {
            own.part.read(shape, batch, x, whole);
            own.dy.resize(own.part.extent.rows() * outputs, 0.0);
            gather(dy, batch, outputs, &own.part.rows, &mut own.dy);
            own.dstate.clear();
            own.dstate.resize(own.part.state.len(), 0.0);
            let gradients = gradients.unwrap_or_else(|| {
                own.gradients.fill(0.0);
                &mut own.gradients
            });
            let (extent, x) = (own.part.extent, &own.part.x);
            model.forward(extent, x, &mut own.part.state, &mut own.cache)?;
            let buffers = Backward {
                x,
                dy: &own.dy,
                dstate: &mut own.dstate,
                cache: &mut own.cache,
                gradients,
                dx: None,
                workspace: &mut own.workspace,
            };
            model.backward(extent, buffers)
        })?;
        for own in &self.parts {
            own.part.write_state(shape, batch, state);
        }
        // In pieces that stay in the cache while all parts are added.
        let others = &self.parts[1..];
        gradients
            .par_chunks_mut(1 << 12)
            .enumerate()
            .for_each(|(index, sums)| {
                for own in others {
                    for (sum, own) in sums.iter_mut().zip(&own.gradients[index << 12..]) {
                        *sum += own;
                    }
                }
            });
        Ok(())
    }
}

/// Refuses buffers of another length before anything is cut by them.
fn check_buffers(
    shape: NetworkShape,
    extent: Extent,
    x: &[f32],
    state: &[f32],
    gradients: &[f32],
) -> Result<(), Error> {
    check("x", extent.rows() * shape.inputs, x.len())?;
    check("state", shape.state_len(extent.batch), state.len())?;
    check("gradients", shape.params_len(), gradients.len())
}

/// Refuses a buffer of another length before anything is cut by it.
pub(crate) fn check(what: &'static str, expected: usize, got: usize) -> Result<(), Error> {
    if expected == got {
        return Ok(());
    }
    Err(Error::Shape(ArgumentError::Length {
        what,
        expected,
        got,
    }))
}
