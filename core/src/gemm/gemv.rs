//! GEMV: the product for one to three rows of `a`. Then `b` is read once, and the best that can be
//! done is to read it in the order of memory.
//!
//! A row of the output stays in the first cache and takes up four rows of `b` at a time.

use super::micro::axpy;
use super::operand::{GemmArgs, Init, Sizes};
use crate::simd::Simd;

/// Columns of a block: their outputs are a quarter of a small first cache.
const COLUMNS: usize = 2048;

#[inline(always)]
pub(super) fn run<S: Simd>(s: S, args: GemmArgs, Sizes { m, n, k }: Sizes) {
    let GemmArgs {
        a, b, init, mut c, ..
    } = args;
    for at in (0..n).step_by(COLUMNS) {
        let width = COLUMNS.min(n - at);
        let b = b.columns(at, width);
        for row in 0..m {
            let mut c = c.part(row, 1, at, width);
            let c = c.row(0);
            init_output(init.columns(at, width), c);
            let mut done = 0;
            while k - done >= 4 {
                axpy::<S, 4>(s, a, b, row, done, c);
                done += 4;
            }
            while done < k {
                axpy::<S, 1>(s, a, b, row, done, c);
                done += 1;
            }
        }
    }
}

#[inline(always)]
fn init_output(init: Init, c: &mut [f32]) {
    match init {
        Init::Zero => c.fill(0.0),
        Init::Bias(bias) => c.iter_mut().zip(bias).for_each(|(c, bias)| *c = *bias),
        Init::Accumulate => {}
    }
}
