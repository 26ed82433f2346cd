//! One step of one layer: forward, and beside it backward.
//!
//! Forward, for every row of the batch and every unit (σ the logistic sigmoid):
//!
//! ```text
//! i, j, f, o = bias + x·Wx + h·Wh          Wx [I, 4, H], Wh [H, 4, H]
//! c' = σ(f)·c + σ(i)·tanh(j)
//! h' = σ(o)·tanh(c')
//! ```
//!
//! (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.)
//! The sum is taken in two chains: the bias and then the inputs, ascending; and
//! the hidden units, ascending, from zero; the two are added last.

#![allow(unsafe_code)]

use crate::elementwise::{Block, Elementwise, for_each_block};
use crate::layout::{LayerShape, Params};
use crate::simd::Simd;

/// One step without a cache, for `batch` rows.
///
/// `x` `[B, I]`, `h_before` `[B, H]`; `c` `[B, H]` is advanced in place, `h` `[B, H]` is
/// overwritten.
#[inline(always)]
pub(crate) fn step<S: Simd>(
    s: S,
    shape: LayerShape,
    batch: usize,
    params: Params<&[f32]>,
    x: &[f32],
    h_before: &[f32],
    c: &mut [f32],
    h: &mut [f32],
) {
    let LayerShape { inputs, hidden } = shape;
    let units = batch * hidden;
    let (input_kernel, recurrent_kernel) = params.split_kernel(shape);
    let fits = x.len() == batch * inputs
        && input_kernel.len() == inputs * 4 * hidden
        && recurrent_kernel.len() == hidden * 4 * hidden
        && params.bias.len() == 4 * hidden
        && h_before.len() == units
        && c.len() == units
        && h.len() == units;
    debug_assert!(fits, "a buffer of the step has the wrong length");
    if !fits {
        return;
    }
    let c = c.as_mut_ptr();
    let step = Step {
        shape,
        batch,
        x: x.as_ptr(),
        input_kernel: input_kernel.as_ptr(),
        bias: params.bias.as_ptr(),
        recurrent_kernel: recurrent_kernel.as_ptr(),
        h_before: h_before.as_ptr(),
        c_before: c,
        gates: core::ptr::null_mut(),
        c,
        h: h.as_mut_ptr(),
    };
    // SAFETY: every pointer that a step without gates uses covers its buffer.
    unsafe { step.run::<S, false>(s) }
}

/// One step that keeps what the backward pass needs, for `batch` rows.
///
/// `gates` `[B, 4, H]` holds bias + x·Wx and is overwritten with the gate
/// activations; `h_before`, `c_before` `[B, H]`; `c` and `h` `[B, H]` are overwritten.
#[inline(always)]
pub(crate) fn step_forward<S: Simd>(
    s: S,
    shape: LayerShape,
    batch: usize,
    recurrent_kernel: &[f32],
    (c_before, h_before): (&[f32], &[f32]),
    gates: &mut [f32],
    c: &mut [f32],
    h: &mut [f32],
) {
    let hidden = shape.hidden;
    let units = batch * hidden;
    let fits = recurrent_kernel.len() == hidden * 4 * hidden
        && c_before.len() == units
        && h_before.len() == units
        && gates.len() == 4 * units
        && c.len() == units
        && h.len() == units;
    debug_assert!(fits, "a buffer of the step has the wrong length");
    if !fits {
        return;
    }
    let step = Step {
        shape,
        batch,
        x: core::ptr::null(),
        input_kernel: core::ptr::null(),
        bias: core::ptr::null(),
        recurrent_kernel: recurrent_kernel.as_ptr(),
        h_before: h_before.as_ptr(),
        c_before: c_before.as_ptr(),
        gates: gates.as_mut_ptr(),
        c: c.as_mut_ptr(),
        h: h.as_mut_ptr(),
    };
    // SAFETY: every pointer that a step with gates uses covers its buffer.
    unsafe { step.run::<S, true>(s) }
}

/// The buffers of one step. With gates, these hold the input's part of the sums
/// and take the activations; without, `x`, `input_kernel` and `bias` are read.
/// `c_before` and `c` may be one buffer: each place is read before it is written.
#[derive(Clone, Copy)]
struct Step {
    shape: LayerShape,
    batch: usize,
    x: *const f32,
    input_kernel: *const f32,
    bias: *const f32,
    recurrent_kernel: *const f32,
    h_before: *const f32,
    c_before: *const f32,
    gates: *mut f32,
    c: *mut f32,
    h: *mut f32,
}

impl Step {
    /// # Safety
    /// The pointers that `GATES` asks for cover the shape and the batch; `h` and
    /// `gates` overlap nothing else.
    #[inline(always)]
    unsafe fn run<S: Simd, const GATES: bool>(&self, s: S) {
        let hidden = self.shape.hidden;
        let mut at = 0;
        // SAFETY: the caller's, and `at` plus the lanes stays within the units.
        unsafe {
            while hidden - at >= S::LANES {
                self.units::<S, GATES, true>(s, at, s.mask(S::LANES));
                at += S::LANES;
            }
            if at < hidden {
                self.units::<S, GATES, false>(s, at, s.mask(hidden - at));
            }
        }
    }

    /// All rows of one vector of units.
    ///
    /// # Safety
    /// Those of [`run`](Self::run); the vector at `at`, masked unless `WHOLE`,
    /// lies within the units.
    #[inline(always)]
    unsafe fn units<S: Simd, const GATES: bool, const WHOLE: bool>(
        &self,
        s: S,
        at: usize,
        mask: S::Mask,
    ) {
        let mut row = 0;
        // SAFETY: the caller's, and `row` plus the tile stays within the batch.
        unsafe {
            while self.batch - row >= S::GATE_ROWS {
                match S::GATE_ROWS {
                    6 => self.tile::<S, GATES, WHOLE, 6>(s, row, at, mask),
                    _ => self.tile::<S, GATES, WHOLE, 3>(s, row, at, mask),
                }
                row += S::GATE_ROWS;
            }
            while row < self.batch {
                self.tile::<S, GATES, WHOLE, 1>(s, row, at, mask);
                row += 1;
            }
        }
    }

    /// `ROWS` rows of one vector of units, all four gates in registers.
    ///
    /// # Safety
    /// Those of [`units`](Self::units), and `row + ROWS` is at most the batch.
    #[inline(always)]
    unsafe fn tile<S: Simd, const GATES: bool, const WHOLE: bool, const ROWS: usize>(
        &self,
        s: S,
        row: usize,
        at: usize,
        mask: S::Mask,
    ) {
        let LayerShape { inputs, hidden } = self.shape;
        // SAFETY: all places lie within the buffers, by the caller's word.
        unsafe {
            let mut input = [[s.splat(0.0); 4]; ROWS];
            if GATES {
                let gates = self.gates.add(row * 4 * hidden + at);
                for (r, sums) in input.iter_mut().enumerate() {
                    for (g, sum) in sums.iter_mut().enumerate() {
                        *sum = s.load_part::<WHOLE>(gates.add((4 * r + g) * hidden), mask);
                    }
                }
            } else {
                let mut bias = [s.splat(0.0); 4];
                for (g, v) in bias.iter_mut().enumerate() {
                    *v = s.load_part::<WHOLE>(self.bias.add(g * hidden + at), mask);
                }
                let kernel = self.input_kernel.add(at);
                let x = self.x.add(row * inputs);
                input = [bias; ROWS];
                input = accumulate::<S, WHOLE, ROWS>(s, inputs, x, kernel, hidden, mask, input);
            }
            let recurrent = [[s.splat(0.0); 4]; ROWS];
            let kernel = self.recurrent_kernel.add(at);
            let h = self.h_before.add(row * hidden);
            let recurrent =
                accumulate::<S, WHOLE, ROWS>(s, hidden, h, kernel, hidden, mask, recurrent);

            for r in 0..ROWS {
                let sum = |g: usize| s.add(input[r][g], recurrent[r][g]);
                let i = crate::activation::sigmoid(s, sum(0));
                let j = crate::activation::tanh(s, sum(1));
                let f = crate::activation::sigmoid(s, sum(2));
                let o = crate::activation::sigmoid(s, sum(3));
                let place = (row + r) * hidden + at;
                let c = s.load_part::<WHOLE>(self.c_before.add(place), mask);
                let c = s.fma(f, c, s.mul(i, j));
                let h = s.mul(o, crate::activation::tanh(s, c));
                s.store_part::<WHOLE>(self.c.add(place), c, mask);
                s.store_part::<WHOLE>(self.h.add(place), h, mask);
                if GATES {
                    let gates = self.gates.add((row + r) * 4 * hidden + at);
                    for (g, v) in [i, j, f, o].into_iter().enumerate() {
                        s.store_part::<WHOLE>(gates.add(g * hidden), v, mask);
                    }
                }
            }
        }
    }
}

/// The sums plus x·W: `ROWS` rows of `x` of `inner` numbers, one vector of units of
/// each gate of `kernel` [inner, 4, H]. By value, so that the sums stay in registers
/// whatever is done with them later.
///
/// # Safety
/// Both pointers cover that.
#[inline(always)]
unsafe fn accumulate<S: Simd, const WHOLE: bool, const ROWS: usize>(
    s: S,
    inner: usize,
    x: *const f32,
    kernel: *const f32,
    hidden: usize,
    mask: S::Mask,
    mut sums: [[S::V; 4]; ROWS],
) -> [[S::V; 4]; ROWS] {
    for k in 0..inner {
        // SAFETY: the caller's.
        unsafe {
            let mut w = [s.splat(0.0); 4];
            for (g, v) in w.iter_mut().enumerate() {
                *v = s.load_part::<WHOLE>(kernel.add((4 * k + g) * hidden), mask);
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = s.splat(*x.add(r * inner + k));
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = s.fma(x, w, *sum);
                }
            }
        }
    }
    sums
}

/// The elementwise part of one backward step, for one row of the batch.
///
/// With `dh` = `dy` + `dh_after` and the gates' activations i, j, f, o:
///
/// ```text
/// dc = dc_after + dh·o·(1 − tanh²c)        dc_before = dc·f
/// di = dc·j·i·(1 − i)                      dj = dc·i·(1 − j²)
/// df = dc·c_before·f·(1 − f)               do = dh·tanh(c)·o·(1 − o)
/// ```
///
/// All are `[H]`. The gates are overwritten with the gradients of the sums before
/// them, `dc` with `dc_before`.
pub(crate) struct StepBackward<'a> {
    pub gates: [&'a mut [f32]; 4],
    pub c_before: &'a [f32],
    pub c: &'a [f32],
    pub dy: &'a [f32],
    pub dh: &'a [f32],
    pub dc: &'a mut [f32],
}

impl StepBackward<'_> {
    #[inline(always)]
    pub(crate) fn run<S: Simd>(mut self, s: S) {
        for_each_block(s, self.c.len(), &mut self);
    }
}

impl Elementwise for StepBackward<'_> {
    #[inline(always)]
    fn block<S: Simd, const WHOLE: bool>(&mut self, s: S, at: Block<S, WHOLE>) {
        let one = s.splat(1.0);
        // 1 − v²
        let slope = |v: S::V| s.fma(s.sub(s.splat(0.0), v), v, one);
        // v·(1 − v)
        let sigmoid_slope = |v: S::V| s.mul(v, s.sub(one, v));
        let [i, j, f, o] = &mut self.gates;
        let (vi, vj, vf, vo) = (at.load(i), at.load(j), at.load(f), at.load(o));
        let tanh_c = crate::activation::tanh(s, at.load(self.c));
        let dh = s.add(at.load(self.dy), at.load(self.dh));
        let dc = s.fma(s.mul(dh, vo), slope(tanh_c), at.load(self.dc));
        at.store(i, s.mul(s.mul(dc, vj), sigmoid_slope(vi)));
        at.store(j, s.mul(s.mul(dc, vi), slope(vj)));
        at.store(
            f,
            s.mul(s.mul(dc, at.load(self.c_before)), sigmoid_slope(vf)),
        );
        at.store(o, s.mul(s.mul(dh, tanh_c), sigmoid_slope(vo)));
        at.store(self.dc, s.mul(dc, vf));
    }
}
