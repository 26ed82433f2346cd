//! Chains: embedding, dense and LSTM stages with options, run one after the other.

mod fixed;
mod norm;
mod pointwise;
mod recurrent;
mod run;
mod shape;
mod stage;
mod train;

pub use fixed::{VariantCache, VariantLstm, VariantScratch, VariantState, VariantWorkspace};
pub use run::Chain;
pub use shape::ChainLengths;
#[cfg(feature = "capi")]
pub(crate) use shape::check;
pub use stage::{Activation, Cell, Direction, LstmStage, Returns, Stage, Zoneout};
pub use train::{ChainBackward, ChainForward};
