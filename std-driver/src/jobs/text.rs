//! Texts: each character or byte is foretold from those before it.

use super::{Known, Task, check_warm_up, ends, network, refuse_empty};
use crate::Error;
use crate::chain::NamedStage;
use crate::dataset::{Aim, Frames, Scale, Sequences};
use crate::import::Source;
use crate::recipe::{Recipe, Text, TextLoss, Unit};
use crate::trainer::{Loss, Scores};
use fused_lstm::{Returns, Stage};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Units that a row has at the least where the network is chosen or judged by it.
const LEAST_ROW: usize = 2048;

pub(super) fn open(
    recipe: &Recipe,
    data: &Text,
    loss: &TextLoss,
    known: Option<&Known>,
) -> Result<Task, Error> {
    let source = Source::open(&data.file)?;
    let text = units(&data.file, data.unit, source.bytes())?;
    let alphabet = match known {
        Some(known) if !known.units.is_empty() => known.units.clone(),
        _ => {
            let mut alphabet = text.clone();
            alphabet.sort_unstable();
            alphabet.dedup();
            alphabet
        }
    };
    if alphabet.len() < 2 {
        let problem = format!(
            "expected a text of two different units or more, got {}",
            alphabet.len()
        );
        return Err(Error::file(&data.file, problem));
    }
    let ids = text.iter().enumerate().map(|(at, unit)| {
        alphabet
            .binary_search(unit)
            .map(|id| id as u32)
            .map_err(|_| {
                let line = text[..at]
                    .iter()
                    .filter(|&&unit| unit == u32::from(b'\n'))
                    .count()
                    + 1;
                let got = shown(data.unit, *unit);
                Error::file(
                    &data.file,
                    format!("line {line}: expected what the model knows, got {got}"),
                )
            })
    });
    let ids = ids.collect::<Result<Vec<u32>, _>>()?;
    // A step's aim is the unit behind it.
    let len = ids.len() - 1;
    let [train_end, validation_end] = ends(len, data.validation, data.test);
    let batch = recipe.training.batch;
    let truncation = recipe.training.truncation;
    check_warm_up(recipe, train_end / batch.max(1))?;
    if train_end < batch {
        let problem =
            format!("expected at least {batch} units to train on, a batch, got {train_end}");
        return Err(Error::file(&data.file, problem));
    }
    refuse_empty(
        &data.file,
        "validation",
        data.validation,
        validation_end - train_end,
        "units",
    )?;
    refuse_empty(&data.file, "test", data.test, len - validation_end, "units")?;
    let rows = |span: Range<usize>, rows: usize| -> Vec<Range<usize>> {
        let each = span.len() / rows;
        (0..rows)
            .map(|row| span.start + row * each..span.start + (row + 1) * each)
            .collect()
    };
    let one_hot = data.embedding == 0;
    let count = alphabet.len();
    let frames = Arc::new(Frames {
        inputs: if one_hot { count } else { 1 },
        x: ids[..len].iter().map(|&id| id as f32).collect(),
        one_hot,
        aim: Aim::Classes(ids[1..].to_vec()),
    });
    let inputs = frames.inputs;
    let part = |spans: Vec<Range<usize>>| Sequences {
        truncation,
        warm_up: recipe.training.warm_up,
        batch: spans.len().max(1),
        ..Sequences::new(frames.clone(), spans, batch)
    };
    let judge = |span: Range<usize>| {
        let many = (span.len() / LEAST_ROW).clamp(1, batch);
        let part = Sequences {
            truncation: 256,
            ..part(rows(span.clone(), many))
        };
        (!span.is_empty()).then_some(part)
    };
    let width = if one_hot { count } else { data.embedding };
    let mut stages = network(&recipe.model, width, count, Returns::Sequence);
    if !one_hot {
        let stage = Stage::Embedding { rows: count, width };
        stages.insert(
            0,
            NamedStage {
                name: "embedding".into(),
                stage,
            },
        );
    }
    Ok(Task {
        inputs,
        stages,
        loss: Loss::CrossEntropy {
            class_weights: None,
            smoothing: loss.label_smoothing,
        },
        scores: Scores::units(),
        summary: vec![format!(
            "{}: {} units, {count} different ones; by place, {train_end} to train on in {batch} rows, {} to choose by, {} to judge by",
            data.file.display(),
            ids.len(),
            validation_end - train_end,
            len - validation_end
        )],
        training: part(rows(0..train_end, batch)),
        validation: judge(train_end..validation_end),
        test: judge(validation_end..len),
        x_scale: Scale::default(),
        y_scale: Scale::default(),
        y_mean: Vec::new(),
        known: Known {
            units: alphabet,
            ..Known::default()
        },
        files: vec![data.file.clone()],
        beside: Vec::new(),
    })
}

/// The numbers of characters or bytes. Refuses an empty text, and one that is not UTF-8 if it should be.
pub(crate) fn units(path: &Path, unit: Unit, bytes: &[u8]) -> Result<Vec<u32>, Error> {
    let units: Vec<u32> = match unit {
        Unit::Byte => bytes.iter().map(|&byte| u32::from(byte)).collect(),
        Unit::Character => match std::str::from_utf8(bytes) {
            Ok(text) => text.chars().map(u32::from).collect(),
            Err(error) => {
                let at = error.valid_up_to();
                let line = bytes[..at].iter().filter(|&&b| b == b'\n').count() + 1;
                let got = bytes[at];
                let problem = format!(
                    "line {line}: expected UTF-8 (data.unit \"byte\" takes anything), got byte {got:#04x}"
                );
                return Err(Error::file(path, problem));
            }
        },
    };
    match units.len() {
        0 | 1 => {
            let problem = format!("expected a text of two units or more, got {}", units.len());
            Err(Error::file(path, problem))
        }
        _ => Ok(units),
    }
}

/// A unit for people.
fn shown(unit: Unit, value: u32) -> String {
    match unit {
        Unit::Byte => format!("byte {value:#04x}"),
        Unit::Character => char::from_u32(value).map_or("?".into(), |c| format!("{c:?}")),
    }
}

/// Units as text; bytes that are no UTF-8 become the replacement character.
pub(crate) fn text_of(unit: Unit, units: &[u32]) -> String {
    match unit {
        Unit::Character => units.iter().filter_map(|&u| char::from_u32(u)).collect(),
        Unit::Byte => {
            let bytes: Vec<u8> = units.iter().map(|&u| u as u8).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }
}
