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
//! New states below [`SMALLEST_STATE`] are zero. The sum is one chain: the bias, the inputs ascending, the hidden units ascending.
//! For few rows or units the sums of all four gates stay in registers until the
//! activations are taken ([`step`], [`step_from_sums`]); otherwise a matrix product
//! leaves them in memory, and [`Activate`] takes up from there.

#![allow(unsafe_code)]

use crate::elementwise::{Block, Elementwise, for_each_block};
use crate::layout::{LayerShape, Params};
use crate::simd::{Kernel, Several, Simd, fitting};
use crate::tile::split;

/// Where a layer's kernel has its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// `[K, 4, H]`, as everywhere else.
    Rows,
    /// Panels of [`PANEL`] units, the last one narrower: `[H / 16][K, 4, 16]`.
    Panels,
}

/// Units of a panel: a line of the caches for each gate.
pub(crate) const PANEL: usize = 16;

/// Batch rows of a tile: four sums each; backward the elementwise part keeps some ten vectors of
/// each.
const ROWS: usize = 3;
/// The same where two rows are joined for the activations.
const JOINED_ROWS: usize = 4;

/// Rows of a tile of units, forward and backward; fewer where code is short, one where units are
/// masked.
#[inline(always)]
pub(crate) fn most_rows<S: Simd>(whole: bool) -> usize {
    match (S::SHORT, whole) {
        (true, true) => 2,
        (true, false) => 1,
        _ if S::JOINS => JOINED_ROWS,
        _ => ROWS,
    }
}

/// One step without a cache, for `batch` rows.
///
/// `x` `[B, I]`, `h_before` `[B, H]`; `c` `[B, H]` is advanced in place, `h` `[B, H]` is
/// overwritten. `backwards` takes the units from the last to the first, which leaves
/// no trace in the result: what was read last is then read first.
#[inline(always)]
pub(crate) fn step<S: Simd>(
    s: S,
    shape: LayerShape,
    batch: usize,
    (order, backwards): (Order, bool),
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
        inputs,
        all: hidden,
        hidden,
        batch,
        order,
        x: x.as_ptr(),
        input_kernel: input_kernel.as_ptr(),
        bias: params.bias.as_ptr(),
        recurrent_kernel: recurrent_kernel.as_ptr(),
        h_before: h_before.as_ptr(),
        c_before: c,
        gates: core::ptr::null_mut(),
        gates_row: 0,
        c,
        h: h.as_mut_ptr(),
    };
    // Every pointer that a step without gates uses covers its buffer.
    fitting(s, hidden, Run::<false> { step, backwards });
}

/// The cell state before a step.
pub(crate) enum Before<'a> {
    /// Kept `[B, H]`.
    Kept(&'a [f32]),
    /// Where the one after the step will be.
    InPlace,
}

/// One step from sums that lack h·Wh, for `batch` rows: of all H units of a layer, or of U of
/// them, whose recurrent kernel is `[H, 4, U]`.
///
/// `sums` `[B, 4, U]`, its rows so far apart, holds bias + x·Wx and is overwritten with the
/// gate activations; `h_before` `[B, H]`; `c` and `h` `[B, U]` are overwritten.
#[inline(always)]
pub(crate) fn step_from_sums<S: Simd>(
    s: S,
    (all, hidden): (usize, usize),
    batch: usize,
    (order, backwards): (Order, bool),
    recurrent_kernel: &[f32],
    (c_before, h_before): (Before, &[f32]),
    (sums, gates_row): (&mut [f32], usize),
    c: &mut [f32],
    h: &mut [f32],
) {
    let units = batch * hidden;
    let c_before_len = match &c_before {
        Before::Kept(c) => c.len(),
        Before::InPlace => c.len(),
    };
    let fits = recurrent_kernel.len() == all * 4 * hidden
        && c_before_len == units
        && h_before.len() == batch * all
        && gates_row >= 4 * hidden
        && sums.len() == batch * gates_row
        && c.len() == units
        && h.len() == units;
    debug_assert!(fits, "a buffer of the step has the wrong length");
    if !fits {
        return;
    }
    let c = c.as_mut_ptr();
    let step = Step {
        inputs: 0,
        all,
        hidden,
        batch,
        order,
        x: core::ptr::null(),
        input_kernel: core::ptr::null(),
        bias: core::ptr::null(),
        recurrent_kernel: recurrent_kernel.as_ptr(),
        h_before: h_before.as_ptr(),
        c_before: match c_before {
            Before::Kept(c) => c.as_ptr(),
            Before::InPlace => c,
        },
        gates: sums.as_mut_ptr(),
        gates_row,
        c,
        h: h.as_mut_ptr(),
    };
    // Every pointer that a step with gates uses covers its buffer.
    fitting(s, hidden, Run::<true> { step, backwards });
}

/// The buffers of one step. With gates, these hold the input's part of the sums
/// and take the activations; without, `x`, `input_kernel` and `bias` are read.
/// `c_before` and `c` may be one buffer: each place is read before it is written.
#[derive(Clone, Copy)]
struct Step {
    inputs: usize,
    /// Hidden units that a sum reads,
    all: usize,
    /// and those that the step takes.
    hidden: usize,
    batch: usize,
    order: Order,
    x: *const f32,
    input_kernel: *const f32,
    bias: *const f32,
    recurrent_kernel: *const f32,
    h_before: *const f32,
    c_before: *const f32,
    gates: *mut f32,
    gates_row: usize,
    c: *mut f32,
    h: *mut f32,
}

/// A step whose pointers, those that `GATES` asks for, cover its shape and batch; `h` and
/// `gates` overlap nothing else.
struct Run<const GATES: bool> {
    step: Step,
    backwards: bool,
}

impl<const GATES: bool> Kernel for Run<GATES> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { step, backwards } = &self;
        if const { S::FILLED } {
            step.units::<S, GATES, true>(s, 0);
            return;
        }
        let (hidden, batch) = (step.hidden, step.batch);
        if const { S::SMALL } {
            for row in 0..batch {
                let mut at = 0;
                while const { S::LONG } && hidden - at >= LONG {
                    s.call(Few::<LONG, GATES> { step, row, at });
                    at += LONG;
                }
                while hidden - at >= FEW {
                    s.call(Few::<FEW, GATES> { step, row, at });
                    at += FEW;
                }
                while at < hidden {
                    s.call(Few::<1, GATES> { step, row, at });
                    at += 1;
                }
            }
            return;
        }
        // One row alone has too few sums under way with one vector of units.
        let in_panel = step.order == Order::Rows || 2 * S::LANES <= PANEL;
        let wide = if const { !S::SHORT } && batch == 1 && in_panel {
            2 * S::LANES
        } else {
            S::LANES
        };
        let tiles = hidden / wide;
        if *backwards {
            step.rest::<S, GATES>(s, tiles * wide);
        }
        for tile in 0..tiles {
            let at = wide * if *backwards { tiles - 1 - tile } else { tile };
            if const { !S::SHORT } && wide > S::LANES {
                s.call(Tile::<1, 2, GATES, true> { step, row: 0, at });
            } else {
                step.units::<S, GATES, true>(s, at);
            }
        }
        if !*backwards {
            step.rest::<S, GATES>(s, tiles * wide);
        }
    }
}

impl Step {
    /// All rows of the last units, which do not fill the vectors that came before: in
    /// narrower ones, and what does not fill these masked.
    #[inline(always)]
    fn rest<S: Simd, const GATES: bool>(&self, s: S, mut at: usize) {
        let hidden = self.hidden;
        let half = s.narrow();
        let quarter = half.narrow();
        if hidden - at >= S::LANES {
            self.units::<S, GATES, true>(s, at);
            at += S::LANES;
        }
        if const { S::LANES > S::Narrow::LANES } && hidden - at >= S::Narrow::LANES {
            self.units::<S::Narrow, GATES, true>(half, at);
            at += S::Narrow::LANES;
        }
        let lanes = const { <<S::Narrow as Simd>::Narrow as Simd>::LANES };
        if const { S::Narrow::LANES > <<S::Narrow as Simd>::Narrow as Simd>::LANES }
            && hidden - at >= lanes
        {
            self.units::<_, GATES, true>(quarter, at);
            at += lanes;
        }
        if at < hidden {
            self.units::<_, GATES, false>(quarter, at);
        }
    }

    /// All rows of one vector of units, masked unless `WHOLE`.
    #[inline(always)]
    fn units<S: Simd, const GATES: bool, const WHOLE: bool>(&self, s: S, at: usize) {
        let step = self;
        let (large, size, small) = split(self.batch, most_rows::<S>(WHOLE));
        let mut row = 0;
        for (count, rows) in [(large, size), (small, size.saturating_sub(1))] {
            for _ in 0..count {
                match rows {
                    1 => s.call(Tile::<1, 1, GATES, WHOLE> { step, row, at }),
                    2 if const { WHOLE || !S::SHORT } => {
                        s.call(Tile::<2, 1, GATES, WHOLE> { step, row, at });
                    }
                    4 if S::JOINS => s.call(Tile::<4, 1, GATES, WHOLE> { step, row, at }),
                    _ if const { S::SHORT } => {}
                    _ => s.call(Tile::<3, 1, GATES, WHOLE> { step, row, at }),
                }
                row += rows;
            }
        }
    }

    /// The sums of all gates of `ROWS` rows and `VECTORS` vectors of units.
    ///
    /// # Safety
    /// They lie within the step's, as far as the mask goes unless `WHOLE`.
    #[inline(always)]
    unsafe fn sums<
        S: Simd,
        const ROWS: usize,
        const VECTORS: usize,
        const GATES: bool,
        const WHOLE: bool,
    >(
        &self,
        s: S,
        row: usize,
        at: usize,
        mask: S::Mask,
    ) -> [[[S::V; VECTORS]; 4]; ROWS] {
        let Self {
            inputs,
            all,
            hidden,
            ..
        } = *self;
        // SAFETY: the caller's.
        unsafe {
            let mut sums = [[[s.splat(0.0); VECTORS]; 4]; ROWS];
            if GATES {
                let gates = self.gates.add(row * self.gates_row + at);
                for (r, sums) in sums.iter_mut().enumerate() {
                    for (g, sums) in sums.iter_mut().enumerate() {
                        let gate = gates.add(r * self.gates_row + g * hidden);
                        for (v, sum) in sums.iter_mut().enumerate() {
                            *sum = s.load_part::<WHOLE>(gate.add(v * S::LANES), mask);
                        }
                    }
                }
            } else {
                let mut bias = [[s.splat(0.0); VECTORS]; 4];
                for (g, bias) in bias.iter_mut().enumerate() {
                    let gate = self.bias.add(g * hidden + at);
                    for (v, bias) in bias.iter_mut().enumerate() {
                        *bias = s.load_part::<WHOLE>(gate.add(v * S::LANES), mask);
                    }
                }
                let kernel = self.place(self.input_kernel, inputs, at);
                let x = self.x.add(row * inputs);
                sums = [bias; ROWS];
                sums = accumulate::<S, WHOLE, ROWS, VECTORS>(s, inputs, x, kernel, mask, sums);
            }
            let kernel = self.place(self.recurrent_kernel, all, at);
            let h = self.h_before.add(row * all);
            accumulate::<S, WHOLE, ROWS, VECTORS>(s, all, h, kernel, mask, sums)
        }
    }

    /// `N` vectors of units, each of a row and from a unit on, from their sums.
    ///
    /// # Safety
    /// They lie within the step's, as far as the mask goes unless `WHOLE`.
    #[inline(always)]
    unsafe fn finish<S: Simd, const N: usize, const GATES: bool, const WHOLE: bool>(
        &self,
        s: S,
        places: [(usize, usize); N],
        sums: [[S::V; 4]; N],
        mask: S::Mask,
    ) {
        let hidden = self.hidden;
        let mut by_gate = [[s.splat(0.0); N]; 4];
        let mut c = [s.splat(0.0); N];
        // SAFETY: the caller's.
        unsafe {
            for (n, (row, at)) in places.into_iter().enumerate() {
                for (gate, sum) in by_gate.iter_mut().zip(sums[n]) {
                    gate[n] = sum;
                }
                c[n] = s.load_part::<WHOLE>(self.c_before.add(row * hidden + at), mask);
            }
            let (gates, c, h) = match N {
                2 if S::JOINS => activate_joined::<S, N, 1>(s, by_gate, c),
                3 | 4 if S::JOINS => activate_joined::<S, N, 2>(s, by_gate, c),
                _ => activate(Several::<S, N>(s), by_gate, c),
            };
            for (n, (row, at)) in places.into_iter().enumerate() {
                s.store_part::<WHOLE>(self.c.add(row * hidden + at), c[n], mask);
                s.store_part::<WHOLE>(self.h.add(row * hidden + at), h[n], mask);
                if GATES {
                    let place = self.gates.add(row * self.gates_row + at);
                    for (g, gate) in gates.iter().enumerate() {
                        s.store_part::<WHOLE>(place.add(g * hidden), gate[n], mask);
                    }
                }
            }
        }
    }

    /// The numbers of unit `at` in a kernel of `inner` rows: where they start, how far the
    /// rows are apart, and how far the gates.
    #[inline(always)]
    fn place(&self, kernel: *const f32, inner: usize, at: usize) -> (*const f32, usize, usize) {
        let hidden = self.hidden;
        match self.order {
            Order::Rows => (kernel.wrapping_add(at), 4 * hidden, hidden),
            Order::Panels => {
                let panel = at / PANEL * PANEL;
                let width = PANEL.min(hidden - panel);
                let start = panel * 4 * inner + at % PANEL;
                (kernel.wrapping_add(start), 4 * width, width)
            }
        }
    }
}

/// `ROWS` rows of `VECTORS` vectors of units, all four gates in registers.
///
/// They lie within the step's, and `VECTORS` vectors in one panel, or in rows; unless
/// `WHOLE`, the one vector is what is left of the units. A function of its own, shared
/// by every layer and both doors.
struct Tile<'a, const ROWS: usize, const VECTORS: usize, const GATES: bool, const WHOLE: bool> {
    step: &'a Step,
    row: usize,
    at: usize,
}

impl<const ROWS: usize, const VECTORS: usize, const GATES: bool, const WHOLE: bool> Kernel
    for Tile<'_, ROWS, VECTORS, GATES, WHOLE>
{
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { step, row, at } = self;
        let hidden = step.hidden;
        let mask = s.mask(if WHOLE { S::LANES } else { hidden - at });
        // SAFETY: all places lie within the buffers, as the types promise.
        unsafe {
            let mut sums = [[[s.splat(0.0); VECTORS]; 4]; ROWS];
            if const { ROWS == 4 } {
                // Two at a time: the sums of all would not stay in registers.
                let two = step.sums::<S, 2, VECTORS, GATES, WHOLE>(s, row, at, mask);
                (sums[0], sums[ROWS / 3]) = (two[0], two[1]);
                let two = step.sums::<S, 2, VECTORS, GATES, WHOLE>(s, row + 2, at, mask);
                (sums[ROWS / 2], sums[ROWS - 1]) = (two[0], two[1]);
            } else {
                sums = step.sums::<S, ROWS, VECTORS, GATES, WHOLE>(s, row, at, mask);
            }

            // Side by side: alone, a vector would wait for its own results.
            match (ROWS, VECTORS) {
                (4, 1) => {
                    let sums = [sums[0], sums[ROWS / 3], sums[ROWS / 2], sums[ROWS - 1]]
                        .map(|gates| gates.map(first));
                    step.finish::<S, 4, GATES, WHOLE>(
                        s,
                        [(row, at), (row + 1, at), (row + 2, at), (row + 3, at)],
                        sums,
                        mask,
                    );
                }
                (3, 1) => {
                    let sums =
                        [sums[0], sums[ROWS / 2], sums[ROWS - 1]].map(|gates| gates.map(first));
                    step.finish::<S, 3, GATES, WHOLE>(
                        s,
                        [(row, at), (row + 1, at), (row + 2, at)],
                        sums,
                        mask,
                    );
                }
                (2, 1) => {
                    let sums = [sums[0], sums[ROWS - 1]].map(|gates| gates.map(first));
                    step.finish::<S, 2, GATES, WHOLE>(s, [(row, at), (row + 1, at)], sums, mask);
                }
                (_, 2) => {
                    let sums = [sums[0].map(first), sums[0].map(last)];
                    step.finish::<S, 2, GATES, WHOLE>(
                        s,
                        [(row, at), (row, at + S::LANES)],
                        sums,
                        mask,
                    );
                }
                _ => {
                    let sums = [sums[0].map(first)];
                    step.finish::<S, 1, GATES, WHOLE>(s, [(row, at)], sums, mask);
                }
            }
        }
    }
}

/// Units that are summed at a time where code is small,
const FEW: usize = 4;
/// and gate by gate where the level has a way to do that.
const LONG: usize = 16;

/// A few units of one row, of one lane each, which lie within the step's.
struct Few<'a, const UNITS: usize, const GATES: bool> {
    step: &'a Step,
    row: usize,
    at: usize,
}

impl<const UNITS: usize, const GATES: bool> Kernel for Few<'_, UNITS, GATES> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { step, row, at } = self;
        let &Step {
            inputs,
            all,
            hidden,
            ..
        } = step;
        let mut sums = [[0.0; UNITS]; 4];
        // SAFETY: all places lie within the buffers, as the type promises.
        unsafe {
            let start = if GATES {
                step.gates.add(row * step.gates_row + at)
            } else {
                step.bias.add(at)
            };
            for (g, sums) in sums.iter_mut().enumerate() {
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = *start.add(g * hidden + n);
                }
            }
            if !GATES {
                s.outline(Sum {
                    inner: inputs,
                    x: step.x.add(row * inputs),
                    kernel: step.place(step.input_kernel, inputs, at),
                    sums: &mut sums,
                });
            }
            s.outline(Sum {
                inner: all,
                x: step.h_before.add(row * all),
                kernel: step.place(step.recurrent_kernel, all, at),
                sums: &mut sums,
            });
        }
        s.outline(Rest::<GATES> {
            step,
            row,
            at,
            sums: sums.as_flattened().as_ptr(),
            units: UNITS,
        });
    }
}

/// What is left of a step for so many units, from their sums `[4, units]`.
struct Rest<'a, const GATES: bool> {
    step: &'a Step,
    row: usize,
    at: usize,
    sums: *const f32,
    units: usize,
}

impl<const GATES: bool> Kernel for Rest<'_, GATES> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for n in 0..self.units {
            // SAFETY: the places lie within the buffers, as those of `Few` do.
            unsafe {
                let mut sums = [s.splat(0.0); 4];
                for (g, sum) in sums.iter_mut().enumerate() {
                    *sum = s.splat(*self.sums.add(g * self.units + n));
                }
                let place = (self.row, self.at + n);
                (self.step).finish::<S, 1, GATES, true>(s, [place], [sums], s.mask(1));
            }
        }
    }
}

/// [`accumulate`] for `UNITS` units of one row, whose sums are in memory before and after. The
/// pointers cover them.
struct Sum<'a, const UNITS: usize> {
    inner: usize,
    x: *const f32,
    kernel: (*const f32, usize, usize),
    sums: &'a mut [[f32; UNITS]; 4],
}

impl<const UNITS: usize> Kernel for Sum<'_, UNITS> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (mut x, (mut kernel, row, gate)) = (self.x, self.kernel);
        if const { UNITS == LONG } {
            for (g, sums) in self.sums.iter_mut().enumerate() {
                if let Some(sums) = sums.first_chunk_mut() {
                    let kernel = kernel.wrapping_add(g * gate);
                    // SAFETY: the pointers cover the rows.
                    unsafe { s.add_products(self.inner, x, kernel, row, sums) };
                }
            }
            return;
        }
        let [mut i, mut j, mut f, mut o] = self.sums.map(|gate| gate.map(|sum| s.splat(sum)));
        for _ in 0..self.inner {
            // SAFETY: the pointers cover the rows, and a vector is a number.
            unsafe {
                let by = s.splat(*x);
                i = add_units(s, by, kernel, i);
                j = add_units(s, by, kernel.add(gate), j);
                f = add_units(s, by, kernel.add(2 * gate), f);
                o = add_units(s, by, kernel.add(3 * gate), o);
                x = x.wrapping_add(1);
                kernel = kernel.wrapping_add(row);
            }
        }
        for (to, from) in self.sums.iter_mut().zip([i, j, f, o]) {
            for (to, from) in to.iter_mut().zip(from) {
                // SAFETY: a vector is a number.
                unsafe { s.store(to, from) }
            }
        }
    }
}

/// Written out, because indices that are no constants would keep the sums in memory where
/// loops are not unrolled.
///
/// # Safety
/// `UNITS` numbers, one or [`FEW`], are readable at `kernel`, and a vector is a number.
#[inline(always)]
unsafe fn add_units<S: Simd, const UNITS: usize>(
    s: S,
    x: S::V,
    kernel: *const f32,
    mut sums: [S::V; UNITS],
) -> [S::V; UNITS] {
    // SAFETY: the caller's.
    unsafe {
        sums[0] = s.fma(x, s.load(kernel), sums[0]);
        if const { UNITS == FEW } {
            sums[1 % UNITS] = s.fma(x, s.load(kernel.add(1)), sums[1 % UNITS]);
            sums[2 % UNITS] = s.fma(x, s.load(kernel.add(2)), sums[2 % UNITS]);
            sums[3 % UNITS] = s.fma(x, s.load(kernel.add(3)), sums[3 % UNITS]);
        }
    }
    sums
}

#[inline(always)]
fn first<V: Copy, const N: usize>(vectors: [V; N]) -> V {
    vectors[0]
}

#[inline(always)]
fn last<V: Copy, const N: usize>(vectors: [V; N]) -> V {
    vectors[N - 1]
}

/// The smallest magnitude of a cell or hidden state, 2⁻⁶³: a step makes what is smaller +0, at
/// every level and behind every door.
///
/// The state of a network that hears silence decays. Without this rule it would end in subnormal
/// numbers, with which some processors take several times as long, and stay there. The square of
/// 2⁻⁶³, which tanh takes, is the smallest that is not subnormal. NaN stays NaN. Gradients are those
/// of the formulas without this rule.
///
/// ```
/// use fused_lstm::{Flat, Lstm, LstmState, Network, SMALLEST_STATE};
///
/// let net = Lstm::<1, 4>::ZERO; // forget gates of 0.5
/// let mut state = LstmState::<1, 4>::ZERO;
/// state.c = [[1.0; 4]];
/// for _ in 0..64 {
///     net.step(&[[[0.0]]], &mut state, &mut Flat::zero());
///     assert!(state.c[0][0] == 0.0 || state.c[0][0] >= SMALLEST_STATE);
/// }
/// assert_eq!(state, LstmState::ZERO);
/// ```
pub const SMALLEST_STATE: f32 = 1.0 / (1u64 << 63) as f32;

/// A state, or +0 if it is below [`SMALLEST_STATE`].
#[inline(always)]
fn state<S: Simd>(s: S, v: S::V) -> S::V {
    // NaN is not less.
    s.if_less(s.abs(v), s.splat(SMALLEST_STATE), s.splat(0.0), v)
}

/// The gates, the cell state and the hidden state.
type Activated<V> = ([V; 4], V, V);

/// The gates' activations, the cell state and the hidden state, from the sums and
/// the cell state before.
#[inline(always)]
fn activate<S: Simd>(s: S, sums: [S::V; 4], c: S::V) -> Activated<S::V> {
    let [i, j, f, o] = sums;
    let (i, j, f, o) = (s.sigmoid(i), s.tanh(j), s.sigmoid(f), s.sigmoid(o));
    let c = s.fma(f, c, s.mul(i, j));
    // tanh need not wait: of a state that becomes zero it is below the bound too, and so is h.
    let h = s.mul(o, s.tanh(c));
    ([i, j, f, o], state(s, c), state(s, h))
}

/// [`activate`] for `N` vectors as `PAIRS` of twice the lanes.
#[inline(always)]
fn activate_joined<S: Simd, const N: usize, const PAIRS: usize>(
    s: S,
    sums: [[S::V; N]; 4],
    c: [S::V; N],
) -> Activated<[S::V; N]> {
    let mut pairs = [[s.join(c[0], c[0]); PAIRS]; 4];
    for (pairs, sums) in pairs.iter_mut().zip(sums) {
        *pairs = joined(s, sums);
    }
    let c = joined::<S, N, PAIRS>(s, c);
    let (pairs, c, h) = activate(Several::<S::Twice, PAIRS>(s.twice()), pairs, c);
    let mut gates = sums;
    for (gate, pairs) in gates.iter_mut().zip(pairs) {
        *gate = parted(s, pairs);
    }
    (gates, parted(s, c), parted(s, h))
}

/// `N` vectors as `PAIRS`, the last one twice if they are odd.
#[inline(always)]
pub(crate) fn joined<S: Simd, const N: usize, const PAIRS: usize>(
    s: S,
    vectors: [S::V; N],
) -> [<S::Twice as Simd>::V; PAIRS] {
    let mut pairs = [s.join(vectors[0], vectors[0]); PAIRS];
    for (n, pair) in pairs.iter_mut().enumerate() {
        let [low, high] = [2 * n, 2 * n + 1].map(|n| if n < N { n } else { N - 1 });
        *pair = s.join(vectors[low], vectors[high]);
    }
    pairs
}

/// The way back of [`joined`].
#[inline(always)]
pub(crate) fn parted<S: Simd, const N: usize, const PAIRS: usize>(
    s: S,
    pairs: [<S::Twice as Simd>::V; PAIRS],
) -> [S::V; N] {
    let mut vectors = [s.splat(0.0); N];
    for (n, pair) in pairs.into_iter().enumerate() {
        let [low, high] = s.halves(pair);
        if 2 * n < N {
            vectors[2 * n] = low;
        }
        if 2 * n + 1 < N {
            vectors[2 * n + 1] = high;
        }
    }
    vectors
}

/// The sums plus x·W: `ROWS` rows of `x` of `inner` numbers, `VECTORS` vectors of units of
/// each gate of the kernel. By value, so that the sums stay in registers
/// whatever is done with them later.
///
/// # Safety
/// `x` and the kernel, given as [`Step::place`] does, cover that.
#[inline(always)]
unsafe fn accumulate<S: Simd, const WHOLE: bool, const ROWS: usize, const VECTORS: usize>(
    s: S,
    inner: usize,
    x: *const f32,
    (kernel, row, gate): (*const f32, usize, usize),
    mask: S::Mask,
    mut sums: [[[S::V; VECTORS]; 4]; ROWS],
) -> [[[S::V; VECTORS]; 4]; ROWS] {
    let (mut k, mut pairs) = (0, inner / 2);
    // SAFETY: the caller's, for every k below `inner`.
    unsafe {
        while pairs > 0 {
            for k in [k, k + 1] {
                let place = (kernel.add(k * row), gate);
                sums = add_row::<S, WHOLE, ROWS, VECTORS>(s, x.add(k), inner, place, mask, sums);
            }
            k += 2;
            pairs = s.rolled(pairs - 1);
        }
        if inner % 2 == 1 {
            let place = (kernel.add(k * row), gate);
            sums = add_row::<S, WHOLE, ROWS, VECTORS>(s, x.add(k), inner, place, mask, sums);
        }
    }
    sums
}

/// One row of the kernel times its number in each of `ROWS` rows `apart`.
///
/// # Safety
/// Those of [`accumulate`].
#[inline(always)]
unsafe fn add_row<S: Simd, const WHOLE: bool, const ROWS: usize, const VECTORS: usize>(
    s: S,
    x: *const f32,
    apart: usize,
    (kernel, gate): (*const f32, usize),
    mask: S::Mask,
    mut sums: [[[S::V; VECTORS]; 4]; ROWS],
) -> [[[S::V; VECTORS]; 4]; ROWS] {
    // SAFETY: the caller's.
    unsafe {
        let mut w = [[s.splat(0.0); VECTORS]; 4];
        for (g, w) in w.iter_mut().enumerate() {
            for (v, w) in w.iter_mut().enumerate() {
                *w = s.load_part::<WHOLE>(kernel.add(g * gate + v * S::LANES), mask);
            }
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            let x = s.splat(*x.add(r * apart));
            for (sums, w) in sums.iter_mut().zip(w) {
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = s.fma(x, w, *sum);
                }
            }
        }
    }
    sums
}

/// What is left of a forward step when the sums stand in memory, for one row of the
/// batch or a part of it.
///
/// All are of one length. `gates` holds the sums. With `c_before`, the gates are
/// overwritten with their activations and `c` with the new cell state; without, the
/// gates are left alone and `c` is advanced in place. `h` is overwritten.
pub(crate) struct Activate<'a> {
    pub gates: [&'a mut [f32]; 4],
    pub c_before: Option<&'a [f32]>,
    pub c: &'a mut [f32],
    pub h: &'a mut [f32],
}

impl Kernel for Activate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for_each_block(s, self.c.len(), &mut self);
    }
}

impl Elementwise for Activate<'_> {
    #[inline(always)]
    fn block<S: Simd, const WHOLE: bool>(&mut self, s: S, at: Block<S, WHOLE>) {
        let [i, j, f, o] = &self.gates;
        let sums = [at.load(i), at.load(j), at.load(f), at.load(o)];
        let c = at.load(self.c_before.unwrap_or(self.c));
        let (gates, c, h) = activate(s, sums, c);
        at.store(self.c, c);
        at.store(self.h, h);
        if self.c_before.is_some() {
            for (gate, v) in self.gates.iter_mut().zip(gates) {
                at.store(gate, v);
            }
        }
    }
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

impl Kernel for StepBackward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for_each_block(s, self.c.len(), &mut self);
    }
}

impl Elementwise for StepBackward<'_> {
    #[inline(always)]
    fn block<S: Simd, const WHOLE: bool>(&mut self, s: S, at: Block<S, WHOLE>) {
        let [i, j, f, o] = &self.gates;
        let gates = [at.load(i), at.load(j), at.load(f), at.load(o)];
        let states = (at.load(self.c_before), at.load(self.c));
        let gradients = (at.load(self.dy), at.load(self.dh), at.load(self.dc));
        let (dgates, dc) = step_gradients(s, gates, states, gradients);
        for (gate, v) in self.gates.iter_mut().zip(dgates) {
            at.store(gate, v);
        }
        at.store(self.dc, dc);
    }
}

/// The formulas of [`StepBackward`]: the gradients of the four sums, and `dc_before`.
#[inline(always)]
pub(crate) fn step_gradients<S: Simd>(
    s: S,
    [i, j, f, o]: [S::V; 4],
    (c_before, c): (S::V, S::V),
    (dy, dh, dc): (S::V, S::V, S::V),
) -> ([S::V; 4], S::V) {
    let one = s.splat(1.0);
    // 1 − v²
    let slope = |v: S::V| s.fma(s.sub(s.splat(0.0), v), v, one);
    // v·(1 − v)
    let sigmoid_slope = |v: S::V| s.mul(v, s.sub(one, v));
    let tanh_c = s.tanh(c);
    let dh = s.add(dy, dh);
    let dc = s.fma(s.mul(dh, o), slope(tanh_c), dc);
    let dgates = [
        s.mul(s.mul(dc, j), sigmoid_slope(i)),
        s.mul(s.mul(dc, i), slope(j)),
        s.mul(s.mul(dc, c_before), sigmoid_slope(f)),
        s.mul(s.mul(dh, tanh_c), sigmoid_slope(o)),
    ];
    (dgates, s.mul(dc, f))
}
