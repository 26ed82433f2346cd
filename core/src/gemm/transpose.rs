//! Rows into columns.

#![allow(unsafe_code)]

use crate::layout::split::CACHE_LINE;
use crate::simd::Simd;
use wide::f32x4;

/// `to` [columns, rows] = `from` [rows, columns] transposed.
#[inline(always)]
pub(crate) fn transpose<S: Simd>(s: S, to: &mut [f32], from: &[f32], columns: usize) {
    if columns == 0 || to.len() != from.len() || !from.len().is_multiple_of(columns) {
        debug_assert!(false, "a matrix and its transpose have the same length");
        return;
    }
    let rows = from.len() / columns;
    let (to, from) = (to.as_mut_ptr(), from.as_ptr());
    s.vectorize(
        #[inline(always)]
        move || {
            let (to, from) = ((to, rows), (from, columns as isize));
            // SAFETY: both cover rows × columns.
            unsafe {
                if const { S::SMALL } {
                    by_number(to, from, rows, columns);
                } else {
                    transpose_part(to, from, rows, columns);
                }
            }
        },
    );
}

/// `to` = `rows` × `columns` of `from` transposed, each with the distance of its rows.
///
/// # Safety
/// Both cover that.
#[inline(always)]
pub(crate) unsafe fn transpose_part(
    (to, to_row): (*mut f32, usize),
    (from, from_row): (*const f32, isize),
    rows: usize,
    columns: usize,
) {
    // SAFETY: rows and columns are below their numbers; four of either only where there are
    // as many.
    unsafe {
        if rows < 4 || columns < 4 {
            by_number((to, to_row), (from, from_row), rows, columns);
            return;
        }
        let place = |row: usize, column: usize| {
            let from = from.wrapping_offset(row as isize * from_row);
            (
                to.wrapping_add(column * to_row + row),
                from.wrapping_add(column),
            )
        };
        for line in (0..columns).step_by(CACHE_LINE) {
            for row in (0..rows).step_by(4) {
                for column in (line..columns.min(line + CACHE_LINE)).step_by(4) {
                    // The last ones once more together with those before them.
                    let (row, column) = (row.min(rows - 4), column.min(columns - 4));
                    let four = [0, 1, 2, 3].map(|n| {
                        let (_, from) = place(row + n, column);
                        f32x4::new(from.cast::<[f32; 4]>().read_unaligned())
                    });
                    for (n, four) in f32x4::transpose(four).into_iter().enumerate() {
                        let (to, _) = place(row, column + n);
                        to.cast::<[f32; 4]>().write_unaligned(four.to_array());
                    }
                }
            }
        }
    }
}

/// [`transpose_part`], one number after the other.
///
/// # Safety
/// Both cover that.
#[inline(always)]
unsafe fn by_number(
    (to, to_row): (*mut f32, usize),
    (from, from_row): (*const f32, isize),
    rows: usize,
    columns: usize,
) {
    for row in 0..rows {
        for column in 0..columns {
            // SAFETY: the caller's.
            unsafe {
                let from = from.offset(row as isize * from_row).add(column);
                *to.add(column * to_row + row) = *from;
            }
        }
    }
}
