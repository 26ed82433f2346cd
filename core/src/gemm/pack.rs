//! Operands copied to where the micro-kernel reads them in order: micro-panels of `a` and of `b`, and
//! transposition.

#![allow(unsafe_code)]

use super::operand::MatRef;
use super::tile::RowTiles;
use crate::layout::Cut;
use crate::layout::split::{CACHE_LINE, exact_chunks};
use crate::simd::Simd;
use wide::f32x4;

/// Rows that are packed at a time where `b` is transposed: its cache lines.
const PACK_ROWS: usize = CACHE_LINE;

/// [`Gemm::pack`](super::Gemm::pack): panels `[N / NR][K, NR]`, the last one narrower. So the copy is
/// as large as `b`.
#[inline(always)]
pub(super) fn run<S: Simd>(_: S, b: MatRef, panels: &mut [f32]) {
    let (k, n) = (b.row_count(), b.col_count());
    if k.checked_mul(n) != Some(panels.len()) {
        debug_assert!(false, "the panels are as large as the operand");
        return;
    }
    let nr = 2 * S::LANES;
    // A few rows at a time, so that both are read and written along memory.
    for k_at in (0..k).step_by(PACK_ROWS) {
        for at in (0..n).step_by(nr) {
            let b = b.rows(k_at, PACK_ROWS).columns(at, nr);
            let width = b.col_count();
            let (_, to) = (&mut *panels).cut(at * k + k_at * width);
            let (to, _) = to.cut(b.row_count() * width);
            copy_rows::<S>(b, to, width);
        }
    }
}

/// One panel of `b`, whose rows are then two vectors apart.
#[inline(always)]
pub(super) fn pack_b_panel<'a, S: Simd>(s: S, b: MatRef, to: &'a mut [f32]) -> MatRef<'a> {
    let (rows, width) = (b.row_count(), b.col_count());
    let nr = 2 * S::LANES;
    let (to, _) = to.cut(rows * nr);
    if to.len() == rows * nr && width <= nr && b.is_along_rows() {
        let (low, high) = (width.min(S::LANES), width.saturating_sub(S::LANES));
        let (low, high) = (s.mask(low), s.mask(high));
        for k in 0..rows {
            let from = b.start().wrapping_offset(k as isize * b.row_stride());
            let to = to.as_mut_ptr().wrapping_add(k * nr);
            // SAFETY: rows of `b` have `width` numbers side by side, of which the masks leave as
            // many, and there are two vectors for each of the rows in `to`.
            unsafe {
                if width == nr {
                    let v = (s.load(from), s.load(from.add(S::LANES)));
                    s.store(to, v.0);
                    s.store(to.add(S::LANES), v.1);
                } else {
                    s.store(to, s.load_masked(from, low));
                    let right = s.load_masked(from.wrapping_add(S::LANES), high);
                    s.store(to.add(S::LANES), right);
                }
            }
        }
    }
    MatRef::new(to, rows, nr).columns(0, width)
}

/// `to` [rows, width] = `b`.
#[inline(always)]
fn copy_rows<S: Simd>(b: MatRef, to: &mut [f32], width: usize) {
    let rows = b.row_count();
    if b.is_along_rows() {
        for (k, to) in exact_chunks(to, width).take(rows).enumerate() {
            let from = b.start().wrapping_offset(k as isize * b.row_stride());
            // SAFETY: rows of `b` have as many numbers, side by side.
            let from = unsafe { core::slice::from_raw_parts(from, b.col_count()) };
            // Two vectors of every level, whose length is known, or the last panel.
            match (to.len(), from.len()) {
                (32, 32) if S::LANES == 16 => copy_chunk::<32>(to, from),
                (16, 16) if S::LANES == 8 => copy_chunk::<16>(to, from),
                (8, 8) if S::LANES == 4 => copy_chunk::<8>(to, from),
                (to_len, from_len) if to_len == from_len => to.copy_from_slice(from),
                _ => {}
            }
        }
    } else if b.transposed().is_along_rows() && to.len() == rows * width {
        let from = b.transposed();
        // SAFETY: `to` has rows × width numbers, and `from` width × rows.
        unsafe {
            let from = (from.start(), from.row_stride());
            transpose_part((to.as_mut_ptr(), width), from, width, rows);
        }
    }
}

#[inline(always)]
fn copy_chunk<const N: usize>(to: &mut [f32], from: &[f32]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk::<N>()) {
        *to = *from;
    }
}

/// `a` in micro-panels: tiles of MR rows, each along its columns.
#[inline(always)]
pub(super) fn pack_a<S: Simd>(a: MatRef, to: &mut [f32]) {
    let (rows, depth) = (a.row_count(), a.col_count());
    let along_columns = a.transposed().is_along_rows();
    let fits = rows.checked_mul(depth) == Some(to.len());
    debug_assert!(fits);
    if !fits {
        return;
    }
    let tiles = RowTiles::new(rows, S::TILING.packed_rows);
    tiles.for_each(|row, size| {
        let from = a.rows(row, size);
        let (stride, from) = ((from.row_stride(), from.col_stride()), from.start());
        let to = to.as_mut_ptr().wrapping_add(row * depth);
        // SAFETY: the tiles cover rows and depth once each, in `a` and in `to`.
        unsafe {
            if a.is_along_rows() {
                transpose_part((to, size), (from, stride.0), size, depth);
                return;
            }
            for k in 0..depth {
                let (from, to) = (from.offset(k as isize * stride.1), to.add(k * size));
                if along_columns && size >= 4 {
                    for i in (0..size).step_by(4) {
                        // The last ones once more together with those before them.
                        let i = i.min(size - 4);
                        core::ptr::copy_nonoverlapping(from.add(i), to.add(i), 4);
                    }
                } else {
                    for i in 0..size {
                        *to.add(i) = *from.offset(i as isize * stride.0);
                    }
                }
            }
        }
    });
}

/// [`Gemm::transpose`](super::Gemm::transpose).
#[inline(always)]
pub(super) fn transpose<S: Simd>(_: S, to: &mut [f32], from: MatRef) {
    let (rows, columns) = (from.row_count(), from.col_count());
    if !from.is_along_rows() || rows.checked_mul(columns) != Some(to.len()) {
        debug_assert!(false, "a matrix and its transpose have the same length");
        return;
    }
    let to = (to.as_mut_ptr(), rows);
    let from = (from.start(), from.row_stride());
    // SAFETY: both cover rows × columns.
    unsafe {
        // Where vectors are taken one at a time, code is to be small.
        if const { S::TILING.map_vectors == 1 } {
            by_number(to, from, rows, columns);
        } else {
            transpose_part(to, from, rows, columns);
        }
    }
}

/// `to` = `rows` × `columns` of `from` transposed, each with the distance of its rows.
///
/// # Safety
/// Both cover that.
#[inline(always)]
unsafe fn transpose_part(
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
