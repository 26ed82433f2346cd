//! The oracle: the LSTM as the equations say it, one number at a time, in `f64`.
//!
//! Buffers have the layout of the crate's run-time API, so that they compare
//! number by number; there is nothing else in common.

use fused_lstm::{Extent, LayerShape, NetworkShape};

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// One layer's step for one row: activations i, j, f, o, the new c and h.
struct Step {
    gates: [Vec<f64>; 4],
    c: Vec<f64>,
    h: Vec<f64>,
}

fn step(shape: LayerShape, params: &[f64], x: &[f64], c: &[f64], h: &[f64]) -> Step {
    let LayerShape { inputs, hidden, .. } = shape;
    let (kernel, bias) = params.split_at((inputs + hidden) * 4 * hidden);
    let gate = |g: usize, unit: usize| {
        let mut sum = bias[g * hidden + unit];
        for k in 0..inputs {
            sum += x[k] * kernel[k * 4 * hidden + g * hidden + unit];
        }
        for k in 0..hidden {
            sum += h[k] * kernel[(inputs + k) * 4 * hidden + g * hidden + unit];
        }
        if g == 1 { sum.tanh() } else { sigmoid(sum) }
    };
    let gates = [0, 1, 2, 3].map(|g| (0..hidden).map(|u| gate(g, u)).collect::<Vec<_>>());
    let [i, j, f, o] = &gates;
    let c: Vec<f64> = (0..hidden).map(|u| f[u] * c[u] + i[u] * j[u]).collect();
    let h = (0..hidden).map(|u| o[u] * c[u].tanh()).collect();
    Step { gates, c, h }
}

/// A forward pass of all layers, and what its backward pass needs.
pub struct Run {
    /// The last layer's hidden states `[T, B, H]`.
    pub y: Vec<f64>,
    /// The states after the last step.
    pub state: Vec<f64>,
    layers: Vec<LayerRun>,
}

struct LayerRun {
    shape: LayerShape,
    params: Vec<f64>,
    x: Vec<f64>,
    initial: Vec<f64>,
    steps: Vec<Step>,
}

/// Gradients of a number that depends on the outputs and the final states.
pub struct Gradients {
    /// Of the LSTM layers' parameters.
    pub params: Vec<f64>,
    /// Of the input.
    pub x: Vec<f64>,
    /// Of the initial states.
    pub state: Vec<f64>,
}

/// All layers over a sequence. A head's parameters at the end are not looked at.
pub fn forward(net: NetworkShape, params: &[f64], extent: Extent, x: &[f64], state: &[f64]) -> Run {
    let Extent { steps, batch } = extent;
    let (mut params, mut state) = (params, state);
    let mut run = Run {
        y: x.to_vec(),
        state: Vec::new(),
        layers: Vec::new(),
    };
    for shape in net.layers() {
        let LayerShape { inputs, hidden, .. } = shape;
        let (own, rest) = params.split_at(shape.params_len());
        let (initial, rest_of_state) = state.split_at(2 * batch * hidden);
        (params, state) = (rest, rest_of_state);
        let x = std::mem::take(&mut run.y);
        let mut now = initial.to_vec();
        let mut done = Vec::new();
        for t in 0..steps {
            for row in 0..batch {
                let x = &x[(t * batch + row) * inputs..][..inputs];
                let (c, h) = (row * hidden, (batch + row) * hidden);
                let step = step(shape, own, x, &now[c..c + hidden], &now[h..h + hidden]);
                now[c..c + hidden].copy_from_slice(&step.c);
                now[h..h + hidden].copy_from_slice(&step.h);
                run.y.extend(&step.h);
                done.push(step);
            }
        }
        run.state.extend(now);
        run.layers.push(LayerRun {
            shape,
            params: own.to_vec(),
            x,
            initial: initial.to_vec(),
            steps: done,
        });
    }
    run
}

/// The gradients, from those of the output and of the final states.
pub fn backward(run: &Run, extent: Extent, dy: &[f64], dstate: &[f64]) -> Gradients {
    let mut gradients = Gradients {
        params: Vec::new(),
        x: dy.to_vec(),
        state: Vec::new(),
    };
    let mut end = dstate.len();
    for layer in run.layers.iter().rev() {
        let len = 2 * extent.batch * layer.shape.hidden;
        let own = &dstate[end - len..end];
        end -= len;
        let (params, x, state) = layer_backward(layer, extent, &gradients.x, own);
        gradients.params.splice(..0, params);
        gradients.state.splice(..0, state);
        gradients.x = x;
    }
    gradients
}

fn layer_backward(
    layer: &LayerRun,
    extent: Extent,
    dy: &[f64],
    dstate: &[f64],
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let LayerShape { inputs, hidden, .. } = layer.shape;
    let Extent { steps, batch } = extent;
    let mut dparams = vec![0.0; layer.params.len()];
    let bias = (inputs + hidden) * 4 * hidden;
    let mut dx = vec![0.0; layer.x.len()];
    let mut dstate = dstate.to_vec();
    for t in (0..steps).rev() {
        for row in 0..batch {
            let place = t * batch + row;
            let step = &layer.steps[place];
            let [i, j, f, o] = &step.gates;
            let (c_at, h_at) = (row * hidden, (batch + row) * hidden);
            let (c_before, h_before) = if t == 0 {
                (
                    &layer.initial[c_at..c_at + hidden],
                    &layer.initial[h_at..h_at + hidden],
                )
            } else {
                let before = &layer.steps[place - batch];
                (&before.c[..], &before.h[..])
            };
            let mut dsum = vec![0.0; 4 * hidden];
            for u in 0..hidden {
                let tanh_c = step.c[u].tanh();
                let dh = dy[place * hidden + u] + dstate[h_at + u];
                let dc = dstate[c_at + u] + dh * o[u] * (1.0 - tanh_c * tanh_c);
                dsum[u] = dc * j[u] * i[u] * (1.0 - i[u]);
                dsum[hidden + u] = dc * i[u] * (1.0 - j[u] * j[u]);
                dsum[2 * hidden + u] = dc * c_before[u] * f[u] * (1.0 - f[u]);
                dsum[3 * hidden + u] = dh * tanh_c * o[u] * (1.0 - o[u]);
                dstate[c_at + u] = dc * f[u];
                dstate[h_at + u] = 0.0;
            }
            let x = &layer.x[place * inputs..][..inputs];
            for (n, d) in dsum.into_iter().enumerate() {
                dparams[bias + n] += d;
                for k in 0..inputs {
                    dparams[k * 4 * hidden + n] += x[k] * d;
                    dx[place * inputs + k] += layer.params[k * 4 * hidden + n] * d;
                }
                for k in 0..hidden {
                    let at = (inputs + k) * 4 * hidden + n;
                    dparams[at] += h_before[k] * d;
                    dstate[h_at + k] += layer.params[at] * d;
                }
            }
        }
    }
    (dparams, dx, dstate)
}

/// The head's outputs `[R, C]` for `y` [R, H]; `head` is W `[H, C]`, b `[C]`.
pub fn dense(head: &[f64], y: &[f64], hidden: usize) -> Vec<f64> {
    let classes = head.len() / (hidden + 1);
    let mut logits = Vec::new();
    for y in y.chunks(hidden) {
        for c in 0..classes {
            let sum: f64 = (0..hidden).map(|k| y[k] * head[k * classes + c]).sum();
            logits.push(sum + head[hidden * classes + c]);
        }
    }
    logits
}

/// The mean softmax cross-entropy and the softmax.
pub fn cross_entropy(logits: &[f64], labels: &[u32]) -> (f64, Vec<f64>) {
    let classes = logits.len() / labels.len();
    let (mut loss, mut probabilities) = (0.0, Vec::new());
    for (z, &label) in logits.chunks(classes).zip(labels) {
        let largest = z.iter().cloned().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = z.iter().map(|z| (z - largest).exp()).sum();
        loss += total.ln() + largest - z[label as usize];
        probabilities.extend(z.iter().map(|z| (z - largest).exp() / total));
    }
    (loss / labels.len() as f64, probabilities)
}

/// The loss of a whole classifier, as `Model::loss_gradient` gives it.
pub fn classifier_loss(
    net: NetworkShape,
    params: &[f64],
    extent: Extent,
    x: &[f64],
    labels: &[u32],
    state: &[f64],
) -> f64 {
    let head = net.head().expect("a classifier has a head");
    let y = forward(net, params, extent, x, state).y;
    let logits = dense(&params[params.len() - head.params_len()..], &y, head.inputs);
    cross_entropy(&logits, labels).0
}

/// Numbers in `f64`.
pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| v.into()).collect()
}

/// Numbers in `f32`.
pub fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}
