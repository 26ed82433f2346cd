//! Tensors of a pickle: views of storages, with every bound checked.

use super::numbers::{Conversions, Float};
use super::pickle::{Id, Object, Pickle};
use super::state::{Tensor, clipped, finite};
use crate::import::Source;
use crate::{Error, memory};
use std::borrow::Cow;
use std::collections::HashMap;

/// PyTorch's own limit.
const MOST_DIMENSIONS: usize = 64;

/// Where the numbers of a tensor lie.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View<'a> {
    pub(super) float: Float,
    /// The storage's name.
    pub(super) key: &'a str,
    /// How many numbers the storage should have.
    pub(super) length: usize,
    /// The first number.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// How many numbers further the next one of each dimension is.
    pub(super) strides: Vec<usize>,
}

/// What a tensor in a pickle is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Leaf<'a> {
    View(View<'a>),
    /// A tensor that is not of floating point or not made of one storage.
    Other(String),
}

/// Whether an object is a tensor, of whatever kind.
pub(super) fn is_tensor(pickle: &Pickle, id: Id) -> bool {
    let Object::Made { by, .. } = pickle.get(id) else {
        return false;
    };
    match pickle.global(*by) {
        Some(("torch._utils", name)) => name.starts_with("_rebuild_"),
        Some(("torch._tensor", name)) => name == "_rebuild_from_type_v2",
        _ => false,
    }
}

/// The tensor that an object is.
pub(super) fn leaf<'a>(pickle: &Pickle<'a>, mut id: Id) -> Result<Leaf<'a>, String> {
    // A parameter is a tensor in a wrapper, which can be in another: a tensor of a class.
    for _ in 0..4 {
        let Object::Made { by, args, .. } = pickle.get(id) else {
            break;
        };
        let args = pickle.list(*args).unwrap_or(&[]);
        let (module, name) = pickle.global(*by).unwrap_or(("", ""));
        let inner = match name {
            "_rebuild_tensor" | "_rebuild_tensor_v2" => return view(pickle, args, None),
            "_rebuild_tensor_v3" => return view(pickle, args, args.get(6).copied()),
            "_rebuild_parameter" | "_rebuild_parameter_with_state" => args.first(),
            // The function, the class, its arguments and its attributes.
            "_rebuild_from_type_v2" => match (args.first(), args.get(2)) {
                (Some(&by), Some(&inner)) if pickle.global(by).is_some_and(plain) => {
                    let inner = pickle.list(inner).unwrap_or(&[]);
                    return view(pickle, inner, None);
                }
                _ => None,
            },
            _ => None,
        };
        match inner {
            Some(&inner) => id = inner,
            None => {
                return Ok(Leaf::Other(format!(
                    "a tensor made by {module}.{}",
                    clipped(name)
                )));
            }
        }
    }
    Err("expected a tensor in a parameter, got something else".into())
}

fn plain((module, name): (&str, &str)) -> bool {
    module == "torch._utils" && name == "_rebuild_tensor_v2"
}

/// A storage, the offset in it, sizes and strides.
fn view<'a>(pickle: &Pickle<'a>, args: &[Id], dtype: Option<Id>) -> Result<Leaf<'a>, String> {
    let &[storage, offset, shape, strides, ..] = args else {
        let got = args.len();
        return Err(format!(
            "expected storage, offset, sizes and strides, got {got} arguments"
        ));
    };
    let lengths = |id: Id| -> Option<Vec<usize>> {
        let ids = pickle.list(id)?;
        if ids.len() > MOST_DIMENSIONS {
            return None;
        }
        ids.iter().map(|&id| pickle.length(id)).collect()
    };
    let shape = lengths(shape).ok_or("expected sizes, got something else")?;
    let strides = lengths(strides).ok_or("expected strides, got something else")?;
    if shape.len() != strides.len() {
        let (sizes, strides) = (shape.len(), strides.len());
        return Err(format!(
            "expected a stride for each of {sizes} sizes, got {strides}"
        ));
    }
    let offset = pickle
        .length(offset)
        .ok_or("expected an offset, got something else")?;
    let Object::Persistent(storage) = pickle.get(storage) else {
        return Err("expected a storage, got something else".into());
    };
    // ("storage", class, key, device, length) and before PyTorch 1.6 a view of it.
    let parts = pickle.list(*storage).unwrap_or(&[]);
    let &[kind, class, key, _, length, ref more @ ..] = parts else {
        let got = parts.len();
        return Err(format!("expected a storage of five parts, got {got}"));
    };
    // The archive numbers them, and Python 3 has numbers of memory as names.
    let key = pickle.text(key).filter(|key| key.len() < 100);
    let (Some("storage"), Some(key)) = (pickle.text(kind), key) else {
        return Err("expected a storage with a key, got something else".into());
    };
    let mut length = pickle
        .length(length)
        .ok_or("expected a storage's length, got none")?;
    let class = pickle.global(class).map_or("", |(_, name)| name);
    let dtype = dtype.map(|id| pickle.global(id).map_or("", |(_, name)| name));
    let kind = dtype.unwrap_or(class.strip_suffix("Storage").unwrap_or(class));
    let (float, size) = match kind {
        "Double" | "float64" | "double" => (Float::F64, 8),
        "Float" | "float32" | "float" => (Float::F32, 4),
        "Half" | "float16" | "half" => (Float::F16, 2),
        "BFloat16" | "bfloat16" => (Float::Bf16, 2),
        _ => {
            let kind = match kind {
                "Long" => "int64",
                "Int" => "int32",
                "Short" => "int16",
                "Char" => "int8",
                "Byte" => "uint8",
                "Bool" => "bool",
                kind => clipped(kind),
            };
            return Ok(Leaf::Other(format!("a tensor of {kind} {shape:?}")));
        }
    };
    if dtype.is_some() {
        // A storage without a type counts bytes.
        length /= size;
    }
    let mut start = 0usize;
    match more.first().map(|&id| pickle.get(id)) {
        None | Some(Object::None) => {}
        Some(Object::List(part)) => {
            let at = part.get(1).and_then(|&id| pickle.length(id));
            start = at.ok_or("expected the offset of a part of a storage, got none")?;
        }
        Some(_) => return Err("expected a part of a storage, got something else".into()),
    }
    Ok(Leaf::View(View {
        float,
        key,
        length,
        offset: offset.saturating_add(start),
        shape,
        strides,
    }))
}

/// Reads tensors of storages, and no more of them than the storages can be meant for.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    source: &'a Source,
    storages: &'a HashMap<&'a str, Cow<'a, [u8]>>,
    /// Bytes of numbers that may still be read.
    left: usize,
    pub(super) conversions: Conversions,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source, storages: &'a HashMap<&'a str, Cow<'a, [u8]>>) -> Self {
        // Weights may be shared between layers, but not without end.
        let bytes: usize = storages.values().map(|bytes| bytes.len()).sum();
        Self {
            source,
            storages,
            left: bytes.saturating_mul(2).saturating_add(1 << 18),
            conversions: Conversions::default(),
        }
    }

    /// The numbers of a view, in order.
    pub(super) fn read(&mut self, name: &str, view: &View) -> Result<Tensor, Error> {
        let problem = |text: String| self.source.problem(format!("key {name}: {text}"));
        let key = view.key;
        let bytes = self.storages.get(key);
        let bytes = bytes.ok_or_else(|| problem(format!("expected storage {key}, got none")))?;
        let size = view.float.size();
        let length = bytes.len() / size;
        if length < view.length || bytes.len() % size != 0 {
            let (expected, got) = (view.length, bytes.len());
            return Err(problem(format!(
                "expected {expected} numbers of {size} bytes in storage {key}, got {got} bytes"
            )));
        }
        let count = view
            .shape
            .iter()
            .try_fold(1usize, |n, &size| n.checked_mul(size));
        let shape = &view.shape;
        let count =
            count.ok_or_else(|| problem(format!("expected fewer numbers, got {shape:?}")))?;
        let end = last(view).and_then(|last| last.checked_add(1));
        if count > 0 && end.is_none_or(|end| end > length) {
            let (offset, strides) = (view.offset, &view.strides);
            return Err(problem(format!(
                "expected numbers within the {length} of storage {key}, \
                got offset {offset}, sizes {shape:?} and strides {strides:?}"
            )));
        }
        let cost = count.saturating_mul(size);
        self.left = self.left.checked_sub(cost).ok_or_else(|| {
            problem(format!(
                "expected tensors of twice the file's numbers at most, got another {count} numbers"
            ))
        })?;
        let mut values = memory::reserve(count)?;
        if count > 0 {
            gather(view, bytes, &mut values);
        }
        finite(self.source, name, &values)?;
        self.conversions.count(view.float);
        Ok(Tensor {
            shape: view.shape.clone(),
            values,
        })
    }
}

/// The place of the last number, if there is one.
fn last(view: &View) -> Option<usize> {
    let each = view.shape.iter().zip(&view.strides);
    each.into_iter()
        .try_fold(view.offset, |at, (&size, &stride)| {
            at.checked_add(size.checked_sub(1)?.checked_mul(stride)?)
        })
}

/// The numbers in row-major order. There is at least one, and all are within the bytes.
fn gather(view: &View, bytes: &[u8], values: &mut Vec<f32>) {
    let size = view.float.size();
    let mut index = vec![0; view.shape.len()];
    let mut at = view.offset;
    loop {
        let number = at.checked_mul(size).and_then(|start| bytes.get(start..));
        values.push(view.float.read(number.unwrap_or(&[])));
        // The last dimension that has a next place; those behind it begin again.
        let mut dimension = view.shape.len();
        loop {
            if dimension == 0 {
                return;
            }
            dimension -= 1;
            index[dimension] += 1;
            at = at.wrapping_add(view.strides[dimension]);
            if index[dimension] < view.shape[dimension] {
                break;
            }
            at = at.wrapping_sub(view.strides[dimension].wrapping_mul(index[dimension]));
            index[dimension] = 0;
        }
    }
}
