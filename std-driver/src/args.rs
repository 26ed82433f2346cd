//! The arguments, and how they change a preset's settings.

use clap::builder::{PossibleValue, RangedI64ValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use fused_lstm_driver::export::Format;
use fused_lstm_driver::files::{self, Contents, Uses, Written};
use fused_lstm_driver::import;
use fused_lstm_driver::infer::Output;
use fused_lstm_driver::recipe::JobName;
use fused_lstm_driver::settings::{OptimizerName, Preset, Settings, StateMode};
use fused_lstm_driver::{Error, one_line};
use std::num::ParseFloatError;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// More than anyone has trained; a number beyond it is a slip.
const MOST_LAYERS: usize = 1000;

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
    /// Train a network by a recipe, or as the tutorials do.
    Train(Box<Train>),
    /// Judge a network that was trained by a recipe, on the parts of its data or on other data.
    Evaluate(Evaluate),
    /// Write a text with a network that was trained on one.
    Sample(Sample),
    /// Run a network from a file on inputs from a file.
    Run(Run),
    /// Write the weights of a network as firmware builds them in.
    Export(Export),
    /// Turn a network that another system trained into a model.
    Import(Import),
    /// Show the layers of a network and what it costs.
    Inspect(Inspect),
    /// Compare a model with inputs and outputs that another system recorded.
    Verify(Verify),
    /// Store the weights of a network's LSTM layers in half or a quarter of the bytes.
    Quantize(Quantize),
}

#[derive(Args, Debug)]
pub struct Quantize {
    /// The network: a model or a checkpoint.
    #[arg(long, value_name = "FILE.safetensors")]
    pub model: PathBuf,
    /// What the weights are stored as.
    #[arg(long, value_name = "STORAGE")]
    pub to: StorageName,
    /// Inputs as `run` takes them, to measure ranges and errors on; with labels int32 [T, B] (or [B]
    /// where the network gives one step) the accuracy too.
    #[arg(long, value_name = "FILE")]
    pub calibrate: Option<PathBuf>,
    /// Take inputs [B, T, I] in place of [T, B, I].
    #[arg(long, requires = "calibrate")]
    pub batch_first: bool,
    /// Where the model is written.
    #[arg(short, long, value_name = "FILE.safetensors")]
    pub output: PathBuf,
    /// Overwrite a file.
    #[arg(long)]
    pub force: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum StorageName {
    /// Half precision.
    F16,
    /// Integers of 8 bits.
    Int8,
}

#[derive(Args, Debug)]
pub struct Import {
    /// The network of another system.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where the model is written [default: FILE's name with .safetensors, in this folder].
    #[arg(short, long, value_name = "FILE.safetensors")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub reading: Reading,
    /// Store the state after so many zero inputs as the one to start from.
    #[arg(long, value_name = "STEPS")]
    pub prewarm: Option<usize>,
    /// Overwrite a file.
    #[arg(long)]
    pub force: bool,
}

/// How a file of another system is read.
#[derive(Args, Debug)]
pub struct Reading {
    /// Which kind of file it is [default: auto, by its content].
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<ImportFormat>,
    /// Layers to take, by their names in the file, or the model or branch of several.
    #[arg(long, value_name = "NAME,...")]
    pub part: Option<String>,
    /// What the cell adds to the forget gate, where the file does not say it.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub forget_bias: Option<f32>,
    /// What of the last LSTM layer's steps goes on, where the file does not say it.
    #[arg(long)]
    pub returns: Option<ReturnsName>,
    /// The slope of the hard sigmoid that the gates are, where the file does not say it: 0.2 in Keras
    /// 1 and 2, 0.1667 in Keras 3.
    #[arg(long, value_name = "SLOPE")]
    pub hard_sigmoid: Option<f32>,
    /// What follows the last layer, where the file does not say it: tanh, sigmoid, relu, softmax,
    /// gain=NUMBER, or skip=COLUMN, which adds columns of the input from that one on.
    #[arg(long, value_name = "STAGE,...", value_delimiter = ',')]
    pub then: Vec<import::Then>,
}

/// What a layer hands on.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ReturnsName {
    /// Every step.
    Sequence,
    /// The last step of each direction.
    Last,
    /// The mean of the steps.
    Mean,
}

/// A format, or `auto`.
#[derive(Clone, Copy, Debug)]
pub struct ImportFormat(pub Option<import::Format>);

impl ValueEnum for ImportFormat {
    fn value_variants<'a>() -> &'a [Self] {
        use import::Format::*;
        const ALL: &[ImportFormat] = &[
            ImportFormat(None),
            ImportFormat(Some(Torch)),
            ImportFormat(Some(Keras)),
            ImportFormat(Some(Onnx)),
            ImportFormat(Some(Nam)),
            ImportFormat(Some(Rtneural)),
            ImportFormat(Some(Guitarml)),
            ImportFormat(Some(Icu)),
            ImportFormat(Some(Tf1)),
            ImportFormat(Some(Tfjs)),
            ImportFormat(Some(Tflite)),
        ];
        ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self.0 {
            Some(format) => format.to_possible_value(),
            None => Some(PossibleValue::new("auto")),
        }
    }
}

#[derive(Args, Debug)]
pub struct Inspect {
    /// A model, a checkpoint, or the network of another system.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub reading: Reading,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct Verify {
    /// The network: a model or a checkpoint.
    #[arg(long, value_name = "FILE.safetensors")]
    pub model: PathBuf,
    /// Inputs and outputs: x, y, state.LAYER, model.x, model.y, ...
    #[arg(long, value_name = "FILE.safetensors")]
    pub reference: PathBuf,
    /// The largest difference that is allowed.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 1e-5,
        allow_negative_numbers = true
    )]
    pub tolerance: f32,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct Export {
    /// The network: a model or a checkpoint.
    #[arg(long, value_name = "FILE.safetensors")]
    pub model: PathBuf,
    /// What to write.
    #[arg(long)]
    pub format: Format,
    /// Where.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// What the names in a C header begin with [default: the output's name].
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Overwrite a file.
    #[arg(long)]
    pub force: bool,
}

#[derive(Args, Debug)]
pub struct Train {
    /// A recipe, or which tutorial's system [default: echo].
    #[arg(value_name = "RECIPE.toml|echo|echo-single|echo-stacked", value_parser = what)]
    pub what: Option<What>,
    /// Print a recipe to start from: of a tutorial, or of the job forecast, classify, audio or text.
    #[arg(long)]
    pub print_recipe: bool,
    /// Set a key of the recipe: training.patience=5.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub sets: Vec<(String, toml::Value)>,
    #[command(flatten, next_help_heading = "Settings (the preset's unless given)")]
    pub settings: SettingFlags,
    #[command(flatten, next_help_heading = "Files")]
    pub files: Files,
    /// Threads that shards are worked on with [default: as many as there are cores].
    #[arg(long, value_name = "N", value_parser = threads())]
    pub threads: Option<u16>,
    /// Print nothing but errors.
    #[arg(long)]
    pub quiet: bool,
}

/// What is trained.
#[derive(Clone, Debug)]
pub enum What {
    /// A tutorial's system.
    Preset(Preset),
    /// A job, to print its recipe.
    Job(JobName),
    /// A recipe.
    Recipe(PathBuf),
}

fn what(text: &str) -> Result<What, String> {
    if let Ok(preset) = Preset::from_str(text, false) {
        return Ok(What::Preset(preset));
    }
    if let Ok(job) = JobName::from_str(text, false) {
        return Ok(What::Job(job));
    }
    match text.ends_with(".toml") || text.contains(['/', '.']) {
        true => Ok(What::Recipe(text.into())),
        false => Err("expected a recipe (a TOML file), echo, echo-single or echo-stacked".into()),
    }
}

/// A key with dots and a value as TOML has it, or a text without quotes.
fn key_value(text: &str) -> Result<(String, toml::Value), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    let (key, value) = (key.trim(), value.trim());
    let parsed: Result<toml::Table, _> = toml::from_str(&format!("value = {value}"));
    let value = parsed.ok().and_then(|mut table| table.remove("value"));
    let value = value.unwrap_or_else(|| {
        toml::Value::String(text.split_once('=').map_or("", |p| p.1).trim().into())
    });
    Ok((key.into(), value))
}

#[derive(Args, Debug)]
pub struct Evaluate {
    /// A model that train made by a recipe.
    #[arg(long, value_name = "FILE.safetensors")]
    pub model: PathBuf,
    /// Other data of the same kind, all of which is taken unless a part is asked for.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Which part of the data [default: test].
    #[arg(long, value_name = "PART")]
    pub part: Option<Part>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// What the network was trained on.
    Training,
    /// What it was chosen by.
    Validation,
    /// The rest.
    Test,
    /// Everything.
    All,
}

#[derive(Args, Debug)]
pub struct Sample {
    /// A model that train made by a recipe of the job text.
    #[arg(long, value_name = "FILE.safetensors")]
    pub model: PathBuf,
    /// How many characters or bytes.
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub length: usize,
    /// What the text goes on from.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub prompt: String,
    /// Below 1 the likely becomes likelier; 0 takes the likeliest.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0.8,
        allow_negative_numbers = true
    )]
    pub temperature: f32,
    /// What the random generator starts from.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

#[derive(Args, Debug)]
pub struct SettingFlags {
    /// Epochs, each with data of its own.
    #[arg(long, alias = "num-epochs")]
    pub epochs: Option<u64>,
    /// What the random generator starts from.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Layers of equal size.
    #[arg(long, alias = "num-layers")]
    pub layers: Option<usize>,
    /// Units of every layer, or a list with those of each: 4,5.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "UNITS",
        alias = "state-size"
    )]
    pub hidden: Option<Vec<usize>>,
    /// Batch rows.
    #[arg(long, alias = "batch-size")]
    pub batch: Option<usize>,
    /// Time steps of truncated backpropagation.
    #[arg(long, value_name = "STEPS", alias = "truncated-backprop-length")]
    pub truncation: Option<usize>,
    /// How many bits later a bit is to be echoed.
    #[arg(long, value_name = "STEPS")]
    pub echo_step: Option<usize>,
    /// Bits in an epoch.
    #[arg(long, value_name = "BITS", alias = "total-series-length")]
    pub series_length: Option<usize>,
    /// The optimizer.
    #[arg(long, value_name = "NAME")]
    pub optimizer: Option<OptimizerName>,
    /// The optimizer's learning rate.
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub learning_rate: Option<f32>,
    /// The largest global norm of the gradients, or none [default: none].
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    pub clip_norm: Option<ClipNorm>,
    /// What becomes of the state between the batches of an epoch.
    #[arg(long)]
    pub state: Option<StateMode>,
    /// Parts of a batch that are worked on side by side, on as many cores as there are.
    #[arg(long, value_name = "PARTS")]
    pub shards: Option<usize>,
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
    /// Write a page with curves, scores, the recipe and a picture, of a run by a recipe.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Draw the loss curve and the last batch, anew every 100 steps; of the tutorials.
    #[arg(long, value_name = "FILE.svg|png")]
    pub plot: Option<PathBuf>,
    /// Overwrite files that are not of the kind that is written to them.
    #[arg(long)]
    pub force: bool,
}

#[derive(Args, Debug)]
pub struct Run {
    /// The network: a model or a checkpoint.
    #[arg(long, value_name = "FILE.safetensors")]
    pub model: PathBuf,
    /// x f32 [T, B, I], and state.LAYER f32 [2, B, H] if not zero; or a WAV, NPY or CSV file.
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// y, logits, probabilities and state.LAYER; a chain has y and state.LAYER. A file called .wav, .npy
    /// or .csv holds the logits, or y without a head.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// Which of them [default: all].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub outputs: Option<Vec<Output>>,
    /// state.LAYER f32 [2, B, H] to start from, as an earlier run wrote them, where the input has
    /// none.
    #[arg(long, value_name = "FILE.safetensors")]
    pub state: Option<PathBuf>,
    /// x, y, logits and probabilities are [B, T, …].
    #[arg(long)]
    pub batch_first: bool,
    /// Threads [default: as many as there are cores].
    #[arg(long, value_name = "N", value_parser = threads())]
    pub threads: Option<u16>,
    /// Overwrite a file that is no output of run.
    #[arg(long)]
    pub force: bool,
}

/// A norm, or `none`.
#[derive(Clone, Copy, Debug)]
pub struct ClipNorm(Option<f32>);

impl FromStr for ClipNorm {
    type Err = ParseFloatError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self(None)),
            number => Ok(Self(Some(number.parse()?))),
        }
    }
}

fn threads() -> RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

impl Files {
    /// Refuses files that would overwrite each other, or what is read, or what is something
    /// else; `log` is what a file must be that the log is written to.
    pub fn check<'a>(
        &'a self,
        data: impl IntoIterator<Item = (&'static str, &'a Path)>,
        log: Contents,
    ) -> Result<(), Error> {
        let read = [
            ("init", self.init.as_deref()),
            // A run may be saved to where it was read from.
            (
                "resume",
                self.resume.as_deref().filter(|resume| {
                    let save = self.save.as_deref();
                    !save.is_some_and(|save| files::same(save, resume))
                }),
            ),
        ];
        let written = [
            ("save", &self.save, Contents::Checkpoint),
            ("log", &self.log, log),
            ("plot", &self.plot, Contents::Picture),
            ("report", &self.report, Contents::Report),
        ];
        let read: Vec<_> = read
            .into_iter()
            .filter_map(|(flag, path)| Some((flag, path?)))
            .chain(data)
            .collect();
        let written: Vec<_> = written
            .iter()
            .filter_map(|(flag, path, contents)| {
                Some(Written {
                    flag,
                    path: path.as_deref()?,
                    contents: Some(*contents),
                })
            })
            .collect();
        let uses = Uses {
            read: &read,
            written: &written,
            force: self.force,
        };
        uses.check()
    }
}

impl SettingFlags {
    /// What the flags change in a recipe with these layers.
    pub fn changes(&self, layers: &[usize]) -> Result<Vec<(String, toml::Value)>, Error> {
        let others = [
            ("echo-step", self.echo_step.map(|v| v.to_string())),
            ("series-length", self.series_length.map(|v| v.to_string())),
            ("state", self.state.map(|v| format!("{v:?}"))),
        ];
        for (flag, given) in others {
            if let Some(got) = given {
                return Err(setting(
                    flag,
                    "none with a recipe of another job than echo",
                    got,
                ));
            }
        }
        let mut changes: Vec<(String, toml::Value)> = Vec::new();
        let mut set = |key: &str, value: Option<toml::Value>| {
            changes.extend(value.map(|value| (key.to_owned(), value)));
        };
        if let Some(seed) = self.seed.filter(|&seed| i64::try_from(seed).is_err()) {
            return Err(setting(
                "seed",
                format!("at most {} with a recipe", i64::MAX),
                seed,
            ));
        }
        let whole = |value: usize| i64::try_from(value).unwrap_or(i64::MAX).into();
        let long = |value: u64| i64::try_from(value).unwrap_or(i64::MAX).into();
        let real = |value: f32| f64::from(value).into();
        set("training.epochs", self.epochs.map(long));
        set("seed", self.seed.map(long));
        set("training.batch", self.batch.map(whole));
        set("training.truncation", self.truncation.map(whole));
        set("training.shards", self.shards.map(whole));
        set("training.learning-rate", self.learning_rate.map(real));
        let clip = self.clip_norm.map(|norm| real(norm.0.unwrap_or(0.0)));
        set("training.clip-norm", clip);
        let optimizer = self.optimizer.and_then(|o| o.to_possible_value());
        set("training.optimizer", optimizer.map(|o| o.get_name().into()));
        if self.hidden.is_some() || self.layers.is_some() {
            let base = Settings {
                hidden: layers.to_vec(),
                ..Settings::preset(Preset::Echo)
            };
            let hidden = self.hidden(&base)?.into_iter().map(whole);
            set(
                "model.hidden",
                Some(hidden.collect::<Vec<toml::Value>>().into()),
            );
        }
        Ok(changes)
    }

    /// `base` with what the flags say.
    pub fn over(&self, base: Settings) -> Result<Settings, Error> {
        let hidden = self.hidden(&base)?;
        Ok(Settings {
            preset: base.preset,
            epochs: self.epochs.unwrap_or(base.epochs),
            seed: self.seed.unwrap_or(base.seed),
            hidden,
            batch: self.batch.unwrap_or(base.batch),
            truncation: self.truncation.unwrap_or(base.truncation),
            echo_step: self.echo_step.unwrap_or(base.echo_step),
            series_length: self.series_length.unwrap_or(base.series_length),
            optimizer: self.optimizer.unwrap_or(base.optimizer),
            learning_rate: self.learning_rate.unwrap_or(base.learning_rate),
            clip_norm: self.clip_norm.map_or(base.clip_norm, |norm| norm.0),
            state: self.state.unwrap_or(base.state),
            shards: self.shards.unwrap_or(base.shards),
            data: self.data.clone().or(base.data),
        })
    }

    /// The units of each layer: a list as it is, one number for every layer.
    fn hidden(&self, base: &Settings) -> Result<Vec<usize>, Error> {
        let (units, listed) = match self.hidden.as_deref() {
            None => (base.hidden.as_slice(), false),
            Some(hidden) => (hidden, hidden.len() > 1),
        };
        let layers = match self.layers {
            Some(layers) if listed && layers != units.len() => {
                let expected = format!("{}, as many as --hidden lists", units.len());
                return Err(setting("layers", expected, layers.to_string()));
            }
            Some(layers) if layers == 0 || layers > MOST_LAYERS => {
                let expected = format!("1 to {MOST_LAYERS}");
                return Err(setting("layers", expected, layers.to_string()));
            }
            Some(layers) => layers,
            None if listed => units.len(),
            None => base.hidden.len(),
        };
        // The last layer's size stands for those that are not given.
        let last = units.last().copied().unwrap_or(0);
        Ok((0..layers)
            .map(|layer| units.get(layer).copied().unwrap_or(last))
            .collect())
    }

    /// The settings of a run that goes on from those of its checkpoint.
    pub fn resumed(&self, preset: Option<Preset>, own: &Settings) -> Result<Settings, Error> {
        if let Some(preset) = preset
            && preset != own.preset
        {
            let name = |preset: Preset| {
                preset
                    .to_possible_value()
                    .map_or_else(String::new, |value| value.get_name().into())
            };
            let expected = format!("the checkpoint's preset, {}", name(own.preset));
            return Err(setting("resume", expected, name(preset)));
        }
        self.over(own.clone())
    }
}

pub fn setting(flag: &'static str, expected: impl Into<String>, got: impl ToString) -> Error {
    Error::Setting {
        flag,
        expected: expected.into(),
        got: one_line(got.to_string()),
    }
}
