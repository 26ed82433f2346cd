//! Half-precision numbers (IEEE 754 binary16) as their bits.

/// 2¹¹²: from the exponents of half precision to those of single precision.
pub(super) const SCALE: f32 = f32::from_bits((127 + 112) << 23);

/// The largest half.
pub(crate) const MAX: f32 = 65504.0;

/// The number of the bits, which are neither an infinity nor NaN.
#[inline(always)]
pub(super) fn widen(bits: u16) -> f32 {
    let bits = u32::from(bits);
    // A half below the smallest normal one becomes a subnormal number, which the product makes whole.
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * SCALE;
    f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
}

/// The nearest half, of two as near the even one; [`MAX`], with its sign, for what is beyond, and for NaN.
pub(super) fn narrow(number: f32) -> u16 {
    let sign = (number.to_bits() >> 16 & 0x8000) as u16;
    let magnitude = number.abs();
    let magnitude = if magnitude < MAX { magnitude } else { MAX };
    // The smallest normal half: below it the spacing is 2⁻²⁴, which a sum with 0.5 rounds to.
    let smallest = f32::from_bits((127 - 14) << 23);
    if magnitude < smallest {
        let units = (magnitude + 0.5).to_bits() - 0.5f32.to_bits();
        return sign | units as u16;
    }
    let bits = magnitude.to_bits();
    let rounded = bits + 0xfff + (bits >> 13 & 1);
    sign | ((rounded >> 13) - (112 << 10)) as u16
}

#[cfg(test)]
mod tests {
    use super::{MAX, narrow, widen};

    #[test]
    fn every_half_is_widened_exactly_and_comes_back() {
        for bits in 0..=u16::MAX {
            let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
            if exponent == 31 {
                continue;
            }
            let (unit, first) = if exponent == 0 {
                (1, 0.0)
            } else {
                (exponent, 1024.0)
            };
            let magnitude = (first + fraction) * 2.0f64.powi(unit - 25);
            let expected = if bits >> 15 == 1 {
                -magnitude
            } else {
                magnitude
            };
            assert_eq!(f64::from(widen(bits)), expected, "{bits:04x}");
            assert_eq!(narrow(widen(bits)), bits);
        }
    }

    #[test]
    fn what_lies_between_goes_to_the_nearest_and_then_the_even_one() {
        for bits in 0..0x7bff {
            let (low, high) = (widen(bits), widen(bits + 1));
            let middle = low + (high - low) / 2.0;
            let even = bits + (bits & 1);
            assert_eq!(narrow(middle), even, "{bits:04x}");
            assert_eq!(narrow(-middle), even | 0x8000);
            assert_eq!(narrow(middle.next_down()), bits);
            assert_eq!(narrow(middle.next_up()), bits + 1);
        }
        assert_eq!(widen(narrow(1e9)), MAX);
        assert_eq!(widen(narrow(-1e9)), -MAX);
    }
}
