//! Quantisation through the command: what it prints, that what it writes can be run, verified, shown and
//! exported, and what it refuses.

mod common;

use common::Folder;
use common::random::Random;
use fused_lstm::{Cell, Extent, LayerShape, LstmStage, NetworkShape, Stage, Storage};
use fused_lstm_driver::chain::{ChainModel, Network};
use fused_lstm_driver::quantize::{Calibration, quantize};
use fused_lstm_driver::tensors::{self, NamedTensor, TensorFile};
use fused_lstm_driver::weights::{Start, Weights};

/// A stack of two layers and a head in `model.safetensors`, and 40 steps of 2 rows in `x.safetensors`.
fn folder() -> Folder {
    let folder = Folder::new();
    let hidden = vec![12, 7];
    let shape = NetworkShape::new(3, &hidden).with_head(4);
    let params = Random(1).vec(shape.params_len(), 0.6);
    let weights = Weights {
        inputs: 3,
        classes: Some(4),
        params,
        start: None,
        hidden: hidden.clone(),
    };
    tensors::write(
        &folder.path("model.safetensors"),
        &weights.tensors(""),
        None,
    )
    .unwrap();
    let x = NamedTensor::f32("x", &[40, 2, 3], Random(2).vec(240, 1.5));
    tensors::write(&folder.path("x.safetensors"), &[x], None).unwrap();
    folder
}

fn chain(folder: &Folder, name: &str) -> ChainModel {
    ChainModel::open(&folder.path(name)).unwrap()
}

fn output(folder: &Folder, model: &str) -> Vec<f32> {
    folder.ok(&format!(
        "run --model {model} --input x.safetensors --output y.safetensors --force"
    ));
    let file = TensorFile::open(&folder.path("y.safetensors")).unwrap();
    let key = if file.has("logits") { "logits" } else { "y" };
    file.f32(key).unwrap().1
}

fn largest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

#[test]
fn a_network_in_a_quarter_of_the_bytes_runs_nearly_as_before() {
    let folder = folder();
    let exact = output(&folder, "model.safetensors");
    for (to, storage, most) in [("f16", Storage::F16, 2e-3), ("int8", Storage::Int8, 0.08)] {
        let printed = folder.ok(&format!(
            "quantize --model model.safetensors --to {to} --calibrate x.safetensors -o q.safetensors --force"
        ));
        for part in [
            "lstm.0: inputs up to 1.49",
            "lstm.1: inputs up to 0.",
            "Output: off by up to ",
            "Written to q.safetensors.\n",
        ] {
            assert!(printed.contains(part), "{part} in\n{printed}");
        }
        let model = chain(&folder, "q.safetensors");
        let narrow = model
            .stages
            .iter()
            .filter(|stage| matches!(stage.stage, Stage::Lstm(lstm) if lstm.storage == storage));
        assert_eq!(narrow.count(), 2);
        let off = largest(&output(&folder, "q.safetensors"), &exact);
        assert!(off > 0.0 && off < most, "{to}: {off}");
        // What is written is read as it was, bit by bit.
        model.write(&folder.path("again.safetensors")).unwrap();
        assert_eq!(
            folder.bytes("again.safetensors"),
            folder.bytes("q.safetensors")
        );
        let shown = folder.ok("inspect q.safetensors");
        assert!(shown.contains(if to == "f16" {
            "weights of half precision"
        } else {
            "weights of int8"
        }));
        assert!(shown.contains("1360 parameters"), "{shown}");
    }
    let int8 = std::fs::metadata(folder.path("q.safetensors"))
        .unwrap()
        .len();
    assert!(int8 < 4_000, "{int8}");
}

/// The reference that the quantised model itself gives: every output is verified exactly.
#[test]
fn verify_takes_it() {
    let folder = folder();
    folder.ok(
        "quantize --model model.safetensors --to int8 --calibrate x.safetensors -o q.safetensors",
    );
    let y = output(&folder, "q.safetensors");
    let x = TensorFile::open(&folder.path("x.safetensors"))
        .unwrap()
        .f32("x")
        .unwrap()
        .1;
    let reference = [
        NamedTensor::f32("model.x", &[40, 2, 3], x),
        NamedTensor::f32("model.y", &[40, 2, 4], y),
    ];
    tensors::write(&folder.path("io.safetensors"), &reference, None).unwrap();
    folder.ok("verify --model q.safetensors --reference io.safetensors --tolerance 0");

    // That of the model before is too far away, and no usual mistake explains it.
    let y = output(&folder, "model.safetensors");
    let x = TensorFile::open(&folder.path("x.safetensors"))
        .unwrap()
        .f32("x")
        .unwrap()
        .1;
    // Batch first, which calibration finds out.
    let turned = |values: &[f32], width: usize| -> Vec<f32> {
        let row = |b: usize, t: usize| values[(t * 2 + b) * width..][..width].to_vec();
        (0..2)
            .flat_map(|b| (0..40).flat_map(move |t| row(b, t)))
            .collect()
    };
    let reference = [
        NamedTensor::f32("model.x", &[2, 40, 3], turned(&x, 3)),
        NamedTensor::f32("model.y", &[2, 40, 4], turned(&y, 4)),
    ];
    tensors::write(&folder.path("before.safetensors"), &reference, None).unwrap();
    let output = folder.run("verify --model q.safetensors --reference before.safetensors");
    assert_eq!(output.status.code(), Some(1));
    folder.ok("quantize --model model.safetensors --to int8 --calibrate before.safetensors -o r.safetensors");
    assert_eq!(folder.bytes("r.safetensors"), folder.bytes("q.safetensors"));
    let x = NamedTensor::f32("x", &[2, 40, 3], turned(&x, 3));
    tensors::write(&folder.path("turned.safetensors"), &[x], None).unwrap();
    folder.ok(
        "quantize --model model.safetensors --to int8 --calibrate turned.safetensors --batch-first \
         -o r.safetensors --force",
    );
    assert_eq!(folder.bytes("r.safetensors"), folder.bytes("q.safetensors"));
}

/// What lies beyond a row's length has no part in ranges, biases and errors.
#[test]
fn padding_leaves_no_trace() {
    let folder = folder();
    let model = Network::open(&folder.path("model.safetensors"))
        .unwrap()
        .into_chain();
    let x = Random(4).vec(40 * 2 * 3, 1.5);
    let mut padded = x.clone();
    let lengths = [40, 25];
    for step in 25..40 {
        padded[(step * 2 + 1) * 3..][..3].fill(-999.0);
    }
    let quantized = |x: &[f32], labels: &[i32]| {
        let data = Calibration {
            extent: Extent {
                steps: 40,
                batch: 2,
            },
            x,
            lengths: Some(&lengths),
            labels: Some((&[40, 2], labels)),
        };
        let (model, report) = quantize(&model, Storage::Int8, Some(data)).unwrap();
        // As bits, because words may be NaN.
        let words: Vec<u32> = model.params.iter().map(|v| v.to_bits()).collect();
        (words, report)
    };
    let labels = vec![1; 80];
    let mut others = labels.clone();
    (25..40).for_each(|step| others[step * 2 + 1] = 2);
    assert_eq!(quantized(&x, &labels), quantized(&padded, &others));
}

#[test]
fn labels_give_the_accuracy() {
    let folder = folder();
    let exact = output(&folder, "model.safetensors");
    let best = |row: &[f32]| {
        let most = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        most.map_or(0, |(class, _)| class as i32)
    };
    let labels: Vec<i32> = exact.chunks(4).map(best).collect();
    write_with_labels(&folder, "labelled.safetensors", &labels);
    let printed = folder.ok(
        "quantize --model model.safetensors --to f16 --calibrate labelled.safetensors -o q.safetensors --json",
    );
    let report: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(report["accuracy"][0], 1.0);
    assert_eq!(report["accuracy"][1], report["same_decisions"]);
    assert_eq!(report["bytes"][0], 4 * 1360);
    write_with_labels(&folder, "few.safetensors", &labels[..3]);
    folder.fails(
        "quantize --model model.safetensors --to f16 --calibrate few.safetensors -o other.safetensors",
        2,
        &["--calibrate: expected labels [T, B] or [B], one for each of 80 rows", "got [3]"],
    );
    assert!(!folder.path("other.safetensors").exists());
}

/// `x` of the folder, and labels as int32, which this project's writer does not write.
fn write_with_labels(folder: &Folder, name: &str, labels: &[i32]) {
    let x = TensorFile::open(&folder.path("x.safetensors"))
        .unwrap()
        .f32("x")
        .unwrap()
        .1;
    let header = format!(
        r#"{{"labels":{{"dtype":"I32","shape":{:?},"data_offsets":[960,{}]}},"x":{{"dtype":"F32","shape":[40,2,3],"data_offsets":[0,960]}}}}"#,
        if labels.len() == 80 {
            vec![40, 2]
        } else {
            vec![labels.len()]
        },
        960 + 4 * labels.len()
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(x.iter().flat_map(|v| v.to_le_bytes()));
    bytes.extend(labels.iter().flat_map(|v| v.to_le_bytes()));
    std::fs::write(folder.path(name), bytes).unwrap();
}

#[test]
fn it_is_exported_bit_by_bit() {
    let folder = folder();
    folder.ok(
        "quantize --model model.safetensors --to int8 --calibrate x.safetensors -o q.safetensors",
    );
    let model = chain(&folder, "q.safetensors");
    folder.ok("export --model q.safetensors --format bin --output net.bin");
    let bytes: Vec<u8> = model.params.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(folder.bytes("net.bin"), bytes);
    folder.ok("export --model q.safetensors --format rust --output net.rs");
    folder.ok("export --model q.safetensors --format c --output net.h");
    let words: Vec<String> = model
        .params
        .iter()
        .map(|v| format!("{:#010x}", v.to_bits()))
        .collect();
    let rust = folder.text("net.rs");
    assert!(rust.contains(&words.join(", ")));
    assert!(rust.contains("storage: Storage::Int8") && rust.contains("Chain::of_words(INPUTS"));
    let c = folder.text("net.h");
    for word in &words {
        assert!(c.contains(word), "{word}");
    }
    assert!(
        c.contains(".storage = 2") && c.contains("#define net_params ((const float *)net_words)")
    );
}

#[test]
fn what_cannot_be_quantised_is_refused() {
    let folder = folder();
    folder.fails(
        "quantize --model model.safetensors --to int8 -o q.safetensors",
        2,
        &["--calibrate: expected data for int8", "lstm.0", "got none"],
    );
    folder.fails(
        "quantize --model model.safetensors --to int4 -o q.safetensors",
        2,
        &["int4"],
    );
    folder.fails(
        "quantize --model model.safetensors --to f16 -o model.safetensors --force",
        2,
        &["--output: expected another file than --model"],
    );
    folder.ok("quantize --model model.safetensors --to f16 -o q.safetensors");
    folder.fails(
        "quantize --model q.safetensors --to int8 --calibrate x.safetensors -o r.safetensors",
        2,
        &["--model: expected weights of f32"],
    );
    folder.fails(
        "quantize --model model.safetensors --to f16 -o q.safetensors",
        2,
        &["--output: expected a new file, or --force"],
    );
    let mut weights = Weights::open(&folder.path("model.safetensors")).unwrap();
    weights.params[5] = 1e6;
    tensors::write(
        &folder.path("large.safetensors"),
        &weights.tensors(""),
        None,
    )
    .unwrap();
    folder.fails(
        "quantize --model large.safetensors --to f16 -o r.safetensors",
        2,
        &["lstm.0", "up to 65504, got 1000000 at 5"],
    );
    let options = LstmStage {
        cell: Cell {
            peepholes: true,
            ..Cell::PLAIN
        },
        ..LstmStage::new(LayerShape::new(1, 2))
    };
    let stages = vec![fused_lstm_driver::chain::NamedStage {
        name: "rec".into(),
        stage: Stage::Lstm(options),
    }];
    let peepholes = ChainModel {
        inputs: 1,
        params: vec![0.1; options.params_len()],
        stages,
        start: None,
        sample_rate: None,
    };
    peepholes
        .write(&folder.path("peepholes.safetensors"))
        .unwrap();
    folder.fails(
        "quantize --model peepholes.safetensors --to f16 -o r.safetensors",
        2,
        &["expected plain LSTM cells, got rec, with options"],
    );
    let zeros = NamedTensor::f32("x", &[4, 1, 3], vec![0.0; 12]);
    tensors::write(&folder.path("zeros.safetensors"), &[zeros], None).unwrap();
    folder.fails(
        "quantize --model model.safetensors --to int8 --calibrate zeros.safetensors -o r.safetensors",
        2,
        &["--calibrate: expected inputs that are not all zero, got only zeros as inputs of lstm.0"],
    );
    let mut weights = Weights::open(&folder.path("model.safetensors")).unwrap();
    let state = vec![0.5; 2 * 2 * (12 + 7)];
    weights.start = Some(Start { batch: 2, state });
    tensors::write(&folder.path("two.safetensors"), &weights.tensors(""), None).unwrap();
    folder.fails(
        "quantize --model two.safetensors --to f16 -o r.safetensors",
        2,
        &["--model: expected a state of one row to start from, or none, got one of 2 rows"],
    );
    assert!(!folder.path("r.safetensors").exists());
}

/// Words that no quantisation wrote.
#[test]
fn damaged_words_are_refused() {
    let folder = folder();
    folder.ok(
        "quantize --model model.safetensors --to int8 --calibrate x.safetensors -o q.safetensors",
    );
    let mut model = chain(&folder, "q.safetensors");
    let Stage::Lstm(lstm) = model.stages[0].stage else {
        panic!("a layer");
    };
    let last = lstm.params_len() - 1;
    model.params[last] = f32::from_bits(0x7fc0_0000);
    model.write(&folder.path("bad.safetensors")).unwrap();
    folder.fails(
        "run --model bad.safetensors --input x.safetensors --output y.safetensors",
        1,
        &["bad.safetensors: the chain in the metadata: words"],
    );
    assert!(Network::open(&folder.path("q.safetensors")).is_ok());
}
