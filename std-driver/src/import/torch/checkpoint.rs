//! What of a checkpoint is the model.

use super::names::is_recurrent;
use super::pickle::{Id, Object, Pickle};
use super::state::{clipped, listed};
use super::view::is_tensor;
use std::borrow::Cow;
use std::collections::HashSet;

/// Dictionaries in dictionaries.
const MOST_DEPTH: usize = 64;

/// The length of a tensor's name.
const MOST_BYTES: usize = 500;

/// The keys under which the weights are.
const WEIGHTS: [&str; 8] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "weights",
];

/// The start of those of what is for training only.
const TRAINING: [&str; 7] = [
    "optim",
    "lr_sched",
    "sched",
    "callbacks",
    "loops",
    "scaler",
    "amp",
];

/// Which objects are tensors or have such in them, and which have recurrent layers.
pub(super) struct Holders {
    tensors: Vec<bool>,
    recurrent: Vec<bool>,
}

impl Holders {
    pub(super) fn new(pickle: &Pickle) -> Self {
        let count = pickle.objects.len();
        let all = 0..count as Id;
        let mut parents = Vec::new();
        for id in all.clone() {
            parents.extend(pickle.parts(id).into_iter().map(|part| (part, id)));
        }
        parents.sort_unstable();
        let recurrent = |&id: &Id| {
            let mut items = pickle.items(id).iter();
            items.any(|&(key, value)| {
                pickle
                    .text(key)
                    .is_some_and(|key| key.len() < MOST_BYTES && is_recurrent(key))
                    && is_tensor(pickle, value)
            })
        };
        let tensors = all.clone().filter(|&id| is_tensor(pickle, id)).collect();
        Self {
            tensors: Self::above(&parents, count, tensors),
            recurrent: Self::above(&parents, count, all.filter(recurrent).collect()),
        }
    }

    /// These objects and all that have them in themselves.
    fn above(parents: &[(Id, Id)], count: usize, mut open: Vec<Id>) -> Vec<bool> {
        let mut holds = vec![false; count];
        while let Some(id) = open.pop() {
            match holds.get_mut(id as usize) {
                Some(place) if !*place => *place = true,
                _ => continue,
            }
            let start = parents.partition_point(|&(part, _)| part < id);
            let own = parents.get(start..).unwrap_or(&[]).iter();
            let own = own.take_while(|&&(part, _)| part == id);
            open.extend(own.map(|&(_, parent)| parent));
        }
        holds
    }

    pub(super) fn has(&self, id: Id) -> bool {
        self.tensors.get(id as usize).copied().unwrap_or(false)
    }

    fn is_recurrent(&self, id: Id) -> bool {
        self.recurrent.get(id as usize).copied().unwrap_or(false)
    }
}

/// Whether it is a dictionary or a module, and not a tensor.
pub(super) fn is_container(pickle: &Pickle, id: Id) -> bool {
    match pickle.get(id) {
        Object::Dict(_) => true,
        Object::Made { .. } => !is_tensor(pickle, id),
        _ => false,
    }
}

/// The name that a key is.
pub(super) fn key<'a>(pickle: &Pickle<'a>, id: Id) -> Option<Cow<'a, str>> {
    match pickle.get(id) {
        Object::Text(text) => Some(Cow::Borrowed(text)),
        Object::Int(value) => Some(Cow::Owned(value.to_string())),
        _ => None,
    }
}

/// The objects of a model, each with what its names begin with.
#[derive(Debug, Default)]
pub(super) struct Model<'a> {
    pub(super) parts: Vec<(Cow<'a, str>, Id)>,
    /// Whether it is the part that was asked for.
    pub(super) chosen: bool,
    /// Keys of other things that have tensors.
    pub(super) left_out: Vec<String>,
}

/// Whether each name of a part begins with one of these.
fn all_in(part: &str, models: &[&str]) -> bool {
    let mut names = part.split(',').map(str::trim);
    names.all(|name| {
        models.iter().any(|model| {
            let rest = name.strip_prefix(model);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    })
}

/// The model in a checkpoint, or what is wrong.
pub(super) fn model<'a>(
    pickle: &Pickle<'a>,
    holders: &Holders,
    part: Option<&str>,
) -> Result<Model<'a>, String> {
    let mut model = Model::default();
    let mut id = pickle.root;
    for _ in 0..MOST_DEPTH {
        let mut all: Vec<(Cow<str>, Id)> = match pickle.get(id) {
            Object::List(ids) => {
                let each = ids.iter().enumerate();
                each.map(|(k, &id)| (Cow::Owned(k.to_string()), id))
                    .collect()
            }
            _ => {
                let each = pickle.items(id).iter();
                each.filter_map(|&(name, value)| Some((key(pickle, name)?, value)))
                    .collect()
            }
        };
        all.retain(|&(_, value)| holders.has(value));
        let inner = all.iter();
        let inner: Vec<_> = inner
            .filter(|&&(_, value)| is_container(pickle, value))
            .collect();
        // A state dictionary has its tensors in itself, and a module is known by its class.
        if inner.is_empty() {
            model.parts = vec![(Cow::Borrowed(""), id)];
            return Ok(model);
        }
        let wanted = part.filter(|_| !model.chosen);
        let wanted = wanted.and_then(|part| inner.iter().find(|(name, _)| name == part));
        let mut weights = inner
            .iter()
            .filter(|(name, _)| WEIGHTS.contains(&&name[..]));
        let chosen: Vec<(Cow<str>, Id)> = match (wanted, weights.next(), weights.next()) {
            (Some(&part), ..) => {
                model.chosen = true;
                vec![part.clone()]
            }
            (None, Some((first, _)), Some((second, _))) => {
                return Err(format!(
                    "expected one model, got {first} and {second}: name one of them by --part"
                ));
            }
            (None, Some(&first), None) => vec![first.clone()],
            // A state dictionary may have other things beside its tensors.
            (None, None, _) if all.iter().any(|&(_, value)| is_tensor(pickle, value)) => {
                model.parts = vec![(Cow::Borrowed(""), id)];
                return Ok(model);
            }
            (None, None, _) => {
                let training = |name: &str| TRAINING.iter().any(|start| name.starts_with(start));
                let others = inner.iter().filter(|(name, _)| !training(name));
                let others: Vec<(Cow<str>, Id)> = others.map(|&part| part.clone()).collect();
                // The same object under two names is one model, and one in itself is none.
                let mut seen = HashSet::from([id]);
                let models = others.iter().filter(|&&(_, id)| seen.insert(id));
                let models = models.filter(|&&(_, id)| holders.is_recurrent(id));
                let models: Vec<&str> = models.map(|(name, _)| &name[..]).collect();
                if models.len() > 1 && !part.is_some_and(|part| all_in(part, &models)) {
                    return Err(format!(
                        "expected one model, got {}: name one of them by --part",
                        listed(&models)
                    ));
                }
                others
            }
        };
        let kept: HashSet<Id> = chosen.iter().map(|&(_, id)| id).collect();
        let left = all.iter().filter(|(_, value)| !kept.contains(value));
        let left = left.map(|(name, _)| clipped(name).to_owned());
        model.left_out.extend(left);
        match &chosen[..] {
            &[(_, only)] => id = only,
            _ => {
                model.parts = chosen;
                return Ok(model);
            }
        }
    }
    Err(format!(
        "expected at most {MOST_DEPTH} dictionaries in each other, got more"
    ))
}
