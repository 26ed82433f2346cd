//! The equations of a cell, forward and beside them backward, and the walks over rows of memory
//! that take them.
//!
//! For every row of the batch and every unit (σ the logistic sigmoid):
//!
//! ```text
//! i, j, f, o = bias + x·Wx + h·Wh          Wx [I, 4, H], Wh [H, 4, H]
//! c' = σ(f)·c + σ(i)·tanh(j)
//! h' = σ(o)·tanh(c')
//! ```
//!
//! (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.) New states below
//! [`SMALLEST_STATE`] are zero. A pre-activation is one chain: the bias, the inputs ascending, the
//! hidden units ascending. For few rows or units a fused step keeps them in registers until the
//! activations are taken; otherwise a matrix product leaves them in memory, and [`ForwardRow`]
//! takes them up from there.

use crate::simd::map::{Block, Elementwise, for_each_of_many};
use crate::simd::{Arithmetic, Formula, Simd};

/// The smallest magnitude of a cell or hidden state, 2⁻⁶³: a step makes what is smaller +0, at
/// every level and in every API.
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
pub(crate) fn state<A: Arithmetic>(s: A, v: A::V) -> A::V {
    // NaN is not less.
    s.select_lt(s.abs(v), s.splat(SMALLEST_STATE), s.splat(0.0), v)
}

/// From the pre-activations of the gates i, j, f, o and the cell state before to the activations of
/// the gates, the cell state and the hidden state.
pub(crate) struct Forward;

impl Formula<5, 6> for Forward {
    #[inline(always)]
    fn evaluate<A: Arithmetic>(self, s: A, [i, j, f, o, c]: [A::V; 5]) -> [A::V; 6] {
        let (i, j, f, o) = (s.sigmoid(i), s.tanh(j), s.sigmoid(f), s.sigmoid(o));
        let c = s.fma(f, c, s.mul(i, j));
        // tanh need not wait: of a state that becomes zero it is below the bound too, and so is h.
        let h = s.mul(o, s.tanh(c));
        [i, j, f, o, state(s, c), state(s, h)]
    }
}

/// The elementwise part of a forward step, from pre-activations in memory, for one row of the batch
/// or some of its units.
///
/// All are of one length. `gates` holds the pre-activations. With `c_before`, the gates are
/// overwritten with their activations and `c` with the new cell state; without, the
/// gates are left alone and `c` is advanced in place. `h` is overwritten.
pub(crate) struct ForwardRow<'a> {
    pub gates: [&'a mut [f32]; 4],
    pub c_before: Option<&'a [f32]>,
    pub c: &'a mut [f32],
    pub h: &'a mut [f32],
}

impl ForwardRow<'_> {
    #[inline(always)]
    pub(crate) fn run<S: Simd>(mut self, s: S) {
        for_each_of_many(s, self.c.len(), &mut self);
    }
}

impl Elementwise for ForwardRow<'_> {
    #[inline(always)]
    fn block<A: Arithmetic>(&mut self, s: A, at: impl Block<A>) {
        let [i, j, f, o] = &self.gates;
        let c = at.load(self.c_before.unwrap_or(self.c));
        let inputs = [at.load(i), at.load(j), at.load(f), at.load(o), c];
        let [i, j, f, o, c, h] = Forward.evaluate(s, inputs);
        at.store(self.c, c);
        at.store(self.h, h);
        if self.c_before.is_some() {
            for (gate, v) in self.gates.iter_mut().zip([i, j, f, o]) {
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
/// All are `[H]`. The gates are overwritten with the gradients of the
/// pre-activations, `dc` with `dc_before`.
pub(crate) struct BackwardRow<'a> {
    pub gates: [&'a mut [f32]; 4],
    pub c_before: &'a [f32],
    pub c: &'a [f32],
    pub dy: &'a [f32],
    pub dh: &'a [f32],
    pub dc: &'a mut [f32],
}

impl BackwardRow<'_> {
    #[inline(always)]
    pub(crate) fn run<S: Simd>(mut self, s: S) {
        for_each_of_many(s, self.c.len(), &mut self);
    }
}

impl Elementwise for BackwardRow<'_> {
    #[inline(always)]
    fn block<A: Arithmetic>(&mut self, s: A, at: impl Block<A>) {
        let [i, j, f, o] = &self.gates;
        let inputs = [
            at.load(i),
            at.load(j),
            at.load(f),
            at.load(o),
            at.load(self.c_before),
            at.load(self.c),
            at.load(self.dy),
            at.load(self.dh),
            at.load(self.dc),
        ];
        let [i, j, f, o, dc] = Backward.evaluate(s, inputs);
        for (gate, v) in self.gates.iter_mut().zip([i, j, f, o]) {
            at.store(gate, v);
        }
        at.store(self.dc, dc);
    }
}

/// The formulas of [`BackwardRow`]: from the activations of the gates i, j, f, o, the cell states
/// before and after the step, and dy, dh and dc to the gradients of the pre-activations, and of the
/// cell state before.
pub(crate) struct Backward;

impl Formula<9, 5> for Backward {
    #[inline(always)]
    fn evaluate<A: Arithmetic>(self, s: A, inputs: [A::V; 9]) -> [A::V; 5] {
        let [i, j, f, o, c_before, c, dy, dh, dc] = inputs;
        let one = s.splat(1.0);
        // 1 − v²
        let slope = |v: A::V| s.fma(s.sub(s.splat(0.0), v), v, one);
        // v·(1 − v)
        let sigmoid_slope = |v: A::V| s.mul(v, s.sub(one, v));
        let tanh_c = s.tanh(c);
        let dh = s.add(dy, dh);
        let dc = s.fma(s.mul(dh, o), slope(tanh_c), dc);
        [
            s.mul(s.mul(dc, j), sigmoid_slope(i)),
            s.mul(s.mul(dc, i), slope(j)),
            s.mul(s.mul(dc, c_before), sigmoid_slope(f)),
            s.mul(s.mul(dh, tanh_c), sigmoid_slope(o)),
            s.mul(dc, f),
        ]
    }
}
