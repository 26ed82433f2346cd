//! Which modules are layers of the model, and the order in which they run.

use super::modules::{Content, Unit, shown};
use super::order::{Orders, Widths, follows, orders};
use super::state::listed;
use crate::Error;
use crate::import::{Kind, Source};

/// Keeps the modules that are named, in that order; whether that is an order that was given.
pub(super) fn choose(
    source: &Source,
    units: &mut Vec<Unit>,
    part: &str,
    ordered: bool,
    notes: &mut Vec<String>,
) -> Result<bool, Error> {
    let names: Vec<&str> = part.split(',').map(str::trim).collect();
    let mut kept = Vec::new();
    for name in &names {
        let inside = |unit: &mut Unit| {
            let rest = unit.path.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let before = kept.len();
        kept.extend(units.extract_if(.., inside));
        if let Some(own) = kept.get_mut(before..).filter(|_| !ordered) {
            own.sort_by_cached_key(|unit| natural(&unit.path));
        }
        if kept.len() == before {
            kept.extend(layer(units, name));
        }
        if kept.len() == before {
            let known: Vec<String> = units
                .iter()
                .map(|unit| shown(&unit.path, "weight"))
                .collect();
            return Err(source.problem(format!(
                "expected the part to be some of {}, got {name}",
                listed(&known)
            )));
        }
    }
    if !units.is_empty() {
        let left: Vec<String> = units
            .iter()
            .map(|unit| shown(&unit.path, "weight"))
            .collect();
        notes.push(format!("Not of the part, and left out: {}.", listed(&left)));
    }
    *units = kept;
    Ok(names.len() > 1)
}

/// A name in pieces that end in a number, for an order in which 2 comes before 10.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut pieces = Vec::new();
    let (mut text, mut number) = (String::new(), None::<u64>);
    for c in name.chars() {
        match (c.to_digit(10), number) {
            (Some(digit), before) => {
                let before = before.unwrap_or(0).saturating_mul(10);
                number = Some(before.saturating_add(digit.into()));
            }
            (None, Some(before)) => {
                pieces.push((std::mem::take(&mut text), before));
                number = None;
                text.push(c);
            }
            (None, None) => text.push(c),
        }
    }
    pieces.push((text, number.unwrap_or(0)));
    pieces
}

/// The layer of that name, taken out of its module.
fn layer(units: &mut Vec<Unit>, name: &str) -> Option<Unit> {
    let is = |unit: &Unit| match &unit.content {
        Content::Known { layers, .. } | Content::Other(layers) => {
            layers.iter().position(|layer| layer.name == name)
        }
        Content::Between(layer) => (layer.name == name).then_some(0),
        Content::Matrix { .. } => (shown(&unit.path, "weight") == name).then_some(0),
    };
    let (k, at) = units
        .iter()
        .enumerate()
        .find_map(|(k, unit)| Some((k, is(unit)?)))?;
    let unit = units.get_mut(k)?;
    if let Content::Known { layers, .. } = &mut unit.content
        && layers.len() > 1
        && let Some(Kind::Lstm(lstm)) = layers.get(at).map(|layer| &layer.kind)
    {
        let stage = lstm.stage();
        let inputs = stage.layer.inputs;
        let outputs = stage.outputs().saturating_mul(stage.direction.count());
        return Some(Unit {
            path: name.to_owned(),
            content: Content::Known {
                layers: vec![layers.remove(at)],
                inputs,
                outputs,
            },
        });
    }
    Some(units.remove(k))
}

/// Brings the modules into the order in which they run, as far as that can be known, and gives the
/// one that is a table.
pub(super) fn arrange(
    source: &Source,
    units: &mut Vec<Unit>,
    ordered: bool,
    given: bool,
    notes: &mut Vec<String>,
) -> Result<Option<usize>, Error> {
    let widths: Vec<Option<Widths>> = units.iter().map(widths).collect();
    let known: Vec<usize> = (0..units.len()).filter(|&k| widths[k].is_some()).collect();
    let each: Vec<Widths> = widths.into_iter().flatten().collect();
    let alone = known.len() == units.len();
    let names = |order: &[usize]| -> String {
        let each = order.iter().map(|&k| shown(&each[k].name, "weight"));
        listed(&each.collect::<Vec<_>>())
    };
    let paths: Vec<String> = units
        .iter()
        .map(|unit| shown(&unit.path, "weight"))
        .collect();
    let all: Vec<usize> = (0..each.len()).collect();
    let follow = follows(&each);
    let mut order = all.clone();
    if given {
        // As the caller says.
    } else if ordered && (follow.is_some() || !alone) {
        if units.len() > 1 {
            let text = "The layers are assumed to run in the order in which the file has them";
            notes.push(format!("{text}: {}.", listed(&paths)));
        }
    } else if each.len() > 1 {
        match orders(&each) {
            Orders::One(found) => {
                let why = if ordered {
                    "The layers do not follow on each other as the file has them"
                } else {
                    "The file has its names in the order of the alphabet"
                };
                let text = "by their widths, the layers run in the order";
                notes.push(format!("{why}; {text} {}.", names(&found)));
                order = found;
            }
            Orders::Several if !ordered => {
                return Err(source.problem(format!(
                    "expected one order in which the widths of the layers fit, got several of {}: \
                    name them by --part, in the order in which they run, with commas between",
                    names(&order)
                )));
            }
            _ => notes.push(format!(
                "The order in which the layers run is not known: the file has {}, and their widths \
                do not tell it.",
                names(&order)
            )),
        }
    }
    let follow = follows(order.iter().map(|&k| &each[k]));
    // Into the places of those whose widths are known; the others stay where they are.
    if order != all {
        let mut taken: Vec<Option<Unit>> = std::mem::take(units).into_iter().map(Some).collect();
        let mut sources: Vec<usize> = (0..taken.len()).collect();
        for (&to, &from) in known.iter().zip(&order) {
            sources[to] = known[from];
        }
        units.extend(sources.into_iter().filter_map(|from| taken[from].take()));
    }
    let first = known.first().copied();
    let table = match follow {
        Some(table) => first.filter(|_| table),
        // Without a row of layers that fit, the table is the one before an LSTM of its width.
        None => first.filter(|_| {
            let widths = order.iter().map(|&k| &each[k]);
            let mut dense = widths.clone().skip(1).filter(|unit| unit.table.is_none());
            let next = dense.next().and_then(|unit| unit.dense);
            let table = widths.clone().next().and_then(|unit| unit.table);
            table.is_some() && table == next.map(|[inputs, _]| inputs)
        }),
    };
    if let Some(unit) = first.and_then(|k| units.get(k))
        && let Content::Matrix { table: None, .. } = unit.content
    {
        let name = shown(&unit.path, "weight");
        notes.push(match table {
            Some(_) => format!(
                "{name} has as many columns as the next layer has inputs and no bias: it is taken \
                for an embedding, not for a dense layer."
            ),
            None => {
                format!("{name} is taken for a dense layer without a bias, not for an embedding.")
            }
        });
    }
    Ok(table)
}

fn widths(unit: &Unit) -> Option<Widths> {
    let (dense, table) = match unit.content {
        Content::Known {
            inputs, outputs, ..
        } => (Some([inputs, outputs]), None),
        Content::Matrix {
            rows,
            columns,
            table,
            ..
        } => (
            (table != Some(true)).then_some([columns, rows]),
            (table != Some(false)).then_some(columns),
        ),
        Content::Between(_) | Content::Other(_) => return None,
    };
    Some(Widths {
        name: unit.path.clone(),
        dense,
        table,
    })
}
