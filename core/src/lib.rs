#![doc = include_str!("../../README.md")]
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod activation;
pub mod dense;
pub mod init;
pub mod layout;
pub mod loss;
pub mod optimizer;

mod cell;
mod classifier;
mod elementwise;
mod error;
mod flat;
mod matmul;
mod model;
mod network;
mod sequence;
mod simd;

pub use classifier::{Classifier, ClassifierWorkspace, Dense};
pub use error::ShapeError;
pub use flat::Flat;
pub use layout::{CacheView, DenseShape, Extent, LayerShape, NetworkShape, Params, StateView};
pub use model::Model;
pub use network::{Lstm, LstmCache, LstmState, LstmWorkspace, Network, Stack};
pub use simd::Level;
