//! Parts of one width, without the division that the slices' own ask for: it may panic as far
//! as the compiler knows, and takes room in flash.

use crate::layout::{Cut, take, take_last};

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
