//! tract, which loads ONNX models.

use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

use crate::{Error, Net, Result, task::Task};

struct Tract {
    model: Arc<TypedRunnableModel>,
    x: Tensor,
    /// h and c of every layer; none unless the task is a stream.
    state: TVec<TValue>,
    y: Option<TValue>,
}

pub fn build(task: &Task, threads: usize, setting: usize) -> Result<Option<Box<dyn Net>>> {
    if setting > 0 {
        return Ok(None);
    }
    if threads > 1 {
        set_default_executor(Executor::multithread(threads));
    }
    let model = onnx()
        .model_for_read(&mut &task.onnx()?[..])
        .and_then(|model| model.into_optimized())
        .and_then(|model| model.into_runnable())
        .map_err(error)?;
    let zero = || tract_ndarray::Array3::<f32>::zeros((1, task.b, task.h));
    let states = if task.is_stream() { 2 * task.l } else { 0 };
    Ok(Some(Box::new(Tract {
        model,
        x: Tensor::from_shape(&[task.t, task.b, task.i], &task.x).map_err(error)?,
        state: (0..states).map(|_| zero().into_tvalue()).collect(),
        y: None,
    })))
}

fn error(error: TractError) -> Error {
    format!("{error:#}").into()
}

impl Net for Tract {
    fn step(&mut self) -> Result<()> {
        let x = self.x.clone().into_tvalue();
        let inputs = [x].into_iter().chain(self.state.drain(..)).collect();
        let mut outputs = self.model.run(inputs).map_err(error)?.into_iter();
        self.y = outputs.next();
        self.state.extend(outputs);
        Ok(())
    }

    fn outcome(&mut self) -> Result<Vec<f32>> {
        let y = self.y.take().ok_or("no call yet")?;
        Ok(y.to_plain_array_view::<f32>()
            .map_err(error)?
            .iter()
            .copied()
            .collect())
    }
}
