//! Static memory that is lent to one at a time.

#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A `T` in static memory.
pub struct Room<T> {
    lent: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is only reached in `lend`, by one caller at a time, and may be sent to it.
unsafe impl<T: Send> Sync for Room<T> {}

impl<T> Room<T> {
    pub const fn new(value: T) -> Self {
        Self {
            lent: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Does `work` with the value; `None` if it is being worked with already.
    ///
    /// The page has one thread and the module calls nobody back, so that does not happen; the
    /// flag is there so that nothing has to be taken on trust.
    pub fn lend<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.lent.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: whoever finds the flag set does not get here, and it is only cleared below,
        // after the last use of this reference: there is no other one.
        let result = work(unsafe { &mut *self.value.get() });
        self.lent.store(false, Ordering::Release);
        Some(result)
    }
}
