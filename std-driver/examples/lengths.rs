//! Classifies waves of unequal length: the core's example `lengths`, by a `Trainer` and data that is made
//! anew in each epoch.
//!
//! `cargo run --release -p fused-lstm-driver --example lengths`

use fused_lstm::{DenseShape, Extent, LayerShape, LstmStage, Returns, Stage};
use fused_lstm_driver::Error;
use fused_lstm_driver::dataset::{Batch, Dataset, Portion};
use fused_lstm_driver::recipe::{JobName, Recipe, Training};
use fused_lstm_driver::trainer::{Dropout, Loss, Plan, Scores, Trainer};

/// Sines, square waves and sawtooths with noise, 8 to 32 steps long; a row's number is its seed.
struct Waves;

const ROWS: usize = 32;

impl Dataset for Waves {
    fn epoch(&self, epoch: u64) -> Vec<Portion> {
        let batch = |index: usize| Portion {
            rows: (0..ROWS)
                .map(|row| (epoch as usize * 20 + index) * ROWS + row)
                .collect(),
            first: 0,
            steps: 32,
        };
        (0..20).map(batch).collect()
    }

    fn load(&self, portion: &Portion, batch: &mut Batch) {
        batch.extent = Extent {
            steps: 32,
            batch: ROWS,
        };
        batch.x = vec![0.0; 32 * ROWS];
        batch.labels.clear();
        let mut lengths = Vec::new();
        for (b, &row) in portion.rows.iter().enumerate() {
            let mut seed = row as u32 ^ 0x9e37;
            let mut random = || {
                seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
                (seed >> 8) as f32 / (1 << 24) as f32
            };
            random();
            let (class, length) = ((3.0 * random()) as u32, 8 + (25.0 * random()) as usize);
            let (start, period) = (random(), 6.0 + 4.0 * random());
            for t in 0..length {
                let phase = (start + t as f32 / period).fract();
                let wave = match class {
                    0 => (std::f32::consts::TAU * phase).sin(),
                    1 => (0.5 - phase).signum(),
                    _ => 2.0 * phase - 1.0,
                };
                batch.x[t * ROWS + b] = wave + 0.4 * (random() - 0.5);
            }
            batch.labels.push(class);
            lengths.push(length);
        }
        batch.lengths = Some(lengths);
    }
}

fn main() -> Result<(), Error> {
    let lstm = LstmStage {
        returns: Returns::Last,
        ..LstmStage::new(LayerShape::new(1, 24))
    };
    let plan = Plan {
        inputs: 1,
        stages: vec![Stage::Lstm(lstm), Stage::Dense(DenseShape::new(24, 3))],
        loss: Loss::CrossEntropy {
            class_weights: None,
            smoothing: 0.0,
        },
        training: Training {
            epochs: 20,
            batch: ROWS,
            learning_rate: 0.01,
            ..Recipe::preset(JobName::Classify).training
        },
        dropout: Dropout::default(),
        seed: 1,
    };
    // What is trained on is new in each epoch, so that the first epoch's serves to judge the others.
    let mut trainer = Trainer::new(plan, Waves, Some(Waves), Scores::classes(3))?;
    while trainer.step()?.is_some() {}
    let accuracy = trainer.history().last().expect("an epoch").scores[0];
    println!("correct {:.1} %", 100.0 * accuracy);
    assert!(accuracy > 0.95); // guessing: a third
    Ok(())
}
