//! The files of `tests/data/import`: read, compared with what made them, and damaged.

use super::naive::{Sequence, run};
use super::{Found, Kind, Layer, Source};
use crate::Error;
use crate::tensors::TensorFile;
use std::path::PathBuf;

/// The file, which a published package is without.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/import");
    let folder = PathBuf::from(folder);
    folder.is_dir().then(|| folder.join(name))
}

/// The tensor of a reference, a row for each step and row of the batch.
pub(crate) fn sequence(file: &TensorFile, key: &str) -> Sequence {
    let (shape, values) = match file.has("ids") && key == "model.x" {
        true => {
            let (shape, ids) = file.i32_values("ids").unwrap();
            (
                [shape[0], shape[1], 1],
                ids.iter().map(|id| id as f32).collect(),
            )
        }
        false => {
            let (shape, values) = file.f32(key).unwrap();
            (shape.try_into().unwrap(), values)
        }
    };
    Sequence::new(shape, values.into_iter().map(f64::from))
}

fn distance(got: &Sequence, expected: &Sequence) -> f64 {
    assert_eq!(got.steps, expected.steps);
    assert_eq!((got.batch, got.width), (expected.batch, expected.width));
    let expected: Vec<f32> = expected.values.iter().map(|&v| v as f32).collect();
    got.distance(&expected)
}

/// The largest difference of the LSTM layers and what stands between them.
pub(crate) fn stack_distance(found: &Found, reference: &TensorFile) -> f64 {
    let is = |layer: &Layer| matches!(layer.kind, Kind::Lstm(_) | Kind::Reverse);
    let first = found.layers.iter().position(is).unwrap();
    let last = found.layers.iter().rposition(is).unwrap();
    let got = run(&found.layers[first..=last], &sequence(reference, "x"));
    distance(&got, &sequence(reference, "y"))
}

/// That of the whole model.
pub(crate) fn model_distance(found: &Found, reference: &TensorFile) -> f64 {
    let got = run(&found.layers, &sequence(reference, "model.x"));
    distance(&got, &sequence(reference, "model.y"))
}

/// Reads the bytes of a file cut at every twentieth, and with bytes changed at random: every
/// result is a model or an error of one line.
pub(crate) fn damage(name: &str, flips: usize, read: impl Fn(&Source) -> Result<Found, Error>) {
    let Some(path) = path(name) else { return };
    let whole = std::fs::read(&path).unwrap();
    let attempt = |bytes: Vec<u8>| {
        if let Err(e) = read(&Source::from_bytes(&path, bytes)) {
            let text = e.to_string();
            assert!(!text.contains('\n') && text.contains("/import/"), "{text}");
            assert!(text.len() < 2_000, "{text}");
        }
    };
    for part in 0..20 {
        attempt(whole[..whole.len() * part / 20].to_vec());
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for _ in 0..flips {
        let mut bytes = whole.clone();
        for _ in 0..=next(4) {
            let at = next(bytes.len());
            bytes[at] = [0, 1, 0x7f, 0x80, 0xff, next(256) as u8][next(6)];
        }
        attempt(bytes);
    }
}
