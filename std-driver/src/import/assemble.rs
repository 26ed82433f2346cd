//! From the layers that a reader found to a chain: the wanted part, without what has no effect, and
//! with normalisations folded into their neighbours.

use super::{Found, Kind, Layer, Options, Then};
use crate::Error;
use crate::chain::{ChainModel, NamedStage};
use fused_lstm::{Activation, Chain, DenseShape, Stage};
use std::path::Path;

/// The chain, and what was done on the way, added to the notes.
pub(crate) fn assemble(
    path: &Path,
    found: &mut Found,
    part: &[String],
    options: &Options,
) -> Result<ChainModel, Error> {
    let problem = |text: String| Error::file(path, text);
    let mut layers = found.layers.clone();
    if !part.is_empty() {
        layers = select(layers, part, &mut found.notes)?;
    }
    add_unsaid(&mut layers, &mut found.notes, options)?;
    refuse_others(path, &layers)?;
    let dropped = layers
        .iter()
        .filter(|layer| matches!(layer.kind, Kind::Nothing(_)));
    let names: Vec<_> = dropped.map(|layer| layer.name.clone()).collect();
    if !names.is_empty() {
        found.notes.push(format!(
            "Without effect once trained, and left out: {}",
            names.join(", ")
        ));
    }
    layers.retain(|layer| !matches!(layer.kind, Kind::Nothing(_)));
    fold(path, &mut layers, &mut found.notes)?;
    if !layers
        .iter()
        .any(|layer| matches!(layer.kind, Kind::Lstm(_)))
    {
        return Err(problem("expected an LSTM layer, got none".into()));
    }
    // What comes before the first layer with a width leaves it as it is.
    let Some(inputs) = layers.iter().find_map(|layer| width_of(&layer.kind)) else {
        return Err(problem(
            "expected a layer whose width is known at the beginning".into(),
        ));
    };
    let mut model = ChainModel {
        inputs,
        stages: Vec::new(),
        params: Vec::new(),
        start: None,
        sample_rate: found.sample_rate,
    };
    let mut start = Vec::new();
    let mut starts = false;
    let mut width = inputs;
    for layer in layers {
        let name = layer.name.clone();
        if let Some(expected) = width_of(&layer.kind).filter(|&expected| expected != width) {
            return Err(problem(format!(
                "layer {name}: expected {width} inputs, as the layer before it gives, got {expected}"
            )));
        }
        let stage = stage(layer, &mut model.params, &mut start, &mut starts);
        width = stage.width(width);
        model.stages.push(NamedStage { name, stage });
    }
    model.start = starts.then_some(start);
    let kinds = model.kinds();
    Chain::new(model.inputs, &kinds, &model.params)
        .map_err(|e| problem(format!("its layers: {e}")))?;
    if let Some(at) = model.params.iter().position(|v| !v.is_finite()) {
        let got = model.params[at];
        return Err(problem(format!(
            "expected finite weights, got {got} at {at}"
        )));
    }
    Ok(model)
}

/// What the user says that the file does not.
fn add_unsaid(
    layers: &mut Vec<Layer>,
    notes: &mut Vec<String>,
    options: &Options,
) -> Result<(), Error> {
    let lstms = layers.iter_mut().rev().map(|layer| &mut layer.kind);
    let last = lstms.into_iter().find_map(|kind| match kind {
        Kind::Lstm(lstm) => Some(lstm),
        _ => None,
    });
    if let (Some(last), Some(returns)) = (last, options.returns)
        && last.returns != returns
    {
        last.returns = returns;
        notes.push("What the last LSTM layer hands on is as --returns says".into());
    }
    if let Some(slope) = options.hard_sigmoid {
        if slope.is_nan() || slope <= 0.0 {
            return Err(Error::setting("hard-sigmoid", "a slope above 0", slope));
        }
        notes.push(format!(
            "The gates are hard sigmoids of slope {slope}, as --hard-sigmoid says"
        ));
        for layer in &mut *layers {
            if let Kind::Lstm(lstm) = &mut layer.kind {
                lstm.cell.gates = Activation::HardSigmoid { slope };
            }
        }
    }
    for (index, then) in options.then.iter().enumerate() {
        layers.push(Layer {
            name: format!("then.{index}"),
            kind: match *then {
                Then::Activation(activation) => Kind::Activation(activation),
                Then::Gain(gain) => Kind::Gain(gain),
                Then::Skip(first) => Kind::Skip { first, gain: 1.0 },
            },
        });
    }
    Ok(())
}

/// The width of a layer's input, if it says it.
fn width_of(kind: &Kind) -> Option<usize> {
    match kind {
        Kind::Embedding { .. } => Some(1),
        Kind::Dense { inputs, .. } => Some(*inputs),
        Kind::Lstm(lstm) => Some(lstm.layer.inputs),
        Kind::Affine { scale, .. } => Some(scale.len()),
        _ => None,
    }
}

/// The layers that a list of names chooses: one each, or all that begin with it and a dot or slash.
fn select(
    layers: Vec<Layer>,
    part: &[String],
    notes: &mut Vec<String>,
) -> Result<Vec<Layer>, Error> {
    let belongs = |layer: &Layer, name: &str| {
        let rest = layer.name.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '/']))
    };
    let chosen = |layer: &Layer| part.iter().any(|name| belongs(layer, name));
    for name in part {
        if !layers.iter().any(|layer| belongs(layer, name)) {
            let names: Vec<_> = layers.iter().map(|layer| layer.name.as_str()).collect();
            return Err(Error::setting(
                "part",
                format!("names of {}", names.join(", ")),
                name,
            ));
        }
    }
    let first = layers.iter().position(chosen).unwrap_or(0);
    let last = layers.iter().rposition(chosen).unwrap_or(0);
    let between = layers[first..=last].iter();
    let is_bare = |layer: &&Layer| !chosen(layer) && !matches!(layer.kind, Kind::Nothing(_));
    if let Some(gap) = between.clone().find(is_bare) {
        let expected = format!("layers one after the other, {} too", gap.name);
        return Err(Error::setting("part", expected, part.join(",")));
    }
    let left = layers.iter().filter(|layer| !chosen(layer));
    let left: Vec<_> = left.map(|layer| layer.name.as_str()).collect();
    if !left.is_empty() {
        notes.push(format!("Left out: {}", left.join(", ")));
    }
    Ok(layers.into_iter().filter(chosen).collect())
}

/// Refuses what the core does not run, and says which part of the file could be taken.
fn refuse_others(path: &Path, layers: &[Layer]) -> Result<(), Error> {
    let other = |layer: &&Layer| matches!(layer.kind, Kind::Other(_));
    let others: Vec<_> = layers
        .iter()
        .filter_map(|layer| match &layer.kind {
            Kind::Other(what) => Some(format!("{} ({what})", layer.name)),
            _ => None,
        })
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    let lstm = layers
        .iter()
        .position(|layer| matches!(layer.kind, Kind::Lstm(_)));
    let Some(lstm) = lstm else {
        return Err(Error::file(
            path,
            format!("expected an LSTM layer, got {}", shortened(&others)),
        ));
    };
    // From the first layer with an LSTM as far as both ways are free.
    let begin = layers[..lstm]
        .iter()
        .rposition(|layer| other(&layer))
        .map_or(0, |at| at + 1);
    let end = layers[lstm..].iter().position(|layer| other(&layer));
    let end = end.map_or(layers.len(), |at| lstm + at);
    let mut part: Vec<_> = layers[begin..end]
        .iter()
        .map(|layer| layer.name.as_str())
        .collect();
    // A layer and its activation may have one name.
    part.dedup();
    Err(Error::file(
        path,
        format!(
            "expected layers that can be run here, got {}: --part {} leaves them out",
            shortened(&others),
            part.join(",")
        ),
    ))
}

/// The first few of a list.
fn shortened(names: &[String]) -> String {
    const MOST: usize = 6;
    match names.len().checked_sub(MOST) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..MOST].join(", ")),
    }
}

/// Takes a normalisation into the layer behind it, or into a dense layer before it; what has neither
/// becomes a dense layer.
fn fold(path: &Path, layers: &mut Vec<Layer>, notes: &mut Vec<String>) -> Result<(), Error> {
    let mut at = 0;
    while at < layers.len() {
        let Kind::Affine { scale, shift } = layers[at].kind.clone() else {
            at += 1;
            continue;
        };
        let name = layers[at].name.clone();
        let before = at.checked_sub(1).and_then(|at| layers.get_mut(at));
        let into = before.filter(|layer| can_fold_back(&layer.kind, &scale));
        let into = match into {
            Some(layer) => {
                fold_back(&mut layer.kind, &scale, &shift);
                Some(layer.name.clone())
            }
            None => {
                let behind = layers.get_mut(at + 1);
                let layer = behind.filter(|layer| width_of(&layer.kind) == Some(scale.len()));
                layer.and_then(|layer| {
                    fold_on(&mut layer.kind, &scale, &shift).then(|| layer.name.clone())
                })
            }
        };
        let into = match into {
            Some(into) => into,
            None => {
                /// Columns of a layer of its own: a kernel of 64 MiB.
                const MOST: usize = 1 << 12;
                let width = scale.len();
                if width > MOST {
                    return Err(Error::file(
                        path,
                        format!(
                            "layer {name}: expected a layer before or behind it that takes its {width} factors, got none"
                        ),
                    ));
                }
                let mut kernel = vec![0.0; width * width];
                for (column, scale) in scale.iter().enumerate() {
                    kernel[column * width + column] = *scale;
                }
                layers[at].kind = Kind::Dense {
                    inputs: width,
                    outputs: width,
                    kernel,
                    bias: shift,
                };
                notes.push(format!("{name} became a dense layer of its own"));
                at += 1;
                continue;
            }
        };
        notes.push(format!("{name} was folded into {into}"));
        layers.remove(at);
    }
    Ok(())
}

fn can_fold_back(kind: &Kind, scale: &[f32]) -> bool {
    matches!(kind, Kind::Dense { outputs, .. } if *outputs == scale.len())
}

/// Into the outputs of a dense layer.
fn fold_back(kind: &mut Kind, scale: &[f32], shift: &[f32]) {
    let Kind::Dense {
        outputs,
        kernel,
        bias,
        ..
    } = kind
    else {
        return;
    };
    for row in kernel.chunks_exact_mut(*outputs) {
        row.iter_mut().zip(scale).for_each(|(k, scale)| *k *= scale);
    }
    for ((bias, scale), shift) in bias.iter_mut().zip(scale).zip(shift) {
        *bias = *bias * scale + shift;
    }
}

/// Into the inputs of a dense layer or an LSTM.
fn fold_on(kind: &mut Kind, scale: &[f32], shift: &[f32]) -> bool {
    match kind {
        Kind::Dense {
            inputs,
            kernel,
            bias,
            ..
        } => {
            debug_assert_eq!(*inputs, scale.len());
            fold_rows(kernel, bias, scale, shift);
            true
        }
        Kind::Lstm(lstm) => {
            let columns = 4 * lstm.layer.hidden;
            let stage = lstm.stage();
            for params in &mut lstm.params {
                let (input, rest) = params.split_at_mut(lstm.layer.inputs * columns);
                let bias = &mut rest[stage.outputs() * columns..][..columns];
                fold_rows(input, bias, scale, shift);
            }
            true
        }
        _ => false,
    }
}

/// Rows of a kernel times the scale of their input, and the shift through them into the bias.
fn fold_rows(kernel: &mut [f32], bias: &mut [f32], scale: &[f32], shift: &[f32]) {
    let mut sums: Vec<f64> = bias.iter().map(|&b| b.into()).collect();
    let rows = kernel.chunks_exact_mut(bias.len());
    for ((row, &scale), &shift) in rows.zip(scale).zip(shift) {
        for (sum, k) in sums.iter_mut().zip(row) {
            *sum += f64::from(*k) * f64::from(shift);
            *k *= scale;
        }
    }
    bias.iter_mut()
        .zip(sums)
        .for_each(|(bias, sum)| *bias = sum as f32);
}

/// The stage that a layer is; its parameters and its state are added.
fn stage(layer: Layer, params: &mut Vec<f32>, start: &mut Vec<f32>, starts: &mut bool) -> Stage {
    match layer.kind {
        Kind::Embedding { rows, width, table } => {
            params.extend(table);
            Stage::Embedding { rows, width }
        }
        Kind::Dense {
            inputs,
            outputs,
            kernel,
            bias,
        } => {
            params.extend(kernel);
            params.extend(bias);
            Stage::Dense(DenseShape::new(inputs, outputs))
        }
        Kind::Lstm(lstm) => {
            let stage = lstm.stage();
            match &lstm.start {
                Some(own) => {
                    *starts = true;
                    start.extend(own.iter().flatten());
                }
                None => start.resize(start.len() + stage.state_len(1), 0.0),
            }
            params.extend(lstm.params.into_iter().flatten());
            Stage::Lstm(stage)
        }
        Kind::Activation(activation) => Stage::Activation(activation),
        Kind::Skip { first, gain } => Stage::Skip { first, gain },
        Kind::Gain(gain) => Stage::Gain(gain),
        Kind::Reverse => Stage::Reverse,
        Kind::Flatten { steps } => Stage::Flatten { steps },
        // Folded, left out or refused before.
        Kind::Affine { .. } | Kind::Nothing(_) | Kind::Other(_) => {
            debug_assert!(false, "a layer that is no stage");
            Stage::Gain(1.0)
        }
    }
}
