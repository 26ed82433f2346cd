//! Times of something that is done again and again.

use std::time::{Duration, Instant};

/// Nanoseconds a call, one number for each sample.
#[derive(Clone, Debug, Default)]
pub struct Times(pub Vec<f64>);

impl Times {
    /// Samples for so long, each of enough calls that the clock does not matter; a
    /// few calls come first that are not counted.
    pub fn take(&mut self, time: Duration, mut run: impl FnMut()) {
        let start = Instant::now();
        let mut warm = 0u32;
        while warm < 2 || (start.elapsed() < time / 8 && warm < 1000) {
            run();
            warm += 1;
        }
        let once = start.elapsed().as_nanos() as f64 / f64::from(warm);
        let calls = (20_000.0 / once).ceil().max(1.0) as usize;
        let end = Instant::now() + time;
        loop {
            let start = Instant::now();
            for _ in 0..calls {
                run();
            }
            self.0
                .push(start.elapsed().as_nanos() as f64 / calls as f64);
            if Instant::now() >= end {
                return;
            }
        }
    }

    /// The least.
    pub fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}
