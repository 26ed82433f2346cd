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
#[cfg(feature = "onnx")]
mod onnx;
#[cfg(feature = "tensorflow")]
mod raw;
mod rtneural;
mod source;
#[cfg(feature = "tensorflow")]
mod step;
#[cfg(feature = "tensorflow")]
mod tf1;
mod tfjs;
#[cfg(feature = "tensorflow")]
mod tflite;
mod torch;
#[cfg(any(feature = "onnx", feature = "tensorflow"))]
mod wire;

pub use found::{Found, Kind, Layer, Lstm};
pub(crate) use source::Source;

use crate::Error;
use crate::chain::{ChainModel, Network};
use crate::tensors::TensorFile;
use fused_lstm::{Activation, Returns};
use std::path::Path;
use std::str::FromStr;

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
    /// What of the last LSTM layer's steps goes on, where the file does not say.
    pub returns: Option<Returns>,
    /// The slope of the hard sigmoid that the gates are, where the file does not say.
    pub hard_sigmoid: Option<f32>,
    /// What follows the last layer, where the file does not say.
    pub then: Vec<Then>,
}

/// What may follow the last layer of a file that has weights only: `tanh`, `sigmoid`, `relu`,
/// `softmax`, `gain=NUMBER`, or `skip=COLUMN`, which adds columns of the input from that one on.
///
/// ```
/// use fused_lstm_driver::import::Then;
///
/// assert_eq!("skip=1".parse(), Ok(Then::Skip(1)));
/// assert!("conv".parse::<Then>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Then {
    /// A function of every number, or of every row.
    Activation(Activation),
    /// Multiplies every number.
    Gain(f32),
    /// Adds columns of the input, from this one on.
    Skip(usize),
}

impl FromStr for Then {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected tanh, sigmoid, relu, softmax, gain=NUMBER or skip=COLUMN".into();
        let finite = |value: f32| Some(value).filter(|value| value.is_finite());
        let found = match text.split_once('=') {
            None => match text {
                "tanh" => Some(Self::Activation(Activation::Tanh)),
                "sigmoid" => Some(Self::Activation(Activation::Sigmoid)),
                "relu" => Some(Self::Activation(Activation::Relu)),
                "softmax" => Some(Self::Activation(Activation::Softmax)),
                _ => None,
            },
            Some(("gain", value)) => value.parse().ok().and_then(finite).map(Self::Gain),
            Some(("skip", value)) => value.parse().ok().map(Self::Skip),
            Some(_) => None,
        };
        found.ok_or_else(wrong)
    }
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

/// [`open`] for a file's bytes; `path` is what errors name.
pub fn read(
    path: &Path,
    bytes: Vec<u8>,
    format: Option<Format>,
    options: &Options,
) -> Result<(ChainModel, Found), Error> {
    let mut found = find(&Source::from_bytes(path, bytes), format, options)?;
    let model = assemble(path, &mut found, options)?;
    Ok((model, found))
}

/// A model of the layers, or of the part of them that is wanted; what is done with them is added to
/// the notes.
pub fn assemble(path: &Path, found: &mut Found, options: &Options) -> Result<ChainModel, Error> {
    if options.forget_bias.is_some() && found.format != Format::Tf1 {
        let expected = "a file of TensorFlow 1, which does not say it";
        return Err(Error::setting("forget-bias", expected, path.display()));
    }
    let asked = options.part.as_deref().unwrap_or_default();
    let asked = asked.split(',').map(str::trim);
    let asked: Vec<String> = asked
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    if options.part.is_some() && asked.is_empty() {
        return Err(Error::setting("part", "names of layers", "none"));
    }
    let part = match &found.part {
        Some(left) => left.clone(),
        None => asked,
    };
    assemble::assemble(path, found, &part, options)
}

fn find(source: &Source, format: Option<Format>, options: &Options) -> Result<Found, Error> {
    let format = match format {
        Some(format) => Some(format),
        None => detect(source)?,
    };
    let format = format.ok_or_else(|| {
        source.problem(format!(
            "expected a network of PyTorch, Keras, ONNX, NAM, RTNeural, GuitarML, ICU4X, TensorFlow 1, TensorFlow.js or TensorFlow Lite, got another file{}",
            left_out()
        ))
    })?;
    match format {
        Format::Nam => nam::read(source, options),
        Format::Rtneural => rtneural::read(source, options),
        Format::Guitarml => guitarml::read(source, options),
        Format::Icu => icu::read(source, options),
        #[cfg(feature = "onnx")]
        Format::Onnx => onnx::read(source, options),
        Format::Torch => torch::read(source, options),
        Format::Keras => whole_or_part(keras::read, source, options),
        Format::Tfjs => whole_or_part(tfjs::read, source, options),
        #[cfg(feature = "tensorflow")]
        Format::Tf1 => tf1::read(source, options),
        #[cfg(feature = "tensorflow")]
        Format::Tflite => whole_or_part(tflite::read, source, options),
        #[cfg(not(all(feature = "onnx", feature = "tensorflow")))]
        _ => Err(source.problem(format!("expected another format: {}", left_out()))),
    }
}

/// What was not compiled, for an error that may come from that.
fn left_out() -> &'static str {
    match (cfg!(feature = "onnx"), cfg!(feature = "tensorflow")) {
        (true, true) => "",
        (false, true) => "; this command was built without its feature onnx",
        (true, false) => "; this command was built without its feature tensorflow",
        (false, false) => "; this command was built without its features onnx and tensorflow",
    }
}

/// All layers, of which a part is taken later; of a file with several outputs or models, those of the
/// one that the part names, or of the last name of several.
fn whole_or_part(
    read: fn(&Source, &Options) -> Result<Found, Error>,
    source: &Source,
    options: &Options,
) -> Result<Found, Error> {
    let with_part = |part| Options {
        part,
        ..options.clone()
    };
    let whole = read(source, &with_part(None));
    let (Err(_), Some(part)) = (&whole, &options.part) else {
        return whole;
    };
    let end = part.rsplit(',').next().map(|name| name.trim().to_owned());
    let mut found = read(source, &with_part(end))?;
    if !part.contains(',') {
        found.part = Some(Vec::new());
    }
    Ok(found)
}

/// Opens a model; of a network of another system it says how to import it.
pub fn open_model(path: &Path) -> Result<Network, Error> {
    Network::open(path).map_err(|error| advise(path, error))
}

/// `error`, or what to do if the file is a network of another system, which must be imported first.
pub(crate) fn advise(path: &Path, error: Error) -> Error {
    let is_network = || {
        let source = Source::open(path).ok()?;
        detect(&source).ok()?
    };
    match is_network() {
        Some(_) => Error::file(
            path,
            format!(
                "expected a model, got a network of another system: fused-lstm import {} makes one of it",
                path.display()
            ),
        ),
        None => error,
    }
}

/// The format, by the content.
fn detect(source: &Source) -> Result<Option<Format>, Error> {
    if json::is_object(source) {
        let document = json::object(source)?;
        return Ok(if nam::is(&document) {
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
            tensorflow(source)
        });
    }
    let own = TensorFile::from_bytes(source.path(), source.bytes().to_vec());
    if own.is_ok_and(|file| ChainModel::is(&file) || file.has("lstm.0.kernel")) {
        let expected = "expected a network of another system, got a model, which needs no import";
        return Err(source.problem(expected));
    }
    if keras::is(source) {
        return Ok(Some(Format::Keras));
    }
    if torch::is(source) {
        return Ok(Some(Format::Torch));
    }
    Ok(tensorflow(source).or_else(|| onnx(source)))
}

#[cfg(feature = "tensorflow")]
fn tensorflow(source: &Source) -> Option<Format> {
    if !json::is_object(source) && tflite::is(source) {
        return Some(Format::Tflite);
    }
    tf1::is(source).then_some(Format::Tf1)
}

#[cfg(not(feature = "tensorflow"))]
fn tensorflow(_: &Source) -> Option<Format> {
    None
}

#[cfg(feature = "onnx")]
fn onnx(source: &Source) -> Option<Format> {
    onnx::is(source).then_some(Format::Onnx)
}

#[cfg(not(feature = "onnx"))]
fn onnx(_: &Source) -> Option<Format> {
    None
}
