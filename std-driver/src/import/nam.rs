//! Neural Amp Modeler: LSTMs with a learned initial state and a head, all weights in one list.
//!
//! The list has for each layer W `[4H, I+H]` (gates i, f, j, o; columns for x and then for h), one
//! bias `[4H]`, h0 `[H]` and c0 `[H]`; then the head's weights `[1, H]` and its bias. Files before
//! version 0.5 have the list in a `weights.npy` beside `config.json`.

use super::gates::{Gates, IFJO, Layout};
use super::json::{self, At};
use super::{Format, Found, Kind, Layer, Lstm, Options, Source};
use crate::Error;
use crate::npy;
use fused_lstm::LayerShape;

/// What its player takes for the rate of a file that does not say it.
const SAMPLE_RATE: f64 = 48_000.0;

pub(crate) fn is(document: &serde_json::Value) -> bool {
    document.get("architecture").is_some_and(|a| a.is_string()) && document.get("config").is_some()
}

pub(crate) fn read(source: &Source, options: &Options) -> Result<Found, Error> {
    let document = json::object(source)?;
    let mut root = At::root(source, &document);
    let mut notes = Vec::new();
    let mut part = None;
    let submodels;
    if let Some(list) = root.need("config")?.get("submodels") {
        submodels = list.list()?;
        let (index, model) = submodel(&root, &submodels, options)?;
        notes.push(format!(
            "Of {} submodels this is number {index}",
            submodels.len()
        ));
        root = model;
        part = Some(Vec::new());
    }
    let architecture = root.need("architecture")?;
    let name = architecture.text()?;
    if name != "LSTM" {
        return Err(architecture.problem(format!("expected LSTM, got {name}")));
    }
    let config = root.need("config")?;
    let size = |key: &str| config.need(key)?.size();
    let (inputs, hidden, count) = (
        size("input_size")?,
        size("hidden_size")?,
        size("num_layers")?,
    );
    let weights = match root.get("weights") {
        Some(weights) => weights.any_tensor()?.values,
        None => {
            notes.push("The weights are those of weights.npy beside it".into());
            {
                let beside = source.sibling("weights.npy")?;
                npy::read(beside.path(), beside.bytes())?.1
            }
        }
    };
    let mut rest = &weights[..];
    let per_layer = |inputs: usize| 4 * hidden * (inputs + hidden + 1) + 2 * hidden;
    let expected = per_layer(inputs)
        .saturating_add((count - 1).saturating_mul(per_layer(hidden)))
        .saturating_add(hidden + 1);
    if rest.len() != expected {
        let got = rest.len();
        return Err(root.problem(format!(
            "key weights: expected {expected} numbers for {count} layers of {hidden} units over {inputs} inputs, got {got}"
        )));
    }
    let mut take = |len: usize| {
        let (first, after) = rest.split_at(len);
        rest = after;
        first
    };
    let mut layers = Vec::new();
    for index in 0..count {
        let inputs = if index == 0 { inputs } else { hidden };
        // Columns for x and h side by side.
        let both = take(4 * hidden * (inputs + hidden));
        let rows = both.chunks_exact(inputs + hidden);
        let input: Vec<f32> = rows
            .clone()
            .flat_map(|row| &row[..inputs])
            .copied()
            .collect();
        let recurrent: Vec<f32> = rows.flat_map(|row| &row[inputs..]).copied().collect();
        let gates = Gates {
            order: IFJO,
            layout: Layout::Rows,
            inputs,
            hidden,
            outputs: hidden,
            input: &input,
            recurrent: &recurrent,
            biases: &[take(4 * hidden)],
            forget_bias: 0.0,
        };
        let params = gates.to_core().map_err(|problem| root.problem(problem))?;
        let (h, c) = (take(hidden), take(hidden));
        let mut lstm = Lstm::new(LayerShape::new(inputs, hidden), params);
        lstm.start = Some(vec![[c, h].concat()]);
        layers.push(Layer {
            name: format!("lstm.{index}"),
            kind: Kind::Lstm(Box::new(lstm)),
        });
    }
    layers.push(Layer {
        name: "head".into(),
        kind: Kind::Dense {
            inputs: hidden,
            outputs: 1,
            kernel: take(hidden).to_vec(),
            bias: take(1).to_vec(),
        },
    });
    notes.push("The model starts from the state that was learned with it".into());
    let sample_rate = root
        .get("sample_rate")
        .map(|rate| rate.number())
        .transpose()?;
    let zeros = match sample_rate {
        Some(rate) => (rate * 0.5).clamp(0.0, 1e9) as usize,
        None => 1,
    };
    notes.push(format!(
        "Its own player runs {zeros} zero samples before the first: --prewarm {zeros} stores the state after them"
    ));
    if sample_rate.is_none() {
        notes.push(format!(
            "No sample rate is given; {SAMPLE_RATE} Hz is the usual one"
        ));
    }
    Ok(Found {
        format: Format::Nam,
        part,
        layers,
        notes,
        sample_rate: Some(sample_rate.unwrap_or(SAMPLE_RATE)),
    })
}

/// The submodel that `--part` names by its number, or the only one.
fn submodel<'a>(
    root: &At<'a>,
    submodels: &[At<'a>],
    options: &Options,
) -> Result<(usize, At<'a>), Error> {
    let name = |index: usize| {
        let model = submodels[index].get("model");
        let text = |key: &str| model.as_ref()?.get(key)?.text().ok();
        format!("{index} ({})", text("architecture").unwrap_or("unknown"))
    };
    let names = (0..submodels.len())
        .map(name)
        .collect::<Vec<_>>()
        .join(", ");
    let index = match &options.part {
        Some(part) => part.parse().ok().filter(|&index| index < submodels.len()),
        None if submodels.len() == 1 => Some(0),
        None => {
            return Err(root.problem(format!(
                "expected one model, got {}: choose one by --part: {names}",
                submodels.len()
            )));
        }
    };
    match index {
        Some(index) => Ok((index, submodels[index].need("model")?)),
        None => {
            let got = options.part.as_deref().unwrap_or_default();
            Err(Error::setting("part", format!("one of {names}"), got))
        }
    }
}
