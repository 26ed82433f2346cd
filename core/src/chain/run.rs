//! A chain of stages, and inference through it.

use super::pointwise::Pointwise as _;
use super::recurrent::{Forward, Masks, Recurrent as _, Rows};
use super::shape::{
    ChainLengths, apart_lens, between_len, check, inference_lengths, is_plain, lengths,
};
use super::stage::{Direction, LstmStage, Returns, Stage};
use crate::error::{ArgumentError, check_len, check_lens};
use crate::layout::split::{copy_prefix, div_or_zero, exact_chunks, exact_chunks_rev, take};
use crate::layout::{Cut, Extent, NetworkShape};
use crate::model::Model;
use crate::narrow::NarrowLayer;
use crate::simd::dispatch;
use crate::train::dense::forward_rows;
use bytemuck::must_cast_slice;

/// Embedding, dense and LSTM stages with options, one after the other, over borrowed parameters.
///
/// [`Model`] is for plain layers and a dense head, and can do more with them; this is for what other
/// systems have besides. The parameters are those of the stages, one after the other.
///
/// ```
/// use fused_lstm::{Activation, Chain, DenseShape, Direction, Extent, LayerShape, LstmStage, Stage};
///
/// // A table of 10 rows, a layer in both directions, and the probabilities of 3 classes.
/// let stages = [
///     Stage::Embedding { rows: 10, width: 4 },
///     Stage::Lstm(LstmStage { direction: Direction::Both, ..LstmStage::new(LayerShape::new(4, 8)) }),
///     Stage::Dense(DenseShape::new(16, 3)),
///     Stage::Activation(Activation::Softmax),
/// ];
/// let extent = Extent { steps: 5, batch: 1 };
/// let lens = Chain::lengths(1, &stages, extent);
/// let params = vec![0.1; lens.params];
/// let chain = Chain::new(1, &stages, &params)?;
///
/// let mut y = vec![0.0; lens.y];
/// let (mut state, mut scratch) = (vec![0.0; lens.state], vec![0.0; lens.scratch]);
/// chain.run(extent, None, &[3.0, 1.0, 4.0, 1.0, 5.0], &mut state, &mut y, &mut scratch)?;
/// assert_eq!(y.len(), 5 * 3);
/// assert!((y[0] - 1.0 / 3.0).abs() < 1e-6);
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a> {
    inputs: usize,
    stages: &'a [Stage],
    params: &'a [f32],
    /// Only of chains that may have narrow layers, so that a program without them has no code for them.
    narrow: Option<RunNarrow>,
}

/// One direction of a layer whose weights are words.
type RunNarrow = fn(
    layer: &Layer,
    reversed: bool,
    params: &[f32],
    x: &[f32],
    state: &mut [f32],
    y: &mut [f32],
    room: &mut [f32],
) -> Result<(), ArgumentError>;

impl<'a> Chain<'a> {
    /// Refuses stages that do not fit each other, and parameters of another length than
    /// [`lengths`](Self::lengths) says. `inputs` is the width of the input: 1 before a table.
    ///
    /// Layers whose weights are stored in fewer bits are refused: [`of_words`](Self::of_words) takes
    /// them.
    pub fn new(
        inputs: usize,
        stages: &'a [Stage],
        params: &'a [f32],
    ) -> Result<Self, ArgumentError> {
        check_params(inputs, stages, "params", params.len())?;
        let chain = Self {
            inputs,
            stages,
            params,
            narrow: None,
        };
        chain.check_f32("words as parameters")?;
        Ok(chain)
    }

    /// The same of parameters as words: the bits of numbers, among which those of narrow layers are.
    pub fn of_words(
        inputs: usize,
        stages: &'a [Stage],
        words: &'a [u32],
    ) -> Result<Self, ArgumentError> {
        check_params(inputs, stages, "words", words.len())?;
        Ok(Self {
            inputs,
            stages,
            params: must_cast_slice(words),
            narrow: Some(narrow_direction),
        })
    }

    /// [`NarrowLayer::check`] of every narrow layer.
    pub fn check_words(&self) -> Result<(), ArgumentError> {
        let mut params = self.params;
        for stage in self.stages {
            let mut own = take(&mut params, stage.params_len());
            let Stage::Lstm(lstm) = stage else { continue };
            for _ in 0..lstm.direction.count() {
                let words = take(&mut own, lstm.direction_params_len());
                if lstm.is_narrow() {
                    let words = must_cast_slice(words);
                    NarrowLayer::new(lstm.layer, lstm.storage, words)?.check()?;
                }
            }
        }
        Ok(())
    }

    /// Refuses layers whose weights are stored in fewer bits.
    pub(super) fn check_f32(&self, what: &'static str) -> Result<(), ArgumentError> {
        match self.stages.iter().position(Stage::is_narrow) {
            Some(index) => Err(ArgumentError::Stage { index, what }),
            None => Ok(()),
        }
    }

    /// The lengths of the buffers of a run, and of training.
    pub const fn lengths(inputs: usize, stages: &[Stage], extent: Extent) -> ChainLengths {
        lengths(inputs, stages, extent)
    }

    /// The width of the input.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The width of the output.
    pub fn outputs(&self) -> usize {
        let widths = self.stages.iter();
        widths.fold(self.inputs, |width, stage| stage.width(width))
    }

    /// The stages.
    pub fn stages(&self) -> &'a [Stage] {
        self.stages
    }

    /// The parameters.
    pub fn params(&self) -> &'a [f32] {
        self.params
    }

    /// Whether a sequence may be run in parts, the state carried from one to the next: whether no
    /// stage looks at later steps.
    pub fn is_causal(&self) -> bool {
        self.stages.iter().all(|stage| match stage {
            Stage::Lstm(lstm) => {
                lstm.direction == Direction::Forward && lstm.returns == Returns::Sequence
            }
            Stage::Reverse | Stage::Flatten { .. } => false,
            _ => true,
        })
    }

    /// Runs a sequence.
    ///
    /// `x` `[T, B, I]` is read; before a table it holds whole numbers. `lengths`, if there are any,
    /// say how many steps each row of the batch has: beyond them a layer's output is zero, and its
    /// state is the one at the row's end, where the direction from the end begins. `state` is
    /// advanced; `y` `[T, B, O]` (or `[1, B, O]`) is overwritten. `scratch` holds nothing of use after.
    ///
    /// Refuses buffers of other lengths than [`lengths`](Self::lengths) says, rows that are longer
    /// than the sequence, another number of steps than a [`Stage::Flatten`] is for, and numbers that
    /// are no row of a table, beyond the length of a row too.
    pub fn run(
        &self,
        extent: Extent,
        lengths: Option<&[usize]>,
        x: &[f32],
        state: &mut [f32],
        y: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<(), ArgumentError> {
        let lens = inference_lengths(self.inputs, self.stages, extent);
        check_lens(&[
            ("x", lens.x, x.len()),
            ("state", lens.state, state.len()),
            ("y", lens.y, y.len()),
            ("scratch", lens.scratch, scratch.len()),
        ])?;
        self.check(extent, lengths, x)?;
        if extent.rows() == 0 {
            return Ok(());
        }
        run(self, extent, lengths, x, state, y, scratch)
    }

    /// Refuses rows that are longer than the sequence, and what is no row of the table.
    pub(super) fn check(
        &self,
        extent: Extent,
        lengths: Option<&[usize]>,
        x: &[f32],
    ) -> Result<(), ArgumentError> {
        check_rows(extent, lengths)?;
        let mut now = extent;
        for (index, stage) in self.stages.iter().enumerate() {
            if let Stage::Flatten { steps } = *stage
                && steps != now.steps
            {
                return Err(ArgumentError::StageSteps {
                    index,
                    expected: steps,
                    got: now.steps,
                });
            }
            now = stage.extent(now);
        }
        let Some(&Stage::Embedding { rows, .. }) = self.stages.first() else {
            return Ok(());
        };
        let is_row = |x: f32| x >= 0.0 && (x as usize) < rows && x as usize as f32 == x;
        match x.iter().position(|&x| !is_row(x)) {
            Some(row) => Err(ArgumentError::Index { row, rows }),
            None => Ok(()),
        }
    }
}

/// Refuses stages that do not fit each other, and another number of parameters than they have.
fn check_params(
    inputs: usize,
    stages: &[Stage],
    what: &'static str,
    got: usize,
) -> Result<(), ArgumentError> {
    check(inputs, stages)?;
    let none = Extent { steps: 0, batch: 0 };
    check_len(what, inference_lengths(inputs, stages, none).params, got)
}

/// Refuses rows that are longer than the sequence.
pub(super) fn check_rows(extent: Extent, lengths: Option<&[usize]>) -> Result<(), ArgumentError> {
    let Some(lengths) = lengths else {
        return Ok(());
    };
    check_len("lengths", extent.batch, lengths.len())?;
    let steps = extent.steps;
    match lengths
        .iter()
        .enumerate()
        .find(|&(_, &length)| length > steps)
    {
        Some((row, &got)) => Err(ArgumentError::RowLength { row, steps, got }),
        None => Ok(()),
    }
}

fn run(
    chain: &Chain,
    extent: Extent,
    mut lengths: Option<&[usize]>,
    x: &[f32],
    mut state: &mut [f32],
    y: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), ArgumentError> {
    let mut room = scratch;
    let between = between_len(chain.inputs, chain.stages, extent);
    let (mut now, mut next) = (take(&mut room, between), take(&mut room, between));
    let (mut params, mut width, mut at) = (chain.params, chain.inputs, extent);
    copy_prefix(now, x);
    for stage in chain.stages {
        let before = at.rows() * width;
        let own = take(&mut params, stage.params_len());
        width = stage.width(width);
        let after = stage.extent(at);
        let (from, to) = (part(now, before), part(next, after.rows() * width));
        if let Stage::Lstm(lstm) = stage {
            let state = take(&mut state, lstm.state_len(at.batch));
            let layer = Layer {
                lstm,
                extent: at,
                lengths,
                masks: &[],
                narrow: chain.narrow,
            };
            layer.run(own, from, state, to, &mut *room)?;
        } else {
            let step = Apart {
                stage,
                extent: at,
                lengths,
                width,
                x,
                inputs: chain.inputs,
            };
            step.apply(own, from, to, &mut *room);
        }
        core::mem::swap(&mut now, &mut next);
        if !stage.is_whole() {
            // Behind it every row has one step, so that lengths no longer apply.
            lengths = None;
        }
        at = after;
    }
    copy_prefix(y, now);
    Ok(())
}

/// A stage without a state, and what it sees beside its input.
pub(super) struct Apart<'a> {
    pub(super) stage: &'a Stage,
    pub(super) extent: Extent,
    pub(super) lengths: Option<&'a [usize]>,
    /// Behind it.
    pub(super) width: usize,
    /// The chain's input, and its width.
    pub(super) x: &'a [f32],
    pub(super) inputs: usize,
}

impl Apart<'_> {
    /// `to` is overwritten; `room` is for products.
    pub(super) fn apply(&self, params: &[f32], from: &[f32], to: &mut [f32], room: &mut [f32]) {
        let (width, extent) = (self.width, self.extent);
        match *self.stage {
            Stage::Embedding { .. } => look_up(params, width, from, to),
            Stage::Dense(shape) => {
                dispatch!(s => forward_rows(s, shape, extent.rows(), params, from, to, room));
            }
            Stage::Reverse => reverse_rows(to, from, extent, width, self.lengths),
            Stage::Flatten { steps } => {
                exchange(to, from, [steps, extent.batch], div_or_zero(width, steps));
            }
            Stage::Activation(kind) => {
                copy_prefix(&mut *to, from);
                kind.apply_to_rows(width, to);
            }
            Stage::Gain(gain) => {
                copy_prefix(&mut *to, from);
                dispatch!(s => s.scale(to, gain));
            }
            Stage::Skip { first, gain } => {
                copy_prefix(&mut *to, from);
                let rows = exact_chunks(to, width).zip(exact_chunks(self.x, self.inputs));
                for (to, x) in rows {
                    let x = x.get(first..first + width).unwrap_or(&[]);
                    dispatch!(s => s.add_scaled(to, x, gain));
                }
            }
            // Training has a mask besides.
            Stage::Mask { .. } => copy_prefix(to, from),
            // It has a state.
            Stage::Lstm(_) => {}
        }
    }
}

/// The first numbers.
fn part(values: &mut [f32], len: usize) -> &mut [f32] {
    values.get_mut(..len).unwrap_or_default()
}

/// A row of the table for each number.
fn look_up(table: &[f32], width: usize, from: &[f32], to: &mut [f32]) {
    for (to, &index) in exact_chunks(to, width).zip(from) {
        let start = (index as usize).saturating_mul(width);
        copy_prefix(to, table.get(start..).unwrap_or(&[]));
    }
}

/// Rows of so many numbers, `[first, second]` of them as `[second, first]`.
pub(super) fn exchange(to: &mut [f32], from: &[f32], rows: [usize; 2], width: usize) {
    let [first, second] = rows;
    for (row, from) in exact_chunks(from, width).enumerate() {
        let at = (row % second.max(1) * first + div_or_zero(row, second)) * width;
        if let Some(to) = to.get_mut(at..) {
            copy_prefix(to, from);
        }
    }
}

/// Steps of `len` numbers from the last to the first.
pub(super) fn reverse_steps(to: &mut [f32], from: &[f32], len: usize) {
    for (to, from) in exact_chunks(to, len).zip(exact_chunks_rev(from, len)) {
        copy_prefix(to, from);
    }
}

/// The steps of each row from the last to the first, and what lies beyond its length as it is.
pub(super) fn reverse_rows(
    to: &mut [f32],
    from: &[f32],
    extent: Extent,
    width: usize,
    lengths: Option<&[usize]>,
) {
    let Extent { steps, batch } = extent;
    let Some(lengths) = lengths else {
        return reverse_steps(to, from, batch * width);
    };
    copy_prefix(&mut *to, from);
    for (row, &length) in lengths.iter().enumerate() {
        let length = length.min(steps);
        for step in 0..length {
            let at = (step * batch + row) * width;
            let other = ((length - 1 - step) * batch + row) * width;
            let (to, from) = (to.get_mut(at..at + width), from.get(other..other + width));
            copy_prefix(to.unwrap_or_default(), from.unwrap_or(&[]));
        }
    }
}

/// A layer with the extent and the lengths that it runs with.
#[derive(Clone, Copy)]
pub(super) struct Layer<'a> {
    pub(super) lstm: &'a LstmStage,
    pub(super) extent: Extent,
    pub(super) lengths: Option<&'a [usize]>,
    /// Those of its directions, in training.
    pub(super) masks: &'a [f32],
    pub(super) narrow: Option<RunNarrow>,
}

/// One direction through words.
fn narrow_direction(
    context: &Layer,
    reversed: bool,
    params: &[f32],
    x: &[f32],
    state: &mut [f32],
    y: &mut [f32],
    mut room: &mut [f32],
) -> Result<(), ArgumentError> {
    let (shape, storage) = (context.lstm.layer, context.lstm.storage);
    let layer = NarrowLayer::new(shape, storage, must_cast_slice(params))?;
    let scratch = take(&mut room, NarrowLayer::scratch_for(shape));
    let rows = context.rows(reversed);
    layer.run_rows(context.extent, x, state, y, scratch, |step, row| {
        rows.is_active(step, row)
    });
    Ok(())
}

/// The columns of a direction in what the layer hands on.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    pub(super) first: usize,
    pub(super) stride: usize,
}

impl Layer<'_> {
    pub(super) fn is_reversed(&self, index: usize) -> bool {
        self.lstm.direction == Direction::Reverse || index == 1
    }

    pub(super) fn rows(&self, reversed: bool) -> Rows<'_> {
        Rows {
            lengths: self.lengths,
            reversed,
            steps: self.extent.steps,
        }
    }

    /// One over the steps of a row.
    pub(super) fn mean_factor(&self, row: usize) -> f32 {
        let length = self.lengths.and_then(|lengths| lengths.get(row));
        1.0 / (*length.unwrap_or(&self.extent.steps)).max(1) as f32
    }

    /// The step of a row that comes last in the order of a direction, where its output is not the
    /// final hidden state. That of a row without steps is.
    pub(super) fn last_step(&self, reversed: bool, row: usize) -> Option<usize> {
        if self.lstm.cell.zoneout.hidden == 0.0 {
            return None;
        }
        let steps = self.extent.steps;
        let length = self.lengths.and_then(|lengths| lengths.get(row));
        let last = length.unwrap_or(&steps).checked_sub(1)?;
        Some(if reversed { steps - 1 } else { last })
    }

    /// Writes a direction's outputs, which come in the order of its steps, or the last one, or their
    /// mean to its columns. The outputs are overwritten.
    pub(super) fn hand_on(
        &self,
        reversed: bool,
        columns: Columns,
        apart: &mut [f32],
        last: &[f32],
        y: &mut [f32],
    ) {
        let outputs = self.lstm.outputs();
        let Extent { steps, batch } = self.extent;
        let mut write = |row: usize, values: &[f32]| {
            let at = row * columns.stride + columns.first;
            copy_prefix(y.get_mut(at..at + outputs).unwrap_or_default(), values);
        };
        match self.lstm.returns {
            Returns::Last => {
                for (row, h) in exact_chunks(last, outputs).enumerate() {
                    let output = self.last_step(reversed, row).and_then(|step| {
                        let at = (step * batch + row) * outputs;
                        apart.get(at..at + outputs)
                    });
                    write(row, output.unwrap_or(h));
                }
            }
            Returns::Sequence => {
                for (step, values) in exact_chunks(&*apart, batch * outputs).enumerate() {
                    let step = if reversed { steps - 1 - step } else { step };
                    for (row, values) in exact_chunks(values, outputs).enumerate() {
                        write(step * batch + row, values);
                    }
                }
            }
            Returns::Mean => {
                // The sum over the steps, in the first one's place.
                let (sum, later) = apart.cut(batch * outputs);
                for step in exact_chunks(&*later, batch * outputs) {
                    dispatch!(s => s.add_scaled(&mut *sum, step, 1.0));
                }
                for (row, sum) in exact_chunks(sum, outputs).enumerate() {
                    let factor = self.mean_factor(row);
                    dispatch!(s => s.scale(&mut *sum, factor));
                    write(row, sum);
                }
            }
        }
    }

    fn run(
        &self,
        mut params: &[f32],
        x: &[f32],
        mut state: &mut [f32],
        y: &mut [f32],
        mut room: &mut [f32],
    ) -> Result<(), ArgumentError> {
        let lstm = self.lstm;
        let batch = self.extent.batch;
        let outputs = lstm.outputs();
        let (reversed_len, apart_len) = apart_lens(lstm, self.extent);
        let reversed_x = take(&mut room, reversed_len);
        let apart = take(&mut room, apart_len);
        if lstm.direction == Direction::Forward && lstm.returns == Returns::Sequence {
            return self.direction(false, params, x, state, y, room);
        }
        if reversed_len > 0 {
            reverse_steps(&mut *reversed_x, x, batch * lstm.layer.inputs);
        }
        let stride = outputs * lstm.direction.count();
        for index in 0..lstm.direction.count() {
            let reversed = self.is_reversed(index);
            let own = take(&mut params, lstm.direction_params_len());
            let state = take(&mut state, lstm.direction_state_len(batch));
            let x = if reversed { &*reversed_x } else { x };
            self.direction(reversed, own, x, &mut *state, &mut *apart, &mut *room)?;
            let (_, last) = (&*state).cut(batch * lstm.layer.hidden);
            let columns = Columns {
                first: index * outputs,
                stride,
            };
            self.hand_on(reversed, columns, &mut *apart, last, &mut *y);
        }
        Ok(())
    }

    /// One direction, with the steps in its order.
    fn direction(
        &self,
        reversed: bool,
        params: &[f32],
        x: &[f32],
        state: &mut [f32],
        y: &mut [f32],
        mut room: &mut [f32],
    ) -> Result<(), ArgumentError> {
        let (lstm, extent) = (self.lstm, self.extent);
        if let Some(narrow) = self.narrow
            && lstm.is_narrow()
        {
            return narrow(self, reversed, params, x, state, y, room);
        }
        if is_plain(lstm, self.lengths) {
            let hidden = [lstm.layer.hidden];
            let shape = NetworkShape::new(lstm.layer.inputs, &hidden);
            let scratch = take(&mut room, shape.scratch_len(extent));
            return Model::new(shape, params)?.infer(extent, x, state, y, scratch);
        }
        let rows = self.rows(reversed);
        let z = take(&mut room, extent.rows() * 4 * lstm.layer.hidden);
        dispatch!(s => s.recur(Forward {
            stage: *lstm,
            extent,
            rows,
            params,
            x,
            state,
            y,
            z,
            cache: None,
            masks: Masks::default(),
            room,
        }));
        Ok(())
    }
}
