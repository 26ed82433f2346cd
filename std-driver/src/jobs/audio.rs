//! Sounds before and after a device, sample by sample.

use super::{Known, Task, ends, network, refuse_empty};
use crate::Error;
use crate::chain::NamedStage;
use crate::dataset::{Aim, Frames, Scale, Sequences, Table};
use crate::recipe::{Audio, AudioLoss, Recipe};
use crate::trainer::{Loss, Scores};
use fused_lstm::{Returns, Stage};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

pub(super) fn open(
    recipe: &Recipe,
    data: &Audio,
    loss: &AudioLoss,
    known: Option<&Known>,
) -> Result<Task, Error> {
    let warm_up = recipe.training.warm_up;
    if warm_up >= data.segment {
        let expected = format!("fewer than the {} samples of data.segment", data.segment);
        return Err(Error::recipe("training.warm-up", expected, warm_up));
    }
    let (mut x, mut y) = (Vec::new(), Vec::new());
    let [mut training, mut validation, mut test] = [const { Vec::<Range<usize>>::new() }; 3];
    let mut sample_rate = known.and_then(|known| known.sample_rate).map(Some);
    let mut longest = 0;
    for (dry, processed) in data.dry.iter().zip(&data.processed) {
        let before = channel(dry, &data.dry_column)?;
        let after = channel(processed, &data.processed_column)?;
        let both = before.columns == after.columns && dry == processed;
        if both {
            let expected = "a sound of its own, or a table with a column for each side";
            return Err(Error::file(
                processed,
                format!("expected {expected}, got that of data.dry"),
            ));
        }
        if before.rows() != after.rows() {
            let (expected, got) = (before.rows(), after.rows());
            let problem = format!(
                "expected {expected} samples, as {} has, got {got}",
                dry.display()
            );
            return Err(Error::file(processed, problem));
        }
        for (table, path) in [(&before, dry), (&after, processed)] {
            let expected = *sample_rate.get_or_insert(table.sample_rate);
            if table.sample_rate != expected {
                let say = |rate: Option<u32>| rate.map_or("none".into(), |r| r.to_string());
                let (expected, got) = (say(expected), say(table.sample_rate));
                let problem =
                    format!("expected a sample rate of {expected}, as the others, got {got}");
                return Err(Error::file(path, problem));
            }
        }
        let start = x.len();
        let len = before.rows();
        longest = longest.max(len);
        x.extend(&before.values);
        y.extend(&after.values);
        let [train_end, validation_end] = ends(len, data.validation, data.test);
        let segments = (start..start + train_end).step_by(data.segment);
        let segments =
            segments.map(|at| at..at.saturating_add(data.segment).min(start + train_end));
        training.extend(segments.filter(|segment| segment.len() > warm_up));
        let parts = [
            (&mut validation, train_end..validation_end),
            (&mut test, validation_end..len),
        ];
        for (part, span) in parts {
            if span.len() > warm_up {
                part.push(start + span.start..start + span.end);
            }
        }
    }
    let first = &data.dry[0];
    if training.is_empty() {
        let problem = format!(
            "expected more than the {warm_up} samples of training.warm-up to train on, got {longest} in all"
        );
        return Err(Error::file(first, problem));
    }
    refuse_empty(
        first,
        "validation",
        data.validation,
        validation.len(),
        "samples beyond training.warm-up",
    )?;
    refuse_empty(
        first,
        "test",
        data.test,
        test.len(),
        "samples beyond training.warm-up",
    )?;
    let samples = x.len();
    let frames = Arc::new(Frames {
        inputs: 1,
        x,
        one_hot: false,
        aim: Aim::Numbers(1, y),
    });
    let mut stages = network(&recipe.model, 1, 1, Returns::Sequence);
    if data.skip {
        stages.push(NamedStage {
            name: "skip".into(),
            stage: Stage::Skip {
                first: 0,
                gain: 1.0,
            },
        });
    }
    let part = |spans: Vec<Range<usize>>, shuffle| Sequences {
        truncation: recipe.training.truncation,
        warm_up,
        shuffle,
        ..Sequences::new(frames.clone(), spans, recipe.training.batch)
    };
    // A part that is one sequence is taken in long blocks.
    let whole = |spans: Vec<Range<usize>>| Sequences {
        truncation: match recipe.training.truncation {
            0 => 0,
            steps => steps.max(1 << 14),
        },
        ..part(spans, None)
    };
    Ok(Task {
        inputs: 1,
        stages,
        loss: Loss::Audio(*loss),
        scores: Scores::sound(),
        summary: vec![format!(
            "{} sounds, {samples} samples; by time, {} segments to train on, the last parts of each to choose and to judge by",
            data.dry.len(),
            training.len()
        )],
        training: part(training, Some(recipe.seed)),
        validation: (!validation.is_empty()).then(|| whole(validation)),
        test: (!test.is_empty()).then(|| whole(test)),
        x_scale: Scale::default(),
        y_scale: Scale::default(),
        y_mean: Vec::new(),
        known: Known {
            sample_rate: sample_rate.flatten(),
            ..Known::default()
        },
        files: [&data.dry[..], &data.processed[..]].concat(),
        beside: Vec::new(),
    })
}

/// A sound: the one channel of a WAV file, or the column of a table.
fn channel(path: &Path, column: &str) -> Result<Table, Error> {
    let table = Table::open(path, &[], &[]);
    match table {
        // What has no column of the name has one column only.
        Ok(table) if table.sample_rate.is_some() || table.columns.len() == 1 => {
            if table.columns.len() != 1 {
                let got = table.columns.len();
                return Err(Error::file(
                    path,
                    format!("expected one channel, got {got}"),
                ));
            }
            Ok(table)
        }
        _ => Table::open(path, &[column.to_owned()], &[]),
    }
}
