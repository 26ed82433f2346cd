//! Real files, whole and damaged, and settings that contradict them.

use super::build::{Builder, Place};
use super::config;
use super::store::{Store, Tensor};
use crate::Error;
use crate::import::Layer;
use crate::import::fixtures::{damage, model_distance, path, stack_distance};
use crate::import::{Found, Kind, Lstm, Options, Source, keras, tfjs};
use crate::tensors::TensorFile;
use fused_lstm::{Activation, LayerShape, Returns};
use std::io::{Cursor, Write};
use std::path::Path;

fn read(name: &str) -> Option<Found> {
    let source = Source::open(&path(name)?).unwrap();
    assert!(keras::is(&source));
    Some(keras::read(&source, &Options::default()).unwrap())
}

fn reference(stem: &str) -> TensorFile {
    TensorFile::open(&path(&format!("{stem}.ref.safetensors")).unwrap()).unwrap()
}

#[test]
fn models_with_a_configuration_give_what_keras_gives() {
    for name in [
        "keras3_stack.keras",
        "keras3_bidirectional.keras",
        "keras3_backwards.keras",
        "keras3_mean.keras",
        "keras3_hard.h5",
        "keras3_ends.h5",
        "keras2_stack.keras",
        "keras2_bidirectional.keras",
        "keras2_backwards.keras",
        "keras2_mean.keras",
        "keras2_hard.h5",
        "keras2_bidirectional.h5",
        "keras2_backwards.h5",
    ] {
        let Some(found) = read(name) else { return };
        let reference = reference(name.split('.').next().unwrap());
        let whole = model_distance(&found, &reference);
        assert!(whole < 2e-6, "{name}: {whole:e}");
        if !name.contains("mean") {
            let stack = stack_distance(&found, &reference);
            assert!(stack < 2e-6, "{name}: {stack:e}");
        }
    }
}

/// What weights alone do not say is put into what was read of them.
#[test]
fn weights_alone_give_the_same_layers() {
    for (name, stem, slope, ends) in [
        ("keras3_hard.weights.h5", "keras3_hard", 1.0 / 6.0, 1),
        ("keras2_hard.weights.h5", "keras2_hard", 0.2, 1),
        ("keras3_ends.weights.h5", "keras3_ends", 0.0, 1),
        ("keras2_ends.weights.h5", "keras2_ends", 0.0, 1),
        (
            "keras2_bidirectional_weights.h5",
            "keras2_bidirectional",
            0.0,
            0,
        ),
    ] {
        let Some(mut found) = read(name) else { return };
        assert!(found.notes.iter().any(|note| note.contains("assumed")));
        let layers = found.layers.iter_mut().rev();
        let lstms = layers.filter_map(|layer| match &mut layer.kind {
            Kind::Lstm(lstm) => Some(lstm),
            _ => None,
        });
        for (k, lstm) in lstms.enumerate() {
            if k < ends {
                lstm.returns = Returns::Last;
            }
            if slope != 0.0 {
                lstm.cell.gates = Activation::HardSigmoid { slope };
            }
        }
        let distance = stack_distance(&found, &reference(stem));
        assert!(distance < 2e-6, "{name}: {distance:e}");
    }
}

#[test]
fn damaged_files_give_an_error_of_one_line() {
    let read = |source: &Source| keras::read(source, &Options::default());
    for (name, flips) in [
        ("keras3_ends.h5", 2_000),
        ("keras2_bidirectional_weights.h5", 2_000),
        ("keras3_hard.weights.h5", 1_000),
        ("keras3_mean.keras", 1_000),
        ("keras2_stack.keras", 1_000),
    ] {
        damage(name, flips, read);
    }
}

/// The error of a file whose texts were replaced by others as long.
fn replaced(name: &str, from: &str, to: &str) -> Option<Result<Found, String>> {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(path(name)?).unwrap();
    let mut count = 0;
    for at in 0..bytes.len() {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            count += 1;
        }
    }
    assert!(count > 0, "{from} is not in {name}");
    let source = Source::from_bytes(Path::new("a.h5"), bytes);
    Some(keras::read(&source, &Options::default()).map_err(|e| e.to_string()))
}

#[test]
fn settings_that_contradict_the_weights_are_refused() {
    for (name, from, to, expected) in [
        (
            "keras2_hard.h5",
            "\"units\": 4",
            "\"units\": 5",
            "a.h5: layer lstm: lstm/lstm/lstm_cell/kernel:0: expected shape [3, 20], got [3, 16]",
        ),
        (
            "keras2_bidirectional.h5",
            "\"output_dim\": 3",
            "\"output_dim\": 2",
            "a.h5: layer table: table/table/embeddings:0: expected shape [7, 2], got [7, 3]",
        ),
        (
            "keras2_bidirectional.h5",
            "\"units\": 3",
            "\"units\": 2",
            "a.h5: layer head: head/head/kernel:0: expected shape [8, 2], got [8, 3]",
        ),
        (
            "keras2_hard.h5",
            "\"units\": 4",
            "\"units\":-4",
            "a.h5: layer lstm: units: expected a number of at least 1, got -4",
        ),
        (
            "keras2_hard.h5",
            "\"use_bias\": true",
            "\"use_bias\":false",
            "a.h5: layer lstm: expected the weights kernel, recurrent_kernel, got lstm/lstm_cell/bias:0 too",
        ),
        (
            "keras2_backwards.h5",
            "\"turned\", 0, 0",
            "\"tirned\", 0, 0",
            "a.h5: model backwards: last reads tirned, which is no layer",
        ),
    ] {
        let Some(result) = replaced(name, from, to) else {
            return;
        };
        let got = result
            .map(|found| format!("{:?}", found.layers))
            .unwrap_err();
        assert_eq!(got, expected);
    }
}

#[test]
fn layers_that_are_not_run_keep_their_place() {
    let cases = [
        (
            "keras2_hard.h5",
            "\"hard_sigmoid\"",
            "\"softsign_ab\"",
            "LSTM with activation softsign_ab",
        ),
        (
            "keras2_bidirectional.h5",
            "\"concat\"",
            "\"sum\"   ",
            "Bidirectional LSTM merged by sum",
        ),
        (
            "keras2_bidirectional.h5",
            "\"softmax\"",
            "\"swishes\"",
            "activation swishes",
        ),
    ];
    for (name, from, to, expected) in cases {
        let to = format!("{to:width$}", width = from.len());
        let Some(result) = replaced(name, from, &to) else {
            return;
        };
        let found = result.unwrap();
        let other = found.layers.iter().find_map(|layer| match &layer.kind {
            Kind::Other(what) => Some(what.clone()),
            _ => None,
        });
        let other = other.unwrap();
        assert!(other.starts_with(expected), "{other}");
    }
}

#[test]
fn activations_of_layers_have_names_of_their_own() {
    let name = "keras2_bidirectional.h5";
    // One that is not run is not chosen by the layer's name.
    for (to, expected) in [
        ("softmax", "head.activation"),
        ("swishes", "head:activation"),
    ] {
        let Some(result) = replaced(name, "\"softmax\"", &format!("\"{to}\"")) else {
            return;
        };
        let mut found = result.unwrap();
        let mut names = found.layers.iter().map(|layer| layer.name.as_str());
        assert_eq!(names.next_back(), Some(expected));
        let lstm = found.layers.iter().rev();
        let lstm = lstm.filter(|layer| matches!(layer.kind, Kind::Lstm(_)));
        let lstm: Vec<&str> = lstm.map(|layer| layer.name.as_str()).collect();
        let options = Options {
            part: Some(format!("{},head", lstm[0])),
            ..Options::default()
        };
        let model = crate::import::assemble(Path::new("a"), &mut found, &options).unwrap();
        let last = model.stages.last().unwrap();
        assert_eq!(last.name == expected, to == "softmax");
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    let Some(path) = path("keras2_ends.weights.h5") else {
        return;
    };
    let bytes = std::fs::read(&path).unwrap();
    let source = Source::open(&path).unwrap();
    let found = keras::read(&source, &Options::default()).unwrap();
    let Kind::Lstm(lstm) = &found.layers[0].kind else {
        panic!("expected an LSTM layer");
    };
    let first = lstm.params[0][0].to_le_bytes();
    let at = bytes.windows(4).position(|four| four == first).unwrap();
    let mut bytes = bytes;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let source = Source::from_bytes(Path::new("a.h5"), bytes);
    let e = keras::read(&source, &Options::default()).unwrap_err();
    let expected = "a.h5: layers/bidirectional/forward_layer/cell/vars/0: expected finite numbers, got NaN at 0";
    assert_eq!(e.to_string(), expected);
}

/// An archive of Keras with weights that decompress to so many zeros.
fn archive(zeros: usize) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    let config = r#"{"class_name":"Sequential","config":{"layers":[]}}"#;
    let files = [
        ("config.json", config.as_bytes()),
        ("metadata.json", br#"{"keras_version":"3.0.0"}"#),
        ("model.weights.h5", &vec![0; zeros]),
    ];
    for (name, bytes) in files {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn archives_that_decompress_to_too_much_are_refused() {
    let read = |zeros| {
        let source = Source::from_bytes(Path::new("a.keras"), archive(zeros));
        assert!(keras::is(&source));
        keras::read(&source, &Options::default())
            .unwrap_err()
            .to_string()
    };
    let e = read(1 << 20);
    assert!(e.starts_with("a.keras: expected an HDF5 file, got"), "{e}");
    let e = read(1 << 25);
    assert!(
        e.ends_with("bytes in all when decompressed, got more"),
        "{e}"
    );
}

#[test]
fn other_files_are_not_taken_for_models() {
    for bytes in [
        &b""[..],
        b"{\"a\": 1}",
        b"PK\x03\x04",
        b"\x80\x02",
        &[0; 4096],
    ] {
        let source = Source::from_bytes(Path::new("a.h5"), bytes.to_vec());
        assert!(!keras::is(&source) && !tfjs::is(&source));
    }
}

/// The layers of a Functional model without weights, as their names and kinds.
fn functional(layers: &str, outputs: &str) -> Result<Vec<String>, String> {
    let json = format!(
        r#"{{"class_name": "Functional", "config": {{"name": "m", "layers": [{layers}], "output_layers": {outputs}}}}}"#
    );
    let store = Empty;
    let model = serde_json::from_str(&json).unwrap();
    let nodes = config::layers(&store, &model, None).map_err(|e| e.to_string())?;
    let mut builder = Builder::new(&store, None);
    let place = Place::Group(String::new());
    builder.model(&nodes, &place).map_err(|e| e.to_string())?;
    let text = |layer: Layer| match layer.kind {
        Kind::Other(what) => format!("{}: {what}", layer.name),
        kind => format!("{}: {kind:?}", layer.name),
    };
    Ok(builder.layers.into_iter().map(text).collect())
}

struct Empty;

impl Store for Empty {
    fn tensors(&self) -> &[Tensor] {
        &[]
    }

    fn values(&self, _: usize) -> Result<Vec<f32>, Error> {
        Ok(Vec::new())
    }

    fn problem(&self, text: String) -> Error {
        Error::file(Path::new("a"), text)
    }
}

/// A layer that is a function of others.
fn function(name: &str, inputs: &str) -> String {
    format!(
        r#"{{"class_name": "Activation", "name": "{name}", "config": {{"activation": "tanh"}}, "inbound_nodes": {inputs}}}"#
    )
}

#[test]
fn graphs_become_a_sequence_where_they_are_one() {
    let input = r#"{"class_name": "InputLayer", "name": "x", "config": {}, "inbound_nodes": []}"#;
    let of = |name: &str, input: &str| function(name, &format!(r#"[[["{input}", 0, 0, {{}}]]]"#));
    // Out of order, and with keras_history as Keras 3 has it.
    let three = r#"[{"args": [{"config": {"keras_history": ["a", 0, 0]}}], "kwargs": {}}]"#;
    let layers = [&function("b", three), &of("a", "x"), input].join(",");
    let nothing = "x: Nothing(\"InputLayer\")";
    let (a, b) = ("a: Activation(Tanh)", "b: Activation(Tanh)");
    let got = functional(&layers, r#"[["b", 0, 0]]"#).unwrap();
    assert_eq!(got, [nothing, a, b]);
    // What the output does not need is left out.
    assert_eq!(functional(&layers, r#"["a", 0, 0]"#).unwrap(), [nothing, a]);
    let branch = [input, &of("a", "x"), &of("b", "x")].join(",");
    let got = functional(&branch, "[]").unwrap();
    assert_eq!(got, [nothing, a, "b: reads x", b]);
    let e = functional(&branch, r#"[["a", 0, 0], ["b", 0, 0]]"#).unwrap_err();
    assert_eq!(
        e,
        "a: model m: expected one output, got a, b: choose one by --part"
    );
    let merge = r#"{"class_name": "Add", "name": "c", "config": {}, "inbound_nodes": [[["a", 0, 0], ["x", 0, 0]]]}"#;
    let merge = [input, &of("a", "x"), merge].join(",");
    assert_eq!(
        functional(&merge, "[]").unwrap(),
        [nothing, a, "c: Add of a and x"]
    );
    let state = [input, &of("a", "x"), &function("b", r#"[[["a", 0, 1]]]"#)].join(",");
    let got = functional(&state, "[]").unwrap();
    assert_eq!(got, [nothing, "a: a layer whose state is read too", a, b]);
    let circle = [&of("a", "b")[..], &of("b", "a")].join(",");
    let e = functional(&circle, "[]").unwrap_err();
    assert_eq!(e, "a: model m: expected layers in an order, got a circle");
    let twice = [input, &function("a", r#"[[["x", 0, 0]], [["a", 0, 0]]]"#)].join(",");
    let e = functional(&twice, "[]").unwrap_err();
    assert_eq!(
        e,
        "a: model m: expected layers in an order, got a is called 2 times"
    );
    let e = functional(&[input, input].join(","), "[]").unwrap_err();
    assert_eq!(e, "a: model m: expected each name once, got x again");
}

#[test]
fn layers_of_others_and_other_axes_are_not_run() {
    let input = r#"{"class_name": "InputLayer", "name": "x", "config": {}, "inbound_nodes": []}"#;
    let own = r#"{"class_name": "Dense", "registered_name": "My>Dense", "name": "a", "config": {"units": 3}, "inbound_nodes": [[["x", 0, 0, {}]]]}"#;
    let got = functional(&[input, own].join(","), "[]").unwrap();
    assert_eq!(got, ["x: Nothing(\"InputLayer\")", "a: My>Dense of 3"]);
    // The mean over the columns is none over the steps, and no layer stands for the other.
    for (format, expected) in [("channels_first", 2), ("channels_last", 1)] {
        let store = Empty;
        let mut builder = Builder::new(&store, None);
        let lstm = Lstm::new(LayerShape::new(1, 1), vec![0.0; 12]);
        builder.push("lstm", Kind::Lstm(Box::new(lstm)));
        let model = serde_json::json!({"class_name": "Sequential", "config": {"layers": [{
            "class_name": "GlobalAveragePooling1D",
            "config": {"name": "mean", "data_format": format},
        }]}});
        let nodes = config::layers(&store, &model, None).unwrap();
        let place = Place::Group(String::new());
        builder.model(&nodes, &place).unwrap();
        assert_eq!(builder.layers.len(), expected);
        let Kind::Lstm(lstm) = &builder.layers[0].kind else {
            panic!("expected an LSTM layer");
        };
        let mean = lstm.returns == Returns::Mean;
        assert_eq!(mean, format == "channels_last");
    }
}
