//! Static memory that is lent out once.

#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// Room for a `T` in static memory.
pub struct Once<T> {
    taken: AtomicBool,
    room: UnsafeCell<T>,
}

// SAFETY: only who takes the room, of which there is one, gets at what is in it; and it may be
// sent to them.
unsafe impl<T: Send> Sync for Once<T> {}

impl<T> Once<T> {
    pub const fn new(value: T) -> Self {
        Self {
            taken: AtomicBool::new(false),
            room: UnsafeCell::new(value),
        }
    }

    /// The room, for the first who asks.
    pub fn take(&'static self) -> Option<&'static mut T> {
        if self.taken.swap(true, Ordering::AcqRel) {
            return None;
        }
        // SAFETY: this is reached once, so there is no other reference.
        Some(unsafe { &mut *self.room.get() })
    }
}
