//! Forecasts a chaotic series, trained with a squared error.
//!
//! `cargo run --release --example forecast`
//!
//! The series is that of Mackey and Glass (1977), dx/dt = 0.2·x(t−17) / (1 + x(t−17)¹⁰) − 0.1·x(t),
//! sampled every 6 units of time. The network reads one value after the other and predicts the next
//! one. The result is compared with the naive forecast, in which the next value is the last one.

use fused_lstm::optimizer::{Adam, Optimizer, clip_by_global_norm};
use fused_lstm::{ArgumentError, Extent, LossGradient, Model, NetworkShape, init};

/// One input, 16 units, one output. The number of outputs of the dense head is called `classes` in
/// regression too.
const SHAPE: NetworkShape = NetworkShape::new(1, &[16]).with_head(1);
/// A training step reads 25 values of each of 16 parts of the series.
const EXTENT: Extent = Extent {
    steps: 25,
    batch: 16,
};
/// Values to train on, 150 in each part. The 600 after them are for the test.
const TRAINED: usize = 16 * 150;
const TESTED: usize = 600;

/// The series, shifted and scaled to about −1 to 1.
fn mackey_glass(length: usize) -> Vec<f32> {
    const STEPS: usize = 10; // of the integration, for each unit of time
    let mut x = vec![1.2f64; 17 * STEPS + 1];
    while x.len() < 6 * STEPS * (length + 50) {
        let (now, late) = (x[x.len() - 1], x[x.len() - 1 - 17 * STEPS]);
        x.push(now + (0.2 * late / (1.0 + late.powi(10)) - 0.1 * now) / STEPS as f64);
    }
    // The first values still depend on the constant that the series starts from.
    let sampled = x.iter().step_by(6 * STEPS).skip(50).take(length);
    sampled.map(|x| (2.0 * (x - 0.9)) as f32).collect()
}

/// The mean squared errors of the network's forecasts and of the naive ones, on the test values.
fn test(params: &[f32], series: &[f32]) -> Result<(f32, f32), ArgumentError> {
    // All in one call. It starts 100 values early, so that the state has settled when the test begins.
    let (from, steps) = (TRAINED - 100, TESTED + 100);
    let extent = Extent { steps, batch: 1 };
    let model = Model::new(SHAPE, params)?;
    let mut state = vec![0.0; SHAPE.state_len(1)];
    let mut hidden = vec![0.0; steps * SHAPE.outputs()];
    let mut scratch = vec![0.0; SHAPE.scratch_len(extent)];
    let x = &series[from..from + steps];
    model.infer(extent, x, &mut state, &mut hidden, &mut scratch)?;
    let mut y = vec![0.0; SHAPE.logits_len(extent)];
    model.logits(extent, &hidden, &mut y)?;

    let next = &series[from + 1..];
    let error = |forecast: &[f32]| {
        let squares = (100..steps).map(|t| (forecast[t] - next[t]).powi(2));
        squares.sum::<f32>() / TESTED as f32
    };
    Ok((error(&y), error(x)))
}

fn main() -> Result<(), ArgumentError> {
    let series = mackey_glass(TRAINED + TESTED + 1);
    let mut seed = 1u32;
    let mut params = vec![0.0; SHAPE.params_len()];
    init::glorot_uniform(SHAPE, &mut params, || {
        seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
        (seed >> 8) as f32 / (1 << 24) as f32
    })?;
    let optimizer = Optimizer::Adam(Adam::pytorch(0.005));
    let mut slots = vec![0.0; optimizer.slots_len(params.len())];
    optimizer.init_slots(&mut slots);

    // Every buffer is allocated once, before the training loop.
    let mut gradients = vec![0.0; params.len()];
    let mut y = vec![0.0; SHAPE.logits_len(EXTENT)];
    let mut cache = vec![0.0; SHAPE.cache_len(EXTENT)];
    let mut workspace = vec![0.0; SHAPE.workspace_len(EXTENT)];
    let (mut state, mut step) = (vec![0.0; SHAPE.state_len(EXTENT.batch)], 0);
    for epoch in 1..=150 {
        state.fill(0.0);
        let (mut sum, calls) = (0.0, TRAINED / EXTENT.rows());
        for call in 0..calls {
            // Buffers are time-major: the values of all parts at one time step are adjacent.
            let part = |k: usize| (k % EXTENT.batch) * (TRAINED / EXTENT.batch);
            let place = |k: usize| part(k) + call * EXTENT.steps + k / EXTENT.batch;
            let x: Vec<f32> = (0..EXTENT.rows()).map(|k| series[place(k)]).collect();
            let next: Vec<f32> = (0..EXTENT.rows()).map(|k| series[place(k) + 1]).collect();

            gradients.fill(0.0); // the call adds to them
            let model = Model::new(SHAPE, &params)?;
            // Without a mask every row counts. The state is carried over to the next call.
            sum += model.squared_error_gradient(
                EXTENT,
                &next,
                None,
                LossGradient {
                    x: &x,
                    state: &mut state,
                    gradients: &mut gradients,
                    outputs: &mut y,
                    cache: &mut cache,
                    workspace: &mut workspace,
                },
            )?;
            clip_by_global_norm(&mut gradients, 1.0)?;
            step += 1;
            optimizer.update(step, &mut params, &gradients, &mut slots)?;
        }
        if epoch % 30 == 0 {
            println!(
                "epoch {epoch:3}: mean squared error {:.5}",
                sum / calls as f32
            );
        }
    }
    let (error, naive) = test(&params, &series)?;
    println!("test: mean squared error {error:.5}, of the naive forecast {naive:.5}");
    assert!(error < naive / 20.0);
    Ok(())
}
