//! The pictures of a run: the curves of the loss, and what each job shows.

use super::charts::{Axes, Line, lines};
use super::escaped;
use crate::Error;
use crate::jobs::{self, Run};
use crate::recipe::Job;
use crate::trainer::{Scores, outputs};
use fused_lstm::Chain;

type Drawn = Result<String, Box<dyn std::error::Error>>;

/// Points that a chart shows of a long series.
const MOST: usize = 600;

/// Training and validation loss of each epoch, of the run with the best.
pub(super) fn curves(run: &Run) -> Drawn {
    let restart = run.trainer.best_epoch().map_or(0, |(restart, ..)| restart);
    let epochs = || {
        run.trainer
            .history()
            .iter()
            .filter(|epoch| epoch.restart == restart)
    };
    let mut all = vec![Line {
        name: "training".into(),
        points: epochs()
            .map(|e| ((e.epoch + 1) as f64, e.training))
            .collect(),
    }];
    if run.task.validation.is_some() {
        all.push(Line {
            name: "validation".into(),
            points: epochs()
                .filter_map(|e| Some(((e.epoch + 1) as f64, e.validation?)))
                .collect(),
        });
    }
    let axes = Axes {
        x: "epoch",
        y: "loss (log scale)",
        logarithmic: true,
    };
    lines(axes, &all)
}

/// What the job shows of the test part, or of the validation part where there is none.
pub(super) fn of_job(
    run: &Run,
    failed: impl Fn(Box<dyn std::error::Error>) -> Error,
) -> Result<String, Error> {
    if let Job::Text { .. } = run.recipe.job {
        let text = jobs::sample_of_run(run, run.trainer.best(), 800)?;
        return Ok(format!(
            "<h2>A text of it</h2>\n<pre>{}</pre>\n",
            escaped(&text)
        ));
    }
    let Some(data) = run.task.test.as_ref().or(run.task.validation.as_ref()) else {
        return Ok(String::new());
    };
    let plan = run.trainer.plan();
    let chain = Chain::new(plan.inputs, &plan.stages, run.trainer.best())?;
    let width = chain.outputs();
    // The first output of what counts: of forecasts in the order of time, of sounds one after the other.
    let is_sound = matches!(run.recipe.job, Job::Audio { .. });
    let mut sounds: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
    let judged = outputs(
        chain,
        data,
        &plan.loss,
        run.task.scores.clone(),
        |batch, y| {
            let rows = y.chunks_exact(width).zip(batch.targets.chunks_exact(width));
            let counted = rows
                .zip(&batch.mask)
                .enumerate()
                .filter(|(_, (_, counts))| **counts);
            for (row, ((y, target), _)) in counted {
                let sound = if is_sound {
                    row % batch.extent.batch
                } else {
                    0
                };
                if sounds.len() <= sound {
                    sounds.resize(sound + 1, Vec::new());
                }
                sounds[sound].push((f64::from(target[0]), f64::from(y[0])));
            }
        },
    )?;
    match (&run.recipe.job, &judged.scores) {
        (_, Scores::Classes { confusion, classes }) => {
            Ok(matrix(&run.task.known.classes, confusion, *classes))
        }
        (Job::Forecast { .. }, _) => {
            let (scale, mean) = unit_of_first(run);
            let unit = |(a, b): (f64, f64)| (a * scale + mean, b * scale + mean);
            let some: Vec<_> = sounds[0]
                .iter()
                .rev()
                .take(MOST)
                .rev()
                .map(|&p| unit(p))
                .collect();
            let name = run
                .task
                .known
                .targets
                .first()
                .map_or("value", String::as_str);
            let axes = Axes {
                x: "row of the test part",
                y: name,
                logarithmic: false,
            };
            chart("Truth and forecast", axes, ["truth", "forecast"], &some).map_err(failed)
        }
        _ => {
            let axes = Axes {
                x: "sample",
                y: "amplitude",
                logarithmic: false,
            };
            let names = ["processed", "network"];
            chart(
                "Waveforms, where they are loudest",
                axes,
                names,
                loudest(&sounds),
            )
            .map_err(failed)
        }
    }
}

fn chart(title: &str, axes: Axes, names: [&str; 2], pairs: &[(f64, f64)]) -> Drawn {
    let line = |name: &str, value: fn(&(f64, f64)) -> f64| Line {
        name: name.into(),
        points: pairs
            .iter()
            .enumerate()
            .map(|(t, pair)| (t as f64, value(pair)))
            .collect(),
    };
    let all = [line(names[0], |pair| pair.0), line(names[1], |pair| pair.1)];
    Ok(format!("<h2>{title}</h2>\n{}\n", lines(axes, &all)?))
}

/// As many samples as a chart shows, where the target is loudest.
fn loudest(sounds: &[Vec<(f64, f64)>]) -> &[(f64, f64)] {
    let energy = |some: &[(f64, f64)]| some.iter().map(|pair| pair.0 * pair.0).sum::<f64>();
    let some = sounds
        .iter()
        .flat_map(|sound| sound.chunks(MOST))
        .max_by(|a, b| energy(a).total_cmp(&energy(b)));
    some.unwrap_or(&[])
}

/// The first target's unit: what its standardised values are times, and plus.
fn unit_of_first(run: &Run) -> (f64, f64) {
    let Scores::Numbers { scale, .. } = &run.task.scores else {
        return (1.0, 0.0);
    };
    let first = |values: &[f32]| values.first().map_or(0.0, |&v| f64::from(v));
    (first(scale), first(&run.task.y_mean))
}

/// The confusion matrix as a table; a cell is as dark as its share of the row.
fn matrix(classes: &[String], confusion: &[u64], width: usize) -> String {
    let mut text = "<h2>Confusion matrix</h2>\n<p>A row is what was right, a column what the network said.</p>\n<table class=\"matrix\">\n<tr><th>".to_owned();
    for class in classes {
        text.push_str(&format!("<th>{}", escaped(class)));
    }
    for (class, row) in classes.iter().zip(confusion.chunks(width.max(1))) {
        let total = row.iter().sum::<u64>().max(1) as f64;
        text.push_str(&format!("\n<tr><th>{}", escaped(class)));
        for &count in row {
            let share = count as f64 / total;
            let colour = if share > 0.55 { "#fff" } else { "#222" };
            text.push_str(&format!(
                "<td style=\"background:rgba(31,89,160,{share:.2});color:{colour}\">{count}"
            ));
        }
    }
    text.push_str("\n</table>\n");
    text
}
