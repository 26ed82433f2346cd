//! Flat buffers cut into parts: in two, into parts of one width, at a cache line.
//!
//! Parts of one width come without the division that the slices' own ask for: it may panic as far
//! as the compiler knows, and takes room in flash. And division where it is needed, which does
//! not panic.

/// Numbers in a cache line.
pub(crate) const CACHE_LINE: usize = 16;

/// A flat buffer that can be cut in two: `&[f32]` or `&mut [f32]`, or words of stored weights.
pub trait Cut: Sized + sealed::Sealed {
    #[doc(hidden)]
    fn cut(self, at: usize) -> (Self, Self);
    #[doc(hidden)]
    fn length(&self) -> usize;
    #[doc(hidden)]
    fn start(&self) -> *const f32;
}

mod sealed {
    pub trait Sealed {}
    impl<T> Sealed for &[T] {}
    impl<T> Sealed for &mut [T] {}
}

impl<T> Cut for &[T] {
    #[inline(always)]
    fn cut(self, at: usize) -> (Self, Self) {
        self.split_at_checked(at).unwrap_or((self, &[]))
    }
    #[inline(always)]
    fn length(&self) -> usize {
        self.len()
    }
    #[inline(always)]
    fn start(&self) -> *const f32 {
        self.as_ptr().cast()
    }
}

impl<T> Cut for &mut [T] {
    #[inline(always)]
    fn cut(self, at: usize) -> (Self, Self) {
        if at <= self.len() {
            self.split_at_mut(at)
        } else {
            (self, &mut [])
        }
    }
    #[inline(always)]
    fn length(&self) -> usize {
        self.len()
    }
    #[inline(always)]
    fn start(&self) -> *const f32 {
        self.as_ptr().cast()
    }
}

/// The first `at` numbers of a buffer, which keeps the rest.
#[inline(always)]
pub(crate) fn take<S: Cut + Default>(buffer: &mut S, at: usize) -> S {
    let (first, rest) = core::mem::take(buffer).cut(at);
    *buffer = rest;
    first
}

/// The last `n` numbers of a buffer, which keeps the rest.
#[inline(always)]
pub(crate) fn take_last<S: Cut + Default>(buffer: &mut S, n: usize) -> S {
    let at = buffer.length().saturating_sub(n);
    let (rest, last) = core::mem::take(buffer).cut(at);
    *buffer = rest;
    last
}

/// The buffer from the first cache line that begins in it.
#[inline(always)]
pub(crate) fn align_to_cache_line<S: Cut>(buffer: S) -> S {
    let before = buffer.start().align_offset(4 * CACHE_LINE);
    let before = before.min(buffer.length()).min(CACHE_LINE - 1);
    buffer.cut(before).1
}

/// How many parts of that width `len` has; none if there is no width.
#[inline(always)]
pub(crate) fn div_or_zero(len: usize, width: usize) -> usize {
    len.checked_div(width).unwrap_or(0)
}

/// The width of parts of about one size, none of them above `most`; never zero.
#[inline(always)]
pub(crate) fn even_block_len(len: usize, most: usize) -> usize {
    let parts = len.div_ceil(most.max(1)).max(1);
    len.div_ceil(parts).max(1)
}

/// The buffer in parts, from the first to the last; the remainder is not given.
#[inline(always)]
pub(crate) fn exact_chunks<S: Cut + Default>(buffer: S, width: usize) -> ExactChunks<S> {
    ExactChunks { buffer, width }
}

/// The same from the last to the first.
#[inline(always)]
pub(crate) fn exact_chunks_rev<S: Cut + Default>(buffer: S, width: usize) -> ExactChunksRev<S> {
    ExactChunksRev { buffer, width }
}

pub(crate) struct ExactChunks<S> {
    buffer: S,
    width: usize,
}

pub(crate) struct ExactChunksRev<S> {
    buffer: S,
    width: usize,
}

impl<S: Cut + Default> Iterator for ExactChunks<S> {
    type Item = S;
    #[inline(always)]
    fn next(&mut self) -> Option<S> {
        let any = self.width > 0 && self.buffer.length() >= self.width;
        any.then(|| take(&mut self.buffer, self.width))
    }
}

impl<S: Cut + Default> Iterator for ExactChunksRev<S> {
    type Item = S;
    #[inline(always)]
    fn next(&mut self) -> Option<S> {
        let any = self.width > 0 && self.buffer.length() >= self.width;
        any.then(|| take_last(&mut self.buffer, self.width))
    }
}

/// `to` = `from`, up to the shorter one.
#[inline(always)]
pub(crate) fn copy_prefix(to: &mut [f32], from: &[f32]) {
    let len = to.len().min(from.len());
    if let (Some(to), Some(from)) = (to.get_mut(..len), from.get(..len)) {
        to.copy_from_slice(from);
    }
}
