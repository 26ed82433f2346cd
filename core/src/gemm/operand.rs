//! The operands of a product: matrices over flat buffers, walked in any direction.

/// Numbers in a buffer that are walked by row and column, forwards or backwards.
#[derive(Clone, Copy)]
pub(crate) struct MatRef<'a> {
    pub(super) data: &'a [f32],
    pub(super) start: usize,
    pub(super) row: isize,
    pub(super) column: isize,
}

impl<'a> MatRef<'a> {
    /// A dense row-major matrix with rows of `width`.
    #[inline(always)]
    pub(crate) fn rows(data: &'a [f32], width: usize) -> Self {
        Self {
            data,
            start: 0,
            row: width as isize,
            column: 1,
        }
    }

    /// The same, from its last row to its first.
    #[inline(always)]
    pub(crate) fn reversed_rows(data: &'a [f32], width: usize) -> Self {
        let start = data.len().saturating_sub(width);
        Self {
            data,
            start,
            row: -(width as isize),
            column: 1,
        }
    }

    /// Rows become columns.
    #[inline(always)]
    pub(crate) fn transposed(self) -> Self {
        Self {
            row: self.column,
            column: self.row,
            ..self
        }
    }

    /// The first number everywhere.
    #[inline(always)]
    pub(crate) fn constant(data: &'a [f32; 1]) -> Self {
        Self {
            data,
            start: 0,
            row: 0,
            column: 0,
        }
    }

    /// The same from row `row` on.
    #[inline(always)]
    pub(crate) fn from_row(self, row: usize) -> Self {
        Self {
            start: self.start.saturating_add_signed(row as isize * self.row),
            ..self
        }
    }

    /// The same from column `column` on.
    #[inline(always)]
    pub(crate) fn from_col(self, column: usize) -> Self {
        self.transposed().from_row(column).transposed()
    }

    /// The first place, and how far rows and columns are apart, if all of `rows` ×
    /// `columns` lie inside.
    #[inline(always)]
    pub(crate) fn in_bounds(
        self,
        rows: usize,
        columns: usize,
    ) -> Option<(*const f32, isize, isize)> {
        let inside = rows > 0 && columns > 0 && self.covers(rows, columns);
        debug_assert!(inside, "an operand is too short");
        let start = self.data.as_ptr().wrapping_add(self.start);
        inside.then_some((start, self.row, self.column))
    }

    /// Whether every place of `rows` × `columns` lies inside the buffer. Places
    /// are affine in both, so the four corners are enough.
    #[inline(always)]
    pub(super) fn covers(self, rows: usize, columns: usize) -> bool {
        let last = |n: usize, stride: isize| (n as isize - 1).checked_mul(stride);
        let (Some(down), Some(right)) = (last(rows, self.row), last(columns, self.column)) else {
            return false;
        };
        let inside = |offset: Option<isize>| {
            let place = offset.and_then(|offset| self.start.checked_add_signed(offset));
            place.is_some_and(|place| place < self.data.len())
        };
        inside(Some(0))
            && inside(Some(down))
            && inside(Some(right))
            && inside(down.checked_add(right))
    }
}

/// What the sums start from.
#[derive(Clone, Copy)]
pub(crate) enum Init<'a> {
    /// Zero: the output is overwritten.
    Zero,
    /// The same row for every row of the output, which is overwritten.
    Bias(&'a [f32]),
    /// What the output holds: it is accumulated to.
    Accumulate,
}

impl Init<'_> {
    /// The same from column `at` on.
    #[inline(always)]
    pub(crate) fn from_col(self, at: usize) -> Self {
        match self {
            Self::Bias(row) => Self::Bias(row.get(at..).unwrap_or(&[])),
            other => other,
        }
    }
}

/// Sizes: `c` is [m, n], `a` [m, k], `b` [k, n].
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}
