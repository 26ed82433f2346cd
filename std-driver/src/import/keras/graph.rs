//! The order of a model's layers: that of a Sequential, and that of a Functional model whose layers
//! follow one another.

use super::config::{Entry, Wrong};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

const MOST_INPUTS: usize = 64;

/// A layer, and what stands before it where it does not read the layer before it alone.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) entry: Entry,
    pub(crate) before: Option<String>,
}

/// A Sequential's.
pub(super) fn chain(entries: Vec<Entry>) -> Vec<Node> {
    let nodes = entries.into_iter().map(|entry| Node {
        entry,
        before: None,
    });
    nodes.collect()
}

fn unknown<'a>(part: &str, names: impl Iterator<Item = &'a str>) -> Wrong {
    let names: Vec<&str> = names.collect();
    format!(
        "expected one of the layers {}, got {part}",
        names.join(", ")
    )
}

/// A Functional model's: `entries` with their JSON, and where each name is.
pub(super) fn graph(
    entries: Vec<(Entry, &Value)>,
    names: &HashMap<String, usize>,
    model: &Entry,
    part: Option<&str>,
) -> Result<Vec<Node>, Wrong> {
    let mut reads: Vec<Vec<usize>> = Vec::new();
    let mut others: HashSet<usize> = HashSet::new();
    let mut calls = Vec::new();
    for (entry, value) in &entries {
        let inbound = value.get("inbound_nodes").unwrap_or(&Value::Null);
        let mut found = Vec::new();
        references(inbound, &mut found);
        let mut all = Vec::new();
        for (name, output) in found {
            let index = names.get(name).copied();
            let index =
                index.ok_or_else(|| format!("{} reads {name}, which is no layer", entry.name))?;
            if output != 0 {
                others.insert(index);
            }
            if !all.contains(&index) {
                all.push(index);
            }
            if all.len() > MOST_INPUTS {
                let name = &entry.name;
                return Err(format!(
                    "layer {name}: expected at most {MOST_INPUTS} inputs"
                ));
            }
        }
        reads.push(all);
        calls.push(inbound.as_array().map_or(0, Vec::len));
    }
    let end = match part {
        Some(part) => {
            let every = entries.iter().map(|(entry, _)| entry.name.as_str());
            Some(*names.get(part).ok_or_else(|| unknown(part, every))?)
        }
        None => output(model, names)?,
    };
    let wanted = ancestors(&reads, end);
    let order = in_order(&reads, &wanted).ok_or_else(|| {
        let names = entries.iter().map(|(entry, _)| &entry.name).zip(&calls);
        let often = names.filter(|(_, calls)| **calls > 1);
        let often: Vec<String> = often
            .map(|(name, calls)| format!("{name} is called {calls} times"))
            .collect();
        match often.is_empty() {
            true => "expected layers in an order, got a circle".to_owned(),
            false => format!("expected layers in an order, got {}", often.join(", ")),
        }
    })?;
    let name = |index: usize| {
        entries
            .get(index)
            .map_or("", |(entry, _)| entry.name.as_str())
    };
    let mut nodes = Vec::new();
    let mut last = None;
    for index in order {
        let Some((entry, _)) = entries.get(index) else {
            continue;
        };
        let inputs = reads.get(index).map_or(&[][..], |inputs| inputs);
        let inputs: Vec<usize> = inputs.to_vec();
        let before = match (last, &inputs[..]) {
            (None, []) => None,
            (Some(last), [one]) if last == *one => None,
            (_, []) => Some("a second input of the model".to_owned()),
            (_, inputs) => {
                let inputs: Vec<&str> = inputs.iter().map(|&index| name(index)).collect();
                Some(format!("reads {}", inputs.join(" and ")))
            }
        };
        let mut entry = entry.clone();
        entry.reads = inputs.iter().map(|&index| name(index).to_owned()).collect();
        entry.calls = calls.get(index).copied().unwrap_or(0).max(1);
        entry.many_outputs = others.contains(&index);
        nodes.push(Node { entry, before });
        last = Some(index);
    }
    Ok(nodes)
}

/// The layer of the output, if the model says which.
fn output(model: &Entry, names: &HashMap<String, usize>) -> Result<Option<usize>, Wrong> {
    let mut found = Vec::new();
    if let Some(outputs) = model.settings.get("output_layers") {
        references(outputs, &mut found);
    }
    let mut outputs: Vec<&str> = found.into_iter().map(|(name, _)| name).collect();
    outputs.dedup();
    match outputs[..] {
        [] => Ok(None),
        [one] => {
            let index = names.get(one).copied();
            index
                .map(Some)
                .ok_or_else(|| format!("the output is that of {one}, which is no layer"))
        }
        _ => Err(format!(
            "expected one output, got {}: choose one by --part",
            outputs.join(", ")
        )),
    }
}

/// All `["name", node, output, …]` and `"keras_history": ["name", node, output]`, and the number
/// of the output. The depth is that of JSON, which its parser limits.
fn references<'a>(value: &'a Value, found: &mut Vec<(&'a str, u64)>) {
    match value {
        Value::Array(list) => {
            if let [Value::String(name), node, output, rest @ ..] = &list[..]
                && let (Some(_), Some(output)) = (node.as_u64(), output.as_u64())
            {
                found.push((name, output));
                rest.iter().for_each(|value| references(value, found));
            } else {
                list.iter().for_each(|value| references(value, found));
            }
        }
        Value::Object(map) => map.values().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// The layers that `end` depends on, or all.
fn ancestors(reads: &[Vec<usize>], end: Option<usize>) -> Vec<bool> {
    let Some(end) = end else {
        return vec![true; reads.len()];
    };
    let mut wanted = vec![false; reads.len()];
    let mut open = vec![end];
    while let Some(index) = open.pop() {
        if let Some(seen) = wanted.get_mut(index)
            && !*seen
        {
            *seen = true;
            open.extend(reads.get(index).into_iter().flatten());
        }
    }
    wanted
}

/// An order in which every layer comes after those that it reads: of those that can come next the
/// one that reads the last, if there is one, and else the first in the file. There is none where
/// they go in a circle.
fn in_order(reads: &[Vec<usize>], wanted: &[bool]) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = Vec::new();
    let mut done = vec![false; reads.len()];
    let total = wanted.iter().filter(|&&wanted| wanted).count();
    let is = |list: &[bool], index: usize| list.get(index).copied().unwrap_or(false);
    while order.len() < total {
        let mut next = None;
        for (index, inputs) in reads.iter().enumerate() {
            let ready = is(wanted, index)
                && !is(&done, index)
                && inputs.iter().all(|&input| is(&done, input));
            if ready {
                let follows = order.last().is_some_and(|last| inputs.contains(last));
                if follows || next.is_none() {
                    next = Some(index);
                }
                if follows {
                    break;
                }
            }
        }
        let next = next?;
        if let Some(done) = done.get_mut(next) {
            *done = true;
        }
        order.push(next);
    }
    Some(order)
}
