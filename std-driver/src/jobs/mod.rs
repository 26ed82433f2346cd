//! The jobs: what each makes of its files, and the network that it takes.

mod audio;
mod classify;
mod forecast;
mod run;
mod sample;
mod saved;
mod text;

pub use run::{Init, Run};
pub use sample::{Sampling, sample, sample_of_run};
pub use saved::Saved;

use crate::Error;
use crate::chain::{ChainModel, NamedStage};
use crate::dataset::{Scale, Sequences, fold, folds_inputs};
use crate::recipe::{Job, Network, Recipe};
use crate::trainer::{Loss, Scores};
use fused_lstm::{DenseShape, Direction, LayerShape, LstmStage, Returns, Stage, Zoneout};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a job makes of its files.
#[derive(Clone, Debug)]
pub struct Task {
    /// The width of an input.
    pub inputs: usize,
    /// The network.
    pub stages: Vec<NamedStage>,
    /// Its loss.
    pub loss: Loss,
    /// What it is judged by: sums of nothing yet.
    pub scores: Scores,
    /// What is trained on.
    pub training: Sequences,
    /// What the network is chosen by, if there is such a part.
    pub validation: Option<Sequences>,
    /// What it is judged by at the end, if there is such a part.
    pub test: Option<Sequences>,
    /// How inputs were standardised; nothing where they are as they were.
    pub x_scale: Scale,
    /// And targets, as the network's last layer takes that in.
    pub y_scale: Scale,
    /// The means that were taken off the targets.
    pub y_mean: Vec<f32>,
    /// What the files say that belongs to the model.
    pub known: Known,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// Scores of the test part that a simple rule has.
    pub beside: Vec<(&'static str, f64)>,
    /// What was read, and how it was split, a line each.
    pub summary: Vec<String>,
}

/// What belongs to a model beside its weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Known {
    /// The columns that are its inputs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Those that are its outputs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Its classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// The units of its text, as numbers of characters or bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<u32>,
    /// Samples a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_rate: Option<u32>,
}

impl Known {
    /// What does not fit the model, if anything does not.
    fn check(&self, recipe: &Recipe, model: &ChainModel) -> Result<(), String> {
        let stages = model.stages.iter();
        let outputs = stages.fold(model.inputs, |width, stage| stage.stage.width(width));
        let fits = |what: &str, expected: usize, got: usize| match expected == got {
            true => Ok(()),
            false => Err(format!(
                "expected {expected} {what}, as the network has, got {got}"
            )),
        };
        match &recipe.job {
            Job::Forecast { .. } => {
                fits("columns", model.inputs, self.columns.len())?;
                fits("targets", outputs, self.targets.len())
            }
            Job::Classify { .. } => {
                fits("columns", model.inputs, self.columns.len())?;
                fits("classes", outputs, self.classes.len())
            }
            Job::Audio { .. } => fits("output", outputs, 1),
            Job::Text { .. } => {
                let inputs = if model.inputs == 1 {
                    1
                } else {
                    self.units.len()
                };
                fits("inputs", model.inputs, inputs)?;
                fits("units", outputs, self.units.len())
            }
        }
    }
}

impl Task {
    /// Reads the files of a recipe. A model that is `known` takes its inputs as they are, and its classes
    /// and units are those that it has.
    pub fn open(recipe: &Recipe, known: Option<&Known>) -> Result<Self, Error> {
        recipe.check()?;
        match &recipe.job {
            Job::Forecast { data, loss } => forecast::open(recipe, data, loss, known),
            Job::Classify { data, loss } => classify::open(recipe, data, loss, known),
            Job::Audio { data, loss } => audio::open(recipe, data, loss, known),
            Job::Text { data, loss } => text::open(recipe, data, loss, known),
        }
    }

    /// The network with these weights, for inputs and outputs as the files have them.
    pub fn model(&self, params: &[f32]) -> ChainModel {
        let (mut stages, mut params) = (self.stages.clone(), params.to_vec());
        fold(&stages, &mut params, &self.x_scale, &self.y_scale, false);
        if !folds_inputs(&stages) && !self.x_scale.is_identity() {
            let stage = Stage::Dense(DenseShape::new(self.inputs, self.inputs));
            let name = "scale".into();
            stages.insert(0, NamedStage { name, stage });
            params.splice(0..0, self.x_scale.as_dense());
        }
        ChainModel {
            inputs: self.inputs,
            stages,
            params,
            start: None,
            sample_rate: self.known.sample_rate.map(f64::from),
        }
    }

    /// The weights of a network like [`model`](Self::model) for standardised numbers.
    pub fn params_of(&self, model: &ChainModel) -> Vec<f32> {
        let mut params = model.params.clone();
        fold(
            &self.stages,
            &mut params,
            &self.x_scale,
            &self.y_scale,
            true,
        );
        params
    }
}

/// LSTM layers and a dense one.
fn network(network: &Network, inputs: usize, outputs: usize, returns: Returns) -> Vec<NamedStage> {
    let direction = match network.bidirectional {
        true => Direction::Both,
        false => Direction::Forward,
    };
    let (mut stages, mut width) = (Vec::new(), inputs);
    let last = network.hidden.len().saturating_sub(1);
    for (index, &hidden) in network.hidden.iter().enumerate() {
        let mut lstm = LstmStage::new(LayerShape::new(width, hidden));
        lstm.direction = direction;
        lstm.cell.layer_norm = network.layer_norm;
        lstm.cell.zoneout = Zoneout {
            cell: network.zoneout_cell,
            hidden: network.zoneout_hidden,
        };
        if index == last {
            lstm.returns = returns;
        }
        width = hidden * direction.count();
        stages.push(NamedStage {
            name: format!("lstm.{index}"),
            stage: Stage::Lstm(lstm),
        });
    }
    stages.push(NamedStage {
        name: "dense".into(),
        stage: Stage::Dense(DenseShape::new(width, outputs)),
    });
    stages
}

/// The ends of the training part and of the validation part of so many steps.
fn ends(len: usize, validation: f64, test: f64) -> [usize; 2] {
    let part = |part: f64| (len as f64 * part).floor() as usize;
    let validation_end = len - part(test);
    [
        validation_end - part(validation).min(validation_end),
        validation_end,
    ]
}

/// Refuses first steps that do not count if no sequence has more.
fn check_warm_up(recipe: &Recipe, longest: usize) -> Result<(), Error> {
    let warm_up = recipe.training.warm_up;
    if warm_up > 0 && warm_up >= longest {
        let expected = format!("fewer than the {longest} steps of the longest sequence");
        return Err(Error::recipe("training.warm-up", expected, warm_up));
    }
    Ok(())
}

/// Refuses a part that was asked for and has nothing in it.
fn refuse_empty(
    path: &std::path::Path,
    name: &str,
    part: f64,
    count: usize,
    what: &str,
) -> Result<(), Error> {
    if part > 0.0 && count == 0 {
        let problem = format!("expected {what} for the {name} part ({part} of the data), got none");
        return Err(Error::file(path, problem));
    }
    Ok(())
}

/// How often each class, a row, was taken for each, a column, as a table for people.
pub fn confusion_table(classes: &[String], confusion: &[Vec<u64>]) -> String {
    let cells = confusion.iter().flatten().map(|n| n.to_string().len());
    let width = classes
        .iter()
        .map(|class| class.chars().count())
        .chain(cells)
        .max()
        .unwrap_or(1);
    let mut text = format!("{:>width$} |", "");
    for class in classes {
        text.push_str(&format!(" {class:>width$}"));
    }
    text.push('\n');
    for (class, row) in classes.iter().zip(confusion) {
        text.push_str(&format!("{class:>width$} |"));
        for count in row {
            text.push_str(&format!(" {count:>width$}"));
        }
        text.push('\n');
    }
    text
}
