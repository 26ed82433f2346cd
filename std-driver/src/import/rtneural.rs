//! RTNeural's JSON, and what AIDA-X adds to it: Keras's layers, one after the other.

use super::gates::{Gates, IFJO, Layout};
use super::json::{self, At};
use super::{Format, Found, Kind, Layer, Lstm, Options, Source};
use crate::Error;
use fused_lstm::{Activation, LayerShape};

pub(crate) fn is(document: &serde_json::Value) -> bool {
    let layers = document.get("layers").and_then(|layers| layers.as_array());
    document.get("in_shape").is_some()
        && layers.is_some_and(|layers| layers.iter().all(|layer| layer.get("type").is_some()))
}

pub(crate) fn read(source: &Source, _options: &Options) -> Result<Found, Error> {
    let document = json::object(source)?;
    let root = At::root(source, &document);
    let mut notes = Vec::new();
    let mut width = last_size(&root.need("in_shape")?)?;
    let mut layers = Vec::new();
    let factor = |key: &str| -> Result<f32, Error> {
        let decibels = root
            .get(key)
            .map_or(Ok(0.0), |decibels| decibels.number())?;
        Ok(10f64.powf(decibels / 20.0) as f32)
    };
    let gain = |key: &str, factor: f32| Layer {
        name: key.into(),
        kind: Kind::Gain(factor),
    };
    let (in_gain, out_gain) = (factor("in_gain")?, factor("out_gain")?);
    if in_gain != 1.0 {
        layers.push(gain("in_gain", in_gain));
    }
    let inputs = width;
    for (index, at) in root.need("layers")?.list()?.into_iter().enumerate() {
        let kind = at.need("type")?.text()?;
        let outputs = last_size(&at.need("shape")?)?;
        let name = format!("layers.{index}");
        let weights = at
            .get("weights")
            .map(|weights| weights.list())
            .transpose()?;
        let weights = weights.unwrap_or_default();
        let part = |index: usize| {
            weights.get(index).ok_or_else(|| {
                at.problem(format!(
                    "expected weights of a layer of type {kind}, got {} lists",
                    weights.len()
                ))
            })
        };
        match kind {
            "dense" | "time-distributed-dense" => {
                layers.push(Layer {
                    name,
                    kind: Kind::Dense {
                        inputs: width,
                        outputs,
                        kernel: part(0)?.tensor(&[width, outputs])?,
                        bias: part(1)?.tensor(&[outputs])?,
                    },
                });
            }
            "lstm" => {
                let (inputs, hidden) = (width, outputs);
                let gates = Gates {
                    order: IFJO,
                    layout: Layout::Columns,
                    inputs,
                    hidden,
                    outputs: hidden,
                    input: &part(0)?.tensor(&[inputs, 4 * hidden])?,
                    recurrent: &part(1)?.tensor(&[hidden, 4 * hidden])?,
                    biases: &[&part(2)?.tensor(&[4 * hidden])?],
                    forget_bias: 0.0,
                };
                let params = gates.to_core().map_err(|problem| at.problem(problem))?;
                let lstm = Lstm::new(LayerShape::new(inputs, hidden), params);
                layers.push(Layer {
                    name,
                    kind: Kind::Lstm(Box::new(lstm)),
                });
            }
            "activation" => {}
            "batchnorm" | "batchnorm1d" => {
                // gamma, beta, mean and variance, or the last two alone.
                let epsilon = at.get("epsilon").map_or(Ok(0.001), |e| e.number())?;
                let affine = weights.len() == 4;
                let get = |index: usize| part(index)?.tensor(&[width]);
                let (mean, variance) = if affine {
                    (get(2)?, get(3)?)
                } else {
                    (get(0)?, get(1)?)
                };
                let (gamma, beta) = if affine {
                    (get(0)?, get(1)?)
                } else {
                    (vec![1.0; width], vec![0.0; width])
                };
                layers.push(Layer {
                    name,
                    kind: Kind::normalisation(&gamma, &beta, &mean, &variance, epsilon as f32),
                });
            }
            other => layers.push(Layer {
                name,
                kind: Kind::Other(format!("{other} {width}->{outputs}")),
            }),
        }
        width = outputs;
        // An LSTM's says what is inside of it.
        if kind != "lstm"
            && let Some(activation) = at.get("activation")
        {
            let kind = match activation.text()? {
                "" | "linear" => None,
                "tanh" => Some(Kind::Activation(Activation::Tanh)),
                "sigmoid" => Some(Kind::Activation(Activation::Sigmoid)),
                "relu" => Some(Kind::Activation(Activation::Relu)),
                "softmax" => Some(Kind::Activation(Activation::Softmax)),
                other => Some(Kind::Other(format!("activation {other}"))),
            };
            layers.extend(kind.map(|kind| Layer {
                name: format!("layers.{index}.activation"),
                kind,
            }));
        }
    }
    if let Some(skip) = root.get("in_skip")
        && skip.number()? != 0.0
    {
        layers.push(Layer {
            name: "in_skip".into(),
            kind: Kind::Skip {
                first: 0,
                gain: in_gain,
            },
        });
        if in_gain != 1.0 {
            notes.push("The skip is taken to add the input behind in_gain".into());
        }
        if width > inputs {
            let problem = format!("expected at most {inputs} outputs with a skip, got {width}");
            return Err(skip.problem(problem));
        }
    }
    if out_gain != 1.0 {
        layers.push(gain("out_gain", out_gain));
    }
    notes.push("The activation that an LSTM layer names is passed over: its gates are sigmoid and tanh, as RTNeural runs them".into());
    let rates = ["samplerate", "sample_rate"];
    let rate = rates.iter().find_map(|key| root.get(key));
    Ok(Found {
        format: Format::Rtneural,
        part: None,
        layers,
        notes,
        sample_rate: rate.map(|rate| rate.number()).transpose()?,
    })
}

/// The width in a shape `[null, null, width]`.
fn last_size(shape: &At) -> Result<usize, Error> {
    match shape.list()?.last() {
        Some(last) => last.size(),
        None => Err(shape.problem("expected a shape, got an empty list")),
    }
}
