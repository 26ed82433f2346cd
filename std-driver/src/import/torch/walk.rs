//! From what a pickle describes to tensors by name, with the classes of modules where it has them.

use super::checkpoint::{Holders, Model, is_container, key, model};
use super::modules::{OWN, silent};
use super::pickle::{Id, Object, Pickle};
use super::state::{clipped, listed};
use super::view::{Leaf, is_tensor, leaf};
use crate::import::{Kind, Options};
use std::collections::{HashMap, HashSet};

/// Modules in modules.
const MOST_DEPTH: usize = 64;
/// Tensors, modules and what is left out.
const MOST_NAMES: usize = 1 << 16;
/// The length of a name: in a pickle, one text can be a part of many.
const MOST_BYTES: usize = 500;

/// What stands under a name.
#[derive(Debug)]
pub(super) enum Named<'a> {
    Leaf(Leaf<'a>),
    /// A module without weights in a sequence of modules.
    Module(String),
}

/// What a pickle says about a model.
#[derive(Debug, Default)]
pub(super) struct Walk<'a> {
    pub(super) entries: Vec<(String, Named<'a>)>,
    pub(super) classes: HashMap<String, String>,
    /// What norms add to a variance, by their paths.
    pub(super) epsilons: HashMap<String, f64>,
    pub(super) chosen: bool,
    pub(super) notes: Vec<String>,
    /// Modules without weights, with their classes.
    silent: Vec<String>,
    /// Keys beside the model that have tensors.
    beside: Vec<String>,
    left_out: Vec<String>,
    shared: Vec<String>,
}

/// All tensors of the model, or what is wrong.
pub(super) fn walk<'a>(pickle: &Pickle<'a>, options: &Options) -> Result<Walk<'a>, String> {
    let holders = Holders::new(pickle);
    let Model {
        parts,
        chosen,
        left_out,
    } = model(pickle, &holders, options.part.as_deref())?;
    let mut walker = Walker {
        pickle,
        holders,
        seen: vec![false; pickle.objects.len()],
        names: 0,
        found: Walk {
            chosen,
            beside: left_out,
            ..Walk::default()
        },
    };
    for (prefix, id) in &parts {
        walker.flatten(*id, prefix, 0)?;
    }
    if let [(_, id)] = parts[..] {
        walker.versions(id);
    }
    let mut found = walker.found;
    let lists = [
        (&found.beside, "Other models or states, left out"),
        (&found.left_out, "Not weights, and left out"),
        (&found.shared, "The same object a second time, and left out"),
    ];
    for (names, what) in lists {
        if !names.is_empty() {
            found.notes.push(format!("{what}: {}.", listed(names)));
        }
    }
    if !found.silent.is_empty() {
        found.notes.push(format!(
            "The file has modules without weights, of which it does not say where they run: {}. \
            They are left out: add them by --then, or import a part.",
            listed(&found.silent)
        ));
    }
    Ok(found)
}

struct Walker<'p, 'a> {
    pickle: &'p Pickle<'a>,
    holders: Holders,
    /// Objects that were walked: a second time would be without end where they hold each other.
    seen: Vec<bool>,
    names: usize,
    found: Walk<'a>,
}

/// How the items of a dictionary are taken.
#[derive(Clone, Copy)]
struct How {
    /// Whether they are attributes, of which only tensors and modules are of interest.
    attributes: bool,
    /// Whether all objects are modules.
    modules: bool,
    /// Whether they are modules that run one after the other.
    sequence: bool,
}

impl Walker<'_, '_> {
    /// Whether an object comes for the first time.
    fn first(&mut self, id: Id, prefix: &str) -> bool {
        let seen = self.seen.get_mut(id as usize);
        let again = seen.is_some_and(|seen| std::mem::replace(seen, true));
        if again && self.holders.has(id) {
            self.found.shared.push(prefix.to_owned());
        }
        !again
    }

    fn name(&mut self, prefix: &str, key: &str) -> Result<String, String> {
        self.names += 1;
        if self.names > MOST_NAMES {
            return Err(format!("expected at most {MOST_NAMES} names, got more"));
        }
        if prefix.len().saturating_add(key.len()) >= MOST_BYTES {
            let key = clipped(key);
            return Err(format!(
                "expected names of less than {MOST_BYTES} bytes, got one with {key}"
            ));
        }
        Ok(match prefix {
            "" => key.to_owned(),
            _ => format!("{prefix}.{key}"),
        })
    }

    fn flatten(&mut self, id: Id, prefix: &str, depth: usize) -> Result<(), String> {
        if depth == MOST_DEPTH {
            return Err(format!(
                "expected at most {MOST_DEPTH} modules in each other, got more"
            ));
        }
        let items = How {
            attributes: false,
            modules: false,
            sequence: false,
        };
        let &Object::Made { by, state, .. } = self.pickle.get(id) else {
            return self.entries(id, prefix, items, depth);
        };
        let class = self.class(by);
        let attributes = How {
            attributes: true,
            modules: false,
            sequence: class.ends_with(".Sequential"),
        };
        // Slots, if there are any, come second.
        let state = state.map(|state| match self.pickle.list(state) {
            Some(&[dict, _]) => dict,
            _ => state,
        });
        let Some(state) = state else {
            return self.entries(id, prefix, items, depth);
        };
        if !self.first(id, prefix) {
            return Ok(());
        }
        if !class.is_empty() {
            self.found.classes.insert(prefix.to_owned(), class);
        }
        let names = ["_parameters", "_buffers", "_modules"];
        let mut parts = [None; 3];
        if !self.seen.get(state as usize).copied().unwrap_or(true) {
            for &(key, value) in self.pickle.items(state) {
                let key = self.pickle.text(key);
                if let (Some("eps"), &Object::Float(value)) = (key, self.pickle.get(value)) {
                    self.found.epsilons.insert(prefix.to_owned(), value);
                }
                for (part, name) in parts.iter_mut().zip(names) {
                    if key == Some(name) {
                        *part = Some(value);
                    }
                }
            }
        }
        if parts.iter().all(Option::is_none) {
            // A module of TorchScript: its attributes are its tensors and modules.
            return self.entries(state, prefix, attributes, depth);
        }
        if self.first(state, prefix) {
            for (part, name) in parts.into_iter().zip(names) {
                let how = How {
                    modules: name == "_modules",
                    ..attributes
                };
                if let Some(part) = part {
                    self.entries(part, prefix, how, depth)?;
                }
            }
        }
        Ok(())
    }

    /// What a dictionary has under its keys.
    fn entries(&mut self, id: Id, prefix: &str, how: How, depth: usize) -> Result<(), String> {
        if !self.first(id, prefix) {
            return Ok(());
        }
        for &(name, value) in self.pickle.items(id) {
            let tensor = is_tensor(self.pickle, value);
            let inner = is_container(self.pickle, value) && self.holders.has(value);
            let module = match tensor || inner {
                true => None,
                false => self.module(value, how.modules || how.sequence),
            };
            if how.attributes && !tensor && !inner && module.is_none() {
                continue;
            }
            let Some(name) = key(self.pickle, name) else {
                continue;
            };
            let name = self.name(prefix, &name)?;
            if tensor {
                let leaf = leaf(self.pickle, value).map_err(|e| format!("key {name}: {e}"))?;
                self.found.entries.push((name, Named::Leaf(leaf)));
            } else if inner {
                self.flatten(value, &name, depth + 1)?;
            } else {
                match module {
                    Some(class) if how.sequence => {
                        let seen = self.seen.get(value as usize).copied().unwrap_or(true);
                        if class == "Sequential" && !seen {
                            self.flatten(value, &name, depth + 1)?;
                            continue;
                        }
                        self.found.entries.push((name, Named::Module(class)));
                    }
                    Some(class) if matches!(silent(&class), Kind::Nothing(_)) => {}
                    Some(class) => self.found.silent.push(format!("{name} ({class})")),
                    None => self.found.left_out.push(name),
                }
            }
        }
        Ok(())
    }

    /// A class's path, without what TorchScript adds to it.
    fn class(&self, by: Id) -> String {
        let Some((module, name)) = self.pickle.global(by) else {
            return String::new();
        };
        if module.len().saturating_add(name.len()) > MOST_BYTES {
            return String::new();
        }
        let added = |part: &&str| *part != "__torch__" && !part.starts_with("___torch_mangle_");
        let path: Vec<&str> = module.split('.').chain([name]).filter(added).collect();
        path.join(".")
    }

    /// The class of a module that has no tensors, without its path: one of PyTorch's, or where
    /// all objects are modules, any.
    fn module(&self, id: Id, any: bool) -> Option<String> {
        let Object::Made {
            by, state: Some(_), ..
        } = self.pickle.get(id)
        else {
            return None;
        };
        let class = self.class(*by);
        let name = class.rsplit('.').next().unwrap_or(&class);
        if class.starts_with(OWN) {
            return Some(name.to_owned());
        }
        // A class of the user's is not what its name says.
        any.then(|| match silent(name) {
            Kind::Other(_) if name != "Sequential" => name.to_owned(),
            _ => format!("own {name}"),
        })
    }

    /// A state dictionary knows the versions of all modules, also of those without weights.
    fn versions(&mut self, id: Id) {
        let mut attributes = self.pickle.attributes.iter();
        let own = attributes.find(|&&(owner, _)| owner == id);
        let mut own = own
            .map_or(&[][..], |&(_, own)| self.pickle.items(own))
            .iter();
        let versions = own.find(|&&(key, _)| self.pickle.text(key) == Some("_metadata"));
        let versions = versions.map_or(&[][..], |&(_, versions)| self.pickle.items(versions));
        // Every module on the way to a tensor.
        let mut paths = HashSet::from([""]);
        for (name, _) in &self.found.entries {
            paths.extend(
                name.match_indices('.')
                    .filter_map(|(end, _)| name.get(..end)),
            );
        }
        for &(key, _) in versions.iter().take(MOST_NAMES) {
            if let Some(path) = self.pickle.text(key).filter(|path| path.len() < MOST_BYTES)
                && !paths.contains(path)
            {
                self.found.silent.push(path.to_owned());
            }
        }
    }
}
