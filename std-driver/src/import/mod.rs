//! `import`: networks that other systems trained, as this project's models.
//!
//! A reader for each format gives a [`Found`]: layers with weights in the core's layout. What
//! follows is the same for all of them.

mod assemble;
#[cfg(test)]
mod fixtures;
mod found;
pub(crate) mod gates;
mod guitarml;
mod icu;
mod json;
mod keras;
#[cfg(test)]
mod naive;
mod nam;
mod onnx;
mod rtneural;
mod source;
mod tfjs;
mod torch;
mod wire;

pub use found::{Found, Kind, Layer, Lstm};
pub(crate) use json::Tensor;
pub(crate) use source::Source;

use crate::Error;
use crate::chain::ChainModel;
use std::path::Path;

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

/// Reads the layers of a network that another system trained, without asking whether they can be
/// run; `format` is found by the content if it is not said.
pub fn look(path: &Path, format: Option<Format>, options: &Options) -> Result<Found, Error> {
    find(&Source::open(path)?, format, options)
}

/// Reads a network that another system trained as a model, and what was found on the way.
pub fn open(
    path: &Path,
    format: Option<Format>,
    options: &Options,
) -> Result<(ChainModel, Found), Error> {
    let mut found = look(path, format, options)?;
    let model = assemble(path, &mut found, options)?;
    Ok((model, found))
}

/// A model of the layers, or of the part of them that is wanted; what is done with them is added to
/// the notes.
pub fn assemble(path: &Path, found: &mut Found, options: &Options) -> Result<ChainModel, Error> {
    let asked = options.part.as_deref().map_or("", |part| part);
    let asked = asked
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let part = match &found.part {
        Some(left) => left.clone(),
        None => asked.map(str::to_owned).collect(),
    };
    assemble::assemble(path, found, &part)
}

fn find(source: &Source, format: Option<Format>, options: &Options) -> Result<Found, Error> {
    match format.or_else(|| detect(source)) {
        Some(Format::Nam) => nam::read(source, options),
        Some(Format::Rtneural) => rtneural::read(source, options),
        Some(Format::Guitarml) => guitarml::read(source, options),
        Some(Format::Icu) => icu::read(source, options),
        Some(Format::Onnx) => onnx::read(source, options),
        Some(Format::Keras) => keras::read(source, options),
        Some(Format::Torch) => torch::read(source, options),
        Some(Format::Tfjs) => tfjs::read(source, options),
        Some(other) => Err(source.problem(format!("no reader for {other:?}"))),
        None => Err(source.problem(
            "expected a network of PyTorch, Keras, ONNX, NAM, RTNeural, GuitarML, ICU4X, TensorFlow 1, TensorFlow.js or TensorFlow Lite, got another file",
        )),
    }
}

/// The format, by the content.
fn detect(source: &Source) -> Option<Format> {
    if json::is_object(source) {
        let document = json::object(source).ok()?;
        return if nam::is(&document) {
            Some(Format::Nam)
        } else if guitarml::is(&document) {
            Some(Format::Guitarml)
        } else if icu::is(&document) {
            Some(Format::Icu)
        } else if rtneural::is(&document) {
            Some(Format::Rtneural)
        } else if tfjs::is(source) {
            Some(Format::Tfjs)
        } else if torch::is(source) {
            Some(Format::Torch)
        } else {
            None
        };
    }
    if keras::is(source) {
        return Some(Format::Keras);
    }
    if torch::is(source) {
        return Some(Format::Torch);
    }
    onnx::is(source).then_some(Format::Onnx)
}
