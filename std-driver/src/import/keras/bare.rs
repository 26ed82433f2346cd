//! Weights without a configuration: what the layers are is told by names and shapes alone.

use super::TRAINED;
use super::build::Builder;
use super::config::{Entry, MOST_LAYERS};
use super::h5::{H5, Tensors};
use super::store::{Names, Store, Weights, last, side};
use crate::Error;
use crate::import::{Format, Found};
use hdf5_reader::group::Group;
use serde_json::{Map, Value, json};

/// A layer by its name, the kind that its name tells where weights are numbered, and its weights.
struct Bare {
    name: String,
    kind: Option<String>,
    weights: Weights,
}

pub(super) fn read(h5: H5, root: &Group) -> Result<Found, Error> {
    // `save_weights` has the groups of the layers at the root, as some tools have them in one.
    let inner = h5.group(root, "model_weights")?;
    let top = inner.as_ref().unwrap_or(root);
    let names = h5.texts(top, "layer_names")?;
    let trained =
        h5.group(root, "optimizer")?.is_some() || h5.group(root, "optimizer_weights")?.is_some();
    let tensors = match names {
        Some(_) => h5.tensors(top, None)?,
        None => h5.tensors(top, Some("optimizer"))?,
    };
    let mut notes = Vec::new();
    let layers = match names {
        Some(names) => spoken(&tensors, names)?,
        None => numbered(&tensors, &mut notes)?,
    };
    let mut builder = Builder::new(&tensors, None);
    notes.into_iter().for_each(|note| builder.note(note));
    for layer in &layers {
        add(&mut builder, layer)?;
    }
    if tensors.converted() {
        builder.note("weights that are not float32 were converted to it");
    }
    if trained {
        builder.note(TRAINED);
    }
    Ok(Found {
        format: Format::Keras,
        part: None,
        layers: builder.layers,
        notes: builder.notes,
        sample_rate: None,
    })
}

fn few(tensors: &Tensors, got: usize) -> Result<(), Error> {
    if got > MOST_LAYERS {
        return Err(tensors.problem(format!("expected at most {MOST_LAYERS} layers, got {got}")));
    }
    Ok(())
}

fn spoken(tensors: &Tensors, names: Vec<String>) -> Result<Vec<Bare>, Error> {
    few(tensors, names.len())?;
    let layer = |name: String| Bare {
        weights: Weights::below(tensors, Names::Spoken, &name),
        name,
        kind: None,
    };
    let layers: Vec<Bare> = names.into_iter().map(layer).collect();
    for tensor in tensors.tensors() {
        let known = |layer: &Bare| {
            let rest = tensor.path.strip_prefix(&layer.name);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        if !layers.iter().any(known) {
            let path = &tensor.path;
            return Err(tensors.problem(format!(
                "{path}: expected a tensor of one of the layer_names, got another"
            )));
        }
    }
    Ok(layers)
}

/// The layers of a file without names, in the order in which they were written.
fn numbered(tensors: &Tensors, notes: &mut Vec<String>) -> Result<Vec<Bare>, Error> {
    let tops = ["layers", "_layer_checkpoint_dependencies"];
    let is = |top: &&&str| tensors.groups.iter().any(|(path, _)| path == **top);
    let Some(top) = tops.iter().find(is) else {
        return Err(tensors.problem(
            "expected a Keras file with the attribute model_config or layer_names, or a group layers, got none".to_owned(),
        ));
    };
    let inner = |path: &str| -> Option<String> {
        let name = path.strip_prefix(top)?.strip_prefix('/')?;
        (!name.contains('/')).then(|| name.to_owned())
    };
    let groups = tensors.groups.iter();
    let mut layers: Vec<(u64, String)> = groups
        .filter_map(|(path, group)| Some((group.address(), inner(path)?)))
        .collect();
    few(tensors, layers.len())?;
    layers.sort();
    let names: Vec<&str> = layers.iter().map(|(_, name)| name.as_str()).collect();
    let mut seen: Vec<(&str, usize)> = Vec::new();
    for name in &names {
        let (kind, number) = kind_of(name);
        match seen.iter_mut().find(|(other, _)| *other == kind) {
            Some((_, last)) if *last > number => {
                return Err(tensors.problem(format!(
                    "the order of the layers cannot be told: {name} lies behind one of a larger number"
                )));
            }
            Some((_, last)) => *last = number,
            None => seen.push((kind, number)),
        }
    }
    notes.push(format!(
        "assumed, as the file has no configuration: the layers run in the order in which they lie in it, {}",
        names.join(", ")
    ));
    let layer = |(_, name): (u64, String)| Bare {
        weights: Weights::below(tensors, Names::Numbered, &format!("{top}/{name}")),
        kind: Some(kind_of(&name).0.to_owned()),
        name,
    };
    Ok(layers.into_iter().map(layer).collect())
}

/// `lstm_1` as `lstm` and 1.
fn kind_of(name: &str) -> (&str, usize) {
    let split = name.rsplit_once('_');
    let split = split.and_then(|(kind, number)| Some((kind, number.parse().ok()?)));
    split.unwrap_or((name, 0))
}

const KINDS: [(&str, &str); 10] = [
    ("input", "InputLayer"),
    ("input_layer", "InputLayer"),
    ("dropout", "Dropout"),
    ("spatial_dropout1d", "SpatialDropout1D"),
    ("gaussian_noise", "GaussianNoise"),
    ("gaussian_dropout", "GaussianDropout"),
    ("alpha_dropout", "AlphaDropout"),
    ("activity_regularization", "ActivityRegularization"),
    ("time_distributed", "Dense"),
    ("dense", "Dense"),
];

/// Adds a layer as its weights tell it.
fn add(builder: &mut Builder, bare: &Bare) -> Result<(), Error> {
    let store = builder.store;
    let shape = |weights: &Weights, number, role| weights.shape(store, number, role);
    let weights = &bare.weights;
    let spoken = weights.names == Names::Spoken;
    // A group of numbered weights is named by the class; any other name is the caller's.
    let kind = match &bare.kind {
        Some(kind) => kind.as_str(),
        None => kind_of(&bare.name).0,
    };
    let kind_is = |expected: &str| !spoken && kind == expected;
    let columns = |weights: &Weights| {
        let recurrent = shape(weights, 1, "recurrent_kernel")?;
        let kernel = shape(weights, 0, "kernel")?;
        match (&kernel[..], &recurrent[..]) {
            ([_, columns], [units, others]) if columns == others => {
                (Some(*columns) == units.checked_mul(4)).then_some(*units)
            }
            _ => None,
        }
    };
    let sides = [super::store::Side::Forward, super::store::Side::Backward];
    let sided = weights
        .tensors
        .iter()
        .any(|(_, path)| side(path, UNNAMED).is_some());
    let two = sides.map(|side| columns(&weights.side(side, UNNAMED)));
    let biased = |weights: &Weights| shape(weights, 2, "bias").is_some();
    let lstm = |units: usize, weights: &Weights| {
        json!({
            "units": units, "activation": "tanh", "recurrent_activation": "sigmoid",
            "use_bias": biased(weights), "return_sequences": true,
        })
    };
    let recurrent = spoken || kind.contains("lstm") || kind == "bidirectional";
    let (class, settings) = if let (true, true, [Some(one), Some(other)]) = (recurrent, sided, two)
    {
        builder.note(ASSUMED);
        builder.note(SIDE_BY_SIDE);
        let settings = |units, side| json!({"class_name": "LSTM", "config": lstm(units, &weights.side(side, UNNAMED))});
        let [forward, backward] = sides;
        let layer = settings(one, forward);
        let mut back = settings(other, backward);
        if let Some(Value::Object(config)) = back.get_mut("config") {
            config.insert("go_backwards".to_owned(), Value::Bool(true));
        }
        let both = json!({"merge_mode": "concat", "layer": layer, "backward_layer": back});
        ("Bidirectional", both)
    } else if let (true, false, Some(units)) = (recurrent, sided, columns(weights)) {
        builder.note(ASSUMED);
        ("LSTM", lstm(units, weights))
    } else if let Some([rows, width]) = shape(weights, 0, "embeddings")
        .filter(|_| spoken || kind == "embedding")
        .and_then(|shape| <[usize; 2]>::try_from(shape).ok())
    {
        ("Embedding", json!({"input_dim": rows, "output_dim": width}))
    } else if let Some(has) = normalization(weights, kind) {
        builder.note("assumed: batch normalisation has Keras's epsilon, 0.001");
        let [scale, center] = has;
        let settings = json!({"scale": scale, "center": center});
        ("BatchNormalization", settings)
    } else if let Some([_, outputs]) = shape(weights, 0, "kernel")
        .filter(|_| spoken || kind_is("dense") || kind_is("time_distributed"))
        .filter(|_| shape(weights, 1, "recurrent_kernel").is_none() || !spoken)
        .and_then(|shape| <[usize; 2]>::try_from(shape).ok())
    {
        builder.note(
            "assumed, as the file has no configuration: dense layers have no function behind them",
        );
        let bias = shape(weights, 1, "bias").is_some();
        ("Dense", json!({"units": outputs, "use_bias": bias}))
    } else if let (true, Some((_, class))) = (
        weights.tensors.is_empty() || !spoken,
        KINDS
            .iter()
            .find(|(name, class)| *name == kind && *class != "Dense"),
    ) {
        if spoken {
            let (name, class) = (&bare.name, class);
            builder.note(format!(
                "assumed: layer {name} is of the kind {class}, by its name"
            ));
        }
        (*class, json!({}))
    } else {
        let kind = match &bare.kind {
            Some(kind) => kind.clone(),
            None if weights.tensors.is_empty() => {
                "a layer without weights, of which the file does not say what it does".to_owned()
            }
            None => "a layer of an unknown kind".to_owned(),
        };
        return builder.unknown_kind(&bare.name, &kind, weights);
    };
    let settings = match settings {
        Value::Object(settings) => settings,
        _ => Map::new(),
    };
    builder.entry(&Entry::new(class, &bare.name, settings), weights)
}

const UNNAMED: [&str; 2] = ["", ""];

const SIDE_BY_SIDE: &str =
    "assumed, as the file has no configuration: the outputs of two directions stand side by side";

const ASSUMED: &str = "assumed, as the file has no configuration: the gates of LSTM layers are sigmoid, their other functions tanh, and they return the sequence";

/// Whether a batch normalisation has a scale and a centre, if the weights are those of one.
fn normalization(weights: &Weights, kind: &str) -> Option<[bool; 2]> {
    let has = |role: &str| weights.tensors.iter().any(|(_, path)| last(path) == role);
    match weights.names {
        Names::Spoken if has("moving_mean") && has("moving_variance") => {
            Some([has("gamma"), has("beta")])
        }
        // With three it may have either, which the file does not tell.
        Names::Numbered if kind == "batch_normalization" => match weights.tensors.len() {
            4 => Some([true, true]),
            2 => Some([false, false]),
            _ => None,
        },
        _ => None,
    }
}
