//! Weights to start from.

use crate::error::{ArgumentError, check_len};
use crate::layout::split::take;
use crate::layout::{Cut, DenseShape, LayerShape, NetworkShape, Params};

/// Fills `values` uniformly from ±√(6 / (fan_in + fan_out)) (Glorot and Bengio
/// 2010); `random` gives numbers from 0 up to, not including, 1.
fn glorot(values: &mut [f32], fans: usize, random: &mut impl FnMut() -> f32) {
    let limit = libm::sqrtf(6.0 / fans as f32);
    for value in values {
        *value = (2.0 * random() - 1.0) * limit;
    }
}

/// A layer as TensorFlow's `LSTMCell` starts: the kernel `[I+H, 4H]` glorot-uniform,
/// the bias zero but for the forget gate's, which is 1.
pub(crate) fn layer(shape: LayerShape, params: &mut [f32], random: &mut impl FnMut() -> f32) {
    let LayerShape { inputs, hidden } = shape;
    let Params { kernel, bias } = Params::cut(shape, params);
    glorot(kernel, inputs + hidden + 4 * hidden, random);
    let (ij, fo) = bias.cut(2 * hidden);
    let (f, o) = fo.cut(hidden);
    ij.fill(0.0);
    f.fill(1.0);
    o.fill(0.0);
}

/// A dense layer: the kernel glorot-uniform, the bias zero.
pub(crate) fn dense(shape: DenseShape, params: &mut [f32], random: &mut impl FnMut() -> f32) {
    let (kernel, bias) = params.cut(shape.kernel_len());
    glorot(kernel, shape.inputs + shape.outputs, random);
    bias.fill(0.0);
}

/// Overwrites all parameters of a network with what training starts from: kernels
/// glorot-uniform, biases 0 but for the forget gates', which are 1. `random` gives
/// numbers from 0 up to, not including, 1; it is asked once for each number of a
/// kernel, in the order of the buffer.
///
/// ```
/// use fused_lstm::{NetworkShape, init};
///
/// let shape = NetworkShape::new(1, &[4]);
/// let mut params = [0.0; 96];
/// let mut seed = 1u32;
/// init::glorot_uniform(shape, &mut params, || {
///     seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
///     (seed >> 8) as f32 / (1 << 24) as f32
/// })?;
/// let limit = (6.0f32 / 21.0).sqrt();
/// assert!(params[..80].iter().all(|w| w.abs() <= limit));
/// assert_eq!(params[80 + 8..80 + 12], [1.0; 4]);
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
pub fn glorot_uniform(
    shape: NetworkShape,
    params: &mut [f32],
    mut random: impl FnMut() -> f32,
) -> Result<(), ArgumentError> {
    shape.check()?;
    check_len("params", shape.params_len(), params.len())?;
    let mut rest = params;
    for layer_shape in shape.layers() {
        layer(
            layer_shape,
            take(&mut rest, layer_shape.params_len()),
            &mut random,
        );
    }
    if let Some(head) = shape.head() {
        dense(head, rest, &mut random);
    }
    Ok(())
}
