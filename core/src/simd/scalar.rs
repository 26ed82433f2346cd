//! The level that every target has, where there are no vectors: one lane, and rather few instructions in
//! flash than many sums under way.
//!
//! The bits are those of the four lanes: nothing is fused, and no sum's order depends on the
//! lanes.

use super::{Kernel, Simd, does_not_join};

/// Proof of nothing: every target can run it.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

const SIGN: u32 = 1 << 31;

impl Simd for Portable {
    type V = f32;
    /// No mask: one lane is whole.
    type Mask = ();
    type Narrow = Self;
    const LANES: usize = 1;
    const BLOCKED: bool = false;
    const TILE_ROWS: usize = 1;
    const SMALL: bool = true;

    does_not_join!();

    #[inline(always)]
    fn narrow(self) -> Self {
        self
    }
    #[inline(never)]
    fn outline<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
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
    fn with_sign(self, magnitude: f32, sign: f32) -> f32 {
        f32::from_bits(magnitude.to_bits() | (sign.to_bits() & SIGN))
    }
    #[inline(always)]
    fn if_less(self, a: f32, b: f32, then: f32, otherwise: f32) -> f32 {
        if a < b { then } else { otherwise }
    }
    #[inline(always)]
    fn exp2_of_magic(self, t: f32) -> f32 {
        f32::from_bits((t.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
    }
}

// One copy of each for all its callers.

#[inline(never)]
fn exp(x: f32) -> f32 {
    crate::activation::exp(Portable, x)
}

#[inline(never)]
fn sigmoid(x: f32) -> f32 {
    crate::activation::sigmoid(Portable, x)
}

#[inline(never)]
fn tanh(x: f32) -> f32 {
    crate::activation::tanh(Portable, x)
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
