//! Nodes that no input reaches.

use super::fold;
use super::graph::{Graph, Value};
use super::proto::Node;
use super::tensor::{Int, MOST_DIMS, Tensor, count};
use crate::Error;

impl<'a> Graph<'a> {
    pub(super) fn constant_node(
        &mut self,
        node: &Node<'a>,
        inputs: &[Option<Value<'a>>],
    ) -> Result<(), Error> {
        let broken = self.broken();
        for &output in node.outputs.iter().filter(|o| !o.is_empty()) {
            self.set(Some(output), Value::Unknown(node.op));
        }
        if !node.domain.is_empty() {
            return Ok(());
        }
        let output = node.output(0);
        if node.op == "Constant" {
            let value = |name: &str| node.attribute(name).map_err(&broken);
            let ints = |ints: Vec<i64>, dims: Vec<usize>| {
                let ints = ints.into_iter().map(Int::Known).collect();
                Value::Tensor(Tensor::ints(dims, ints))
            };
            if let Some(tensor) = value("value")?.and_then(|v| v.tensor) {
                self.set(output, Value::Raw(tensor));
            } else if let Some(v) = value("value_int")? {
                self.set(output, ints(vec![v.int], vec![]));
            } else if let Some(v) = value("value_ints")? {
                let len = v.ints.len();
                self.set(output, ints(v.ints, vec![len]));
            } else if let Some(v) = value("value_float")? {
                let tensor = Tensor::floats(vec![], vec![v.float]);
                self.set(output, Value::Tensor(tensor));
            } else if let Some(v) = value("value_floats")? {
                let tensor = Tensor::floats(vec![v.floats.len()], v.floats);
                self.set(output, Value::Tensor(tensor));
            }
            return Ok(());
        }
        if node.op == "ConstantOfShape" {
            return self.constant_of_shape(node);
        }
        let floats = node.op == "Cast" && {
            let to = node.int("to").map_err(&broken)?;
            matches!(to, Some(1 | 10 | 11 | 16))
        };
        let op = if floats { "Identity" } else { node.op };
        if let Some(value) = filled(op, inputs) {
            self.set(output, Value::Filled(value));
            return Ok(());
        }
        let mut tensors = Vec::new();
        let mut known = true;
        for (&name, value) in node.inputs.iter().zip(inputs) {
            let tensor = match value {
                None => None,
                Some(_) => self.constant(name)?,
            };
            known &= value.is_none() || tensor.is_some();
            tensors.push(tensor);
        }
        if known {
            if let Some(tensor) = fold::fold(node, &tensors, &mut self.store.budget) {
                self.set(output, Value::Tensor(tensor));
            }
        } else if let ("Expand", Some(Some(tensor))) = (node.op, tensors.first())
            && let Some([value, rest @ ..]) = tensor.as_floats()
            && rest.iter().all(|v| v == value)
        {
            self.set(output, Value::Filled(*value));
        }
        Ok(())
    }

    pub(super) fn constant_of_shape(&mut self, node: &Node<'a>) -> Result<(), Error> {
        let broken = self.broken();
        let attribute = node.attribute("value").map_err(broken)?;
        let value = match attribute.and_then(|v| v.tensor) {
            Some(bytes) => self.store.read(bytes)?,
            None => Some(Tensor::floats(vec![1], vec![0.0])),
        };
        let shape = match node.input(0) {
            Some(name) => self.constant(name)?.and_then(|shape| shape.known()),
            None => None,
        };
        let dims = shape.and_then(|shape| {
            let dims = shape.into_iter().map(|d| usize::try_from(d).ok());
            dims.collect::<Option<Vec<usize>>>()
        });
        let room = dims.filter(|dims| dims.len() <= MOST_DIMS).and_then(|d| {
            let len = count(&d)?;
            self.store.budget.spend(len).map(|()| (d, len))
        });
        let Some(value) = value else { return Ok(()) };
        let filled = match (value.as_floats(), value.as_ints(), room) {
            (Some(&[value]), _, Some((dims, len))) => {
                Value::Tensor(Tensor::floats(dims, vec![value; len]))
            }
            (Some(&[value]), _, None) => Value::Filled(value),
            (_, Some(&[value]), Some((dims, len))) => {
                Value::Tensor(Tensor::ints(dims, vec![value; len]))
            }
            _ => return Ok(()),
        };
        self.set(node.output(0), filled);
        Ok(())
    }
}

/// The number that is everywhere, if an operator only moves it.
fn filled(op: &str, inputs: &[Option<Value>]) -> Option<f32> {
    let of = |value: &Option<Value>| match value {
        Some(Value::Filled(value)) => Some(*value),
        _ => None,
    };
    let first = of(inputs.first()?)?;
    match op {
        "Identity" | "Unsqueeze" | "Squeeze" | "Transpose" | "Reshape" | "Expand" | "Slice"
        | "Gather" => Some(first),
        "Concat" => {
            let same = inputs.iter().all(|value| of(value) == Some(first));
            same.then_some(first)
        }
        _ => None,
    }
}
