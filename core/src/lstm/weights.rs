//! Where a layer's two kernels have their numbers, and the packing that puts them there.

use crate::gemm::{Gemm, GemmArgs, Init, MatMut, MatRef};
use crate::layout::split::{copy_prefix, div_or_zero};
use crate::layout::{Cut, Extent, LayerShape, Params};
use crate::simd::Weight;
use core::ops::Range;

/// A kernel `[K, 4, H]` of a layer, in the order in which its reader wants it.
#[derive(Clone, Copy)]
pub enum Weights<'a, W = f32> {
    /// `[K, 4, H]`, as everywhere else: for steps and products.
    Rows(&'a [W]),
    /// `[H / 16][K, 4, 16]`, the last panel narrower: for steps of few rows, which read a panel from
    /// its first number to its last.
    GatePanels(&'a [W]),
    /// `[4H / NR][K, NR]`, the last panel narrower: for products.
    GemmPanels(&'a [W]),
}

/// Units of a gate panel: a cache line for each gate.
pub(crate) const PANEL_UNITS: usize = 16;

/// Rows of a batch for which a step is faster than a product.
pub(crate) const FEW_ROWS: usize = 3;

/// For [`LayerUnits::step`](crate::LayerUnits::step): which end of the weights the next step begins
/// with. One for each sequence; any will do.
///
/// Steps that walk the weights the other way each time first read what is still in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zigzag(bool);

impl Zigzag {
    /// Before the first step.
    pub const NEW: Self = Self(false);

    /// Whether the next step descends; the one after it then goes the other way.
    pub(crate) fn next(&mut self) -> bool {
        let descending = self.0;
        self.0 = !descending;
        descending
    }
}

impl<'a, W: Copy> Weights<'a, W> {
    /// The numbers, in whatever order.
    #[inline(always)]
    pub(crate) fn numbers(self) -> &'a [W] {
        match self {
            Self::Rows(w) | Self::GatePanels(w) | Self::GemmPanels(w) => w,
        }
    }
}

impl<'a> Weights<'a> {
    /// `c` [m, 4H] = `init` + `a` [m, K] · the kernel. Panels are taken from the last to the first if
    /// `descending`.
    #[inline(always)]
    pub(crate) fn multiply<S: Gemm>(
        self,
        s: S,
        a: MatRef,
        init: Init,
        c: MatMut,
        scratch: &mut [f32],
        descending: bool,
    ) {
        let b = MatRef::new(self.numbers(), a.col_count(), c.col_count());
        let args = GemmArgs {
            a,
            b,
            init,
            c,
            scratch,
        };
        match self {
            Self::Rows(_) => s.gemm(args),
            Self::GemmPanels(_) => s.gemm_packed(args, descending),
            Self::GatePanels(_) => debug_assert!(false, "an order for steps only"),
        }
    }
}

/// Both kernels of a layer.
#[derive(Clone, Copy)]
pub(crate) struct Kernels<'a, W = f32> {
    pub input: Weights<'a, W>,
    pub recurrent: Weights<'a, W>,
}

/// A wide layer's kernels in the order in which a sequence reads them best.
pub enum Panels<'a> {
    /// Room to pack them, of [`LayerShape::panels_len`] numbers or none.
    Room(&'a mut [f32]),
    /// Packed by [`prepack`]; or not, if there are none.
    Packed(&'a [f32]),
}

impl<'a> Kernels<'a> {
    /// As they are, for steps.
    #[inline(always)]
    pub(crate) fn rows(shape: LayerShape, params: Params<&'a [f32]>) -> Self {
        let (input, recurrent) = params.split_kernel(shape);
        Self {
            input: Weights::Rows(input),
            recurrent: Weights::Rows(recurrent),
        }
    }

    /// As packed by [`pack_gates`].
    #[inline(always)]
    pub(crate) fn gate_panels(shape: LayerShape, params: Params<&'a [f32]>) -> Self {
        let (input, recurrent) = params.split_kernel(shape);
        Self {
            input: Weights::GatePanels(input),
            recurrent: Weights::GatePanels(recurrent),
        }
    }

    /// Packed for the steps of a sequence, if there is room or they are already.
    #[inline(always)]
    pub(crate) fn packed<S: Gemm>(
        s: S,
        shape: LayerShape,
        extent: Extent,
        params: Params<&'a [f32]>,
        panels: Panels<'a>,
    ) -> Self {
        let rows = Self::rows(shape, params);
        if const { S::TILING.packed_rows == 0 } {
            return rows;
        }
        let (input, recurrent) = (rows.input.numbers(), rows.recurrent.numbers());
        match panels {
            Panels::Room(room) => {
                let (own, of_input) = room.cut(shape.recurrent_panels_len(extent));
                Self {
                    recurrent: pack_recurrent(s, shape, extent.batch, recurrent, own),
                    input: pack_input(s, shape, input, of_input),
                }
            }
            Panels::Packed(packed) => {
                let (own, rest) = packed.cut(recurrent.len());
                let (of_input, _) = rest.cut(input.len());
                if of_input.len() != input.len() {
                    return rows;
                }
                Self {
                    recurrent: if extent.batch <= FEW_ROWS {
                        Weights::GatePanels(own)
                    } else {
                        Weights::GemmPanels(own)
                    },
                    input: Weights::GemmPanels(of_input),
                }
            }
        }
    }
}

/// Packs both kernels of a wide layer for any number of calls with as large a batch: the recurrent
/// one, then the inputs'. Levels that read rows leave `to` alone.
#[inline(always)]
pub(crate) fn prepack<S: Gemm>(
    s: S,
    shape: LayerShape,
    batch: usize,
    params: Params<&[f32]>,
    to: &mut [f32],
) {
    let (input, recurrent) = params.split_kernel(shape);
    let (of_recurrent, to) = to.cut(recurrent.len());
    let (of_input, _) = to.cut(input.len());
    if const { S::TILING.packed_rows > 0 } && of_input.len() == input.len() {
        pack_recurrent(s, shape, batch, recurrent, of_recurrent);
        pack_input(s, shape, input, of_input);
    }
}

#[inline(always)]
fn pack_recurrent<'a, S: Gemm>(
    s: S,
    shape: LayerShape,
    batch: usize,
    kernel: &'a [f32],
    to: &'a mut [f32],
) -> Weights<'a> {
    if to.is_empty() || to.len() != kernel.len() {
        return Weights::Rows(kernel);
    }
    if batch <= FEW_ROWS {
        pack_gates_of(shape.hidden, 0..shape.hidden, to, kernel);
        return Weights::GatePanels(to);
    }
    s.pack(MatRef::new(kernel, shape.hidden, 4 * shape.hidden), to);
    Weights::GemmPanels(to)
}

#[inline(always)]
fn pack_input<'a, S: Gemm>(
    s: S,
    shape: LayerShape,
    kernel: &'a [f32],
    to: &'a mut [f32],
) -> Weights<'a> {
    if to.len() != kernel.len() {
        return Weights::Rows(kernel);
    }
    s.pack(MatRef::new(kernel, shape.inputs, 4 * shape.hidden), to);
    Weights::GemmPanels(to)
}

/// A layer's parameters with both kernels in gate panels; the bias stays as it is.
pub(crate) fn pack_gates(shape: LayerShape, to: Params<&mut [f32]>, from: Params<&[f32]>) {
    copy_prefix(to.bias, from.bias);
    let (input, recurrent) = from.split_kernel(shape);
    let (to_input, to_recurrent) = to.split_kernel(shape);
    let all = 0..shape.hidden;
    pack_gates_of(shape.hidden, all.clone(), to_input, input);
    pack_gates_of(shape.hidden, all, to_recurrent, recurrent);
}

/// Some of the units of a kernel `[K, 4, H]` in gate panels `[U / 16][K, 4, 16]`.
pub(crate) fn pack_gates_of<W: Weight>(
    hidden: usize,
    taken: Range<usize>,
    to: &mut [W],
    kernel: &[f32],
) {
    /// Rows of a gate that are copied at a time, so that both are walked along memory.
    const ROWS: usize = 8;
    let rows = div_or_zero(kernel.len(), hidden);
    for first in (0..rows).step_by(ROWS) {
        for unit in (0..taken.len()).step_by(PANEL_UNITS) {
            let units = PANEL_UNITS.min(taken.len() - unit);
            for row in first..rows.min(first + ROWS) {
                let from = row * hidden + taken.start + unit;
                let place = unit * rows + row * units;
                if let (Some(to), Some(from)) = (
                    to.get_mut(place..place + units),
                    kernel.get(from..from + units),
                ) {
                    // A full panel's row is a few vectors; the length of any other is known too
                    // late for that.
                    match (
                        to.first_chunk_mut::<PANEL_UNITS>(),
                        from.first_chunk::<PANEL_UNITS>(),
                    ) {
                        (Some(to), Some(from)) => *to = from.map(W::narrow),
                        _ => to
                            .iter_mut()
                            .zip(from)
                            .for_each(|(w, &v)| *w = W::narrow(v)),
                    }
                }
            }
        }
    }
}
