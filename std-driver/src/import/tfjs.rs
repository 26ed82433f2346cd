//! TensorFlow.js: the JSON of a layers model, and the files of its weights beside it.

mod manifest;
#[cfg(test)]
mod tests;

use crate::Error;
use crate::import::keras::build::{Builder, Place};
use crate::import::keras::store::MOST_TEXT;
use crate::import::keras::{config, json};
use crate::import::{Format, Found, Kind, Layer, Options, Source};
use fused_lstm::Activation;
use manifest::Shards;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// The slope of TensorFlow.js's hard sigmoid, whichever Keras the model came from.
const SLOPE: f32 = 0.2;

/// Whether the file is the JSON of a model.
pub(crate) fn is(source: &Source) -> bool {
    #[derive(Deserialize)]
    struct Top {
        #[serde(rename = "modelTopology")]
        topology: Option<IgnoredAny>,
        #[serde(rename = "weightsManifest")]
        manifest: Option<IgnoredAny>,
    }
    let bytes = source.bytes();
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') || bytes.len() > MOST_TEXT {
        return false;
    }
    match serde_json::from_slice::<Top>(bytes) {
        Ok(top) => top.topology.is_some() || top.manifest.is_some(),
        // The beginning of a file that was cut off.
        Err(e) => {
            let start = bytes.get(..256).unwrap_or(bytes);
            let start = String::from_utf8_lossy(start);
            e.is_eof()
                && (start.contains("\"modelTopology\"") || start.contains("\"layers-model\""))
        }
    }
}

/// All layers of the model.
pub(crate) fn read(source: &Source, options: &Options) -> Result<Found, Error> {
    let model = json(source, "the model", source.bytes())?;
    if model.get("format").and_then(Value::as_str) == Some("graph-model") {
        return Err(source.problem(
            "expected a layers model, got a graph model, whose operations have no layers any more",
        ));
    }
    let topology = model
        .get("modelTopology")
        .ok_or_else(|| source.problem("key modelTopology: expected a model, got none"))?;
    // Keras's own JSON is in a key of its own; TensorFlow.js writes the model itself.
    let config = topology.get("model_config").unwrap_or(topology);
    let shards = Shards::open(source, model.get("weightsManifest"))?;
    let nodes = config::layers(&shards, config, options.part.as_deref())?;
    let mut builder = Builder::new(&shards, Some(SLOPE));
    builder.model(&nodes, &Place::Within(String::new()))?;
    for note in shards.notes() {
        builder.note(note);
    }
    let version = topology.get("keras_version").and_then(Value::as_str);
    let hard = |layer: &Layer| match &layer.kind {
        Kind::Lstm(lstm) => matches!(lstm.cell.gates, Activation::HardSigmoid { .. }),
        _ => false,
    };
    if version.is_some_and(|v| v.starts_with("3.")) && builder.layers.iter().any(hard) {
        builder.note("hard_sigmoid has the slope 0.2 of TensorFlow.js, where Keras 3 has 1/6");
    }
    let trained = ["training_config", "optimizer_weights"];
    if trained.iter().any(|key| topology.get(key).is_some())
        || model.get("trainingConfig").is_some()
    {
        builder.note("the training configuration is left out");
    }
    Ok(Found {
        format: Format::Tfjs,
        part: None,
        layers: builder.layers,
        notes: builder.notes,
        sample_rate: None,
    })
}
