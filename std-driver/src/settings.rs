//! What a training run is made of: the presets, and what a setting may be.

use crate::{Error, memory, one_line};
use fused_lstm::optimizer::{Adagrad, Adam, Momentum, Optimizer, RmsProp, Sgd};
use fused_lstm::{Extent, NetworkShape};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The tutorials' systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// 3 layers of 4 units, 15 steps of 5 rows, Adagrad 0.3, 5 epochs.
    Echo,
    /// 1 layer of 4 units, 10 steps of 100 rows, Adam 0.3, 6 epochs.
    EchoSingle,
    /// 3 layers of 4 units, 10 steps of 100 rows, Adam 0.3, 6 epochs.
    EchoStacked,
}

/// The optimizers by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerName {
    /// Plain gradient descent.
    Sgd,
    /// Momentum 0.9.
    Momentum,
    /// Nesterov's momentum 0.9.
    Nesterov,
    /// TensorFlow's Adagrad, the accumulator from 0.1.
    Adagrad,
    /// TensorFlow's Adam.
    Adam,
    /// PyTorch's AdamW, decay 0.01.
    Adamw,
    /// TensorFlow's RMSProp, decay 0.9.
    Rmsprop,
}

/// What becomes of the state between the batches of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum StateMode {
    /// It is carried on.
    Carry,
    /// Every batch starts from zeros.
    Zero,
}

/// What checkpoints have that were written before there were shards.
fn one() -> usize {
    1
}

/// A training run.
///
/// ```
/// use fused_lstm_driver::settings::{Preset, Settings};
///
/// let settings = Settings { batch: 10, ..Settings::preset(Preset::Echo) };
/// settings.check()?;
/// assert_eq!(settings.steps_per_epoch(), 333);
/// # Ok::<(), fused_lstm_driver::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What the other settings were taken from.
    pub preset: Preset,
    /// Epochs; each has data of its own.
    pub epochs: u64,
    /// What the random generator starts from.
    pub seed: u64,
    /// Units of each layer, from the first to the last.
    pub hidden: Vec<usize>,
    /// Batch rows, B: the series is cut into so many.
    pub batch: usize,
    /// Time steps of truncated backpropagation, T.
    pub truncation: usize,
    /// How many bits later a bit is to be echoed.
    pub echo_step: usize,
    /// Bits in an epoch.
    pub series_length: usize,
    /// Which optimizer.
    pub optimizer: OptimizerName,
    /// Its learning rate.
    pub learning_rate: f32,
    /// The largest global norm of the gradients, if it is bounded.
    pub clip_norm: Option<f32>,
    /// What becomes of the state between batches.
    pub state: StateMode,
    /// Parts of a batch that are worked on side by side: see [`crate::parallel`].
    #[serde(default = "one")]
    pub shards: usize,
    /// A file of given data instead of random bits.
    pub data: Option<PathBuf>,
}

impl Settings {
    /// The tutorials' values.
    pub fn preset(preset: Preset) -> Self {
        let echo = Self {
            preset,
            epochs: 5,
            seed: 0,
            hidden: vec![4; 3],
            batch: 5,
            truncation: 15,
            echo_step: 3,
            series_length: 50_000,
            optimizer: OptimizerName::Adagrad,
            learning_rate: 0.3,
            clip_norm: None,
            state: StateMode::Carry,
            shards: 1,
            data: None,
        };
        let stacked = Self {
            epochs: 6,
            batch: 100,
            truncation: 10,
            optimizer: OptimizerName::Adam,
            ..echo.clone()
        };
        match preset {
            Preset::Echo => echo,
            Preset::EchoSingle => Self {
                hidden: vec![4],
                ..stacked
            },
            Preset::EchoStacked => stacked,
        }
    }

    /// Refuses settings that no run can have.
    pub fn check(&self) -> Result<(), Error> {
        let positive = |flag, value: usize| match value {
            0 => Err(Error::setting(flag, "at least 1", value)),
            _ => Ok(()),
        };
        if self.hidden.is_empty() {
            return Err(Error::setting("hidden", "at least one layer", "none"));
        }
        for &hidden in &self.hidden {
            positive("hidden", hidden)?;
        }
        positive("batch", self.batch)?;
        if self.shards == 0 || self.shards > self.batch {
            let expected = format!("1 to {}, the rows of a batch", self.batch);
            return Err(Error::setting("shards", expected, self.shards));
        }
        positive("truncation", self.truncation)?;
        positive("series-length", self.series_length)?;
        if self.epochs == 0 {
            return Err(Error::setting("epochs", "at least 1", 0));
        }
        if self.echo_step >= self.series_length {
            let most = format!("fewer than the {} bits of the series", self.series_length);
            return Err(Error::setting("echo-step", most, self.echo_step));
        }
        if !self.series_length.is_multiple_of(self.batch) {
            let divisor = format!("a divisor of the series' {} bits", self.series_length);
            return Err(Error::setting("batch", divisor, self.batch));
        }
        let row = self.series_length / self.batch;
        if self.truncation > row {
            let most = format!("at most the {row} bits of a row");
            return Err(Error::setting("truncation", most, self.truncation));
        }
        let above_zero = |value: f32| value.is_finite() && value > 0.0;
        if !above_zero(self.learning_rate) {
            let expected = "a finite number above 0";
            return Err(Error::setting(
                "learning-rate",
                expected,
                self.learning_rate,
            ));
        }
        if let Some(norm) = self.clip_norm
            && !above_zero(norm)
        {
            return Err(Error::setting("clip-norm", "a finite number above 0", norm));
        }
        if self
            .data
            .as_ref()
            .is_some_and(|path| path.to_str().is_none())
        {
            return Err(Error::setting("data", "a path in UTF-8", "another"));
        }
        // What cannot be had is refused here, and not by a crash in the middle.
        if let Err(Error::Memory { bytes }) = memory::reserve::<f32>(self.floats()) {
            let flag = if self.series_length > self.shape().params_len() {
                "series-length"
            } else {
                "hidden"
            };
            let expected = "a run that fits into memory";
            return Err(Error::setting(
                flag,
                expected,
                format!("one of {bytes} bytes"),
            ));
        }
        Ok(())
    }

    /// What changes if a run that had the settings `old` goes on with these, a text each.
    /// Refuses a change of anything but the epochs, which may become more, the learning rate,
    /// the clip norm, the shards and the place of the data.
    ///
    /// ```
    /// use fused_lstm_driver::settings::{Preset, Settings};
    ///
    /// let old = Settings::preset(Preset::Echo);
    /// let longer = Settings { epochs: 9, ..old.clone() };
    /// assert_eq!(longer.changes_from(&old)?, ["--epochs 9 (was 5)"]);
    /// let wider = Settings { hidden: vec![8; 3], ..old.clone() };
    /// assert!(wider.changes_from(&old).is_err());
    /// # Ok::<(), fused_lstm_driver::Error>(())
    /// ```
    pub fn changes_from(&self, old: &Self) -> Result<Vec<String>, Error> {
        macro_rules! keep {
            ($($flag:literal: $field:ident),*) => {$(
                if self.$field != old.$field {
                    let expected = format!("the checkpoint's {:?}", old.$field);
                    return Err(Error::setting($flag, expected, format!("{:?}", self.$field)));
                }
            )*};
        }
        keep!("seed": seed, "hidden": hidden, "batch": batch, "truncation": truncation);
        keep!("echo-step": echo_step, "series-length": series_length);
        keep!("optimizer": optimizer, "state": state);
        // Random bits and given data are different runs; given data may only have moved.
        if self.data.is_some() != old.data.is_some() {
            let expected = format!("the checkpoint's {:?}", old.data);
            return Err(Error::setting("data", expected, format!("{:?}", self.data)));
        }
        if self.epochs < old.epochs {
            let expected = format!("at least the checkpoint's {}", old.epochs);
            return Err(Error::setting("epochs", expected, self.epochs));
        }
        let mut changes = Vec::new();
        let mut change = |flag: &str, old: String, new: String| {
            if new != old {
                changes.push(format!("--{flag} {new} (was {old})"));
            }
        };
        let norm = |norm: Option<f32>| norm.map_or("none".into(), |norm| norm.to_string());
        let data = |data: &Option<PathBuf>| {
            let shown = |data: &PathBuf| one_line(data.display());
            data.as_ref().map_or("none".into(), shown)
        };
        change("epochs", old.epochs.to_string(), self.epochs.to_string());
        change(
            "learning-rate",
            old.learning_rate.to_string(),
            self.learning_rate.to_string(),
        );
        change("clip-norm", norm(old.clip_norm), norm(self.clip_norm));
        change("shards", old.shards.to_string(), self.shards.to_string());
        change("data", data(&old.data), data(&self.data));
        Ok(changes)
    }

    /// A warning of settings that can be used, but not as one would think.
    pub fn warning(&self) -> Option<String> {
        (self.echo_step >= self.truncation && self.data.is_none()).then(|| {
            format!(
                "--echo-step {} with --truncation {}: no gradient reaches back to the echoed bit, \
                 so that it can be learnt by carried state only",
                self.echo_step, self.truncation
            )
        })
    }

    /// Numbers that a run keeps in memory at the least.
    fn floats(&self) -> usize {
        let (shape, extent) = (self.shape(), self.extent());
        let params = shape.params_len();
        // Gradients: of all, and of each shard.
        let gradients = params.saturating_mul(if self.shards > 1 { self.shards + 1 } else { 1 });
        [
            params,
            gradients,
            self.optimizer().slots_len(params),
            shape.state_len(self.batch).saturating_mul(3),
            shape.cache_len(extent),
            shape.workspace_len(extent).saturating_mul(self.shards),
            shape.logits_len(extent).saturating_mul(2),
            // Bits, inputs and labels.
            self.series_length.saturating_mul(3),
            extent.rows().saturating_mul(4),
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }

    /// Batches in an epoch; bits that do not fill one are left out.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.series_length / self.batch / self.truncation) as u64
    }

    /// Steps of the whole run.
    pub fn steps(&self) -> u64 {
        self.epochs.saturating_mul(self.steps_per_epoch())
    }

    /// T and B.
    pub fn extent(&self) -> Extent {
        Extent {
            steps: self.truncation,
            batch: self.batch,
        }
    }

    /// The network: one input, two classes.
    pub fn shape(&self) -> NetworkShape<'_> {
        NetworkShape::new(1, &self.hidden).with_head(2)
    }

    /// The optimizer with its learning rate.
    pub fn optimizer(&self) -> Optimizer {
        let learning_rate = self.learning_rate;
        let momentum = Momentum::new(learning_rate, 0.9);
        match self.optimizer {
            OptimizerName::Sgd => Optimizer::Sgd(Sgd::new(learning_rate)),
            OptimizerName::Momentum => Optimizer::Momentum(momentum),
            OptimizerName::Nesterov => Optimizer::Momentum(momentum.nesterov()),
            OptimizerName::Adagrad => Optimizer::Adagrad(Adagrad::tensorflow(learning_rate)),
            OptimizerName::Adam => Optimizer::Adam(Adam::tensorflow(learning_rate)),
            OptimizerName::Adamw => Optimizer::Adam(Adam::pytorch_adamw(learning_rate)),
            OptimizerName::Rmsprop => Optimizer::RmsProp(RmsProp::tensorflow(learning_rate)),
        }
    }
}
