//! What can be wrong with an argument: a length, an empty size, a label, a number.

use core::fmt;

/// Why a call was refused. Nothing was written when it is returned.
///
/// ```
/// use fused_lstm::{Extent, NetworkShape, ArgumentError};
///
/// let shape = NetworkShape::new(1, &[4]);
/// let params = [0.0; 95]; // one short
/// let error = fused_lstm::Model::new(shape, &params).unwrap_err();
/// assert_eq!(error, ArgumentError::Length { what: "params", expected: 96, got: 95 });
/// assert_eq!(error.to_string(), "params: expected 96 values, got 95");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArgumentError {
    /// A buffer does not have the length that the shape asks for.
    Length {
        /// The argument's name.
        what: &'static str,
        /// The length that the shape asks for.
        expected: usize,
        /// The length that came.
        got: usize,
    },
    /// A size that must be at least one is zero.
    Zero {
        /// The size's name.
        what: &'static str,
    },
    /// A class label is not below the number of classes.
    Label {
        /// Which row of the batch, counted over time and batch.
        row: usize,
        /// The label that came.
        label: u32,
        /// The number of classes.
        classes: usize,
    },
    /// A table index is not a whole number, or is out of range.
    Index {
        /// Which number, counted over time and batch.
        row: usize,
        /// The rows of the table.
        rows: usize,
    },
    /// A row of the batch is longer than the sequence.
    RowLength {
        /// Which row.
        row: usize,
        /// The steps of the sequence.
        steps: usize,
        /// The steps that the row is said to have.
        got: usize,
    },
    /// A stage of a chain with an invalid option or position.
    Stage {
        /// Which one, from 0.
        index: usize,
        /// What it must have.
        what: &'static str,
    },
    /// A stage of a chain that does not fit the one before it.
    StageInputs {
        /// Which one, from 0.
        index: usize,
        /// Its inputs.
        expected: usize,
        /// What the one before it has as outputs.
        got: usize,
    },
    /// A stage of a chain that needs another number of time steps.
    StageSteps {
        /// Which one, from 0.
        index: usize,
        /// The steps that it is for.
        expected: usize,
        /// The steps that come.
        got: usize,
    },
    /// The model has no dense head, and the call needs one.
    NoHead,
    /// A number is NaN or infinite, or would become so: no training goes on from there.
    NotFinite {
        /// The buffer that it is in.
        what: &'static str,
    },
    /// Words of a narrow layer that nothing packed: with numbers that are not finite, or integers whose
    /// sums could overflow.
    Words,
    /// A number that must be above zero is not, or is NaN.
    NotPositive {
        /// The argument's name.
        what: &'static str,
    },
    /// A number is not in the range that it must be in, or is NaN.
    Range {
        /// The argument's name.
        what: &'static str,
        /// What it must be.
        range: &'static str,
    },
}

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Length {
                what,
                expected,
                got,
            } => {
                write!(f, "{what}: expected {expected} values, got {got}")
            }
            Self::Zero { what } => write!(f, "{what}: expected at least 1, got 0"),
            Self::Label {
                row,
                label,
                classes,
            } => {
                write!(
                    f,
                    "label of row {row}: expected 0 to {}, got {label}",
                    classes.saturating_sub(1)
                )
            }
            Self::Index { row, rows } => write!(
                f,
                "number {row} of x: expected a whole number from 0 to {}",
                rows.saturating_sub(1)
            ),
            Self::RowLength { row, steps, got } => {
                write!(f, "row {row}: expected at most {steps} steps, got {got}")
            }
            Self::StageSteps {
                index,
                expected,
                got,
            } => write!(f, "stage {index}: expected {expected} steps, got {got}"),
            Self::Stage { index, what } => write!(f, "stage {index}: expected {what}"),
            Self::StageInputs {
                index,
                expected,
                got,
            } => write!(f, "stage {index}: expected {expected} inputs, got {got}"),
            Self::NoHead => f.write_str("the model has no dense head"),
            Self::NotFinite { what } => {
                write!(f, "{what}: expected finite numbers, got NaN or infinity")
            }
            Self::Words => f.write_str(
                "words: expected those of packed weights, got numbers that are not finite or too large",
            ),
            Self::NotPositive { what } => write!(f, "{what}: expected a number above 0"),
            Self::Range { what, range } => write!(f, "{what}: expected {range}"),
        }
    }
}

impl core::error::Error for ArgumentError {}

/// Refuses a buffer of another length than `expected`.
#[inline(always)]
pub(crate) fn check_len(
    what: &'static str,
    expected: usize,
    got: usize,
) -> Result<(), ArgumentError> {
    if expected == got {
        Ok(())
    } else {
        Err(ArgumentError::Length {
            what,
            expected,
            got,
        })
    }
}

/// The first wrong length of several, each as (name, expected, got): one function, because these
/// checks are many.
#[inline(never)]
pub(crate) fn check_lens(lens: &[(&'static str, usize, usize)]) -> Result<(), ArgumentError> {
    for &(what, expected, got) in lens {
        check_len(what, expected, got)?;
    }
    Ok(())
}
