//! NumPy's `.npy` arrays of numbers: one header line, a Python dictionary, and then the numbers.
//!
//! The format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>. It is read
//! here because the crates for it bring a parser of Python's literals and twenty crates more.

use crate::{Error, memory};
use std::path::Path;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Shape and numbers of an array in C's order, of floating-point or whole numbers, as f32; `path` is
/// what errors name.
pub(crate) fn read(path: &Path, bytes: &[u8]) -> Result<(Vec<usize>, Vec<f32>), Error> {
    let refuse = |got: &str| {
        Error::file(
            path,
            format!("expected a .npy file of numbers in C's order, got {got}"),
        )
    };
    let (header, data) = split(bytes).ok_or_else(|| refuse("another file"))?;
    if value(header, "fortran_order").is_none_or(|order| !order.starts_with("False")) {
        return Err(refuse("Fortran's order"));
    }
    let shape = shape(header).ok_or_else(|| refuse("no shape"))?;
    let kind = value(header, "descr").unwrap_or_default();
    let kind = kind.trim_start_matches(['\'', '"', '|', '<', '=']);
    let numbers: fn(&[u8]) -> f32 = match kind.get(..2).unwrap_or_default() {
        "f4" => |b| f32::from_le_bytes(b.try_into().unwrap_or_default()),
        "f8" => |b| f64::from_le_bytes(b.try_into().unwrap_or_default()) as f32,
        "i4" => |b| i32::from_le_bytes(b.try_into().unwrap_or_default()) as f32,
        "i8" => |b| i64::from_le_bytes(b.try_into().unwrap_or_default()) as f32,
        "u1" => |b| b.first().copied().map_or(0.0, f32::from),
        _ => {
            return Err(refuse(&format!(
                "numbers of type {}",
                kind.get(..4).unwrap_or(kind)
            )));
        }
    };
    let size: usize = kind
        .get(1..2)
        .and_then(|size| size.parse().ok())
        .unwrap_or(1);
    let len = shape.iter().try_fold(size, |len, &n| len.checked_mul(n));
    if len != Some(data.len()) {
        return Err(refuse(&format!("{} bytes for shape {shape:?}", data.len())));
    }
    let mut values = memory::reserve(data.len() / size)?;
    values.extend(data.chunks_exact(size).map(numbers));
    match values.iter().position(|v| !v.is_finite()) {
        Some(at) => Err(Error::file(
            path,
            format!("expected finite numbers, got {} at {at}", values[at]),
        )),
        None => Ok((shape, values)),
    }
}

/// The header's text, and the numbers behind it.
fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (&[major, _minor], rest) = rest.split_first_chunk()?;
    let (len, rest) = match major {
        1 => {
            let (len, rest) = rest.split_first_chunk()?;
            (u16::from_le_bytes(*len) as usize, rest)
        }
        _ => {
            let (len, rest) = rest.split_first_chunk()?;
            (u32::from_le_bytes(*len) as usize, rest)
        }
    };
    let (header, data) = rest.split_at_checked(len)?;
    Some((std::str::from_utf8(header).ok()?, data))
}

/// What stands behind a key of the dictionary.
fn value<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{key}'"))?;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

/// The shape; none if it is no tuple of sizes.
fn shape(header: &str) -> Option<Vec<usize>> {
    let (sizes, _) = value(header, "shape")?.strip_prefix('(')?.split_once(')')?;
    let sizes = sizes
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty());
    sizes.map(|size| size.parse().ok()).collect()
}

/// An array of f32 as a file.
pub(crate) fn bytes(shape: &[usize], values: &[f32]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let mut header = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}",
        sizes.trim_end()
    );
    // The numbers begin at a multiple of 64.
    let begin = MAGIC.len() + 4;
    let len = (begin + header.len() + 1).next_multiple_of(64) - begin;
    header.extend(std::iter::repeat_n(' ', len - 1 - header.len()));
    header.push('\n');
    let mut bytes = [
        MAGIC,
        &[1, 0],
        &(len as u16).to_le_bytes(),
        header.as_bytes(),
    ]
    .concat();
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<(Vec<usize>, Vec<f32>), Error> {
        super::read("a.npy".as_ref(), bytes)
    }

    #[test]
    fn what_is_written_is_read() {
        for shape in [vec![6], vec![2, 3], vec![3, 1, 2]] {
            let values = [0.0, 1.5, -2.0, 1e-40, 3e38, 0.1];
            let bytes = bytes(&shape, &values);
            assert_eq!(bytes.len() % 64, 24);
            assert_eq!(read(&bytes).unwrap(), (shape, values.to_vec()));
            for end in 0..bytes.len() {
                assert!(read(&bytes[..end]).is_err());
            }
        }
    }

    #[test]
    fn other_types_and_orders() {
        let file = |descr: &str, order: &str, data: &[u8]| {
            let header =
                format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': (2,), }}\n");
            let len = (header.len() as u16).to_le_bytes();
            [MAGIC, &[1, 0], &len, header.as_bytes(), data].concat()
        };
        let doubles: Vec<u8> = [0.5f64, -3.0]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        assert_eq!(
            read(&file("<f8", "False", &doubles)).unwrap().1,
            [0.5, -3.0]
        );
        let bytes = [7, 255];
        assert_eq!(read(&file("|u1", "False", &bytes)).unwrap().1, [7.0, 255.0]);
        let refused = |descr, order| read(&file(descr, order, &doubles)).unwrap_err().to_string();
        assert!(refused(">f8", "False").ends_with("got numbers of type >f8'"));
        assert!(refused("<f8", "True").ends_with("got Fortran's order"));
        assert!(refused("<c8", "False").ends_with("got numbers of type c8',"));
    }
}
