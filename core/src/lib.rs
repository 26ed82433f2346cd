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
//! T time steps, B batch rows, I inputs, H hidden units, P outputs of a projection, L layers, C
//! classes. Buffers
//! are time-major and row-major. A gradient has the name of what it belongs to, with a `d`
//! in front.
//!
//! # Layouts
//!
//! | what | layout |
//! |---|---|
//! | input, output | `[T, B, I]`, `[T, B, H]` |
//! | a layer's parameters | kernel `[I+H, 4, H]`, gates i, j, f, o; bias `[4, H]` |
//! | the state | `[2, B, H]` for each layer, c and then h; for equal layers `[L, 2, B, H]` |
//! | an [`LstmStage`]'s parameters, of each direction | kernel `[I+P, 4, H]`; bias `[4, H]`; of layer normalisation gains `[4, H]`, and c's gain and shift `[2, H]`; peepholes `[3, H]` of i, f, o; projection `[H, P]` |
//! | its state | c `[B, H]` and then h `[B, P]` of each direction |
//! | gradients, optimizer slots | as the parameters |
//!
//! # The map
//!
//! | module | what it is |
//! |---|---|
//! | [`layout`] | shapes, the length of every buffer, views, buffers as parts |
//! | `simd` | the vector operations of every [`Level`], the choice between the levels, activations |
//! | [`activation`] | exp, sigmoid, tanh over slices |
//! | `gemm` | the matrix product: micro-kernel, packing, and the ways through the operands |
//! | `lstm` | a layer: the equations of a cell, a step, the passes over time, where weights are |
//! | `train` | [`dense`], [`loss`], [`optimizer`], [`init`]: what training needs around the layers |
//! | `fixed` | the const-generic API: [`Lstm`], [`Stack`], [`Dense`], [`Classifier`], [`Packed`] |
//! | `model` | the run-time API: [`Model`], [`PackedModel`] |
//! | `narrow` | weights in half and a quarter of the bytes: [`NarrowLayer`] |
//! | `chain` | what other systems have besides: [`Chain`], stages one after the other; cells with options, [`VariantLstm`] |
//! | `c` (feature `capi`) | the run-time API as functions of the C ABI |
//!
//! A module imports only from those above it. Unsafe code stands in `simd`, `gemm::micro`,
//! `gemm::pack`, `lstm::tile`, `layout::flat` and the macros that these define, and in `c`.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]
#![cfg_attr(
    not(any(
        target_feature = "sse2",
        target_feature = "neon",
        target_feature = "simd128"
    )),
    allow(dead_code, reason = "where there is one lane, what takes vectors")
)]

#[cfg(test)]
extern crate std;

pub mod activation;
#[cfg(feature = "capi")]
pub mod c;
pub mod layout;

mod chain;
mod error;
mod fixed;
mod gemm;
mod lstm;
mod model;
mod narrow;
mod simd;
mod train;

pub use chain::{
    Activation, Cell, Chain, ChainBackward, ChainForward, ChainLengths, Direction, LstmStage,
    Returns, Stage, VariantCache, VariantLstm, VariantScratch, VariantState, VariantWorkspace,
    Zoneout,
};
pub use error::ArgumentError;
pub use fixed::{
    Buffers, Classifier, ClassifierWorkspace, Dense, Lstm, LstmCache, LstmState, LstmWorkspace,
    Network, Packed, Stack, Stream,
};
pub use layout::flat::{Aligned, Flat};
pub use layout::{
    CacheView, DenseShape, Extent, LayerShape, Lengths, NetworkShape, Params, StateView,
};
pub use lstm::{LayerUnits, SMALLEST_STATE, Zigzag};
pub use model::{Backward, LossGradient, Model, PackedModel};
pub use narrow::{NarrowLayer, QuantizeError, Storage};
pub use simd::Level;
pub use train::{dense, init, loss, optimizer};
