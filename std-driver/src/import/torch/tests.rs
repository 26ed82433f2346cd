//! PyTorch's files, intact and damaged, and malicious ones.

use super::{is, read};
use crate::Error;
use crate::import::naive::{Sequence, direction, run};
use crate::import::{Found, Kind, Layer, Options, Source};
use crate::tensors::TensorFile;
use std::fs;
use std::path::{Path, PathBuf};

/// The fixtures, which stay in the repository: from the package, there is nothing to read.
fn fixtures() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/import");
    folder.is_dir().then_some(folder)
}

fn bytes(name: &str) -> Option<Vec<u8>> {
    Some(fs::read(fixtures()?.join(name)).unwrap())
}

fn parse(name: &str, bytes: Vec<u8>) -> Result<Found, Error> {
    let source = Source::from_bytes(Path::new(name), bytes);
    assert!(is(&source), "{name}");
    read(&source, &Options::default())
}

fn sequence(file: &TensorFile, key: &str) -> Sequence {
    let (shape, values) = file.f32(key).unwrap();
    let shape = shape.try_into().unwrap();
    Sequence::new(shape, values.into_iter().map(f64::from))
}

/// The largest differences from what PyTorch computed: of the LSTM layers' outputs, of their final
/// states and of the whole model.
fn differences(found: &Found, reference: &TensorFile) -> [f64; 3] {
    let lstms = || {
        found
            .layers
            .iter()
            .filter(|l| matches!(l.kind, Kind::Lstm(_)))
    };
    let alone: Vec<Layer> = lstms().cloned().collect();
    let x = sequence(reference, "x");
    let y = run(&alone, &x).distance(&reference.f32("y").unwrap().1);
    let mut states = 0.0f64;
    for (k, layer) in lstms().enumerate() {
        let Kind::Lstm(lstm) = &layer.kind else {
            continue;
        };
        let below = run(&alone[..k], &x);
        for d in 0..lstm.direction.count() {
            let way = match (lstm.direction.count(), d) {
                (1, _) => "",
                (_, 0) => ".forward",
                _ => ".backward",
            };
            let (_, rows) = direction(lstm, d, &below);
            for (part, suffix) in [".c", ".h"].into_iter().enumerate() {
                let got: Vec<f64> = rows.iter().flat_map(|row| row[part].clone()).collect();
                let key = format!("state.{k}{way}");
                let expected = match reference.has(&key) {
                    true => {
                        let (_, both) = reference.f32(&key).unwrap();
                        both[part * both.len() / 2..(part + 1) * both.len() / 2].to_vec()
                    }
                    false => reference.f32(&format!("{key}{suffix}")).unwrap().1,
                };
                let sequence = Sequence::new([1, 1, got.len()], got);
                states = states.max(sequence.distance(&expected));
            }
        }
    }
    let x = match reference.has("ids") {
        true => {
            let (shape, ids) = reference.i32_values("ids").unwrap();
            Sequence::new([shape[0], shape[1], 1], ids.iter().map(f64::from))
        }
        false => sequence(reference, "model.x"),
    };
    let whole = run(&found.layers, &x).distance(&reference.f32("model.y").unwrap().1);
    [y, states, whole]
}

const FILES: [&str; 18] = [
    "torch_stack.pt",
    "torch_no_bias.pt",
    "torch_both.pt",
    "torch_projection.pt",
    "torch_projection_both.pt",
    "torch_cells.pt",
    "torch_legacy.pt",
    "torch_words.pt",
    "torch_views.pt",
    "torch_double.pt",
    "torch_float16.pt",
    "torch_bfloat16.pt",
    "torch_float16.safetensors",
    "torch_bfloat16.safetensors",
    "torch_stack.safetensors",
    "torch_state.json",
    "torch_script.pt",
    "torch_trace.pt",
];
const WHOLE: [&str; 3] = [
    "torch_sequence.pt",
    "torch_module.pt",
    "torch_lightning.ckpt",
];

#[test]
fn every_file_computes_what_pytorch_does() {
    let Some(folder) = fixtures() else {
        return;
    };
    for name in FILES.into_iter().chain(WHOLE) {
        let found = parse(name, bytes(name).unwrap()).unwrap();
        let path = folder.join(format!("{name}.ref.safetensors"));
        let reference = TensorFile::open(&path).unwrap();
        let most = differences(&found, &reference);
        assert!(most.iter().all(|&most| most < 3e-6), "{name}: {most:?}");
    }
}

/// What is left out and what is assumed is said.
#[test]
fn notes() {
    if fixtures().is_none() {
        return;
    }
    let notes = |name: &str| {
        let found = parse(name, bytes(name).unwrap()).unwrap();
        found.notes.join("\n")
    };
    for (name, note) in [
        (
            "torch_lightning.ckpt",
            "Other models or states, left out: callbacks, optimizer_states.",
        ),
        (
            "torch_lightning.ckpt",
            "module. before all names, as DataParallel has it, was taken off.",
        ),
        ("torch_no_bias.pt", "lstm has no biases: they are 0."),
        (
            "torch_double.pt",
            "6 tensors were converted from float64 to float32.",
        ),
        (
            "torch_float16.safetensors",
            "6 tensors were converted from float16 to float32.",
        ),
        (
            "torch_bfloat16.pt",
            "6 tensors were converted from bfloat16 to float32.",
        ),
        (
            "torch_stack.safetensors",
            "by their widths, the layers run in the order lstm, head.",
        ),
        (
            "torch_stack.pt",
            "run in the order in which the file has them: lstm, head.",
        ),
        (
            "torch_words.pt",
            "norm: a norm by the statistics of the training, with 1e-5 added",
        ),
        (
            "torch_sequence_state.pt",
            "The file has modules without weights, of which it does not say where they run: head.1, head.2, head.4. They are left out: add them by --then, or import a part.",
        ),
        (
            "torch_stack.pt",
            "no activations, no skips and no choice of time steps are assumed.",
        ),
    ] {
        let all = notes(name);
        assert!(all.contains(note), "{name}: {all}");
    }
}

/// What is not run has its place and its sizes.
#[test]
fn other_layers() {
    let Some(bytes) = bytes("torch_mixed.pt") else {
        return;
    };
    let found = parse("torch_mixed.pt", bytes).unwrap();
    let names: Vec<String> = found
        .layers
        .iter()
        .map(|layer| match &layer.kind {
            Kind::Other(what) => format!("{}: {what}", layer.name),
            _ => layer.name.clone(),
        })
        .collect();
    let expected = [
        "h0: parameters [1, 1, 3]",
        "conv: Conv1d 2->3, kernel 3",
        "gru: GRU 3->4, 2 layers, both directions",
        "norm: LayerNorm 8",
        "lstm.l0",
        "rnn: RNN 5->3",
        "head",
    ];
    assert_eq!(names, expected);
}

/// A number from a small generator, for damage that is the same each time.
pub(super) fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 16) as usize
}

/// Reads what may be anything; an error has to be one line.
pub(super) fn attempt(bytes: Vec<u8>) -> Option<Found> {
    let source = Source::from_bytes(Path::new("damaged"), bytes);
    if !is(&source) {
        return None;
    }
    match read(&source, &Options::default()) {
        Ok(found) => Some(found),
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains('\n') && text.len() < 2000, "{text}");
            None
        }
    }
}

#[test]
fn damaged_files() {
    if fixtures().is_none() {
        return;
    }
    let mut state = 0x2545_f491_4f6c_dd1d;
    for name in FILES.into_iter().chain(WHOLE) {
        let whole = bytes(name).unwrap();
        for k in 0..20 {
            attempt(whole[..whole.len() * k / 20].to_vec());
        }
        for _ in 0..400 {
            let mut damaged = whole.clone();
            for _ in 0..1 + random(&mut state) % 4 {
                let at = random(&mut state) % damaged.len();
                damaged[at] = match random(&mut state) % 3 {
                    0 => 0xff,
                    1 => damaged[at] ^ 1 << (random(&mut state) % 8),
                    _ => random(&mut state) as u8,
                };
            }
            attempt(damaged);
        }
    }
}
