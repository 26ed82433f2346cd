//! The oracle of chains: every stage as its formula says it, one number at a time, in `f64`. Its
//! gradients are quotients of differences.

use crate::random::Random;
use fused_lstm::{Activation, Cell, Direction, Extent, LayerShape, LstmStage, Returns, Stage};

/// A chain, what it reads, and how long its rows are.
#[derive(Clone, Debug)]
pub struct Case {
    /// The width of the input.
    pub inputs: usize,
    /// The stages.
    pub stages: Vec<Stage>,
    /// Time steps and rows.
    pub extent: Extent,
    /// The steps of each row, if they differ.
    pub lengths: Option<Vec<usize>>,
    /// The masks of a training step; a run has none.
    pub masks: Option<Vec<f64>>,
}

/// What goes in: parameters, input, state.
#[derive(Clone, Debug)]
pub struct Values {
    /// Of all stages.
    pub params: Vec<f64>,
    /// `[T, B, I]`.
    pub x: Vec<f64>,
    /// Of all stages.
    pub state: Vec<f64>,
}

/// What comes out: output and final state.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// `[T, B, O]` or `[1, B, O]`.
    pub y: Vec<f64>,
    /// Of all stages.
    pub state: Vec<f64>,
}

fn activation(kind: Activation, row: &mut [f64]) {
    let each: &dyn Fn(f64) -> f64 = match kind {
        Activation::Tanh => &f64::tanh,
        Activation::Sigmoid => &|x| 1.0 / (1.0 + (-x).exp()),
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

fn one(kind: Activation, x: f64) -> f64 {
    let mut row = [x];
    activation(kind, &mut row);
    row[0]
}

fn clip(most: f32, x: f64) -> f64 {
    x.clamp(-f64::from(most), f64::from(most))
}

/// To a mean of 0 and a variance of 1.
fn normalize(row: &mut [f64]) {
    let n = row.len() as f64;
    let mean = row.iter().sum::<f64>() / n;
    let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    row.iter_mut()
        .for_each(|v| *v = (*v - mean) / (variance + 1e-12).sqrt());
}

/// One step of one row: the cell state and the hidden state after it.
fn step(stage: &LstmStage, params: &[f64], x: &[f64], c: &[f64], h: &[f64]) -> [Vec<f64>; 2] {
    let LayerShape { inputs, hidden, .. } = stage.layer;
    let (outputs, cell): (usize, Cell) = (stage.outputs(), stage.cell);
    let (kernel, rest) = params.split_at((inputs + outputs) * 4 * hidden);
    let (bias, rest) = rest.split_at(4 * hidden);
    let norms = if cell.layer_norm { hidden } else { 0 };
    let (gains, rest) = rest.split_at(4 * norms);
    let (cell_norm, rest) = rest.split_at(2 * norms);
    let (peepholes, projection) = rest.split_at(if cell.peepholes { 3 * hidden } else { 0 });
    let sums = (0..4 * hidden).map(|column| {
        let each = x.iter().chain(h).enumerate();
        each.map(|(k, v)| v * kernel[k * 4 * hidden + column])
            .sum::<f64>()
    });
    let mut sums: Vec<f64> = sums.collect();
    if cell.layer_norm {
        for (sums, gains) in sums.chunks_mut(hidden).zip(gains.chunks(hidden)) {
            normalize(sums);
            sums.iter_mut().zip(gains).for_each(|(v, gain)| *v *= gain);
        }
    }
    let sum = |gate: usize, unit: usize| bias[gate * hidden + unit] + sums[gate * hidden + unit];
    let peek = |which: usize, unit: usize, c: f64| {
        let weight = peepholes.get(which * hidden + unit);
        weight.map_or(0.0, |weight| weight * c)
    };
    let gate = |x| one(cell.gates, clip(cell.preact_clip, x));
    let mut c_after = Vec::new();
    for (unit, &c) in c.iter().enumerate() {
        let i = gate(sum(0, unit) + peek(0, unit, c));
        let j = one(cell.candidate, clip(cell.preact_clip, sum(1, unit)));
        let f = if cell.coupled {
            1.0 - i
        } else {
            gate(sum(2, unit) + peek(1, unit, c))
        };
        c_after.push(f * c + i * j);
    }
    if cell.layer_norm {
        normalize(&mut c_after);
        let (gain, shift) = cell_norm.split_at(hidden);
        for (c, (gain, shift)) in c_after.iter_mut().zip(gain.iter().zip(shift)) {
            *c = *c * gain + shift;
        }
    }
    let mut m = Vec::new();
    for (unit, c) in c_after.iter_mut().enumerate() {
        *c = clip(cell.cell_clip, *c);
        let o = gate(sum(3, unit) + peek(2, unit, *c));
        m.push(o * one(cell.output, *c));
    }
    if cell.projection.is_some() {
        let projected = |k: usize| {
            let each = m.iter().enumerate();
            let sum = each
                .map(|(unit, v)| v * projection[unit * outputs + k])
                .sum();
            clip(cell.projection_clip, sum)
        };
        m = (0..outputs).map(projected).collect();
    }
    [c_after, m]
}

fn lstm(
    stage: &LstmStage,
    params: &[f64],
    extent: Extent,
    lengths: &[usize],
    x: &[f64],
    state: &mut [f64],
    masks: Option<&[f64]>,
) -> Vec<f64> {
    let Extent { steps, batch, .. } = extent;
    let (inputs, hidden) = (stage.layer.inputs, stage.layer.hidden);
    let (outputs, directions) = (stage.outputs(), stage.direction.count());
    let width = outputs * directions;
    let mut y = vec![0.0; steps * batch * width];
    let mut last = vec![0.0; batch * width];
    let zoneout = stage.cell.zoneout;
    let states = state.chunks_mut(stage.direction_state_len(batch));
    let params = params.chunks(stage.direction_params_len());
    for (index, (state, params)) in states.zip(params).enumerate() {
        let reversed = stage.direction == Direction::Reverse || index == 1;
        let len = stage.direction_masks_len(extent);
        let mut masks = masks.map(|masks| &masks[index * len..][..len]);
        let mut part = |wanted: bool, len: usize| {
            let (own, rest) = masks?.split_at(if wanted { len } else { 0 });
            masks = Some(rest);
            wanted.then_some(own)
        };
        let of_h = part(stage.recurrent_mask, batch * outputs);
        let of_cell = part(zoneout.cell > 0.0, steps * batch * hidden);
        let of_hidden = part(zoneout.hidden > 0.0, steps * batch * outputs);
        let (c, h) = state.split_at_mut(batch * hidden);
        for row in 0..batch {
            let c = &mut c[row * hidden..][..hidden];
            let h = &mut h[row * outputs..][..outputs];
            for t in 0..lengths[row] {
                let t = if reversed { lengths[row] - 1 - t } else { t };
                // The step in the order in which they are taken.
                let s = if reversed { steps - 1 - t } else { t };
                let x = &x[(t * batch + row) * inputs..][..inputs];
                let factor = |k| of_h.map_or(1.0, |mask| mask[row * outputs + k]);
                let seen: Vec<f64> = h.iter().enumerate().map(|(k, h)| h * factor(k)).collect();
                let [c_new, h_new] = step(stage, params, x, c, &seen);
                y[(t * batch + row) * width + index * outputs..][..outputs].copy_from_slice(&h_new);
                for (values, new, mask, rate) in [
                    (&mut *c, c_new, of_cell, zoneout.cell),
                    (&mut *h, h_new, of_hidden, zoneout.hidden),
                ] {
                    let width = new.len();
                    for (k, (v, new)) in values.iter_mut().zip(new).enumerate() {
                        let at = (s * batch + row) * width + k;
                        let z = mask.map_or(f64::from(rate), |mask| mask[at]);
                        *v = z * *v + (1.0 - z) * new;
                    }
                }
            }
            let to = &mut last[row * width + index * outputs..][..outputs];
            if lengths[row] == 0 {
                to.copy_from_slice(h);
            } else {
                let t = if reversed { 0 } else { lengths[row] - 1 };
                let from = (t * batch + row) * width + index * outputs;
                to.copy_from_slice(&y[from..from + outputs]);
            }
        }
    }
    let mut short = vec![0.0; batch * width];
    match stage.returns {
        Returns::Sequence => return y,
        Returns::Last => return last,
        Returns::Mean => {
            for (k, v) in y.iter().enumerate() {
                let row = k / width % batch;
                short[k % (batch * width)] += v / lengths[row].max(1) as f64;
            }
        }
        _ => panic!("what the oracle does not know"),
    }
    short
}

impl Case {
    /// All stages, one after the other.
    pub fn run(&self, values: &Values) -> Outputs {
        let mut extent = self.extent;
        let batch = extent.batch;
        let mut lengths = self.lengths.clone();
        let mut at = values.x.clone();
        let mut width = self.inputs;
        let (mut params, mut state) = (&values.params[..], values.state.clone());
        let mut rest = &mut state[..];
        let mut masks = self.masks.as_deref();
        for stage in &self.stages {
            let (own, after) = params.split_at(stage.params_len());
            params = after;
            let rows = at.chunks(width);
            let mask = masks.map(|all| {
                let (own, after) = all.split_at(stage.masks_len(width, extent));
                masks = Some(after);
                own
            });
            at = match stage {
                Stage::Embedding { width, .. } => at
                    .iter()
                    .flat_map(|&index| own[index as usize * width..][..*width].to_vec())
                    .collect(),
                Stage::Dense(shape) => {
                    let (kernel, bias) = own.split_at(shape.kernel_len());
                    let sum = |row: &[f64], o: usize| {
                        let each = row.iter().enumerate();
                        let products = each.map(|(i, v)| v * kernel[i * shape.outputs + o]);
                        bias[o] + products.sum::<f64>()
                    };
                    rows.flat_map(|row| (0..shape.outputs).map(move |o| sum(row, o)))
                        .collect()
                }
                Stage::Activation(kind) => rows
                    .flat_map(|row| {
                        let mut row = row.to_vec();
                        activation(*kind, &mut row);
                        row
                    })
                    .collect(),
                Stage::Lstm(layer) => {
                    let (own_state, after) =
                        std::mem::take(&mut rest).split_at_mut(layer.state_len(batch));
                    rest = after;
                    let all = vec![extent.steps; batch];
                    let rows = lengths.as_ref().unwrap_or(&all);
                    let y = lstm(layer, own, extent, rows, &at, own_state, mask);
                    if layer.returns != Returns::Sequence {
                        extent.steps = 1;
                        // Behind it every row has one step, so that lengths no longer apply.
                        lengths = None;
                    }
                    y
                }
                Stage::Skip { first, gain } => rows
                    .zip(values.x.chunks(self.inputs))
                    .flat_map(|(row, x)| {
                        let each = row.iter().zip(&x[*first..]);
                        each.map(|(y, x)| y + x * f64::from(*gain))
                            .collect::<Vec<_>>()
                    })
                    .collect(),
                Stage::Mask { .. } => {
                    let factor = |k: usize| mask.map_or(1.0, |mask| mask[k % mask.len()]);
                    let each = at.iter().enumerate();
                    each.map(|(k, v)| v * factor(k)).collect()
                }
                Stage::Gain(gain) => at.iter().map(|v| v * f64::from(*gain)).collect(),
                Stage::Reverse => {
                    let mut turned = at.clone();
                    for row in 0..batch {
                        let length = lengths.as_ref().map_or(extent.steps, |l| l[row]);
                        for t in 0..length {
                            let from = ((length - 1 - t) * batch + row) * width;
                            let to = (t * batch + row) * width;
                            turned[to..to + width].copy_from_slice(&at[from..from + width]);
                        }
                    }
                    turned
                }
                Stage::Flatten { steps } => {
                    let (steps, batch) = (*steps, batch);
                    let row = |t: usize, b: usize| &at[(t * batch + b) * width..][..width];
                    let each = (0..batch).flat_map(|b| (0..steps).map(move |t| (t, b)));
                    let flat = each.flat_map(|(t, b)| row(t, b).to_vec()).collect();
                    extent.steps = 1;
                    lengths = None;
                    flat
                }
                _ => panic!("a stage that the oracle does not know"),
            };
            width = stage.width(width);
        }
        Outputs { y: at, state }
    }

    /// Random masks as training takes them: 0 and 1.5, or 0 and 1 for states that stay.
    pub fn any_masks(&self, random: &mut Random) -> Vec<f64> {
        let (mut masks, mut width, mut extent) = (Vec::new(), self.inputs, self.extent);
        let mut some = |len: usize, most: f64| {
            let each = (0..len).map(|_| if random.unit() < 0.5 { 0.0 } else { most });
            masks.extend(each);
        };
        for stage in &self.stages {
            match stage {
                Stage::Lstm(lstm) => {
                    let of_h = lstm.recurrent_mask as usize * extent.batch * lstm.outputs();
                    for _ in 0..lstm.direction.count() {
                        some(of_h, 1.5);
                        some(lstm.direction_masks_len(extent) - of_h, 1.0);
                    }
                    if lstm.returns != Returns::Sequence {
                        extent.steps = 1;
                    }
                }
                Stage::Flatten { .. } => extent.steps = 1,
                _ => some(stage.masks_len(width, extent), 1.5),
            }
            width = stage.width(width);
        }
        masks
    }

    /// The gradients of Σ y·dy + Σ state·dstate.
    pub fn gradients(&self, values: &Values, dy: &[f64], dstate: &[f64]) -> Values {
        let sum = |values: &Values| -> f64 {
            let out = self.run(values);
            let y = out.y.iter().zip(dy).map(|(a, b)| a * b).sum::<f64>();
            y + out
                .state
                .iter()
                .zip(dstate)
                .map(|(a, b)| a * b)
                .sum::<f64>()
        };
        let along = |part: fn(&mut Values) -> &mut Vec<f64>| -> Vec<f64> {
            const STEP: f64 = 1e-5;
            let mut at = values.clone();
            let len = part(&mut at).len();
            (0..len)
                .map(|k| {
                    let here = part(&mut at)[k];
                    let [above, below] = [here + STEP, here - STEP].map(|v| {
                        part(&mut at)[k] = v;
                        sum(&at)
                    });
                    part(&mut at)[k] = here;
                    (above - below) / (2.0 * STEP)
                })
                .collect()
        };
        let is_table = matches!(self.stages.first(), Some(Stage::Embedding { .. }));
        Values {
            params: along(|values| &mut values.params),
            // A row's number has no gradient.
            x: if is_table {
                vec![0.0; values.x.len()]
            } else {
                along(|values| &mut values.x)
            },
            state: along(|values| &mut values.state),
        }
    }
}
