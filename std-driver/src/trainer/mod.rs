//! The training loop of any chain on any data: epochs, batches, updates, and the best weights.

mod group;
mod init;
mod loss;
mod masks;
mod progress;
mod score;
mod scores;
mod shards;

pub use group::Group;
pub use loss::Loss;
pub use progress::{Epoch, Progress};
pub(crate) use score::outputs;
pub use score::{Judged, judge};
pub use scores::Scores;
pub(crate) use scores::largest;

use crate::Error;
use crate::dataset::{Batch, Dataset, Portion};
use crate::memory::{reserve, zeros};
use crate::recipe::{Schedule, Training};
use fused_lstm::optimizer::clip_by_global_norm;
use fused_lstm::{ArgumentError, Chain, Extent, Stage};
use shards::Shards;

/// What a run does besides its data.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The width of an input.
    pub inputs: usize,
    /// The network.
    pub stages: Vec<Stage>,
    /// Its loss.
    pub loss: Loss,
    /// How it is trained.
    pub training: Training,
    /// How much is dropped by the masks of the stages.
    pub dropout: Dropout,
    /// What weights are drawn from.
    pub seed: u64,
}

/// The shares that masks drop.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dropout {
    /// Of a [`Stage::Mask`] that is the same for all steps.
    pub between: f32,
    /// Of the hidden state on its way into the gates, of layers with a recurrent mask.
    pub recurrent: f32,
}

/// What happened in a call of [`Trainer::step`].
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A batch was learnt from.
    Step {
        /// The batch of the epoch, from 0.
        batch: u64,
        /// The loss, before the update.
        loss: f32,
    },
    /// An epoch is over.
    Epoch(Epoch),
}

/// A training run.
///
/// ```
/// use fused_lstm::{DenseShape, LayerShape, LstmStage, Stage};
/// use fused_lstm_driver::dataset::{Aim, Frames, Sequences};
/// use fused_lstm_driver::recipe::{JobName, Recipe, Training};
/// use fused_lstm_driver::trainer::{Dropout, Event, Loss, Plan, Scores, Trainer};
/// use std::sync::Arc;
///
/// // The sine of the next step, from 100 windows of 20.
/// let x: Vec<f32> = (0..120).map(|t| (0.3 * t as f32).sin()).collect();
/// let y = x[1..].iter().copied().chain([0.0]).collect();
/// let frames = Frames { inputs: 1, x, one_hot: false, aim: Aim::Numbers(1, y) };
/// let windows = (0..99).map(|t| t..t + 20).collect();
/// let data = Sequences { shuffle: Some(1), ..Sequences::new(Arc::new(frames), windows, 10) };
///
/// let plan = Plan {
///     inputs: 1,
///     stages: vec![
///         Stage::Lstm(LstmStage::new(LayerShape::new(1, 8))),
///         Stage::Dense(DenseShape::new(8, 1)),
///     ],
///     loss: Loss::SquaredError,
///     training: Training { epochs: 20, learning_rate: 0.01, ..Recipe::preset(JobName::Forecast).training },
///     dropout: Dropout::default(),
///     seed: 1,
/// };
/// let mut trainer = Trainer::new(plan, data, None, Scores::numbers(vec![1.0]))?;
/// while let Some(event) = trainer.step()? {
///     if let Event::Epoch(epoch) = event {
///         println!("epoch {}: {:.5}", epoch.epoch, epoch.training);
///     }
/// }
/// assert!(trainer.history().last().unwrap().training < 0.01);
/// # Ok::<(), fused_lstm_driver::Error>(())
/// ```
#[derive(Debug)]
pub struct Trainer<D> {
    plan: Plan,
    data: D,
    validation: Option<D>,
    scores: Scores,
    progress: Progress,
    /// The epoch that `portions` are of.
    planned: Option<u64>,
    portions: Vec<Portion>,
    /// Batches of an epoch.
    batches: u64,
    /// Updates of a run of all epochs.
    updates: u64,
    batch: Batch,
    shards: Shards,
    /// The sum of the gradients that wait for an update; zeros if there are none.
    gradients: Vec<f32>,
    /// The same with those of the last batch.
    sum: Vec<f32>,
}

impl<D: Dataset> Trainer<D> {
    /// A run from its beginning, with weights that are drawn. `scores` are what epochs are judged by.
    pub fn new(plan: Plan, data: D, validation: Option<D>, scores: Scores) -> Result<Self, Error> {
        let one = Extent { steps: 1, batch: 1 };
        let params = Chain::lengths(plan.inputs, &plan.stages, one).params;
        let mut own = zeros(params)?;
        Chain::new(plan.inputs, &plan.stages, &own)?;
        init::glorot_uniform(&plan.stages, plan.seed, 0, &mut own);
        let progress = Progress::new(&plan.training, own)?;
        Self::with_progress(plan, data, validation, scores, progress)
    }

    /// A run that goes on from where another one of the same plan and data stood.
    pub fn with_progress(
        plan: Plan,
        data: D,
        validation: Option<D>,
        scores: Scores,
        mut progress: Progress,
    ) -> Result<Self, Error> {
        let training = &plan.training;
        let one = Extent { steps: 1, batch: 1 };
        let len = Chain::lengths(plan.inputs, &plan.stages, one).params;
        if progress.params.len() != len {
            let got = progress.params.len();
            return Err(ArgumentError::Length {
                what: "params",
                expected: len,
                got,
            }
            .into());
        }
        if progress.ended && progress.epoch < training.epochs && !progress.is_stopped(training) {
            // There are more epochs now than when it ended.
            progress.ended = false;
        }
        if progress.portion == 0 && progress.epoch >= training.epochs {
            // There are fewer now than it has had.
            progress.ended = true;
        }
        if progress.ended && progress.restart + 1 < training.restarts {
            start_again(&plan, &mut progress)?;
        }
        let portions = data.epoch(progress.number());
        check_memory(&plan, &portions)?;
        let batches = portions.len() as u64;
        let shards = Shards::new(&plan, &progress.state, Group::alone())?;
        let mut gradients = zeros(len)?;
        if progress.gradients.len() == len {
            gradients.copy_from_slice(&progress.gradients);
        }
        Ok(Self {
            updates: plan
                .training
                .epochs
                .saturating_mul(batches.div_ceil(plan.training.accumulate as u64)),
            batches,
            gradients,
            sum: zeros(len)?,
            planned: None,
            portions: Vec::new(),
            batch: Batch::default(),
            plan,
            data,
            validation,
            scores,
            progress,
            shards,
        })
    }

    /// Takes given weights in the place of those that were drawn, for all restarts.
    pub fn with_params(mut self, params: Vec<f32>) -> Self {
        self.progress.given = Some(params.clone());
        self.progress.params = params;
        self
    }

    /// Shares the shards with other processes, each of which has the same plan and data.
    pub fn with_group(mut self, group: Group) -> Result<Self, Error> {
        self.shards = Shards::new(&self.plan, &self.progress.state, group)?;
        Ok(self)
    }

    /// The processes that share the shards.
    pub fn group(&self) -> &Group {
        self.shards.group()
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The weights as they are now.
    pub fn params(&self) -> &[f32] {
        &self.progress.params
    }

    /// The best weights so far: those with the lowest validation loss, or training loss where there is no
    /// validation.
    pub fn best(&self) -> &[f32] {
        self.progress
            .best
            .as_ref()
            .map_or(&self.progress.params, |best| &best.params)
    }

    /// The restart and the epoch that they are of, and their loss.
    pub fn best_epoch(&self) -> Option<(u64, u64, f64)> {
        let best = self.progress.best.as_ref();
        best.map(|best| (best.restart, best.epoch, best.loss))
    }

    /// What each epoch gave.
    pub fn history(&self) -> &[Epoch] {
        &self.progress.history
    }

    /// Where the run stands, to be saved. All processes of a group must ask for it.
    pub fn progress(&mut self) -> &Progress {
        self.progress.state = self.shards.state();
        self.progress.gradients.clone_from(&self.gradients);
        &self.progress
    }

    /// Batches done, and those of a run of all epochs.
    pub fn done_of(&self) -> (u64, u64) {
        let batches = self.batches;
        let each = self.plan.training.epochs.saturating_mul(batches);
        let all = each.saturating_mul(self.plan.training.restarts);
        let progress = &self.progress;
        let done = progress.epoch.saturating_mul(batches) + progress.portion;
        match progress.ended {
            true => (all, all),
            false => (progress.restart.saturating_mul(each) + done.min(each), all),
        }
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.progress.ended
    }

    /// One batch, or the end of an epoch. `None` at the end of the run. If there are no finite numbers to
    /// go on with, the run is as it was before.
    pub fn step(&mut self) -> Result<Option<Event>, Error> {
        if self.is_done() {
            return Ok(None);
        }
        let number = self.progress.number();
        if self.planned != Some(number) {
            self.portions = self.data.epoch(number);
            self.planned = Some(number);
        }
        let index = self.progress.portion as usize;
        let Some(portion) = self.portions.get(index) else {
            return self.end_epoch().map(Some);
        };
        self.data.load(portion, &mut self.batch);
        let chain = Chain::new(self.plan.inputs, &self.plan.stages, &self.progress.params)?;
        let step = shards::Step {
            chain,
            batch: &self.batch,
            fresh: portion.first == 0,
            dropout: self.plan.dropout,
            place: masks::Place {
                seed: self.plan.seed,
                epoch: number,
                rows: &portion.rows,
                first: portion.first,
                steps: portion.steps,
            },
        };
        let loss = self.shards.gradient(step, &self.plan.loss)?;
        if !loss.is_finite() {
            let problem = format!("expected a finite loss, got {loss}");
            return Err(self.diverged(problem));
        }
        // What counts nothing fills the state, and is nothing to learn from.
        let count = self.plan.loss.count(&self.batch);
        let more = u64::from(count > 0.0);
        self.sum.copy_from_slice(&self.gradients);
        self.shards.add_to(&mut self.sum);
        if !self.sum.iter().all(|g| g.is_finite()) {
            return Err(self.diverged("expected finite gradients".into()));
        }
        let waiting = self.progress.waiting + more;
        let last = index + 1 == self.portions.len();
        let is_full = waiting >= self.plan.training.accumulate as u64;
        if waiting > 0 && (last || more > 0 && is_full) {
            self.update(waiting)?;
            self.gradients.fill(0.0);
            self.progress.waiting = 0;
        } else {
            std::mem::swap(&mut self.gradients, &mut self.sum);
            self.progress.waiting = waiting;
        }
        self.shards.keep();
        let progress = &mut self.progress;
        progress.loss_sum += f64::from(loss) * count;
        progress.loss_count += count;
        progress.portion += 1;
        Ok(Some(Event::Step {
            batch: index as u64,
            loss,
        }))
    }

    /// Changes the weights by the mean of so many batches' gradients, whose sum is in `sum`.
    fn update(&mut self, batches: u64) -> Result<(), Error> {
        let training = &self.plan.training;
        let progress = &mut self.progress;
        if batches > 1 {
            let factor = 1.0 / batches as f32;
            self.sum.iter_mut().for_each(|g| *g *= factor);
        }
        let decay = training.coupled_decay();
        let rate = training.schedule.rate(
            training.learning_rate,
            progress.updates,
            self.updates,
            progress.epoch,
            progress.drops,
        );
        let mut refused = None;
        if training.clip_norm > 0.0 {
            refused = clip_by_global_norm(&mut self.sum, training.clip_norm).err();
        }
        if decay > 0.0 {
            let each = self.sum.iter_mut().zip(&progress.params);
            each.for_each(|(g, w)| *g += decay * w);
        }
        // Beyond 2³² Adam's corrections have long been 1.
        let count = u32::try_from(progress.updates + 1).unwrap_or(u32::MAX);
        let optimizer = training.optimizer(rate);
        let refused = refused.or_else(|| {
            let (params, slots) = (&mut progress.params, &mut progress.slots);
            optimizer.update(count, params, &self.sum, slots).err()
        });
        match refused {
            None => {
                progress.updates += 1;
                progress.rate = rate;
                Ok(())
            }
            Some(ArgumentError::NotFinite { what }) => {
                Err(self.diverged(format!("expected finite {what}")))
            }
            Some(error) => Err(error.into()),
        }
    }

    fn diverged(&self, problem: String) -> Error {
        Error::Diverged {
            step: self.done_of().0,
            problem,
            advice: match self.plan.training.clip_norm > 0.0 {
                true => "try a smaller training.learning-rate",
                false => "try training.clip-norm = 1, or a smaller training.learning-rate",
            },
        }
    }

    /// The validation, the best weights, and what comes after.
    fn end_epoch(&mut self) -> Result<Event, Error> {
        let plan = &self.plan;
        let judged = match &self.validation {
            Some(data) => {
                let chain = Chain::new(plan.inputs, &plan.stages, &self.progress.params)?;
                Some(judge(chain, data, &plan.loss, self.scores.clone())?)
            }
            None => None,
        };
        let progress = &self.progress;
        let training = match progress.loss_count > 0.0 {
            true => progress.loss_sum / progress.loss_count,
            false => 0.0,
        };
        let score = judged.as_ref().map_or(training, |judged| judged.loss);
        let scores = judged.as_ref().map(|judged| judged.scores.named());
        let scores = scores.into_iter().flatten().map(|(_, value)| value);
        let epoch = Epoch {
            restart: progress.restart,
            epoch: progress.epoch,
            updates: progress.updates,
            rate: progress.rate,
            training,
            validation: judged.as_ref().map(|judged| judged.loss),
            scores: scores.collect(),
        };
        if !(score.is_finite() && epoch.scores.iter().all(|score| score.is_finite())) {
            return Err(self.diverged("expected a finite validation, got infinity or NaN".into()));
        }
        let progress = &mut self.progress;
        progress.take(score);
        progress.history.push(epoch.clone());
        if let Schedule::Plateau { patience, .. } = plan.training.schedule
            && progress.since_drop > patience
        {
            progress.drops += 1;
            progress.since_drop = 0;
        }
        (progress.loss_sum, progress.loss_count) = (0.0, 0.0);
        (progress.portion, progress.epoch) = (0, progress.epoch + 1);
        if progress.is_stopped(&plan.training) || progress.epoch >= plan.training.epochs {
            if progress.restart + 1 < plan.training.restarts {
                start_again(plan, progress)?;
            } else {
                progress.ended = true;
            }
        }
        Ok(Event::Epoch(epoch))
    }
}

/// Refuses batches that do not fit into memory, before a buffer of theirs is asked for.
fn check_memory(plan: &Plan, portions: &[Portion]) -> Result<(), Error> {
    let extent = |portion: &Portion| Extent {
        steps: portion.steps,
        batch: portion.rows.len(),
    };
    let largest = portions
        .iter()
        .map(extent)
        .max_by_key(|extent| extent.rows());
    let lens = Chain::lengths(plan.inputs, &plan.stages, largest.unwrap_or_default());
    let parts = [lens.x, lens.x, lens.y, lens.y, lens.y, lens.y];
    let more = [lens.state, lens.cache, lens.workspace, lens.masks];
    let all = parts.into_iter().chain(more).fold(0, usize::saturating_add);
    reserve::<f32>(all).map(drop)
}

/// The beginning of the next restart.
fn start_again(plan: &Plan, progress: &mut Progress) -> Result<(), Error> {
    let restart = progress.restart + 1;
    let mut params = zeros(progress.params.len())?;
    match &progress.given {
        Some(given) => params.copy_from_slice(given),
        None => init::glorot_uniform(&plan.stages, plan.seed, restart, &mut params),
    }
    progress.start_again(&plan.training, restart, params)
}
