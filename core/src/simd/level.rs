//! The levels: which instruction set runs the kernels.

use core::fmt;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
use core::sync::atomic::{AtomicU8, Ordering};

/// The instruction set that the kernels run with, found once and kept.
///
/// [`Avx2`](Level::Avx2) and [`Avx512`](Level::Avx512) fuse multiply and add and
/// give the same bits as each other. [`Portable`](Level::Portable) never fuses
/// and gives the same bits on every machine.
///
/// ```
/// use fused_lstm::Level;
///
/// println!("running with {}", Level::current());
/// assert!(Level::available().any(|level| level == Level::current()));
/// assert!(Level::Portable.is_available());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// What the compiler was told the target has: SSE2, NEON, SIMD128, scalar.
    Portable,
    /// 256-bit vectors with fused multiply–add.
    Avx2,
    /// 512-bit vectors with fused multiply–add.
    Avx512,
}

/// The level in use, as its number plus one; zero is "not looked yet".
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
static CURRENT: AtomicU8 = AtomicU8::new(0);

impl Level {
    /// Every level, slowest first, whether this machine has it or not.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// The level that calls made now run with: the best one that the machine
    /// has.
    #[inline(always)]
    pub fn current() -> Self {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
        match CURRENT.load(Ordering::Relaxed) {
            0 => Self::look(),
            1 => Self::Portable,
            2 => Self::Avx2,
            _ => Self::Avx512,
        }
        #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(miri))))]
        Self::Portable
    }

    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
    #[cold]
    #[inline(never)]
    fn look() -> Self {
        let mut best = Self::Portable;
        for level in Self::available() {
            best = level;
        }
        CURRENT.store(best as u8 + 1, Ordering::Relaxed);
        best
    }

    /// Whether this machine can run the level.
    pub fn is_available(self) -> bool {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
        return match self {
            Self::Portable => true,
            Self::Avx2 => super::detect::avx2_and_fma(),
            Self::Avx512 => super::detect::avx2_and_fma() && super::detect::avx512f(),
        };
        #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(miri))))]
        matches!(self, Self::Portable)
    }

    /// The levels that this machine can run, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|level| level.is_available())
    }

    /// Whether multiply and add are fused: levels that agree in this agree bit
    /// for bit.
    pub const fn is_fused(self) -> bool {
        !matches!(self, Self::Portable)
    }

    /// The name that [`Display`](fmt::Display) prints: `portable`, `avx2`, `avx512`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
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
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
        if available {
            CURRENT.store(self as u8 + 1, Ordering::Relaxed);
        }
        available
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
