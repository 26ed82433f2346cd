//! A state dictionary: tensors by name, whatever file they come from.

use crate::Error;
use crate::import::Source;
use std::collections::HashMap;

/// A tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    Tensor(Tensor),
    /// A tensor that is not of floating point, or a thing that is no tensor: what it is.
    Other(String),
    /// A module without weights in a sequence of modules: its class.
    Module(String),
}

/// What a file says about a model.
#[derive(Clone, Debug, Default)]
pub(crate) struct StateDict {
    /// Names and tensors, in the file's order.
    pub(crate) entries: Vec<(String, Entry)>,
    /// Whether that order is the author's, and not the alphabet's.
    pub(crate) ordered: bool,
    /// The classes of modules, by their paths, where the file has them.
    pub(crate) classes: HashMap<String, String>,
    /// What norms add to a variance, by their paths, where the file has it.
    pub(crate) epsilons: HashMap<String, f64>,
    /// Whether [`Options::part`](crate::import::Options::part) was used up by the file's structure.
    pub(crate) chosen: bool,
    /// What was left out or converted.
    pub(crate) notes: Vec<String>,
}

/// Refuses NaN and infinities.
pub(super) fn finite(source: &Source, name: &str, values: &[f32]) -> Result<(), Error> {
    match values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
        Some((at, got)) => Err(source.problem(format!(
            "key {name}: expected finite numbers, got {got} at {at}"
        ))),
        None => Ok(()),
    }
}

/// Some of many names, for a sentence.
pub(super) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    const MOST: usize = 8;
    let mut text = String::new();
    for (k, name) in names.iter().take(MOST).enumerate() {
        if k > 0 {
            text.push_str(", ");
        }
        text.push_str(clipped(name.as_ref()));
    }
    if let Some(more) = names.len().checked_sub(MOST).filter(|&more| more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// The beginning of what a file may have made too long for a sentence.
pub(super) fn clipped(text: &str) -> &str {
    const MOST: usize = 100;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => text.get(..end).unwrap_or(""),
        None => text,
    }
}
