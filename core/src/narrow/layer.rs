//! A layer over borrowed words, and the walk over its steps and rows.

use super::int8::{self, Int8 as _, Row};
use super::quantize::{self, QuantizeError};
use super::storage::Storage;
use crate::error::{ArgumentError, check_len, check_lens};
use crate::layout::split::{copy_prefix, exact_chunks, take};
use crate::layout::{Cut as _, Extent, LayerShape};
use crate::lstm::Zigzag;
use crate::lstm::step::Steps as _;
use crate::lstm::tile::{FromBias, Step};
use crate::lstm::weights::{Kernels, Weights};
use crate::simd::dispatch;
use bytemuck::must_cast_slice;

/// An LSTM layer for inference, with its weights stored in fewer bits: borrowed words, as a file, a
/// `static` or [`pack`](Self::pack) has them.
///
/// A stream through a wide layer waits for its weights: half the bytes take less time, a quarter still
/// less. The sizes are values, and with constants the
/// compiler knows them.
///
/// ```
/// use fused_lstm::{Extent, LayerShape, Model, NarrowLayer, NetworkShape, Storage};
///
/// let shape = NetworkShape::new(3, &[20]);
/// let layer = LayerShape::new(3, 20);
/// let params: Vec<f32> = (0..shape.params_len()).map(|n| (n as f32).sin() / 4.0).collect();
/// let mut words = vec![0; Storage::Int8.words_len(layer)];
/// let int8 = NarrowLayer::pack(layer, Storage::Int8, &params, 1.0, &mut words)?;
///
/// let extent = Extent { steps: 5, batch: 2 };
/// let x = [0.5; 5 * 2 * 3];
/// let (mut state, mut y) = ([0.0; 2 * 2 * 20], [0.0; 5 * 2 * 20]);
/// int8.run(extent, &x, &mut state, &mut y, &mut vec![0.0; NarrowLayer::scratch_for(layer)])?;
///
/// let (mut exact, mut same) = ([0.0; 2 * 2 * 20], [0.0; 5 * 2 * 20]);
/// let mut scratch = vec![0.0; shape.scratch_len(extent)];
/// Model::new(shape, &params)?.infer(extent, &x, &mut exact, &mut same, &mut scratch)?;
/// assert!(y.iter().zip(same).all(|(a, b)| (a - b).abs() < 5e-3));
/// # Ok::<(), fused_lstm::QuantizeError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct NarrowLayer<'a> {
    shape: LayerShape,
    storage: Storage,
    words: &'a [u32],
}

impl<'a> NarrowLayer<'a> {
    /// Refuses words of another number than [`Storage::words_len`] says, and a layer without units.
    #[inline]
    pub fn new(
        shape: LayerShape,
        storage: Storage,
        words: &'a [u32],
    ) -> Result<Self, ArgumentError> {
        if shape.hidden == 0 {
            return Err(ArgumentError::Zero { what: "hidden" });
        }
        check_len("words", storage.words_len(shape), words.len())?;
        Ok(Self {
            shape,
            storage,
            words,
        })
    }

    /// Writes `params` (kernel `[I+H, 4, H]`, bias `[4, H]`) to `words`, which are overwritten.
    ///
    /// `range` is the largest magnitude of an input. It matters for [`Storage::Int8`] only, which rounds
    /// it up to a power of two, at most 2⁴⁰, and clips what is beyond; NaN counts as the largest input. A bias is
    /// stored with 15 bits and a sign there, and a scale below 2⁻⁷⁰ as 0.
    ///
    /// Refuses lengths, parameters that are not finite or beyond what the storage holds (65,504 in half
    /// precision, 2⁶⁰ in int8), a range that is not positive and finite, and int8 layers of so many
    /// rows that a sum could overflow: of more than 132,000.
    pub fn pack(
        shape: LayerShape,
        storage: Storage,
        params: &[f32],
        range: f32,
        words: &'a mut [u32],
    ) -> Result<Self, QuantizeError> {
        NarrowLayer::new(shape, storage, &*words)?;
        check_len("params", shape.params_len(), params.len())?;
        quantize::pack(shape, storage, params, range, words)?;
        Ok(Self {
            shape,
            storage,
            words,
        })
    }

    /// The sizes.
    pub fn shape(&self) -> LayerShape {
        self.shape
    }

    /// What the weights are stored as.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Refuses words with numbers that are not finite, or with integers whose sums could overflow, neither
    /// of which [`pack`](Self::pack) writes. Check words from other sources: unchecked ones are memory-safe,
    /// but may give different bits on different machines.
    pub fn check(&self) -> Result<(), ArgumentError> {
        if quantize::is_sound(self.shape, self.storage, self.words) {
            Ok(())
        } else {
            Err(ArgumentError::Words)
        }
    }

    /// Writes the numbers that the words stand for to `params`, in the layout of [`pack`](Self::pack).
    pub fn unpack(&self, params: &mut [f32]) -> Result<(), ArgumentError> {
        check_len("params", self.shape.params_len(), params.len())?;
        quantize::unpack(self.shape, self.storage, self.words, params);
        Ok(())
    }

    /// Room of a step or a sequence, in numbers, for any batch and storage.
    pub const fn scratch_for(shape: LayerShape) -> usize {
        int8::scratch_len(shape)
    }

    /// One step of `batch` rows: `x` `[B, I]` is read, `state` (c `[B, H]`, then h `[B, H]`) advanced;
    /// its second half is the output. `scratch` holds nothing of use after. With [`Storage::Int8`], a
    /// hidden state that is given beyond ±1 counts as ±1, and NaN as 1.
    ///
    /// The `zigzag` of a stream lets every other step take the weights from their end, where
    /// they are still in the cache; it leaves no trace in the bits.
    // Inlined, so that a storage that is known leaves the others out of the program.
    #[inline]
    pub fn step(
        &self,
        batch: usize,
        x: &[f32],
        state: &mut [f32],
        zigzag: &mut Zigzag,
        scratch: &mut [f32],
    ) -> Result<(), ArgumentError> {
        check_lens(&[
            ("x", batch.saturating_mul(self.shape.inputs), x.len()),
            ("state", self.shape.state_len(batch), state.len()),
            ("scratch", Self::scratch_for(self.shape), scratch.len()),
        ])?;
        self.advance(batch, x, state, zigzag.next(), scratch, |_| true);
        Ok(())
    }

    /// A sequence: `x` `[T, B, I]` is read, `state` (c `[B, H]`, then h `[B, H]`) advanced, `y`
    /// `[T, B, H]` overwritten. `scratch` holds nothing of use after.
    pub fn run(
        &self,
        extent: Extent,
        x: &[f32],
        state: &mut [f32],
        y: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<(), ArgumentError> {
        let (rows, shape) = (extent.rows(), self.shape);
        check_lens(&[
            ("x", rows.saturating_mul(shape.inputs), x.len()),
            ("state", shape.state_len(extent.batch), state.len()),
            ("y", rows.saturating_mul(shape.hidden), y.len()),
            ("scratch", Self::scratch_for(self.shape), scratch.len()),
        ])?;
        if rows > 0 {
            self.run_rows(extent, x, state, y, scratch, |_, _| true);
        }
        Ok(())
    }

    /// The same of rows that are active in some steps only: else their state stays, and their output
    /// is zero.
    pub(crate) fn run_rows(
        &self,
        extent: Extent,
        x: &[f32],
        state: &mut [f32],
        y: &mut [f32],
        scratch: &mut [f32],
        is_active: impl Fn(usize, usize) -> bool,
    ) {
        let Extent { steps, batch } = extent;
        let LayerShape { inputs, hidden } = self.shape;
        let mut zigzag = Zigzag::NEW;
        for step in 0..steps {
            let x = x.get(step * batch * inputs..).unwrap_or(&[]);
            let (x, _) = x.cut(batch * inputs);
            let active = |row| is_active(step, row);
            self.advance(batch, x, &mut *state, zigzag.next(), &mut *scratch, active);
            let (_, h) = (&*state).cut(batch * hidden);
            let y = y.get_mut(step * batch * hidden..).unwrap_or_default();
            for (row, (y, h)) in exact_chunks(y, hidden)
                .zip(exact_chunks(h, hidden))
                .enumerate()
            {
                if is_active(step, row) {
                    copy_prefix(y, h);
                } else {
                    y.fill(0.0);
                }
            }
        }
    }

    /// One step, of whose rows those that are not active keep their state.
    #[inline(always)]
    fn advance(
        &self,
        batch: usize,
        x: &[f32],
        state: &mut [f32],
        descending: bool,
        scratch: &mut [f32],
        is_active: impl Fn(usize) -> bool,
    ) {
        let LayerShape { inputs, hidden } = self.shape;
        let (c, h) = state.cut(batch * hidden);
        let rows = exact_chunks(c, hidden).zip(exact_chunks(h, hidden));
        for (row, (c, h)) in rows.enumerate() {
            if !is_active(row) {
                continue;
            }
            let x = x.get(row * inputs..(row + 1) * inputs).unwrap_or(&[]);
            let row = Row {
                shape: self.shape,
                x,
                c,
                h,
                scratch: &mut *scratch,
            };
            match self.storage {
                Storage::F32 => {
                    let params: &[f32] = must_cast_slice(self.words);
                    let (kernel, bias) = params.cut((inputs + hidden) * 4 * hidden);
                    if let Some(mut step) = widened(row, kernel, bias, Weights::Rows) {
                        dispatch!(s => s.step(&mut step, descending));
                    }
                }
                Storage::F16 => {
                    let (bias, kernel) = self.words.cut(4 * hidden);
                    let (bias, kernel) = (must_cast_slice(bias), must_cast_slice(kernel));
                    if let Some(mut step) = widened(row, kernel, bias, Weights::GatePanels) {
                        dispatch!(s => s.step_halves(&mut step, descending));
                    }
                }
                Storage::Int8 => {
                    let words = self.words;
                    dispatch!(s => s.int8_step(row, words, descending));
                }
            }
        }
    }
}

/// A step through weights that are widened as they are read; `order` is that of the kernels.
fn widened<'a, W: Copy>(
    row: Row<'a>,
    kernel: &'a [W],
    bias: &'a [f32],
    order: fn(&'a [W]) -> Weights<'a, W>,
) -> Option<Step<'a, false, W>> {
    let Row {
        shape: LayerShape { inputs, hidden },
        x,
        c,
        h,
        scratch,
    } = row;
    let (input, recurrent) = kernel.cut(inputs * 4 * hidden);
    let mut scratch = scratch;
    let h_before = take(&mut scratch, hidden);
    copy_prefix(&mut *h_before, h);
    Step::from_bias(FromBias {
        batch: 1,
        inputs,
        hidden,
        kernels: Kernels {
            input: order(input),
            recurrent: order(recurrent),
        },
        bias,
        x,
        h_before,
        c,
        h,
    })
}
