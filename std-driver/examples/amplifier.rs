//! Learns what a device does to a sound, and runs it sample by sample: training before the core's
//! example `stream`.
//!
//! `cargo run --release -p fused-lstm-driver --example amplifier`

use fused_lstm::Extent;
use fused_lstm_driver::Error;
use fused_lstm_driver::chain::Runner;
use fused_lstm_driver::jobs::Run;
use fused_lstm_driver::recipe::{Job, JobName, Recipe};

fn main() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sound.csv");
    let dry = |t: usize| 0.7 * (t as f32 * 0.13).sin() * (t as f32 * 0.011).sin();
    let processed = |t: usize| (3.0 * dry(t) + dry(t.saturating_sub(1))).tanh() * 0.5;
    let rows = (0..8000).map(|t| format!("{},{}\n", dry(t), processed(t)));
    std::fs::write(
        &file,
        format!("dry,processed\n{}", rows.collect::<String>()),
    )
    .expect("a file");

    let mut recipe = Recipe::preset(JobName::Audio);
    recipe.model.hidden = vec![8];
    (recipe.training.truncation, recipe.training.warm_up) = (128, 64);
    if let Job::Audio { data, .. } = &mut recipe.job {
        data.segment = 512;
    }
    recipe.job.with_file(file);
    let mut run = Run::new(recipe, None)?;
    while run.trainer.step()?.is_some() {}
    let esr = run.test()?.expect("a test part").scores.named()[0].1;
    println!("error-to-signal ratio {esr:.5}");
    assert!(esr < 0.02);

    let model = run.model();
    let mut runner = Runner::new(&model)?;
    let (one, mut state) = (Extent { steps: 1, batch: 1 }, runner.start(1)?);
    for t in 0..200 {
        let y = runner.run(one, &[dry(t)], &mut state)?;
        if t > 195 {
            println!("{:.4} is {:.4}", y[0], processed(t));
        }
    }
    Ok(())
}
