//! Constants, and how much memory they may take.

use std::rc::Rc;

/// More dimensions than any tensor of a recurrent network.
pub(super) const MOST_DIMS: usize = 16;

/// An integer of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Int {
    Known(i64),
    /// The size of an axis of the data, by its number.
    Size(u32),
    Unknown,
}

#[derive(Clone, Debug)]
pub(super) enum Numbers {
    Floats(Rc<Vec<f32>>),
    Ints(Rc<Vec<Int>>),
}

/// A constant.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) dims: Vec<usize>,
    pub(super) numbers: Numbers,
    /// Whether one row stands for any number of the same.
    pub(super) repeated: bool,
}

impl Tensor {
    pub(super) fn floats(dims: Vec<usize>, values: Vec<f32>) -> Self {
        Self {
            dims,
            numbers: Numbers::Floats(Rc::new(values)),
            repeated: false,
        }
    }

    pub(super) fn ints(dims: Vec<usize>, values: Vec<Int>) -> Self {
        Self {
            dims,
            numbers: Numbers::Ints(Rc::new(values)),
            repeated: false,
        }
    }

    /// The same numbers in other dimensions, which must be as many.
    pub(super) fn with_dims(&self, dims: Vec<usize>) -> Self {
        Self {
            dims,
            ..self.clone()
        }
    }

    pub(super) fn len(&self) -> usize {
        match &self.numbers {
            Numbers::Floats(values) => values.len(),
            Numbers::Ints(values) => values.len(),
        }
    }

    pub(super) fn as_floats(&self) -> Option<&[f32]> {
        match &self.numbers {
            Numbers::Floats(values) => Some(values),
            Numbers::Ints(_) => None,
        }
    }

    pub(super) fn as_ints(&self) -> Option<&[Int]> {
        match &self.numbers {
            Numbers::Ints(values) => Some(values),
            Numbers::Floats(_) => None,
        }
    }

    /// Integers that are all known.
    pub(super) fn known(&self) -> Option<Vec<i64>> {
        let known = |int: &Int| match int {
            Int::Known(value) => Some(*value),
            _ => None,
        };
        self.as_ints()?.iter().map(known).collect()
    }
}

/// The number of values, if that can be.
pub(super) fn count(dims: &[usize]) -> Option<usize> {
    dims.iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
}

/// What constants may take, all together: a graph can ask for any number of copies.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new(file: usize) -> Self {
        Self(file.saturating_mul(2).saturating_add(1 << 20))
    }

    /// The same for a file beside the model.
    pub(super) fn add(&mut self, file: usize) {
        self.0 = self.0.saturating_add(file.saturating_mul(2));
    }

    /// Whether there is room for so many floats more.
    pub(super) fn spend(&mut self, floats: usize) -> Option<()> {
        self.0 = self.0.checked_sub(floats)?;
        Some(())
    }

    /// The same of a constant's kind of numbers: an integer takes as much as four floats.
    pub(super) fn spend_as(&mut self, tensor: &Tensor, numbers: usize) -> Option<()> {
        self.spend(match tensor.numbers {
            Numbers::Floats(_) => numbers,
            Numbers::Ints(_) => numbers.saturating_mul(4),
        })
    }
}
