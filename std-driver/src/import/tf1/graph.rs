//! A frozen graph: nodes by their names, and constants.

use super::bundle;
use crate::Error;
use crate::import::step::{Graph, Op, Value};
use crate::import::wire::{self, Broken};
use crate::import::{Source, raw::Raw};
use fused_lstm::Activation;
use std::collections::HashMap;

/// A node and where it takes its data from.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    pub(super) name: &'a str,
    pub(super) op: &'a str,
    pub(super) inputs: Vec<Value>,
    kind: Op,
    message: &'a [u8],
}

/// All nodes.
#[derive(Debug)]
pub(super) struct Frozen<'a> {
    pub(super) source: &'a Source,
    pub(super) nodes: Vec<Node<'a>>,
    /// How many numbers may be read yet: none is read for many layers.
    room: usize,
    pub(super) notes: Vec<String>,
}

/// How many nodes may only hand a value on, one behind the other.
const HOPS: usize = 16;
/// A node of a few numbers, with its name, has fewer bytes.
const SMALL: usize = 1 << 12;

/// Whether it is a graph of nodes with names.
pub(super) fn is(bytes: &[u8]) -> bool {
    let mut nodes = 0;
    for field in wire::fields(bytes) {
        match field {
            Ok((1, wire::Value::Bytes(node))) if nodes == 0 => {
                let (name, op, _) = parts(node).unwrap_or_default();
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '>';
                if name.is_empty() || op.is_empty() || !op.chars().all(word) {
                    return false;
                }
                nodes = 1;
            }
            Ok((1 | 2 | 4, wire::Value::Bytes(_)) | (3, wire::Value::Varint(_))) => {}
            // What is broken further on is for the reader to say.
            Err(_) => break,
            Ok(_) => return false,
        }
    }
    nodes > 0
}

type Parts<'a> = (&'a str, &'a str, Vec<&'a str>);

fn parts(message: &[u8]) -> Result<Parts<'_>, Broken> {
    let (mut name, mut op, mut inputs) = ("", "", Vec::new());
    for field in wire::fields(message) {
        let (number, value) = field?;
        match number {
            1 => name = value.text()?,
            2 => op = value.text()?,
            3 => inputs.push(value.text()?),
            _ => {}
        }
    }
    Ok((name, op, inputs))
}

/// The value of an attribute.
fn attribute<'a>(message: &'a [u8], wanted: &str) -> Result<Option<&'a [u8]>, Broken> {
    for field in wire::fields(message) {
        let (5, entry) = field? else { continue };
        let (mut name, mut content) = ("", None);
        for field in wire::fields(entry.bytes()?) {
            match field? {
                (1, value) => name = value.text()?,
                (2, value) => content = Some(value.bytes()?),
                _ => {}
            }
        }
        if name == wanted {
            return Ok(content);
        }
    }
    Ok(None)
}

/// A field of an attribute, of those that there are for each type.
fn field_of<'a>(
    message: &'a [u8],
    name: &str,
    wanted: u32,
) -> Result<Option<wire::Value<'a>>, Broken> {
    let Some(attribute) = attribute(message, name)? else {
        return Ok(None);
    };
    for field in wire::fields(attribute) {
        let (number, value) = field?;
        if number == wanted {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn flag(message: &[u8], name: &str) -> Result<bool, Broken> {
    let value = field_of(message, name, 5)?;
    value.map_or(Ok(false), |value| Ok(value.varint()? != 0))
}

fn kind(op: &str, message: &[u8]) -> Result<Op, Broken> {
    Ok(match op {
        "Add" | "AddV2" | "BiasAdd" => Op::Add,
        "Mul" => Op::Mul,
        "Minimum" => Op::Minimum,
        "Maximum" => Op::Maximum,
        "ClipByValue" => Op::Clip,
        "Sigmoid" => Op::Activation(Activation::Sigmoid),
        "Tanh" => Op::Activation(Activation::Tanh),
        "Relu" => Op::Activation(Activation::Relu),
        "Split" => match field_of(message, "num_split", 3)? {
            Some(wire::Value::Varint(4)) => Op::Split,
            _ => Op::Other,
        },
        "MatMul" if !flag(message, "transpose_a")? && !flag(message, "transpose_b")? => Op::MatMul,
        "Const" => Op::Constant,
        _ => Op::Other,
    })
}

impl<'a> Frozen<'a> {
    pub(super) fn open(source: &'a Source) -> Result<Self, Error> {
        let nodes = nodes(source.bytes());
        Ok(Self {
            source,
            nodes: nodes.map_err(|e| source.problem(e.to_string()))?,
            room: source.bytes().len(),
            notes: Vec::new(),
        })
    }

    pub(super) fn node(&self, value: Value) -> Option<&Node<'a>> {
        self.nodes.get(value.node)
    }

    pub(super) fn op_name(&self, value: Value) -> &'a str {
        self.node(value).map_or("", |node| node.op)
    }

    pub(super) fn name(&self, value: Value) -> &'a str {
        self.node(value).map_or("", |node| node.name)
    }

    pub(super) fn problem(&self, value: Value, text: impl std::fmt::Display) -> Error {
        let (name, op) = (self.name(value), self.op_name(value));
        self.source.problem(format!("node {name} ({op}): {text}"))
    }

    /// What a value is, past nodes that only hand it on.
    pub(super) fn resolve(&self, mut value: Value) -> Value {
        for _ in 0..HOPS {
            let Some(node) = self.node(value) else { break };
            match node.op {
                "Identity" | "Enter" | "Switch" | "StopGradient" | "CheckNumerics"
                | "PreventGradient" => {}
                _ => break,
            }
            let Some(&before) = node.inputs.first() else {
                break;
            };
            value = before;
        }
        value
    }

    /// An input of a node.
    pub(super) fn data(&self, value: Value, number: usize) -> Option<Value> {
        let inputs = &self.node(value)?.inputs;
        Some(self.resolve(*inputs.get(number)?))
    }

    pub(super) fn is_constant(&self, value: Value) -> bool {
        self.node(value)
            .is_some_and(|node| node.kind == Op::Constant)
    }

    /// An integer attribute of a node, or 0.
    pub(super) fn integer(&self, value: Value, name: &str) -> Option<i64> {
        let message = self.node(value)?.message;
        match field_of(message, name, 3).ok()? {
            Some(value) => value.int().ok(),
            None => Some(0),
        }
    }

    /// The shape that a placeholder has; -1 for what is not known.
    pub(super) fn declared_shape(&self, value: Value) -> Option<Vec<usize>> {
        let message = self.node(value)?.message;
        let shape = field_of(message, "shape", 7).ok()??;
        bundle::shape(shape.bytes().ok()?).ok()
    }

    fn tensor(&self, value: Value) -> Result<Tensor<'a>, String> {
        let node = self.node(value).filter(|node| node.kind == Op::Constant);
        let node = node.ok_or("expected a constant")?;
        let broken = |e: Broken| e.to_string();
        let tensor = field_of(node.message, "value", 8).map_err(broken)?;
        let tensor = tensor.ok_or("expected a constant with a value")?;
        Tensor::read(tensor.bytes().map_err(broken)?)
    }

    pub(super) fn shape(&self, value: Value) -> Option<Vec<usize>> {
        Some(self.tensor(value).ok()?.shape)
    }

    /// Integers of a small constant, such as a shape.
    pub(super) fn integers(&self, value: Value) -> Option<Vec<i64>> {
        self.node(value).filter(|node| node.message.len() < SMALL)?;
        let tensor = self.tensor(value).ok()?;
        let len = tensor
            .shape
            .iter()
            .copied()
            .try_fold(1, usize::checked_mul)?;
        if len > 8 || !matches!(tensor.raw, Raw::I32 | Raw::I64) {
            return None;
        }
        let mut all: Vec<i64> = if tensor.content.is_empty() {
            tensor.integers
        } else if tensor.raw == Raw::I32 {
            let numbers = tensor.content.as_chunks().0.iter();
            numbers.map(|&b| i32::from_le_bytes(b).into()).collect()
        } else {
            let numbers = tensor.content.as_chunks().0.iter();
            numbers.map(|&b| i64::from_le_bytes(b)).collect()
        };
        all.resize(len, all.last().copied().unwrap_or(0));
        Some(all)
    }

    /// The numbers of a constant of a shape.
    pub(super) fn numbers(&mut self, value: Value, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let tensor = self
            .tensor(value)
            .map_err(|problem| self.problem(value, problem))?;
        let Tensor { raw, content, .. } = tensor;
        if tensor.shape != shape {
            let got = &tensor.shape;
            return Err(self.problem(value, format_args!("expected shape {shape:?}, got {got:?}")));
        }
        let len = shape.iter().copied().try_fold(1, usize::checked_mul);
        let room = len.and_then(|len| Some((len, self.room.checked_sub(len)?)));
        let Some((len, room)) = room else {
            let text = "expected no more numbers than the file has room for";
            return Err(self.problem(value, text));
        };
        let bytes = len.checked_mul(raw.width());
        let values = if content.is_empty() {
            // The last number stands for all behind it.
            let mut values = tensor.floats;
            if values.len() > len || values.is_empty() && len > 0 || raw != Raw::F32 {
                let got = values.len();
                let text = format_args!("expected {len} float32 numbers, got {got}");
                return Err(self.problem(value, text));
            }
            let last = values.last().copied().unwrap_or(0.0);
            values.resize(len, last);
            values
        } else if bytes == Some(content.len()) && !matches!(raw, Raw::I32 | Raw::I64) {
            raw.read(content)?
        } else {
            let (got, raw) = (content.len(), raw.name());
            let text = format_args!("expected {len} float32 numbers, got {got} bytes of {raw}");
            return Err(self.problem(value, text));
        };
        if let Some((k, got)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            let text = format_args!("expected finite numbers, got {got} at {k}");
            return Err(self.problem(value, text));
        }
        if raw != Raw::F32 {
            let (name, raw) = (self.name(value), raw.name());
            self.notes.push(format!("{name} was converted from {raw}."));
        }
        self.room = room;
        Ok(values)
    }
}

fn nodes(bytes: &[u8]) -> Result<Vec<Node<'_>>, Broken> {
    let mut nodes = Vec::new();
    let mut names = HashMap::new();
    let mut all_inputs = Vec::new();
    for field in wire::fields(bytes) {
        let (1, node) = field? else { continue };
        let message = node.bytes()?;
        let (name, op, inputs) = parts(message)?;
        names.insert(name, nodes.len());
        nodes.push(Node {
            name,
            op,
            inputs: Vec::new(),
            kind: kind(op, message)?,
            message,
        });
        all_inputs.push(inputs);
    }
    let missing = usize::MAX;
    for (node, inputs) in nodes.iter_mut().zip(all_inputs) {
        // Those with a circumflex are only to run before it.
        for input in inputs.into_iter().filter(|input| !input.starts_with('^')) {
            let (name, output) = match input.rsplit_once(':') {
                Some((name, output)) => (name, output.parse().unwrap_or(missing)),
                None => (input, 0),
            };
            node.inputs.push(Value {
                node: names.get(name).copied().unwrap_or(missing),
                output,
            });
        }
    }
    Ok(nodes)
}

/// A constant.
struct Tensor<'a> {
    shape: Vec<usize>,
    raw: Raw,
    content: &'a [u8],
    floats: Vec<f32>,
    integers: Vec<i64>,
}

impl<'a> Tensor<'a> {
    fn read(message: &'a [u8]) -> Result<Self, String> {
        let broken = |e: Broken| e.to_string();
        let mut dtype = 0;
        let mut tensor = Self {
            shape: Vec::new(),
            raw: Raw::F32,
            content: &[],
            floats: Vec::new(),
            integers: Vec::new(),
        };
        for field in wire::fields(message) {
            let (number, value) = field.map_err(broken)?;
            match number {
                1 => dtype = value.varint().map_err(broken)?,
                2 => {
                    let shape = bundle::shape(value.bytes().map_err(broken)?);
                    tensor.shape = shape.map_err(|problem| format!("expected {problem}"))?;
                }
                4 => tensor.content = value.bytes().map_err(broken)?,
                5 => value.floats(&mut tensor.floats).map_err(broken)?,
                7 | 10 => value.ints(&mut tensor.integers).map_err(broken)?,
                _ => {}
            }
        }
        let raw = bundle::raw(dtype);
        tensor.raw =
            raw.ok_or_else(|| format!("expected numbers, got TensorFlow's type {dtype}"))?;
        Ok(tensor)
    }
}

impl Graph for Frozen<'_> {
    fn op(&self, value: Value) -> Op {
        self.node(value).map_or(Op::Other, |node| node.kind)
    }

    fn input(&self, value: Value, number: usize) -> Option<Value> {
        // The axis is the first input of a split.
        let first = usize::from(self.op(value) == Op::Split);
        self.data(value, number + first)
    }

    fn scalar(&self, value: Value) -> Option<f32> {
        self.node(value).filter(|node| node.message.len() < SMALL)?;
        let tensor = self.tensor(value).ok()?;
        if tensor.raw != Raw::F32 || tensor.shape.iter().any(|&size| size != 1) {
            return None;
        }
        match (tensor.content, &tensor.floats[..]) {
            ([], [value]) => Some(*value),
            (content, []) => Some(f32::from_le_bytes(content.try_into().ok()?)),
            _ => None,
        }
    }

    fn own_bias(&self, _: Value) -> Option<Value> {
        None
    }
}
