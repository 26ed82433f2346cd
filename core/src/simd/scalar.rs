//! The level that every target has, where there are no vectors: one lane, and rather few instructions in
//! flash than many sums under way.
//!
//! The bits are those of the four lanes: nothing is fused, and no sum's order depends on the
//! lanes.

use super::math::{TANH_SMALL, tanh_large, tanh_small};
use super::{Simd, does_not_join};

/// Proof of nothing: every target can run it. `LONG`, where the layer may have sixteen units.
#[derive(Clone, Copy)]
pub(crate) struct Scalar<const LONG: bool> {}

/// The level, whatever the layer.
pub(crate) type Portable = Scalar<true>;

const SIGN: u32 = 1 << 31;

impl<const LONG: bool> Simd for Scalar<LONG> {
    type V = f32;
    /// No mask: one lane is whole.
    type Mask = ();
    type Half = Scalar<false>;
    const LANES: usize = 1;
    const BLOCKED: bool = false;
    const TILE_ROWS: usize = 1;
    const SMALL: bool = true;
    const LONG: bool = LONG && cfg!(all(target_arch = "arm", target_abi = "eabihf"));

    does_not_join!();

    #[inline(always)]
    fn half(self) -> Scalar<false> {
        Scalar {}
    }
    #[inline(never)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }
    #[inline(never)]
    #[cfg(all(target_arch = "arm", target_abi = "eabihf"))]
    unsafe fn add_products(
        self,
        inner: usize,
        x: *const f32,
        kernel: *const f32,
        row: usize,
        sums: &mut [f32; 16],
    ) {
        if inner == 0 {
            return;
        }
        // Unrolled numbers are loaded by one instruction, which the compiler does not do here;
        // VMLA rounds the product before it adds it.
        // SAFETY: reads what the caller says, and reads and writes the sums.
        unsafe {
            core::arch::asm!(
                "vldmia {sums}, {{s0-s15}}",
                "2:",
                "vldmia {x}!, {{s24}}",
                "vldmia {kernel}!, {{s16-s23}}",
                "vmla.f32 s0, s16, s24",
                "vmla.f32 s1, s17, s24",
                "vmla.f32 s2, s18, s24",
                "vmla.f32 s3, s19, s24",
                "vmla.f32 s4, s20, s24",
                "vmla.f32 s5, s21, s24",
                "vmla.f32 s6, s22, s24",
                "vmla.f32 s7, s23, s24",
                "vldmia {kernel}!, {{s16-s23}}",
                "vmla.f32 s8, s16, s24",
                "vmla.f32 s9, s17, s24",
                "vmla.f32 s10, s18, s24",
                "vmla.f32 s11, s19, s24",
                "vmla.f32 s12, s20, s24",
                "vmla.f32 s13, s21, s24",
                "vmla.f32 s14, s22, s24",
                "vmla.f32 s15, s23, s24",
                "add {kernel}, {skip}",
                "subs {left}, #1",
                "bne 2b",
                "vstmia {sums}, {{s0-s15}}",
                sums = in(reg) sums.as_mut_ptr(),
                x = inout(reg) x => _,
                kernel = inout(reg) kernel => _,
                left = inout(reg) inner => _,
                skip = in(reg) 4 * row.wrapping_sub(16),
                out("s0") _, out("s1") _, out("s2") _, out("s3") _, out("s4") _, out("s5") _,
                out("s6") _, out("s7") _, out("s8") _, out("s9") _, out("s10") _, out("s11") _,
                out("s12") _, out("s13") _, out("s14") _, out("s15") _, out("s16") _,
                out("s17") _, out("s18") _, out("s19") _, out("s20") _, out("s21") _,
                out("s22") _, out("s23") _, out("s24") _,
                options(nostack),
            );
        }
    }

    #[inline(always)]
    fn exp(self, x: f32) -> f32 {
        exp(x)
    }
    #[inline(always)]
    fn sigmoid(self, x: f32) -> f32 {
        sigmoid(x)
    }
    #[inline(always)]
    fn tanh(self, x: f32) -> f32 {
        tanh(x)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn mask(self, _: usize) {}
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> f32 {
        // SAFETY: the caller says that one number is readable.
        unsafe { p.read() }
    }
    #[inline(always)]
    unsafe fn load_masked(self, p: *const f32, (): ()) -> f32 {
        // SAFETY: the caller says that one number is readable.
        unsafe { p.read() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: f32) {
        // SAFETY: the caller says that one number is writable.
        unsafe { p.write(v) }
    }
    #[inline(always)]
    unsafe fn store_masked(self, p: *mut f32, v: f32, (): ()) {
        // SAFETY: the caller says that one number is writable.
        unsafe { p.write(v) }
    }
    #[inline(always)]
    fn add(self, a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32, b: f32) -> f32 {
        a / b
    }
    #[inline(always)]
    fn sqrt(self, a: f32) -> f32 {
        sqrt(a)
    }
    #[inline(always)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
    #[inline(always)]
    fn min(self, a: f32, b: f32) -> f32 {
        if a < b { a } else { b }
    }
    #[inline(always)]
    fn max(self, a: f32, b: f32) -> f32 {
        if a > b { a } else { b }
    }
    #[inline(always)]
    fn abs(self, a: f32) -> f32 {
        f32::from_bits(a.to_bits() & !SIGN)
    }
    #[inline(always)]
    fn copysign(self, magnitude: f32, sign: f32) -> f32 {
        f32::from_bits(magnitude.to_bits() | (sign.to_bits() & SIGN))
    }
    #[inline(always)]
    fn select_lt(self, a: f32, b: f32, then: f32, otherwise: f32) -> f32 {
        if a < b { then } else { otherwise }
    }
    #[inline(always)]
    fn exp2_int(self, t: f32) -> f32 {
        f32::from_bits((t.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
    }
}

// One copy of each for all its callers.

#[inline(never)]
fn exp(x: f32) -> f32 {
    super::math::exp(Portable {}, x)
}

#[inline(never)]
fn sigmoid(x: f32) -> f32 {
    super::math::sigmoid(Portable {}, x)
}

#[inline(never)]
fn tanh(x: f32) -> f32 {
    let (s, a) = (Portable {}, x.abs());
    // One of the two only; NaN is not less, and the large ones keep it.
    let magnitude = if a < TANH_SMALL {
        tanh_small(s, a)
    } else {
        tanh_large(s, a)
    };
    s.copysign(magnitude, x)
}

/// The unit's instruction where there is one: it rounds as `libm` does, in a hundredth of
/// the time.
#[inline(always)]
fn sqrt(a: f32) -> f32 {
    #[cfg(all(target_arch = "arm", target_abi = "eabihf"))]
    {
        let mut bits = a.to_bits();
        // SAFETY: the target has a floating-point unit, as its hard-float convention says; the
        // instructions touch these two registers only. Through a register of the core, because
        // the compiler does not lend the unit's to targets that have it by convention.
        unsafe {
            core::arch::asm!("vmov s0, {0}", "vsqrt.f32 s0, s0", "vmov {0}, s0",
                inout(reg) bits, out("s0") _, options(pure, nomem, nostack));
        }
        f32::from_bits(bits)
    }
    #[cfg(all(target_arch = "riscv32", target_feature = "f"))]
    {
        let root;
        // SAFETY: the target has the instruction, which touches its two registers only.
        unsafe {
            core::arch::asm!("fsqrt.s {}, {}", lateout(freg) root, in(freg) a,
                options(pure, nomem, nostack));
        }
        root
    }
    #[cfg(not(any(
        all(target_arch = "arm", target_abi = "eabihf"),
        all(target_arch = "riscv32", target_feature = "f")
    )))]
    libm::sqrtf(a)
}
