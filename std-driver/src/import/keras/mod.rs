//! Keras: `.keras` archives, HDF5 files with a model's configuration, and those with weights alone.

mod archive;
mod bare;
pub(crate) mod build;
pub(crate) mod config;
mod graph;
mod h5;
mod lstm;
mod plain;
mod recurrent;
pub(crate) mod store;
#[cfg(test)]
mod tests;

use crate::import::{Format, Found, Options, Source};
use crate::{Error, memory};
use archive::Archive;
use build::{Builder, Place};
use h5::{H5, Tensors};
pub(crate) use h5::{MOST_TEXT, finite, half};
use hdf5_reader::group::Group;
use serde_json::Value;

/// A note.
const TRAINED: &str = "the training configuration and the optimizer's slots are left out";

const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";

/// Whether the file is HDF5, which no other format here is, or an archive of Keras.
pub(crate) fn is(source: &Source) -> bool {
    is_hdf5(source.bytes()) || archive::is(source.bytes())
}

/// The signature may come after a block of the user's, of 512 bytes times a power of two.
fn is_hdf5(bytes: &[u8]) -> bool {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..) {
        if rest.starts_with(HDF5) {
            return true;
        }
        if rest.len() < HDF5.len() {
            break;
        }
        at = if at == 0 { 512 } else { at.saturating_mul(2) };
    }
    false
}

/// All layers of the file.
pub(crate) fn read(source: &Source, options: &Options) -> Result<Found, Error> {
    if is_hdf5(source.bytes()) {
        let mut bytes = memory::reserve(source.bytes().len())?;
        bytes.extend_from_slice(source.bytes());
        let h5 = H5::open(source, bytes)?;
        let root = h5.root()?;
        return match h5.text(&root, "model_config")? {
            Some(config) => legacy(source, h5, &root, &config, options),
            None => bare::read(h5, &root),
        };
    }
    let mut archive = Archive::open(source)?;
    let model = json(source, archive::CONFIG, &archive.read(archive::CONFIG)?)?;
    let metadata = json(source, archive::METADATA, &archive.read(archive::METADATA)?)?;
    let version = metadata.get("keras_version").and_then(Value::as_str);
    let h5 = H5::open(source, archive.read(archive::WEIGHTS)?)?;
    let root = h5.root()?;
    let optimizer = h5.group(&root, "optimizer")?.is_some();
    let tensors = h5.tensors(&root, Some("optimizer"))?;
    let place = numbered(&tensors)?;
    let compiled = model.get("compile_config").and_then(Value::as_object);
    let trained = optimizer || compiled.is_some_and(|config| !config.is_empty());
    finish(&tensors, &model, &place, version, trained, options)
}

/// An HDF5 file with the configuration as an attribute, and a group of weights for each layer.
fn legacy(
    source: &Source,
    h5: H5,
    root: &Group,
    config: &str,
    options: &Options,
) -> Result<Found, Error> {
    let model = json(source, "attribute model_config", config.as_bytes())?;
    let version = h5.text(root, "keras_version")?;
    let trained = h5.group(root, "optimizer_weights")?.is_some()
        || h5.texts(root, "training_config")?.is_some();
    let weights = h5.group(root, "model_weights")?;
    let weights =
        weights.ok_or_else(|| source.problem("expected a group model_weights, got none"))?;
    let tensors = h5.tensors(&weights, None)?;
    let place = Place::Group(String::new());
    finish(
        &tensors,
        &model,
        &place,
        version.as_deref(),
        trained,
        options,
    )
}

fn finish(
    tensors: &Tensors,
    model: &Value,
    place: &Place,
    version: Option<&str>,
    trained: bool,
    options: &Options,
) -> Result<Found, Error> {
    let nodes = config::layers(tensors, model, options.part.as_deref())?;
    let mut builder = Builder::new(tensors, version.map(slope));
    builder.model(&nodes, place)?;
    if tensors.converted() {
        builder.note("weights that are not float32 were converted to it");
    }
    if trained {
        builder.note(TRAINED);
    }
    Ok(Found {
        format: Format::Keras,
        part: None,
        layers: builder.layers,
        notes: builder.notes,
        sample_rate: None,
    })
}

/// That of hard_sigmoid in a version of Keras.
fn slope(version: &str) -> f32 {
    match version.split('.').next() {
        Some("0" | "1" | "2") => 0.2,
        _ => 1.0 / 6.0,
    }
}

/// The groups of a file whose weights are numbered.
fn numbered(tensors: &Tensors) -> Result<Place, Error> {
    let top = ["layers", "_layer_checkpoint_dependencies"];
    let is = |name: &&&str| tensors.groups.iter().any(|(path, _)| path == **name);
    let top = top.iter().find(is).copied().unwrap_or("layers");
    let mut named = Vec::new();
    for (path, group) in &tensors.groups {
        let inner = path
            .strip_prefix(top)
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|rest| rest.strip_suffix("/vars"));
        if let Some(inner) = inner.filter(|inner| !inner.contains('/'))
            && let Some(name) = tensors.h5.text(group, "name")?
        {
            named.push((name, inner.to_owned()));
        }
    }
    Ok(Place::Numbered(top.to_owned(), named))
}

pub(crate) fn json(source: &Source, what: &str, bytes: &[u8]) -> Result<Value, Error> {
    if bytes.len() > MOST_TEXT {
        let got = bytes.len();
        return Err(source.problem(format!(
            "{what}: expected at most {MOST_TEXT} bytes, got {got}"
        )));
    }
    serde_json::from_slice(bytes)
        .map_err(|e| source.problem(format!("{what}: expected JSON, got: {e}")))
}
