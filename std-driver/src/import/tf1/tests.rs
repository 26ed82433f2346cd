//! Fixtures that TensorFlow made, and what is broken.

use super::*;
use crate::import::naive::{Sequence, run};
use crate::import::{Kind, Layer};
use crate::tensors::TensorFile;
use fused_lstm::Direction;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of fixtures, which is not in the package.
pub(crate) fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/import");
    folder.is_dir().then_some(folder)
}

fn sequence(file: &TensorFile, key: &str) -> Option<Sequence> {
    if key == "ids" && file.has(key) {
        let (shape, values) = file.i32_values(key).unwrap();
        let values = values.iter().map(f64::from);
        return Some(Sequence::new([shape[0], shape[1], 1], values));
    }
    let (shape, values) = file.f32(key).ok()?;
    let values = values.into_iter().map(f64::from);
    Some(Sequence::new([shape[0], shape[1], shape[2]], values))
}

/// The last rows of a reference are what a layer returns that returns one.
fn close(layers: &[Layer], x: &Sequence, file: &TensorFile, key: &str, most: f64) {
    let y = run(layers, x);
    let (_, expected) = file.f32(key).unwrap();
    let from = expected.len() - y.values.len();
    let distance = y.distance(&expected[from..]);
    assert!(
        distance < most,
        "{key} of {}: {distance}",
        file.path().display()
    );
}

/// Compares the LSTM layers alone, and the whole model, with what the reference has of both.
pub(crate) fn compare(found: &Found, reference: &Path, most: f64) {
    let file = TensorFile::open(reference).unwrap();
    let is_lstm = |layer: &Layer| matches!(layer.kind, Kind::Lstm(_));
    let first = found.layers.iter().position(is_lstm).unwrap();
    let last = found.layers.iter().rposition(is_lstm).unwrap();
    let mut compared = 0;
    if let Some(x) = file.has("y").then(|| sequence(&file, "x").unwrap()) {
        close(&found.layers[first..=last], &x, &file, "y", most);
        compared += 1;
    }
    let x = ["ids", "model.x"]
        .iter()
        .find_map(|key| sequence(&file, key));
    if let Some(x) = x.filter(|_| file.has("model.y")) {
        close(&found.layers, &x, &file, "model.y", most);
        compared += 1;
    }
    assert!(compared > 0, "{}", reference.display());
}

fn fixture(name: &str, forget_bias: Option<f32>) -> Option<Result<Found, Error>> {
    let source = Source::open(&folder()?.join(name)).unwrap();
    assert!(is(&source), "{name}");
    let options = Options {
        forget_bias,
        ..Options::default()
    };
    Some(read(&source, &options))
}

#[test]
fn as_tensorflow_computes() {
    let Some(folder) = folder() else { return };
    let frozen = [
        ("tf1_basic.index", "tf1_basic", Some(1.0)),
        ("tf1_lstm.index", "tf1_lstm", Some(0.5)),
        ("tf1_both.index", "tf1_both", Some(0.0)),
        ("tf1_ml5/manifest.json", "tf1_basic", None),
        ("tf2_keras.index", "tf2_keras", None),
        ("tf2_model.index", "tf2_keras", None),
        ("tf1_basic_frozen.pb", "tf1_basic_frozen", None),
        ("tf1_lstm_frozen.pb", "tf1_lstm_frozen", None),
        ("tf1_static_frozen.pb", "tf1_static_frozen", None),
    ];
    for (name, reference, forget_bias) in frozen {
        let found = fixture(name, forget_bias).unwrap().unwrap();
        let other = |layer: &Layer| matches!(layer.kind, Kind::Other(_));
        assert!(!found.layers.iter().any(other), "{name}");
        compare(
            &found,
            &folder.join(format!("{reference}.ref.safetensors")),
            1e-6,
        );
    }
}

fn lstm(found: &Found) -> &crate::import::Lstm {
    let lstm = found.layers.iter().find_map(|layer| match &layer.kind {
        Kind::Lstm(lstm) => Some(lstm),
        _ => None,
    });
    lstm.unwrap()
}

#[test]
fn what_layers_are() {
    let Some(found) = fixture("tf1_lstm_frozen.pb", None) else {
        return;
    };
    let cell = lstm(&found.unwrap()).cell;
    assert!(cell.peepholes);
    assert_eq!(cell.projection, Some(2));
    assert_eq!((cell.cell_clip, cell.projection_clip), (0.4, 0.3));
    let found = fixture("tf1_both.index", Some(0.0)).unwrap().unwrap();
    assert_eq!(lstm(&found).direction, Direction::Both);
    let found = fixture("tf1_basic.index", Some(1.0)).unwrap().unwrap();
    let names: Vec<&str> = found.layers.iter().map(|layer| &layer.name[..]).collect();
    let expected = [
        "rnnlm/rnn/multi_rnn_cell/cell_0/basic_lstm_cell",
        "rnnlm/rnn/multi_rnn_cell/cell_1/basic_lstm_cell",
        "rnnlm/softmax_w",
    ];
    assert_eq!(names, expected);
    assert!(
        found
            .notes
            .iter()
            .any(|note| note.contains("12 slots of the optimizer"))
    );
    let found = fixture("tf1_ml5/manifest.json", None).unwrap().unwrap();
    assert!(
        found
            .notes
            .iter()
            .any(|note| note.contains("ml5's code adds 1"))
    );
    let problem = fixture("tf1_lstm.index", None)
        .unwrap()
        .unwrap_err()
        .to_string();
    assert!(problem.contains("expected --forget-bias: a checkpoint does not hold"));
}

/// Numbers that look random and are the same each time.
pub(crate) fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 16) as usize
}

/// Files that are cut, and files with a few other bytes: an answer, whatever it is.
pub(crate) fn broken(bytes: &[u8], count: usize, read: impl Fn(Vec<u8>)) {
    for part in 0..20 {
        read(bytes[..bytes.len() * part / 20].to_vec());
    }
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..count {
        let mut other = bytes.to_vec();
        for _ in 0..1 + random(&mut state) % 3 {
            let place = random(&mut state) % other.len();
            other[place] = match random(&mut state) % 4 {
                0 => 0,
                1 => 0xff,
                2 => other[place].wrapping_add(1),
                _ => random(&mut state) as u8,
            };
        }
        read(other);
    }
}

fn answers(path: &Path, bytes: Vec<u8>) {
    let source = Source::from_bytes(path, bytes);
    if is(&source) {
        let options = Options {
            forget_bias: Some(1.0),
            ..Options::default()
        };
        if let Err(problem) = read(&source, &options) {
            let text = problem.to_string();
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
}

#[test]
fn broken_graphs_and_lists() {
    let Some(folder) = folder() else { return };
    for name in [
        "tf1_basic_frozen.pb",
        "tf1_lstm_frozen.pb",
        "tf1_static_frozen.pb",
        "tf1_ml5/manifest.json",
    ] {
        let path = folder.join(name);
        let bytes = fs::read(&path).unwrap();
        broken(&bytes, 3000, |bytes| answers(&path, bytes));
    }
}

#[test]
fn broken_checkpoints() {
    let Some(folder) = folder() else { return };
    for name in ["tf1_basic", "tf1_lstm", "tf2_keras"] {
        let path = folder.join(format!("{name}.index"));
        let bytes = fs::read(&path).unwrap();
        broken(&bytes, 300, |bytes| answers(&path, bytes));
        // With checksums that fit, what is wrong comes further.
        let source = Source::open(&path).unwrap();
        let entries = table::entries(&source).unwrap();
        for (k, (_, value)) in entries.iter().enumerate() {
            broken(value, 60, |other| {
                let entries: Vec<(&[u8], &[u8])> = entries
                    .iter()
                    .enumerate()
                    .map(|(place, (key, value))| {
                        (&key[..], if place == k { &other[..] } else { value })
                    })
                    .collect();
                answers(&path, table::write(&entries));
            });
        }
        // The data, in which the graph of objects is.
        let place = tempfile::tempdir().unwrap();
        let data = format!("{name}.data-00000-of-00001");
        let copy = place.path().join(format!("{name}.index"));
        fs::write(&copy, &bytes).unwrap();
        let numbers = fs::read(folder.join(&data)).unwrap();
        broken(&numbers, 300, |other| {
            fs::write(place.path().join(&data), other).unwrap();
            answers(&copy, bytes.clone());
        });
    }
}

#[test]
fn other_files() {
    for bytes in [
        &b""[..],
        b"{}",
        b"{\"a\": 1}",
        b"[1, 2]",
        b"\x0a\x00",
        b"\x08\x07\x12\x04abcd",
        b"\x89HDF\r\n\x1a\n",
    ] {
        let source = Source::from_bytes(Path::new("file"), bytes.to_vec());
        assert!(!is(&source), "{bytes:?}");
    }
}
