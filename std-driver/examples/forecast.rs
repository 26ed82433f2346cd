//! Forecasts a chaotic series that is made here: the core's example `forecast`, by a `Trainer`.
//!
//! `cargo run --release -p fused-lstm-driver --example forecast`

use fused_lstm::{DenseShape, LayerShape, LstmStage, Stage};
use fused_lstm_driver::Error;
use fused_lstm_driver::dataset::{Aim, Frames, Sequences};
use fused_lstm_driver::recipe::{JobName, Recipe, Training};
use fused_lstm_driver::trainer::{Dropout, Event, Loss, Plan, Scores, Trainer};
use std::sync::Arc;

/// Mackey and Glass (1977), sampled every 6 units of time, about −1 to 1.
fn series(length: usize) -> Vec<f32> {
    let mut x = vec![1.2f64; 171];
    while x.len() < 60 * (length + 50) {
        let (now, late) = (x[x.len() - 1], x[x.len() - 171]);
        x.push(now + (0.2 * late / (1.0 + late.powi(10)) - 0.1 * now) / 10.0);
    }
    let sampled = x.iter().step_by(60).skip(50).take(length);
    sampled.map(|x| (2.0 * (x - 0.9)) as f32).collect()
}

fn main() -> Result<(), Error> {
    let x = series(3001);
    let next = x[1..].to_vec();
    let naive: f32 = x.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum();
    let frames = Arc::new(Frames {
        inputs: 1,
        x: x[..3000].to_vec(),
        one_hot: false,
        aim: Aim::Numbers(1, next),
    });
    // 16 parts to train on, in batches of 25 steps, and the end to judge by, once the state has settled.
    let parts = (0..16).map(|part| part * 150..(part + 1) * 150);
    let training = Sequences {
        truncation: 25,
        ..Sequences::new(frames.clone(), parts.collect(), 16)
    };
    let validation = Sequences {
        warm_up: 100,
        ..Sequences::new(frames, std::iter::once(2300..3000).collect(), 1)
    };
    let plan = Plan {
        inputs: 1,
        stages: vec![
            Stage::Lstm(LstmStage::new(LayerShape::new(1, 16))),
            Stage::Dense(DenseShape::new(16, 1)),
        ],
        loss: Loss::SquaredError,
        training: Training {
            epochs: 150,
            batch: 16,
            learning_rate: 0.005,
            patience: 0,
            ..Recipe::preset(JobName::Forecast).training
        },
        dropout: Dropout::default(),
        seed: 1,
    };
    let scores = Scores::numbers(vec![1.0]);
    let mut trainer = Trainer::new(plan, training, Some(validation), scores)?;
    while let Some(event) = trainer.step()? {
        if let Event::Epoch(epoch) = event
            && (epoch.epoch + 1) % 30 == 0
        {
            println!("epoch {:3}: {:.5}", epoch.epoch + 1, epoch.training);
        }
    }
    let (_, _, error) = trainer.best_epoch().expect("150 epochs");
    let naive = f64::from(naive) / 3000.0;
    println!("mean squared error {error:.5}, of the naive forecast {naive:.5}");
    assert!(error < naive / 20.0);
    Ok(())
}
