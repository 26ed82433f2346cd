//! `export`: what it writes are the weights, bit for bit, and what it refuses.

mod common;

use common::Folder;
use common::random::Random;
use fused_lstm::loss::softmax;
use fused_lstm::{Extent, Flat};
use fused_lstm_driver::tensors;
use fused_lstm_driver::weights::Weights;

fn model(folder: &Folder, spoil: Option<f32>) -> Weights {
    let mut params = Random(3).vec(388, 1.0);
    params[7] = spoil.unwrap_or(1e-40); // A subnormal must survive too.
    let weights = Weights {
        inputs: 6,
        hidden: vec![4, 5],
        classes: Some(2),
        params,
    };
    tensors::write(&folder.path("m.safetensors"), &weights.tensors(""), None).unwrap();
    weights
}

#[test]
fn gives_back_every_bit() {
    let folder = Folder::new();
    let weights = model(&folder, None);
    folder.ok("export --model m.safetensors --format bin --output m.bin");
    let bytes: Vec<u8> = weights
        .params
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    assert_eq!(std::fs::read(folder.path("m.bin")).unwrap(), bytes);

    folder.ok("export --model m.safetensors --format c --output m.h");
    let text = folder.text("m.h");
    assert!(
        text.contains("#define FUSED_LSTM_HIDDEN {4, 5}\n"),
        "{text}"
    );
    let values = text.split_once("= {\n").unwrap().1;
    let read = values.split(',').map(|v| v.trim().trim_end_matches('f'));
    let read: Vec<u32> = read
        .filter(|v| *v != "};")
        .map(|v| v.parse::<f32>().expect(v).to_bits())
        .collect();
    let bits: Vec<u32> = weights.params.iter().map(|v| v.to_bits()).collect();
    assert_eq!(read, bits);
}

/// What `--format rust` wrote, built in.
#[rustfmt::skip]
#[path = "data/exported.rs"]
mod exported;

#[test]
fn built_in_it_gives_the_same_outputs() {
    let folder = Folder::new();
    let weights = model(&folder, None);
    folder.ok("export --model m.safetensors --format rust --output m.rs");
    assert_eq!(folder.text("m.rs"), include_str!("data/exported.rs"));

    let net = &exported::NET;
    assert_eq!(net.as_flat().as_ptr().align_offset(64), 0);
    let x = [[[0.5, -1.0, 0.25, 2.0, -0.75, 1.5]]; 3];
    let (mut y, mut p) = (Flat::zero(), Flat::zero());
    net.infer::<3, 1>(&x, &mut Flat::zero(), &mut y, &mut p, &mut Flat::zero());

    let (shape, extent) = (weights.shape(), Extent { steps: 3, batch: 1 });
    let model = weights.model().unwrap();
    let mut state = vec![0.0; shape.state_len(1)];
    let mut same = vec![0.0; 3 * 5];
    let mut scratch = vec![0.0; shape.scratch_len(extent)];
    let done = model.infer(extent, x.as_flat(), &mut state, &mut same, &mut scratch);
    done.unwrap();
    assert_eq!(y.as_flat(), same);
    let mut logits = vec![0.0; 3 * 2];
    model.logits(extent, &same, &mut logits).unwrap();
    softmax(2, &mut logits).unwrap();
    assert_eq!(p.as_flat(), logits);
}

#[test]
fn refuses() {
    let folder = Folder::new();
    model(&folder, None);
    let bin = "export --model m.safetensors --format bin --output m.bin";
    folder.ok(bin);
    folder.fails(bin, 2, &["--output", "m.bin", "--force"]);
    folder.ok(&format!("{bin} --force"));
    let unknown = "export --model m.safetensors --format elf --output m.elf";
    folder.fails(unknown, 2, &["--format", "elf"]);
    model(&folder, Some(f32::NAN));
    let bad = "export --model m.safetensors --format c --output m.h";
    folder.fails(bad, 1, &["m.safetensors", "lstm.0.kernel", "NaN"]);
    assert!(!folder.path("m.h").exists());
}
