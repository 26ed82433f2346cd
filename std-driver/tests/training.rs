//! Training runs of PyTorch, made again: `tests/data/make_training.py`.

use fused_lstm::{DenseShape, LayerShape, LstmStage, Returns, Stage};
use fused_lstm_driver::dataset::{Aim, Frames, Sequences};
use fused_lstm_driver::recipe::{JobName, Recipe, Schedule, Training};
use fused_lstm_driver::settings::OptimizerName;
use fused_lstm_driver::tensors::TensorFile;
use fused_lstm_driver::trainer::{Dropout, Loss, Plan, Scores, Trainer};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const STEPS: usize = 5;
const SEQUENCES: usize = 6;

fn fixture() -> TensorFile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/training.safetensors");
    TensorFile::open(&path).expect("the fixture")
}

fn values(key: &str) -> Vec<f32> {
    fixture().numbers(key).expect(key).1
}

/// Plain gradient descent of rate 0.1, 4 epochs of batches of 2.
fn training() -> Training {
    Training {
        epochs: 4,
        batch: 2,
        optimizer: OptimizerName::Sgd,
        learning_rate: 0.1,
        clip_norm: 0.0,
        patience: 0,
        ..Recipe::preset(JobName::Forecast).training
    }
}

fn sequences(aim: Aim, spans: Vec<Range<usize>>) -> Sequences {
    let frames = Frames {
        inputs: 2,
        x: values("x"),
        one_hot: false,
        aim,
    };
    Sequences::new(Arc::new(frames), spans, 2)
}

fn whole() -> Vec<Range<usize>> {
    (0..SEQUENCES).map(|n| n * STEPS..(n + 1) * STEPS).collect()
}

fn numbers() -> Sequences {
    sequences(Aim::Numbers(2, values("numbers")), whole())
}

fn plan(training: Training, loss: Loss, returns: Returns) -> Plan {
    let lstm = LstmStage {
        returns,
        ..LstmStage::new(LayerShape::new(2, 3))
    };
    Plan {
        inputs: 2,
        stages: vec![Stage::Lstm(lstm), Stage::Dense(DenseShape::new(3, 2))],
        loss,
        training,
        dropout: Dropout::default(),
        seed: 0,
    }
}

fn trainer(plan: Plan, data: Sequences, validation: Option<Sequences>) -> Trainer<Sequences> {
    let scores = Scores::numbers(vec![1.0; 2]);
    let trainer = Trainer::new(plan, data, validation, scores).expect("a trainer");
    trainer.with_params(values("start"))
}

/// Runs to the end, and compares the weights with PyTorch's.
#[track_caller]
fn assert_as_torch(name: &str, mut trainer: Trainer<Sequences>) {
    while trainer.step().expect("a step").is_some() {}
    let (got, want) = (trainer.params(), values(name));
    assert_eq!(got.len(), want.len());
    let start = values("start");
    let moved = want.iter().zip(&start).map(|(a, b)| (a - b).abs());
    assert!(moved.fold(0.0, f32::max) > 0.02, "nothing was learnt");
    for (k, (got, want)) in got.iter().zip(&want).enumerate() {
        let difference = (got - want).abs();
        assert!(difference < 3e-6, "{name}[{k}]: {got} for {want}");
    }
}

#[test]
fn adam_with_a_cosine_and_clipping() {
    let training = Training {
        optimizer: OptimizerName::Adam,
        learning_rate: 0.01,
        schedule: Schedule::Cosine {
            warm_up: 3,
            least: 0.1,
        },
        clip_norm: 0.2,
        ..training()
    };
    let plan = plan(training, Loss::SquaredError, Returns::Sequence);
    assert_as_torch("adam_cosine", trainer(plan, numbers(), None));
}

#[test]
fn adamw_with_steps() {
    let training = Training {
        optimizer: OptimizerName::Adamw,
        learning_rate: 0.01,
        weight_decay: 0.1,
        schedule: Schedule::Step {
            every: 1,
            factor: 0.5,
        },
        ..training()
    };
    let plan = plan(training, Loss::SquaredError, Returns::Sequence);
    assert_as_torch("adamw_step", trainer(plan, numbers(), None));
}

#[test]
fn accumulation_with_weight_decay_in_any_shards() {
    for shards in [1, 2] {
        let training = Training {
            weight_decay: 0.05,
            accumulate: 2,
            shards,
            ..training()
        };
        let plan = plan(training, Loss::SquaredError, Returns::Sequence);
        assert_as_torch("sgd_accumulate", trainer(plan, numbers(), None));
    }
}

#[test]
fn huber_with_momentum() {
    let training = Training {
        optimizer: OptimizerName::Momentum,
        learning_rate: 0.05,
        ..training()
    };
    let plan = plan(training, Loss::Huber { delta: 0.3 }, Returns::Sequence);
    assert_as_torch("momentum_huber", trainer(plan, numbers(), None));
}

/// Sequences of unequal lengths, a class each.
#[test]
fn classes_at_the_last_step() {
    let lengths = values("lengths");
    let spans = whole().into_iter().zip(&lengths);
    let spans = spans.map(|(span, &length)| span.start..span.start + length as usize);
    let labels = values("labels");
    let each = labels.iter().flat_map(|&label| [label as u32; STEPS]);
    let data = Sequences {
        one_output: true,
        ..sequences(Aim::Classes(each.collect()), spans.collect())
    };
    let training = Training {
        optimizer: OptimizerName::Adam,
        learning_rate: 0.01,
        ..training()
    };
    let loss = Loss::CrossEntropy {
        class_weights: Some(vec![1.5, 0.75]),
        smoothing: 0.1,
    };
    let plan = plan(training, loss, Returns::Last);
    assert_as_torch("classes", trainer(plan, data, None));
}

#[test]
fn truncated_with_a_carried_state() {
    let data = Sequences {
        truncation: 2,
        ..numbers()
    };
    let plan = plan(training(), Loss::SquaredError, Returns::Sequence);
    assert_as_torch("truncated", trainer(plan, data, None));
}

#[test]
fn plateaus_lower_the_rate() {
    let training = Training {
        epochs: 12,
        learning_rate: 0.2,
        schedule: Schedule::Plateau {
            patience: 2,
            factor: 0.5,
        },
        ..training()
    };
    let turned = values("numbers").iter().map(|v| -v).collect();
    let validation = Sequences {
        batch: SEQUENCES,
        ..sequences(Aim::Numbers(2, turned), whole())
    };
    let plan = plan(training, Loss::SquaredError, Returns::Sequence);
    let mut run = trainer(plan.clone(), numbers(), Some(validation.clone()));
    while run.step().expect("a step").is_some() {}
    let rates: Vec<f32> = run.history().iter().map(|epoch| epoch.rate).collect();
    assert_eq!(rates, values("plateau.rates"));
    let losses = run.history().iter().map(|epoch| epoch.validation);
    for (got, want) in losses.zip(values("plateau.losses")) {
        let got = got.expect("a validation loss");
        assert!((got - f64::from(want)).abs() < 1e-6, "{got} for {want}");
    }
    // The best weights are not the last.
    let lowest = run.best_epoch().expect("a best epoch");
    let least = run.history().iter().filter_map(|epoch| epoch.validation);
    assert_eq!(lowest.2, least.fold(f64::INFINITY, f64::min));
    assert_as_torch("plateau", trainer(plan, numbers(), Some(validation)));
}
