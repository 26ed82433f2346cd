//! What a module of PyTorch does, by the names and shapes of its tensors.

use super::norm::{Norm, affine};
use super::state::{Entry, Tensor, listed};
use crate::Error;
use crate::import::gates::transposed;
use crate::import::{Kind, Layer, Source};
use fused_lstm::Activation;

/// The tensors of a layer that is not recurrent.
pub(super) const LAYER: [&str; 5] = [
    "weight",
    "bias",
    "running_mean",
    "running_var",
    "num_batches_tracked",
];

/// What the paths of PyTorch's own classes begin with.
pub(super) const OWN: &str = "torch.nn.modules.";

/// A module.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) path: String,
    pub(super) content: Content,
}

/// What it is.
#[derive(Debug)]
pub(super) enum Content {
    Known {
        layers: Vec<Layer>,
        inputs: usize,
        outputs: usize,
    },
    /// `[rows, columns]` without a bias: an embedding or a dense layer, as far as the file says.
    Matrix {
        tensor: Tensor,
        rows: usize,
        columns: usize,
        table: Option<bool>,
    },
    /// What has no width of its own, such as an activation.
    Between(Layer),
    Other(Vec<Layer>),
}

/// The module's path, and the tensor's name in it.
pub(super) fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

pub(super) fn shown(path: &str, otherwise: &str) -> String {
    if path.is_empty() { otherwise } else { path }.to_owned()
}

/// What a module that is not recurrent does.
pub(super) fn content(
    source: &Source,
    path: &str,
    class: Option<&str>,
    parts: &[(&str, &Entry)],
    epsilon: Option<f64>,
    norms: &mut [Vec<String>; 2],
) -> Result<Content, Error> {
    let tensor = |wanted: &str| {
        parts.iter().find_map(|&(name, entry)| match entry {
            Entry::Tensor(tensor) if name == wanted => Some(tensor),
            _ => None,
        })
    };
    let known = |names: &[&str]| parts.iter().all(|(name, _)| names.contains(name));
    let class = class.and_then(|class| class.strip_prefix(OWN));
    let class = class.map(|class| class.rsplit('.').next().unwrap_or(class));
    let is = |classes: &[&str]| class.is_none_or(|class| classes.contains(&class));
    let one = |kind: Kind| Layer {
        name: shown(path, parts.first().map_or("", |&(name, _)| name)),
        kind,
    };
    let other = |what: String| Ok(Content::Other(vec![one(Kind::Other(what))]));

    match parts {
        [(_, Entry::Module(class))] => return Ok(Content::Between(one(silent(class)))),
        [("", Entry::Tensor(tensor))] => return other(format!("parameters {:?}", tensor.shape)),
        [("", Entry::Other(what))] => return other(what.clone()),
        _ => {}
    }
    if let (Some(mean), Some(variance)) = (tensor("running_mean"), tensor("running_var"))
        && known(&LAYER)
        && is(&["BatchNorm1d"])
    {
        let norm = Norm {
            mean,
            variance,
            weight: tensor("weight"),
            bias: tensor("bias"),
            epsilon,
        };
        let kind = affine(source, path, norm)?;
        let width = mean.values.len();
        let shown = shown(path, "The norm");
        match epsilon {
            Some(epsilon) => norms[1].push(format!("{shown} ({epsilon:e})")),
            None => norms[0].push(shown),
        }
        return Ok(Content::Known {
            layers: vec![one(kind)],
            inputs: width,
            outputs: width,
        });
    }
    let (weight, bias) = (tensor("weight"), tensor("bias"));
    match (weight.map(|weight| &weight.shape[..]), bias) {
        (Some(&[outputs, inputs]), Some(bias)) if known(&["weight", "bias"]) && is(&["Linear"]) => {
            if bias.shape != [outputs] {
                let (key, got) = (shown_key(path, "bias"), &bias.shape);
                return Err(source.problem(format!(
                    "key {key}: expected shape [{outputs}], got {got:?}"
                )));
            }
            let kernel = weight.map(|weight| transposed(&weight.values, outputs, inputs));
            Ok(Content::Known {
                layers: vec![one(Kind::Dense {
                    inputs,
                    outputs,
                    kernel: kernel.unwrap_or_default(),
                    bias: bias.values.clone(),
                })],
                inputs,
                outputs,
            })
        }
        (Some(&[rows, columns]), None) if known(&["weight"]) && is(&["Linear", "Embedding"]) => {
            let name = split(path).1.to_ascii_lowercase();
            let behind = name.contains("out") || name.contains("unemb");
            let named = (name.contains("emb") && !behind).then_some(true);
            let table = class.map_or(named, |class| Some(class == "Embedding"));
            Ok(Content::Matrix {
                tensor: weight.cloned().unwrap_or_else(|| Tensor {
                    shape: Vec::new(),
                    values: Vec::new(),
                }),
                rows,
                columns,
                table,
            })
        }
        (Some(shape), bias) if known(&["weight", "bias"]) => other(match (class, shape) {
            (Some(class), shape) => format!("{class} {shape:?}"),
            (None, &[width]) if bias.is_some() => format!("LayerNorm {width}"),
            (None, &[outputs, inputs, size]) => {
                format!("Conv1d {inputs}->{outputs}, kernel {size}")
            }
            (None, &[outputs, inputs, rows, columns]) => {
                format!("Conv2d {inputs}->{outputs}, kernel {rows}x{columns}")
            }
            (None, shape) => format!("weights of shape {shape:?}"),
        }),
        _ => {
            let each: Vec<String> = parts
                .iter()
                .map(|(name, entry)| match entry {
                    Entry::Tensor(tensor) => format!("{name} {:?}", tensor.shape),
                    Entry::Other(what) | Entry::Module(what) => format!("{name} is {what}"),
                })
                .collect();
            let each = listed(&each);
            other(match class {
                Some(class) => format!("{class} with {each}"),
                None => format!("tensors {each}"),
            })
        }
    }
}

fn shown_key(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// What a module without weights does.
pub(super) fn silent(class: &str) -> Kind {
    match class {
        "Tanh" => Kind::Activation(Activation::Tanh),
        "Sigmoid" => Kind::Activation(Activation::Sigmoid),
        "ReLU" => Kind::Activation(Activation::Relu),
        "Hardsigmoid" => Kind::Activation(Activation::HardSigmoid { slope: 1.0 / 6.0 }),
        "Dropout"
        | "Dropout1d"
        | "Dropout2d"
        | "Dropout3d"
        | "AlphaDropout"
        | "FeatureAlphaDropout"
        | "Identity" => Kind::Nothing(class.to_owned()),
        _ => Kind::Other(class.to_owned()),
    }
}
