//! State dictionaries as JSON: nested lists of numbers by name.

use super::names;
use super::state::{Entry, StateDict, Tensor, finite, listed};
use crate::Error;
use crate::import::Source;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use std::fmt;

/// The key that some scripts put the dictionary under.
const NESTED: &str = "state_dict";
/// More than PyTorch's layers have.
const MOST_DIMENSIONS: usize = 8;

/// Whether it is such a file. What stands around a state dictionary with `model_data` beside it
/// has a format of its own.
pub(super) fn is(source: &Source) -> bool {
    let mut keys = Keys::default();
    // An error further on is for the reader to name.
    let _ = text(source).deserialize_map(&mut keys);
    (keys.torch || keys.nested) && !keys.other
}

/// The file's bytes as JSON.
fn text(source: &Source) -> serde_json::Deserializer<serde_json::de::SliceRead<'_>> {
    serde_json::Deserializer::from_slice(source.bytes())
}

/// What the keys of the outermost object say.
#[derive(Debug, Default)]
struct Keys {
    torch: bool,
    nested: bool,
    other: bool,
}

impl<'de> Visitor<'de> for &mut Keys {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            self.torch |= names::is_recurrent(&key);
            self.other |= key == "model_data";
            if key == NESTED {
                let mut inner = Keys::default();
                map.next_value_seed(Seed(&mut inner))?;
                self.nested |= inner.torch;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// A visitor of whatever comes.
struct Seed<T>(T);

impl<'de> DeserializeSeed<'de> for Seed<&mut Keys> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self.0)
    }
}

/// Its tensors.
pub(super) fn read(source: &Source) -> Result<StateDict, Error> {
    let mut dict = Dict::default();
    let mut from = text(source);
    from.deserialize_map(&mut dict)
        .and_then(|()| from.end())
        .map_err(|e| source.problem(format!("expected a state dictionary in JSON, got: {e}")))?;
    if !dict.nested.is_empty() {
        // What is beside a dictionary is about the training.
        let beside = std::mem::replace(&mut dict.tensors, std::mem::take(&mut dict.nested));
        dict.left_out
            .extend(beside.into_iter().map(|(name, _)| name));
    }
    for (name, tensor) in &dict.tensors {
        finite(source, name, &tensor.values)?;
    }
    let mut notes = Vec::new();
    if !dict.left_out.is_empty() {
        let names = listed(&dict.left_out);
        notes.push(format!("Not weights, and left out: {names}."));
    }
    let names = dict.tensors.iter().map(|(name, _)| name);
    Ok(StateDict {
        ordered: !names.is_sorted(),
        entries: dict
            .tensors
            .into_iter()
            .map(|(name, tensor)| (name, Entry::Tensor(tensor)))
            .collect(),
        notes,
        ..StateDict::default()
    })
}

/// The object of tensors.
#[derive(Debug, Default)]
struct Dict {
    tensors: Vec<(String, Tensor)>,
    /// Those of a dictionary in it.
    nested: Vec<(String, Tensor)>,
    depth: usize,
    left_out: Vec<String>,
}

impl<'de> Visitor<'de> for &mut Dict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == NESTED {
                self.depth += 1;
                map.next_value_seed(Seed(&mut *self))?;
                self.depth -= 1;
                continue;
            }
            let mut nested = Nested::default();
            map.next_value_seed(Seed(&mut nested))
                .map_err(|e| A::Error::custom(format!("key {key}: {e}")))?;
            match nested.tensor() {
                Some(tensor) if self.depth > 0 => self.nested.push((key, tensor)),
                Some(tensor) => self.tensors.push((key, tensor)),
                None => self.left_out.push(key),
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Seed<&mut Dict> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self.0)
    }
}

/// Lists in lists, as they come: no value is kept but the numbers.
#[derive(Debug, Default)]
struct Nested {
    values: Vec<f32>,
    /// The length of the lists at each depth.
    shape: Vec<Option<usize>>,
    /// The depth at which numbers stand.
    numbers: Option<usize>,
    /// How deep the reader is.
    depth: usize,
    /// Whether there is something else than numbers.
    other: bool,
}

impl Nested {
    fn tensor(self) -> Option<Tensor> {
        let shape: Vec<usize> = self.shape.into_iter().map(|len| len.unwrap_or(0)).collect();
        (!self.other).then_some(Tensor {
            shape,
            values: self.values,
        })
    }

    fn number<E: serde::de::Error>(&mut self, value: f64) -> Result<(), E> {
        let depth = *self.numbers.get_or_insert(self.depth);
        if depth != self.depth || self.shape.len() > depth {
            return Err(E::custom(
                "expected lists of lists of one depth, got a number beside a list",
            ));
        }
        self.values.push(value as f32);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Seed<&mut Nested> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self.0)
    }
}

impl<'de> Visitor<'de> for &mut Nested {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of numbers")
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.number(value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.number(value as f64)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.number(value as f64)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.other = true;
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.other = true;
        Ok(())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.other = true;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.other = true;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let depth = self.depth;
        if depth == MOST_DIMENSIONS {
            let problem = format!("expected at most {MOST_DIMENSIONS} dimensions, got more");
            return Err(A::Error::custom(problem));
        }
        if self.numbers.is_some_and(|numbers| numbers <= depth) {
            return Err(A::Error::custom(
                "expected lists of lists of one depth, got a list beside a number",
            ));
        }
        if self.shape.len() == depth {
            self.shape.push(None);
        }
        self.depth += 1;
        let mut len = 0;
        while list.next_element_seed(Seed(&mut *self))?.is_some() {
            len += 1;
        }
        self.depth -= 1;
        if let Some(place) = self.shape.get_mut(depth) {
            let expected = *place.get_or_insert(len);
            if expected != len {
                return Err(A::Error::custom(format!(
                    "expected rows of {expected}, got one of {len}"
                )));
            }
        }
        Ok(())
    }
}
