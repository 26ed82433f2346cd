//! Layers whose weights take half or a quarter of the bytes of `f32`.

mod int8;
mod layer;
mod quantize;
mod storage;

pub use layer::NarrowLayer;
pub use quantize::QuantizeError;
pub use storage::Storage;
