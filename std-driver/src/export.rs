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
