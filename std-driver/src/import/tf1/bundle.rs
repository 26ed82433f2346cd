//! Checkpoints of version 2: an index of variables, and the files with their numbers beside it.

use super::variables::{Values, Variable};
use super::{crc, table};
use crate::Error;
use crate::import::raw::Raw;
use crate::import::{Source, wire};

/// A checkpoint, of which the numbers are read when they are asked for.
pub(super) struct Bundle<'a> {
    source: &'a Source,
    /// What the names of the other files begin with.
    stem: String,
    shards: u64,
    /// The files that were read so far.
    open: Vec<(u64, Source)>,
    /// How many bytes of them were taken: no more than there are, even if entries overlap.
    taken: usize,
    entries: Vec<Place>,
}

/// Where a variable's bytes are.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    dtype: u64,
    shard: u64,
    offset: u64,
    size: u64,
    sum: Option<u32>,
    sliced: bool,
}

const TEXT: u64 = 7;

/// The number type of TensorFlow's `DataType`.
pub(super) fn raw(dtype: u64) -> Option<Raw> {
    Some(match dtype {
        1 => Raw::F32,
        2 => Raw::F64,
        3 => Raw::I32,
        4 => Raw::U8,
        5 => Raw::I16,
        6 => Raw::I8,
        9 => Raw::I64,
        14 => Raw::Bf16,
        19 => Raw::F16,
        _ => return None,
    })
}

/// The sizes in a `TensorShapeProto`; more than eight are no variable of a network.
pub(super) fn shape(message: &[u8]) -> Result<Vec<usize>, String> {
    let broken = |e: wire::Broken| e.to_string();
    let mut sizes = Vec::new();
    for field in wire::fields(message) {
        let (number, value) = field.map_err(broken)?;
        match number {
            2 => {
                let mut size = 0;
                for field in wire::fields(value.bytes().map_err(broken)?) {
                    if let (1, value) = field.map_err(broken)? {
                        size = value.int().map_err(broken)?;
                    }
                }
                let size = usize::try_from(size).map_err(|_| format!("a size, got {size}"))?;
                sizes.push(size);
            }
            3 if value.varint().map_err(broken)? != 0 => {
                return Err("a known shape, got an unknown one".into());
            }
            _ => {}
        }
        if sizes.len() > 8 {
            return Err("at most 8 dimensions, got more".into());
        }
    }
    Ok(sizes)
}

impl<'a> Bundle<'a> {
    /// The index, and the variables in it.
    pub(super) fn open(source: &'a Source) -> Result<(Self, Vec<Variable>), Error> {
        let name = source.path().file_name().unwrap_or_default();
        let stem = name.to_string_lossy();
        let stem = stem.strip_suffix(".index").ok_or_else(|| {
            source.problem("expected a name that ends with .index, for that of the data beside it")
        })?;
        let mut bundle = Self {
            source,
            stem: stem.to_owned(),
            shards: 0,
            open: Vec::new(),
            taken: 0,
            entries: Vec::new(),
        };
        let mut variables = Vec::new();
        for (key, value) in table::entries(source)? {
            if key.is_empty() {
                bundle.shards = header(value).map_err(|problem| source.problem(problem))?;
                continue;
            }
            let name = String::from_utf8(key)
                .map_err(|_| source.problem("expected names in UTF-8, got another"))?;
            let (shape, place) = entry(value)
                .map_err(|problem| source.problem(format!("key {name}: expected {problem}")))?;
            variables.push(Variable {
                name,
                shape,
                float: matches!(place.dtype, 1 | 2 | 14 | 19),
                at: bundle.entries.len(),
            });
            bundle.entries.push(place);
        }
        if bundle.shards == 0 {
            return Err(source.problem("expected the header of a checkpoint, got none"));
        }
        Ok((bundle, variables))
    }

    /// The bytes of a variable.
    fn bytes(&mut self, variable: &Variable) -> Result<(&[u8], Place), Error> {
        let (source, name) = (self.source, &variable.name);
        let problem = |text: String| source.problem(format!("key {name}: expected {text}"));
        let place = self.entries.get(variable.at).copied().unwrap_or_default();
        if place.sliced {
            return Err(problem("a whole variable, got a partitioned one".into()));
        }
        if place.shard >= self.shards {
            let (shard, shards) = (place.shard, self.shards);
            return Err(problem(format!("one of {shards} files, got {shard}")));
        }
        let known = self
            .open
            .iter()
            .position(|(shard, _)| *shard == place.shard);
        let known = match known {
            Some(known) => known,
            None => {
                let (stem, shard, shards) = (&self.stem, place.shard, self.shards);
                let file = source.sibling(&format!("{stem}.data-{shard:05}-of-{shards:05}"))?;
                self.open.push((place.shard, file));
                self.open.len() - 1
            }
        };
        let most: usize = self.open.iter().map(|(_, file)| file.bytes().len()).sum();
        self.taken = usize::try_from(place.size)
            .ok()
            .and_then(|size| self.taken.checked_add(size))
            .filter(|&taken| taken <= most)
            .ok_or_else(|| {
                let size = place.size;
                problem(format!(
                    "data of its own, got {size} bytes of a data file of {most}"
                ))
            })?;
        let all = self
            .open
            .get(known)
            .map_or(&[][..], |(_, file)| file.bytes());
        let start = usize::try_from(place.offset).ok();
        let end = place.offset.checked_add(place.size);
        let end = end.and_then(|end| usize::try_from(end).ok());
        let bytes = start.zip(end).and_then(|(start, end)| all.get(start..end));
        let bytes = bytes.ok_or_else(|| {
            let (Place { offset, size, .. }, len) = (place, all.len());
            problem(format!(
                "{size} bytes at {offset} of the data, got a file of {len}"
            ))
        })?;
        Ok((bytes, place))
    }

    /// The bytes of a text without dimensions.
    pub(super) fn text(&mut self, variable: &Variable) -> Result<Vec<u8>, Error> {
        let source = self.source;
        let problem = || source.problem(format!("key {}: expected a text", variable.name));
        let (mut bytes, place) = self.bytes(variable)?;
        if place.dtype != TEXT || !variable.shape.is_empty() {
            return Err(problem());
        }
        // Before it are its length, with seven bits a byte, and four bytes of a checksum.
        loop {
            let (first, rest) = bytes.split_first().ok_or_else(problem)?;
            bytes = rest;
            if first & 0x80 == 0 {
                break;
            }
        }
        bytes.get(4..).map(<[u8]>::to_vec).ok_or_else(problem)
    }
}

impl Values for Bundle<'_> {
    fn values(&mut self, variable: &Variable) -> Result<(Vec<f32>, Raw), Error> {
        let source = self.source;
        let problem =
            |text: String| source.problem(format!("key {}: expected {text}", variable.name));
        let (bytes, place) = self.bytes(variable)?;
        let raw = raw(place.dtype)
            .ok_or_else(|| problem(format!("float32, got TensorFlow's type {}", place.dtype)))?;
        let expected = variable.len().and_then(|len| len.checked_mul(raw.width()));
        if expected != Some(bytes.len()) {
            return Err(problem(format!(
                "{} numbers of shape {:?}, got {} bytes",
                raw.name(),
                variable.shape,
                bytes.len()
            )));
        }
        if place.sum.is_some_and(|sum| sum != crc::masked(&[bytes])) {
            return Err(problem("the checksum of the index, got another".into()));
        }
        Ok((raw.read(bytes)?, raw))
    }
}

/// How many files a checkpoint has.
fn header(message: &[u8]) -> Result<u64, String> {
    let mut shards = 1;
    for field in wire::fields(message) {
        match field.map_err(|e| e.to_string())? {
            (1, wire::Value::Varint(count)) => shards = count,
            // What version 1 has here is a message.
            (1, _) => return Err("expected a checkpoint of version 2, got one of version 1".into()),
            (2, value) if value.varint().is_ok_and(|order| order != 0) => {
                return Err("expected little-endian numbers, got big-endian ones".into());
            }
            _ => {}
        }
    }
    match shards {
        1..=99_999 => Ok(shards),
        _ => Err(format!("expected 1 to 99999 files, got {shards}")),
    }
}

fn entry(message: &[u8]) -> Result<(Vec<usize>, Place), String> {
    let broken = |e: wire::Broken| e.to_string();
    let (mut sizes, mut place) = (Vec::new(), Place::default());
    for field in wire::fields(message) {
        let (number, value) = field.map_err(broken)?;
        match number {
            1 => place.dtype = value.varint().map_err(broken)?,
            2 => sizes = shape(value.bytes().map_err(broken)?)?,
            3 => place.shard = value.varint().map_err(broken)?,
            4 => place.offset = value.varint().map_err(broken)?,
            5 => place.size = value.varint().map_err(broken)?,
            6 => match value {
                wire::Value::Fixed32(bytes) => place.sum = Some(u32::from_le_bytes(bytes)),
                _ => return Err("a checksum of four bytes, got something else".into()),
            },
            7 => place.sliced = true,
            _ => {}
        }
    }
    Ok((sizes, place))
}
