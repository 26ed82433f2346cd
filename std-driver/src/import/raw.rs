//! Numbers in the bytes of a file, of whatever type, as f32.

use crate::{Error, memory};

/// A type of little-endian numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raw {
    F32,
    F64,
    F16,
    Bf16,
    U8,
    I8,
    I16,
    I32,
    I64,
}

impl Raw {
    /// Bytes of a number.
    pub(crate) const fn width(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// As texts name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
        }
    }

    /// The numbers, rounded where f32 has not as many digits.
    pub(crate) fn read(self, bytes: &[u8]) -> Result<Vec<f32>, Error> {
        let mut values = memory::reserve(bytes.len() / self.width())?;
        match self {
            Self::F32 => each(bytes, &mut values, f32::from_le_bytes),
            Self::F64 => each(bytes, &mut values, |b| f64::from_le_bytes(b) as f32),
            Self::F16 => each(bytes, &mut values, |b| half(u16::from_le_bytes(b))),
            Self::Bf16 => each(bytes, &mut values, |b| {
                f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)
            }),
            Self::U8 => each(bytes, &mut values, |[b]| b.into()),
            Self::I8 => each(bytes, &mut values, |b| i8::from_le_bytes(b).into()),
            Self::I16 => each(bytes, &mut values, |b| i16::from_le_bytes(b).into()),
            Self::I32 => each(bytes, &mut values, |b| i32::from_le_bytes(b) as f32),
            Self::I64 => each(bytes, &mut values, |b| i64::from_le_bytes(b) as f32),
        }
        Ok(values)
    }
}

fn each<const N: usize>(bytes: &[u8], to: &mut Vec<f32>, f: impl Fn([u8; N]) -> f32) {
    to.extend(bytes.as_chunks().0.iter().map(|&bytes| f(bytes)));
}

fn half(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let rest = u32::from(bits & 0x7fff);
    let magnitude = if rest >= 0x7c00 {
        f32::from_bits(0x7f80_0000 | (rest & 0x3ff) << 13)
    } else {
        // The exponent's bias is 112 higher; the product also makes normal numbers of others.
        f32::from_bits(rest << 13) * f32::from_bits((127 + 112) << 23)
    };
    f32::from_bits(magnitude.to_bits() | sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type() {
        let of = |kind: Raw, bytes: &[u8]| kind.read(bytes).unwrap();
        assert_eq!(of(Raw::F32, &1.5f32.to_le_bytes()), [1.5]);
        assert_eq!(of(Raw::F64, &(-0.1f64).to_le_bytes()), [-0.1]);
        assert_eq!(of(Raw::Bf16, &[0xc0, 0x3f, 0, 0xc0]), [1.5, -2.0]);
        assert_eq!(of(Raw::U8, &[255]), [255.0]);
        assert_eq!(of(Raw::I8, &[255]), [-1.0]);
        assert_eq!(of(Raw::I16, &[0, 0x80]), [-32768.0]);
        assert_eq!(of(Raw::I32, &7i32.to_le_bytes()), [7.0]);
        assert_eq!(of(Raw::I64, &(-7i64).to_le_bytes()), [-7.0]);
        let halves = [0x3c00u16, 0xc500, 0x0001, 0x03ff, 0x7bff, 0x8000, 0x7c00];
        let bytes: Vec<u8> = halves.iter().flat_map(|h| h.to_le_bytes()).collect();
        let small = 2f32.powi(-24);
        let expected = [
            1.0,
            -5.0,
            small,
            1023.0 * small,
            65504.0,
            -0.0,
            f32::INFINITY,
        ];
        assert_eq!(of(Raw::F16, &bytes), expected);
        assert!(half(0x7e00).is_nan());
    }
}
