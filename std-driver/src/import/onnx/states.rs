//! Final states: of layers above each other, and of directions.

use super::axes::{self, Role};
use super::fold::place;
use super::graph::{Data, Graph, Made, State, Value};
use super::nodes::Inputs;
use super::proto::Node;
use crate::Error;

impl<'a> Graph<'a> {
    /// The states of a layer, if that is what the data are.
    pub(super) fn stack_of(&self, data: &Data) -> Option<Vec<State>> {
        let axes = data.axes.as_deref()?;
        let stack = axes::single(axes.first()?)?;
        let of = stack.size?;
        let last = matches!(self.steps[data.at].made, Made::Final);
        if !last || stack.role != Role::Directions || axes.len() != 3 || of > 2 {
            return None;
        }
        let data = data.with_axes(Some(axes[1..].to_vec()));
        let each = (0..of).map(|direction| State {
            data: data.clone(),
            direction,
            of,
        });
        Some(each.collect())
    }

    /// One of the states; false if there is no such one.
    pub(super) fn one_state(&mut self, node: &Node<'a>, stack: &[State], index: i64) -> bool {
        let Some(state) = place(index, stack.len()).map(|index| stack[index].clone()) else {
            return false;
        };
        let value = match state.of {
            1 => Value::Data(state.data),
            _ => Value::Stack(vec![state]),
        };
        self.set(node.output(0), value);
        true
    }

    /// One of the states of several layers and directions.
    pub(super) fn pick(&mut self, node: &Node<'a>, stack: &[State]) -> Result<bool, Error> {
        let broken = self.broken();
        let axis = node.int("axis").map_err(&broken)?.unwrap_or(0);
        let index = match node.input(1) {
            Some(input) if node.op == "Gather" => self.constant(input)?,
            _ => None,
        };
        let one = index.filter(|index| index.dims.is_empty());
        let one = one.and_then(|index| index.known());
        Ok(match one.as_deref() {
            Some(&[index]) if axis == 0 && stack.len() > 1 => self.one_state(node, stack, index),
            _ => false,
        })
    }

    /// The states of layers above each other, or of directions beside each other.
    pub(super) fn concat(
        &mut self,
        node: &Node<'a>,
        inputs: Inputs<'_, 'a>,
    ) -> Result<bool, Error> {
        let axis = node.int("axis").map_err(self.broken())?.unwrap_or(0);
        if let [Some(Value::Data(data))] = inputs {
            self.pass(node, data.clone());
            return Ok(true);
        }
        if let [Some(Value::Stack(a)), Some(Value::Stack(b))] = inputs
            && let ([a], [b]) = (&a[..], &b[..])
            && (a.data.at, a.direction, b.direction, a.of) == (b.data.at, 0, 1, 2)
            && matches!(axis, 1 | -1)
            && let Some([batch, units]) = a.data.axes.as_deref().map(|axes| &axes[..])
        {
            let stack = self.numbering.atom(Some(2), Role::Directions);
            let units = self.numbering.atom(axes::width(units), Role::Feature);
            let joined = vec![stack, units];
            let data = a.data.with_axes(Some(vec![batch.clone(), joined]));
            self.pass(node, data);
            return Ok(true);
        }
        let mut all = Vec::new();
        for value in inputs {
            match value {
                Some(Value::Data(data)) if axis == 0 => match self.stack_of(data) {
                    Some(states) => all.extend(states),
                    None => return Ok(false),
                },
                _ => return Ok(false),
            }
        }
        if all.len() > 64 {
            return Ok(false);
        }
        self.set(node.output(0), Value::Stack(all));
        Ok(true)
    }
}
