//! Classifies sequences of unequal length: one label at the end of each, in padded batches.
//!
//! `cargo run --release --example lengths`
//!
//! A sequence is one of three waveforms with noise, of random phase and period, and 8 to 32 values long.
//! Short sequences are padded to the length of the batch. The label of a sequence is at its last step;
//! all other labels, before it and in the padding, are `loss::IGNORE`, and do not contribute to the
//! loss or to the gradients.

use fused_lstm::loss::IGNORE;
use fused_lstm::optimizer::{Adam, Optimizer, clip_by_global_norm};
use fused_lstm::{ArgumentError, Extent, LossGradient, Model, NetworkShape, init};

const CLASSES: usize = 3;
const SHAPE: NetworkShape = NetworkShape::new(1, &[24]).with_head(CLASSES);
/// The length of the longest sequence, and the number of sequences in a batch.
const EXTENT: Extent = Extent {
    steps: 32,
    batch: 32,
};

/// Repeatable numbers from 0 up to, not including, 1.
fn random(seed: &mut u32) -> f32 {
    *seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
    (*seed >> 8) as f32 / (1 << 24) as f32
}

/// A sine, a square wave and a sawtooth, for a phase from 0 to 1.
fn wave(class: u32, phase: f32) -> f32 {
    match class {
        0 => (std::f32::consts::TAU * phase).sin(),
        1 if phase < 0.5 => 1.0,
        1 => -1.0,
        _ => 2.0 * phase - 1.0,
    }
}

/// Inputs `[T, B, 1]`, zeros after the end of a sequence, and labels `[T, B]`.
fn batch(seed: &mut u32) -> (Vec<f32>, Vec<u32>) {
    let Extent { steps, batch } = EXTENT;
    let (mut x, mut labels) = (vec![0.0; steps * batch], vec![IGNORE; steps * batch]);
    for row in 0..batch {
        let class = (random(seed) * CLASSES as f32) as u32;
        let length = 8 + (random(seed) * 25.0) as usize;
        let (start, period) = (random(seed), 6.0 + 4.0 * random(seed));
        for t in 0..length {
            let noise = 0.4 * (random(seed) - 0.5);
            x[t * batch + row] = wave(class, (start + t as f32 / period).fract()) + noise;
        }
        labels[(length - 1) * batch + row] = class;
    }
    (x, labels)
}

/// The share of sequences whose most probable class at the last step is the label.
fn correct(probabilities: &[f32], labels: &[u32]) -> f32 {
    let rows = probabilities.chunks(CLASSES).zip(labels);
    let ends = rows.filter(|(_, label)| **label != IGNORE);
    let hit = |(p, label): (&[f32], &u32)| {
        let best = (0..CLASSES).max_by(|a, b| p[*a].total_cmp(&p[*b]));
        best == Some(*label as usize)
    };
    ends.map(hit).filter(|hit| *hit).count() as f32 / EXTENT.batch as f32
}

fn main() -> Result<(), ArgumentError> {
    let mut seed = 1;
    let mut params = vec![0.0; SHAPE.params_len()];
    init::glorot_uniform(SHAPE, &mut params, || random(&mut seed))?;
    let optimizer = Optimizer::Adam(Adam::pytorch(0.01));
    let mut slots = vec![0.0; optimizer.slots_len(params.len())];
    optimizer.init_slots(&mut slots);

    let mut gradients = vec![0.0; params.len()];
    let mut probabilities = vec![0.0; SHAPE.logits_len(EXTENT)];
    let mut cache = vec![0.0; SHAPE.cache_len(EXTENT)];
    let mut workspace = vec![0.0; SHAPE.workspace_len(EXTENT)];
    let mut state = vec![0.0; SHAPE.state_len(EXTENT.batch)];
    let mut last = Vec::new();
    for step in 1..=400 {
        // Every batch is new, so that the accuracy before the update is that on unseen sequences.
        let (x, labels) = batch(&mut seed);
        state.fill(0.0);
        gradients.fill(0.0);
        // The loss is the mean over the labels that are not ignored.
        let loss = Model::new(SHAPE, &params)?.loss_gradient(
            EXTENT,
            &labels,
            LossGradient {
                x: &x,
                state: &mut state,
                gradients: &mut gradients,
                outputs: &mut probabilities,
                cache: &mut cache,
                workspace: &mut workspace,
            },
        )?;
        let share = correct(&probabilities, &labels);
        clip_by_global_norm(&mut gradients, 1.0)?;
        optimizer.update(step, &mut params, &gradients, &mut slots)?;
        if step == 1 || step % 100 == 0 {
            println!(
                "step {step:3}: loss {loss:.3}, correct {:3.0} %",
                100.0 * share
            );
        }
        if step > 380 {
            last.push(share);
        }
    }
    let share = last.iter().sum::<f32>() / last.len() as f32;
    println!(
        "the last {} batches: correct {:.1} %",
        last.len(),
        100.0 * share
    );
    assert!(share > 0.95); // guessing: a third
    Ok(())
}
