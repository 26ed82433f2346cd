//! The weights of an LSTM layer, also those that were written for cuDNN.

use super::store::{Loaded, Store};
use crate::import::gates::{Gates, IFJO, Layout};
use crate::{Error, memory};
use fused_lstm::LayerShape;

/// The names of the weights, in the order in which Keras numbers them.
pub(super) const ROLES: [&str; 3] = ["kernel", "recurrent_kernel", "bias"];

/// A layer in the core's layout.
pub(super) struct Params {
    pub(super) layer: LayerShape,
    pub(super) params: Vec<f32>,
    pub(super) cudnn: bool,
}

/// `weights` are those of [`ROLES`], with or without a bias; `inputs` and `units` are what other
/// parts of the file say.
pub(super) fn params(
    store: &dyn Store,
    name: &str,
    weights: &[Loaded],
    inputs: Option<usize>,
    units: Option<usize>,
) -> Result<Params, Error> {
    let (kernel, recurrent, bias) = match weights {
        [kernel, recurrent] => (kernel, recurrent, None),
        [kernel, recurrent, bias] => (kernel, recurrent, Some(bias)),
        _ => return Err(store.problem(format!("layer {name}: expected 2 or 3 weights"))),
    };
    let [rows, _] = kernel.dims(store, name)?;
    let [outputs, _] = recurrent.dims(store, name)?;
    let inputs = inputs.unwrap_or(rows);
    let hidden = units.unwrap_or(outputs);
    if inputs == 0 || hidden == 0 {
        return Err(store.problem(format!(
            "layer {name}: expected at least one input and one unit, got {inputs} and {hidden}"
        )));
    }
    let columns = hidden.saturating_mul(4);
    kernel.expect(store, name, &[inputs, columns])?;
    recurrent.expect(store, name, &[hidden, columns])?;
    // cuDNN adds two biases, one for x and one for h.
    let cudnn = bias.is_some_and(|bias| bias.shape == [columns.saturating_mul(2)]);
    if let Some(bias) = bias.filter(|_| !cudnn) {
        bias.expect(store, name, &[columns])?;
    }
    let (own_kernel, own_recurrent);
    let (mut input, mut h) = (&kernel.values[..], &recurrent.values[..]);
    if cudnn {
        own_kernel = from_cudnn(input, inputs, hidden)?;
        own_recurrent = from_cudnn(h, hidden, hidden)?;
        (input, h) = (&own_kernel, &own_recurrent);
    }
    let bias = bias.map_or(&[][..], |bias| &bias.values);
    let biases: Vec<&[f32]> = bias.chunks(columns).collect();
    let gates = Gates {
        order: IFJO,
        layout: Layout::Columns,
        inputs,
        hidden,
        outputs: hidden,
        input,
        recurrent: h,
        biases: &biases,
        forget_bias: 0.0,
    };
    let params = gates
        .to_core()
        .map_err(|e| store.problem(format!("layer {name}: {e}")))?;
    Ok(Params {
        layer: LayerShape::new(inputs, hidden),
        params,
        cudnn,
    })
}

/// A matrix `[rows, 4H]` whose gates hold the numbers of `[H, rows]` in their blocks `[rows, H]`.
fn from_cudnn(matrix: &[f32], rows: usize, hidden: usize) -> Result<Vec<f32>, Error> {
    let mut out = memory::reserve(matrix.len())?;
    for row in 0..rows {
        for gate in 0..4 {
            for unit in 0..hidden {
                // The place in the block, row by row.
                let at = row + rows * unit;
                let index = at / hidden * 4 * hidden + gate * hidden + at % hidden;
                out.push(matrix.get(index).copied().unwrap_or(0.0));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::from_cudnn;

    #[test]
    fn blocks_of_cudnn_are_turned_one_by_one() {
        // Two rows, three units: a block is `[3, 2]`, of 0 to 5 and the gate's tens.
        let row =
            |r: usize| (0..4).flat_map(move |g| (0..3).map(move |u| (10 * g + 3 * r + u) as f32));
        let matrix: Vec<f32> = (0..2).flat_map(row).collect();
        let out = from_cudnn(&matrix, 2, 3).unwrap();
        assert_eq!(out[..6], [0.0, 2.0, 4.0, 10.0, 12.0, 14.0]);
        assert_eq!(out[12..18], [1.0, 3.0, 5.0, 11.0, 13.0, 15.0]);
    }
}
