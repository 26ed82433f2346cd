//! burn: its own LSTM module on its CPU backend.

use burn::{
    module::Param,
    nn::{GateController, Lstm, LstmConfig, LstmState},
    tensor::{Device, Gradients, Tensor, TensorData, activation::log_softmax},
};

use crate::{
    Error, Net, Result,
    task::{Head, Mode, Task},
};

struct Burn {
    mode: Mode,
    dims: [usize; 3],
    h: usize,
    device: Device,
    x: Vec<f32>,
    dy: Tensor<3>,
    /// The labels as rows of 0 and 1.
    chosen: Tensor<2>,
    lstms: Vec<Lstm>,
    dense: Option<(Param<Tensor<2>>, Param<Tensor<1>>)>,
    state: Vec<Option<LstmState<2>>>,
    optimizer: Optimizer,
    y: Vec<f32>,
}

pub fn build(task: &Task, _: usize, setting: usize) -> Result<Option<Box<dyn Net>>> {
    if setting > 0 {
        return Ok(None);
    }
    let &Task { h, b, t, .. } = task;
    let device = match task.mode {
        Mode::Train => Device::flex().autodiff(),
        _ => Device::flex(),
    };
    let matrix = |values: Vec<f32>, rows: usize| {
        let columns = values.len() / rows;
        Param::from_data(TensorData::new(values, [rows, columns]), &device)
    };
    let vector = |values: Vec<f32>| {
        let columns = values.len();
        Param::from_data(TensorData::new(values, [columns]), &device)
    };
    let lstm = |layer: &crate::task::Layer| {
        let inputs = layer.w.rows;
        let mut lstm = LstmConfig::new(inputs, h, true)
            .with_batch_first(false)
            .init(&device);
        for (n, gate) in gates(&mut lstm).into_iter().enumerate() {
            let part = |values: &[f32]| -> Vec<f32> {
                let rows = values.chunks_exact(4 * h);
                rows.flat_map(|row| &row[n * h..][..h]).copied().collect()
            };
            gate.input_transform.weight = matrix(part(&layer.w.values), inputs);
            gate.hidden_transform.weight = matrix(part(&layer.r.values), h);
            gate.input_transform.bias = Some(vector(part(&layer.bias)));
            gate.hidden_transform.bias = None;
        }
        lstm
    };
    let dense = task.dense.as_ref();
    let chosen = task.labels.iter().flat_map(|&n| [1.0 - n as f32, n as f32]);
    let plain = device.clone().inner();
    Ok(Some(Box::new(Burn {
        mode: task.mode,
        dims: [t, b, task.i],
        h,
        x: task.x.clone(),
        dy: Tensor::from_data(TensorData::new(task.dy.clone(), [t, b, h]), &device),
        chosen: Tensor::from_data(
            TensorData::new(chosen.collect::<Vec<f32>>(), [t * b, 2]),
            &device,
        ),
        lstms: task.layers.iter().map(lstm).collect(),
        dense: dense.map(|(kernel, bias)| (matrix(kernel.values.clone(), h), vector(bias.clone()))),
        state: vec![None; task.l],
        optimizer: Optimizer {
            head: task.head,
            device: plain,
            slots: Vec::new(),
            next: 0,
            steps: 0,
        },
        device,
        y: Vec::new(),
    })))
}

/// The gates in the file's order.
fn gates(lstm: &mut Lstm) -> [&mut GateController; 4] {
    let forget = lstm.forget_gate.as_mut().expect("a forget gate");
    [
        &mut lstm.input_gate,
        &mut lstm.cell_gate,
        forget,
        &mut lstm.output_gate,
    ]
}

/// Meets the parameters in the same order at every step.
struct Optimizer {
    head: Head,
    device: Device,
    slots: Vec<[Tensor<1>; 2]>,
    next: usize,
    steps: i32,
}

impl Optimizer {
    fn update<const D: usize>(&mut self, param: &mut Param<Tensor<D>>, gradients: &Gradients) {
        let w = param.val();
        let g = w.grad(gradients).expect("every parameter has a gradient");
        let w = w.inner();
        let change = if self.head == Head::None {
            g * 1e-3
        } else {
            let shape = g.shape();
            if self.next == self.slots.len() {
                let zero = Tensor::zeros([shape.num_elements()], &self.device);
                let start = if self.head == Head::Adagrad { 0.1 } else { 0.0 };
                self.slots.push([zero.clone(), zero + start]);
            }
            let [m, v] = &mut self.slots[self.next];
            self.next += 1;
            let g = g.flatten::<1>(0, D - 1);
            let square = g.clone() * g.clone();
            let change = if self.head == Head::Adagrad {
                *v = v.clone() + square;
                g / v.clone().sqrt() * 0.3
            } else {
                *m = m.clone() * 0.9 + g * 0.1;
                *v = v.clone() * 0.999 + square * 0.001;
                let rate = 0.3 * (1.0 - 0.999f64.powi(self.steps)).sqrt()
                    / (1.0 - 0.9f64.powi(self.steps));
                m.clone() / (v.clone().sqrt() + 1e-8) * rate
            };
            change.reshape(shape)
        };
        *param = Param::from_tensor(Tensor::from_inner(w - change));
    }
}

impl Burn {
    fn logits(&self, y: Tensor<3>) -> Option<Tensor<2>> {
        let (kernel, bias) = self.dense.as_ref()?;
        let y = y.flatten::<2>(0, 1);
        Some(y.matmul(kernel.val()) + bias.val().unsqueeze())
    }

    fn update(&mut self, gradients: &Gradients) {
        let optimizer = &mut self.optimizer;
        optimizer.next = 0;
        optimizer.steps += 1;
        for gate in self.lstms.iter_mut().flat_map(gates) {
            optimizer.update(&mut gate.input_transform.weight, gradients);
            optimizer.update(&mut gate.hidden_transform.weight, gradients);
            let bias = gate.input_transform.bias.as_mut().expect("a bias");
            optimizer.update(bias, gradients);
        }
        if let Some((kernel, bias)) = &mut self.dense {
            optimizer.update(kernel, gradients);
            optimizer.update(bias, gradients);
        }
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor
        .into_data()
        .try_into_vec::<f32>()
        .map_err(|error| Error::from(format!("{error:?}")))
}

impl Net for Burn {
    fn step(&mut self) -> Result<()> {
        let data = TensorData::new(self.x.clone(), self.dims);
        let mut y = Tensor::<3>::from_data(data, &self.device);
        for (lstm, state) in self.lstms.iter().zip(&mut self.state) {
            let before = state.take();
            let (output, after) = lstm.forward(y, before);
            y = output;
            if self.mode == Mode::Stream {
                *state = Some(after);
            }
        }
        let logits = self.logits(y.clone()).map(|logits| log_softmax(logits, 1));
        if self.mode == Mode::Train {
            let [t, b, _] = self.dims;
            let loss = match logits {
                None => (y * self.dy.clone()).sum(),
                Some(logits) => (logits * self.chosen.clone()).sum() * (-1.0 / (t * b) as f64),
            };
            let gradients = loss.backward();
            self.update(&gradients);
        } else {
            self.y = match logits {
                None => values(y)?,
                Some(logits) => values(logits.exp())?,
            };
        }
        Ok(())
    }

    fn outcome(&mut self) -> Result<Vec<f32>> {
        if self.mode != Mode::Train {
            return Ok(self.y.clone());
        }
        let mut all = Vec::new();
        let h = self.h;
        for lstm in &mut self.lstms {
            let mut parts = Vec::new();
            for gate in gates(lstm) {
                let mut part = values(gate.input_transform.weight.val())?;
                part.extend(values(gate.hidden_transform.weight.val())?);
                let bias = gate.input_transform.bias.as_ref().expect("a bias");
                part.extend(values(bias.val())?);
                parts.push(part);
            }
            // Row by row the four gates' parts.
            for row in 0..parts[0].len() / h {
                for part in &parts {
                    all.extend_from_slice(&part[row * h..][..h]);
                }
            }
        }
        if let Some((kernel, bias)) = &self.dense {
            all.extend(values(kernel.val())?);
            all.extend(values(bias.val())?);
        }
        Ok(all)
    }
}
