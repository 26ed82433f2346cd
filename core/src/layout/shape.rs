//! Shapes, and the length of every buffer that follows from them.

use crate::error::ArgumentError;
use crate::layout::split::CACHE_LINE;

/// The product of sizes, or `usize::MAX`.
#[inline]
pub(crate) const fn product(sizes: &[usize]) -> usize {
    // Not a loop, which the compiler would not fold.
    match *sizes {
        [a, b] => a.saturating_mul(b),
        [a, b, c] => a.saturating_mul(b).saturating_mul(c),
        [a, b, c, d] => a.saturating_mul(b).saturating_mul(c).saturating_mul(d),
        _ => usize::MAX,
    }
}

#[inline]
pub(super) const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// How much of a sequence a call works on: T time steps of B batch rows.
///
/// ```
/// let extent = fused_lstm::Extent { steps: 15, batch: 5 };
/// assert_eq!(extent.rows(), 75);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Time steps, T.
    pub steps: usize,
    /// Batch rows, B.
    pub batch: usize,
}

impl Extent {
    /// Rows of all time steps, T·B.
    #[inline]
    pub const fn rows(self) -> usize {
        product(&[self.steps, self.batch])
    }
}

/// The sizes of one LSTM layer.
///
/// ```
/// use fused_lstm::{Extent, LayerShape};
///
/// let layer = LayerShape::new(6, 4);
/// assert_eq!(layer.params_len(), 10 * 16 + 16);
/// assert_eq!(layer.state_len(3), 2 * 3 * 4);
/// assert_eq!(layer.cache_len(Extent { steps: 7, batch: 3 }), 7 * 3 * 16 + 2 * 8 * 3 * 4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LayerShape {
    /// Inputs, I.
    pub inputs: usize,
    /// Hidden units, H.
    pub hidden: usize,
}

impl LayerShape {
    /// A layer of so many inputs and hidden units.
    #[inline]
    pub const fn new(inputs: usize, hidden: usize) -> Self {
        Self { inputs, hidden }
    }
    /// The kernel `[I+H, 4, H]`.
    #[inline]
    pub const fn kernel_len(self) -> usize {
        product(&[self.inputs.saturating_add(self.hidden), 4, self.hidden])
    }
    /// The bias `[4, H]`.
    #[inline]
    pub const fn bias_len(self) -> usize {
        product(&[4, self.hidden])
    }
    /// Kernel and bias; also the gradients, and each optimizer slot.
    #[inline]
    pub const fn params_len(self) -> usize {
        self.kernel_len().saturating_add(self.bias_len())
    }
    /// Whether the gates are best taken by matrix products with their sums in memory:
    /// if the recurrent kernel does not fit the smallest first caches.
    #[inline]
    pub(crate) const fn is_wide(self) -> bool {
        product(&[4, self.hidden, self.hidden]) > 8192
    }
    /// The state `[2, B, H]`.
    #[inline]
    pub const fn state_len(self, batch: usize) -> usize {
        product(&[2, batch, self.hidden])
    }
    /// What the backward pass needs of the forward pass.
    #[inline]
    pub const fn cache_len(self, extent: Extent) -> usize {
        let sequences = product(&[6, extent.steps, extent.batch, self.hidden]);
        sequences.saturating_add(self.state_len(extent.batch))
    }
}

/// The sizes of a dense layer.
///
/// ```
/// let head = fused_lstm::DenseShape::new(4, 2);
/// assert_eq!(head.params_len(), 10);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct DenseShape {
    /// Inputs, I.
    pub inputs: usize,
    /// Outputs, O.
    pub outputs: usize,
}

impl DenseShape {
    /// A layer of so many inputs and outputs.
    #[inline]
    pub const fn new(inputs: usize, outputs: usize) -> Self {
        Self { inputs, outputs }
    }

    /// Refuses a size that is zero.
    #[inline]
    pub fn check(self) -> Result<(), ArgumentError> {
        match self {
            Self { inputs: 0, .. } => Err(ArgumentError::Zero { what: "inputs" }),
            Self { outputs: 0, .. } => Err(ArgumentError::Zero { what: "outputs" }),
            _ => Ok(()),
        }
    }

    /// The kernel `[I, O]`.
    #[inline]
    pub const fn kernel_len(self) -> usize {
        product(&[self.inputs, self.outputs])
    }
    /// Kernel and bias `[O]`.
    #[inline]
    pub const fn params_len(self) -> usize {
        self.kernel_len().saturating_add(self.outputs)
    }
}

/// How many numbers each buffer of a call has; `usize::MAX` if that many cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Lengths {
    /// Parameters; also their gradients, and each optimizer slot.
    pub params: usize,
    /// The states of all layers, or their gradients.
    pub state: usize,
    /// Inputs `[T, B, I]`, or their gradients.
    pub x: usize,
    /// The last layer's hidden states `[T, B, H]`, or their gradients.
    pub y: usize,
    /// Labels, or a mask of rows, `[T, B]`.
    pub labels: usize,
    /// What a loss is taken of: [`NetworkShape::outputs_len`].
    pub outputs: usize,
    /// Room for inference: [`NetworkShape::scratch_len`].
    pub scratch: usize,
    /// Room for training: [`NetworkShape::cache_len`].
    pub cache: usize,
    /// Room for training: [`NetworkShape::workspace_len`].
    pub workspace: usize,
    /// Packed kernels: [`NetworkShape::packed_len`].
    pub packed: usize,
    /// Room for inference with packed kernels: [`NetworkShape::packed_scratch_len`].
    pub packed_scratch: usize,
}

/// The sizes of a whole network: layers of LSTM, and a dense head if there are
/// classes.
///
/// ```
/// use fused_lstm::{Extent, NetworkShape};
///
/// let echo = NetworkShape::new(1, &[4, 4, 4]).with_head(2);
/// assert_eq!(echo.params_len(), 96 + 144 + 144 + 10);
/// assert_eq!(echo.state_len(5), 3 * 2 * 5 * 4); // [L, 2, B, H]
/// assert_eq!(echo.outputs(), 4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct NetworkShape<'a> {
    /// Inputs of the first layer, I.
    pub inputs: usize,
    /// Hidden units of each layer, from the first to the last.
    pub hidden: &'a [usize],
    /// Outputs of the dense head, C; `None` if there is no head.
    pub classes: Option<usize>,
}

impl<'a> NetworkShape<'a> {
    /// LSTM layers of so many hidden units each, from the first to the last, without a head.
    #[inline]
    pub const fn new(inputs: usize, hidden: &'a [usize]) -> Self {
        Self {
            inputs,
            hidden,
            classes: None,
        }
    }

    /// The same with a dense head of so many outputs.
    #[inline]
    pub const fn with_head(self, classes: usize) -> Self {
        self.with_classes(Some(classes))
    }

    /// The same with a dense head, or without one.
    #[inline]
    pub const fn with_classes(self, classes: Option<usize>) -> Self {
        Self { classes, ..self }
    }

    /// Refuses a network without a layer, and any size that is zero.
    #[inline]
    pub fn check(self) -> Result<(), ArgumentError> {
        let zero = |what| Err(ArgumentError::Zero { what });
        if self.inputs == 0 {
            return zero("inputs");
        }
        if self.hidden.is_empty() {
            return zero("layers");
        }
        if self.hidden.contains(&0) {
            return zero("hidden units");
        }
        if self.classes == Some(0) {
            return zero("classes");
        }
        Ok(())
    }

    /// The shape of layer `index`, counted from 0.
    ///
    /// ```
    /// use fused_lstm::{LayerShape, NetworkShape};
    /// let net = NetworkShape::new(6, &[4, 5]);
    /// assert_eq!(net.layer(1), Some(LayerShape::new(4, 5)));
    /// assert_eq!(net.layer(2), None);
    /// ```
    #[inline]
    pub const fn layer(self, index: usize) -> Option<LayerShape> {
        if index >= self.hidden.len() {
            return None;
        }
        let inputs = if index == 0 {
            self.inputs
        } else {
            self.hidden[index - 1]
        };
        Some(LayerShape {
            inputs,
            hidden: self.hidden[index],
        })
    }

    /// The layers from the first to the last.
    #[inline]
    pub fn layers(self) -> impl DoubleEndedIterator<Item = LayerShape> + ExactSizeIterator + Clone {
        self.hidden.iter().enumerate().map(move |(index, &hidden)| {
            let below = index
                .checked_sub(1)
                .and_then(|below| self.hidden.get(below));
            LayerShape {
                inputs: below.copied().unwrap_or(self.inputs),
                hidden,
            }
        })
    }

    /// Hidden units of the last layer.
    #[inline]
    pub const fn outputs(self) -> usize {
        match self.hidden.last() {
            Some(&hidden) => hidden,
            None => 0,
        }
    }

    /// The dense head's shape.
    #[inline]
    pub const fn head(self) -> Option<DenseShape> {
        match self.classes {
            Some(outputs) => Some(DenseShape {
                inputs: self.outputs(),
                outputs,
            }),
            None => None,
        }
    }

    /// All parameters; also the gradients, and each optimizer slot.
    #[inline]
    pub const fn params_len(self) -> usize {
        let mut len = match self.head() {
            Some(head) => head.params_len(),
            None => 0,
        };
        let mut index = 0;
        while let Some(layer) = self.layer(index) {
            len = len.saturating_add(layer.params_len());
            index += 1;
        }
        len
    }

    /// The states of all layers.
    #[inline]
    pub const fn state_len(self, batch: usize) -> usize {
        let mut len = 0usize;
        let mut index = 0;
        while let Some(layer) = self.layer(index) {
            len = len.saturating_add(layer.state_len(batch));
            index += 1;
        }
        len
    }

    /// The caches of all layers, and before them room for products: for packed kernels, if the
    /// widest layer has 46 units or more and there are 8 steps or more, and for blocks of operands
    /// that do not fit a first cache.
    #[inline]
    pub const fn cache_len(self, extent: Extent) -> usize {
        let mut len = self.training_room_len(extent);
        let mut index = 0;
        while let Some(layer) = self.layer(index) {
            len = len.saturating_add(layer.cache_len(extent));
            index += 1;
        }
        len
    }

    /// Units of the widest layer.
    #[inline]
    pub(super) const fn widest(self) -> usize {
        let mut widest = 0;
        let mut index = 0;
        while index < self.hidden.len() {
            widest = max(widest, self.hidden[index]);
            index += 1;
        }
        widest
    }

    /// Room for inference: what one layer hands to the next, twice if there are three or more; if the
    /// widest layer has 46 units or more, the pre-activations of its gates and, for 8 steps or more,
    /// its kernels packed; and blocks of operands that do not fit a first cache.
    #[inline]
    pub const fn scratch_len(self, extent: Extent) -> usize {
        self.inference_room(extent).len()
    }

    /// The kernels of a [`PackedModel`](crate::PackedModel): those of the layers of 46 units
    /// or more.
    #[inline]
    pub const fn packed_len(self) -> usize {
        let mut len = 0usize;
        let mut index = 0;
        while let Some(layer) = self.layer(index) {
            len = len.saturating_add(layer.packed_len());
            index += 1;
        }
        if len > 0 {
            // They begin at a cache line, wherever the buffer does.
            len = len.saturating_add(CACHE_LINE - 1);
        }
        len
    }

    /// Room for inference with a [`PackedModel`](crate::PackedModel): what one layer hands
    /// to the next, pre-activations, and blocks of operands.
    #[inline]
    pub const fn packed_scratch_len(self, extent: Extent) -> usize {
        self.inference_room(extent).packed_len()
    }

    /// Room for the backward pass: a transposed kernel of the largest layer, the
    /// gradient that one layer hands to the one below, the gradient of the head's
    /// outputs, and that of the state.
    #[inline]
    pub const fn workspace_len(self, extent: Extent) -> usize {
        self.transposed_len()
            .saturating_add(product(&[extent.rows(), self.widest()]))
            .saturating_add(self.logits_len(extent))
            .saturating_add(self.state_len(extent.batch))
    }

    /// What a loss is taken of: the head's outputs `[T, B, C]`, or the last layer's hidden states
    /// `[T, B, H]` without a head.
    #[inline]
    pub const fn outputs_len(self, extent: Extent) -> usize {
        let width = match self.classes {
            Some(classes) => classes,
            None => self.outputs(),
        };
        product(&[extent.rows(), width])
    }

    /// The lengths of all buffers of a call.
    ///
    /// ```
    /// use fused_lstm::{Extent, NetworkShape};
    ///
    /// let shape = NetworkShape::new(6, &[4, 5]);
    /// let lens = shape.lengths(Extent { steps: 3, batch: 2 });
    /// assert_eq!((lens.params, lens.x, lens.y, lens.outputs), (376, 36, 30, 30));
    /// ```
    #[inline]
    pub const fn lengths(self, extent: Extent) -> Lengths {
        Lengths {
            params: self.params_len(),
            state: self.state_len(extent.batch),
            x: product(&[extent.rows(), self.inputs]),
            y: product(&[extent.rows(), self.outputs()]),
            labels: extent.rows(),
            outputs: self.outputs_len(extent),
            scratch: self.scratch_len(extent),
            cache: self.cache_len(extent),
            workspace: self.workspace_len(extent),
            packed: self.packed_len(),
            packed_scratch: self.packed_scratch_len(extent),
        }
    }

    /// The head's outputs `[T, B, C]`; 0 without a head.
    #[inline]
    pub const fn logits_len(self, extent: Extent) -> usize {
        match self.classes {
            Some(classes) => product(&[extent.rows(), classes]),
            None => 0,
        }
    }
}
