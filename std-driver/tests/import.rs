//! Import, verify, run and export of other systems' networks, through the command; the fixtures are in
//! the repository and not in the package.

mod common;

use common::Folder;
use common::close::assert_close;
use fused_lstm_driver::chain::Network;
use fused_lstm_driver::import;
use fused_lstm_driver::tensors::{self, TensorFile};
use fused_lstm_driver::weights::Weights;
use std::path::{Path, PathBuf};
use std::process::Command;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/import")
}

fn fixture(name: &str) -> String {
    fixtures().join(name).display().to_string()
}

/// What a file does not say, and how far its own system is from it.
fn flags(name: &str) -> (&'static str, f32) {
    let flags = match name {
        "nam_container.nam" => "--part 1",
        "onnx_branches.onnx" => "--part then_branch",
        "keras2_ends.weights.h5" | "keras3_ends.weights.h5" => "--returns last",
        "keras2_hard.weights.h5" => "--returns last --hard-sigmoid 0.2",
        "keras3_hard.weights.h5" => "--returns last --hard-sigmoid 0.16666667",
        "tf1_basic.index" => "--forget-bias 1",
        "tf1_lstm.index" => "--forget-bias 0.5",
        "tf1_both.index" => "--forget-bias 0",
        _ => "",
    };
    let tolerance = match name {
        // They round to integers of 8 bits.
        "lite_dynamic.tflite" | "lite_int8.tflite" => 2e-2,
        _ => 3e-6,
    };
    (flags, tolerance)
}

/// Every fixture with its reference.
fn all() -> Vec<(String, String)> {
    let names = std::fs::read_dir(fixtures()).expect("the fixtures are there");
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    let references = names
        .iter()
        .filter_map(|name| name.strip_suffix(".ref.safetensors"));
    let mut all = Vec::new();
    for base in references {
        let is_model = |name: &&String| {
            let rest = name.strip_prefix(base);
            let shard = [".bin", ".py", ".ref.safetensors"]
                .iter()
                .any(|end| name.ends_with(end));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                && !shard
                && !name.contains(".data")
        };
        let reference = format!("{base}.ref.safetensors");
        let models = names.iter().filter(is_model);
        all.extend(models.map(|name| (name.clone(), reference.clone())));
    }
    all
}

#[test]
fn every_fixture_is_verified() {
    let folder = Folder::new();
    let all = all();
    assert!(all.len() > 80, "{}", all.len());
    for (name, reference) in all {
        let (flags, tolerance) = flags(&name);
        let (file, reference) = (fixture(&name), fixture(&reference));
        folder.ok(&format!("import {file} -o m.safetensors --force {flags}"));
        folder.ok(&format!(
            "verify --model m.safetensors --reference {reference} --tolerance {tolerance}"
        ));
    }
}

/// Layers, notes and costs on the screen, and as JSON.
#[test]
fn a_table_says_what_was_found() {
    let folder = Folder::new();
    let file = fixture("guitarml_skip.json");
    let printed = folder.ok(&format!("import {file}"));
    for part in [
        "guitarml_skip.json: guitarml\n",
        "rec.l0  LSTM   1 -> 6         192  forward, every step\n",
        "skip    skip                       adds 1 times the input, from column 0 on\n",
        "199 parameters, 796 bytes; 174 multiply-adds a step; 12 numbers of state.\n",
        "Written to guitarml_skip.safetensors.\n",
    ] {
        assert!(printed.contains(part), "{part} in\n{printed}");
    }
    let inspected = folder.ok("inspect guitarml_skip.safetensors");
    assert!(inspected.contains("rec.l0  LSTM"), "{inspected}");
    let json = folder.ok(&format!(
        "inspect --json {}",
        fixture("onnx_branches.onnx --part else_branch")
    ));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["format"], "onnx");
    assert!(json["costs"]["flash_bytes"].as_u64().unwrap() > 0);
}

/// What cannot be run is named, with the part that can.
#[test]
fn what_cannot_be_run_is_refused() {
    let folder = Folder::new();
    let file = fixture("torch_mixed.pt");
    let printed = folder.ok(&format!("inspect {file}"));
    assert!(printed.contains("cannot be run here"), "{printed}");
    assert!(printed.contains("Not to be imported as it is"), "{printed}");
    folder.fails(
        &format!("import {file}"),
        1,
        &["expected layers that can be run here, got ", "--part "],
    );
    std::fs::write(folder.path("x.txt"), "hello").unwrap();
    folder.fails(
        "import x.txt",
        1,
        &["x.txt: expected a network of PyTorch, Keras"],
    );
    folder.fails("import none.pt", 1, &["none.pt: cannot read"]);
    let checkpoint = fixture("tf1_basic.index");
    folder.fails(
        &format!("import {checkpoint}"),
        1,
        &["expected --forget-bias"],
    );
    folder.fails(
        &format!("import {checkpoint} --forget-bias nan"),
        2,
        &["--forget-bias: expected a finite number, got NaN"],
    );
    let file = fixture("guitarml_skip.json");
    folder.fails(
        &format!("import {file} --part lost"),
        2,
        &["--part: expected names of rec.l0, lin, skip, got lost"],
    );
    folder.fails(
        &format!("import {file} --part rec.l0,skip"),
        2,
        &["--part: expected layers one after the other, lin too"],
    );
    folder.ok(&format!("import {file} -o m.safetensors"));
    folder.fails(
        &format!("import {file} -o m.safetensors"),
        2,
        &["--output: expected a new file, or --force"],
    );
    folder.fails(
        &format!("import {file} -o {file}"),
        2,
        &["--output: expected another file than --FILE"],
    );
}

/// The parameters of a plain model, changed and written again.
fn change(folder: &Folder, name: &str, change: impl FnOnce(&mut Weights)) {
    let mut weights = Weights::open(&folder.path(name)).unwrap();
    change(&mut weights);
    tensors::write(
        &folder.path("wrong.safetensors"),
        &weights.tensors(""),
        None,
    )
    .unwrap();
}

/// The kernels and biases of all layers: rows of 4H.
fn rows(weights: &mut Weights, mut each: impl FnMut(usize, &mut [f32], bool)) {
    let shape = fused_lstm::NetworkShape::new(weights.inputs, &weights.hidden);
    let layers: Vec<_> = shape.layers().collect();
    let mut rest = &mut weights.params[..];
    for layer in layers {
        let (own, after) = std::mem::take(&mut rest).split_at_mut(layer.params_len());
        rest = after;
        let (kernel, bias) = own.split_at_mut(layer.kernel_len());
        let (input, recurrent) = kernel.split_at_mut(layer.inputs * 4 * layer.hidden);
        each(layer.hidden, input, false);
        each(layer.hidden, recurrent, false);
        each(layer.hidden, bias, true);
    }
}

/// Columns i, j, f, o as PyTorch's rows i, f, j, o of the same memory, as who forgets to transpose
/// has them; or only in that order.
fn as_in_pytorch(hidden: usize, values: &mut [f32], transpose: bool) {
    let columns = 4 * hidden;
    let n = values.len() / columns;
    let order = [0, 2, 1, 3];
    let before = values.to_vec();
    for (row, column) in (0..n).flat_map(|row| (0..columns).map(move |column| (row, column))) {
        let place = order[column / hidden] * hidden + column % hidden;
        let at = if transpose {
            place * n + row
        } else {
            row * columns + place
        };
        values[at] = before[row * columns + column];
    }
}

/// The usual mistakes are found and named.
#[test]
fn mistakes_are_named() {
    let folder = Folder::new();
    let import = |name: &str, to: &str| folder.ok(&format!("import {} -o {to}", fixture(name)));
    import("torch_stack.pt", "stack.safetensors");
    import("nam_two_layers.nam", "amp.safetensors");
    let found = |reference: &str, expected: &str| {
        let reference = fixture(reference);
        let output = folder.run(&format!(
            "verify --model wrong.safetensors --reference {reference} --tolerance 3e-6"
        ));
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{printed}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(printed.contains(expected), "{expected} in\n{printed}");
        let named = printed
            .lines()
            .filter(|line| line.starts_with("Likely: "))
            .count();
        assert_eq!(named, 1, "{printed}");
    };
    let torch = "torch_stack.pt.ref.safetensors";
    change(&folder, "stack.safetensors", |weights| {
        rows(weights, |hidden, values, _| {
            as_in_pytorch(hidden, values, false)
        });
    });
    found(
        torch,
        "the gates are in the order i, f, j, o, not i, j, f, o",
    );
    let forget = |by: f32| {
        change(&folder, "stack.safetensors", |weights| {
            rows(weights, |hidden, values, is_bias| {
                if is_bias {
                    values[2 * hidden..3 * hidden]
                        .iter_mut()
                        .for_each(|b| *b += by);
                }
            });
        });
    };
    forget(-1.0);
    found(
        torch,
        "the forget bias of 1, which the cell adds elsewhere, is missing",
    );
    forget(1.0);
    found(
        torch,
        "a forget bias of 1 was added that is in the weights already",
    );
    change(&folder, "stack.safetensors", |weights| {
        rows(weights, |hidden, values, _| {
            as_in_pytorch(hidden, values, true)
        });
    });
    found(
        torch,
        "the kernels were not transposed: they hold PyTorch's gates i, f, j, o in rows",
    );
    change(&folder, "amp.safetensors", |weights| {
        let start = weights.start.as_mut().unwrap();
        start
            .state
            .chunks_mut(10)
            .for_each(|state| state.rotate_left(5));
    });
    found(
        "nam_two_layers.ref.safetensors",
        "c and h are exchanged in the states that the model starts from",
    );
    let file = fixture("keras2_hard.weights.h5");
    folder.ok(&format!(
        "import {file} -o wrong.safetensors --force --returns last"
    ));
    found(
        "keras2_hard.ref.safetensors",
        "the gates' function is the hard sigmoid of slope 0.2, not sigmoid",
    );
    let file = fixture("tf1_basic.index");
    folder.ok(&format!(
        "import {file} -o wrong.safetensors --force --forget-bias 0"
    ));
    found("tf1_basic.ref.safetensors", "the forget bias of 1");
}

/// What a mistake is not is not named.
#[test]
fn other_weights_are_no_mistake() {
    let folder = Folder::new();
    folder.ok(&format!(
        "import {} -o m.safetensors",
        fixture("torch_stack.pt")
    ));
    change(&folder, "m.safetensors", |weights| weights.params[3] += 0.5);
    let reference = fixture("torch_stack.pt.ref.safetensors");
    let output = folder.run(&format!(
        "verify --model wrong.safetensors --reference {reference}"
    ));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        printed.contains("None of the usual mistakes explains it."),
        "{printed}"
    );
    folder.fails(
        &format!(
            "verify --model m.safetensors --reference {}",
            fixture("onnx_plain.onnx")
        ),
        1,
        &["onnx_plain.onnx: expected a safetensors file"],
    );
    folder.fails(
        &format!("verify --model m.safetensors --reference {reference} --tolerance -1"),
        2,
        &["--tolerance"],
    );
}

/// An output that does not fit is no pass, and neither is a flag that says what the file knows.
#[test]
fn nothing_is_passed_over_in_silence() {
    let folder = Folder::new();
    let file = fixture("keras3_ends.weights.h5");
    folder.ok(&format!("import {file} -o m.safetensors"));
    let reference = fixture("keras3_ends.ref.safetensors");
    folder.fails(
        &format!("verify --model m.safetensors --reference {reference}"),
        1,
        &["key y: the model gives", "--returns last or mean"],
    );
    let nam = fixture("nam_two_layers.nam");
    folder.fails(
        &format!("import {nam} -o n.safetensors --forget-bias 1"),
        2,
        &["--forget-bias: expected a file of TensorFlow 1"],
    );
    let both = fixture("icu_both.json");
    folder.fails(
        &format!("import {both} -o n.safetensors --prewarm 5"),
        2,
        &["--prewarm: expected a network that takes its steps one after the other"],
    );
    folder.fails(
        &format!("import {both} -o n.safetensors --part ,"),
        2,
        &["--part: expected names"],
    );
    // The samples a second of a plain network are in its file, and WAVs of others are refused.
    folder.ok(&format!("import {nam} -o n.safetensors"));
    assert!(
        folder
            .ok("inspect n.safetensors")
            .contains("- 48000 samples a second.")
    );
    folder.fails(
        "import n.safetensors -o o.safetensors",
        1,
        &["got a model, which needs no import"],
    );
    for command in ["run --input x --output y", "export --format bin --output y"] {
        folder.fails(
            &format!("{command} --model {nam}"),
            1,
            &["expected a model, got a network of another system: fused-lstm import"],
        );
    }
    std::fs::write(folder.path("cut.nam"), &std::fs::read(&nam).unwrap()[..200]).unwrap();
    folder.fails("import cut.nam", 1, &["cut.nam: expected JSON, got: EOF"]);
}

/// A plain stack with a head is the file that it is without an import.
#[test]
fn plain_networks_stay_plain_files() {
    let folder = Folder::new();
    folder.ok(&format!(
        "import {} -o m.safetensors",
        fixture("torch_stack.pt")
    ));
    let weights = Weights::open(&folder.path("m.safetensors")).unwrap();
    tensors::write(&folder.path("same.safetensors"), &weights.tensors(""), None).unwrap();
    assert_eq!(
        folder.bytes("m.safetensors"),
        folder.bytes("same.safetensors")
    );
    assert!(matches!(
        Network::open(&folder.path("m.safetensors")).unwrap(),
        Network::Plain(_)
    ));
}

/// Audio in and out, arrays and tables: the same numbers, in whichever form.
#[test]
fn runs_on_wav_npy_and_csv() {
    let folder = Folder::new();
    folder.ok(&format!(
        "import {} -o m.safetensors",
        fixture("guitarml_skip.json")
    ));
    let x: Vec<f32> = (0..5000).map(|k| (k as f32 * 0.05).sin() * 0.4).collect();
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 44_100,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut wav = hound::WavWriter::create(folder.path("x.wav"), spec).unwrap();
    let lines: Vec<String> = x.iter().map(|x| x.to_string()).collect();
    std::fs::write(
        folder.path("x.csv"),
        format!("sample\n{}\n", lines.join("\n")),
    )
    .unwrap();
    for &x in &x {
        wav.write_sample(x).unwrap();
        wav.write_sample(-x).unwrap();
    }
    wav.finalize().unwrap();
    let run = |input: &str, output: &str| {
        folder.ok(&format!(
            "run --model m.safetensors --input {input} --output {output}"
        ));
    };
    run("x.csv", "y.safetensors");
    let y = TensorFile::open(&folder.path("y.safetensors"))
        .unwrap()
        .f32("y")
        .unwrap();
    assert_eq!(y.0, [5000, 1, 1]);
    run("x.wav", "y.wav");
    let reader = hound::WavReader::open(folder.path("y.wav")).unwrap();
    assert_eq!(
        (reader.spec().channels, reader.spec().sample_rate),
        (2, 44_100)
    );
    let samples: Vec<f32> = reader.into_samples::<f32>().map(Result::unwrap).collect();
    let left: Vec<f32> = samples.iter().step_by(2).copied().collect();
    assert_close("left", &left, &y.1, 1e-6);
    run("x.csv", "y.npy");
    run("x.csv", "y.csv");
    let text = folder.text("y.csv");
    let column: Vec<f32> = text
        .lines()
        .skip(1)
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(column, y.1);
    let bytes = folder.bytes("y.npy");
    let values = bytes[bytes.len() - 4 * 5000..].chunks_exact(4);
    let values: Vec<f32> = values
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    assert_eq!(values, y.1);
    // What was written can be read.
    run("y.npy", "again.safetensors");

    folder.fails(
        "run --model m.safetensors --input x.csv --output y.csv",
        2,
        &["--output: expected a new file"],
    );
    std::fs::write(folder.path("bad.csv"), "1\n2\nthree\n").unwrap();
    folder.fails(
        "run --model m.safetensors --input bad.csv --output z.npy",
        1,
        &["bad.csv: line 3, column 1: expected a finite number, got three"],
    );
    std::fs::write(folder.path("wide.csv"), "1,2\n").unwrap();
    folder.fails(
        "run --model m.safetensors --input wide.csv --output z.npy",
        1,
        &["wide.csv: line 1: expected 1 columns, got 2"],
    );
    let whole = folder.bytes("x.wav");
    std::fs::write(folder.path("cut.wav"), &whole[..1000]).unwrap();
    folder.fails(
        "run --model m.safetensors --input cut.wav --output z.npy",
        1,
        &["cut.wav: expected a WAV file"],
    );
    folder.ok(&format!(
        "import {} -o n.safetensors",
        fixture("rtneural_layers.json")
    ));
    let spec = hound::WavSpec {
        sample_rate: 48_000,
        ..spec
    };
    let mut other = hound::WavWriter::create(folder.path("other.wav"), spec).unwrap();
    other.write_sample(0.5f32).unwrap();
    other.write_sample(-0.5f32).unwrap();
    other.finalize().unwrap();
    folder.fails(
        "run --model n.safetensors --input other.wav --output z.wav",
        1,
        &["other.wav: expected 44100 samples a second, as the model has, got 48000"],
    );
}

/// The state after silence is what a player of NAM starts from.
#[test]
fn prewarming() {
    let folder = Folder::new();
    folder.ok(&format!(
        "import {} -o m.safetensors --prewarm 30",
        fixture("nam_two_layers.nam")
    ));
    let reference = TensorFile::open(&fixtures().join("nam_two_layers.ref.safetensors")).unwrap();
    let (shape, x) = reference.f32("x").unwrap();
    let input = tensors::NamedTensor::f32("x", &shape, x);
    tensors::write(&folder.path("x.safetensors"), &[input], None).unwrap();
    folder.ok("run --model m.safetensors --input x.safetensors --output y.safetensors");
    let y = TensorFile::open(&folder.path("y.safetensors")).unwrap();
    let expected = reference.f32("model.y_prewarmed").unwrap().1;
    assert_close("prewarmed", &y.f32("logits").unwrap().1, &expected, 1e-6);
}

/// Rows of unequal length, and indices, through a chain.
#[test]
fn runs_ids_and_lengths() {
    let folder = Folder::new();
    folder.ok(&format!(
        "import {} -o m.safetensors",
        fixture("icu_both.json")
    ));
    let ids: Vec<f32> = (0..20).map(|k| (k * 5 % 12) as f32).collect();
    let input = tensors::NamedTensor::f32("x", &[10, 2], ids.clone());
    tensors::write(&folder.path("x.safetensors"), &[input], None).unwrap();
    folder.ok("run --model m.safetensors --input x.safetensors --output y.safetensors");
    let y = TensorFile::open(&folder.path("y.safetensors")).unwrap();
    assert_eq!(y.f32("y").unwrap().0, [10, 2, 4]);
    assert_eq!(y.f32_shape("state.0.backward").unwrap(), [2, 2, 5]);
    let mut bad = ids;
    bad[3] = 12.0;
    let input = tensors::NamedTensor::f32("x", &[10, 2], bad);
    tensors::write(&folder.path("bad.safetensors"), &[input], None).unwrap();
    folder.fails(
        "run --model m.safetensors --input bad.safetensors --output z.safetensors",
        1,
        &["bad.safetensors: number 3 of x: expected a whole number from 0 to 11"],
    );
    folder.fails(
        "run --model m.safetensors --input x.safetensors --output z.safetensors --outputs logits",
        2,
        &["--outputs: expected y or state"],
    );
}

/// The C header of a chain compiles behind the library's.
#[test]
fn chains_are_c() {
    let folder = Folder::new();
    folder.ok(&format!(
        "import {} -o m.safetensors",
        fixture("rtneural_aida.json")
    ));
    folder.ok("export --model m.safetensors --format c --output amp.h");
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/examples/c");
    std::fs::write(
        folder.path("a.c"),
        "#include \"fused_lstm.h\"\n#include \"amp.h\"\n\
         size_t last(void) { return amp_stages[AMP_STAGES - 1].kind + AMP_SCRATCH + (size_t)amp_params[0]; }\n",
    )
    .unwrap();
    let compiled = Command::new("cc")
        .args([
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-fsyntax-only",
            "-I",
        ])
        .arg(library)
        .arg("a.c")
        .current_dir(folder.path(""))
        .output()
        .expect("a C compiler");
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    folder.ok("export --model m.safetensors --format bin --output amp.bin");
    let chain = Network::open(&folder.path("m.safetensors"))
        .unwrap()
        .into_chain();
    assert_eq!(folder.bytes("amp.bin").len(), 4 * chain.params.len());
}

/// Every fixture, cut and with bytes changed: a network or one error, never a panic.
#[test]
fn damaged_files() {
    let folder = Folder::new();
    let mut seed = 1u64;
    let mut random = move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    for (name, _) in all() {
        let options = import::Options {
            forget_bias: name.starts_with("tf1").then_some(1.0),
            ..import::Options::default()
        };
        let whole = std::fs::read(fixtures().join(&name)).unwrap();
        let path = folder.path("damaged");
        let look = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            match import::open(&path, None, &options) {
                Ok((model, _)) => assert!(!model.params.is_empty(), "{name}"),
                Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{name}: {error}"),
            }
        };
        for part in 0..20 {
            look(&whole[..whole.len() * part / 20]);
        }
        for _ in 0..12 {
            let mut bytes = whole.clone();
            for _ in 0..=random() % 4 {
                let at = random() % bytes.len();
                bytes[at] = random() as u8;
            }
            look(&bytes);
        }
    }
}
