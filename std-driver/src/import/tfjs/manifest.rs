//! The manifest: which tensors lie one after the other in the files of a group.

use crate::import::Source;
use crate::import::keras::store::{MOST_TENSORS, Store, Tensor, finite, half};
use crate::{Error, memory};
use serde::Deserialize;
use serde_json::Value;
use std::cell::Cell;

const MOST_FILES: usize = 1 << 12;
const MOST_BYTES: u64 = 1 << 31;

#[derive(Deserialize)]
struct Group {
    paths: Vec<String>,
    weights: Vec<Weight>,
}

#[derive(Deserialize)]
struct Weight {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    quantization: Option<Quantization>,
}

/// x = scale·q + min; float16 has neither.
#[derive(Clone, Debug, Deserialize)]
struct Quantization {
    dtype: String,
    scale: Option<f64>,
    min: Option<f64>,
}

/// Where the numbers of a tensor are.
#[derive(Debug)]
struct Place {
    group: usize,
    start: usize,
    len: usize,
    dtype: String,
    quantization: Option<Quantization>,
}

/// The tensors of a model.
#[derive(Debug)]
pub(super) struct Shards<'a> {
    source: &'a Source,
    groups: Vec<Vec<u8>>,
    tensors: Vec<Tensor>,
    places: Vec<Place>,
    /// Bytes that may be read yet: a tensor is that of one layer, unless the names say it again
    /// and again.
    left: Cell<usize>,
}

impl<'a> Shards<'a> {
    /// Reads the files that the manifest names.
    pub(super) fn open(source: &'a Source, manifest: Option<&Value>) -> Result<Self, Error> {
        let problem = |text: String| source.problem(format!("key weightsManifest: {text}"));
        let manifest = manifest.ok_or_else(|| problem("expected a list, got none".to_owned()))?;
        let list = Vec::<Group>::deserialize(manifest)
            .map_err(|e| problem(format!("expected groups of weights, got: {e}")))?;
        let files: usize = list.iter().map(|group| group.paths.len()).sum();
        let weights: usize = list.iter().map(|group| group.weights.len()).sum();
        if files > MOST_FILES || weights > MOST_TENSORS {
            return Err(problem(format!(
                "expected at most {MOST_FILES} files and {MOST_TENSORS} tensors, got {files} and {weights}"
            )));
        }
        let mut all = Self {
            source,
            groups: Vec::new(),
            tensors: Vec::new(),
            places: Vec::new(),
            left: Cell::new(0),
        };
        let mut total = 0u64;
        for group in list {
            let mut bytes: Vec<u8> = Vec::new();
            for path in &group.paths {
                let shard = source.sibling(path)?;
                let some = shard.bytes();
                total = total.saturating_add(some.len() as u64);
                if total > MOST_BYTES {
                    return Err(problem(format!(
                        "expected at most {MOST_BYTES} bytes of weights, got more"
                    )));
                }
                let full = |_| Error::Memory { bytes: some.len() };
                bytes.try_reserve(some.len()).map_err(full)?;
                bytes.extend_from_slice(some);
            }
            all.weights(group, bytes)?;
        }
        all.left.set(all.groups.iter().map(Vec::len).sum());
        Ok(all)
    }

    fn weights(&mut self, group: Group, bytes: Vec<u8>) -> Result<(), Error> {
        let index = self.groups.len();
        let mut start = 0usize;
        for weight in group.weights {
            let Weight {
                name,
                shape,
                dtype,
                quantization,
            } = weight;
            let problem = |text: String| self.source.problem(format!("{name}: {text}"));
            let stored = quantization.as_ref().map_or(&dtype, |q| &q.dtype);
            let size = size(stored).ok_or_else(|| {
                problem(format!(
                    "expected numbers of float32, float16, uint8, uint16, int32 or bool, got {stored}"
                ))
            })?;
            let len = shape.iter().try_fold(size, |len, &n| len.checked_mul(n));
            let end = len.and_then(|len| start.checked_add(len));
            let (Some(len), Some(end)) = (len, end.filter(|&end| end <= bytes.len())) else {
                let (files, got) = (group.paths.join(", "), bytes.len());
                return Err(problem(format!(
                    "expected {shape:?} of {stored} from byte {start} on in {files}, got {got} bytes in all"
                )));
            };
            self.tensors.push(Tensor { path: name, shape });
            self.places.push(Place {
                group: index,
                start,
                len,
                dtype,
                quantization,
            });
            start = end;
        }
        if start != bytes.len() {
            let (files, got) = (group.paths.join(", "), bytes.len());
            return Err(self.source.problem(format!(
                "{files}: expected {start} bytes, which the tensors in the manifest have, got {got}"
            )));
        }
        self.groups.push(bytes);
        Ok(())
    }

    /// What was done to the numbers.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut types = Vec::new();
        for place in &self.places {
            if let Some(quantization) = &place.quantization
                && !types.contains(&quantization.dtype)
            {
                types.push(quantization.dtype.clone());
            }
        }
        let note =
            |dtype| format!("weights that were quantised to {dtype} were converted to float32");
        types.into_iter().map(note).collect()
    }

    fn read(&self, place: &Place, name: &str) -> Result<Vec<f32>, Error> {
        let problem = |text: String| self.source.problem(format!("{name}: {text}"));
        if place.dtype != "float32" {
            let got = &place.dtype;
            return Err(problem(format!("expected float32, got {got}")));
        }
        let left = self.left.get().checked_sub(place.len);
        self.left.set(
            left.ok_or_else(|| {
                problem("expected a tensor of one layer, got it in many".to_owned())
            })?,
        );
        let group = self.groups.get(place.group).map_or(&[][..], |group| group);
        let end = place.start.saturating_add(place.len);
        let bytes = group.get(place.start..end).unwrap_or(&[]);
        let stored = place.quantization.as_ref().map_or("float32", |q| &q.dtype);
        let size = size(stored).unwrap_or(4);
        let mut values = memory::reserve(bytes.len() / size)?;
        match &place.quantization {
            None => values.extend(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))),
            Some(q) if q.dtype == "float16" => {
                let all = bytes.as_chunks().0.iter();
                values.extend(all.map(|&b| half(u16::from_le_bytes(b))));
            }
            Some(q) => {
                let (Some(scale), Some(min)) = (q.scale, q.min) else {
                    return Err(problem(
                        "expected a scale and a min of its quantization, got none".to_owned(),
                    ));
                };
                // In float32, as TensorFlow.js does it.
                let (scale, min) = (scale as f32, min as f32);
                match q.dtype.as_str() {
                    "uint8" => values.extend(bytes.iter().map(|&q| f32::from(q) * scale + min)),
                    "uint16" => {
                        let all = bytes.as_chunks().0.iter().map(|&b| u16::from_le_bytes(b));
                        values.extend(all.map(|q| f32::from(q) * scale + min));
                    }
                    other => {
                        return Err(problem(format!(
                            "expected a quantization to uint8, uint16 or float16, got {other}"
                        )));
                    }
                }
            }
        }
        finite(&values).map_err(problem)?;
        Ok(values)
    }
}

/// The bytes of a number.
fn size(dtype: &str) -> Option<usize> {
    match dtype {
        "float32" | "int32" => Some(4),
        "float16" | "uint16" => Some(2),
        "uint8" | "bool" => Some(1),
        "complex64" => Some(8),
        _ => None,
    }
}

impl Store for Shards<'_> {
    fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    fn values(&self, index: usize) -> Result<Vec<f32>, Error> {
        match (self.places.get(index), self.tensors.get(index)) {
            (Some(place), Some(tensor)) => self.read(place, &tensor.path),
            _ => Err(self.problem(format!("there is no tensor {index}"))),
        }
    }

    fn problem(&self, text: String) -> Error {
        self.source.problem(text)
    }
}
