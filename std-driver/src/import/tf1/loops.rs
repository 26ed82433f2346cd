//! LSTM layers in a frozen graph: a cell in a loop over the steps, or a cell for each step.

use super::graph::Frozen;
use crate::Error;
use crate::import::Lstm;
use crate::import::gates::{Gates, Layout};
use crate::import::step::{self, Graph, Op, Step, Value};
use fused_lstm::{Cell, LayerShape};
use std::collections::HashMap;

/// A layer.
#[derive(Clone, Debug)]
pub(super) struct Recurrent {
    step: Step,
    /// What each step takes: one of them in a loop.
    pub(super) x: Vec<Value>,
    /// What each step gives.
    pub(super) h: Vec<Value>,
    /// The loop's variable that has h, if it is a loop.
    pub(super) variable: Option<Value>,
    kernel: Value,
    projection: Option<Value>,
    projection_clip: f32,
    /// The cell state after the last step.
    last: Value,
    /// What c and h are before the first step.
    start: [Value; 2],
}

/// A value that is o·tanh c, or its projection: the weights, and the limit.
type Hidden = (Value, Option<Value>, f32);

/// h, if a value is one.
fn hidden(graph: &Frozen, outputs: &HashMap<Value, usize>, value: Value) -> Option<Hidden> {
    if outputs.contains_key(&value) {
        return Some((value, None, f32::INFINITY));
    }
    let (inner, clip) = step::clipped(graph, value);
    if graph.op(inner) != Op::MatMul {
        return None;
    }
    let (of, weights) = (graph.input(inner, 0)?, graph.input(inner, 1)?);
    let projected = outputs.contains_key(&of) && graph.is_constant(weights);
    projected.then_some((of, Some(weights), clip))
}

/// x and h, which are put side by side.
fn concatenated(graph: &Frozen, value: Value) -> Option<[Value; 2]> {
    let (axis, first) = match graph.op_name(value) {
        "ConcatV2" => (2, 0),
        "Concat" => (0, 1),
        _ => return None,
    };
    if graph.node(value)?.inputs.len() != 3 {
        return None;
    }
    let axis = graph.integers(graph.data(value, axis)?)?;
    let columns = axis == [1] || axis == [-1];
    columns.then_some([graph.data(value, first)?, graph.data(value, first + 1)?])
}

/// What a loop's variable is before the first step, and after each.
pub(super) fn variable(graph: &Frozen, value: Value) -> Option<[Value; 2]> {
    if graph.op_name(value) != "Merge" {
        return None;
    }
    let inputs = &graph.node(value)?.inputs;
    let (mut start, mut next) = (None, None);
    for &input in inputs {
        match graph.op_name(input) {
            "Enter" => start = Some(graph.resolve(input)),
            "NextIteration" => next = graph.data(input, 0),
            _ => return None,
        }
    }
    Some([start?, next?])
}

/// All layers of a graph.
pub(super) fn all(graph: &Frozen) -> Result<Vec<Recurrent>, Error> {
    let mut steps = Vec::new();
    let mut outputs = HashMap::new();
    for node in 0..graph.nodes.len() {
        let value = Value { node, output: 0 };
        if let Some(step) = step::step(graph, value) {
            outputs.insert(value, steps.len());
            steps.push(step);
        }
    }
    // Where the state that a step begins with comes from another step, that is the one before it.
    let after: HashMap<Value, usize> = steps.iter().map(|s| s.after).zip(0..).collect();
    let mut followed = vec![None; steps.len()];
    let mut first = Vec::new();
    for (k, step) in steps.iter().enumerate() {
        match after.get(&step.before).copied() {
            Some(before) => {
                if let Some(next) = followed.get_mut(before) {
                    *next = Some(k);
                }
            }
            None => first.push(k),
        }
    }
    // The projections of outputs, for the last step of a chain.
    let mut projected: HashMap<Value, Vec<(Value, Hidden)>> = HashMap::new();
    for node in 0..graph.nodes.len() {
        let value = Value { node, output: 0 };
        if let Some(found) = hidden(graph, &outputs, value) {
            projected.entry(found.0).or_default().push((value, found));
        }
    }
    let mut layers = Vec::new();
    for k in first {
        let mut chain = Vec::new();
        let mut at = Some(k);
        while let Some(place) = at.filter(|_| chain.len() < steps.len()) {
            chain.extend(steps.get(place));
            at = followed.get(place).copied().flatten();
        }
        layers.push(layer(graph, &chain, &outputs, &projected)?);
    }
    Ok(layers)
}

fn layer(
    graph: &Frozen,
    chain: &[&Step],
    outputs: &HashMap<Value, usize>,
    projected: &HashMap<Value, Vec<(Value, Hidden)>>,
) -> Result<Recurrent, Error> {
    let (Some(first), Some(last)) = (chain.first(), chain.last()) else {
        return Err(graph.source.problem("expected steps of an LSTM, got none"));
    };
    let problem = |text: &str| graph.problem(first.output, text);
    let mut parts = Vec::new();
    for step in chain {
        let [product] = step.products[..] else {
            return Err(problem("expected one product of x and h side by side"));
        };
        let Some(part) = concatenated(graph, product.of) else {
            return Err(problem("expected x and h side by side in an LSTM cell"));
        };
        let same = step.order == first.order
            && step.biases == first.biases
            && step.cell == first.cell
            && step.forget_bias.to_bits() == first.forget_bias.to_bits()
            && step.peepholes == first.peepholes
            && first.products.first().map(|p| p.weights) == Some(product.weights);
        if !same {
            return Err(problem(
                "expected the same weights in all steps, got others",
            ));
        }
        parts.push((part, product.weights));
    }
    let Some(([_, start], kernel)) = parts.first().copied() else {
        return Err(problem("expected steps of an LSTM, got none"));
    };
    let mut layer = Recurrent {
        step: (*first).clone(),
        x: parts.iter().map(|([x, _], _)| *x).collect(),
        h: Vec::new(),
        variable: None,
        kernel,
        projection: None,
        projection_clip: f32::INFINITY,
        last: last.after,
        start: [first.before, start],
    };
    if let Some([start, next]) = variable(graph, start) {
        let Some([c_start, c_next]) = variable(graph, first.before) else {
            return Err(problem("expected c as a variable of the loop"));
        };
        let found = hidden(graph, outputs, next);
        let Some((of, projection, clip)) = found.filter(|(of, ..)| *of == first.output) else {
            let text = format!(
                "expected the loop's next h to be that of the cell, got {}",
                graph.op_name(next)
            );
            return Err(problem(&text));
        };
        if chain.len() != 1 || of != first.output || c_next != first.after {
            return Err(problem("expected the loop's next c to be that of the cell"));
        }
        layer.variable = Some(layer_variable(&parts));
        layer.h = vec![next];
        layer.projection = projection;
        layer.projection_clip = clip;
        layer.start = [c_start, start];
        return Ok(layer);
    }
    // Each step but the first tells what the h of the one before it is.
    let mut known: Option<(Option<Value>, f32)> = None;
    for (pair, step) in parts.iter().skip(1).zip(chain) {
        let ([_, h], _) = *pair;
        let found = hidden(graph, outputs, h).filter(|(of, ..)| *of == step.output);
        let Some((_, projection, clip)) = found else {
            return Err(problem(
                "expected h of the step before it in each step of an LSTM",
            ));
        };
        if known.is_some_and(|known| known != (projection, clip)) {
            return Err(problem(
                "expected the same projection in all steps, got others",
            ));
        }
        known = Some((projection, clip));
        layer.h.push(h);
    }
    let (projection, clip) = match known {
        Some(known) => known,
        None => {
            // One step: the state that goes in has to tell its width.
            let width = graph
                .declared_shape(start)
                .and_then(|shape| shape.last().copied());
            let units = graph.shape(kernel).and_then(|shape| shape.get(1).copied());
            match (width, units) {
                (Some(width), Some(units)) if width.checked_mul(4) == Some(units) => {}
                _ => {
                    return Err(problem(
                        "expected a loop, several steps or h as a placeholder of a known shape",
                    ));
                }
            }
            (None, f32::INFINITY)
        }
    };
    let candidates = projected.get(&last.output).map_or(&[][..], |all| all);
    let h = candidates
        .iter()
        .find(|(_, (_, weights, limit))| *weights == projection && *limit == clip);
    layer.h.push(h.map_or(last.output, |(value, _)| *value));
    layer.projection = projection;
    layer.projection_clip = clip;
    Ok(layer)
}

/// The h that the only step of a loop takes.
fn layer_variable(parts: &[([Value; 2], Value)]) -> Value {
    let none = Value {
        node: usize::MAX,
        output: 0,
    };
    parts.first().map_or(none, |([_, h], _)| *h)
}

impl Recurrent {
    /// The last cell state, of layers that are no loop.
    pub(super) fn state(&self) -> Value {
        self.last
    }

    /// The layer with its numbers.
    pub(super) fn lstm(&self, graph: &mut Frozen) -> Result<Lstm, Error> {
        let (kernel, step) = (self.kernel, &self.step);
        let [rows, columns] = graph.shape(kernel).unwrap_or_default()[..] else {
            return Err(graph.problem(kernel, "expected weights of two dimensions"));
        };
        let hidden = columns / 4;
        let outputs = match self.projection {
            None => hidden,
            Some(projection) => match graph.shape(projection).as_deref() {
                Some(&[units, outputs]) if units == hidden && outputs > 0 => outputs,
                _ => return Err(graph.problem(projection, "expected a projection of all units")),
            },
        };
        if hidden == 0 || columns % 4 != 0 || rows <= outputs {
            return Err(graph.problem(
                kernel,
                format_args!(
                    "expected rows for inputs and {outputs} outputs, and columns for four gates, \
                     got shape [{rows}, {columns}]"
                ),
            ));
        }
        let inputs = rows - outputs;
        let mut input = graph.numbers(kernel, &[rows, columns])?;
        let recurrent = input.split_off((inputs * columns).min(input.len()));
        let mut biases = Vec::new();
        for &bias in &step.biases {
            biases.push(graph.numbers(bias, &[columns])?);
        }
        if biases.is_empty() {
            biases.push(crate::memory::zeros(columns)?);
        }
        let biases: Vec<&[f32]> = biases.iter().map(|bias| &bias[..]).collect();
        let gates = Gates {
            order: step.order,
            layout: Layout::Columns,
            inputs,
            hidden,
            outputs,
            input: &input,
            recurrent: &recurrent,
            biases: &biases,
            forget_bias: step.forget_bias,
        };
        let params = gates.to_core();
        let mut params = params.map_err(|problem| graph.problem(kernel, problem))?;
        for &peephole in step.peepholes.iter().flatten() {
            params.extend(graph.numbers(peephole, &[hidden])?);
        }
        if let Some(projection) = self.projection {
            params.extend(graph.numbers(projection, &[hidden, outputs])?);
        }
        self.starts(graph)?;
        let mut lstm = Lstm::new(LayerShape::new(inputs, hidden), params);
        lstm.cell = Cell {
            projection: self.projection.map(|_| outputs),
            projection_clip: self.projection_clip,
            ..step.cell
        };
        Ok(lstm)
    }

    /// Says what becomes of the state that it starts from, unless that is zeros.
    fn starts(&self, graph: &mut Frozen) -> Result<(), Error> {
        for start in self.start {
            if graph.is_constant(start) {
                let shape = graph.shape(start).unwrap_or_default();
                let values = graph.numbers(start, &shape)?;
                if let Some(got) = values.iter().find(|&&value| value != 0.0) {
                    let text = format_args!("expected a state of zeros to start from, got {got}");
                    return Err(graph.problem(start, text));
                }
                continue;
            }
            let filled = graph.data(start, 1).and_then(|value| graph.scalar(value));
            if matches!(graph.op_name(start), "Fill") && filled == Some(0.0) {
                continue;
            }
            let (name, op) = (graph.name(start), graph.op_name(start));
            graph.notes.push(format!(
                "The state to start from, {name} ({op}), is not in the file: zeros."
            ));
        }
        Ok(())
    }
}
