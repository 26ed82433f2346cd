//! The promise that a type is numbers and nothing else, so that it can be seen
//! as a flat slice; and buffers that begin at a cache line.

#![allow(unsafe_code)]

use bytemuck::Pod;
use core::ops::{Deref, DerefMut};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl<T: Sealed, const N: usize> Sealed for [T; N] {}
}
pub(crate) use sealed::Sealed;

/// A type that is made of `f32` only, without padding: every buffer of the
/// const-generic API.
///
/// Sealed: [`Pod`] says that there is no padding, and the types of this crate
/// that implement it hold nothing but `f32`.
///
/// ```
/// use fused_lstm::{Flat, Lstm};
///
/// let mut layer = Lstm::<1, 4>::ZERO;
/// assert_eq!(layer.as_flat().len(), size_of_val(&layer) / 4);
/// layer.as_flat_mut().fill(0.5);
/// assert_eq!(layer.bias[2], [0.5; 4]);
/// ```
pub trait Flat: Pod + Sealed {
    /// All zeros, usable in a `static`.
    const ZERO: Self;

    /// All zeros.
    #[inline(always)]
    fn zero() -> Self {
        Self::ZERO
    }

    /// The numbers in memory order.
    #[inline(always)]
    fn as_flat(&self) -> &[f32] {
        bytemuck::cast_slice(core::slice::from_ref(self))
    }

    /// The numbers in memory order, to write to.
    #[inline(always)]
    fn as_flat_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(core::slice::from_mut(self))
    }
}

/// Makes `repr(C)` structs [`Flat`] whose fields all are.
macro_rules! flat {
    ($([$($parameter:tt)*] $type:ty { $($field:ident),* };)*) => {$(
        impl<$($parameter)*> $crate::layout::flat::Sealed for $type {}
        #[allow(unsafe_code)]
        // SAFETY: `repr(C)`, and every field is numbers without padding: an array of
        // `f32`, or a type for which `Flat` says so. All have the alignment of `f32`
        // (or none, if empty), so that there is none between them either; and
        // every bit pattern is a value.
        unsafe impl<$($parameter)*> bytemuck::Zeroable for $type {}
        #[allow(unsafe_code)]
        // SAFETY: as above.
        unsafe impl<$($parameter)*> bytemuck::Pod for $type {}
        impl<$($parameter)*> Flat for $type {
            const ZERO: Self = Self { $($field: Flat::ZERO),* };
        }
    )*};
}

pub(crate) use flat;

/// Makes structs of one field [`Zeroable`](bytemuck::Zeroable) where that is.
macro_rules! zeroable {
    ([$($parameter:tt)*] $type:ty { $field:ty }) => {
        #[allow(unsafe_code)]
        // SAFETY: the one field may be zero; padding may be anything.
        unsafe impl<$($parameter)*> bytemuck::Zeroable for $type
        where
            $field: bytemuck::Zeroable,
        {
        }
    };
}

pub(crate) use zeroable;

impl Flat for f32 {
    const ZERO: Self = 0.0;
}

impl<T: Flat, const N: usize> Flat for [T; N] {
    const ZERO: Self = [T::ZERO; N];
}

/// A network, a state or any other buffer that begins at a cache line of 64 bytes.
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
