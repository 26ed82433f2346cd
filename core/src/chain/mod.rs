//! Chains: embedding, dense and LSTM stages with options, run one after the other.

mod stage;

pub use stage::{Activation, Cell, Direction, LstmStage, Returns, Stage};
