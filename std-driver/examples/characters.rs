//! Learns a text from a file by a recipe, and writes some: the core's example `characters` in a few lines.
//!
//! `cargo run --release -p fused-lstm-driver --example characters`

use fused_lstm_driver::Error;
use fused_lstm_driver::jobs::{Run, sample_of_run};
use fused_lstm_driver::recipe::{Job, JobName, Recipe};

fn main() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("text.txt");
    std::fs::write(
        &file,
        "the quick brown fox jumps over the lazy dog. ".repeat(100),
    )
    .expect("a file");
    let mut recipe = Recipe::preset(JobName::Text);
    recipe.model.hidden = vec![32];
    recipe.training.batch = 8;
    recipe.training.learning_rate = 0.01;
    if let Job::Text { data, .. } = &mut recipe.job {
        data.file = file;
    }
    let mut run = Run::new(recipe, None)?;
    while run.trainer.step()?.is_some() {}
    println!("{}", sample_of_run(&run, run.trainer.best(), 90)?);
    let bits = run.test()?.expect("a test part").scores.named()[0].1;
    println!("{bits:.3} bits a character");
    assert!(bits < 0.2);
    Ok(())
}
