//! The operator `LSTM`: gates i, o, f, c in rows, two biases, and peepholes of i, o and f.

use super::axes::{self, Axis, Role};
use super::given::Start;
use super::graph::{Data, Graph, Made, Value};
use super::proto::Node;
use super::tensor::Tensor;
use crate::Error;
use crate::import::gates::{Gates, IOFJ, Layout};
use crate::import::{Kind, Lstm};
use fused_lstm::{Activation, Cell, Direction, LayerShape, Returns};
use std::rc::Rc;

impl<'a> Graph<'a> {
    pub(super) fn lstm(
        &mut self,
        node: &Node<'a>,
        name: &str,
        inputs: &[Option<Value<'a>>],
    ) -> Result<(), Error> {
        let broken = self.broken();
        let source = self.source;
        let problem = |text: String| source.problem(format!("node {name}: {text}"));
        let Some(Some(Value::Data(x))) = inputs.first() else {
            return self.other(node, name, inputs, "LSTM of something that is no sequence");
        };
        let direction = match node.attribute("direction").map_err(&broken)? {
            None => Direction::Forward,
            Some(attribute) => match attribute.text {
                b"forward" => Direction::Forward,
                b"reverse" => Direction::Reverse,
                b"bidirectional" => Direction::Both,
                other => {
                    let got = String::from_utf8_lossy(other);
                    return Err(problem(format!(
                        "direction: expected forward, reverse or bidirectional, got {got}"
                    )));
                }
            },
        };
        let directions = direction.count();
        let batch_first = match node.int("layout").map_err(&broken)?.unwrap_or(0) {
            0 => false,
            1 => true,
            other => return Err(problem(format!("layout: expected 0 or 1, got {other}"))),
        };
        let mut weights = Vec::new();
        for (index, what, wanted) in [
            (1, "W", true),
            (2, "R", true),
            (3, "B", false),
            (7, "P", false),
        ] {
            let value = inputs.get(index).and_then(Option::as_ref);
            match (value, wanted) {
                (None, false) => weights.push(None),
                (None, true) => return Err(problem(format!("expected weights {what}, got none"))),
                (Some(value), _) => {
                    weights.push(Some(self.weight(node, name, what, index, value)?));
                }
            }
        }
        let [w, r, b, p] = &weights[..] else {
            return Err(problem("expected weights".into()));
        };
        let (Some(w), Some(r)) = (w, r) else {
            return Err(problem("expected weights W and R".into()));
        };
        let [_, rows, inputs_len] = w.dims[..] else {
            let got = &w.dims;
            return Err(problem(format!(
                "W: expected shape [{directions}, 4H, I], got {got:?}"
            )));
        };
        let hidden = rows / 4;
        let stated = node.int("hidden_size").map_err(&broken)?;
        let hidden_stated = stated.is_none_or(|h| usize::try_from(h) == Ok(hidden));
        if hidden == 0 || inputs_len == 0 || !hidden_stated {
            let got = stated.map_or("none".into(), |h| h.to_string());
            return Err(problem(format!(
                "expected at least one input and hidden unit, and a hidden_size that fits W, \
                 got W {:?} and hidden_size {got}",
                w.dims
            )));
        }
        let expect = |what: &str, tensor: &Option<Tensor>, shape: &[usize]| match tensor {
            Some(tensor) if tensor.dims != shape => {
                let got = &tensor.dims;
                Err(problem(format!(
                    "{what}: expected shape {shape:?}, got {got:?}"
                )))
            }
            _ => Ok(()),
        };
        let four = hidden.saturating_mul(4);
        expect("W", &weights[0], &[directions, four, inputs_len])?;
        expect("R", &weights[1], &[directions, four, hidden])?;
        expect("B", b, &[directions, four.saturating_mul(2)])?;
        expect("P", p, &[directions, hidden.saturating_mul(3)])?;
        if let Some(axes) = &x.axes {
            let width = axes.get(2).and_then(|axis| axes::width(axis));
            if axes.len() != 3 || width.is_some_and(|width| width != inputs_len) {
                let got: Vec<String> = axes.iter().map(|axis| letter(axis, x)).collect();
                return Err(problem(format!(
                    "X: expected three axes, the last of size {inputs_len}, got [{}]",
                    got.join(", ")
                )));
            }
        }
        let mut cell = self.cell(node, name, directions)?;
        cell.peepholes = p.is_some();
        let layer = LayerShape::new(inputs_len, hidden);
        let mut params = Vec::new();
        for k in 0..directions {
            params.push(self.direction(name, layer, k, [w, r], [b, p])?);
        }
        let what = format!("LSTM {inputs_len}->{hidden}");
        if let Some(why) = not_in_time(x, batch_first) {
            return self.other(node, name, inputs, &format!("{what} {why}"));
        }
        self.lengths(name, x, batch_first, inputs.get(4), node.input(4))?;
        let mut carried = false;
        let mut rows = Vec::new();
        for (index, what_state) in [(6, "initial_c"), (5, "initial_h")] {
            let value = inputs.get(index).and_then(Option::as_ref);
            let dims = [directions, hidden];
            let start = self.start(node, name, what_state, index, value, (x, dims, batch_first))?;
            rows.push(match start {
                Start::Zero => None,
                Start::Rows(rows) => Some(rows),
                Start::Carried => {
                    carried = true;
                    None
                }
                Start::Computed => {
                    let text = format!("{what} that starts from a state of this graph");
                    return self.other(node, name, inputs, &text);
                }
            });
        }
        if carried {
            self.note(format!(
                "node {name}: the caller carries the state; it starts with zeros here"
            ));
        }
        let start = rows.iter().any(Option::is_some).then(|| {
            let zeros = vec![0.0; directions * hidden];
            let part = |rows: &Option<Vec<f32>>, k: usize| {
                let rows = rows.as_ref().unwrap_or(&zeros);
                rows.iter().skip(k * hidden).take(hidden).copied().collect()
            };
            let each = (0..directions).map(|k| {
                let parts: [Vec<f32>; 2] = [part(&rows[0], k), part(&rows[1], k)];
                parts.concat()
            });
            each.collect()
        });
        let lstm = Lstm {
            layer,
            cell,
            direction,
            returns: Returns::Sequence,
            params,
            start,
        };
        self.lstm_outputs(node, name, x, lstm, batch_first, carried);
        Ok(())
    }

    /// The activations and other options.
    fn cell(&self, node: &Node<'a>, name: &str, directions: usize) -> Result<Cell, Error> {
        let broken = self.broken();
        let problem = |text: String| self.problem(format!("node {name}: {text}"));
        let mut cell = Cell::PLAIN;
        if let Some(clip) = node.float("clip").map_err(&broken)?
            && clip != 0.0
        {
            if !(clip > 0.0 && clip.is_finite()) {
                return Err(problem(format!(
                    "clip: expected a number above 0, got {clip}"
                )));
            }
            cell.preact_clip = clip;
        }
        cell.coupled = node.int("input_forget").map_err(&broken)?.unwrap_or(0) != 0;
        let Some(attribute) = node.attribute("activations").map_err(&broken)? else {
            return Ok(cell);
        };
        let list = |name: &str| {
            let attribute = node.attribute(name).map_err(&broken)?;
            Ok::<_, Error>(attribute.map_or(Vec::new(), |a| a.floats))
        };
        let mut alphas = list("activation_alpha")?.into_iter();
        let mut betas = list("activation_beta")?.into_iter();
        let names = &attribute.texts;
        if names.len() != 3 * directions {
            let (expected, got) = (3 * directions, names.len());
            return Err(problem(format!(
                "activations: expected {expected} names, got {got}"
            )));
        }
        let mut all = Vec::new();
        for text in names {
            let text = String::from_utf8_lossy(text);
            // Values belong to those functions that have such, in their order.
            all.push(match text.to_ascii_lowercase().as_str() {
                "sigmoid" => Activation::Sigmoid,
                "tanh" => Activation::Tanh,
                "relu" => Activation::Relu,
                "hardsigmoid" => {
                    let slope = alphas.next().unwrap_or(0.2);
                    let beta = betas.next().unwrap_or(0.5);
                    if beta != 0.5 || !slope.is_finite() {
                        return Err(problem(format!(
                            "activations: expected a HardSigmoid with a beta of 0.5, got alpha \
                             {slope} and beta {beta}"
                        )));
                    }
                    Activation::HardSigmoid { slope }
                }
                _ => {
                    return Err(problem(format!(
                        "activations: expected Sigmoid, Tanh, Relu or HardSigmoid, got {text}"
                    )));
                }
            });
        }
        if directions == 2 && all[..3] != all[3..] {
            return Err(problem(format!(
                "activations: expected the same for both directions, got {:?} and {:?}",
                &all[..3],
                &all[3..]
            )));
        }
        if let [gates, candidate, output, ..] = all[..] {
            (cell.gates, cell.candidate, cell.output) = (gates, candidate, output);
        }
        Ok(cell)
    }

    fn direction(
        &self,
        name: &str,
        layer: LayerShape,
        k: usize,
        [w, r]: [&Tensor; 2],
        [b, p]: [&Option<Tensor>; 2],
    ) -> Result<Vec<f32>, Error> {
        let LayerShape { inputs, hidden, .. } = layer;
        let part = |tensor: &'_ Tensor, len: usize| -> Option<Vec<f32>> {
            let values = tensor.as_floats()?;
            Some(values.get(k * len..(k + 1) * len)?.to_vec())
        };
        let optional = |tensor: &Option<Tensor>, len: usize| match tensor {
            Some(tensor) => part(tensor, len).map(Some),
            None => Some(None),
        };
        let whole = || {
            let w = part(w, 4 * hidden * inputs)?;
            let r = part(r, 4 * hidden * hidden)?;
            let b = optional(b, 8 * hidden)?;
            Some((w, r, b, optional(p, 3 * hidden)?))
        };
        let Some((w, r, b, p)) = whole() else {
            return Err(self.problem(format!("node {name}: expected weights of floats")));
        };
        let (wb, rb) = match &b {
            Some(b) => b.split_at(4 * hidden),
            None => (&[][..], &[][..]),
        };
        let both = [wb, rb];
        let gates = Gates {
            order: IOFJ,
            layout: Layout::Rows,
            inputs,
            hidden,
            outputs: hidden,
            input: &w,
            recurrent: &r,
            biases: if b.is_some() { &both } else { &[] },
            forget_bias: 0.0,
        };
        let params = gates.to_core();
        let mut params = params.map_err(|e| self.problem(format!("node {name}: {e}")))?;
        if let Some(p) = p {
            // ONNX's order is i, o, f; the core's i, f, o.
            for gate in [0, 2, 1] {
                params.extend_from_slice(&p[gate * hidden..(gate + 1) * hidden]);
            }
        }
        Ok(params)
    }

    fn lstm_outputs(
        &mut self,
        node: &Node<'a>,
        name: &str,
        x: &Data,
        lstm: Lstm,
        batch_first: bool,
        carried: bool,
    ) {
        let directions = lstm.direction.count();
        let hidden = lstm.layer.hidden;
        let axes = x
            .axes
            .as_ref()
            .map(|axes| (axes[0].clone(), axes[1].clone()));
        let unit = (x.unit_front && !batch_first).then_some(1);
        let (first, second) = axes.unwrap_or_else(|| {
            let first = self.numbering.axis(unit, Role::Row);
            (first, self.numbering.axis(None, Role::Row))
        });
        let (time, batch) = match batch_first {
            false => (first, second),
            true => (second, first),
        };
        let settle = |axis: &Axis| {
            let atom = axes::single(axis).or_else(|| axis.first().copied());
            atom.map(|mut atom| {
                atom.role = Role::Row;
                atom
            })
        };
        let (Some(time), Some(batch)) = (settle(&time), settle(&batch)) else {
            return;
        };
        if batch.id < time.id && x.time.is_none() && x.axes.is_some() {
            self.note("the batch comes before the time steps in the file's input");
        }
        let made = match carried && time.size == Some(1) {
            true => Made::OneStep(Kind::Lstm(Box::new(lstm))),
            false => Made::Layer(Kind::Lstm(Box::new(lstm))),
        };
        let at = self.step(name, made, vec![x.at]);
        let stack = self.numbering.atom(Some(directions), Role::Directions);
        let units = self.numbering.atom(Some(hidden), Role::Feature);
        let (d, h) = (vec![stack], vec![units]);
        let (t, b) = (vec![time], vec![batch]);
        let data = |at: usize, axes: [&Axis; 4]| Data {
            at,
            axes: Some(Rc::new(
                axes.into_iter()
                    .filter(|a| !a.is_empty())
                    .cloned()
                    .collect(),
            )),
            time: Some(time.id),
            batch: Some(batch.id),
            unit_front: false,
            roots: x.roots,
        };
        let none = Axis::new();
        let (y_axes, h_axes) = match batch_first {
            false => ([&t, &d, &b, &h], [&d, &b, &h, &none]),
            true => ([&b, &t, &d, &h], [&b, &d, &h, &none]),
        };
        self.set(node.output(0), Value::Data(data(at, y_axes)));
        for (index, made) in [
            (1, Made::Final),
            (
                2,
                Made::Layer(Kind::Other("the final cell state of a layer".into())),
            ),
        ] {
            if let Some(output) = node.output(index) {
                let at = self.step(output, made, vec![at]);
                let state = Data {
                    time: None,
                    ..data(at, h_axes)
                };
                self.set(Some(output), Value::Data(state));
            }
        }
    }
}

/// Why a layer does not run over the time steps of the layer before it, if so.
fn not_in_time(x: &Data, batch_first: bool) -> Option<&'static str> {
    let axes = x.axes.as_ref()?;
    let (time, batch, columns) = match batch_first {
        false => (axes.first()?, axes.get(1)?, axes.get(2)?),
        true => (axes.get(1)?, axes.first()?, axes.get(2)?),
    };
    let (Some(t), Some(_)) = (axes::single(time), axes::single(batch)) else {
        return Some("over axes that are joined");
    };
    let rows = axes::may_be_rows(time) && axes::may_be_rows(batch);
    if !rows || !axes::may_be_columns(columns) {
        return Some("over the columns of what is before it");
    }
    let other = x.time.is_some_and(|time| t.id != time);
    other.then_some("over another axis than the layer before it")
}

/// An axis by a letter, and by its size where that is known.
pub(super) fn letter(axis: &Axis, data: &Data) -> String {
    let each = axis
        .iter()
        .filter(|atom| axis.len() == 1 || atom.size != Some(1));
    let each = each.map(|atom| match (atom.role, atom.size) {
        _ if Some(atom.id) == data.time => "T".to_owned(),
        _ if Some(atom.id) == data.batch => "B".to_owned(),
        (Role::Directions, _) => "D".to_owned(),
        (_, Some(size)) => size.to_string(),
        (_, None) => "?".to_owned(),
    });
    each.collect::<Vec<_>>().join("·")
}
