//! rten, which loads ONNX models.

use std::{iter, sync::Arc};

use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::{Tensor, prelude::*};

use crate::{Net, Result, task::Task};

struct Rten {
    model: Model,
    options: RunOptions,
    inputs: Vec<NodeId>,
    outputs: Vec<NodeId>,
    x: Tensor<f32>,
    /// h and c of every layer; none unless the task is a stream.
    state: Vec<Value>,
    y: Option<Value>,
}

pub fn build(task: &Task, threads: usize, setting: usize) -> Result<Option<Box<dyn Net>>> {
    if setting > 0 {
        return Ok(None);
    }
    let model = ModelOptions::with_all_ops()
        .prepack_weights(true)
        .load(task.onnx()?)?;
    let zero = || Value::from(Tensor::<f32>::zeros(&[1, task.b, task.h]));
    let states = if task.is_stream() { 2 * task.l } else { 0 };
    Ok(Some(Box::new(Rten {
        options: RunOptions::default()
            .with_thread_pool(Some(Arc::new(ThreadPool::with_num_threads(threads)))),
        inputs: model.input_ids().to_vec(),
        outputs: model.output_ids().to_vec(),
        model,
        x: Tensor::from_data(&[task.t, task.b, task.i], task.x.clone()),
        state: (0..states).map(|_| zero()).collect(),
        y: None,
    })))
}

impl Net for Rten {
    fn step(&mut self) -> Result<()> {
        let x = ValueOrView::from(self.x.view());
        let state = self.state.drain(..).map(ValueOrView::Value);
        let values = iter::once(x).chain(state);
        let inputs = self.inputs.iter().copied().zip(values).collect();
        let outputs = self
            .model
            .run(inputs, &self.outputs, Some(self.options.clone()))?;
        let mut outputs = outputs.into_iter();
        self.y = outputs.next();
        self.state.extend(outputs);
        Ok(())
    }

    fn outcome(&mut self) -> Result<Vec<f32>> {
        let y: Tensor<f32> = self.y.take().ok_or("no call yet")?.try_into()?;
        Ok(y.into_data())
    }
}
