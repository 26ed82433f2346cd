//! candle: its own LSTM module, or a cell of untransposed kernels, which in
//! inference multiplies the inputs of all time steps at once.

use std::collections::HashMap;

use candle_core::{D, DType, Device, IndexOp, Result as Done, Tensor, Var, backprop::GradStore};
use candle_nn::{
    LSTMConfig, RNN, VarBuilder, loss,
    ops::{sigmoid, softmax},
    rnn::LSTMState,
};

use crate::{
    Net, Result,
    task::{Head, Matrix, Mode, Task, regate},
};

const CPU: &Device = &Device::Cpu;

enum Layer {
    /// With weights [4H, inputs] and [4H, H].
    Module(candle_nn::LSTM),
    /// With weights [inputs, 4H] and [H, 4H].
    Packed { w: Tensor, r: Tensor, bias: Tensor },
}

struct Candle {
    mode: Mode,
    head: Head,
    dims: (usize, usize, usize),
    h: usize,
    x: Vec<f32>,
    dy: Tensor,
    labels: Tensor,
    layers: Vec<Layer>,
    dense: Option<(Tensor, Tensor)>,
    zero: Vec<LSTMState>,
    state: Vec<LSTMState>,
    /// All parameters, the optimizer's two numbers of each of them, and its steps.
    variables: Vec<Var>,
    slots: Vec<(Tensor, Tensor)>,
    steps: i32,
    y: Vec<f32>,
}

pub fn build(task: &Task, _: usize, setting: usize) -> Result<Option<Box<dyn Net>>> {
    match setting {
        0 | 1 => Ok(Some(Box::new(Candle::new(task, setting == 1)?))),
        _ => Ok(None),
    }
}

impl Candle {
    fn new(task: &Task, packed: bool) -> Done<Self> {
        let &Task { h, b, t, .. } = task;
        let mut variables = Vec::new();
        let mut variable = |values: Tensor| {
            let variable = Var::from_tensor(&values)?;
            let tensor = match task.mode {
                Mode::Train => variable.as_tensor().clone(),
                _ => variable.as_detached_tensor(),
            };
            variables.push(variable);
            Ok::<_, candle_core::Error>(tensor)
        };
        let weights = |m: &Matrix| {
            let m = Tensor::from_vec(regate(m.values.clone(), h), (m.rows, m.columns), CPU)?;
            if packed { Ok(m) } else { m.t()?.contiguous() }
        };
        let mut layers = Vec::new();
        for layer in &task.layers {
            let w = variable(weights(&layer.w)?)?;
            let r = variable(weights(&layer.r)?)?;
            let bias = Tensor::from_vec(regate(layer.bias.clone(), h), 4 * h, CPU)?;
            let bias = variable(bias)?;
            layers.push(if packed {
                Layer::Packed { w, r, bias }
            } else {
                let tensors = [
                    ("weight_ih_l0", w),
                    ("weight_hh_l0", r),
                    ("bias_ih_l0", bias),
                ];
                let tensors: HashMap<_, _> = tensors
                    .into_iter()
                    .map(|(name, v)| (name.into(), v))
                    .collect();
                let config = LSTMConfig {
                    b_hh_init: None,
                    ..LSTMConfig::default()
                };
                let builder = VarBuilder::from_tensors(tensors, DType::F32, CPU);
                Layer::Module(candle_nn::lstm(layer.w.rows, h, config, builder)?)
            });
        }
        let dense = match &task.dense {
            None => None,
            Some((kernel, bias)) => Some((
                variable(Tensor::from_slice(&kernel.values, (h, 2), CPU)?)?,
                variable(Tensor::from_slice(bias, 2, CPU)?)?,
            )),
        };
        let start = if task.head == Head::Adagrad { 0.1 } else { 0.0 };
        let slots = variables
            .iter()
            .map(|v| Ok((v.zeros_like()?, v.zeros_like()?.affine(1.0, start)?)))
            .collect::<Done<_>>()?;
        let zero = Tensor::zeros((b, h), DType::F32, CPU)?;
        let zero = vec![LSTMState::new(zero.clone(), zero); task.l];
        Ok(Self {
            mode: task.mode,
            head: task.head,
            dims: (t, b, task.i),
            h,
            x: task.x.clone(),
            dy: Tensor::from_slice(&task.dy, (t, b, h), CPU)?,
            labels: Tensor::from_slice(&task.labels, t * b, CPU)?,
            layers,
            dense,
            state: zero.clone(),
            zero,
            variables,
            slots,
            steps: 0,
            y: Vec::new(),
        })
    }

    /// The last layer's hidden states [T, B, H], and the state after them.
    fn forward(&self, mut state: Vec<LSTMState>) -> Done<(Tensor, Vec<LSTMState>)> {
        let (t, b, _) = self.dims;
        let x = Tensor::from_slice(&self.x, self.dims, CPU)?;
        // In single steps, as the gradient of an index has the whole's size.
        let mut steps = (0..t).map(|n| x.i(n)).collect::<Done<Vec<_>>>()?;
        for (layer, state) in self.layers.iter().zip(&mut state) {
            if let Layer::Packed { w, bias, .. } = layer
                && self.mode != Mode::Train
            {
                let x = Tensor::cat(&steps, 0)?.matmul(w)?.broadcast_add(bias)?;
                let x = x.reshape((t, b, 4 * self.h))?;
                steps = (0..t).map(|n| x.i(n)).collect::<Done<_>>()?;
            }
            for step in &mut steps {
                *state = match layer {
                    Layer::Module(lstm) => lstm.step(step, state)?,
                    Layer::Packed { w, r, bias } => {
                        let input = match self.mode {
                            Mode::Train => step.matmul(w)?.broadcast_add(bias)?,
                            _ => step.clone(),
                        };
                        let gates = (input + state.h.matmul(r)?)?.chunk(4, 1)?;
                        let kept = (sigmoid(&gates[1])? * &state.c)?;
                        let c = (kept + (sigmoid(&gates[0])? * gates[2].tanh()?)?)?;
                        LSTMState::new((sigmoid(&gates[3])? * c.tanh()?)?, c)
                    }
                };
                *step = state.h.clone();
            }
        }
        Ok((Tensor::stack(&steps, 0)?, state))
    }

    fn logits(&self, y: &Tensor) -> Done<Option<Tensor>> {
        let Some((kernel, bias)) = &self.dense else {
            return Ok(None);
        };
        Ok(Some(y.flatten(0, 1)?.matmul(kernel)?.broadcast_add(bias)?))
    }

    fn update(&mut self, gradients: &GradStore) -> Done<()> {
        self.steps += 1;
        for (variable, (m, v)) in self.variables.iter().zip(&mut self.slots) {
            let g = gradients
                .get(variable)
                .expect("every parameter has a gradient");
            let change = match self.head {
                Head::None => (g * 1e-3)?,
                Head::Adagrad => {
                    *v = (&*v + g.sqr()?)?;
                    (g.div(&v.sqrt()?)? * 0.3)?
                }
                Head::Adam => {
                    *m = ((&*m * 0.9)? + (g * 0.1)?)?;
                    *v = ((&*v * 0.999)? + (g.sqr()? * 0.001)?)?;
                    let rate = 0.3 * (1.0 - 0.999f64.powi(self.steps)).sqrt()
                        / (1.0 - 0.9f64.powi(self.steps));
                    (m.div(&(v.sqrt()? + 1e-8)?)? * rate)?
                }
            };
            // Without its history, which would grow with the steps.
            variable.set(&(variable.as_detached_tensor() - change)?.detach())?;
        }
        Ok(())
    }
}

impl Net for Candle {
    fn step(&mut self) -> Result<()> {
        let state = match self.mode {
            Mode::Stream => self.state.clone(),
            _ => self.zero.clone(),
        };
        let (y, state) = self.forward(state)?;
        let logits = self.logits(&y)?;
        if self.mode == Mode::Train {
            let loss = match &logits {
                None => (y * &self.dy)?.sum_all()?,
                Some(logits) => loss::cross_entropy(logits, &self.labels)?,
            };
            self.update(&loss.backward()?)?;
        } else {
            let y = match logits {
                None => y,
                Some(logits) => softmax(&logits, D::Minus1)?,
            };
            self.y = y.flatten_all()?.to_vec1()?;
            self.state = state;
        }
        Ok(())
    }

    fn outcome(&mut self) -> Result<Vec<f32>> {
        if self.mode != Mode::Train {
            return Ok(self.y.clone());
        }
        let (layers, dense) = self.variables.split_at(3 * self.layers.len());
        let mut values = Vec::new();
        for variable in layers {
            // The module's weights stand the other way round; a bias has one dimension.
            let m = variable.as_detached_tensor();
            let transposed = m.rank() == 2 && matches!(self.layers[0], Layer::Module(_));
            let m = if transposed { m.t()? } else { m };
            values.extend(regate(m.flatten_all()?.to_vec1()?, self.h));
        }
        for variable in dense {
            values.extend(variable.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(values)
    }
}
