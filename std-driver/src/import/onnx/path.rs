//! From steps to layers: those that lead to an output, in their order.

use super::axes::{self, Role};
use super::graph::{Data, Graph, Made, Value};
use super::lstm::letter;
use crate::Error;
use crate::import::{Kind, Layer, Lstm};
use fused_lstm::{Direction, Returns};

/// Outputs that are looked at.
const MOST_OUTPUTS: usize = 64;
/// Layers that a time step is moved over.
const MOST_MOVES: usize = 64;

impl Graph<'_> {
    /// The layers on the way to the output that is wanted, or to the first one behind an LSTM.
    pub(super) fn layers(&mut self, outputs: &[(&str, Value)]) -> Result<Vec<Layer>, Error> {
        let outputs = &outputs[..outputs.len().min(MOST_OUTPUTS)];
        self.choices
            .extend(outputs.iter().map(|(name, _)| (*name).to_owned()));
        let mut chosen = None;
        for (part, used) in &mut self.wanted {
            if let Some(index) = outputs.iter().position(|(name, _)| name == part) {
                *used = true;
                chosen = Some(index);
            }
        }
        let mut found = None;
        for (index, (_, value)) in outputs.iter().enumerate() {
            if chosen.is_some_and(|chosen| chosen != index) {
                continue;
            }
            let Value::Data(data) = value else { continue };
            let reached = self.reached(data.at);
            let recurrent = |at: &usize| match &self.steps[*at].made {
                Made::OneStep(_) | Made::Layer(Kind::Lstm(_)) => true,
                Made::Layer(Kind::Other(text)) => {
                    let start = text.split(' ').next().unwrap_or("");
                    matches!(start, "LSTM" | "GRU" | "RNN" | "DynamicQuantizeLSTM")
                }
                _ => false,
            };
            if reached.iter().any(recurrent) {
                found = Some((index, data, reached));
                break;
            }
        }
        let Some((index, data, reached)) = found else {
            return Err(self.problem(self.without_lstm(outputs, chosen)));
        };
        let output = outputs[index].0;
        self.note_left_out(outputs, index, &reached);
        self.note_axes(output, data);
        Ok(self.resolved(reached))
    }

    /// The steps that one depends on, and itself.
    fn reached(&self, end: usize) -> Vec<usize> {
        let mut reached = vec![false; end + 1];
        reached[end] = true;
        for at in (0..=end).rev() {
            if reached[at] {
                for &parent in &self.steps[at].parents {
                    if let Some(parent) = reached.get_mut(parent) {
                        *parent = true;
                    }
                }
            }
        }
        (0..=end).filter(|&at| reached[at]).collect()
    }

    fn without_lstm(&self, outputs: &[(&str, Value)], chosen: Option<usize>) -> String {
        if self.operators.contains(&"LSTM") {
            let names: Vec<&str> = match chosen {
                Some(index) => vec![outputs[index].0],
                None => outputs.iter().map(|(name, _)| *name).collect(),
            };
            let names = names.join(", ");
            return format!(
                "expected an LSTM node on the way to an output, got none that leads to {names}"
            );
        }
        let first = ["GRU", "RNN", "Scan", "Loop", "QLinearConv"];
        let plain = [
            "Cast",
            "Concat",
            "Constant",
            "Gather",
            "Identity",
            "If",
            "Reshape",
            "Shape",
            "Slice",
            "Squeeze",
            "Transpose",
            "Unsqueeze",
        ];
        let mut all: Vec<&str> = self.operators.clone();
        all.retain(|op| !plain.contains(op));
        all.sort_by_key(|op| first.iter().position(|f| f == op).unwrap_or(first.len()));
        let more = if all.len() > 6 { " ..." } else { "" };
        all.truncate(6);
        match &all[..] {
            [] => "holds no LSTM node".into(),
            all => format!("holds no LSTM node: {}{more}", all.join(", ")),
        }
    }

    fn note_left_out(&mut self, outputs: &[(&str, Value)], index: usize, reached: &[usize]) {
        let other = outputs.iter().enumerate().filter(|(k, _)| *k != index);
        let names: Vec<&str> = other.map(|(_, (name, _))| *name).collect();
        if !names.is_empty() {
            let (names, output) = (names.join(", "), outputs[index].0);
            self.note(format!(
                "the layers are those of output {output}; left out: {names}"
            ));
        }
        let lost = self.steps.iter().enumerate().filter(|(at, step)| {
            let lstm = matches!(step.made, Made::OneStep(_) | Made::Layer(Kind::Lstm(_)));
            lstm && reached.binary_search(at).is_err()
        });
        let lost: Vec<String> = lost.take(8).map(|(_, step)| step.name.clone()).collect();
        if !lost.is_empty() {
            let output = outputs[index].0;
            self.note(format!(
                "LSTM nodes that do not lead to output {output} are left out: {}",
                lost.join(", ")
            ));
        }
    }

    /// Says how the file's output lies in memory, if it is not `[T, B, columns]` or one row.
    fn note_axes(&mut self, output: &str, data: &Data) {
        let Some(all) = data.axes.as_deref() else {
            return;
        };
        let long = all.iter().filter(|axis| axes::width(axis) != Some(1));
        let is = |axis: &[axes::Atom], id: Option<u32>| {
            id.is_some() && axes::single(axis).map(|atom| atom.id) == id
        };
        let place = |id: Option<u32>| long.clone().position(|axis| is(axis, id));
        let turned = match (place(data.time), place(data.batch)) {
            (Some(time), Some(batch)) => batch < time,
            _ => false,
        };
        let apart = |axis: &axes::Axis| axis.len() == 1 && axis[0].role == Role::Directions;
        let rows = all.last().is_some_and(|axis| {
            is(axis, data.time) || (is(axis, data.batch) && axes::width(axis) != Some(1))
        });
        if turned || rows || long.clone().any(apart) {
            let letters: Vec<String> = all.iter().map(|axis| letter(axis, data)).collect();
            let letters = letters.join(", ");
            self.note(format!(
                "output {output} is [{letters}] in the file; here the time steps come first, then \
                 the batch, and then all columns"
            ));
        }
    }

    /// The layers, with the time step or mean that is taken behind a layer as part of it.
    fn resolved(&mut self, reached: Vec<usize>) -> Vec<Layer> {
        let mut uses = vec![0usize; self.steps.len()];
        for &at in &reached {
            for &parent in &self.steps[at].parents {
                uses[parent] += 1;
            }
        }
        for &at in &reached {
            let made = &self.steps[at].made;
            if matches!(made, Made::Final | Made::Last | Made::First | Made::Mean) {
                self.resolve(at, &uses);
            }
        }
        let mut layers = Vec::new();
        for at in reached {
            let step = &mut self.steps[at];
            let kind = match std::mem::replace(&mut step.made, Made::Dropped) {
                Made::Layer(kind) | Made::OneStep(kind) => kind,
                _ => continue,
            };
            let name = std::mem::take(&mut step.name);
            layers.push(Layer { name, kind });
        }
        layers
    }

    fn resolve(&mut self, at: usize, uses: &[usize]) {
        let (text, returns) = match self.steps[at].made {
            Made::Mean => ("the mean over the time steps", Returns::Mean),
            Made::First => ("the first time step", Returns::Last),
            _ => ("the last time step", Returns::Last),
        };
        match self.before(at, uses) {
            Some((layer, moved)) => {
                let one_step = matches!(self.steps[layer].made, Made::OneStep(_));
                let name = self.steps[layer].name.clone();
                if one_step {
                    self.note(format!(
                        "node {name}: the graph runs one step a call; here a sequence runs through"
                    ));
                } else if moved {
                    self.note(format!("{text} is taken right behind node {name}"));
                }
                if let (Some(lstm), false) = (lstm_mut(&mut self.steps[layer].made), one_step) {
                    lstm.returns = returns;
                }
                self.steps[at].made = Made::Dropped;
            }
            None => {
                let text = match self.steps[at].made {
                    Made::Final => "the final state of a layer of which more is used",
                    _ => text,
                };
                self.steps[at].made = Made::Layer(Kind::Other(text.into()));
            }
        }
    }

    /// The LSTM layer that can take a step itself, and whether other layers are between.
    fn before(&self, at: usize, uses: &[usize]) -> Option<(usize, bool)> {
        let made = &self.steps[at].made;
        let mut moved = false;
        let mut layer = at;
        for _ in 0..MOST_MOVES {
            layer = *self.steps[layer].parents.first()?;
            if uses[layer] != 1 {
                return None;
            }
            match &self.steps[layer].made {
                Made::Layer(Kind::Lstm(lstm)) | Made::OneStep(Kind::Lstm(lstm)) => {
                    let fits = match (made, lstm.direction) {
                        (Made::Final | Made::Mean, _) => true,
                        (Made::Last, direction) => direction == Direction::Forward,
                        (Made::First, direction) => direction == Direction::Reverse,
                        _ => false,
                    };
                    return (fits && lstm.returns == Returns::Sequence).then_some((layer, moved));
                }
                Made::Layer(Kind::Nothing(_)) => {}
                Made::Layer(Kind::Dense { .. } | Kind::Affine { .. } | Kind::Gain(_)) => {
                    moved = true;
                }
                Made::Layer(Kind::Activation(_)) if !matches!(made, Made::Mean) => moved = true,
                _ => return None,
            }
        }
        None
    }
}

fn lstm_mut(made: &mut Made) -> Option<&mut Lstm> {
    match made {
        Made::Layer(Kind::Lstm(lstm)) | Made::OneStep(Kind::Lstm(lstm)) => Some(lstm),
        _ => None,
    }
}
