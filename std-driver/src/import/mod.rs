//! `import`: networks that other systems trained, as this project's models.
//!
//! A reader for each format gives a [`Found`]: layers with weights in the core's layout. What
//! follows is the same for all of them.

mod found;
mod gates;
mod guitarml;
mod icu;
mod json;
#[cfg(test)]
mod naive;
mod nam;
mod npy;
mod rtneural;
mod source;

pub use found::{Found, Kind, Layer, Lstm};
pub(crate) use source::Source;

/// A format that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// PyTorch: safetensors with its names, `.pt` and `.pth`, TorchScript.
    Torch,
    /// Keras: `.keras`, `.h5`, `.weights.h5`.
    Keras,
    /// ONNX.
    Onnx,
    /// Neural Amp Modeler.
    Nam,
    /// RTNeural.
    Rtneural,
    /// GuitarML and Proteus.
    Guitarml,
    /// The word segmenter of ICU4X.
    Icu,
    /// TensorFlow 1: checkpoints and frozen graphs.
    Tf1,
    /// TensorFlow.js.
    Tfjs,
    /// TensorFlow Lite.
    Tflite,
}

/// What a file does not say.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The part that is wanted.
    pub part: Option<String>,
    /// What the cell adds to the forget gate, where the file does not say.
    pub forget_bias: Option<f32>,
}
