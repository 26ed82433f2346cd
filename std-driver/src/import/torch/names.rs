//! From tensors by name to layers.

use super::arrange::{arrange, choose};
use super::modules::{Content, LAYER, OWN, Unit, content, shown, split};
use super::norm::EPSILON;
use super::rnn;
use super::state::{Entry, StateDict, clipped, listed};
use crate::Error;
use crate::import::gates::transposed;
use crate::import::{Format, Found, Kind, Layer, Options, Source};
use std::collections::{HashMap, HashSet};

/// The class of modules that run one after the other.
const SEQUENTIAL: &str = "torch.nn.modules.container.Sequential";
/// What wrappers put before every name.
const WRAPPERS: [(&str, &str); 2] = [("module.", "DataParallel"), ("_orig_mod.", "torch.compile")];

/// Whether a tensor's name is one that PyTorch's modules have.
pub(super) fn is(key: &str) -> bool {
    split(key).1 == "weight" || is_recurrent(key)
}

/// Whether it is one of a recurrent module's.
pub(super) fn is_recurrent(key: &str) -> bool {
    let name = split(key).1;
    name.starts_with("weight_ih") && rnn::place(name).is_some()
}

/// The layers of a state dictionary.
pub(super) fn layers(
    source: &Source,
    mut dict: StateDict,
    options: &Options,
) -> Result<Found, Error> {
    let mut notes = std::mem::take(&mut dict.notes);
    unwrap(&mut dict, &mut notes);
    let mut units = units(source, &dict, &mut notes)?;
    let part = options.part.as_deref().filter(|_| !dict.chosen);
    let given = match part {
        Some(part) => choose(source, &mut units, part, dict.ordered, &mut notes)?,
        None => false,
    };
    if units.is_empty() {
        let why = notes
            .first()
            .map_or(String::new(), |note| format!("; {note}"));
        return Err(source.problem(format!(
            "expected tensors with PyTorch's names, got none{why}"
        )));
    }
    let table = arrange(source, &mut units, dict.ordered, given, &mut notes)?;
    let mut layers = Vec::new();
    for (k, unit) in units.into_iter().enumerate() {
        match unit.content {
            Content::Known { layers: own, .. } | Content::Other(own) => layers.extend(own),
            Content::Between(layer) => layers.push(layer),
            Content::Matrix {
                tensor,
                rows,
                columns,
                table: known,
            } => layers.push(Layer {
                name: shown(&unit.path, "weight"),
                kind: if table == Some(k) || known == Some(true) {
                    Kind::Embedding {
                        rows,
                        width: columns,
                        table: tensor.values,
                    }
                } else {
                    Kind::Dense {
                        inputs: columns,
                        outputs: rows,
                        kernel: transposed(&tensor.values, rows, columns),
                        bias: vec![0.0; rows],
                    }
                },
            }),
        }
    }
    for pair in layers.windows(2) {
        let [first, second] = pair else {
            continue;
        };
        let dense = |layer: &Layer| matches!(layer.kind, Kind::Dense { .. });
        let parent = split(&first.name).0;
        let class = dict.classes.get(parent);
        let sequence = class.is_some_and(|class| class == SEQUENTIAL);
        if dense(first) && dense(second) && !(sequence && split(&second.name).0 == parent) {
            notes.push(format!(
                "Between {} and {} nothing is assumed: an activation there is not in the file.",
                clipped(&first.name),
                clipped(&second.name)
            ));
        }
    }
    notes.push(
        "The file has weights, but not what is done between and behind the layers: no activations, \
        no skips and no choice of time steps are assumed."
            .into(),
    );
    Ok(Found {
        format: Format::Torch,
        part: options.part.as_ref().map(|_| Vec::new()),
        layers,
        notes,
        sample_rate: None,
    })
}

/// Takes what a wrapper adds off all names.
fn unwrap(dict: &mut StateDict, notes: &mut Vec<String>) {
    while let Some(&(prefix, wrapper)) = WRAPPERS.iter().find(|(prefix, _)| {
        let mut names = dict.entries.iter();
        !dict.entries.is_empty() && names.all(|(name, _)| name.starts_with(prefix))
    }) {
        for (name, _) in &mut dict.entries {
            name.drain(..prefix.len());
        }
        dict.classes = inside(std::mem::take(&mut dict.classes), prefix);
        dict.epsilons = inside(std::mem::take(&mut dict.epsilons), prefix);
        notes.push(format!(
            "{prefix} before all names, as {wrapper} has it, was taken off."
        ));
    }
}

/// What is known of the modules that a wrapper holds.
fn inside<T>(known: HashMap<String, T>, prefix: &str) -> HashMap<String, T> {
    let each = known.into_iter().filter_map(|(path, value)| {
        let whole = format!("{path}.");
        let path = if whole == prefix {
            ""
        } else {
            path.strip_prefix(prefix)?
        };
        Some((path.to_owned(), value))
    });
    each.collect()
}

/// The name of a tensor in its module, its whole name, and itself.
type Part<'a> = (&'a str, &'a str, &'a Entry);

/// The modules of a state dictionary, in the order of their first tensors.
fn units(source: &Source, dict: &StateDict, notes: &mut Vec<String>) -> Result<Vec<Unit>, Error> {
    let mut groups: Vec<(&str, Vec<Part>)> = Vec::new();
    let mut places = HashMap::new();
    let mut seen = HashSet::new();
    for (name, entry) in &dict.entries {
        if !seen.insert(name) {
            return Err(source.problem(format!("key {name}: expected one tensor, got two")));
        }
        let (path, local) = match (entry, split(name)) {
            (Entry::Module(_), _) => (&name[..], ""),
            // What the outermost module has itself, each of which can be anything.
            (_, ("", local)) if !LAYER.contains(&local) && rnn::place(local).is_none() => {
                (local, "")
            }
            (_, split) => split,
        };
        let place = *places.entry(path).or_insert(groups.len());
        if place == groups.len() {
            groups.push((path, Vec::new()));
        }
        if let Some((_, group)) = groups.get_mut(place) {
            group.push((local, name, entry));
        }
    }
    let mut units = Vec::new();
    let mut norms = [Vec::new(), Vec::new()];
    for (path, group) in groups {
        let class = dict.classes.get(path).map(String::as_str);
        if let Some(class) = class.filter(|class| !class.starts_with(OWN)) {
            // A class of the user's can do anything with its tensors.
            let class = split(class).1.to_owned();
            units.push(Unit {
                path: path.to_owned(),
                content: Content::Other(vec![Layer {
                    name: shown(path, "weight"),
                    kind: Kind::Other(class),
                }]),
            });
            continue;
        }
        let mut recurrent = Vec::new();
        let mut rest = Vec::new();
        for (local, name, entry) in group {
            match rnn::place(local) {
                Some(place) => recurrent.push((place, name, entry)),
                None => rest.push((local, entry)),
            }
        }
        // A cell and a stack of layers cannot be in one module of PyTorch's own.
        let is_cell = |&(place, ..): &(rnn::Place, &str, &Entry)| place.is_cell();
        let (cells, stacks): (Vec<_>, Vec<_>) = recurrent.into_iter().partition(is_cell);
        for parts in [cells, stacks] {
            if !parts.is_empty() {
                units.push(Unit {
                    path: path.to_owned(),
                    content: rnn::content(source, path, &parts, notes)?,
                });
            }
        }
        if !rest.is_empty() {
            let epsilon = dict.epsilons.get(path).copied();
            let content = content(source, path, class, &rest, epsilon, &mut norms)?;
            units.push(Unit {
                path: path.to_owned(),
                content,
            });
        }
    }
    let [norms, with_epsilon] = norms;
    if !with_epsilon.is_empty() {
        notes.push(format!(
            "{}: a norm by the statistics of the training, with the number that the file has added \
            to the variance; counts of batches are left out.",
            listed(&with_epsilon)
        ));
    }
    if !norms.is_empty() {
        notes.push(format!(
            "{}: a norm by the statistics of the training, with {EPSILON:e} added to the variance as \
            PyTorch does unless told otherwise; counts of batches are left out.",
            listed(&norms)
        ));
    }
    Ok(units)
}
