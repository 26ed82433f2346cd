//! Shapes, the length of every buffer, and named views over flat buffers.
//!
//! | buffer | layout | length |
//! |---|---|---|
//! | a layer's parameters | kernel `[I+H, 4, H]`, input rows first; bias `[4, H]` | [`LayerShape::params_len`] |
//! | a layer's state | c `[B, H]`, h `[B, H]` | [`LayerShape::state_len`] |
//! | a layer's cache | gates `[T, B, 4, H]`; c `[T+1, B, H]`; h `[T+1, B, H]` | [`LayerShape::cache_len`] |
//! | a dense layer's parameters | kernel `[I, O]`, bias `[O]` | [`DenseShape::params_len`] |
//!
//! Gates are in TensorFlow's order i, j, f, o, with j the candidate. A network's
//! buffer is its layers' buffers one after the other, the dense head last; so the
//! state of equal layers is one tensor `[L, 2, B, H]`. The first row of the
//! cache's c and h is the state that the sequence started from, and the output of
//! the layer is h from the second row on.
//!
//! Lengths are in numbers (`f32`), and saturate instead of overflowing: a size
//! that no buffer can have is refused like any other wrong one.

pub(crate) mod flat;
pub(crate) mod scratch;
pub(crate) mod shape;
pub(crate) mod split;
mod view;

pub use shape::{DenseShape, Extent, LayerShape, Lengths, NetworkShape};
pub use split::Cut;
pub use view::{CacheView, Params, StateView};
