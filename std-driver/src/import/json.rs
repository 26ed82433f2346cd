//! JSON documents: read within bounds, and nested lists of numbers as tensors.

use super::Source;
use crate::Error;
use serde_json::Value;

/// A document of more bytes is refused: it takes some twenty times as much memory once it is read.
const MOST_BYTES: usize = 1 << 28;
/// Dimensions of a tensor.
const MOST_DIMENSIONS: usize = 8;

/// What some editors write before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

fn text(source: &Source) -> &[u8] {
    let bytes = source.bytes();
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// Whether a file begins as a JSON object does.
pub(crate) fn is_object(source: &Source) -> bool {
    let first = text(source).iter().find(|b| !b.is_ascii_whitespace());
    first == Some(&b'{')
}

/// The document, which must be an object.
pub(crate) fn object(source: &Source) -> Result<Value, Error> {
    let bytes = text(source);
    if bytes.len() > MOST_BYTES {
        let got = bytes.len();
        let problem = format!("expected at most {MOST_BYTES} bytes of JSON, got {got}");
        return Err(source.problem(problem));
    }
    match serde_json::from_slice(bytes) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(source.problem("expected a JSON object, got another value")),
        Err(e) => Err(source.problem(format!("expected JSON, got: {e}"))),
    }
}

/// Numbers and their shape, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

impl Tensor {
    /// Of nested lists, all of one shape; or what is wrong with them.
    pub(crate) fn of(value: &Value) -> Result<Self, String> {
        let mut tensor = Self {
            shape: Vec::new(),
            values: Vec::new(),
        };
        let mut first = value;
        while let Value::Array(values) = first {
            tensor.shape.push(values.len());
            match values.first() {
                Some(value) => first = value,
                None => break,
            }
        }
        if tensor.shape.is_empty() || tensor.shape.len() > MOST_DIMENSIONS {
            return Err("expected a list of numbers".into());
        }
        tensor.take(value, 0)?;
        Ok(tensor)
    }

    fn take(&mut self, value: &Value, depth: usize) -> Result<(), String> {
        match (value, self.shape.get(depth)) {
            (Value::Array(values), Some(&expected)) => {
                if values.len() != expected {
                    let got = values.len();
                    return Err(format!(
                        "expected lists of one length, got {expected} and {got} values"
                    ));
                }
                values
                    .iter()
                    .try_for_each(|value| self.take(value, depth + 1))
            }
            (value, None) => {
                let number = value.as_f64().map(|number| number as f32);
                match number.filter(|number| number.is_finite()) {
                    Some(number) => {
                        self.values.push(number);
                        Ok(())
                    }
                    None => Err(format!("expected finite numbers, got {}", short(value))),
                }
            }
            (value, Some(_)) => Err(format!("expected lists of one depth, got {}", short(value))),
        }
    }

    /// The numbers, if the shape is this one; a dimension of 1 may be left out or added.
    pub(crate) fn of_shape(self, expected: &[usize]) -> Result<Vec<f32>, String> {
        let long =
            |shape: &[usize]| -> Vec<usize> { shape.iter().copied().filter(|&n| n != 1).collect() };
        if long(&self.shape) == long(expected) {
            Ok(self.values)
        } else {
            Err(format!("expected shape {expected:?}, got {:?}", self.shape))
        }
    }
}

/// A value as an error shows it.
pub(crate) fn short(value: &Value) -> String {
    match value {
        Value::Array(values) => format!("a list of {}", values.len()),
        Value::Object(_) => "an object".into(),
        value => {
            let text = value.to_string();
            let end = text.char_indices().nth(40).map_or(text.len(), |(at, _)| at);
            text[..end].to_owned()
        }
    }
}

/// An object of a document, and where it stands in it, for errors.
#[derive(Clone)]
pub(crate) struct At<'a> {
    source: &'a Source,
    path: String,
    pub(crate) value: &'a Value,
}

impl<'a> At<'a> {
    pub(crate) fn root(source: &'a Source, value: &'a Value) -> Self {
        Self {
            source,
            path: String::new(),
            value,
        }
    }

    /// The value of a key, if it is there and not null.
    pub(crate) fn get(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(Self {
            source: self.source,
            path: match self.path.as_str() {
                "" => key.to_owned(),
                path => format!("{path}.{key}"),
            },
            value,
        })
    }

    pub(crate) fn need(&self, key: &str) -> Result<Self, Error> {
        self.get(key).ok_or_else(|| {
            let keys = self.value.as_object().map(|object| {
                let mut keys: Vec<_> = object.keys().take(8).cloned().collect();
                if object.len() > keys.len() {
                    keys.push("…".into());
                }
                keys.join(", ")
            });
            let got = keys.unwrap_or_else(|| short(self.value));
            self.problem(format!("expected a key {key}, got {got}"))
        })
    }

    /// The values of a list.
    pub(crate) fn list(&self) -> Result<Vec<Self>, Error> {
        let Value::Array(values) = self.value else {
            return Err(self.problem(format!("expected a list, got {}", short(self.value))));
        };
        let each = values.iter().enumerate();
        Ok(each
            .map(|(index, value)| Self {
                source: self.source,
                path: format!("{}[{index}]", self.path),
                value,
            })
            .collect())
    }

    pub(crate) fn text(&self) -> Result<&'a str, Error> {
        let text = self.value.as_str();
        text.ok_or_else(|| self.problem(format!("expected a text, got {}", short(self.value))))
    }

    /// A size: a whole number from 1 to what fits a network.
    pub(crate) fn size(&self) -> Result<usize, Error> {
        let size = self
            .value
            .as_u64()
            .filter(|size| (1..1 << 24).contains(size));
        size.map(|size| size as usize).ok_or_else(|| {
            self.problem(format!("expected a size from 1, got {}", short(self.value)))
        })
    }

    pub(crate) fn number(&self) -> Result<f64, Error> {
        // Some programs write numbers as text.
        let number = match self.value {
            Value::String(text) => text.parse().ok(),
            value => value.as_f64(),
        };
        let number = number.filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| self.problem(format!("expected a number, got {}", short(self.value))))
    }

    /// Numbers of a shape.
    pub(crate) fn tensor(&self, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let values = Tensor::of(self.value).and_then(|tensor| tensor.of_shape(shape));
        values.map_err(|problem| self.problem(problem))
    }

    pub(crate) fn any_tensor(&self) -> Result<Tensor, Error> {
        Tensor::of(self.value).map_err(|problem| self.problem(problem))
    }

    /// An error about this value.
    pub(crate) fn problem(&self, text: impl std::fmt::Display) -> Error {
        match self.path.as_str() {
            "" => self.source.problem(text.to_string()),
            path => self.source.problem(format!("key {path}: {text}")),
        }
    }
}
