#![doc = include_str!("../README.md")]
//! # The equations
//!
//! For every row of the batch and every unit, with σ the logistic sigmoid:
//!
//! ```text
//! i, j, f, o = bias + x·Wx + h·Wh
//! c' = σ(f)·c + σ(i)·tanh(j)
//! h' = σ(o)·tanh(c')
//! ```
//!
//! New states below [`SMALLEST_STATE`], 2⁻⁶³, are zero, so that none ends in subnormal numbers.
//!
//! # Letters
//!
//! T time steps, B batch rows, I inputs, H hidden units, L layers, C classes. Buffers
//! are time-major and row-major. A gradient is called as what it belongs to, with a `d`
//! in front.
//!
//! # Layouts
//!
//! | what | layout |
//! |---|---|
//! | input, output | `[T, B, I]`, `[T, B, H]` |
//! | a layer's parameters | kernel `[I+H, 4, H]`, gates i, j, f, o; bias `[4, H]` |
//! | the state | `[2, B, H]` for each layer, c and then h; for equal layers `[L, 2, B, H]` |
//! | gradients, optimizer slots | as the parameters |
//!
//! # The map
//!
//! | module | what it is |
//! |---|---|
//! | [`layout`] | shapes, the length of every buffer, named views |
//! | `network`, `classifier` | the fixed-size door: [`Lstm`], [`Stack`], [`Dense`], [`Classifier`] |
//! | `model` | the run-time door: [`Model`] |
//! | `sequence` | one layer over time: inference, forward, backward |
//! | `cell` | one layer, one step: forward beside backward |
//! | `gemm`, `tile`, `sweep`, `blocked`, `panels`, `transpose` | the matrix product and its ways to walk |
//! | `packed` | weights in the order in which a stream reads them: [`Packed`] |
//! | `packed_model` | the same for sequences behind the run-time door: [`PackedModel`] |
//! | `layer_units` | some of a layer's units, for a core of its own: [`LayerUnits`] |
//! | [`activation`] | exp, sigmoid, tanh |
//! | [`dense`], [`loss`], [`optimizer`], [`init`] | what training needs around the layers |
//! | `apart` | passes shared by all layers where code must be small |
//! | `chunks`, `flat`, `aligned` | buffers: parts of one width, arrays as slices, [`Aligned`] |
//! | `simd` | the vector trait, the levels, and the choice between them ([`Level`]) |
//! | `c` (feature `c`) | the run-time door as functions of the C ABI |
//!
//! Unsafe code stands in `simd`, `cell`, `backward`, `elementwise`, `flat`, `c`, in the modules of the
//! matrix product, and in one line each of `packed` and `aligned`.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod activation;
#[cfg(feature = "c")]
pub mod c;
pub mod layout;

mod error;
mod fixed;
mod gemm;
mod lstm;
mod model;
mod simd;
mod train;

pub use error::ShapeError;
pub use fixed::{
    Classifier, ClassifierWorkspace, Dense, Lstm, LstmCache, LstmState, LstmWorkspace, Network,
    Packed, Stack,
};
pub use layout::flat::{Aligned, Flat};
pub use layout::{CacheView, DenseShape, Extent, LayerShape, NetworkShape, Params, StateView};
pub use lstm::{LayerUnits, SMALLEST_STATE, Zigzag};
pub use model::{Model, PackedModel};
pub use simd::Level;
pub use train::{dense, init, loss, optimizer};
