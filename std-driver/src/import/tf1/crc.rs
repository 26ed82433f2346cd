//! The checksum of checkpoints: CRC-32C, rotated and shifted as LevelDB does.

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut k = 0;
    while k < 256 {
        let mut sum = k as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = (sum >> 1) ^ (0x82f6_3b78 * (sum & 1));
            bit += 1;
        }
        table[k] = sum;
        k += 1;
    }
    table
};

/// That of all parts, one behind the other.
pub(super) fn masked(parts: &[&[u8]]) -> u32 {
    let mut sum = !0;
    for &byte in parts.iter().copied().flatten() {
        sum = (sum >> 8) ^ TABLE[((sum ^ u32::from(byte)) & 0xff) as usize];
    }
    (!sum).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    #[test]
    fn known_sum() {
        let plain = 0xe306_9283_u32;
        let masked = plain.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(super::masked(&[b"12345", b"6789"]), masked);
    }
}
