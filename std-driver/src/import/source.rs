//! The file to import, read once and whole, and the errors that name it.

use crate::{Error, memory};
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// More than any recurrent network that a CPU runs: what is larger is refused, so that a file
/// cannot take all memory.
pub(crate) const MOST_BYTES: u64 = 1 << 31;

/// A file that was read.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Source {
    /// Reads the whole file.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let mut file = fs::File::open(path).map_err(Error::io(path, "read"))?;
        let metadata = file.metadata().map_err(Error::io(path, "read"))?;
        let problem = |got: u64| {
            Error::file(
                path,
                format!("expected at most {MOST_BYTES} bytes, got {got}"),
            )
        };
        if metadata.len() > MOST_BYTES {
            return Err(problem(metadata.len()));
        }
        let full = |_| Error::io(path, "read")(ErrorKind::OutOfMemory.into());
        let mut bytes = memory::reserve(metadata.len() as usize).map_err(full)?;
        (&mut file)
            .take(MOST_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io(path, "read"))?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(problem(bytes.len() as u64));
        }
        Ok(Self {
            path: path.to_owned(),
            bytes,
        })
    }

    /// The same of bytes; `path` is what errors name.
    pub(crate) fn from_bytes(path: &Path, bytes: Vec<u8>) -> Self {
        Self {
            path: path.to_owned(),
            bytes,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Another file of the same model: a shard, or the data beside an index. `name` comes from
    /// a file, and may not lead out of the folder.
    pub(crate) fn sibling(&self, name: &str) -> Result<Self, Error> {
        let inside = !name.is_empty()
            && Path::new(name)
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)));
        if !inside {
            return Err(self.problem(format!(
                "expected names of files in the same folder, got {name}"
            )));
        }
        let folder = self.path.parent().unwrap_or(Path::new(""));
        Self::open(&folder.join(name))
    }

    /// An error about what the file holds.
    pub(crate) fn problem(&self, text: impl Into<String>) -> Error {
        Error::file(&self.path, text)
    }
}
