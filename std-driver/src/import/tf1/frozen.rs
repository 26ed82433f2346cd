//! The way from a frozen graph's output back to its input, as layers.

use super::graph::Frozen;
use super::loops::{self, Recurrent};
use crate::Error;
use crate::import::step::{Graph, Op, Value};
use crate::import::{Format, Found, Kind, Layer, Options, Source};
use fused_lstm::{Activation, Returns};
use std::collections::HashSet;

/// A part of the way, from the output on.
enum Part {
    Kind(Value, Kind),
    /// To rows of a width.
    Reshape(Value, Vec<i64>),
    /// Exchanges batch and time steps.
    Exchange,
    /// The last place of a dimension.
    Last(Value, usize),
    Dense(Value, Value, Option<Value>),
    Embedding(Value, Value),
    /// A layer; what it gives, and the dimension of the time steps.
    Recurrent(usize, Returns, usize),
}

/// All layers.
pub(super) fn found(source: &Source, options: &Options) -> Result<Found, Error> {
    let mut graph = Frozen::open(source)?;
    let recurrent = loops::all(&graph)?;
    if recurrent.is_empty() {
        let mut seen = HashSet::new();
        let names = graph.nodes.iter().map(|node| node.op);
        let names = names.filter(|op| *op != "Const" && *op != "Identity" && op.len() < 40);
        let names: Vec<&str> = names.filter(|op| seen.insert(*op)).take(20).collect();
        return Err(source.problem(format!(
            "expected an LSTM cell as TensorFlow 1 builds it, got a graph of {}",
            names.join(", ")
        )));
    }
    let mut at = output(&graph, &recurrent, options.part.as_deref())?;
    let mut parts = Vec::new();
    loop {
        at = graph.resolve(at);
        if parts.len() > graph.nodes.len() {
            return Err(graph.problem(at, "expected layers in a row, got a circle"));
        }
        if let Some((layer, returns, axis)) = sequence(&graph, &recurrent, at) {
            at = layers(&graph, &recurrent, layer, returns, axis, &mut parts)?;
            continue;
        }
        match part(&graph, at)? {
            Some((part, before)) => {
                parts.push(part);
                at = before;
            }
            None => break,
        }
    }
    let first = parts.iter().rev();
    let mut layers: Vec<Layer> = Vec::new();
    let (mut width, mut time) = (None, None);
    for part in first {
        let (value, kind) = match part {
            Part::Kind(value, kind) => (*value, kind.clone()),
            Part::Dense(value, weights, bias) => (*value, dense(&mut graph, *weights, *bias)?),
            Part::Embedding(value, table) => (*value, embedding(&mut graph, *table)?),
            Part::Recurrent(place, returns, axis) => {
                let Some(layer) = recurrent.get(*place) else {
                    continue;
                };
                let mut lstm = layer.lstm(&mut graph)?;
                lstm.returns = *returns;
                time = Some(*axis);
                let value = layer.h.last().copied().unwrap_or(at);
                (value, Kind::Lstm(Box::new(lstm)))
            }
            Part::Exchange => {
                time = time.map(|time| 1 - usize::min(time, 1));
                continue;
            }
            Part::Reshape(value, sizes) => {
                let last = sizes.last().and_then(|&size| usize::try_from(size).ok());
                if last.is_some() && last == width {
                    continue;
                }
                let text = format!("{} to {sizes:?}", graph.op_name(*value));
                (*value, Kind::Other(text))
            }
            Part::Last(value, axis) => {
                if let Some(Layer {
                    kind: Kind::Lstm(lstm),
                    ..
                }) = layers.last_mut()
                    && time == Some(*axis)
                    && lstm.returns == Returns::Sequence
                {
                    lstm.returns = Returns::Last;
                    continue;
                }
                let text = format!("the last place of dimension {axis}");
                (*value, Kind::Other(text))
            }
        };
        let (before, after) = match &kind {
            Kind::Dense {
                inputs, outputs, ..
            } => (Some(*inputs), Some(*outputs)),
            Kind::Embedding { width, .. } => (None, Some(*width)),
            Kind::Lstm(lstm) => (Some(lstm.layer.inputs), Some(lstm.stage().outputs())),
            Kind::Activation(_) => (None, width),
            _ => (None, None),
        };
        if let (Some(expected), Some(got)) = (before, width)
            && expected != got
        {
            let text = format_args!("expected {expected} inputs, got {got}");
            return Err(graph.problem(value, text));
        }
        width = after;
        let name = graph.name(value).chars().take(200).collect();
        layers.push(Layer { name, kind });
    }
    if options.forget_bias.is_some() {
        let text = "What is added to the forget gate was taken from the graph, which has it.";
        graph.notes.push(text.into());
    }
    Ok(Found {
        format: Format::Tf1,
        part: None,
        layers,
        notes: graph.notes,
        sample_rate: None,
    })
}

/// The node that nothing takes data from.
fn output(graph: &Frozen, recurrent: &[Recurrent], part: Option<&str>) -> Result<Value, Error> {
    if let Some(part) = part {
        let node = graph.nodes.iter().position(|node| node.name == part);
        let node = node.ok_or_else(|| {
            let text = format!("part {part}: expected the name of a node, got none of this name");
            graph.source.problem(text)
        })?;
        return Ok(Value { node, output: 0 });
    }
    let taken: HashSet<usize> = graph
        .nodes
        .iter()
        .flat_map(|node| node.inputs.iter().map(|input| input.node))
        .collect();
    // What only has a state, or nothing, at its end is no output.
    let states: HashSet<Value> = recurrent.iter().map(|layer| layer.state()).collect();
    let ends: Vec<usize> = (0..graph.nodes.len())
        .filter(|node| !taken.contains(node))
        .filter(|&node| {
            let value = graph.resolve(Value { node, output: 0 });
            let op = graph.op_name(value);
            !matches!(
                op,
                "Const" | "NoOp" | "Placeholder" | "Merge" | "NextIteration"
            ) && !states.contains(&value)
        })
        .collect();
    match ends[..] {
        [node] => Ok(Value { node, output: 0 }),
        _ => {
            let names = ends
                .iter()
                .take(12)
                .filter_map(|&node| graph.nodes.get(node));
            let names: Vec<&str> = names.map(|node| node.name).collect();
            Err(graph.source.problem(format!(
                "expected one output, got {}; --part chooses one by its name: {}",
                ends.len(),
                names.join(", ")
            )))
        }
    }
}

/// Whether a value is what a layer gives: which one, how much, and the dimension of the steps.
fn sequence(
    graph: &Frozen,
    recurrent: &[Recurrent],
    value: Value,
) -> Option<(usize, Returns, usize)> {
    let of_loop = |found: &dyn Fn(&Recurrent) -> bool| recurrent.iter().position(found);
    match graph.op_name(value) {
        "Exit" => {
            let variable = Some(graph.data(value, 0)?);
            let found = of_loop(&|layer| layer.variable == variable)?;
            Some((found, Returns::Last, 0))
        }
        "TensorArrayGatherV3" => {
            let exit = graph.data(value, 2)?;
            let variable = graph
                .data(exit, 0)
                .filter(|_| graph.op_name(exit) == "Exit")?;
            let [_, write] = loops::variable(graph, variable)?;
            let written = graph.data(write, 2);
            let written = written.filter(|_| graph.op_name(write) == "TensorArrayWriteV3")?;
            let found = of_loop(&|layer| layer.variable.is_some() && layer.h == [written])?;
            Some((found, Returns::Sequence, 0))
        }
        "Pack" => {
            let inputs = &graph.node(value)?.inputs;
            let inputs: Vec<Value> = inputs.iter().map(|&input| graph.resolve(input)).collect();
            let axis = usize::try_from(graph.integer(value, "axis")?).ok()?;
            let found = of_loop(&|layer| layer.variable.is_none() && layer.h == inputs)?;
            Some((found, Returns::Sequence, axis))
        }
        _ => {
            let found =
                of_loop(&|layer| layer.variable.is_none() && layer.h.last() == Some(&value))?;
            let one = recurrent.get(found).is_some_and(|layer| layer.h.len() == 1);
            let returns = if one {
                Returns::Sequence
            } else {
                Returns::Last
            };
            Some((found, returns, 0))
        }
    }
}

/// The layers one on the other that end with one: what the first of them takes.
fn layers(
    graph: &Frozen,
    recurrent: &[Recurrent],
    last: usize,
    returns: Returns,
    axis: usize,
    parts: &mut Vec<Part>,
) -> Result<Value, Error> {
    let (mut place, mut returns) = (last, returns);
    for _ in 0..=recurrent.len() {
        parts.push(Part::Recurrent(place, returns, axis));
        let Some(layer) = recurrent.get(place) else {
            break;
        };
        let below = |other: &Recurrent| {
            other.h == layer.x && other.variable.is_some() == layer.variable.is_some()
        };
        if let Some(before) = recurrent.iter().position(below) {
            (place, returns) = (before, Returns::Sequence);
            continue;
        }
        let Some(&x) = layer.x.first() else { break };
        if layer.variable.is_some() {
            let scatter = graph
                .data(x, 2)
                .filter(|_| graph.op_name(x) == "TensorArrayReadV3");
            let scatter = scatter.filter(|&s| graph.op_name(s) == "TensorArrayScatterV3");
            return scatter
                .and_then(|scatter| graph.data(scatter, 2))
                .ok_or_else(|| {
                    graph.problem(
                        x,
                        "expected the steps of a sequence as x of an LSTM in a loop",
                    )
                });
        }
        if graph.op_name(x) == "Unpack" {
            let node = x.node;
            let all = (0..layer.x.len()).map(|output| Value { node, output });
            let count = graph
                .integer(x, "num")
                .and_then(|count| usize::try_from(count).ok());
            let of = graph.data(x, 0);
            if let Some(of) = of.filter(|_| count == Some(layer.x.len()) && all.eq(layer.x.clone()))
            {
                return Ok(of);
            }
        } else if layer.x.len() == 1 {
            return Ok(x);
        }
        return Err(graph.problem(x, "expected the steps of a sequence, in their order"));
    }
    let at = recurrent
        .get(last)
        .and_then(|layer| layer.h.first().copied());
    Err(match at {
        Some(at) => graph.problem(at, "expected layers in a row, got a circle"),
        None => graph.source.problem("expected layers in a row, got none"),
    })
}

/// What a node does, and what it takes; nothing at the beginning of a graph.
fn part(graph: &Frozen, at: Value) -> Result<Option<(Part, Value)>, Error> {
    let constant = |number| {
        graph
            .data(at, number)
            .filter(|&value| graph.is_constant(value))
    };
    let Some(node) = graph.node(at) else {
        return Err(graph.problem(at, "expected a node for every input, got none"));
    };
    let Some(first) = graph.data(at, 0) else {
        return Ok(None);
    };
    let activation = |kind| Some((Part::Kind(at, Kind::Activation(kind)), first));
    match (node.op, graph.op(at)) {
        (_, Op::Activation(kind)) => return Ok(activation(kind)),
        ("Softmax", _) => return Ok(activation(Activation::Softmax)),
        (_, Op::Add) => {
            if let (Op::MatMul, Some(bias)) = (graph.op(first), constant(1))
                && let (Some(of), Some(weights)) = (graph.data(first, 0), graph.data(first, 1))
                && graph.is_constant(weights)
            {
                return Ok(Some((Part::Dense(at, weights, Some(bias)), of)));
            }
        }
        (_, Op::MatMul) => {
            if let Some(weights) = constant(1) {
                return Ok(Some((Part::Dense(at, weights, None), first)));
            }
        }
        ("Reshape", _) => {
            let sizes = graph.data(at, 1).and_then(|sizes| graph.integers(sizes));
            return Ok(Some((Part::Reshape(at, sizes.unwrap_or_default()), first)));
        }
        ("Transpose", _) if exchanges(graph, at) => return Ok(Some((Part::Exchange, first))),
        ("StridedSlice", _) => {
            if let Some(axis) = last_place(graph, at) {
                return Ok(Some((Part::Last(at, axis), first)));
            }
        }
        ("Gather" | "GatherV2", _) if graph.is_constant(first) => {
            if let Some(ids) = graph.data(at, 1) {
                return Ok(Some((Part::Embedding(at, first), ids)));
            }
        }
        _ => {}
    }
    // A name of any length could be in the file.
    let what: String = node.op.chars().take(60).collect();
    let inputs = (0..node.inputs.len()).filter_map(|number| graph.data(at, number));
    let mut data = inputs.filter(|&value| !graph.is_constant(value));
    let before = data.next();
    Ok(before.map(|before| (Part::Kind(at, Kind::Other(what)), before)))
}

/// Whether a transposition exchanges the first two of three dimensions.
fn exchanges(graph: &Frozen, at: Value) -> bool {
    let Some(order) = graph.data(at, 1) else {
        return false;
    };
    if let Some(order) = graph.integers(order) {
        return order == [1, 0, 2];
    }
    // dynamic_rnn puts [1, 0] and all further dimensions together.
    let integers = |value: Value, number| {
        let input = graph.data(value, number)?;
        graph.integers(input)
    };
    let range = graph.data(order, 1);
    graph.op_name(order) == "ConcatV2"
        && integers(order, 0).as_deref() == Some(&[1, 0])
        && range.is_some_and(|range| {
            graph.op_name(range) == "Range" && integers(range, 0).as_deref() == Some(&[2])
        })
}

/// The dimension of which a slice takes the last place, and nothing else.
fn last_place(graph: &Frozen, at: Value) -> Option<usize> {
    let integers = |number| graph.integers(graph.data(at, number)?);
    let (begin, end, stride) = (integers(1)?, integers(2)?, integers(3)?);
    let mask = |name| graph.integer(at, name);
    let (from, to, dropped) = (
        mask("begin_mask")?,
        mask("end_mask")?,
        mask("shrink_axis_mask")?,
    );
    if mask("ellipsis_mask")? != 0 || mask("new_axis_mask")? != 0 {
        return None;
    }
    if begin.len() != end.len() || begin.len() != stride.len() {
        return None;
    }
    let mut last = None;
    for (k, (&begin, &stride)) in begin.iter().zip(&stride).enumerate() {
        let set = |mask: i64| mask & (1 << k) != 0;
        if stride != 1 {
            return None;
        }
        match (set(dropped), begin) {
            (true, -1) if last.is_none() && !set(from) => last = Some(k),
            (false, _) if set(from) && set(to) => {}
            _ => return None,
        }
    }
    last
}

fn dense(graph: &mut Frozen, weights: Value, bias: Option<Value>) -> Result<Kind, Error> {
    let shape = graph.shape(weights).unwrap_or_default();
    let [inputs, outputs] = shape[..] else {
        return Err(graph.problem(weights, "expected weights of two dimensions"));
    };
    let kernel = graph.numbers(weights, &shape)?;
    if kernel.is_empty() {
        return Err(graph.problem(weights, "expected weights, got none"));
    }
    let bias = match bias {
        Some(bias) => graph.numbers(bias, &[outputs])?,
        None => crate::memory::zeros(outputs)?,
    };
    Ok(Kind::Dense {
        inputs,
        outputs,
        kernel,
        bias,
    })
}

fn embedding(graph: &mut Frozen, table: Value) -> Result<Kind, Error> {
    let shape = graph.shape(table).unwrap_or_default();
    let [rows, width] = shape[..] else {
        return Err(graph.problem(table, "expected a table of two dimensions"));
    };
    let table = graph.numbers(table, &shape)?;
    Ok(Kind::Embedding { rows, width, table })
}
