//! The layers of a file in the plainest way, in f64: what tests hold readers and chains to.

use super::{Kind, Layer, Lstm};
use fused_lstm::{Activation, Direction, Returns};

/// `[T, B, width]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sequence {
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    pub(crate) width: usize,
    pub(crate) values: Vec<f64>,
}

impl Sequence {
    pub(crate) fn new(shape: [usize; 3], values: impl IntoIterator<Item = f64>) -> Self {
        let [steps, batch, width] = shape;
        let values: Vec<f64> = values.into_iter().collect();
        assert_eq!(values.len(), steps * batch * width);
        Self {
            steps,
            batch,
            width,
            values,
        }
    }

    fn row(&self, step: usize, row: usize) -> &[f64] {
        &self.values[(step * self.batch + row) * self.width..][..self.width]
    }

    /// Other rows of the same steps and batch, one of each step and row.
    fn map(&self, mut f: impl FnMut(usize, usize) -> Vec<f64>) -> Self {
        let mut values = Vec::new();
        for step in 0..self.steps {
            for row in 0..self.batch {
                values.extend(f(step, row));
            }
        }
        let width = values.len() / (self.steps * self.batch).max(1);
        Self::new([self.steps, self.batch, width], values)
    }

    /// The largest difference.
    pub(crate) fn distance(&self, to: &[f32]) -> f64 {
        assert_eq!(self.values.len(), to.len());
        let each = self.values.iter().zip(to);
        each.map(|(a, &b)| (a - f64::from(b)).abs())
            .fold(0.0, f64::max)
    }
}

pub(crate) fn activation(kind: Activation, row: &mut [f64]) {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let each: &dyn Fn(f64) -> f64 = match kind {
        Activation::Tanh => &f64::tanh,
        Activation::Sigmoid => &sigmoid,
        Activation::Relu => &|x| x.max(0.0),
        Activation::HardSigmoid { slope } => &move |x| (f64::from(slope) * x + 0.5).clamp(0.0, 1.0),
        Activation::Softmax => {
            let most = row.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = row.iter().map(|x| (x - most).exp()).sum();
            row.iter_mut().for_each(|x| *x = (*x - most).exp() / sum);
            return;
        }
        _ => &|x| x,
    };
    row.iter_mut().for_each(|x| *x = each(*x));
}

/// y of every step of one direction, and its final state c `[H]`, h `[P]` of each row.
pub(crate) fn direction(lstm: &Lstm, index: usize, x: &Sequence) -> (Sequence, Vec<[Vec<f64>; 2]>) {
    let (i_len, h_len, p_len) = (lstm.layer.inputs, lstm.layer.hidden, lstm.stage().outputs());
    assert_eq!(x.width, i_len);
    let params: Vec<f64> = lstm.params[index].iter().map(|&v| v.into()).collect();
    assert_eq!(params.len(), lstm.stage().direction_params_len());
    let cell = lstm.cell;
    let (kernel, rest) = params.split_at((i_len + p_len) * 4 * h_len);
    let (bias, rest) = rest.split_at(4 * h_len);
    let (peepholes, projection) = rest.split_at(if cell.peepholes { 3 * h_len } else { 0 });
    let one = |kind, x: f64| {
        let mut row = [x];
        activation(kind, &mut row);
        row[0]
    };
    let clip = |most: f32, x: f64| x.clamp(-f64::from(most), f64::from(most));
    let reverse = match lstm.direction {
        Direction::Reverse => true,
        _ => index == 1,
    };
    let mut y = Sequence::new(
        [x.steps, x.batch, p_len],
        vec![0.0; x.steps * x.batch * p_len],
    );
    let mut states = Vec::new();
    for row in 0..x.batch {
        let start = lstm.start.as_ref().map(|start| &start[index]);
        let mut state: Vec<f64> = match start {
            Some(start) => start.iter().map(|&v| v.into()).collect(),
            None => vec![0.0; h_len + p_len],
        };
        let mut h = state.split_off(h_len);
        let mut c = state;
        for step in 0..x.steps {
            let step = if reverse { x.steps - 1 - step } else { step };
            let inputs: Vec<f64> = x.row(step, row).iter().chain(&h).copied().collect();
            let sum = |gate: usize, unit: usize| {
                let column = gate * h_len + unit;
                let each = inputs.iter().enumerate();
                bias[column]
                    + each
                        .map(|(k, v)| v * kernel[k * 4 * h_len + column])
                        .sum::<f64>()
            };
            let mut m = vec![0.0; h_len];
            for unit in 0..h_len {
                let peek = |which: usize, c: f64| match cell.peepholes {
                    true => peepholes[which * h_len + unit] * c,
                    false => 0.0,
                };
                let gate = |x| one(cell.gates, clip(cell.preact_clip, x));
                let i = gate(sum(0, unit) + peek(0, c[unit]));
                let j = one(cell.candidate, clip(cell.preact_clip, sum(1, unit)));
                let f = match cell.coupled {
                    true => 1.0 - i,
                    false => gate(sum(2, unit) + peek(1, c[unit])),
                };
                c[unit] = clip(cell.cell_clip, f * c[unit] + i * j);
                let o = gate(sum(3, unit) + peek(2, c[unit]));
                m[unit] = o * one(cell.output, c[unit]);
            }
            h = match cell.projection {
                None => m,
                Some(p) => (0..p)
                    .map(|k| {
                        let each = m.iter().enumerate();
                        let sum = each.map(|(u, v)| v * projection[u * p + k]).sum();
                        clip(cell.projection_clip, sum)
                    })
                    .collect(),
            };
            let at = (step * x.batch + row) * p_len;
            y.values[at..at + p_len].copy_from_slice(&h);
        }
        states.push([c, h]);
    }
    (y, states)
}

fn lstm(lstm: &Lstm, x: &Sequence) -> Sequence {
    let each: Vec<_> = (0..lstm.direction.count())
        .map(|k| direction(lstm, k, x))
        .collect();
    let side_by_side = |step: usize, row: usize| -> Vec<f64> {
        let rows = each.iter().map(|(y, _)| y.row(step, row));
        rows.flatten().copied().collect()
    };
    match lstm.returns {
        Returns::Last => Sequence {
            steps: 1,
            ..x.clone()
        }
        .map(|_, row| {
            each.iter()
                .flat_map(|(_, states)| states[row][1].clone())
                .collect()
        }),
        Returns::Mean => Sequence {
            steps: 1,
            ..x.clone()
        }
        .map(|_, row| {
            let mut sum = side_by_side(0, row);
            for step in 1..x.steps {
                sum.iter_mut()
                    .zip(side_by_side(step, row))
                    .for_each(|(s, v)| *s += v);
            }
            sum.iter().map(|s| s / x.steps as f64).collect()
        }),
        _ => x.map(side_by_side),
    }
}

/// All layers, one after the other.
pub(crate) fn run(layers: &[Layer], x: &Sequence) -> Sequence {
    let numbers = |values: &[f32]| -> Vec<f64> { values.iter().map(|&v| v.into()).collect() };
    let mut at = x.clone();
    for layer in layers {
        at = match &layer.kind {
            Kind::Embedding { width, table, .. } => at.map(|step, row| {
                let index = at.row(step, row)[0] as usize;
                numbers(&table[index * width..][..*width])
            }),
            Kind::Dense {
                inputs,
                outputs,
                kernel,
                bias,
            } => {
                assert_eq!((at.width, kernel.len()), (*inputs, inputs * outputs));
                at.map(|step, row| {
                    let x = at.row(step, row);
                    let sum = |o: usize| -> f64 {
                        let each = x.iter().enumerate();
                        each.map(|(i, v)| v * f64::from(kernel[i * outputs + o]))
                            .sum()
                    };
                    (0..*outputs).map(|o| sum(o) + f64::from(bias[o])).collect()
                })
            }
            Kind::Activation(kind) => at.map(|step, row| {
                let mut values = at.row(step, row).to_vec();
                activation(*kind, &mut values);
                values
            }),
            Kind::Affine { scale, shift } => at.map(|step, row| {
                let each = at.row(step, row).iter().zip(scale).zip(shift);
                each.map(|((x, &a), &b)| x * f64::from(a) + f64::from(b))
                    .collect()
            }),
            Kind::Lstm(layer) => lstm(layer, &at),
            Kind::Skip { first, gain } => at.map(|step, row| {
                let skipped = &x.row(step, row)[*first..];
                let each = at.row(step, row).iter().zip(skipped);
                each.map(|(y, x)| y + x * f64::from(*gain)).collect()
            }),
            Kind::Gain(gain) => at.map(|step, row| {
                at.row(step, row)
                    .iter()
                    .map(|x| x * f64::from(*gain))
                    .collect()
            }),
            Kind::Reverse => at.map(|step, row| at.row(at.steps - 1 - step, row).to_vec()),
            Kind::Flatten { steps } => Sequence {
                steps: 1,
                ..at.clone()
            }
            .map(|_, row| (0..*steps).flat_map(|t| at.row(t, row).to_vec()).collect()),
            Kind::Nothing(_) => at,
            Kind::Other(what) => panic!("{} is {what}", layer.name),
        };
    }
    at
}
