//! Parts of one width, without the division that the slices' own ask for: it may panic as far
//! as the compiler knows, and takes room in flash. And division where it is needed, which does
//! not panic.

use crate::layout::{Cut, take, take_last};

/// How many parts of that width `len` has; none if there is no width.
#[inline(always)]
pub(crate) fn parts(len: usize, width: usize) -> usize {
    len.checked_div(width).unwrap_or(0)
}

/// The width of parts of about one size, none of them above `most`; never zero.
#[inline(always)]
pub(crate) fn balanced(len: usize, most: usize) -> usize {
    let parts = len.div_ceil(most.max(1)).max(1);
    len.div_ceil(parts).max(1)
}

/// The buffer in parts, from the first to the last; what is left over is not given.
#[inline(always)]
pub(crate) fn chunks<S: Cut + Default>(buffer: S, width: usize) -> Chunks<S> {
    Chunks { buffer, width }
}

/// The same from the last to the first.
#[inline(always)]
pub(crate) fn chunks_backwards<S: Cut + Default>(buffer: S, width: usize) -> ChunksBackwards<S> {
    ChunksBackwards { buffer, width }
}

pub(crate) struct Chunks<S> {
    buffer: S,
    width: usize,
}

pub(crate) struct ChunksBackwards<S> {
    buffer: S,
    width: usize,
}

impl<S: Cut + Default> Iterator for Chunks<S> {
    type Item = S;
    #[inline(always)]
    fn next(&mut self) -> Option<S> {
        let any = self.width > 0 && self.buffer.length() >= self.width;
        any.then(|| take(&mut self.buffer, self.width))
    }
}

impl<S: Cut + Default> Iterator for ChunksBackwards<S> {
    type Item = S;
    #[inline(always)]
    fn next(&mut self) -> Option<S> {
        let any = self.width > 0 && self.buffer.length() >= self.width;
        any.then(|| take_last(&mut self.buffer, self.width))
    }
}
