//! From `f32` to the words of a storage, and back.
//!
//! An int8 weight is the nearest integer to w / scale, and the scale the smallest `f32` of sixteen
//! bits with which no weight of a gate and unit is beyond ±127. Inputs of a range up to R, a power of
//! two, and hidden states (of the range 1) are multiplied by 2ᵇ / R. The largest sum of a kernel's rows is known from its
//! integers, and b chosen so that no sum of 32 bits can overflow: 14 bits at most, and as few as
//! keep all sums below 2²³, where `f32` and small processors are exact, if that leaves 11.

use super::int8::{LARGEST, TO_INTEGER};
use super::storage::{CONSTANT_ROWS, FACTORS, Storage, panel, panels};
use crate::error::ArgumentError;
use crate::layout::split::{copy_prefix, div_or_zero};
use crate::layout::{Cut as _, LayerShape};
use crate::lstm::weights::{PANEL_UNITS, pack_gates_of};
use crate::simd::{Weight as _, half};
use bytemuck::{must_cast_slice, must_cast_slice_mut};
use core::fmt;

/// The largest magnitude of a weight's integer.
const MOST: f32 = 127.0;

/// That of a bias.
const MOST_OF_BIAS: f32 = 32767.0;

/// What bytes of low units have more than the weight.
const OFFSET: i32 = 128;

/// Why a layer cannot be stored in fewer bits.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum QuantizeError {
    /// An argument that is refused before anything else.
    Argument(ArgumentError),
    /// A weight or a bias that is beyond the largest number of the storage.
    TooLarge {
        /// Which parameter.
        index: usize,
        /// What it is.
        value: f32,
        /// The largest magnitude that the storage has.
        limit: f32,
    },
    /// A layer of so many rows that its integer sums could overflow.
    TooLong {
        /// Inputs or hidden units.
        rows: usize,
    },
}

impl From<ArgumentError> for QuantizeError {
    fn from(error: ArgumentError) -> Self {
        Self::Argument(error)
    }
}

impl fmt::Display for QuantizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(error) => error.fmt(f),
            Self::TooLarge {
                index,
                value,
                limit,
            } => write!(
                f,
                "params: expected magnitudes up to {limit}, got {value} at {index}"
            ),
            Self::TooLong { rows } => write!(
                f,
                "layer: expected sums of integers within 32 bits, got {rows} rows"
            ),
        }
    }
}

impl core::error::Error for QuantizeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Argument(error) => Some(error),
            _ => None,
        }
    }
}

/// Writes `params` (kernel `[I+H, 4, H]`, bias `[4, H]`) to the words of a storage.
pub(super) fn pack(
    shape: LayerShape,
    storage: Storage,
    params: &[f32],
    range: f32,
    words: &mut [u32],
) -> Result<(), QuantizeError> {
    if !params.iter().all(|v| v.is_finite()) {
        return Err(ArgumentError::NotFinite { what: "params" }.into());
    }
    if !(range > 0.0 && range.is_finite()) {
        return Err(ArgumentError::NotPositive { what: "range" }.into());
    }
    let limit = match storage {
        Storage::F32 => f32::MAX,
        Storage::F16 => half::MAX,
        Storage::Int8 => LARGEST_WEIGHT,
    };
    // Biases stay f32 beside halves.
    let limited = match storage {
        Storage::F16 => shape.kernel_len(),
        _ => params.len(),
    };
    let each = params.iter().enumerate().take(limited);
    let mut beyond = each.filter(|(_, v)| v.abs() > limit);
    if let Some((index, &value)) = beyond.next() {
        return Err(QuantizeError::TooLarge {
            index,
            value,
            limit,
        });
    }
    match storage {
        Storage::F32 => copy_prefix(must_cast_slice_mut(words), params),
        Storage::F16 => pack_halves(shape, params, words),
        Storage::Int8 => pack_int8(shape, params, range, words)?,
    }
    Ok(())
}

fn pack_halves(shape: LayerShape, params: &[f32], words: &mut [u32]) {
    let LayerShape { inputs, hidden } = shape;
    let (kernel, bias) = params.cut((inputs + hidden) * 4 * hidden);
    let (to_bias, to_kernel) = words.cut(4 * hidden);
    copy_prefix(must_cast_slice_mut(to_bias), bias);
    let (input, recurrent) = kernel.cut(inputs * 4 * hidden);
    let to: &mut [u16] = must_cast_slice_mut(to_kernel);
    let (to_input, to_recurrent) = to.cut(inputs * 4 * hidden);
    pack_gates_of(hidden, 0..hidden, to_input, input);
    pack_gates_of(hidden, 0..hidden, to_recurrent, recurrent);
}

/// The smallest number of sixteen bits that is no less, or 0 below 2⁻⁷⁰: divided by what inputs are
/// multiplied with, it is not subnormal.
fn scale_of(least: f32) -> f32 {
    if least < SMALLEST_SCALE {
        return 0.0;
    }
    f32::from_bits(least.to_bits().wrapping_add(0xffff) & 0xffff_0000)
}

/// The nearest integer, of two as near the even one, of a magnitude up to a limit below 2¹⁵.
fn integer_of(number: f32, scale: f32, limit: f32) -> i32 {
    if scale < f32::MIN_POSITIVE {
        return 0;
    }
    let rounded = (number / scale).clamp(-limit, limit) + TO_INTEGER;
    (rounded - TO_INTEGER) as i32
}

/// A kernel `[K, 4, H]`.
#[derive(Clone, Copy)]
struct Kernel<'a> {
    hidden: usize,
    rows: usize,
    weights: &'a [f32],
}

impl Kernel<'_> {
    /// The weights of a gate and unit.
    fn column(&self, gate: usize, unit: usize) -> impl Iterator<Item = f32> {
        let first = gate * self.hidden + unit;
        let step = (4 * self.hidden).max(1);
        let from = self.weights.get(first..).unwrap_or(&[]);
        from.iter().step_by(step).copied()
    }

    fn scale(&self, gate: usize, unit: usize) -> f32 {
        let magnitudes = self.column(gate, unit).map(f32::abs);
        scale_of(magnitudes.fold(0.0, f32::max) / MOST)
    }

    /// The weights of a gate and unit as integers.
    fn integers(&self, gate: usize, unit: usize) -> impl Iterator<Item = i32> {
        let scale = self.scale(gate, unit);
        self.column(gate, unit)
            .map(move |weight| integer_of(weight, scale, MOST))
    }

    /// The bits of what the kernel is multiplied with.
    fn bits(&self) -> Result<u32, QuantizeError> {
        let columns = (0..4).flat_map(|gate| (0..self.hidden).map(move |unit| (gate, unit)));
        let sums = columns.map(|(gate, unit)| {
            let magnitudes = self.integers(gate, unit).map(i32::unsigned_abs);
            magnitudes.map(u64::from).sum::<u64>()
        });
        let largest = sums.fold(1, u64::max);
        let within = |limit: u64| (limit / largest).checked_ilog2().unwrap_or(0);
        let bits = match within(1 << 23) {
            exact if exact >= 11 => exact,
            _ => within(i32::MAX as u64),
        };
        if bits < 7 {
            return Err(QuantizeError::TooLong { rows: self.rows });
        }
        Ok(bits.min(LARGEST.ilog2()))
    }
}

/// What is less counts as 0.
const SMALLEST_SCALE: f32 = 1.0 / (1u128 << 70) as f32;

/// With it, no pre-activation overflows.
const LARGEST_WEIGHT: f32 = (1u64 << 60) as f32;

/// The power of two that is no less than a range.
fn power_of_two(range: f32) -> f32 {
    let up = range.to_bits().wrapping_add(0x7f_ffff) & 0x7f80_0000;
    f32::from_bits(up).clamp(1.0 / POWERS, POWERS)
}

/// The largest range, and one over the smallest.
const POWERS: f32 = (1u64 << 40) as f32;

fn pack_int8(
    shape: LayerShape,
    params: &[f32],
    range: f32,
    words: &mut [u32],
) -> Result<(), QuantizeError> {
    let LayerShape { inputs, hidden } = shape;
    let (kernel, bias) = params.cut((inputs + hidden) * 4 * hidden);
    let (input, recurrent) = kernel.cut(inputs * 4 * hidden);
    let kernel = |rows, weights| Kernel {
        hidden,
        rows,
        weights,
    };
    let (input, recurrent) = (kernel(inputs, input), kernel(hidden, recurrent));
    let power = |bits: u32| (1u32 << bits) as f32;
    let most_x = power(input.bits()?);
    let of_x = most_x / power_of_two(range);
    let of_h = power(recurrent.bits()?);
    let of_bias = bias.iter().map(|v| v.abs()).fold(0.0, f32::max) / MOST_OF_BIAS;
    // Places of units and rows that there are not stay zero.
    words.fill(0);
    let (words, factors) = words.cut(words.len().saturating_sub(FACTORS));
    for (to, from) in factors.iter_mut().zip([of_bias, of_x, of_h, most_x]) {
        *to = from.to_bits();
    }
    for index in 0..panels(shape) {
        let panel = panel(shape, &mut *words, index);
        let width = panel.width;
        let (constants, kernels) = panel.words.cut(CONSTANT_ROWS * 4 * width);
        let (of_input, of_recurrent) = kernels.cut(inputs.div_ceil(2) * 4 * width);
        for (gate, unit) in (0..4).flat_map(|gate| (0..panel.units).map(move |unit| (gate, unit))) {
            // The low part of a word, or the high one.
            let high = u32::from(unit >= width);
            let (place, own) = (gate * width + unit % width.max(1), panel.first + unit);
            let value = bias.get(gate * hidden + own).copied().unwrap_or(0.0);
            let each = [
                integer_of(value, of_bias, MOST_OF_BIAS) as u32 & 0xffff,
                (input.scale(gate, own) / of_x).to_bits() >> 16,
                (recurrent.scale(gate, own) / of_h).to_bits() >> 16,
            ];
            for (row, value) in each.into_iter().enumerate() {
                let word = constants.get_mut(row * 4 * width + place);
                put(word, value, 16 * high, 0xffff);
            }
            for (to, kernel) in [(&mut *of_input, input), (&mut *of_recurrent, recurrent)] {
                for (row, weight) in kernel.integers(gate, own).enumerate() {
                    let byte = if high == 0 { weight + OFFSET } else { weight };
                    let word = to.get_mut(row / 2 * 4 * width + place);
                    let at = 16 * (row as u32 % 2) + 8 * high;
                    put(word, byte as u32 & 0xff, at, 0xff);
                }
            }
        }
    }
    Ok(())
}

/// Replaces some bits of a word.
fn put(word: Option<&mut u32>, value: u32, at: u32, mask: u32) {
    if let Some(word) = word {
        *word = *word & !(mask << at) | value << at;
    }
}

/// The numbers that the words stand for, as parameters: kernel `[I+H, 4, H]`, bias `[4, H]`.
pub(super) fn unpack(shape: LayerShape, storage: Storage, words: &[u32], params: &mut [f32]) {
    let LayerShape { inputs, hidden } = shape;
    match storage {
        Storage::F32 => copy_prefix(params, must_cast_slice(words)),
        Storage::F16 => {
            let (from_bias, from) = words.cut(4 * hidden);
            let (kernel, bias) = params.cut((inputs + hidden) * 4 * hidden);
            copy_prefix(bias, must_cast_slice(from_bias));
            let (input, recurrent) = kernel.cut(inputs * 4 * hidden);
            let from: &[u16] = must_cast_slice(from);
            let (from_input, from_recurrent) = from.cut(inputs * 4 * hidden);
            unpack_halves(hidden, input, from_input);
            unpack_halves(hidden, recurrent, from_recurrent);
        }
        Storage::Int8 => unpack_int8(shape, words, params),
    }
}

fn unpack_halves(hidden: usize, kernel: &mut [f32], from: &[u16]) {
    let rows = div_or_zero(kernel.len(), 4 * hidden);
    for (at, to) in kernel.iter_mut().enumerate() {
        let (row, column) = (div_or_zero(at, hidden), at % hidden.max(1));
        let panel = column / PANEL_UNITS * PANEL_UNITS;
        let width = PANEL_UNITS.min(hidden - panel);
        let place = panel * 4 * rows + row * width + column - panel;
        *to = from.get(place).map_or(0.0, |half| half.widen());
    }
}

fn unpack_int8(shape: LayerShape, words: &[u32], params: &mut [f32]) {
    let LayerShape { inputs, hidden } = shape;
    let (kernel, bias) = params.cut((inputs + hidden) * 4 * hidden);
    for column in columns(shape, words) {
        if let Some(to) = bias.get_mut(column.at) {
            *to = column.bias;
        }
        for (row, (weight, scale)) in column.weights().enumerate() {
            if let Some(to) = kernel.get_mut(row * 4 * hidden + column.at) {
                *to = weight as f32 * scale;
            }
        }
    }
}

/// Whether all numbers are finite, and no sum of integers can overflow.
pub(super) fn is_sound(shape: LayerShape, storage: Storage, words: &[u32]) -> bool {
    let LayerShape { inputs, hidden } = shape;
    let is_finite = |word: &u32| f32::from_bits(*word).is_finite();
    match storage {
        Storage::F32 => words.iter().all(is_finite),
        Storage::F16 => {
            let (bias, kernel) = words.cut(4 * hidden);
            let halves: &[u16] = must_cast_slice(kernel);
            bias.iter().all(is_finite) && halves.iter().all(|half| half & 0x7c00 != 0x7c00)
        }
        Storage::Int8 => columns(shape, words).all(|column| {
            let [most_x, most_h] = column.most;
            let sum = |first: usize, count: usize, most: f32| {
                let weights = column.weights().skip(first).take(count);
                let sum: i64 = weights.map(|(weight, _)| i64::from(weight.abs())).sum();
                // NaN and what is beyond the largest are no magnitudes of an int16.
                let is_integer = (1.0..=LARGEST as f32).contains(&most);
                is_integer && sum.saturating_mul(most as i64) <= i64::from(i32::MAX)
            };
            column.bias.is_finite()
                && column.scales.iter().all(|scale| scale.is_finite())
                && sum(0, inputs, most_x)
                && sum(inputs, hidden, most_h)
        }),
    }
}

/// What the words say of a gate and unit.
struct Column<'a> {
    shape: LayerShape,
    /// Its place in a row of four gates.
    at: usize,
    bias: f32,
    /// Of the inputs and of the hidden states.
    scales: [f32; 2],
    /// The largest magnitudes of what they are multiplied with.
    most: [f32; 2],
    /// The rows of weights of its panel, from its word on.
    rows: &'a [u32],
    /// Words from one row to the next.
    stride: usize,
    /// Whether it is the word's high unit.
    high: u32,
}

impl Column<'_> {
    /// The weights and their scales: of the inputs, and then of the hidden states.
    fn weights(&self) -> impl Iterator<Item = (i32, f32)> {
        let LayerShape { inputs, hidden } = self.shape;
        (0..inputs + hidden).map(move |row| {
            let (kind, row, first) = if row < inputs {
                (0, row, 0)
            } else {
                (1, row - inputs, inputs.div_ceil(2))
            };
            let word = self.rows.get((first + row / 2) * self.stride);
            let byte = word.copied().unwrap_or(0) >> (16 * (row as u32 % 2) + 8 * self.high) & 0xff;
            let weight = if self.high == 0 {
                byte as i32 - OFFSET
            } else {
                i32::from(byte as i8)
            };
            let [of_x, of_h] = self.scales;
            (weight, if kind == 0 { of_x } else { of_h })
        })
    }
}

/// All gates and units of a layer.
fn columns(shape: LayerShape, words: &[u32]) -> impl Iterator<Item = Column<'_>> {
    let (words, factors) = words.cut(words.len().saturating_sub(FACTORS));
    let factors = factors.first_chunk().unwrap_or(&[0; FACTORS]);
    let [of_bias, of_x, of_h, most_x] = factors.map(f32::from_bits);
    (0..4 * shape.hidden).map(move |at| {
        let (gate, unit) = (div_or_zero(at, shape.hidden), at % shape.hidden.max(1));
        let panel = panel(shape, words, unit / PANEL_UNITS);
        let within = unit - panel.first;
        let high = u32::from(within >= panel.width);
        let place = gate * panel.width + within % panel.width.max(1);
        let stride = 4 * panel.width;
        let constant = |row: usize| {
            let word = panel.words.get(row * stride + place).copied().unwrap_or(0);
            word >> (16 * high) & 0xffff
        };
        let (_, rows) = panel.words.cut(CONSTANT_ROWS * stride + place);
        Column {
            shape,
            at,
            bias: f32::from(constant(0) as i16) * of_bias,
            scales: [
                f32::from_bits(constant(1) << 16) * of_x,
                f32::from_bits(constant(2) << 16) * of_h,
            ],
            most: [most_x, of_h],
            rows,
            stride,
            high,
        }
    })
}
