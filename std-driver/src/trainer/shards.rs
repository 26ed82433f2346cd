//! A batch in shards of its rows, each with a state and a gradient of its own.
//!
//! The gradients are summed from the first shard to the last: the bits depend on how many there are, and
//! not on the threads that work on them.

use super::masks::{Place, draw};
use super::{Dropout, Group, Loss, Plan};
use crate::Error;
use crate::dataset::Batch;
use crate::memory::zeros;
use crate::parallel::{cut_rows, gather, scatter};
use fused_lstm::{ArgumentError, Chain, ChainBackward, ChainForward, ChainLengths, Extent};
use rayon::prelude::*;
use std::ops::Range;

#[derive(Debug)]
pub(super) struct Shards {
    shards: Vec<Shard>,
    /// Who else works on them.
    group: Group,
    /// What the processes of the group tell each other.
    shared: Vec<f32>,
    /// `[T, B, O]` or `[B, O]` of the whole batch.
    y: Vec<f32>,
    dy: Vec<f32>,
}

/// A step of training, but for the loss.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    pub(super) chain: Chain<'a>,
    pub(super) batch: &'a Batch,
    /// Whether the rows begin here.
    pub(super) fresh: bool,
    pub(super) dropout: Dropout,
    pub(super) place: Place<'a>,
}

#[derive(Debug, Default)]
struct Shard {
    rows: Range<usize>,
    extent: Extent,
    x: Vec<f32>,
    lengths: Option<Vec<usize>>,
    masks: Vec<f32>,
    state: Vec<f32>,
    /// The length of the state, which may be another process's.
    state_len: usize,
    /// The state behind the step, until it is kept.
    after: Vec<f32>,
    after_len: usize,
    y: Vec<f32>,
    dy: Vec<f32>,
    dstate: Vec<f32>,
    cache: Vec<f32>,
    workspace: Vec<f32>,
    gradients: Vec<f32>,
}

/// A prefix of a vector that is made longer if it must be.
fn room(values: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if values.len() < len {
        values.resize(len, 0.0);
    }
    &mut values[..len]
}

impl Shards {
    /// `state` is what an earlier run left, or nothing.
    pub(super) fn new(plan: &Plan, state: &[f32], group: Group) -> Result<Self, Error> {
        let one = Extent { steps: 1, batch: 1 };
        let lens = Chain::lengths(plan.inputs, &plan.stages, one);
        let mut shards = Vec::new();
        for _ in 0..plan.training.shards {
            shards.push(Shard {
                gradients: zeros(lens.params)?,
                ..Shard::default()
            });
        }
        // The rows of a batch are cut in the same way each time.
        if let Some(batch) = state
            .len()
            .checked_div(lens.state)
            .filter(|&batch| batch > 0)
        {
            let mut rest = state;
            let cut = cut_rows(batch, plan.training.shards);
            for (shard, rows) in shards.iter_mut().zip(cut) {
                let (own, after) = rest.split_at(rows.len() * lens.state);
                rest = after;
                shard.state = own.to_vec();
                shard.state_len = own.len();
                shard.rows = rows;
            }
        }
        Ok(Self {
            shards,
            group,
            shared: Vec::new(),
            y: Vec::new(),
            dy: Vec::new(),
        })
    }

    /// The group of processes.
    pub(super) fn group(&self) -> &Group {
        &self.group
    }

    /// The states of all rows, shard by shard.
    pub(super) fn state(&mut self) -> Vec<f32> {
        self.exchange(|shard| shard.state_len, |shard| &mut shard.state);
        self.shards
            .iter()
            .flat_map(|shard| &shard.state[..shard.state_len])
            .copied()
            .collect()
    }

    /// Tells the other processes a buffer of the own shards, and takes theirs.
    fn exchange(&mut self, len: impl Fn(&Shard) -> usize, buffer: fn(&mut Shard) -> &mut Vec<f32>) {
        if self.group.size() == 1 {
            return;
        }
        let lens: Vec<usize> = self.shards.iter().map(len).collect();
        let own = self.group.own(lens.len());
        self.shared.clear();
        for (index, (shard, &len)) in self.shards.iter_mut().zip(&lens).enumerate() {
            let from = match own.contains(&index) {
                true => &buffer(shard)[..len],
                false => &[],
            };
            let end = self.shared.len() + len;
            self.shared.extend_from_slice(from);
            self.shared.resize(end, 0.0);
        }
        self.group.share(&lens, &mut self.shared);
        let mut rest = &self.shared[..];
        for (index, (shard, &len)) in self.shards.iter_mut().zip(&lens).enumerate() {
            let (part, after) = rest.split_at(len);
            rest = after;
            if !own.contains(&index) {
                room(buffer(shard), len).copy_from_slice(part);
            }
        }
    }

    /// The loss of a batch, and each shard's gradient of it. The states stay until they are
    /// [kept](Self::keep).
    pub(super) fn gradient(&mut self, step: Step, loss: &Loss) -> Result<f32, Error> {
        let Step { chain, batch, .. } = step;
        let Extent { steps, batch: rows } = batch.extent;
        // A batch of fewer rows than shards leaves some without a part.
        let cut = cut_rows(rows, self.shards.len());
        let active = cut.len();
        let cut = cut.into_iter().chain(std::iter::repeat(0..0));
        for (shard, rows) in self.shards.iter_mut().zip(cut) {
            let batch = rows.len();
            shard.rows = rows;
            shard.extent = Extent { steps, batch };
            shard.after_len = shard.lens(chain).state;
        }
        let own = self.group.own(self.shards.len());
        let own = own.start.min(active)..own.end.min(active);
        each(&mut self.shards[own.clone()], |shard| shard.forward(step))?;
        self.exchange(|shard| shard.lens(chain).y, |shard| &mut shard.y);
        let width = chain.outputs();
        let whole = Chain::lengths(chain.inputs(), chain.stages(), batch.extent);
        let y = room(&mut self.y, whole.y);
        let dy = room(&mut self.dy, whole.y);
        for shard in &self.shards[..active] {
            let own = shard.lens(chain).y;
            scatter(&shard.y[..own], rows, width, &shard.rows, y);
        }
        let loss = loss.gradient(width, batch, y, dy)?;
        let dy = &*dy;
        each(&mut self.shards[own], |shard| {
            shard.backward(chain, dy, rows)
        })?;
        for shard in &mut self.shards[active..] {
            shard.gradients.fill(0.0);
            shard.after.clear();
        }
        self.exchange(|shard| shard.gradients.len(), |shard| &mut shard.gradients);
        Ok(loss)
    }

    /// Adds the gradients, from the first shard to the last.
    pub(super) fn add_to(&self, gradients: &mut [f32]) {
        for shard in &self.shards {
            let each = gradients.iter_mut().zip(&shard.gradients);
            each.for_each(|(sum, own)| *sum += own);
        }
    }

    /// The states behind the batch are those before the next.
    pub(super) fn keep(&mut self) {
        for shard in &mut self.shards {
            std::mem::swap(&mut shard.state, &mut shard.after);
            shard.state_len = shard.after_len;
        }
    }
}

/// One after the other, or side by side.
fn each(
    shards: &mut [Shard],
    work: impl Fn(&mut Shard) -> Result<(), ArgumentError> + Sync + Send,
) -> Result<(), ArgumentError> {
    match shards {
        [] => Ok(()),
        [one] => work(one),
        many => many.par_iter_mut().map(work).collect(),
    }
}

/// The lengths of the rows, if the network has a use for them: what comes behind the end of a row changes
/// nothing before it, and is not counted, where no stage looks ahead.
pub(super) fn needed_lengths<'a>(chain: Chain, batch: &'a Batch) -> Option<&'a [usize]> {
    batch.lengths.as_deref().filter(|_| !chain.is_causal())
}

impl Shard {
    fn lens(&self, chain: Chain) -> ChainLengths {
        Chain::lengths(chain.inputs(), chain.stages(), self.extent)
    }

    fn forward(&mut self, step: Step) -> Result<(), ArgumentError> {
        let Step { chain, batch, .. } = step;
        let rows = batch.extent.batch;
        let lens = self.lens(chain);
        let x = room(&mut self.x, lens.x);
        gather(&batch.x, rows, chain.inputs(), &self.rows, x);
        let lengths = needed_lengths(chain, batch);
        self.lengths = lengths.map(|lengths| lengths[self.rows.clone()].to_vec());
        self.after.clear();
        if !step.fresh {
            self.after.extend_from_slice(&self.state);
        }
        self.after.resize(lens.state, 0.0);
        let place = Place {
            rows: &step.place.rows[self.rows.clone()],
            ..step.place
        };
        draw(chain, step.dropout, place, &mut self.masks);
        chain.forward_with(
            self.extent,
            self.lengths.as_deref(),
            ChainForward {
                x,
                state: &mut self.after,
                y: room(&mut self.y, lens.y),
                cache: room(&mut self.cache, lens.cache),
                masks: &self.masks,
            },
        )
    }

    fn backward(&mut self, chain: Chain, dy: &[f32], rows: usize) -> Result<(), ArgumentError> {
        let lens = self.lens(chain);
        let own = room(&mut self.dy, lens.y);
        gather(dy, rows, chain.outputs(), &self.rows, own);
        self.gradients.fill(0.0);
        let dstate = room(&mut self.dstate, lens.state);
        // Backpropagation is cut where the batch ends.
        dstate.fill(0.0);
        chain.backward(
            self.extent,
            self.lengths.as_deref(),
            ChainBackward {
                dy: own,
                dstate,
                cache: room(&mut self.cache, lens.cache),
                gradients: &mut self.gradients,
                dx: None,
                workspace: room(&mut self.workspace, lens.workspace),
            },
        )
    }
}
