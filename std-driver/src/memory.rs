//! Memory that may not be there: an error instead of the abort that collections end with.

use crate::Error;

/// An empty vector with room for `len` values.
pub(crate) fn reserve<T>(len: usize) -> Result<Vec<T>, Error> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| Error::Memory {
        bytes: len.saturating_mul(size_of::<T>()),
    })?;
    Ok(values)
}

/// A vector of `len` zeros.
pub(crate) fn zeros(len: usize) -> Result<Vec<f32>, Error> {
    let mut values = reserve(len)?;
    values.resize(len, 0.0);
    Ok(values)
}
