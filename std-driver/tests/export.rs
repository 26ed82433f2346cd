//! `export`: what it writes are the weights, bit for bit, and what it refuses.

mod common;

use common::Folder;
use common::random::Random;
use fused_lstm::loss::softmax;
use fused_lstm::{Buffers, Extent, Flat};
use fused_lstm_driver::tensors;
use fused_lstm_driver::weights::{Start, Weights};

fn model(folder: &Folder, spoil: Option<f32>) -> Weights {
    let mut params = Random(3).vec(388, 1.0);
    params[7] = spoil.unwrap_or(1e-40); // A subnormal must survive too.
    let weights = Weights {
        inputs: 6,
        hidden: vec![4, 5],
        classes: Some(2),
        params,
        start: None,
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
    assert!(text.contains("#define M_HIDDEN {4, 5}\n"), "{text}");
    assert_eq!(bits(&c_array(&text, "m_params")), bits(&weights.params));
}

/// The numbers of an array in a C header.
fn c_array(text: &str, name: &str) -> Vec<f32> {
    let (_, array) = text.split_once(&format!("{name}[")).expect(name);
    let (_, array) = array.split_once("= {\n").expect(name);
    let (values, _) = array.split_once("};").expect(name);
    let values = values.split(',').map(|v| v.trim().trim_end_matches('f'));
    let values = values.filter(|v| !v.is_empty());
    values.map(|v| v.parse().expect(v)).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// A state to start from goes along, in every format.
#[test]
fn exports_the_state() {
    let folder = Folder::new();
    let mut weights = model(&folder, None);
    let state: Vec<f32> = (0..18).map(|k| k as f32 / 16.0 - 0.5).collect();
    weights.start = Some(Start {
        batch: 1,
        state: state.clone(),
    });
    tensors::write(&folder.path("m.safetensors"), &weights.tensors(""), None).unwrap();
    folder.ok("export --model m.safetensors --format bin --output m.bin");
    let all = weights.params.iter().chain(&state);
    let bytes: Vec<u8> = all.flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(std::fs::read(folder.path("m.bin")).unwrap(), bytes);

    folder.ok("export --model m.safetensors --format c --output m.h --name amp");
    let text = folder.text("m.h");
    assert!(text.contains("#define AMP_BATCH 1\n"), "{text}");
    assert!(text.contains("#define AMP_STATE 18\n"), "{text}");
    assert_eq!(bits(&c_array(&text, "amp_state")), bits(&state));
    assert_eq!(bits(&c_array(&text, "amp_params")), bits(&weights.params));

    folder.ok("export --model m.safetensors --format rust --output m.rs");
    assert_eq!(folder.text("m.rs"), include_str!("data/exported_state.rs"));
    assert_eq!(exported_state::STATE.as_flat(), state);
    assert_eq!(exported_state::NET.as_flat(), weights.params);
}

/// Two networks in one C program, if there is a compiler.
#[test]
fn two_headers_fit_into_one_program() {
    let folder = Folder::new();
    model(&folder, None);
    folder.ok("export --model m.safetensors --format c --output vad.h");
    folder.ok("export --model m.safetensors --format c --output 2-words.h");
    let program = "#include \"vad.h\"\n#include \"2-words.h\"\n#include \"vad.h\"\n\
        int main(void) { return vad_params[0] != model_2_words_params[MODEL_2_WORDS_INPUTS - 6]; }";
    std::fs::write(folder.path("both.c"), program).unwrap();
    let flags = [
        "-std=c11", "-Wall", "-Wextra", "-Werror", "both.c", "-o", "both",
    ];
    let compiled = std::process::Command::new("cc")
        .args(flags)
        .current_dir(folder.path(""))
        .status();
    match compiled {
        Ok(status) => assert!(status.success()),
        Err(e) => return eprintln!("skipped: cc: {e}"),
    }
    let status = std::process::Command::new(folder.path("both")).status();
    assert!(status.unwrap().success());
}

/// What `--format rust` wrote, built in.
#[rustfmt::skip]
#[path = "data/exported.rs"]
mod exported;

/// The same of a network with a state.
#[rustfmt::skip]
#[path = "data/exported_state.rs"]
mod exported_state;

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
    let mut state = <exported::Layers as Buffers>::State::<1>::ZERO;
    net.infer::<3, 1>(&x, &mut state, &mut y, &mut p, &mut Flat::zero());

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
    folder.fails(
        "export --model m.safetensors --format c --output n.h --name 2nd",
        2,
        &["--name", "no digit first", "2nd"],
    );
    folder.fails(&format!("{bin} --name n"), 2, &["--name", "--format c"]);
    let mut empty = model(&folder, None);
    empty.start = Some(Start {
        batch: 0,
        state: Vec::new(),
    });
    tensors::write(&folder.path("e"), &empty.tensors(""), None).unwrap();
    let none = "export --model e --format c --output e.h";
    folder.fails(none, 1, &["e: key state.0", "expected shape [2, B, H]"]);
    let unknown = "export --model m.safetensors --format elf --output m.elf";
    folder.fails(unknown, 2, &["--format", "elf"]);
    model(&folder, Some(f32::NAN));
    let bad = "export --model m.safetensors --format c --output m.h";
    folder.fails(bad, 1, &["m.safetensors", "lstm.0.kernel", "NaN"]);
    assert!(!folder.path("m.h").exists());
}
