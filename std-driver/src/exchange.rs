//! Threads that do the same steps, each a part of them, and hand each other the results.

use crate::threads::cores;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Numbers of a cache line.
pub(crate) const LINE: usize = 16;

/// Where the threads leave their parts of the hidden state for each other.
#[derive(Debug)]
pub(crate) struct Exchange {
    parts: Vec<Left>,
    /// How often a thread looks again before it lets others have its core.
    spins: usize,
}

/// What one thread has left.
#[derive(Debug)]
struct Left {
    /// Steps that it has done, counted over all layers.
    done: Done,
    /// Its hidden state `[B, U]` after even and after odd steps: nobody is further ahead than
    /// that, because each waits for all others after every step.
    h: [Vec<Line>; 2],
}

/// On lines of their own, so that no thread takes away what another is writing.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Done(AtomicUsize);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU32; LINE]);

impl Exchange {
    /// For so many threads, and hidden states of up to so many numbers.
    pub(crate) fn new(threads: usize, len: usize) -> Self {
        let lines = || (0..len.div_ceil(LINE)).map(|_| Line::default()).collect();
        let left = || Left {
            done: Done::default(),
            h: [lines(), lines()],
        };
        Self {
            parts: (0..threads).map(|_| left()).collect(),
            // Some tens of microseconds; none if the other thread may wait for this core.
            spins: if threads > cores() { 0 } else { 1 << 13 },
        }
    }

    /// Leaves `part`'s hidden state after so many steps.
    pub(crate) fn leave(&self, part: usize, steps: usize, h: &[f32]) {
        let left = &self.parts[part];
        for (line, h) in left.h[steps % 2].iter().zip(h.chunks(LINE)) {
            for (place, h) in line.0.iter().zip(h) {
                place.store(h.to_bits(), Ordering::Relaxed);
            }
        }
        left.done.0.store(steps, Ordering::Release);
    }

    /// Waits until `part` has done so many steps, and takes its units' hidden state to those
    /// of all `hidden`.
    pub(crate) fn take(
        &self,
        part: usize,
        steps: usize,
        units: &Range<usize>,
        hidden: usize,
        to: &mut [f32],
    ) {
        let left = &self.parts[part];
        let mut spins = 0;
        while left.done.0.load(Ordering::Acquire) < steps {
            if spins < self.spins {
                spins += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        let mut places = left.h[steps % 2].iter().flat_map(|line| &line.0);
        for row in to.chunks_exact_mut(hidden) {
            for (to, place) in row[units.clone()].iter_mut().zip(&mut places) {
                *to = f32::from_bits(place.load(Ordering::Relaxed));
            }
        }
    }

    /// Whether every thread can have a core to itself.
    pub(crate) fn may_spin(&self) -> bool {
        self.spins > 0
    }

    /// Nobody has done a step yet; no thread may be at work.
    pub(crate) fn begin(&self) {
        for left in &self.parts {
            left.done.0.store(0, Ordering::Release);
        }
    }

    /// Nobody waits for `part` any more.
    pub(crate) fn end(&self, part: usize) {
        self.parts[part].done.0.store(usize::MAX, Ordering::Release);
    }
}

/// Ends a part when its thread does, in whichever way.
pub(crate) struct Ending<'a>(pub(crate) &'a Exchange, pub(crate) usize);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end(self.1);
    }
}
