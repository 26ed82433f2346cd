//! The table of an `.index` file: LevelDB's sorted keys and values, in blocks whose keys share what
//! they begin with.

use super::crc;
use crate::Error;
use crate::import::Source;

const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
const FOOTER: usize = 48;
/// What stands behind a block: its compression and its checksum.
const TRAILER: usize = 5;
/// Longer than the name of any variable.
const LONGEST_KEY: usize = 1 << 10;

/// Whether a table ends here.
pub(super) fn is(bytes: &[u8]) -> bool {
    bytes.len() >= FOOTER && bytes.ends_with(&MAGIC.to_le_bytes())
}

/// A key and the place of its value.
pub(super) type Entry<'a> = (Vec<u8>, &'a [u8]);

/// All entries of the table, in the order of their keys.
pub(super) fn entries(source: &Source) -> Result<Vec<Entry<'_>>, Error> {
    read(source.bytes()).map_err(|problem| source.problem(format!("index: expected {problem}")))
}

fn read(bytes: &[u8]) -> Result<Vec<Entry<'_>>, String> {
    let Some(start) = bytes.len().checked_sub(FOOTER).filter(|_| is(bytes)) else {
        return Err("a table, got another end of the file".into());
    };
    let mut footer = &bytes[start..];
    let (_meta, _meta_len) = (varint(&mut footer)?, varint(&mut footer)?);
    let index = (varint(&mut footer)?, varint(&mut footer)?);
    // Keys that share a long beginning, or an index that has a block many times, could take many
    // times the memory of the file.
    let mut room = bytes.len().saturating_mul(64);
    let mut all: Vec<Entry> = Vec::new();
    let blocks = &bytes[..start];
    for (_, mut handle) in block(blocks, index, &mut room)? {
        let handle = (varint(&mut handle)?, varint(&mut handle)?);
        for entry in block(blocks, handle, &mut room)? {
            if all.last().is_some_and(|(last, _)| *last >= entry.0) {
                return Err("keys in ascending order, got others".into());
            }
            all.push(entry);
        }
    }
    Ok(all)
}

fn block<'a>(
    bytes: &'a [u8],
    (offset, len): (u64, u64),
    room: &mut usize,
) -> Result<Vec<Entry<'a>>, String> {
    let outside = || format!("a block of {len} bytes at {offset}, got the end of the file");
    let start = usize::try_from(offset).map_err(|_| outside())?;
    let len_ = usize::try_from(len).map_err(|_| outside())?;
    let whole = len_.checked_add(TRAILER).ok_or_else(outside)?;
    let end = start.checked_add(whole).ok_or_else(outside)?;
    let whole = bytes.get(start..end).ok_or_else(outside)?;
    let grown = "a table that grows to at most 64 times its size, got more";
    *room = room.checked_sub(whole.len()).ok_or(grown)?;
    let (checked, sum) = whole.split_at(len_ + 1);
    let (content, compression) = checked.split_at(len_);
    if compression != [0] {
        return Err("blocks without compression, got compressed ones".into());
    }
    if sum != crc::masked(&[checked]).to_le_bytes() {
        return Err(format!(
            "the checksum of the block at {offset}, got another"
        ));
    }
    // At the end are offsets of keys that are written in full, and how many these are.
    let (content, count) = content
        .split_last_chunk::<4>()
        .ok_or("a block of 4 bytes or more, got fewer")?;
    let restarts = (u32::from_le_bytes(*count) as usize).checked_mul(4);
    let content = restarts
        .and_then(|restarts| content.len().checked_sub(restarts))
        .and_then(|len| content.get(..len));
    let mut rest = content.ok_or("fewer restarts than the block has room for, got more")?;
    let mut entries: Vec<Entry> = Vec::new();
    while !rest.is_empty() {
        let shared = length(&mut rest)?;
        let own = length(&mut rest)?;
        let value = length(&mut rest)?;
        let last = entries.last().map_or(&[][..], |(key, _)| key);
        let begin = last
            .get(..shared)
            .ok_or("a key that shares no more than there is")?;
        let short = "an entry, got the end of a block";
        let (own, after) = rest.split_at_checked(own).ok_or(short)?;
        let (value, after) = after.split_at_checked(value).ok_or(short)?;
        rest = after;
        let len = begin.len() + own.len();
        if len > LONGEST_KEY {
            return Err(format!("names of at most {LONGEST_KEY} bytes, got {len}"));
        }
        *room = room.checked_sub(len + 1).ok_or(grown)?;
        entries.push(([begin, own].concat(), value));
    }
    Ok(entries)
}

fn length(bytes: &mut &[u8]) -> Result<usize, String> {
    let value = varint(bytes)?;
    usize::try_from(value).map_err(|_| format!("a length, got {value}"))
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or("a number, got the end")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a number of at most 64 bits, got more".into())
}

/// A table of one block, for tests.
#[cfg(test)]
pub(super) fn write(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
    use crate::import::wire::write::varint;
    let mut data = Vec::new();
    for (key, value) in entries {
        data.push(0);
        data.extend(varint(key.len() as u64));
        data.extend(varint(value.len() as u64));
        data.extend(*key);
        data.extend(*value);
    }
    data.extend([0, 0, 0, 0, 1, 0, 0, 0]);
    write_block(&data, 0)
}

#[cfg(test)]
fn write_block(data: &[u8], compression: u8) -> Vec<u8> {
    use crate::import::wire::write::varint;
    let sealed = |content: &[u8], compression: u8| {
        let mut block = [content, &[compression]].concat();
        let sum = crc::masked(&[&block]);
        block.extend(sum.to_le_bytes());
        block
    };
    let mut bytes = sealed(data, compression);
    let (data_len, index_at) = (varint(data.len() as u64), varint(bytes.len() as u64));
    let mut index = vec![0, 1, 1 + data_len.len() as u8, b'~', 0];
    index.extend(data_len);
    index.extend([0, 0, 0, 0, 1, 0, 0, 0]);
    bytes.extend(sealed(&index, 0));
    let mut footer = vec![0, 0];
    footer.extend(index_at);
    footer.extend(varint(index.len() as u64));
    footer.resize(40, 0);
    footer.extend(MAGIC.to_le_bytes());
    bytes.extend(footer);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(data: &[u8], compression: u8) -> Vec<u8> {
        super::write_block(data, compression)
    }

    const DATA: &[u8] = b"\0\x02\x01ab1\x01\x01\x02c23\0\0\0\0\x01\0\0\0";

    #[test]
    fn keys_that_share_what_they_begin_with() {
        let bytes = table(DATA, 0);
        assert!(is(&bytes));
        let entries = read(&bytes).unwrap();
        let expected = [(b"ab".to_vec(), &b"1"[..]), (b"ac".to_vec(), &b"23"[..])];
        assert_eq!(entries, expected);
    }

    #[test]
    fn refused() {
        let problem = |data: &[u8], compression| read(&table(data, compression)).unwrap_err();
        assert_eq!(
            problem(DATA, 1),
            "blocks without compression, got compressed ones"
        );
        let mut shares = DATA.to_vec();
        shares[6] = 3;
        assert_eq!(
            problem(&shares, 0),
            "a key that shares no more than there is"
        );
        let mut order = DATA.to_vec();
        order[9] = b'b';
        assert_eq!(problem(&order, 0), "keys in ascending order, got others");
        let mut bytes = table(DATA, 0);
        bytes[5] ^= 1;
        assert_eq!(
            read(&bytes).unwrap_err(),
            "the checksum of the block at 0, got another"
        );
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err());
            // The end is right, and what is before it is too short.
            let cut = [&bytes[..end], &bytes[bytes.len() - FOOTER..]].concat();
            if end < bytes.len() - FOOTER {
                assert!(read(&cut).is_err());
            }
        }
    }
}
