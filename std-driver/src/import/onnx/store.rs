//! What a `TensorProto` holds, here or in a file beside it.

use super::proto;
use super::tensor::{Budget, Int, MOST_DIMS, Tensor, count};
use crate::import::Source;
use crate::import::wire::{self, Broken};
use crate::{Error, memory};
use std::collections::HashMap;
use std::rc::Rc;

/// More integers than any shape, and any list of indices, that a graph computes with.
const MOST_INTS: usize = 1 << 14;
/// Files beside the model.
const MOST_FILES: usize = 64;

/// The numbers of tensors: here, or in files beside the model.
#[derive(Debug)]
pub(super) struct Store<'a> {
    source: &'a Source,
    files: HashMap<&'a str, Rc<Source>>,
    pub(super) budget: Budget,
    /// Kinds of numbers that were made float32.
    pub(super) converted: Vec<&'static str>,
}

/// A `TensorProto`.
#[derive(Debug, Default)]
struct Parsed<'a> {
    name: &'a str,
    kind: i64,
    dims: Vec<i64>,
    raw: &'a [u8],
    floats: Vec<f32>,
    doubles: Vec<f64>,
    ints: Vec<i64>,
    external: Vec<(&'a str, &'a str)>,
    elsewhere: bool,
}

fn parse(bytes: &[u8], shape_only: bool) -> Result<Parsed<'_>, Broken> {
    let mut tensor = Parsed::default();
    for field in wire::fields(bytes) {
        let (number, value) = field?;
        match number {
            1 => value.ints(&mut tensor.dims)?,
            2 => tensor.kind = value.int()?,
            8 => tensor.name = value.text()?,
            _ if shape_only => {}
            4 => value.floats(&mut tensor.floats)?,
            5 | 7 => value.ints(&mut tensor.ints)?,
            9 => tensor.raw = value.bytes()?,
            10 => value.doubles(&mut tensor.doubles)?,
            13 => tensor.external.push(proto::entry(value.bytes()?)?),
            14 => tensor.elsewhere = value.int()? == 1,
            _ => {}
        }
    }
    Ok(tensor)
}

/// A tensor's name.
pub(super) fn name_of(bytes: &[u8]) -> Result<&str, Broken> {
    Ok(parse(bytes, true)?.name)
}

/// A tensor's dimensions, without its numbers.
pub(super) fn dims_of(bytes: &[u8]) -> Option<Vec<usize>> {
    let dims = parse(bytes, true).ok()?.dims;
    dims.into_iter().map(|d| usize::try_from(d).ok()).collect()
}

fn chunks<const N: usize>(bytes: &[u8]) -> Option<&[[u8; N]]> {
    let (whole, rest) = bytes.as_chunks();
    rest.is_empty().then_some(whole)
}

/// f32 of IEEE's 16 bits.
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let fraction = f32::from(bits & 0x3ff);
    match bits >> 10 & 0x1f {
        0 => sign * fraction * 2f32.powi(-24),
        0x1f if fraction == 0.0 => sign * f32::INFINITY,
        0x1f => f32::NAN,
        exponent => sign * (1024.0 + fraction) * 2f32.powi(i32::from(exponent) - 25),
    }
}

fn brain(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

impl<'a> Store<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self {
            source,
            files: HashMap::new(),
            budget: Budget::new(source.bytes().len()),
            converted: Vec::new(),
        }
    }

    fn problem(&self, name: &str, text: &str) -> Error {
        self.source.problem(format!("tensor {name}: {text}"))
    }

    /// The numbers of a tensor, if they are of a kind that is used.
    pub(super) fn read(&mut self, bytes: &'a [u8]) -> Result<Option<Tensor>, Error> {
        let parsed = parse(bytes, false).map_err(|e| self.source.problem(e.to_string()))?;
        let name = parsed.name;
        let dims = parsed.dims.iter().map(|&d| usize::try_from(d).ok());
        let dims: Option<Vec<usize>> = dims.collect();
        let dims = dims.filter(|dims| dims.len() <= MOST_DIMS);
        let Some((dims, len)) = dims.and_then(|d| count(&d).map(|len| (d, len))) else {
            let got = format!("expected at most {MOST_DIMS} sizes that fit, got others");
            return Err(self.problem(name, &got));
        };
        let file;
        let raw = if parsed.elsewhere {
            file = self.file(name, &parsed.external)?;
            self.outside(name, &parsed.external, file.bytes())?
        } else {
            parsed.raw
        };
        let floats = match parsed.kind {
            1 | 10 | 11 | 16 => self.floats(&parsed, raw, len)?,
            kind => return self.integers(kind, dims, len, &parsed, raw),
        };
        if floats.len() != len {
            let got = floats.len();
            let text = format!("expected {dims:?} = {len} numbers, got {got}");
            return Err(self.problem(name, &text));
        }
        Ok(Some(Tensor::floats(dims, floats)))
    }

    fn floats(&mut self, parsed: &Parsed, raw: &[u8], len: usize) -> Result<Vec<f32>, Error> {
        let name = parsed.name;
        let got = match parsed.kind {
            _ if raw.is_empty() => parsed.floats.len() + parsed.doubles.len() + parsed.ints.len(),
            1 => raw.len() / 4,
            11 => raw.len() / 8,
            _ => raw.len() / 2,
        };
        if got < len {
            let text = format!("expected {:?} = {len} numbers, got {got}", parsed.dims);
            return Err(self.problem(name, &text));
        }
        if self.budget.spend(got).is_none() {
            return Err(self.problem(name, "the constants of the graph take too much memory"));
        }
        let mut all: Vec<f32> = memory::reserve(got)?;
        let whole = || self.problem(name, "expected whole numbers of bytes each, got a rest");
        let bits = |b: [u8; 2]| u16::from_le_bytes(b);
        let kind = match (parsed.kind, raw.is_empty()) {
            (1, true) => {
                all.extend(&parsed.floats);
                ""
            }
            (1, false) => {
                let raw = chunks(raw).ok_or_else(whole)?;
                all.extend(raw.iter().map(|&b| f32::from_le_bytes(b)));
                ""
            }
            (11, true) => {
                all.extend(parsed.doubles.iter().map(|&v| v as f32));
                "float64"
            }
            (11, false) => {
                let raw = chunks(raw).ok_or_else(whole)?;
                all.extend(raw.iter().map(|&b| f64::from_le_bytes(b) as f32));
                "float64"
            }
            (16, true) => {
                all.extend(parsed.ints.iter().map(|&v| brain(v as u16)));
                "bfloat16"
            }
            (16, false) => {
                let raw = chunks(raw).ok_or_else(whole)?;
                all.extend(raw.iter().map(|&b| brain(bits(b))));
                "bfloat16"
            }
            (_, true) => {
                all.extend(parsed.ints.iter().map(|&v| half(v as u16)));
                "float16"
            }
            (_, false) => {
                let raw = chunks(raw).ok_or_else(whole)?;
                all.extend(raw.iter().map(|&b| half(bits(b))));
                "float16"
            }
        };
        if !kind.is_empty() && !self.converted.contains(&kind) {
            self.converted.push(kind);
        }
        Ok(all)
    }

    /// Integers and booleans; other kinds, and long lists, are nothing that a layer is made of.
    fn integers(
        &self,
        kind: i64,
        dims: Vec<usize>,
        len: usize,
        parsed: &Parsed,
        raw: &[u8],
    ) -> Result<Option<Tensor>, Error> {
        if len > MOST_INTS {
            return Ok(None);
        }
        let values: Option<Vec<i64>> = match kind {
            6 | 7 | 9 | 3 | 2 if raw.is_empty() => Some(parsed.ints.clone()),
            6 => chunks(raw).map(|raw| {
                let each = raw.iter().map(|&b| i32::from_le_bytes(b));
                each.map(i64::from).collect()
            }),
            7 => chunks(raw).map(|raw| raw.iter().map(|&b| i64::from_le_bytes(b)).collect()),
            9 | 2 => Some(raw.iter().map(|&b| b.into()).collect()),
            3 => Some(raw.iter().map(|&b| b.cast_signed().into()).collect()),
            _ => return Ok(None),
        };
        match values {
            Some(values) if values.len() == len => {
                let values = values.into_iter().map(Int::Known).collect();
                Ok(Some(Tensor::ints(dims, values)))
            }
            other => {
                let got = other.map_or("a rest".into(), |values| values.len().to_string());
                let text = format!("expected {dims:?} = {len} integers, got {got}");
                Err(self.problem(parsed.name, &text))
            }
        }
    }

    /// The file beside the model that has a tensor's numbers.
    fn file(&mut self, name: &str, entries: &[(&'a str, &'a str)]) -> Result<Rc<Source>, Error> {
        let location = entries.iter().find(|(key, _)| *key == "location");
        let Some(&(_, location)) = location else {
            let text = "expected the location of its external data, got none";
            return Err(self.problem(name, text));
        };
        if let Some(file) = self.files.get(location) {
            return Ok(file.clone());
        }
        if self.files.len() == MOST_FILES {
            let text = format!("expected external data in at most {MOST_FILES} files, got more");
            return Err(self.problem(name, &text));
        }
        let relative = location.strip_prefix("./").unwrap_or(location);
        let file = Rc::new(self.source.sibling(relative)?);
        self.budget.add(file.bytes().len());
        self.files.insert(location, file.clone());
        Ok(file)
    }

    /// Its part of that file.
    fn outside<'f>(
        &self,
        name: &str,
        entries: &[(&str, &str)],
        bytes: &'f [u8],
    ) -> Result<&'f [u8], Error> {
        let number = |wanted: &str| {
            let entry = entries.iter().find(|(key, _)| *key == wanted);
            let value = entry.map(|(_, text)| text.trim().parse::<usize>());
            value.transpose().map_err(|_| {
                let text = format!("expected a number as {wanted} of its external data");
                self.problem(name, &text)
            })
        };
        let start = number("offset")?.unwrap_or(0);
        let rest = bytes.get(start..);
        let part = match number("length")? {
            None => rest,
            Some(length) => rest.and_then(|rest| rest.get(..length)),
        };
        part.ok_or_else(|| {
            let got = bytes.len();
            let text = format!("expected its external data from byte {start} on, got {got} bytes");
            self.problem(name, &text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::wire::write;
    use std::path::Path;

    fn read(fields: &[Vec<u8>]) -> Result<Option<Tensor>, String> {
        let bytes = fields.concat();
        let source = Source::from_bytes(Path::new("a.onnx"), Vec::new());
        let mut store = Store::new(&source);
        store.read(&bytes).map_err(|e| e.to_string())
    }

    #[test]
    fn kinds_of_numbers() {
        let raw = |kind: i64, bytes: &[u8]| {
            let fields = [
                write::int(1, 2),
                write::int(2, kind),
                write::bytes(9, bytes),
            ];
            read(&fields).unwrap().unwrap()
        };
        let two = [1f32.to_le_bytes(), (-2f32).to_le_bytes()].concat();
        assert_eq!(raw(1, &two).as_floats().unwrap(), [1.0, -2.0]);
        let two = [1f64.to_le_bytes(), (-2f64).to_le_bytes()].concat();
        assert_eq!(raw(11, &two).as_floats().unwrap(), [1.0, -2.0]);
        let two = [0x3c00u16.to_le_bytes(), 0xc000u16.to_le_bytes()].concat();
        assert_eq!(raw(10, &two).as_floats().unwrap(), [1.0, -2.0]);
        let two = [0x3f80u16.to_le_bytes(), 0xc000u16.to_le_bytes()].concat();
        assert_eq!(raw(16, &two).as_floats().unwrap(), [1.0, -2.0]);
        let two = [5i64.to_le_bytes(), (-1i64).to_le_bytes()].concat();
        assert_eq!(raw(7, &two).known().unwrap(), [5, -1]);
        let two = [5i32.to_le_bytes(), (-1i32).to_le_bytes()].concat();
        assert_eq!(raw(6, &two).known().unwrap(), [5, -1]);
        let fields = [write::int(1, 1), write::int(2, 1), write::float(4, 0.5)];
        let one = read(&fields).unwrap().unwrap();
        assert_eq!(
            (one.as_floats().unwrap(), &one.dims[..]),
            (&[0.5][..], &[1][..])
        );
    }

    #[test]
    fn halves() {
        for (bits, value) in [
            (0, 0.0),
            (1, 2f32.powi(-24)),
            (0x0400, 2f32.powi(-14)),
            (0x3555, 0.333_251_95),
            (0x7bff, 65504.0),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(half(bits), value);
        }
        assert!(half(0x7e00).is_nan());
    }

    #[test]
    fn refused() {
        let of = |fields: &[Vec<u8>]| read(fields).unwrap_err();
        let name = write::bytes(8, "w");
        let kind = write::int(2, 1);
        let short = [
            name.clone(),
            write::int(1, 3),
            kind.clone(),
            write::float(4, 1.0),
        ];
        assert_eq!(
            of(&short),
            "a.onnx: tensor w: expected [3] = 3 numbers, got 1"
        );
        let huge = [
            name.clone(),
            write::int(1, i64::MAX),
            write::int(1, i64::MAX),
        ];
        assert!(of(&huge).contains("sizes that fit"));
        let rest = [
            name.clone(),
            write::int(1, 0),
            kind.clone(),
            write::bytes(9, "abcde"),
        ];
        assert!(of(&rest).contains("got a rest"));
        let place = |location: &str| {
            let entry = [write::bytes(1, "location"), write::bytes(2, location)];
            let outside = write::int(14, 1);
            of(&[
                name.clone(),
                write::int(1, 1),
                kind.clone(),
                write::bytes(13, entry.concat()),
                outside,
            ])
        };
        assert!(place("../w").contains("in the same folder, got ../w"));
        assert!(place("no-such-file").contains("cannot read"));
    }
}
