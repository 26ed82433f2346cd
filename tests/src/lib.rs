//! What the tests share: the oracle, the reference data, a source of numbers, and
//! the way to run something at every level.

pub mod golden;
pub mod levels;
pub mod oracle;
pub mod outcome;
pub mod random;
