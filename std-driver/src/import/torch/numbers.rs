//! Numbers of other types as f32.

use crate::{Error, memory};

/// A type of floating point that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Float {
    F64,
    F32,
    F16,
    Bf16,
}

impl Float {
    pub(super) const ALL: [Self; 4] = [Self::F64, Self::F32, Self::F16, Self::Bf16];

    /// As sentences have it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::F64 => "float64",
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// Bytes of a number.
    pub(super) const fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The number in as many little-endian bytes; what there is not counts as 0.
    pub(super) fn read(self, bytes: &[u8]) -> f32 {
        match self {
            Self::F64 => f64::from_le_bytes(first(bytes)) as f32,
            Self::F32 => f32::from_le_bytes(first(bytes)),
            Self::F16 => half(u16::from_le_bytes(first(bytes))),
            Self::Bf16 => f32::from_bits(u32::from(u16::from_le_bytes(first(bytes))) << 16),
        }
    }

    /// All numbers of a slice.
    pub(super) fn read_all(self, bytes: &[u8]) -> Result<Vec<f32>, Error> {
        let mut values = memory::reserve(bytes.len() / self.size())?;
        let each = bytes.chunks_exact(self.size());
        values.extend(each.map(|number| self.read(number)));
        Ok(values)
    }
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

/// IEEE 754's binary16: 5 bits of exponent, 10 of fraction.
fn half(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10 & 31);
    let fraction = u32::from(bits & 1023);
    let magnitude = match exponent {
        // A multiple of 2⁻²⁴, exact in f32.
        0 => fraction as f32 * f32::from_bits((127 - 24) << 23),
        31 => f32::from_bits(0x7f80_0000 | fraction << 13),
        _ => f32::from_bits((exponent + 127 - 15) << 23 | fraction << 13),
    };
    f32::from_bits(magnitude.to_bits() | sign)
}

/// How many tensors of each type were converted.
#[derive(Debug, Default)]
pub(super) struct Conversions([usize; Float::ALL.len()]);

impl Conversions {
    pub(super) fn count(&mut self, float: Float) {
        for (kind, count) in Float::ALL.into_iter().zip(&mut self.0) {
            *count += usize::from(kind == float);
        }
    }

    /// A sentence for each type that is not f32.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> + '_ {
        let each = Float::ALL.into_iter().zip(self.0);
        each.filter(|&(float, count)| count > 0 && float != Float::F32)
            .map(|(float, count)| {
                let tensors = if count == 1 {
                    "tensor was"
                } else {
                    "tensors were"
                };
                let name = float.name();
                format!("{count} {tensors} converted from {name} to float32.")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions() {
        let halves = [
            (0x0000, 0.0),
            (0x8000, -0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x83ff, -6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x7c00, f32::INFINITY),
        ];
        for (bits, value) in halves {
            assert_eq!(half(bits).to_bits(), f32::to_bits(value), "{bits:04x}");
        }
        assert!(half(0x7e00).is_nan());
        assert_eq!(Float::Bf16.read(&[0x80, 0xbf]), -1.0);
        assert_eq!(Float::F64.read(&0.1f64.to_le_bytes()), 0.1);
        assert_eq!(Float::F64.read(&1e300f64.to_le_bytes()), f32::INFINITY);
        assert_eq!(
            Float::F32.read_all(&[0, 0, 128, 63, 9]).unwrap(),
            [1.0],
            "what is no whole number is not one"
        );
    }
}
