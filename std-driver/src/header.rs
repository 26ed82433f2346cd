//! What a safetensors file begins with: names, types and places of its tensors.

use safetensors::tensor::Metadata;
use std::io::{self, ErrorKind, Read};

/// The entry of the metadata that this project's files have.
pub(crate) const METADATA: &str = "fused-lstm";

/// That of models which were trained by a recipe.
pub(crate) const TRAINING: &str = "fused-lstm.training";

/// The entry's text in outputs of `run`; checkpoints have their settings there.
pub(crate) const RUN_OUTPUT: &str = "run";

/// What stands before the tensors of a file.
#[derive(Debug)]
pub(crate) struct Header {
    /// Bytes up to the first tensor's.
    pub(crate) len: usize,
    pub(crate) tensors: Metadata,
}

impl Header {
    /// The text that [`tensors::write`](crate::tensors::write) was given.
    pub(crate) fn text(&self) -> Option<&str> {
        let map = self.tensors.metadata().as_ref()?;
        map.get(METADATA).map(String::as_str)
    }

    /// The text of a model's training.
    pub(crate) fn training(&self) -> Option<&str> {
        let map = self.tensors.metadata().as_ref()?;
        map.get(TRAINING).map(String::as_str)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.tensors.info(key).is_some()
    }
}

/// Reads and checks a header, and no more than its length, which comes first: what is no
/// safetensors file may have no end.
pub(crate) fn read_header(mut from: impl Read) -> io::Result<Header> {
    /// The format's own limit.
    const MOST: u64 = 100_000_000;
    let invalid = |problem: String| io::Error::new(ErrorKind::InvalidData, problem);
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MOST {
        return Err(invalid(format!("a header of {length} bytes")));
    }
    let mut text = Vec::new();
    from.take(length).read_to_end(&mut text)?;
    if (text.len() as u64) < length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let tensors = serde_json::from_slice(&text).map_err(|e| invalid(format!("a header: {e}")))?;
    Ok(Header {
        len: size_of::<u64>() + text.len(),
        tensors,
    })
}
