//! Keras: `.keras` archives, HDF5 files with a model's configuration, and those with weights alone.
//! Without the feature `hdf5` none of these can be read; what TensorFlow.js shares with them can.

#![cfg_attr(
    not(feature = "hdf5"),
    allow(dead_code, reason = "what only HDF5 needs")
)]

mod archive;
#[cfg(feature = "hdf5")]
mod bare;
pub(crate) mod build;
pub(crate) mod config;
#[cfg(feature = "hdf5")]
mod files;
mod graph;
#[cfg(feature = "hdf5")]
mod h5;
mod lstm;
mod plain;
mod recurrent;
pub(crate) mod store;
#[cfg(all(test, feature = "hdf5"))]
mod tests;

use crate::Error;
use crate::import::{Found, Options, Source};
use serde_json::Value;
use store::MOST_TEXT;

/// A note.
#[cfg(feature = "hdf5")]
const TRAINED: &str = "the training configuration and the optimizer's slots are left out";

const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";

/// Whether the file is HDF5, which no other format here is, or an archive of Keras.
pub(crate) fn is(source: &Source) -> bool {
    is_hdf5(source.bytes()) || archive::is(source.bytes())
}

/// The signature may come after a block of the user's, of 512 bytes times a power of two.
fn is_hdf5(bytes: &[u8]) -> bool {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..) {
        if rest.starts_with(HDF5) {
            return true;
        }
        if rest.len() < HDF5.len() {
            break;
        }
        at = if at == 0 { 512 } else { at.saturating_mul(2) };
    }
    false
}

/// All layers of the file.
#[cfg(feature = "hdf5")]
pub(crate) fn read(source: &Source, options: &Options) -> Result<Found, Error> {
    files::read(source, options)
}

/// Says that this build cannot.
#[cfg(not(feature = "hdf5"))]
pub(crate) fn read(source: &Source, _: &Options) -> Result<Found, Error> {
    Err(source.problem(
        "expected a program with the feature hdf5, which reads Keras's files, got one without",
    ))
}

pub(crate) fn json(source: &Source, what: &str, bytes: &[u8]) -> Result<Value, Error> {
    if bytes.len() > MOST_TEXT {
        let got = bytes.len();
        return Err(source.problem(format!(
            "{what}: expected at most {MOST_TEXT} bytes, got {got}"
        )));
    }
    serde_json::from_slice(bytes)
        .map_err(|e| source.problem(format!("{what}: expected JSON, got: {e}")))
}
