//! Files that are written: what a path is, who else uses it, what it holds already, and
//! replacement in one step.

mod contents;
mod place;
mod replace;
mod uses;

pub use contents::Contents;
pub(crate) use contents::{EPOCH_LOG_HEADER, LOG_HEADER, PICTURE_MARK};
pub(crate) use place::Place;
pub use replace::{check_writable, replace};
pub(crate) use replace::{finish_writing, replace_with};
pub use uses::{Uses, Written, is_standard_output, same};
