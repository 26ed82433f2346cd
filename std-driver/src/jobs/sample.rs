//! Texts that a network writes.

use super::text::{text_of, units};
use super::{Known, Run};
use crate::Error;
use crate::chain::ChainModel;
use crate::recipe::{Job, Recipe, Unit};
use crate::trainer::largest;
use fused_lstm::{Chain, Extent, Stage};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// How a text is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Sampling<'a> {
    /// What it goes on from.
    pub prompt: &'a str,
    /// Units to write.
    pub length: usize,
    /// What logits are divided by; 0 takes the largest.
    pub temperature: f32,
    /// What the random generator starts from.
    pub seed: u64,
}

/// A text of a model that was trained on one, behind the prompt.
pub fn sample(
    model: &ChainModel,
    recipe: &Recipe,
    known: &Known,
    sampling: Sampling,
) -> Result<String, Error> {
    let Job::Text { data, .. } = &recipe.job else {
        let got = format!("{:?}", recipe.job.name()).to_lowercase();
        return Err(Error::setting("model", "one of the job text", got));
    };
    let kinds = model.kinds();
    let mut prompt = Vec::new();
    if !sampling.prompt.is_empty() {
        // A text of one unit is refused where it is trained on, not here.
        let twice = sampling.prompt.repeat(2);
        let mut all = units("--prompt".as_ref(), data.unit, twice.as_bytes())?;
        all.truncate(all.len() / 2);
        for unit in all {
            let id = known.units.binary_search(&unit).map_err(|_| {
                let expected = "characters that the model knows";
                Error::setting("prompt", expected, text_of(data.unit, &[unit]))
            })?;
            prompt.push(id);
        }
    }
    draw(
        model.inputs,
        &kinds,
        &model.params,
        known,
        data.unit,
        &prompt,
        sampling,
    )
}

/// A text of a run with these of its weights, for people to see what it has learnt.
pub fn sample_of_run(run: &Run, params: &[f32], length: usize) -> Result<String, Error> {
    let Job::Text { data, .. } = &run.recipe.job else {
        return Ok(String::new());
    };
    let plan = run.trainer.plan();
    let sampling = Sampling {
        prompt: "",
        length,
        temperature: 0.8,
        seed: 0,
    };
    draw(
        plan.inputs,
        &plan.stages,
        params,
        &run.task.known,
        data.unit,
        &[],
        sampling,
    )
}

fn draw(
    inputs: usize,
    stages: &[Stage],
    params: &[f32],
    known: &Known,
    unit: Unit,
    prompt: &[usize],
    sampling: Sampling,
) -> Result<String, Error> {
    let chain = Chain::new(inputs, stages, params)?;
    let one = Extent { steps: 1, batch: 1 };
    let lens = Chain::lengths(inputs, stages, one);
    let (mut state, mut y) = (vec![0.0; lens.state], vec![0.0; lens.y]);
    let (mut x, mut scratch) = (vec![0.0; inputs], vec![0.0; lens.scratch]);
    let mut random = ChaCha8Rng::seed_from_u64(sampling.seed);
    let mut step = |id: usize| -> Result<Vec<f32>, Error> {
        if inputs == 1 {
            x[0] = id as f32;
        } else {
            x.fill(0.0);
            x[id] = 1.0;
        }
        chain.run(one, None, &x, &mut state, &mut y, &mut scratch)?;
        Ok(y.clone())
    };
    // Without a prompt it begins behind a line break, or the first unit that there is.
    let begin = known.units.binary_search(&u32::from(b'\n')).unwrap_or(0);
    let mut logits = step(prompt.first().copied().unwrap_or(begin))?;
    for &id in prompt.iter().skip(1) {
        logits = step(id)?;
    }
    let mut written: Vec<u32> = prompt.iter().map(|&id| known.units[id]).collect();
    for _ in 0..sampling.length {
        let unit = (random.next_u32() >> 8) as f32 / (1 << 24) as f32;
        let id = choose(&logits, sampling.temperature, unit);
        written.push(known.units[id]);
        logits = step(id)?;
    }
    Ok(text_of(unit, &written))
}

/// The class in whose part of the probabilities `unit`, from 0 to 1, falls.
fn choose(logits: &[f32], temperature: f32, unit: f32) -> usize {
    let most = largest(logits);
    if temperature == 0.0 {
        return most;
    }
    let weight = |z: &f32| (f64::from(z - logits[most]) / f64::from(temperature)).exp();
    let total: f64 = logits.iter().map(weight).sum();
    let mut left = f64::from(unit) * total;
    for (id, z) in logits.iter().enumerate() {
        left -= weight(z);
        if left < 0.0 {
            return id;
        }
    }
    most
}
