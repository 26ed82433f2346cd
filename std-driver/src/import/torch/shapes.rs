//! Names and shapes of tensors, as JSON: what becomes of them and what is refused.

use super::{is, read};
use crate::Error;
use crate::import::{Found, Kind, Options, Source};
use fused_lstm::{Activation, Direction};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Nested lists of this shape.
fn filled(shape: &[usize]) -> Value {
    match shape {
        [] => json!(0.25),
        [len, rest @ ..] => vec![filled(rest); *len].into(),
    }
}

type Tensors<'a> = [(&'a str, &'a [usize])];

/// In the order that is given, which the map of the JSON library may not keep.
fn text(tensors: &Tensors) -> String {
    let each = tensors.iter();
    let each: Vec<String> = each
        .map(|(name, shape)| format!("{name:?}: {}", filled(shape)))
        .collect();
    format!("{{{}}}", each.join(", "))
}

fn open(text: &str, part: Option<&str>) -> Result<Found, Error> {
    let source = Source::from_bytes(Path::new("state.json"), text.into());
    assert!(is(&source), "{text}");
    let options = Options {
        part: part.map(Into::into),
        ..Options::default()
    };
    read(&source, &options)
}

#[track_caller]
fn refused(tensors: &Tensors, problem: &str) {
    let error = open(&text(tensors), None).unwrap_err().to_string();
    assert_eq!(error, format!("state.json: {problem}"));
}

/// Names and kinds.
fn layers(found: &Found) -> Vec<String> {
    let each = found.layers.iter().map(|layer| {
        let kind = match &layer.kind {
            Kind::Lstm(lstm) => {
                let both = lstm.direction == Direction::Both;
                let both = if both { " both" } else { "" };
                let projected = lstm
                    .cell
                    .projection
                    .map_or(String::new(), |p| format!("->{p}"));
                format!(
                    "LSTM {}->{}{projected}{both}",
                    lstm.layer.inputs, lstm.layer.hidden
                )
            }
            Kind::Dense {
                inputs, outputs, ..
            } => format!("dense {inputs}->{outputs}"),
            Kind::Embedding { rows, width, .. } => format!("table {rows}x{width}"),
            Kind::Affine { scale, .. } => format!("affine {}", scale.len()),
            Kind::Other(what) => what.clone(),
            kind => format!("{kind:?}"),
        };
        format!("{}: {kind}", layer.name)
    });
    each.collect()
}

#[track_caller]
fn reads(tensors: &Tensors, part: Option<&str>, expected: &[&str]) -> Vec<String> {
    let found = open(&text(tensors), part).unwrap();
    assert_eq!(layers(&found), expected);
    found.notes
}

const IH: (&str, &[usize]) = ("lstm.weight_ih_l0", &[16, 3]);
const HH: (&str, &[usize]) = ("lstm.weight_hh_l0", &[16, 4]);

#[test]
fn embeddings_and_heads() {
    let words: (&str, &[usize]) = ("words.weight", &[9, 3]);
    let out: (&str, &[usize]) = ("out.weight", &[9, 4]);
    let expected = ["words: table 9x3", "lstm.l0: LSTM 3->4", "out: dense 4->9"];
    let notes = reads(&[words, IH, HH, out], None, &expected);
    let taken = "words has as many columns as the next layer has inputs and no bias: it is taken for \
        an embedding, not for a dense layer.";
    assert!(notes.contains(&taken.to_owned()), "{notes:?}");
    // Its name tells what it is.
    let words: (&str, &[usize]) = ("tok_embeddings.weight", &[9, 3]);
    let notes = reads(
        &[words, IH, HH],
        None,
        &["tok_embeddings: table 9x3", "lstm.l0: LSTM 3->4"],
    );
    assert!(!notes.join("").contains("taken for"), "{notes:?}");
    // A second table is none that a chain can have, but it is one.
    let chars: (&str, &[usize]) = ("char_embedding.weight", &[5, 3]);
    let expected = [
        "tok_embeddings: table 9x3",
        "char_embedding: table 5x3",
        "lstm.l0: LSTM 3->4",
    ];
    reads(&[words, chars, IH, HH], None, &expected);
    // A dense layer without a bias, by its rows.
    let dense: (&str, &[usize]) = ("in.weight", &[3, 7]);
    let expected = ["in: dense 7->3", "lstm.l0: LSTM 3->4"];
    let notes = reads(&[dense, IH, HH], None, &expected);
    let taken = "in is taken for a dense layer without a bias, not for an embedding.";
    assert!(notes.contains(&taken.to_owned()), "{notes:?}");
    // Behind what is not known, it is the LSTM that tells.
    let conv: (&str, &[usize]) = ("conv.weight", &[3, 5, 2]);
    let expected = [
        "conv: Conv1d 5->3, kernel 2",
        "lstm.l0: LSTM 3->4",
        "out: dense 4->9",
    ];
    reads(&[conv, IH, HH, out], None, &expected);
}

#[test]
fn norms() {
    let tensors: &Tensors = &[
        IH,
        HH,
        ("bn.weight", &[4]),
        ("bn.bias", &[4]),
        ("bn.running_mean", &[4]),
        ("bn.running_var", &[4]),
        ("bn.num_batches_tracked", &[]),
    ];
    let found = open(&text(tensors), None).unwrap();
    assert_eq!(layers(&found), ["lstm.l0: LSTM 3->4", "bn: affine 4"]);
    let Kind::Affine { scale, shift } = &found.layers[1].kind else {
        panic!();
    };
    let factor = 0.25 / 0.25001f64.sqrt();
    assert!((f64::from(scale[0]) - factor).abs() < 1e-7);
    assert!((f64::from(shift[0]) - (0.25 - 0.25 * factor)).abs() < 1e-7);
    let wrong: &Tensors = &[IH, HH, ("bn.running_mean", &[4]), ("bn.running_var", &[3])];
    refused(wrong, "key bn.running_var: expected shape [4], got [3]");
    let text = text(&[IH, HH, ("bn.running_mean", &[1]), ("bn.running_var", &[1])]);
    let negative = text.replace("\"bn.running_var\": [0.25]", "\"bn.running_var\": [-1]");
    let error = open(&negative, None).unwrap_err().to_string();
    let expected = "key bn.running_var: expected no numbers below 0, got -1";
    assert_eq!(error, format!("state.json: {expected}"));
}

#[test]
fn wrong_shapes() {
    refused(&[IH], "key lstm.weight_hh_l0: expected a tensor, got none");
    refused(
        &[IH, ("lstm.weight_hh_l0", &[16, 5])],
        "key lstm.weight_hh_l0: expected shape [4·H, H], got [16, 5]",
    );
    refused(
        &[IH, ("lstm.weight_hh_l0", &[16])],
        "key lstm.weight_hh_l0: expected shape [4·H, H], got [16]",
    );
    refused(
        &[("lstm.weight_ih_l0", &[12, 3]), HH],
        "key lstm.weight_ih_l0: expected shape [16, I], got [12, 3]",
    );
    refused(
        &[IH, HH, ("lstm.bias_ih_l0", &[16])],
        "key lstm.bias_hh_l0: expected a tensor, got none",
    );
    refused(
        &[
            IH,
            HH,
            ("lstm.bias_ih_l0", &[16]),
            ("lstm.bias_hh_l0", &[12]),
        ],
        "key lstm.bias_hh_l0: expected shape [16], got [12]",
    );
    let second: (&str, &[usize]) = ("lstm.weight_hh_l1", &[16, 4]);
    refused(
        &[IH, HH, ("lstm.weight_ih_l1", &[16, 3]), second],
        "key lstm.weight_ih_l1: expected 4 columns, as the layer below has so many outputs, got 3",
    );
    refused(
        &[IH, HH, ("lstm.weight_ih_l2", &[16, 4])],
        "key lstm.weight_ih_l1: expected a tensor, got none",
    );
    refused(
        &[IH, HH, ("lstm.weight_ih_l0_reverse", &[16, 3])],
        "key lstm.weight_hh_l0_reverse: expected a tensor, got none",
    );
    refused(
        &[
            IH,
            HH,
            ("lstm.weight_ih_l0_reverse", &[8, 3]),
            ("lstm.weight_hh_l0_reverse", &[8, 2]),
        ],
        "key lstm.weight_hh_l0_reverse: expected the sizes of the other direction, got others",
    );
    refused(
        &[
            IH,
            ("lstm.weight_hh_l0", &[16, 2]),
            ("lstm.weight_hr_l0", &[2, 3]),
        ],
        "key lstm.weight_hr_l0: expected shape [2, 4], got [2, 3]",
    );
    refused(
        &[IH, HH, ("head.weight", &[2, 4]), ("head.bias", &[3])],
        "key head.bias: expected shape [2], got [3]",
    );
    refused(
        &[IH, HH, HH],
        "key lstm.weight_hh_l0: expected one tensor, got two",
    );
}

#[test]
fn all_kinds() {
    let projected = [
        IH,
        ("lstm.weight_hh_l0", &[16, 2][..]),
        ("lstm.weight_hr_l0", &[2, 4]),
    ];
    reads(&projected, None, &["lstm.l0: LSTM 3->4->2"]);
    reads(
        &[("weight_ih", &[16, 3]), ("weight_hh", &[16, 4])],
        None,
        &["cell: LSTM 3->4"],
    );
    let cells: &Tensors = &[
        ("a.1.weight_ih", &[16, 3]),
        ("a.1.weight_hh", &[16, 4]),
        ("a.0.weight_ih", &[8, 4]),
        ("a.0.weight_hh", &[8, 2]),
    ];
    reads(cells, None, &["a.1: LSTM 3->4", "a.0: LSTM 4->2"]);
    let gru: &Tensors = &[
        IH,
        HH,
        ("gru.weight_ih_l0", &[12, 4]),
        ("gru.weight_hh_l0", &[12, 4]),
        ("odd.weight_g", &[3]),
        ("odd.weight_v", &[3, 4]),
        ("scale", &[4]),
    ];
    let expected = [
        "lstm.l0: LSTM 3->4",
        "gru: GRU 4->4",
        "odd: tensors weight_g [3], weight_v [3, 4]",
        "scale: parameters [4]",
    ];
    reads(gru, None, &expected);
    let wrapped: &Tensors = &[
        ("module._orig_mod.l.weight_ih_l0", &[16, 3]),
        ("module._orig_mod.l.weight_hh_l0", &[16, 4]),
    ];
    reads(wrapped, None, &["l.l0: LSTM 3->4"]);
}

#[test]
fn the_order() {
    let head: &Tensors = &[("fc.weight", &[2, 4]), ("fc.bias", &[2])];
    let (weight, bias) = (head[0], head[1]);
    // By the alphabet, and so by the widths.
    let alphabet = [bias, weight, HH, IH];
    let notes = reads(&alphabet, None, &["lstm.l0: LSTM 3->4", "fc: dense 4->2"]);
    assert!(notes[1].contains("order of the alphabet"), "{notes:?}");
    // As it is made, and so by the widths too.
    let notes = reads(
        &[weight, bias, IH, HH],
        None,
        &["lstm.l0: LSTM 3->4", "fc: dense 4->2"],
    );
    assert!(
        notes[1].contains("do not follow on each other"),
        "{notes:?}"
    );
    // Both orders are possible: the author's is taken, the alphabet's is not.
    let square = [
        ("fc.weight", &[4, 4][..]),
        ("fc.bias", &[4]),
        ("lstm.weight_ih_l0", &[16, 4]),
        HH,
    ];
    reads(&square, None, &["fc: dense 4->4", "lstm.l0: LSTM 4->4"]);
    let four: [(&str, &[usize]); 4] = [
        ("fc.bias", &[4]),
        ("fc.weight", &[4, 4]),
        ("lstm.weight_hh_l0", &[16, 4]),
        ("lstm.weight_ih_l0", &[16, 4]),
    ];
    refused(
        &four,
        "expected one order in which the widths of the layers fit, got several of fc, lstm: \
        name them by --part, in the order in which they run, with commas between",
    );
    reads(
        &four,
        Some("lstm, fc"),
        &["lstm.l0: LSTM 4->4", "fc: dense 4->4"],
    );
    reads(
        &four,
        Some("fc,lstm"),
        &["fc: dense 4->4", "lstm.l0: LSTM 4->4"],
    );
    let notes = reads(&four, Some("lstm"), &["lstm.l0: LSTM 4->4"]);
    assert!(
        notes.contains(&"Not of the part, and left out: fc.".to_owned()),
        "{notes:?}"
    );
    let error = open(&text(&four), Some("lstn")).unwrap_err().to_string();
    assert_eq!(
        error,
        "state.json: expected the part to be some of fc, lstm, got lstn"
    );
    // Two heads cannot follow on each other.
    let heads = [
        IH,
        HH,
        weight,
        bias,
        ("v.weight", &[1, 4][..]),
        ("v.bias", &[1]),
    ];
    let notes = reads(
        &heads,
        None,
        &["lstm.l0: LSTM 3->4", "fc: dense 4->2", "v: dense 4->1"],
    );
    assert!(notes.join("").contains("is not known"), "{notes:?}");
    reads(
        &heads,
        Some("lstm,v"),
        &["lstm.l0: LSTM 3->4", "v: dense 4->1"],
    );
}

#[test]
fn parts_by_layers_and_numbers() {
    let stack: &Tensors = &[
        IH,
        HH,
        ("lstm.weight_ih_l1", &[16, 4]),
        ("lstm.weight_hh_l1", &[16, 4]),
        ("fc.weight", &[2, 4]),
        ("fc.bias", &[2]),
        ("out.weight", &[1, 2]),
        ("out.bias", &[1]),
    ];
    reads(stack, Some("lstm.l0"), &["lstm.l0: LSTM 3->4"]);
    let expected = ["lstm.l1: LSTM 4->4", "fc: dense 4->2"];
    reads(stack, Some("lstm.l1,fc"), &expected);
    let notes = open(&text(stack), None).unwrap().notes;
    let note = "Between fc and out nothing is assumed: an activation there is not in the file.";
    assert!(notes.contains(&note.to_owned()), "{notes:?}");
    let names = ["0", "1", "10", "2"].map(|k| {
        [
            format!("cells.{k}.weight_hh"),
            format!("cells.{k}.weight_ih"),
        ]
    });
    let names = names.as_flattened();
    let cells: Vec<(&str, &[usize])> = names.iter().map(|name| (&name[..], &[16, 4][..])).collect();
    let head: [(&str, &[usize]); 2] = [("out.bias", &[1]), ("out.weight", &[1, 4])];
    let expected = [
        "cells.0: LSTM 4->4",
        "cells.1: LSTM 4->4",
        "cells.2: LSTM 4->4",
        "cells.10: LSTM 4->4",
        "out: dense 4->1",
    ];
    reads(&[&cells[..], &head].concat(), Some("cells,out"), &expected);
}

#[test]
fn json_files() {
    let good = text(&[IH, HH]);
    assert!(open(&good, None).is_ok());
    let nested = format!("{{\"epoch\": 3, \"state_dict\": {good}}}");
    let notes = open(&nested, None).unwrap().notes;
    assert_eq!(notes[0], "Not weights, and left out: epoch.");
    let error = |text: &str| open(text, None).unwrap_err().to_string();
    let wrong = good.replacen("[0.25,0.25,0.25]", "[0.25,0.25]", 1);
    let text = error(&wrong);
    assert!(
        text.contains("key lstm.weight_ih_l0: expected rows of 2, got one of 3"),
        "{text}"
    );
    let wrong = good.replacen("[0.25,0.25,0.25]", "0.25", 1);
    let text = error(&wrong);
    assert!(text.contains("got a list beside a number"), "{text}");
    let wrong = good.replacen("0.25,", "[0.25],", 1);
    let text = error(&wrong);
    assert!(text.contains("got a number beside a list"), "{text}");
    let wrong = good.replacen("0.25", "1e39", 1);
    let text = error(&wrong);
    assert!(
        text.contains("key lstm.weight_ih_l0: expected finite numbers, got inf at 0"),
        "{text}"
    );
    for (from, to) in [
        ("0.25", "NaN"),
        ("0.25", "1e400"),
        ("]}", "]"),
        ("]}", "]} 1"),
    ] {
        let text = error(&good.replacen(from, to, 1));
        assert!(
            text.starts_with("state.json: expected a state dictionary in JSON, got: "),
            "{text}"
        );
    }
    let deep = format!(
        "{{\"lstm.weight_ih_l0\": {}1{}}}",
        "[".repeat(9),
        "]".repeat(9)
    );
    assert!(error(&deep).contains("expected at most 8 dimensions, got more"));
    let deep = format!("{{\"lstm.weight_ih_l0\": {}", "[".repeat(100_000));
    assert!(!error(&deep).is_empty());
    // Other files in JSON.
    let other = [
        "[1, 2]",
        "{}",
        "{\"layers\": []}",
        "{\"model_data\": {}, \"state_dict\": {\"rec.weight_ih_l0\": [[1]]}}",
        "",
        "{\"a\"",
    ];
    for text in other {
        assert!(
            !is(&Source::from_bytes(Path::new("other.json"), text.into())),
            "{text}"
        );
    }
}

/// This project's own files are not PyTorch's.
#[test]
fn own_files() {
    let file = |names: &[&str], metadata: Option<(&str, &str)>| {
        let mut header = Map::new();
        for name in names {
            let info = json!({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]});
            header.insert((*name).into(), info);
        }
        if let Some((key, value)) = metadata {
            header.insert("__metadata__".into(), json!({key: value}));
        }
        let header = Value::from(header).to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        is(&Source::from_bytes(Path::new("file"), bytes))
    };
    assert!(file(&["lstm.weight_ih_l0"], None));
    assert!(file(&["head.weight"], Some(("format", "pt"))));
    assert!(!file(
        &["lstm.0.kernel", "lstm.0.bias", "dense.kernel"],
        None
    ));
    assert!(!file(&["lstm.weight_ih_l0"], Some(("fused-lstm", "{}"))));
    assert!(!file(&["x", "y"], None));
}

#[test]
fn activations_by_class() {
    use super::modules::silent;
    let is = |class: &str, kind: Activation| matches!(silent(class), Kind::Activation(got) if got == kind);
    assert!(is("Tanh", Activation::Tanh) && is("ReLU", Activation::Relu));
    assert!(is(
        "Hardsigmoid",
        Activation::HardSigmoid { slope: 1.0 / 6.0 }
    ));
    assert!(matches!(silent("Dropout"), Kind::Nothing(_)));
    assert!(matches!(silent("GELU"), Kind::Other(_)));
}
