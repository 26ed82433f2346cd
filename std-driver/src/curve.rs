//! The losses of a run of any length as some thousand points: what a picture can show.

use crate::log::Row;

/// Spans that a curve has at most; each is drawn as two points.
const MOST: usize = 2048;

/// Least and largest loss of each span of steps. When there are too many spans, two become one.
///
/// ```
/// use fused_lstm_driver::curve::Curve;
/// use fused_lstm_driver::log::Row;
///
/// let mut curve = Curve::default();
/// for step in 0..100_000 {
///     curve.add(Row { step, epoch: 0, loss: if step == 50_000 { 9.0 } else { 0.5 } });
/// }
/// assert!(curve.points().count() <= 4096);
/// assert!(curve.points().any(|(_, loss)| loss == 9.0)); // no peak is lost
/// ```
#[derive(Clone, Debug)]
pub struct Curve {
    spans: Vec<Span>,
    /// Steps of a span.
    steps: u64,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    steps: u64,
    /// The steps of the least and of the largest loss, in the order in which they came.
    ends: [(u64, f32); 2],
}

impl Default for Curve {
    fn default() -> Self {
        Self {
            spans: Vec::new(),
            steps: 1,
        }
    }
}

impl Curve {
    /// Adds a row, which comes after all that are there.
    pub fn add(&mut self, row: Row) {
        let point = Span {
            steps: 1,
            ends: [(row.step, row.loss); 2],
        };
        match self.spans.last_mut() {
            Some(last) if last.steps < self.steps => *last = last.joined(point),
            _ => self.spans.push(point),
        }
        if self.spans.len() > MOST {
            self.steps *= 2;
            let pairs = self.spans.chunks(2);
            self.spans = pairs
                .map(|pair| pair.iter().skip(1).fold(pair[0], |a, b| a.joined(*b)))
                .collect();
        }
    }

    /// Steps and losses, ascending by step.
    pub fn points(&self) -> impl Iterator<Item = (u64, f32)> {
        let ends = |span: &Span| {
            let [a, b] = span.ends;
            // A span of one step is one point.
            [Some(a), (a.0 != b.0).then_some(b)]
        };
        self.spans.iter().flat_map(ends).flatten()
    }
}

impl Span {
    /// This and the one after it.
    fn joined(self, next: Self) -> Self {
        let all = [self.ends[0], self.ends[1], next.ends[0], next.ends[1]];
        let by_loss = |a: &&(u64, f32), b: &&(u64, f32)| a.1.total_cmp(&b.1);
        let least = *all.iter().min_by(by_loss).unwrap_or(&all[0]);
        let largest = *all.iter().max_by(by_loss).unwrap_or(&all[0]);
        Self {
            steps: self.steps + next.steps,
            ends: if least.0 <= largest.0 {
                [least, largest]
            } else {
                [largest, least]
            },
        }
    }
}
