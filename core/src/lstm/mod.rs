//! LSTM layers: the equations of a cell, a step, and a layer over time.

pub(crate) mod cell;
pub(crate) mod layer;
mod scalar;
mod shard;
pub(crate) mod step;
pub(crate) mod tile;
pub(crate) mod weights;

pub use cell::SMALLEST_STATE;
pub use shard::LayerUnits;
pub use weights::Zigzag;
