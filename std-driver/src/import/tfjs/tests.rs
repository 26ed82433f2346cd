//! Real files, whole and damaged, and manifests that contradict their files.

use crate::import::fixtures::{damage, model_distance, path, stack_distance};
use crate::import::{Options, Source, tfjs};
use crate::tensors::TensorFile;

fn text(name: &str) -> Option<String> {
    Some(std::fs::read_to_string(path(name)?).unwrap())
}

fn read(name: &str, text: &str) -> Result<crate::import::Found, String> {
    let source = Source::from_bytes(&path(name).unwrap(), text.as_bytes().to_vec());
    assert!(tfjs::is(&source));
    let error = |e: crate::Error| {
        let e = e.to_string();
        e.rsplit_once(".json: ").unwrap().1.to_owned()
    };
    tfjs::read(&source, &Options::default()).map_err(error)
}

#[test]
fn models_give_what_keras_gives() {
    for (stem, note) in [
        ("tfjs_hard", None),
        (
            "tfjs_uint8",
            Some("weights that were quantised to uint8 were converted to float32"),
        ),
        (
            "tfjs_uint16",
            Some("weights that were quantised to uint16 were converted to float32"),
        ),
    ] {
        let name = format!("{stem}.json");
        let Some(text) = text(&name) else { return };
        let found = read(&name, &text).unwrap();
        let reference = path(&format!("{stem}.ref.safetensors")).unwrap();
        let reference = TensorFile::open(&reference).unwrap();
        let whole = model_distance(&found, &reference);
        let stack = stack_distance(&found, &reference);
        assert!(whole < 2e-6 && stack < 2e-6, "{name}: {whole:e}, {stack:e}");
        let noted = found.notes.iter().any(|got| Some(got.as_str()) == note);
        assert_eq!(noted, note.is_some(), "{:?}", found.notes);
    }
}

#[test]
fn manifests_that_contradict_their_files_are_refused() {
    let name = "tfjs_uint8.json";
    let Some(text) = text(name) else { return };
    for (from, to, expected) in [
        (
            "\"shape\": [3, 16]",
            "\"shape\": [3, 17]",
            "tfjs_uint8.group1-shard1of2.bin, tfjs_uint8.group1-shard2of2.bin",
        ),
        (
            "\"shape\": [3, 16]",
            "\"shape\": [3, 4294967296, 4294967296]",
            "first/lstm_cell/kernel: expected [3, 4294967296, 4294967296] of uint8 from byte 0 on",
        ),
        (
            "\"shape\": [3, 16]",
            "\"shape\": [16, 3]",
            "layer first: first/lstm_cell/kernel: expected shape [3, 16], got [16, 3]",
        ),
        (
            "tfjs_uint8.group1-shard2of2.bin",
            "../import/tfjs_uint8.group1-shard2of2.bin",
            "expected names of files in the same folder",
        ),
        (
            "\"scale\"",
            "\"scales\"",
            "first/lstm_cell/kernel: expected a scale and a min of its quantization, got none",
        ),
        (
            "\"format\": \"layers-model\"",
            "\"format\": \"graph-model\"",
            "expected a layers model, got a graph model",
        ),
        (
            "\"weightsManifest\"",
            "\"weightsManifests\"",
            "key weightsManifest: expected a list, got none",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        let e = read(name, &text.replace(from, to)).unwrap_err();
        assert!(e.contains(expected), "{e}");
    }
}

#[test]
fn damaged_files_give_an_error_of_one_line() {
    let read = |source: &Source| tfjs::read(source, &Options::default());
    for name in ["tfjs_hard.json", "tfjs_uint16.json"] {
        damage(name, 2_000, read);
    }
}

#[test]
fn a_slope_that_differs_from_that_of_keras_is_noted() {
    let name = "tfjs_hard.json";
    let Some(text) = text(name) else { return };
    let noted = |text: &str| {
        let notes = read(name, text).unwrap().notes;
        notes.iter().any(|note| note.contains("slope 0.2"))
    };
    assert!(!noted(&text));
    assert!(noted(&text.replace("\"2.2.4\"", "\"3.1.0\"")));
}
