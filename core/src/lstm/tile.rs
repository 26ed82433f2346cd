//! The memory of one step of a layer: checked once, then read and written a register tile at a
//! time. With [`micro`](crate::gemm::micro) all that a step does by pointers.

#![allow(unsafe_code)]

use crate::gemm::micro::{Left, Right, Tile, accumulate};
use crate::lstm::weights::{Order, PANEL};
use crate::simd::Simd;
use core::marker::PhantomData;

/// A kernel `[K, 4, H]`, in rows or in panels, and what it is multiplied with: `[B, K]`.
#[derive(Clone, Copy)]
struct Product {
    depth: usize,
    x: *const f32,
    kernel: *const f32,
}

/// The buffers of one step of B rows and H units. All of them cover that.
pub(crate) struct Step<'a, const GATES: bool> {
    pub batch: usize,
    pub hidden: usize,
    order: Order,
    /// `[B, 4, H]`, or one row for all.
    start: *const f32,
    start_row: usize,
    /// Only without gates.
    input: Product,
    recurrent: Product,
    /// Where the activations go, with gates: `[B, 4, H]`.
    gates: *mut f32,
    c_before: *const f32,
    c: *mut f32,
    h: *mut f32,
    _buffers: PhantomData<&'a mut [f32]>,
}

impl<'a> Step<'a, false> {
    /// From the bias `[4, H]`: x·Wx is added too. `c` is advanced in place.
    #[inline(always)]
    pub fn from_bias(
        (batch, inputs, hidden): (usize, usize, usize),
        order: Order,
        bias: &'a [f32],
        (x, input): (&'a [f32], &'a [f32]),
        (h_before, recurrent): (&'a [f32], &'a [f32]),
        c: &'a mut [f32],
        h: &'a mut [f32],
    ) -> Option<Self> {
        let units = batch * hidden;
        let fits = bias.len() == 4 * hidden
            && x.len() == batch * inputs
            && input.len() == inputs * 4 * hidden
            && h_before.len() == units
            && recurrent.len() == hidden * 4 * hidden
            && c.len() == units
            && h.len() == units;
        debug_assert!(fits, "a buffer of the step has the wrong length");
        let c = c.as_mut_ptr();
        fits.then_some(Self {
            batch,
            hidden,
            order,
            start: bias.as_ptr(),
            start_row: 0,
            input: Product {
                depth: inputs,
                x: x.as_ptr(),
                kernel: input.as_ptr(),
            },
            recurrent: Product {
                depth: hidden,
                x: h_before.as_ptr(),
                kernel: recurrent.as_ptr(),
            },
            gates: core::ptr::null_mut(),
            c_before: c,
            c,
            h: h.as_mut_ptr(),
            _buffers: PhantomData,
        })
    }
}

impl<'a> Step<'a, true> {
    /// From `sums` `[B, 4, H]`, their rows so far apart, which take the activations. `c` is advanced
    /// in place if there is no `c_before`.
    #[inline(always)]
    pub fn from_sums(
        (batch, all, hidden): (usize, usize, usize),
        order: Order,
        (sums, row): (&'a mut [f32], usize),
        (h_before, recurrent): (&'a [f32], &'a [f32]),
        c_before: Option<&'a [f32]>,
        c: &'a mut [f32],
        h: &'a mut [f32],
    ) -> Option<Self> {
        let units = batch * hidden;
        let fits = row >= 4 * hidden
            && sums.len() == batch * row
            && h_before.len() == batch * all
            && recurrent.len() == all * 4 * hidden
            && c_before.is_none_or(|c| c.len() == units)
            && c.len() == units
            && h.len() == units;
        debug_assert!(fits, "a buffer of the step has the wrong length");
        let (c, sums) = (c.as_mut_ptr(), sums.as_mut_ptr());
        fits.then_some(Self {
            batch,
            hidden,
            order,
            start: sums,
            start_row: row,
            input: Product {
                depth: 0,
                x: core::ptr::null(),
                kernel: core::ptr::null(),
            },
            recurrent: Product {
                depth: all,
                x: h_before.as_ptr(),
                kernel: recurrent.as_ptr(),
            },
            gates: sums,
            c_before: c_before.map_or(c.cast_const(), |c| c.as_ptr()),
            c,
            h: h.as_mut_ptr(),
            _buffers: PhantomData,
        })
    }
}

impl<'a, const GATES: bool> Step<'a, GATES> {
    /// `ROWS` rows and `VECTORS` vectors of units, or unless `FULL` what is left of the units in
    /// one. `None` if the step does not have them.
    #[inline(always)]
    pub fn tile<S: Simd, const ROWS: usize, const VECTORS: usize, const FULL: bool>(
        &mut self,
        s: S,
        row: usize,
        at: usize,
    ) -> Option<StepTile<'_, 'a, S, ROWS, VECTORS, FULL, GATES>> {
        let place = Place::new(s, (self.batch, self.hidden), row, at)?;
        Some(StepTile { step: self, place })
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
        let mask = s.mask(if FULL { S::LANES } else { left });
        (row + ROWS <= rows && inside).then_some(Self { row, at, mask })
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

    /// The way back.
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
> {
    step: &'t mut Step<'a, GATES>,
    place: Place<S, ROWS, VECTORS, FULL>,
}

impl<S: Simd, const ROWS: usize, const VECTORS: usize, const FULL: bool, const GATES: bool>
    StepTile<'_, '_, S, ROWS, VECTORS, FULL, GATES>
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
        for g in 0..4 {
            // SAFETY: the tile lies within the step, and its buffers cover that.
            let gate = unsafe { part.load(s, step.start, step.start_row, g * step.hidden) };
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums[g].iter_mut().enumerate() {
                    *sum = gate[v][r];
                }
            }
        }
        if !GATES {
            let (x, kernel) = self.operands(step.input, row);
            sums = accumulate::<_, true, _, _, _, _>(s, x, kernel, None, sums);
        }
        let (h, kernel) = self.operands(step.recurrent, row);
        accumulate::<_, true, _, _, _, _>(s, h, kernel, None, sums)
    }

    /// What the sums of the tile's one row start from.
    #[inline(always)]
    pub fn start(&self, s: S) -> [[S::V; VECTORS]; 4] {
        let step = &*self.step;
        let Place { row, at, mask } = self.place;
        let part = Place::<S, 1, VECTORS, FULL> { row, at, mask };
        let mut start = [[s.splat(0.0); VECTORS]; 4];
        for (g, start) in start.iter_mut().enumerate() {
            // SAFETY: the tile lies within the step, and its buffers cover that.
            let gate = unsafe { part.load(s, step.start, step.start_row, g * step.hidden) };
            for (start, [gate]) in start.iter_mut().zip(gate) {
                *start = gate;
            }
        }
        start
    }

    #[inline(always)]
    pub fn input(&self) -> Option<(Left<1>, Right<S, 4, VECTORS, FULL>)> {
        (!GATES).then(
            #[inline(always)]
            || self.operands(self.step.input, self.place.row),
        )
    }

    #[inline(always)]
    pub fn recurrent(&self) -> (Left<1>, Right<S, 4, VECTORS, FULL>) {
        self.operands(self.step.recurrent, self.place.row)
    }

    /// The cell state before the step.
    #[inline(always)]
    pub fn c_before(&self, s: S) -> [[S::V; ROWS]; VECTORS] {
        // SAFETY: the tile lies within the step, and its buffers cover that.
        unsafe { self.place.load(s, self.step.c_before, self.step.hidden, 0) }
    }

    /// Writes what the step comes to.
    #[inline(always)]
    pub fn finish(
        self,
        s: S,
        gates: [[[S::V; ROWS]; VECTORS]; 4],
        c: [[S::V; ROWS]; VECTORS],
        h: [[S::V; ROWS]; VECTORS],
    ) {
        let Self { step, place } = self;
        // SAFETY: the tile lies within the step, and its buffers cover that.
        unsafe {
            place.store(s, step.c, step.hidden, 0, c);
            place.store(s, step.h, step.hidden, 0, h);
            if GATES {
                let to = step.gates;
                for (g, gate) in gates.into_iter().enumerate() {
                    place.store(s, to, step.start_row, g * step.hidden, gate);
                }
            }
        }
    }

    #[inline(always)]
    fn operands<const PART: usize>(
        &self,
        Product { depth, x, kernel }: Product,
        row: usize,
    ) -> (Left<PART>, Right<S, 4, VECTORS, FULL>) {
        let hidden = self.step.hidden;
        let (at, width) = match self.step.order {
            Order::Rows => (self.place.at, hidden),
            Order::Panels => {
                let panel = self.place.at / PANEL * PANEL;
                let width = PANEL.min(hidden - panel);
                (panel * 4 * depth + self.place.at - panel, width)
            }
        };
        // SAFETY: the tile lies within the step, whose buffers cover that; `VECTORS` vectors are
        // in one panel.
        unsafe {
            let x = Left::new(x.add(row * depth), depth as isize, 1, depth);
            let kernel = Right::new(
                kernel.add(at),
                4 * width as isize,
                width,
                depth,
                [self.place.mask; VECTORS],
            );
            (x, kernel)
        }
    }
}

/// The buffers of one step backward of B rows and H units, which all cover that.
pub(crate) struct StepBack<'a> {
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

/// What a tile backward reads: the gates, `c_before` and `c`, `dy`, `dh` and `dc`.
pub(crate) type Given<V> = ([V; 4], (V, V), (V, V, V));

impl<'a> StepBack<'a> {
    #[inline(always)]
    pub fn new(
        (batch, hidden): (usize, usize),
        gates: &'a mut [f32],
        (c_before, c, dy): (&'a [f32], &'a [f32], &'a [f32]),
        (dc, dh): (&'a mut [f32], &'a mut [f32]),
        transposed: &'a [f32],
    ) -> Option<Self> {
        let units = batch * hidden;
        let fits = gates.len() == 4 * units
            && [c_before, c, dy, dc, dh].iter().all(|b| b.len() == units)
            && transposed.len() == 4 * hidden * hidden;
        debug_assert!(fits, "a buffer of the step has the wrong length");
        fits.then_some(Self {
            batch,
            hidden,
            gates: gates.as_mut_ptr(),
            c_before: c_before.as_ptr(),
            c: c.as_ptr(),
            dy: dy.as_ptr(),
            dc: dc.as_mut_ptr(),
            dh: dh.as_mut_ptr(),
            transposed: transposed.as_ptr(),
            _buffers: PhantomData,
        })
    }

    /// `ROWS` rows of all units, if a vector holds them. `gradients` turns what is read into the
    /// gradients of the gates and of `c_before`; that of `h_before` follows from the former.
    #[inline(always)]
    pub fn tile<S: Simd, const ROWS: usize, const FULL: bool>(
        &mut self,
        s: S,
        row: usize,
        gradients: impl FnOnce(Given<[[S::V; ROWS]; 1]>) -> ([[[S::V; ROWS]; 1]; 4], [[S::V; ROWS]; 1]),
    ) {
        let hidden = self.hidden;
        let Some(place) = Place::<S, ROWS, 1, FULL>::new(s, (self.batch, hidden), row, 0) else {
            return;
        };
        // SAFETY: the tile lies within the step, and its buffers cover that.
        unsafe {
            let mut gates = [[[s.splat(0.0); ROWS]; 1]; 4];
            for (g, gate) in gates.iter_mut().enumerate() {
                *gate = place.load(s, self.gates, 4 * hidden, g * hidden);
            }
            let mut units = [[[s.splat(0.0); ROWS]; 1]; 5];
            let (dh, dc) = (self.dh.cast_const(), self.dc.cast_const());
            for (units, from) in units
                .iter_mut()
                .zip([self.c_before, self.c, self.dy, dh, dc])
            {
                *units = place.load(s, from, hidden, 0);
            }
            let [c_before, c, dy, dh, dc] = units;
            let (dgates, dc) = gradients((gates, (c_before, c), (dy, dh, dc)));
            place.store(s, self.dc, hidden, 0, dc);
            for (g, dgate) in dgates.into_iter().enumerate() {
                place.store(s, self.gates, 4 * hidden, g * hidden, dgate);
            }
            let left = Left::<ROWS>::new(
                self.gates.add(row * 4 * hidden),
                4 * hidden as isize,
                1,
                4 * hidden,
            );
            let right = Right::<S, 1, 1, FULL>::new(
                self.transposed,
                hidden as isize,
                0,
                4 * hidden,
                [place.mask],
            );
            let mut dh = [[s.splat(0.0); ROWS]];
            let sums =
                accumulate::<_, false, _, _, _, _>(s, left, right, None, [[[s.splat(0.0)]]; ROWS]);
            for (dh, [[sum]]) in dh[0].iter_mut().zip(sums) {
                *dh = sum;
            }
            place.store(s, self.dh, hidden, 0, dh);
        }
    }
}
