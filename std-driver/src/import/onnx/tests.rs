//! The fixtures of `tests/data/import`, and what must be refused.

use super::*;
use crate::import::naive::{self, Sequence};
use crate::import::wire::{self, write};
use crate::import::{Kind, Layer};
use crate::tensors::TensorFile;
use fused_lstm::{Activation, Direction, Returns};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::path::{Path, PathBuf};

/// Where the fixtures are; the published package has none.
fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/import");
    folder.exists().then_some(folder)
}

fn part(part: &str) -> Options {
    Options {
        part: Some(part.into()),
        ..Options::default()
    }
}

fn sequence(file: &TensorFile, key: &str) -> Sequence {
    let (shape, values) = file.f32(key).unwrap();
    let &[steps, batch, width] = &shape[..] else {
        panic!("{key}: {shape:?}");
    };
    Sequence::new([steps, batch, width], values.into_iter().map(f64::from))
}

/// The layers of a fixture, after the LSTM layers and the whole model were compared with what the
/// framework made of them.
fn checked(folder: &Path, name: &str) -> Found {
    let source = Source::open(&folder.join(format!("{name}.onnx"))).unwrap();
    assert!(is(&source), "{name}");
    let options = match name {
        "onnx_branches" => part("then_branch"),
        _ => Options::default(),
    };
    let found = read(&source, &options).unwrap();
    assert!(words(&found).contains("lstm"), "{name}: {}", words(&found));
    let file = TensorFile::open(&folder.join(format!("{name}.ref.safetensors"))).unwrap();
    let lstm = |layer: &&Layer| matches!(layer.kind, Kind::Lstm(_));
    let mut lstms: Vec<Layer> = found.layers.iter().filter(lstm).cloned().collect();
    for layer in &mut lstms {
        if let Kind::Lstm(lstm) = &mut layer.kind {
            lstm.returns = Returns::Sequence;
        }
    }
    let y = naive::run(&lstms, &sequence(&file, "x"));
    let distance = y.distance(&file.f32("y").unwrap().1);
    assert!(distance < 3e-6, "{name}: y {distance:e}");
    let x = match file.has("model.x") {
        true => sequence(&file, "model.x"),
        false => {
            let (shape, ids) = file.i32_values("ids").unwrap();
            Sequence::new([shape[0], shape[1], 1], ids.iter().map(f64::from))
        }
    };
    let y = naive::run(&found.layers, &x);
    let distance = y.distance(&file.f32("model.y").unwrap().1);
    assert!(distance < 3e-6, "{name}: model.y {distance:e}");
    states(name, &lstms, &file);
    found
}

fn states(name: &str, lstms: &[Layer], file: &TensorFile) {
    let mut x = sequence(file, "x");
    for (index, layer) in lstms.iter().enumerate() {
        let Kind::Lstm(lstm) = &layer.kind else {
            continue;
        };
        let ends: &[&str] = match lstm.direction {
            Direction::Both => &[".forward", ".backward"],
            _ => &[""],
        };
        for (k, end) in ends.iter().enumerate() {
            let key = format!("state.{index}{end}");
            if file.has(&key) {
                let (_, states) = naive::direction(lstm, k, &x);
                let c = states.iter().flat_map(|[c, _]| c);
                let both: Vec<f64> = c
                    .chain(states.iter().flat_map(|[_, h]| h))
                    .copied()
                    .collect();
                let got = Sequence::new([1, 1, both.len()], both);
                let distance = got.distance(&file.f32(&key).unwrap().1);
                assert!(distance < 3e-6, "{name}: {key} {distance:e}");
            }
        }
        x = naive::run(&lstms[index..=index], &x);
    }
}

fn lstms(found: &Found) -> Vec<&crate::import::Lstm> {
    let each = found.layers.iter().filter_map(|layer| match &layer.kind {
        Kind::Lstm(lstm) => Some(&**lstm),
        _ => None,
    });
    each.collect()
}

/// A word for each layer.
fn words(found: &Found) -> String {
    let word = |layer: &Layer| match &layer.kind {
        Kind::Embedding { .. } => "embedding".into(),
        Kind::Dense { .. } => "dense".into(),
        Kind::Activation(_) => "activation".into(),
        Kind::Affine { .. } => "affine".into(),
        Kind::Lstm(_) => "lstm".into(),
        Kind::Nothing(what) => format!("({what})"),
        Kind::Gain(_) => "gain".into(),
        Kind::Other(what) => format!("[{what}]"),
        Kind::Skip { .. } | Kind::Reverse | Kind::Flatten { .. } => "?".to_owned(),
    };
    let all: Vec<String> = found.layers.iter().map(word).collect();
    all.join(" ")
}

#[test]
fn single_layers() {
    let Some(folder) = folder() else { return };
    for name in ["onnx_plain", "onnx_external", "onnx_reverse"] {
        let found = checked(&folder, name);
        assert!(lstms(&found)[0].cell.is_plain());
        assert_eq!(found.layers[0].name, "recurrent");
    }
    let of = |name: &str| {
        let found = checked(&folder, name);
        let lstm = lstms(&found)[0].clone();
        (lstm, found.notes)
    };
    assert_eq!(of("onnx_bidirectional").0.direction, Direction::Both);
    assert!(of("onnx_peepholes").0.cell.peepholes);
    assert_eq!(of("onnx_clip").0.cell.preact_clip, 0.7);
    assert!(of("onnx_coupled").0.cell.coupled);
    let cell = of("onnx_hard_sigmoid").0.cell;
    let slope = 1.0 / 6.0;
    assert_eq!(cell.gates, Activation::HardSigmoid { slope });
    assert_eq!(cell.output, Activation::Relu);
    assert!(of("onnx_start").0.start.is_some());
    let (lstm, notes) = of("onnx_batch_first");
    assert!(lstm.start.is_some());
    assert!(notes[0].starts_with("the batch comes before the time"));
    let (all, _) = of("onnx_all");
    assert!(all.cell.peepholes && all.cell.coupled && all.start.is_some());
    let notes = of("onnx_float16").1;
    assert!(notes.contains(&"float16 weights are float32 here".into()));
    let notes = of("onnx_double").1;
    assert!(notes.contains(&"float64 weights are float32 here".into()));
}

#[test]
fn exports_of_torch() {
    let Some(folder) = folder() else { return };
    for (name, expected) in [
        ("onnx_torch_tagger", "lstm lstm dense activation"),
        ("onnx_dynamo_tagger", "lstm lstm dense activation"),
        ("onnx_torch_last_step", "lstm dense"),
        ("onnx_torch_last_state", "lstm lstm dense activation"),
        ("onnx_torch_both_states", "lstm dense"),
        ("onnx_torch_words", "embedding lstm dense activation"),
        ("onnx_dynamo_words", "embedding lstm dense activation"),
        (
            "onnx_torch_normal",
            "dense activation lstm affine dense activation",
        ),
    ] {
        let found = checked(&folder, name);
        assert_eq!(words(&found), expected, "{name}");
    }
    let last = checked(&folder, "onnx_torch_last_step");
    assert_eq!(lstms(&last)[0].returns, Returns::Last);
    let words = checked(&folder, "onnx_torch_words");
    assert_eq!(lstms(&words)[0].returns, Returns::Mean);
    assert!(lstms(&words)[0].start.is_some());
}

#[test]
fn branches() {
    let Some(folder) = folder() else { return };
    let found = checked(&folder, "onnx_branches");
    assert_eq!(found.layers[0].name, "If_0/then_branch/large.Y");
    let source = Source::open(&folder.join("onnx_branches.onnx")).unwrap();
    let file = TensorFile::open(&folder.join("onnx_branches.ref.safetensors")).unwrap();
    for wanted in ["else_branch", "If_0/else_branch"] {
        let found = read(&source, &part(wanted)).unwrap();
        let y = naive::run(&found.layers, &sequence(&file, "x"));
        assert!(y.distance(&file.f32("else.y").unwrap().1) < 3e-6);
    }
    let problem = |options: &Options| {
        let text = read(&source, options).unwrap_err().to_string();
        let (_, text) = text
            .split_once("onnx_branches.onnx: ")
            .unwrap_or(("", &text));
        text.to_owned()
    };
    assert_eq!(
        problem(&Options::default()),
        "the branches of node If_0 differ: choose one of them as the part: If_0/then_branch or \
         If_0/else_branch"
    );
    let found = read(&source, &part("then_branch,other")).unwrap();
    assert_eq!(found.part.unwrap(), ["other"]);
}

/// Cut and changed files give layers or one line, whatever is in them.
#[test]
fn damaged() {
    let Some(folder) = folder() else { return };
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let files = std::fs::read_dir(&folder).unwrap();
    let mut names: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|end| end == "onnx"));
    names.sort();
    assert!(names.len() > 10);
    let mut read_ones = 0;
    for name in names {
        let bytes = std::fs::read(&name).unwrap();
        let mut run = |bytes: Vec<u8>| {
            let source = Source::from_bytes(&name, bytes);
            is(&source);
            match read(&source, &part("then_branch"))
                .or_else(|_| read(&source, &Options::default()))
            {
                Ok(_) => read_ones += 1,
                Err(e) => assert!(!e.to_string().contains('\n')),
            }
        };
        for k in 0..20 {
            run(bytes[..bytes.len() * k / 20].to_vec());
        }
        for k in 0..400 {
            let mut bytes = bytes.clone();
            for _ in 0..=k % 3 {
                let at = random.next_u32() as usize % bytes.len();
                bytes[at] = match k % 4 {
                    0 => 0xff,
                    1 => 0,
                    _ => random.next_u32() as u8,
                };
            }
            run(bytes);
        }
    }
    assert!(read_ones > 100);
}

fn attribute(name: &str, value: Vec<u8>) -> Vec<u8> {
    write::bytes(5, [write::bytes(1, name), value].concat())
}

fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for input in inputs {
        bytes.extend(write::bytes(1, input));
    }
    for output in outputs {
        bytes.extend(write::bytes(2, output));
    }
    bytes.extend(write::bytes(4, op));
    bytes.extend(attributes.concat());
    write::bytes(1, bytes)
}

fn tensor(name: &str, dims: &[usize], value: f32) -> Vec<u8> {
    let mut bytes = write::bytes(8, name);
    for &dim in dims {
        bytes.extend(write::int(1, dim as i64));
    }
    bytes.extend(write::int(2, 1));
    let count: usize = dims.iter().product();
    bytes.extend(write::bytes(9, value.to_le_bytes().repeat(count)));
    write::bytes(5, bytes)
}

fn integers(name: &str, values: &[i64]) -> Vec<u8> {
    let mut bytes = write::bytes(8, name);
    bytes.extend(write::int(1, values.len() as i64));
    bytes.extend(write::int(2, 7));
    for &value in values {
        bytes.extend(write::int(7, value));
    }
    write::bytes(5, bytes)
}

/// Of floats, without a shape.
fn input(name: &str) -> Vec<u8> {
    write::bytes(11, write::bytes(1, name))
}

/// Of the axes that have a name or a size.
fn shaped(name: &str, sizes: &[i64]) -> Vec<u8> {
    let mut shape = Vec::new();
    for &size in sizes {
        let one = match size {
            0 => write::bytes(2, "n"),
            size => write::int(1, size),
        };
        shape.extend(write::bytes(1, one));
    }
    let kind = write::bytes(1, [write::int(1, 1), write::bytes(2, shape)].concat());
    let info = [write::bytes(1, name), write::bytes(2, kind)].concat();
    write::bytes(11, info)
}

fn output(name: &str) -> Vec<u8> {
    write::bytes(12, write::bytes(1, name))
}

fn of(parts: &[Vec<u8>]) -> Source {
    let operators = [write::bytes(1, ""), write::int(2, 17)].concat();
    let model = [
        write::int(1, 8),
        write::bytes(7, parts.concat()),
        write::bytes(8, operators),
    ];
    Source::from_bytes(Path::new("no-such-folder/a.onnx"), model.concat())
}

fn problem(parts: &[Vec<u8>]) -> String {
    let text = read(&of(parts), &Options::default())
        .unwrap_err()
        .to_string();
    let text = text.strip_prefix("no-such-folder/a.onnx: ");
    text.unwrap().to_owned()
}

/// An LSTM node of two inputs and three hidden units, and what is around it.
fn lstm_with(attributes: &[Vec<u8>], more_inputs: &[&str], more: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let inputs = [&["X", "W", "R"], more_inputs].concat();
    let mut parts = vec![
        shaped("X", &[0, 0, 2]),
        tensor("W", &[1, 12, 2], 0.5),
        tensor("R", &[1, 12, 3], 0.25),
        node("LSTM", &inputs, &["Y", "Y_h", "Y_c"], attributes),
        output("Y"),
    ];
    parts.extend_from_slice(more);
    parts
}

fn text(text: &str) -> Vec<u8> {
    write::bytes(4, text)
}

#[test]
fn refused_layers() {
    let ok = lstm_with(&[], &[], &[]);
    assert!(is(&of(&ok)));
    assert_eq!(words(&read(&of(&ok), &Options::default()).unwrap()), "lstm");
    let with = |attributes: &[Vec<u8>]| problem(&lstm_with(attributes, &[], &[]));
    let names = |names: &[&str]| {
        let all: Vec<Vec<u8>> = names.iter().map(|name| write::bytes(9, name)).collect();
        attribute("activations", all.concat())
    };
    assert_eq!(
        with(&[names(&["Softsign", "Tanh", "Tanh"])]),
        "node Y: activations: expected Sigmoid, Tanh, Relu or HardSigmoid, got Softsign"
    );
    assert_eq!(
        with(&[names(&["Sigmoid"])]),
        "node Y: activations: expected 3 names, got 1"
    );
    let beta = attribute("activation_beta", write::float(7, 0.25));
    assert_eq!(
        with(&[names(&["HardSigmoid", "Tanh", "Tanh"]), beta]),
        "node Y: activations: expected a HardSigmoid with a beta of 0.5, got alpha 0.2 and beta 0.25"
    );
    assert_eq!(
        with(&[attribute("direction", text("sideways"))]),
        "node Y: direction: expected forward, reverse or bidirectional, got sideways"
    );
    assert_eq!(
        with(&[attribute("direction", text("bidirectional"))]),
        "node Y: W: expected shape [2, 12, 2], got [1, 12, 2]"
    );
    assert_eq!(
        with(&[attribute("layout", write::int(3, 2))]),
        "node Y: layout: expected 0 or 1, got 2"
    );
    assert_eq!(
        with(&[attribute("clip", write::float(2, -1.0))]),
        "node Y: clip: expected a number above 0, got -1"
    );
    assert!(with(&[attribute("hidden_size", write::int(3, 4))]).contains("hidden_size 4"));
    let bias = problem(&lstm_with(&[], &["B"], &[tensor("B", &[1, 12], 0.0)]));
    assert_eq!(bias, "node Y: B: expected shape [1, 24], got [1, 12]");
    let bias = problem(&lstm_with(&[], &["B"], &[tensor("B", &[1, 24], f32::NAN)]));
    assert_eq!(bias, "tensor B: expected finite numbers, got NaN at 0");
    let bias = problem(&lstm_with(&[], &["B"], &[]));
    assert_eq!(bias, "node Y: expected B to be made before it, got nothing");
    let bias = problem(&lstm_with(&[], &["B"], &[input("B")]));
    assert_eq!(
        bias,
        "node Y: expected constant weights B, got inputs of the graph without values"
    );
    let lens = integers("lens", &[3, 2]);
    let lens = problem(&lstm_with(&[], &["", "lens"], &[lens]));
    assert_eq!(
        lens,
        "node Y: sequence_lens: expected all steps of every row, got [3, 2]"
    );
    let mut wide = lstm_with(&[], &[], &[]);
    wide[0] = shaped("X", &[0, 0, 5]);
    assert_eq!(
        problem(&wide),
        "node Y: X: expected three axes, the last of size 2, got [?, ?, 5]"
    );
}

/// The tests of the standard have their weights in files beside the graph.
#[test]
fn weights_beside_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("test_data_set_0");
    std::fs::create_dir(&data).unwrap();
    let mut parts = lstm_with(&[], &[], &[]);
    parts[1] = input("W");
    parts[2] = input("R");
    let path = folder.path().join("model.onnx");
    let source = Source::from_bytes(&path, of(&parts).bytes().to_vec());
    let problem = || read(&source, &Options::default()).unwrap_err().to_string();
    assert!(problem().ends_with(
        "node Y: expected constant weights W, R, got inputs of the graph without values"
    ));
    for (number, name, dims) in [(1, "W", [1, 12, 2]), (2, "W", [1, 12, 3])] {
        let message = tensor(name, &dims, 0.5);
        // Without the key and the length that make it a part of a graph.
        let message = wire::fields(&message).next().unwrap().unwrap().1;
        let file = data.join(format!("input_{number}.pb"));
        std::fs::write(file, message.bytes().unwrap()).unwrap();
    }
    assert!(problem().ends_with("input_2.pb: expected the values of input R, got those of W"));
    let message = tensor("R", &[1, 12, 3], 0.5);
    let message = wire::fields(&message).next().unwrap().unwrap().1;
    std::fs::write(data.join("input_2.pb"), message.bytes().unwrap()).unwrap();
    let found = read(&source, &Options::default()).unwrap();
    assert_eq!(words(&found), "lstm");
    assert_eq!(
        found.notes,
        ["weights that are inputs of the graph are those of test_data_set_0"]
    );
}

#[test]
fn states_to_start_from() {
    let of_state = |state: Vec<u8>| {
        let parts = lstm_with(&[], &["", "", "h"], &[state]);
        read(&of(&parts), &Options::default())
    };
    let found = of_state(tensor("h", &[1, 4, 3], 0.5)).unwrap();
    let start = lstms(&found)[0].start.clone().unwrap();
    assert_eq!(start, [[0.0, 0.0, 0.0, 0.5, 0.5, 0.5]]);
    let found = of_state(tensor("h", &[1, 4, 3], 0.0)).unwrap();
    assert!(lstms(&found)[0].start.is_none());
    let found = of_state(input("h")).unwrap();
    assert_eq!(
        found.notes,
        ["node Y: the caller carries the state; it starts with zeros here"]
    );
    let wrong = of_state(tensor("h", &[1, 3], 0.5)).unwrap_err().to_string();
    assert!(wrong.ends_with("node Y: initial_h: expected [D, B, H], got [1, 3]"));
}

#[test]
fn without_an_lstm() {
    let scan = [
        input("X"),
        node("Scan", &["X"], &["Y"], &[]),
        node("QLinearConv", &["Y"], &["Z"], &[]),
        output("Z"),
    ];
    assert_eq!(problem(&scan), "holds no LSTM node: Scan, QLinearConv");
    let mut off = lstm_with(&[], &[], &[]);
    off[4] = output("Z");
    off.push(node("Relu", &["X"], &["Z"], &[]));
    assert_eq!(
        problem(&off),
        "expected an LSTM node on the way to an output, got none that leads to Z"
    );
    let gru = [
        input("X"),
        tensor("W", &[1, 9, 2], 0.5),
        tensor("R", &[1, 9, 3], 0.25),
        node(
            "GRU",
            &["X", "W", "R"],
            &["Y"],
            &[attribute("hidden_size", write::int(3, 3))],
        ),
        output("Y"),
    ];
    let found = read(&of(&gru), &Options::default()).unwrap();
    assert_eq!(words(&found), "[GRU 2->3]");
}

#[test]
fn no_models() {
    let source = |bytes: &[u8]| Source::from_bytes(Path::new("a"), bytes.to_vec());
    let whole = of(&lstm_with(&[], &[], &[]));
    // A model that was cut is one, and is refused by the reader.
    let cut = source(&whole.bytes()[..whole.bytes().len() - 20]);
    assert!(is(&cut));
    let problem = read(&cut, &Options::default()).unwrap_err().to_string();
    assert!(problem.ends_with("expected a protocol buffer, got one that ends too early"));
    for other in [
        &b""[..],
        b"{}",
        b"\x08\x08",
        b"\x0a\x03\x0a\x01a",
        b"PK\x03\x04",
        b"\x89HDF\r\n\x1a\n",
        b"\x80\x02}q\x00.",
        b"\x08\x00\x00\x00\x00\x00\x00\x00{}",
        b"\x1c\x00\x00\x00TFL3",
    ] {
        assert!(!is(&source(other)), "{other:?}");
    }
    let empty = read(&source(b"\x08\x08"), &Options::default()).unwrap_err();
    assert_eq!(empty.to_string(), "a: expected a graph, got none");
}

/// What is between layers and cannot be followed has a name, and is not left out.
#[test]
fn other_layers() {
    let behind = |more: &[Vec<u8>]| {
        let mut parts = lstm_with(&[], &[], more);
        parts[4] = output("Z");
        words(&read(&of(&parts), &Options::default()).unwrap())
    };
    let axis = |axis: i64| attribute("axis", write::int(3, axis));
    assert_eq!(
        behind(&[node("LeakyRelu", &["Y"], &["Z"], &[])]),
        "lstm [LeakyRelu]"
    );
    // The columns of the layer are not turned into time steps without a word.
    let table = tensor("table", &[3, 2], 1.0);
    assert_eq!(
        behind(&[
            table.clone(),
            node("Transpose", &["Y"], &["turned"], &[]),
            node("MatMul", &["turned", "table"], &["Z"], &[]),
        ]),
        "lstm [MatMul]"
    );
    assert_eq!(
        behind(&[table, node("MatMul", &["Y", "table"], &["Z"], &[])]),
        "lstm dense"
    );
    // The last of time steps, and one in the middle.
    let index = |value: i64| integers("index", &[value]);
    let taken = |value: i64| {
        let gather = node("Gather", &["Y", "index"], &["Z"], &[axis(0)]);
        behind(&[index(value), gather])
    };
    assert_eq!(taken(-1), "lstm");
    assert_eq!(taken(1), "lstm [Gather]");
    assert_eq!(
        behind(&[node("Softmax", &["Y"], &["Z"], &[axis(0)])]),
        "lstm [Softmax]"
    );
    // Two ways that meet.
    assert_eq!(
        behind(&[
            node("Tanh", &["Y"], &["a"], &[]),
            node("Sigmoid", &["Y"], &["b"], &[]),
            node("Mul", &["a", "b"], &["Z"], &[]),
        ]),
        "lstm activation activation [Mul of 2 values]"
    );
    // The final state of a layer whose steps are used too.
    assert_eq!(
        behind(&[node("Add", &["Y", "Y_h"], &["Z"], &[]),]),
        "lstm [the final state of a layer of which more is used] [Add of 2 values]"
    );
    assert_eq!(
        behind(&[node("Identity", &["Y_c"], &["Z"], &[])]),
        "lstm [the final cell state of a layer] (Identity)"
    );
    // Units before directions, which is another order of the columns.
    let mut both = lstm_with(&[attribute("direction", text("bidirectional"))], &[], &[]);
    both[1] = tensor("W", &[2, 12, 2], 0.5);
    both[2] = tensor("R", &[2, 12, 3], 0.25);
    both[4] = output("Z");
    both.push(integers("shape", &[0, 0, -1]));
    both.push(tensor("table", &[6, 2], 1.0));
    for (order, expected) in [
        ([0, 2, 1, 3], "lstm dense"),
        ([0, 2, 3, 1], "lstm [MatMul]"),
    ] {
        let order = attribute("perm", order.map(|k| write::int(8, k)).concat());
        let mut parts = both.clone();
        parts.push(node("Transpose", &["Y"], &["turned"], &[order]));
        parts.push(node("Reshape", &["turned", "shape"], &["flat"], &[]));
        parts.push(node("MatMul", &["flat", "table"], &["Z"], &[]));
        let found = read(&of(&parts), &Options::default()).unwrap();
        assert_eq!(words(&found), expected);
    }
    // Over the batch of the layer before.
    let second = [
        node("Squeeze", &["Y", "one"], &["y"], &[]),
        integers("one", &[1]),
        node(
            "Transpose",
            &["y"],
            &["turned"],
            &[attribute(
                "perm",
                [1, 0, 2].map(|k| write::int(8, k)).concat(),
            )],
        ),
        tensor("V", &[1, 12, 3], 0.5),
        node("LSTM", &["turned", "V", "R"], &["Z"], &[]),
    ];
    assert_eq!(
        behind(&second),
        "lstm [LSTM 3->3 over another axis than the layer before it]"
    );
}

/// A graph that doubles a constant again and again has no memory to take.
#[test]
fn endless_constants() {
    let mut more = Vec::new();
    let mut name = "W".to_owned();
    for k in 0..60 {
        let next = format!("w{k}");
        let concat = node(
            "Concat",
            &[&name, &name],
            &[&next],
            &[attribute("axis", write::int(3, 1))],
        );
        more.push(concat);
        name = next;
    }
    let mut parts = lstm_with(&[], &[], &[]);
    parts.splice(3..4, more);
    parts.push(node("LSTM", &["X", &name, "R"], &["Y"], &[]));
    assert_eq!(
        problem(&parts),
        "node Y: expected constant weights W, got the result of Concat"
    );
    // And so has one that uses the same weights for any number of layers.
    let mut parts = vec![shaped("X", &[0, 0, 100]), tensor("K", &[100, 100], 0.5)];
    parts.extend((0..2000).map(|_| node("MatMul", &["X", "K"], &["X"], &[])));
    parts.push(output("X"));
    assert_eq!(
        problem(&parts),
        "the constants of the graph take too much memory"
    );
}
