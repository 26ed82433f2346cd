//! `evaluate` and `sample`: what a network that was trained by a recipe is worth, and what it writes.

use crate::args::{Evaluate, Part, Sample, setting};
use fused_lstm::Chain;
use fused_lstm_driver::jobs::{self, Saved, Task};
use fused_lstm_driver::trainer::{Loss, Scores, judge};
use fused_lstm_driver::{Error, threads};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;

#[derive(Serialize)]
struct Json {
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<f64>,
    scores: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    classes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    confusion: Vec<Vec<u64>>,
}

pub fn evaluate(arguments: &Evaluate) -> Result<(), Error> {
    threads::start(Some(1))?;
    let saved = Saved::open(&arguments.model)?;
    let mut recipe = saved.recipe.clone();
    if let Some(data) = &arguments.data {
        recipe.job.with_file(data.clone());
    }
    let part = arguments.part.unwrap_or(match arguments.data {
        Some(_) => Part::All,
        None => Part::Test,
    });
    if part == Part::All {
        recipe.whole();
    }
    let task = Task::open(&recipe, Some(&saved.known))?;
    let data = match part {
        Part::Training | Part::All => Some(&task.training),
        Part::Validation => task.validation.as_ref(),
        Part::Test => task.test.as_ref(),
    };
    let Some(data) = data else {
        let got = format!("{part:?}").to_lowercase();
        return Err(setting("part", "a part that the recipe has", got));
    };
    let kinds = saved.model.kinds();
    let chain = Chain::new(saved.model.inputs, &kinds, &saved.model.params)?;
    let judged = judge(chain, data, &task.loss, task.scores.clone())?;
    // That of a forecast is one of standardised numbers, which the model no longer sees.
    let loss = match task.loss {
        Loss::SquaredError | Loss::Huber { .. } => None,
        _ => Some(judged.loss),
    };
    let mut text = String::new();
    let confusion: Vec<Vec<u64>> = match &judged.scores {
        Scores::Classes { confusion, classes } => confusion
            .chunks((*classes).max(1))
            .map(<[u64]>::to_vec)
            .collect(),
        _ => Vec::new(),
    };
    if arguments.json {
        let number = |(name, value): (&'static str, f64)| (name.to_owned(), value.into());
        let json = Json {
            loss,
            scores: judged
                .scores
                .named()
                .into_iter()
                .chain(beside(&task, part))
                .map(number)
                .collect(),
            classes: task.known.classes.clone(),
            confusion,
        };
        text = serde_json::to_string_pretty(&json).unwrap_or_default();
        text.push('\n');
    } else {
        if let Some(loss) = loss {
            text.push_str(&format!("loss {loss:.6}\n"));
        }
        for (name, value) in judged.scores.named().into_iter().chain(beside(&task, part)) {
            text.push_str(&format!("{name} {value:.6}\n"));
        }
        if !confusion.is_empty() {
            text.push_str(&jobs::confusion_table(&task.known.classes, &confusion));
        }
    }
    print(&text)
}

/// The scores of a simple rule, which are those of the test part.
fn beside(task: &Task, part: Part) -> Vec<(&'static str, f64)> {
    match part {
        Part::Test => task.beside.clone(),
        _ => Vec::new(),
    }
}

pub fn sample(arguments: &Sample) -> Result<(), Error> {
    let temperature = arguments.temperature;
    if !(temperature.is_finite() && temperature >= 0.0) {
        return Err(setting(
            "temperature",
            "a finite number from 0 on",
            temperature,
        ));
    }
    let saved = Saved::open(&arguments.model)?;
    let text = jobs::sample(
        &saved.model,
        &saved.recipe,
        &saved.known,
        jobs::Sampling {
            prompt: &arguments.prompt,
            length: arguments.length,
            temperature,
            seed: arguments.seed,
        },
    )?;
    print(&format!("{text}\n"))
}

fn print(text: &str) -> Result<(), Error> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|source| Error::Io {
            path: PathBuf::from("standard output"),
            action: "write",
            source,
        }),
    }
}
