//! What the tests share: the oracle, the reference data, a source of numbers, and
//! the way to run something at every level.

pub mod chain;
pub mod close;
pub mod golden;
pub mod levels;
pub mod narrow;
pub mod oracle;
pub mod outcome;
pub mod random;

/// The examples of the page that the repository shows, run as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
