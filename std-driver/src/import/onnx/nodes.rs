//! Operators on the data: layers, what only turns it, and what is not known here.

use super::axes::{self, Axis};
use super::fold::place;
use super::graph::{Data, Graph, Made, Value};
use super::proto::Node;
use super::store::dims_of;
use super::tensor::{Int, Tensor};
use crate::Error;
use crate::import::Kind;
use fused_lstm::Activation;

/// The values of a node's inputs.
pub(super) type Inputs<'v, 'a> = &'v [Option<Value<'a>>];

impl<'a> Graph<'a> {
    pub(super) fn data_node(
        &mut self,
        node: &Node<'a>,
        name: &str,
        inputs: Inputs<'_, 'a>,
    ) -> Result<(), Error> {
        if !node.domain.is_empty() {
            let text = format!("{}.{}", node.domain, node.op);
            return self.other(node, name, inputs, &text);
        }
        let done = match node.op {
            "LSTM" => return self.lstm(node, name, inputs),
            "GRU" | "RNN" | "DynamicQuantizeLSTM" => return self.recurrent(node, name, inputs),
            "Shape" | "Size" => return self.shape(node, inputs),
            "Conv" => return self.conv(node, name, inputs),
            "Concat" => self.concat(node, inputs)?,
            _ => match inputs.first() {
                Some(Some(Value::Stack(states))) => self.pick(node, states)?,
                Some(Some(Value::Data(data))) => {
                    let data = data.clone();
                    self.shaped(node, name, &data)? || self.layer(node, name, &data, inputs)?
                }
                Some(Some(Value::Raw(_) | Value::Tensor(_))) => {
                    self.constant_first(node, name, inputs)?
                }
                _ => false,
            },
        };
        match done {
            true => Ok(()),
            false => self.other(node, name, inputs, node.op),
        }
    }

    /// Something that this project does not run.
    pub(super) fn other(
        &mut self,
        node: &Node<'a>,
        name: &str,
        inputs: Inputs<'_, 'a>,
        text: &str,
    ) -> Result<(), Error> {
        let mut parents = Vec::new();
        let mut roots = 0;
        let mut add = |data: &Data| {
            roots |= data.roots;
            if !parents.contains(&data.at) {
                parents.push(data.at);
            }
        };
        for value in inputs.iter().flatten().take(64) {
            match value {
                Value::Data(data) => add(data),
                Value::Stack(states) => states.iter().take(64).for_each(|s| add(&s.data)),
                _ => {}
            }
        }
        let sources = inputs.iter().flatten();
        let sources = sources.filter(|v| matches!(v, Value::Data(_) | Value::Stack(_)));
        let several = match sources.count() {
            count if count > 1 && !text.contains(' ') => format!("{text} of {count} values"),
            _ => text.to_owned(),
        };
        self.opaque(node, name, several, parents, roots)
    }

    pub(super) fn opaque(
        &mut self,
        node: &Node<'a>,
        name: &str,
        text: String,
        parents: Vec<usize>,
        roots: u64,
    ) -> Result<(), Error> {
        let at = self.step(name, Made::Layer(Kind::Other(text)), parents);
        for &output in node.outputs.iter().filter(|o| !o.is_empty()) {
            let data = Data {
                at,
                axes: None,
                time: None,
                batch: None,
                unit_front: false,
                roots,
            };
            self.set(Some(output), Value::Data(data));
        }
        Ok(())
    }

    fn recurrent(
        &mut self,
        node: &Node<'a>,
        name: &str,
        inputs: Inputs<'_, 'a>,
    ) -> Result<(), Error> {
        let dims = match inputs.get(1) {
            Some(Some(Value::Raw(bytes))) => dims_of(bytes),
            Some(Some(Value::Tensor(tensor))) => Some(tensor.dims.clone()),
            _ => None,
        };
        let hidden = node.int("hidden_size").map_err(self.broken())?;
        let columns = match (node.op, dims.as_deref()) {
            ("DynamicQuantizeLSTM", Some(&[_, columns, _])) => Some(columns),
            (_, Some(&[_, _, columns])) => Some(columns),
            _ => None,
        };
        let text = match (columns, hidden) {
            (Some(columns), Some(hidden)) => format!("{} {columns}->{hidden}", node.op),
            _ => format!("{} layer", node.op),
        };
        self.other(node, name, inputs, &text)
    }

    fn shape(&mut self, node: &Node<'a>, inputs: Inputs<'_, 'a>) -> Result<(), Error> {
        let axes = match inputs.first() {
            Some(Some(Value::Data(data))) => data.axes.clone(),
            _ => None,
        };
        let value = match (node.op, axes) {
            ("Shape", Some(axes)) => {
                let broken = self.broken();
                let rank = axes.len() as i64;
                let limit = |at: Option<i64>, otherwise: i64| match at {
                    Some(at) if at < 0 => at.saturating_add(rank).clamp(0, rank),
                    Some(at) => at.clamp(0, rank),
                    None => otherwise,
                };
                let start = limit(node.int("start").map_err(&broken)?, 0);
                let end = limit(node.int("end").map_err(&broken)?, rank);
                let all = axes.iter().skip(start as usize);
                let sizes = all.take((end - start).max(0) as usize);
                let sizes: Vec<Int> = sizes.map(|axis| axes::size(axis)).collect();
                Value::Tensor(Tensor::ints(vec![sizes.len()], sizes))
            }
            _ => Value::Unknown(node.op),
        };
        self.set(node.output(0), value);
        Ok(())
    }

    /// The same data, perhaps with other axes.
    pub(super) fn pass(&mut self, node: &Node<'a>, data: Data) {
        self.set(node.output(0), Value::Data(data));
    }

    pub(super) fn add(
        &mut self,
        node: &Node<'a>,
        name: &str,
        made: Made,
        from: &Data,
        axes: Option<Vec<Axis>>,
    ) {
        let at = self.step(name, made, vec![from.at]);
        let unit_front = from.unit_front && axes.is_none();
        let data = Data {
            at,
            unit_front,
            ..from.with_axes(axes)
        };
        self.set(node.output(0), Value::Data(data));
    }

    /// The integers of an attribute, or of an input in newer versions. The outer option says whether
    /// they are known, the inner one whether there are any.
    pub(super) fn list(
        &mut self,
        node: &Node<'a>,
        attribute: &str,
        index: usize,
    ) -> Result<Option<Option<Vec<i64>>>, Error> {
        if let Some(values) = node.ints(attribute).map_err(self.broken())? {
            return Ok(Some(Some(values)));
        }
        match node.input(index) {
            None => Ok(Some(None)),
            Some(input) => Ok(self.constant(input)?.and_then(|t| t.known()).map(Some)),
        }
    }

    fn layer(
        &mut self,
        node: &Node<'a>,
        name: &str,
        data: &Data,
        inputs: Inputs<'_, 'a>,
    ) -> Result<bool, Error> {
        let broken = self.broken();
        let activation = match node.op {
            "Sigmoid" => Some(Activation::Sigmoid),
            "Tanh" => Some(Activation::Tanh),
            "Relu" => Some(Activation::Relu),
            "HardSigmoid" => {
                let slope = node.float("alpha").map_err(&broken)?.unwrap_or(0.2);
                let beta = node.float("beta").map_err(&broken)?.unwrap_or(0.5);
                (beta == 0.5 && slope.is_finite()).then_some(Activation::HardSigmoid { slope })
            }
            "Softmax" => {
                let axis = node.int("axis").map_err(&broken)?;
                let axis = axis.unwrap_or(if self.opset < 13 { 1 } else { -1 });
                let last = match data.axes.as_deref() {
                    Some(axes) => place(axis, axes.len()) == axes.len().checked_sub(1),
                    None => axis == -1,
                };
                (last && self.columns_last(data)).then_some(Activation::Softmax)
            }
            _ => None,
        };
        if let Some(activation) = activation {
            let axes = data.axes.as_deref().cloned();
            let made = Made::Layer(Kind::Activation(activation));
            self.add(node, name, made, data, axes);
            return Ok(true);
        }
        match node.op {
            "MatMul" => self.matmul(node, name, data),
            "Gemm" => self.gemm(node, name, data),
            "Add" | "Sub" | "Mul" | "Div" => {
                let constant =
                    matches!(inputs.get(1), Some(Some(Value::Raw(_) | Value::Tensor(_))));
                match constant {
                    true => self.affine(node, name, data, 1),
                    false => Ok(false),
                }
            }
            "BatchNormalization" => self.normalization(node, name, data),
            // A function of each number leaves the axes as they are.
            "Abs" | "Clip" | "Elu" | "Erf" | "Exp" | "Gelu" | "HardSwish" | "LeakyRelu" | "Log"
            | "Neg" | "Selu" | "Softplus" | "Softsign" | "Sqrt" | "ThresholdedRelu" => {
                let axes = data.axes.as_deref().cloned();
                let made = Made::Layer(Kind::Other(node.op.into()));
                self.add(node, name, made, data, axes);
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
