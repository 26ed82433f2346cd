//! `nn.LSTM` and `nn.LSTMCell` by the names and shapes of their tensors; `nn.GRU` and `nn.RNN` by
//! what they are.

use super::modules::Content;
use super::state::{Entry, Tensor};
use crate::Error;
use crate::import::gates::{Gates, IFJO, Layout, transposed};
use crate::import::{Kind, Layer, Lstm, Source};
use crate::tensors::index_of;
use fused_lstm::{Cell, Direction, LayerShape};
use std::collections::BTreeMap;

/// The tensors of one direction of a layer, in the order of [`Way`]'s.
const PARTS: [&str; 5] = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"];

/// Where a tensor belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    part: usize,
    /// None in a cell.
    layer: Option<usize>,
    reverse: bool,
}

impl Place {
    pub(super) fn is_cell(self) -> bool {
        self.layer.is_none()
    }
}

/// The place of a tensor of a recurrent layer, by the last part of its name.
pub(super) fn place(name: &str) -> Option<Place> {
    PARTS.iter().enumerate().find_map(|(part, start)| {
        let rest = name.strip_prefix(start)?;
        if rest.is_empty() {
            return Some(Place {
                part,
                layer: None,
                reverse: false,
            });
        }
        let rest = rest.strip_prefix("_l")?;
        let (layer, reverse) = match rest.strip_suffix("_reverse") {
            Some(layer) => (layer, true),
            None => (rest, false),
        };
        Some(Place {
            part,
            layer: Some(index_of(layer)?),
            reverse,
        })
    })
}

/// The tensors of one direction, each with its name.
type Way<'a> = [Option<(&'a str, &'a Tensor)>; PARTS.len()];

/// The layers of a module: `parts` are the places, whole names and contents of its tensors.
pub(super) fn content(
    source: &Source,
    path: &str,
    parts: &[(Place, &str, &Entry)],
    notes: &mut Vec<String>,
) -> Result<Content, Error> {
    let mut ways: BTreeMap<usize, [Way; 2]> = BTreeMap::new();
    for &(place, name, entry) in parts {
        let Entry::Tensor(tensor) = entry else {
            let what = match entry {
                Entry::Other(what) | Entry::Module(what) => what,
                Entry::Tensor(_) => "",
            };
            return Err(source.problem(format!(
                "key {name}: expected a tensor of floating point, got {what}"
            )));
        };
        let both = ways.entry(place.layer.unwrap_or(0)).or_default();
        both[usize::from(place.reverse)][place.part] = Some((name, tensor));
    }
    let cell = parts
        .first()
        .is_some_and(|(place, ..)| place.layer.is_none());
    let names = Names { source, path, cell };
    let count = ways.len();
    if let Some(missing) = (0..count).find(|layer| !ways.contains_key(layer)) {
        let key = names.key(missing, 0, 0);
        return Err(source.problem(format!("key {key}: expected a tensor, got none")));
    }
    let both = ways
        .values()
        .any(|[_, backward]| backward.iter().any(Option::is_some));
    let mut layers = Vec::new();
    let mut widths = None;
    for (&index, directions) in &ways {
        let used = if both { 2 } else { 1 };
        let mut lstm: Option<Lstm> = None;
        for (direction, way) in directions.iter().enumerate().take(used) {
            let [inputs, recurrent, ..] = *way;
            let (Some(inputs), Some(recurrent)) = (inputs, recurrent) else {
                let part = usize::from(inputs.is_some());
                let key = names.key(index, direction, part);
                return Err(source.problem(format!("key {key}: expected a tensor, got none")));
            };
            let (_, _, outputs) = sizes(source, inputs, recurrent, way[4])?;
            if let Some(other) = other(recurrent.1, way[4].is_some()) {
                let width = inputs.1.shape.get(1).copied().unwrap_or(0);
                return Ok(Content::Other(vec![Layer {
                    name: path.to_owned(),
                    kind: Kind::Other(described(other, width, outputs, count, both)),
                }]));
            }
            let one = lstm_way(source, &names, index, direction, way, inputs, recurrent)?;
            match &mut lstm {
                None => lstm = Some(one),
                Some(first) if first.layer == one.layer && first.cell == one.cell => {
                    first.direction = Direction::Both;
                    first.params.extend(one.params);
                }
                Some(_) => {
                    let key = recurrent.0;
                    return Err(source.problem(format!(
                        "key {key}: expected the sizes of the other direction, got others"
                    )));
                }
            }
        }
        let Some(lstm) = lstm else {
            continue;
        };
        let stage = lstm.stage();
        let (inputs, outputs) = (
            stage.layer.inputs,
            stage.outputs().saturating_mul(stage.direction.count()),
        );
        let (_, before) = *widths.get_or_insert((inputs, inputs));
        if inputs != before {
            let key = names.key(index, 0, 0);
            return Err(source.problem(format!(
                "key {key}: expected {before} columns, as the layer below has so many outputs, got {inputs}"
            )));
        }
        widths = widths.map(|(first, _)| (first, outputs));
        layers.push(Layer {
            name: names.layer(index),
            kind: Kind::Lstm(Box::new(lstm)),
        });
    }
    let biased = parts
        .iter()
        .any(|(place, ..)| place.part == 2 || place.part == 3);
    if !biased {
        notes.push(format!("{} has no biases: they are 0.", names.shown()));
    }
    let (inputs, outputs) = widths.unwrap_or((0, 0));
    Ok(Content::Known {
        layers,
        inputs,
        outputs,
    })
}

/// How the module names things.
struct Names<'a> {
    source: &'a Source,
    path: &'a str,
    cell: bool,
}

impl Names<'_> {
    fn key(&self, layer: usize, direction: usize, part: usize) -> String {
        let dot = if self.path.is_empty() { "" } else { "." };
        let part = PARTS.get(part).unwrap_or(&"");
        let layer = if self.cell {
            String::new()
        } else {
            let reverse = if direction == 1 { "_reverse" } else { "" };
            format!("_l{layer}{reverse}")
        };
        format!("{}{dot}{part}{layer}", self.path)
    }

    fn layer(&self, layer: usize) -> String {
        match (self.cell, self.path.is_empty()) {
            (true, false) => self.path.to_owned(),
            (true, true) => "cell".into(),
            (false, true) => format!("l{layer}"),
            (false, false) => format!("{}.l{layer}", self.path),
        }
    }

    fn shown(&self) -> &str {
        if self.path.is_empty() {
            "The LSTM"
        } else {
            self.path
        }
    }
}

/// I, rows and P of the two matrices.
fn sizes(
    source: &Source,
    (input_name, input): (&str, &Tensor),
    (name, recurrent): (&str, &Tensor),
    projection: Option<(&str, &Tensor)>,
) -> Result<(usize, usize, usize), Error> {
    let wrong = |name: &str, expected: &str, got: &[usize]| {
        source.problem(format!(
            "key {name}: expected shape {expected}, got {got:?}"
        ))
    };
    let expected = match projection {
        None => "[4·H, H]",
        Some(_) => "[4·H, P]",
    };
    let &[rows, outputs] = &recurrent.shape[..] else {
        return Err(wrong(name, expected, &recurrent.shape));
    };
    let fits = match projection {
        // H times the number of gates, 4, 3 or 1.
        None => {
            outputs > 0
                && [4, 3, 1]
                    .iter()
                    .any(|n| outputs.checked_mul(*n) == Some(rows))
        }
        Some(_) => outputs > 0 && rows > 0 && rows % 4 == 0,
    };
    if !fits {
        return Err(wrong(name, expected, &recurrent.shape));
    }
    match input.shape[..] {
        [got, inputs] if got == rows && inputs > 0 => Ok((inputs, rows, outputs)),
        _ => Err(wrong(input_name, &format!("[{rows}, I]"), &input.shape)),
    }
}

/// What is no LSTM, by the rows for each unit.
fn other(recurrent: &Tensor, projected: bool) -> Option<&'static str> {
    let &[rows, outputs] = &recurrent.shape[..] else {
        return None;
    };
    match rows.checked_div(outputs) {
        Some(3) if !projected => Some("GRU"),
        Some(1) if !projected => Some("RNN"),
        _ => None,
    }
}

fn described(kind: &str, inputs: usize, outputs: usize, layers: usize, both: bool) -> String {
    let layers = if layers > 1 {
        format!(", {layers} layers")
    } else {
        String::new()
    };
    let both = if both { ", both directions" } else { "" };
    format!("{kind} {inputs}->{outputs}{layers}{both}")
}

fn lstm_way(
    source: &Source,
    names: &Names,
    index: usize,
    direction: usize,
    way: &Way,
    inputs: (&str, &Tensor),
    recurrent: (&str, &Tensor),
) -> Result<Lstm, Error> {
    let (width, rows, outputs) = sizes(source, inputs, recurrent, way[4])?;
    let hidden = rows / 4;
    let of_shape = |part: usize, expected: &[usize]| match way[part] {
        Some((_, tensor)) if tensor.shape == expected => Ok(Some(&tensor.values[..])),
        Some((name, tensor)) => {
            let got = &tensor.shape;
            Err(source.problem(format!(
                "key {name}: expected shape {expected:?}, got {got:?}"
            )))
        }
        None => Ok(None),
    };
    let biases = [of_shape(2, &[rows])?, of_shape(3, &[rows])?];
    let mut present = Vec::new();
    if biases.iter().any(Option::is_some) {
        for (k, bias) in biases.into_iter().enumerate() {
            let key = names.key(index, direction, 2 + k);
            present.push(bias.ok_or_else(|| {
                source.problem(format!("key {key}: expected a tensor, got none"))
            })?);
        }
    }
    let gates = Gates {
        order: IFJO,
        layout: Layout::Rows,
        inputs: width,
        hidden,
        outputs,
        input: &inputs.1.values,
        recurrent: &recurrent.1.values,
        biases: &present,
        forget_bias: 0.0,
    };
    let key = recurrent.0;
    let mut params = gates
        .to_core()
        .map_err(|e| source.problem(format!("key {key}: {e}")))?;
    let mut cell = Cell::PLAIN;
    if let Some(projection) = of_shape(4, &[outputs, hidden])? {
        params.extend(transposed(projection, outputs, hidden));
        cell.projection = Some(outputs);
    }
    let mut lstm = Lstm::new(LayerShape::new(width, hidden), params);
    lstm.cell = cell;
    // Two biases that are finite may have a sum that is not.
    for params in &lstm.params {
        super::state::finite(names.source, &names.key(index, direction, 3), params)?;
    }
    Ok(lstm)
}
