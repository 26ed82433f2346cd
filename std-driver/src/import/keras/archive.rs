//! `.keras`: a zip archive with the configuration and an HDF5 file in it.

use super::store::most_bytes;
use crate::Error;
use crate::import::Source;
use std::io::{Cursor, Read};
use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config};
use zip::result::ZipResult;

pub(super) const CONFIG: &str = "config.json";
pub(super) const METADATA: &str = "metadata.json";
pub(super) const WEIGHTS: &str = "model.weights.h5";

/// The files of an archive, and how many bytes more may be decompressed.
pub(super) struct Archive<'a> {
    source: &'a Source,
    zip: ZipArchive<Cursor<&'a [u8]>>,
    most: u64,
    left: u64,
}

/// Whether the bytes are an archive of Keras, also one that was cut off.
pub(super) fn is(bytes: &[u8]) -> bool {
    if !bytes.starts_with(b"PK\x03\x04") {
        return false;
    }
    let first = bytes.get(30..).unwrap_or(&[]);
    if [CONFIG, METADATA, WEIGHTS]
        .iter()
        .any(|name| first.starts_with(name.as_bytes()))
    {
        return true;
    }
    match open(bytes) {
        Ok(zip) => [CONFIG, WEIGHTS]
            .iter()
            .all(|name| zip.index_for_name(name).is_some()),
        Err(_) => false,
    }
}

impl<'a> Archive<'a> {
    pub(super) fn open(source: &'a Source) -> Result<Self, Error> {
        let bytes = source.bytes();
        let most = most_bytes(bytes.len());
        let zip =
            open(bytes).map_err(|e| source.problem(format!("expected a zip archive, got: {e}")))?;
        Ok(Self {
            source,
            zip,
            most,
            left: most,
        })
    }

    pub(super) fn read(&mut self, name: &str) -> Result<Vec<u8>, Error> {
        let source = self.source;
        let problem = |text: String| source.problem(format!("{name} in the archive: {text}"));
        let file = self.zip.by_name(name);
        let file = file.map_err(|e| problem(format!("cannot be read: {e}")))?;
        let mut bytes = Vec::new();
        let mut from = file.take(self.left.saturating_add(1));
        let mut some = [0; 1 << 13];
        loop {
            let len = from
                .read(&mut some)
                .map_err(|e| problem(format!("cannot be read: {e}")))?;
            let some = some.get(..len).unwrap_or(&[]);
            if some.is_empty() {
                break;
            }
            bytes
                .try_reserve(len)
                .map_err(|_| Error::Memory { bytes: len })?;
            bytes.extend_from_slice(some);
        }
        match self.left.checked_sub(bytes.len() as u64) {
            Some(left) => self.left = left,
            None => {
                let most = self.most;
                return Err(problem(format!(
                    "expected at most {most} bytes in all when decompressed, got more"
                )));
            }
        }
        Ok(bytes)
    }
}

/// An archive that begins where the file does: looking for another place is wrong about those of
/// 64 bits.
fn open(bytes: &[u8]) -> ZipResult<ZipArchive<Cursor<&[u8]>>> {
    let config = Config {
        archive_offset: ArchiveOffset::Known(0),
    };
    ZipArchive::with_config(config, Cursor::new(bytes))
}
