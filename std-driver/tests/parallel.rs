//! Work in parts: the bits of inference, the gradients of training, what is refused.

mod common;

use common::Folder;
use common::random::Random;
use fused_lstm::loss::IGNORE;
use fused_lstm::{Backward, Extent, LossGradient, Model, NetworkShape, PackedModel};
use fused_lstm_driver::checkpoint;
use fused_lstm_driver::parallel::{InferParts, TrainParts, cut_rows};
use fused_lstm_driver::settings::{Preset, Settings};
use fused_lstm_driver::train::Trainer;
use fused_lstm_driver::units::InferUnits;

const SHAPE: NetworkShape = NetworkShape::new(3, &[5, 48, 4]).with_head(3);
const EXTENT: Extent = Extent { steps: 9, batch: 7 };

#[test]
fn every_row_is_in_one_part() {
    for (batch, parts) in [(1, 1), (1, 4), (7, 2), (7, 7), (32, 3), (0, 2)] {
        let cut = cut_rows(batch, parts);
        assert_eq!(cut.len(), parts.min(batch.max(1)));
        let rows: Vec<_> = cut.iter().flat_map(|rows| rows.clone()).collect();
        assert_eq!(rows, (0..batch).collect::<Vec<_>>());
        let sizes = cut.iter().map(|rows| rows.len());
        assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
    }
}

#[test]
fn inference_has_the_same_bits_in_any_number_of_parts() {
    let mut random = Random(5);
    let params = random.vec(SHAPE.params_len(), 0.5);
    let x = random.vec(EXTENT.rows() * 3, 2.0);
    let start = random.vec(SHAPE.state_len(7), 1.0);
    let model = Model::new(SHAPE, &params).unwrap();
    let (mut y, mut state) = (vec![0.0; EXTENT.rows() * 4], start.clone());
    let mut scratch = vec![0.0; SHAPE.scratch_len(EXTENT)];
    model
        .infer(EXTENT, &x, &mut state, &mut y, &mut scratch)
        .unwrap();
    for parts in [1, 2, 3, 7, 9] {
        let (mut own, mut own_state) = (vec![f32::NAN; y.len()], start.clone());
        let mut parts = InferParts::new(SHAPE, EXTENT, parts);
        parts.infer(model, &x, &mut own_state, &mut own).unwrap();
        assert_eq!((&own, &own_state), (&y, &state));

        // Packed for more rows than some of the parts have.
        let mut panels = vec![0.0; SHAPE.packed_len()];
        let packed = PackedModel::new(model, 4, &mut panels).unwrap();
        let (mut own, mut own_state) = (vec![f32::NAN; y.len()], start.clone());
        let done = parts.infer_packed(packed, &x, &mut own_state, &mut own);
        done.unwrap();
        assert_eq!((&own, &own_state), (&y, &state));
        assert!(
            parts
                .infer(model, &x[1..], &mut own_state, &mut own)
                .is_err()
        );
    }
}

#[test]
fn inference_has_the_same_bits_with_its_units_on_any_number_of_threads() {
    // More steps than go through the layers together, and unequal parts.
    const SHAPE: NetworkShape = NetworkShape::new(3, &[40, 72, 50]);
    let mut random = Random(8);
    let params = random.vec(SHAPE.params_len(), 0.5);
    let model = Model::new(SHAPE, &params).unwrap();
    for (steps, batch) in [(1, 1), (131, 1), (5, 3), (0, 2)] {
        let extent = Extent { steps, batch };
        let x = random.vec(extent.rows() * 3, 2.0);
        let start = random.vec(SHAPE.state_len(batch), 1.0);
        let (mut y, mut state) = (vec![0.0; extent.rows() * 50], start.clone());
        let mut scratch = vec![0.0; SHAPE.scratch_len(extent)];
        let done = model.infer(extent, &x, &mut state, &mut y, &mut scratch);
        done.unwrap();
        for threads in [1, 2, 3, 9] {
            let mut units = InferUnits::new(model, batch, threads).unwrap();
            // Twice with the same buffers: nothing is left over.
            for _ in 0..2 {
                let (mut own, mut own_state) = (vec![f32::NAN; y.len()], start.clone());
                units.infer(steps, &x, &mut own_state, &mut own).unwrap();
                assert_eq!((&own, &own_state), (&y, &state), "{threads} threads");
            }
            let mut own = vec![0.0; y.len() + 1];
            let wrong = units.infer(steps, &x, &mut start.clone(), &mut own);
            assert!(wrong.is_err());
        }
    }
}

#[test]
fn a_training_step_in_parts_is_that_of_the_whole_batch() {
    let labels: Vec<u32> = (0..EXTENT.rows() as u32).map(|k| k * 7 % 3).collect();
    holds_in_parts(&labels);
    // Sequences of unequal lengths, the last of none: a part of its own has nothing to learn.
    let mut padded = labels.clone();
    for (k, label) in padded.iter_mut().enumerate() {
        if k / 7 >= 7 - k % 7 || k % 7 == 6 {
            *label = IGNORE;
        }
    }
    holds_in_parts(&padded);
    holds_in_parts(&vec![IGNORE; labels.len()]);
}

fn holds_in_parts(labels: &[u32]) {
    let mut random = Random(6);
    let params = random.vec(SHAPE.params_len(), 0.5);
    let x = random.vec(EXTENT.rows() * 3, 2.0);
    let start = random.vec(SHAPE.state_len(7), 1.0);
    let model = Model::new(SHAPE, &params).unwrap();

    let (mut state, mut gradients) = (start.clone(), vec![0.0; params.len()]);
    let mut probabilities = vec![0.0; EXTENT.rows() * 3];
    let loss = model
        .loss_gradient(
            EXTENT,
            labels,
            LossGradient {
                x: &x,
                state: &mut state,
                gradients: &mut gradients,
                outputs: &mut probabilities,
                cache: &mut vec![0.0; SHAPE.cache_len(EXTENT)],
                workspace: &mut vec![0.0; SHAPE.workspace_len(EXTENT)],
            },
        )
        .unwrap();

    for count in [1, 2, 3, 7] {
        let mut parts = TrainParts::new(SHAPE, EXTENT, count);
        let mut step = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let (mut state, mut gradients) = (start.clone(), vec![0.0; params.len()]);
            let mut probabilities = vec![0.0; EXTENT.rows() * 3];
            let loss = pool.build().unwrap().install(|| {
                let (g, p) = (&mut gradients, &mut probabilities);
                parts.loss_gradient(model, &x, labels, &mut state, g, p)
            });
            (loss.unwrap(), state, gradients, probabilities)
        };
        let own = step(2);
        // The threads leave no trace in the bits.
        assert_eq!(own, step(1));
        assert_eq!((&own.1, &own.3), (&state, &probabilities));
        assert!((own.0 - loss).abs() < 1e-6);
        for (own, whole) in own.2.iter().zip(&gradients) {
            assert!((own - whole).abs() < 1e-6, "{own} {whole}");
        }
    }
}

#[test]
fn gradients_of_parts_sum_to_those_of_the_whole() {
    let mut random = Random(3);
    let params = random.vec(SHAPE.params_len(), 0.5);
    let x = random.vec(EXTENT.rows() * 3, 2.0);
    let dy = random.vec(EXTENT.rows() * SHAPE.outputs(), 1.0);
    let start = random.vec(SHAPE.state_len(7), 1.0);
    let model = Model::new(SHAPE, &params).unwrap();

    let (mut state, mut gradients) = (start.clone(), vec![0.0; params.len()]);
    let mut cache = vec![0.0; SHAPE.cache_len(EXTENT)];
    model.forward(EXTENT, &x, &mut state, &mut cache).unwrap();
    model
        .backward(
            EXTENT,
            Backward {
                x: &x,
                dy: &dy,
                dstate: &mut vec![0.0; state.len()],
                cache: &mut cache,
                gradients: &mut gradients,
                dx: None,
                workspace: &mut vec![0.0; SHAPE.workspace_len(EXTENT)],
            },
        )
        .unwrap();

    for count in [1, 3, 7] {
        let mut parts = TrainParts::new(SHAPE, EXTENT, count);
        let (mut own_state, mut own) = (start.clone(), vec![0.0; params.len()]);
        parts
            .gradient(model, &x, &dy, &mut own_state, &mut own)
            .unwrap();
        assert_eq!(own_state, state);
        for (own, whole) in own.iter().zip(&gradients) {
            assert!((own - whole).abs() < 2e-5, "{own} {whole}");
        }
    }
}

#[test]
fn a_run_in_shards_learns_and_goes_on_from_a_checkpoint() {
    let settings = Settings {
        shards: 2,
        epochs: 1,
        ..Settings::preset(Preset::Echo)
    };
    let mut trainer = Trainer::new(settings).unwrap();
    for _ in 0..300 {
        trainer.step().unwrap();
    }
    let folder = Folder::new();
    checkpoint::save(&trainer, &folder.path("run")).unwrap();
    let mut again = checkpoint::resume(&folder.path("run")).unwrap();
    let mut last = 1.0;
    while let Some(step) = trainer.step().unwrap() {
        assert_eq!(again.step().unwrap(), Some(step));
        last = step.loss;
    }
    assert!(last < 0.05, "{last}");
}

#[test]
fn more_shards_than_rows_are_refused() {
    let folder = Folder::new();
    folder.fails("train --shards 6", 2, &["--shards", "1 to 5", "6"]);
    folder.fails("train --shards 0", 2, &["--shards", "1 to 5", "0"]);
}
