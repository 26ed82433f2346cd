//! `.pt` and `.pth` since PyTorch 1.6, and TorchScript: a zip archive of a pickle and storages.

use super::machine;
use super::state::{Entry, StateDict};
use super::view::{Leaf, Reader};
use super::walk::{Named, Walk, walk};
use crate::import::{Options, Source};
use crate::{Error, memory};
use ::zip::ZipArchive;
use ::zip::read::{ArchiveOffset, Config};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Cursor, Read};

/// What all entries may be together once they are decompressed.
const MOST_BYTES: u64 = 1 << 30;
/// The pickle, in a folder of the model's name.
const PICKLE: &str = "data.pkl";

type Archive<'a> = ZipArchive<Cursor<&'a [u8]>>;

/// Whether it is such an archive.
pub(super) fn is(source: &Source) -> bool {
    open(source).is_some_and(|archive| folder(&archive).is_some())
}

fn open(source: &Source) -> Option<Archive<'_>> {
    // What merely ends in an archive is something else; and a search for the archive's start goes
    // wrong where there are ZIP64 records without need, which PyTorch always writes.
    let config = Config {
        archive_offset: ArchiveOffset::Known(0),
    };
    let bytes = source.bytes();
    let first = bytes.starts_with(b"PK\x03\x04");
    first
        .then(|| ZipArchive::with_config(config, Cursor::new(bytes)).ok())
        .flatten()
}

/// What stands before the names of all entries.
fn folder(archive: &Archive) -> Option<String> {
    let mut names = archive.file_names();
    names.find_map(|name| {
        let name = name.ok()?;
        let folder = name.strip_suffix(PICKLE)?;
        let outermost = folder.is_empty() || folder.find('/') == Some(folder.len() - 1);
        outermost.then(|| folder.to_owned())
    })
}

/// Its tensors.
pub(super) fn read(source: &Source, options: &Options) -> Result<StateDict, Error> {
    let archive = open(source).and_then(|archive| Some((folder(&archive)?, archive)));
    let (folder, archive) =
        archive.ok_or_else(|| source.problem("expected a zip archive with data.pkl, got none"))?;
    let length = source.bytes().len() as u64;
    let mut entries = Entries {
        source,
        archive,
        left: length
            .saturating_mul(64)
            .saturating_add(1 << 20)
            .min(MOST_BYTES),
    };
    let order = format!("{folder}byteorder");
    if entries.archive.index_for_name(&order).is_some() {
        let order = entries.read(&order)?;
        if order.trim_ascii() != b"little" {
            return Err(source.problem("expected little-endian numbers, got another byte order"));
        }
    }
    let pickle = entries.read(&format!("{folder}{PICKLE}"))?;
    let problem = |text: String| source.problem(format!("{folder}{PICKLE}: {text}"));
    let (pickle, _) = machine::read(&pickle).map_err(problem)?;
    let found = walk(&pickle, options).map_err(problem)?;
    let mut storages = HashMap::new();
    for key in keys(&found) {
        if !storages.contains_key(key) {
            let bytes = entries.read(&format!("{folder}data/{key}"))?;
            storages.insert(key, Cow::Owned(bytes));
        }
    }
    let script = format!("{folder}constants.pkl");
    let script = entries.archive.index_for_name(&script).is_some();
    if script && storages.is_empty() {
        return Err(source.problem(
            "expected a TorchScript module with parameters, got none: \
            a frozen one has constants instead, which are not read",
        ));
    }
    gather(source, found, &storages)
}

/// The storages that tensors need.
pub(super) fn keys<'a>(found: &Walk<'a>) -> Vec<&'a str> {
    let each = found.entries.iter();
    each.filter_map(|(_, named)| match named {
        Named::Leaf(Leaf::View(view)) => Some(view.key),
        _ => None,
    })
    .collect()
}

/// The tensors with their numbers.
pub(super) fn gather<'a>(
    source: &'a Source,
    found: Walk,
    storages: &'a HashMap<&'a str, Cow<'a, [u8]>>,
) -> Result<StateDict, Error> {
    let mut reader = Reader::new(source, storages);
    let mut entries = Vec::new();
    for (name, named) in found.entries {
        let entry = match named {
            Named::Leaf(Leaf::View(view)) => Entry::Tensor(reader.read(&name, &view)?),
            Named::Leaf(Leaf::Other(what)) => Entry::Other(what),
            Named::Module(class) => Entry::Module(class),
        };
        entries.push((name, entry));
    }
    let names = entries.iter().map(|(name, _)| name);
    let ordered = !names.is_sorted();
    let mut notes = found.notes;
    notes.extend(reader.conversions.notes());
    Ok(StateDict {
        entries,
        ordered,
        classes: found.classes,
        epsilons: found.epsilons,
        chosen: found.chosen,
        notes,
    })
}

/// The archive, and how much of it may still be decompressed.
struct Entries<'a> {
    source: &'a Source,
    archive: Archive<'a>,
    left: u64,
}

impl Entries<'_> {
    fn read(&mut self, name: &str) -> Result<Vec<u8>, Error> {
        let source = self.source;
        let problem = |text: String| source.problem(format!("entry {name}: {text}"));
        let entry = self.archive.by_name(name);
        let entry = entry.map_err(|e| problem(format!("cannot be read: {e}")))?;
        let more = entry.size() > self.left;
        let too_many = || problem("expected fewer bytes in all entries, got more".into());
        if more {
            return Err(too_many());
        }
        // The size is what the archive says: memory is taken as bytes come.
        let mut bytes = memory::reserve(entry.size().min(1 << 16) as usize)?;
        let read = entry.take(self.left + 1).read_to_end(&mut bytes);
        read.map_err(|e| problem(format!("cannot be read: {e}")))?;
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(too_many)?;
        Ok(bytes)
    }
}
