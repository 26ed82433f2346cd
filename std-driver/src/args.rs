//! The arguments, and how they change a preset's settings.

use clap::{Args, Parser, Subcommand};
use fused_lstm_driver::Error;
use fused_lstm_driver::data::GivenData;
use fused_lstm_driver::settings::{OptimizerName, Preset, Settings, StateMode};
use std::path::PathBuf;

/// Trains and runs small LSTM networks.
#[derive(Debug, Parser)]
#[command(
    name = "fused-lstm",
    version,
    subcommand_required = true,
    arg_required_else_help = false
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a network to echo bits, as the tutorials do.
    Train(Box<Train>),
    /// Run a network from a file on inputs from a file.
    Run(Run),
}

#[derive(Args, Debug)]
pub struct Train {
    /// Which tutorial's system [default: echo].
    pub preset: Option<Preset>,
    #[command(flatten, next_help_heading = "Settings (the preset's unless given)")]
    pub settings: SettingFlags,
    #[command(flatten, next_help_heading = "Files")]
    pub files: Files,
    /// Print nothing but errors.
    #[arg(long)]
    pub quiet: bool,
}

#[derive(Args, Debug)]
pub struct SettingFlags {
    /// Epochs, each with data of its own.
    #[arg(long)]
    pub epochs: Option<u64>,
    /// What the random generator starts from.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Layers of equal size.
    #[arg(long)]
    pub layers: Option<usize>,
    /// Units of every layer, or a list with those of each: 4,5.
    #[arg(long, value_delimiter = ',', value_name = "UNITS")]
    pub hidden: Option<Vec<usize>>,
    /// Batch rows.
    #[arg(long)]
    pub batch: Option<usize>,
    /// Time steps of truncated backpropagation.
    #[arg(long, value_name = "STEPS")]
    pub truncation: Option<usize>,
    /// How many bits later a bit is to be echoed.
    #[arg(long, value_name = "STEPS")]
    pub echo_step: Option<usize>,
    /// Bits in an epoch.
    #[arg(long, value_name = "BITS")]
    pub series_length: Option<usize>,
    /// The optimizer.
    #[arg(long, value_name = "NAME")]
    pub optimizer: Option<OptimizerName>,
    /// The optimizer's learning rate.
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub learning_rate: Option<f32>,
    /// The largest global norm of the gradients [default: none].
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    pub clip_norm: Option<f32>,
    /// What becomes of the state between the batches of an epoch.
    #[arg(long)]
    pub state: Option<StateMode>,
    /// Given data instead of random bits: x, y int32 [epochs or more, length].
    #[arg(long, value_name = "FILE.safetensors")]
    pub data: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Files {
    /// Start from given weights instead of random ones.
    #[arg(long, value_name = "FILE.safetensors", conflicts_with = "resume")]
    pub init: Option<PathBuf>,
    /// Go on from a checkpoint, with its settings.
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,
    /// Write a checkpoint at the end.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Write it every so many steps too.
    #[arg(long, value_name = "STEPS", requires = "save", value_parser = clap::value_parser!(u64).range(1..))]
    pub save_every: Option<u64>,
    /// Write step, epoch and loss of every step.
    #[arg(long, value_name = "FILE.csv")]
    pub log: Option<PathBuf>,
    /// Draw the loss curve and the last batch, anew every 100 steps.
    #[arg(long, value_name = "FILE.svg|png")]
    pub plot: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Run {
    /// The network: a model or a checkpoint.
    #[arg(long, value_name = "FILE.safetensors")]
    pub model: PathBuf,
    /// x f32 [T, B, I], and state.LAYER f32 [2, B, H] if not zero.
    #[arg(long, value_name = "FILE.safetensors")]
    pub input: PathBuf,
    /// y, logits, probabilities and state.LAYER.
    #[arg(long, value_name = "FILE.safetensors")]
    pub output: PathBuf,
    /// x, y, logits and probabilities are [B, T, …].
    #[arg(long)]
    pub batch_first: bool,
}

impl SettingFlags {
    /// `base` with what the flags say.
    pub fn over(&self, base: Settings) -> Result<Settings, Error> {
        let hidden = self.hidden(&base)?;
        let mut settings = Settings {
            epochs: self.epochs.unwrap_or(base.epochs),
            seed: self.seed.unwrap_or(base.seed),
            hidden,
            batch: self.batch.unwrap_or(base.batch),
            truncation: self.truncation.unwrap_or(base.truncation),
            echo_step: self.echo_step.unwrap_or(base.echo_step),
            series_length: self.series_length.unwrap_or(base.series_length),
            optimizer: self.optimizer.unwrap_or(base.optimizer),
            learning_rate: self.learning_rate.unwrap_or(base.learning_rate),
            clip_norm: self.clip_norm.or(base.clip_norm),
            state: self.state.unwrap_or(base.state),
            data: self.data.clone().or(base.data),
        };
        if let (Some(data), None) = (&self.data, self.series_length) {
            settings.series_length = GivenData::open(data, settings.epochs)?.series_length();
        }
        Ok(settings)
    }

    fn hidden(&self, base: &Settings) -> Result<Vec<usize>, Error> {
        let hidden = self.hidden.clone().unwrap_or_else(|| base.hidden.clone());
        let first = hidden.first().copied().unwrap_or(0);
        let single = hidden.len() == 1 || self.hidden.is_none();
        match self.layers {
            Some(layers) if layers == hidden.len() => Ok(hidden),
            Some(0) => Err(setting("layers", "at least 1".into(), "0".into())),
            Some(layers) if single => Ok(vec![first; layers.min(isize::MAX as usize / 64)]),
            Some(layers) => {
                let expected = format!("{}, as many as --hidden lists", hidden.len());
                Err(setting("layers", expected, layers.to_string()))
            }
            None if hidden.len() == 1 && self.hidden.is_some() => {
                Ok(vec![first; base.hidden.len()])
            }
            None => Ok(hidden),
        }
    }

    /// Refuses what contradicts the settings of a checkpoint.
    pub fn agree_with(&self, preset: Option<Preset>, own: &Settings) -> Result<(), Error> {
        let wanted = match preset {
            // Given data has a length of its own.
            Some(preset) => self.over(Settings {
                data: own.data.clone(),
                series_length: own.series_length,
                ..Settings::preset(preset)
            })?,
            None => self.over(own.clone())?,
        };
        let same_file = |a: &Option<PathBuf>, b: &Option<PathBuf>| match (a, b) {
            (Some(a), Some(b)) => {
                a == b
                    || a.canonicalize()
                        .ok()
                        .is_some_and(|a| b.canonicalize().ok() == Some(a))
            }
            (a, b) => a == b,
        };
        macro_rules! agree {
            ($($flag:literal: $field:ident),*) => {$(
                if wanted.$field != own.$field {
                    let expected = format!("the checkpoint's {:?}", own.$field);
                    return Err(setting($flag, expected, format!("{:?}", wanted.$field)));
                }
            )*};
        }
        if !same_file(&wanted.data, &own.data) {
            let expected = format!("the checkpoint's {:?}", own.data);
            return Err(setting("data", expected, format!("{:?}", wanted.data)));
        }
        agree!("epochs": epochs, "seed": seed, "hidden": hidden, "batch": batch);
        agree!("truncation": truncation, "echo-step": echo_step, "series-length": series_length);
        agree!("optimizer": optimizer, "learning-rate": learning_rate, "clip-norm": clip_norm);
        agree!("state": state);
        Ok(())
    }
}

fn setting(flag: &'static str, expected: String, got: String) -> Error {
    Error::Setting {
        flag,
        expected,
        got,
    }
}
