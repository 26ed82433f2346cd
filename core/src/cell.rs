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

use crate::elementwise::{Block, Elementwise, for_each_block};
use crate::layout::{LayerShape, Params};
use crate::micro::Tile;
use crate::simd::{Several, Simd, with_fitting};
use crate::small;
use crate::step::Step;
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
    let (input, recurrent) = params.split_kernel(shape);
    let (sizes, bias) = ((batch, inputs, hidden), params.bias);
    let products = ((x, input), (h_before, recurrent));
    if let Some(step) = Step::from_bias(sizes, order, bias, products.0, products.1, c, h) {
        with_fitting!(S, s, hidden, v => run(step, v, order, backwards));
    }
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
    let c_before = match c_before {
        Before::Kept(c) => Some(c),
        Before::InPlace => None,
    };
    let recurrent = (h_before, recurrent_kernel);
    let sizes = (batch, all, hidden);
    if let Some(step) = Step::from_sums(sizes, order, (sums, gates_row), recurrent, c_before, c, h)
    {
        with_fitting!(S, s, hidden, v => run(step, v, order, backwards));
    }
}

#[inline(always)]
fn run<S: Simd, const GATES: bool>(mut step: Step<GATES>, s: S, order: Order, backwards: bool) {
    if const { S::SMALL } {
        return small::run(step, s);
    }
    let step = &mut step;
    if const { S::FILLED } {
        units::<S, true, GATES>(step, s, 0);
        return;
    }
    // One row alone has too few sums under way with one vector of units.
    let in_panel = order == Order::Rows || 2 * S::LANES <= PANEL;
    let wide = if const { !S::SHORT } && step.batch == 1 && in_panel {
        2 * S::LANES
    } else {
        S::LANES
    };
    let tiles = step.hidden / wide;
    if backwards {
        rest(step, s, tiles * wide);
    }
    for index in 0..tiles {
        let at = wide * if backwards { tiles - 1 - index } else { index };
        if const { !S::SHORT } && wide > S::LANES {
            tile::<S, 1, 2, true, GATES>(step, s, 0, at);
        } else {
            units::<S, true, GATES>(step, s, at);
        }
    }
    if !backwards {
        rest(step, s, tiles * wide);
    }
}

/// All rows of the last units, which do not fill the vectors that came before: in
/// narrower ones, and what does not fill these masked.
#[inline(always)]
fn rest<S: Simd, const GATES: bool>(step: &mut Step<GATES>, s: S, mut at: usize) {
    let hidden = step.hidden;
    let half = s.narrow();
    let quarter = half.narrow();
    if hidden - at >= S::LANES {
        units::<S, true, GATES>(step, s, at);
        at += S::LANES;
    }
    if const { S::LANES > S::Narrow::LANES } && hidden - at >= S::Narrow::LANES {
        units::<S::Narrow, true, GATES>(step, half, at);
        at += S::Narrow::LANES;
    }
    let lanes = const { <<S::Narrow as Simd>::Narrow as Simd>::LANES };
    if const { S::Narrow::LANES > <<S::Narrow as Simd>::Narrow as Simd>::LANES }
        && hidden - at >= lanes
    {
        units::<_, true, GATES>(step, quarter, at);
        at += lanes;
    }
    if at < hidden {
        units::<_, false, GATES>(step, quarter, at);
    }
}

/// All rows of one vector of units, masked unless `WHOLE`.
#[inline(always)]
fn units<S: Simd, const WHOLE: bool, const GATES: bool>(step: &mut Step<GATES>, s: S, at: usize) {
    let (large, size, small) = split(step.batch, most_rows::<S>(WHOLE));
    let mut row = 0;
    for (count, rows) in [(large, size), (small, size.saturating_sub(1))] {
        for _ in 0..count {
            match rows {
                1 => tile::<S, 1, 1, WHOLE, GATES>(step, s, row, at),
                2 if const { WHOLE || !S::SHORT } => {
                    tile::<S, 2, 1, WHOLE, GATES>(step, s, row, at)
                }
                4 if S::JOINS => tile::<S, 4, 1, WHOLE, GATES>(step, s, row, at),
                _ if const { S::SHORT } => {}
                _ => tile::<S, 3, 1, WHOLE, GATES>(step, s, row, at),
            }
            row += rows;
        }
    }
}

/// `ROWS` rows of `VECTORS` vectors of units, all four gates in registers: a function of its
/// own, shared by every layer and both doors.
#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const VECTORS: usize, const WHOLE: bool, const GATES: bool>(
    step: &mut Step<GATES>,
    s: S,
    row: usize,
    at: usize,
) {
    s.called(
        #[inline(always)]
        move || {
            let Some(tile) = step.tile::<S, ROWS, VECTORS, WHOLE>(s, row, at) else {
                return;
            };
            let mut sums = [[[s.splat(0.0); VECTORS]; 4]; ROWS];
            if const { ROWS == 4 } {
                // Two at a time: the sums of all would not stay in registers.
                for first in [0, ROWS / 2] {
                    let [one, two] = tile.sums(s, first);
                    (sums[first], sums[first + ROWS / 4]) = (one, two);
                }
            } else {
                sums = tile.sums(s, 0);
            }
            // Side by side: alone, a vector would wait for its own results.
            let side_by_side = Several::<_, VECTORS>(Several::<S, ROWS>(s));
            let (gates, c, h) = activate(side_by_side, by_gate(s, sums), tile.c_before(s));
            tile.finish(s, gates, c, h);
        },
    );
}

/// What belongs to one gate, together.
#[inline(always)]
fn by_gate<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    sums: Tile<S, ROWS, 4, VECTORS>,
) -> [[[S::V; ROWS]; VECTORS]; 4] {
    let mut by_gate = [[[s.splat(0.0); ROWS]; VECTORS]; 4];
    for (r, sums) in sums.into_iter().enumerate() {
        for (gate, sums) in by_gate.iter_mut().zip(sums) {
            for (gate, sum) in gate.iter_mut().zip(sums) {
                gate[r] = sum;
            }
        }
    }
    by_gate
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
pub(crate) type Activated<V> = ([V; 4], V, V);

/// The gates' activations, the cell state and the hidden state, from the sums and
/// the cell state before.
#[inline(always)]
pub(crate) fn activate<S: Simd>(s: S, sums: [S::V; 4], c: S::V) -> Activated<S::V> {
    let [i, j, f, o] = sums;
    let (i, j, f, o) = (s.sigmoid(i), s.tanh(j), s.sigmoid(f), s.sigmoid(o));
    let c = s.fma(f, c, s.mul(i, j));
    // tanh need not wait: of a state that becomes zero it is below the bound too, and so is h.
    let h = s.mul(o, s.tanh(c));
    ([i, j, f, o], state(s, c), state(s, h))
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

impl Activate<'_> {
    #[inline(always)]
    pub(crate) fn run<S: Simd>(mut self, s: S) {
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

impl StepBackward<'_> {
    #[inline(always)]
    pub(crate) fn run<S: Simd>(mut self, s: S) {
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
