//! Where a run stands: everything that it needs to go on bit for bit.

use crate::Error;
use crate::memory::zeros;
use crate::recipe::Training;
use serde::{Deserialize, Serialize};

/// What an epoch gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// The restart, from 0.
    pub restart: u64,
    /// The epoch of it, from 0.
    pub epoch: u64,
    /// Updates of the weights so far.
    pub updates: u64,
    /// The learning rate of the last one.
    pub rate: f32,
    /// The mean loss of the batches, each before its update.
    pub training: f64,
    /// The validation loss after the epoch.
    pub validation: Option<f64>,
    /// The validation's scores, in the order of [`Scores::named`](super::Scores::named).
    pub scores: Vec<f64>,
}

/// The best weights of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Their loss.
    pub loss: f64,
    /// Where they come from.
    pub epoch: u64,
    /// And of which restart.
    pub restart: u64,
    /// The weights.
    #[serde(skip)]
    pub params: Vec<f32>,
}

/// Where a run stands. Its buffers are not among what is serialised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The weights.
    #[serde(skip)]
    pub params: Vec<f32>,
    /// The optimizer's.
    #[serde(skip)]
    pub slots: Vec<f32>,
    /// The sum of the gradients of the batches of an update that is to come.
    #[serde(skip)]
    pub gradients: Vec<f32>,
    /// The state of the batch's rows, shard by shard.
    #[serde(skip)]
    pub state: Vec<f32>,
    /// Weights that were given in the place of drawn ones.
    #[serde(skip)]
    pub given: Option<Vec<f32>>,
    /// The best weights of all restarts so far.
    pub best: Option<Best>,
    /// The lowest loss of this restart.
    pub lowest: Option<f64>,
    /// The restart, from 0.
    pub restart: u64,
    /// Whether the last of them is over.
    pub ended: bool,
    /// Its epoch, from 0.
    pub epoch: u64,
    /// The next batch of the epoch, from 0.
    pub portion: u64,
    /// Batches whose gradients wait for an update.
    pub waiting: u64,
    /// Updates of this restart.
    pub updates: u64,
    /// The learning rate of the last update.
    pub rate: f32,
    /// Plateaus so far.
    pub drops: u32,
    /// Epochs since the lowest loss or the last plateau.
    pub since_drop: u64,
    /// Epochs since the lowest loss.
    pub since_best: u64,
    /// The losses of this epoch, each times what its batch counts.
    pub loss_sum: f64,
    /// What the batches of this epoch count.
    pub loss_count: f64,
    /// What the epochs gave.
    pub history: Vec<Epoch>,
}

impl Progress {
    /// The beginning of a run with these weights.
    pub(super) fn new(training: &Training, params: Vec<f32>) -> Result<Self, Error> {
        let optimizer = training.optimizer(training.learning_rate);
        let mut slots = zeros(optimizer.slots_len(params.len()))?;
        optimizer.init_slots(&mut slots);
        Ok(Self {
            params,
            slots,
            gradients: Vec::new(),
            state: Vec::new(),
            given: None,
            best: None,
            lowest: None,
            restart: 0,
            ended: false,
            epoch: 0,
            portion: 0,
            waiting: 0,
            updates: 0,
            rate: training.learning_rate,
            drops: 0,
            since_drop: 0,
            since_best: 0,
            loss_sum: 0.0,
            loss_count: 0.0,
            history: Vec::new(),
        })
    }

    /// The beginning of another restart. What is best, and what was, stays.
    pub(super) fn start_again(
        &mut self,
        training: &Training,
        restart: u64,
        params: Vec<f32>,
    ) -> Result<(), Error> {
        let new = Self::new(training, params)?;
        *self = Self {
            restart,
            given: self.given.take(),
            best: self.best.take(),
            history: std::mem::take(&mut self.history),
            ..new
        };
        Ok(())
    }

    /// What no run can have, if anything: the counters are read from a file.
    pub(crate) fn check(&self) -> Result<(), String> {
        let short = [("restart", self.restart), ("epoch", self.epoch)];
        let long = [
            ("portion", self.portion),
            ("updates", self.updates),
            ("waiting", self.waiting),
            ("since_drop", self.since_drop),
            ("since_best", self.since_best),
        ];
        let short = short.map(|(name, value)| (name, value, 1 << 31));
        let long = long.map(|(name, value)| (name, value, 1 << 53));
        match short
            .into_iter()
            .chain(long)
            .find(|(_, value, most)| value >= most)
        {
            None => Ok(()),
            Some((name, value, most)) => Err(format!("expected {name} below {most}, got {value}")),
        }
    }

    /// A number that no other epoch of the run has, of whatever restart.
    pub(super) fn number(&self) -> u64 {
        self.restart << 32 | self.epoch
    }

    /// Whether there were too many epochs without a lower loss.
    pub(super) fn is_stopped(&self, training: &Training) -> bool {
        training.patience > 0 && self.since_best >= training.patience
    }

    /// Takes note of the loss of an epoch.
    pub(super) fn take(&mut self, loss: f64) {
        self.since_best += 1;
        self.since_drop += 1;
        if self.lowest.is_none_or(|lowest| loss < lowest) {
            self.lowest = Some(loss);
            (self.since_best, self.since_drop) = (0, 0);
        }
        if self.best.as_ref().is_none_or(|best| loss < best.loss) {
            self.best = Some(Best {
                loss,
                epoch: self.epoch,
                restart: self.restart,
                params: self.params.clone(),
            });
        }
    }
}
