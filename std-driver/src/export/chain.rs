//! Chains as source code: their stages, their parameters, and in Rust a type that runs them.

use super::{array, c_array};
use crate::chain::ChainModel;
use fused_lstm::{
    Activation, Cell, Chain, Direction, Extent, LstmStage, Returns, Stage, Storage, Zoneout,
};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Names that a Rust file uses.
type Names = BTreeSet<&'static str>;

fn rust_activation(activation: Activation) -> String {
    match activation {
        Activation::Tanh => "Activation::Tanh".into(),
        Activation::Sigmoid => "Activation::Sigmoid".into(),
        Activation::Relu => "Activation::Relu".into(),
        Activation::Softmax => "Activation::Softmax".into(),
        Activation::HardSigmoid { slope } => {
            format!("Activation::HardSigmoid {{ slope: {slope:?} }}")
        }
        _ => "Activation::Linear".into(),
    }
}

/// The options that are not a plain cell's.
fn rust_cell(cell: &Cell, names: &mut Names) -> Option<String> {
    let plain = Cell::PLAIN;
    let mut fields = Vec::new();
    if let Some(projection) = cell.projection {
        fields.push(format!("projection: Some({projection})"));
    }
    if cell.peepholes {
        fields.push("peepholes: true".into());
    }
    if cell.coupled {
        fields.push("coupled: true".into());
    }
    if cell.layer_norm {
        fields.push("layer_norm: true".into());
    }
    let Zoneout { cell: c, hidden: h } = cell.zoneout;
    if (c, h) != (0.0, 0.0) {
        names.insert("Zoneout");
        fields.push(format!("zoneout: Zoneout {{ cell: {c:?}, hidden: {h:?} }}"));
    }
    let functions = [
        ("gates", cell.gates, plain.gates),
        ("candidate", cell.candidate, plain.candidate),
        ("output", cell.output, plain.output),
    ];
    for (name, own, plain) in functions {
        if own != plain {
            names.insert("Activation");
            fields.push(format!("{name}: {}", rust_activation(own)));
        }
    }
    let clips = [
        ("preact_clip", cell.preact_clip),
        ("cell_clip", cell.cell_clip),
        ("projection_clip", cell.projection_clip),
    ];
    for (name, most) in clips {
        if most.is_finite() {
            fields.push(format!("{name}: {most:?}"));
        }
    }
    if fields.is_empty() {
        return None;
    }
    names.insert("Cell");
    Some(format!("Cell {{ {}, ..Cell::PLAIN }}", fields.join(", ")))
}

fn rust_lstm(lstm: &LstmStage, names: &mut Names) -> String {
    names.extend(["LayerShape", "LstmStage"]);
    let layer = format!(
        "LstmStage::new(LayerShape::new({}, {}))",
        lstm.layer.inputs, lstm.layer.hidden
    );
    let mut fields: Vec<String> = Vec::new();
    fields.extend(rust_cell(&lstm.cell, names).map(|cell| format!("cell: {cell}")));
    let direction = match lstm.direction {
        Direction::Reverse => Some("direction: Direction::Reverse"),
        Direction::Both => Some("direction: Direction::Both"),
        _ => None,
    };
    if let Some(direction) = direction {
        names.insert("Direction");
        fields.push(direction.into());
    }
    let returns = match lstm.returns {
        Returns::Last => Some("returns: Returns::Last"),
        Returns::Mean => Some("returns: Returns::Mean"),
        _ => None,
    };
    if let Some(returns) = returns {
        names.insert("Returns");
        fields.push(returns.into());
    }
    let storage = match lstm.storage {
        Storage::F16 => Some("storage: Storage::F16"),
        Storage::Int8 => Some("storage: Storage::Int8"),
        _ => None,
    };
    if let Some(storage) = storage {
        names.insert("Storage");
        fields.push(storage.into());
    }
    if fields.is_empty() {
        return format!("Stage::Lstm({layer})");
    }
    format!(
        "Stage::Lstm(LstmStage {{ {}, ..{layer} }})",
        fields.join(", ")
    )
}

fn rust_stage(stage: &Stage, names: &mut Names) -> String {
    match stage {
        Stage::Embedding { rows, width } => {
            format!("Stage::Embedding {{ rows: {rows}, width: {width} }}")
        }
        Stage::Dense(shape) => {
            names.insert("DenseShape");
            format!(
                "Stage::Dense(DenseShape::new({}, {}))",
                shape.inputs, shape.outputs
            )
        }
        Stage::Activation(activation) => {
            names.insert("Activation");
            format!("Stage::Activation({})", rust_activation(*activation))
        }
        Stage::Lstm(lstm) => rust_lstm(lstm, names),
        Stage::Skip { first, gain } => format!("Stage::Skip {{ first: {first}, gain: {gain:?} }}"),
        Stage::Gain(gain) => format!("Stage::Gain({gain:?})"),
        Stage::Flatten { steps } => format!("Stage::Flatten {{ steps: {steps} }}"),
        Stage::Mask { per_step } => format!("Stage::Mask {{ per_step: {per_step} }}"),
        _ => "Stage::Reverse".into(),
    }
}

/// The type that takes a stream, one step after the other; `CHAIN` makes a chain of the parameters.
const STREAM: &str = "
/// The lengths of the buffers of a step.
pub const STEP: ChainLengths = Chain::lengths(INPUTS, &STAGES, Extent { steps: 1, batch: 1 });

/// The network with its state: one step after the other, without heap.
pub struct Net {
    state: [f32; STEP.state],
    scratch: [f32; STEP.scratch],
}

impl Net {
    /// At its start.
    pub const fn new() -> Self {
        Self { state: STATE, scratch: [0.0; STEP.scratch] }
    }

    /// One step: the outputs of the inputs. An input that is no row of a table is an error.
    pub fn step(&mut self, x: &[f32; INPUTS]) -> Result<[f32; STEP.y], ArgumentError> {
        let mut y = [0.0; STEP.y];
        let one = Extent { steps: 1, batch: 1 };
        let chain = CHAIN(INPUTS, &STAGES, &PARAMS)?;
        chain.run(one, None, x, &mut self.state, &mut y, &mut self.scratch)?;
        Ok(y)
    }
}

impl Default for Net {
    fn default() -> Self {
        Self::new()
    }
}
";

/// The function that takes a whole sequence.
const WHOLE: &str = "
/// The lengths of the buffers of a sequence of so many steps.
pub const fn lengths(steps: usize) -> ChainLengths {
    Chain::lengths(INPUTS, &STAGES, Extent { steps, batch: 1 })
}

/// Runs a whole sequence from the start: `x` is read, `y` overwritten, and what is in `scratch` does
/// not matter. Their lengths are those of [`lengths`].
pub fn run(steps: usize, x: &[f32], y: &mut [f32], scratch: &mut [f32]) -> Result<(), ArgumentError> {
    let mut state = STATE;
    CHAIN(INPUTS, &STAGES, &PARAMS)?.run(
        Extent { steps, batch: 1 },
        None,
        x,
        &mut state,
        y,
        scratch,
    )
}
";

/// The bits of numbers.
fn words(values: &[f32]) -> Vec<String> {
    let each = values
        .iter()
        .map(|value| format!("{:#010x}", value.to_bits()));
    each.collect()
}

/// Rust prints as many digits as give back every f32's bits.
pub(super) fn rust_file(model: &ChainModel) -> String {
    let mut names = Names::from(["ArgumentError", "Chain", "ChainLengths", "Extent", "Stage"]);
    let kinds = model.kinds();
    let mut stages = String::new();
    for stage in &model.stages {
        let name = crate::one_line(&stage.name);
        let _ = writeln!(
            stages,
            "    // {name}\n    {},",
            rust_stage(&stage.stage, &mut names)
        );
    }
    let one = Extent { steps: 1, batch: 1 };
    let lens = Chain::lengths(model.inputs, &kinds, one);
    let is_causal = model.chain(&kinds).is_ok_and(|c| c.is_causal());
    let state = match &model.start {
        Some(start) => array(start, &[start.len()]),
        None => format!("[0.0; {}]", lens.state),
    };
    let names: Vec<_> = names.into_iter().collect();
    let (narrow, len) = (kinds.iter().any(Stage::is_narrow), model.params.len());
    let params = if narrow {
        let words = words(&model.params).join(", ");
        format!("/// Their parameters, bit by bit.\npub static PARAMS: [u32; {len}] = [{words}];\n")
    } else {
        let params = array(&model.params, &[len]);
        format!("/// Their parameters.\npub static PARAMS: [f32; {len}] = {params};\n")
    };
    let run = if is_causal { STREAM } else { WHOLE };
    format!(
        "// Written by fused-lstm export.\n\n\
         use fused_lstm::{{{}}};\n\n\
         /// The width of the input.\n\
         pub const INPUTS: usize = {};\n\n\
         /// The stages.\n\
         pub const STAGES: [Stage; {}] = [\n{stages}];\n\n\
         {params}\n\
         /// The state that it starts from.\n\
         pub const STATE: [f32; {}] = {state};\n{}",
        names.join(", "),
        model.inputs,
        model.stages.len(),
        lens.state,
        run.replace(
            "CHAIN",
            if narrow {
                "Chain::of_words"
            } else {
                "Chain::new"
            }
        ),
    )
}

fn c_activation(activation: Activation) -> String {
    let (kind, slope) = match activation {
        Activation::Tanh => (1, 0.0),
        Activation::Sigmoid => (2, 0.0),
        Activation::Relu => (3, 0.0),
        Activation::HardSigmoid { slope } => (4, slope),
        Activation::Softmax => (5, 0.0),
        _ => (0, 0.0),
    };
    format!("{{{kind}, {slope:.8e}f}}")
}

fn c_stage(stage: &Stage) -> String {
    let clip = |most: f32| if most.is_finite() { most } else { 0.0 };
    match stage {
        Stage::Embedding { rows, width } => {
            format!(".kind = FUSED_LSTM_EMBEDDING, .inputs = {rows}, .outputs = {width}")
        }
        Stage::Dense(shape) => format!(
            ".kind = FUSED_LSTM_DENSE, .inputs = {}, .outputs = {}",
            shape.inputs, shape.outputs
        ),
        Stage::Activation(activation) => {
            format!(
                ".kind = FUSED_LSTM_ACTIVATION, .gates = {}",
                c_activation(*activation)
            )
        }
        Stage::Lstm(lstm) => {
            let cell = &lstm.cell;
            format!(
                ".kind = FUSED_LSTM_LSTM, .inputs = {}, .outputs = {}, .projection = {}, \
                 .direction = {}, .returns = {}, .peepholes = {}, .coupled = {}, .gates = {}, \
                 .candidate = {}, .output = {}, .preact_clip = {:.8e}f, .cell_clip = {:.8e}f, \
                 .projection_clip = {:.8e}f, .storage = {}, .layer_norm = {}, \
                 .zoneout_cell = {:.8e}f, .zoneout_hidden = {:.8e}f",
                lstm.layer.inputs,
                lstm.layer.hidden,
                cell.projection.unwrap_or(0),
                match lstm.direction {
                    Direction::Reverse => 1,
                    Direction::Both => 2,
                    _ => 0,
                },
                match lstm.returns {
                    Returns::Last => 1,
                    Returns::Mean => 2,
                    _ => 0,
                },
                u8::from(cell.peepholes),
                u8::from(cell.coupled),
                c_activation(cell.gates),
                c_activation(cell.candidate),
                c_activation(cell.output),
                clip(cell.preact_clip),
                clip(cell.cell_clip),
                clip(cell.projection_clip),
                match lstm.storage {
                    Storage::F16 => 1,
                    Storage::Int8 => 2,
                    _ => 0,
                },
                u8::from(cell.layer_norm),
                cell.zoneout.cell,
                cell.zoneout.hidden,
            )
        }
        Stage::Skip { first, gain } => {
            format!(".kind = FUSED_LSTM_SKIP, .inputs = {first}, .gain = {gain:.8e}f")
        }
        Stage::Gain(gain) => format!(".kind = FUSED_LSTM_GAIN, .gain = {gain:.8e}f"),
        Stage::Flatten { steps } => format!(".kind = FUSED_LSTM_FLATTEN, .inputs = {steps}"),
        // A run knows of no mask.
        Stage::Mask { .. } => ".kind = FUSED_LSTM_GAIN, .gain = 1.0f".into(),
        _ => ".kind = FUSED_LSTM_REVERSE".into(),
    }
}

/// A header that needs `fused_lstm.h` before it.
pub(super) fn c_header(model: &ChainModel, name: &str) -> String {
    let upper = name.to_uppercase();
    let one = Extent { steps: 1, batch: 1 };
    let lens = Chain::lengths(model.inputs, &model.kinds(), one);
    let mut text = format!(
        "/* Written by fused-lstm export. Include it in one file, after fused_lstm.h. The lengths of the\n   \
         buffers are those of one step of one row; fused_lstm_chain_lengths gives others. */\n\
         #ifndef {upper}_INPUTS\n\
         #define {upper}_INPUTS {}\n#define {upper}_OUTPUTS {}\n\
         #define {upper}_STATE {}\n#define {upper}_SCRATCH {}\n\
         #define {upper}_STAGES {}\n\
         static const FusedLstmStage {name}_stages[{upper}_STAGES] = {{\n",
        model.inputs,
        lens.y,
        lens.state,
        lens.scratch,
        model.stages.len(),
    );
    for stage in &model.stages {
        let _ = writeln!(text, "    {{{}}},", c_stage(&stage.stage));
    }
    text += "};\n";
    if model.kinds().iter().any(Stage::is_narrow) {
        let _ = writeln!(
            text,
            "#define {upper}_PARAMS {}\nstatic const uint32_t {name}_words[{upper}_PARAMS] = {{",
            model.params.len()
        );
        for row in words(&model.params).chunks(8) {
            let _ = writeln!(text, "    {},", row.join(", "));
        }
        let _ = writeln!(
            text,
            "}};\n#define {name}_params ((const float *){name}_words)"
        );
    } else {
        text += &c_array(name, "params", &model.params);
    }
    if let Some(start) = &model.start {
        text += &c_array(name, "start", start);
    }
    text + "#endif\n"
}
