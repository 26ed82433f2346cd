//! The memory of one step of a layer: checked once, then read and written a register tile at a
//! time. With [`micro`](crate::gemm::micro) all that a step does by pointers.

#![allow(unsafe_code)]
use super::cell::Backward;
use super::weights::{Kernels, PANEL_UNITS, Weights};
use crate::gemm::micro::{Left, Right, Tile, accumulate};
use crate::simd::{Scalar, Simd, Weight};
use core::marker::PhantomData;

/// A kernel `[K, 4, H]`, and what it is multiplied with: `[B, K]`.
#[derive(Clone, Copy)]
struct Product<W> {
    depth: usize,
    x: *const f32,
    kernel: *const W,
    in_panels: bool,
}

impl<W: Copy> Product<W> {
    #[inline(always)]
    fn new(depth: usize, x: &[f32], kernel: Weights<W>) -> Self {
        debug_assert!(
            !matches!(kernel, Weights::GemmPanels(_)),
            "an order for products only"
        );
        Self {
            depth,
            x: x.as_ptr(),
            kernel: kernel.numbers().as_ptr(),
            in_panels: matches!(kernel, Weights::GatePanels(_)),
        }
    }
}

/// One step of B rows without a cache, from the bias: x·Wx is added too.
pub(crate) struct FromBias<'a, W = f32> {
    pub batch: usize,
    pub inputs: usize,
    pub hidden: usize,
    pub kernels: Kernels<'a, W>,
    /// `[4, H]`
    pub bias: &'a [f32],
    /// `[B, I]`
    pub x: &'a [f32],
    /// `[B, H]`
    pub h_before: &'a [f32],
    /// `[B, H]`, advanced in place.
    pub c: &'a mut [f32],
    /// `[B, H]`, overwritten.
    pub h: &'a mut [f32],
}

/// One step of B rows from pre-activations that lack h·Wh: of all H units of a layer, or of U of
/// them.
pub(crate) struct FromPreact<'a, W = f32> {
    pub batch: usize,
    /// H
    pub hidden: usize,
    /// U
    pub units: usize,
    /// `[H, 4, U]`
    pub recurrent: Weights<'a, W>,
    /// `[B, H]`
    pub h_before: &'a [f32],
    /// bias + x·Wx `[B, 4, U]`, overwritten with the activations of the gates.
    pub preact: &'a mut [f32],
    /// From one row of `preact` to the next.
    pub preact_stride: usize,
    /// `[B, U]`; without it, `c` is advanced in place.
    pub c_before: Option<&'a [f32]>,
    /// `[B, U]`, overwritten.
    pub c: &'a mut [f32],
    /// `[B, U]`, overwritten.
    pub h: &'a mut [f32],
}

/// The buffers of one step of B rows and H units, all of which cover that. With `GATES`, it starts
/// from pre-activations, which take the activations.
pub struct Step<'a, const GATES: bool, W = f32> {
    batch: usize,
    hidden: usize,
    /// `[B, 4, H]`, or one row for all.
    start: *const f32,
    start_stride: usize,
    /// Only without gates.
    input: Product<W>,
    recurrent: Product<W>,
    /// Where the activations go, with gates: `[B, 4, H]`.
    gates: *mut f32,
    c_before: *const f32,
    c: *mut f32,
    h: *mut f32,
    _buffers: PhantomData<&'a mut [f32]>,
}

impl<'a, W: Copy> Step<'a, false, W> {
    /// `None` if a buffer has the wrong length.
    #[inline(always)]
    pub(crate) fn from_bias(args: FromBias<'a, W>) -> Option<Self> {
        let FromBias {
            batch,
            inputs,
            hidden,
            kernels: Kernels { input, recurrent },
            bias,
            x,
            h_before,
            c,
            h,
        } = args;
        let units = batch * hidden;
        let fits = bias.len() == 4 * hidden
            && x.len() == batch * inputs
            && input.numbers().len() == inputs * 4 * hidden
            && h_before.len() == units
            && recurrent.numbers().len() == hidden * 4 * hidden
            && c.len() == units
            && h.len() == units;
        debug_assert!(fits, "a buffer of the step has the wrong length");
        let c = c.as_mut_ptr();
        fits.then_some(Self {
            batch,
            hidden,
            start: bias.as_ptr(),
            start_stride: 0,
            input: Product::new(inputs, x, input),
            recurrent: Product::new(hidden, h_before, recurrent),
            gates: core::ptr::null_mut(),
            c_before: c,
            c,
            h: h.as_mut_ptr(),
            _buffers: PhantomData,
        })
    }
}

impl<'a, W: Copy> Step<'a, true, W> {
    /// `None` if a buffer has the wrong length.
    #[inline(always)]
    pub(crate) fn from_preact(args: FromPreact<'a, W>) -> Option<Self> {
        let FromPreact {
            batch,
            hidden: all,
            units: hidden,
            recurrent,
            h_before,
            preact,
            preact_stride,
            c_before,
            c,
            h,
        } = args;
        let units = batch * hidden;
        let fits = preact_stride >= 4 * hidden
            && preact.len() == batch * preact_stride
            && h_before.len() == batch * all
            && recurrent.numbers().len() == all * 4 * hidden
            && c_before.is_none_or(|c| c.len() == units)
            && c.len() == units
            && h.len() == units;
        debug_assert!(fits, "a buffer of the step has the wrong length");
        let (c, preact) = (c.as_mut_ptr(), preact.as_mut_ptr());
        fits.then_some(Self {
            batch,
            hidden,
            start: preact,
            start_stride: preact_stride,
            input: Product::new(0, &[], Weights::Rows(&[])),
            recurrent: Product::new(all, h_before, recurrent),
            gates: preact,
            c_before: c_before.map_or(c.cast_const(), |c| c.as_ptr()),
            c,
            h: h.as_mut_ptr(),
            _buffers: PhantomData,
        })
    }
}

impl<'a, const GATES: bool, W> Step<'a, GATES, W> {
    /// Rows of the batch.
    #[inline(always)]
    pub(super) fn batch(&self) -> usize {
        self.batch
    }

    /// Units.
    #[inline(always)]
    pub(super) fn hidden(&self) -> usize {
        self.hidden
    }

    /// Whether vectors of this many units lie in one panel each.
    #[inline(always)]
    pub(super) fn takes(&self, units: usize) -> bool {
        units <= PANEL_UNITS || !self.recurrent.in_panels && !self.input.in_panels
    }

    /// A tile of `ROWS` rows and `VECTORS` full vectors of units; unless `FULL`, of one vector that
    /// masks the tail of the units. `None` if the step does not have them, or they do not lie in one
    /// gate panel.
    #[inline(always)]
    pub(super) fn tile<S: Simd, const ROWS: usize, const VECTORS: usize, const FULL: bool>(
        &mut self,
        s: S,
        row: usize,
        at: usize,
    ) -> Option<StepTile<'_, 'a, S, ROWS, VECTORS, FULL, GATES, W>> {
        let place = Place::new(s, (self.batch, self.hidden), row, at)?;
        let width = VECTORS * S::LANES;
        // Every level's vectors fill a panel without a rest, and so do twice as many of most.
        let in_one_panel = const { PANEL_UNITS.is_multiple_of(VECTORS * S::LANES) }
            && at.is_multiple_of(width)
            || !self.recurrent.in_panels && !self.input.in_panels;
        in_one_panel.then_some(StepTile { step: self, place })
    }
}

/// Where a tile lies: `ROWS` rows and `VECTORS` vectors of units, the last one masked unless `FULL`.
#[derive(Clone, Copy)]
struct Place<S: Simd, const ROWS: usize, const VECTORS: usize, const FULL: bool> {
    row: usize,
    at: usize,
    mask: S::Mask,
}

impl<S: Simd, const ROWS: usize, const VECTORS: usize, const FULL: bool>
    Place<S, ROWS, VECTORS, FULL>
{
    /// `None` if it does not lie within `rows` × `units`.
    #[inline(always)]
    fn new(s: S, (rows, units): (usize, usize), row: usize, at: usize) -> Option<Self> {
        let left = units.checked_sub(at)?;
        let inside = if FULL {
            VECTORS * S::LANES <= left
        } else {
            VECTORS == 1 && left < S::LANES
        };
        (row + ROWS <= rows && inside).then(
            #[inline(always)]
            || Self {
                row,
                at,
                mask: s.mask(if FULL { S::LANES } else { left }),
            },
        )
    }

    /// A tile of a buffer whose rows are `stride` apart; `column` is where its units begin.
    ///
    /// # Safety
    /// The buffer covers the tile.
    #[inline(always)]
    unsafe fn load(
        self,
        s: S,
        from: *const f32,
        stride: usize,
        column: usize,
    ) -> [[S::V; ROWS]; VECTORS] {
        let mut tile = [[s.splat(0.0); ROWS]; VECTORS];
        for (v, rows) in tile.iter_mut().enumerate() {
            for (r, vector) in rows.iter_mut().enumerate() {
                let place = (self.row + r) * stride + column + self.at + v * S::LANES;
                // SAFETY: the caller's.
                *vector = unsafe { s.load_part::<FULL>(from.add(place), self.mask) };
            }
        }
        tile
    }

    /// Writes what [`load`](Self::load) reads.
    ///
    /// # Safety
    /// The buffer covers the tile.
    #[inline(always)]
    unsafe fn store(
        self,
        s: S,
        to: *mut f32,
        stride: usize,
        column: usize,
        tile: [[S::V; ROWS]; VECTORS],
    ) {
        for (v, rows) in tile.into_iter().enumerate() {
            for (r, vector) in rows.into_iter().enumerate() {
                let place = (self.row + r) * stride + column + self.at + v * S::LANES;
                // SAFETY: the caller's.
                unsafe { s.store_part::<FULL>(to.add(place), vector, self.mask) }
            }
        }
    }
}

/// A tile of a step, which lies within it.
pub(crate) struct StepTile<
    't,
    'a,
    S: Simd,
    const ROWS: usize,
    const VECTORS: usize,
    const FULL: bool,
    const GATES: bool,
    W,
> {
    step: &'t mut Step<'a, GATES, W>,
    place: Place<S, ROWS, VECTORS, FULL>,
}

impl<
    S: Simd,
    const ROWS: usize,
    const VECTORS: usize,
    const FULL: bool,
    const GATES: bool,
    W: Weight,
> StepTile<'_, '_, S, ROWS, VECTORS, FULL, GATES, W>
{
    /// The sums of all gates of `PART` rows from `first` on.
    #[inline(always)]
    pub fn sums<const PART: usize>(&self, s: S, first: usize) -> Tile<S, PART, 4, VECTORS> {
        let step = &*self.step;
        let last = ROWS.saturating_sub(PART);
        let first = if first < last { first } else { last };
        let Place { row, at, mask } = self.place;
        let row = row + first;
        let part = Place::<S, PART, VECTORS, FULL> { row, at, mask };
        let mut sums = [[[s.splat(0.0); VECTORS]; 4]; PART];
        if const { PART > ROWS } {
            return sums;
        }
        for g in 0..4 {
            // SAFETY: the tile lies within the step, and its buffers cover that.
            let gate = unsafe { part.load(s, step.start, step.start_stride, g * step.hidden) };
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums[g].iter_mut().enumerate() {
                    *sum = gate[v][r];
                }
            }
        }
        if !GATES {
            let (x, kernel) = self.operands(step.input, row);
            sums = accumulate::<_, _, true, _, _, _, _>(s, x, kernel, None, sums);
        }
        let (h, kernel) = self.operands(step.recurrent, row);
        accumulate::<_, _, true, _, _, _, _>(s, h, kernel, None, sums)
    }

    /// The cell state before the step.
    #[inline(always)]
    pub fn c_before(&self, s: S) -> [[S::V; ROWS]; VECTORS] {
        // SAFETY: the tile lies within the step, and its buffers cover that.
        unsafe { self.place.load(s, self.step.c_before, self.step.hidden, 0) }
    }

    /// Writes what the step comes to: the activations of the gates, if wanted, the cell state and
    /// the hidden state.
    #[inline(always)]
    pub fn finish(self, s: S, outputs: [[[S::V; ROWS]; VECTORS]; 6]) {
        let [i, j, f, o, c, h] = outputs;
        let Self { step, place } = self;
        // SAFETY: the tile lies within the step, and its buffers cover that.
        unsafe {
            place.store(s, step.c, step.hidden, 0, c);
            place.store(s, step.h, step.hidden, 0, h);
            if GATES {
                let to = step.gates;
                for (g, gate) in [i, j, f, o].into_iter().enumerate() {
                    place.store(s, to, step.start_stride, g * step.hidden, gate);
                }
            }
        }
    }

    /// Where the tile's units are in a kernel, and how far its gates are apart.
    #[inline(always)]
    fn place_in_kernel(&self, product: Product<W>) -> (*const W, usize) {
        let (at, hidden) = (self.place.at, self.step.hidden);
        if !product.in_panels {
            return (product.kernel.wrapping_add(at), hidden);
        }
        let panel = at / PANEL_UNITS * PANEL_UNITS;
        let width = PANEL_UNITS.min(hidden - panel);
        let start = panel * 4 * product.depth + at - panel;
        (product.kernel.wrapping_add(start), width)
    }

    #[inline(always)]
    fn operands<const PART: usize>(
        &self,
        product: Product<W>,
        row: usize,
    ) -> (Left<PART>, Right<S, W, 4, VECTORS, FULL>) {
        let Product { depth, x, .. } = product;
        let (kernel, gate) = self.place_in_kernel(product);
        let masks = [self.place.mask; VECTORS];
        // SAFETY: the tile lies within the step, whose buffers cover that, and in one panel.
        unsafe {
            let x = Left::new(x.add(row * depth), depth as isize, 1, depth);
            let kernel = Right::new(kernel, 4 * gate as isize, gate, depth, masks);
            (x, kernel)
        }
    }
}

impl<const LONG: bool, const UNITS: usize, const GATES: bool, W: Weight>
    StepTile<'_, '_, Scalar<LONG>, 1, UNITS, true, GATES, W>
{
    /// The sums of all gates of one row, one lane at a time.
    #[inline(always)]
    pub fn sums_in_memory(&self, s: Scalar<LONG>) -> [[f32; UNITS]; 4] {
        let step = &*self.step;
        let mut sums = [[0.0; UNITS]; 4];
        for (g, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the tile lies within the step, and its buffers cover that.
            let gate = unsafe {
                self.place
                    .load(s, step.start, step.start_stride, g * step.hidden)
            };
            for (sum, [gate]) in sums.iter_mut().zip(gate) {
                *sum = gate;
            }
        }
        if !GATES {
            self.accumulate(s, step.input, &mut sums);
        }
        self.accumulate(s, step.recurrent, &mut sums);
        sums
    }

    #[inline(always)]
    fn accumulate(&self, s: Scalar<LONG>, product: Product<W>, sums: &mut [[f32; UNITS]; 4]) {
        let Product { depth, x, .. } = product;
        let (kernel, gate) = self.place_in_kernel(product);
        // SAFETY: the tile lies within the step, whose buffers cover that, and in one panel.
        unsafe {
            let x = x.add(self.place.row * depth);
            s.accumulate_gates(depth, x, kernel, 4 * gate, gate, sums);
        }
    }
}

/// The arguments of a step backward of B rows and H units.
pub(crate) struct BackwardArgs<'a> {
    pub batch: usize,
    pub hidden: usize,
    /// The activations of the gates `[B, 4, H]`, overwritten with the gradients of the
    /// pre-activations.
    pub gates: &'a mut [f32],
    /// `[B, H]`
    pub c_before: &'a [f32],
    /// `[B, H]`
    pub c: &'a [f32],
    /// `[B, H]`
    pub dy: &'a [f32],
    /// `[B, H]`; the gradient after the step, overwritten with that before it.
    pub dc: &'a mut [f32],
    /// `[B, H]`, likewise.
    pub dh: &'a mut [f32],
    /// The recurrent kernel `[4, H, H]`.
    pub transposed: &'a [f32],
}

/// The buffers of one step backward of B rows and H units, which all cover that.
pub struct StepBackward<'a> {
    batch: usize,
    hidden: usize,
    gates: *mut f32,
    c_before: *const f32,
    c: *const f32,
    dy: *const f32,
    dc: *mut f32,
    dh: *mut f32,
    transposed: *const f32,
    _buffers: PhantomData<&'a mut [f32]>,
}

impl<'a> StepBackward<'a> {
    /// `None` if a buffer has the wrong length.
    #[inline(always)]
    pub(crate) fn new(args: BackwardArgs<'a>) -> Option<Self> {
        let units = args.batch * args.hidden;
        let states = [args.c_before, args.c, args.dy, args.dc, args.dh];
        let fits = args.gates.len() == 4 * units
            && states.iter().all(|state| state.len() == units)
            && args.transposed.len() == 4 * args.hidden * args.hidden;
        debug_assert!(fits, "a buffer of the step has the wrong length");
        fits.then_some(Self {
            batch: args.batch,
            hidden: args.hidden,
            gates: args.gates.as_mut_ptr(),
            c_before: args.c_before.as_ptr(),
            c: args.c.as_ptr(),
            dy: args.dy.as_ptr(),
            dc: args.dc.as_mut_ptr(),
            dh: args.dh.as_mut_ptr(),
            transposed: args.transposed.as_ptr(),
            _buffers: PhantomData,
        })
    }

    /// Rows of the batch.
    #[inline(always)]
    pub(super) fn batch(&self) -> usize {
        self.batch
    }

    /// Units.
    #[inline(always)]
    pub(super) fn hidden(&self) -> usize {
        self.hidden
    }

    /// `ROWS` rows of all units, if a vector holds them.
    #[inline(always)]
    pub(super) fn tile<S: Simd, const ROWS: usize, const FULL: bool>(&mut self, s: S, row: usize) {
        let hidden = self.hidden;
        let Some(place) = Place::<S, ROWS, 1, FULL>::new(s, (self.batch, hidden), row, 0) else {
            debug_assert!(false, "a tile that the step does not have");
            return;
        };
        // SAFETY: the tile lies within the step, and its buffers cover that.
        unsafe {
            let mut gates = [[[s.splat(0.0); ROWS]; 1]; 4];
            for (g, gate) in gates.iter_mut().enumerate() {
                *gate = place.load(s, self.gates, 4 * hidden, g * hidden);
            }
            let [i, j, f, o] = gates;
            let mut states = [[[s.splat(0.0); ROWS]; 1]; 5];
            let (dh, dc) = (self.dh.cast_const(), self.dc.cast_const());
            let all = [self.c_before, self.c, self.dy, dh, dc];
            for (state, from) in states.iter_mut().zip(all) {
                *state = place.load(s, from, hidden, 0);
            }
            let [c_before, c, dy, dh, dc] = states;
            let inputs = [i, j, f, o, c_before, c, dy, dh, dc];
            let [i, j, f, o, dc] = s.evaluate(Backward, inputs);
            place.store(s, self.dc, hidden, 0, dc);
            for (g, dgate) in [i, j, f, o].into_iter().enumerate() {
                place.store(s, self.gates, 4 * hidden, g * hidden, dgate);
            }
            let left = Left::<ROWS>::new(
                self.gates.add(row * 4 * hidden),
                4 * hidden as isize,
                1,
                4 * hidden,
            );
            let right = Right::<S, _, 1, 1, FULL>::new(
                self.transposed,
                hidden as isize,
                0,
                4 * hidden,
                [place.mask],
            );
            let mut dh = [[s.splat(0.0); ROWS]];
            let sums = accumulate::<_, _, false, _, _, _, _>(
                s,
                left,
                right,
                None,
                [[[s.splat(0.0)]]; ROWS],
            );
            for (dh, [[sum]]) in dh[0].iter_mut().zip(sums) {
                *dh = sum;
            }
            place.store(s, self.dh, hidden, 0, dh);
        }
    }
}
