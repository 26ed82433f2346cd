//! A series in a file, and what the network makes of it, in the file's order of time and batch.

use super::Output;
use crate::Error;
use crate::memory::zeros;
use crate::tensors::{NamedTensor, Numbers, TensorFile};
use fused_lstm::{Extent, Model, NetworkShape, loss};

/// The input in its file.
pub(super) struct Series<'a> {
    values: Numbers<'a, f32>,
    pub(super) extent: Extent,
    inputs: usize,
    batch_first: bool,
}

impl<'a> Series<'a> {
    /// The key `x`. Refuses another shape, and numbers that are not finite.
    pub(super) fn read(
        input: &'a TensorFile,
        shape: NetworkShape,
        batch_first: bool,
    ) -> Result<Self, Error> {
        let found = input.f32_shape("x")?;
        let extent = match *found {
            [batch, steps, _] if batch_first => Extent { steps, batch },
            [steps, batch, _] => Extent { steps, batch },
            _ => Extent { steps: 0, batch: 0 },
        };
        if extent.rows() == 0 || found[2] != shape.inputs {
            let order = if batch_first { "B, T" } else { "T, B" };
            let inputs = shape.inputs;
            return Err(input.problem(format!(
                "key x: expected shape [{order}, {inputs}] with at least one of each, got {found:?}"
            )));
        }
        Ok(Self {
            values: input.f32_values("x")?,
            extent,
            inputs: shape.inputs,
            batch_first,
        })
    }

    /// Overwrites `x` `[T, B, I]` with `steps` time steps from `first` on.
    pub(super) fn copy(&self, first: usize, steps: usize, x: &mut Vec<f32>) {
        let batch = self.extent.batch;
        x.resize(steps * batch * self.inputs, 0.0);
        for (row, x) in x.chunks_exact_mut(self.inputs).enumerate() {
            let place = self.place(first + row / batch, row % batch);
            let values = self.values.part(place * self.inputs, self.inputs);
            x.iter_mut().zip(values.iter()).for_each(|(x, v)| *x = v);
        }
    }

    /// Where step `t` of row `b` stands in the file, counted in rows.
    fn place(&self, t: usize, b: usize) -> usize {
        if self.batch_first {
            b * self.extent.steps + t
        } else {
            t * self.extent.batch + b
        }
    }
}

/// The outputs that are wanted, in the order of the input.
pub(super) struct Outputs<'a> {
    series: &'a Series<'a>,
    wanted: Vec<Wanted>,
    /// Logits of a block, then their softmax.
    head: Vec<f32>,
}

struct Wanted {
    output: Output,
    width: usize,
    values: Vec<f32>,
}

impl<'a> Outputs<'a> {
    pub(super) fn new(
        shape: NetworkShape,
        wanted: &[Output],
        series: &'a Series<'a>,
    ) -> Result<Self, Error> {
        let classes = shape.classes.unwrap_or(0);
        let widths = [
            (Output::Y, shape.outputs()),
            (Output::Logits, classes),
            (Output::Probabilities, classes),
        ];
        let room = |(output, width): (Output, usize)| {
            let values = zeros(series.extent.rows().saturating_mul(width))?;
            Ok(Wanted {
                output,
                width,
                values,
            })
        };
        let wanted = widths.into_iter().filter(|(o, _)| wanted.contains(o));
        Ok(Self {
            series,
            wanted: wanted.map(room).collect::<Result<_, Error>>()?,
            head: Vec::new(),
        })
    }

    /// Takes what is wanted of `steps` time steps from `first` on, from the hidden states `y`
    /// `[T, B, H]`.
    pub(super) fn take(
        &mut self,
        model: Model,
        first: usize,
        steps: usize,
        y: &[f32],
    ) -> Result<(), Error> {
        let batch = self.series.extent.batch;
        let extent = Extent { steps, batch };
        let shape = model.shape();
        if self.wanted.iter().any(|wanted| wanted.output != Output::Y) {
            let len = shape.logits_len(extent);
            if self.head.len() != len {
                self.head = zeros(len)?;
            }
            model.logits(extent, y, &mut self.head)?;
        }
        for wanted in &mut self.wanted {
            let values = match wanted.output {
                Output::Y => y,
                Output::Probabilities => {
                    // The logits have been taken: their order is that of the widths above.
                    loss::softmax(wanted.width, &mut self.head)?;
                    &self.head
                }
                _ => &self.head,
            };
            for (row, values) in values.chunks_exact(wanted.width).enumerate() {
                let place = self.series.place(first + row / batch, row % batch);
                wanted.values[place * wanted.width..][..wanted.width].copy_from_slice(values);
            }
        }
        Ok(())
    }

    pub(super) fn into_tensors(self) -> Vec<NamedTensor<'static>> {
        let Extent { steps, batch } = self.series.extent;
        let (first, second) = if self.series.batch_first {
            (batch, steps)
        } else {
            (steps, batch)
        };
        let tensor = |wanted: Wanted| {
            let name = match wanted.output {
                Output::Y => "y",
                Output::Logits => "logits",
                Output::Probabilities => "probabilities",
                Output::State => "state",
            };
            NamedTensor::f32(name, &[first, second, wanted.width], wanted.values)
        };
        self.wanted.into_iter().map(tensor).collect()
    }
}
