//! Keras's HDF5 files, and the archives that have one in them.

use super::archive::{self, Archive};
use super::build::{Builder, Place};
use super::h5::{H5, Tensors};
use super::{TRAINED, bare, config, is_hdf5, json};
use crate::import::{Format, Found, Options, Source};
use crate::{Error, memory};
use hdf5_reader::group::Group;
use serde_json::Value;

/// All layers of the file.
pub(super) fn read(source: &Source, options: &Options) -> Result<Found, Error> {
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
