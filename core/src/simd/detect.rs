//! What the processor and the operating system support, without std: CPUID and
//! XGETBV (Intel SDM, volume 1, 14.3 and 15.2–15.4).

use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

/// Bits of XCR0: the operating system saves SSE and AVX registers.
const YMM_STATE: u64 = 0b110;
/// … and the opmask registers and all of the 512-bit ones.
const ZMM_STATE: u64 = 0b1110_0110;

const fn bit(word: u32, bit: u32) -> bool {
    word >> bit & 1 == 1
}

/// Leaf 7's EBX, or zero where there is no leaf 7.
#[allow(unused_unsafe, reason = "CPUID is a safe function in newer compilers")]
fn extended_features() -> u32 {
    // SAFETY: every x86-64 processor has CPUID.
    unsafe {
        if __cpuid(0).eax < 7 {
            0
        } else {
            __cpuid_count(7, 0).ebx
        }
    }
}

/// Leaf 1's ECX.
#[allow(unused_unsafe, reason = "CPUID is a safe function in newer compilers")]
fn features() -> u32 {
    // SAFETY: every x86-64 processor has CPUID with leaf 1.
    unsafe { __cpuid(1).ecx }
}

/// Which registers the operating system saves; none without OSXSAVE.
fn saved_registers() -> u64 {
    #[target_feature(enable = "xsave")]
    fn xcr0() -> u64 {
        // SAFETY: register 0 exists wherever XGETBV does.
        unsafe { _xgetbv(0) }
    }
    const OSXSAVE: u32 = 27;
    if !bit(features(), OSXSAVE) {
        return 0;
    }
    // SAFETY: OSXSAVE says that XGETBV may be used.
    unsafe { xcr0() }
}

/// AVX2 and FMA, saved by the operating system.
pub(super) fn avx2_and_fma() -> bool {
    let (fma, avx, avx2) = (12, 28, 5);
    bit(features(), fma)
        && bit(features(), avx)
        && bit(extended_features(), avx2)
        && saved_registers() & YMM_STATE == YMM_STATE
}

/// AVX-512F, saved by the operating system.
pub(super) fn avx512f() -> bool {
    let avx512f = 16;
    bit(extended_features(), avx512f) && saved_registers() & ZMM_STATE == ZMM_STATE
}

#[cfg(test)]
mod tests {
    extern crate std;

    #[test]
    fn agrees_with_std() {
        assert_eq!(
            super::avx2_and_fma(),
            std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")
        );
        assert_eq!(super::avx512f(), std::is_x86_feature_detected!("avx512f"));
    }
}
