//! Dense layers: `MatMul`, `Gemm`, and a `Conv` with a kernel of 1.

use super::affine::row_of;
use super::axes::{self, Axis, Role};
use super::graph::{Data, Graph, Made, Value};
use super::nodes::Inputs;
use super::proto::Node;
use super::store::dims_of;
use super::tensor::Tensor;
use crate::import::gates::transposed;
use crate::import::{Kind, wire::Broken};
use crate::{Error, memory};

impl<'a> Graph<'a> {
    pub(super) fn conv(
        &mut self,
        node: &Node<'a>,
        name: &str,
        inputs: Inputs<'_, 'a>,
    ) -> Result<(), Error> {
        let broken = self.broken();
        let dims = match inputs.get(1) {
            Some(Some(Value::Raw(bytes))) => dims_of(bytes),
            Some(Some(Value::Tensor(tensor))) => Some(tensor.dims.clone()),
            _ => None,
        };
        let Some([outputs, columns, kernel @ ..]) = dims.as_deref() else {
            return self.other(node, name, inputs, node.op);
        };
        let group = node.int("group").map_err(&broken)?.unwrap_or(1);
        let strides = node.ints("strides").map_err(&broken)?.unwrap_or_default();
        let pads = node.ints("pads").map_err(&broken)?.unwrap_or_default();
        if let Some(Some(Value::Data(data))) = inputs.first()
            && group == 1
            && kernel.iter().all(|&k| k == 1)
            && strides.iter().all(|&s| s == 1)
            && pads.iter().all(|&p| p == 0)
            && let Some(axes) = data.axes.as_deref()
            && axes.len() == 2 + kernel.len()
            && self.columns_at(axes, 1)
        {
            let data = data.clone();
            let Some(weights) = self.weights(node, name, 1)? else {
                return self.other(node, name, inputs, node.op);
            };
            let bias = self
                .weights(node, name, 2)?
                .map(|t| t.as_floats().map(<[f32]>::to_vec));
            let (Some(values), bias) = (weights.as_floats(), bias.flatten()) else {
                return self.other(node, name, inputs, node.op);
            };
            let kernel = transposed(values, *outputs, *columns);
            let dense = self.dense(name, [*columns, *outputs], kernel, bias)?;
            let mut axes = axes::with_columns(axes, 1);
            axes[1] = self.numbering.axis(Some(*outputs), Role::Feature);
            self.note(format!(
                "node {name}: a convolution with a kernel of 1 is a dense layer"
            ));
            self.add(node, name, Made::Layer(dense), &data, Some(axes));
            return Ok(());
        }
        let inputs_len = usize::try_from(group).map_or(0, |g| columns.saturating_mul(g));
        let kernel: Vec<String> = kernel.iter().take(8).map(usize::to_string).collect();
        let mut text = format!("Conv {inputs_len}->{outputs}, kernel {}", kernel.join("x"));
        if let Some(stride) = strides.iter().find(|&&stride| stride != 1) {
            text += &format!(", stride {stride}");
        }
        self.other(node, name, inputs, &text)
    }

    /// Whether an axis has the columns, and no other one has any.
    pub(super) fn columns_at(&self, axes: &[Axis], at: usize) -> bool {
        let mut others = axes.iter().enumerate().filter(|(k, _)| *k != at);
        axes.get(at).is_some_and(|axis| axes::may_be_columns(axis))
            && others.all(|(_, axis)| axes::may_be_rows(axis))
    }

    /// Whether the last axis has the columns: also where the axes are not known.
    pub(super) fn columns_last(&self, data: &Data) -> bool {
        match data.axes.as_deref() {
            None => true,
            Some(axes) => axes
                .len()
                .checked_sub(1)
                .is_some_and(|last| self.columns_at(axes, last)),
        }
    }

    /// An input of finite floats.
    pub(super) fn weights(
        &mut self,
        node: &Node<'a>,
        name: &str,
        index: usize,
    ) -> Result<Option<Tensor>, Error> {
        let Some(input) = node.input(index) else {
            return Ok(None);
        };
        match self.constant(input)? {
            Some(tensor) if tensor.as_floats().is_some() => {
                self.take_numbers(tensor.len())?;
                Ok(Some(self.finite(name, input, tensor)?))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn dense(
        &self,
        name: &str,
        [inputs, outputs]: [usize; 2],
        kernel: Vec<f32>,
        bias: Option<Vec<f32>>,
    ) -> Result<Kind, Error> {
        let bias = match bias {
            Some(bias) => bias,
            None => memory::zeros(outputs)?,
        };
        if inputs == 0 || bias.len() != outputs || kernel.len() != inputs.saturating_mul(outputs) {
            let got = bias.len();
            return Err(self.problem(format!(
                "node {name}: expected weights [{inputs}, {outputs}] and a bias of {outputs}, got \
                 a bias of {got}"
            )));
        }
        Ok(Kind::Dense {
            inputs,
            outputs,
            kernel,
            bias,
        })
    }

    /// The axes behind a dense layer.
    pub(super) fn behind_dense(&mut self, data: &Data, outputs: usize) -> Option<Vec<Axis>> {
        let axes = data.axes.as_deref()?;
        let last = axes.len().checked_sub(1)?;
        let mut axes = axes::with_columns(axes, last);
        axes[last] = self.numbering.axis(Some(outputs), Role::Feature);
        Some(axes)
    }

    pub(super) fn columns_fit(&self, name: &str, data: &Data, inputs: usize) -> Result<(), Error> {
        let last = data.axes.as_deref().and_then(|axes| axes.last());
        match last.and_then(|axis| axes::width(axis)) {
            Some(got) if got != inputs => Err(self.problem(format!(
                "node {name}: expected {inputs} columns as its weights have, got {got}"
            ))),
            _ => Ok(()),
        }
    }

    pub(super) fn matmul(
        &mut self,
        node: &Node<'a>,
        name: &str,
        data: &Data,
    ) -> Result<bool, Error> {
        let Some(weights) = self.weights(node, name, 1)? else {
            return Ok(false);
        };
        let (&[inputs, outputs], Some(values), true) = (
            &weights.dims[..],
            weights.as_floats(),
            self.columns_last(data),
        ) else {
            return Ok(false);
        };
        self.columns_fit(name, data, inputs)?;
        let mut kernel = memory::reserve(values.len())?;
        kernel.extend_from_slice(values);
        let kind = self.dense(name, [inputs, outputs], kernel, None)?;
        let axes = self.behind_dense(data, outputs);
        self.add(node, name, Made::Layer(kind), data, axes);
        Ok(true)
    }

    pub(super) fn gemm(&mut self, node: &Node<'a>, name: &str, data: &Data) -> Result<bool, Error> {
        let broken = self.broken();
        let turned = |name: &str| Ok::<_, Broken>(node.int(name)?.unwrap_or(0) != 0);
        let factor = |name: &str| Ok::<_, Broken>(node.float(name)?.unwrap_or(1.0));
        let trans_b = turned("transB").map_err(&broken)?;
        let (alpha, beta) = (
            factor("alpha").map_err(&broken)?,
            factor("beta").map_err(&broken)?,
        );
        if turned("transA").map_err(&broken)? || !self.columns_last(data) {
            return Ok(false);
        }
        let Some(weights) = self.weights(node, name, 1)? else {
            return Ok(false);
        };
        let (&[rows, columns], Some(values)) = (&weights.dims[..], weights.as_floats()) else {
            return Ok(false);
        };
        let [inputs, outputs] = match trans_b {
            true => [columns, rows],
            false => [rows, columns],
        };
        self.columns_fit(name, data, inputs)?;
        let mut kernel = match trans_b {
            true => transposed(values, rows, columns),
            false => values.to_vec(),
        };
        kernel.iter_mut().for_each(|v| *v *= alpha);
        let mut bias = None;
        if node.input(2).is_some() {
            let Some(constant) = self.weights(node, name, 2)? else {
                return Ok(false);
            };
            let Some(mut values) = row_of(&constant, outputs) else {
                return Ok(false);
            };
            values.iter_mut().for_each(|v| *v *= beta);
            bias = Some(values);
        }
        let kind = self.dense(name, [inputs, outputs], kernel, bias)?;
        let axes = self.behind_dense(data, outputs);
        self.add(node, name, Made::Layer(kind), data, axes);
        Ok(true)
    }
}
