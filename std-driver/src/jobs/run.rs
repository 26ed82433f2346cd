//! A run of a recipe: its data, its network and its training, new or gone on with.

use super::saved::{self, Saved};
use super::{Known, Task};
use crate::Error;
use crate::chain::{ChainModel, NamedStage, Network};
use crate::dataset::Sequences;
use crate::import;
use crate::recipe::Recipe;
use crate::tensors::TensorFile;
use crate::trainer::{Dropout, Group, Judged, Loss, Plan, Scores, Trainer, judge};
use fused_lstm::{Activation, Chain, Direction, Extent, Stage};
use std::path::Path;
use toml::Value;

/// A run of a recipe.
#[derive(Debug)]
pub struct Run {
    /// The recipe.
    pub recipe: Recipe,
    /// What the job made of its files.
    pub task: Task,
    /// The training.
    pub trainer: Trainer<Sequences>,
    given: bool,
}

/// A network to start from.
#[derive(Clone, Debug)]
pub struct Init<'a> {
    /// Where it comes from.
    pub path: &'a Path,
    /// The network.
    pub model: ChainModel,
    /// What is known of its inputs and outputs, if it was trained by a recipe.
    pub known: Known,
}

impl<'a> Init<'a> {
    /// Reads a model, also one that was imported.
    pub fn open(path: &'a Path) -> Result<Self, Error> {
        let file = TensorFile::open(path).map_err(|e| import::advise(path, e))?;
        Ok(Self {
            path,
            known: match Saved::is(&file) {
                true => Saved::read(&file)?.known,
                false => Known::default(),
            },
            model: Network::read(&file)?.into_chain(),
        })
    }
}

/// What is trained: the network of the task, with masks where the recipe drops something.
fn plan(recipe: &Recipe, task: &Task) -> Plan {
    let dropout = Dropout {
        between: recipe.model.dropout,
        recurrent: recipe.model.recurrent_dropout,
    };
    let last = task
        .stages
        .iter()
        .rposition(|s| matches!(s.stage, Stage::Dense(_)));
    let (mut stages, mut layers) = (Vec::new(), 0);
    for (index, stage) in task.stages.iter().enumerate() {
        let mut stage = stage.stage;
        let is_masked = match &mut stage {
            Stage::Lstm(lstm) => {
                lstm.recurrent_mask = dropout.recurrent > 0.0;
                layers += 1;
                layers > 1
            }
            _ => last == Some(index) && layers > 0,
        };
        if is_masked && dropout.between > 0.0 {
            stages.push(Stage::Mask { per_step: false });
        }
        stages.push(stage);
    }
    Plan {
        dropout,
        inputs: task.inputs,
        stages,
        loss: task.loss.clone(),
        training: recipe.training.clone(),
        seed: recipe.seed,
    }
}

/// Takes the stages of a network that is given. Of classes the outputs must be logits: a softmax at the
/// end goes.
fn take_stages(
    task: &mut Task,
    path: &Path,
    inputs: usize,
    stages: &[NamedStage],
) -> Result<(), Error> {
    let mut stages = stages.to_vec();
    let is_softmax =
        |stage: &NamedStage| matches!(stage.stage, Stage::Activation(Activation::Softmax));
    let has_logits = matches!(task.loss, Loss::CrossEntropy { .. });
    if has_logits && stages.last().is_some_and(is_softmax) {
        stages.pop();
    }
    let kinds =
        |stages: &[NamedStage]| -> Vec<Stage> { stages.iter().map(|stage| stage.stage).collect() };
    let (own, given) = (kinds(&task.stages), kinds(&stages));
    let outputs = |stages: &[Stage]| {
        let widths = stages.iter();
        widths.fold(task.inputs, |width, stage| stage.width(width))
    };
    let (expected, got) = (outputs(&own), outputs(&given));
    if (inputs, got) != (task.inputs, expected) {
        let problem = format!(
            "expected a network of {} inputs and {expected} outputs for this data, got {inputs} and {got}",
            task.inputs
        );
        return Err(Error::file(path, problem));
    }
    // Of two steps there are two outputs, or one.
    let two = Extent { steps: 2, batch: 1 };
    let outputs = |stages: &[Stage]| Chain::lengths(inputs, stages, two).y;
    if outputs(&own) != outputs(&given) {
        let expected = match outputs(&own) > expected {
            true => "an output for every step",
            false => "one output for a sequence",
        };
        let problem = format!("expected a network with {expected} for this data, got another");
        return Err(Error::file(path, problem));
    }
    let looks_ahead = |stage: &Stage| match stage {
        Stage::Lstm(lstm) => lstm.direction != Direction::Forward,
        _ => false,
    };
    let is_text = matches!(task.scores, Scores::Units { .. });
    if (is_text || task.training.truncation > 0) && given.iter().any(looks_ahead) {
        let problem =
            "expected layers that look at no later step, as the data is cut there, got others";
        return Err(Error::file(path, problem));
    }
    task.stages = stages;
    Ok(())
}

impl Run {
    /// A run from its beginning, with weights that are drawn or with a network that is given, whose layers
    /// then go before those of the recipe, and which takes numbers as they are.
    pub fn new(recipe: Recipe, init: Option<Init>) -> Result<Self, Error> {
        let mut task = Task::open(&recipe, init.as_ref().map(|init| &init.known))?;
        if let Some(init) = &init {
            take_stages(&mut task, init.path, init.model.inputs, &init.model.stages)?;
        }
        let (data, validation) = (task.training.clone(), task.validation.clone());
        let plan = plan(&recipe, &task);
        let mut trainer = Trainer::new(plan, data, validation, task.scores.clone())?;
        let given = init.is_some();
        if let Some(init) = init {
            trainer = trainer.with_params(task.params_of(&init.model));
        }
        Ok(Self {
            recipe,
            task,
            trainer,
            given,
        })
    }

    /// The run that a file holds, to go on with. `changes` may be of the epochs, the learning rate, the
    /// clipping, the patience, the restarts and the places of the files.
    /// `data` is where its data is now, if it has moved.
    pub fn resume(
        path: &Path,
        changes: &[(String, Value)],
        data: Option<&Path>,
    ) -> Result<Self, Error> {
        let saved = Saved::open(path)?;
        let mut recipe = Recipe::of_text(path, &saved.recipe.to_toml(), changes)?;
        if let Some(data) = data {
            recipe.job.with_file(data.to_owned());
        }
        let mut same = recipe.clone();
        let old = &saved.recipe;
        same.training.epochs = old.training.epochs;
        same.training.learning_rate = old.training.learning_rate;
        same.training.clip_norm = old.training.clip_norm;
        same.training.patience = old.training.patience;
        same.training.restarts = old.training.restarts;
        same.job.take_files(&old.job);
        if same != *old {
            let keys: Vec<&str> = changes.iter().map(|(key, _)| key.as_str()).collect();
            let expected = "of a run that goes on, only training.epochs, learning-rate, clip-norm, patience, restarts and the data's files to change";
            return Err(Error::recipe("resume", expected, keys.join(", ")));
        }
        let known = saved.given.then_some(&saved.known);
        let mut task = Task::open(&recipe, known)?;
        if saved.given {
            take_stages(&mut task, path, saved.model.inputs, &saved.model.stages)?;
        }
        if saved::digest(&task.training.frames) != saved.digest {
            let file = recipe.files().into_iter().next().unwrap_or_default();
            let problem = format!(
                "expected the data that {} was trained on, got other",
                path.display()
            );
            return Err(Error::file(&file, problem));
        }
        let (data, validation) = (task.training.clone(), task.validation.clone());
        let plan = plan(&recipe, &task);
        let scores = task.scores.clone();
        let trainer = Trainer::with_progress(plan, data, validation, scores, saved.progress)?;
        Ok(Self {
            recipe,
            task,
            trainer,
            given: saved.given,
        })
    }

    /// Shares the shards with other processes: see [`Trainer::with_group`].
    pub fn with_group(self, group: Group) -> Result<Self, Error> {
        let numbers = self
            .trainer
            .params()
            .len()
            .saturating_mul(self.recipe.training.shards);
        if group.size() > 1 && numbers > i32::MAX as usize {
            let expected = "gradients of fewer than 2³¹ numbers in all shards for MPI";
            return Err(Error::recipe("training.shards", expected, numbers));
        }
        Ok(Self {
            trainer: self.trainer.with_group(group)?,
            ..self
        })
    }

    /// Writes the run, and with it the best model so far, by atomic replacement. All processes of a group
    /// must come here; the first one writes.
    pub fn save(&mut self, path: &Path) -> Result<(), Error> {
        let is_first = self.trainer.group().is_first();
        let progress = self.trainer.progress();
        if !is_first {
            return Ok(());
        }
        saved::save(path, &self.task, &self.recipe, self.given, progress)
    }

    /// The best model so far, for numbers as the files have them.
    pub fn model(&self) -> ChainModel {
        self.task.model(self.trainer.best())
    }

    /// What it is worth on the test part, if there is one.
    pub fn test(&self) -> Result<Option<Judged>, Error> {
        let Some(data) = &self.task.test else {
            return Ok(None);
        };
        let plan = self.trainer.plan();
        let chain = Chain::new(plan.inputs, &plan.stages, self.trainer.best())?;
        judge(chain, data, &plan.loss, self.task.scores.clone()).map(Some)
    }
}
