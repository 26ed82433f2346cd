//! Runs through a graph once, in its own order, without numbers: constants are folded, and of all
//! else it is followed which step made it and what its axes mean.

use super::axes::{Axis, Numbering, Role};
use super::proto::{self, Info, Node, Part, parts};
use super::store::{Store, name_of};
use super::tensor::{MOST_DIMS, Tensor};
use crate::Error;
use crate::import::wire::Broken;
use crate::import::{Kind, Source};
use std::collections::HashMap;
use std::rc::Rc;

/// More nodes and constants than any exporter writes.
const MOST_NODES: usize = 1 << 17;
/// More inputs or outputs of a node.
const MOST_NAMES: usize = 1 << 16;
/// `If`s in each other.
const MOST_DEPTH: usize = 16;
/// Axes that are joined or have a size of 1, all together.
const MOST_ATOMS: usize = 64;
const MOST_NOTES: usize = 100;

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    /// A constant that was not read yet.
    Raw(&'a [u8]),
    Tensor(Tensor),
    /// The same number everywhere, in a shape that is not known.
    Filled(f32),
    Data(Data),
    /// The final states of layers and directions along the first axis.
    Stack(Vec<State>),
    /// Something that no input reaches and that is not computed here: the operator that makes it.
    Unknown(&'a str),
}

/// What a step makes of the graph's input.
#[derive(Clone, Debug)]
pub(super) struct Data {
    /// The step.
    pub(super) at: usize,
    /// Nothing if not even their number is known.
    pub(super) axes: Option<Rc<Vec<Axis>>>,
    /// The axis along which the last recurrent layer ran, and its batch.
    pub(super) time: Option<u32>,
    pub(super) batch: Option<u32>,
    /// Whether the first axis has a size of 1, where the others are not known.
    pub(super) unit_front: bool,
    /// The inputs of the graph that it depends on, a bit each.
    pub(super) roots: u64,
}

impl Data {
    pub(super) fn with_axes(&self, axes: Option<Vec<Axis>>) -> Self {
        let fits = |axes: &Vec<Axis>| {
            axes.len() <= MOST_DIMS && axes.iter().map(Vec::len).sum::<usize>() <= MOST_ATOMS
        };
        Self {
            axes: axes.filter(fits).map(Rc::new),
            unit_front: false,
            ..self.clone()
        }
    }
}

/// The final state of one direction, `[B, H]`.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) data: Data,
    pub(super) direction: usize,
    /// How many directions the layer has.
    pub(super) of: usize,
}

/// Something that happens to the data.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) made: Made,
    pub(super) parents: Vec<usize>,
}

#[derive(Debug)]
pub(super) enum Made {
    /// An input of the graph, with its number.
    Input(usize),
    Layer(Kind),
    /// An LSTM layer that runs one step a call, with a state that the caller carries.
    OneStep(Kind),
    /// The final h of a layer.
    Final,
    /// The last of the time steps, or the first.
    Last,
    First,
    /// The mean over the time steps.
    Mean,
    /// Of a branch that is not taken.
    Dropped,
}

#[derive(Debug)]
pub(super) struct Graph<'a> {
    pub(super) source: &'a Source,
    pub(super) opset: i64,
    pub(super) store: Store<'a>,
    pub(super) numbering: Numbering,
    pub(super) steps: Vec<Step>,
    pub(super) notes: Vec<String>,
    /// The parts that are wanted, and whether there was such a one.
    pub(super) wanted: Vec<(String, bool)>,
    /// The parts that there are.
    pub(super) choices: Vec<String>,
    /// The operators of all graphs, for what has no LSTM.
    pub(super) operators: Vec<&'a str>,
    scopes: Vec<HashMap<&'a str, Value<'a>>>,
    room: usize,
}

impl<'a> Graph<'a> {
    pub(super) fn new(source: &'a Source, opset: i64, part: Option<&str>) -> Self {
        let wanted = part.map(|part| part.split(',').map(|p| (p.trim().to_owned(), false)));
        Self {
            source,
            opset,
            store: Store::new(source),
            numbering: Numbering::default(),
            steps: Vec::new(),
            notes: Vec::new(),
            wanted: wanted.into_iter().flatten().collect(),
            choices: Vec::new(),
            operators: Vec::new(),
            scopes: Vec::new(),
            room: MOST_NODES,
        }
    }

    pub(super) fn problem(&self, text: impl Into<String>) -> Error {
        self.source.problem(text)
    }

    pub(super) fn broken(&self) -> impl Fn(Broken) -> Error + use<'a> {
        let source = self.source;
        move |e| source.problem(e.to_string())
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if self.notes.len() < MOST_NOTES && !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// Takes memory for so many numbers of a layer's weights: any number of nodes can share them.
    pub(super) fn take_numbers(&mut self, numbers: usize) -> Result<(), Error> {
        let room = self.store.budget.spend(numbers);
        room.ok_or_else(|| self.problem("the constants of the graph take too much memory"))
    }

    fn take_room(&mut self) -> Result<(), Error> {
        let left = self.room.checked_sub(1);
        self.room = left.ok_or_else(|| {
            let text = format!("expected at most {MOST_NODES} nodes and constants, got more");
            self.problem(text)
        })?;
        Ok(())
    }

    /// The values of a graph's outputs.
    pub(super) fn run(
        &mut self,
        graph: &'a [u8],
        prefix: &str,
    ) -> Result<Vec<(&'a str, Value<'a>)>, Error> {
        if self.scopes.len() == MOST_DEPTH {
            let text = format!("expected at most {MOST_DEPTH} graphs in each other, got more");
            return Err(self.problem(text));
        }
        let broken = self.broken();
        let mut scope = HashMap::new();
        for part in parts(graph, Part::Initializer) {
            let bytes = part.map_err(&broken)?;
            self.take_room()?;
            scope.insert(name_of(bytes).map_err(&broken)?, Value::Raw(bytes));
        }
        for part in parts(graph, Part::SparseInitializer) {
            let bytes = part.map_err(&broken)?;
            self.take_room()?;
            if let Some(values) = proto::last(bytes, 1).map_err(&broken)? {
                let name = name_of(values).map_err(&broken)?;
                scope.insert(name, Value::Unknown("a sparse constant"));
            }
        }
        let mut inputs = 0;
        for part in parts(graph, Part::Input) {
            let info = Info::parse(part.map_err(&broken)?).map_err(&broken)?;
            if info.name.is_empty() || scope.contains_key(info.name) {
                continue;
            }
            self.take_room()?;
            let value = self.input(&info, inputs);
            inputs += 1;
            scope.insert(info.name, value);
        }
        self.scopes.push(scope);
        for (index, part) in parts(graph, Part::Node).enumerate() {
            self.take_room()?;
            let node = Node::parse(part.map_err(&broken)?).map_err(&broken)?;
            self.node(&node, prefix, index)?;
        }
        let mut outputs = Vec::new();
        for part in parts(graph, Part::Output) {
            self.take_room()?;
            let info = Info::parse(part.map_err(&broken)?).map_err(&broken)?;
            outputs.push((info.name, self.value(info.name, "the output of a graph")?));
        }
        self.scopes.pop();
        Ok(outputs)
    }

    fn input(&mut self, info: &Info, index: usize) -> Value<'a> {
        let at = self.steps.len();
        self.steps.push(Step {
            name: info.name.to_owned(),
            made: Made::Input(index),
            parents: Vec::new(),
        });
        let shape = info.shape.as_ref();
        let axes = shape.filter(|shape| shape.len() <= MOST_DIMS).map(|shape| {
            let each = shape
                .iter()
                .map(|&size| self.numbering.axis(size, Role::Free));
            each.collect()
        });
        let data = Data {
            at,
            axes: None,
            time: None,
            batch: None,
            unit_front: false,
            roots: 1 << index.min(63),
        };
        Value::Data(data.with_axes(axes))
    }

    /// What a name stands for, here or in a graph around this one.
    pub(super) fn value(&self, name: &str, who: &str) -> Result<Value<'a>, Error> {
        let found = self.scopes.iter().rev().find_map(|scope| scope.get(name));
        found.cloned().ok_or_else(|| {
            let text = format!("{who}: expected {name} to be made before it, got nothing");
            self.problem(text)
        })
    }

    pub(super) fn set(&mut self, name: Option<&'a str>, value: Value<'a>) {
        if let (Some(name), Some(scope)) = (name, self.scopes.last_mut()) {
            scope.insert(name, value);
        }
    }

    /// A constant's numbers; they are read once.
    pub(super) fn constant(&mut self, name: &'a str) -> Result<Option<Tensor>, Error> {
        let scope = self.scopes.iter().rposition(|s| s.contains_key(name));
        let Some(scope) = scope else { return Ok(None) };
        match self.scopes[scope].get(name) {
            Some(Value::Tensor(tensor)) => Ok(Some(tensor.clone())),
            Some(&Value::Raw(bytes)) => {
                let value = self.store.read(bytes)?;
                let kept = match &value {
                    Some(tensor) => Value::Tensor(tensor.clone()),
                    None => Value::Unknown("a constant that is not of numbers"),
                };
                self.scopes[scope].insert(name, kept);
                Ok(value)
            }
            _ => Ok(None),
        }
    }

    /// Remembers an operator.
    fn see(&mut self, op: &'a str) {
        if self.operators.len() < 100 && !self.operators.contains(&op) {
            self.operators.push(op);
        }
    }

    fn node(&mut self, node: &Node<'a>, prefix: &str, index: usize) -> Result<(), Error> {
        let most = node.inputs.len().max(node.outputs.len());
        if most > MOST_NAMES {
            return Err(self.problem(format!(
                "node {}: expected at most {MOST_NAMES} inputs and outputs, got {most}",
                node.title()
            )));
        }
        self.see(node.op);
        if matches!(node.op, "Scan" | "Loop") {
            let broken = self.broken();
            let body = node.attribute("body").map_err(&broken)?;
            for part in parts(body.and_then(|a| a.graph).unwrap_or(&[]), Part::Node) {
                self.take_room()?;
                let inner = Node::parse(part.map_err(&broken)?).map_err(&broken)?;
                self.see(inner.op);
            }
        }
        let name = match node.name {
            "" => format!("{prefix}{}", node.title()),
            name => name.to_owned(),
        };
        if node.op == "If" && node.domain.is_empty() {
            let name = match node.name {
                "" => format!("{prefix}If_{index}"),
                name => name.to_owned(),
            };
            return self.branch(node, &name);
        }
        let mut inputs = Vec::new();
        let mut reached = false;
        for &input in &node.inputs {
            let value = match input {
                "" => None,
                input => Some(self.value(input, &format!("node {name}"))?),
            };
            reached |= matches!(value, Some(Value::Data(_) | Value::Stack(_)));
            inputs.push(value);
        }
        if reached {
            self.data_node(node, &name, &inputs)
        } else {
            self.constant_node(node, &inputs)
        }
    }

    pub(super) fn scopes_len(&self) -> usize {
        self.scopes.len()
    }

    pub(super) fn leave_scopes(&mut self, len: usize) {
        self.scopes.truncate(len);
    }

    /// Adds a step.
    pub(super) fn step(&mut self, name: &str, made: Made, parents: Vec<usize>) -> usize {
        self.steps.push(Step {
            name: name.to_owned(),
            made,
            parents,
        });
        self.steps.len() - 1
    }
}
