//! Some of a layer's units, for one row that several cores take together.
//!
//! A wide layer's step is as fast as its kernel can be read. Cores that take some of the
//! units each read only the columns of these; after every step they exchange what they
//! have of the hidden state, which is the caller's task: the core knows of no threads.

use super::step::Steps as _;
use super::tile::{FromPreact, Step};
use super::weights::{Weights, Zigzag, pack_gates_of};
use crate::error::{ArgumentError, check_len};
use crate::gemm::{Gemm as _, GemmArgs, Init, MatMut, MatRef};
use crate::layout::split::{CACHE_LINE, align_to_cache_line, copy_prefix};
use crate::layout::{Cut, LayerShape, Params};
use crate::simd::dispatch;
use core::ops::Range;

/// The parameters of U of a layer's H units, over a buffer that holds them packed. The bits
/// that come out are those of the whole layer.
///
/// The kernels are aligned to a cache line, and the first number of the buffer holds their offset.
/// So it may be copied or moved: at another alignment it is right, but read more slowly.
///
/// ```
/// use fused_lstm::{Flat, LayerShape, LayerUnits, Lstm, LstmState, Network, Zigzag};
///
/// let layer = LayerShape::new(2, 20);
/// let net = Lstm::<2, 20>::glorot_uniform(|| 0.75);
/// let x = [0.5, -0.5];
/// let mut whole = LstmState::<1, 20>::ZERO;
/// net.step(&[[x]], &mut whole, &mut Flat::zero());
///
/// // The last four units.
/// let mut packed = vec![0.0; LayerUnits::packed_len(layer, 4)];
/// LayerUnits::pack(layer, 16..20, net.as_flat(), &mut packed)?;
/// let part = LayerUnits::new(layer, 4, &packed)?;
///
/// let (mut preact, mut c, mut h) = ([0.0; 4 * 4], [0.0; 4], [0.0; 4]);
/// part.input_preact(1, &x, &mut preact)?;
/// part.step(1, &[0.0; 20], &mut preact, &mut c, &mut h, &mut Zigzag::default())?;
/// assert_eq!((&c[..], &h[..]), (&whole.c.as_flat()[16..], &whole.h.as_flat()[16..]));
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LayerUnits<'a> {
    layer: LayerShape,
    units: usize,
    /// `[I, 4, U]`.
    input: &'a [f32],
    /// Panels `[U / 16][H, 4, 16]`.
    recurrent: &'a [f32],
    /// `[4, U]`.
    bias: &'a [f32],
}

impl<'a> LayerUnits<'a> {
    /// The length of the buffer for so many units.
    #[inline]
    pub const fn packed_len(layer: LayerShape, units: usize) -> usize {
        let rows = layer.inputs.saturating_add(layer.hidden).saturating_add(1);
        // Room to align the kernels to a cache line at any alignment of the buffer, and for their
        // offset, which stands before them.
        rows.saturating_mul(4)
            .saturating_mul(units)
            .saturating_add(CACHE_LINE)
    }

    /// Packs the parameters of these units of a layer, of [`LayerShape::params_len`] numbers,
    /// into `to`, of [`packed_len`](Self::packed_len), which is overwritten.
    pub fn pack(
        layer: LayerShape,
        units: Range<usize>,
        params: &[f32],
        to: &mut [f32],
    ) -> Result<(), ArgumentError> {
        let params = Params::new(layer, params)?;
        check(layer, units.len())?;
        if units.end > layer.hidden {
            return Err(ArgumentError::Length {
                what: "units",
                expected: layer.hidden,
                got: units.end,
            });
        }
        check_len("to", Self::packed_len(layer, units.len()), to.len())?;
        let Some((distance, rest)) = to.split_first_mut() else {
            return Ok(());
        };
        let before = rest.len() - align_to_cache_line(&*rest).len();
        *distance = before as f32;
        let (recurrent, input, bias) = cut(layer, units.len(), before, rest);
        let (of_inputs, of_hidden) = params.split_kernel(layer);
        pack_gates_of(layer.hidden, units.clone(), recurrent, of_hidden);
        let gates = of_inputs
            .chunks_exact(layer.hidden)
            .chain(params.bias.chunks_exact(layer.hidden));
        let own = input
            .chunks_exact_mut(units.len())
            .chain(bias.chunks_exact_mut(units.len()));
        for (own, gate) in own.zip(gates) {
            copy_prefix(own, gate.get(units.clone()).unwrap_or(&[]));
        }
        Ok(())
    }

    /// Views what [`pack`](Self::pack) left for so many units.
    pub fn new(layer: LayerShape, units: usize, packed: &'a [f32]) -> Result<Self, ArgumentError> {
        check(layer, units)?;
        check_len("packed", Self::packed_len(layer, units), packed.len())?;
        let (distance, rest) = packed.split_first().unwrap_or((&0.0, &[]));
        // Of numbers that nobody packed only the place is held within the buffer.
        let before = (*distance as usize).min(CACHE_LINE - 1);
        let (recurrent, input, bias) = cut(layer, units, before, rest);
        Ok(Self {
            layer,
            units,
            input,
            recurrent,
            bias,
        })
    }

    /// `preact` `[R, 4, U]` is overwritten with bias + x·Wx for any number of rows of time and
    /// batch; `x` is `[R, I]`.
    pub fn input_preact(
        &self,
        rows: usize,
        x: &[f32],
        preact: &mut [f32],
    ) -> Result<(), ArgumentError> {
        check_len("x", rows.saturating_mul(self.layer.inputs), x.len())?;
        check_len("preact", self.preact_len(rows), preact.len())?;
        let args = GemmArgs {
            a: MatRef::new(x, rows, self.layer.inputs),
            b: MatRef::new(self.input, self.layer.inputs, 4 * self.units),
            init: Init::Bias(self.bias),
            c: MatMut::new(preact, rows, 4 * self.units),
            scratch: &mut [],
        };
        dispatch!(s => s.gemm(args));
        Ok(())
    }

    /// One step of these units, for `batch` rows: `preact` `[B, 4, U]` holds what
    /// [`input_preact`](Self::input_preact) left and is overwritten with the gate activations;
    /// `h_before` `[B, H]` is the whole layer's hidden state; `c` `[B, U]` is advanced; `h`
    /// `[B, U]` is overwritten.
    pub fn step(
        &self,
        batch: usize,
        h_before: &[f32],
        preact: &mut [f32],
        c: &mut [f32],
        h: &mut [f32],
        zigzag: &mut Zigzag,
    ) -> Result<(), ArgumentError> {
        let units = batch.saturating_mul(self.units);
        check_len(
            "h_before",
            batch.saturating_mul(self.layer.hidden),
            h_before.len(),
        )?;
        check_len("preact", self.preact_len(batch), preact.len())?;
        check_len("c", units, c.len())?;
        check_len("h", units, h.len())?;
        let step = Step::from_preact(FromPreact {
            batch,
            hidden: self.layer.hidden,
            units: self.units,
            recurrent: Weights::GatePanels(self.recurrent),
            h_before,
            preact,
            preact_stride: 4 * self.units,
            c_before: None,
            c,
            h,
        });
        let descending = zigzag.next();
        if let Some(mut step) = step {
            dispatch!(s => s.step_from_preact(&mut step, descending));
        }
        Ok(())
    }

    fn preact_len(&self, rows: usize) -> usize {
        rows.saturating_mul(4).saturating_mul(self.units)
    }
}

fn check(layer: LayerShape, units: usize) -> Result<(), ArgumentError> {
    for (what, size) in [
        ("inputs", layer.inputs),
        ("hidden", layer.hidden),
        ("units", units),
    ] {
        if size == 0 {
            return Err(ArgumentError::Zero { what });
        }
    }
    Ok(())
}

/// The recurrent kernel, the inputs' kernel, the bias.
fn cut<S: Cut>(layer: LayerShape, units: usize, before: usize, packed: S) -> (S, S, S) {
    let (_, packed) = packed.cut(before);
    let (recurrent, rest) = packed.cut(layer.hidden * 4 * units);
    let (input, rest) = rest.cut(layer.inputs * 4 * units);
    let (bias, _) = rest.cut(4 * units);
    (recurrent, input, bias)
}
