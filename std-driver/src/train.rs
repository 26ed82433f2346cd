//! The training loop: epochs, batches, steps.

use crate::Error;
use crate::data::{GivenData, Series, echo_series};
use crate::memory::zeros;
use crate::parallel::TrainParts;
use crate::settings::{Settings, StateMode};
use crate::weights::Weights;
use fused_lstm::optimizer::clip_by_global_norm;
use fused_lstm::{ArgumentError, LossGradient, Model, init};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::path::Path;

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The step's number over all epochs, from 0.
    pub step: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// The batch in the epoch, from 0.
    pub batch: u64,
    /// The loss, before the step's update.
    pub loss: f32,
}

/// A training run: everything that it consists of at the end of a step.
///
/// The crate's own page has an example.
#[derive(Clone, Debug)]
pub struct Trainer {
    pub(crate) settings: Settings,
    pub(crate) params: Vec<f32>,
    pub(crate) slots: Vec<f32>,
    pub(crate) state: Vec<f32>,
    pub(crate) random: ChaCha8Rng,
    /// Where the generator stood before this epoch's data.
    pub(crate) epoch_start: u128,
    /// Steps done, over all epochs.
    pub(crate) done: u64,
    pub(crate) given: Option<GivenData>,
    series: Series,
    /// The epoch whose data `series` is.
    series_epoch: Option<u64>,
    buffers: Buffers,
}

/// Room for a step; nothing in it outlives the step but what the picture shows.
#[derive(Clone, Debug)]
struct Buffers {
    x: Vec<f32>,
    labels: Vec<u32>,
    gradients: Vec<f32>,
    probabilities: Vec<f32>,
    /// The state before the step.
    state: Vec<f32>,
    room: Room,
}

/// Where a step is worked out.
#[derive(Clone, Debug)]
enum Room {
    Whole {
        cache: Vec<f32>,
        workspace: Vec<f32>,
    },
    Parts(TrainParts),
}

impl Trainer {
    /// A run from its beginning: random weights, then random data, unless
    /// `settings.data` names a file.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        settings.check()?;
        let data = settings.data.as_deref();
        let data = data.map(|path| GivenData::open(path, settings.epochs));
        let data = data.transpose()?;
        Self::with_data(settings, data)
    }

    /// The same with the data of `settings.data`, which has been read.
    pub fn with_data(settings: Settings, given: Option<GivenData>) -> Result<Self, Error> {
        settings.check()?;
        if let (Some(path), Some(given)) = (&settings.data, &given)
            && given.series_length() != settings.series_length
        {
            let (expected, got) = (settings.series_length, given.series_length());
            let problem =
                format!("key x: expected rows of {expected} (--series-length), got {got}");
            return Err(Error::file(path, problem));
        }
        let (shape, extent) = (settings.shape(), settings.extent());
        let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
        let mut params = zeros(shape.params_len())?;
        init::glorot_uniform(shape, &mut params, || {
            (random.next_u32() >> 8) as f32 / (1 << 24) as f32
        })?;
        let mut slots = zeros(settings.optimizer().slots_len(params.len()))?;
        settings.optimizer().init_slots(&mut slots);
        let buffers = Buffers {
            x: zeros(extent.rows())?,
            labels: vec![0; extent.rows()],
            gradients: zeros(params.len())?,
            probabilities: zeros(shape.logits_len(extent))?,
            state: zeros(shape.state_len(extent.batch))?,
            room: match settings.shards {
                1 => Room::Whole {
                    cache: zeros(shape.cache_len(extent))?,
                    workspace: zeros(shape.workspace_len(extent))?,
                },
                shards => Room::Parts(TrainParts::new(shape, extent, shards)),
            },
        };
        Ok(Self {
            state: zeros(shape.state_len(extent.batch))?,
            epoch_start: random.get_word_pos(),
            settings,
            params,
            slots,
            random,
            done: 0,
            given,
            series: Series {
                x: Vec::new(),
                labels: Vec::new(),
            },
            series_epoch: None,
            buffers,
        })
    }

    /// Takes given weights instead of random ones.
    pub fn with_weights(mut self, path: &Path) -> Result<Self, Error> {
        let weights = Weights::open(path)?;
        weights.expect_shape(self.settings.shape(), path)?;
        self.params = weights.params;
        Ok(self)
    }

    /// What the run is made of.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The parameters, in the core's layout.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// Steps of the whole run.
    pub fn steps(&self) -> u64 {
        self.settings.steps()
    }

    /// Steps done.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// The last step's batch, for a picture: inputs and labels `[T, B]`, and
    /// probabilities `[T, B, C]`.
    pub fn last_batch(&self) -> (&[f32], &[u32], &[f32]) {
        (
            &self.buffers.x,
            &self.buffers.labels,
            &self.buffers.probabilities,
        )
    }

    /// The data of `epoch`. Random data is made anew from where the generator stood.
    fn load_epoch(&mut self, epoch: u64) {
        let Settings {
            series_length,
            echo_step,
            ..
        } = self.settings;
        match self.given.as_ref().map(|given| given.epoch(epoch)) {
            Some(Some(series)) => self.series = series.clone(),
            // `GivenData` has as many epochs as the settings.
            Some(None) => {}
            None => {
                // In the middle of an epoch (a run that goes on) its data is made again.
                if !self.done.is_multiple_of(self.settings.steps_per_epoch()) {
                    self.random.set_word_pos(self.epoch_start);
                }
                self.epoch_start = self.random.get_word_pos();
                self.series = echo_series(&mut self.random, series_length, echo_step);
            }
        }
        self.series_epoch = Some(epoch);
    }

    /// One step: forward, loss, backward, update. `None` at the end of the run. If there are no
    /// finite numbers to go on with, the run is as it was before the step, and can be saved.
    pub fn step(&mut self) -> Result<Option<Step>, Error> {
        if self.done >= self.steps() {
            return Ok(None);
        }
        let per_epoch = self.settings.steps_per_epoch();
        let (epoch, batch) = (self.done / per_epoch, self.done % per_epoch);
        self.buffers.state.copy_from_slice(&self.state);
        if self.series_epoch != Some(epoch) {
            self.load_epoch(epoch);
        }
        if batch == 0 || self.settings.state == StateMode::Zero {
            self.state.fill(0.0);
        }
        match self.update(batch as usize) {
            Ok(loss) => {
                let step = self.done;
                self.done += 1;
                Ok(Some(Step {
                    step,
                    epoch,
                    batch,
                    loss,
                }))
            }
            Err(error) => {
                self.state.copy_from_slice(&self.buffers.state);
                if batch == 0 {
                    // The epoch's data will be drawn again.
                    self.random.set_word_pos(self.epoch_start);
                    self.series_epoch = None;
                }
                Err(error)
            }
        }
    }

    /// The step's numbers; gives the loss.
    fn update(&mut self, batch: usize) -> Result<f32, Error> {
        let (extent, buffers) = (self.settings.extent(), &mut self.buffers);
        self.series
            .batch(extent, batch, &mut buffers.x, &mut buffers.labels);
        buffers.gradients.fill(0.0);
        let model = Model::new(self.settings.shape(), &self.params)?;
        let Buffers {
            x,
            labels,
            gradients,
            probabilities,
            room,
            ..
        } = buffers;
        let state = &mut self.state;
        let loss = match room {
            Room::Whole { cache, workspace } => model.loss_gradient(
                extent,
                labels,
                LossGradient {
                    x,
                    state,
                    gradients,
                    outputs: probabilities,
                    cache,
                    workspace,
                },
            )?,
            Room::Parts(parts) => {
                parts.loss_gradient(model, x, labels, state, gradients, probabilities)?
            }
        };
        let (settings, step) = (&self.settings, self.done);
        if !loss.is_finite() {
            let problem = format!("expected a finite loss, got {loss}");
            return Err(diverged(settings, step, problem, "loss"));
        }
        let refused = |error| match error {
            ArgumentError::NotFinite { what } => {
                diverged(settings, step, format!("expected finite {what}"), what)
            }
            error => error.into(),
        };
        if let Some(norm) = settings.clip_norm {
            clip_by_global_norm(&mut buffers.gradients, norm).map_err(refused)?;
        }
        // Beyond 2³² Adam's corrections have long been 1.
        let count = u32::try_from(self.done + 1).unwrap_or(u32::MAX);
        let optimizer = self.settings.optimizer();
        optimizer
            .update(count, &mut self.params, &buffers.gradients, &mut self.slots)
            .map_err(refused)?;
        Ok(loss)
    }
}

/// A step without finite numbers of some kind, with what may help against that.
fn diverged(settings: &Settings, step: u64, problem: String, what: &str) -> Error {
    let clips = settings.clip_norm.is_some();
    Error::Diverged {
        step,
        problem,
        advice: match what {
            // Clipping comes after the gradients: it cannot help here.
            "gradients" => {
                "try smaller weights or inputs (--init, --data), or a smaller --learning-rate"
            }
            // They are sums of squares of gradients.
            "slots" if clips => {
                "the optimizer's sums of squares overflow: try a smaller --clip-norm"
            }
            "slots" => "the optimizer's sums of squares overflow: try --clip-norm",
            _ if clips => "try a smaller --learning-rate",
            _ => "try a smaller --learning-rate or --clip-norm",
        },
    }
}
