//! Checkpoints of Keras models in TensorFlow 2: variables in a graph of objects, which has the
//! layers in their order.

use super::variables::{Reader, Values, Variable, room};
use crate::Error;
use crate::import::gates::{Gates, IFJO, Layout};
use crate::import::wire::{self, Broken};
use crate::import::{Format, Found, Kind, Layer, Lstm, Source};
use fused_lstm::{Direction, LayerShape};
use std::collections::HashMap;

/// The variable that has the graph.
pub(super) fn graph(variables: &[Variable]) -> Option<&Variable> {
    let name = "_CHECKPOINTABLE_OBJECT_GRAPH";
    variables.iter().find(|variable| variable.name == name)
}

/// An object of the graph: what it consists of, and its variable, if it is one.
#[derive(Debug, Default)]
struct Object<'a> {
    children: Vec<(usize, &'a str)>,
    key: Option<&'a str>,
}

fn objects(message: &[u8]) -> Result<Vec<Object<'_>>, Broken> {
    let mut objects = Vec::new();
    for field in wire::fields(message) {
        let (1, node) = field? else { continue };
        let mut object = Object::default();
        for field in wire::fields(node.bytes()?) {
            let (number, value) = field?;
            match number {
                1 => {
                    let (mut id, mut name) = (0, "");
                    for field in wire::fields(value.bytes()?) {
                        match field? {
                            (1, value) => id = value.varint()?,
                            (2, value) => name = value.text()?,
                            _ => {}
                        }
                    }
                    let id = usize::try_from(id).unwrap_or(usize::MAX);
                    object.children.push((id, name));
                }
                2 => {
                    let (mut name, mut key) = ("", "");
                    for field in wire::fields(value.bytes()?) {
                        match field? {
                            (1, value) => name = value.text()?,
                            (3, value) => key = value.text()?,
                            _ => {}
                        }
                    }
                    if name == "VARIABLE_VALUE" {
                        object.key = Some(key);
                    }
                }
                _ => {}
            }
        }
        objects.push(object);
    }
    Ok(objects)
}

/// The graph, and the variables by their keys.
struct Graph<'a> {
    objects: Vec<Object<'a>>,
    children: HashMap<(usize, &'a str), usize>,
    variables: HashMap<&'a str, &'a Variable>,
}

impl<'a> Graph<'a> {
    fn child(&self, of: usize, name: &str) -> Option<usize> {
        self.children.get(&(of, name)).copied()
    }

    fn variable(&self, of: usize, name: &str) -> Option<&'a Variable> {
        let key = self.objects.get(self.child(of, name)?)?.key?;
        self.variables.get(key).copied()
    }

    /// Those with layers in them, and the way to each, from the root on.
    fn models(&self) -> Vec<(String, usize)> {
        let mut models = Vec::new();
        let mut seen = vec![false; self.objects.len()];
        let mut next = vec![(String::new(), 0)];
        while let Some((path, id)) = next.pop() {
            match seen.get_mut(id) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            if self.child(id, "layer_with_weights-0").is_some() {
                // What is inside a model is a layer of it.
                models.push((path, id));
                continue;
            }
            // A name of a whole path could be as long as the file.
            if path.len() > 100 {
                continue;
            }
            let children = self.objects.get(id).map_or(&[][..], |o| &o.children);
            for (child, name) in children {
                let between = if path.is_empty() { "" } else { "/" };
                let name: String = name.chars().take(40).collect();
                next.push((format!("{path}{between}{name}"), *child));
            }
        }
        models.sort();
        models
    }
}

/// All layers that have weights.
pub(super) fn found(
    source: &Source,
    text: &[u8],
    variables: &[Variable],
    values: &mut dyn Values,
    part: Option<&str>,
) -> Result<Found, Error> {
    let broken = |e: Broken| source.problem(format!("the graph of objects: {e}"));
    let objects = objects(text).map_err(broken)?;
    let children = objects.iter().enumerate().flat_map(|(of, object)| {
        let each = object.children.iter();
        each.map(move |&(child, name)| ((of, name), child))
    });
    let graph = Graph {
        children: children.collect(),
        objects,
        variables: variables.iter().map(|v| (&v.name[..], v)).collect(),
    };
    let models = graph.models();
    let names = || -> String {
        let names: Vec<&str> = models.iter().map(|(name, _)| &name[..]).take(20).collect();
        names.join(", ")
    };
    let model = match part {
        Some(part) => models.iter().find(|(name, _)| name == part),
        None if models.len() > 1 => {
            return Err(source.problem(format!("expected a part, one of {}", names())));
        }
        None => models.first(),
    };
    let Some(&(_, model)) = model else {
        return Err(source.problem(match part {
            Some(part) if !models.is_empty() => {
                format!("part {part}: expected one of {}", names())
            }
            _ => "expected the layers of a Keras model (layer_with_weights-0 and so on), got \
                  other objects"
                .into(),
        }));
    };
    let mut reader = Reader {
        source,
        values,
        room: room(variables),
        notes: Vec::new(),
    };
    let mut layers = Vec::new();
    let mut width = None;
    for number in 0..graph.objects.len() {
        let name = format!("layer_with_weights-{number}");
        let Some(id) = graph.child(model, &name) else {
            break;
        };
        let kind = kind(&graph, id, &name, &mut reader)?;
        let (before, after) = match &kind {
            Kind::Embedding { width, .. } => (None, Some(*width)),
            Kind::Dense {
                inputs, outputs, ..
            } => (Some(*inputs), Some(*outputs)),
            Kind::Lstm(lstm) => {
                let outputs = lstm.layer.hidden * lstm.direction.count();
                (Some(lstm.layer.inputs), Some(outputs))
            }
            _ => (None, None),
        };
        if let (Some(expected), Some(got)) = (before, width)
            && expected != got
        {
            return Err(reader.problem(
                &name,
                format_args!(
                    "expected {got} inputs, as there are outputs before it, got {expected}"
                ),
            ));
        }
        width = after;
        layers.push(Layer { name, kind });
    }
    let with_weights = layers.len();
    let children = graph.objects.get(model).map_or(&[][..], |o| &o.children);
    let all = children
        .iter()
        .filter(|(_, name)| name.starts_with("layer-"))
        .count();
    let mut notes = reader.notes;
    if all > with_weights {
        let without = all - with_weights;
        notes.push(format!(
            "{without} layers without weights, such as inputs, dropout or activations, are not \
             described in a checkpoint and were left out."
        ));
    }
    if layers
        .iter()
        .any(|layer| matches!(layer.kind, Kind::Lstm(_)))
    {
        notes.push(
            "Activations are not in a checkpoint: LSTM layers were taken with sigmoid and tanh, \
             forward in time and returning the whole sequence, dense layers without one."
                .into(),
        );
    }
    if variables.iter().any(|v| v.name.contains("optimizer/")) {
        notes.push("The variables of the optimizer were left out.".into());
    }
    Ok(Found {
        format: Format::Tf1,
        part: None,
        layers,
        notes,
        sample_rate: None,
    })
}

fn kind(graph: &Graph, id: usize, name: &str, reader: &mut Reader) -> Result<Kind, Error> {
    if let Some(table) = graph.variable(id, "embeddings") {
        let [rows, width] = table.shape[..] else {
            return Err(reader.problem(&table.name, "expected two dimensions"));
        };
        return Ok(Kind::Embedding {
            rows,
            width,
            table: reader.read(table)?,
        });
    }
    let sides = ["forward_layer", "backward_layer"].map(|side| graph.child(id, side));
    if let [Some(forward), Some(backward)] = sides {
        let cells = [forward, backward].map(|side| cell(graph, side));
        if let [Some(forward), Some(backward)] = cells {
            let mut both = lstm(graph, forward, name, reader)?;
            let other = lstm(graph, backward, name, reader)?;
            if other.layer != both.layer {
                return Err(reader.problem(name, "expected two directions of the same shape"));
            }
            both.params.extend(other.params);
            both.direction = Direction::Both;
            reader.notes.push(format!(
                "{name}: the outputs of the two directions were taken side by side."
            ));
            return Ok(Kind::Lstm(Box::new(both)));
        }
    }
    if let Some(cell) = cell(graph, id) {
        return Ok(Kind::Lstm(Box::new(lstm(graph, cell, name, reader)?)));
    }
    // What is applied to every step is inside.
    let inner = graph.child(id, "layer").unwrap_or(id);
    let kernel = graph.variable(inner, "kernel");
    if let Some(kernel) = kernel.filter(|kernel| kernel.shape.len() == 2)
        && graph.variable(inner, "recurrent_kernel").is_none()
    {
        return reader.dense(kernel, graph.variable(inner, "bias"));
    }
    let children = graph.objects.get(inner).map_or(&[][..], |o| &o.children);
    let parts: Vec<String> = children
        .iter()
        .take(64)
        .filter(|(_, name)| name.len() < 64)
        .filter_map(|(_, name)| Some((name, graph.variable(inner, name)?)))
        .take(8)
        .map(|(name, variable)| format!("{name} {:?}", variable.shape))
        .collect();
    let parts = parts.join(", ");
    Ok(Kind::Other(format!("layer with {parts}")))
}

/// The cell of an LSTM layer, which has as many columns for h as for x, four times its rows.
fn cell(graph: &Graph, layer: usize) -> Option<usize> {
    let cell = graph.child(layer, "cell")?;
    let recurrent = graph.variable(cell, "recurrent_kernel")?;
    match recurrent.shape[..] {
        [hidden, columns] if hidden.checked_mul(4) == Some(columns) => Some(cell),
        _ => None,
    }
}

fn lstm(graph: &Graph, cell: usize, name: &str, reader: &mut Reader) -> Result<Lstm, Error> {
    let part = |part: &str| graph.variable(cell, part);
    let (Some(kernel), Some(recurrent)) = (part("kernel"), part("recurrent_kernel")) else {
        return Err(reader.problem(name, "expected kernel and recurrent_kernel"));
    };
    let ([inputs, _], [hidden, columns]) = (&kernel.shape[..], &recurrent.shape[..]) else {
        return Err(reader.problem(name, "expected kernels of two dimensions"));
    };
    let (inputs, hidden, columns) = (*inputs, *hidden, *columns);
    if inputs == 0 || hidden == 0 {
        return Err(reader.problem(&kernel.name, "expected inputs and units, got none"));
    }
    let input = reader.read_shape(kernel, &[inputs, columns])?;
    let recurrent = reader.read(recurrent)?;
    let bias = match part("bias") {
        Some(bias) => reader.read_shape(bias, &[columns])?,
        None => {
            reader.notes.push(format!("{name} has no bias: zeros."));
            crate::memory::zeros(columns)?
        }
    };
    let gates = Gates {
        order: IFJO,
        layout: Layout::Columns,
        inputs,
        hidden,
        outputs: hidden,
        input: &input,
        recurrent: &recurrent,
        biases: &[&bias],
        forget_bias: 0.0,
    };
    let params = gates.to_core();
    let params = params.map_err(|problem| reader.problem(name, problem))?;
    Ok(Lstm::new(LayerShape::new(inputs, hidden), params))
}
