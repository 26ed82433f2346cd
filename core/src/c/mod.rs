//! The run-time API for C: inference and training, and inference through chains, as functions over the
//! caller's buffers.
//!
//! `core/examples/c` has the header, the static library and a program. No function keeps
//! anything of the caller's, allocates or panics. Each returns a [`Status`]; if it is not `OK`,
//! nothing was written.
//!
//! # What every caller promises
//!
//! A pointer that is not null points to what its type says, and to as many values as the length
//! beside it says; values that are read have been written before; no other thread writes what a
//! call reads, or touches what it writes. Null and misaligned pointers, lengths that do not fit
//! the shape, and overlapping buffers are refused; nothing that is written may overlap the shape or
//! its list of hidden sizes either. The header says how much stack each call takes.
//!
//! ```
//! use fused_lstm::c::*;
//!
//! let hidden = [4, 4, 4];
//! let shape = Shape { inputs: 1, hidden: hidden.as_ptr(), layers: 3, classes: 2 };
//! let mut lengths = Lengths::default();
//! // SAFETY: the pointers are those of living values, which overlap nothing.
//! let status = unsafe { fused_lstm_lengths(&shape, 15, 5, &mut lengths) };
//! assert_eq!(status, Status::Ok);
//! assert_eq!((lengths.params, lengths.state), (394, 120));
//! let null = core::ptr::null();
//! // SAFETY: as above.
//! let status = unsafe { fused_lstm_lengths(null, 15, 5, &mut lengths) };
//! assert_eq!(status, Status::Null);
//! ```
#![allow(unsafe_code)]

mod buffers;
mod chain;

pub use chain::{
    Activation, ChainLengths, Stage, Stages, fused_lstm_chain_lengths, fused_lstm_chain_run,
};

use crate::error::ArgumentError;
use crate::layout::{Extent, NetworkShape};
use crate::model::{LossGradient, Model};
use crate::train::loss::softmax;
use crate::train::optimizer::{Adagrad, Adam, Momentum, RmsProp, Sgd, clip_by_global_norm};
use buffers::{Span, apart, one, slice, span, writable};
use core::ffi::c_void;

/// What a call came to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// A pointer is null. Only a buffer of length zero may be.
    Null = 1,
    /// A pointer is not aligned as its type must be.
    Misaligned = 2,
    /// A buffer does not have the length that [`fused_lstm_lengths`] gives. They are looked at in
    /// the order of the arguments.
    Length = 3,
    /// A buffer that is written shares memory with another.
    Overlap = 4,
    /// A size of the network is zero, or there is no row to learn from. Inference of no steps or
    /// no rows is done at once.
    Zero = 5,
    /// A label is neither below the number of classes nor `FUSED_LSTM_IGNORE`.
    Label = 6,
    /// The network has no dense head, and the call needs one.
    NoHead = 7,
    /// A gradient is NaN or infinite, or an update would make a slot or a parameter so.
    NotFinite = 8,
    /// The norm to clip to is not above zero.
    NotPositive = 9,
    /// A stage of a chain has an invalid option or position, or there are too many.
    Stage = 10,
    /// A table index is not a whole number, or is out of range.
    Index = 11,
}

impl From<ArgumentError> for Status {
    fn from(error: ArgumentError) -> Self {
        match error {
            ArgumentError::Length { .. } | ArgumentError::RowLength { .. } => Self::Length,
            ArgumentError::Stage { .. }
            | ArgumentError::StageInputs { .. }
            | ArgumentError::StageSteps { .. } => Self::Stage,
            ArgumentError::Index { .. } => Self::Index,
            ArgumentError::Zero { .. } => Self::Zero,
            ArgumentError::Label { .. } => Self::Label,
            ArgumentError::NoHead => Self::NoHead,
            ArgumentError::NotFinite { .. } | ArgumentError::Words => Self::NotFinite,
            ArgumentError::NotPositive { .. } | ArgumentError::Range { .. } => Self::NotPositive,
        }
    }
}

/// The status of a call.
fn status(result: Result<(), Status>) -> Status {
    match result {
        Ok(()) => Status::Ok,
        Err(status) => status,
    }
}

/// The sizes of a network: LSTM layers one above the other, and a dense head if there are classes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Inputs of the first layer.
    pub inputs: usize,
    /// Hidden units of each layer, from the first to the last.
    pub hidden: *const usize,
    /// How many layers.
    pub layers: usize,
    /// Outputs of the dense head; 0 if there is none.
    pub classes: usize,
}

/// How many values each buffer of a call has; `SIZE_MAX` if that many cannot be.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Each layer's kernel `[inputs + hidden, 4, hidden]`, gates i, j, f, o, and bias
    /// `[4, hidden]`, then the head's kernel `[hidden, classes]` and bias `[classes]`. Gradients
    /// have as many.
    pub params: usize,
    /// Cell state `[batch, hidden]` and hidden state of each layer.
    pub state: usize,
    /// Inputs `[steps, batch, inputs]`.
    pub x: usize,
    /// The last layer's hidden states `[steps, batch, hidden]`.
    pub y: usize,
    /// Labels `[steps, batch]`.
    pub labels: usize,
    /// Class probabilities, or logits, `[steps, batch, classes]`.
    pub probabilities: usize,
    /// What squared error is taken of, and its targets: the head's outputs `[steps, batch, classes]`,
    /// or `y` if there is no head.
    pub outputs: usize,
    /// Room for inference.
    pub scratch: usize,
    /// Room for training: what the forward pass leaves to the backward pass.
    pub cache: usize,
    /// Room for training: the backward pass.
    pub workspace: usize,
}

/// Numbers that are read: `len` of them from `data`, which may be null if `len` is zero.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ConstFloats {
    /// The first.
    pub data: *const f32,
    /// How many.
    pub len: usize,
}

/// Numbers that are written, and overlap nothing else that the call gets.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Floats {
    /// The first.
    pub data: *mut f32,
    /// How many.
    pub len: usize,
}

/// Class labels; `FUSED_LSTM_IGNORE` (`loss::IGNORE`) is that of a row that does not count.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Labels {
    /// The first.
    pub data: *const u32,
    /// How many.
    pub len: usize,
}

/// Which rows `[steps, batch]` count: those whose byte is not 0. All do if `data` is null and `len`
/// is zero.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    /// The first.
    pub data: *const u8,
    /// How many.
    pub len: usize,
}

/// The shape, and where it and its array lie.
///
/// # Safety
///
/// The module's.
unsafe fn network<'a>(shape: *const Shape) -> Result<(NetworkShape<'a>, [Span; 2]), Status> {
    let own = span(shape, 1)?;
    // SAFETY: neither null nor misaligned; the caller promises the rest.
    let shape = unsafe { shape.read() };
    let at = [own, span(shape.hidden, shape.layers)?];
    let network = NetworkShape {
        inputs: shape.inputs,
        // SAFETY: accepted by `span`; what is written is held against it by `apart`.
        hidden: unsafe { slice(shape.hidden, shape.layers) },
        classes: (shape.classes != 0).then_some(shape.classes),
    };
    network.check()?;
    Ok((network, at))
}

/// How long the buffers for `steps` time steps of `batch` rows are; `*lengths` is overwritten.
///
/// # Safety
///
/// What every caller promises, at the top.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fused_lstm_lengths(
    shape: *const Shape,
    steps: usize,
    batch: usize,
    lengths: *mut Lengths,
) -> Status {
    status((|| {
        // SAFETY: the caller's promise.
        let (shape, [own, hidden]) = unsafe { network(shape) }?;
        apart(&[own, hidden], &[span(lengths, 1)?])?;
        let extent = Extent { steps, batch };
        let lens = shape.lengths(extent);
        let all = Lengths {
            params: lens.params,
            state: lens.state,
            x: lens.x,
            y: lens.y,
            labels: lens.labels,
            probabilities: shape.logits_len(extent),
            outputs: lens.outputs,
            scratch: lens.scratch,
            cache: lens.cache,
            workspace: lens.workspace,
        };
        // SAFETY: neither null nor misaligned, and the caller's to write.
        unsafe { lengths.write(all) };
        Ok(())
    })())
}

/// Sets `params` to a start: Glorot-uniform kernels, biases of 0, but 1 for the forget gates. The
/// kernels are drawn in their order from `random`, which gives numbers from 0 to below 1 and gets
/// `context` back.
///
/// # Safety
///
/// What every caller promises, at the top; `random` may be called with `context`, does not touch
/// what the call gets, and returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fused_lstm_init(
    shape: *const Shape,
    params: Floats,
    random: Option<unsafe extern "C" fn(context: *mut c_void) -> f32>,
    context: *mut c_void,
) -> Status {
    status((|| {
        let random = random.ok_or(Status::Null)?;
        // SAFETY: the caller's promise.
        let (shape, own) = unsafe { network(shape) }?;
        // SAFETY: as above.
        let [params] = unsafe { writable(&own, [params]) }?;
        // SAFETY: the caller's promise on `random`.
        let random = || unsafe { random(context) };
        crate::train::init::glorot_uniform(shape, params, random)?;
        Ok(())
    })())
}

/// Inference: `state` is advanced by `steps` time steps, `y` (the last layer's hidden states) is
/// overwritten, and what is in `scratch` does not matter. A stream is taken with `steps` = 1.
///
/// # Safety
///
/// What every caller promises, at the top.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fused_lstm_infer(
    shape: *const Shape,
    params: ConstFloats,
    steps: usize,
    batch: usize,
    x: ConstFloats,
    state: Floats,
    y: Floats,
    scratch: Floats,
) -> Status {
    status((|| {
        // SAFETY: the caller's promise.
        let (shape, [own, hidden]) = unsafe { network(shape) }?;
        let read = [own, hidden, params.span()?, x.span()?];
        // SAFETY: as above.
        let [state, y, scratch] = unsafe { writable(&read, [state, y, scratch]) }?;
        // SAFETY: accepted by `span`, and apart from what is written.
        let (params, x) = unsafe { (params.slice(), x.slice()) };
        Model::new(shape, params)?.infer(Extent { steps, batch }, x, state, y, scratch)?;
        Ok(())
    })())
}

/// The dense head on `y`: `logits`, as many as `probabilities`, is overwritten. They are the
/// outputs of a network whose outputs are numbers.
///
/// # Safety
///
/// What every caller promises, at the top.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fused_lstm_logits(
    shape: *const Shape,
    params: ConstFloats,
    steps: usize,
    batch: usize,
    y: ConstFloats,
    logits: Floats,
) -> Status {
    // SAFETY: the caller's promise.
    status(unsafe { head(shape, params, steps, batch, y, logits) }.map(drop))
}

/// The dense head on `y`, and its softmax: `probabilities` is overwritten.
///
/// # Safety
///
/// What every caller promises, at the top.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fused_lstm_probabilities(
    shape: *const Shape,
    params: ConstFloats,
    steps: usize,
    batch: usize,
    y: ConstFloats,
    probabilities: Floats,
) -> Status {
    status((|| {
        // SAFETY: the caller's promise.
        let (classes, probabilities) =
            unsafe { head(shape, params, steps, batch, y, probabilities) }?;
        Ok(softmax(classes, probabilities)?)
    })())
}

/// The classes, and the logits, which have been overwritten.
///
/// # Safety
///
/// The module's.
unsafe fn head<'a>(
    shape: *const Shape,
    params: ConstFloats,
    steps: usize,
    batch: usize,
    y: ConstFloats,
    logits: Floats,
) -> Result<(usize, &'a mut [f32]), Status> {
    // SAFETY: the caller's promise.
    let (shape, [own, hidden]) = unsafe { network(shape) }?;
    let read = [own, hidden, params.span()?, y.span()?];
    // SAFETY: as above.
    let [logits] = unsafe { writable(&read, [logits]) }?;
    // SAFETY: accepted by `span`, and apart from what is written.
    let (params, y) = unsafe { (params.slice(), y.slice()) };
    Model::new(shape, params)?.logits(Extent { steps, batch }, y, logits)?;
    Ok((shape.classes.ok_or(Status::NoHead)?, logits))
}

/// Forward and backward through `steps` time steps: `state` is advanced, the gradients of the mean
/// softmax cross-entropy are added to `gradients`; `probabilities` and `*loss` are overwritten;
/// what is in `cache` and `workspace` does not matter. The mean is over the rows whose label is
/// not `FUSED_LSTM_IGNORE`; if there is none, the loss and the gradients are 0.
///
/// # Safety
///
/// What every caller promises, at the top.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fused_lstm_loss_gradient(
    shape: *const Shape,
    params: ConstFloats,
    steps: usize,
    batch: usize,
    x: ConstFloats,
    labels: Labels,
    state: Floats,
    gradients: Floats,
    probabilities: Floats,
    cache: Floats,
    workspace: Floats,
    loss: *mut f32,
) -> Status {
    status((|| {
        // SAFETY: the caller's promise.
        let (shape, [own, hidden]) = unsafe { network(shape) }?;
        let read = [own, hidden, params.span()?, x.span()?, labels.span()?];
        let written = [state, gradients, probabilities, cache, workspace, one(loss)];
        // SAFETY: as above.
        let [state, gradients, outputs, cache, workspace, loss] =
            unsafe { writable(&read, written) }?;
        // SAFETY: accepted by `span`, and apart from what is written.
        let (params, x, labels) = unsafe { (params.slice(), x.slice(), labels.slice()) };
        let buffers = LossGradient {
            x,
            state,
            gradients,
            outputs,
            cache,
            workspace,
        };
        let extent = Extent { steps, batch };
        loss.fill(Model::new(shape, params)?.loss_gradient(extent, labels, buffers)?);
        Ok(())
    })())
}

/// The same with mean squared error: `outputs`, the head's or without a head the last layer's
/// hidden states, are overwritten and held against `targets`, as many. The mean is over the rows
/// that count in `mask`; if there is none, the loss and the gradients are 0.
///
/// # Safety
///
/// What every caller promises, at the top.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fused_lstm_squared_error_gradient(
    shape: *const Shape,
    params: ConstFloats,
    steps: usize,
    batch: usize,
    x: ConstFloats,
    targets: ConstFloats,
    mask: Mask,
    state: Floats,
    gradients: Floats,
    outputs: Floats,
    cache: Floats,
    workspace: Floats,
    loss: *mut f32,
) -> Status {
    status((|| {
        // SAFETY: the caller's promise.
        let (shape, [own, hidden]) = unsafe { network(shape) }?;
        let (params_at, x_at) = (params.span()?, x.span()?);
        let read = [own, hidden, params_at, x_at, targets.span()?, mask.span()?];
        let written = [state, gradients, outputs, cache, workspace, one(loss)];
        // SAFETY: as above.
        let [state, gradients, outputs, cache, workspace, loss] =
            unsafe { writable(&read, written) }?;
        // SAFETY: accepted by `span`, and apart from what is written.
        let (params, x) = unsafe { (params.slice(), x.slice()) };
        // SAFETY: as above.
        let (targets, mask) = unsafe { (targets.slice(), mask.slice()) };
        let buffers = LossGradient {
            x,
            state,
            gradients,
            outputs,
            cache,
            workspace,
        };
        let model = Model::new(shape, params)?;
        let extent = Extent { steps, batch };
        loss.fill(model.squared_error_gradient_of(extent, targets, mask, buffers)?);
        Ok(())
    })())
}

/// Scales `gradients` so that the norm of all of them is at most `clip_norm`; `*norm` is the one
/// that they had, which is infinite if it is beyond the range of `float`. Gradients that are not
/// finite and a `clip_norm` that is not above zero are refused.
///
/// # Safety
///
/// What every caller promises, at the top.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fused_lstm_clip_by_global_norm(
    gradients: Floats,
    clip_norm: f32,
    norm: *mut f32,
) -> Status {
    status((|| {
        // SAFETY: the caller's promise.
        let [gradients, norm] = unsafe { writable(&[], [gradients, one(norm)]) }?;
        norm.fill(clip_by_global_norm(gradients, clip_norm)?);
        Ok(())
    })())
}

/// A step of plain gradient descent: `params` is updated. This and every other update is refused if
/// a gradient is not finite, or what it leaves would not be.
///
/// # Safety
///
/// What every caller promises, at the top.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fused_lstm_sgd_update(
    learning_rate: f32,
    params: Floats,
    gradients: ConstFloats,
) -> Status {
    // SAFETY: the caller's promise.
    status(unsafe {
        update(params, gradients, Floats::NONE, |params, gradients, _| {
            Sgd { learning_rate }.update(params, gradients)
        })
    })
}

/// A step of gradient descent with momentum: a = `momentum`·a + g, and the parameters move by
/// −`learning_rate`·a, or with `nesterov` (not 0) by −`learning_rate`·(g + `momentum`·a). `params`
/// and `velocities`, the a, as many as parameters, are updated; they start at 0 in TensorFlow and in
/// PyTorch.
///
/// # Safety
///
/// What every caller promises, at the top.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fused_lstm_momentum_update(
    learning_rate: f32,
    momentum: f32,
    nesterov: u8,
    params: Floats,
    gradients: ConstFloats,
    velocities: Floats,
) -> Status {
    let momentum = Momentum {
        learning_rate,
        momentum,
        nesterov: nesterov != 0,
    };
    // SAFETY: the caller's promise.
    status(unsafe {
        update(params, gradients, velocities, |params, gradients, slots| {
            momentum.update(params, gradients, slots)
        })
    })
}

/// A step of Adagrad: `params` and `accumulators` are updated. Accumulators, as many as parameters,
/// start at 0.1 and `epsilon` is 0 in TensorFlow; 0 and 1e-10 in PyTorch.
///
/// # Safety
///
/// What every caller promises, at the top.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fused_lstm_adagrad_update(
    learning_rate: f32,
    epsilon: f32,
    params: Floats,
    gradients: ConstFloats,
    accumulators: Floats,
) -> Status {
    let adagrad = Adagrad {
        epsilon,
        ..Adagrad::tensorflow(learning_rate)
    };
    // SAFETY: the caller's promise.
    status(unsafe {
        update(
            params,
            gradients,
            accumulators,
            |params, gradients, slots| adagrad.update(params, gradients, slots),
        )
    })
}

/// A step of Adam as TensorFlow has it (β₁ = 0.9, β₂ = 0.999, "epsilon hat" 1e-8): `params` and
/// `moments` are updated. Moments, twice as many as parameters, start at 0; `step` counts from 1.
///
/// # Safety
///
/// What every caller promises, at the top.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fused_lstm_adam_update(
    learning_rate: f32,
    step: u32,
    params: Floats,
    gradients: ConstFloats,
    moments: Floats,
) -> Status {
    // SAFETY: the caller's promise.
    status(unsafe {
        update(params, gradients, moments, |params, gradients, slots| {
            Adam::tensorflow(learning_rate).update(step, params, gradients, slots)
        })
    })
}

/// A step of RMSProp: s += (1 − `decay`)·(g² − s), then a = `momentum`·a + `learning_rate`·g / (√s +
/// `epsilon`), or with `epsilon_inside` (not 0) / √(s + `epsilon`), and the parameters move by −a.
/// `params` and `slots`, twice as many, are updated: first all s, then all a. Every a starts at 0.
/// TensorFlow: s starts at 1, `decay` 0.9, `epsilon` 1e-10, inside. PyTorch: s starts at 0, `decay`
/// 0.99, `epsilon` 1e-8, outside.
///
/// # Safety
///
/// What every caller promises, at the top.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fused_lstm_rmsprop_update(
    learning_rate: f32,
    decay: f32,
    momentum: f32,
    epsilon: f32,
    epsilon_inside: u8,
    params: Floats,
    gradients: ConstFloats,
    slots: Floats,
) -> Status {
    let rms = RmsProp {
        decay,
        momentum,
        epsilon,
        epsilon_inside: epsilon_inside != 0,
        ..RmsProp::tensorflow(learning_rate)
    };
    // SAFETY: the caller's promise.
    status(unsafe {
        update(params, gradients, slots, |params, gradients, slots| {
            rms.update(params, gradients, slots)
        })
    })
}

/// What the optimizers have in common.
///
/// # Safety
///
/// The module's.
unsafe fn update(
    params: Floats,
    gradients: ConstFloats,
    slots: Floats,
    rule: impl FnOnce(&mut [f32], &[f32], &mut [f32]) -> Result<(), ArgumentError>,
) -> Result<(), Status> {
    // SAFETY: the caller's promise.
    let [params, slots] = unsafe { writable(&[gradients.span()?], [params, slots]) }?;
    // SAFETY: accepted by `span`, and apart from what is written.
    Ok(rule(params, unsafe { gradients.slice() }, slots)?)
}
