//! The first lanes of a vector, read and written one by one where there is no instruction for it.

#![allow(dead_code, reason = "where there are no vectors")]

/// The first `lanes` numbers at `p`; the others are zero.
///
/// # Safety
///
/// So many are readable.
#[inline(always)]
pub(super) unsafe fn read_lanes<const N: usize>(p: *const f32, lanes: usize) -> [f32; N] {
    let mut v = [0.0; N];
    for (lane, x) in v.iter_mut().enumerate() {
        if lane < lanes {
            // SAFETY: the caller says that `lanes` numbers are readable.
            *x = unsafe { p.add(lane).read() };
        }
    }
    v
}

/// Writes the first `lanes` numbers to `p`.
///
/// # Safety
///
/// So many are writable.
#[inline(always)]
pub(super) unsafe fn write_lanes<const N: usize>(p: *mut f32, v: [f32; N], lanes: usize) {
    for (lane, x) in v.into_iter().enumerate() {
        if lane < lanes {
            // SAFETY: the caller says that `lanes` numbers are writable.
            unsafe { p.add(lane).write(x) }
        }
    }
}
