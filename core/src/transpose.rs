//! Rows into columns.

#![allow(unsafe_code)]

use crate::simd::{Kernel, Simd};

/// Rows and columns of a block: both its sides stay in the first cache.
const BLOCK: usize = 16;

/// `to` [columns, rows] = `from` [rows, columns] transposed.
#[inline(always)]
pub(crate) fn transpose<S: Simd>(s: S, to: &mut [f32], from: &[f32], columns: usize) {
    if columns == 0 || to.len() != from.len() || !from.len().is_multiple_of(columns) {
        debug_assert!(false, "a matrix and its transpose have the same length");
        return;
    }
    let rows = from.len() / columns;
    s.outline(Transpose {
        to: to.as_mut_ptr(),
        from: from.as_ptr(),
        rows,
        columns,
    });
}

/// Pointers that cover rows × columns.
struct Transpose {
    to: *mut f32,
    from: *const f32,
    rows: usize,
    columns: usize,
}

impl Kernel for Transpose {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self {
            to,
            from,
            rows,
            columns,
        } = self;
        for row_block in (0..rows).step_by(BLOCK) {
            for column_block in (0..columns).step_by(BLOCK) {
                for column in column_block..columns.min(column_block + BLOCK) {
                    for row in row_block..rows.min(row_block + BLOCK) {
                        // SAFETY: row and column are below their numbers.
                        unsafe { *to.add(column * rows + row) = *from.add(row * columns + column) }
                    }
                }
            }
        }
    }
}
