//! The levels: which instruction set runs the kernels.

use core::fmt;

/// The instruction set that the kernels run with, found once and kept.
///
/// [`Neon`](Level::Neon), [`Avx2`](Level::Avx2) and [`Avx512`](Level::Avx512) fuse multiply
/// and add and give the same bits as each other. [`Portable`](Level::Portable) never fuses
/// and gives the same bits on every machine. Only the bits of a NaN are the processor's.
///
/// ```
/// use fused_lstm::Level;
///
/// println!("running with {}", Level::current());
/// assert!(Level::available().any(|level| level == Level::current()));
/// assert!(Level::Portable.is_available());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// What the compiler was told the target has: SSE2, NEON, SIMD128, scalar.
    Portable,
    /// AArch64's 128-bit vectors with fused multiply–add.
    Neon,
    /// 256-bit vectors with fused multiply–add.
    Avx2,
    /// 512-bit vectors with fused multiply–add.
    Avx512,
}

impl Level {
    /// Every level, slowest first, whether this machine has it or not.
    pub const ALL: &'static [Self] = &[Self::Portable, Self::Neon, Self::Avx2, Self::Avx512];

    /// The level that calls made now run with: the best one that the machine
    /// has.
    #[inline(always)]
    pub fn current() -> Self {
        chosen::get().unwrap_or_else(Self::look)
    }

    #[cold]
    #[inline(never)]
    fn look() -> Self {
        let mut best = Self::Portable;
        for level in Self::available() {
            best = level;
        }
        chosen::set(best);
        best
    }

    /// Whether this machine can run the level.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            Self::Neon => cfg!(all(
                target_arch = "aarch64",
                target_feature = "neon",
                not(miri)
            )),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
            Self::Avx2 => super::x86::avx2_fma_f16c(),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
            Self::Avx512 => super::x86::avx2_fma_f16c() && super::x86::avx512f(),
            #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(miri))))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// The levels that this machine can run, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL
            .iter()
            .copied()
            .filter(|level| level.is_available())
    }

    /// Whether multiply and add are fused: levels that agree in this agree bit
    /// for bit.
    pub const fn is_fused(self) -> bool {
        !matches!(self, Self::Portable)
    }

    /// The name that [`Display`](fmt::Display) prints: `portable`, `neon`, `avx2`, `avx512`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Makes calls from now on, of every thread, run with this level, for tests
    /// and benches; `false` and no change if the machine does not have it.
    #[doc(hidden)]
    #[must_use]
    pub fn force(self) -> bool {
        let available = self.is_available();
        if available {
            chosen::set(self);
        }
        available
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The level in use, where there are several.
#[cfg(any(
    all(target_arch = "x86_64", target_feature = "sse2", not(miri)),
    all(target_arch = "aarch64", target_feature = "neon", not(miri))
))]
mod chosen {
    use super::Level;
    use core::sync::atomic::{AtomicU8, Ordering};

    /// Its number plus one; zero is "not looked yet".
    static CURRENT: AtomicU8 = AtomicU8::new(0);

    #[inline(always)]
    pub fn get() -> Option<Level> {
        match CURRENT.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Level::Portable),
            2 => Some(Level::Neon),
            3 => Some(Level::Avx2),
            _ => Some(Level::Avx512),
        }
    }

    pub fn set(level: Level) {
        CURRENT.store(level as u8 + 1, Ordering::Relaxed);
    }
}

/// Where there is one, nothing is to be remembered.
#[cfg(not(any(
    all(target_arch = "x86_64", target_feature = "sse2", not(miri)),
    all(target_arch = "aarch64", target_feature = "neon", not(miri))
)))]
mod chosen {
    use super::Level;

    #[inline(always)]
    pub fn get() -> Option<Level> {
        Some(Level::Portable)
    }

    pub fn set(_: Level) {}
}
