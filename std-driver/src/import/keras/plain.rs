//! Dense, embedding and normalisation layers.

use super::build::Builder;
use super::config::{Entry, Wrong, brief};
use super::store::Weights;
use crate::Error;
use crate::import::Kind;
use serde_json::Value;

impl Builder<'_> {
    /// The width behind a layer of so many inputs, which must be those that come.
    fn check_width(&self, entry: &Entry, inputs: usize) -> Result<(), Error> {
        match self.width {
            Some(width) if width != inputs => Err(self.problem(
                entry,
                format!("expected weights for {width} inputs, which the layers before it give, got {inputs}"),
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn dense(
        &mut self,
        entry: &Entry,
        name: &str,
        weights: &Weights,
    ) -> Result<(), Error> {
        let store = self.store;
        let wrong = |e: Wrong| store.problem(format!("layer {name}: {e}"));
        let outputs = entry.count("units").map_err(wrong)?;
        let roles = match entry.flag("use_bias", true).map_err(wrong)? {
            true => &["kernel", "bias"][..],
            false => &["kernel"],
        };
        let mut loaded = weights.load(store, name, roles)?;
        let bias = match roles.len() {
            2 => loaded.pop(),
            _ => None,
        };
        let kernel = loaded.pop().ok_or_else(|| wrong("no kernel".to_owned()))?;
        let [inputs, _] = kernel.dims(store, name)?;
        kernel.expect(store, name, &[inputs, outputs])?;
        self.check_width(entry, inputs)?;
        let bias = match bias {
            Some(bias) => {
                bias.expect(store, name, &[outputs])?;
                bias.values
            }
            None => crate::memory::zeros(outputs)?,
        };
        let kind = Kind::Dense {
            inputs,
            outputs,
            kernel: kernel.values,
            bias,
        };
        self.push(name, kind);
        self.width = Some(outputs);
        self.own_activation(entry, name);
        Ok(())
    }

    pub(super) fn embedding(&mut self, entry: &Entry, weights: &Weights) -> Result<(), Error> {
        let (store, name) = (self.store, &entry.name);
        let wrong = |e: Wrong| store.problem(format!("layer {name}: {e}"));
        let rows = entry.count("input_dim").map_err(wrong)?;
        let width = entry.count("output_dim").map_err(wrong)?;
        if entry.flag("mask_zero", false).map_err(wrong)? {
            self.note(format!(
                "layer {name}: Keras skips the steps whose index is 0, which are not skipped here; lengths of run leave them out where they are padding at the end"
            ));
        }
        let mut loaded = weights.load(store, name, &["embeddings"])?;
        let table = loaded
            .pop()
            .ok_or_else(|| wrong("no embeddings".to_owned()))?;
        table.expect(store, name, &[rows, width])?;
        let table = table.values;
        self.push(name, Kind::Embedding { rows, width, table });
        self.width = Some(width);
        self.rank = self.rank.map(|rank| rank + 1);
        Ok(())
    }

    pub(super) fn normalization(
        &mut self,
        entry: &Entry,
        name: &str,
        weights: &Weights,
    ) -> Result<(), Error> {
        let store = self.store;
        let wrong = |e: Wrong| store.problem(format!("layer {name}: {e}"));
        let axis = match entry.settings.get("axis") {
            Some(Value::Array(list)) if list.len() == 1 => list.first().and_then(Value::as_f64),
            None => Some(-1.0),
            Some(axis) => axis.as_f64(),
        };
        // The columns of a sequence are its axis 2, whose rank is 3 unless the layers say other.
        let last = axis.is_some_and(|axis| self.is_last(axis));
        if !last {
            let axis = brief(entry.settings.get("axis").unwrap_or(&Value::Null));
            self.other(name, format!("BatchNormalization of the axis {axis}"));
            return Ok(());
        }
        let scaled = entry.flag("scale", true).map_err(wrong)?;
        let centred = entry.flag("center", true).map_err(wrong)?;
        let epsilon = entry.number("epsilon", 1e-3).map_err(wrong)?;
        let parts = [
            ("gamma", scaled),
            ("beta", centred),
            ("moving_mean", true),
            ("moving_variance", true),
        ];
        let kept = parts.iter().filter(|(_, is)| *is);
        let roles: Vec<&str> = kept.map(|(role, _)| *role).collect();
        let loaded = weights.load(store, name, &roles)?;
        let width = loaded.first().map_or(0, |first| first.values.len());
        for tensor in &loaded {
            tensor.expect(store, name, &[width])?;
        }
        self.check_width(entry, width)?;
        let column = |role: &str, k: usize| -> Option<f64> {
            let at = roles.iter().position(|r| *r == role)?;
            loaded.get(at)?.values.get(k).map(|&v| v.into())
        };
        let (mut scale, mut shift) = (Vec::new(), Vec::new());
        for k in 0..width {
            let variance = column("moving_variance", k).unwrap_or(1.0);
            let gain = column("gamma", k).unwrap_or(1.0) / (variance + epsilon).sqrt();
            let mean = column("moving_mean", k).unwrap_or(0.0);
            let bias = column("beta", k).unwrap_or(0.0) - mean * gain;
            if !(gain as f32).is_finite() || !(bias as f32).is_finite() {
                return Err(wrong(format!(
                    "expected a variance above 0, got {variance} at {k}"
                )));
            }
            scale.push(gain as f32);
            shift.push(bias as f32);
        }
        self.note(
            "batch normalisation became a factor and a summand, of its moving mean and variance",
        );
        self.push(name, Kind::Affine { scale, shift });
        self.width = Some(width);
        Ok(())
    }
}
