//! The parts of a TensorFlow Lite model that its layers are made of.

use super::buffer::{Broken, Numbers, Table};
use crate::Error;
use crate::import::Source;
use crate::import::raw::Raw;

/// More operators, tensors or buffers than any such model has.
const MOST: usize = 1 << 16;

/// A tensor; its numbers are in a buffer, if it is a constant.
#[derive(Clone, Debug, Default)]
pub(super) struct Tensor<'a> {
    pub(super) name: &'a str,
    pub(super) shape: Vec<usize>,
    dtype: u8,
    data: &'a [u8],
    scale: Numbers<'a, f32, 4>,
    zero: Numbers<'a, i64, 8>,
    /// The dimension that has a scale for each place.
    axis: usize,
    sparse: bool,
}

/// An operator.
#[derive(Clone, Debug)]
pub(super) struct Operator<'a> {
    pub(super) code: i32,
    inputs: Numbers<'a, i32, 4>,
    pub(super) outputs: Numbers<'a, i32, 4>,
    pub(super) options: Option<Table<'a>>,
}

impl Operator<'_> {
    /// The tensor of an input, unless it was left out.
    pub(super) fn input(&self, number: usize) -> Option<usize> {
        usize::try_from(self.inputs.get(number)?).ok()
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = usize> {
        self.inputs
            .iter()
            .filter_map(|input| usize::try_from(input).ok())
    }

    pub(super) fn output(&self) -> Option<usize> {
        usize::try_from(self.outputs.get(0)?).ok()
    }
}

/// A model with one graph.
#[derive(Debug)]
pub(super) struct Model<'a> {
    pub(super) source: &'a Source,
    pub(super) tensors: Vec<Tensor<'a>>,
    pub(super) operators: Vec<Operator<'a>>,
    pub(super) inputs: Vec<usize>,
    pub(super) outputs: Vec<usize>,
    /// Of each tensor, the operator that makes it, and which of its outputs it is.
    pub(super) makers: Vec<Option<(usize, usize)>>,
    /// How many numbers may be read yet: none is read for many layers.
    room: usize,
    pub(super) converted: Vec<&'static str>,
}

impl<'a> Model<'a> {
    pub(super) fn open(source: &'a Source) -> Result<Self, Error> {
        let broken = |e: Broken| source.problem(e.to_string());
        let (mut model, graphs) = Self::parts(source).map_err(broken)?.ok_or_else(|| {
            source.problem(format!(
                "expected at most {MOST} tensors and operators, got more"
            ))
        })?;
        if graphs != 1 {
            return Err(source.problem(format!("expected one graph, got {graphs}")));
        }
        model.makers = vec![None; model.tensors.len()];
        for (k, operator) in model.operators.iter().enumerate() {
            for (output, tensor) in operator.outputs.iter().enumerate() {
                let tensor = usize::try_from(tensor).ok();
                if let Some(maker) = tensor.and_then(|tensor| model.makers.get_mut(tensor)) {
                    *maker = Some((k, output));
                }
            }
        }
        Ok(model)
    }

    /// The first graph, and how many there are; nothing if it is too large.
    fn parts(source: &'a Source) -> Result<Option<(Self, usize)>, Broken> {
        let root = Table::root(source.bytes())?;
        let few = |count: usize| count <= MOST;
        let mut codes = Vec::new();
        for code in root.tables(1)? {
            let code = code?;
            // Models of before there were more than 127 have theirs in a byte.
            codes.push(code.i32(3)?.max(code.u8(0)?.into()));
            if !few(codes.len()) {
                return Ok(None);
            }
        }
        let mut buffers = Vec::new();
        for buffer in root.tables(4)? {
            buffers.push(buffer?.bytes(0)?);
            if !few(buffers.len()) {
                return Ok(None);
            }
        }
        let mut graphs = root.tables(2)?;
        let count = graphs.len();
        let graph = graphs.next().ok_or(Broken)??;
        let mut model = Self {
            source,
            tensors: Vec::new(),
            operators: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            makers: Vec::new(),
            room: source.bytes().len(),
            converted: Vec::new(),
        };
        for tensor in graph.tables(0)? {
            let tensor = tensor?;
            let shape = tensor.i32s(0)?;
            if shape.len() > 8 || !few(model.tensors.len() + 1) {
                return Ok(None);
            }
            let quantised = tensor.table(4)?;
            let mut read = Tensor {
                name: tensor.text(3)?,
                shape: shape.iter().map(|size| size.max(0) as usize).collect(),
                dtype: tensor.u8(1)?,
                data: buffers.get(tensor.u32(2)?).copied().unwrap_or(&[]),
                sparse: tensor.has(6),
                ..Tensor::default()
            };
            if let Some(quantised) = quantised {
                read.scale = quantised.f32s(2)?;
                read.zero = quantised.i64s(3)?;
                read.axis = quantised.i32(6)?.max(0) as usize;
            }
            model.tensors.push(read);
        }
        // Many operators can have the same long list.
        let mut listed = 0;
        for operator in graph.tables(3)? {
            let operator = operator?;
            let operator = Operator {
                code: codes.get(operator.u32(0)?).copied().ok_or(Broken)?,
                inputs: operator.i32s(1)?,
                outputs: operator.i32s(2)?,
                options: operator.table(4)?,
            };
            listed += operator.inputs.len() + operator.outputs.len();
            if !few(model.operators.len() + 1) || listed > 4 * MOST {
                return Ok(None);
            }
            model.operators.push(operator);
        }
        for (field, to) in [(1, &mut model.inputs), (2, &mut model.outputs)] {
            let tensors = graph.i32s(field)?;
            if !few(tensors.len()) {
                return Ok(None);
            }
            to.extend(
                tensors
                    .iter()
                    .filter_map(|tensor| usize::try_from(tensor).ok()),
            );
        }
        Ok(Some((model, count)))
    }

    pub(super) fn name(&self, tensor: usize) -> &'a str {
        self.tensors.get(tensor).map_or("", |tensor| tensor.name)
    }

    pub(super) fn shape(&self, tensor: usize) -> &[usize] {
        self.tensors.get(tensor).map_or(&[], |tensor| &tensor.shape)
    }

    pub(super) fn problem(&self, tensor: usize, text: impl std::fmt::Display) -> Error {
        let name = self.name(tensor);
        self.source
            .problem(format!("tensor {tensor} ({name}): {text}"))
    }

    /// The constant that a tensor is, or of which it is another form.
    pub(super) fn constant(&self, tensor: usize) -> Option<usize> {
        let made = self.makers.get(tensor).copied().flatten();
        let Some((operator, _)) = made else {
            let found = self.tensors.get(tensor)?;
            return (!found.data.is_empty()).then_some(tensor);
        };
        let operator = self.operators.get(operator)?;
        let of = operator
            .input(0)
            .filter(|_| operator.code == super::ops::DEQUANTIZE)?;
        let plain = self.makers.get(of).copied().flatten().is_none();
        let found = self.tensors.get(of)?;
        (plain && !found.data.is_empty()).then_some(of)
    }

    /// Integers of a small constant, such as a shape.
    pub(super) fn integers(&self, tensor: usize) -> Option<Vec<i64>> {
        let tensor = self.tensors.get(self.constant(tensor)?)?;
        let data = tensor.data;
        if data.len() > 64 {
            return None;
        }
        match tensor.dtype {
            2 => {
                let numbers = data.as_chunks().0.iter();
                Some(numbers.map(|&b| i32::from_le_bytes(b).into()).collect())
            }
            4 => {
                let numbers = data.as_chunks().0.iter();
                Some(numbers.map(|&b| i64::from_le_bytes(b)).collect())
            }
            _ => None,
        }
    }

    /// The only number of a constant.
    pub(super) fn scalar(&self, tensor: usize) -> Option<f32> {
        let tensor = self.tensors.get(self.constant(tensor)?)?;
        let bytes = tensor.data.try_into().ok()?;
        (tensor.dtype == 0).then(|| f32::from_le_bytes(bytes))
    }

    /// The numbers of a constant of a shape.
    pub(super) fn numbers(&mut self, tensor: usize, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let constant = self
            .constant(tensor)
            .and_then(|place| Some((place, self.tensors.get(place)?.clone())));
        let Some((place, found)) = constant else {
            return Err(self.problem(tensor, "expected a constant, got none"));
        };
        let problem = |text: String| self.problem(place, text);
        if found.shape != shape {
            let got = &found.shape;
            return Err(problem(format!("expected shape {shape:?}, got {got:?}")));
        }
        if found.sparse {
            return Err(problem("expected all numbers, got a sparse form".into()));
        }
        let raw = match found.dtype {
            0 => Raw::F32,
            1 => Raw::F16,
            2 => Raw::I32,
            3 => Raw::U8,
            7 => Raw::I16,
            9 => Raw::I8,
            10 => Raw::F64,
            other => {
                return Err(problem(format!(
                    "expected float32 or integers, got type {other}"
                )));
            }
        };
        let len = shape.iter().copied().try_fold(1, usize::checked_mul);
        let len = len.filter(|len| len.checked_mul(raw.width()) == Some(found.data.len()));
        let Some(len) = len else {
            let got = found.data.len();
            return Err(problem(format!(
                "expected {} numbers of shape {shape:?}, got {got} bytes",
                raw.name()
            )));
        };
        let Some(room) = self.room.checked_sub(len) else {
            return Err(problem("expected a constant for one layer only".into()));
        };
        let mut values = raw.read(found.data)?;
        if !matches!(raw, Raw::F32 | Raw::F16 | Raw::F64) {
            found.dequantise(&mut values).map_err(problem)?;
        }
        if let Some((k, got)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(problem(format!(
                "expected finite numbers, got {got} at {k}"
            )));
        }
        self.room = room;
        if raw != Raw::F32 && !self.converted.contains(&raw.name()) {
            self.converted.push(raw.name());
        }
        Ok(values)
    }
}

impl Tensor<'_> {
    /// Whether it has numbers of integers in a model of integers.
    pub(super) fn is_integer(&self) -> bool {
        matches!(self.dtype, 3 | 7 | 9) && self.scale.len() > 0
    }

    /// (q − zero)·scale, with one scale, or one for each place of a dimension.
    fn dequantise(&self, values: &mut [f32]) -> Result<(), String> {
        let count = self.scale.len();
        let zeros = self.zero.len();
        let size = self.shape.get(self.axis).copied().unwrap_or(0);
        if count == 0 || count != 1 && count != size || zeros > 1 && zeros != count {
            return Err(format!(
                "expected one scale, or one of {size} each, got {count}"
            ));
        }
        let after = self.shape.iter().skip(self.axis.saturating_add(1));
        let stride = after.product::<usize>().max(1);
        for (k, value) in values.iter_mut().enumerate() {
            let channel = if count == 1 { 0 } else { k / stride % count };
            let zero = if zeros > 1 { channel } else { 0 };
            let zero = self.zero.get(zero).unwrap_or(0) as f32;
            *value = (*value - zero) * self.scale.get(channel).unwrap_or(0.0);
        }
        Ok(())
    }
}
