//! The level that every target has, where there are no vectors: one lane, and rather few instructions in
//! flash than many sums under way.
//!
//! The bits are those of the four lanes: nothing is fused, and no sum's order depends on the
//! lanes.

use super::math::{TANH_SMALL, tanh_large, tanh_small};
use super::{Arithmetic, Integers, IntegersOf, Simd, Tiling, Weight, WithIntegers, half};

/// Proof of nothing: every target can run it. `LONG`, where the layer may have sixteen units.
#[derive(Clone, Copy)]
pub(crate) struct Scalar<const LONG: bool> {}

/// The level, whatever the layer.
pub(crate) type Portable = Scalar<true>;

const SIGN: u32 = 1 << 31;

macro_rules! functions {
    ($($name:ident, $each:ident;)*) => {$(
        #[inline(always)]
        fn $each<const N: usize>(self, mut x: [f32; N]) -> [f32; N] {
            for x in &mut x {
                *x = $name(*x);
            }
            x
        }
    )*};
}

impl<const LONG: bool> Simd for Scalar<LONG> {
    /// No mask: one lane is whole.
    type Mask = ();
    type Half = Scalar<false>;
    const LANES: usize = 1;
    const TILING: Tiling = Tiling {
        gemm_rows: 1,
        gemm_tail_rows: 1,
        packed_rows: 0,
        gemv_max_rows: 0,
        step_rows: 1,
        step_tail_rows: 1,
        step_vectors: 1,
        step_unroll: 1,
        map_vectors: 1,
    };

    #[inline(always)]
    fn half(self) -> Scalar<false> {
        Scalar {}
    }
    #[inline(never)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        f()
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
    unsafe fn load_halves<const FULL: bool>(self, p: *const u16, (): ()) -> f32 {
        // SAFETY: the caller says that one is readable.
        half::widen(unsafe { p.read() })
    }
}

impl<const LONG: bool> Integers for Scalar<LONG> {
    type Floats = Self;
    type I = i32;

    #[inline(always)]
    fn floats(self) -> Self {
        self
    }
    #[inline(always)]
    fn splat_word(self, word: u32) -> i32 {
        word as i32
    }
    #[inline(always)]
    fn load_words(self, from: &[u32]) -> i32 {
        from.first().map_or(0, |word| *word as i32)
    }
    #[inline(always)]
    fn subtract(self, a: i32, b: i32) -> i32 {
        a.wrapping_sub(b)
    }
    #[inline(always)]
    fn add_low_bytes(self, sum: i32, word: i32, pair: i32) -> i32 {
        let low = i32::from(word as u8) * i32::from(pair as i16);
        let high = i32::from((word >> 16) as u8) * (pair >> 16);
        sum.wrapping_add(low).wrapping_add(high)
    }
    #[inline(always)]
    fn add_high_bytes(self, sum: i32, word: i32, pair: i32) -> i32 {
        let low = i32::from((word >> 8) as i8) * i32::from(pair as i16);
        let high = (word >> 24) * (pair >> 16);
        sum.wrapping_add(low).wrapping_add(high)
    }
    #[cfg(all(target_arch = "arm", fused_lstm_dsp))]
    #[inline(always)]
    fn add_rows<const STRIDE: usize>(
        self,
        rows: &[[u32; STRIDE]],
        at: usize,
        pairs: &[u32],
        sums: &mut [[i32; 4]; 2],
    ) {
        add_rows_dsp(rows, at, pairs, sums);
    }
    #[inline(always)]
    fn low_half(self, word: i32) -> i32 {
        (word as i16).into()
    }
    #[inline(always)]
    fn high_half(self, word: i32) -> i32 {
        word >> 16
    }
    #[inline(always)]
    fn top_half(self, word: i32) -> i32 {
        word << 16
    }
    #[inline(always)]
    fn to_float(self, word: i32) -> f32 {
        word as f32
    }
    #[inline(always)]
    fn as_float(self, word: i32) -> f32 {
        f32::from_bits(word as u32)
    }
}

/// [`Integers::add_rows`] with the DSP extension: two bytes are extended by one instruction, and two
/// products added by another.
#[cfg(all(target_arch = "arm", fused_lstm_dsp))]
#[inline(never)]
fn add_rows_dsp<const STRIDE: usize>(
    rows: &[[u32; STRIDE]],
    at: usize,
    pairs: &[u32],
    sums: &mut [[i32; 4]; 2],
) {
    let count = rows.len().min(pairs.len());
    if count == 0 || at >= STRIDE / 4 {
        return;
    }
    // SAFETY: reads word `at` of the four gates of `count` rows and as many pairs, and reads and writes
    // the sums. Whoever sets `fused_lstm_dsp` says that the processor has the instructions.
    unsafe {
        core::arch::asm!(
            "push {{r3, r6, r7}}",
            "ldm r3, {{r4-r11}}",
            "2:",
            "ldr r12, [r1], #4",
            "ldr lr, [r0, #{gate}]",
            "uxtb16 r3, lr",
            "smlad r5, r3, r12, r5",
            "sxtb16 r3, lr, ror #8",
            "smlad r9, r3, r12, r9",
            "ldr lr, [r0, #2*{gate}]",
            "uxtb16 r3, lr",
            "smlad r6, r3, r12, r6",
            "sxtb16 r3, lr, ror #8",
            "smlad r10, r3, r12, r10",
            "ldr lr, [r0, #3*{gate}]",
            "uxtb16 r3, lr",
            "smlad r7, r3, r12, r7",
            "sxtb16 r3, lr, ror #8",
            "smlad r11, r3, r12, r11",
            "ldr lr, [r0], #4*{gate}",
            "uxtb16 r3, lr",
            "smlad r4, r3, r12, r4",
            "sxtb16 r3, lr, ror #8",
            "smlad r8, r3, r12, r8",
            "subs r2, r2, #1",
            "bne 2b",
            "pop {{r3}}",
            "stm r3, {{r4-r11}}",
            "pop {{r6, r7}}",
            gate = const STRIDE,
            inout("r0") rows.as_ptr().cast::<u32>().add(at) => _,
            inout("r1") pairs.as_ptr() => _,
            inout("r2") count => _,
            inout("r3") sums.as_mut_ptr() => _,
            out("r4") _, out("r5") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            out("r12") _, out("lr") _,
        );
    }
}

impl<const LONG: bool> IntegersOf for Scalar<LONG> {
    #[inline(always)]
    fn with_integers(self, f: impl WithIntegers) {
        f.call(self);
    }
}

impl<const LONG: bool> Arithmetic for Scalar<LONG> {
    type V = f32;
    const FUSES: bool = false;

    functions! { exp, exp_each; sigmoid, sigmoid_each; tanh, tanh_each; }

    #[inline(always)]
    fn splat(self, x: f32) -> f32 {
        x
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

/// Units of a gate that are summed at a time where the processor loads several numbers by one
/// instruction.
pub(crate) const UNITS: usize = 16;

impl<const LONG: bool> Scalar<LONG> {
    /// Whether [`UNITS`] are, and [`accumulate_gates`](Self::accumulate_gates) takes so many weights.
    pub(crate) const fn has_units<W: Weight>() -> bool {
        LONG && W::IS_F32 && cfg!(all(target_arch = "arm", target_abi = "eabihf"))
    }

    /// `sums` of `N` units of the four gates, one, four or [`UNITS`], += x·W: `depth` numbers of `x`,
    /// and as many rows of `kernel`, `row` apart, with the gates `gate` apart.
    ///
    /// # Safety
    /// All these are readable.
    #[inline(never)]
    pub(crate) unsafe fn accumulate_gates<W: Weight, const N: usize>(
        self,
        depth: usize,
        mut x: *const f32,
        mut kernel: *const W,
        row: usize,
        gate: usize,
        sums: &mut [[f32; N]; 4],
    ) {
        #[cfg(all(target_arch = "arm", target_abi = "eabihf"))]
        if const { N == UNITS && W::IS_F32 } {
            let kernel = kernel.cast::<f32>();
            for (g, sums) in sums.iter_mut().enumerate() {
                if let Some(sums) = sums.first_chunk_mut() {
                    // SAFETY: the caller's.
                    unsafe { self.add_products(depth, x, kernel.wrapping_add(g * gate), row, sums) }
                }
            }
            return;
        }
        let [mut i, mut j, mut f, mut o] = *sums;
        // SAFETY: the caller's.
        unsafe {
            for _ in 0..depth {
                let by = *x;
                i = add_units(by, kernel, i);
                j = add_units(by, kernel.add(gate), j);
                f = add_units(by, kernel.add(2 * gate), f);
                o = add_units(by, kernel.add(3 * gate), o);
                x = x.wrapping_add(1);
                kernel = kernel.wrapping_add(row);
            }
        }
        *sums = [i, j, f, o];
    }

    /// `sums` += x·W, of [`UNITS`] of one gate.
    ///
    /// # Safety
    /// Those of [`accumulate_gates`](Self::accumulate_gates).
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
        // Several numbers are loaded by one instruction, which the compiler does not do here;
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
}

/// Written out, because indices that are no constants would keep the sums in memory where loops are
/// not unrolled.
///
/// # Safety
/// `N` numbers, one or four, are readable at `kernel`.
#[inline(always)]
unsafe fn add_units<W: Weight, const N: usize>(
    x: f32,
    kernel: *const W,
    mut sums: [f32; N],
) -> [f32; N] {
    // SAFETY: the caller's.
    unsafe {
        sums[0] += x * (*kernel).widen();
        if const { N == 4 } {
            sums[1 % N] += x * (*kernel.add(1)).widen();
            sums[2 % N] += x * (*kernel.add(2)).widen();
            sums[3 % N] += x * (*kernel.add(3)).widen();
        }
    }
    sums
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
