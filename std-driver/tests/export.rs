//! `export`: what it writes are the weights, bit for bit, and what it refuses.

mod common;

use common::Folder;
use fused_lstm_driver::tensors;
use fused_lstm_driver::weights::Weights;
use fused_lstm_tests::random::Random;

fn model(folder: &Folder, spoil: Option<f32>) -> Weights {
    let mut params = Random(3).vec(376, 1.0);
    params[7] = spoil.unwrap_or(1e-40); // A subnormal must survive too.
    let weights = Weights {
        inputs: 6,
        hidden: vec![4, 5],
        classes: None,
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
