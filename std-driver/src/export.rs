//! `export`: a network's weights as something that firmware builds in.

use crate::Error;
use crate::tensors;
use crate::weights::Weights;
use std::fmt::Write;
use std::path::Path;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// All parameters in the core's layout, little-endian f32, nothing else.
    Bin,
    /// A C header: the sizes and one array in the core's layout.
    C,
    /// A Rust file: the network's type, and a `static` of it.
    Rust,
}

/// Writes the network of `model` to `output`, which must not be there unless `force`.
/// Weights that are not finite are refused as they are read.
pub fn export(model: &Path, format: Format, output: &Path, force: bool) -> Result<(), Error> {
    if !force && output.symlink_metadata().is_ok() {
        let expected = "a new file, or --force to overwrite";
        let got = format!("{}, which exists", output.display());
        return Err(Error::setting("output", expected, got));
    }
    tensors::check_writable(output)?;
    let weights = Weights::open(model)?;
    let bytes = match format {
        Format::Bin => weights
            .params
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        Format::C => c_header(&weights).into_bytes(),
        Format::Rust => rust_file(&weights).into_bytes(),
    };
    tensors::replace(output, &bytes)
}

/// Nine significant digits give back every f32's bits.
fn c_header(weights: &Weights) -> String {
    let hidden: Vec<_> = weights.hidden.iter().map(usize::to_string).collect();
    let mut text = format!(
        "/* Written by fused-lstm export. Include it in one file. */\n\
         #define FUSED_LSTM_INPUTS {}\n#define FUSED_LSTM_LAYERS {}\n\
         #define FUSED_LSTM_HIDDEN {{{}}}\n#define FUSED_LSTM_CLASSES {}\n\
         #define FUSED_LSTM_PARAMS {}\n\
         static const float fused_lstm_params[FUSED_LSTM_PARAMS] = {{\n",
        weights.inputs,
        hidden.len(),
        hidden.join(", "),
        weights.classes.unwrap_or(0),
        weights.params.len(),
    );
    for row in weights.params.chunks(6) {
        let row: Vec<_> = row.iter().map(|value| format!("{value:.8e}f")).collect();
        let _ = writeln!(text, "    {},", row.join(", "));
    }
    text + "};\n"
}

/// Rust prints as many digits as give back every f32's bits.
fn rust_file(weights: &Weights) -> String {
    let (mut rest, mut inputs) = (&weights.params[..], weights.inputs);
    let mut take = |n: usize| {
        let (values, after) = rest.split_at(n);
        rest = after;
        values
    };
    let (mut net_type, mut net) = (String::new(), String::new());
    for (layer, &hidden) in weights.hidden.iter().enumerate() {
        let own_type = format!("Lstm<{inputs}, {hidden}>");
        let own = format!(
            "Lstm {{\n\
             input_kernel: {},\n\
             recurrent_kernel: {},\n\
             bias: {},\n}}",
            array(take(inputs * 4 * hidden), &[inputs, 4, hidden]),
            array(take(hidden * 4 * hidden), &[hidden, 4, hidden]),
            array(take(4 * hidden), &[4, hidden]),
        );
        if layer == 0 {
            (net_type, net) = (own_type, own);
        } else {
            net_type = format!("Stack<{net_type}, {own_type}>");
            net = format!("Stack {{\nbelow: {net},\nabove: {own},\n}}");
        }
        inputs = hidden;
    }
    let mut names = vec!["Aligned", "Lstm"];
    if weights.hidden.len() > 1 {
        names.push("Stack");
    }
    if let Some(classes) = weights.classes {
        names.splice(1..1, ["Classifier", "Dense"]);
        net_type = format!("Classifier<{net_type}, {inputs}, {classes}>");
        net = format!(
            "Classifier {{\nlstm: {net},\ndense: Dense {{\nkernel: {},\nbias: {},\n}},\n}}",
            array(take(inputs * classes), &[inputs, classes]),
            array(take(classes), &[classes]),
        );
    }
    format!(
        "// Written by fused-lstm export.\n\n\
         use fused_lstm::{{{}}};\n\n\
         /// The network: its sizes.\n\
         pub type Net = {net_type};\n\n\
         /// Its weights.\n\
         pub static NET: Aligned<Net> = Aligned({net});\n",
        names.join(", "),
    )
}

/// The values as a nested array of this shape.
fn array(values: &[f32], shape: &[usize]) -> String {
    let parts: Vec<_> = match *shape {
        [_, ref inner @ ..] if !inner.is_empty() => values
            .chunks(inner.iter().product())
            .map(|part| array(part, inner))
            .collect(),
        _ => values.iter().map(|value| format!("{value:?}")).collect(),
    };
    let between = if shape.len() == 3 { ",\n" } else { ", " };
    format!("[{}]", parts.join(between))
}
