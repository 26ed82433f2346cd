//! The caller's memory as slices: null, misaligned, too long and overlapping buffers are refused
//! before one is made.

use super::{ConstFloats, Floats, Labels, Mask, Status};

/// Where a buffer lies.
#[derive(Clone, Copy)]
pub(super) struct Span {
    start: usize,
    bytes: usize,
}

/// Where `len` values from `data` lie, if a slice can.
pub(super) fn span<T>(data: *const T, len: usize) -> Result<Span, Status> {
    if len == 0 {
        return Ok(Span { start: 0, bytes: 0 });
    }
    check(data)?;
    let start = data.addr();
    match len.checked_mul(size_of::<T>()) {
        Some(bytes) if isize::try_from(bytes).is_ok() && start.checked_add(bytes).is_some() => {
            Ok(Span { start, bytes })
        }
        _ => Err(Status::Length),
    }
}

/// Refuses what is no address of a `T`.
pub(super) fn check<T>(p: *const T) -> Result<(), Status> {
    if p.is_null() {
        Err(Status::Null)
    } else if !p.is_aligned() {
        Err(Status::Misaligned)
    } else {
        Ok(())
    }
}

macro_rules! read_as {
    ($($buffer:ty as $slice:ty;)*) => {$(
        impl $buffer {
            pub(super) fn span(self) -> Result<Span, Status> {
                span(self.data, self.len)
            }

            /// # Safety
            ///
            /// That of [`slice`].
            pub(super) unsafe fn slice<'a>(self) -> $slice {
                // SAFETY: the caller's.
                unsafe { slice(self.data, self.len) }
            }
        }
    )*};
}

read_as! {
    ConstFloats as &'a [f32];
    Labels as &'a [u32];
}

impl Mask {
    pub(super) fn span(self) -> Result<Span, Status> {
        span(self.data, self.len)
    }

    /// `None` if every row counts.
    ///
    /// # Safety
    ///
    /// That of [`slice`].
    pub(super) unsafe fn slice<'a>(self) -> Option<&'a [u8]> {
        // SAFETY: the caller's.
        (!self.data.is_null()).then(|| unsafe { slice(self.data, self.len) })
    }
}

impl Floats {
    pub(super) const NONE: Self = Self {
        data: core::ptr::null_mut(),
        len: 0,
    };
}

/// A single number.
pub(super) fn one(data: *mut f32) -> Floats {
    Floats { data, len: 1 }
}

/// The buffers that a call writes, once each of them is found apart from the others and from what
/// it reads.
///
/// # Safety
///
/// They are there, and nobody else reads or writes them meanwhile.
pub(super) unsafe fn writable<'a, const N: usize>(
    read: &[Span],
    buffers: [Floats; N],
) -> Result<[&'a mut [f32]; N], Status> {
    let mut spans = [Span { start: 0, bytes: 0 }; N];
    for (to, buffer) in spans.iter_mut().zip(buffers) {
        *to = span(buffer.data, buffer.len)?;
    }
    apart(read, &spans)?;
    Ok(buffers.map(|buffer| {
        if buffer.len == 0 {
            return &mut [][..];
        }
        // SAFETY: not null, aligned and not too long, as `span` has checked, and nothing else
        // refers to them, as `apart` has; the rest is the caller's promise.
        unsafe { core::slice::from_raw_parts_mut(buffer.data, buffer.len) }
    }))
}

impl Span {
    fn meets(self, other: Self) -> bool {
        // Neither sum overflows: `span` has looked.
        self.bytes != 0
            && other.bytes != 0
            && self.start < other.start + other.bytes
            && other.start < self.start + self.bytes
    }
}

/// Refuses a written buffer that shares memory with any other.
pub(super) fn apart(read: &[Span], mut written: &[Span]) -> Result<(), Status> {
    while let Some((one, others)) = written.split_first() {
        if others.iter().chain(read).any(|&other| one.meets(other)) {
            return Err(Status::Overlap);
        }
        written = others;
    }
    Ok(())
}

/// The values as a slice.
///
/// # Safety
///
/// [`span`] has accepted them; they are there, and nobody writes them meanwhile.
pub(super) unsafe fn slice<'a, T>(data: *const T, len: usize) -> &'a [T] {
    if len == 0 {
        return &[];
    }
    // SAFETY: not null, aligned and not too long, as `span` has checked; the rest is the caller's
    // promise.
    unsafe { core::slice::from_raw_parts(data, len) }
}
