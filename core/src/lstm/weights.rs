//! Where a layer's two kernels have their numbers, and the packing that puts them there.

use crate::gemm::pack::{gemm_packed, pack};
use crate::gemm::{Init, MatRef, Sizes, gemm_strided};
use crate::layout::split::{copy, div_or_zero};
use crate::layout::{Cut, Extent, LayerShape, Params};
use crate::simd::Simd;
use core::ops::Range;

/// Where a layer's kernel has its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// `[K, 4, H]`, as everywhere else.
    Rows,
    /// Panels of [`PANEL`] units, the last one narrower: `[H / 16][K, 4, 16]`.
    Panels,
}

/// Units of a panel: a line of the caches for each gate.
pub(crate) const PANEL: usize = 16;

/// Which end of the weights the next step of a stream begins with. One for each
/// stream; any will do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Zigzag(bool);

impl Zigzag {
    /// Whether the next step goes backwards; the one after it then goes the other way.
    pub(crate) fn next(&mut self) -> bool {
        let backwards = self.0;
        self.0 = !backwards;
        backwards
    }
}

/// A wide layer's kernels in the order in which its products read them best.
pub(crate) enum Panels<'a> {
    /// PackBuffer to pack them, of [`LayerShape::panels_len`] numbers or none.
    PackBuffer(&'a mut [f32]),
    /// They are there, packed by [`prepack`]; or not, if there are none.
    Packed(&'a [f32]),
}

/// Packs both kernels of a wide layer for any number of calls with as large a batch: the
/// recurrent one, then the inputs'. Levels that read rows leave `to` alone.
#[inline(always)]
pub(crate) fn prepack<S: Simd>(
    s: S,
    shape: LayerShape,
    batch: usize,
    params: Params<&[f32]>,
    to: &mut [f32],
) {
    let (input, recurrent) = params.split_kernel(shape);
    let (of_recurrent, to) = to.cut(recurrent.len());
    let (of_input, _) = to.cut(input.len());
    let width = 4 * shape.hidden;
    if S::BLOCKED && of_input.len() == input.len() {
        Recurrent::new(s, shape, batch, recurrent, of_recurrent);
        pack(
            s,
            (shape.inputs, width),
            MatRef::rows(input, width),
            of_input,
        );
    }
}

/// `sums` `[R, 4, H]`, its rows so far apart, = bias + x·Wx, from the kernel's panels if there are any.
#[inline(always)]
pub(crate) fn input_sums<S: Simd>(
    s: S,
    shape: LayerShape,
    rows: usize,
    params: Params<&[f32]>,
    panels: &[f32],
    x: &[f32],
    sums: (&mut [f32], usize),
) {
    let LayerShape { inputs, hidden } = shape;
    let (kernel, _) = params.split_kernel(shape);
    let sizes = Sizes {
        m: rows,
        n: 4 * hidden,
        k: inputs,
    };
    let (x, bias) = (MatRef::rows(x, inputs), Init::Bias(params.bias));
    if panels.is_empty() {
        gemm_strided(s, sizes, x, MatRef::rows(kernel, 4 * hidden), bias, sums);
    } else {
        gemm_packed(s, sizes, x, panels, bias, sums, false);
    }
}

/// The kernels as their products read them best, and the panels of the input's, which
/// are none if there is no room for them.
#[inline(always)]
pub(crate) fn pack_kernels<'a, S: Simd>(
    s: S,
    shape: LayerShape,
    extent: Extent,
    params: Params<&'a [f32]>,
    panels: Panels<'a>,
) -> (Recurrent<'a>, &'a [f32]) {
    let (input, recurrent) = params.split_kernel(shape);
    let panels = match panels {
        Panels::PackBuffer(room) => room,
        Panels::Packed(panels) => {
            let (own, rest) = panels.cut(recurrent.len());
            let (of_input, _) = rest.cut(input.len());
            return if !S::BLOCKED || of_input.len() != input.len() {
                (Recurrent::Rows(recurrent), &[])
            } else if extent.batch <= FEW_ROWS {
                (Recurrent::Units(own), of_input)
            } else {
                (Recurrent::Panels(own), of_input)
            };
        }
    };
    let (own, of_input) = panels.cut(shape.recurrent_panels_len(extent));
    let of_input = if S::BLOCKED && of_input.len() == input.len() {
        let width = 4 * shape.hidden;
        let kernel = MatRef::rows(input, width);
        pack(s, (shape.inputs, width), kernel, of_input);
        &*of_input
    } else {
        &[]
    };
    let recurrent = Recurrent::new(s, shape, extent.batch, recurrent, own);
    (recurrent, of_input)
}

/// Rows of a batch for which no product pays.
pub(crate) const FEW_ROWS: usize = 3;

/// The recurrent kernel, in the order in which its products read it best.
#[derive(Clone, Copy)]
pub(crate) enum Recurrent<'a> {
    /// `[H, 4, H]`.
    Rows(&'a [f32]),
    /// As wide as a tile of a product.
    Panels(&'a [f32]),
    /// All gates of some units, for so few rows that no product pays.
    Units(&'a [f32]),
}

impl<'a> Recurrent<'a> {
    /// Packed, if there is room.
    #[inline(always)]
    fn new<S: Simd>(
        s: S,
        shape: LayerShape,
        batch: usize,
        kernel: &'a [f32],
        panels: &'a mut [f32],
    ) -> Self {
        if !S::BLOCKED || panels.is_empty() || panels.len() != kernel.len() {
            return Self::Rows(kernel);
        }
        if batch <= FEW_ROWS {
            pack_kernel(shape.hidden, panels, kernel);
            return Self::Units(panels);
        }
        let width = 4 * shape.hidden;
        pack(
            s,
            (shape.hidden, width),
            MatRef::rows(kernel, width),
            panels,
        );
        Self::Panels(panels)
    }

    /// `sums` `[B, 4, H]`, its rows so far apart, += h·Wh; `backwards` as in [`gemm_packed`].
    #[inline(always)]
    pub(crate) fn add<S: Simd>(
        self,
        s: S,
        shape: LayerShape,
        batch: usize,
        h: &[f32],
        sums: (&mut [f32], usize),
        backwards: bool,
    ) {
        let hidden = shape.hidden;
        let sizes = Sizes {
            m: batch,
            n: 4 * hidden,
            k: hidden,
        };
        let h = MatRef::rows(h, hidden);
        match self {
            Self::Rows(kernel) => {
                let kernel = MatRef::rows(kernel, 4 * hidden);
                gemm_strided(s, sizes, h, kernel, Init::Accumulate, sums);
            }
            Self::Panels(panels) if const { S::BLOCKED } => {
                gemm_packed(s, sizes, h, panels, Init::Accumulate, sums, backwards);
            }
            _ => debug_assert!(false, "no order for a product"),
        }
    }
}

/// A layer's parameters with both kernels in panels; the bias stays as it is.
pub(crate) fn pack_layer(shape: LayerShape, to: Params<&mut [f32]>, from: Params<&[f32]>) {
    copy(to.bias, from.bias);
    let (input, recurrent) = from.split_kernel(shape);
    let (to_input, to_recurrent) = to.split_kernel(shape);
    pack_kernel(shape.hidden, to_input, input);
    pack_kernel(shape.hidden, to_recurrent, recurrent);
}

/// A kernel `[K, 4, H]` in panels `[H / 16][K, 4, 16]`, the last one narrower.
pub(crate) fn pack_kernel(hidden: usize, to: &mut [f32], kernel: &[f32]) {
    pack_units(hidden, 0..hidden, to, kernel);
}

/// [`pack_kernel`] of some of the units: panels `[U / 16][K, 4, 16]`.
pub(crate) fn pack_units(hidden: usize, taken: Range<usize>, to: &mut [f32], kernel: &[f32]) {
    /// Rows of a gate that are copied at a time, so that both are walked along memory.
    const ROWS: usize = 8;
    let rows = div_or_zero(kernel.len(), hidden);
    for first in (0..rows).step_by(ROWS) {
        for unit in (0..taken.len()).step_by(PANEL) {
            let units = PANEL.min(taken.len() - unit);
            for row in first..rows.min(first + ROWS) {
                let from = row * hidden + taken.start + unit;
                let place = unit * rows + row * units;
                if let (Some(to), Some(from)) = (
                    to.get_mut(place..place + units),
                    kernel.get(from..from + units),
                ) {
                    // A whole panel's row is a few vectors; the length of any other is
                    // known too late for that.
                    match (to.first_chunk_mut::<PANEL>(), from.first_chunk::<PANEL>()) {
                        (Some(to), Some(from)) => *to = *from,
                        _ => to.copy_from_slice(from),
                    }
                }
            }
        }
    }
}
