//! What training starts from: kernels drawn, biases zero but for the forget gates' of 1.

use fused_lstm::Stage;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Overwrites the parameters of the stages. Kernels are glorot-uniform: between ±√(6/(rows + columns)).
/// Tables are uniform between ±√3, so that their numbers have the variance of standardised inputs.
pub(super) fn glorot_uniform(stages: &[Stage], seed: u64, restart: u64, params: &mut [f32]) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // The orders of the data have the other streams.
    random.set_stream(u64::MAX - 1 - restart);
    let mut draw = |rows: usize, columns: usize, to: &mut [f32]| {
        let limit = (6.0 / (rows + columns) as f64).sqrt() as f32;
        for w in to {
            let unit = (random.next_u32() >> 8) as f32 / (1 << 24) as f32;
            *w = limit * (2.0 * unit - 1.0);
        }
    };
    let mut rest = params;
    for stage in stages {
        let (own, after) = rest.split_at_mut(stage.params_len());
        rest = after;
        own.fill(0.0);
        match stage {
            // Of one row and one column.
            Stage::Embedding { .. } => draw(1, 1, own),
            Stage::Dense(shape) => {
                draw(shape.inputs, shape.outputs, &mut own[..shape.kernel_len()]);
            }
            Stage::Lstm(lstm) => {
                let (hidden, outputs) = (lstm.layer.hidden, lstm.outputs());
                for own in own.chunks_mut(lstm.direction_params_len().max(1)) {
                    let rows = lstm.layer.inputs + outputs;
                    let (kernel, after) = own.split_at_mut(rows * 4 * hidden);
                    draw(rows, 4 * hidden, kernel);
                    after[2 * hidden..3 * hidden].fill(1.0);
                    if lstm.cell.layer_norm {
                        // The gates' gains, and the cell state's.
                        after[4 * hidden..9 * hidden].fill(1.0);
                    }
                    if lstm.cell.projection.is_some() {
                        let at = after.len() - hidden * outputs;
                        draw(hidden, outputs, &mut after[at..]);
                    }
                }
            }
            _ => {}
        }
    }
}
