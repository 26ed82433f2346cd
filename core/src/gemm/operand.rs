//! The operands of a product: matrices over flat buffers, in bounds by construction.

use core::marker::PhantomData;

/// What [`MatRef::ones`] is made of.
static ONE: f32 = 1.0;

/// `rows` × `cols` numbers of a buffer, `row_stride` and `col_stride` apart, all of them in it.
#[derive(Clone, Copy)]
pub struct MatRef<'a> {
    start: *const f32,
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
    _buffer: PhantomData<&'a [f32]>,
}

impl<'a> MatRef<'a> {
    /// A row-major matrix that is the whole buffer; without rows if that has another length.
    #[inline(always)]
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        let fits = rows.checked_mul(cols) == Some(data.len());
        debug_assert!(fits, "an operand has the wrong length");
        Self {
            start: data.as_ptr(),
            rows: if fits { rows } else { 0 },
            cols,
            row_stride: cols as isize,
            col_stride: 1,
            _buffer: PhantomData,
        }
    }

    /// Ones everywhere.
    #[inline(always)]
    pub(crate) fn ones(rows: usize, cols: usize) -> Self {
        Self {
            start: &raw const ONE,
            rows,
            cols,
            row_stride: 0,
            col_stride: 0,
            _buffer: PhantomData,
        }
    }

    /// The same rows from the last to the first.
    #[inline(always)]
    pub(crate) fn reversed_rows(self) -> Self {
        let last = self.rows.saturating_sub(1) as isize;
        Self {
            start: self.start.wrapping_offset(last * self.row_stride),
            row_stride: -self.row_stride,
            ..self
        }
    }

    /// Rows become columns.
    #[inline(always)]
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// At most `cols` columns, from column `col` on.
    #[inline(always)]
    pub(crate) fn columns(self, col: usize, cols: usize) -> Self {
        let col = col.min(self.cols);
        Self {
            start: self.start.wrapping_offset(col as isize * self.col_stride),
            cols: cols.min(self.cols - col),
            ..self
        }
    }

    /// At most `rows` rows, from row `row` on.
    #[inline(always)]
    pub(crate) fn rows(self, row: usize, rows: usize) -> Self {
        self.transposed().columns(row, rows).transposed()
    }

    #[inline(always)]
    pub(crate) fn row_count(self) -> usize {
        self.rows
    }
    #[inline(always)]
    pub(crate) fn col_count(self) -> usize {
        self.cols
    }
    #[inline(always)]
    pub(super) fn row_stride(self) -> isize {
        self.row_stride
    }
    #[inline(always)]
    pub(super) fn col_stride(self) -> isize {
        self.col_stride
    }
    /// Where the first number is.
    #[inline(always)]
    pub(super) fn start(self) -> *const f32 {
        self.start
    }
    /// Whether the numbers of a row are neighbours.
    #[inline(always)]
    pub(super) fn is_along_rows(self) -> bool {
        self.col_stride == 1
    }

    /// Of a whole matrix in panels, the one from column `col` on, of at most `cols` columns.
    #[inline(always)]
    pub(super) fn panel(self, col: usize, cols: usize) -> Self {
        let col = col.min(self.cols);
        let cols = cols.min(self.cols - col);
        let whole = self.col_stride == 1 && self.row_stride == self.cols as isize;
        debug_assert!(whole, "panels are a whole matrix");
        Self {
            start: self.start.wrapping_add(col * self.rows),
            rows: if whole { self.rows } else { 0 },
            cols,
            row_stride: cols as isize,
            ..self
        }
    }
}

/// The same to write to. Its rows are `stride` apart, and their numbers are neighbours.
pub struct MatMut<'a> {
    /// From the first number on; it ends behind the last one.
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a> MatMut<'a> {
    /// A matrix that is the whole buffer; without rows if that has another length.
    #[inline(always)]
    pub(crate) fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// The first `cols` columns of rows of `stride` numbers.
    #[inline(always)]
    pub(crate) fn strided(data: &'a mut [f32], rows: usize, cols: usize, stride: usize) -> Self {
        let fits = cols <= stride && rows.checked_mul(stride) == Some(data.len());
        debug_assert!(fits, "the output has the wrong length");
        Self {
            data,
            rows: if fits { rows } else { 0 },
            cols,
            stride,
        }
    }

    /// At most `rows` × `cols` numbers, from row `row` and column `col` on.
    #[inline(always)]
    pub(super) fn part(&mut self, row: usize, rows: usize, col: usize, cols: usize) -> MatMut<'_> {
        let (row, col) = (row.min(self.rows), col.min(self.cols));
        let start = row.saturating_mul(self.stride).saturating_add(col);
        let data = self.data.get_mut(start..).unwrap_or_default();
        MatMut {
            data,
            rows: rows.min(self.rows - row),
            cols: cols.min(self.cols - col),
            stride: self.stride,
        }
    }

    #[inline(always)]
    pub(super) fn row_count(&self) -> usize {
        self.rows
    }
    #[inline(always)]
    pub(crate) fn col_count(&self) -> usize {
        self.cols
    }
    /// The buffer from the first number on, and the stride.
    #[inline(always)]
    pub(super) fn into_parts(self) -> (&'a mut [f32], usize) {
        (self.data, self.stride)
    }

    #[inline(always)]
    pub(super) fn row(&mut self, row: usize) -> &mut [f32] {
        let part = self.part(row, 1, 0, self.cols);
        part.data.get_mut(..part.cols).unwrap_or_default()
    }
}

/// What the sums of a product start from.
#[derive(Clone, Copy)]
pub enum Init<'a> {
    /// Zero: the output is overwritten.
    Zero,
    /// The same row for every row of the output, which is overwritten.
    Bias(&'a [f32]),
    /// What the output holds: it is accumulated to.
    Accumulate,
}

impl Init<'_> {
    /// The same for `cols` columns from `col` on.
    #[inline(always)]
    pub(super) fn columns(self, col: usize, cols: usize) -> Self {
        match self {
            Self::Bias(row) => Self::Bias(row.get(col..col + cols).unwrap_or(&[])),
            other => other,
        }
    }
}

/// The operands of c [m, n] = init + a [m, k] · b [k, n]. The numbers of a row of `b` are
/// neighbours.
pub struct GemmArgs<'a> {
    pub(crate) a: MatRef<'a>,
    pub(crate) b: MatRef<'a>,
    pub(crate) init: Init<'a>,
    pub(crate) c: MatMut<'a>,
    /// Room for parts of `a` and `b` in the order in which they are read, overwritten: what
    /// [`blocks::len`](crate::layout::scratch::blocks::len) says, or less, even none, and slower.
    pub(crate) scratch: &'a mut [f32],
}

/// The sizes of a product: `c` is [m, n], `a` [m, k], `b` [k, n].
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

impl GemmArgs<'_> {
    #[inline(always)]
    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            m: self.c.rows,
            n: self.c.cols,
            k: self.a.cols,
        }
    }

    /// `None`, and nothing to do, if a size is zero (the callers have ruled that out but for sums
    /// over no rows, which leave an accumulated output as it is), or if two operands do not agree
    /// (which they have ruled out too).
    #[inline(always)]
    pub(super) fn checked_sizes(&self) -> Option<Sizes> {
        let Sizes { m, n, k } = self.sizes();
        let agree = self.a.rows == m && self.b.rows == k && self.b.cols == n;
        let along = self.b.col_stride == 1;
        let bias_fits = match self.init {
            Init::Bias(bias) => bias.len() == n,
            Init::Zero | Init::Accumulate => true,
        };
        let some = m > 0 && n > 0 && k > 0;
        debug_assert!(!some || (agree && along && bias_fits), "operands disagree");
        (some && agree && along && bias_fits).then_some(Sizes { m, n, k })
    }
}
