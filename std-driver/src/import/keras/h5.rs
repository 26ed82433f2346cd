//! HDF5: the tensors below a group, the attributes of groups, and limits for all of it.

use super::store::{MOST_TENSORS, MOST_TEXT, Store, Tensor, finite, half, most_bytes};
use crate::import::Source;
use crate::{Error, memory};
use hdf5_reader::error::ByteOrder;
use hdf5_reader::group::Group;
use hdf5_reader::messages::attribute::AttributeMessage;
use hdf5_reader::{Dataset, Datatype, Hdf5File, OpenOptions, StringSize};
use std::cell::Cell;
use std::collections::HashMap;

const MOST_DEPTH: usize = 16;
const MOST_GROUPS: usize = 1 << 14;

/// An HDF5 file, or the one in an archive.
pub(super) struct H5<'a> {
    source: &'a Source,
    file: Hdf5File,
    most: u64,
}

impl<'a> H5<'a> {
    /// `bytes` is the file; `source` is what errors name.
    pub(super) fn open(source: &'a Source, bytes: Vec<u8>) -> Result<Self, Error> {
        let most = most_bytes(bytes.len());
        let limit = usize::try_from(most).unwrap_or(usize::MAX);
        let options = OpenOptions::default()
            .with_max_chunk_bytes(limit)
            .with_max_read_bytes(limit)
            .with_chunk_cache_bytes(0);
        let file = Hdf5File::from_vec_with_options(bytes, options)
            .map_err(|e| source.problem(format!("expected an HDF5 file, got: {e}")))?;
        Ok(Self { source, file, most })
    }

    fn wrong(&self, what: &str, e: &hdf5_reader::error::Error) -> Error {
        self.source.problem(format!("{what}: cannot be read: {e}"))
    }

    pub(super) fn root(&self) -> Result<Group, Error> {
        self.file
            .root_group()
            .map_err(|e| self.wrong("the root group", &e))
    }

    /// The group of that name, if there is one.
    pub(super) fn group(&self, parent: &Group, name: &str) -> Result<Option<Group>, Error> {
        let groups = self.groups(parent)?;
        Ok(groups.into_iter().find(|group| group.name() == name))
    }

    fn groups(&self, parent: &Group) -> Result<Vec<Group>, Error> {
        parent
            .groups()
            .map_err(|e| self.wrong(&format!("group {}", parent.name()), &e))
    }

    /// A text of a group, if it has one of that name.
    pub(super) fn text(&self, group: &Group, name: &str) -> Result<Option<String>, Error> {
        let mut texts = match self.texts(group, name)? {
            Some(texts) => texts,
            None => return Ok(None),
        };
        match (texts.pop(), texts.is_empty()) {
            (Some(text), true) => Ok(Some(text)),
            _ => Err(self
                .source
                .problem(format!("attribute {name}: expected one text"))),
        }
    }

    /// The texts of a group, if it has an attribute of that name. Keras cuts long ones into
    /// `name0`, `name1` and so on.
    pub(super) fn texts(&self, group: &Group, name: &str) -> Result<Option<Vec<String>>, Error> {
        let all = group
            .raw_attributes()
            .map_err(|e| self.wrong(&format!("the attributes of {}", group.name()), &e))?;
        let all = all.into_iter().map(|attribute| attribute.into_parts().0);
        let all: HashMap<String, _> = all.map(|a| (a.name.clone(), a)).collect();
        if let Some(attribute) = all.get(name) {
            return self.decode(group, attribute).map(Some);
        }
        let mut texts = None;
        let mut len = 0usize;
        for part in 0.. {
            let Some(attribute) = all.get(&format!("{name}{part}")) else {
                break;
            };
            let some = self.decode(group, attribute)?;
            len = some
                .iter()
                .fold(len, |len, text| len.saturating_add(text.len()));
            if len > MOST_TEXT {
                let problem = format!("attribute {name}: expected at most {MOST_TEXT} bytes");
                return Err(self.source.problem(problem));
            }
            texts.get_or_insert_with(Vec::new).extend(some);
        }
        Ok(texts)
    }

    fn decode(&self, group: &Group, attribute: &AttributeMessage) -> Result<Vec<String>, Error> {
        let name = &attribute.name;
        let problem = |text: String| self.source.problem(format!("attribute {name}: {text}"));
        let count = attribute.dataspace.num_elements();
        let count = count.map_err(|e| problem(e.to_string()))?;
        let raw = &attribute.raw_data;
        let variable = match &attribute.datatype {
            Datatype::String {
                size: StringSize::Fixed(_),
                ..
            } => false,
            Datatype::String { .. } | Datatype::VarLen { .. } => true,
            // An empty list has no text that would say what it is a list of.
            _ if count == 0 => return Ok(Vec::new()),
            other => {
                let got = kind(other);
                return Err(problem(format!("expected texts, got {got}")));
            }
        };
        let width = match &attribute.datatype {
            Datatype::String {
                size: StringSize::Fixed(width),
                ..
            } => *width as usize,
            _ => 8 + usize::from(group.offset_size()),
        };
        // The bytes that are there bound the number of texts.
        if count > raw.len() as u64 || count.saturating_mul(width as u64) > raw.len() as u64 {
            let got = raw.len();
            return Err(problem(format!(
                "expected {count} texts of {width} bytes, got {got} bytes"
            )));
        }
        let mut texts = Vec::new();
        let mut len = 0usize;
        for k in 0..count as usize {
            let bytes = raw.get(k * width..(k + 1) * width).unwrap_or(&[]);
            let resolved;
            let text = if variable {
                let stored = group.resolve_vlen_reference_bytes(bytes, 1);
                resolved = stored.map_err(|e| problem(e.to_string()))?;
                &resolved[..]
            } else {
                bytes
            };
            len = len.saturating_add(text.len());
            if len > MOST_TEXT {
                return Err(problem(format!("expected at most {MOST_TEXT} bytes")));
            }
            let end = text.iter().position(|&b| b == 0).unwrap_or(text.len());
            let text = std::str::from_utf8(text.get(..end).unwrap_or(&[]));
            texts.push(text.map_err(|e| problem(e.to_string()))?.to_owned());
        }
        Ok(texts)
    }

    /// All tensors below a group.
    /// Without those of the optimizer, which are as large as the model, if `optimizer` names its
    /// group.
    pub(super) fn tensors(
        self,
        below: &Group,
        optimizer: Option<&str>,
    ) -> Result<Tensors<'a>, Error> {
        let mut all = Tensors {
            tensors: Vec::new(),
            datasets: Vec::new(),
            groups: Vec::new(),
            left: Cell::new(self.most),
            h5: self,
        };
        all.walk(below, "", optimizer, 0)?;
        Ok(all)
    }
}

/// The tensors below a group, in the order of their names.
pub(super) struct Tensors<'a> {
    pub(super) h5: H5<'a>,
    tensors: Vec<Tensor>,
    datasets: Vec<Dataset>,
    /// The paths of the groups, and where they lie in the file: the order in which they were
    /// written.
    pub(super) groups: Vec<(String, Group)>,
    left: Cell<u64>,
}

impl Tensors<'_> {
    fn walk(
        &mut self,
        group: &Group,
        path: &str,
        skipped: Option<&str>,
        depth: usize,
    ) -> Result<(), Error> {
        let problem = |text: String| self.h5.source.problem(text);
        if depth > MOST_DEPTH {
            return Err(problem(format!(
                "group {path}: expected at most {MOST_DEPTH} groups in each other"
            )));
        }
        let (groups, datasets) = group
            .members()
            .map_err(|e| self.h5.wrong(&format!("group {}", group.name()), &e))?;
        let below = |name: &str| match path {
            "" => name.to_owned(),
            _ => format!("{path}/{name}"),
        };
        if self.tensors.len() + datasets.len() > MOST_TENSORS {
            return Err(problem(format!("expected at most {MOST_TENSORS} tensors")));
        }
        if self.groups.len() + groups.len() > MOST_GROUPS {
            return Err(problem(format!("expected at most {MOST_GROUPS} groups")));
        }
        for dataset in datasets {
            let path = below(dataset.name());
            let shape = dataset.shape().iter().map(|&n| usize::try_from(n));
            let shape = shape.collect::<Result<Vec<usize>, _>>();
            let shape = shape.map_err(|_| problem(format!("{path}: its shape is too large")))?;
            self.tensors.push(Tensor { path, shape });
            self.datasets.push(dataset);
        }
        for group in groups {
            if Some(group.name()) == skipped {
                continue;
            }
            let path = below(group.name());
            self.groups.push((path.clone(), group.clone()));
            self.walk(&group, &path, None, depth + 1)?;
        }
        Ok(())
    }

    fn read(&self, dataset: &Dataset, path: &str) -> Result<Vec<f32>, Error> {
        let problem = |text: String| self.h5.source.problem(format!("{path}: {text}"));
        let (size, order) = match dataset.dtype() {
            Datatype::FloatingPoint { size, byte_order } => (usize::from(*size), *byte_order),
            other => {
                let got = kind(other);
                return Err(problem(format!(
                    "expected floating point numbers, got {got}"
                )));
            }
        };
        if !matches!(size, 2 | 4 | 8) {
            return Err(problem(format!(
                "expected floats of 2, 4 or 8 bytes, got {size}"
            )));
        }
        let bytes = dataset
            .raw_byte_len()
            .map_err(|e| problem(format!("cannot be read: {e}")))?;
        // Chunks may lie on one another, and so be read many times.
        let Some(left) = self.left.get().checked_sub(bytes as u64) else {
            let most = self.h5.most;
            return Err(problem(format!(
                "expected at most {most} bytes of tensors in all, got more"
            )));
        };
        self.left.set(left);
        let bytes = dataset
            .read_raw_bytes()
            .map_err(|e| problem(format!("cannot be read: {e}")))?;
        let mut values = memory::reserve(bytes.len() / size)?;
        for number in bytes.chunks_exact(size) {
            let mut little = [0; 8];
            let to = little.iter_mut();
            match order {
                ByteOrder::LittleEndian => to.zip(number).for_each(|(a, &b)| *a = b),
                ByteOrder::BigEndian => to.zip(number.iter().rev()).for_each(|(a, &b)| *a = b),
            }
            let bits = u64::from_le_bytes(little);
            values.push(match size {
                2 => half(bits as u16),
                4 => f32::from_bits(bits as u32),
                _ => f64::from_bits(bits) as f32,
            });
        }
        finite(&values).map_err(problem)?;
        Ok(values)
    }

    /// The tensors that are not float32.
    pub(super) fn converted(&self) -> bool {
        let other = |dataset: &Dataset| matches!(dataset.dtype(), Datatype::FloatingPoint { size, .. } if *size != 4);
        self.datasets.iter().any(other)
    }
}

impl Store for Tensors<'_> {
    fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    fn values(&self, index: usize) -> Result<Vec<f32>, Error> {
        match (self.datasets.get(index), self.tensors.get(index)) {
            (Some(dataset), Some(tensor)) => self.read(dataset, &tensor.path),
            _ => Err(self.problem(format!("there is no tensor {index}"))),
        }
    }

    fn problem(&self, text: String) -> Error {
        self.h5.source.problem(text)
    }
}

fn kind(datatype: &Datatype) -> &'static str {
    match datatype {
        Datatype::FixedPoint { .. } => "integers",
        Datatype::FloatingPoint { .. } => "floating point numbers",
        Datatype::String { .. } | Datatype::VarLen { .. } => "texts or lists",
        Datatype::Enum { .. } | Datatype::Bitfield { .. } => "flags or names",
        _ => "records or references",
    }
}
