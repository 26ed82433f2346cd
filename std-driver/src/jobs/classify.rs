//! Classes of recordings: a folder of tables with labels, or one file of sequences.

use super::{Known, Task, check_warm_up, network, refuse_empty};
use crate::Error;
use crate::dataset::{Aim, Frames, Scale, Sequences, Table, shuffled, texts};
use crate::recipe::{ClassWeights, Classify, ClassifyLoss, Recipe};
use crate::tensors::TensorFile;
use crate::trainer::{Loss, Scores};
use fused_lstm::Returns;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Recordings, one after the other.
#[derive(Default)]
struct Recordings {
    columns: Vec<String>,
    /// `[N, I]`
    x: Vec<f32>,
    /// Of each step.
    labels: Vec<String>,
    /// Whether they are those of the steps, and not of the recordings.
    per_step: bool,
    spans: Vec<Range<usize>>,
    /// What each belongs to.
    groups: Vec<String>,
    /// Their names, for errors.
    names: Vec<String>,
    /// The files that were read.
    files: Vec<PathBuf>,
}

pub(super) fn open(
    recipe: &Recipe,
    data: &Classify,
    loss: &ClassifyLoss,
    known: Option<&Known>,
) -> Result<Task, Error> {
    let source = &data.source;
    let all = match source.is_dir() {
        true => folder(data, known.map_or(&[], |known| &known.columns))?,
        false => tensors(data)?,
    };
    if let Some(known) = known.filter(|known| !known.columns.is_empty())
        && known.columns != all.columns
    {
        let (expected, got) = (known.columns.join(", "), all.columns.join(", "));
        let problem = format!("expected the columns {expected}, as the model has, got {got}");
        return Err(Error::file(source, problem));
    }
    let per_step = all.per_step;
    if per_step && data.mean {
        return Err(Error::recipe(
            "data.mean",
            "false where each step has a label",
            true,
        ));
    }
    let longest = all
        .spans
        .iter()
        .map(ExactSizeIterator::len)
        .max()
        .unwrap_or(0);
    if per_step {
        check_warm_up(recipe, longest)?;
    } else if recipe.training.warm_up != 0 {
        let got = recipe.training.warm_up;
        return Err(Error::recipe(
            "training.warm-up",
            "0 where a sequence has one label",
            got,
        ));
    }
    if !per_step && recipe.training.truncation != 0 {
        let expected = "0 where a sequence has one label";
        let got = recipe.training.truncation;
        return Err(Error::recipe("training.truncation", expected, got));
    }
    let classes = match known {
        Some(known) if !known.classes.is_empty() => known.classes.clone(),
        _ => classes(&all.labels),
    };
    if classes.len() < 2 {
        let got = classes
            .first()
            .map_or("none".into(), |class| format!("only {class}"));
        let problem = format!(
            "column {}: expected two classes or more, got {got}",
            data.label_column
        );
        return Err(Error::file(source, problem));
    }
    let numbers: HashMap<&str, u32> = (0..).zip(&classes).map(|(n, c)| (c.as_str(), n)).collect();
    let label = |text: &String| {
        numbers.get(text.as_str()).copied().ok_or_else(|| {
            let got = format!("a label among {}, got {text}", classes.join(", "));
            Error::file(
                source,
                format!("column {}: expected {got}", data.label_column),
            )
        })
    };
    let labels = all
        .labels
        .iter()
        .map(label)
        .collect::<Result<Vec<u32>, _>>()?;

    let parts = split(recipe.seed, data, &all)?;
    let cut = |recordings: &[usize], stride: usize| -> Result<Vec<Range<usize>>, Error> {
        let mut spans = Vec::new();
        for &recording in recordings {
            let span = all.spans[recording].clone();
            if data.window == 0 {
                spans.push(span);
                continue;
            }
            if span.len() < data.window {
                let (name, got) = (&all.names[recording], span.len());
                let problem = format!(
                    "{name}: expected at least the {} steps of data.window, got {got}",
                    data.window
                );
                return Err(Error::file(source, problem));
            }
            let starts = (span.start..=span.end - data.window).step_by(stride.max(1));
            spans.extend(starts.map(|start| start..start + data.window));
        }
        Ok(spans)
    };
    let stride = if data.stride == 0 {
        data.window
    } else {
        data.stride
    };
    let [training, validation, test] = &parts;
    let spans = [
        cut(training, stride)?,
        cut(validation, data.window)?,
        cut(test, data.window)?,
    ];
    let [_, validation, test] = spans.each_ref().map(Vec::len);
    refuse_empty(
        source,
        "validation",
        data.validation,
        validation,
        "sequences",
    )?;
    refuse_empty(source, "test", data.test, test, "sequences")?;
    if spans[0].is_empty() {
        return Err(Error::file(
            source,
            "expected sequences to train on, got none",
        ));
    }

    let inputs = all.columns.len();
    let mut x = all.x;
    let x_scale = match known {
        Some(_) => Scale::identity(inputs),
        None => {
            let own = training.iter().flat_map(|&r| all.spans[r].clone());
            let rows: Vec<f32> = own
                .flat_map(|at| &x[at * inputs..][..inputs])
                .copied()
                .collect();
            Scale::of(inputs, &rows)
        }
    };
    x_scale.apply(&mut x);
    let class_weights = match loss.class_weights {
        ClassWeights::Equal => None,
        ClassWeights::Balanced => Some(balanced(&labels, &spans[0], per_step, classes.len())),
    };
    let frames = Arc::new(Frames {
        inputs,
        x,
        one_hot: false,
        aim: Aim::Classes(labels),
    });
    let returns = match (per_step, data.mean) {
        (true, _) => Returns::Sequence,
        (false, true) => Returns::Mean,
        (false, false) => Returns::Last,
    };
    let counts = spans.each_ref().map(Vec::len);
    let part = |spans: &Vec<Range<usize>>, shuffle| Sequences {
        truncation: recipe.training.truncation,
        warm_up: recipe.training.warm_up,
        one_output: !per_step,
        shuffle,
        ..Sequences::new(frames.clone(), spans.clone(), recipe.training.batch)
    };
    let optional = |spans: &Vec<Range<usize>>| (!spans.is_empty()).then(|| part(spans, None));
    let by = match data.group_column.is_empty() {
        true => "sequence".to_owned(),
        false => data.group_column.clone(),
    };
    Ok(Task {
        inputs,
        stages: network(&recipe.model, inputs, classes.len(), returns),
        loss: Loss::CrossEntropy {
            class_weights,
            smoothing: loss.label_smoothing,
        },
        scores: Scores::classes(classes.len()),
        summary: vec![format!(
            "{}: {} recordings of {} in {} classes; by {by}, seed {}, {} sequences to train on, {} to choose by, {} to judge by",
            source.display(),
            all.spans.len(),
            all.columns.join(", "),
            classes.len(),
            recipe.seed,
            counts[0],
            counts[1],
            counts[2]
        )],
        training: part(&spans[0], Some(recipe.seed)),
        validation: optional(&spans[1]),
        test: optional(&spans[2]),
        x_scale,
        y_scale: Scale::default(),
        y_mean: Vec::new(),
        known: Known {
            columns: all.columns,
            classes,
            ..Known::default()
        },
        files: all.files,
        beside: Vec::new(),
    })
}

/// The labels that there are, by number if they are numbers.
fn classes(labels: &[String]) -> Vec<String> {
    let mut classes: Vec<String> = labels.to_vec();
    classes.sort_unstable();
    classes.dedup();
    if classes.iter().all(|class| class.parse::<i64>().is_ok()) {
        classes.sort_by_key(|class| class.parse::<i64>().unwrap_or(0));
    }
    classes
}

/// One over the share of each class among the labels that count, divided by their number.
fn balanced(labels: &[u32], spans: &[Range<usize>], per_step: bool, classes: usize) -> Vec<f32> {
    let mut counts = vec![0u64; classes];
    for span in spans {
        match per_step {
            true => span.clone().for_each(|at| counts[labels[at] as usize] += 1),
            false => counts[labels[span.end - 1] as usize] += 1,
        }
    }
    let total = counts.iter().sum::<u64>() as f32;
    // A class that does not occur has nothing to be balanced.
    let weight = |count: u64| match count {
        0 => 1.0,
        _ => total / (classes as f32 * count as f32),
    };
    counts.into_iter().map(weight).collect()
}

/// The recordings of the three parts. Whole groups go to the test until it has its part, and then to the
/// validation, in an order that the seed gives.
fn split(seed: u64, data: &Classify, all: &Recordings) -> Result<[Vec<usize>; 3], Error> {
    let mut groups: Vec<&str> = all.groups.iter().map(String::as_str).collect();
    groups.sort_unstable();
    groups.dedup();
    let named = [
        ("data.validation-groups", &data.validation_groups),
        ("data.test-groups", &data.test_groups),
    ];
    for (key, names) in named {
        if let Some(missing) = names.iter().find(|g| !groups.contains(&g.as_str())) {
            let (column, groups) = (&data.group_column, groups.join(", "));
            return Err(Error::recipe(
                key,
                format!("groups of column {column}, {groups}"),
                missing,
            ));
        }
    }
    if let Some(both) = data
        .test_groups
        .iter()
        .find(|g| data.validation_groups.contains(g))
    {
        let expected = "groups that are not the validation's";
        return Err(Error::recipe("data.test-groups", expected, both));
    }
    let of = |at: usize| {
        let group = groups[at];
        (0..all.groups.len()).filter(move |&r| all.groups[r] == group)
    };
    let total = all.groups.len() as f64;
    let [mut training, mut validation, mut test] = [const { Vec::new() }; 3];
    // No epoch has this number: the split is not the order of one.
    for at in shuffled(groups.len(), seed, u64::MAX) {
        // Named groups are where they are named; where none are, others come until a part is full.
        let is_in = |names: &[String]| names.iter().any(|name| name == groups[at]);
        let (in_test, in_validation) = (is_in(&data.test_groups), is_in(&data.validation_groups));
        let wanted = |names: &[String], part: f64, len: usize| {
            names.is_empty() && (len as f64) < (total * part).floor()
        };
        let drawn = !in_test && !in_validation;
        if in_test || drawn && wanted(&data.test_groups, data.test, test.len()) {
            test.extend(of(at));
        } else if in_validation
            || drawn && wanted(&data.validation_groups, data.validation, validation.len())
        {
            validation.extend(of(at));
        } else {
            training.extend(of(at));
        }
    }
    training.sort_unstable();
    validation.sort_unstable();
    test.sort_unstable();
    Ok([training, validation, test])
}

/// A folder of tables; `known` are the columns of a model that is known.
fn folder(data: &Classify, known: &[String]) -> Result<Recordings, Error> {
    let inputs = match data.inputs.is_empty() {
        true => known,
        false => &data.inputs,
    };
    let list = data.source.join(&data.labels);
    let (columns, rows) = texts(&list)?;
    let column = |name: &str| columns.iter().position(|column| column == name);
    let needed = |name: &str| {
        column(name).ok_or_else(|| {
            let got = columns.join(", ");
            Error::file(&list, format!("expected a column {name}, got {got}"))
        })
    };
    let file = needed(&data.file_column)?;
    let label = column(&data.label_column);
    let group = match data.group_column.is_empty() {
        true => None,
        false => Some(needed(&data.group_column)?),
    };
    let mut all = Recordings {
        per_step: label.is_none(),
        ..Recordings::default()
    };
    let but = [data.label_column.clone()];
    for row in &rows {
        let name = &row[file];
        let path = data.source.join(name);
        let table = Table::open(&path, inputs, &but)?;
        if all.columns.is_empty() {
            all.columns = table.columns.clone();
        } else if all.columns != table.columns {
            let (expected, got) = (all.columns.join(", "), table.columns.join(", "));
            let problem =
                format!("expected the columns {expected}, as the first file has, got {got}");
            return Err(Error::file(&path, problem));
        }
        let start = all.labels.len();
        match label {
            Some(label) => all.labels.resize(start + table.rows(), row[label].clone()),
            None => all.labels.extend(step_labels(&path, &data.label_column)?),
        }
        if all.labels.len() - start != table.rows() {
            let (expected, got) = (table.rows(), all.labels.len() - start);
            let problem = format!("expected a label for each of {expected} rows, got {got}");
            return Err(Error::file(&path, problem));
        }
        if table.rows() == 0 {
            return Err(Error::file(&path, "expected at least one row, got none"));
        }
        all.x.extend(&table.values);
        all.spans.push(start..all.labels.len());
        all.groups
            .push(group.map_or_else(|| name.clone(), |group| row[group].clone()));
        all.names.push(name.clone());
        all.files.push(path);
    }
    all.files.push(list.clone());
    if all.spans.is_empty() {
        return Err(Error::file(
            &list,
            "expected at least one recording, got none",
        ));
    }
    Ok(all)
}

fn step_labels(path: &Path, name: &str) -> Result<Vec<String>, Error> {
    let (columns, rows) = texts(path)?;
    match columns.iter().position(|column| column == name) {
        Some(at) => Ok(rows
            .into_iter()
            .map(|mut row| row.swap_remove(at))
            .collect()),
        None => {
            let got = columns.join(", ");
            Err(Error::file(
                path,
                format!("expected a column {name}, got {got}"),
            ))
        }
    }
}

/// One file of sequences.
fn tensors(data: &Classify) -> Result<Recordings, Error> {
    let file = TensorFile::open(&data.source)?;
    let (shape, x) = file.f32("x")?;
    let &[count, steps, inputs] = &shape[..] else {
        return Err(file.problem(format!("key x: expected shape [N, T, I], got {shape:?}")));
    };
    let (label_shape, labels) = file.i32_values("labels")?;
    let per_step = match *label_shape {
        [n] if n == count => false,
        [n, t] if n == count && t == steps => true,
        _ => {
            let expected = format!("[{count}] or [{count}, {steps}]");
            let problem = format!("key labels: expected shape {expected}, got {label_shape:?}");
            return Err(file.problem(problem));
        }
    };
    let labels: Vec<i32> = labels.iter().collect();
    let lengths: Vec<usize> = match file.has("lengths") {
        false => vec![steps; count],
        true => {
            let (shape, lengths) = file.i32_values("lengths")?;
            if *shape != [count] {
                let problem = format!("key lengths: expected shape [{count}], got {shape:?}");
                return Err(file.problem(problem));
            }
            let each = lengths.iter().enumerate().map(|(row, length)| {
                let length = usize::try_from(length).ok();
                length
                    .filter(|length| (1..=steps).contains(length))
                    .ok_or_else(|| {
                        file.problem(format!(
                            "key lengths: expected 1 to {steps} at {row}, got another number"
                        ))
                    })
            });
            each.collect::<Result<_, _>>()?
        }
    };
    let mut all = Recordings {
        columns: (0..inputs).map(|c| c.to_string()).collect(),
        per_step,
        ..Recordings::default()
    };
    for (row, &length) in lengths.iter().enumerate() {
        let start = all.labels.len();
        all.x.extend(&x[row * steps * inputs..][..length * inputs]);
        let own = (0..length).map(|t| {
            if per_step {
                labels[row * steps + t]
            } else {
                labels[row]
            }
        });
        all.labels.extend(own.map(|label| label.to_string()));
        all.spans.push(start..start + length);
        all.groups.push(format!("{row:09}"));
        all.names.push(format!("sequence {row}"));
    }
    all.files.push(data.source.clone());
    if all.spans.is_empty() || inputs == 0 || steps == 0 {
        return Err(file.problem(format!(
            "key x: expected at least one of each, got {shape:?}"
        )));
    }
    Ok(all)
}
