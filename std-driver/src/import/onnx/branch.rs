//! `If`: which branch is read. Exporters write one for every question about a shape, and both
//! branches then hold the same layers.

use super::graph::{Data, Graph, Made, Value};
use super::proto::Node;
use crate::Error;
use crate::import::{Kind, Lstm};

impl<'a> Graph<'a> {
    pub(super) fn branch(&mut self, node: &Node<'a>, name: &str) -> Result<(), Error> {
        let broken = self.broken();
        let mut graphs = Vec::new();
        for branch in ["then_branch", "else_branch"] {
            let graph = node.attribute(branch).map_err(&broken)?;
            match graph.and_then(|attribute| attribute.graph) {
                Some(graph) => graphs.push((graph, format!("{name}/{branch}"))),
                None => {
                    let text = format!("node {name}: expected a {branch}, got none");
                    return Err(self.problem(text));
                }
            }
        }
        let [first, second] = [&graphs[0], &graphs[1]];
        let condition = match node.input(0) {
            Some(input) => {
                self.value(input, &format!("node {name}"))?;
                self.constant(input)?.and_then(|c| c.known())
            }
            None => None,
        };
        let decided = match condition.as_deref() {
            Some(&[condition]) => Some(condition != 0),
            _ => {
                self.choices.extend([first.1.clone(), second.1.clone()]);
                self.wanted_branch(&first.1, &second.1)
            }
        };
        if let Some(first_wanted) = decided {
            let (graph, path) = if first_wanted { first } else { second };
            let outputs = self.run(graph, &format!("{path}/"))?;
            return self.branch_outputs(node, name, outputs);
        }
        let depth = self.scopes_len();
        let start = self.steps.len();
        let notes = std::mem::take(&mut self.notes);
        let a = self.run(first.0, &format!("{}/", first.1));
        self.leave_scopes(depth);
        let notes_a = std::mem::take(&mut self.notes);
        let middle = self.steps.len();
        let b = self.run(second.0, &format!("{}/", second.1));
        self.leave_scopes(depth);
        let notes_b = std::mem::replace(&mut self.notes, notes);
        let (a, b) = (a?, b?);
        let (layers_a, from_a) = self.behind(&a, start);
        let (layers_b, from_b) = self.behind(&b, start);
        let [kinds_a, kinds_b] = [&layers_a, &layers_b].map(|layers| {
            let kinds = layers.iter().map(|&at| &self.steps[at].made);
            let kinds = kinds.filter(|made| !matches!(made, Made::Layer(Kind::Nothing(_))));
            kinds.collect::<Vec<_>>()
        });
        let mut pairs = kinds_a.iter().zip(&kinds_b);
        let same = kinds_a.len() == kinds_b.len() && pairs.all(|(a, b)| same_step(a, b));
        let weights = kinds_a.iter().chain(&kinds_b).any(|made| has_weights(made));
        if !same && weights {
            return Err(self.problem(format!(
                "the branches of node {name} differ: choose one of them as the part: {} or {}",
                first.1, second.1
            )));
        }
        if !same || from_a != from_b {
            self.drop_steps(start);
            let ends: Vec<&Data> = a.iter().chain(&b).filter_map(|(_, v)| data(v)).collect();
            let roots = ends.iter().fold(0, |roots, data| roots | data.roots);
            let mut parents = [from_a, from_b].concat();
            parents.sort_unstable();
            parents.dedup();
            if parents.is_empty() {
                for &output in &node.outputs {
                    self.set(Some(output), Value::Unknown(node.op));
                }
                return Ok(());
            }
            return self.opaque(node, name, "If".into(), parents, roots);
        }
        let more = |outputs: &[(&str, Value)]| outputs.first().map_or(0, |(_, v)| knowledge(v));
        let takes_first = more(&a) >= more(&b);
        if weights {
            let path = if takes_first { &first.1 } else { &second.1 };
            self.note(format!(
                "both branches of node {name} have the same layers: those of {path} are read"
            ));
        }
        let notes = if takes_first { notes_a } else { notes_b };
        notes.into_iter().for_each(|note| self.note(note));
        if takes_first {
            self.steps.truncate(middle);
            self.branch_outputs(node, name, a)
        } else {
            for step in &mut self.steps[start..middle] {
                step.made = Made::Dropped;
            }
            self.branch_outputs(node, name, b)
        }
    }

    fn wanted_branch(&mut self, first: &str, second: &str) -> Option<bool> {
        let mut decided = None;
        for (part, used) in &mut self.wanted {
            let whole = [first, second].iter().position(|path| path == part);
            let end = ["then_branch", "else_branch"]
                .iter()
                .position(|p| p == part);
            if let Some(index) = whole.or(end) {
                *used = true;
                if whole.is_some() || decided.is_none() {
                    decided = Some(index == 0);
                }
            }
        }
        decided
    }

    fn branch_outputs(
        &mut self,
        node: &Node<'a>,
        name: &str,
        outputs: Vec<(&'a str, Value<'a>)>,
    ) -> Result<(), Error> {
        if outputs.len() != node.outputs.len() {
            let (expected, got) = (node.outputs.len(), outputs.len());
            return Err(self.problem(format!(
                "node {name}: expected branches with {expected} outputs, got {got}"
            )));
        }
        for (&output, (_, value)) in node.outputs.iter().zip(outputs) {
            self.set(Some(output), value);
        }
        Ok(())
    }

    fn drop_steps(&mut self, start: usize) {
        for step in &mut self.steps[start..] {
            step.made = Made::Dropped;
        }
    }

    /// The steps from `start` on that outputs depend on, and those before it that they begin with.
    fn behind(&self, outputs: &[(&str, Value)], start: usize) -> (Vec<usize>, Vec<usize>) {
        let mut reached = vec![false; self.steps.len() - start];
        let mut before = Vec::new();
        let mut reach = |at: usize, reached: &mut [bool]| match at.checked_sub(start) {
            Some(place) => reached[place] = true,
            None => before.push(at),
        };
        for (_, value) in outputs {
            match value {
                Value::Data(data) => reach(data.at, &mut reached),
                Value::Stack(states) => {
                    for state in states {
                        reach(state.data.at, &mut reached);
                    }
                }
                _ => {}
            }
        }
        for place in (0..reached.len()).rev() {
            if reached[place] {
                for &parent in &self.steps[start + place].parents {
                    reach(parent, &mut reached);
                }
            }
        }
        before.sort_unstable();
        before.dedup();
        let inside = (0..reached.len()).filter(|&place| reached[place]);
        (inside.map(|place| start + place).collect(), before)
    }
}

fn data<'v>(value: &'v Value) -> Option<&'v Data> {
    match value {
        Value::Data(data) => Some(data),
        Value::Stack(states) => states.first().map(|state| &state.data),
        _ => None,
    }
}

/// How much is known about a value: the branch that keeps more axes is the one for any batch.
fn knowledge(value: &Value) -> usize {
    match value {
        Value::Data(data) => 1 + data.axes.as_ref().map_or(0, |axes| 1 + axes.len()),
        Value::Stack(_) => 1,
        _ => 0,
    }
}

fn has_weights(made: &Made) -> bool {
    matches!(
        made,
        Made::OneStep(_)
            | Made::Layer(
                Kind::Lstm(_) | Kind::Dense { .. } | Kind::Embedding { .. } | Kind::Affine { .. }
            )
    )
}

fn same_step(a: &Made, b: &Made) -> bool {
    match (a, b) {
        (Made::Layer(a) | Made::OneStep(a), Made::Layer(b) | Made::OneStep(b)) => same_kind(a, b),
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

fn same_kind(a: &Kind, b: &Kind) -> bool {
    match (a, b) {
        (Kind::Embedding { table: a, .. }, Kind::Embedding { table: b, .. }) => a == b,
        (
            Kind::Dense {
                inputs: i,
                kernel: a,
                bias: x,
                ..
            },
            Kind::Dense {
                inputs: j,
                kernel: b,
                bias: y,
                ..
            },
        ) => i == j && a == b && x == y,
        (Kind::Activation(a), Kind::Activation(b)) => a == b,
        (Kind::Affine { scale: a, shift: x }, Kind::Affine { scale: b, shift: y }) => {
            a == b && x == y
        }
        (Kind::Lstm(a), Kind::Lstm(b)) => same_lstm(a, b),
        (Kind::Gain(a), Kind::Gain(b)) => a == b,
        (Kind::Other(a), Kind::Other(b)) | (Kind::Nothing(a), Kind::Nothing(b)) => a == b,
        _ => false,
    }
}

fn same_lstm(a: &Lstm, b: &Lstm) -> bool {
    (a.layer, a.cell, a.direction, a.returns) == (b.layer, b.cell, b.direction, b.returns)
        && a.params == b.params
        && a.start == b.start
}
