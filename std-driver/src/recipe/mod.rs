//! Recipes: what a network of one's own is trained on and how, as a TOML file.

mod echo;
mod job;
mod schedule;
mod text;

pub use echo::{echo_settings, echo_to_toml};
pub use job::{
    Audio, AudioLoss, ClassWeights, Classify, ClassifyLoss, Forecast, ForecastLoss, Job, Text,
    TextLoss, Unit,
};
pub use schedule::Schedule;

use crate::Error;
use crate::settings::OptimizerName;
use fused_lstm::optimizer::{Adagrad, Adam, Momentum, Optimizer, RmsProp, Sgd};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// More than any machine has cores; each shard has a gradient of its own.
const MOST_SHARDS: usize = 1024;

/// A training run on one's own data.
///
/// ```
/// use fused_lstm_driver::recipe::{JobName, Recipe};
///
/// let recipe = Recipe::preset(JobName::Forecast);
/// let text = recipe.to_toml();
/// assert!(text.starts_with("job = \"forecast\""));
/// assert_eq!(Recipe::of_text("recipe.toml".as_ref(), &text, &[])?, recipe);
///
/// let error = Recipe::of_text("r.toml".as_ref(), "job = \"forecast\"\n[data]\nwide = 3", &[]);
/// assert!(error.unwrap_err().to_string().contains("r.toml: data: unknown field `wide`"));
/// # Ok::<(), fused_lstm_driver::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// What the weights, the order of the data and dropout are drawn from.
    pub seed: u64,
    /// The job with its data and its loss.
    pub job: Job,
    /// The network.
    pub model: Network,
    /// How it is trained.
    pub training: Training,
}

/// The jobs by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum JobName {
    /// Values to come of a series.
    Forecast,
    /// A class of a sequence, or of each of its steps.
    Classify,
    /// What a device does to a sound.
    Audio,
    /// The next character of a text.
    Text,
}

/// The network: LSTM layers below a dense layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Network {
    /// Units of each layer, from the first to the last.
    pub hidden: Vec<usize>,
    /// Whether the layers run in both directions, each with so many units.
    pub bidirectional: bool,
    /// The share of the numbers that are dropped in training on their way into each layer but the first,
    /// and into the dense one: the same for all steps of a sequence (Gal and Ghahramani 2016).
    pub dropout: f32,
    /// The share of the hidden state that is dropped on its way back into its layer, likewise.
    pub recurrent_dropout: f32,
    /// How likely a cell state stays as it was in a step (Krueger et al. 2017).
    pub zoneout_cell: f32,
    /// And a hidden state.
    pub zoneout_hidden: f32,
    /// Whether the sums of each gate and the cell state are normalised over a layer's units.
    pub layer_norm: bool,
}

/// How a network is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Training {
    /// Times that the training data is gone through, at most.
    pub epochs: u64,
    /// Sequences of a batch.
    pub batch: usize,
    /// Time steps of truncated backpropagation; 0 for whole sequences.
    pub truncation: usize,
    /// Steps at the beginning of a sequence whose outputs do not count.
    pub warm_up: usize,
    /// Batches whose gradients are added up for one update.
    pub accumulate: usize,
    /// Which optimizer.
    pub optimizer: OptimizerName,
    /// Its learning rate.
    pub learning_rate: f32,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// How fast weights shrink: AdamW's λ, and for the others the factor of the weights that is added
    /// to the gradient.
    pub weight_decay: f32,
    /// The largest global norm of the gradient; 0 where it is not bounded.
    pub clip_norm: f32,
    /// Epochs without a better validation loss after which training ends; 0 for never.
    pub patience: u64,
    /// Runs with other seeds, of which the best is kept.
    pub restarts: u64,
    /// Parts of a batch that are worked on side by side.
    pub shards: usize,
}

impl Training {
    /// The optimizer with this learning rate.
    pub fn optimizer(&self, rate: f32) -> Optimizer {
        let momentum = Momentum::new(rate, 0.9);
        match self.optimizer {
            OptimizerName::Sgd => Optimizer::Sgd(Sgd::new(rate)),
            OptimizerName::Momentum => Optimizer::Momentum(momentum),
            OptimizerName::Nesterov => Optimizer::Momentum(momentum.nesterov()),
            OptimizerName::Adagrad => Optimizer::Adagrad(Adagrad::pytorch(rate)),
            OptimizerName::Adam => Optimizer::Adam(Adam::pytorch(rate)),
            OptimizerName::Adamw => {
                let mut adam = Adam::pytorch_adamw(rate);
                adam.weight_decay = self.weight_decay;
                Optimizer::Adam(adam)
            }
            OptimizerName::Rmsprop => Optimizer::RmsProp(RmsProp::pytorch(rate)),
        }
    }

    /// The factor of the weights in the gradient.
    pub fn coupled_decay(&self) -> f32 {
        match self.optimizer {
            OptimizerName::Adamw => 0.0,
            _ => self.weight_decay,
        }
    }
}

impl Recipe {
    /// A recipe to start from; its files have names that stand for one's own.
    pub fn preset(job: JobName) -> Self {
        let training = Training {
            epochs: 50,
            batch: 32,
            truncation: 0,
            warm_up: 0,
            accumulate: 1,
            optimizer: OptimizerName::Adam,
            learning_rate: 0.003,
            schedule: Schedule::Constant {},
            weight_decay: 0.0,
            clip_norm: 1.0,
            patience: 10,
            restarts: 1,
            shards: 1,
        };
        let network = |hidden: usize| Network {
            hidden: vec![hidden],
            bidirectional: false,
            dropout: 0.0,
            recurrent_dropout: 0.0,
            zoneout_cell: 0.0,
            zoneout_hidden: 0.0,
            layer_norm: false,
        };
        let (job, model, training) = match job {
            JobName::Forecast => (Job::forecast(), network(32), training),
            JobName::Classify => (
                Job::classify(),
                network(32),
                Training {
                    learning_rate: 0.005,
                    ..training
                },
            ),
            JobName::Audio => (
                Job::audio(),
                network(16),
                Training {
                    epochs: 60,
                    batch: 8,
                    truncation: 1024,
                    warm_up: 1024,
                    learning_rate: 0.01,
                    schedule: Schedule::Cosine {
                        warm_up: 50,
                        least: 0.01,
                    },
                    patience: 0,
                    ..training
                },
            ),
            JobName::Text => (
                Job::text(),
                network(128),
                Training {
                    epochs: 10,
                    truncation: 64,
                    schedule: Schedule::Cosine {
                        warm_up: 100,
                        least: 0.1,
                    },
                    patience: 3,
                    ..training
                },
            ),
        };
        Self {
            seed: 0,
            job,
            model,
            training,
        }
    }

    /// Refuses what no run can have.
    pub fn check(&self) -> Result<(), Error> {
        let training = &self.training;
        let at_least_one = [
            ("training.epochs", training.epochs),
            ("training.batch", training.batch as u64),
            ("training.accumulate", training.accumulate as u64),
            ("training.restarts", training.restarts),
        ];
        for (key, value) in at_least_one {
            if value == 0 {
                return Err(Error::recipe(key, "at least 1", value));
            }
        }
        let most = training.batch.min(MOST_SHARDS);
        if training.shards == 0 || training.shards > most {
            let expected = format!("1 to {most}, with batches of {} rows", training.batch);
            return Err(Error::recipe("training.shards", expected, training.shards));
        }
        if self.model.hidden.is_empty() || self.model.hidden.contains(&0) {
            let got = format!("{:?}", self.model.hidden);
            return Err(Error::recipe(
                "model.hidden",
                "layers of at least 1 unit",
                got,
            ));
        }
        let parts = [
            ("model.dropout", self.model.dropout),
            ("model.recurrent-dropout", self.model.recurrent_dropout),
            ("model.zoneout-cell", self.model.zoneout_cell),
            ("model.zoneout-hidden", self.model.zoneout_hidden),
        ];
        for (key, value) in parts {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::recipe(key, "0 up to less than 1", value));
            }
        }
        let rate = training.learning_rate;
        if !(rate.is_finite() && rate > 0.0) {
            let key = "training.learning-rate";
            return Err(Error::recipe(key, "a finite number above 0", rate));
        }
        let not_negative = [
            ("training.weight-decay", training.weight_decay),
            ("training.clip-norm", training.clip_norm),
        ];
        for (key, value) in not_negative {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::recipe(key, "a finite number from 0 on", value));
            }
        }
        if self.model.bidirectional {
            let (key, expected) = match &self.job {
                Job::Text { .. } => (
                    "model.bidirectional",
                    "false, or the answer is in the input",
                ),
                _ => ("training.truncation", "0 with layers of both directions"),
            };
            if training.truncation > 0 || matches!(self.job, Job::Text { .. }) {
                return Err(Error::recipe(
                    key,
                    expected,
                    match key {
                        "model.bidirectional" => "true".to_owned(),
                        _ => training.truncation.to_string(),
                    },
                ));
            }
        }
        training.schedule.check()?;
        self.job.check()
    }

    /// Takes all data as one part to be judged: windows one after the other, sounds and texts as they are.
    pub fn whole(&mut self) {
        self.job.whole();
        if let Job::Text { .. } = self.job {
            self.training.batch = 1;
            self.training.shards = 1;
        }
    }

    /// The files that are read.
    pub fn files(&self) -> Vec<PathBuf> {
        self.job.files()
    }
}
