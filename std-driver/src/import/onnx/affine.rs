//! Summands and factors of columns, and tables of rows.

use super::axes::{self, Role};
use super::graph::{Data, Graph, Made, Value};
use super::nodes::Inputs;
use super::proto::Node;
use super::tensor::{MOST_DIMS, Tensor};
use crate::import::Kind;
use crate::{Error, memory};

impl<'a> Graph<'a> {
    /// A constant before the data: a table, or a summand or factor.
    pub(super) fn constant_first(
        &mut self,
        node: &Node<'a>,
        name: &str,
        inputs: Inputs<'_, 'a>,
    ) -> Result<bool, Error> {
        let Some(Some(Value::Data(data))) = inputs.get(1) else {
            return Ok(false);
        };
        let data = data.clone();
        match node.op {
            "Add" | "Mul" => self.affine(node, name, &data, 0),
            "Gather" => {
                let axis = node.int("axis").map_err(self.broken())?.unwrap_or(0);
                let Some(tensor) = self.weights(node, name, 0)? else {
                    return Ok(false);
                };
                let (&[rows, width], 0, Some(values)) =
                    (&tensor.dims[..], axis, tensor.as_floats())
                else {
                    return Ok(false);
                };
                let mut table = memory::reserve(values.len())?;
                table.extend_from_slice(values);
                let kind = Kind::Embedding { rows, width, table };
                let axes = data.axes.as_deref().map(|axes| {
                    let mut axes = axes.clone();
                    for atom in axes.iter_mut().flatten() {
                        atom.role = Role::Row;
                    }
                    axes.push(self.numbering.axis(Some(width), Role::Feature));
                    axes
                });
                self.add(node, name, Made::Layer(kind), &data, axes);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// A summand or a factor of every column, or of all of them.
    pub(super) fn affine(
        &mut self,
        node: &Node<'a>,
        name: &str,
        data: &Data,
        constant: usize,
    ) -> Result<bool, Error> {
        let Some(tensor) = self.weights(node, name, constant)? else {
            return Ok(false);
        };
        let rank = data.axes.as_deref().map(Vec::len);
        let fits = rank.is_none_or(|rank| tensor.dims.len() <= rank);
        let one = match tensor.as_floats() {
            Some(&[one]) => Some(one),
            _ => None,
        };
        if !fits || tensor.dims.len() > MOST_DIMS {
            return Ok(false);
        }
        let factor = match (node.op, one) {
            ("Mul", Some(one)) => Some(one),
            ("Div", Some(one)) if one != 0.0 => Some(1.0 / one),
            _ => None,
        };
        let axes = data.axes.as_deref().cloned();
        if let Some(factor) = factor.filter(|factor| factor.is_finite()) {
            let made = Made::Layer(match factor == 1.0 {
                true => Kind::Nothing(node.op.into()),
                false => Kind::Gain(factor),
            });
            self.add(node, name, made, data, axes);
            return Ok(true);
        }
        if !self.columns_last(data) {
            return Ok(false);
        }
        let last = data.axes.as_deref().and_then(|axes| axes.last());
        let width = last.and_then(|axis| axes::width(axis));
        let width = match (width, tensor.dims.last()) {
            (Some(width), _) => width,
            (None, Some(&width)) if width > 1 => width,
            _ => return Ok(false),
        };
        // As many columns as there are or come from a constant, and so no more than the file has.
        let known = one.is_none() || width <= self.source.bytes().len();
        let row = if known { row_of(&tensor, width) } else { None };
        let Some(mut row) = row else {
            return Ok(false);
        };
        self.take_numbers(width)?;
        if let Some(dense) = self.bias_of(data, node.op, &row)? {
            let parent = self.steps[data.at].parents.first().copied();
            let from = Data {
                at: parent.unwrap_or(data.at),
                ..data.clone()
            };
            let name = self.steps[data.at].name.clone();
            self.add(node, &name, Made::Layer(dense), &from, axes);
            return Ok(true);
        }
        let kind = match node.op {
            "Mul" | "Div" => {
                if node.op == "Div" {
                    row.iter_mut().for_each(|v| *v = 1.0 / *v);
                }
                let shift = memory::zeros(width)?;
                Kind::Affine { scale: row, shift }
            }
            _ => {
                if node.op == "Sub" {
                    row.iter_mut().for_each(|v| *v = -*v);
                }
                let mut scale = memory::zeros(width)?;
                scale.fill(1.0);
                Kind::Affine { scale, shift: row }
            }
        };
        if let Kind::Affine { scale, .. } = &kind
            && scale.iter().any(|v| !v.is_finite())
        {
            return Ok(false);
        }
        self.add(node, name, Made::Layer(kind), data, axes);
        Ok(true)
    }

    /// The dense layer whose bias is added right behind it, with that bias.
    pub(super) fn bias_of(
        &mut self,
        data: &Data,
        op: &str,
        row: &[f32],
    ) -> Result<Option<Kind>, Error> {
        if let Made::Layer(Kind::Dense { kernel, .. }) = &self.steps[data.at].made {
            self.take_numbers(kernel.len())?;
        }
        Ok(match &self.steps[data.at].made {
            Made::Layer(Kind::Dense {
                inputs,
                outputs,
                kernel,
                bias,
            }) if op == "Add" && *outputs == row.len() && bias.iter().all(|&b| b == 0.0) => {
                Some(Kind::Dense {
                    inputs: *inputs,
                    outputs: *outputs,
                    kernel: kernel.clone(),
                    bias: row.to_vec(),
                })
            }
            _ => None,
        })
    }

    pub(super) fn normalization(
        &mut self,
        node: &Node<'a>,
        name: &str,
        data: &Data,
    ) -> Result<bool, Error> {
        let epsilon = node.float("epsilon").map_err(self.broken())?;
        let epsilon = f64::from(epsilon.unwrap_or(1e-5));
        let Some(axes) = data.axes.as_deref() else {
            return Ok(false);
        };
        if axes.len() < 2 || !self.columns_at(axes, 1) {
            return Ok(false);
        }
        let axes = axes::with_columns(axes, 1);
        let mut all = Vec::new();
        for index in 1..5 {
            match self.weights(node, name, index)? {
                Some(tensor) => all.push(tensor),
                None => return Ok(false),
            }
        }
        let floats: Vec<&[f32]> = all.iter().filter_map(|tensor| tensor.as_floats()).collect();
        let &[scale, shift, mean, variance] = &floats[..] else {
            return Ok(false);
        };
        let columns = axes::width(&axes[1]).unwrap_or(scale.len());
        if floats.iter().any(|values| values.len() != columns) {
            return Err(self.problem(format!(
                "node {name}: expected {columns} numbers in each constant, got others"
            )));
        }
        let factor = |k: usize| f64::from(scale[k]) / (f64::from(variance[k]) + epsilon).sqrt();
        let mut factors = memory::reserve(columns)?;
        factors.extend((0..columns).map(|k| factor(k) as f32));
        let mut shifts = memory::reserve(columns)?;
        let shifted = |k: usize| f64::from(shift[k]) - f64::from(mean[k]) * factor(k);
        shifts.extend((0..columns).map(|k| shifted(k) as f32));
        if factors.iter().chain(&shifts).any(|v| !v.is_finite()) {
            return Err(self.problem(format!(
                "node {name}: expected a positive variance, got another"
            )));
        }
        let kind = Kind::Affine {
            scale: factors,
            shift: shifts,
        };
        self.add(node, name, Made::Layer(kind), data, Some(axes));
        Ok(true)
    }
}

/// A row of so many columns: one number for all of them, or one for each and no other axis.
pub(super) fn row_of(tensor: &Tensor, width: usize) -> Option<Vec<f32>> {
    let values = tensor.as_floats()?;
    let last = tensor.dims.last().copied().unwrap_or(1);
    match values {
        [one] => {
            let mut row = Vec::new();
            row.try_reserve_exact(width).ok()?;
            row.resize(width, *one);
            Some(row)
        }
        values if values.len() == width && last == width => Some(values.to_vec()),
        _ => None,
    }
}
