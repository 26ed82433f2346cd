//! Lengths of what only the passes know: packed kernels, pre-activations, what one layer hands to the
//! next, and blocks of a product's operands.

use super::shape::{Extent, LayerShape, NetworkShape, max, product};
use super::split::CACHE_LINE;

/// Whether any level packs the operands of products: where the caches are those of a desktop.
pub(crate) const PACKS: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// Products of two operands: how large their blocks are.
pub(crate) mod blocks {
    use super::{CACHE_LINE, PACKS, max, product};

    /// Products that are added up at a time where panels of `b` are copied.
    pub(crate) const KC: usize = 512;
    /// Rows of `a` that are copied at a time.
    pub(crate) const MC: usize = 128;
    /// Columns of the widest panel.
    pub(crate) const NR_MAX: usize = 32;
    /// `b` of more numbers than this is not walked tile by tile: half of a small first cache.
    pub(crate) const L1_FLOATS: usize = 1 << 12;
    /// Rows of `a` for which `b` is read once, as it is.
    pub(crate) const GEMV_MAX_ROWS: usize = 3;

    const fn min(a: usize, b: usize) -> usize {
        if a < b { a } else { b }
    }

    /// Numbers of scratch with which the product [m, k] · [k, n] is fastest, at any level.
    pub(crate) const fn len(m: usize, n: usize, k: usize) -> usize {
        if !PACKS || m <= GEMV_MAX_ROWS || product(&[n, k]) <= L1_FLOATS {
            return 0;
        }
        let copy = min(product(&[m, k]), MC * KC);
        copy + NR_MAX * min(k, KC) + CACHE_LINE - 1
    }

    /// The longest of several.
    pub(crate) const fn longest<const N: usize>(sizes: [[usize; 3]; N]) -> usize {
        let (mut longest, mut index) = (0, 0);
        while index < N {
            let [m, n, k] = sizes[index];
            longest = max(longest, len(m, n, k));
            index += 1;
        }
        longest
    }
}

impl LayerShape {
    /// Room for the recurrent kernel of a wide layer packed, if there are enough steps to pay.
    #[inline]
    pub(crate) const fn recurrent_panels_len(self, extent: Extent) -> usize {
        if PACKS && self.is_wide() && extent.steps >= 8 {
            product(&[self.hidden, 4, self.hidden])
        } else {
            0
        }
    }
    /// Room for the inputs' kernel packed, if there are enough rows besides.
    #[inline]
    pub(crate) const fn input_panels_len(self, extent: Extent) -> usize {
        if self.recurrent_panels_len(extent) > 0 && extent.rows() > 256 {
            product(&[self.inputs, 4, self.hidden])
        } else {
            0
        }
    }
    /// Both.
    #[inline]
    pub(crate) const fn panels_len(self, extent: Extent) -> usize {
        self.recurrent_panels_len(extent)
            .saturating_add(self.input_panels_len(extent))
    }
    /// Both kernels of a wide layer, packed for any number of calls; up to the end of a cache line.
    #[inline]
    pub(crate) const fn packed_len(self) -> usize {
        if self.is_wide() {
            self.kernel_len()
                .saturating_add(CACHE_LINE - 1)
                .saturating_sub(self.kernel_len().saturating_sub(1) % CACHE_LINE)
        } else {
            0
        }
    }
    /// Room for the pre-activations of a wide layer in inference: of steps that make up 128 rows
    /// or more, or of all there are.
    #[inline]
    pub(crate) const fn preact_len(self, extent: Extent) -> usize {
        const ROWS: usize = 128;
        if !self.is_wide() || extent.batch == 0 {
            return 0;
        }
        let enough = product(&[ROWS.div_ceil(extent.batch), extent.batch]);
        let rows = if enough < extent.rows() {
            enough
        } else {
            extent.rows()
        };
        product(&[rows, self.preact_stride()])
    }
    /// Numbers from the pre-activations of one row to those of the next. A cache line lies between
    /// them, because rows a power of two apart share few places in a cache.
    #[inline]
    pub(crate) const fn preact_stride(self) -> usize {
        product(&[4, self.hidden]).saturating_add(CACHE_LINE)
    }

    /// Blocks of the products of inference and of the forward pass.
    #[inline]
    pub(crate) const fn forward_blocks_len(self, extent: Extent) -> usize {
        let gates = product(&[4, self.hidden]);
        blocks::longest([
            [extent.rows(), gates, self.inputs],
            [extent.batch, gates, self.hidden],
        ])
    }

    /// Blocks of the products of the backward pass.
    #[inline]
    pub(crate) const fn backward_blocks_len(self, extent: Extent) -> usize {
        let (rows, gates) = (extent.rows(), product(&[4, self.hidden]));
        blocks::longest([
            [self.inputs, gates, rows],
            [self.hidden, gates, rows],
            [rows, self.inputs, gates],
            [extent.batch, self.hidden, gates],
        ])
    }
}

/// Room for inference through a network.
#[derive(Clone, Copy)]
pub(crate) struct InferenceRoom {
    /// What one layer hands to the next.
    pub interlayer: usize,
    /// A layer's kernels packed.
    pub panels: usize,
    /// Pre-activations.
    pub preact: usize,
    /// Blocks of the operands of products.
    pub blocks: usize,
}

impl InferenceRoom {
    /// All but the packed kernels.
    #[inline]
    pub(crate) const fn packed_len(self) -> usize {
        self.interlayer
            .saturating_add(self.preact)
            .saturating_add(self.blocks)
    }
    #[inline]
    pub(crate) const fn len(self) -> usize {
        self.packed_len().saturating_add(self.panels)
    }
}

impl NetworkShape<'_> {
    #[inline]
    pub(crate) const fn panels_len(self, extent: Extent) -> usize {
        if !PACKS {
            return 0;
        }
        let mut len = 0;
        let mut index = 0;
        while let Some(layer) = self.layer(index) {
            len = max(len, layer.panels_len(extent));
            index += 1;
        }
        if len > 0 {
            // They begin at a cache line, wherever the buffer does.
            len = len.saturating_add(CACHE_LINE - 1);
        }
        len
    }

    #[inline]
    pub(crate) const fn transposed_len(self) -> usize {
        let mut len = match self.head() {
            Some(head) => head.kernel_len(),
            None => 0,
        };
        let mut index = 0;
        while let Some(layer) = self.layer(index) {
            len = max(len, layer.kernel_len());
            index += 1;
        }
        len
    }

    /// The parts of the room for inference.
    #[inline]
    pub(crate) const fn inference_room(self, extent: Extent) -> InferenceRoom {
        let layers = self.hidden.len();
        let copies = if layers > 2 {
            2
        } else {
            layers.saturating_sub(1)
        };
        let hidden = self.widest();
        let mut room = InferenceRoom {
            interlayer: product(&[copies, extent.rows(), hidden]),
            panels: 0,
            preact: 0,
            blocks: 0,
        };
        let widest = LayerShape { inputs: 1, hidden };
        if !widest.is_wide() {
            return room;
        }
        room.preact = widest.preact_len(extent);
        room.panels = self.panels_len(extent);
        let mut index = 0;
        while let Some(layer) = self.layer(index) {
            if layer.is_wide() {
                room.blocks = max(room.blocks, layer.forward_blocks_len(extent));
            }
            index += 1;
        }
        room
    }

    /// Room before the caches of the layers: forward for packed kernels and blocks, and backward for
    /// blocks.
    #[inline]
    pub(crate) const fn training_room_len(self, extent: Extent) -> usize {
        if !PACKS {
            return 0;
        }
        let (mut forward, mut backward) = (0, 0);
        let mut index = 0;
        while let Some(layer) = self.layer(index) {
            forward = max(forward, layer.forward_blocks_len(extent));
            backward = max(backward, layer.backward_blocks_len(extent));
            index += 1;
        }
        if let Some(head) = self.head() {
            let (rows, inputs, outputs) = (extent.rows(), head.inputs, head.outputs);
            backward = max(
                backward,
                blocks::longest([
                    [rows, outputs, inputs],
                    [inputs, outputs, rows],
                    [rows, inputs, outputs],
                ]),
            );
        }
        max(self.panels_len(extent).saturating_add(forward), backward)
    }
}
