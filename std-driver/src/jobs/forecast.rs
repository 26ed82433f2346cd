//! Forecasts: windows of a series, and the values some rows behind their end.

use super::{Known, Task, ends, network, refuse_empty};
use crate::Error;
use crate::chain::NamedStage;
use crate::dataset::{Aim, Frames, Scale, Sequences, Table};
use crate::recipe::{Forecast, ForecastLoss, Recipe};
use crate::trainer::{Loss, Scores};
use fused_lstm::{Returns, Stage};
use std::ops::Range;
use std::sync::Arc;

pub(super) fn open(
    recipe: &Recipe,
    data: &Forecast,
    loss: &ForecastLoss,
    known: Option<&Known>,
) -> Result<Task, Error> {
    if recipe.training.warm_up != 0 || recipe.training.truncation != 0 {
        let got = format!(
            "{} and {}",
            recipe.training.warm_up, recipe.training.truncation
        );
        let expected = "0 and 0, as a forecast counts at the end of its window";
        let keys = "training.warm-up and training.truncation";
        return Err(Error::recipe(keys, expected, got));
    }
    let own = match known {
        Some(known) if data.inputs.is_empty() => &known.columns,
        _ => &data.inputs,
    };
    let mut wanted = own.clone();
    if !wanted.is_empty() {
        let more = data.targets.iter().filter(|target| !own.contains(target));
        wanted.extend(more.cloned());
    }
    let table = Table::open(&data.file, &wanted, &[])?;
    let inputs = match own.is_empty() {
        true => table.columns.clone(),
        false => own.clone(),
    };
    let targets = match data.targets.is_empty() {
        true => inputs.clone(),
        false => data.targets.clone(),
    };
    let place = |name: &String| table.columns.iter().position(|column| column == name);
    let places = |names: &[String]| -> Result<Vec<usize>, Error> {
        let each = names.iter().map(|name| {
            place(name).ok_or_else(|| {
                let got = table.columns.join(", ");
                Error::file(&data.file, format!("expected a column {name}, got {got}"))
            })
        });
        each.collect()
    };
    let (from, to) = (places(&inputs)?, places(&targets)?);
    let columns = table.columns.len();
    let take = |places: &[usize]| -> Vec<f32> {
        let rows = table.values.chunks_exact(columns.max(1));
        rows.flat_map(|row| places.iter().map(move |&c| row[c]))
            .collect()
    };
    let (mut x, raw) = (take(&from), take(&to));
    let rows = table.rows();
    let [train_end, validation_end] = ends(rows, data.validation, data.test);

    // Windows by the rows that they foretell.
    let reach = data.window.saturating_add(data.horizon);
    let windows = |targets: Range<usize>, stride: usize| -> Vec<Range<usize>> {
        let starts =
            targets.start.max(reach - 1) + 1 - reach..(targets.end + 1).saturating_sub(reach);
        starts
            .step_by(stride)
            .map(|start| start..start + data.window)
            .collect()
    };
    let training = windows(0..train_end, data.stride);
    if training.is_empty() {
        let problem = format!(
            "expected at least {reach} rows to train on, of a window of {} and a horizon of {}, got {train_end} of {rows}",
            data.window, data.horizon
        );
        return Err(Error::file(&data.file, problem));
    }
    let validation = windows(train_end..validation_end, 1);
    let test = windows(validation_end..rows, 1);
    refuse_empty(
        &data.file,
        "validation",
        data.validation,
        validation.len(),
        "rows",
    )?;
    refuse_empty(&data.file, "test", data.test, test.len(), "rows")?;

    let first = skipped(data, &from, &to)?;
    // A model that is known takes numbers as they are.
    let (x_scale, y_scale) = match known {
        Some(_) => (Scale::identity(from.len()), Scale::identity(to.len())),
        None => (
            Scale::of(from.len(), &x[..train_end * from.len()]),
            Scale::of(to.len(), &raw[..train_end * to.len()]),
        ),
    };
    x_scale.apply(&mut x);
    // What belongs to a row is `horizon` rows behind it.
    let width = to.len();
    let mut y = raw[(data.horizon * width).min(raw.len())..].to_vec();
    y_scale.apply(&mut y);
    y.resize(raw.len(), 0.0);

    let frames = Arc::new(Frames {
        inputs: from.len(),
        x,
        one_hot: false,
        aim: Aim::Numbers(width, y),
    });
    let part = |spans: Vec<Range<usize>>, shuffle| Sequences {
        warm_up: data.window - 1,
        shuffle,
        ..Sequences::new(frames.clone(), spans, recipe.training.batch)
    };
    let mut stages = network(&recipe.model, from.len(), width, Returns::Sequence);
    stages.extend(first.map(|first| NamedStage {
        name: "change".into(),
        stage: Stage::Skip { first, gain: 1.0 },
    }));
    let naive = naive(&raw, width, data, &test);
    let own_scale = Scale {
        // The mean is in the input that is added.
        mean: match first {
            Some(_) => vec![0.0; width],
            None => y_scale.mean.clone(),
        },
        deviation: y_scale.deviation.clone(),
    };
    Ok(Task {
        inputs: from.len(),
        stages,
        loss: match *loss {
            ForecastLoss::Mse {} => Loss::SquaredError,
            ForecastLoss::Huber { delta } => Loss::Huber { delta },
        },
        scores: Scores::numbers(y_scale.deviation.clone()),
        summary: vec![format!(
            "{}: {rows} rows of {}, {} ahead by windows of {}; by time, {} windows to train on, {} to choose by, {} to judge by",
            data.file.display(),
            inputs.join(", "),
            data.horizon,
            data.window,
            training.len(),
            validation.len(),
            test.len()
        )],
        training: part(training, Some(recipe.seed)),
        validation: (!validation.is_empty()).then(|| part(validation, None)),
        test: (!test.is_empty()).then(|| part(test, None)),
        x_scale,
        y_scale: own_scale,
        y_mean: y_scale.mean,
        known: Known {
            columns: inputs,
            targets,
            ..Known::default()
        },
        files: vec![data.file.clone()],
        beside: naive,
    })
}

/// The first input that is added to the outputs, if it is the change that is learnt.
fn skipped(data: &Forecast, from: &[usize], to: &[usize]) -> Result<Option<usize>, Error> {
    if !data.change {
        return Ok(None);
    }
    let first = from.windows(to.len()).position(|some| some == to);
    match first {
        Some(first) => Ok(Some(first)),
        None => {
            let expected = "targets that stand side by side among the inputs, for data.change";
            Err(Error::recipe(
                "data.targets",
                expected,
                data.targets.join(", "),
            ))
        }
    }
}

/// The scores of a forecast that is the last value of the window.
fn naive(
    raw: &[f32],
    width: usize,
    data: &Forecast,
    spans: &[Range<usize>],
) -> Vec<(&'static str, f64)> {
    let (mut square, mut magnitude, mut count) = (0.0, 0.0, 0u64);
    for span in spans {
        for c in 0..width {
            let at = (span.end - 1) * width + c;
            let error = f64::from(raw[at + data.horizon * width] - raw[at]);
            square += error * error;
            magnitude += error.abs();
            count += 1;
        }
    }
    let count = count.max(1) as f64;
    vec![
        ("naive RMSE", (square / count).sqrt()),
        ("naive MAE", magnitude / count),
    ]
}
