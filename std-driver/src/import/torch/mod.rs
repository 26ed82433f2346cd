//! PyTorch: state dictionaries and pickled modules, in each of the files that hold them.
//!
//! | module | file |
//! |---|---|
//! | [`safetensors`] | safetensors with PyTorch's names |
//! | [`zip`] | `.pt` and `.pth` since PyTorch 1.6, and TorchScript |
//! | [`legacy`] | `.pt` before that |
//! | [`json`] | nested lists by name |
//!
//! Each gives a [`StateDict`](state::StateDict), of which [`names`] makes layers.

mod arrange;
mod checkpoint;
mod cursor;
mod json;
mod legacy;
mod machine;
mod modules;
mod names;
mod norm;
mod numbers;
mod order;
mod pickle;
mod rnn;
mod safetensors;
#[cfg(test)]
mod shapes;
mod state;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod traps;
mod view;
mod walk;
mod zip;

use crate::Error;
use crate::import::{Found, Options, Source};

/// Whether it is one of PyTorch's files.
pub(crate) fn is(source: &Source) -> bool {
    zip::is(source) || legacy::is(source) || safetensors::is(source) || json::is(source)
}

/// Its layers.
pub(crate) fn read(source: &Source, options: &Options) -> Result<Found, Error> {
    let dict = if zip::is(source) {
        zip::read(source, options)?
    } else if legacy::is(source) {
        legacy::read(source, options)?
    } else if safetensors::is(source) {
        safetensors::read(source)?
    } else {
        json::read(source)?
    };
    names::layers(source, dict, options)
}
