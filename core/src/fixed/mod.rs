//! The const-generic API: networks whose sizes are types.

mod classifier;
mod layers;
mod lstm;
mod network;
mod packed;
mod stack;

pub use classifier::{Classifier, ClassifierWorkspace, Dense};
pub use lstm::{Lstm, LstmCache, LstmState, LstmWorkspace};
pub use network::{Buffers, Network};
pub use packed::{Packed, Stream};
pub use stack::Stack;
