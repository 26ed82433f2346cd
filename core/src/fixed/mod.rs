//! The const-generic API: networks whose sizes are types.

mod classifier;
mod lstm;
mod network;
mod packed;

pub use classifier::{Classifier, ClassifierWorkspace, Dense};
pub use lstm::{Lstm, LstmCache, LstmState, LstmWorkspace};
pub use network::{Network, Stack};
pub use packed::Packed;
