//! Buffers that begin with a line of the caches.

use core::ops::{Deref, DerefMut};

/// A network, a state or any other buffer that begins with a line of the caches of 64 bytes.
///
/// Buffers may lie anywhere; the vectors of a wide level are then read and written across
/// lines, which costs a step of 32 units a fifth of its time. Not for targets without such
/// vectors, where it only takes room.
///
/// ```
/// use fused_lstm::{Aligned, Flat, Lstm, LstmState, Network};
///
/// static NET: Aligned<Lstm<1, 32>> = Aligned(Lstm::ZERO);
/// let mut state = Aligned(LstmState::<1, 32>::ZERO);
/// let mut y = Aligned([[[0.0; 32]]]);
/// NET.step(&[[[1.0]]], &mut state, &mut y);
/// assert_eq!(state.as_flat().as_ptr().align_offset(64), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(64))]
pub struct Aligned<T>(pub T);

// SAFETY: what is in it may be zero; padding may be anything.
#[allow(unsafe_code)]
unsafe impl<T: bytemuck::Zeroable> bytemuck::Zeroable for Aligned<T> {}

impl<T> Deref for Aligned<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Aligned<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
