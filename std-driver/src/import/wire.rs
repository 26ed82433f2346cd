//! Protocol buffers, as far as a reader of a few messages needs them: the fields of a message, in
//! place, without a copy and without a schema.
//!
//! A library with derives would take more seconds to compile than all of this, and would copy every
//! tensor; a file of empty messages would make it take a hundred times the memory of the file.

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// Integers, booleans and enumerations.
    Varint(u64),
    /// `fixed64`, `double`.
    Fixed64([u8; 8]),
    /// Texts, bytes, messages and packed numbers.
    Bytes(&'a [u8]),
    /// `fixed32`, `float`.
    Fixed32([u8; 4]),
}

/// The fields of a message, in the order of the file: a number and a value. After a problem there is
/// nothing more.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken(&'static str);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "expected a protocol buffer, got {}", self.0)
    }
}

type Result<T> = std::result::Result<T, Broken>;

const SHORT: Broken = Broken("one that ends too early");
const VARINT: Broken = Broken("a number of more than 64 bits");
const KIND: Broken = Broken("a field of another kind");

/// The fields of a message.
pub(crate) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = field(&mut self.rest);
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Value<'a>)> {
    let key = varint(rest)?;
    let number = u32::try_from(key >> 3).map_err(|_| Broken("a field's number above 2²⁹"))?;
    if number == 0 || number >= 1 << 29 {
        return Err(Broken("a field's number of 0 or above 2²⁹"));
    }
    let value = match key & 7 {
        0 => Value::Varint(varint(rest)?),
        1 => Value::Fixed64(fixed(rest)?),
        2 => {
            let len = usize::try_from(varint(rest)?).map_err(|_| SHORT)?;
            let (bytes, after) = rest.split_at_checked(len).ok_or(SHORT)?;
            *rest = after;
            Value::Bytes(bytes)
        }
        5 => Value::Fixed32(fixed(rest)?),
        _ => return Err(Broken("a field of an unknown kind")),
    };
    Ok((number, value))
}

fn varint(rest: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for k in 0..10 {
        let (&byte, after) = rest.split_first().ok_or(SHORT)?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if k == 9 && bits > 1 {
            return Err(VARINT);
        }
        value |= bits << (7 * k);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(VARINT)
}

fn fixed<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk().ok_or(SHORT)?;
    *rest = after;
    Ok(*bytes)
}

/// Room for more numbers: there are as many as a file says, and memory may be less.
fn reserve<T>(to: &mut Vec<T>, more: usize) -> Result<()> {
    let room = to.try_reserve(more);
    room.map_err(|_| Broken("more numbers than there is memory for"))
}

impl<'a> Value<'a> {
    /// An unsigned number, or the bits of a signed one.
    pub(crate) fn varint(self) -> Result<u64> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(KIND),
        }
    }

    /// `int64`, and `int32`, which is written with as many bits.
    pub(crate) fn int(self) -> Result<i64> {
        self.varint().map(u64::cast_signed)
    }

    pub(crate) fn float(self) -> Result<f32> {
        match self {
            Self::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            _ => Err(KIND),
        }
    }

    /// Bytes, or a message.
    pub(crate) fn bytes(self) -> Result<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(KIND),
        }
    }

    pub(crate) fn text(self) -> Result<&'a str> {
        str::from_utf8(self.bytes()?).map_err(|_| Broken("a text that is not UTF-8"))
    }

    /// Adds the integers of a repeated field, packed or not.
    pub(crate) fn ints(self, to: &mut Vec<i64>) -> Result<()> {
        match self {
            Self::Bytes(mut packed) => {
                // The last byte of each is below 0x80.
                reserve(to, packed.iter().filter(|&&byte| byte < 0x80).count())?;
                while !packed.is_empty() {
                    to.push(varint(&mut packed)?.cast_signed());
                }
            }
            value => to.push(value.int()?),
        }
        Ok(())
    }

    /// Adds the floats of a repeated field, packed or not.
    pub(crate) fn floats(self, to: &mut Vec<f32>) -> Result<()> {
        match self {
            Self::Bytes(packed) => {
                let (whole, rest) = packed.as_chunks();
                if !rest.is_empty() {
                    return Err(SHORT);
                }
                reserve(to, whole.len())?;
                to.extend(whole.iter().map(|&bytes| f32::from_le_bytes(bytes)));
            }
            value => to.push(value.float()?),
        }
        Ok(())
    }

    #[cfg(feature = "onnx")]
    /// Adds the doubles of a repeated field, packed or not.
    pub(crate) fn doubles(self, to: &mut Vec<f64>) -> Result<()> {
        match self {
            Self::Bytes(packed) => {
                let (whole, rest) = packed.as_chunks();
                if !rest.is_empty() {
                    return Err(SHORT);
                }
                reserve(to, whole.len())?;
                to.extend(whole.iter().map(|&bytes| f64::from_le_bytes(bytes)));
            }
            Self::Fixed64(bytes) => to.push(f64::from_le_bytes(bytes)),
            _ => return Err(KIND),
        }
        Ok(())
    }
}

/// Messages as they are written, for tests.
#[cfg(test)]
pub(crate) mod write {
    pub(crate) fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    pub(crate) fn int(number: u32, value: i64) -> Vec<u8> {
        let mut bytes = varint(u64::from(number) << 3);
        bytes.extend(varint(value.cast_unsigned()));
        bytes
    }

    pub(crate) fn float(number: u32, value: f32) -> Vec<u8> {
        let mut bytes = varint(u64::from(number) << 3 | 5);
        bytes.extend(value.to_le_bytes());
        bytes
    }

    pub(crate) fn bytes(number: u32, value: impl AsRef<[u8]>) -> Vec<u8> {
        let value = value.as_ref();
        let mut bytes = varint(u64::from(number) << 3 | 2);
        bytes.extend(varint(value.len() as u64));
        bytes.extend(value);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(message: &[u8]) -> Result<Vec<(u32, Value<'_>)>> {
        fields(message).collect()
    }

    #[test]
    fn every_kind() {
        let message = [
            write::int(1, 150),
            write::int(2, -1),
            write::bytes(300, "abc"),
            write::float(4, 1.5),
            vec![5 << 3 | 1, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f],
        ]
        .concat();
        let read = all(&message).unwrap();
        assert_eq!(message[..3], [8, 0x96, 1]);
        assert_eq!(read[0], (1, Value::Varint(150)));
        assert_eq!(read[1].1.int(), Ok(-1));
        assert_eq!(read[2].0, 300);
        assert_eq!(read[2].1.text(), Ok("abc"));
        assert_eq!(read[3].1.float(), Ok(1.5));
        let mut doubles = Vec::new();
        read[4].1.doubles(&mut doubles).unwrap();
        assert_eq!(doubles, [1.5]);
        assert_eq!(read[0].1.bytes(), Err(KIND));
        assert_eq!(read[2].1.int(), Err(KIND));
        // What is cut is seen, unless the cut is between two fields.
        let mut whole = 0;
        for end in 0..message.len() {
            match all(&message[..end]) {
                Ok(fields) => whole = fields.len(),
                Err(e) => assert_eq!(e, SHORT),
            }
        }
        assert_eq!(whole, 4);
    }

    #[test]
    fn packed_or_not() {
        let packed = [write::varint(3), write::varint(u64::MAX)].concat();
        let message = [write::int(1, 7), write::bytes(1, packed)].concat();
        let mut ints = Vec::new();
        for field in fields(&message) {
            field.unwrap().1.ints(&mut ints).unwrap();
        }
        assert_eq!(ints, [7, 3, -1]);
        let packed = [1f32.to_le_bytes(), 2f32.to_le_bytes()].concat();
        let mut floats = Vec::new();
        Value::Bytes(&packed).floats(&mut floats).unwrap();
        Value::Fixed32(3f32.to_le_bytes())
            .floats(&mut floats)
            .unwrap();
        assert_eq!(floats, [1.0, 2.0, 3.0]);
        let cut = Value::Bytes(&packed[..7]);
        assert_eq!(cut.floats(&mut floats), Err(SHORT));
        assert_eq!(Value::Bytes(&[0x80]).ints(&mut ints), Err(SHORT));
    }

    #[test]
    fn refused() {
        let of = |bytes: &[u8]| all(bytes).unwrap_err();
        assert_eq!(of(&[0]).0, "a field's number of 0 or above 2²⁹");
        assert_eq!(of(&[8 | 3]).0, "a field of an unknown kind");
        assert_eq!(of(&[8, 0x80]), SHORT);
        let long = [8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2];
        assert_eq!(of(&long), VARINT);
        let huge = [10, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0];
        assert_eq!(of(&huge), SHORT);
        let text = of(&[10, 9]).to_string();
        assert_eq!(
            text,
            "expected a protocol buffer, got one that ends too early"
        );
        // A problem is told once.
        assert_eq!(fields(&[0, 0, 0]).count(), 1);
    }
}
