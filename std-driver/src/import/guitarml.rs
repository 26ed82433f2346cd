//! GuitarML's and Proteus's JSON: a PyTorch LSTM `rec`, a linear layer `lin`, and a skip connection.

use super::gates::{Gates, IFJO, Layout};
use super::json::{self, At};
use super::{Format, Found, Kind, Layer, Lstm, Options, Source, gates};
use crate::Error;
use fused_lstm::LayerShape;

pub(crate) fn is(document: &serde_json::Value) -> bool {
    document.get("model_data").is_some() && document.get("state_dict").is_some()
}

pub(crate) fn read(source: &Source, _options: &Options) -> Result<Found, Error> {
    let document = json::object(source)?;
    let root = At::root(source, &document);
    let data = root.need("model_data")?;
    let unit = data.need("unit_type")?;
    if unit.text()? != "LSTM" {
        return Err(unit.problem(format!("expected LSTM, got {}", unit.text()?)));
    }
    let size = |key: &str| data.need(key)?.size();
    let (mut inputs, hidden, outputs) = (
        size("input_size")?,
        size("hidden_size")?,
        size("output_size")?,
    );
    let count = data.get("num_layers").map_or(Ok(1), |count| count.size())?;
    let state = root.need("state_dict")?;
    let width = inputs;
    let mut layers = Vec::new();
    for index in 0..count {
        let get = |what: &str, shape: &[usize]| {
            state.need(&format!("rec.{what}_l{index}"))?.tensor(shape)
        };
        // Without biases they are not in the file.
        let bias = |what: &str| match state.get(&format!("rec.{what}_l{index}")) {
            Some(bias) => bias.tensor(&[4 * hidden]),
            None => Ok(vec![0.0; 4 * hidden]),
        };
        let gates = Gates {
            order: IFJO,
            layout: Layout::Rows,
            inputs,
            hidden,
            outputs: hidden,
            input: &get("weight_ih", &[4 * hidden, inputs])?,
            recurrent: &get("weight_hh", &[4 * hidden, hidden])?,
            biases: &[&bias("bias_ih")?, &bias("bias_hh")?],
            forget_bias: 0.0,
        };
        let params = gates.to_core().map_err(|problem| state.problem(problem))?;
        layers.push(Layer {
            name: format!("rec.l{index}"),
            kind: Kind::Lstm(Box::new(Lstm::new(LayerShape::new(inputs, hidden), params))),
        });
        inputs = hidden;
    }
    if let Some(extra) = state.get(&format!("rec.weight_ih_l{count}")) {
        return Err(extra.problem(format!("expected {count} layers, as num_layers says")));
    }
    let kernel = state.need("lin.weight")?.tensor(&[outputs, hidden])?;
    let bias = match state.get("lin.bias") {
        Some(bias) => bias.tensor(&[outputs])?,
        None => vec![0.0; outputs],
    };
    layers.push(Layer {
        name: "lin".into(),
        kind: Kind::Dense {
            inputs: hidden,
            outputs,
            kernel: gates::transposed(&kernel, outputs, hidden),
            bias,
        },
    });
    let mut notes = Vec::new();
    let skip = data.get("skip").map_or(Ok(0.0), |skip| skip.number())?;
    if skip != 0.0 {
        if outputs > width {
            let problem = format!("expected at most {width} outputs with a skip, got {outputs}");
            return Err(data.problem(problem));
        }
        layers.push(Layer {
            name: "skip".into(),
            kind: Kind::Skip {
                first: 0,
                gain: 1.0,
            },
        });
        if width > outputs {
            notes.push(format!(
                "The skip adds the first {outputs} of {width} inputs: the audio, not the knobs"
            ));
        }
    }
    Ok(Found {
        format: Format::Guitarml,
        part: None,
        layers,
        notes,
        sample_rate: None,
    })
}
