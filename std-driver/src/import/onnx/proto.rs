//! ONNX's messages, as far as they are read: where their parts lie in the file.

use crate::import::wire::{self, Broken, Value};

type Result<T> = std::result::Result<T, Broken>;

/// `ModelProto`.
#[derive(Debug, Default)]
pub(super) struct Model<'a> {
    pub(super) graph: Option<&'a [u8]>,
    /// The version of the standard operators.
    pub(super) opset: i64,
    /// Keys and values of the exporter.
    pub(super) metadata: Vec<(&'a str, &'a str)>,
}

/// Whether the beginning of a file can only be a `ModelProto`: the version of the format, and then
/// what else there is in one. A file that was cut is one still, so that the error can say so.
pub(super) fn is_model(bytes: &[u8]) -> bool {
    let mut version = false;
    let mut graph = false;
    for (index, field) in wire::fields(bytes).enumerate() {
        match field {
            Ok((1, Value::Varint(1..=100))) => version = true,
            Ok((7, Value::Bytes(_))) => graph = true,
            Ok((5, Value::Varint(_))) => {}
            Ok((2..=4 | 6 | 8 | 14 | 20 | 25 | 26, Value::Bytes(_))) => {}
            Ok(_) => return false,
            Err(_) => return index > 0 && version && may_follow(bytes),
        }
    }
    version && graph
}

/// Whether the second field is one that a model has: the first, the version, takes two bytes.
fn may_follow(bytes: &[u8]) -> bool {
    let keys = [2, 3, 4, 6, 7, 8].map(|number: u8| number << 3 | 2);
    bytes.first() == Some(&8) && bytes.get(2).is_some_and(|key| keys.contains(key))
}

impl<'a> Model<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut model = Self::default();
        for field in wire::fields(bytes) {
            match field? {
                (7, value) => model.graph = Some(value.bytes()?),
                (8, value) => {
                    let (domain, version) = operators(value.bytes()?)?;
                    if matches!(domain, "" | "ai.onnx") {
                        model.opset = version;
                    }
                }
                (14, value) if model.metadata.len() < 1 << 10 => {
                    model.metadata.push(entry(value.bytes()?)?);
                }
                _ => {}
            }
        }
        Ok(model)
    }
}

/// `OperatorSetIdProto`.
fn operators(bytes: &[u8]) -> Result<(&str, i64)> {
    let (mut domain, mut version) = ("", 0);
    for field in wire::fields(bytes) {
        match field? {
            (1, value) => domain = value.text()?,
            (2, value) => version = value.int()?,
            _ => {}
        }
    }
    Ok((domain, version))
}

/// `StringStringEntryProto`.
pub(super) fn entry(bytes: &[u8]) -> Result<(&str, &str)> {
    let (mut key, mut text) = ("", "");
    for field in wire::fields(bytes) {
        match field? {
            (1, value) => key = value.text()?,
            (2, value) => text = value.text()?,
            _ => {}
        }
    }
    Ok((key, text))
}

/// `GraphProto`'s repeated parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Node = 1,
    Initializer = 5,
    Input = 11,
    Output = 12,
    SparseInitializer = 15,
}

/// The messages of one part of a graph.
pub(super) fn parts(graph: &[u8], part: Part) -> impl Iterator<Item = Result<&[u8]>> {
    wire::fields(graph).filter_map(move |field| match field {
        Ok((number, value)) if number == part as u32 => Some(value.bytes()),
        Ok(_) => None,
        Err(e) => Some(Err(e)),
    })
}

/// `NodeProto`.
#[derive(Debug, Default)]
pub(super) struct Node<'a> {
    pub(super) name: &'a str,
    pub(super) op: &'a str,
    pub(super) domain: &'a str,
    /// Empty where there is none.
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    attributes: Vec<&'a [u8]>,
}

impl<'a> Node<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut node = Self::default();
        for field in wire::fields(bytes) {
            match field? {
                (1, value) => node.inputs.push(value.text()?),
                (2, value) => node.outputs.push(value.text()?),
                (3, value) => node.name = value.text()?,
                (4, value) => node.op = value.text()?,
                (5, value) => node.attributes.push(value.bytes()?),
                (7, value) => node.domain = value.text()?,
                _ => {}
            }
        }
        if node.domain == "ai.onnx" {
            node.domain = "";
        }
        Ok(node)
    }

    /// An input's name, if it is there.
    pub(super) fn input(&self, index: usize) -> Option<&'a str> {
        self.inputs.get(index).copied().filter(|i| !i.is_empty())
    }

    /// An output's name, if it is used.
    pub(super) fn output(&self, index: usize) -> Option<&'a str> {
        self.outputs.get(index).copied().filter(|o| !o.is_empty())
    }

    /// What the node is called, or what it makes.
    pub(super) fn title(&self) -> &'a str {
        let output = || self.outputs.iter().copied().find(|o| !o.is_empty());
        match self.name {
            "" => output().unwrap_or(self.op),
            name => name,
        }
    }

    pub(super) fn attribute(&self, name: &str) -> Result<Option<Attribute<'a>>> {
        for &bytes in &self.attributes {
            let attribute = Attribute::parse(bytes)?;
            if attribute.name == name {
                return Ok(Some(attribute));
            }
        }
        Ok(None)
    }

    pub(super) fn int(&self, name: &str) -> Result<Option<i64>> {
        Ok(self.attribute(name)?.map(|a| a.int))
    }

    pub(super) fn float(&self, name: &str) -> Result<Option<f32>> {
        Ok(self.attribute(name)?.map(|a| a.float))
    }

    pub(super) fn ints(&self, name: &str) -> Result<Option<Vec<i64>>> {
        Ok(self.attribute(name)?.map(|a| a.ints))
    }
}

/// `AttributeProto`.
#[derive(Debug, Default)]
pub(super) struct Attribute<'a> {
    pub(super) name: &'a str,
    pub(super) float: f32,
    pub(super) int: i64,
    pub(super) text: &'a [u8],
    pub(super) tensor: Option<&'a [u8]>,
    pub(super) graph: Option<&'a [u8]>,
    pub(super) floats: Vec<f32>,
    pub(super) ints: Vec<i64>,
    pub(super) texts: Vec<&'a [u8]>,
}

impl<'a> Attribute<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut attribute = Self::default();
        for field in wire::fields(bytes) {
            match field? {
                (1, value) => attribute.name = value.text()?,
                (2, value) => attribute.float = value.float()?,
                (3, value) => attribute.int = value.int()?,
                (4, value) => attribute.text = value.bytes()?,
                (5, value) => attribute.tensor = Some(value.bytes()?),
                (6, value) => attribute.graph = Some(value.bytes()?),
                (7, value) => value.floats(&mut attribute.floats)?,
                (8, value) => value.ints(&mut attribute.ints)?,
                (9, value) => attribute.texts.push(value.bytes()?),
                _ => {}
            }
        }
        Ok(attribute)
    }
}

/// A `ValueInfoProto` of a tensor.
#[derive(Debug, Default)]
pub(super) struct Info<'a> {
    pub(super) name: &'a str,
    /// The sizes, where they are known; nothing if not even their number is.
    pub(super) shape: Option<Vec<Option<usize>>>,
}

impl<'a> Info<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut info = Self::default();
        for field in wire::fields(bytes) {
            match field? {
                (1, value) => info.name = value.text()?,
                (2, value) => {
                    let tensor = last(value.bytes()?, 1)?;
                    let shape = tensor.map_or(Ok(None), |tensor| last(tensor, 2))?;
                    info.shape = shape.map(sizes).transpose()?;
                }
                _ => {}
            }
        }
        Ok(info)
    }
}

/// The last message of a number, which is the one that counts.
pub(super) fn last(bytes: &[u8], wanted: u32) -> Result<Option<&[u8]>> {
    let mut found = None;
    for field in wire::fields(bytes) {
        let (number, value) = field?;
        if number == wanted {
            found = Some(value.bytes()?);
        }
    }
    Ok(found)
}

/// `TensorShapeProto`.
fn sizes(bytes: &[u8]) -> Result<Vec<Option<usize>>> {
    let mut all = Vec::new();
    for field in wire::fields(bytes) {
        if let (1, value) = field? {
            let mut size = None;
            for field in wire::fields(value.bytes()?) {
                if let (1, value) = field? {
                    size = usize::try_from(value.int()?).ok();
                }
            }
            all.push(size);
        }
    }
    Ok(all)
}
