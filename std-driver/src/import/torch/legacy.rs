//! `.pt` and `.pth` before PyTorch 1.6: pickles one after the other, then the storages.

use super::machine;
use super::pickle::{Object, Pickle};
use super::state::StateDict;
use super::walk::walk;
use super::zip::gather;
use crate::Error;
use crate::import::{Options, Source};
use std::borrow::Cow;
use std::collections::HashMap;

/// What the first pickle is: 0x1950a86a20f9469cfc6c.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The version of what follows.
const VERSION: i64 = 1001;

/// Whether it is such a file.
pub(super) fn is(source: &Source) -> bool {
    behind_magic(source).is_some()
}

/// What stands behind the first pickle, if it is the one of such files, in any protocol.
fn behind_magic(source: &Source) -> Option<&[u8]> {
    // Protocol, frame, the number and the end are 23 bytes.
    const MOST: usize = 32;
    let bytes = source.bytes();
    let (first, _) = bytes.split_at(bytes.len().min(MOST));
    let protocol = first.first() == Some(&0x80);
    let (magic, rest) = protocol.then(|| machine::read(first).ok()).flatten()?;
    let is = *magic.get(magic.root) == Object::Bytes(&MAGIC);
    bytes.get(first.len() - rest.len()..).filter(|_| is)
}

/// Its tensors.
pub(super) fn read(source: &Source, options: &Options) -> Result<StateDict, Error> {
    let problem = |text: String| source.problem(text);
    let rest = behind_magic(source).unwrap_or(&[]);
    let (version, rest) = machine::read(rest).map_err(problem)?;
    match version.get(version.root) {
        Object::Int(VERSION) => {}
        Object::Int(got) => {
            return Err(source.problem(format!("expected version {VERSION}, got {got}")));
        }
        _ => return Err(source.problem(format!("expected version {VERSION}, got no number"))),
    }
    let (system, rest) = machine::read(rest).map_err(problem)?;
    if !is_little_endian(&system) {
        return Err(source.problem("expected little-endian numbers, got another byte order"));
    }
    let (pickle, rest) = machine::read(rest).map_err(problem)?;
    let found = walk(&pickle, options).map_err(problem)?;
    let (order, mut rest) = machine::read(rest).map_err(problem)?;
    let sizes = sizes(&pickle);
    let mut storages = HashMap::new();
    let ids = order.list(order.root);
    let ids = ids.ok_or_else(|| source.problem("expected a list of storages, got none"))?;
    for &id in ids {
        let key = order.text(id);
        let key = key.ok_or_else(|| source.problem("expected names of storages, got others"))?;
        let problem = |text: String| source.problem(format!("storage {key}: {text}"));
        let size = sizes.get(key).copied();
        let size = size.ok_or_else(|| problem("expected a tensor of it, got none".into()))?;
        let (count, behind) = rest
            .split_first_chunk()
            .ok_or_else(|| problem("expected its length, got no more bytes".into()))?;
        let count = u64::from_le_bytes(*count);
        let length = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(size));
        let taken = length.and_then(|length| behind.split_at_checked(length));
        let (bytes, behind) = taken.ok_or_else(|| {
            let got = behind.len();
            problem(format!(
                "expected {count} numbers of {size} bytes, got {got} bytes"
            ))
        })?;
        storages.insert(key, Cow::Borrowed(bytes));
        rest = behind;
    }
    gather(source, found, &storages)
}

fn is_little_endian(system: &Pickle) -> bool {
    let Object::Dict(items) = system.get(system.root) else {
        return true;
    };
    let named = items
        .iter()
        .find(|&&(key, _)| system.text(key) == Some("little_endian"));
    !named.is_some_and(|&(_, value)| *system.get(value) == Object::Bool(false))
}

/// The bytes of a number of each storage.
fn sizes<'a>(pickle: &Pickle<'a>) -> HashMap<&'a str, usize> {
    let each = pickle.objects.iter();
    each.filter_map(|object| {
        let Object::Persistent(id) = object else {
            return None;
        };
        let &[_, class, key, ..] = pickle.list(*id)? else {
            return None;
        };
        let (_, class) = pickle.global(class)?;
        let size = match class.strip_suffix("Storage")? {
            "ComplexDouble" => 16,
            "Double" | "Long" | "ComplexFloat" => 8,
            "Float" | "Int" | "QInt32" => 4,
            "Half" | "BFloat16" | "Short" => 2,
            "Char" | "Byte" | "Bool" | "QInt8" | "QUInt8" | "Untyped" => 1,
            _ => return None,
        };
        Some((pickle.text(key)?, size))
    })
    .collect()
}
