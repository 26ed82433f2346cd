//! `export`: a network's weights as something that firmware builds in.

mod chain;

use crate::Error;
use crate::chain::Network;
use crate::files::{Uses, Written, replace};
use crate::import;
use crate::weights::{Start, Weights};
use std::fmt::Write;
use std::path::Path;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// All parameters, then the state if there is one, in the core's layout: little-endian f32,
    /// nothing else.
    Bin,
    /// A C header: the sizes and one array in the core's layout.
    C,
    /// A Rust file: the network's type, and a `static` of it; of a chain, its stages, and a type or
    /// function that runs them.
    Rust,
}

/// An export.
#[derive(Clone, Copy, Debug)]
pub struct Export<'a> {
    /// The network: a model or a checkpoint.
    pub model: &'a Path,
    /// What to write.
    pub format: Format,
    /// Where.
    pub output: &'a Path,
    /// What the names in a C header begin with, so that two of them fit into one program: the
    /// output's own name if it is not said.
    pub name: Option<&'a str>,
    /// Whether the output may replace any file but the model.
    pub force: bool,
}

/// Writes a network's weights, and the state that it starts from if it has one. Numbers that are
/// not finite are refused as they are read.
pub fn export(export: Export) -> Result<(), Error> {
    let Export {
        model,
        format,
        output,
        name,
        force,
    } = export;
    let name = match (name, format) {
        (Some(name), Format::C) if is_identifier(name) => name.to_owned(),
        (Some(name), Format::C) => {
            let expected = "letters, digits and underscores, and no digit first";
            return Err(Error::setting("name", expected, name));
        }
        (Some(_), _) => {
            let expected = "--format c, whose names it is for";
            return Err(Error::setting("name", expected, "another format"));
        }
        (None, _) => identifier(output),
    };
    let uses = Uses {
        read: &[("model", model)],
        written: &[Written {
            flag: "output",
            path: output,
            contents: None,
        }],
        force,
    };
    uses.check()?;
    let network = import::open_model(model)?;
    let (params, start) = match &network {
        Network::Plain(weights) => {
            let start = weights.start.as_ref();
            (&weights.params, start.map_or(&[][..], |start| &start.state))
        }
        Network::Chain(chain) => (&chain.params, chain.start.as_deref().unwrap_or(&[])),
    };
    let bytes = match (format, &network) {
        (Format::Bin, _) => {
            let all = params.iter().chain(start);
            all.flat_map(|v| v.to_le_bytes()).collect()
        }
        (Format::C, Network::Plain(weights)) => c_header(weights, &name).into_bytes(),
        (Format::C, Network::Chain(model)) => chain::c_header(model, &name).into_bytes(),
        (Format::Rust, Network::Plain(weights)) => rust_file(weights).into_bytes(),
        (Format::Rust, Network::Chain(model)) => chain::rust_file(model).into_bytes(),
    };
    replace(output, &bytes)
}

fn is_identifier(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty() && name.chars().all(letter)
}

/// A file's name as names in C can begin.
fn identifier(path: &Path) -> String {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = name.chars().map(letter).collect();
    if is_identifier(&name) {
        name
    } else {
        format!("model_{name}")
    }
}

fn c_header(weights: &Weights, name: &str) -> String {
    let upper = name.to_uppercase();
    let hidden: Vec<_> = weights.hidden.iter().map(usize::to_string).collect();
    let mut text = format!(
        "/* Written by fused-lstm export. Include it in one file. */\n\
         #ifndef {upper}_INPUTS\n\
         #define {upper}_INPUTS {}\n#define {upper}_LAYERS {}\n\
         #define {upper}_HIDDEN {{{}}}\n#define {upper}_CLASSES {}\n",
        weights.inputs,
        hidden.len(),
        hidden.join(", "),
        weights.classes.unwrap_or(0),
    );
    text += &c_array(name, "params", &weights.params);
    if let Some(Start { batch, state }) = &weights.start {
        let _ = writeln!(text, "#define {upper}_BATCH {batch}");
        text += &c_array(name, "state", state);
    }
    text + "#endif\n"
}

/// Nine significant digits give back every f32's bits.
fn c_array(name: &str, what: &str, values: &[f32]) -> String {
    let size = format!("{name}_{what}").to_uppercase();
    let mut text = format!(
        "#define {size} {}\nstatic const float {name}_{what}[{size}] = {{\n",
        values.len()
    );
    for row in values.chunks(6) {
        let row: Vec<_> = row.iter().map(|value| format!("{value:.8e}f")).collect();
        let _ = writeln!(text, "    {},", row.join(", "));
    }
    text + "};\n"
}

/// A Rust value and its type.
struct Item {
    kind: String,
    value: String,
}

/// A stack of layers, or of something of theirs.
fn stacked(layers: impl Iterator<Item = Item>) -> Item {
    let on_top = |below: Item, above: Item| Item {
        kind: format!("Stack<{}, {}>", below.kind, above.kind),
        value: format!(
            "Stack {{\nbelow: {},\nabove: {},\n}}",
            below.value, above.value
        ),
    };
    let none = Item {
        kind: String::new(),
        value: String::new(),
    };
    layers.reduce(on_top).unwrap_or(none)
}

/// Takes numbers from the front.
fn take<'a>(values: &mut &'a [f32], n: usize) -> &'a [f32] {
    let (first, rest) = values.split_at(n);
    *values = rest;
    first
}

/// Rust prints as many digits as give back every f32's bits.
fn rust_file(weights: &Weights) -> String {
    let mut rest = &weights.params[..];
    let mut outputs = weights.inputs;
    let layers = weights.hidden.iter().map(|&hidden| {
        let inputs = std::mem::replace(&mut outputs, hidden);
        Item {
            kind: format!("Lstm<{inputs}, {hidden}>"),
            value: format!(
                "Lstm {{\n\
                 input_kernel: {},\n\
                 recurrent_kernel: {},\n\
                 bias: {},\n}}",
                array(take(&mut rest, inputs * 4 * hidden), &[inputs, 4, hidden]),
                array(take(&mut rest, hidden * 4 * hidden), &[hidden, 4, hidden]),
                array(take(&mut rest, 4 * hidden), &[4, hidden]),
            ),
        }
    });
    let mut net = stacked(layers);
    let layers = std::mem::replace(&mut net.kind, "Layers".into());
    let mut names = vec!["Aligned", "Lstm"];
    if weights.hidden.len() > 1 {
        names.push("Stack");
    }
    if let Some(classes) = weights.classes {
        names.splice(1..1, ["Classifier", "Dense"]);
        net = Item {
            kind: format!("Classifier<{}, {outputs}, {classes}>", net.kind),
            value: format!(
                "Classifier {{\nlstm: {},\ndense: Dense {{\nkernel: {},\nbias: {},\n}},\n}}",
                net.value,
                array(take(&mut rest, outputs * classes), &[outputs, classes]),
                array(take(&mut rest, classes), &[classes]),
            ),
        };
    }
    let mut start = String::new();
    if let Some(Start { batch, state }) = &weights.start {
        let at = names.iter().position(|&name| name == "Lstm").unwrap_or(0);
        names.insert(at + 1, "LstmState");
        let mut rest = &state[..];
        let layers = weights.hidden.iter().map(|&hidden| Item {
            kind: format!("LstmState<{batch}, {hidden}>"),
            value: format!(
                "LstmState {{\nc: {},\nh: {},\n}}",
                array(take(&mut rest, batch * hidden), &[*batch, hidden]),
                array(take(&mut rest, batch * hidden), &[*batch, hidden]),
            ),
        });
        let Item { kind, value } = stacked(layers);
        start = format!(
            "\n/// The state that it starts from.\n\
             pub static STATE: Aligned<{kind}> = Aligned({value});\n"
        );
    }
    format!(
        "// Written by fused-lstm export.\n\n\
         use fused_lstm::{{{}}};\n\n\
         /// The LSTM layers: their sizes.\n\
         pub type Layers = {layers};\n\n\
         /// The network.\n\
         pub type Net = {};\n\n\
         /// Its weights.\n\
         pub static NET: Aligned<Net> = Aligned({});\n{start}",
        names.join(", "),
        net.kind,
        net.value,
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
