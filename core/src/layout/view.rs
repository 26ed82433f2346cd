//! Named views over flat buffers.

use crate::error::{ArgumentError, check_len};
use crate::layout::shape::{Extent, LayerShape, product};
use crate::layout::split::Cut;

/// A layer's parameters, or their gradients.
///
/// ```
/// use fused_lstm::{LayerShape, Params};
///
/// let layer = LayerShape::new(1, 4);
/// let mut flat = [0.0; 96];
/// let params = Params::new(layer, &mut flat[..])?;
/// assert_eq!((params.kernel.len(), params.bias.len()), (80, 16));
/// params.bias[2 * 4..3 * 4].fill(1.0); // the forget gate's
/// assert_eq!(flat[80 + 8..80 + 12], [1.0; 4]);
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Params<S> {
    /// `[I+H, 4, H]`, input rows first.
    pub kernel: S,
    /// `[4, H]`.
    pub bias: S,
}

impl<S: Cut> Params<S> {
    /// Views a flat buffer of [`LayerShape::params_len`] numbers.
    pub fn new(shape: LayerShape, flat: S) -> Result<Self, ArgumentError> {
        check_len("params", shape.params_len(), flat.length())?;
        Ok(Self::cut(shape, flat))
    }

    #[inline(always)]
    pub(crate) fn cut(shape: LayerShape, flat: S) -> Self {
        let (kernel, bias) = flat.cut(shape.kernel_len());
        Self { kernel, bias }
    }

    /// The kernel's rows for the inputs `[I, 4, H]`, and for the hidden units
    /// `[H, 4, H]`.
    #[inline(always)]
    pub fn split_kernel(self, shape: LayerShape) -> (S, S) {
        self.kernel.cut(product(&[shape.inputs, 4, shape.hidden]))
    }
}

/// A layer's state.
///
/// ```
/// use fused_lstm::{LayerShape, StateView};
///
/// let layer = LayerShape::new(1, 4);
/// let flat = [0.5; 2 * 3 * 4];
/// let state = StateView::new(layer, 3, &flat[..])?;
/// assert_eq!((state.c.len(), state.h.len()), (12, 12));
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct StateView<S> {
    /// The cell state `[B, H]`.
    pub c: S,
    /// The hidden state `[B, H]`.
    pub h: S,
}

impl<S: Cut> StateView<S> {
    /// Views a flat buffer of [`LayerShape::state_len`] numbers.
    pub fn new(shape: LayerShape, batch: usize, flat: S) -> Result<Self, ArgumentError> {
        check_len("state", shape.state_len(batch), flat.length())?;
        Ok(Self::cut(flat))
    }

    #[inline(always)]
    pub(crate) fn cut(flat: S) -> Self {
        let half = flat.length() / 2;
        let (c, h) = flat.cut(half);
        Self { c, h }
    }
}

/// What a layer's forward pass leaves for its backward pass.
///
/// ```
/// use fused_lstm::{CacheView, Extent, LayerShape};
///
/// let layer = LayerShape::new(1, 4);
/// let extent = Extent { steps: 7, batch: 3 };
/// let flat = [0.0; 7 * 3 * 16 + 2 * 8 * 12];
/// let cache = CacheView::new(layer, extent, &flat[..])?;
/// assert_eq!(cache.gates.len(), 7 * 3 * 16);
/// assert_eq!((cache.c.len(), cache.h.len()), (8 * 12, 8 * 12));
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CacheView<S> {
    /// Gate activations `[T, B, 4, H]`; the gradients of the pre-activations
    /// after the backward pass.
    pub gates: S,
    /// Cell states `[T+1, B, H]`.
    pub c: S,
    /// Hidden states `[T+1, B, H]`.
    pub h: S,
}

impl<S: Cut> CacheView<S> {
    /// Views a flat buffer of [`LayerShape::cache_len`] numbers.
    pub fn new(shape: LayerShape, extent: Extent, flat: S) -> Result<Self, ArgumentError> {
        check_len("cache", shape.cache_len(extent), flat.length())?;
        Ok(Self::cut(shape, extent, flat))
    }

    #[inline(always)]
    pub(crate) fn cut(shape: LayerShape, extent: Extent, flat: S) -> Self {
        let (gates, states) = flat.cut(product(&[extent.rows(), 4, shape.hidden]));
        let half = states.length() / 2;
        let (c, h) = states.cut(half);
        Self { gates, c, h }
    }
}
