//! What the weights of a layer are stored as, and where each number then is among the layer's words.
//!
//! Half precision: the bias `[4, H]` in `f32`, then the kernel of the inputs and the recurrent one in
//! gate panels, two halves a word.
//!
//! int8: panels of 16 units, the last one of as many as there are. A panel has W words a gate, half of
//! its units rounded up; a word belongs to unit w in its low part and to unit W + w in its high one. A row
//! is `[4, W]`: one of biases (int16), one of scales of the inputs and one of the recurrent kernel (the
//! upper halves of an `f32`), then a row for every two inputs and a row for every two hidden units. Such
//! a row's word has the weights of the low unit, plus 128, in bytes 0 and 2, and those of the high
//! unit in bytes 1 and 3. Behind the panels come four `f32`: the scale of the biases, what inputs
//! and hidden states are multiplied by, and the largest magnitude of an input's integer; that of a
//! hidden state's is what it is multiplied by.

use crate::layout::{Cut, LayerShape};
use crate::lstm::weights::PANEL_UNITS;

/// How the weights of a layer are stored.
///
/// | | bytes | computed in | bits |
/// |---|---|---|---|
/// | `F32` | 4 | `f32` | those of the level's kind |
/// | `F16` | 2 | `f32` | those of `F32` with rounded weights |
/// | `Int8` | 1 | integers, then `f32` | the same on every level and machine |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Storage {
    /// As they were trained.
    F32,
    /// Half precision: weights up to ±65,504, eleven bits of each; biases stay `f32`.
    F16,
    /// Integers from −127 to 127, with one scale for each kernel, gate and unit.
    Int8,
}

impl Storage {
    /// The words (of four bytes) that a layer takes.
    ///
    /// ```
    /// use fused_lstm::{LayerShape, Storage};
    ///
    /// let layer = LayerShape::new(32, 32);
    /// assert_eq!(Storage::F32.words_len(layer), layer.params_len());
    /// assert_eq!(Storage::F16.words_len(layer), 4_224);
    /// assert_eq!(Storage::Int8.words_len(layer), 2_244);
    /// ```
    pub const fn words_len(self, layer: LayerShape) -> usize {
        let LayerShape { inputs, hidden } = layer;
        let gates = hidden.saturating_mul(4);
        let rows = inputs.saturating_add(hidden);
        match self {
            Self::F32 => layer.params_len(),
            Self::F16 => gates.saturating_add(rows.saturating_mul(gates / 2)),
            Self::Int8 => {
                let pairs = inputs.div_ceil(2).saturating_add(hidden.div_ceil(2));
                let rows = pairs.saturating_add(CONSTANT_ROWS);
                rows.saturating_mul(hidden.div_ceil(2).saturating_mul(4))
                    .saturating_add(FACTORS)
            }
        }
    }
}

/// Numbers behind the panels.
pub(super) const FACTORS: usize = 4;

/// Biases and the scales of both kernels.
pub(super) const CONSTANT_ROWS: usize = 3;

/// One panel of int8 weights.
#[derive(Clone, Copy)]
pub(super) struct Panel<W> {
    /// Its first unit.
    pub first: usize,
    /// Its units.
    pub units: usize,
    /// Words a gate.
    pub width: usize,
    /// `[rows, 4, width]`
    pub words: W,
}

/// How many panels a layer has.
pub(super) const fn panels(shape: LayerShape) -> usize {
    shape.hidden.div_ceil(PANEL_UNITS)
}

/// A panel of a layer's words.
#[inline(always)]
pub(super) fn panel<W: Cut + Default>(shape: LayerShape, words: W, index: usize) -> Panel<W> {
    let LayerShape { inputs, hidden } = shape;
    let rows = CONSTANT_ROWS + inputs.div_ceil(2) + hidden.div_ceil(2);
    let first = index * PANEL_UNITS;
    let units = PANEL_UNITS.min(hidden.saturating_sub(first));
    let width = units.div_ceil(2);
    let (_, own) = words.cut(rows * 4 * (first / 2));
    let (words, _) = own.cut(rows * 4 * width);
    Panel {
        first,
        units,
        width,
        words,
    }
}
