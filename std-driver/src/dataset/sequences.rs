//! Sequences in memory: spans of shared frames, in batches, padded and cut into parts.

use super::{Batch, Dataset, Portion, shuffled};
use fused_lstm::Extent;
use fused_lstm::loss::IGNORE;
use std::ops::Range;
use std::sync::Arc;

/// Time steps with what is to be learnt of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frames {
    /// Inputs of a step, I.
    pub inputs: usize,
    /// `[N, I]`, or `[N]` numbers of one input if they are one-hot.
    pub x: Vec<f32>,
    /// Whether an input is the number of the one that is 1.
    pub one_hot: bool,
    /// What belongs to each step.
    pub aim: Aim,
}

/// What a network should give.
#[derive(Clone, Debug, PartialEq)]
pub enum Aim {
    /// A class, `[N]`.
    Classes(Vec<u32>),
    /// So many numbers, `[N, O]`.
    Numbers(usize, Vec<f32>),
}

impl Default for Aim {
    fn default() -> Self {
        Self::Classes(Vec::new())
    }
}

/// One sequence: its steps among the frames.
pub type Span = Range<usize>;

/// Sequences in memory.
///
/// ```
/// use fused_lstm_driver::dataset::{Aim, Batch, Dataset, Frames, Sequences};
/// use std::sync::Arc;
///
/// // Two sequences, of 3 steps and of 2, with a class each.
/// let frames = Frames {
///     inputs: 1,
///     x: vec![1.0, 2.0, 3.0, 4.0, 5.0],
///     one_hot: false,
///     aim: Aim::Classes(vec![0, 0, 0, 1, 1]),
/// };
/// let data = Sequences { one_output: true, ..Sequences::new(Arc::new(frames), vec![0..3, 3..5], 2) };
/// let portions = data.epoch(0);
/// let mut batch = Batch::default();
/// data.load(&portions[0], &mut batch);
/// assert_eq!(batch.x, [1.0, 4.0, 2.0, 5.0, 3.0, 0.0]);
/// assert_eq!(batch.lengths, Some(vec![3, 2]));
/// assert_eq!(batch.labels, [0, 1]);
/// ```
#[derive(Clone, Debug)]
pub struct Sequences {
    /// The steps of all.
    pub frames: Arc<Frames>,
    /// Which of them each sequence has.
    pub spans: Vec<Span>,
    /// Sequences of a batch.
    pub batch: usize,
    /// Steps of a batch; 0 for whole sequences.
    pub truncation: usize,
    /// First steps of a sequence that do not count.
    pub warm_up: usize,
    /// Whether the network gives one output a sequence, which belongs to the last step.
    pub one_output: bool,
    /// The seed of an order that is drawn anew in each epoch; without, they stay in theirs.
    pub shuffle: Option<u64>,
}

impl Sequences {
    /// Whole sequences in their order, an output for every step.
    pub fn new(frames: Arc<Frames>, spans: Vec<Span>, batch: usize) -> Self {
        Self {
            frames,
            spans,
            batch,
            truncation: 0,
            warm_up: 0,
            one_output: false,
            shuffle: None,
        }
    }
}

impl Dataset for Sequences {
    fn epoch(&self, epoch: u64) -> Vec<Portion> {
        let order = match self.shuffle {
            Some(seed) => shuffled(self.spans.len(), seed, epoch),
            None => (0..self.spans.len()).collect(),
        };
        let mut portions = Vec::new();
        for rows in order.chunks(self.batch.max(1)) {
            let lengths = rows.iter().map(|&row| self.spans[row].len());
            let longest = lengths.max().unwrap_or(0);
            let most = match self.truncation {
                0 => longest.max(1),
                steps => steps,
            };
            for first in (0..longest).step_by(most) {
                portions.push(Portion {
                    rows: rows.to_vec(),
                    first,
                    steps: most.min(longest - first),
                });
            }
        }
        portions
    }

    fn load(&self, portion: &Portion, batch: &mut Batch) {
        let Portion { rows, first, steps } = portion;
        let (first, steps, count) = (*first, *steps, rows.len());
        let frames = &*self.frames;
        let inputs = frames.inputs;
        let length = |row: usize| self.spans[row].len().saturating_sub(first).min(steps);
        batch.extent = Extent {
            steps,
            batch: count,
        };
        batch.x.clear();
        batch.x.resize(steps * count * inputs, 0.0);
        for (b, &row) in rows.iter().enumerate() {
            let start = self.spans[row].start + first;
            for t in 0..length(row) {
                let to = &mut batch.x[(t * count + b) * inputs..][..inputs];
                if frames.one_hot {
                    to[frames.x[start + t] as usize] = 1.0;
                } else {
                    to.copy_from_slice(&frames.x[(start + t) * inputs..][..inputs]);
                }
            }
        }
        let whole = rows.iter().all(|&row| length(row) == steps);
        batch.lengths = (!whole).then(|| rows.iter().map(|&row| length(row)).collect());
        // The step that a row of the output belongs to, if it counts.
        let place = |output: usize| {
            let row = rows[output % count];
            let step = match self.one_output {
                true => length(row).checked_sub(1)?,
                false => output / count,
            };
            let counts = step < length(row) && first + step >= self.warm_up;
            counts.then(|| self.spans[row].start + first + step)
        };
        let outputs = if self.one_output {
            count
        } else {
            steps * count
        };
        batch.labels.clear();
        batch.targets.clear();
        batch.mask.clear();
        match &frames.aim {
            Aim::Classes(classes) => {
                let labels = (0..outputs).map(|o| place(o).map_or(IGNORE, |at| classes[at]));
                batch.labels.extend(labels);
            }
            Aim::Numbers(width, values) => {
                for output in 0..outputs {
                    let at = place(output);
                    batch.mask.push(at.is_some());
                    match at {
                        Some(at) => batch.targets.extend(&values[at * width..][..*width]),
                        None => batch.targets.resize(batch.targets.len() + width, 0.0),
                    }
                }
            }
        }
    }
}
