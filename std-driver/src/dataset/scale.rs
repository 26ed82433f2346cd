//! Standardisation: the mean and the spread of each column, and how a network takes them in.

use crate::chain::NamedStage;
use fused_lstm::{DenseShape, Stage};

/// The mean and the standard deviation of each of some columns.
///
/// ```
/// use fused_lstm_driver::dataset::Scale;
///
/// let scale = Scale::of(2, &[1.0, 5.0, 3.0, 5.0]);
/// assert_eq!(scale.mean, [2.0, 5.0]);
/// assert_eq!(scale.deviation, [1.0, 1.0]); // a column that does not change is only moved
/// let mut row = [3.0, 6.0];
/// scale.apply(&mut row);
/// assert_eq!(row, [1.0, 1.0]);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scale {
    /// The means.
    pub mean: Vec<f32>,
    /// The standard deviations, of all rows, or 1 where there is none.
    pub deviation: Vec<f32>,
}

impl Scale {
    /// Of `values` `[N, width]`.
    pub fn of(width: usize, values: &[f32]) -> Self {
        let rows = (values.len() / width.max(1)).max(1) as f64;
        let column = |c: usize| values.iter().skip(c).step_by(width).map(|&v| f64::from(v));
        let mean: Vec<f64> = (0..width).map(|c| column(c).sum::<f64>() / rows).collect();
        let deviation = (0..width).map(|c| {
            let square = column(c).map(|v| (v - mean[c]) * (v - mean[c]));
            let deviation = (square.sum::<f64>() / rows).sqrt();
            // What changes in its last digits only has none that could be learnt from.
            let least = f64::from(f32::MIN_POSITIVE).max(1e-6 * mean[c].abs());
            if deviation > least {
                deviation as f32
            } else {
                1.0
            }
        });
        Self {
            deviation: deviation.collect(),
            mean: mean.iter().map(|&mean| mean as f32).collect(),
        }
    }

    /// That changes nothing.
    pub fn identity(width: usize) -> Self {
        Self {
            mean: vec![0.0; width],
            deviation: vec![1.0; width],
        }
    }

    /// Whether nothing is changed.
    pub fn is_identity(&self) -> bool {
        self.mean.iter().all(|&m| m == 0.0) && self.deviation.iter().all(|&d| d == 1.0)
    }

    /// The parameters of a dense layer that standardises.
    pub fn as_dense(&self) -> Vec<f32> {
        let width = self.mean.len();
        let mut params = vec![0.0; width * (width + 1)];
        for (c, (mean, deviation)) in self.mean.iter().zip(&self.deviation).enumerate() {
            params[c * width + c] = 1.0 / deviation;
            params[width * width + c] = -mean / deviation;
        }
        params
    }

    /// Standardises `values` `[N, width]`.
    pub fn apply(&self, values: &mut [f32]) {
        for row in values.chunks_mut(self.mean.len().max(1)) {
            let each = row.iter_mut().zip(self.mean.iter().zip(&self.deviation));
            each.for_each(|(v, (mean, deviation))| *v = (*v - mean) / deviation);
        }
    }
}

/// Rows of a kernel that is applied to standardised inputs, and its bias, become those for inputs as
/// they are: x·W/σ + (b − µ/σ·W).
fn before(scale: &Scale, kernel: &mut [f32], bias: &mut [f32]) {
    let columns = bias.len();
    // Summed in f64, and rounded once.
    let mut sums: Vec<f64> = bias.iter().map(|&b| f64::from(b)).collect();
    let rows = kernel.chunks_mut(columns.max(1));
    for (row, (mean, deviation)) in rows.zip(scale.mean.iter().zip(&scale.deviation)) {
        for (w, sum) in row.iter_mut().zip(&mut sums) {
            let scaled = f64::from(*w) / f64::from(*deviation);
            *sum -= scaled * f64::from(*mean);
            *w = scaled as f32;
        }
    }
    for (b, sum) in bias.iter_mut().zip(sums) {
        *b = sum as f32;
    }
}

/// Whether the first stage takes in a standardisation: in a layer whose sums are normalised the bias comes
/// too late for that.
pub(crate) fn folds_inputs(stages: &[NamedStage]) -> bool {
    let first = stages.first().map(|stage| stage.stage);
    matches!(first, Some(Stage::Lstm(lstm)) if !lstm.cell.layer_norm)
}

/// Puts the standardisation of a network's inputs and outputs into the weights of its first layer and
/// of its last: the same network for numbers as they are. `inverse` takes it out again.
pub(crate) fn fold(stages: &[NamedStage], params: &mut [f32], x: &Scale, y: &Scale, inverse: bool) {
    let turned = |scale: &Scale| Scale {
        mean: scale
            .mean
            .iter()
            .zip(&scale.deviation)
            .map(|(m, d)| -m / d)
            .collect(),
        deviation: scale.deviation.iter().map(|d| 1.0 / d).collect(),
    };
    let (x, y) = match inverse {
        true => (&turned(x), &turned(y)),
        false => (x, y),
    };
    let mut rest = params;
    let last = stages
        .iter()
        .rposition(|s| matches!(s.stage, Stage::Dense(_)));
    for (index, stage) in stages.iter().enumerate() {
        let (own, after) = rest.split_at_mut(stage.stage.params_len());
        rest = after;
        match stage.stage {
            Stage::Lstm(lstm) if index == 0 && folds_inputs(stages) && !x.mean.is_empty() => {
                for own in own.chunks_mut(lstm.direction_params_len().max(1)) {
                    let columns = 4 * lstm.layer.hidden;
                    let (kernel, after) = own.split_at_mut(lstm.layer.inputs * columns);
                    let bias = lstm.outputs() * columns;
                    before(x, kernel, &mut after[bias..bias + columns]);
                }
            }
            Stage::Dense(shape) if Some(index) == last && !y.mean.is_empty() => {
                after_dense(shape, y, own);
            }
            _ => {}
        }
    }
}

/// Outputs of a dense layer become those before standardisation: σ·(x·W + b) + µ.
fn after_dense(shape: DenseShape, scale: &Scale, params: &mut [f32]) {
    let (kernel, bias) = params.split_at_mut(shape.kernel_len());
    for row in kernel.chunks_mut(shape.outputs.max(1)) {
        row.iter_mut()
            .zip(&scale.deviation)
            .for_each(|(w, d)| *w *= d);
    }
    for (b, (mean, deviation)) in bias.iter_mut().zip(scale.mean.iter().zip(&scale.deviation)) {
        *b = *b * deviation + mean;
    }
}
