//! The loss and the scores of a network on some data.

use super::shards::needed_lengths;
use super::{Loss, Scores};
use crate::Error;
use crate::dataset::{Batch, Dataset};
use fused_lstm::Chain;

/// What a network was found to be worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The mean loss.
    pub loss: f64,
    /// The scores.
    pub scores: Scores,
}

/// Runs the network over an epoch of the data.
pub fn judge<D: Dataset + ?Sized>(
    chain: Chain,
    data: &D,
    loss: &Loss,
    scores: Scores,
) -> Result<Judged, Error> {
    outputs(chain, data, loss, scores, |_, _| {})
}

/// The same, with each batch and its outputs shown to `see`: numbers, or logits.
pub(crate) fn outputs<D: Dataset + ?Sized>(
    chain: Chain,
    data: &D,
    loss: &Loss,
    mut scores: Scores,
    mut see: impl FnMut(&Batch, &[f32]),
) -> Result<Judged, Error> {
    let (mut batch, mut state) = (Batch::default(), Vec::new());
    let [mut y, mut dy, mut scratch] = [const { Vec::new() }; 3];
    let (mut sum, mut count) = (0.0, 0.0);
    let width = chain.outputs();
    for portion in data.epoch(0) {
        data.load(&portion, &mut batch);
        let lens = Chain::lengths(chain.inputs(), chain.stages(), batch.extent);
        if portion.first == 0 {
            state.clear();
        }
        state.resize(lens.state, 0.0);
        y.clear();
        y.resize(lens.y, 0.0);
        dy.resize(lens.y, 0.0);
        if scratch.len() < lens.scratch {
            scratch.resize(lens.scratch, 0.0);
        }
        let lengths = needed_lengths(chain, &batch);
        let scratch = &mut scratch[..lens.scratch];
        chain.run(batch.extent, lengths, &batch.x, &mut state, &mut y, scratch)?;
        scores.add(width, &batch, &y);
        see(&batch, &y);
        let own = loss.count(&batch);
        if own > 0.0 {
            sum += f64::from(loss.gradient(width, &batch, &mut y, &mut dy)?) * own;
            count += own;
        }
    }
    Ok(Judged {
        loss: if count > 0.0 { sum / count } else { 0.0 },
        scores,
    })
}
