//! A network in words: a table of its layers, and what it costs.

use crate::chain::ChainModel;
use crate::import::{Kind, Layer};
use fused_lstm::{Activation, Cell, Chain, Direction, Extent, LstmStage, Returns, Stage, Storage};
use serde::Serialize;
use std::fmt::Write;

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The layer's name.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// What goes in and comes out.
    pub sizes: String,
    /// What is special about it.
    pub options: String,
    /// How many parameters it has.
    pub parameters: usize,
}

/// What a network costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Costs {
    /// All parameters.
    pub parameters: usize,
    /// The bytes that they take.
    pub bytes: usize,
    /// Multiply–adds of one step of one row.
    pub multiply_adds: usize,
    /// Numbers of a row's state.
    pub state: usize,
    /// Bytes of flash that the weights and a state to start from take once they are exported.
    pub flash_bytes: usize,
    /// Bytes of RAM that a step of one row takes: the state, the buffers and the room.
    pub ram_bytes: usize,
}

fn function(activation: Activation) -> String {
    match activation {
        Activation::Tanh => "tanh".into(),
        Activation::Sigmoid => "sigmoid".into(),
        Activation::Relu => "relu".into(),
        Activation::Softmax => "softmax".into(),
        Activation::HardSigmoid { slope } => format!("hard sigmoid of slope {slope:.4}"),
        _ => "linear".into(),
    }
}

fn options(stage: &LstmStage) -> String {
    let cell = &stage.cell;
    let mut all: Vec<String> = vec![
        match stage.direction {
            Direction::Reverse => "reverse",
            Direction::Both => "both directions",
            _ => "forward",
        }
        .into(),
        match stage.returns {
            Returns::Last => "last step",
            Returns::Mean => "mean of the steps",
            _ => "every step",
        }
        .into(),
    ];
    let plain = Cell::PLAIN;
    let functions = [
        ("gates", cell.gates, plain.gates),
        ("candidate", cell.candidate, plain.candidate),
        ("output", cell.output, plain.output),
    ];
    for (what, own, plain) in functions {
        if own != plain {
            all.push(format!("{what} {}", function(own)));
        }
    }
    match stage.storage {
        Storage::F16 => all.push("weights of half precision".into()),
        Storage::Int8 => all.push("weights of int8".into()),
        _ => {}
    }
    all.extend(cell.peepholes.then(|| "peepholes".into()));
    all.extend(cell.coupled.then(|| "f = 1 - i".into()));
    all.extend(cell.layer_norm.then(|| "layer normalisation".into()));
    let zoneout = [("cell", cell.zoneout.cell), ("hidden", cell.zoneout.hidden)];
    for (what, rate) in zoneout {
        if rate > 0.0 {
            all.push(format!("{what} zoneout {rate}"));
        }
    }
    all.extend(cell.projection.map(|to| format!("projection to {to}")));
    let clips = [
        ("pre-activations", cell.preact_clip),
        ("cell", cell.cell_clip),
        ("projection", cell.projection_clip),
    ];
    for (what, most) in clips {
        if most.is_finite() {
            all.push(format!("{what} clipped to {most}"));
        }
    }
    all.join(", ")
}

fn row(name: &str, kind: &str, sizes: String, options: String, parameters: usize) -> Row {
    Row {
        name: name.into(),
        kind: kind.into(),
        sizes,
        options,
        parameters,
    }
}

/// How many parameters a stage has, whatever they are stored as.
fn parameters(stage: &Stage) -> usize {
    match *stage {
        Stage::Lstm(lstm) => {
            let storage = Storage::F32;
            LstmStage { storage, ..lstm }.params_len()
        }
        _ => stage.params_len(),
    }
}

fn stage_row(name: &str, stage: &Stage) -> Row {
    let parameters = parameters(stage);
    match stage {
        Stage::Embedding { rows, width } => row(
            name,
            "embedding",
            format!("{rows} rows of {width}"),
            String::new(),
            parameters,
        ),
        Stage::Dense(shape) => {
            let sizes = format!("{} -> {}", shape.inputs, shape.outputs);
            row(name, "dense", sizes, String::new(), parameters)
        }
        Stage::Activation(activation) => {
            row(name, "activation", String::new(), function(*activation), 0)
        }
        Stage::Lstm(lstm) => {
            let outputs = lstm.outputs();
            let sizes = match lstm.direction {
                Direction::Both => format!("{} -> {outputs} + {outputs}", lstm.layer.inputs),
                _ => format!("{} -> {outputs}", lstm.layer.inputs),
            };
            row(name, "LSTM", sizes, options(lstm), parameters)
        }
        Stage::Skip { first, gain } => {
            let options = format!("adds {gain} times the input, from column {first} on");
            row(name, "skip", String::new(), options, 0)
        }
        Stage::Gain(gain) => row(name, "gain", String::new(), format!("times {gain}"), 0),
        Stage::Flatten { steps } => {
            let options = format!("{steps} steps side by side");
            row(name, "flatten", String::new(), options, 0)
        }
        Stage::Mask { .. } => row(name, "mask", String::new(), "in training only".into(), 0),
        _ => row(name, "reverse", String::new(), "the steps".into(), 0),
    }
}

/// The layers of a file.
pub fn layers(layers: &[Layer]) -> Vec<Row> {
    let each = layers.iter().map(|Layer { name, kind }| match kind {
        Kind::Embedding { rows, width, .. } => stage_row(
            name,
            &Stage::Embedding {
                rows: *rows,
                width: *width,
            },
        ),
        Kind::Dense {
            inputs, outputs, ..
        } => stage_row(
            name,
            &Stage::Dense(fused_lstm::DenseShape::new(*inputs, *outputs)),
        ),
        Kind::Activation(activation) => stage_row(name, &Stage::Activation(*activation)),
        Kind::Lstm(lstm) => {
            let mut row = stage_row(name, &Stage::Lstm(lstm.stage()));
            if lstm.start.is_some() {
                row.options.push_str(", own initial state");
            }
            row
        }
        Kind::Skip { first, gain } => stage_row(
            name,
            &Stage::Skip {
                first: *first,
                gain: *gain,
            },
        ),
        Kind::Gain(gain) => stage_row(name, &Stage::Gain(*gain)),
        Kind::Reverse => stage_row(name, &Stage::Reverse),
        Kind::Flatten { steps } => stage_row(name, &Stage::Flatten { steps: *steps }),
        Kind::Affine { scale, .. } => row(
            name,
            "normalisation",
            scale.len().to_string(),
            "folded".into(),
            2 * scale.len(),
        ),
        Kind::Nothing(what) => row(name, what, String::new(), "left out: no effect".into(), 0),
        Kind::Other(what) => row(name, what, String::new(), "cannot be run here".into(), 0),
    });
    each.collect()
}

/// The stages of a model.
pub fn stages(model: &ChainModel) -> Vec<Row> {
    let each = model.stages.iter();
    each.map(|stage| stage_row(&stage.name, &stage.stage))
        .collect()
}

/// What a model costs.
pub fn costs(model: &ChainModel) -> Costs {
    let stages = model.kinds();
    let one = Extent { steps: 1, batch: 1 };
    let lens = Chain::lengths(model.inputs, &stages, one);
    let products = stages.iter().map(|stage| match stage {
        Stage::Dense(shape) => shape.inputs.saturating_mul(shape.outputs),
        // All but the bias.
        Stage::Lstm(lstm) => {
            let biases = lstm.layer.hidden.saturating_mul(4 * lstm.direction.count());
            parameters(&Stage::Lstm(*lstm)).saturating_sub(biases)
        }
        _ => 0,
    });
    let start = model.start.as_ref().map_or(0, Vec::len);
    // Plain layers need less room than a chain.
    let room = match model.to_weights() {
        Some(weights) => {
            let shape = weights.shape();
            let more = [
                shape.outputs(),
                shape.scratch_len(one),
                shape.logits_len(one),
            ];
            more.into_iter().fold(lens.x, usize::saturating_add)
        }
        None => lens.x.saturating_add(lens.y).saturating_add(lens.scratch),
    };
    let room = room.saturating_add(lens.state);
    Costs {
        parameters: stages.iter().map(parameters).sum(),
        bytes: lens.params.saturating_mul(4),
        multiply_adds: products.fold(0, usize::saturating_add),
        state: lens.state,
        flash_bytes: lens.params.saturating_add(start).saturating_mul(4),
        ram_bytes: room.saturating_mul(4),
    }
}

/// The rows as a table, each column as wide as it must be.
pub fn table(rows: &[Row]) -> String {
    let heads = ["layer", "kind", "sizes", "parameters", "options"];
    let cells: Vec<[String; 5]> = rows
        .iter()
        .map(|row| {
            let parameters = match row.parameters {
                0 => String::new(),
                n => n.to_string(),
            };
            let texts = [&row.name, &row.kind, &row.sizes].map(crate::one_line);
            let [name, kind, sizes] = texts;
            [name, kind, sizes, parameters, crate::one_line(&row.options)]
        })
        .collect();
    let width = |column: usize| {
        let widths = cells.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0).max(heads[column].len())
    };
    let widths = [0, 1, 2, 3, 4].map(width);
    let mut text = String::new();
    let mut line = |cells: [&str; 5]| {
        let mut line = String::new();
        for (column, cell) in cells.into_iter().enumerate() {
            let width = widths[column];
            let _ = match column {
                3 => write!(line, "{cell:>width$}  "),
                _ => write!(line, "{cell:<width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(heads);
    for row in &cells {
        line(row.each_ref().map(String::as_str));
    }
    text
}
