//! What turns, cuts and joins the axes of the data without being a layer.

use super::axes::{self, Role};
use super::fold::place;
use super::graph::{Data, Graph, Made};
use super::proto::Node;
use crate::Error;
use crate::import::Kind;

impl<'a> Graph<'a> {
    /// What turns, cuts or joins axes, and what has no effect; false if it is none of these.
    pub(super) fn shaped(
        &mut self,
        node: &Node<'a>,
        name: &str,
        data: &Data,
    ) -> Result<bool, Error> {
        let broken = self.broken();
        let known = data.axes.as_deref();
        let axes = match node.op {
            "Identity" | "Dropout" => {
                let kind = Kind::Nothing(node.op.into());
                let axes = known.cloned();
                self.add(node, name, Made::Layer(kind), data, axes);
                return Ok(true);
            }
            "Cast" => {
                let to = node.int("to").map_err(&broken)?.unwrap_or(0);
                let input = matches!(self.steps[data.at].made, Made::Input(_));
                let floats = matches!(to, 1 | 10 | 11 | 16);
                let integers = input && matches!(to, 2..=7 | 12 | 13);
                if !floats && !integers {
                    return Ok(false);
                }
                let axes = known.cloned();
                let kind = Kind::Nothing("Cast".into());
                self.add(node, name, Made::Layer(kind), data, axes);
                return Ok(true);
            }
            "Transpose" => {
                let order = node.ints("perm").map_err(&broken)?;
                known.map(|axes| axes::transpose(axes, order))
            }
            "Unsqueeze" => {
                let Some(Some(at)) = self.list(node, "axes", 1)? else {
                    return Ok(false);
                };
                if known.is_none() {
                    let unit_front = data.unit_front || at.first() == Some(&0);
                    let data = Data {
                        unit_front,
                        ..data.clone()
                    };
                    self.pass(node, data);
                    return Ok(true);
                }
                known.map(|axes| axes::unsqueeze(axes, &at, &mut self.numbering))
            }
            "Squeeze" => {
                let Some(at) = self.list(node, "axes", 1)? else {
                    return Ok(false);
                };
                known.map(|axes| axes::squeeze(axes, at))
            }
            "Reshape" => {
                let target = match node.input(1) {
                    Some(input) => self.constant(input)?,
                    None => None,
                };
                let target = target.as_ref().and_then(|tensor| tensor.as_ints());
                let Some(target) = target else {
                    return Ok(false);
                };
                let zero = node.int("allowzero").map_err(&broken)?.unwrap_or(0) == 0;
                known.map(|axes| axes::reshape(axes, target, zero, &mut self.numbering))
            }
            "Flatten" => {
                let axis = node.int("axis").map_err(&broken)?.unwrap_or(1);
                known.map(|axes| {
                    let at = match axis == axes.len() as i64 {
                        true => axes.len(),
                        false => place(axis, axes.len())?,
                    };
                    let (rows, columns) = axes.split_at(at);
                    (!rows.is_empty() && !columns.is_empty())
                        .then(|| vec![rows.concat(), columns.concat()])
                })
            }
            "Gather" => return self.take_one(node, name, data),
            "Slice" => return self.slice(node, name, data),
            "ReduceMean" => return self.mean(node, name, data),
            _ => return Ok(false),
        };
        match axes {
            // What is joined or split may be time steps and columns.
            None if matches!(node.op, "Reshape" | "Flatten") => return Ok(false),
            None => self.pass(node, data.with_axes(None)),
            Some(None) => return Ok(false),
            Some(axes) => self.pass(node, data.with_axes(axes)),
        }
        Ok(true)
    }

    /// One place of an axis that is the same everywhere: a time step, or a direction.
    pub(super) fn take_one(
        &mut self,
        node: &Node<'a>,
        name: &str,
        data: &Data,
    ) -> Result<bool, Error> {
        let broken = self.broken();
        let axis = node.int("axis").map_err(&broken)?.unwrap_or(0);
        let index = match node.input(1) {
            Some(input) => self.constant(input)?,
            None => None,
        };
        let (Some(axes), Some(index)) = (&data.axes, index) else {
            return Ok(false);
        };
        let (Some(at), Some(&[one])) = (place(axis, axes.len()), index.known().as_deref()) else {
            return Ok(false);
        };
        let kept = index.dims.len();
        if kept > 1 {
            return Ok(false);
        }
        self.one_place(node, name, data, at, one, kept == 1)
    }

    pub(super) fn one_place(
        &mut self,
        node: &Node<'a>,
        name: &str,
        data: &Data,
        at: usize,
        index: i64,
        kept: bool,
    ) -> Result<bool, Error> {
        let Some(old) = data.axes.as_deref() else {
            return Ok(false);
        };
        let mut axes = old.clone();
        let axis = axes.remove(at);
        if kept {
            axes.insert(at, self.numbering.axis(Some(1), Role::Free));
        }
        let size = axes::width(&axis);
        let index = match size.and_then(|size| i64::try_from(size).ok()) {
            Some(size) if index >= 0 && index < size => index - size,
            _ => index,
        };
        let single = axes::single(&axis);
        if size == Some(1) {
            if index == -1 {
                self.pass(node, data.with_axes(Some(axes)));
            }
            return Ok(index == -1);
        }
        if single.is_some_and(|atom| atom.role == Role::Directions) && at == 0 {
            let stack = self.stack_of(data);
            return Ok(match (stack, kept) {
                (Some(stack), false) => self.one_state(node, &stack, index),
                _ => false,
            });
        }
        let first = index == 0 || size.is_some_and(|size| index + size as i64 == 0);
        let made = match (index, first) {
            (-1, _) => Made::Last,
            (_, true) => Made::First,
            _ => return Ok(false),
        };
        if data.time.is_none() || single.map(|atom| atom.id) != data.time {
            return Ok(false);
        }
        let from = Data {
            time: None,
            ..data.clone()
        };
        self.add(node, name, made, &from, Some(axes));
        Ok(true)
    }

    pub(super) fn slice(
        &mut self,
        node: &Node<'a>,
        name: &str,
        data: &Data,
    ) -> Result<bool, Error> {
        let starts = self.list(node, "starts", 1)?.flatten();
        let ends = self.list(node, "ends", 2)?.flatten();
        let at = self.list(node, "axes", 3)?;
        let steps = self.list(node, "steps", 4)?;
        let (Some(starts), Some(ends), Some(at), Some(steps), Some(axes)) =
            (starts, ends, at, steps, &data.axes)
        else {
            return Ok(false);
        };
        let at = at.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let plain = steps.is_none_or(|steps| steps.iter().all(|&step| step == 1));
        let (&[start], &[end], &[at], true) = (&starts[..], &ends[..], &at[..], plain) else {
            return Ok(false);
        };
        let Some(at) = place(at, axes.len()) else {
            return Ok(false);
        };
        let size = axes::width(&axes[at]).and_then(|size| i64::try_from(size).ok());
        let to_end = end >= size.unwrap_or(i64::from(i32::MAX));
        if start == 0 && to_end {
            self.pass(node, data.clone());
            return Ok(true);
        }
        let last = to_end && (start == -1 || size.is_some_and(|size| start == size - 1));
        match (last, start, end) {
            (true, ..) => self.one_place(node, name, data, at, -1, true),
            (_, 0, 1) => self.one_place(node, name, data, at, 0, true),
            _ => Ok(false),
        }
    }

    pub(super) fn mean(&mut self, node: &Node<'a>, name: &str, data: &Data) -> Result<bool, Error> {
        let at = self.list(node, "axes", 1)?;
        let keep = node.int("keepdims").map_err(self.broken())?.unwrap_or(1) != 0;
        let (Some(Some(at)), Some(axes)) = (at, &data.axes) else {
            return Ok(false);
        };
        let &[at] = &at[..] else {
            return Ok(false);
        };
        let Some(at) = place(at, axes.len()) else {
            return Ok(false);
        };
        let mut kept = axes.to_vec();
        let axis = kept.remove(at);
        if keep {
            kept.insert(at, self.numbering.axis(Some(1), Role::Free));
        }
        if axes::width(&axis) == Some(1) {
            self.pass(node, data.with_axes(Some(kept)));
            return Ok(true);
        }
        let atom = axes::single(&axis);
        if data.time.is_none() || atom.map(|atom| atom.id) != data.time {
            return Ok(false);
        }
        let from = Data {
            time: None,
            ..data.clone()
        };
        self.add(node, name, Made::Mean, &from, Some(kept));
        Ok(true)
    }
}
