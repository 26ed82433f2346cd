//! One LSTM layer with options whose sizes are types, and its buffers.

use super::recurrent::{Backward, Cache, Forward, Masks, Recurrent as _, Rows};
use super::run::check_rows;
use super::stage::{Cell, Direction, LstmStage, Returns, Zoneout};
use crate::error::ArgumentError;
use crate::layout::flat::{Flat, flat};
use crate::layout::{Cut, Extent, LayerShape};
use crate::narrow::Storage;
use crate::simd::dispatch;

/// An LSTM layer of `I` inputs, `H` hidden units and `P` outputs, with the options of a [`Cell`]: its
/// parameters, or their gradients. [`Lstm`](crate::Lstm) is for plain ones, and faster.
///
/// `E` is 3 with peepholes, else 0. Without a projection, `R` is 0 and `P` is `H`; with one, `R` is
/// `H`. What a cell says of its sizes is passed over. In memory it is what an [`LstmStage`] of a
/// [`Chain`](crate::Chain) in one direction has, and it gives the same bits.
///
/// ```
/// use fused_lstm::{Activation, Cell, Flat, VariantLstm};
///
/// // Peepholes, and a projection of 4 units to 2 outputs.
/// let mut layer = VariantLstm::<3, 4, 2, 3, 4>::ZERO;
/// layer.as_flat_mut().fill(0.1);
/// let cell = Cell { cell_clip: 0.5, ..Cell::PLAIN };
///
/// let x = [[[1.0; 3]; 2]; 5]; // [T, B, I]
/// let (mut state, mut y) = (Flat::ZERO, [[[0.0; 2]; 2]; 5]);
/// layer.infer(&cell, None, &x, &mut state, &mut y, &mut Flat::zero())?;
/// assert_eq!(y[4], state.h);
///
/// // The same with a cache, and gradients of the sum of all outputs.
/// let (mut state, mut cache) = (Flat::ZERO, Flat::zero());
/// layer.forward(&cell, None, &x, &mut state, &mut y, &mut cache)?;
/// let (mut gradients, mut dstate) = (VariantLstm::ZERO, Flat::ZERO);
/// let dx = layer.backward(
///     &cell, None, &x, &[[[1.0; 2]; 2]; 5], &mut dstate, &mut cache, &mut gradients, &mut Flat::zero(),
/// )?;
/// assert!(gradients.projection[0][0] > 0.0 && dx[0][0][0] > 0.0);
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VariantLstm<
    const I: usize,
    const H: usize,
    const P: usize,
    const E: usize,
    const R: usize,
> {
    /// From the inputs: `[I, 4, H]`, gates i, j, f, o.
    pub input_kernel: [[[f32; H]; 4]; I],
    /// From the outputs of the step before: `[P, 4, H]`.
    pub recurrent_kernel: [[[f32; H]; 4]; P],
    /// `[4, H]`; the forget bias stands in the third.
    pub bias: [[f32; H]; 4],
    /// Of i, f and o.
    pub peepholes: [[f32; H]; E],
    /// `[H, P]`.
    pub projection: [[f32; P]; R],
}

/// The state of a [`VariantLstm`] for `B` rows.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VariantState<const B: usize, const H: usize, const P: usize> {
    /// The cell state.
    pub c: [[f32; H]; B],
    /// The hidden state, which is the output too.
    pub h: [[f32; P]; B],
}

/// Room of a step: the gates of a row, m, and what it is projected to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VariantRoom<const B: usize, const H: usize, const P: usize> {
    gates: [[f32; H]; 4],
    m: [[f32; H]; B],
    projected: [[f32; P]; B],
}

/// Room of [`VariantLstm::infer`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VariantScratch<const T: usize, const B: usize, const H: usize, const P: usize> {
    z: [[[[f32; H]; 4]; B]; T],
    room: VariantRoom<B, H, P>,
}

/// What a forward pass leaves for the backward pass.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VariantCache<const T: usize, const B: usize, const H: usize, const P: usize> {
    z: [[[[f32; H]; 4]; B]; T],
    c: [[[f32; H]; B]; T],
    last_c: [[f32; H]; B],
    h: [[[f32; P]; B]; T],
    last_h: [[f32; P]; B],
    projected: [[[f32; P]; B]; T],
    room: VariantRoom<B, H, P>,
}

/// Room of [`VariantLstm::backward`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VariantWorkspace<
    const T: usize,
    const B: usize,
    const I: usize,
    const H: usize,
    const P: usize,
> {
    rows: [[f32; H]; 8],
    dm: [[f32; H]; B],
    dh: [[[f32; P]; B]; 2],
    recurrent: [[[f32; P]; H]; 4],
    input: [[[f32; I]; H]; 4],
    m: [[[f32; H]; B]; T],
    projection: [[f32; H]; P],
}

flat! {
    [const I: usize, const H: usize, const P: usize, const E: usize, const R: usize]
    VariantLstm<I, H, P, E, R> { input_kernel, recurrent_kernel, bias, peepholes, projection };
    [const B: usize, const H: usize, const P: usize] VariantState<B, H, P> { c, h };
    [const B: usize, const H: usize, const P: usize] VariantRoom<B, H, P> { gates, m, projected };
    [const T: usize, const B: usize, const H: usize, const P: usize]
    VariantScratch<T, B, H, P> { z, room };
    [const T: usize, const B: usize, const H: usize, const P: usize]
    VariantCache<T, B, H, P> { z, c, last_c, h, last_h, projected, room };
    [const T: usize, const B: usize, const I: usize, const H: usize, const P: usize]
    VariantWorkspace<T, B, I, H, P> { rows, dm, dh, recurrent, input, m, projection };
}

impl<const I: usize, const H: usize, const P: usize, const E: usize, const R: usize>
    VariantLstm<I, H, P, E, R>
{
    const FITS: () = {
        assert!(
            I > 0 && H > 0 && P > 0,
            "a layer needs at least one of each"
        );
        assert!(E == 0 || E == 3, "peepholes are three, or none");
        assert!(
            R == 0 || R == H,
            "a projection has a row for each hidden unit"
        );
        assert!(
            R == H || P == H,
            "without a projection the outputs are the units"
        );
    };

    /// Refuses functions of rows, clips that are no positive numbers, zoneout, and layer normalisation.
    fn stage(cell: &Cell) -> Result<LstmStage, ArgumentError> {
        const { Self::FITS };
        if let Some(what) = cell.problem() {
            return Err(ArgumentError::Stage { index: 0, what });
        }
        if cell.zoneout != Zoneout::NONE || cell.layer_norm {
            let what = "no zoneout or layer normalisation, which chains have";
            return Err(ArgumentError::Stage { index: 0, what });
        }
        Ok(LstmStage {
            layer: LayerShape::new(I, H),
            cell: Cell {
                projection: if R == 0 { None } else { Some(P) },
                peepholes: E == 3,
                ..*cell
            },
            direction: Direction::Forward,
            returns: Returns::Sequence,
            storage: Storage::F32,
            recurrent_mask: false,
        })
    }

    /// Refuses rows that are longer than the sequence.
    fn rows<const T: usize, const B: usize>(
        lengths: Option<&[usize; B]>,
    ) -> Result<Rows<'_>, ArgumentError> {
        let lengths = lengths.map(|lengths| &lengths[..]);
        check_rows(Extent { steps: T, batch: B }, lengths)?;
        Ok(Rows {
            lengths,
            reversed: false,
            steps: T,
        })
    }

    /// `T` steps of `B` rows: `state` is advanced, `y` overwritten; `scratch` holds nothing of use
    /// after. `lengths`, if there are any, say how many steps each row has: beyond them `y` is zero and
    /// the state stays. Refuses a cell as [`Chain::new`](crate::Chain::new) does, one with zoneout or layer
    /// normalisation, and rows that are longer than the sequence.
    pub fn infer<const T: usize, const B: usize>(
        &self,
        cell: &Cell,
        lengths: Option<&[usize; B]>,
        x: &[[[f32; I]; B]; T],
        state: &mut VariantState<B, H, P>,
        y: &mut [[[f32; P]; B]; T],
        scratch: &mut VariantScratch<T, B, H, P>,
    ) -> Result<(), ArgumentError> {
        let (stage, rows) = (Self::stage(cell)?, Self::rows::<T, B>(lengths)?);
        dispatch!(s => s.recur(Forward {
            stage,
            extent: Extent { steps: T, batch: B },
            rows,
            params: self.as_flat(),
            x: x.as_flat(),
            state: state.as_flat_mut(),
            y: y.as_flat_mut(),
            z: scratch.z.as_flat_mut(),
            cache: None,
            masks: Masks::default(),
            room: scratch.room.as_flat_mut(),
        }));
        Ok(())
    }

    /// [`infer`](Self::infer) with a cache for [`backward`](Self::backward), which is overwritten.
    pub fn forward<const T: usize, const B: usize>(
        &self,
        cell: &Cell,
        lengths: Option<&[usize; B]>,
        x: &[[[f32; I]; B]; T],
        state: &mut VariantState<B, H, P>,
        y: &mut [[[f32; P]; B]; T],
        cache: &mut VariantCache<T, B, H, P>,
    ) -> Result<(), ArgumentError> {
        let (stage, rows) = (Self::stage(cell)?, Self::rows::<T, B>(lengths)?);
        let extent = Extent { steps: T, batch: B };
        let (z, rest) = cache.as_flat_mut().cut(T * B * 4 * H);
        let (kept, room) = rest.cut(Self::kept_len(T, B));
        dispatch!(s => s.recur(Forward {
            stage,
            extent,
            rows,
            params: self.as_flat(),
            x: x.as_flat(),
            state: state.as_flat_mut(),
            y: y.as_flat_mut(),
            z,
            cache: Some(Cache::cut(&stage, extent, kept)),
            masks: Masks::default(),
            room,
        }));
        Ok(())
    }

    /// The gradient of `x`, from `dy`, that of `y`: `dstate`, the gradient of the final state, is
    /// overwritten with that of the initial one, `gradients` accumulated to; `cache` and `workspace`
    /// hold nothing of use after. `lengths` are those of the forward pass.
    pub fn backward<const T: usize, const B: usize>(
        &self,
        cell: &Cell,
        lengths: Option<&[usize; B]>,
        x: &[[[f32; I]; B]; T],
        dy: &[[[f32; P]; B]; T],
        dstate: &mut VariantState<B, H, P>,
        cache: &mut VariantCache<T, B, H, P>,
        gradients: &mut Self,
        workspace: &mut VariantWorkspace<T, B, I, H, P>,
    ) -> Result<[[[f32; I]; B]; T], ArgumentError> {
        let (stage, rows) = (Self::stage(cell)?, Self::rows::<T, B>(lengths)?);
        let extent = Extent { steps: T, batch: B };
        let mut dx = [[[0.0; I]; B]; T];
        let (z, rest) = cache.as_flat_mut().cut(T * B * 4 * H);
        let (kept, _) = rest.cut(Self::kept_len(T, B));
        dispatch!(s => s.recur_back(Backward {
            stage,
            extent,
            rows,
            params: self.as_flat(),
            x: x.as_flat(),
            dy: dy.as_flat(),
            dstate: dstate.as_flat_mut(),
            z,
            cache: Cache::cut(&stage, extent, kept),
            masks: Masks::default(),
            gradients: gradients.as_flat_mut(),
            dx: dx.as_flat_mut(),
            room: workspace.as_flat_mut(),
        }));
        Ok(dx)
    }

    /// The states and projections of a cache.
    const fn kept_len(steps: usize, batch: usize) -> usize {
        (steps + 1) * batch * (H + P) + steps * batch * P
    }
}
